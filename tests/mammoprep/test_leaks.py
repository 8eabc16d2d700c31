"""`split --check`: every kind of leak is found, an honest dataset is clean, copies stay apart."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from helpers import run_build, run_cli

import mammoprep
from mammoprep.across import find_across
from mammoprep.core.errors import ConfigError, DamageError
from mammoprep.findings import lines
from mammoprep.fingerprints import SIDE, candidates, thumbnail, views
from mammoprep.leaks import Leaks, find_leaks
from mammoprep.phantoms import rsna as rsna_phantom
from mammoprep.registration import likeness
from mammoprep.repack import repack
from mammoprep.samples import members, read_member, read_samples
from mammoprep.splits import read_split_file
from mammoprep.state import seal
from mammoprep.verify import verify
from mammoprep.writers.tar import TarWriter

Picture = np.ndarray[Any, np.dtype[np.uint8]]
PLACES = (".offset", ".size", ".sha256")


class Dataset:
    """A finished dataset in memory, to be changed and written elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.summary, rows = read_samples(root)
        self.columns = list(rows[0])
        self.rows = {str(row["key"]): dict(row) for row in rows}
        self.members = {
            str(row["key"]): {suffix: read_member(root, row, suffix) for suffix in members(row)}
            for row in rows
        }

    def picture(self, key: str) -> Picture:
        data = np.frombuffer(self.members[key]["png"], np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)  # type: ignore[return-value]

    def add(self, of: str, key: str, **changes: object) -> None:
        self.rows[key] = {**self.rows[of], "key": key, **changes}
        self.members[key] = dict(self.members[of])

    def draw(self, key: str, picture: Picture) -> None:
        self.members[key]["png"] = cv2.imencode(".png", picture)[1].tobytes()

    def write(self, out: Path) -> Path:
        (out / "shards").mkdir(parents=True)
        shards, rows = [], []
        for split in sorted({row["split"] for row in self.rows.values()}):
            name = f"{split}-00000.tar"
            with TarWriter(out / "shards" / name) as tar:
                for key, row in sorted(self.rows.items()):
                    if row["split"] == split:
                        rows.append({**row, "shard": name, **self._write(tar, key, split)})
                digest = tar.close()
            samples = sum(row["shard"] == name for row in rows)
            shards.append({"name": name, "split": split, "samples": samples, "bytes": tar.size,
                           "sha256": digest})  # fmt: skip
        schema = pyarrow.parquet.read_schema(self.root / "samples.parquet")
        table = pyarrow.Table.from_pylist(rows, schema=schema)
        pyarrow.parquet.write_table(table, out / "samples.parquet")
        files = {"samples.parquet": sha256((out / "samples.parquet").read_bytes()).hexdigest()}
        counts = self.summary["counts"] | {"samples": len(rows)}
        told = {**self.summary, "shards": shards, "files": files, "counts": counts}
        (out / "dataset.json").write_bytes(seal(told))
        return out

    def _write(self, tar: TarWriter, key: str, split: str) -> dict[str, object]:
        told = json.loads(self.members[key]["json"]) | {
            name: self.rows[key][name] for name in ("key", "group", "augmented", "parent", "lesion")
        }
        self.members[key]["json"] = json.dumps(told | {"split": split}).encode()
        written = tar.add(key, list(self.members[key].items()))
        return {f"{m.suffix}{place}": getattr(m, place[1:]) for m in written for place in PLACES}


@pytest.fixture(scope="module")
def honest_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leaks")
    rsna_phantom.write(folder / "raw", patients=10, seed=3, size_scale=0.06, prevalence=0.3)
    run_build(folder / "raw", folder / "shards", size=(128, 256))
    return folder / "shards"


@pytest.fixture
def data(honest_once: Path) -> Dataset:
    return Dataset(honest_once)


def two_sides(data: Dataset) -> tuple[str, str]:
    """Return the keys of two samples of different groups in fold0 and in fold1."""
    return tuple(
        next(key for key, row in sorted(data.rows.items()) if row["split"] == split)
        for split in ("fold0", "fold1")
    )  # type: ignore[return-value]


