"""No picture that is scored was learned from under another name: of a run, a cv, an eval.

What is found lies in the run's folder: ``same_pictures.json``, and ``taught.npz``, by which a later
eval knows what the run has learned from.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

import mammoprep
from mammoprep.core.errors import DamageError
from mammotrain import distributed, folder, looks, twins
from mammotrain.data.shards import Table
from mammotrain.finished import Finished, parts_of
from mammotrain.looks import Learned, Looks
from mammotrain.setup import Setup
from mammotrain.twins import OFF, SAY, Samples, Twin
from mammotrain.watching import Watcher

FOUND, TAUGHT = "same_pictures.json", "taught.npz"
Json = dict[str, Any]


def guard(made: Setup, cache: Path, watcher: Watcher, out: Path | None = None) -> Json:
    """Refuse a run in which one picture is in two roles, and write what it learns from.

    Equal files first, then looks, which are found once for a table. A run that is refused leaves
    nothing behind.

    Args:
        made: The run.
        cache: Folder that keeps what is found, such as that of a cv for all its folds.
        watcher: Is told what was found where the recipe goes on, and of the progress.
        out: The run's folder; None for nothing to write.

    Returns:
        What ``same_pictures.json`` holds.

    Raises:
        DamageError: pictures in two roles, with what to do; or a picture is damaged.
    """
    return _led(made, partial(_guarded, made, _Sight(made.table, cache, watcher), watcher, out))


def guard_all(parts: Iterable[Setup], cache: Path, watcher: Watcher) -> None:
    """Refuse a cv of which any run would be refused, before the first is trained."""
    before = {path.name for path in cache.glob("*")}
    counting, sight = _Counting(watcher), None
    try:
        for made in parts:  # all of one table
            sight = sight or _Sight(made.table, cache, counting)
            _led(made, partial(_guarded, made, sight, counting, None))
    except DamageError:
        for path in cache.glob("look-alikes-*"):
            if path.name not in before:
                path.unlink(missing_ok=True)
        if not before and cache.is_dir():
            cache.rmdir()
        raise


def guard_eval(run: Finished, made: Setup, watcher: Watcher) -> Json:
    """Refuse to ask a finished run about pictures that it has learned from.

    Args:
        run: The run.
        made: What is asked, and of which samples.
        watcher: Is told what is not known, and of the progress.

    Returns:
        What ``same_pictures.json`` of the eval's folder holds.

    Raises:
        DamageError: it has learned from them, with what to do.
    """
    return _led(made, partial(_guarded_eval, run, made, watcher))


def compared(runs: Sequence[Path]) -> list[str]:
    """Return what is to be said of runs beside each other; nothing where all is well.

    Raises:
        DamageError: some have learned from scored pictures, and not all from the same.
    """
    found = [(run, _records(run)) for run in runs]
    seen = [(run, _scored_twins(records)) for run, records in found]
    worst, most = max(seen, key=lambda each: len(each[1]))
    said = []
    if most:
        some = ", ".join(sorted(most)[: twins.SHOWN])
        asked = f"{worst} has learned from {len(most):,} of the pictures that it is asked about"
        if any(each != most for _, each in seen):
            raise DamageError(
                f"{asked}, such as {some}, and others have not, or not from the same: no "
                "difference between them can be believed. Train them on data without these "
                "(mammoprep split DIR [DIR ...] --check names the pairs)."
            )
        said.append(f"{asked}, as all of these runs: every score is too good.")
    for run, records in found:
        if not records:
            said.append(f"{run}: whether it has learned from scored pictures was not looked at.")
        elif not all(record["looked"] for record in records):
            said.append(f"{run}: look-alikes of scored pictures were not looked for in training.")
    return said


def write(out: Path, found: Mapping[str, Any]) -> None:
    """Write what was found to a run's folder."""
    (out / FOUND).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


