"""Facts of a header: enumerations, numbers and None, whatever the file says."""

import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dicoms import BARE, BIG_ENDIAN, EXPLICIT, IMPLICIT, RECORD, breast, dicom
from pydicom.dataset import Dataset

from mammoprep.core.errors import RecordError
from mammoprep.decode import _kind
from mammoprep.decode.dicom import read_image
from mammoprep.decode.header import read_facts
from mammoprep.image import MammoImage

ROOT = "1.2.840.10008.5.1.4.1.1."


def read(record: Any = RECORD, *, gate_kind: bool = True, **attributes: Any) -> MammoImage:
    return read_image(dicom(breast(), 12, **attributes), record, gate_kind=gate_kind)


def code_of(record: Any = RECORD, **attributes: Any) -> str:
    """Return the exclusion's code, and check that it is a warning when the gate is open."""
    with pytest.raises(RecordError) as caught:
        read(record, **attributes)
    assert caught.value.code in read(record, gate_kind=False, **attributes).warnings
    return caught.value.code


def coded(value: str, scheme: str, *modifiers: tuple[str, str]) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, scheme
    if modifiers:
        item.ViewModifierCodeSequence = [coded(*modifier) for modifier in modifiers]
    return item


# Kinds


@pytest.mark.parametrize(
    ("sop_class", "attributes", "code"),
    [
        ("1.2.1", {}, "for_processing"),
        ("13.1.3", {}, "multiframe"),
        ("13.1.4", {}, "view_excluded"),
        ("13.1.5", {}, "for_processing"),
        ("1.1", {"Modality": "DX"}, "not_a_mammogram"),
        ("1.1", {"Modality": "DX", "BodyPartExamined": "CHEST"}, "not_a_mammogram"),
        ("1.1.1", {"Modality": "DX", "BodyPartExamined": "BREAST"}, "for_processing"),
        ("2", {"Modality": "CT"}, "not_a_mammogram"),
        ("6.1", {"Modality": "US", "BodyPartExamined": "BREAST"}, "not_a_mammogram"),
    ],
)
def test_other_kinds_are_left_out_by_their_own_code(
    sop_class: str, attributes: dict[str, str], code: str
) -> None:
    for record in (RECORD, BARE):
        assert code_of(record, SOPClassUID=ROOT + sop_class, **attributes) == code


@pytest.mark.parametrize(
    "attributes",
    [
        {"Modality": "MG"},
        {"Modality": "DX", "BodyPartExamined": "BREAST"},
        {"BreastImplantPresent": "NO"},
    ],
)
def test_digital_x_ray_is_accepted_when_the_header_says_breast(attributes: dict[str, str]) -> None:
    read(BARE, SOPClassUID=ROOT + "1.1", **attributes)


@pytest.mark.parametrize("sop_class", [ROOT + "1.1", ROOT + "1"])
def test_a_stripped_header_is_believed_and_a_bare_folder_says_so(sop_class: str) -> None:
    silent = {"SOPClassUID": sop_class, "Modality": None}
    assert "kind_assumed" not in read(RECORD, **silent).warnings
    assert "kind_assumed" in read(BARE, **silent).warnings
    assert "kind_assumed" not in read(BARE, SOPClassUID=sop_class).warnings


def classless(**attributes: str) -> list[tuple[str, str]]:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return _kind.exclusions(read_facts(dataset, EXPLICIT, None), BARE)


def test_without_a_class_only_what_is_stated_leaves_a_file_out() -> None:
    assert classless() == []
    assert classless(Modality="MG") == []
    assert classless(Modality="CT")[0][0] == "not_a_mammogram"


@pytest.mark.parametrize("other", [{"Modality": "CR"}, {"BodyPartExamined": "CHEST"}])
def test_a_storage_plate_of_another_part_is_left_out_of_a_bare_folder(other: dict) -> None:
    plate = {"SOPClassUID": ROOT + "1", "Modality": None, **other}
    read(RECORD, **plate)
    assert code_of(BARE, **plate) == "not_a_mammogram"
    read(BARE, **plate, BreastImplantPresent="NO")


