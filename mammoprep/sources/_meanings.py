"""What a cell of a user's own table may say: meaning -> parser of its text."""

import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from mammoprep.core.schema import ANNOTATIONS, Scalar
from mammoprep.sources import _birads

CORNERS = ("xmin", "ymin", "xmax", "ymax")
SIDES = {"l": "L", "r": "R", "left": "L", "right": "R"}
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
BINARY = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "no": 0, "yes": 1}
ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6"}
LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, of Linux

_BIRADS = re.compile(r"(?:bi-?rads)?[ _:-]*(?:cat(?:egory|\.)?)?[ _:-]*(.*?)(?:\.0*)?")
_DENSITY = re.compile(r"(?:bi-?rads|acr|density)?[ _:-]*(?:density)?[ _:-]*([a-d])")
_LIMIT = r"(-?[0-9]{1,9}(?:\.[0-9]{0,9})?)"
_RANGE = re.compile(rf"(?:{_LIMIT} *(?:,|;|-|\.\.) *)?{_LIMIT}")


def _matching(pattern: str, expected: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(expected)
        return text

    return parse


def _any_case(names: Mapping[str, Scalar], shown: str = "") -> Callable[[str], Scalar]:
    """Return a parser of texts in any case that stand for values; ``shown`` lists them."""

    def parse(text: str) -> Scalar:
        if text.lower() not in names:
            raise ValueError(f"one of {shown or ', '.join(names)}")
        return names[text.lower()]

    return parse


def _category(text: str) -> str:
    """Return ``4a`` for ``4A``, ``BI-RADS 4a``, ``IVa`` and so on."""
    found = _BIRADS.fullmatch(text.lower())
    category = found[1] if found else ""
    roman = re.fullmatch("([iv]+)([abc]?)", category)
    if roman is not None:
        category = f"{ROMAN.get(roman[1], '?')}{roman[2]}"
    if _birads.CATEGORY.fullmatch(category) is None:
        raise ValueError("a BI-RADS category such as 2 or 4a")
    return category


def _density(text: str) -> str:
    found = _DENSITY.fullmatch(text.lower())
    if found is None:
        raise ValueError("one of A, B, C, D")
    return found[1].upper()


def _view(text: str) -> str:
    if re.fullmatch("[A-Z]{2,5}", text.upper()) is None:
        raise ValueError("a view such as CC or MLO")
    return text.upper()


def _path(text: str) -> str:
    """Return a path inside of the folder, with forward slashes."""
    path = PurePosixPath(text.replace("\\", "/"))
    drive = re.match("[A-Za-z]:", text)
    if path.is_absolute() or ".." in path.parts or not path.parts or drive or "\0" in text:
        raise ValueError("a path inside of the input folder")
    longest = max(len(part.encode("utf-8", "surrogatepass")) for part in path.parts)
    if longest > LONGEST_NAME or len(str(path).encode("utf-8", "surrogatepass")) > LONGEST_PATH:
        raise ValueError(f"a path whose names have at most {LONGEST_NAME} bytes")
    return str(path)


def _range(text: str) -> str:
    """Return ``LOW HIGH``, the values of black and white."""
    found = _RANGE.fullmatch(text)
    low, high = (float(found[1] or 0), float(found[2])) if found else (0.0, 0.0)
    if not low < high:
        raise ValueError("the values of black and white: HIGH, LOW,HIGH, LOW..HIGH or LOW-HIGH")
    return f"{low!r} {high!r}"


def _side(text: str) -> str:
    if text.lower() not in SIDES:
        raise ValueError("L, R, left or right")
    return SIDES[text.lower()]


def _pixels(text: str) -> float:
    if re.fullmatch(r"-?[0-9]{1,6}(\.[0-9]*)?", text) is None:
        raise ValueError("a number of pixels")
    return float(text)


_NAME = _matching(r"[^\x00-\x1f\x7f]{1,128}", "a name of at most 128 characters")
# Meaning -> parser of a cell; the card lists the same meanings.
PARSERS: dict[str, Callable[[str], Scalar]] = {
    "path": _path,
    "patient_id": _NAME,
    "label": _NAME,
    "laterality": _side,
    "view": _view,
    "study_id": _NAME,
    "split": _any_case(SPLITS, "train, val, test"),
    "cancer": _any_case(BINARY, "0, 1, true, false, yes, no"),
    "abnormal": _any_case(BINARY, "0, 1, true, false, yes, no"),
    "birads": _category,
    "density": _density,
    "annotation": _any_case({name: name for name in ANNOTATIONS}),
    "range": _range,
    "mask": _path,
    "kind": _NAME,
    "pathology": _any_case({name: name for name in ("malignant", "benign")}),
    **dict.fromkeys(CORNERS, _pixels),
}
