"""Plant each fault of ``mutants.toml`` in a copy of the project, and see whether a test turns red.

    python tests/mutation.py [--only TEXT] [--jobs N] [--out FILE.json]

A fault is a text of one file and what is put in its place. A survivor is a fault that no test
sees: it needs a test, or a ``reason`` why it changes nothing. ``make prove`` runs all of them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parents[1]
MUTANTS = Path(__file__).with_name("mutants.toml")
COPIED = ("mammoprep", "mammotrain", "tests", "data_manifests", "benchmarks", "docs")
SECONDS = 600


@dataclass(frozen=True)
class Mutant:
    """A planted fault.

    Attributes:
        what: In words.
        file: Where, below the project.
        before: A text that occurs there once.
        after: What is put in its place.
        tests: Which tests are to see it: paths and options of pytest.
        reason: Why no test can see it, or an empty text.
    """

    what: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    reason: str = ""


def mutants() -> list[Mutant]:
    """Return all planted faults."""
    table = tomllib.loads(MUTANTS.read_text())
    return [
        Mutant(**{**each, "file": part["file"], "tests": tuple(each.get("tests", part["tests"]))})
        for part in table["part"]
        for each in part["mutant"]
    ]


def planted(text: str, mutant: Mutant) -> str:
    """Return a file's text with the fault in it; raises ValueError where it does not fit."""
    if (count := text.count(mutant.before)) != 1:
        raise ValueError(f"{mutant.file}: {mutant.before!r} occurs {count} times, not once.")
    return text.replace(mutant.before, mutant.after)


def is_seen(copy: Path, mutant: Mutant) -> bool:
    """Plant a fault in a copy of the project, run its tests, and take it out again."""
    path = copy / mutant.file
    whole = path.read_text()
    path.write_text(planted(whole, mutant))
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *mutant.tests], cwd=copy, env=environment, capture_output=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return True
    finally:
        path.write_text(whole)
    if done.returncode not in (0, 1, 2):  # 2: a module that does not even load
        raise RuntimeError(done.stdout.decode()[-2000:] + done.stderr.decode()[-2000:])
    return done.returncode != 0


def copied(place: Path) -> Path:
    """Return a copy of the project that faults can be planted in."""
    for name in COPIED:
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


def run(chosen: list[Mutant], jobs: int) -> list[dict[str, object]]:
    """Return what became of each fault, in order."""
    with tempfile.TemporaryDirectory() as scratch:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            copies.put(copied(Path(scratch) / str(number)))

        def one(mutant: Mutant) -> dict[str, object]:
            copy = copies.get()
            try:
                seen = is_seen(copy, mutant)
            finally:
                copies.put(copy)
            verdict = "seen" if seen else "not seen, " + (mutant.reason or "WITHOUT A REASON")
            print(f"{mutant.file}: {mutant.what}: {verdict}", flush=True)
            return {
                "file": mutant.file,
                "fault": mutant.what,
                "seen": seen,
                "reason": mutant.reason,
            }

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, chosen))


def main() -> int:
    """Run the command line; 1 when a fault without a reason is not seen."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="only faults with this text in file or words")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="where to write what was found, as JSON")
    given = parser.parse_args()
    chosen = [m for m in mutants() if given.only in f"{m.file} {m.what}"]
    found = run(chosen, given.jobs)
    survivors = [each for each in found if not each["seen"]]
    without = [each for each in survivors if not each["reason"]]
    print(f"{len(found) - len(survivors)} of {len(found)} faults seen; {len(without)} unexplained.")
    if given.out:
        result = {"faults": len(found), "seen": len(found) - len(survivors), "survivors": survivors}
        given.out.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if without else 0


if __name__ == "__main__":
    sys.exit(main())
