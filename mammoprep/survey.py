"""A look at every file before anything is planned, for sources whose table does not tell enough.

A source that needs it has two functions: ``survey(data)`` returns plain JSON values about one file,
and runs in a child process, so that a file that crashes a decoder costs only itself;
``settle(records, findings)`` returns the records as the plan is to see them. What was found is kept
with the build, and a file that has not changed is not looked at again. A source that hides
identifiers has ``survey(data, secret)``, which hashes them before they leave the child.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from mammoprep import manifest
from mammoprep.config import BuildConfig, Settings
from mammoprep.core.errors import RecordError
from mammoprep.core.pseudonyms import pseudonym
from mammoprep.inputs import Inputs, load_source
from mammoprep.state import STATE, Output, read_json, read_sealed, seal
from mammoprep.worker import Child, ending

NAME = "survey"

Finding = dict[str, Any]
Stamp = list[int] | str


@dataclass(frozen=True)
class Job:
    """What a survey needs.

    Attributes:
        config: Source, workers, limits, and what is not to be taken from an earlier run.
        settings: With the source's defaults filled in.
        inputs: What the table says, and which files are there.
        output: The locked output folder.
        command: How to start a child process.
        progress: Called with (files done, files to do), first with none done; not at all when every
            finding was kept.
    """

    config: BuildConfig
    settings: Settings
    inputs: Inputs
    output: Output
    command: tuple[str, ...]
    progress: Callable[[int, int], None]


def is_needed(source: str) -> bool:
    """Return whether a source's files are looked at before anything is planned."""
    return hasattr(load_source(source)[0], "survey")


def settle(job: Job) -> tuple[Inputs, list[str]]:
    """Return the inputs as their source sees them after a look at every file that is there.

    Returns:
        The inputs, the same object when the source needs no survey, and lines for the user. Both
        depend on the files' content only, not on the number of workers or on what was kept.

    Raises:
        ResourceError: interrupted; what was found so far is kept.
    """
    module, inputs = load_source(job.config.source)[0], job.inputs
    if not is_needed(job.config.source):
        return inputs, []
    files = {
        record.name: record.input
        for record in inputs.records
        if record.excluded is None and record.input in inputs.sizes
    }
    with _kept(job, files) as findings:
        _look(job, {n: file for n, file in files.items() if n not in findings}, findings)
    records, lines = module.settle(inputs.records, {name: findings[name] for name in files})
    return replace(inputs, records=records), lines


def _look(job: Job, todo: Mapping[str, str], findings: dict[str, Finding]) -> None:
    """Add what is found in each file; as many children as there are workers look side by side.

    Args:
        job: The build.
        todo: What the input is called in everything that is written -> its path.
        findings: Name -> what was found.
    """
    if not todo:
        return
    hello = {
        "settings": job.settings.to_json(),
        "label_names": [],
        "locator": job.inputs.tree.locator(),
        "device": "cpu",
        "colour": job.inputs.card.colour,
        "secret": job.inputs.card.secret,
    }
    stop, idle = threading.Event(), queue.SimpleQueue[Child]()
    workers = min(job.config.workers, len(todo))
    children = [Child(hello, job.config.limits, stop, job.command) for _ in range(workers)]
    for child in children:
        idle.put(child)

    def ask(name: str) -> None:
        child = idle.get()
        request = {"survey": job.config.source, "input": todo[name], "ahead": None}
        try:
            header = child.ask({**request, "size": job.inputs.sizes[todo[name]]}).header
        finally:
            idle.put(child)
        failure = header.get("failure")
        findings[name] = (
            {"failure": failure["code"], "detail": failure["detail"]}
            if failure
            else header["finding"]
        )

    job.progress(0, len(todo))
    with ending(children, stop) as pool:
        tasks = [pool.submit(ask, name) for name in todo]
        for done, task in enumerate(as_completed(tasks), 1):
            task.result()
            job.progress(done, len(todo))


@contextmanager
def _kept(job: Job, files: Mapping[str, str]) -> Iterator[dict[str, Finding]]:
    """Lend the findings of files that have not changed, and keep all there are in the end.

    Sizes and times differ from one copy of a dataset to the next, the findings do not: they are
    kept apart, and the times end in ``build.json`` with those of the shards.
    """
    path = job.output.root / STATE / f"{NAME}.json"
    stamps = {name: _stamp(job.inputs, file) for name, file in files.items()}
    about = {"source": job.config.source, "versions": manifest.versions()}
    old = None if job.config.fresh else read_sealed(path)
    findings: dict[str, Finding] = {}
    if old is not None and {name: old.get(name) for name in about} == about:
        before = _stamps_before(job.output)
        for name, finding in old["findings"].items():
            again = job.config.retry_failed and "failure" in finding
            if stamps.get(name) is not None and stamps[name] == before.get(name) and not again:
                findings[name] = finding
    try:
        yield findings
    finally:
        job.output.write(path, seal({**about, "findings": findings}))
        known = {name: stamps[name] for name in sorted(findings)}
        job.output.write(job.output.stamp(NAME), json.dumps(known).encode())


def _stamp(inputs: Inputs, file: str) -> Stamp | None:
    """Return what changes when a file does; when it was written may be when a patient came."""
    try:
        stamp = list(inputs.tree.stamp(file))
    except RecordError:  # gone since the folder was listed
        return None
    secret = inputs.card.secret
    return pseudonym(secret, "stamp", *map(str, stamp)) if secret else stamp


def _stamps_before(output: Output) -> Mapping[str, Stamp]:
    """Return the stamps of an interrupted build, else those of a complete one."""
    found = read_json(output.stamp(NAME))
    if found is None:
        local = read_json(output.root / "build.json")
        stamps = local.get("stamps", {}) if isinstance(local, dict) else {}
        found = json.loads(stamps.get(NAME, "{}"))
    return found if isinstance(found, dict) else {}
