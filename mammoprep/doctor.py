"""Do the decoders on this machine read what they should? Each is asked in a process of its own.

A decoder that crashes is a line of the result and not the end of the examination. The module is the
parent's end (``examine``) and, run as a program with the number of a test, the child's.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from io import BytesIO, TextIOWrapper
from typing import Any, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import UID
from rich.markup import escape
from rich.table import Table

from mammoprep.child import private_stdout
from mammoprep.core.errors import EXIT_DAMAGE, EXIT_OK
from mammoprep.decode import selftest
from mammoprep.decode.codecs import DECODERS
from mammoprep.decode.selftest import EXACT, REFUSED, WRONG, Case
from mammoprep.writers.encode import png

# -P: the folder that the user stands in is no place to import from.
COMMAND = (sys.executable, "-P", "-m", "mammoprep.doctor")
GPU_PACKAGES = ("nvidia.nvimgcodec", "cupy")
SECONDS = 120
CRASHED = "crashed"
_BAD = (WRONG, CRASHED)
_TASKS = {"parts": "parts of JPEG 2000", "write": "writing images"}
_ORDER = (EXACT, REFUSED, *_BAD)


@dataclass(frozen=True)
class Test:
    """One program that is tried.

    Attributes:
        name: Name and version.
        role: ``build``: a build decodes with it; ``check``: only ``--crosscheck`` does; ``parts``;
            ``write``.
        cases: What it is tried on.
    """

    name: str
    role: str
    cases: list[Case]


@dataclass(frozen=True)
class Line:
    """What one decoder makes of the frames of one syntax.

    Attributes:
        syntax: UID of the transfer syntax; empty for parts and for writing.
        name: Name and version of the decoder.
        role: As of ``Test``.
        outcome: ``exact``; ``partly``: it refuses some frames, which the next in the row then
            reads; ``refused``: it refuses all; ``wrong``; ``crashed``.
        frames: How many frames were tried.
        detail: The first frame that is not exact, and why.
    """

    syntax: str
    name: str
    role: str
    outcome: str
    frames: int
    detail: str


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        lines: One a decoder and syntax, in the order in which a build asks them.
        unread: UIDs of the syntaxes of which some frame is read by no decoder of a build.
        gpu: Package -> whether it is installed.
    """

    lines: tuple[Line, ...]
    unread: tuple[str, ...]
    gpu: dict[str, bool]

    @property
    def healthy(self) -> bool:
        """Whether every frame can be read, and nothing reads any of them wrongly."""
        return not self.unread and not any(line.outcome in _BAD for line in self.lines)

    @property
    def exit_code(self) -> int:
        """0 when healthy, 4 when not."""
        return EXIT_OK if self.healthy else EXIT_DAMAGE

    def to_json(self) -> dict[str, object]:
        """Return what ``--json`` prints."""
        return {
            "healthy": self.healthy,
            "syntaxes": [
                {
                    "uid": uid,
                    "name": _keyword(uid),
                    "readable": uid not in self.unread,
                    "decoders": [asdict(line) for line in self.lines if line.syntax == uid],
                }
                for uid in DECODERS
            ],
            "others": [asdict(line) for line in self.lines if not line.syntax],
            "gpu": self.gpu,
        }


def tests() -> list[Test]:
    """Return everything that can be tried here."""
    decoders = dict.fromkeys(decoder for row in DECODERS.values() for decoder in row)
    return [
        *(
            Test(d.label, "check" if d.only_checks else "build", selftest.cases_of(d))
            for d in decoders
        ),
        *(
            Test(name, "parts", selftest.cases_of_parts(read))
            for name, read in selftest.part_readers().items()
        ),
        Test(f"opencv png {cv2.__version__}", "write", _png_cases()),
    ]


def examine(command: Sequence[str] = COMMAND) -> Examination:
    """Try everything, each in a child process.

    Args:
        command: Starts the child; the number of the test is appended.
    """
    found = tests()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(lambda number: _ask(command, number), range(len(found))))
    lines, read = [], set()
    for test, seen in zip(found, outcomes, strict=True):
        seen += [(CRASHED, "its process ended")] * (len(test.cases) - len(seen))
        results = list(zip(test.cases, seen, strict=True))
        lines += list(_lines(test, results))
        if test.role == "build":
            read |= {(case.syntax, case.name) for case, (kind, _) in results if kind == EXACT}
    order = [*DECODERS, ""]
    lines.sort(key=lambda line: order.index(line.syntax))
    gpu = {name: _there(name) for name in GPU_PACKAGES}
    return Examination(tuple(lines), _unread(found, read), gpu)


