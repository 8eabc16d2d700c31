"""Finished samples -> other splits or fewer samples, in a new dataset; nothing is decoded."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammoprep import derived, holdout, plan, splits
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import AUGMENTED, Record
from mammoprep.derived import Sample
from mammoprep.manifest import Built
from mammoprep.samples import Row, members, read_member, read_samples
from mammoprep.select import predicate
from mammoprep.state import check_is_new, hash_file, hold, output_errors

# What, besides the label, a fold should have its share of, where a dataset knows it.
STRATA = ("labels.density", "labels.machine_id", "labels.site_id")
MOST_FOLDS = 100


@dataclass(frozen=True)
class Wanted:
    """Which groups are not to be in any fold.

    Attributes:
        split_file: A table of groups and their splits, or None; see ``splits.read_split_file``.
        test: ``20%`` or a number of groups, drawn as the official test set; or None.
        tell: Takes one line for the user.
    """

    split_file: Path | None = None
    test: str | None = None
    tell: Callable[[str], None] = lambda _: None


def repack(
    root: Path,
    out: Path,
    *,
    folds: int,
    seed: int,
    where: str | None = None,
    wanted: Wanted = Wanted(),
) -> dict[str, Any]:
    """Write the samples of a dataset into new folds, or only some of them.

    Groups stay whole, official splits stay, and labels (with density, machine and site where known)
    are spread over the folds as in a build. Images, masks and geometry are copied byte for byte;
    of the metadata only ``split`` changes. Augmented copies weigh nothing, follow the sample that
    they were made of into its new split's own shards, and are left out with it; in ``val`` and
    ``test`` there are none.

    Args:
        root: A finished dataset.
        out: A new or empty folder.
        folds: Number of folds.
        seed: Seed of the folds, and of who is in a new test set.
        where: Only samples of which this is true; see ``select.predicate``.
        wanted: Which groups have their place.

    Returns:
        The new dataset.json.

    Raises:
        ConfigError: ``root`` is no dataset, ``out`` is not empty, ``where`` selects nothing, or
            ``wanted`` is impossible.
        DamageError: a member is not what was built.
        ResourceError: the disk is full.
    """
    if not 1 <= folds <= MOST_FOLDS or seed < 0:
        raise ConfigError(
            f"--folds must be 1 to {MOST_FOLDS} and --seed at least 0, got {folds} and {seed}."
        )
    if out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"--out {out} lies in {root}. Give a folder beside it.")
    summary, rows = read_samples(root)
    chosen: list[Row] = list(rows)
    if where is not None and rows:
        test = predicate(where, rows[0].keys())
        chosen = [row for row in rows if test(row)]
    if all(row.get("augmented") for row in chosen):
        raise ConfigError(f"--where {where!r} selects none of the {len(rows):,} samples of {root}.")
    check_is_new(out)
    everyone = {str(row["group"]) for row in rows}
    made_of = _Samples(chosen, everyone, summary["label_names"])
    placed, settings, notices = _placed(made_of, folds, seed, wanted)
    kept = _with_originals(chosen, placed)
    if lost := len(chosen) - len(kept):
        notices.append(
            f"{lost:,} augmented copies were left out: their originals are in val or test, where "
            "none may be, or were not selected."
        )
        wanted.tell(notices[-1])
    with output_errors(out), hold(out) as output:
        output.prepare_folders()
        derived.claim(output, summary, f"a split of {summary['source']}")
        built = Built([], [], [])
        for name, members_of in _shards(kept, placed).items():
            split = name.rsplit("-", 1)[0]
            derived.write_shard(output, name, _samples(root, split, members_of), built)
        built.rows.sort(key=lambda row: str(row["key"]))
        changed = {"folds": folds, "seed": seed, "where": where, **settings}
        made = {
            **summary,
            "settings": {**summary["settings"], **changed},
            "repacked_from": summary["content_sha256"],
            "counts": derived.counts(summary, len(rows), built),
            "shards": built.shards,
        }
        return derived.describe(made, built, output, notices)


@dataclass(frozen=True)
class _Samples:
    """What is to be placed: the chosen rows, all groups of the dataset, and its classes by code."""

    rows: list[Row]
    everyone: set[str]
    label_names: Sequence[str]


def _placed(
    samples: _Samples, folds: int, seed: int, wanted: Wanted
) -> tuple[dict[str, str], dict[str, Any], list[str]]:
    """Return group -> split, what of it is a setting, and what the new dataset says of it."""
    genuine = [_record(row) for row in samples.rows if not row.get("augmented")]
    groups = splits.gather(genuine)
    known: dict[str, str] = {}
    settings: dict[str, Any] = {}
    notices: list[str] = []
    if wanted.split_file is not None and wanted.test is not None:
        raise ConfigError(
            "--split-file says who is in which split, and --test draws whom it likes: give one."
        )
    if wanted.split_file is not None:
        known = splits.read_split_file(wanted.split_file)
        splits.check_known(known, genuine)
        settings["split_file"] = hash_file(wanted.split_file)[1]
    if wanted.test is not None:
        names = {f"label {code}": name for code, name in enumerate(samples.label_names)}
        groups, notices = holdout.hold_out(groups, wanted.test, seed, names)
        settings["test"] = wanted.test.strip()
    placed = splits.assign(groups, folds=folds, seed=seed, known=known)
    met = splits.meet(known, samples.everyone, placed)
    for line in (*met.names, *notices, *plan.fold_warnings(placed, folds)):
        wanted.tell(line)
    return placed, settings, [*met.counts, *notices]


def _with_originals(rows: Sequence[Row], placed: Mapping[str, str]) -> list[Row]:
    """Leave out augmented copies that have lost their original, and those of val and test."""
    found = splits.originals(rows)
    nowhere = (None, *splits.UNAUGMENTED)
    return [
        row
        for row in rows
        if not row.get("augmented")
        or (found[str(row["key"])] and placed.get(str(row["group"])) not in nowhere)
    ]


def _record(row: Row) -> Record:
    """Return what the splits need to know of a sample."""
    split = str(row["split"])
    stratum = " ".join(f"{name}={row[name]}" for name in STRATA if row.get(name) is not None)
    return Record(
        key=str(row["key"]),
        source=str(row["source"]),
        group=str(row["group"]),
        input="",
        split=split if split in splits.OFFICIAL else None,
        label=row["label"],
        stratum=stratum,
    )


def _shards(rows: Sequence[Row], placed: Mapping[str, str]) -> dict[str, list[Row]]:
    """Return shard name -> its samples by key, by the rule of a build's plan."""
    by_split: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        split = placed[str(row["group"])]
        by_split[f"{split}{AUGMENTED}" if row.get("augmented") else split].append(row)
    size = plan.default_shard_size(len(rows))
    found: dict[str, list[Row]] = defaultdict(list)
    for split, inside in sorted(by_split.items()):
        count = max(1, round(len(inside) / size))
        for row in inside:
            found[plan.shard_name(split, str(row["key"]), count)].append(row)
    return dict(sorted(found.items()))


def _samples(root: Path, split: str, rows: Sequence[Row]) -> Iterator[Sample]:
    """Yield samples as they are, but for their split."""
    for row in rows:
        contents = [(suffix, read_member(root, row, suffix)) for suffix in members(row)]
        metadata = json.loads(dict(contents)["json"]) | {"split": split}
        text = json.dumps(metadata, ensure_ascii=True, separators=(",", ":")).encode("ascii")
        yield metadata, [(s, text if s == "json" else data) for s, data in contents]
