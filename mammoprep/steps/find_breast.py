"""Find the breast: the largest thing that rises above the image's own background."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import RecordError
from mammoprep.image import MammoImage
from mammoprep.steps import _background, _labels, _objects
from mammoprep.steps._area import at_centres, scale
from mammoprep.steps._background import Background, Flags, Grey

WORKING_SIDE = 384
TRUSTED = 0.5
BLACK = 1.0 / 255
QUIET = BLACK / 8
SHEET_SHARE = 0.85
CORNER = 0.06
CORNER_FILL = 0.3
FILM_EMPTY = 0.1
FILM_DARK = 0.3
FILM_UNEVEN = 0.25
LEVELS_TRIED = 4


@dataclass(frozen=True)
class Finding:
    """A candidate for the breast, on the reduced grid.

    Attributes:
        mask: bool (rows, columns).
        confidence: 0-1; below ``TRUSTED`` nothing may be cropped by it.
        reason: What limits the confidence, one word; ``clear`` when nothing does.
        rest: Grey values above the background's surface, float32 (rows, columns).
        background: What it was told from.
        plates: bool (rows, columns), bright plates that stand out of the breast.
    """

    mask: Flags
    confidence: float
    reason: str
    rest: Grey
    background: Background
    plates: Flags


def reduced_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (rows, columns) of the copy to work on: about 1/14 of a 26-megapixel image.

    Args:
        shape: Shape of the image; one whose longest side is at most 384 is not reduced.
    """
    factor = max(1.0, max(shape[:2]) / WORKING_SIDE)
    return max(1, round(shape[0] / factor)), max(1, round(shape[1] / factor))


def _reduced(image: MammoImage) -> tuple[Grey, Flags]:
    """Return the reduced grey values and which of them were measured."""
    size = reduced_size(image.pixels.shape)
    small = scale(image.pixels, size)
    grey = small if small.ndim == 2 else small.mean(axis=2)
    soft: Grey = np.empty_like(grey)
    cv2.GaussianBlur(grey, (0, 0), 1.0, dst=soft, borderType=cv2.BORDER_REPLICATE)
    if image.padding is None:
        return soft, np.ones(size, bool)
    return soft, ~at_centres(image.padding, size)


def _touched(mask: Flags) -> dict[str, bool]:
    """Return which sides of the frame the mask touches along more than 2 % of their length."""
    edges = {"left": mask[:, 0], "right": mask[:, -1], "top": mask[0], "bottom": mask[-1]}
    return {side: bool(edge.mean() > 0.02) for side, edge in edges.items()}


def _solidity(mask: Flags) -> float:
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.vstack(contours))
    return float(mask.sum() / max(cv2.contourArea(hull), 1.0))


