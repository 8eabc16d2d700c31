"""Files and codestreams that were cut: coded, or bit for bit the picture of the whole file.

A cut cannot be told from a whole in one case, which the last tests hold fast: coded samples of a
lossy or lossless JPEG that end early, with an end-of-image marker put behind them. The marker is
there, the frame header is right, and libjpeg fills what is missing; only the samples are wrong.
RLE, JPEG-LS and JPEG 2000 frames notice it.
"""

import io
import struct

import imagecodecs
import numpy as np
import pytest
from dicoms import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    HTJ2K,
    IMPLICIT,
    JPEG,
    JPEG2000,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_LS_LOSSY,
    RECORD,
    RLE,
    breast,
    dataset,
    dicom,
    encode,
    write,
)
from PIL import Image
from pydicom.encaps import encapsulate, get_frame

from mammoprep.core.codes import CODES
from mammoprep.core.errors import RecordError
from mammoprep.decode import _flaws, codecs, gate
from mammoprep.decode._codestream import read_codestream
from mammoprep.decode._flaws import find_flaw
from mammoprep.decode.dicom import read_image, render_stored
from mammoprep.decode.header import PIXEL_DATA, parse, read_facts

SIXTEENTHS = range(1, 16)
NATIVE = (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN)
COMPRESSED = tuple(syntax for syntax in codecs.DECODERS if syntax not in NATIVE)
# The codes that say "this file is damaged"; none is one of those that say "left out on purpose".
DAMAGED = {
    "unreadable",
    "no_pixels",
    "pixel_length_mismatch",
    "decode_error",
    "header_missing",
    "no_transfer_syntax",
}
BOXED = "JP2 box"


def bits_of(syntax: str) -> int:
    return 8 if syntax == JPEG else 12


def picture(syntax: str) -> np.ndarray:
    """Return a breast with noise: in a smooth one, lost details may change nothing."""
    bits = bits_of(syntax)
    smooth = breast(bits)
    noise = np.random.default_rng(1).integers(0, 1 << (bits - 5), smooth.shape)
    return (smooth * 0.9 + noise).astype(smooth.dtype)


def frame_of(kind: str) -> bytes:
    if kind == BOXED:
        return imagecodecs.jpeg2k_encode(
            picture(JPEG2000), level=0, codecformat="jp2", bitspersample=12
        )
    return encode(picture(kind), kind, bits_of(kind))


def file_of(kind: str, frame: bytes | None = None) -> bytes:
    syntax = JPEG2000 if kind == BOXED else kind
    if frame is None and syntax not in NATIVE:
        frame = frame_of(kind)
    return dicom(picture(syntax), bits_of(syntax), syntax=syntax, frame=frame)


def outcome(data: bytes, whole: np.ndarray) -> str:
    """Return the code, ``same``, or ``different`` for a picture that is not the whole file's."""
    try:
        found = read_image(data, RECORD).pixels
    except RecordError as error:
        return error.code if error.code in CODES else f"{error.code} is no code"
    return "same" if np.array_equal(found, whole) else "different"


def bare(data: bytes, cut: int) -> bool:
    """Return whether what is left may be a whole header of something without pixels.

    So it is where the cut is between two elements, or in the next one's tag and length. The parser
    is also blind inside SOP Class UID, the first one, because it converts its value at once.
    """
    ends = {raw.value_tell + raw.length for raw in parse(data).elements() if hasattr(raw, "length")}
    return cut < min(ends) or any(0 <= cut - end < 8 for end in ends)