def kinds(found: Leaks) -> dict[str, int]:
    return {
        kind: sum(item.kind == kind for item in found.findings)
        for kind in sorted({item.kind for item in found.findings})
    }


def test_an_honest_dataset_is_clean_and_says_what_was_compared(honest_once: Path) -> None:
    found = find_leaks(honest_once)
    assert found.findings == ()
    assert found.pictures == found.samples > 30
    assert found.columns[:2] == ("group", "patient_id")
    assert found.candidates > 0
    told = "\n".join(lines(found))
    assert f"{found.pairs:,} pairs" in told
    assert "No leak" in told


def test_pairs_are_those_of_other_groups_in_other_splits(data: Dataset, tmp_path: Path) -> None:
    rows = list(data.rows.values())
    pairs = sum(
        a["group"] != b["group"] and a["split"] != b["split"]
        for place, a in enumerate(rows)
        for b in rows[:place]
    )
    assert find_leaks(data.write(tmp_path / "new")).pairs == pairs


def test_a_torn_group_is_one_leak_and_verify_sees_it_too(data: Dataset, tmp_path: Path) -> None:
    one, _ = two_sides(data)
    group = data.rows[one]["group"]
    data.rows[one]["split"] = "fold1"
    out = data.write(tmp_path / "new")
    (leak,) = find_leaks(out).leaks
    assert leak.kind == "group"
    assert one in leak.keys
    assert f"group {group} is in fold0, fold1" in leak.what
    assert [d.what for d in verify(out).damages if "leak" in d.what] != []


@pytest.mark.parametrize("column", ["patient_id", "study_id", "exam_id"])
def test_an_id_in_two_splits_is_a_leak_even_when_groups_are_whole(
    column: str, data: Dataset, tmp_path: Path
) -> None:
    for key in two_sides(data):
        data.rows[key][column] = "the-same"
    found = find_leaks(data.write(tmp_path / "new"))
    assert kinds(found) == {column: 1}


def test_the_same_pixels_in_two_splits_are_a_leak(data: Dataset, tmp_path: Path) -> None:
    one, other = two_sides(data)
    # Other bytes, the same pixels: the other PNG is not compressed.
    plain = cv2.imencode(".png", data.picture(one), [cv2.IMWRITE_PNG_COMPRESSION, 0])[1]
    data.members[other]["png"] = plain.tobytes()
    data.rows[one] |= {"label": 0, "label_name": "negative"}
    data.rows[other] |= {"label": 1, "label_name": "cancer"}
    found = find_leaks(data.write(tmp_path / "new"))
    assert kinds(found) == {"same_pixels": 1, "two_labels": 1}
    assert found.leaks[0].keys == tuple(sorted((one, other)))


def test_the_same_pixels_in_one_split_are_a_note(data: Dataset, tmp_path: Path) -> None:
    one, other = [key for key, row in data.rows.items() if row["split"] == "fold0"][:2]
    data.members[other] = dict(data.members[one])
    found = find_leaks(data.write(tmp_path / "new"))
    assert kinds(found)["repeated"] == 1
    assert found.leaks == ()


def saved_as_jpeg(picture: Picture) -> Picture:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)  # type: ignore[return-value]


def turned(picture: Picture) -> Picture:
    rows, columns = picture.shape
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), 2, 1)
    return cv2.warpAffine(picture, matrix, (columns, rows))  # type: ignore[return-value]


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "saved as jpeg": saved_as_jpeg,
    "scaled": lambda p: cv2.resize(p, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA),  # type: ignore[dict-item,return-value]
    "cropped": lambda p: p[round(0.05 * p.shape[0]) :, : round(0.95 * p.shape[1])],
    "gamma": lambda p: (255 * (p / 255.0) ** 0.8).astype(np.uint8),
    "brighter": lambda p: np.clip(p.astype(int) + 30, 0, 255).astype(np.uint8),
    "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "turned": turned,
    "sixteen bits": lambda p: p.astype(np.uint16) * 257,  # type: ignore[dict-item]
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_copy_in_another_split_is_a_leak(
    change: Callable[[Picture], Picture], data: Dataset, tmp_path: Path
) -> None:
    one, other = two_sides(data)
    data.draw(other, change(data.picture(one)))
    found = find_leaks(data.write(tmp_path / "new"))
    assert kinds(found)["look_alike"] == 1
    assert found.leaks[0].keys == tuple(sorted((one, other)))
    assert found.leaks[0].likeness is not None
    assert found.leaks[0].likeness > 0.8


