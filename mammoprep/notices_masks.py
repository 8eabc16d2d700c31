"""What a user should know of a dataset's mask files: counts for dataset.json, lines for people."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Row = Mapping[str, Any]
SHOWN = 8


def count(rows: Sequence[Row]) -> dict[str, Any]:
    """Return ``masks`` of the counts: images with empty masks, and with numbered findings.

    Args:
        rows: Of samples.parquet, as the sidecars have them; copies do not count, nor do the empty
            masks of patches, which have their own classes.

    Returns:
        Nothing where there are none; else ``empty``: class -> [images with an empty mask, images];
        ``unusable``: how many of them have no other outline; ``numbers``: number in a mask file ->
        [images whose masks hold several, median area in stored pixels]; ``single``: number from 2
        on -> images whose mask holds nothing else.
    """
    own = [row for row in rows if row["parent"] is None]
    classes = Counter(_class(row) for row in own)
    empty = [row for row in own if "mask_empty" in row["warnings"]]
    by_class = Counter(map(_class, empty))
    areas: dict[int, list[float]] = defaultdict(list)
    for numbered in _numbered(rows).values():
        for number, area in numbered.items():
            areas[number].append(area)
    found: dict[str, Any] = {}
    if empty:
        found["empty"] = {name: [by_class[name], classes[name]] for name in sorted(by_class)}
        found["unusable"] = sum(row["annotation"] == "unusable" for row in empty)
    if areas:
        found["numbers"] = {
            str(number): [len(each), round(median(each))] for number, each in sorted(areas.items())
        }
    if single := _single(own):
        found["single"] = single
    return {"masks": found} if found else {}


def _single(rows: Sequence[Row]) -> dict[str, int]:
    counted: Counter[int] = Counter()
    for row in rows:
        if "mask_instances" not in row["warnings"]:  # a kind's name, with classes, is its number
            counted.update(
                {
                    r["number"]
                    for r in row["rois"]
                    if r.get("number") and r["kind"] != str(r["number"])
                }
            )
    return {str(number): images for number, images in sorted(counted.items())}


def lines(counts: Mapping[str, Any]) -> list[str]:
    """Return the lines for people about what ``count`` found."""
    found = counts.get("masks", {})
    told = []
    if empty := found.get("empty"):
        images = sum(number for number, _ in empty.values())
        named = ", ".join(f"{name} {some:,} of {of:,}" for name, (some, of) in empty.items())
        told.append(
            f"Empty masks (mask_empty): {images:,} images, though the table does not say that they "
            f"show no finding, by class: {named}. In {found['unusable']:,} a finding is named and "
            "nothing outlined: their annotation is unusable, they have no mask."
        )
    if numbers := found.get("numbers"):
        shown = [
            f"{number} in {images:,} of them (median {area:,} pixels)"
            for number, (images, area) in list(numbers.items())[:SHOWN]
        ]
        more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
        told.append(
            f"Masks with several numbers (mask_instances): {', '.join(shown)}{more}. Each was "
            "taken for a finding of its own. Are they kinds, say --mask-values classes or "
            "1=mass,2=...; are they all one, --mask-values binary."
        )
    if single := found.get("single"):
        shown = [
            f"{number} in {images:,} of them" for number, images in list(single.items())[:SHOWN]
        ]
        told.append(
            f"Masks that hold one number each, and not 1: {', '.join(shown)}. Each was taken for "
            "foreground. Is the number the finding's kind, say --mask-values classes or "
            "1=mass,2=...; all numbers then need a name."
        )
    return told


def _class(row: Row) -> str:
    return str(row["label_name"] or "(no label)")


def _numbered(rows: Sequence[Row]) -> dict[str, dict[int, float]]:
    """Return image -> number -> area in stored pixels of its numbered findings."""
    outlined: dict[tuple[str, int], tuple[int, float]] = {}
    for row in rows:
        if row["augmented"] or "mask_instances" not in row["warnings"]:
            continue
        (a, b, _), (c, d, _) = row["geometry.matrix"]
        for roi in row["rois"]:  # of a patch: those that it shows, with all of their outlines
            if (number := roi.get("number")) is not None:
                area = _area(roi["polygon"]) / abs(a * d - b * c)
                outlined[row["parent"] or row["key"], roi["id"]] = (number, area)
    found: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for (image, _), (number, area) in outlined.items():
        found[image][number] += area
    return found


def _area(polygon: Sequence[Sequence[float]]) -> float:
    pairs = zip(polygon, [*polygon[1:], polygon[0]], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2