class _Sight:
    """The pictures of a table by names, hashes and looks; each is found once, when it is asked."""

    def __init__(self, table: Table, cache: Path, watcher: Watcher) -> None:
        self.table, self._watcher = table, watcher
        self.path = cache / f"look-alikes-{table.content[:16]}.npz"

    @cached_property
    def keys(self) -> list[str]:
        return [str(key) for key in self.table.keys]

    @cached_property
    def groups(self) -> list[str]:
        return _groups(self.table)

    @cached_property
    def digests(self) -> list[str]:
        return looks.digests(self.table)

    @cached_property
    def looks(self) -> Looks:
        """Return what was kept in the cache, else what is seen now; raises DamageError."""
        table = self.table
        kept = looks.known(table.content, len(table), self.path)
        return looks.find(table, self.groups, self._watcher) if kept is None else kept

    def samples(self, made: Setup) -> Samples:
        """Return the samples with what each of them does in a run."""
        roles = {
            "train": made.roles.train,
            "validate": made.roles.validate,
            "score": made.roles.scored,
        }
        return Samples(self.keys, self.groups, self.digests, twins.cast(len(self.table), roles))


class _Counting(Watcher):
    """Passes on how far work is, and no warnings: each run says its own."""

    def __init__(self, inner: Watcher) -> None:
        self._inner = inner

    def count(self, what: str, done: int, total: int) -> None:
        self._inner.count(what, done, total)


def _led(made: Setup, work: Callable[[], Json]) -> Json:
    """Do something in the first process; all get what came out, or its error."""
    found, wrong = Json(), ""
    if made.world.leads:
        try:
            found = work()
        except DamageError as error:
            if made.world.size == 1:
                raise
            wrong = str(error)
    led: tuple[Json, str] = distributed.gathered((found, wrong), made.world)[0]
    found, wrong = led
    if wrong:
        raise DamageError(wrong)
    return found


def _guarded(made: Setup, sight: _Sight, watcher: Watcher, out: Path | None) -> Json:
    table, mode = made.table, made.config.data.look_alikes
    samples = sight.samples(made)
    found = twins.equal(samples, samples.digests, "same_bytes", partial(_shows, table))
    if mode != SAY:
        twins.refused(found, mode, watcher.warn)
    seen = None if mode == OFF else sight.looks
    if seen is None:
        watcher.warn("data.look_alikes is off: pictures are compared by equal files only.")
    else:
        found += _by_looks(samples, seen, {twin.keys for twin in found})
        twins.refused(found, mode, watcher.warn)
        if not sight.path.is_file():
            looks.saved(seen, table.content, sight.path)
    record = _record(found, mode, looked=seen is not None)
    if out is not None:
        write(out, record)
        looks.write_learned(_learned(made, samples, seen), out / TAUGHT)
    return record


def _groups(table: Table) -> list[str]:
    return ["/".join(pair) for pair in folder.pairs(table.columns)]


def _shows(table: Table, row: int) -> bool:
    return looks.shows(looks.picture(table, row))


def _by_looks(samples: Samples, seen: Looks, known: set[tuple[str, str]]) -> list[Twin]:
    names = [""] * len(samples.keys)
    for row, number in zip(seen.rows.tolist(), seen.pixels.tolist(), strict=True):
        names[row] = "" if number < 0 else str(number)
    same = twins.equal(samples, names, "same_pixels", lambda _: True)
    return [
        *(twin for twin in same if twin.keys not in known),
        *twins.alike(samples, seen.pairs),
    ]


def _learned(made: Setup, samples: Samples, seen: Looks | None) -> Learned:
    rows = np.concatenate([made.roles.train, made.roles.validate])
    shown = {} if seen is None else dict(zip(seen.rows.tolist(), seen.thumbnails, strict=True))
    columns = made.table.columns
    pairs = [folder.pair(str(columns["source"][row]), str(columns["group"][row])) for row in rows]
    places = rows.tolist()
    return Learned(
        [source for source, _ in pairs],
        [group for _, group in pairs],
        [samples.keys[row] for row in places],
        [samples.digests[row] for row in places],
        [twins.ROLES[samples.role[row]] for row in places],
        [shown.get(row, b"") for row in places],
    )


