"""``--crosscheck``: a second decoder reads some images, and must read the same."""

import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from helpers import config, run_build

sys.path.append(str(Path(__file__).parent / "decode"))  # its files import each other by name

import lossless_jpeg
from dicoms import (
    EXPLICIT,
    HTJ2K,
    JPEG,
    JPEG2000,
    JPEG2000_LOSSY,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    RECORD,
    RLE,
    breast,
    dicom,
)

from mammoprep.builder import Result, build
from mammoprep.config import Settings
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.decode import codecs, openjpeg
from mammoprep.decode import dicom as way_in
from mammoprep.decode.crosscheck import chosen
from mammoprep.decode.dicom import open_image
from mammoprep.phantoms import rsna as rsna_phantom
from mammoprep.phantoms._machines import MACHINES
from mammoprep.state import read_json_lines

FAULTY = Path(__file__).parents[1] / "faulty_decoders.py"
TWICE = (RLE, JPEG, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG2000, JPEG2000_LOSSY, HTJ2K)
ONCE = (JPEG_LS, JPEG_EXTENDED)


def off_by_one(function: object) -> object:
    return lambda *arguments, **options: function(*arguments, **options) ^ 1  # type: ignore[operator]


def file_of(syntax: str, shape: tuple[int, int] = (128, 96)) -> bytes:
    bits = 8 if syntax == JPEG else 12
    return dicom(breast(bits, shape=shape), bits, syntax=syntax)


def checked(data: bytes, share: float = 1.0) -> tuple[str, ...]:
    return open_image(data, RECORD, crosscheck=share).warnings


# Which images


def test_the_chosen_share_is_as_asked_and_a_larger_one_has_all_of_a_smaller() -> None:
    keys = [f"rsna_{number}" for number in range(20_000)]
    few, more = ({key for key in keys if chosen(key, share)} for share in (0.01, 0.3))
    assert 140 <= len(few) <= 260
    assert 5700 <= len(more) <= 6300
    assert few < more
    assert not any(chosen(key, 0.0) for key in keys)
    assert all(chosen(key, 1.0) for key in keys)


def test_the_choice_is_the_same_on_every_machine() -> None:
    assert [n for n in range(300) if chosen(f"rsna_{n}", 0.01)] == [100, 199]


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("100%", 1), ("0%", 0), ("2.5%", 0.025)])
def test_a_share_is_a_percentage(text: str, share: float) -> None:
    assert Settings(size=(64, 128), crosscheck=text).crosscheck_share == pytest.approx(share)


@pytest.mark.parametrize("text", ["1", "0.01", "101%", "-1%", "many%", "%", "nan%", ""])
def test_anything_else_is_a_mistake(text: str) -> None:
    with pytest.raises(ConfigError, match="--crosscheck must be a share from 0% to 100%"):
        Settings(size=(64, 128), crosscheck=text)


# One image


@pytest.mark.parametrize("syntax", TWICE)
def test_two_decoders_agree_on_an_image(syntax: str) -> None:
    assert "crosscheck_impossible" not in checked(file_of(syntax))


@pytest.mark.parametrize("syntax", ONCE)
def test_a_syntax_of_one_decoder_is_said_to_be_unchecked(syntax: str) -> None:
    assert "crosscheck_impossible" in checked(file_of(syntax))


def test_frames_that_the_second_decoder_cannot_read_are_said_to_be_unchecked() -> None:
    words = breast(12)
    frame = lossless_jpeg.encode(words, 12, restart=2)
    assert "crosscheck_impossible" in checked(dicom(words, 12, syntax=JPEG_LOSSLESS, frame=frame))
    signed = (words.astype(int) - 2048).astype("i2")
    frame = imagecodecs.jpeg2k_encode(signed, level=0, codecformat="j2k", bitspersample=12)
    data = dicom(signed, 12, syntax=JPEG2000, frame=frame)
    assert "crosscheck_impossible" in checked(data)


def test_data_that_is_not_compressed_needs_no_check() -> None:
    assert "crosscheck_impossible" not in checked(file_of(EXPLICIT))


FAULTS = {
    JPEG: (imagecodecs, "jpeg8_decode"),
    JPEG_LOSSLESS: (imagecodecs, "ljpeg_decode"),
    JPEG_LOSSLESS_SV1: (imagecodecs, "jpeg8_decode"),
    JPEG2000: (imagecodecs, "jpeg2k_decode"),
    HTJ2K: (imagecodecs, "jpeg2k_decode"),
}