def table(found: Examination) -> Table:
    """Return a line a decoder, under the syntax or the task it is for, and one on the GPU."""
    shown = Table("for", "decoder", "result", title="mammoprep doctor")
    last = ""
    for line in found.lines:
        name = _keyword(line.syntax) if line.syntax else _TASKS[line.role]
        style = "red" if line.outcome in _BAD else None
        count = f"{line.frames} frame{'s' if line.frames > 1 else ''}"
        result = f"{line.outcome}, {count}" + (line.detail and f" ({line.detail})")
        decoder = line.name + (" (checks only)" if line.role == "check" else "")
        shown.add_row("" if name == last else name, escape(decoder), escape(result), style=style)
        last = name
    for uid in found.unread:
        shown.add_row(_keyword(uid), "-", "no decoder reads all frames", style="red")
    there = [name for name, present in found.gpu.items() if present]
    absent = [name for name, present in found.gpu.items() if not present]
    told = [
        f"{', '.join(names)} {word}"
        for names, word in ((there, "present"), (absent, "absent"))
        if names
    ]
    shown.add_row("--device cuda", "; ".join(told), "not tried")
    return shown


def _keyword(uid: str) -> str:
    return str(UID(uid).keyword)


def serve(number: int, answers: TextIO) -> None:
    """Try one of ``tests()`` and write a line of JSON a case; the child's end of ``examine``."""
    for case in tests()[number].cases:
        answers.write(json.dumps(case.outcome()) + "\n")
        answers.flush()


def _ask(command: Sequence[str], number: int) -> list[tuple[str, str]]:
    """Return the outcome and its reason of a test's cases, as far as its process came."""
    try:
        done = subprocess.run(
            [*command, str(number)], capture_output=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        return _outcomes(error.stdout)
    return _outcomes(done.stdout)


def _outcomes(answers: bytes | None) -> list[tuple[str, str]]:
    whole = (answers or b"").splitlines(keepends=True)
    return [tuple(json.loads(line)) for line in whole if line.endswith(b"\n")]


def _lines(test: Test, results: list[tuple[Case, tuple[str, str]]]) -> Iterator[Line]:
    for syntax in dict.fromkeys(case.syntax for case, _ in results):
        seen = [(case.name, *outcome) for case, outcome in results if case.syntax == syntax]
        kinds = [kind for _, kind, _ in seen]
        worst = max(kinds, key=_ORDER.index)
        name, _, why = next(item for item in seen if item[1] == worst)
        outcome = "partly" if worst == REFUSED and EXACT in kinds else worst
        detail = "" if worst == EXACT else f"{name}: {why}"
        yield Line(syntax, test.name, test.role, outcome, len(seen), detail)


def _unread(found: list[Test], read: set[tuple[str, str]]) -> tuple[str, ...]:
    """Return the syntaxes of which a decoder of a build should read some frame, and none does."""
    wanted = {(case.syntax, case.name) for test in found for case in test.cases} - read
    return tuple(syntax for syntax in DECODERS if syntax in {missing for missing, _ in wanted})


def _there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the package above it is absent
        return False


def _png_cases() -> list[Case]:
    """Return pictures that are written as a build does, and read by another library."""
    cases = []
    for kind in (np.uint8, np.uint16):
        ramp = np.linspace(0, np.iinfo(kind).max, 40 * 60).astype(kind).reshape(40, 60)
        name = f"{np.dtype(kind).name}, read by pillow"
        cases.append(Case("", name, partial(_written_and_read, ramp), selftest.digest(ramp)))
    return cases


def _written_and_read(picture: NDArray[Any]) -> NDArray[Any]:
    with Image.open(BytesIO(png(picture)), formats=("PNG",)) as image:
        return np.asarray(image)


if __name__ == "__main__":
    serve(int(sys.argv[1]), TextIOWrapper(private_stdout()))