def _record(found: Sequence[Twin], mode: str, *, looked: bool) -> Json:
    return {"look_alikes": mode, "looked": looked, "pairs": [asdict(twin) for twin in found]}


def _guarded_eval(run: Finished, made: Setup, watcher: Watcher) -> Json:
    mode = run.config.data.look_alikes
    if made.roles.train.size:  # the run's own shards: of the part that it left out
        if not (records := _records(run.place)):
            sight = _Sight(made.table, run.place / "cache", watcher)
            return _guarded(made, sight, watcher, None)
        if pairs := records[0]["pairs"]:
            watcher.warn(f"{run.place} went on with {len(pairs):,} pairs of pictures in two roles.")
        return records[0]
    learned = looks.read_learned(run.place / TAUGHT)
    if learned is None:
        watcher.warn(
            f"{run.place} does not say which pictures it has learned from (no {TAUGHT}): only "
            "groups of its own sources are known to be others. Train it again to know."
        )
        return _record([], mode, looked=False)
    looked = any(learned.thumbnails) and mode != OFF
    if not looked:
        watcher.warn(f"{run.place} keeps no looks: pictures are compared by equal files only.")
    found = _asked(learned, made, watcher, looked=looked)
    twins.refused(found, mode, watcher.warn)
    return _record(found, mode, looked=looked)


def _asked(learned: Learned, made: Setup, watcher: Watcher, *, looked: bool) -> list[Twin]:
    """Return what the run has learned from, of the samples that it is asked about."""
    table, many = made.table, len(learned.key)
    scored = made.roles.scored.tolist()
    groups, digests = _groups(table), looks.digests(table)
    samples = Samples(
        [*learned.key, *(str(table.keys[row]) for row in scored)],
        [*map("/".join, zip(learned.source, learned.group, strict=True)),
         *(groups[row] for row in scored)],
        [*learned.digest, *(digests[row] for row in scored)],
        np.array([*map(twins.ROLES.index, learned.role), *[len(twins.ROLES) - 1] * len(scored)]),
    )  # fmt: skip
    by_digest = {digests[row]: row for row in scored}

    def shows(place: int) -> bool:  # the first of equal files is one that was learned from
        row = by_digest.get(samples.digests[place])
        return row is not None and _shows(table, row)

    found = _to_scored(twins.equal(samples, samples.digests, "same_bytes", shows))
    if not looked:
        return found

    def read(place: int) -> looks.Pixels | None:
        if place < many:
            return looks.thumbnail(learned.thumbnails[place])
        return looks.picture(table, scored[place - many])

    seen = mammoprep.same_pictures(
        read,
        samples.groups,
        [int(place >= many) for place in range(len(samples.keys))],
        watcher.count,
        looks.BY_THUMBNAIL,
    )
    told = {twin.keys for twin in found}
    by_looks = twins.alike(samples, [(p.one, p.other, p.likeness) for p in seen.pairs])
    return [*found, *(twin for twin in by_looks if twin.keys not in told)]


def _to_scored(found: Sequence[Twin]) -> list[Twin]:
    """Leave out what the run itself has looked at: who trained and who validated."""
    return [twin for twin in found if twin.roles[0] == twins.ROLES[-1]]


def _records(place: Path) -> list[Json]:
    """Return what was found for a run, for each of a cv, or for an eval; none where unknown."""
    places = [place] if (place / FOUND).is_file() else parts_of(place)
    try:
        return [json.loads((each / FOUND).read_bytes()) for each in places]
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        raise DamageError(f"{place}: {FOUND} is damaged. Train the run again.") from None


def _scored_twins(records: Sequence[Json]) -> set[str]:
    """Return the scored samples whose pictures were learned from."""
    pairs = [pair for record in records for pair in record["pairs"]]
    return {pair["keys"][0] for pair in pairs if pair["roles"][0] == twins.ROLES[-1]}