def test_a_mirrored_copy_is_called_so(data: Dataset, tmp_path: Path) -> None:
    one, other = two_sides(data)
    data.draw(other, CHANGES["mirrored"](data.picture(one)))
    assert "mirrored" in find_leaks(data.write(tmp_path / "new")).leaks[0].what


def test_a_look_alike_in_its_own_group_or_split_is_no_leak(data: Dataset, tmp_path: Path) -> None:
    one, _ = two_sides(data)
    data.add(one, "rsna_again", image_id="again")
    data.draw("rsna_again", saved_as_jpeg(data.picture(one)))
    assert find_leaks(data.write(tmp_path / "new")).leaks == ()


def test_a_picture_that_shows_nothing_is_a_note(data: Dataset, tmp_path: Path) -> None:
    one, _ = two_sides(data)
    data.draw(one, np.zeros((256, 128), np.uint8))
    found = find_leaks(data.write(tmp_path / "new"))
    assert kinds(found) == {"flat": 1}


def with_copy(data: Dataset, split: str, **changes: object) -> str:
    one, _ = two_sides(data)
    changes = {"split": split, "parent": one, "augmented": True, **changes}
    data.add(one, f"{one}_a1", **changes)
    data.draw(f"{one}_a1", turned(data.picture(one)))
    return f"{one}_a1"


def test_a_copy_beside_its_original_is_no_leak(data: Dataset, tmp_path: Path) -> None:
    with_copy(data, "fold0-aug")
    out = data.write(tmp_path / "new")
    found = find_leaks(out)
    assert found.findings == ()
    assert found.pictures == found.samples - 1
    assert "fold0-aug" not in found.splits
    assert not [d for d in verify(out).damages if "leak" in d.what]


