"""The grey-scale transform against an independent reference, DCMTK and pydicom."""

import io
import shutil
import subprocess
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicoms import RECORD
from header_grid import PAIRS, draw_case, pairs_of
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing
from reference_grey import Case, picture

from mammoprep.decode.dicom import read_image, render_stored

BLOCKS, BLOCK = 30, 100
# A kind that is never refused: only warned about, so that the float picture can be had.
LEFT_OUT = {"ImageType": ["ORIGINAL", "PRIMARY", "TOMOSYNTHESIS"]}


def _differences(seed: int) -> dict[tuple[int, int], int]:
    case, stored, data = draw_case(seed)
    expected = picture(case, stored.tolist(), 8, 16)
    found = {}
    for bits, theirs in zip((8, 16), expected, strict=True):
        ours = render_stored(data, RECORD, bits=bits)
        if count := int(np.count_nonzero(ours != np.array(theirs))):
            found[seed, bits] = count
    return found


@pytest.mark.parametrize(
    "block", [0, *(pytest.param(block, marks=pytest.mark.slow) for block in range(1, BLOCKS))]
)
def test_three_thousand_headers_give_the_reference_picture_bit_for_bit(block: int) -> None:
    wrong: dict[tuple[int, int], int] = {}
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        wrong |= _differences(seed)
    assert wrong == {}


def test_the_three_thousand_headers_meet_every_pair_of_the_grid() -> None:
    seen = set().union(*(pairs_of(seed) for seed in range(BLOCKS * BLOCK)))
    assert seen == PAIRS


def _dcmtk(data: bytes, case: Case, folder: Path) -> np.ndarray:
    source, target = folder / "in.dcm", folder / "out.pgm"
    source.write_bytes(data)
    choice = ["+Wl", "1"] if case.luts else ["+Wi", "1"] if case.windows else ["-W"]
    subprocess.run(
        ["dcm2pnm", "-q", "+op", *choice, source, target],
        check=True,
        capture_output=True,
        timeout=60,
    )
    raw = target.read_bytes()
    _, size, _, pixels = raw.split(b"\n", 3)
    columns, rows = map(int, size.split())
    return np.frombuffer(pixels, np.uint8, rows * columns).reshape(rows, columns)


def _whole(case: Case) -> bool:
    return case.slope in (None, 1.0, -1.0) and case.intercept in (None, 0.0, -100.0)


def _dcmtk_is_right(case: Case) -> bool:
    if not _whole(case):  # DCMTK 3.6.7 cuts modality values to whole numbers
        return False
    if case.luts:  # 8-bit tables are scaled by 1/257
        return case.luts[0][1] >= 10
    return not case.windows or (case.function != "LINEAR_EXACT" and case.windows[0][1] >= 1)


def _voi(case: Case) -> str:
    return "lut" if case.luts else case.function if case.windows else "none"


def _measured(case: Case, stored: np.ndarray) -> np.ndarray:
    low, high = case.padding or (1, 0)
    return (stored < low) | (stored > high)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="DCMTK is not installed")
def test_five_hundred_headers_agree_with_dcmtk_within_one_grey_level(tmp_path: Path) -> None:
    compared: Counter[str] = Counter()
    wrong = {}
    for seed in range(10_000, 13_000):
        case, stored, data = draw_case(seed)
        if not _dcmtk_is_right(case):
            continue
        ours = render_stored(data, RECORD).astype(int)
        away = np.abs(ours - _dcmtk(data, case, tmp_path))[_measured(case, stored)]
        if away.max(initial=0) > 1:
            wrong[seed] = int(away.max())
        compared[_voi(case)] += 1
        if compared.total() == 500:
            break
    assert wrong == {}
    assert compared.total() == 500
    assert min(compared[kind] for kind in ("lut", "LINEAR", "SIGMOID", "none")) >= 50


def _pydicom(data: bytes, case: Case) -> np.ndarray:
    ds = pydicom.dcmread(io.BytesIO(data))
    values = apply_modality_lut(ds.pixel_array, ds)
    ends = [(case.slope or 1.0) * v + (case.intercept or 0.0) for v in _stored_ends(case)]
    if case.luts:
        y = apply_voi(values.astype(np.int64), ds) / (2 ** case.luts[0][1] - 1)
    else:
        y = (apply_windowing(values, ds) - min(ends)) / (max(ends) - min(ends))
    return 1 - y if case.mono1 else y


def _stored_ends(case: Case) -> tuple[int, int]:
    low = -(1 << (case.bits - 1)) if case.signed else 0
    return low, low + (1 << case.bits) - 1


def _pydicom_is_right(case: Case) -> bool:
    if (case.slope or 1.0) < 0:
        return False
    if case.luts:  # indexes with the image's own type
        plain = _whole(case) and not case.signed and case.luts[0][0] >= 0
        return plain and case.luts[0][1] >= 10
    return bool(case.windows) and case.windows[0][1] >= 1


def _has_odd_function(data: bytes) -> bool:
    function = pydicom.dcmread(io.BytesIO(data)).get("VOILUTFunction", "LINEAR")
    return function not in {"LINEAR", "LINEAR_EXACT", "SIGMOID"}


@pytest.mark.slow
def test_five_hundred_headers_agree_with_pydicom_where_pydicom_is_right() -> None:
    compared: Counter[str] = Counter()
    wrong = {}
    for seed in range(20_000, 26_000):
        case, stored, data = draw_case(seed, **LEFT_OUT)
        if not _pydicom_is_right(case) or _has_odd_function(data):
            continue
        ours = read_image(data, RECORD, gate_kind=False).pixels
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = _pydicom(data, case)
        away = np.abs(ours - theirs)[_measured(case, stored)]
        if away.max(initial=0) > 1e-6:
            wrong[seed] = float(away.max())
        compared[_voi(case)] += 1
        if compared.total() == 500:
            break
    assert wrong == {}
    assert compared.total() == 500
    assert min(compared[kind] for kind in ("lut", "LINEAR", "LINEAR_EXACT", "SIGMOID")) >= 50
