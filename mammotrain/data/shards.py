"""Finished datasets as one table: what is known of every sample, and the bytes of its members.

Only members of the known ``SUFFIXES`` are ever looked at, by their place in ``samples.parquet``; no
tar header is read, nothing is unpacked, and nothing is executed.
"""

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError, DamageError
from mammotrain.data import _manifest
from mammotrain.data._columns import ABSENT, PART, SUFFIXES, Columns, places
from mammotrain.data._manifest import ShardFacts, Summary, difference
from mammotrain.data._remote import Remote
from mammotrain.data._stores import Folder, Handle, Store

__all__ = ["SUFFIXES", "Table", "difference", "open_table"]

VERIFY = ("member", "shard", "none")
OPEN_SHARDS = 128  # file handles; a window of the order needs as many as it has shards
CACHE_BYTES = 50 << 30
_NAMED = 3


class Table:
    """The samples of one or several datasets, in order of their keys; threads may share it.

    Attributes:
        columns: Everything ``samples.parquet`` says but for the places of members.
        summaries: ``dataset.json`` of each dataset.
        preparation: What a model must be shown again: ``difference`` compares two.
        content: Hash of everything that can be read from here.
        lost: Shard -> samples left out, because it is damaged and the caller tolerates that.
        keys: The samples' keys, an object array.
        datasets: (n,) which dataset each sample is of: its source, numbered where two are of one.
        shards: (n,) int64, number of each sample's shard; equal for equal data, wherever it lies.
    """

    def __init__(self, parts: Sequence["_Part"], lost: Mapping[str, int], verify: str) -> None:
        """Join checked datasets; see ``open_table``."""
        where = [part.store.where for part in parts]
        joined = _manifest.join(where, [part.table for part in parts])
        homes = sorted(
            (shard.sha256, str(part.summary["content_sha256"]), number, shard)
            for number, part in enumerate(parts)
            for shard in part.shards
        )
        self.columns: Mapping[str, NDArray[Any]] = Columns(joined)
        self.summaries = tuple(part.summary for part in parts)
        self.preparation = _manifest.preparation(self.summaries)
        self.content = _hash([home[0] for home in homes])
        self.lost = dict(lost)
        self.keys = self.columns["key"]
        self._facts = [(parts[part].store, shard) for _, _, part, shard in homes]
        number = {(part, shard.name): place for place, (_, _, part, shard) in enumerate(homes)}
        pairs = zip(joined[PART].to_pylist(), joined["shard"].to_pylist(), strict=True)
        self.shards = np.array([number[pair] for pair in pairs], np.int64)
        self.datasets = _named(self.summaries)[np.array(joined[PART].to_pylist(), np.int64)]
        self._verify = verify
        self._remote = any(isinstance(part.store, Remote) for part in parts)
        self._places = places(joined)
        self._open: OrderedDict[int, Handle] = OrderedDict()
        self._lock = Lock()
        self._opening = [Lock() for _ in self._facts]
        self._whole: set[int] = set()
        self._check_places()

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.keys)

    @property
    def summary(self) -> Summary:
        """``dataset.json`` of the first dataset; label names and looks are those of all."""
        return self.summaries[0]

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the classes of ``label`` are called."""
        return tuple(self.summary["label_names"])

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of numbers or truth values as float64 (n,), NaN where unknown.

        Raises:
            ConfigError: there is no such column, or it holds something else.
        """
        try:
            return np.array(self.columns[name], np.float64)
        except (KeyError, TypeError, ValueError):
            raise ConfigError(f"The samples have no column of numbers named {name!r}.") from None

    def has(self, suffix: str) -> NDArray[np.bool_]:
        """Return which samples have a member, bool (n,)."""
        place = self._places.get(suffix)
        return np.zeros(len(self), bool) if place is None else np.not_equal(place.offset, ABSENT)

    def digests(self, suffix: str) -> NDArray[Any]:
        """Return the hash of each sample's member, (n,) of text; None where there is none."""
        place = self._places.get(suffix)
        return np.full(len(self), None, object) if place is None else place.sha256

    def shard_name(self, row: int) -> str:
        """Return the file name of a sample's shard."""
        return self._facts[int(self.shards[row])][1].name

    def read(self, row: int, suffix: str) -> bytes:
        """Return a member's bytes.

        Raises:
            ConfigError: the sample has no such member.
            DamageError: its shard is missing, or the bytes are not what was built.
        """
        place = self._places.get(suffix)
        if place is None or place.offset[row] == ABSENT:
            raise ConfigError(f"{self.keys[row]} has no member {suffix!r}.")
        size = int(place.size[row])
        try:
            content = self._handle(int(self.shards[row])).read(int(place.offset[row]), size)
        except OSError as error:
            raise self.damaged(row, suffix, f"cannot be read ({error.strerror})") from None
        if len(content) != size:
            raise self.damaged(row, suffix, f"{len(content)} bytes, expected {size}")
        if self._verify == "member" and not place.checked[row]:
            if sha256(content).hexdigest() != place.sha256[row]:
                raise self.damaged(row, suffix, "its bytes changed")
            place.checked[row] = True
        return content

    def damaged(self, row: int, suffix: str, what: str) -> DamageError:
        """Return the error that names a sample, its shard, and the way out."""
        store, shard = self._facts[int(self.shards[row])]
        return DamageError(
            f"{store.where}/shards/{shard.name}: {self.keys[row]}.{suffix}: {what}. "
            "mammoprep verify names all damages; the same build command mends them."
        )

    def ahead(self, rows: NDArray[np.int64]) -> None:
        """Take the hint that these samples are read next, in this order."""
        if not self._remote:
            return
        numbers, first = np.unique(self.shards[rows], return_index=True)
        by_store: dict[int, list[ShardFacts]] = {}
        for number in numbers[np.argsort(first)]:
            store, shard = self._facts[int(number)]
            by_store.setdefault(id(store), []).append(shard)
        for store, _ in self._facts:
            if wanted := by_store.pop(id(store), None):
                store.ahead(wanted)

    def _handle(self, number: int) -> Handle:
        with self._lock:
            if (handle := self._open.get(number)) is not None:
                self._open.move_to_end(number)
                return handle
        with self._opening[number]:  # one thread opens (and fetches, and hashes), the rest wait
            with self._lock:
                if (handle := self._open.get(number)) is not None:
                    return handle
            handle = self._opened(number)
            with self._lock:
                self._open[number] = handle
                if len(self._open) > OPEN_SHARDS:
                    self._open.popitem(last=False)  # closes when its last reader is done
            return handle

    def _opened(self, number: int) -> Handle:
        store, shard = self._facts[number]
        handle = store.open(shard)
        if self._verify == "shard" and number not in self._whole:
            if handle.sha256() != shard.sha256:
                raise DamageError(f"{store.where}/shards/{shard.name}: its bytes changed.")
            self._whole.add(number)
        return handle

    def _check_places(self) -> None:
        """Check that every member lies inside of its shard: sizes come before allocations."""
        ends = np.array([shard.bytes for _, shard in self._facts], np.int64)[self.shards]
        for suffix, place in self._places.items():
            there = place.offset != ABSENT
            inside = (place.offset >= 0) & (place.size >= 0) & (place.size <= ends)
            wrong = np.flatnonzero(there & ~(inside & (place.offset <= ends - place.size)))
            if wrong.size:
                raise self.damaged(int(wrong[0]), suffix, "its place is outside of the shard")


