"""One planned shard -> one finished file, and whether it is still what was planned."""

import json
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from mammoprep.core.errors import RecordError, ResourceError
from mammoprep.core.pseudonyms import pseudonym
from mammoprep.core.schema import Record
from mammoprep.core.tree import OTHER_CASE, Tree
from mammoprep.plan import Planned, Shard
from mammoprep.state import Output, hash_file, output_errors, read_sealed, seal
from mammoprep.worker import Answer, Child
from mammoprep.writers.tar import Member, TarWriter, places

MISSING = {"code": "file_missing", "detail": "listed in the table, not found in the input"}


@dataclass
class Run:
    """What all workers share; they never talk to each other.

    Attributes:
        output: The locked output folder.
        tree: The input.
        settings_sha256: Hash of settings and versions; part of every sidecar.
        children: Idle children; a task takes one and gives it back.
        stop: Set when the build is being interrupted.
        report: Called after every input with its failure code, or None when it was built.
        lookahead: How many records a child is told of before they are asked for, 0 without a GPU.
        notice: Called with a line for the user, each once.
        device: What became of the frames that a GPU was to decode.
        secret: The key that hides what inputs hold, in hexadecimal; empty where nothing is hidden.
    """

    output: Output
    tree: Tree
    settings_sha256: str
    children: "queue.SimpleQueue[Child]" = field(default_factory=queue.SimpleQueue)
    stop: threading.Event = field(default_factory=threading.Event)
    report: Callable[[str | None], None] = lambda _: None
    lookahead: int = 0
    notice: Callable[[str], None] = lambda _: None
    device: Counter[str] = field(default_factory=Counter)
    secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Start with nothing said."""
        self._said: set[str] = set()
        self._telling = threading.Lock()

    def tell(self, device: Mapping[str, int], notices: Sequence[str]) -> None:
        """Count what a GPU did, and pass on what is new to the user."""
        with self._telling:
            self.device.update(device)
            fresh = [line for line in notices if line not in self._said]
            self._said.update(fresh)
            for line in fresh:
                self.notice(line)

    @contextmanager
    def child(self) -> Iterator[Child]:
        """Lend a child for the length of one task."""
        child = self.children.get()
        try:
            yield child
        finally:
            self.children.put(child)


def build_shard(shard: Shard, run: Run) -> None:
    """Build one shard: sidecar first, then the tar under its final name.

    Raises:
        ResourceError: interrupted, disk full, or the folder is no longer this build's.
    """
    with output_errors(run.output.root), run.child() as child:
        stamp = stamp_of(shard, run.tree)
        part = run.output.shards / f".{shard.name}.tar.part"
        part.unlink(missing_ok=True)
        with TarWriter(part) as tar:
            packed = _pack(shard, run, child, tar)
            digest = tar.close()
        sidecar = {
            "plan_sha256": shard.sha256,
            "settings_sha256": run.settings_sha256,
            "inputs": packed.inputs,
            "tar": {"bytes": tar.size, "sha256": digest} if packed.rows else None,
            "rows": packed.rows,
            "failures": packed.failures,
        }
        run.output.write(run.output.sidecar(shard.name), seal(sidecar))
        final = run.output.shards / f"{shard.name}.tar"
        if packed.rows:
            run.output.publish(part, final)
        else:
            part.unlink()
            final.unlink(missing_ok=True)
        run.output.write(run.output.stamp(shard.name), stamp.encode())


@dataclass
class _Packed:
    """What went into a tar, and what did not."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    inputs: dict[str, str | None] = field(default_factory=dict)


def _pack(shard: Shard, run: Run, child: Child, tar: TarWriter) -> _Packed:
    packed = _Packed()
    for place, planned in enumerate(shard.inputs):
        if run.stop.is_set():
            raise ResourceError("Interrupted.")
        answer = _ask(run, planned, child, shard.inputs[place + 1 : place + 1 + run.lookahead])
        run.tell(answer.header.get("device", {}), answer.header.get("notices", []))
        name = planned.record.name
        packed.inputs.update({name: None, **_digests(planned.record, answer, run.secret)})
        failure = answer.header.get("failure")
        if failure is None:
            for metadata, contents in answer.samples:
                members = tar.add(str(metadata["key"]), contents)
                packed.rows.append(_row(shard, metadata, members))
        else:
            packed.failures.append({"input": name, **failure})
        run.report(None if failure is None else failure["code"])
    return packed


