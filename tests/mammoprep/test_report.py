"""The dataset report: what it shows, that it never changes, and that no text can escape into it."""

import ast
import base64
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoprep.core.codes import CODES, EXCLUDED, explain
from mammoprep.core.text import visible
from mammoprep.report.choose import PER_WARNING, choose_warned
from mammoprep.report.dataset import choose_contact, choose_suspicious, render
from mammoprep.report.pictures import HEIGHT, WIDTH, box_plot, shrink
from mammoprep.report.sheet import filters, outlines

SECTIONS = [
    "card",
    "settings",
    "counts",
    "failures",
    "warnings",
    "brightness",
    "contact",
    "suspicious",
    "versions",
]
MACHINES = {21: 0.18, 29: 0.31, 48: 0.24, 49: 0.42, 93: 0.12}


def breast(row):
    """A synthetic picture: half an ellipse with texture at the left edge; differs with the key."""
    seed = int(hashlib.sha256(str(row.get("key")).encode("utf-8", "replace")).hexdigest()[:8], 16)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:364, 0:182]
    height, depth = rng.uniform(110, 170), rng.uniform(90, 165)
    inside = ((y - 182) / height) ** 2 + (x / depth) ** 2
    texture = cv2.GaussianBlur(rng.random((364, 182)), (0, 0), 9)
    texture = (texture - texture.min()) / (texture.max() - texture.min())
    level = MACHINES.get(row.get("labels.machine_id"), 0.3)
    values = np.clip((level + 0.5 * (texture - 0.5)) * np.sqrt(np.clip(1.4 - inside, 0, 1)), 0, 1)
    return (255 * values * (inside < 1)).astype(np.uint8)


def sample(number, *, split="fold0", label="negative", machine=21, **more):
    middle = MACHINES.get(machine, 0.3) + 0.02 * np.sin(number)
    row = {
        "key": f"demo_{number:05d}",
        "split": split,
        "group": f"{split}-{number // 4}",
        "label": int(label != "negative"),
        "label_name": label,
        "laterality": "LR"[number % 2],
        "view": ("CC", "MLO")[number // 2 % 2],
        "warnings": [],
        "intensity": [float(middle * part) for part in (0.2, 0.7, 1.0, 1.4, 1.9)],
        "geometry.crop": [10, 685, 2350, 3990],
        "geometry.stored_size": [5355, 4915],
        "acquisition.photometric": "MONOCHROME1",
        "acquisition.voi": "window:0",
        "acquisition.transfer_syntax": "1.2.840.10008.1.2.4.90",
        "acquisition.manufacturer": None,
        "labels.machine_id": float(machine),
        "labels.density": "B",
        "quality.crop_confidence": 0.97,
    }
    return {**row, **more}


def many(count):
    """Rows like a screening set's: five folds, one cancer in 16, machines of unequal size."""
    rows = []
    for number in range(count):
        machine = list(MACHINES)[(0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4)[number * 7 % 11]]
        label = "cancer" if number % 16 == 3 else "negative"
        split = f"fold{number // 4 % 5}"
        rows.append(sample(number, split=split, label=label, machine=machine))
    return rows


def screening():
    """A small dataset with something in every section."""
    rows = many(400)
    rows[7].update({"quality.crop_confidence": 0.31, "warnings": ["crop_fallback", "voi_missing"]})
    rows[11].update({"quality.crop_confidence": 0.52, "warnings": ["crop_fallback"]})
    rows[13].update({"warnings": ["orientation_conflict"]})
    rows[14].update({"warnings": ["label_removed", "orientation_conflict"]})
    rows[20].update({"intensity": [0.3, 0.8, 0.9, 0.95, 1.0]})
    for row in rows[100:140]:
        row["warnings"] = ["label_removed"]
    failures = [
        {"input": f"train_images/{n}/a.dcm", "code": "file_missing", "detail": "no such file"}
        for n in range(31)
    ]
    failures += [
        {
            "input": "train_images/7/x.dcm",
            "code": "decode_crash",
            "detail": "2 attempts, signal 11",
        },
        {"input": "train_images/9/y.dcm", "code": "view_excluded", "detail": "AT"},
    ]
    folds = Counter(row["split"] for row in rows)
    summary = {
        "format_version": 1,
        "source": "demo",
        "title": "Synthetic screening set",
        "licence": "CC0-1.0",
        "settings": {
            "size": [728, 364],
            "fit": "pad",
            "bits": 8,
            "format": "png",
            "window": "auto",
            "decode": "exact",
            "target": "cancer",
            "views": None,
            "crop": "breast",
            "orient": "left",
            "folds": 5,
            "seed": 0,
        },
        "versions": {"mammoprep": "0.1.0", "pydicom": "3.0.2", "imagecodecs": "2026.1.14"},
        "label_names": ["negative", "cancer"],
        "counts": {
            "inputs": 433,
            "built": 400,
            "samples": 400,
            "failed": {"file_missing": 31, "decode_crash": 1},
            "excluded": {"view_excluded": 1},
        },
        "shards": [
            {
                "name": f"{fold}-00000.tar",
                "split": fold,
                "samples": folds[fold],
                "bytes": 118743040,
                "sha256": hashlib.sha256(fold.encode()).hexdigest(),
            }
            for fold in sorted(folds)
        ],
        "plan_sha256": hashlib.sha256(b"plan").hexdigest(),
        "card": {
            "title": "Synthetic screening set",
            "licence": "CC0-1.0",
            "licence_url": "https://example.org/licence",
            "home_page": "https://example.org/demo?a=1&b=2",
            "citation": "A. Author, B. Author: A set of synthetic mammograms, 2026.",
            "notes": ["Made from random numbers.", "Density exists for one site only."],
            "leaks": "The machine tells the site, and the site tells how often cancer occurs.",
        },
    }
    return summary, rows, failures


class Page(HTMLParser):
    """Every start tag with its attributes, and the text, as a browser's parser would see them."""

    def __init__(self, document):
        super().__init__(convert_charrefs=True)
        self.tags = []
        self.words = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, attributes))

    def handle_data(self, data):
        if data.strip() and self.tags[-1][0] != "style":
            self.words.append(data.strip())

    def handle_comment(self, data):
        self.tags.append(("!comment", [("data", data)]))

    def handle_pi(self, data):
        self.tags.append(("?pi", [("data", data)]))

    def handle_decl(self, decl):
        assert decl == "DOCTYPE html"

    @property
    def text(self):
        return " ".join(self.words)

    def values(self, tag, name):
        return [dict(found).get(name) for each, found in self.tags if each == tag]

    @property
    def skeleton(self):
        """How often which element with which attributes occurs; sorting depends on the texts."""
        return Counter((tag, *(name for name, _ in attributes)) for tag, attributes in self.tags)