@dataclass(frozen=True)
class _Part:
    """One dataset, without what was lost."""

    store: Store
    summary: Summary
    table: pyarrow.Table
    shards: Sequence[ShardFacts]


def open_table(
    paths: Sequence[str | Path],
    *,
    tolerate_bad_shards: int = 0,
    cache_dir: Path | None = None,
    cache_bytes: int = CACHE_BYTES,
    verify: str = "member",
) -> Table:
    """Open one or several datasets that were prepared alike as one table.

    Args:
        paths: Folders that ``mammoprep build`` wrote, or URLs of such.
        tolerate_bad_shards: How many shards, over all datasets, may be missing or damaged; then
            every byte of the local ones is hashed here, so that what is lost is known before
            training, and alike on every rank.
        cache_dir: Where shards from URLs are kept, default ``~/.cache/mammotrain``.
        cache_bytes: Most bytes that they may have.
        verify: What is hashed when it is first read: ``member``, the whole ``shard``, or ``none``.
            Sizes are always checked, and shards from URLs always as a whole.

    Raises:
        ConfigError: no dataset, or datasets that do not fit together, with the difference.
        DamageError: more damage than is tolerated, with the shards' names.
    """
    if verify not in VERIFY:
        raise ConfigError(f"verify must be one of {', '.join(VERIFY)}; got {verify!r}.")
    cache = cache_dir or Path.home() / ".cache" / "mammotrain"
    stores = [_store(str(path), cache, cache_bytes) for path in paths]
    if not stores:
        raise ConfigError("No dataset was given.")
    read = [_manifest.read(store.where, store.fetch) for store in stores]
    _manifest.check_alike([store.where for store in stores], [summary for summary, _ in read])
    deep = tolerate_bad_shards > 0
    with ThreadPoolExecutor(len(stores)) as pool:
        faults = list(
            pool.map(lambda s, r: s.faults(_manifest.shards(r[0]), deep=deep), stores, read)
        )
    _check_tolerable(stores, faults, tolerate_bad_shards)
    parts: list[_Part] = []
    lost: dict[str, int] = {}
    for number, (store, (summary, table), bad) in enumerate(zip(stores, read, faults, strict=True)):
        shards = _manifest.shards(summary)
        lost |= {f"{store.where}/shards/{s.name}": s.samples for s in shards if s.name in bad}
        good = [shard for shard in shards if shard.name not in bad]
        parts.append(_Part(store, summary, _kept(store, table, number, shards, bad), good))
    return Table(parts, lost, verify)


