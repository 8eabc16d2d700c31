"""Parts and lower resolutions of JPEG 2000: the same values, at the right places, or everything."""

import io
import struct
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
from dicoms import (
    EXPLICIT,
    HTJ2K,
    HTJ2K_LOSSY,
    JPEG2000,
    JPEG2000_LOSSY,
    JPEG_LOSSLESS_SV1,
    RECORD,
    breast,
    dicom,
)
from PIL import Image

from mammoprep import preparation
from mammoprep.config import Settings
from mammoprep.core.errors import RecordError
from mammoprep.decode import _levels, codecs, openjpeg, partial
from mammoprep.decode._facts import PixelFormat
from mammoprep.decode._picture import Picture
from mammoprep.decode.dicom import open_image
from mammoprep.image import MammoImage

SHAPE = (701, 633)
KINDS = [
    (JPEG2000, "j2k"),
    (JPEG2000, "jp2"),
    (JPEG2000_LOSSY, "j2k"),
    (JPEG2000_LOSSY, "jp2"),
]
REGIONS = [
    ((0, 1), (0, 1)),
    ((700, 701), (632, 633)),
    ((0, 701), (0, 1)),
    ((350, 351), (0, 633)),
    ((63, 66), (127, 130)),
    ((17, 700), (31, 632)),
    ((1, 701), (1, 633)),
    ((0, 701), (0, 633)),
]
needs_library = pytest.mark.skipif(openjpeg.library() is None, reason="no OpenJPEG library")


def textured(bits: int = 12, shape: tuple[int, int] = SHAPE, *, signed: bool = False) -> np.ndarray:
    """A breast with noise in every wavelet band, over the whole range of its bits."""
    noise = np.random.default_rng(bits).integers(0, 1 << (bits - 5), shape)
    values = np.minimum(breast(bits, shape=shape).astype(int) + noise, (1 << bits) - 1)
    kind = "u1" if bits <= 8 else "i2" if signed else "u2"
    return values.astype(kind)


def encoded(words: np.ndarray, bits: int, syntax: str = JPEG2000, box: str = "j2k") -> bytes:
    lossy = syntax == JPEG2000_LOSSY
    return imagecodecs.jpeg2k_encode(
        words,
        level=60 if lossy else 0,
        codecformat=box,
        bitspersample=bits,
        reversible=not lossy,
    )


def frame_of(
    data: bytes,
    bits: int = 12,
    syntax: str = JPEG2000,
    shape: tuple[int, int] = SHAPE,
    **changes: object,
) -> codecs.Frame:
    """A frame whose codestream is as deep as the header says."""
    format_ = PixelFormat(
        transfer_syntax=syntax,
        rows=shape[0],
        columns=shape[1],
        samples=1,
        photometric="MONOCHROME2",
        bits_allocated=8 if bits <= 8 else 16,
        bits_stored=bits,
        high_bit=bits - 1,
        signed=False,
        overlay_bits=0,
        word_vr="OB",
    )
    return codecs.Frame(data, replace(format_, **changes), bits)  # type: ignore[arg-type]


def whole_level(frame: codecs.Frame, level: int) -> np.ndarray:
    side = partial.size_at((frame.pixels.rows or 0, frame.pixels.columns or 0), level)
    return partial.decode_part(frame, level, (0, side[0]), (0, side[1])).stored


def halved(values: np.ndarray) -> np.ndarray:
    """The low-pass band of the reversible wavelet along axis 0 (ISO/IEC 15444-1 F.4.8.1)."""
    padded = np.pad(values.astype(int), ((2, 2), (0, 0)), mode="reflect")
    high = padded[1::2] - (padded[0:-1:2][: padded[1::2].shape[0]] + _next(padded)) // 2
    low = padded[2:-2:2]
    before, after = high[: low.shape[0]], high[1 : low.shape[0] + 1]
    return low + (before + after + 2) // 4


