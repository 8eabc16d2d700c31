"""What is done to each picture of a batch: numbers that follow from (seed, epoch, key) alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mammotrain.data._policy import Augmentation

_SLOTS = (
    "flip_horizontal", "flip_vertical", "angle", "shear", "scale", "shift_x", "shift_y",
    "crop", "crop_x", "crop_y", "brightness", "contrast", "gamma", "blur", "noise", "cutouts",
)  # fmt: skip
_OF_WINDOWS = 4  # x, y, whether on a lesion, which of its pixels
_BLUR_REACH = 3.0  # standard deviations
Floats = NDArray[np.float64]
Size = tuple[int, int]


@dataclass(frozen=True)
class Parameters:
    """What is done to B pictures; ``draw`` makes it.

    Attributes:
        size: (rows, columns) of the pictures as they are in the shard.
        out: (rows, columns) that the model sees.
        matrices: (B, 2, 3) float64, maps (x, y) of the model's input to (x, y) of the shard's
            picture; (0, 0) is the outer corner of the first pixel, as in mammoprep.core.geometry.
        tone: (B, 3) float64: factor of brightness, slope at mid-grey, exponent.
        blur: (B,) float64, standard deviation in pixels of the model's input.
        blur_radius: Pixels on either side of the blur's kernel, the same for all.
        noise: (B,) float64, standard deviation.
        noise_seeds: (B, 2) int64, each below 2**32.
        cutouts: (B, K, 4) int64, boxes (x0, y0, x1, y1) of the model's input that become 0; an
            empty box is none.
        windows: (B, 2) int64, where on the whole grid (x, y) the model's input begins; None for one
            that is the whole grid.
        whole: (rows, columns) of the grid that the windows are cut from.
        lesion_pixels: (B,) float64 in [0, 1), which of the lesion's pixels a window is to have in
            its middle, NaN for none; see ``on_lesions``.
    """

    size: Size
    out: Size
    matrices: Floats
    tone: Floats
    blur: Floats
    blur_radius: int
    noise: Floats
    noise_seeds: NDArray[np.int64]
    cutouts: NDArray[np.int64]
    windows: NDArray[np.int64] | None = None
    whole: Size = (0, 0)
    lesion_pixels: Floats | None = None

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.matrices)

    def to_shard(self, sample: int, points: ArrayLike) -> Floats:
        """Map points (n, 2) of (x, y) on the model's input to the shard's picture.

        Args:
            sample: Place in the batch.
            points: Continuous coordinates, corner convention.
        """
        matrix = self.matrices[sample]
        given: Floats = np.asarray(points, np.float64).reshape(-1, 2)
        return np.asarray(given @ matrix[:, :2].T + matrix[:, 2])

    def from_shard(self, sample: int, points: ArrayLike) -> Floats:
        """Map points (n, 2) of (x, y) on the shard's picture to the model's input."""
        matrix = self.matrices[sample]
        moved = np.asarray(points, np.float64).reshape(-1, 2) - matrix[:, 2]
        return np.asarray(moved @ np.linalg.inv(matrix[:, :2]).T)

    def boxes_to_shard(self, sample: int, boxes: ArrayLike) -> Floats:
        """Map boxes (n, 4) of the model's input to the shard's picture.

        A turned box becomes the upright one around its corners; what is outside of the picture is
        cut off.
        """
        edges = np.asarray(boxes, np.float64).reshape(-1, 4)
        corners = edges[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 2)
        points = self.to_shard(sample, corners).reshape(-1, 4, 2)
        rows, columns = self.size
        found = np.concatenate([points.min(1), points.max(1)], axis=1)
        return np.asarray(np.clip(found, 0.0, [columns, rows, columns, rows]))


def draw(
    policy: Augmentation,
    *,
    seed: int,
    epoch: int,
    keys: Sequence[str],
    size: Size,
    out: Size | None = None,
) -> Parameters:
    """Return what is done to the samples with these keys in this epoch.

    Each sample's numbers follow from (seed, epoch, key) alone: not from its place in the batch, the
    worker or the rank. Every field of the policy has its own number, so that changing one field
    leaves the others' draws as they are.

    Args:
        policy: How far changes may go; ``NONE`` only resizes.
        seed: The run's.
        epoch: From 0.
        keys: The samples' keys.
        size: (rows, columns) of the pictures in the shard.
        out: (rows, columns) wanted; None for ``size``. With a window in the policy, those of the
            grid that it is cut from.
    """
    whole = size if out is None else out
    out = _window(policy, whole)
    chances, seeds = _chances(policy, seed, epoch, keys)
    drawn = {name: chances[:, place] for place, name in enumerate(_SLOTS)}
    found = Parameters(
        size=size,
        out=out,
        matrices=_matrices(policy, drawn, size, whole),
        tone=np.stack(
            [
                1 + _either_way(drawn["brightness"], policy.brightness),
                1 + _either_way(drawn["contrast"], policy.contrast),
                (1 + policy.gamma) ** _either_way(drawn["gamma"], 1.0),
            ],
            axis=1,
        ),
        blur=policy.blur * drawn["blur"],
        blur_radius=ceil(_BLUR_REACH * policy.blur),
        noise=policy.noise * drawn["noise"],
        noise_seeds=seeds,
        cutouts=_boxes(policy, drawn["cutouts"], chances[:, len(_SLOTS) :], out),
    )
    if not policy.window:
        return found
    numbers = _numbers(f"window/{seed}/{epoch}", keys, _OF_WINDOWS)
    return _windowed(found, whole, policy.foreground, _shares(numbers))


def on_lesions(parameters: Parameters, masks: NDArray[np.uint8]) -> Parameters:
    """Return the same with those windows moved onto a lesion that are to have one in their middle.

    A window stays within the grid, so that a lesion near the edge is not in its middle; a picture
    without a lesion keeps its window.

    Args:
        parameters: Of these samples.
        masks: (B, 1, H, W), more than 0 where a lesion is, as stored.
    """
    chances, windows = parameters.lesion_pixels, parameters.windows
    if windows is None or chances is None:
        return parameters
    rows, columns = np.subtract(parameters.whole, parameters.out)
    moved = np.zeros(windows.shape, np.int64)
    for sample in np.flatnonzero(np.isfinite(chances)).tolist():
        inside = np.flatnonzero(masks[sample, 0])
        if not inside.size:
            continue
        y, x = divmod(int(inside[int(chances[sample] * inside.size)]), parameters.size[1])
        place = parameters.from_shard(sample, (x + 0.5, y + 0.5))[0]
        # not rint: it rounds a half to whatever is even, which depends on where the window was
        wanted = windows[sample] + np.floor(place - np.array(parameters.out[::-1]) / 2 + 0.5)
        moved[sample] = np.clip(wanted, 0, [columns, rows]) - windows[sample]
    matrices = _shifted(parameters.matrices, moved)
    return replace(parameters, matrices=matrices, windows=windows + moved)


def _window(policy: Augmentation, whole: Size) -> Size:
    """Return (rows, columns) of what the model sees of a grid."""
    if not policy.window:
        return whole
    width, height = policy.window
    return min(height, whole[0]), min(width, whole[1])


def _windowed(found: Parameters, whole: Size, foreground: float, chances: Floats) -> Parameters:
    """Return the same for windows that begin at whole pixels, anywhere on the grid ``whole``."""
    room = np.subtract(whole, found.out)[::-1] + 1
    first = np.asarray(np.floor(chances[:, :2] * room), np.int64)
    return replace(
        found,
        matrices=_shifted(found.matrices, first),
        windows=first,
        whole=whole,
        lesion_pixels=np.where(chances[:, 2] < foreground, chances[:, 3], np.nan),
    )


def _shifted(matrices: Floats, pixels: NDArray[np.int64]) -> Floats:
    """Return maps from grids that begin so many pixels (B, 2) further on."""
    found = matrices.copy()
    found[:, :, 2] += (matrices[:, :, :2] * pixels[:, None, :]).sum(2)
    return found


def _chances(
    policy: Augmentation, seed: int, epoch: int, keys: Sequence[str]
) -> tuple[Floats, NDArray[np.int64]]:
    """Return (B, slots) numbers in [0, 1) and (B, 2) seeds of the noise."""
    count = len(_SLOTS) + 4 * policy.cutouts
    words = _numbers(f"augment/{seed}/{epoch}", keys, 1 + count)
    halves = np.stack([words[:, 0] >> np.uint64(32), words[:, 0] & np.uint64(0xFFFFFFFF)], axis=1)
    return _shares(words[:, 1:]), halves.astype(np.int64)


def _numbers(name: str, keys: Sequence[str], count: int) -> NDArray[np.uint64]:
    """Return (B, count) random words that follow from the name and each sample's key."""
    words = np.empty((len(keys), count), np.uint64)
    for row, key in enumerate(keys):
        digest = sha256(f"{name}/{key}".encode()).digest()
        stream = np.random.Philox(key=int.from_bytes(digest[:16], "big"))
        words[row] = stream.random_raw(count)
    return words