def page_of(*arguments):
    return Page(render(*arguments, breast))


def test_the_sections_come_in_their_order():
    page = page_of(*screening())
    assert page.values("section", "id") == SECTIONS
    assert [tag for tag, _ in page.tags].count("h1") == 1


def test_the_same_input_gives_the_same_bytes_in_any_order_of_rows():
    summary, rows, failures = screening()
    first = render(summary, rows, failures, breast)
    random.Random(1).shuffle(rows)
    random.Random(2).shuffle(failures)
    assert render(summary, rows, failures, breast) == first


@pytest.mark.slow
def test_hash_seed_time_zone_and_folder_change_no_byte(tmp_path):
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_report as t;"
        "sys.stdout.write(t.render(*t.screening(), t.breast))"
    )
    outputs = set()
    for seed, zone in [("1", "UTC"), ("2", "Asia/Tokyo")]:
        (tmp_path / seed).mkdir()
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "TZ": zone,
            "PYTHONIOENCODING": "utf-8",
        }
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path / seed,
            env=environment,
            capture_output=True,
            check=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_inputs_equal_built_plus_failed_plus_excluded():
    page = page_of(*screening())
    sentence = (
        "Of 433 inputs, 400 were built, 32 failed and 1 was left out on purpose; the dataset "
    )
    assert sentence + "holds 400 samples of 100 groups in 5 shards." in page.text
    assert "inputs were lost" not in page.text


def test_lost_inputs_a_wrong_manifest_and_leaking_groups_are_shouted():
    summary, rows, failures = screening()
    summary["counts"].update({"inputs": 434, "samples": 399})
    rows[5]["group"] = rows[0]["group"]
    page = page_of(summary, rows, failures)
    assert "inputs were lost" in page.text
    assert "The manifest counts 399 samples, the table has 400." in page.text
    assert "Groups that appear in more than one split: 1." in page.text


def test_augmented_copies_beside_their_fold_are_no_leak():
    rows = [sample(1, group="7"), sample(2, group="7", split="fold0-aug")]
    assert "The splits leak" not in page_of({}, rows, []).text