def test_without_a_class_the_intent_tells_detector_values() -> None:
    assert classless(PresentationIntentType="FOR PROCESSING")[0][0] == "for_processing"
    assert classless(PresentationIntentType="FOR PRESENTATION") == []


def test_a_missing_sop_class_is_odd_only_where_the_file_meta_is_silent_too() -> None:
    for meta, codes in ((None, ("sop_class_missing",)), (f"{ROOT}1.1", ())):
        facts = read_facts(Dataset(), EXPLICIT, meta)
        assert tuple(c for c in facts.warnings if c == "sop_class_missing") == codes


def test_secondary_capture_is_accepted_from_tables_only() -> None:
    film = {"SOPClassUID": ROOT + "7"}
    assert "secondary_capture" in read(RECORD, **film).warnings
    assert code_of(BARE, **film) == "not_a_mammogram"


def test_an_intent_that_contradicts_the_class_is_a_warning() -> None:
    assert "intent_conflict" in read(PresentationIntentType="FOR PROCESSING").warnings
    assert "intent_conflict" not in read().warnings


@pytest.mark.parametrize("kind", ["STEREO", "TOMO_PROJ", "POST_CONTRAST"])
def test_biopsy_projection_and_contrast_pictures_are_left_out(kind: str) -> None:
    assert code_of(ImageType=["DERIVED", "PRIMARY", kind]) == "view_excluded"


