"""Phantoms: tables, headers, pixels and truth agree with each other and with the real files."""

import csv
import hashlib
import json
import os
from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from mammoprep.core.errors import ConfigError
from mammoprep.core.plugins import load, names
from mammoprep.phantoms import _exposure, _truth, rsna
from mammoprep.phantoms._anatomy import both_breasts
from mammoprep.phantoms._cohort import screen
from mammoprep.phantoms._dicom import encode_pixels, to_bytes, uid
from mammoprep.phantoms._exposure import Subject, expose
from mammoprep.phantoms._layouts import Wanted
from mammoprep.phantoms._lesions import findings
from mammoprep.phantoms._machines import MACHINES, to_stored

SCALE = 0.1
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
BY_NAME = {machine.name: machine for machine in MACHINES}
each_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


def pixels_of(dataset):
    if dataset.file_meta.TransferSyntaxUID == JPEG_LOSSLESS:
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        return imagecodecs.jpeg8_decode(frame)
    return dataset.pixel_array


def shown(stored, machine):
    """Apply the machine's own window, written out here independently of the package."""
    x, c, w = stored.astype(np.float64), machine.centres[0], machine.widths[0]
    if machine.function == "SIGMOID":
        y = 1 / (1 + np.exp(-4 * (x - c) / w))
    elif machine.function == "LINEAR_EXACT":
        y = (x - c) / w + 0.5
    else:
        y = (x - (c - 0.5)) / (w - 1) + 0.5
    y = np.clip(y, 0, 1)
    return 1 - y if machine.photometric == "MONOCHROME1" else y


def shots(patients, seed, prevalence):
    return Wanted(patients, seed, SCALE, prevalence, 1).shots()


def subject(laterality="L", view="CC", *, finding=None, density="B", seed=3):
    rng = np.random.default_rng(seed)
    breast = both_breasts(rng, density)[laterality]
    found = findings(rng, **finding) if finding else ()
    return Subject(breast, found, laterality, view)


def picture(machine, who, seed=11, scale=SCALE):
    return expose(np.random.default_rng(seed), who, machine, scale)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "rsna"
    rsna.write(out, patients=8, seed=7, size_scale=SCALE, prevalence=0.4)
    return out


@pytest.fixture(scope="module")
def samples(dataset):
    """Return (row, header, pixels, truth, tissue mask, lesion mask) of every image."""
    found = []
    for part in ("train", "test"):
        for row in rows(dataset / f"{part}.csv"):
            stem = f"{row['patient_id']}/{row['image_id']}"
            header = pydicom.dcmread(dataset / f"{part}_images" / f"{stem}.dcm")
            truth = json.loads((dataset / "truth" / f"{stem}.json").read_text())
            masks = [
                cv2.imread(str(dataset / "truth" / f"{stem}.{kind}.png"), cv2.IMREAD_UNCHANGED)
                for kind in ("breast", "lesions")
            ]
            found.append((row, header, pixels_of(header), truth, *masks))
    return found


@pytest.fixture
def rsna_real():
    root = os.environ.get("MAMMO_REAL_DATA")
    if root is None:
        pytest.skip("MAMMO_REAL_DATA is not set")
    return Path(root) / "rsna"


def test_the_layout_is_found_by_its_file_name():
    assert "rsna" in names("mammoprep.phantoms")
    assert load("mammoprep.phantoms", "rsna", needs=("write",)) is rsna


def test_the_same_seed_gives_the_same_bytes_with_one_and_two_workers(tmp_path):
    for workers in (1, 2):
        rsna.write(tmp_path / str(workers), patients=4, seed=5, size_scale=0.03, workers=workers)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def test_another_seed_gives_other_patients_and_other_pixels(tmp_path):
    for seed in (0, 1):
        rsna.write(tmp_path / str(seed), patients=1, seed=seed, size_scale=0.02)
    first, second = digests(tmp_path / "0"), digests(tmp_path / "1")
    assert not set(first.values()) & set(second.values())


def test_the_folders_hold_exactly_what_the_tables_list(dataset):
    for part in ("train", "test"):
        listed = {
            f"{row['patient_id']}/{row['image_id']}.dcm" for row in rows(dataset / f"{part}.csv")
        }
        folder = dataset / f"{part}_images"
        on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert on_disk == listed
    assert {path.name for path in dataset.iterdir()} == {
        "train.csv",
        "train_images",
        "test.csv",
        "test_images",
        "truth",
    }