@pytest.mark.parametrize("syntax", sorted(FAULTS))
def test_an_off_by_one_in_either_decoder_is_a_disagreement(
    syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name = FAULTS[syntax]
    monkeypatch.setattr(place, name, off_by_one(getattr(place, name)))
    data = file_of(syntax)
    with pytest.raises(RecordError, match="12288 of 12288 values differ, by up to 1") as caught:
        checked(data)
    assert caught.value.code == "decoder_disagreement"
    assert "crosscheck" not in str(checked(data, share=0.0))


def test_an_off_by_one_in_the_parts_of_a_large_image_is_a_disagreement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = file_of(JPEG2000, (900, 700))
    assert "crosscheck_impossible" not in checked(data)
    plain = openjpeg.decode
    monkeypatch.setattr(openjpeg, "decode", off_by_one(plain))
    with pytest.raises(RecordError, match="openjpeg") as caught:
        checked(data)
    assert caught.value.code == "decoder_disagreement"

    def wrong_below(data: bytes, level: int, box: tuple[int, ...], dtype: type) -> np.ndarray:
        return plain(data, level, box, dtype) ^ (box[1] > 0)

    # A fault that only regions have, as OpenJPEG 2.5.4 has one with HTJ2K.
    monkeypatch.setattr(openjpeg, "decode", wrong_below)
    with pytest.raises(RecordError, match="315000 of 630000 values differ"):
        checked(data)


def test_values_that_only_one_decoder_has_beyond_bits_stored_are_a_disagreement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imagecodecs, "ljpeg_decode", lambda data: breast(12) | 0x4000)
    with pytest.raises(RecordError, match="bits_exceed_stored by imagecodecs ljpeg") as caught:
        checked(file_of(JPEG_LOSSLESS))
    assert caught.value.code == "decoder_disagreement"


def test_the_check_costs_nothing_when_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(way_in, "chosen", never)
    monkeypatch.setattr(way_in, "confirm", never)
    open_image(file_of(JPEG2000), RECORD)
    with pytest.raises(AssertionError, match="asked"):
        checked(file_of(JPEG2000))


@pytest.mark.parametrize("syntax", codecs.DECODERS)
def test_decoders_that_only_check_stand_last_and_never_alone(syntax: str) -> None:
    flags = [decoder.only_checks for decoder in codecs.DECODERS[syntax]]
    assert flags == sorted(flags)
    assert not flags[0]


# A build


def faulty_build(raw: Path, out: Path, faults: str, **changes: object) -> Result:
    command = (sys.executable, str(FAULTY), "child", faults)
    return build(config(raw, out, **changes), command=command)


@pytest.mark.slow
def test_phantoms_of_all_machines_give_no_disagreement(tmp_path: Path) -> None:
    rsna_phantom.write(tmp_path / "raw", patients=8, seed=3, size_scale=0.12)
    table = (tmp_path / "raw" / "train.csv").read_text()
    assert all(f",{machine.machine_id}," in table for machine in MACHINES)
    result = run_build(tmp_path / "raw", tmp_path / "out", crosscheck="100%")
    assert result.summary["counts"]["failed"] == {}
    assert result.summary["settings"]["crosscheck"] == "100%"


@pytest.mark.slow
def test_an_off_by_one_fails_the_chosen_images_whatever_the_workers(
    phantom_once: Path, tmp_path: Path
) -> None:
    faults = "jpeg2k_decode=off,ljpeg_decode=off"
    failed = {}
    for workers in (1, 3):
        out = tmp_path / str(workers)
        result = faulty_build(phantom_once, out, faults, workers=workers, crosscheck="40%")
        failed[workers] = read_json_lines(out / "failures.jsonl")
        assert set(result.summary["counts"]["failed"]) == {"decoder_disagreement"}
    assert failed[1] == failed[3]
    everything = faulty_build(phantom_once, tmp_path / "all", faults, crosscheck="100%")
    all_failed = read_json_lines(tmp_path / "all" / "failures.jsonl")
    assert 0 < len(failed[1]) < len(all_failed)
    keys = {f"rsna_{Path(f['input']).parent.name}_{Path(f['input']).stem}": f for f in all_failed}
    assert [f for key, f in keys.items() if chosen(key, 0.4)] == failed[1]
    native = everything.summary["counts"]["built"]
    assert native + len(all_failed) == everything.summary["counts"]["inputs"]
    assert 0 < native < len(all_failed)


def test_without_the_check_the_fault_goes_unseen(phantom_once: Path, tmp_path: Path) -> None:
    result = faulty_build(phantom_once, tmp_path / "out", "jpeg2k_decode=off")
    assert result.summary["counts"]["failed"] == {}


# Real files


@pytest.mark.slow
def test_real_files_give_no_disagreement(real_data: Path) -> None:
    codes = []
    for path in sorted(real_data.rglob("*.dcm")):
        try:
            open_image(path.read_bytes(), RECORD, voi="full", gate_kind=False, crosscheck=1.0)
        except RecordError as error:
            codes.append(error.code)
        else:
            codes.append("")
    assert "decoder_disagreement" not in codes
    assert codes.count("") >= 20
