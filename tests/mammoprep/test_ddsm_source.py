"""The ddsm source: records found without reading pixels, groups from names, order and pixels."""

import json
import shutil
import struct
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import tree_of
from outlines import built
from sklearn.utils import shuffle

from mammoprep.builder import Result, build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core import cards, crc32c
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.schema import Record
from mammoprep.core.tree import Folder, open_tree
from mammoprep.inputs import read_inputs
from mammoprep.phantoms import ddsm as phantom
from mammoprep.phantoms._example import message, record
from mammoprep.sources import _ddsm_order, ddsm

SIDE = 299
PIXELS = SIDE * SIDE


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddsm") / "raw"
    phantom.write(folder, patients=8, seed=3, size_scale=0.05, prevalence=0.5)
    return folder


@pytest.fixture(scope="module")
def truth(raw: Path) -> dict[str, dict]:
    names = {f"training10_{n}": f"train{n}" for n in range(5)} | {"test10": "test", "cv10": "cv"}
    return {
        f"ddsm_{part}_{place:05d}": item
        for name, part in names.items()
        for place, item in enumerate(json.loads((raw / "truth" / f"{name}.json").read_text()))
    }


def texture(seed: int, side: int = SIDE) -> np.ndarray:
    """A picture with grain of the size of film structure."""
    rng = np.random.default_rng(seed)
    rough = cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), 2.5)
    return np.clip(120 + 40 * rough / rough.std(), 0, 255).astype(np.uint8)


def example(label: int = 0, pixels: np.ndarray | None = None, **more: object) -> dict:
    shown = texture(label) if pixels is None else pixels
    features = {"label": label, "label_normal": int(label > 0), "image": shown.tobytes(), **more}
    return {name: value for name, value in features.items() if value is not None}


def write_records(folder: Path, *examples: dict, file: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    data = b"".join(map(record, examples))
    (folder / f"training10_{file}.tfrecords").write_bytes(data)
    return folder


def write_pair(folder: Path, name: str, data: np.ndarray, labels: np.ndarray) -> Path:
    np.save(folder / f"{name}_data.npy", data)
    np.save(folder / f"{name}_labels.npy", labels)
    return folder


def read(folder: Path) -> list[Record]:
    return ddsm.read(open_tree(folder), cards.load("ddsm"))


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder)
    return str(caught.value)


def settled(folder: Path) -> tuple[list[Record], list[str]]:
    inputs = read_inputs("ddsm", folder)
    names = [r.input for r in inputs.records if r.input in inputs.sizes]
    return ddsm.settle(inputs.records, {n: ddsm.survey(inputs.tree.read(n)) for n in names})


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc32c.crc32c(b"123456789") == 0xE3069283
    assert crc32c.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_a_record_tells_its_class_and_where_its_pixels_lie(tmp_path: Path) -> None:
    film = "P_00042_LEFT_MLO".encode("utf-32-le")
    write_records(tmp_path, example(0), example(3, filename=film))
    first, second = read(tmp_path)
    assert (first.key, first.label, first.group) == ("ddsm_train0_00000", 0, "train0_00000")
    assert (second.label, second.group, second.patient_id) == (1, "P_00042", "P_00042")
    assert (second.laterality, second.view, second.split) == ("L", "MLO", None)
    assert second.labels == {
        "cancer": 1, "abnormal": 1, "birads": None, "density": None,
        "class": "malignant calcification", "kind": "calcification", "part": "train",
        "grouped_by": "patient",
    }  # fmt: skip
    assert Folder(tmp_path).read(second.input) == texture(3).tobytes()


@pytest.mark.parametrize(
    ("target", "expected"), [("abnormal", [0, 1, 1]), ("class", [0, 2, 4]), ("cancer", [0, 0, 1])]
)
def test_each_target_has_its_own_classes(target: str, expected: list[int], tmp_path: Path) -> None:
    write_records(tmp_path, example(0), example(2), example(4))
    assert [r.label for r in read_inputs("ddsm", tmp_path, target).records] == expected


def test_a_name_as_plain_text_is_read_too(tmp_path: Path) -> None:
    write_records(tmp_path, example(1, filename=b"P_00007"), example(0, filename=b"NORMAL"))
    assert [record.patient_id for record in read(tmp_path)] == ["P_00007", None]


def test_pixels_are_not_read_to_find_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_records(tmp_path, *(example(label) for label in (0, 1, 2, 3)))
    lengths = []
    plain = Folder.read_part
    monkeypatch.setattr(
        Folder, "read_part", lambda *given: lengths.append(given[1].length) or plain(*given)
    )
    assert len(read(tmp_path)) == 4
    assert sum(lengths) < 4 * 2000


