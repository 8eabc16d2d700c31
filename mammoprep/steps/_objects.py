"""What rises above the background and is no tissue: film frames, lines, labels."""

import cv2
import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Grey = NDArray[np.float32]

OPENING = 0.012
REGROWTH = 4
GLOW_DEPTH = 0.15
GLOW_LENGTH = 0.1
GLOW_DIM = 0.5
GLOW_FADES = 0.6
FRAME_DEPTH = 0.04
GLOW_UNEVEN = 0.35
BAND_DEPTH = 0.06
BAND_COVER = 0.6
BAND_LENGTH = 0.25
BAND_UNEVEN = 0.3


def disc(radius: int) -> NDArray[np.uint8]:
    """Return a flat disc of ``2 * radius + 1`` pixels across, for morphology."""
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), dtype=np.uint8)


def dilated(mask: Flags, radius: int) -> Flags:
    """Return the mask widened by ``radius`` pixels."""
    return np.asarray(cv2.dilate(mask.view(np.uint8), disc(radius)) > 0)


def _band_rows(mask: Flags) -> NDArray[np.int64]:
    """Return how deep a frame reaches from the first row at each column, 0 where there is none.

    A frame is a run of even depth that starts at the image's edge and goes on beside everything
    that is deeper; tissue at an edge tapers.
    """
    depth = max(2, round(BAND_DEPTH * mask.shape[0]))
    run = np.where(mask[: depth + 1].all(axis=0), depth + 1, np.argmin(mask[: depth + 1], axis=0))
    thin = (run > 0) & (run <= depth)
    beside = int((run <= depth).sum())
    if thin.sum() < max(BAND_COVER * beside, BAND_LENGTH * mask.shape[1], 1):
        return np.zeros_like(run)
    middle = float(np.median(run[thin]))
    uneven = float(np.median(np.abs(run[thin] - middle)))
    return np.where(thin, run, 0) if uneven <= max(1.0, BAND_UNEVEN * middle) else run * 0


def without_frames(mask: Flags) -> Flags:
    """Return the mask without bright frames along the edges of the image.

    Args:
        mask: bool (rows, columns), everything that rises above the background.
    """
    out = mask.copy()
    for turns in range(4):
        view, source = np.rot90(out, turns), np.rot90(mask, turns)
        band = _band_rows(source)
        view[np.arange(mask.shape[turns % 2])[:, None] < band] = False
    return out


def _edge_profile(rest: Grey, rise: float, contrast: float) -> NDArray[np.float32]:
    """Return the brightness that the first rows share, as far as it reaches; empty for none.

    Looks at the columns that are background again where a glow must have ended. There is none
    when these are few, when they differ (a skin fold at an edge tapers, film does not), or when it
    is both deep and as bright as tissue: a frame is bright and thin, a glow is deep and dim.
    """
    depth = max(2, round(GLOW_DEPTH * rest.shape[0]))
    free = rest[:depth, rest[depth - 1] <= rise]
    if free.shape[1] < GLOW_LENGTH * rest.shape[1]:
        return rest[:0, 0]
    level = np.median(free, axis=1).astype(np.float32)
    uneven = np.median(np.abs(free - level[:, None]), axis=1)
    reach = int(np.count_nonzero(np.minimum.accumulate(level) > rise / 2))
    thin = reach <= FRAME_DEPTH * rest.shape[0]
    fades = level[reach // 3] <= GLOW_FADES * level[0] <= GLOW_FADES * GLOW_DIM * contrast
    even = uneven.sum() <= GLOW_UNEVEN * level.sum()
    return level[:reach] if even and (thin or fades) else level[:0]


def without_glow(rest: Grey, rise: float, contrast: float) -> Flags:
    """Return what rises above the background and above the glow or frame along whole edges.

    Scanned film brightens towards its own edge, and a frame is as bright all along; both have one
    profile along an edge. Tissue that goes on inside of the profile keeps its part of the edge.

    Args:
        rest: Grey values above the background's surface, float32 (rows, columns).
        rise: What is more than background.
        contrast: How far tissue lies above the background.
    """
    mask = rest > rise
    for turns in range(4):
        turned, out = np.rot90(rest, turns), np.rot90(mask, turns)
        level = _edge_profile(turned, rise, contrast)
        if reach := level.size:
            kept = (turned[:reach] - level[:, None] > rise) | out[reach]
            out[:reach] &= kept
    return mask


def without_threads(mask: Flags) -> Flags:
    """Return the mask without what is thin: scratches, paddle lines, text, joints to labels.

    Outside the image counts as empty, so that a strip along an edge is thin too.

    Args:
        mask: bool (rows, columns).
    """
    element = disc(opening_radius(mask.shape))
    eroded = cv2.erode(mask.view(np.uint8), element, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(cv2.dilate(eroded, element) > 0)


def opening_radius(shape: tuple[int, ...]) -> int:
    """Return half the width, in pixels, of what counts as thin in an image of this shape."""
    return max(2, round(OPENING * max(shape[:2])))


def largest(mask: Flags) -> tuple[Flags, float]:
    """Return the largest connected part and the area of the second as a share of it.

    Args:
        mask: bool (rows, columns), not empty.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    order = np.argsort(-areas, kind="stable")
    second = float(areas[order[1]] / areas[order[0]]) if areas.size > 1 else 0.0
    return np.asarray(labels == order[0] + 1), second


def regrown(core: Flags, mask: Flags) -> Flags:
    """Return the core with the thin parts of ``mask`` that hang on it: nipple, skin fold.

    Args:
        core: bool (rows, columns), a part of ``mask`` after ``without_threads``.
        mask: bool (rows, columns).
    """
    step, area = 3, np.count_nonzero(core)
    for _ in range(-(-REGROWTH * opening_radius(mask.shape) // step)):
        core = dilated(core, step) & mask
        before, area = area, np.count_nonzero(core)
        if area == before:  # it only ever grows
            break
    return core


def with_folds(breast: Flags, mask: Flags) -> Flags:
    """Return the breast with the skin folds that run on along its chest wall, however thin.

    A fold hangs on the breast and lies at the lateral edge of the image that the breast lies at; a
    label, a line or a scratch does not.

    Args:
        breast: bool (rows, columns), a part of ``mask``.
        mask: bool (rows, columns), everything that rises above the background.
    """
    rest = mask & ~breast
    edges = [column for column in (0, -1) if breast[:, column].any() and rest[:, column].any()]
    out = breast.copy()
    if not edges:
        return out
    near = dilated(breast, 1)
    _, labels = cv2.connectedComponents(rest.view(np.uint8), connectivity=8)
    hanging = set(np.unique(labels[near]).tolist())
    for column in edges:
        for label in hanging & set(np.unique(labels[:, column]).tolist()) - {0}:
            out |= labels == label
    return out


def filled(mask: Flags) -> Flags:
    """Return the mask with its enclosed holes filled.

    Args:
        mask: bool (rows, columns).
    """
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    out = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(out, contours, -1, 1, cv2.FILLED)
    return out > 0
