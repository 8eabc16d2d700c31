"""Finished samples -> other splits or fewer samples, in a new dataset; nothing is decoded."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mammoprep import derived, plan, splits
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import AUGMENTED, Record
from mammoprep.derived import Sample
from mammoprep.manifest import Built
from mammoprep.samples import Row, members, read_member, read_samples
from mammoprep.select import predicate
from mammoprep.state import check_is_new, hold, output_errors

# What, besides the label, a fold should have its share of, where a dataset knows it.
STRATA = ("labels.density", "labels.machine_id", "labels.site_id")
MOST_FOLDS = 100


def repack(
    root: Path,
    out: Path,
    *,
    folds: int,
    seed: int,
    where: str | None = None,
    step: Callable[[], None] = lambda: None,
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
        seed: Seed of the folds.
        where: Only samples of which this is true; see ``select.predicate``.
        step: Called after every sample.

    Returns:
        The new dataset.json.

    Raises:
        ConfigError: ``root`` is no dataset, ``out`` is not empty, or ``where`` selects nothing.
        DamageError: a member is not what was built.
        ResourceError: the disk is full.
    """
    summary, rows = read_samples(root)
    chosen: list[Row] = list(rows)
    if where is not None and rows:
        test = predicate(where, rows[0].keys())
        chosen = [row for row in rows if test(row)]
    if all(row.get("augmented") for row in chosen):
        raise ConfigError(f"--where {where!r} selects none of the {len(rows):,} samples of {root}.")
    if not 1 <= folds <= MOST_FOLDS or seed < 0:
        raise ConfigError(
            f"--folds must be 1 to {MOST_FOLDS} and --seed at least 0, got {folds} and {seed}."
        )
    if out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"--out {out} lies in {root}. Give a folder beside it.")
    check_is_new(out)
    genuine = [row for row in chosen if not row.get("augmented")]
    placed = splits.assign(splits.gather(map(_record, genuine)), folds=folds, seed=seed)
    chosen = _with_originals(chosen, placed)
    with output_errors(out), hold(out) as output:
        output.prepare_folders()
        derived.claim(output, summary, f"a split of {summary['source']}")
        built = Built([], [], [])
        for name, members_of in _shards(chosen, placed).items():
            split = name.rsplit("-", 1)[0]
            derived.write_shard(output, name, _samples(root, split, members_of, step), built)
        built.rows.sort(key=lambda row: str(row["key"]))
        changed = {"folds": folds, "seed": seed, "where": where}
        made = {
            **summary,
            "settings": {**summary["settings"], **changed},
            "repacked_from": summary["content_sha256"],
            "counts": derived.counts(summary, len(rows), built),
            "shards": built.shards,
        }
        return derived.describe(made, built, output)


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


def _samples(
    root: Path, split: str, rows: Sequence[Row], step: Callable[[], None]
) -> Iterator[Sample]:
    """Yield samples as they are, but for their split."""
    for row in rows:
        contents = [(suffix, read_member(root, row, suffix)) for suffix in members(row)]
        metadata = json.loads(dict(contents)["json"]) | {"split": split}
        text = json.dumps(metadata, ensure_ascii=True, separators=(",", ":")).encode("ascii")
        yield metadata, [(s, text if s == "json" else data) for s, data in contents]
        step()