def change(path: Path, place: int, value: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[place : place + len(value)] = value
    path.write_bytes(data)


def test_damage_of_the_frame_is_named_with_its_record(tmp_path: Path) -> None:
    path = write_records(tmp_path, example(0), example(1)) / "training10_0.tfrecords"
    size = path.stat().st_size // 2
    whole = path.read_bytes()
    change(path, size, b"\x01")
    assert "training10_0.tfrecords: record 1 (byte" in refusal(tmp_path)
    assert "checksum of its length" in refusal(tmp_path)
    path.write_bytes(whole[:-1])
    assert "record 1" in refusal(tmp_path)
    path.write_bytes(whole + b"\0" * 7)
    assert "record 2" in refusal(tmp_path)
    length = struct.pack("<Q", 1 << 60)
    path.write_bytes(whole + length + struct.pack("<I", crc32c.masked(length)) + bytes(9))
    assert "allowed" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"label": 5}, "label must be 0 to 4, got 5"),
        ({"label": (1 << 64) - 1}, "label must be 0 to 4"),
        ({"label": None}, "label and image must be there"),
        ({"image": None}, "label and image must be there"),
        ({"label_normal": 1}, "label_normal is 1, label is 0"),
    ],
)
def test_impossible_values_are_refused_with_their_record(
    changes: dict, expected: str, tmp_path: Path
) -> None:
    wrong = {name: value for name, value in {**example(0), **changes}.items() if value is not None}
    write_records(tmp_path, example(0), wrong)
    assert f"training10_0.tfrecords: record 1: {expected}" in refusal(tmp_path)


@pytest.mark.slow
def test_no_damaged_message_ends_in_anything_but_a_config_error(tmp_path: Path) -> None:
    small = message(example(2, np.zeros((3, 3), np.uint8), filename=b"P_00001_LEFT_CC"))
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(1500):
        content = bytearray(small[: rng.integers(1, len(small) + 1)])
        for place in rng.integers(len(content), size=2):
            content[place] = rng.integers(256)
        length = struct.pack("<Q", len(content))
        head = length + struct.pack("<I", crc32c.masked(length))
        (tmp_path / "training10_0.tfrecords").write_bytes(head + bytes(content) + bytes(4))
        try:
            read(tmp_path)
        except ConfigError:
            refused += 1
    assert refused > 1000


def test_a_message_of_endless_fields_is_refused(tmp_path: Path) -> None:
    many = {f"f{number}": number for number in range(100)}
    write_records(tmp_path, {**example(0), **many})
    assert "more than 64 fields" in refusal(tmp_path)


def test_an_image_of_another_size_fails_alone(tmp_path: Path) -> None:
    odd = np.full((10, 10), 7, np.uint8)
    write_records(
        tmp_path / "raw", *(example(n % 2, texture(n)) for n in range(4)), example(0, odd)
    )
    result = build_ddsm(tmp_path / "raw", tmp_path / "out")
    assert result.summary["counts"]["failed"] == {"pixel_length_mismatch": 1}
    assert result.summary["counts"]["built"] == 4


def test_test_and_validation_are_one_split_with_two_parts(raw: Path) -> None:
    records = [r for r in read(raw) if r.split is not None]
    assert {record.split for record in records} == {"test"}
    kinds = {(r.labels["part"], r.labels["kind"]) for r in records if r.labels["kind"]}
    assert kinds <= {("test", "mass"), ("cv", "calcification")}
    assert {record.labels["part"] for record in records} == {"test", "cv"}


@pytest.mark.parametrize("axes", [(), (1,)])
def test_arrays_with_and_without_a_channel_are_read(axes: tuple[int, ...], tmp_path: Path) -> None:
    data = np.stack([texture(n) for n in range(3)])
    write_pair(tmp_path, "test10", data.reshape(3, SIDE, SIDE, *axes), np.array([0, 2, 4]))
    records = read(tmp_path)
    assert [record.labels["class"] for record in records] == [
        "negative", "benign mass", "malignant mass",
    ]  # fmt: skip
    assert Folder(tmp_path).read(records[2].input) == data[2].tobytes()