WRONG = {
    "augmented_outside": ("fold0", {}),
    "augmented_scored": ("test-aug", {}),
    "augmented_apart": ("fold1-aug", {}),
    "augmented_orphan": ("fold0-aug", {"parent": "rsna_nobody"}),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_copy_in_the_wrong_place_is_a_leak(kind: str, data: Dataset, tmp_path: Path) -> None:
    split, changes = WRONG[kind]
    key = with_copy(data, split, **changes)
    found = find_leaks(data.write(tmp_path / "new"))
    assert kind in kinds(found)
    assert all(key in leak.keys for leak in found.leaks)


def test_copies_of_a_patch_belong_to_the_patch_of_the_same_lesion(
    data: Dataset, tmp_path: Path
) -> None:
    one, other = two_sides(data)
    data.rows[one] |= {"parent": "rsna_image", "lesion": 1}
    data.rows[other] |= {"parent": "rsna_image", "lesion": 2}
    with_copy(data, "fold0-aug", parent="rsna_image", lesion=1)
    assert find_leaks(data.write(tmp_path / "new")).leaks == ()


def test_splitting_again_takes_copies_along(data: Dataset, tmp_path: Path) -> None:
    key = with_copy(data, "fold1-aug")
    original = str(data.rows[key]["parent"])
    source = data.write(tmp_path / "old")
    made = repack(source, tmp_path / "new", folds=4, seed=5)
    rows = {row["key"]: row for row in read_samples(tmp_path / "new")[1]}
    assert rows[key]["split"] == f"{rows[original]['split']}-aug"
    assert str(rows[key]["shard"]).startswith(f"{rows[key]['split']}-0")
    told = json.loads(read_member(tmp_path / "new", rows[key], "json"))
    assert told["split"] == rows[key]["split"]
    assert made["counts"]["excluded"] == {}
    assert find_leaks(tmp_path / "new").leaks == ()
    assert verify(tmp_path / "new").damages == ()


def test_copies_weigh_nothing_when_folds_are_made(data: Dataset, tmp_path: Path) -> None:
    plain = data.write(tmp_path / "plain")
    key = with_copy(data, "fold0-aug")
    for number in range(2, 30):
        data.add(key, key.replace("_a1", f"_a{number}"))
    source = data.write(tmp_path / "old")
    placed = []
    for root in (plain, source):
        repack(root, tmp_path / f"{root.name}-new", folds=3, seed=1)
        _, rows = read_samples(tmp_path / f"{root.name}-new")
        placed.append({row["key"]: row["split"] for row in rows if not row["augmented"]})
    assert placed[0] == placed[1]


def test_a_copy_is_left_out_with_its_original_and_in_test(data: Dataset, tmp_path: Path) -> None:
    key = with_copy(data, "fold0-aug")
    original = str(data.rows[key]["parent"])
    source = data.write(tmp_path / "old")
    made = repack(source, tmp_path / "a", folds=2, seed=0, where=f"key != '{original}'")
    assert made["counts"]["excluded"] == {"not_selected": 2}
    assert made["notices"][0].startswith("1 augmented copies were left out")
    made = repack(source, tmp_path / "b", folds=2, seed=0, where=f"key != '{key}'")
    assert made["counts"]["excluded"] == {"not_selected": 1}
    group = data.rows[original]["group"]
    for row in data.rows.values():
        if row["group"] == group:
            row["split"] = "test-aug" if row["augmented"] else "test"
    made = repack(data.write(tmp_path / "tested"), tmp_path / "c", folds=2, seed=0)
    assert made["counts"]["excluded"] == {"not_selected": 1}
    assert not [name for name in made["counts"]["splits"] if name.startswith("test-")]


def test_an_earlier_table_with_copies_is_a_split_file(data: Dataset, tmp_path: Path) -> None:
    key = with_copy(data, "fold0-aug")
    out = data.write(tmp_path / "new")
    assert read_split_file(out / "samples.parquet")[str(data.rows[key]["group"])] == "fold0"
    table = tmp_path / "splits.csv"
    table.write_text("group,split\nA,fold1-aug\nA,fold1\n")
    assert read_split_file(table) == {"A": "fold1"}


def test_a_damaged_picture_stops_the_check(built: Path) -> None:
    row = read_samples(built)[1][0]
    path = built / "shards" / str(row["shard"])
    content = bytearray(path.read_bytes())
    content[int(row["png.offset"]) + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamageError, match=str(row["key"])):
        find_leaks(built)


def test_the_command_line_tells_leaks_and_exits_with_4(data: Dataset, tmp_path: Path) -> None:
    one, other = two_sides(data)
    data.draw(other, CHANGES["brighter"](data.picture(one)))
    out = data.write(tmp_path / "new")
    done = run_cli("split", out, "--check")
    assert done.returncode == 4, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LEAK")]
    assert one in line
    assert other in line
    assert "What to do: Keep one: `mammoprep split DIR --out NEW --where" in done.stdout
    told = json.loads(run_cli("split", out, "--check", "--json").stdout)
    assert told["leaks"] == 1
    assert told["findings"][0]["kind"] == "look_alike"


@pytest.mark.slow
def test_the_command_line_of_a_clean_dataset(honest_once: Path, tmp_path: Path) -> None:
    done = run_cli("split", honest_once, "--check")
    assert done.returncode == 0, done.stderr
    assert "No leak" in done.stdout
    mixed = run_cli("split", honest_once, "--check", "--folds", 3, "--out", tmp_path / "x")
    assert mixed.returncode == 2
    assert "--out, --folds" in mixed.stderr
    nothing = run_cli("split", honest_once)
    assert nothing.returncode == 2
    assert "--out NEW" in nothing.stderr


def test_many_findings_are_counted_and_not_all_listed(data: Dataset, tmp_path: Path) -> None:
    for number, row in enumerate(data.rows.values()):
        row["split"] = f"fold{number % 3}"
    told = lines(find_leaks(data.write(tmp_path / "new")), most=2)
    listed = [line for line in told if line.startswith("LEAK  group: group ")]
    assert len(listed) == 2
    assert any("more (--json lists all)" in line for line in told)


def test_views_and_thumbnails_have_their_shapes(data: Dataset) -> None:
    grey = thumbnail(data.picture(next(iter(data.rows))))
    assert grey is not None
    assert max(grey.shape) == SIDE
    seen = views(grey)
    np.testing.assert_allclose(np.linalg.norm(seen, axis=1), 1, atol=1e-4)
    assert likeness(grey, grey, 0) > 0.99


def test_blocks_of_candidates_do_not_change_them(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    greys = [grey for key in data.rows if (grey := thumbnail(data.picture(key))) is not None]

    def forbidden(place: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return np.arange(len(greys)) == place

    whole = candidates(greys, forbidden)
    monkeypatch.setattr("mammoprep.fingerprints.AT_ONCE", 1)
    assert candidates(greys, forbidden) == whole


def renamed(data: Dataset, source: str) -> Dataset:
    """Return the dataset as if it were of another source: other keys, groups and patients."""
    told = {key: f"{source}_{number}" for number, key in enumerate(sorted(data.rows))}
    rows, parts = {}, {}
    for key, row in data.rows.items():
        new = told[key]
        ids = {name: f"{source}-{row['group']}" for name in ("group", "patient_id")}
        rows[new] = {**row, **ids, "key": new, "source": source, "study_id": None, "exam_id": None}
        parts[new] = dict(data.members[key])
    data.rows, data.members = rows, parts
    return data


def test_one_set_of_pictures_under_two_sources_is_found_by_bytes_whatever_its_splits(
    honest_once: Path, data: Dataset, tmp_path: Path
) -> None:
    other = renamed(data, "table").write(tmp_path / "other")
    found = find_across([honest_once, other])
    assert kinds(found)["same_bytes"] == found.pictures // 2
    for leak in found.leaks:
        assert leak.datasets == (str(honest_once), str(other))
    told = lines(found)
    first = next(line for line in told if line.startswith("LEAK"))
    assert f"({honest_once} fold" in first
    assert f"({other} fold" in first
    assert "what one dataset teaches would be scored in another" in told[-1]


@pytest.mark.parametrize("change", ["saved as jpeg", "scaled", "mirrored"])
def test_changed_copies_are_found_across_datasets(
    change: str, honest_once: Path, data: Dataset, tmp_path: Path
) -> None:
    for key in data.rows:
        data.draw(key, CHANGES[change](data.picture(key)))
    found = find_across([honest_once, renamed(data, "table").write(tmp_path / "other")])
    assert set(kinds(found)) == {"look_alike"}
    assert len(found.leaks) >= 0.9 * found.pictures / 2
    assert all(leak.likeness is not None and leak.likeness > 0.65 for leak in found.leaks)


def test_a_patient_of_one_source_in_two_datasets_is_told_once(
    honest_once: Path, data: Dataset, tmp_path: Path
) -> None:
    patient = next(iter(data.rows.values()))["patient_id"]
    data.rows = {k: row for k, row in data.rows.items() if row["patient_id"] == patient}
    found = find_across([honest_once, data.write(tmp_path / "part")])
    assert kinds(found) == {"group": 1}
    assert set(found.leaks[0].datasets) == {str(honest_once), str(tmp_path / "part")}


def test_same_pictures_across_sides_are_named_by_their_place_among_all(data: Dataset) -> None:
    one, other = two_sides(data)
    picture, unlike = data.picture(one), data.picture(other)
    copy = CHANGES["saved as jpeg"](picture)
    pictures = [np.zeros_like(picture), picture, unlike, copy]
    groups = ["a", "b", "c", "d"]
    found = mammoprep.same_pictures(lambda place: pictures[place], groups)
    assert [(pair.one, pair.other) for pair in found.pairs] == [(1, 3)]
    assert [bool(each.grey is None) for each in found.pictures] == [True, False, False, False]
    for sides, pairs in (([0, 0, 0, 1], 1), ([0, 1, 0, 1], 0)):
        apart = mammoprep.same_pictures(lambda place: pictures[place], groups, sides, keep=64)
        assert len(apart.pairs) == pairs
        assert [bool(each.kept) for each in apart.pictures] == [False, True, True, True]
    within = mammoprep.same_pictures(lambda place: pictures[place], ["a", "b", "c", "b"])
    assert within.pairs == ()


def test_one_id_under_two_sources_is_two_patients_across_datasets(
    honest_once: Path, data: Dataset, tmp_path: Path
) -> None:
    ids = {key: row["group"] for key, row in data.rows.items()}
    other = renamed(data, "table")
    for number, row in enumerate(other.rows.values()):
        row |= dict.fromkeys(("group", "patient_id"), list(ids.values())[number])
    assert set(kinds(find_across([honest_once, other.write(tmp_path / "other")]))) <= {
        "same_bytes", "look_alike",
    }  # fmt: skip


def test_datasets_of_other_women_share_nothing(honest_once: Path, tmp_path: Path) -> None:
    rsna_phantom.write(tmp_path / "raw", patients=8, seed=4, size_scale=0.06, prevalence=0.3)
    run_build(tmp_path / "raw", tmp_path / "others", size=(128, 256))
    other = renamed(Dataset(tmp_path / "others"), "table").write(tmp_path / "other")
    found = find_across([honest_once, other])
    assert found.findings == ()
    numbers = [len(read_samples(root)[1]) for root in (honest_once, other)]
    assert found.pairs == numbers[0] * numbers[1]
    assert "No leak between the datasets" in lines(found)[-1]
    assert "mammoprep split DIR --check" in lines(found)[-1]


def test_pictures_that_show_nothing_are_no_leak_across_datasets(
    honest_once: Path, data: Dataset, tmp_path: Path
) -> None:
    key = next(iter(data.rows))
    data.draw(key, np.zeros((256, 128), np.uint8))
    one = data.write(tmp_path / "one")
    other = renamed(Dataset(one), "table")
    renamed_key = next(k for k in other.rows if not other.picture(k).any())
    other.rows = {renamed_key: other.rows[renamed_key]}
    found = find_across([one, other.write(tmp_path / "other")])
    assert kinds(found) == {"flat": 1}
    assert found.leaks == ()


def test_one_folder_cannot_be_compared_with_itself(honest_once: Path) -> None:
    with pytest.raises(ConfigError, match="given twice"):
        find_across([honest_once, honest_once])


def test_the_command_line_compares_datasets_and_exits_with_4(
    honest_once: Path, data: Dataset, tmp_path: Path
) -> None:
    other = renamed(data, "table").write(tmp_path / "other")
    done = run_cli("split", honest_once, other, "--check", "--json")
    assert done.returncode == 4, done.stderr
    told = json.loads(done.stdout)
    assert told["datasets"] == [str(honest_once), str(other)]
    first = next(each for each in told["findings"] if each["kind"] == "same_bytes")
    assert first["datasets"] == told["datasets"]
    assert len(first["keys"]) == len(first["splits"]) == 2
    assert "leave the samples out of one" in first["remedy"]
    refused = run_cli("split", honest_once, other, "--out", tmp_path / "new")
    assert refused.returncode == 2
    assert "not split at once" in refused.stderr


@pytest.mark.slow
def test_near_duplicates_of_real_ultrasound_are_found_without_their_groups(
    real_data: Path, tmp_path: Path
) -> None:
    done = run_cli("build", "--source", "busi", "--input", real_data / "busi", "--size", "256x256",
                   "--out", tmp_path / "busi", "--folds", 5)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert find_leaks(tmp_path / "busi").leaks == ()
    data = Dataset(tmp_path / "busi")
    clusters: dict[str, int] = {}
    for number, (key, row) in enumerate(sorted(data.rows.items())):
        clusters[row["group"]] = clusters.get(row["group"], 0) + 1
        row |= {"group": key, "split": f"fold{number % 5}"}
    found = find_leaks(data.write(tmp_path / "torn"))
    assert 20 < len(found.leaks) < sum(n * (n - 1) // 2 for n in clusters.values())