def test_counts_and_shares_by_split_and_label_are_right():
    rows = [sample(n, label="cancer" if n < 2 else "negative", group=str(n // 2)) for n in range(8)]
    rows += [sample(n, split="fold10", label="negative", group=str(n)) for n in range(8, 10)]
    rows += [sample(n, split="fold2", label="negative", group=str(n)) for n in range(10, 12)]
    text = page_of({"label_names": ["negative", "cancer"]}, rows, []).text
    assert "Split Samples Groups negative cancer" in text
    assert text.index("fold0 8") < text.index("fold2 2") < text.index("fold10 2")
    assert "fold0 8 66.7 % 4 6 75.0 % 2 25.0 %" in text
    assert "all 12 100.0 % 8 10 83.3 % 2 16.7 %" in text


def test_a_label_without_any_sample_is_shown_with_a_count_of_none():
    text = page_of({"label_names": ["negative", "cancer"]}, [sample(1)], []).text
    assert "all 1 100.0 % 1 1 100.0 % 0 0.0 %" in text


def test_a_share_is_not_rounded_to_all_or_nothing():
    rows = [sample(n, label="cancer" if n == 0 else "negative") for n in range(3000)]
    text = page_of({}, rows, []).text
    assert "2,999 > 99.9 %" in text
    assert "1 < 0.1 %" in text


def test_rare_labels_are_counted_together_and_listed_apart():
    rows = [sample(n, label=f"flower {n % 20}") for n in range(60)]
    page = page_of({}, rows, [])
    assert "other labels" in page.text
    assert "20 labels" in page.text
    assert all(f"flower {n}" in page.text for n in range(20))


def test_every_failure_has_count_share_meaning_action_and_at_most_20_inputs():
    page = page_of(*screening())
    meaning, action = explain("decode_crash")
    assert meaning in page.text
    assert action in page.text
    assert "build what is there with --missing skip ." in page.text
    assert "31 7.2 % of inputs" in page.text
    assert "First 20 of 31 inputs" in page.text
    assert page.text.count("train_images/") == 22
    assert page.text.index("decode_crash") < page.text.index("view_excluded")


def test_an_excluded_code_is_not_called_a_failure_unless_the_build_says_so():
    lines = [{"input": "a.dcm", "code": "for_processing", "detail": ""}]
    assert "for_processing excluded" in page_of({}, [], lines).text
    counts = {"counts": {"failed": {"for_processing": 1}}}
    assert "for_processing failed" in page_of(counts, [], lines).text


def test_a_code_nobody_described_is_shown_all_the_same():
    page = page_of({}, [], [{"input": "a.dcm", "code": "brand_new", "detail": "3"}])
    assert "brand_new" in page.text
    assert explain("brand_new")[0] in page.text


def test_codes_are_described_in_whole_sentences():
    assert set(CODES) >= EXCLUDED
    for code, (meaning, action) in CODES.items():
        assert re.fullmatch("[a-z_]+", code)
        assert meaning.endswith(".")
        assert action.endswith(".")


PACKAGE = Path(explain.__code__.co_filename).parents[1]
CALLS = ("RecordError", "ChildDiedError", "warn")


def codes_in(file):
    """What a file raises and warns of; decoders and steps also collect codes as ``("code",)``."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        found = []
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            found = node.args[: None if name == "warn" else 1] if name in CALLS else []
        elif isinstance(node, ast.Tuple) and file.parent.name in ("decode", "steps"):
            found = node.elts if len(node.elts) == 1 else []
        for each in found:
            text = getattr(each, "value", None)
            if isinstance(text, str) and re.fullmatch("[a-z]+(_[a-z]+)+", text):
                yield text


def test_every_code_that_the_package_uses_is_described():
    used = {code: file.name for file in PACKAGE.rglob("*.py") for code in codes_in(file)}
    assert len(used) > 10
    assert {code: file for code, file in used.items() if code not in CODES} == {}


def test_warnings_are_counted_by_sample():
    page = page_of(*screening())
    assert "label_removed 41 10.2 % of samples" in page.text
    assert "crop_fallback 2 0.5 % of samples" in page.text


def test_machines_are_drawn_from_dark_to_bright_at_their_median_quantiles():
    rows = [sample(n, intensity=[0, 0.1 * n, 0.2, 0.3, 0.4]) for n in (1, 2, 9)]
    rows += [sample(20 + n, machine=93, intensity=[0, 0.05, 0.1, 0.2, 0.25]) for n in range(3)]
    rows += [
        sample(
            30,
            intensity=[0.3] * 5,
            **{"labels.machine_id": None, "acquisition.manufacturer": "hologic"},
        ),
        sample(31, **{"labels.machine_id": float("nan"), "intensity": None}),
    ]
    page = page_of({}, rows, [])
    order = [page.text.index(name) for name in ("machine 93", "machine 21", "hologic", "(unknown)")]
    assert order == sorted(order)
    assert "1 %: 0.000, 25 %: 0.200, 50 %: 0.200, 75 %: 0.300, 99 %: 0.400" in page.values(
        "svg", "aria-label"
    )
    assert page.values("rect", "x")[:2] == ["50", "200"]
    assert page.values("rect", "width")[:2] == ["150", "100"]
    assert "no brightness stored" in page.text


def test_a_box_outside_the_scale_is_moved_into_it():
    assert box_plot(np.array([-0.2, 0.25, 0.5, 0.75, 1.2])) == (0, 250, 500, 750, 1000)


def test_an_empty_dataset_and_an_empty_manifest_give_a_page():
    page = page_of({}, [], [])
    assert page.values("section", "id") == SECTIONS
    assert "The dataset holds 0 samples of 0 groups." in page.text
    assert page.values("img", "src") == []


def test_rows_without_any_field_give_a_page():
    page = page_of({"counts": None, "card": None, "shards": None}, [{}, {"warnings": None}], [{}])
    assert len(page.values("img", "src")) == 2
    assert "(no label)" in page.text


def test_arrays_and_missing_numbers_of_a_table_are_understood():
    row = sample(
        1,
        warnings=np.array(["crop_fallback"], dtype=object),
        intensity=np.array([0.1, 0.2, 0.3, 0.4, 0.5], dtype=np.float32),
    )
    row["label_name"], row["quality.crop_confidence"] = float("nan"), float("nan")
    page = page_of({}, [row], [])
    assert "0.300" in page.values("svg", "aria-label")[0]
    assert "crop_fallback" in page.text
    assert "nan" not in page.text.lower()


def test_pictures_are_asked_for_the_shown_rows_only():
    asked = []

    def count(row):
        asked.append(row["key"])
        return breast(row)

    summary, rows, failures = screening()
    document = render(summary, rows, failures, count)
    assert len(asked) == len(Page(document).values("img", "src"))
    assert 72 < len(asked) <= 120


@pytest.mark.slow
def test_a_dataset_of_60000_rows_gives_a_page_of_bounded_size():
    rows = many(60_000)
    rng = np.random.default_rng(3)
    for row in rows[::2]:
        row.update({"quality.crop_confidence": float(rng.random()), "warnings": ["crop_fallback"]})
    failures = [{"input": f"{n}.dcm", "code": "file_missing", "detail": ""} for n in range(20_000)]
    document = render({}, rows, failures, breast)
    assert "60,000 samples" in Page(document).text
    assert len(document) < 2_000_000


def test_a_thumbnail_fits_its_tile_and_keeps_its_aspect():
    for rows, columns in [(1456, 728), (220, 110), (50, 4000), (4000, 3), (1, 1), (30, 40)]:
        small = shrink(np.full((rows, columns), 200, np.uint8))
        assert small.shape[0] <= min(HEIGHT, rows)
        assert small.shape[1] <= min(WIDTH, columns)
        assert small.min() == 200
    assert shrink(np.zeros((1456, 728), np.uint8)).shape == (220, 110)


def test_a_colour_picture_keeps_its_colours():
    document = render({}, [sample(1)], [], lambda row: np.full((9, 9, 3), (250, 20, 20), np.uint8))
    encoded = Page(document).values("img", "src")[0].partition("base64,")[2]
    stored = np.frombuffer(base64.b64decode(encoded), np.uint8)
    blue, _, red = cv2.imdecode(stored, cv2.IMREAD_COLOR)[4, 4]
    assert red > 200 > 100 > blue


def test_a_picture_without_pixels_is_said_to_be_missing():
    document = render({}, [sample(1)], [], lambda row: np.zeros((0, 0), np.uint8))
    assert "no picture" in Page(document).text


# Which samples are shown


def test_the_contact_sheet_spreads_over_splits_labels_and_machines():
    chosen = choose_contact(many(6000), 48)
    assert len(chosen) == len({row["key"] for row in chosen}) == 48
    splits = Counter(row["split"] for row in chosen)
    machines = Counter(row["labels.machine_id"] for row in chosen)
    labels = Counter(row["label_name"] for row in chosen)
    assert max(splits.values()) - min(splits.values()) <= 2
    assert len(machines) == 5
    assert max(machines.values()) - min(machines.values()) <= 3
    assert 20 <= labels["cancer"] <= 28


def test_one_rare_sample_among_thousands_is_on_the_contact_sheet():
    rows = [*many(3000), sample(99_999, split="test", label="cancer", machine=210)]
    assert "demo_99999" in {row["key"] for row in choose_contact(rows, 48)}


def test_the_contact_sheet_does_not_depend_on_the_order_of_rows():
    rows = many(1000)
    expected = [row["key"] for row in choose_contact(rows, 48)]
    random.Random(5).shuffle(rows)
    assert [row["key"] for row in choose_contact(rows, 48)] == expected


def test_the_contact_sheet_takes_the_smallest_digests_of_a_stratum():
    rows = [sample(n) for n in range(100)]
    digests = sorted(hashlib.sha256(row["key"].encode()).hexdigest() for row in rows)
    chosen = choose_contact(rows, 5)
    assert [hashlib.sha256(row["key"].encode()).hexdigest() for row in chosen] == digests[:5]


def test_every_split_is_seen_with_every_label():
    labels = ("normal", "benign", "malignant")
    rows = [sample(n, split=f"fold{n % 5}", label=labels[n // 5 % 3]) for n in range(900)]
    shown = Counter((row["split"], row["label_name"]) for row in choose_contact(rows, 60))
    assert len(shown) == 15
    assert max(shown.values()) - min(shown.values()) <= 1


def test_each_warning_is_seen_some_times_and_the_rarest_first():
    rows = many(2000)
    for number, row in enumerate(rows):
        row["warnings"] = [f"common_{number % 3}"] if number % 2 else []
    rows[77]["warnings"] = ["rare", "common_0"]
    chosen = choose_contact(rows, 5)
    more = choose_warned(rows, chosen, 24)
    seen = Counter(code for row in [*chosen, *more] for code in row["warnings"])
    assert seen["rare"] == 1
    assert all(seen[f"common_{n}"] >= PER_WARNING for n in range(3))
    own = Counter(code for row in chosen for code in row["warnings"])
    assert own["common_1"] + own["common_2"] > 0
    assert all(seen[f"common_{n}"] == PER_WARNING for n in (1, 2))
    assert not {row["key"] for row in chosen} & {row["key"] for row in more}
    assert [row["key"] for row in choose_warned(rows, chosen, 1)] == [rows[77]["key"]]
    random.Random(2).shuffle(rows)
    assert choose_warned(rows, chosen, 24) == more


def test_a_small_dataset_is_shown_whole():
    assert len(choose_contact([sample(n) for n in range(7)], 48)) == 7
    assert choose_contact([], 48) == []
    assert choose_contact([sample(1)], 0) == []


def test_the_least_confident_crop_is_the_most_suspicious():
    rows = [sample(n, **{"quality.crop_confidence": 0.2 + 0.01 * n}) for n in range(60)]
    random.Random(4).shuffle(rows)
    chosen = choose_suspicious(rows, 24)
    assert [each.row["key"] for each in chosen] == [f"demo_{n:05d}" for n in range(24)]
    assert chosen[0].reasons == ("crop confidence 0.20",)


def test_no_reason_crowds_out_another():
    rows = [sample(n, **{"quality.crop_confidence": 0.5}) for n in range(500)]
    rows += [sample(500 + n, warnings=["orientation_conflict"]) for n in range(500)]
    rows.append(sample(2000, warnings=["crop_fallback"]))
    rows.append(sample(2001, intensity=[0.5, 0.8, 0.9, 0.95, 1.0]))
    chosen = choose_suspicious(rows, 24)
    firsts = [each.reasons[0].split(":")[0] for each in chosen[:4]]
    assert firsts == [
        "crop confidence 0.50",
        "orientation_conflict",
        "crop_fallback",
        "much brighter than its machine",
    ]
    assert len(chosen) == len({each.row["key"] for each in chosen}) == 24


def test_a_sample_with_several_reasons_appears_once_with_all_of_them():
    rows = [sample(n) for n in range(20)]
    rows[3].update({"quality.crop_confidence": 0.1, "warnings": ["crop_fallback", "voi_missing"]})
    (only,) = choose_suspicious(rows, 24)
    assert only.row is rows[3]
    assert only.reasons == ("crop confidence 0.10", "crop_fallback")


def test_brightness_is_judged_among_the_samples_of_one_machine():
    rows = [sample(n, machine=93) for n in range(50)] + [
        sample(n + 50, machine=49) for n in range(9)
    ]
    assert choose_suspicious(rows, 24) == []
    rows[4]["intensity"] = rows[55]["intensity"]
    rows[56]["intensity"] = rows[5]["intensity"]
    reasons = {each.row["key"]: each.reasons[0] for each in choose_suspicious(rows, 24)}
    assert set(reasons) == {"demo_00004", "demo_00056"}
    assert reasons["demo_00004"].startswith("much brighter")
    assert reasons["demo_00056"].startswith("much darker")


def test_samples_without_a_reason_are_not_suspected():
    assert choose_suspicious([sample(n) for n in range(50)], 24) == []
    assert choose_suspicious([{}, {}], 24) == []


# Filters and outlines


def test_a_tile_has_a_class_for_each_of_its_label_split_warnings_and_kind():
    rows = [
        sample(1, label="cancer", warnings=["b_code", "a_code"]),
        sample(2, split="fold10", augmented=True),
        sample(3, split="fold2") | {"label": None, "label_name": None},
    ]
    found = filters(rows)
    lists = {each.name: {option.name: option.mark for option in each.options} for each in found[0]}
    assert lists == {
        "Label": {"(no label)": "l0", "cancer": "l1", "negative": "l2"},
        "Split": {"fold0": "s0", "fold2": "s1", "fold10": "s2"},
        "Warning": {"a_code": "w0", "b_code": "w1", "no warning": "w2"},
        "Kind": {"augmented copy": "a0", "original": "a1"},
    }
    assert found.marks == ["l1 s0 w1 w0 a1", "l2 s2 w2 a0", "l0 s1 w2 a1"]


def test_a_list_with_nothing_to_choose_is_left_out():
    names = [each.name for each in filters([sample(1), sample(2, label="cancer")]).lists]
    assert names == ["Label"]
    document = render({}, [sample(1)], [], breast)
    assert "<select" not in document
    assert "checkbox" not in document


def test_every_class_in_the_lists_has_its_rule_and_its_tiles():
    document = render(*screening(), breast)
    page = Page(document)
    marks = [mark for mark in page.values("option", "class") if mark]
    shown = [mark for each in page.values("figure", "class") for mark in each.split()]
    assert len(marks) >= 2 + 5 + 4
    for mark in marks:
        rule = f"#contact:has(option.{mark}:checked) figure:not(.{mark}) {{ display: none; }}"
        assert document.count(rule) == 1
        assert mark in shown
    assert "fold0 (" in page.text


ROI = {"polygon": [[10.0, 20.0], [110.0, 20.0], [110.0, 220.0], [10.0, 220.0]]}


def test_an_outline_is_drawn_where_the_thumbnail_has_the_lesion():
    row = {"rois": [ROI, ROI]}
    one = "M5.0 10.0L55.0 10.0L55.0 110.0L5.0 110.0Z"
    assert outlines(row, (440, 220), (220, 110)) == 2 * one
    arrays = {"rois": np.array([{"polygon": np.array([np.array(p) for p in ROI["polygon"]])}])}
    assert outlines(arrays, (440, 220), (220, 110)) == one


def test_an_outline_of_many_points_keeps_its_place_and_gets_few():
    turns = np.linspace(0, 2 * np.pi, 3000)
    points = np.stack([400 + 300 * np.cos(turns), 700 + 300 * np.sin(turns)], axis=1)
    path = outlines({"rois": [{"polygon": points.tolist()}]}, (1456, 728), (220, 110))
    kept = np.array([[float(v) for v in each.split()] for each in path[1:-1].split("L")])
    assert 10 < len(kept) < 100
    center = np.array([400, 700]) * 220 / 1456
    reach = np.hypot(*(kept - center).T)
    assert np.abs(reach - 300 * 220 / 1456).max() < 0.5


@pytest.mark.parametrize(
    "rois",
    [
        None,
        "text",
        [],
        [None],
        [{}],
        [{"polygon": []}],
        [{"polygon": [[1.0, float("nan")], [2.0, 3.0]]}],
        [{"polygon": [[1.0], [2.0, 3.0]]}],
        [{"polygon": [["<", "1"]]}],
    ],
)
def test_an_outline_that_is_none_is_not_drawn(rois):
    assert outlines({"rois": rois}, (10, 10), (10, 10)) == ""
    assert "<svg class" not in render({}, [sample(1, rois=rois)], [], breast)


def test_outlines_can_be_switched_off_where_there_are_any():
    document = render({}, [sample(1, rois=[ROI]), sample(2)], [], breast)
    assert document.count('class="outlines"') == 1
    assert document.count('type="checkbox"') == 1
    assert "body:has(.drawn:not(:checked)) .outlines { display: none; }" in document


def test_the_shortcuts_stand_beside_the_class_balance_and_the_leaks_in_the_card():
    summary, rows, failures = screening()
    summary["shortcuts"] = [
        {"leak": True, "says": "Brightness gives it away."},
        {"leak": False, "says": "Size: no shortcut found."},
    ]
    summary["card"]["leaks_found"] = ["Brightness gives it away."]
    page = page_of(summary, rows, failures)
    assert [each for each in page.values("li", "class") if each] == ["leak"]
    assert page.words.count("Brightness gives it away.") == 2
    counts, failed = page.text.index("Counts by split"), page.text.index("What was not built")
    assert counts < page.text.index("Size: no shortcut found.") < failed


# Security

PAYLOADS = [
    "<script>document.documentElement.dataset.pwned=1</script>",
    "</script><script>document.documentElement.dataset.pwned=1</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>pwned()</scr</script>ipt>",
    "<script/x>pwned()</script>",
    "<<script>pwned()//<</script>",
    "</title><script>pwned()</script>",
    "</style><script>pwned()</script>",
    "</td></tr></table><script>pwned()</script>",
    "</summary></details><script>pwned()</script>",
    "<img src=x onerror=document.documentElement.dataset.pwned=1>",
    "<img src='https://evil.example/a.png'>",
    '"><img src=x onerror=pwned()>',
    "'><img src=x onerror=pwned()>",
    '" onmouseover="pwned()',
    "' onmouseover='pwned()",
    "` onmouseover=`pwned()",
    '" autofocus onfocus=pwned() x="',
    '" style="background:url(https://evil.example/)',
    "x onload=pwned()",
    "/ onerror=pwned() /",
    "<svg onload=pwned()>",
    "<svg/onload=pwned()>",
    "<svg><script>pwned()</script></svg>",
    "<svg><a xlink:href=javascript:pwned()><text y=9>x</text></a></svg>",
    "<svg><animate onbegin=pwned() attributeName=x dur=1s>",
    "<svg><use href=https://evil.example/x.svg#a></use></svg>",
    "<math><mi xlink:href=javascript:pwned()>x</mi></math>",
    "<iframe src=javascript:pwned()></iframe>",
    "<iframe srcdoc='&lt;script&gt;pwned()&lt;/script&gt;'></iframe>",
    "<object data=javascript:pwned()></object>",
    "<embed src=https://evil.example/x.swf>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<meta http-equiv=refresh content=0;url=https://evil.example/>",
    "<base href=https://evil.example/>",
    "<form action=https://evil.example/><input name=a autofocus onfocus=pwned()></form>",
    "<body onload=pwned()>",
    "<details open ontoggle=pwned()>",
    "<video><source onerror=pwned()></video>",
    "<style>*{background:url(https://evil.example/)}</style>",
    "<a href=javascript:pwned()>x</a>",
    "javascript:pwned()",
    "JaVaScRiPt:pwned()",
    "java\tscript:pwned()",
    "\x01javascript:pwned()",
    "data:text/html,<script>pwned()</script>",
    "vbscript:pwned()",
    "//evil.example/pwned",
    "http://evil.example/pwned",
    "https://user:pwned@evil.example/",
    'https://evil.example/"onclick="pwned()',
    "https://evil.example/<script>pwned()</script>",
    "{{ 7 * 191 }}{% raw %}pwned",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "${7*191}#{7*191}<%= 7*191 %>",
    "<!-- pwned --><![CDATA[pwned]]><?php pwned() ?>",
    "&lt;script&gt;pwned()&lt;/script&gt;&#60;script&#62;",
    "\uff1cscript\uff1epwned()\uff1c/script\uff1e\u02baonclick=",
    "\u202egnp.\u202cpwned\u2066\u200b\ufeff\u2028\x00\x1b[31m\r\n",
    "\ud800<script>pwned()</script>\udfff",
]


CARD = ("title", "licence", "licence_url", "home_page", "truth", "citation", "notes")
SHARD = ("name", "split", "samples", "bytes", "sha256")


def hostile(payload):
    """A dataset with the payload in every field that holds a text."""
    return filled(lambda field: payload)


def filled(give):
    """A dataset whose texts are ``give(name of the field)``."""
    summary = {
        **{name: give(name) for name in ("format_version", "source", "title", "licence")},
        "settings": {
            give("setting"): give("value"),
            "window": [give("item"), {give("name in item"): give("value in item")}],
        },
        "versions": {give("program"): give("version")},
        "label_names": [give("label_name"), "negative"],
        "counts": {
            "inputs": 2,
            "built": 2,
            "failed": {give("failed code"): 1},
            "excluded": {give("excluded code"): 1},
        },
        "shards": [{name: give(f"shard {name}") for name in SHARD}],
        "plan_sha256": give("plan"),
        "card": {name: give(f"card {name}") for name in CARD},
    }
    summary["card"]["leaks"] = {give("leak"): [give("leak text")]}
    summary["card"]["leaks_found"] = [give("leak found")]
    summary["shortcuts"] = [{"leak": give("is leak"), "says": give("shortcut")}, give("odd check")]
    fields = [name for name in sample(0) if name not in ("intensity", "labels.machine_id")]
    known = {name: give(name) for name in fields if name != "warnings"}
    known.update({"warnings": [give("warning"), "crop_fallback"], "intensity": [0.1] * 5})
    known["rois"] = [{"polygon": [[0, 0], [90, 0], [90, 90]]}, {"polygon": give("polygon")}]
    other = {
        "label_name": None,
        "labels.machine_id": give("odd machine"),
        "quality.crop_confidence": 0.1,
        "geometry.crop": [give("crop 0"), give("crop 1")],
        "geometry.stored_size": [give("stored rows")],
        "augmented": give("augmented"),
        "rois": [{"polygon": [[give("x"), give("y")]]}, {give("roi"): 1}, give("rois")],
        "intensity": [give("intensity")] * 5,
    }
    odd = {name: give(f"odd {name}") for name in fields if name not in other} | other
    failure = {name: give(f"failure {name}") for name in ("input", "code", "detail")}
    return summary, [known, odd], [failure]


OWN_TAGS = (
    "html|head|meta|title|style|body|header|main|nav|section|h1|h2|h3|p|a|b|i|em|small|span|code|div"
    "|dl|dt|dd|table|thead|tbody|tr|th|td|details|summary|ol|ul|li|figure|figcaption|img|svg|path|rect"
    "|label|select|option|input"
)
OWN_ATTRIBUTES = (
    "id|class|lang|charset|name|content|http-equiv|href|rel|scope|colspan|style|src|alt|width|height"
    "|viewbox|preserveaspectratio|role|aria-label|d|x|y|selected|checked|autocomplete|type"
)
OWN_CLASSES = (
    "kicker|lead|note|figures|bad|alarm|facts|settings|wide|n|total|bar|codes|inputs|boxes|plot|scale"
    "|grid|whisker|quartiles|middle|sheet|picture|frame|outlines|filters|drawn|none|checks|leak|hash"
    "|whole|[lswa][0-9]+"
)


def assert_harmless(page, link=None):
    for tag, attributes in page.tags:
        found = dict(attributes)
        assert re.fullmatch(OWN_TAGS, tag)
        assert len(found) == len(attributes)
        assert all(re.fullmatch(OWN_ATTRIBUTES, name) for name in found)
        for name in (found.get("class") or "").split():
            assert re.fullmatch(OWN_CLASSES, name)
        assert re.fullmatch("[-MLZ0-9. VH]*", found.get("d", ""))
        assert re.fullmatch(r"width:\d{1,3}\.\d\d%", found.get("style", "width:0.00%"))
        assert re.fullmatch(
            "data:image/jpeg;base64,[A-Za-z0-9+/=]+", found.get("src", "data:image/jpeg;base64,AA")
        )
        if "href" in found:
            assert tag == "a"
            assert found["href"] == link or re.fullmatch("#[a-z]+", found["href"])


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_becomes_anything_but_text(payload):
    page = page_of(*hostile(payload))
    assert_harmless(page)
    assert page.skeleton == page_of(*hostile("harmless")).skeleton
    assert page.text.count(visible(payload)) >= 30
    render(*hostile(payload), breast).encode("utf-8")


def test_there_are_60_different_payloads():
    assert len(set(PAYLOADS)) == 60


def test_the_hostile_dataset_reaches_the_page_with_every_field():
    given = []

    def word(field):
        given.append(field)
        return f"({field})"

    text = page_of(*filled(word)).text
    hidden = {field for field in given if f"({field})" not in text}
    assert hidden == {
        *("title", "licence"),  # the card's are shown
        *("group", "odd group", "label", "quality.crop_confidence", "intensity"),  # not as text
        "shard bytes",  # a number or nothing
        "odd acquisition.manufacturer",  # the machine is known
        *("is leak", "odd check", "augmented", "polygon", "x", "y", "roi", "rois"),  # not as text
    }


def test_the_home_page_becomes_a_link_only_when_it_is_plain_https():
    summary, rows, failures = screening()
    address = summary["card"]["home_page"]
    page = page_of(summary, rows, failures)
    assert_harmless(page, address)
    link = next(
        dict(found) for tag, found in page.tags if tag == "a" and ("href", address) in found
    )
    assert link["rel"] == "noreferrer"
    for bad in (
        "javascript:alert(1)",
        "http://example.org/",
        "https://",
        "https://[",
        "HTTPS://a b",
    ):
        summary["card"]["home_page"] = bad
        page = page_of(summary, rows, failures)
        assert_harmless(page)
        assert bad in page.text


def test_a_card_with_line_breaks_reads_as_paragraphs():
    card = {"citation": "A. Author:\n  A set.", "notes": "One\ntwo.\n\nThree.", "leaks": ["Four."]}
    page = page_of({"card": card}, [], [])
    assert "A. Author: A set." in page.words
    assert [word for word in page.words if word in ("One two.", "Three.", "Four.")] == [
        "Four.",
        "One two.",
        "Three.",
    ]


def test_the_page_forbids_itself_every_request_and_names_no_place():
    document = render(*screening(), breast)
    page = Page(document)
    policy = dict(
        zip(page.values("meta", "http-equiv"), page.values("meta", "content"), strict=True)
    )
    assert policy["Content-Security-Policy"].startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    )
    assert "script" not in policy["Content-Security-Policy"]
    assert "no-referrer" in page.values("meta", "content")
    outside = re.findall(r"[a-z]+://[^\s\"<]*", document)
    assert {re.sub("&amp;", "&", each) for each in outside} <= {
        "https://example.org/licence",
        "https://example.org/demo?a=1&b=2",
    }
    assert "url(" not in document
    assert "@import" not in document


def test_invisible_characters_are_written_out_and_endless_texts_are_cut():
    assert visible("a\u202eb\x00\ud800") == "a\\u202eb\\u0000\\ud800"
    assert visible("Grüße, 日本, 🌸") == "Grüße, 日本, 🌸"
    assert len(visible("x" * 100_000)) == 2000
    assert len(render({"title": "x" * 5_000_000}, [], [], breast)) < 100_000


def test_pictures_have_texts_and_tables_have_headers():
    page = page_of(*screening())
    assert all(page.values("img", "alt"))
    assert all(page.values("th", "scope"))
    assert all(page.values("svg", "aria-label"))
    assert page.values("html", "lang") == ["en"]


# In a browser

CHROMIUM = shutil.which("chromium")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
]


def browse(folder, document, *options):
    file = folder / "report.html"
    file.write_text(document, encoding="utf-8")
    profile = folder / "profile"
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", *options, file.as_uri()]
    return subprocess.run(command, capture_output=True, timeout=120, check=True)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_opens_the_page_and_draws_it(tmp_path, width):
    picture = tmp_path / "page.png"
    done = browse(
        tmp_path,
        render(*screening(), breast),
        f"--screenshot={picture}",
        f"--window-size={width},6000",
    )
    assert b"CONSOLE" not in done.stderr
    pixels = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    assert pixels.shape == (6000, width)
    assert (pixels == 255).mean() > 0.2
    assert (pixels < 40).mean() > 0.1
    assert pixels[:, -6:].min() == 255  # nothing sticks out at the right


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")
def test_a_browser_hides_what_is_not_chosen_and_the_outlines_when_told(tmp_path):
    summary, rows, failures = screening()
    rows[3]["rois"] = [ROI]
    for row in rows[30:200]:
        row["rois"] = [ROI]
    document = render(summary, rows, failures, breast)
    ask = """<script>
    const seen = () => [...document.querySelectorAll("#contact figure")]
      .filter(each => each.checkVisibility()).map(each => each.className).join();
    const lines = () => [...document.querySelectorAll(".outlines")]
      .filter(each => each.checkVisibility()).length;
    const data = document.documentElement.dataset, lists = document.querySelectorAll("select");
    data.all = seen(); data.drawn = lines();
    lists[0].selectedIndex = 1; data.label = seen();
    lists[1].selectedIndex = 2; data.both = seen();
    lists[0].selectedIndex = 0; data.split = seen();
    document.querySelector(".drawn").click(); data.plain = lines();
    </script></body>"""
    open_page = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", document)
    done = browse(tmp_path, open_page.replace("</body>", ask), "--dump-dom")
    data = dict(re.findall(r'data-([a-z]+)="([^"]*)"', done.stdout.decode().partition("<head")[0]))
    tiles = data["all"].split(",")
    assert tiles == Page(document).values("figure", "class")[: len(tiles)]
    assert len(tiles) > 72
    assert data["label"].split(",") == [each for each in tiles if "l0" in each.split()]
    assert data["split"].split(",") == [each for each in tiles if "s1" in each.split()]
    both = [each for each in tiles if {"l0", "s1"} <= set(each.split())]
    assert data["both"].split(",") == both
    assert 0 < len(both) < len(tiles) / 2
    assert int(data["drawn"]) > 0
    assert data["plain"] == "0"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")
def test_a_browser_finds_all_sections_and_runs_no_hostile_text(tmp_path):
    hostile_text = "".join(PAYLOADS[:-1])
    done = browse(tmp_path, render(*hostile(hostile_text), breast), "--dump-dom")
    assert b"CONSOLE" not in done.stderr
    page = Page("<!DOCTYPE html>" + done.stdout.decode().partition("<!DOCTYPE html>")[2])
    assert page.values("section", "id") == SECTIONS
    assert_harmless(page)
    assert "data-pwned" not in dict(page.tags[0][1])
