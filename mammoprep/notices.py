"""What a person should know of a finished dataset, in a sentence each; from its table alone.

Said at the end of a build, at the head of the report, and kept in ``dataset.json``. A code in a
sample's warnings tells of that sample; a notice tells what many of them mean together, and names
the option that mends it.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from mammoprep import notices_masks, notices_ranges
from mammoprep.core.geometry import Geometry

Row = Mapping[str, Any]
MOST_CLASSES = 8
HALF_EMPTY = 0.5  # of the frame: two thirds of a 2:1 frame are what an upright breast fills
BETTER = 1.2  # times as full: the other order of width and height is no matter of rounding


def warnings(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return code -> ``samples`` and, by class, ``labels``; augmented copies are not counted."""
    by_code: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        for code in () if row.get("augmented") else row["warnings"]:
            by_code[code].append(row)
    return {
        code: {"samples": len(found), "labels": _classes(found)}
        for code, found in sorted(by_code.items())
    }


def find(settings: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the table tells, as dataset.json has it.

    ``warnings`` as the function of that name; ``notices``, one line each; and ``frame``: under
    ``filled`` which share of their frames the samples fill, 5, 50 and 95 % quantiles, 0-1.

    Args:
        settings: Those of dataset.json.
        rows: Of samples.parquet, flat, keys with dots.
    """
    own = [row for row in rows if not row.get("augmented")]
    shown = [_shown(row) for row in own]
    shares = [each.filled for each in shown]
    filled = np.quantile(shares, (0.05, 0.5, 0.95)).tolist() if shown else []
    masks = notices_masks.lines(notices_masks.count(own))
    ranges = notices_ranges.lines(own, str(settings.get("range") or "auto"))
    told = [*ranges, *masks, *_outside(own), *_cut(own), *_empty(settings, shown)]
    return {
        "warnings": warnings(rows),
        "notices": [*told, *_unlabelled(settings, own)],
        "frame": {"filled": [round(share, 4) for share in filled]},
    }


def _classes(rows: Sequence[Row]) -> dict[str, int]:
    found = Counter(row["label_name"] or "unknown" for row in rows)
    return dict(sorted(found.items(), key=lambda each: (-each[1], each[0]))[:MOST_CLASSES])


def by_class(rows: Sequence[Row]) -> str:
    """Return how many samples of which class, in words."""
    return ", ".join(f"{name} {count:,}" for name, count in _classes(rows).items())


def having(rows: Sequence[Row], code: str) -> list[Row]:
    """Return the rows that have a warning."""
    return [row for row in rows if code in row["warnings"]]


def images(count: int) -> str:
    """Return a number of images in words."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def _outside(rows: Sequence[Row]) -> list[str]:
    lines = []
    if found := having(rows, "roi_outside"):
        lines.append(
            f"{images(len(found))} had an outline outside of the picture, which was dropped "
            f"({by_class(found)}): roi_outside. Check whose coordinates they are."
        )
    if found := having(rows, "roi_shares"):
        lines.append(
            f"{images(len(found))} had an outline in shares of the image instead of pixels, which "
            f"was dropped ({by_class(found)}): roi_shares. Multiply by width and height."
        )
    return lines


def _cut(rows: Sequence[Row]) -> list[str]:
    found = having(rows, "lesion_cut")
    if not found:
        return []
    gone = sum(row["quality.lesion_lost"] >= 1 for row in found)
    needed = max(row["quality.margin_needed"] for row in found)
    option = "--crop none" if needed > 1 else f"--crop-margin {needed:g} (or --crop none)"
    return [
        f"{images(len(found))} lost some of a lesion to the crop, {gone:,} of them all of it "
        f"({by_class(found)}): lesion_cut. {option} would have cut none; it applies to all images "
        "alike, since a crop that follows the lesions tells the label."
    ]


def _unlabelled(settings: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """Say how many samples no class is known of; a challenge keeps those of its test set secret."""
    known = [row for row in rows if row["split"] != "test"]
    without = sum(row["label"] is None for row in known)
    if not without:
        return []
    target = settings.get("target") or "label"
    what = "kinds and pathologies in the table are" if settings.get("roi") else "the table's is"
    return [
        f"{without:,} of {len(known):,} samples have no label: of --target {target} {what} unknown "
        "or none of the classes. No model learns from them."
    ]


class _Shown(NamedTuple):
    """What a sample shows of its file: its (width, height) in pixels, and its share of the frame.

    The rest of the frame was added to fill it.
    """

    shape: tuple[float, float]
    filled: float


def _shown(row: Row) -> _Shown:
    names = ("stored_size", "size", "matrix", "crop", "spacing_mm")
    geometry = Geometry.from_json({name: row[f"geometry.{name}"] for name in names})
    x0, y0, x1, y1 = geometry.box_from_stored(geometry.crop)
    rows, columns = geometry.size
    inside = (min(x1, columns) - max(x0, 0)) * (min(y1, rows) - max(y0, 0))
    return _Shown((x1 - x0, y1 - y0), float(inside) / (rows * columns))


def _empty(settings: Mapping[str, Any], shown: Sequence[_Shown]) -> list[str]:
    """Say that the frame is mostly empty, and which one would not be."""
    if settings.get("roi") or settings.get("fit") == "stretch" or not shown:
        return []
    share = float(np.median([each.filled for each in shown]))
    if share >= HALF_EMPTY:
        return []
    width, height = settings["size"]
    told = f"Half of the pictures fill less than {share:.0%} of the {width}x{height} frame"
    shapes = np.array([each.shape for each in shown])
    if settings.get("mm_per_pixel") is not None:
        wide, high = (ceil(side - 1e-6) for side in shapes.max(axis=0))
        return [f"{told}, and the largest is {wide}x{high} at this --mm-per-pixel."]
    turned = float(np.median([_fill(shape, (height, width)) for shape in shapes.tolist()]))
    if turned > BETTER * share:
        return [
            f"{told}; the rest is black. --size is WIDTHxHEIGHT: {height}x{width} would be filled "
            f"to {turned:.0%}."
        ]
    ratio = float(np.median(shapes[:, 0] / shapes[:, 1]))
    fitting = (width, round(width / ratio)) if ratio > width / height else (
        round(height * ratio), height)  # fmt: skip
    return [f"{told}; the rest is black. Their shape is that of --size {fitting[0]}x{fitting[1]}."]


def _fill(shape: Sequence[float], frame: tuple[int, int]) -> float:
    """Return which share of a (width, height) frame a shape fills that is scaled to fit."""
    scale = min(frame[0] / shape[0], frame[1] / shape[1])
    return scale * scale * shape[0] * shape[1] / (frame[0] * frame[1])