@pytest.mark.parametrize(
    ("data", "labels", "expected"),
    [
        (np.zeros((2, SIDE, SIDE), np.uint16), np.zeros(2, int), "expected uint8 of shape"),
        (np.zeros((2, SIDE, 9), np.uint8), np.zeros(2, int), "expected uint8 of shape"),
        (np.zeros((3, SIDE, SIDE), np.uint8), np.zeros(2, int), "expected uint8 of shape"),
        (np.zeros((2, SIDE, SIDE), np.uint8), np.array([0, 9]), "item 1: label must be 0 to 4"),
        (np.zeros((2, SIDE, SIDE), np.uint8), np.zeros(2), "whole numbers"),
        (np.zeros((2, SIDE, SIDE), np.uint8, order="F"), np.zeros(2, int), "C order"),
    ],
)
def test_wrong_arrays_are_refused(
    data: np.ndarray, labels: np.ndarray, expected: str, tmp_path: Path
) -> None:
    assert expected in refusal(write_pair(tmp_path, "cv10", data, labels))


def test_objects_damage_and_half_a_pair_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "cv10", np.zeros((1, SIDE, SIDE), np.uint8), np.zeros(1, int))
    labels = tmp_path / "cv10_labels.npy"
    np.save(labels, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "expected numbers in C order, not object" in refusal(tmp_path)
    np.save(labels, np.zeros(1, int))
    (tmp_path / "cv10_data.npy").write_bytes((tmp_path / "cv10_data.npy").read_bytes()[:-5])
    assert "its header says" in refusal(tmp_path)
    (tmp_path / "cv10_data.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': __import_")
    assert "no readable .npy file" in refusal(tmp_path)
    for header in (b"{'descr': [('a', '|u1')], }", b"{'descr': '<q8', 'fortran_order': False, "):
        text = header.ljust(62) + b"\n"
        (tmp_path / "cv10_data.npy").write_bytes(b"\x93NUMPY\x01\x00?\x00" + text)
        assert "no readable .npy file" in refusal(tmp_path)
    (tmp_path / "cv10_data.npy").unlink()
    assert "cv10_data.npy is missing" in refusal(tmp_path)


def test_the_files_may_lie_flat_or_in_their_folders_or_be_stored_in_a_zip(
    raw: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat" / "ddsm"
    flat.mkdir(parents=True)
    files = [*raw.glob("*/*.tfrecords"), *raw.glob("*/*.npy"), *raw.glob("*.npy")]
    for file in files:
        shutil.copy(file, flat)
    with zipfile.ZipFile(tmp_path / "stored.zip", "w") as packed:
        for file in files:
            packed.write(file, file.relative_to(raw))
    own, below, zipped = (
        read_inputs("ddsm", place) for place in (raw, tmp_path / "flat", tmp_path / "stored.zip")
    )
    assert [r.key for r in own.records] == [r.key for r in below.records]
    assert own.records == zipped.records
    for one, other in zip(own.records[::9], below.records[::9], strict=True):
        assert own.tree.read(one.input) == below.tree.read(other.input)
        assert own.tree.read(one.input) == zipped.tree.read(one.input)
        assert own.sizes[one.input] == below.sizes[other.input] == zipped.sizes[one.input] == PIXELS


def test_a_compressed_zip_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_records(tmp_path, example(0))
    with zipfile.ZipFile(tmp_path / "small.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(tmp_path / "training10_0.tfrecords", "training10_0.tfrecords")
    with pytest.raises(ConfigError, match="Unzip it first"):
        read_inputs("ddsm", tmp_path / "small.zip")


def test_one_training_file_alone_is_enough(tmp_path: Path) -> None:
    write_records(tmp_path, example(0), file=3)
    assert [record.key for record in read(tmp_path)] == ["ddsm_train3_00000"]


# Groups


def test_pieces_of_one_patient_are_one_group(raw: Path, truth: dict[str, dict]) -> None:
    records, _ = settled(raw)
    groups: dict[str, set[str]] = {}
    for item in records:
        if item.split is None and item.labels["abnormal"]:
            groups.setdefault(truth[item.key]["place"][:7], set()).add(item.group)
            assert item.labels["grouped_by"] == "patient"
    assert len(groups) >= 3
    assert all(found == {patient} for patient, found in groups.items())


def cuts(number: int, count: int = 3) -> list[np.ndarray]:
    """Shifted, turned and mirrored pieces of one texture, at half pixels too."""
    rng = np.random.default_rng((7, number))
    large = cv2.resize(texture(1000 + number, 480), None, fx=2, fy=2)
    found = []
    for _ in range(count):
        x, y = rng.integers(0, 960 - 2 * SIDE, 2)
        piece = cv2.resize(large[y : y + 2 * SIDE, x : x + 2 * SIDE], (SIDE, SIDE))
        piece = np.rot90(piece[:, ::-1] if rng.integers(2) else piece, int(rng.integers(4)))
        found.append(np.ascontiguousarray(piece))
    return found


def test_without_names_pieces_in_sequence_are_one_group(tmp_path: Path) -> None:
    places = [(place, piece) for place in range(8) for piece in cuts(place)]
    write_records(tmp_path, *(example(2, piece) for _, piece in places))
    records, lines = settled(tmp_path)
    groups = [(record.group, place) for record, (place, _) in zip(records, places, strict=True)]
    assert len(set(groups)) == len({group for group, _ in groups}) == 8
    assert {record.labels["grouped_by"] for record in records} == {"same place"}
    assert lines == ["24 training patches in 8 groups: 24 same place."]


def test_patches_of_two_classes_are_never_joined(tmp_path: Path) -> None:
    first, second = cuts(1, 2)
    write_records(tmp_path, example(1, first), example(2, second))
    records, _ = settled(tmp_path)
    assert len({record.group for record in records}) == 2


def test_a_patch_that_shows_nothing_is_excluded(tmp_path: Path) -> None:
    write_records(tmp_path / "raw", *(example(0, texture(n)) for n in range(3)),
                  example(0, np.full((SIDE, SIDE), 9, np.uint8)))  # fmt: skip
    result = build_ddsm(tmp_path / "raw", tmp_path / "out")
    assert result.summary["counts"]["excluded"] == {"blank_image": 1}
    assert result.exit_code == 0


def published_labels() -> dict[tuple[int, int], int]:
    """The classes of all training records as the author's own shuffle leaves them."""
    classes = np.zeros(_ddsm_order.ROWS, int)
    classes[: _ddsm_order.FINDINGS] = 1 + np.arange(_ddsm_order.FINDINGS) % 4
    shuffled = shuffle(classes, random_state=_ddsm_order.ROW_SEED)
    shares = shuffled.reshape(_ddsm_order.FILES, _ddsm_order.SHARE)[:, :-1]
    return {(f, n): int(label) for f, row in enumerate(shares) for n, label in enumerate(row)}


def test_the_order_before_the_shuffle_is_found_and_every_class_must_fit() -> None:
    labels = published_labels()
    rows = _ddsm_order.cut_order(labels)
    assert rows is not None
    assert len(set(rows.values())) == len(labels) == 55_885
    assert all(1 + rows[place] % 4 == label for place, label in labels.items() if label)
    one = {place: label for place, label in labels.items() if place[0] == 2}
    assert _ddsm_order.cut_order(one) == {place: rows[place] for place in one}
    wrong = {**labels, (4, 7): int(not labels[4, 7])}
    assert _ddsm_order.cut_order(wrong) is None
    assert _ddsm_order.cut_order({p: label for p, label in labels.items() if p != (1, 9)}) is None


def test_tiles_are_put_back_as_the_author_shuffled_them() -> None:
    tiles = shuffle(np.arange(_ddsm_order.TILES), random_state=_ddsm_order.TILE_SEED)
    found = _ddsm_order.tile_places()
    np.testing.assert_array_equal(found, tiles[: _ddsm_order.ROWS - _ddsm_order.FINDINGS])


def records_of_the_whole_set(order: np.random.Generator | None) -> tuple[list[Record], dict]:
    """All training records without pixels; films of 24 tiles have a grey level of their own."""
    labels = published_labels()
    rows, among = _ddsm_order.cut_order(labels), _ddsm_order.tile_places()
    levels = np.random.default_rng(5).normal(90, 25, _ddsm_order.TILES // 24 + 1)
    records, findings = [], {}
    card = cards.load("ddsm")
    for (file, number), label in labels.items():
        key = f"ddsm_train{file}_{number:05d}"
        item = Record(
            key=key, source="ddsm", group=key.removeprefix("ddsm_"), input=key,
            patient_id=f"P_{label}" if label else None, label=int(label > 0),
            labels=dict.fromkeys(card.labels) | {"class": ddsm.CLASSES[label]},
        )  # fmt: skip
        level = 0.0 if label else levels[among[rows[file, number] - _ddsm_order.FINDINGS] // 24]
        level = float(order.normal()) if order else float(level)
        records.append(item)
        findings[key] = {"spots": "", "mean": level, "blank": False}
    return records, findings


@pytest.mark.slow
def test_tiles_of_neighbouring_films_make_blocks_only_if_grey_levels_prove_it() -> None:
    records, findings = records_of_the_whole_set(None)
    found, lines = ddsm.settle(records, findings)
    blocks = Counter(r.group for r in found if r.labels["grouped_by"] == "film block")
    assert len(blocks) == 68
    assert sum(blocks.values()) == sum(record.patient_id is None for record in records)
    assert "film block" in lines[0]
    records, findings = records_of_the_whole_set(np.random.default_rng(6))
    assert not any(r.group.startswith("films") for r in ddsm.settle(records, findings)[0])


def build_ddsm(raw: Path, out: Path, workers: int = 2) -> Result:
    settings = Settings(size=(96, 96), crop="none", orient="none", folds=2)
    return build(BuildConfig("ddsm", settings, raw, out, workers=workers))


@pytest.mark.slow
def test_a_build_keeps_groups_in_one_fold_and_pixels_as_they_are(
    raw: Path, tmp_path: Path, truth: dict[str, dict]
) -> None:
    result = build_ddsm(raw, tmp_path / "out")
    assert result.exit_code == 0
    folds: dict[str, set[str]] = {}
    samples = built(tmp_path / "out")
    for sample in samples:
        about = sample.about
        folds.setdefault(about["group"], set()).add(about["split"])
        assert about["labels"]["class"] == ddsm.CLASSES[truth[about["key"]]["label"]]
        assert sample.grid.stored_size == (SIDE, SIDE)
    assert all(len(found) == 1 for found in folds.values())
    assert len(samples) == len(truth)


def test_a_survey_of_another_size_is_a_record_error() -> None:
    with pytest.raises(RecordError, match="pixel_length_mismatch"):
        ddsm.survey(bytes(100))


@pytest.mark.slow
def test_the_phantom_is_the_same_for_any_number_of_workers(raw: Path, tmp_path: Path) -> None:
    phantom.write(
        tmp_path / "again", patients=8, seed=3, size_scale=0.05, prevalence=0.5, workers=2
    )
    assert tree_of(tmp_path / "again") == tree_of(raw)


def test_the_phantom_has_files_that_numpy_reads(raw: Path, truth: dict[str, dict]) -> None:
    labels = np.load(raw / "test10_labels.npy")
    assert np.load(raw / "test10_data" / "test10_data.npy").shape == (len(labels), SIDE, SIDE, 1)
    assert [truth[f"ddsm_test_{n:05d}"]["label"] for n in range(len(labels))] == labels.tolist()


# Real films


def films(real_data: Path) -> list[tuple[np.ndarray, int, int, int]]:
    """(film, x, y, radius) of the findings of mini-MIAS, and of a bright place where none is."""
    folder = real_data / "minimias"
    (table,) = folder.rglob("Info.txt")
    found, seen = [], set()
    for line in table.read_text(errors="replace").splitlines():
        cells = line.split()
        paths = [*folder.rglob(f"{cells[0]}.pgm")] if cells[:1] and cells[0][:3] == "mdb" else []
        if not paths or (len(cells) < 7 and cells[0] in seen):
            continue
        seen.add(cells[0])
        film = cv2.imread(str(paths[0]), cv2.IMREAD_GRAYSCALE)
        x, y, radius = map(int, cells[4:7]) if len(cells) == 7 else (*_bright(film), 40)
        found.append((film, x, 1024 - y if len(cells) == 7 else y, radius))
    return found


def _bright(film: np.ndarray) -> tuple[int, int]:
    mean = cv2.blur(film, (SIDE, SIDE))[150:-150, 150:-150]
    y, x = np.unravel_index(mean.argmax(), mean.shape)
    return int(x) + 150, int(y) + 150


@pytest.mark.slow
def test_pieces_of_real_films_are_joined_with_those_of_their_place_only(
    real_data: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(11)
    pieces = []
    for place, (film, x, y, radius) in enumerate(films(real_data)):
        large = cv2.resize(film, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        most = max(1, int(2 * SIDE - 2.4 * 2 * radius - 20) // 2)
        for _ in range(3):
            shift = rng.integers(-most, most + 1, 2)
            left, top = np.clip(np.array([2 * x, 2 * y]) + shift - SIDE, 0, 2048 - 2 * SIDE)
            piece = cv2.resize(large[top : top + 2 * SIDE, left : left + 2 * SIDE], (SIDE, SIDE))
            piece = np.rot90(piece[:, ::-1] if rng.integers(2) else piece, int(rng.integers(4)))
            pieces.append((place, np.ascontiguousarray(piece)))
    write_records(tmp_path, *(example(2, piece) for _, piece in pieces))
    records, _ = settled(tmp_path)
    groups: dict[int, set[str]] = {}
    places: dict[str, set[int]] = {}
    for item, (place, _) in zip(records, pieces, strict=True):
        groups.setdefault(place, set()).add(item.group)
        places.setdefault(item.group, set()).add(place)
    whole = sum(len(found) == 1 for found in groups.values())
    merged = sum(len(found) > 1 for found in places.values())
    assert len(groups) == 61
    assert whole >= 0.97 * len(groups)
    assert merged <= 3  # neighbouring findings of one film