def _box_share(mask: Flags) -> float:
    """Return how much of its own box the mask fills."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(mask.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))


def _judge(mask: Flags, second: float) -> tuple[float, str]:
    """Return (confidence, reason) for a component; ``second`` is the next one's relative area.

    Each doubt is ``TRUSTED`` at the border of what is believed: under 2 % or over 92 % of the
    frame, 96 % of its own box (a sheet of film), an outline of 65 % of its convex hull, a second
    part of half the size. From one side edge to the other is never believed. Top, bottom and one
    side is what a breast cut off by the image looks like: believed, with a smaller number.
    """
    touched = _touched(mask)
    share = float(mask.mean())
    doubts = {
        "tiny": share / 0.02 * TRUSTED,
        "full_frame": (1 - share) / 0.08 * TRUSTED,
        "both_sides": 0.2 if touched["left"] and touched["right"] else 1.0,
        "rectangle": (1 - _box_share(mask)) / 0.04 * TRUSTED,
        "ragged": TRUSTED + (_solidity(mask) - 0.65) * 2.5,
        "two_parts": TRUSTED + (0.5 - second),
        "three_sides": 0.7 if sum(touched.values()) >= 3 else 1.0,
    }
    reason = min(doubts, key=lambda name: doubts[name])
    confidence = min(1.0, max(0.0, doubts[reason]))
    return confidence, reason if confidence < 1 else "clear"


def _finding(grey: Grey, valid: Flags, box: Flags, level: float) -> Finding | None:
    """Return the largest component above the background around ``level``, or None."""
    background = _background.estimate(grey, box, level)
    rest = np.where(valid & box, grey - background.surface, 0).astype(np.float32)
    raised = rest > background.rise
    if background.noise > QUIET:  # film glows along its edges, a digital background does not
        raised = _objects.without_glow(rest, background.rise, background.contrast)
    raised = _objects.without_frames(raised)
    plates = _labels.plates(rest, background.contrast)
    raised &= ~plates
    core = _objects.without_threads(raised)
    if not core.any():
        return None
    part, second = _objects.largest(core)
    grown = _objects.with_folds(_objects.regrown(part, raised), raised)
    mask = _objects.filled(grown)
    return Finding(mask, *_judge(mask, second), rest, background, plates)


def _corners(mask: Flags) -> int:
    """Return in how many corners of its own box, stray ends left out, the mask has something."""
    rows = np.flatnonzero(mask.mean(axis=1) > CORNER)
    columns = np.flatnonzero(mask.mean(axis=0) > CORNER)
    if rows.size == 0 or columns.size == 0:
        return 0
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    high, wide = (max(1, round(CORNER * side)) for side in box.shape)
    down, across = (slice(high), slice(-high, None)), (slice(wide), slice(-wide, None))
    corners = (box[y, x] for y in down for x in across)
    return sum(bool(corner.mean() > CORNER_FILL) for corner in corners)


def _is_sheet(found: Finding) -> bool:
    """Return whether a finding may be a whole sheet of film on the black of its scan."""
    ground = found.background
    black = ground.level <= BLACK and ground.noise <= BLACK / 2
    return black and _box_share(found.mask) >= SHEET_SHARE and _corners(found.mask) >= 3


def _is_film(outer: Finding, inner: Finding, grey: Grey) -> bool:
    """Return whether what ``outer`` has more than ``inner`` is the empty part of a sheet."""
    between = outer.mask & ~inner.mask
    if between.sum() < FILM_EMPTY * outer.mask.sum():
        return False
    values = grey[between]
    middle = float(np.median(values))
    flat = float(np.median(np.abs(values - middle))) < FILM_UNEVEN * middle
    return flat and middle < FILM_DARK * float(np.median(grey[inner.mask]))


def _best(grey: Grey, valid: Flags) -> Finding | None:
    """Return the breast, looking inside of a sheet of film when that is what was found first."""
    x0, y0, x1, y1 = _background.content_box(grey, valid)
    box = np.zeros_like(valid)
    box[y0:y1, x0:x1] = True
    levels = _background.modes(grey[y0:y1, x0:x1])[:LEVELS_TRIED]
    best = _finding(grey, valid, box, levels[0])
    if best is None or not _is_sheet(best):
        return best
    for level in levels[1:]:
        inner = _finding(grey, valid, best.mask, level)
        if inner and inner.confidence >= TRUSTED and _is_film(best, inner, grey):
            best = inner
    return best


def _enlarged(mask: Flags, image: MammoImage) -> NDArray[np.bool_]:
    rows, columns = image.geometry.size
    soft = cv2.resize(
        mask.view(np.uint8) * np.uint8(255), (columns, rows), interpolation=cv2.INTER_LINEAR
    )
    breast = np.asarray(soft > 127)
    return breast if image.padding is None else breast & ~image.padding


def _label_boxes(image: MammoImage, finding: Finding) -> list[list[int]]:
    """Return the labels' boxes in stored pixels, so that they stay true whatever moves later."""
    rows, columns = finding.mask.shape
    stretch = np.array([image.geometry.size[1] / columns, image.geometry.size[0] / rows])
    out = []
    found = _labels.boxes(finding.rest, finding.background, finding.mask, finding.plates)
    for box in found:
        corners = image.geometry.to_stored(np.reshape(box, (2, 2)) * stretch)
        out.append([round(v) for v in (*corners.min(axis=0), *corners.max(axis=0))])
    return out


def _whole_frame(image: MammoImage, confidence: float, reason: str, cropped: bool) -> MammoImage:
    whole = np.ones(image.geometry.size, bool)
    told = image.warn(*(["crop_fallback"] if cropped else [])).note(
        crop_confidence=round(confidence, 3), crop_reason=reason, labels=[]
    )
    return replace(told, breast=whole)


def apply(image: MammoImage, *, cropped: bool = True) -> MammoImage:
    """Return the image with ``breast``: the largest tissue component, on the image's own grid.

    Works on a reduced copy. The background's level, slope and noise are measured on the image
    itself; frames, glow along edges, lines, plates and text are left out. What cannot be told with
    confidence keeps the whole frame (warning ``crop_fallback``), so that tissue is never lost.
    Notes: ``crop_confidence`` 0-1, ``crop_reason``, ``background`` (level, noise, threshold above
    it), ``labels`` (boxes in stored pixels).

    Args:
        image: Pixels are presentation values in [0, 1], (rows, columns) or with channels last.
        cropped: Whether a crop will rest on it; else a doubt is noted but no warning.

    Raises:
        RecordError: ``no_tissue`` when nothing at all rises above the background.
    """
    grey, valid = _reduced(image)
    finding = _best(grey, valid)
    if finding is None:
        level = float(np.median(grey))
        if not (valid & (np.abs(grey - level) > _background.LEAST_RISE)).any():
            raise RecordError("no_tissue", f"every measured pixel is at grey level {level:.4f}")
        return _whole_frame(image, 0.0, "nothing_large", cropped)
    if finding.confidence < TRUSTED:
        return _whole_frame(image, finding.confidence, finding.reason, cropped)
    ground = finding.background
    told = image.note(
        crop_confidence=round(finding.confidence, 3),
        crop_reason=finding.reason,
        background=[round(v, 4) for v in (ground.level, ground.noise, ground.rise)],
        labels=_label_boxes(image, finding),
    )
    return replace(told, breast=_enlarged(finding.mask, image))