def _missing(tree: Tree, planned: Planned) -> dict[str, str]:
    cased = f"; {OTHER_CASE}" if tree.exists_in_other_case(planned.record.input) else ""
    return {**MISSING, "detail": f"{MISSING['detail']}{cased}"}


def _ask(run: Run, planned: Planned, child: Child, ahead: Sequence[Planned]) -> Answer:
    failure = _missing(run.tree, planned) if planned.size is None else planned.record.failed
    if failure is not None:
        return Answer({"inputs": {}, "failure": dict(failure)})
    coming = [after.record.to_json() for after in ahead if _is_readable(after)]
    return child.ask(
        {
            "record": planned.record.to_json(),
            "size": planned.size,
            "copies": planned.copies,
            "tiles": planned.tiles,
            "ahead": coming,
        }
    )


def _is_readable(planned: Planned) -> bool:
    return planned.size is not None and planned.record.failed is None


def _digests(record: Record, answer: Answer, secret: str) -> dict[str, str | None]:
    """Return what each input is called -> hash of its content, as both are written."""
    inputs: dict[str, str] = answer.header["inputs"]
    return {record.called(name): _hidden(digest, secret) for name, digest in inputs.items()}


def _hidden(digest: str, secret: str) -> str:
    """Return a content's hash, keyed where the plain one would tell whose file it was."""
    return pseudonym(secret, "content", digest) if secret else digest


def _row(shard: Shard, metadata: Mapping[str, Any], members: list[Member]) -> dict[str, Any]:
    return {**metadata, "shard": f"{shard.name}.tar", "members": places(members)}


def stamp_of(shard: Shard, tree: Tree) -> str:
    """Return a hash of sizes and times (or checksums) of a shard's inputs on this machine."""
    lines = []
    for planned in shard.inputs:
        for name in planned.record.files:
            try:
                stamp = None if planned.size is None else tree.stamp(name)
            except RecordError:
                stamp = None
            lines.append(json.dumps([planned.record.called(name), stamp]))
    return sha256("\n".join(lines).encode()).hexdigest()


def is_done(shard: Shard, run: Run, *, known_stamp: str | None, retry_failed: bool) -> bool:
    """Return whether the shard on disk is exactly what was planned, down to its bytes.

    A file whose size and time are as before counts as unchanged; else its content is hashed.
    """
    sidecar = read_sealed(run.output.sidecar(shard.name))
    if sidecar is None or sidecar.get("plan_sha256") != shard.sha256:
        return False
    if sidecar.get("settings_sha256") != run.settings_sha256:
        return False
    if retry_failed and sidecar["failures"]:
        return False
    return _tar_is_whole(shard, run, sidecar) and _inputs_unchanged(
        shard, run, sidecar["inputs"], known_stamp
    )


def _tar_is_whole(shard: Shard, run: Run, sidecar: Mapping[str, Any]) -> bool:
    path = run.output.shards / f"{shard.name}.tar"
    if sidecar["tar"] is None:
        return not path.exists()
    if not path.is_file() or path.is_symlink():
        return False
    if path.stat().st_size != sidecar["tar"]["bytes"]:
        return False
    return hash_file(path)[1] == str(sidecar["tar"]["sha256"])


def _inputs_unchanged(
    shard: Shard, run: Run, known: Mapping[str, str | None], known_stamp: str | None
) -> bool:
    stamp = stamp_of(shard, run.tree)
    if stamp == known_stamp:
        return True
    for planned in shard.inputs:
        record = planned.record
        if not _is_readable(planned):  # the survey has seen whether it changed
            continue
        if any(_digest(run, name) != known.get(record.called(name)) for name in record.files):
            return False
    run.output.write(run.output.stamp(shard.name), stamp.encode())
    return True


def _digest(run: Run, name: str) -> str | None:
    try:
        return _hidden(sha256(run.tree.read(name)).hexdigest(), run.secret)
    except RecordError:
        return None