def test_a_generated_view_is_recorded() -> None:
    image = read(ImageType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"], gate_kind=False)
    assert "GENERATED_2D" in image.notes["image_type"]
    image = read(ImageType=["DERIVED", "PRIMARY", "SOMETHING PRIVATE"])
    assert image.notes["image_type"][-1] == "other"


def test_text_burned_into_the_picture_is_refused() -> None:
    assert code_of(BurnedInAnnotation="YES") == "burned_in"
    assert read(BurnedInAnnotation="NO").notes["burned_in"] is False
    assert read().notes["burned_in"] is None


# Views


@pytest.mark.parametrize(
    ("code", "scheme", "view"),
    [
        ("399162004", "SCT", "CC"),
        ("R-10242", "SNM3", "CC"),
        ("R-10226", "SRT", "MLO"),
        ("399368009", "SCT", "MLO"),
        ("R-40AAA", "SRT", "ISO"),
        ("Y-X1770", "SNM3", "XCCL"),
        ("399162004", "99PRIVATE", None),
        ("12345", "SCT", None),
    ],
)
def test_views_are_read_from_codes_of_the_three_schemes(code: str, scheme: str, view: str) -> None:
    assert read(ViewCodeSequence=[coded(code, scheme)]).acquisition.view == view


def test_the_view_code_wins_over_the_view_position() -> None:
    image = read(ViewCodeSequence=[coded("399162004", "SCT")], ViewPosition="MLO")
    assert image.acquisition.view == "CC"
    assert "view_conflict" in image.warnings
    assert read(ViewPosition="mlo ").acquisition.view == "MLO"


@pytest.mark.parametrize("code", ["399163009", "399055006", "R-102D6", "399110001"])
def test_magnified_spot_and_tangential_views_are_left_out(code: str) -> None:
    scheme = "SRT" if code.startswith("R") else "SCT"
    assert code_of(ViewCodeSequence=[coded("399162004", "SCT", (code, scheme))]) == "view_excluded"


def test_specimens_are_left_out_and_displaced_implants_are_not() -> None:
    assert code_of(ViewCodeSequence=[coded("127457009", "SCT")]) == "view_excluded"
    image = read(ViewCodeSequence=[coded("399162004", "SCT", ("399209000", "SCT"))])
    assert image.notes["view_modifiers"] == ["implant_displaced"]


# Sides


@pytest.mark.parametrize(
    ("image_level", "series_level", "side", "conflict"),
    [
        ("L", None, "L", False),
        ("R", "R", "R", False),
        ("L", "R", "L", True),
        (None, "R", "R", False),
        ("U", "R", "R", False),
        ("", "L", "L", False),
        ("B", None, None, False),
        (None, None, None, False),
        ("left", None, None, False),
    ],
)
def test_the_image_level_side_comes_first(
    image_level: str | None, series_level: str | None, side: str | None, conflict: bool
) -> None:
    stated = {"ImageLaterality": image_level, "Laterality": series_level}
    image = read(**{name: value for name, value in stated.items() if value is not None})
    assert image.acquisition.laterality == side
    assert ("laterality_conflict" in image.warnings) == conflict


def test_a_frame_level_side_is_found() -> None:
    anatomy, group = Dataset(), Dataset()
    anatomy.FrameLaterality = "R"
    group.FrameAnatomySequence = [anatomy]
    assert read(SharedFunctionalGroupsSequence=[group]).acquisition.laterality == "R"


def test_a_table_that_disagrees_is_a_warning() -> None:
    record = replace(RECORD, laterality="R", view="CC")
    image = read(record, ImageLaterality="L", ViewPosition="MLO")
    assert {"laterality_conflict", "view_conflict"} <= set(image.warnings)
    image = read(record, ImageLaterality="R", ViewPosition="CC")
    assert not {"laterality_conflict", "view_conflict"} & set(image.warnings)


@pytest.mark.parametrize(
    ("orientation", "first"),
    [(["A", "FR"], "A"), (["P", "F"], "P"), (["R", "P"], None), ("", None)],
)
def test_orientation_is_reduced_to_its_first_letter(orientation: Any, first: str | None) -> None:
    assert read(PatientOrientation=orientation).acquisition.patient_orientation == first


@pytest.mark.parametrize(
    ("orientation", "second"),
    [(["A", "FR"], "F"), (["P", "HL"], "H"), (["A", "R"], None), (["F"], None), ("", None)],
)
def test_the_feet_are_where_the_second_value_says(orientation: Any, second: str | None) -> None:
    assert read(PatientOrientation=orientation).acquisition.column_direction == second


# Sizes


def test_spacing_at_the_detector_is_divided_by_the_magnification() -> None:
    image = read(ImagerPixelSpacing=[0.09, 0.1], EstimatedRadiographicMagnificationFactor=1.8)
    assert image.geometry.spacing_mm == pytest.approx((0.05, 0.1 / 1.8))
    assert image.notes["spacing_source"] == "imager_pixel_spacing"


def test_spacings_are_taken_in_order_and_never_invented() -> None:
    assert read(PixelSpacing=[0.2, 0.3]).geometry.spacing_mm == (0.2, 0.3)
    assert read(NominalScannedPixelSpacing=[0.05, 0.05]).geometry.spacing_mm == (0.05, 0.05)
    both = read(ImagerPixelSpacing=[0.1, 0.1], PixelSpacing=[0.2, 0.2])
    assert both.geometry.spacing_mm == (0.1, 0.1)
    assert read().geometry.spacing_mm is None


@pytest.mark.parametrize("spacing", [[0, 0], [-0.1, 0.1], [1000, 1000], [0.1], [0.1, 0.1, 0.1]])
def test_impossible_spacings_are_passed_over(spacing: Any) -> None:
    image = read(ImagerPixelSpacing=spacing, PixelSpacing=[0.2, 0.2])
    assert image.geometry.spacing_mm == (0.2, 0.2)
    assert "spacing_invalid" in image.warnings


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("HOLOGIC, Inc.", "Hologic"),
        ("GE MEDICAL SYSTEMS", "GE"),
        ("SIEMENS", "Siemens"),
        ("Dr. Somebody", "other"),
        ("", None),
    ],
)
def test_manufacturers_come_from_a_fixed_list(stated: str, name: str | None) -> None:
    assert read(Manufacturer=stated).acquisition.manufacturer == name


