"""Real files of several vendors and encoders; skipped without MAMMO_REAL_DATA."""

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicoms import BARE, RECORD

from mammoprep.core.errors import RecordError
from mammoprep.decode.dicom import read_image, render_stored

RG3 = "dicom_variety/codecs_wg04_RG3"
LUTS = "dicom_variety/lut_window"
OTHER = "dicom_variety/codecs_other"


def stored_of(path: Path) -> np.ndarray:
    """Return stored values as the full range shows them; exact for 10 bits in a 16-bit picture."""
    picture = render_stored(path.read_bytes(), RECORD, voi="full", bits=16)
    return 1023 - np.rint(picture / 65535 * 1023).astype(int)


# One picture, and the largest difference from its uncompressed file that README of the files tells.
SYNTAXES = (
    ("UNC", "1.2.840.10008.1.2.1", 0),
    ("RLE", "1.2.840.10008.1.2.5", 0),
    ("JPLL", "1.2.840.10008.1.2.4.70", 0),
    ("JLSL", "1.2.840.10008.1.2.4.80", 0),
    ("J2KR", "1.2.840.10008.1.2.4.90", 0),
    ("JLSN", "1.2.840.10008.1.2.4.81", 4),
    ("J2KI", "1.2.840.10008.1.2.4.91", 9),
    ("JPLY", "1.2.840.10008.1.2.4.51", 50),
)


@pytest.mark.parametrize(("name", "syntax", "most"), SYNTAXES)
def test_one_picture_in_eight_syntaxes(real_data: Path, name: str, syntax: str, most: int) -> None:
    plain = pydicom.dcmread(real_data / RG3 / "RG3_UNC.dcm").pixel_array.astype(int)
    path = real_data / RG3 / f"RG3_{name}.dcm"
    image = read_image(path.read_bytes(), RECORD, gate_kind=False)
    assert image.acquisition.transfer_syntax == syntax
    away = np.abs(stored_of(path) - plain)
    assert away.max() <= most
    # A lossy file that is equal would be another file.
    assert (away.max() > 0) == (most > 0)
    assert 20 * np.log10(1023 / max(np.sqrt(np.mean(away**2.0)), 1e-9)) > 45


def test_all_files_of_the_picture_are_compared(real_data: Path) -> None:
    found = {path.name for path in (real_data / RG3).glob("*.dcm")}
    assert found == {f"RG3_{name}.dcm" for name, _, _ in SYNTAXES}


def _dcmtk(path: Path, folder: Path, *options: str) -> np.ndarray:
    target = folder / "out.pgm"
    command = ["dcmj2pnm", "-q", "+op", *options, path, target]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    _, size, _, pixels = target.read_bytes().split(b"\n", 3)
    columns, rows = map(int, size.split())
    return np.frombuffer(pixels, np.uint8, rows * columns).reshape(rows, columns)


@pytest.mark.skipif(shutil.which("dcmj2pnm") is None, reason="DCMTK is not installed")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        (f"{RG3}/RG3_UNC.dcm", ["+Wi", "1"]),
        (f"{RG3}/RG3_JPLL.dcm", ["+Wi", "1"]),
        (f"{LUTS}/fuji_dx_mono1_8bit_small.dcm", ["+Wi", "1"]),
        (f"{LUTS}/CR-ModalitySequenceLUT.dcm", ["-W"]),
        (f"{LUTS}/mlut_18.dcm", ["-W"]),
        (f"{LUTS}/vlut_04.dcm", ["+Wl", "1"]),
        (f"{OTHER}/CT_small.dcm", ["-W"]),
        (f"{OTHER}/MR_small.dcm", ["+Wi", "1"]),
        (f"{OTHER}/MR_small_bigendian.dcm", ["+Wi", "1"]),
        (f"{OTHER}/deflated_image_dfl.dcm", ["-W"]),
        ("mg_dicom/ge_senographe_RMLO_sigmoid_3voilut_GH133.dcm", ["+Wl", "1"]),
        ("mg_dicom/siemens_mammomat_LCC_biopsy_oob_overlay.dcm", ["+Wi", "1", "-O"]),
    ],
)
def test_real_files_look_as_dcmtk_shows_them(
    real_data: Path, tmp_path: Path, name: str, options: list[str]
) -> None:
    data = (real_data / name).read_bytes()
    ours = render_stored(data, RECORD).astype(int)
    padding = read_image(data, RECORD, gate_kind=False).padding
    seen = np.ones(ours.shape, bool) if padding is None else ~padding
    theirs = _dcmtk(real_data / name, tmp_path, *options)
    assert np.abs(ours - theirs)[seen].max() <= 1


