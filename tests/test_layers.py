"""Imports point one way; the table of ARCHITECTURE.md, enforced."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = {"core"}
DATA = {"core", "image"}
STORE = {"core", "config", "state"}
ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "image": CORE,
    "sources": CORE,
    "phantoms": CORE,
    "report": CORE,
    "decode": DATA,
    "steps": DATA,
    "writers": DATA,
    "pipeline": DATA,
    "config": CORE,
    "splits": CORE,
    "quotas": {"core", "config"},
    "variation": DATA,
    "patches": DATA | {"config", "quotas", "variation"},
    "plan": {"core", "config", "quotas", "splits"},
    "state": CORE,
    "inputs": CORE,
    "kinds": {"core", "config"},
    "options": {"core", "config", "inputs"},
    "preparation": DATA | {"config", "decode", "lesions", "patches", "pipeline", "variation"},
    "child": {"core", "config", "preparation", "pipeline", "decode", "writers"},
    "worker": {"core", "config", "child"},
    "run": {*STORE, "plan", "worker", "writers"},
    "engine": {"core", "plan", "run", "worker"},
    "notices_masks": set(),
    "manifest": {*STORE, "decode", "notices_masks", "plan", "writers"},
    "stats": set(),
    "shortcuts": {*CORE, "stats"},
    "lesions": DATA,
    "notices": {"core", "notices_masks", "notices_ranges"},
    "notices_ranges": set(),
    "finish": {*STORE, "inputs", "manifest", "notices", "plan", "report", "shortcuts", "writers"},
    "verify": {*STORE, "manifest", "writers"},
    "samples": {"core", "verify"},
    "export": {"core", "samples", "state"},
    "select": CORE,
    "fingerprints": set(),
    "registration": {"fingerprints"},
    "findings": set(),
    "same": {"fingerprints", "registration"},
    "leaks": {"core", "findings", "fingerprints", "same", "samples", "splits"},
    "across": {"core", "findings", "leaks", "same", "samples", "splits"},
    "derived": {"core", "finish", "manifest", "state", "writers"},
    "repack": {"core", "derived", "manifest", "plan", "samples", "select", "splits", "state"},
    "masked": DATA | {"derived", "manifest", "samples", "state", "writers"},
    "prepared": {"core", "config", "worker"},
    "differences": {"config", "samples", "state"},
    "rewrite": {*STORE, "finish", "report", "samples", "verify", "writers"},
    "private": {"core", "config", "state"},
    "survey": {*STORE, "inputs", "manifest", "worker"},
    "builder": {
        *STORE,
        "engine",
        "finish",
        "inputs",
        "kinds",
        "manifest",
        "patches",
        "plan",
        "private",
        "quotas",
        "run",
        "splits",
        "survey",
        "worker",
    },
    "bench_child": {"child", "config", "core", "decode", "preparation", "writers"},
    "bench": {"bench_child", "config", "core", "worker"},
    "doctor": {"child", "core", "decode", "writers"},
    "inspect_file": DATA | {"config", "decode", "pipeline", "preparation", "writers"},
    "console": {"builder", "core"},
    "synthesis": CORE,
    "cli": {
        "core",
        "across",
        "bench",
        "builder",
        "config",
        "console",
        "differences",
        "doctor",
        "export",
        "findings",
        "inspect_file",
        "leaks",
        "options",
        "repack",
        "rewrite",
        "synthesis",
        "verify",
    },
    "__main__": {"cli"},
    "api": {"builder", "options"},
    "__init__": {"api", "masked", "preparation", "prepared", "same", "synthesis"},
}
HEAVY = {"torch", "torchvision", "timm", "webdataset", "dicomsdl"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module in ("mammoprep", "mammotrain"):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


def part_of(module: str) -> str:
    return module.split(".")[1]


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", files("mammoprep"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    relative = path.relative_to(ROOT / "mammoprep")
    here = relative.parts[0].removesuffix(".py")
    wrong = {
        module
        for module in imports(path)
        if module.startswith("mammoprep.")
        and part_of(module) != "__version__"
        and part_of(module) not in {here, *ALLOWED[here]}
    }
    assert not wrong


@pytest.mark.parametrize("package", ["sources", "steps"])
def test_plug_ins_never_import_each_other(package: str) -> None:
    for path in (ROOT / "mammoprep" / package).glob("*.py"):
        others = {m for m in imports(path) if m.startswith(f"mammoprep.{package}.")}
        public = {m for m in others if not m.rsplit(".", 1)[1].startswith("_")}
        assert not public, f"{path.name} imports {public}"


def test_mammoprep_needs_no_torch() -> None:
    for path in files("mammoprep"):
        assert not {module.split(".")[0] for module in imports(path)} & HEAVY, path


def test_scikit_learn_is_imported_where_it_is_called_and_only_for_shortcuts() -> None:
    for path in files("mammoprep"):
        lines = [line for line in path.read_text().splitlines() if "sklearn" in line]
        assert not lines or path.name == "shortcuts.py"
        assert all(line.startswith(" ") for line in lines)


def test_mammotrain_sees_only_the_core_of_mammoprep_and_its_statistics() -> None:
    for path in files("mammotrain"):
        seen = {m for m in imports(path) if m.startswith("mammoprep.")}
        assert all(part_of(module) in ("core", "stats") for module in seen), path


@pytest.mark.parametrize("package", ["mammoprep", "mammotrain"])
def test_dangerous_calls_do_not_occur(package: str) -> None:
    # model.eval() runs nothing, and an error may be caught by its name
    banned = re.compile(
        r"pickle\.|import pickle|(?<![.\w])(eval|exec)\(|shell=True|extractall|yaml\.load"
        r"|os\.system"
    )
    for path in files(package):
        assert banned.search(path.read_text()) is None, path
