"""Pictures that live inside the page: thumbnails as data URIs, box plots as SVG coordinates."""

from base64 import b64encode
from typing import Any, NamedTuple

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

HEIGHT = 220
WIDTH = 330
JPEG_QUALITY = 85
PLOT_WIDTH = 1000


class Thumbnail(NamedTuple):
    """A small picture, ready to be put into a page.

    Attributes:
        uri: ``data:image/jpeg;base64,...``, or empty when there is no pixel.
        width: Columns.
        height: Rows.
    """

    uri: Markup
    width: int
    height: int


def shrink(picture: NDArray[np.uint8]) -> NDArray[Any]:
    """Return ``picture`` at most 220 rows high and 330 columns wide; the aspect ratio stays.

    A smaller picture is returned as it is.

    Args:
        picture: uint8, (rows, columns) or (rows, columns, 3), no side of length 0.
    """
    rows, columns = picture.shape[:2]
    scale = min(HEIGHT / rows, WIDTH / columns, 1.0)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def thumbnail(picture: NDArray[np.uint8]) -> Thumbnail:
    """Return the picture scaled down and encoded as JPEG, quality 85.

    Args:
        picture: uint8, (rows, columns) grey or (rows, columns, 3) red, green, blue; any size.
    """
    if not picture.size:
        return Thumbnail(Markup(""), 0, 0)
    small = shrink(picture)
    ordered = small[..., ::-1] if small.ndim == 3 else small
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(ordered), options)
    # Markup: base64 holds no mark that HTML reads, and the cut for long texts must not apply.
    uri = Markup("data:image/jpeg;base64,") + b64encode(encoded.tobytes()).decode("ascii")
    return Thumbnail(uri, small.shape[1], small.shape[0])


class Box(NamedTuple):
    """Where to draw one box plot, in units of 1/1000 of the plot's width.

    Attributes:
        low: 1 % quantile.
        left: 25 % quantile.
        middle: Median.
        right: 75 % quantile.
        high: 99 % quantile.
    """

    low: int
    left: int
    middle: int
    right: int
    high: int


def box_plot(quantiles: NDArray[np.float64]) -> Box:
    """Return the box of five ascending quantiles, shape (5,), 0-1; others are moved into range."""
    places = np.rint(np.clip(quantiles, 0.0, 1.0) * PLOT_WIDTH).astype(int)
    return Box(*(int(place) for place in places))