def test_the_three_tables_and_three_windows_of_a_mammogram(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "mg_dicom/ge_senographe_RMLO_sigmoid_3voilut_GH133.dcm"
    data = path.read_bytes()
    image = read_image(data, BARE)
    facts = image.acquisition
    assert (facts.laterality, facts.view, facts.manufacturer) == ("R", "MLO", "GE")
    assert (facts.voi, facts.padding, facts.patient_orientation) == ("lut:0", (0, 30), "P")
    assert image.geometry.spacing_mm == pytest.approx((0.0940909, 0.0940909))
    assert image.warnings == ()
    assert 0.6 < image.padding.mean() < 0.75
    if shutil.which("dcmj2pnm") is None:
        pytest.skip("DCMTK is not installed")
    for index in range(3):
        for kind, option in (("lut", "+Wl"), ("window", "+Wi")):
            ours = render_stored(data, RECORD, voi=f"{kind}:{index}").astype(int)
            theirs = _dcmtk(path, tmp_path, option, str(index + 1))
            assert np.abs(ours - theirs)[~image.padding].max() <= 1


def test_biopsy_and_tomosynthesis_are_left_out_but_can_be_looked_at(real_data: Path) -> None:
    for name, code in (
        ("siemens_mammomat_LCC_biopsy_oob_overlay", "view_excluded"),
        ("hologic_dbt_4frame_j2k_noisepixels", "multiframe"),
    ):
        data = (real_data / f"mg_dicom/{name}.dcm").read_bytes()
        with pytest.raises(RecordError) as caught:
            read_image(data, BARE)
        assert caught.value.code == code
        assert code in read_image(data, BARE, gate_kind=False).warnings


@pytest.mark.parametrize(
    ("name", "kind", "look"),
    [
        ("2026-05-26-oob-monochrome-46341.dcm", "not_a_mammogram", "header_bounds"),
        ("966_bad_j2k_stream.dcm", "not_a_mammogram", "decode_error"),
        ("MR_truncated.dcm", "not_a_mammogram", "pixel_length_mismatch"),
        ("badVR.dcm", "header_bounds", "header_bounds"),
        ("dx_voilut_nopixeldata.dcm", "not_a_mammogram", "no_pixels"),
        ("meta_missing_tsyntax.dcm", "no_transfer_syntax", "no_transfer_syntax"),
        ("no_meta.dcm", "not_dicom", "not_dicom"),
        ("wrong_syntax_1.dicom", "not_a_mammogram", None),
    ],
)
def test_malformed_files_are_coded(real_data: Path, name: str, kind: str, look: str | None) -> None:
    data = (real_data / "dicom_variety/malformed" / name).read_bytes()
    began = time.process_time()
    with pytest.raises(RecordError) as caught:
        read_image(data, BARE)
    assert caught.value.code == kind
    if look is None:
        assert "not_a_mammogram" in read_image(data, BARE, gate_kind=False).warnings
    else:
        with pytest.raises(RecordError) as caught:
            read_image(data, BARE, gate_kind=False)
        assert caught.value.code == look
    assert time.process_time() - began < 20


@pytest.mark.parametrize("name", ["HTJ2K_08_RGB", "HTJ2KLossless_08_RGB"])
def test_colour_is_refused(real_data: Path, name: str) -> None:
    with pytest.raises(RecordError) as caught:
        read_image((real_data / OTHER / f"{name}.dcm").read_bytes(), BARE, gate_kind=False)
    assert caught.value.code == "not_monochrome"


def test_a_header_and_a_codestream_that_disagree_about_the_sign_are_refused(
    real_data: Path,
) -> None:
    with pytest.raises(RecordError) as caught:
        read_image(
            (real_data / OTHER / "J2K_pixelrep_mismatch.dcm").read_bytes(), RECORD, gate_kind=False
        )
    assert caught.value.code == "precision_mismatch"


RSNA = (
    ("10006/462822612", "SIGMOID", (1802.31, 1091.97), 3204, 16, "L"),
    ("10006/1874946579", "SIGMOID", (1802.31, 1091.97), 3044, 16, "R"),
    ("10011/220375232", "LINEAR", (2048.0, 4096.0), 0, 12, "L"),
    ("10011/541722628", "LINEAR", (2048.0, 4096.0), 0, 12, "R"),
)


@pytest.mark.parametrize(("name", "function", "window", "padding", "bits", "side"), RSNA)
def test_screening_files_read_as_their_headers_say(
    real_data: Path,
    name: str,
    function: str,
    window: tuple[float, float],
    padding: int,
    bits: int,
    side: str,
) -> None:
    data = (real_data / f"rsna/train_images/{name}.dcm").read_bytes()
    image = read_image(data, RECORD)
    facts = image.acquisition
    assert (facts.voi, facts.voi_function, facts.window) == ("window:0", function, window)
    assert (facts.padding, facts.bits_stored) == ((padding, padding), bits)
    assert (facts.laterality, facts.view) == (side, None)
    assert image.warnings == ()
    assert image.pixels.dtype == np.float32
    assert image.notes["coarse_share"] > 0.5
    assert image.notes["border_median"] < 0.2
    assert not image.pixels[image.padding].any()


@pytest.mark.parametrize("name", [row[0] for row in RSNA])
def test_screening_files_with_the_wrong_photometric_are_found(real_data: Path, name: str) -> None:
    data = (real_data / f"rsna/train_images/{name}.dcm").read_bytes()
    one, two = b"MONOCHROME1", b"MONOCHROME2"
    wrong = data.replace(one, two) if one in data else data.replace(two, one)
    with pytest.raises(RecordError) as caught:
        read_image(wrong, RECORD)
    assert caught.value.code == "polarity_suspect"