def test_the_header_rows_are_the_real_ones(dataset, rsna_real):
    for table in ("train.csv", "test.csv"):
        assert (dataset / table).read_bytes().splitlines()[0] == (
            rsna_real / table
        ).read_bytes().splitlines()[0]


def test_every_combination_of_labels_occurs_in_the_real_table(rsna_real):
    columns = ("site_id", "cancer", "biopsy", "invasive", "BIRADS", "difficult_negative_case")
    real = {tuple(row[name] for name in columns) for row in rows(rsna_real / "train.csv")}
    ours = {tuple(str(rsna._row(shot)[name]) for name in columns) for shot in shots(400, 1, 0.3)}
    assert ours <= real
    assert len(ours) >= len(real) - 2


def test_labels_follow_the_rules_of_the_competition():
    for patient in screen(300, 2, 0.3):
        assert sum(side.cancer for side in patient.sides.values()) <= 1
        for side in patient.sides.values():
            assert side.biopsy >= side.cancer >= side.invasive
            assert not (side.cancer and side.difficult)
            malignant = {f.pathology for f in side.findings} == {"malignant"}
            assert malignant == bool(side.cancer)
    for shot in shots(300, 2, 0.3):
        row = rsna._row(shot)
        assert (row["density"] != "") == (row["site_id"] == 1)


