"""Stored grey levels -> floats: a table a sample, of normalisation, gamma, contrast, brightness."""

import numpy as np
from numpy.typing import NDArray

from mammotrain.data._parameters import Parameters

Curves = NDArray[np.float64]


def tables(
    parameters: Parameters, levels: int, curves: Curves | None = None
) -> NDArray[np.float32] | None:
    """Return (B, levels + 1) grey values in [0, 1], one row a sample; None when nothing changes.

    Args:
        parameters: Their ``tone`` is applied after the curve.
        levels: 255 or 65535, the largest stored level.
        curves: (B, 2, n) ascending positions and values of each sample's curve over [0, 1]; between
            them it is linear. ``normalise`` makes them.
    """
    plain = bool((parameters.tone == 1.0).all())
    if plain and curves is None:
        return None
    grey = np.arange(levels + 1) / levels
    found = np.empty((len(parameters), levels + 1), np.float32)
    for row in range(len(parameters)):
        values = grey if curves is None else np.interp(grey, curves[row, 0], curves[row, 1])
        found[row] = values if plain else _toned(values, parameters.tone[row])
    return found


def _toned(grey: NDArray[np.float64], tone: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return grey values after exponent, slope at mid-grey and brightness; 0 stays 0."""
    brightness, slope, exponent = tone
    bent = grey**exponent if exponent != 1.0 else grey
    curved = bent + 2 * (slope - 1) * bent * (1 - bent) * (2 * bent - 1)
    return np.asarray(np.clip(curved * brightness, 0.0, 1.0))
