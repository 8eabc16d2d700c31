"""``--views``: what is kept, what is counted."""

import json
from pathlib import Path

import pyarrow.parquet
from helpers import run_build


def test_only_the_views_asked_for_are_built_and_the_rest_is_counted(
    phantom_once: Path, built_once: Path, tmp_path: Path
) -> None:
    run_build(phantom_once, tmp_path / "out", views=("MLO",))
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "samples.parquet").to_pylist()
    whole = pyarrow.parquet.read_table(built_once / "samples.parquet").to_pylist()
    assert {row["view"] for row in rows} == {"MLO"}
    counts = json.loads((tmp_path / "out" / "dataset.json").read_text())["counts"]
    assert counts["excluded"] == {"view_excluded": len(whole) - len(rows)}
    assert counts["inputs"] == counts["built"] + sum(counts["excluded"].values())


def test_patients_keep_their_folds_whatever_views_are_asked_for(
    phantom_once: Path, built_once: Path, tmp_path: Path
) -> None:
    run_build(phantom_once, tmp_path / "out", views=("CC",))
    tables = [
        pyarrow.parquet.read_table(root / "samples.parquet").to_pylist()
        for root in (built_once, tmp_path / "out")
    ]
    before, after = ({row["group"]: row["split"] for row in table} for table in tables)
    assert all(before[group] == split for group, split in after.items())
