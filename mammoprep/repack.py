"""Finished samples -> other splits or fewer samples, in a new dataset; nothing is decoded."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from mammoprep import finish, manifest, plan, splits
from mammoprep.core import cards
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import AUGMENTED, Record
from mammoprep.manifest import Built
from mammoprep.samples import Row, members, read_member, read_samples
from mammoprep.select import predicate
from mammoprep.state import STATE, Output, check_is_new, hold, output_errors, seal, to_bytes
from mammoprep.writers.encode import SUFFIXES
from mammoprep.writers.tar import TarWriter

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
        _claim(output, summary)
        built = Built([], [], [])
        for name, members_of in _shards(chosen, placed).items():
            _write(root, output, name, members_of, built, step)
        built.rows.sort(key=lambda row: str(row["key"]))
        changed = {"folds": folds, "seed": seed, "where": where}
        made = {
            **summary,
            "settings": {**summary["settings"], **changed},
            "repacked_from": summary["content_sha256"],
            "counts": _counts(summary, rows, built),
            "shards": built.shards,
        }
        return _describe(made, built, output)


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


def _claim(output: Output, summary: Mapping[str, Any]) -> None:
    """Write what keeps ``mammoprep build`` from taking the folder for one of its own."""
    whose = {
        "format_version": summary["format_version"],
        "source": f"a split of {summary['source']}",
        "settings": summary["settings"],
        "versions": summary["versions"],
    }
    output.write(output.root / STATE / "settings.json", to_bytes(whose))


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


def _write(
    root: Path,
    output: Output,
    name: str,
    rows: Sequence[Row],
    built: Built,
    step: Callable[[], None],
) -> None:
    """Write one shard and its sidecar, and add both to what was built."""
    split = name.rsplit("-", 1)[0]
    part = output.shards / f".{name}.tar.part"
    part.unlink(missing_ok=True)
    packed = []
    with TarWriter(part) as tar:
        for row in rows:
            contents = [(suffix, read_member(root, row, suffix)) for suffix in members(row)]
            metadata = json.loads(dict(contents)["json"]) | {"split": split}
            text = json.dumps(metadata, ensure_ascii=True, separators=(",", ":")).encode("ascii")
            written = tar.add(
                str(row["key"]), [(s, text if s == "json" else data) for s, data in contents]
            )
            places = {
                m.suffix: {k: v for k, v in asdict(m).items() if k != "suffix"} for m in written
            }
            packed.append({**metadata, "shard": f"{name}.tar", "members": places})
            step()
        digest = tar.close()
    file = {"bytes": tar.size, "sha256": digest}
    sidecar = {"tar": file, "rows": packed, "failures": []}
    output.write(output.sidecar(name), seal(sidecar))
    output.publish(part, output.shards / f"{name}.tar")
    built.rows.extend(manifest.flatten(row) for row in packed)
    shard = {"name": f"{name}.tar", "split": split, "samples": len(rows), **file}
    built.shards.append(shard)


def _counts(summary: Mapping[str, Any], rows: Sequence[Row], built: Built) -> dict[str, Any]:
    left_out = len(rows) - len(built.rows)
    return {
        "inputs": len(rows),
        "built": len(built.rows),
        "samples": len(built.rows),
        "failed": {},
        "excluded": {"not_selected": left_out} if left_out else {},
        "splits": manifest.split_counts(built.rows, summary["label_names"]),
    }


def _describe(summary: dict[str, Any], built: Built, output: Output) -> dict[str, Any]:
    """Write the table, the page and last dataset.json."""
    summary |= finish.checked(summary, built)
    image = SUFFIXES[summary["settings"]["format"]]
    files = {
        "samples.parquet": manifest.samples_table(
            built.rows, cards.load(summary["source"]), finish.suffixes(built.rows, image)
        ),
        "failures.jsonl": b"",
        "report.html": finish.page(summary, built, output, image),
    }
    for name, content in files.items():
        output.write(output.root / name, content)
    summary["files"] = {name: sha256(content).hexdigest() for name, content in files.items()}
    output.write(output.root / "dataset.json", seal(summary))
    return summary