def _store(path: str, cache: Path, limit: int) -> Store:
    return Remote(path, cache, limit) if "://" in path else Folder(Path(path))


def _check_tolerable(
    stores: Sequence[Store], faults: Sequence[Mapping[str, str]], tolerated: int
) -> None:
    found = [
        f"{store.where}/shards/{name}: {what}"
        for store, bad in zip(stores, faults, strict=True)
        for name, what in bad.items()
    ]
    if len(found) > tolerated:
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise DamageError(
            f"{len(found)} damaged shards, {tolerated} tolerated (--tolerate-bad-shards). "
            f"{'; '.join(found[:_NAMED])}{more}. The same build command mends them."
        )


def _kept(
    store: Store,
    table: pyarrow.Table,
    number: int,
    shards: Sequence[ShardFacts],
    bad: Mapping[str, str],
) -> pyarrow.Table:
    """Return the rows of the good shards, with the number of their dataset."""
    names = {shard.name for shard in shards}
    if unknown := set(table["shard"].unique().to_pylist()) - names:
        raise DamageError(f"{store.where}: dataset.json does not know the shard {min(unknown)!r}.")
    if bad:
        inside = pyarrow.compute.is_in(table["shard"], value_set=pyarrow.array(sorted(bad)))
        table = table.filter(pyarrow.compute.invert(inside))
    part = pyarrow.array(np.full(table.num_rows, number, np.int64))
    return table.append_column(PART, part)


def _named(summaries: Sequence[Summary]) -> NDArray[np.str_]:
    """Return what people call each dataset."""
    sources = [str(summary["source"]) for summary in summaries]
    seen: Counter[str] = Counter()
    names = []
    for source in sources:
        seen[source] += 1
        names.append(source if sources.count(source) == 1 else f"{source} {seen[source]}")
    return np.array(names, np.str_)


def _hash(names: Sequence[str]) -> str:
    return sha256("\n".join(names).encode()).hexdigest()