def _shares(words: NDArray[np.uint64]) -> Floats:
    """Return random words as numbers in [0, 1)."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _either_way(chance: Floats, most: float) -> Floats:
    return (2 * chance - 1) * most


def _log_even(chance: Floats, limits: tuple[float, ...]) -> Floats:
    low, high = np.log(limits)
    return np.asarray(np.exp(low + (high - low) * chance))


def _matrices(policy: Augmentation, drawn: dict[str, Floats], size: Size, out: Size) -> Floats:
    """Return the maps from output to shard: stretch, then cut out, flip, and turn."""
    side = np.array([size[1], size[0]], np.float64)
    stretch = np.tile(
        np.diag([side[0] / out[1], side[1] / out[0], 1.0]), (len(drawn["crop"]), 1, 1)
    )
    whole = _turn(policy, drawn, side) @ _flip(policy, drawn, side) @ _cut(policy, drawn, side)
    return np.asarray((whole @ stretch)[:, :2])


def _eye(count: int) -> Floats:
    return np.tile(np.eye(3), (count, 1, 1))


def _cut(policy: Augmentation, drawn: dict[str, Floats], side: Floats) -> Floats:
    low, high = policy.crop
    share = low + (high - low) * drawn["crop"]
    matrix = _eye(len(share))
    matrix[:, 0, 0] = matrix[:, 1, 1] = share
    matrix[:, 0, 2] = (1 - share) * drawn["crop_x"] * side[0]
    matrix[:, 1, 2] = (1 - share) * drawn["crop_y"] * side[1]
    return matrix


def _flip(policy: Augmentation, drawn: dict[str, Floats], side: Floats) -> Floats:
    matrix = _eye(len(drawn["crop"]))
    for axis, name in enumerate(("flip_horizontal", "flip_vertical")):
        chosen = drawn[name] < getattr(policy, name)
        matrix[chosen, axis, axis] = -1.0
        matrix[chosen, axis, 2] = side[axis]
    return matrix


def _turn(policy: Augmentation, drawn: dict[str, Floats], side: Floats) -> Floats:
    """Return rotation, shear and scale about the picture's centre, and the shift."""
    angle = np.radians(_either_way(drawn["angle"], policy.rotate_degrees))
    lean = np.tan(np.radians(_either_way(drawn["shear"], policy.shear_degrees)))
    smaller = 1 / _log_even(drawn["scale"], policy.scale)
    matrix = _eye(len(angle))
    matrix[:, 0, 0] = np.cos(angle) * smaller
    matrix[:, 0, 1] = (np.cos(angle) * lean - np.sin(angle)) * smaller
    matrix[:, 1, 0] = np.sin(angle) * smaller
    matrix[:, 1, 1] = (np.sin(angle) * lean + np.cos(angle)) * smaller
    shift = np.stack([drawn["shift_x"], drawn["shift_y"]], axis=1)
    moved = _either_way(shift, policy.shift) * side
    matrix[:, :2, 2] = side / 2 - (matrix[:, :2, :2] * (side / 2)).sum(2) + moved
    return matrix


def _boxes(policy: Augmentation, number: Floats, chances: Floats, out: Size) -> NDArray[np.int64]:
    """Return (B, K, 4) boxes; those beyond a sample's number are empty."""
    low, high = policy.cutout_size
    each = chances.reshape(len(number), policy.cutouts, 4)
    side = np.array([out[1], out[0]], np.float64)
    extent = np.rint((low + (high - low) * each[..., :2]) * side)
    first = np.floor(each[..., 2:] * (side - extent + 1))
    boxes = np.concatenate([first, first + extent], axis=2).astype(np.int64)
    wanted = np.floor(number * (policy.cutouts + 1))
    boxes[np.arange(policy.cutouts)[None] >= wanted[:, None]] = 0
    return boxes
