"""Every code that the decoder can give is documented."""

import ast
import re
from pathlib import Path

import mammoprep.decode
from mammoprep.core.codes import CODES

ROOT = Path(__file__).parents[3]


def documented() -> set[str]:
    text = (ROOT / "docs/failures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    return {code for code, meaning, _ in rows if meaning}


def raised() -> set[str]:
    """Return the first argument of every RecordError in the decode layer."""
    found = set()
    for path in Path(mammoprep.decode.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RecordError":
                first = node.args[0]
                found |= {first.value} if isinstance(first, ast.Constant) else set()
    return found


def named() -> set[str]:
    """Return every word of the decode layer that is a code, exclusions and warnings included."""
    sources = (path.read_text() for path in Path(mammoprep.decode.__path__[0]).glob("*.py"))
    return set(CODES) & set(re.findall(r'"([a-z_]+)"', "".join(sources)))


def test_every_code_has_a_row_in_the_documents() -> None:
    assert set(CODES) <= documented()
    assert raised() <= documented()
    assert len(raised()) >= 15
    assert len(named()) >= 40