@pytest.mark.parametrize("kind", [*codecs.DECODERS, BOXED])
def test_a_file_cut_at_any_sixteenth_is_called_damaged(kind: str) -> None:
    data = file_of(kind)
    whole = read_image(data, RECORD).pixels
    for cut in (len(data) * part // 16 for part in SIXTEENTHS):
        found = outcome(data[:cut], whole)
        allowed = DAMAGED | ({"not_dicom"} if cut < 132 else set())
        assert found in allowed or (found == "not_an_image" and bare(data, cut)), cut
    assert outcome(data, whole) == "same"


@pytest.mark.parametrize("kind", [*codecs.DECODERS, BOXED])
def test_a_file_that_lacks_its_last_bytes_is_damaged_or_the_same(kind: str) -> None:
    data = file_of(kind)
    whole = read_image(data, RECORD).pixels
    for lost in range(1, 40):
        assert outcome(data[:-lost], whole) in DAMAGED | {"same"}, lost


@pytest.mark.parametrize("kind", [*codecs.DECODERS, BOXED])
def test_pixel_data_cut_at_any_sixteenth_in_a_whole_file_is_called_damaged(kind: str) -> None:
    """As after a transfer that cut the frame and then wrote a correct file around it."""
    whole = read_image(file_of(kind), RECORD).pixels
    if kind in NATIVE:
        order = ">" if kind == BIG_ENDIAN else "<"
        frame = picture(kind).astype(f"{order}u2").tobytes()
    else:
        frame = frame_of(kind)
    cuts = [frame[: len(frame) * part // 16] for part in SIXTEENTHS]
    assert {outcome(file_of(kind, cut), whole) for cut in cuts} <= DAMAGED
    assert outcome(file_of(kind, frame), whole) == "same"


@pytest.mark.parametrize("kind", [*COMPRESSED, BOXED])
def test_a_frame_whose_end_was_zeroed_is_called_damaged(kind: str) -> None:
    """As on a disk whose last blocks were never written."""
    whole, frame = read_image(file_of(kind), RECORD).pixels, frame_of(kind)
    for part in SIXTEENTHS:
        kept = frame[: len(frame) * part // 16]
        zeroed = kept + bytes(len(frame) - len(kept))
        assert outcome(file_of(kind, zeroed), whole) in DAMAGED, part


@pytest.mark.parametrize("kind", [*COMPRESSED, BOXED])
def test_a_frame_with_padding_behind_its_end_is_the_same(kind: str) -> None:
    whole, frame = read_image(file_of(kind), RECORD).pixels, frame_of(kind)
    for padding in (b"\0", bytes(2), bytes(200)):
        assert outcome(file_of(kind, frame + padding), whole) == "same"


def frames_file(syntax: str, number: int = 3) -> bytes:
    ds = dataset(picture(syntax), bits_of(syntax), NumberOfFrames=number)
    if syntax in NATIVE:
        ds.add_new(PIXEL_DATA, "OW", picture(syntax).tobytes() * number)
    else:
        ds.add_new(PIXEL_DATA, "OB", encapsulate([frame_of(syntax)] * number))
        ds[PIXEL_DATA].is_undefined_length = True
    return write(ds, syntax)


@pytest.mark.parametrize("syntax", [EXPLICIT, DEFLATED, RLE, JPEG_LOSSLESS_SV1, JPEG2000, HTJ2K])
def test_several_frames_cut_anywhere_are_called_damaged_in_every_way_of_reading(
    syntax: str,
) -> None:
    data = frames_file(syntax)
    first = render_stored(data, RECORD)
    np.testing.assert_array_equal(first, render_stored(file_of(syntax), RECORD))
    for part in SIXTEENTHS:
        with pytest.raises(RecordError) as caught:
            render_stored(data[: len(data) * part // 16], RECORD)
        assert caught.value.code in DAMAGED
        with pytest.raises(RecordError) as caught:
            read_image(data[: len(data) * part // 16], RECORD)
        assert caught.value.code in DAMAGED | {"multiframe"}


# The header


def test_a_file_cut_inside_its_header_does_not_pass_for_one_without_pixels() -> None:
    data = dicom(breast(), 12, WindowCenter=[1000], WindowWidth=[2000], PatientName="X" * 60)
    for cut in range(gate.check_file(data).end, data.index(b"\xe0\x7f\x10\x00") + 12):
        with pytest.raises(RecordError) as caught:
            read_image(data[:cut], RECORD)
        allowed = {"not_an_image", "no_pixels", "header_missing"} if bare(data, cut) else set()
        assert caught.value.code in allowed | {"unreadable"}, cut


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_a_compressed_file_without_its_delimiter_is_unreadable_and_not_left_out(
    syntax: str,
) -> None:
    data = file_of(syntax)
    assert data[-8:] == b"\xfe\xff\xdd\xe0" + bytes(4)
    with pytest.raises(RecordError) as caught:
        read_image(data[:-8], RECORD)
    assert caught.value.code == "unreadable"


def test_an_element_inside_a_sequence_may_be_short_without_harm() -> None:
    data = dicom(breast(), 12)
    at = data.index(b"\xe0\x7f\x10\x00")
    inner = b"\x28\x00\x10\x30LO" + struct.pack("<H", 50) + b"X"
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inner)) + inner
    sequence = b"\x40\x00\x75\x02SQ\0\0" + struct.pack("<I", len(item)) + item
    whole = read_image(data, RECORD).pixels
    assert outcome(data[:at] + sequence + data[at:], whole) == "same"


# The codestreams


def flaw(frame: bytes) -> str | None:
    found = read_codestream(frame)
    assert found is not None
    result = find_flaw(frame, found)
    return None if result is None else result[1]


@pytest.mark.parametrize("kind", [k for k in (*COMPRESSED, BOXED) if k != RLE])
def test_a_whole_frame_has_no_flaw(kind: str) -> None:
    assert flaw(frame_of(kind)) is None


@pytest.mark.parametrize("kind", [k for k in (*COMPRESSED, BOXED) if k != RLE])
def test_a_frame_without_its_end_has_one(kind: str) -> None:
    assert "no end" in (flaw(frame_of(kind)[:-2]) or "")


@pytest.mark.parametrize("kind", [JPEG2000, BOXED, HTJ2K])
def test_a_tile_part_beyond_the_data_is_seen_behind_a_false_end(kind: str) -> None:
    frame = frame_of(kind)
    for part in range(8, 16):
        assert flaw(frame[: len(frame) * part // 16] + b"\xff\xd9"), part


def test_the_last_tile_part_may_reach_to_the_end() -> None:
    frame = frame_of(JPEG2000)
    at = frame.index(b"\xff\x90")
    (length,) = struct.unpack_from(">I", frame, at + 6)
    assert length == len(frame) - at - 2
    open_ended = frame[: at + 6] + bytes(4) + frame[at + 10 :]
    assert flaw(open_ended) is None
    whole = read_image(file_of(JPEG2000), RECORD).pixels
    assert outcome(file_of(JPEG2000, open_ended), whole) == "same"


def test_a_missing_tile_is_seen() -> None:
    stream = io.BytesIO()
    whole = Image.fromarray(picture(JPEG2000))
    whole.save(stream, "JPEG2000", no_jp2=True, tile_size=(48, 64))
    frame = stream.getvalue()
    assert flaw(frame) is None
    starts = [n for n in range(len(frame)) if frame[n : n + 4] == b"\xff\x90\x00\x0a"]
    assert len(starts) == 4
    for first, end in zip(starts, [*starts[1:], len(frame) - 2], strict=True):
        assert flaw(frame[:first] + frame[end:]) == "the codestream has 3 of its 4 tiles"


def test_ends_and_tiles_are_those_of_real_files(real_data: object) -> None:
    seen = 0
    for path in sorted(real_data.rglob("*.dcm")):  # type: ignore[attr-defined]
        data = path.read_bytes()
        try:
            meta = gate.check_file(data)
            ds = parse(data)
        except RecordError:
            continue
        if meta.transfer_syntax not in COMPRESSED or ds.get_item(PIXEL_DATA) is None:
            continue
        frames = read_facts(ds, meta.transfer_syntax, meta.sop_class).kind.frames or 1
        frame = get_frame(ds[PIXEL_DATA].value, 0, number_of_frames=frames)
        if (found := read_codestream(frame)) is not None:
            assert find_flaw(frame, found) is None, path.name
            seen += 1
    assert seen >= 18


@pytest.mark.parametrize(
    ("limit", "kind"),
    [("_MOST_TILES", JPEG2000), ("_MOST_TILE_PARTS", JPEG2000), ("_MOST_BLOCKS", HTJ2K)],
)
def test_limits_of_a_codestream_are_bounds(
    limit: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_flaws, limit, 0)
    frame = frame_of(kind)
    found = read_codestream(frame)
    assert found is not None
    assert (find_flaw(frame, found) or ("",))[0] == "header_bounds"


@pytest.mark.parametrize(
    ("levels", "size", "expected"),
    # By hand, from ISO/IEC 15444-1 B.6 and B.7, for 128 x 96 pixels and blocks of 2 ** size.
    [
        (0, 6, 2 * 2),
        (0, 5, 4 * 3),
        (1, 5, 3 * 2 * 2 + 2 * 2),
        (2, 4, 3 * 4 * 3 + 3 * 2 * 2 + 2 * 2),
    ],
)
def test_code_blocks_are_counted(levels: int, size: int, expected: int) -> None:
    frame = frame_of(JPEG2000)
    style = bytes([0, levels, size - 2, size - 2, 0, 1])
    assert _flaws._blocks(frame, 0, style) == expected


def test_precincts_make_code_blocks_smaller() -> None:
    frame = frame_of(JPEG2000)
    # Precincts of 32 x 32 at the finer resolution hold blocks of 16 x 16, and of 64 at the other.
    style = bytes([1, 1, 4, 4, 0, 1, 0x66, 0x55])
    assert _flaws._blocks(frame, 0, style) == 3 * 4 * 3 + 1 * 1
    empty = bytes([1, 1, 4, 4, 0, 1])
    assert _flaws._blocks(frame, 0, empty) == 3 * 1 * 1 + 1 * 1


# What cannot be noticed


@pytest.mark.parametrize("kind", [RLE, JPEG_LS, JPEG_LS_LOSSY, JPEG2000, BOXED, HTJ2K])
def test_a_false_end_behind_a_cut_is_noticed(kind: str) -> None:
    whole, frame = read_image(file_of(kind), RECORD).pixels, frame_of(kind)
    for part in SIXTEENTHS:
        cut = frame[: len(frame) * part // 16] + b"\xff\xd9"
        assert outcome(file_of(kind, cut), whole) in DAMAGED, part


@pytest.mark.parametrize("kind", [JPEG, JPEG_EXTENDED, JPEG_LOSSLESS])
def test_a_false_end_behind_a_cut_of_jpeg_may_pass_but_raises_nothing_else(kind: str) -> None:
    whole, frame = read_image(file_of(kind), RECORD).pixels, frame_of(kind)
    ended = {
        outcome(file_of(kind, frame[: len(frame) * part // 16] + b"\xff\xd9"), whole)
        for part in SIXTEENTHS
    }
    doubts = {"bits_exceed_stored", "blank_image", "nonsense_image", "polarity_suspect"}
    doubts |= {"half_lost"}  # what the decoder filled in is one colour
    assert ended <= DAMAGED | doubts | {"different"}
    assert "same" not in ended


def test_frames_are_compared_by_value() -> None:
    """The comparison of this file sees a difference of one step in one pixel."""
    data = file_of(EXPLICIT)
    image = read_image(data, RECORD)
    changed = bytearray(data)
    changed[-1] ^= 1
    assert outcome(bytes(changed), image.pixels) == "different"
