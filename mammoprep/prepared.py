"""Files outside of any dataset -> finished samples in memory; nothing is written.

Each file is read in a child process, as in a build: one that crashes a decoder costs only itself.
"""

import queue
import secrets
import threading
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mammoprep.config import Limits, Settings
from mammoprep.core import cards, plugins
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.schema import Record, make_key
from mammoprep.core.tree import Folder, Tree, open_tree
from mammoprep.worker import Child, ending

SOURCE = "dicom"
MAGIC, MAGIC_AT = b"DICM", 128
NOT_DICOM = "not_dicom"


@dataclass(frozen=True)
class Prepared:
    """What became of one file.

    Attributes:
        key: ``image_00001``, by its place among all files, sorted by path; says nothing else.
        path: Relative to the input. It may name a person: keep it out of what is written.
        metadata: As in ``KEY.json``; None when nothing was made.
        members: Suffix -> bytes, as in a shard.
        code: Why nothing was made, as in ``failures.jsonl``; or empty.
        detail: Numbers and names of tags only.
        excluded: Whether it is of a kind that a build leaves out on purpose, and no failure.
    """

    key: str
    path: str
    metadata: Mapping[str, Any] | None = None
    members: Mapping[str, bytes] = field(default_factory=dict)
    code: str = ""
    detail: str = ""
    excluded: bool = False


def prepare_files(
    path: str | Path, settings: Mapping[str, Any], *, workers: int = 1
) -> Iterator[Prepared]:
    """Yield what a build would make of a DICOM file or picture, or of a folder or zip of DICOM.

    Nothing of a header but what a build's samples hold is in the result, and no identifier.

    Args:
        path: A DICOM file, a picture (PNG, TIFF ...), or a folder or zip of DICOM files, which is
            read in place; pictures in there are left out, as masks and previews lie beside images.
        settings: Of ``dataset.json``, or those of them that say how a picture looks.
        workers: Child processes. The order of the results is that of the sorted paths.

    Raises:
        ConfigError: no such input, a wrong setting, or patches are asked for, which need outlines.
    """
    chosen = _settings(settings)
    tree, records, alone = _records(Path(path))
    hello = {
        "settings": chosen.to_json(),
        "label_names": [],
        "locator": tree.locator(),
        "device": "cpu",
        "colour": False,
        "secret": secrets.token_hex(32),
    }
    return _prepared(_Job(tree, records, alone=alone), hello, max(1, min(workers, len(records))))


@dataclass(frozen=True)
class _Job:
    tree: Tree
    records: Sequence[Record]
    alone: bool


def _settings(given: Mapping[str, Any]) -> Settings:
    if given.get("roi"):
        raise ConfigError(
            "These settings cut patches around known lesions (--roi), and a file outside of a "
            "dataset has none."
        )
    apart = ("label_names", "columns", "target")
    known = {name: v for name, v in given.items() if v is not None and name not in apart}
    try:
        return Settings.from_json(known)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"These are no settings of a dataset ({error}).") from None


def _records(path: Path) -> tuple[Tree, list[Record], bool]:
    """Return the tree, a record a file sorted by path, and whether one file was asked for."""
    if path.is_file() and (_is_dicom(path) or not zipfile.is_zipfile(path)):
        alone = Record(key=SOURCE, source=SOURCE, group=SOURCE, input=path.name)
        return Folder(path.resolve().parent), _numbered([alone]), True
    tree = open_tree(path)
    card = replace(cards.load(SOURCE), secret=secrets.token_hex(32))
    source = plugins.load("mammoprep.sources", SOURCE, needs=("read",))
    return tree, _numbered(source.read(tree, card)), False


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC
    except OSError:
        return True  # whoever reads it says why not


def _numbered(records: Sequence[Record]) -> list[Record]:
    names = [make_key("image", f"{number:05d}") for number in range(1, len(records) + 1)]
    return [
        replace(record, key=name, group=name) for name, record in zip(names, records, strict=True)
    ]


def _prepared(job: _Job, hello: dict[str, Any], workers: int) -> Iterator[Prepared]:
    stop, idle = threading.Event(), queue.SimpleQueue[Child]()
    children = [Child(hello, Limits(), stop) for _ in range(workers)]
    for child in children:
        idle.put(child)

    def one(record: Record) -> Prepared:
        child = idle.get()
        try:
            return _one(job, record, child)
        finally:
            idle.put(child)

    waiting: deque[Future[Prepared]] = deque()
    with ending(children, stop) as pool:
        for record in job.records:
            waiting.append(pool.submit(one, record))
            if len(waiting) > 2 * workers:  # never more pictures in memory than these
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _one(job: _Job, record: Record, child: Child) -> Prepared:
    nothing = Prepared(record.key, record.input)
    if record.excluded is not None:
        return replace(nothing, code=record.excluded, excluded=not job.alone)
    try:
        size = job.tree.stamp(record.input)[0]
    except RecordError:
        return replace(nothing, code="unreadable", detail="it was there and is gone")
    asked = {"survey": SOURCE, "input": record.input, "size": size, "ahead": None}
    header = child.ask(asked).header
    failure = header.get("failure")
    code = None if failure is not None else header["finding"]["excluded"]
    # A file that somebody names may be a picture; whoever reads it says what else it is.
    if code is not None and not (job.alone and code == NOT_DICOM):
        return replace(nothing, code=code, excluded=not job.alone)
    if failure is None:
        wanted = {"copies": [0], "tiles": 0, "ahead": None}
        answer = child.ask({"record": record.to_json(), "size": size, **wanted})
        failure = answer.header.get("failure")
        if failure is None:
            metadata, members = answer.samples[0]
            return replace(nothing, metadata=metadata, members=dict(members))
    return replace(nothing, code=failure["code"], detail=failure["detail"])