@pytest.mark.parametrize("prevalence", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("patients", [2, 3, 4, 5, 30])
def test_train_has_a_patient_with_cancer_and_one_without(patients, prevalence):
    train = [p for p in screen(patients, 3, prevalence) if not p.test]
    sick = sum(any(side.cancer for side in p.sides.values()) for p in train)
    assert 1 <= sick <= len(train) - 1


def test_a_tenth_of_the_patients_is_in_test():
    shares = {n: sum(p.test for p in screen(n, 0, 0.2)) for n in (1, 3, 4, 10, 40)}
    assert shares == {1: 0, 3: 0, 4: 1, 10: 1, 40: 4}


def test_the_prevalence_is_the_share_of_patients_with_cancer_on_every_machine():
    train = [p for p in screen(400, 4, 0.3) if not p.test]
    sick = [p for p in train if any(side.cancer for side in p.sides.values())]
    assert len(sick) == round(0.3 * len(train))
    everywhere = Counter(p.machine.name for p in sick)
    assert len(everywhere) == 4
    assert min(everywhere.values()) > 15


def test_identifiers_are_unique_and_most_patients_have_four_views():
    patients = screen(200, 6, 0.2)
    images = [image for patient in patients for image in patient.images]
    assert len({patient.id for patient in patients}) == 200
    assert len({name for name, _, _ in images}) == len(images)
    counts = Counter(len(patient.images) for patient in patients)
    assert set(counts) == {4, 5}
    assert counts[4] > 140
    for patient in patients:
        assert {view[1:] for view in patient.images} == {
            (s, v) for s in "LR" for v in ("CC", "MLO")
        }


def test_every_block_of_four_patients_shows_every_machine(samples):
    assert {truth["machine"] for _, _, _, truth, _, _ in samples} == set(BY_NAME)


def test_the_header_says_what_the_table_and_the_machine_say(samples):
    for row, header, pixels, truth, _, _ in samples:
        machine = BY_NAME[truth["machine"]]
        assert header.PatientID == row["patient_id"]
        assert str(header.InstanceNumber) == row["image_id"]
        assert header.ImageLaterality == row["laterality"]
        assert row["machine_id"] == str(machine.machine_id)
        assert pixels.shape == (header.Rows, header.Columns)
        assert (header.Rows, header.Columns) == tuple(round(SCALE * n) for n in machine.size)
        assert int(pixels.max()) < 1 << header.BitsStored


@pytest.mark.parametrize(
    ("name", "real"),
    [
        ("sigmoid-mono1-j2k", "10006/462822612.dcm"),
        ("linear-mono2-j2k", "10011/220375232.dcm"),
    ],
)
def test_the_elements_are_those_of_the_real_file(samples, rsna_real, name, real):
    ours = next(header for _, header, _, truth, _, _ in samples if truth["machine"] == name)
    theirs = pydicom.dcmread(rsna_real / "train_images" / real)
    assert [(e.tag, e.VR, e.VM) for e in ours] == [(e.tag, e.VR, e.VM) for e in theirs]
    assert [e.tag for e in ours.file_meta] == [e.tag for e in theirs.file_meta]
    for keyword in ("WindowCenter", "WindowWidth", "BitsStored", "PhotometricInterpretation"):
        assert ours[keyword].value == theirs[keyword].value
    assert ours.file_meta.TransferSyntaxUID == theirs.file_meta.TransferSyntaxUID


def test_no_header_names_what_the_real_ones_leave_out(samples):
    for _, header, _, _, _, _ in samples:
        for keyword in ("PatientName", "Modality", "SOPClassUID", "ViewPosition", "Manufacturer"):
            assert keyword not in header


def test_the_padding_is_everywhere_outside_the_tissue_and_nowhere_inside(samples):
    padded = 0
    for _, header, pixels, truth, tissue, _ in samples:
        padding = header.get("PixelPaddingValue")
        if padding is None:
            continue
        padded += 1
        assert not np.any(pixels[tissue > 0] == padding), truth["machine"]
        _, parts = cv2.connectedComponents((pixels != padding).astype(np.uint8))
        inside = np.unique(parts[tissue > 0])
        assert inside.size == 1
        np.testing.assert_array_equal(parts == inside[0], tissue > 0)
    assert padded >= len(samples) / 2


def test_the_background_is_dark_but_for_the_label(samples):
    for _, _, pixels, truth, tissue, _ in samples:
        machine = BY_NAME[truth["machine"]]
        outside = shown(pixels, machine)[tissue == 0]
        bright = outside > 0.5
        assert bright.any() == machine.labelled
        assert bright.mean() < 0.01
        assert outside[~bright].max() < 0.09


def test_the_breast_box_is_the_box_of_the_tissue(samples):
    for _, _, _, truth, tissue, _ in samples:
        down, across = np.nonzero(tissue)
        box = [across.min(), down.min(), across.max() + 1, down.max() + 1]
        assert truth["breast_box"] == box
        assert set(np.unique(tissue)) == {0, 255}
        assert 0.05 < (tissue > 0).mean() < 0.6


def test_the_chest_wall_is_where_the_truth_says(samples):
    for _, _, _, truth, tissue, _ in samples:
        edge, other = (0, -1) if truth["chest_wall"] == "left" else (-1, 0)
        assert (tissue[:, edge] > 0).mean() > 0.3
        assert not tissue[:, other].any()


def test_an_oblique_view_reaches_the_upper_edge_and_the_other_does_not(samples):
    for row, _, _, truth, _, _ in samples:
        assert (truth["breast_box"][1] == 0) == (row["view"] == "MLO")


def test_landmarks_lie_inside_the_tissue(samples):
    for _, _, _, truth, tissue, _ in samples:
        assert len(truth["landmarks"]) >= 3
        for x, y in truth["landmarks"]:
            assert tissue[int(y), int(x)] == 255


def test_the_lesion_mask_is_the_union_of_the_polygons_inside_the_tissue(samples):
    seen = set()
    for _, _, _, truth, tissue, lesions in samples:
        union = np.zeros_like(lesions)
        for number, lesion in enumerate(truth["lesions"], start=1):
            assert lesion["id"] == number
            seen.add((lesion["kind"], lesion["pathology"]))
            points = np.array(lesion["polygon"])
            centres = np.rint((points - 0.5) * 16).astype(np.int32)
            cv2.fillPoly(union, [centres], 255, cv2.LINE_8, 4)
            x0, y0, x1, y1 = truth["breast_box"]
            assert (points >= (x0 - 1, y0 - 1)).all()
            assert (points <= (x1 + 1, y1 + 1)).all()
        assert (union != lesions).sum() <= 2
        assert not np.any((lesions > 0) & (tissue == 0))
    assert ("mass", "malignant") in seen


def test_cancer_in_the_table_is_a_malignant_lesion_in_every_view_of_that_breast(samples):
    for row, _, _, truth, _, lesions in samples:
        malignant = any(lesion["pathology"] == "malignant" for lesion in truth["lesions"])
        if "cancer" in row:
            assert malignant == (row["cancer"] == "1")
        assert bool(truth["lesions"]) == bool(lesions.any())


@pytest.mark.parametrize("invasive", [True, False])
@each_machine
def test_a_lesion_is_brighter_than_the_same_breast_without_it(machine, invasive):
    ill = subject(finding={"cancer": True, "invasive": invasive})
    well = subject()
    with_lesion, without = picture(machine, ill), picture(machine, well)
    mask = _exposure._tissue.fill(
        with_lesion.tissue.shape, *(polygon for _, polygon in with_lesion.lesions)
    )
    change = shown(with_lesion.stored, machine) - shown(without.stored, machine)
    assert change[mask > 0].mean() > (0.08 if invasive else 0.01)
    far = cv2.dilate(mask, np.ones((81, 81), np.uint8)) == 0
    assert np.abs(change[far]).max() < 1e-6


@each_machine
def test_the_window_shows_what_was_meant(machine):
    meant = np.linspace(0.06, 0.7, 200, dtype=np.float32)
    padding = machine.paddings[0] if machine.paddings else None
    stored = to_stored(machine, meant, padding)
    np.testing.assert_allclose(shown(stored, machine), meant, atol=0.001)


@each_machine
def test_a_stored_value_is_never_the_padding_value(machine):
    for padding in machine.paddings:
        stored = to_stored(machine, np.linspace(0.001, 0.999, 999, dtype=np.float32), padding)
        assert padding not in stored


def test_the_machines_have_grey_scales_of_their_own():
    medians = {}
    for machine in MACHINES:
        pictures = [picture(machine, subject(seed=seed), seed) for seed in range(6)]
        values = [shown(p.stored, machine)[p.tissue > 0] for p in pictures]
        medians[machine.name] = 255 * float(np.median(np.concatenate(values)))
    assert 38 < medians["sigmoid-mono1-j2k"] < 58
    assert 60 < medians["linear-mono2-j2k"] < 90
    assert medians["exact-mono1-raw"] > medians["linear-mono2-j2k"]
    assert medians["linear-mono2-jpegll"] < medians["linear-mono2-j2k"]


@each_machine
def test_the_display_may_be_mirrored_and_the_truth_follows(machine, monkeypatch):
    who = subject(finding={"cancer": True, "invasive": False})
    plain = picture(machine, who)
    monkeypatch.setattr(_exposure, "_MIRRORED", 1.1)
    mirrored = picture(machine, who)
    assert (plain.chest_wall, mirrored.chest_wall) == ("left", "right")
    np.testing.assert_array_equal(mirrored.tissue, plain.tissue[:, ::-1])
    inside = mirrored.tissue > 0
    np.testing.assert_array_equal(mirrored.stored[inside], plain.stored[:, ::-1][inside])
    columns = plain.stored.shape[1]
    np.testing.assert_allclose(mirrored.landmarks[:, 0], columns - plain.landmarks[:, 0])
    for (_, there), (_, here) in zip(mirrored.lesions, plain.lesions, strict=True):
        np.testing.assert_allclose(there, (columns, 0) + here * (-1, 1))


@each_machine
def test_a_torso_goes_on_below_its_fold_and_the_truth_says_where_that_is(machine):
    who = replace(subject(view="MLO", finding={"cancer": True, "invasive": True}), torso=True)
    shot = picture(machine, who)
    reach = (shot.tissue > 0).sum(axis=1)
    row = round(shot.fold[1])
    nipple = int(np.argmax(reach))
    assert nipple < row < 0.9 * reach.size
    near = reach[row - 3 : row + 3].max()
    assert near < reach[nipple] / 2
    assert near < 1.1 * reach[row + 2 :].max()
    assert reach[-1] > 0
    assert max(points[:, 1].max() for _, points in shot.lesions) < row
    assert _truth.facts(shot, machine.name)["fold"][1] == pytest.approx(shot.fold[1], abs=0.01)


def test_only_oblique_views_of_a_torso_have_a_fold():
    machine = MACHINES[1]
    assert picture(machine, replace(subject(), torso=True)).fold is None
    plain = picture(machine, subject(view="MLO"))
    assert plain.fold is None
    assert "fold" not in _truth.facts(plain, machine.name)


def test_a_mirrored_torso_has_its_fold_at_the_other_side(monkeypatch):
    who = replace(subject(view="MLO"), torso=True)
    plain = picture(MACHINES[1], who)
    monkeypatch.setattr(_exposure, "_MIRRORED", 1.1)
    mirrored = picture(MACHINES[1], who)
    assert mirrored.fold == (plain.stored.shape[1] - plain.fold[0], plain.fold[1])


@pytest.mark.slow
def test_about_one_image_in_twenty_five_is_mirrored():
    tall = MACHINES[1]
    count = sum(
        picture(tall, subject("R", seed=1), seed, 0.01).chest_wall == "left" for seed in range(150)
    )
    assert 1 <= count <= 15


def test_the_two_breasts_of_a_patient_are_alike_but_not_equal():
    sizes = []
    for seed in range(20):
        both = both_breasts(np.random.default_rng(seed), "C")
        assert both["L"] != both["R"]
        assert abs(both["L"].depth / both["R"].depth - 1) < 0.06
        sizes.append(both["L"].depth)
    assert np.std(sizes) / np.mean(sizes) > 0.1


def test_denser_breasts_are_brighter():
    means = []
    for density in "ABCD":
        pictures = [picture(MACHINES[1], subject(density=density, seed=s), s) for s in range(5)]
        means.append(np.mean([p.stored[p.tissue > 0].mean() for p in pictures]))
    assert means == sorted(means)
    assert means[3] > 1.25 * means[0]


@each_machine
def test_the_encoding_is_lossless_and_its_header_is_the_machines(machine):
    exposure = picture(machine, subject(), scale=0.05)
    coded = to_bytes(exposure, machine, "L", (12, 345), 0)
    header = pydicom.dcmread(BytesIO(coded))
    assert header.file_meta.TransferSyntaxUID == machine.transfer_syntax
    np.testing.assert_array_equal(pixels_of(header), exposure.stored)


def test_jpeg_2000_is_in_a_jp2_box_and_has_sixteen_bits():
    machine = BY_NAME["linear-mono2-j2k"]
    exposure = picture(machine, subject(), scale=0.03)
    stream = next(generate_frames(encode_pixels(exposure.stored, machine), number_of_frames=1))
    assert stream[4:8] == b"jP  "
    assert stream[stream.index(b"ihdr") + 14] == 15
    assert stream[stream.index(b"\xff\x51") + 40] == 15
    assert stream[stream.index(b"\xff\x52") + 13] == 1  # reversible 5-3 wavelet


def test_lossless_jpeg_has_the_precision_of_bits_stored_and_predictor_one():
    machine = BY_NAME["linear-mono2-jpegll"]
    exposure = picture(machine, subject(), scale=0.03)
    stream = next(generate_frames(encode_pixels(exposure.stored, machine), number_of_frames=1))
    assert stream[stream.index(b"\xff\xc3") + 4] == machine.bits_stored == 14
    scan = stream.index(b"\xff\xda")
    assert stream[scan + 7] == 1


def test_uids_are_legal_and_depend_on_the_seed():
    assert pydicom.uid.UID(uid(1, 2)).is_valid
    assert uid(1, 2) == uid(1, 2) != uid(2, 2)


def test_no_side_is_shorter_than_sixty_four_pixels(tmp_path):
    rsna.write(tmp_path / "out", patients=4, seed=0, size_scale=1e-9)
    for path in (tmp_path / "out").rglob("*.dcm"):
        header = pydicom.dcmread(path)
        assert (header.Rows, header.Columns) == (64, 64)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patients": 0}, "patients must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"size_scale": 0.0}, "size_scale must be above 0 and at most 1, got 0.0"),
        ({"size_scale": 1.5}, "got 1.5"),
        ({"size_scale": float("nan")}, "got nan"),
        ({"prevalence": 1.01}, "prevalence must be at least 0 and at most 1, got 1.01"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_written(tmp_path, wrong, message):
    with pytest.raises(ConfigError, match=message):
        rsna.write(tmp_path / "out", **({"patients": 1, "seed": 0} | wrong))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="not empty; name a new or an empty folder"):
        rsna.write(tmp_path, patients=1, seed=0)
    with pytest.raises(ConfigError, match="is a file"):
        rsna.write(tmp_path / "mine.txt", patients=1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_accepted(tmp_path):
    rsna.write(tmp_path, patients=1, seed=0, size_scale=0.02)
    assert not (tmp_path / "test.csv").exists()
    assert len(rows(tmp_path / "train.csv")) >= 4


@pytest.mark.slow
@each_machine
def test_a_full_size_picture_has_the_machines_own_size_and_noise(machine):
    exposure = picture(machine, subject(view="MLO"), scale=1.0)
    assert exposure.stored.shape == machine.size
    inside = (exposure.tissue[:, 1:] > 0) & (exposure.tissue[:, :-1] > 0)
    grey = shown(exposure.stored, machine)
    steps = np.abs(np.diff(grey, axis=1))[inside]
    assert 0.003 < np.median(steps) < 0.025