def _next(padded: np.ndarray) -> np.ndarray:
    count = padded[1::2].shape[0]
    after = padded[2::2]
    return after if after.shape[0] == count else np.vstack([after, padded[-3:-2]])


# What a part is


@pytest.mark.parametrize(("syntax", "box"), KINDS)
def test_a_region_equals_the_same_region_of_the_whole(syntax: str, box: str) -> None:
    """Bit for bit: also for the 9/7 wavelet, which computes in floating point."""
    frame = frame_of(encoded(textured(), 12, syntax, box), syntax=syntax)
    whole = codecs.decode(frame).stored
    assert partial.levels(frame) == 5
    for rows, columns in REGIONS:
        part = partial.decode_part(frame, 0, rows, columns).stored
        assert np.array_equal(part, whole[slice(*rows), slice(*columns)]), (rows, columns)


@pytest.mark.parametrize(("syntax", "box"), KINDS)
def test_a_region_of_a_level_equals_that_region_of_the_whole_level(syntax: str, box: str) -> None:
    frame = frame_of(encoded(textured(), 12, syntax, box), syntax=syntax)
    for level in range(1, 6):
        whole = whole_level(frame, level)
        rows, columns = ((side // 3, side - side // 5) for side in whole.shape)
        for area in ((rows, columns), ((0, 1), columns), (rows, (whole.shape[1] - 1,) * 2)):
            down, across = area[0], (area[1][0], max(area[1][1], area[1][0] + 1))
            part = partial.decode_part(frame, level, down, across).stored
            assert np.array_equal(part, whole[slice(*down), slice(*across)])


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_level_is_the_low_pass_band_of_the_standard_from_the_first_sample_on(bits: int) -> None:
    words = textured(bits)
    frame = frame_of(encoded(words, bits), bits)
    expected = words.astype(int)
    for level in (1, 2, 3):
        expected = halved(halved(expected).T).T
        top = (1 << bits) - 1
        assert np.array_equal(whole_level(frame, level), np.clip(expected, 0, top))


@pytest.mark.parametrize("syntax", [JPEG2000, JPEG2000_LOSSY])
def test_a_level_equals_what_pillow_reduces_the_whole_to(syntax: str) -> None:
    shape = (768, 640)  # Pillow rounds other sizes its own way
    data = encoded(textured(12, shape), 12, syntax, "jp2")
    frame = frame_of(data, syntax=syntax, shape=shape)
    for level in range(1, 6):
        with Image.open(io.BytesIO(data)) as picture:
            picture.reduce = level
            picture.load()
            reduced = np.asarray(picture) >> 4
        assert np.array_equal(whole_level(frame, level), np.minimum(reduced, 4095))


@pytest.mark.slow
@needs_library
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize(("syntax", "box"), KINDS)
def test_without_the_library_pillow_gives_the_same_bits(
    syntax: str, box: str, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = frame_of(encoded(textured(bits), bits, syntax, box), bits, syntax)
    whole = (((32, 701), (64, 633)), ((0, 640), (320, 512)))
    areas = [
        (level, *(tuple(edge >> level for edge in span) for span in area))
        for level in (0, 1, 2, 5)
        for area in whole
    ]
    ours = [partial.decode_part(frame, *area).stored for area in areas]  # type: ignore[arg-type]
    assert partial.name().startswith("openjpeg")
    monkeypatch.setattr(openjpeg, "library", lambda: None)
    monkeypatch.setattr(partial, "by_openjpeg", None)
    for area, expected in zip(areas, ours, strict=True):
        found = partial.decode_part(frame, *area)  # type: ignore[arg-type]
        assert np.array_equal(found.stored, expected)
        assert found.stored.dtype == expected.dtype


# Which frames have parts


def saved_by_pillow(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(textured(16)).save(buffer, "JPEG2000", **options)
    return buffer.getvalue()


def with_component_style(data: bytes) -> bytes:
    """A codestream whose COD is repeated for its component (ISO/IEC 15444-1 A.6.2)."""
    at = data.index(b"\xff\x52")
    (length,) = struct.unpack_from(">H", data, at + 2)
    style = data[at + 9 : at + 14]
    end = at + 2 + length
    return data[:end] + b"\xff\x53" + struct.pack(">HBB", 9, 0, 0) + style + data[end:]


ODD = {
    "tiles": lambda: saved_by_pillow(tile_size=(256, 256)),
    "image offset": lambda: saved_by_pillow(tile_size=(1000, 1000), offset=(3, 5)),
    "component style": lambda: with_component_style(encoded(textured(16), 16)),
    "cut off": lambda: encoded(textured(16), 16)[:-2],
}


@pytest.mark.parametrize("name", ODD)
def test_odd_codestreams_have_no_levels(name: str) -> None:
    data = ODD[name]()
    assert partial.levels(frame_of(data, 16)) == 0
    assert partial.levels(frame_of(encoded(textured(16), 16), 16)) == 5


@pytest.mark.parametrize("name", ["tiles", "image offset", "component style"])
def test_odd_codestreams_are_decoded_whole(name: str) -> None:
    data = dicom(textured(16), 16, syntax=JPEG2000, frame=ODD[name]())
    fast, exact = both(data, (64, 128))
    assert fast.acquisition.decode == "exact"
    assert fast.notes["resolutions"] == 0
    assert np.array_equal(fast.pixels, exact.pixels)


@pytest.mark.parametrize(
    ("bits", "changes", "levels"),
    [
        (7, {}, 0),
        (8, {}, 5),
        (9, {}, 0),
        (10, {}, 5),
        (12, {"signed": True}, 0),
        (12, {"overlay_bits": 1 << 15}, 0),
        (12, {"transfer_syntax": EXPLICIT}, 0),
        (12, {"transfer_syntax": JPEG_LOSSLESS_SV1}, 0),
    ],
)
def test_signs_overlays_and_depths_that_pillow_alters_have_no_levels(
    bits: int, changes: dict[str, object], levels: int
) -> None:
    frame = frame_of(encoded(textured(bits), bits), bits, **changes)
    assert partial.levels(frame) == levels


@pytest.mark.parametrize("syntax", [HTJ2K, HTJ2K_LOSSY, JPEG2000])
def test_high_throughput_data_has_no_levels_whatever_its_syntax(syntax: str) -> None:
    """OpenJPEG 2.5.4 returns a constant for a region of it, without an error."""
    words = textured()
    data = imagecodecs.htj2k_encode(words, reversible=syntax != HTJ2K_LOSSY)
    assert partial.levels(frame_of(data, 12, syntax)) == 0


@pytest.mark.parametrize("syntax", [HTJ2K, HTJ2K_LOSSY])
def test_high_throughput_files_are_decoded_whole(syntax: str) -> None:
    words = textured(16)
    frame = imagecodecs.htj2k_encode(words, reversible=syntax == HTJ2K)
    fast, exact = both(dicom(words, 16, syntax=syntax, frame=frame), (64, 128))
    assert fast.acquisition.decode == "exact"
    assert np.array_equal(fast.pixels, exact.pixels)


@pytest.mark.parametrize("changes", [{"overlay_bit": 15}, {"PixelRepresentation": 1}])
def test_overlays_and_signs_are_decoded_whole(changes: dict[str, int]) -> None:
    signed = "PixelRepresentation" in changes
    fast, exact = both(dicom(textured(signed=signed), 12, syntax=JPEG2000, **changes), (64, 128))
    assert fast.acquisition.decode == exact.acquisition.decode == "exact"
    assert fast.notes["resolutions"] == 0
    assert np.array_equal(fast.pixels, exact.pixels)


# Values outside of Bits Stored


def test_the_overshoot_of_the_wavelet_is_cut() -> None:
    words = np.zeros(SHAPE, "u2")
    words[99:302] = 4095
    frame = frame_of(encoded(words, 16), bits=16, bits_stored=12, high_bit=11)
    raw = partial.by_pillow(frame, 1, (0, 351), (0, 317))
    assert 4095 < raw.max() < 4095 * 1.25
    found = partial.decode_part(frame, 1, (0, 351), (0, 317)).stored
    assert np.array_equal(found, np.minimum(raw, 4095))


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("stroke", [3, 6, 12])
def test_print_as_white_as_can_be_is_no_sign_of_a_wrong_header(stroke: int, fast: bool) -> None:
    """The corners of thin white lines overshoot by up to 62 % in 16-bit codestreams."""
    words = breast(12, shape=(1403, 1251))
    for start in range(40, 200, 5 * stroke):
        words[start : start + stroke, 1000 : 1000 + stroke] = 4095
        words[start : start + stroke, 1100:1150] = 4095
    data = dicom(words, 12, syntax=JPEG2000, frame=encoded(words, 16, box="jp2"))
    assert finished(data, (300, 600), fast=fast).pixels.any()


@pytest.mark.parametrize("level", [1, 3])
def test_values_far_above_bits_stored_fail_at_every_level(level: int) -> None:
    words = textured()
    words[300:400, 200:300] = 5800
    frame = frame_of(encoded(words, 16), bits=16, bits_stored=12, high_bit=11)
    side = partial.size_at(SHAPE, level)
    with pytest.raises(RecordError) as failure:
        partial.decode_part(frame, level, (0, side[0]), (0, side[1]))
    assert failure.value.code == "bits_exceed_stored"


@pytest.mark.parametrize("fast", [False, True])
def test_a_file_with_values_far_above_bits_stored_fails(fast: bool) -> None:
    words = textured()
    words[300:400, 50:150] = 5800
    data = dicom(words, 12, syntax=JPEG2000, frame=encoded(words, 16))
    with pytest.raises(RecordError) as failure:
        finished(data, (64, 128), fast=fast)
    assert failure.value.code == "bits_exceed_stored"


# What a build gets


def finished(data: bytes, size: tuple[int, int], *, fast: bool, voi: str = "auto") -> MammoImage:
    steps = preparation.steps(Settings(size=size, bits=16))
    return preparation.finish(data, RECORD, steps, voi=voi, fast=fast)


def both(data: bytes, size: tuple[int, int]) -> tuple[MammoImage, MammoImage]:
    fast, exact = (finished(data, size, fast=fast) for fast in (True, False))
    assert exact.acquisition.decode == "exact"
    assert fast.geometry == exact.geometry
    assert np.array_equal(fast.breast, exact.breast)
    return fast, exact


@pytest.fixture(scope="module")
def large() -> bytes:
    """1403 x 1251 pixels: at 640 rows and less, levels can be skipped."""
    return dicom(textured(12, (1403, 1251)), 12, syntax=JPEG2000)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((900, 1300), "exact"),
        ((500, 800), "exact"),
        ((300, 600), "level:1"),
        ((200, 300), "level:2"),
        ((80, 160), "level:3"),
    ],
)
def test_acquisition_says_which_level_was_read(
    large: bytes, size: tuple[int, int], told: str
) -> None:
    fast, _ = both(large, size)
    assert fast.acquisition.decode == told
    assert fast.acquisition.to_json()["decode"] == told


@pytest.mark.parametrize("size", [(900, 1300), (500, 800)])
def test_the_picture_is_exact_where_no_level_is_skipped(
    large: bytes, size: tuple[int, int]
) -> None:
    fast, exact = both(large, size)
    assert np.array_equal(fast.pixels, exact.pixels)


def test_percentiles_and_bright_padding_need_every_pixel(large: bytes) -> None:
    percentile = finished(large, (200, 300), fast=True, voi="percentile")
    assert percentile.acquisition.decode == "exact"
    words = textured(12, (1403, 1251))
    words[:, 900:] = 4000
    bright = dicom(words, 12, syntax=JPEG2000, PixelPaddingValue=4000)
    dark = dicom(words - (words == 4000) * words, 12, syntax=JPEG2000, PixelPaddingValue=0)
    assert both(bright, (200, 300))[0].acquisition.decode == "exact"
    assert both(dark, (200, 300))[0].acquisition.decode == "level:2"


def picture_of(data: bytes, *, fast: bool) -> Picture:
    """The picture behind an opened image."""
    image = open_image(data, RECORD, fast=fast)
    assert image.detail is not None
    return image.detail.__self__  # type: ignore[attr-defined,no-any-return]


def test_samples_cover_the_target_in_both_directions_and_no_coarser_level_would(
    large: bytes,
) -> None:
    picture = picture_of(large, fast=True)
    rng = np.random.default_rng(5)
    seen = set()
    for reduced in 2.0 ** np.linspace(-0.5, 6, 40):
        x0, y0 = int(rng.integers(0, 900)), int(rng.integers(0, 900))
        high, wide = (int(v) for v in rng.integers(70, 350, 2))
        size = max(1, round(high / reduced)), max(1, round(wide / reduced / rng.uniform(1, 2)))
        found = picture.detail((x0, y0, x0 + wide, y0 + high), size)
        step = found.step
        assert step == 1 or (high >= step * size[0] and wide >= step * size[1])
        coarser = 2 * step
        assert step == 32 or high < coarser * size[0] or wide < coarser * size[1]
        top, left = found.origin
        rows, columns = found.pixels.shape
        assert top <= y0
        assert left <= x0
        # Beyond the last sample there may be half of one.
        assert top + step * rows > y0 + high - step
        assert left + step * columns > x0 + wide - step
        seen.add(step)
    assert seen == {1, 2, 4, 8, 16, 32}


def test_exact_never_skips_a_level(large: bytes) -> None:
    assert picture_of(large, fast=False).detail((0, 0, 1251, 1403), (20, 20)).step == 1


@needs_library
@pytest.mark.parametrize("fast", [False, True])
def test_a_part_that_cannot_be_decoded_leads_to_the_whole(
    large: bytes, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = finished(large, (300, 600), fast=False)

    def fails(*_: object) -> np.ndarray:
        raise ValueError("OpenJPEG refuses the codestream in step 3")

    monkeypatch.setattr(openjpeg, "decode", fails)
    found = finished(large, (300, 600), fast=fast)
    assert found.acquisition.decode == "exact"
    assert found.acquisition.decoder != expected.acquisition.decoder
    # The overview is now made of block means, so that the box may move by one of its samples.
    assert np.abs(np.subtract(found.geometry.crop, expected.geometry.crop)).max() <= 4


def test_a_detail_that_fails_after_the_overview_is_the_exact_one(
    large: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = finished(large, (300, 600), fast=False)
    real = partial.decode_part

    def only_overview(frame: codecs.Frame, level: int, *spans: tuple[int, int]) -> codecs.Decoded:
        if level < _levels.overview_level((1403, 1251)):
            raise RecordError("decode_error", "ValueError in openjpeg")
        return real(frame, level, *spans)

    monkeypatch.setattr(partial, "decode_part", only_overview)
    found = finished(large, (300, 600), fast=True)
    assert found.acquisition.decode == "exact"
    assert found.geometry == expected.geometry
    assert np.array_equal(found.pixels, expected.pixels)


# Where samples lie


def dotted(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A smooth breast with soft dots, 12 bits, and the dots' centres (x, y) in stored pixels."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[150 : shape[0] - 150 : 90, 60:330:90].reshape(2, -1)
    centres = np.stack([x, y], axis=1) + rng.uniform(0, 8, (x.size, 2))
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    values = breast(12, shape=shape).astype(float)
    for cx, cy in centres:
        part = slice(int(cy) - 40, int(cy) + 40), slice(int(cx) - 40, int(cx) + 40)
        far = (columns[part] + 0.5 - cx) ** 2 + (rows[part] + 0.5 - cy) ** 2
        values[part] += 700 * np.exp(-far / (2 * 7.0**2))
    return np.minimum(values, 4095).astype("u2"), centres


def centroids(image: MammoImage, ground: MammoImage, points: np.ndarray) -> np.ndarray:
    """Where the dots lie in a picture by their light, (n, 2) output pixels."""
    light = image.pixels.astype(float) - ground.pixels
    found = []
    reach = 36 * abs(image.geometry.matrix[0][0])
    for x, y in image.geometry.from_stored(points):
        x0, x1, y0, y1 = (round(v) for v in (x - reach, x + reach, y - reach, y + reach))
        part = np.clip(light[y0:y1, x0:x1], 0, None)
        total = part.sum()
        found.append(
            (
                part.sum(axis=0) @ (np.arange(x0, x1) + 0.5) / total,
                part.sum(axis=1) @ (np.arange(y0, y1) + 0.5) / total,
            )
        )
    return np.array(found)


def place_errors(size: tuple[int, int]) -> tuple[str, np.ndarray, np.ndarray]:
    """The level, and by how much the mean dot is off in fast and in exact, (2,) of (x, y)."""
    shape = (1403, 1251)
    words, centres = dotted(shape)
    files = [dicom(w, 12, syntax=JPEG2000) for w in (words, breast(12, shape=shape))]
    pictures = [finished(file, size, fast=fast) for fast in (True, False) for file in files]
    assert all(image.geometry == pictures[0].geometry for image in pictures)
    wanted = pictures[0].geometry.from_stored(centres)
    errors = [
        np.mean(centroids(dots, bare, centres) - wanted, axis=0)
        for dots, bare in (pictures[:2], pictures[2:])
    ]
    return pictures[0].acquisition.decode, errors[0], errors[1]


SIZES_OF_LEVELS = [((300, 600), "level:1"), ((220, 320), "level:2"), ((110, 165), "level:3")]


@pytest.mark.parametrize(("size", "level"), SIZES_OF_LEVELS)
def test_dots_lie_where_the_geometry_says_within_a_tenth_of_a_pixel(
    size: tuple[int, int], level: str
) -> None:
    told, fast, exact = place_errors(size)
    assert told == level
    assert np.abs(fast).max() < 0.05
    assert np.abs(fast - exact).max() < 0.05


def unphased(first: tuple[int, int], level: int) -> tuple[float, float]:
    """The origin as if sample i were the mean of the 2**level pixels from i * 2**level on."""
    return float(first[0] << level), float(first[1] << level)


@pytest.mark.parametrize(("size", "level"), SIZES_OF_LEVELS)
def test_a_forgotten_half_step_is_seen(
    size: tuple[int, int], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above would say of samples that are taken for block means."""
    monkeypatch.setattr(_levels, "origin", unphased)
    told, fast, exact = place_errors(size)
    assert told == level
    assert np.abs(fast - exact).max() > 0.1


# Grey levels


@pytest.mark.parametrize(("size", "level"), [((300, 600), "level:1"), ((220, 320), "level:2")])
@pytest.mark.parametrize("syntax", [JPEG2000, JPEG2000_LOSSY])
def test_the_rounding_of_the_reversible_wavelet_is_taken_out(
    size: tuple[int, int], level: str, syntax: str
) -> None:
    """It adds half a stored value a level, which 12 bits and few grey levels would show."""
    noise = np.random.default_rng(1).normal(0, 6, (1403, 1251))
    words = np.clip(breast(12, shape=(1403, 1251)) / 8 + noise + 200, 0, 4095).astype("u2")
    data = dicom(words, 12, syntax=syntax, WindowCenter="400", WindowWidth="600")
    fast, exact = both(data, size)
    assert fast.acquisition.decode == level
    inside = exact.breast
    stored = (fast.pixels[inside].astype(float) - exact.pixels[inside]).mean() / 65535 * 600
    assert abs(stored) < 0.15