# Wrong types


def _patched(tag: int, vr: bytes, value: bytes, plain: bytes) -> bytes:
    """Replace or insert an explicit little endian element before the pixel data."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    element = head + vr + struct.pack("<H", len(value)) + value
    if vr in (b"OB", b"OW", b"UN", b"UT"):
        element = head + vr + b"\0\0" + struct.pack("<I", len(value)) + value
    at = (
        plain.find(head + plain[plain.find(head) + 4 : plain.find(head) + 6])
        if head in plain
        else -1
    )
    if at >= 0:
        size = struct.unpack_from("<H", plain, at + 6)[0]
        return plain[:at] + element + plain[at + 8 + size :]
    position = plain.index(b"\xe0\x7f\x10\x00OW")
    return plain[:position] + element + plain[position:]


VALUES = (
    b"",
    b"\0\0",
    b"  ",
    b"\xff\xfe",
    b"1\\2\\3\\4 ",
    b"\\\\\\\\",
    b"1e999 ",
    b"nan ",
    b"-inf",
    b"1_0 ",
    b"\xff" * 64,
    b"L\\R\\B ",
    b"\0" * 63 + b"\x01",
    b"9" * 200,
)
TAGS = (
    0x00080005, 0x00080008, 0x00080016, 0x00080060, 0x00080068, 0x00080070, 0x00181164, 0x00200020,
    0x00200062, 0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280100, 0x00280101, 0x00280102,
    0x00280103, 0x00280120, 0x00280121, 0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056,
    0x00283010, 0x00283000, 0x00540220, 0x52009229, 0x60000102,
)  # fmt: skip


@pytest.mark.parametrize("vr", [b"US", b"SS", b"DS", b"CS", b"LO", b"UN", b"FD", b"UI", b"SQ"])
def test_garbage_of_any_type_in_any_element_ends_in_a_picture_or_a_code(vr: bytes) -> None:
    plain = dicom(breast(shape=(64, 64)), 12, WindowCenter=1000, WindowWidth=500)
    endings = set()
    for tag in TAGS:
        for value in VALUES:
            if vr == b"SQ":
                value = value.ljust(len(value) + 4, b"\0")
            try:
                read_image(_patched(tag, vr, value, plain), RECORD)
            except RecordError as error:
                endings.add(error.code)
            else:
                endings.add("built")
    assert "built" in endings


@pytest.mark.parametrize("vr", ["US", "UL", "IS", "DS", "OW", "UN"])
def test_a_size_is_read_whatever_type_it_is_written_with(vr: str) -> None:
    plain = dicom(breast(), 12)
    value = {"UL": struct.pack("<I", 128), "IS": b"128 ", "DS": b"128.0 "}.get(
        vr, struct.pack("<H", 128)
    )
    data = _patched(0x00280010, vr.encode(), value, plain)
    np.testing.assert_array_equal(read_image(data, RECORD).pixels, read_image(plain, RECORD).pixels)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_facts_do_not_depend_on_the_byte_order(syntax: str) -> None:
    image = read_image(
        dicom(
            breast(),
            12,
            syntax=syntax,
            ViewCodeSequence=[coded("399162004", "SCT", ("399209000", "SCT"))],
            ImageLaterality="L",
            ImagerPixelSpacing=[0.1, 0.1],
            PixelPaddingValue=0,
            WindowCenter=[1000, 2],
            WindowWidth=[500, 3],
            VOILUTFunction="SIGMOID",
        ),
        RECORD,
    )
    facts = image.acquisition
    assert (facts.view, facts.laterality, facts.window) == ("CC", "L", (1000, 500))
    assert (facts.voi_function, facts.padding) == ("SIGMOID", (0, 0))
    assert image.notes["view_modifiers"] == ["implant_displaced"]
