"""Noise from a counter and a seed: the same integers from numpy, torch on a CPU, and a GPU."""

from math import sqrt
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_MASK = 0xFFFFFFFF
_FIRST, _SECOND = 0x21F0AAAD, 0x735A2D97  # below 2**31: no product leaves 63 bits
_MEAN = 510  # of the sum of four bytes
SPREAD = sqrt(4 * (256**2 - 1) / 12)
Words = TypeVar("Words", NDArray[np.int64], Tensor)


def _mixed(words: Words) -> Words:
    words = words ^ (words >> 16)
    words = (words * _FIRST) & _MASK
    words = words ^ (words >> 15)
    words = (words * _SECOND) & _MASK
    words = words ^ (words >> 15)
    return words


def bell(counters: Words, first: Words, second: Words) -> Words:
    """Return integers, bell-shaped around 0 with standard deviation ``SPREAD``.

    Each is the sum of the four bytes of one hash, less its mean: within 3.5 standard deviations.

    Args:
        counters: int64, below 2**32: which number of the stream.
        first: int64, below 2**32, one half of the stream's seed.
        second: The other half.
    """
    words = _mixed(_mixed(counters ^ first) ^ second)
    total = (words & 255) + (words >> 8 & 255) + (words >> 16 & 255) + (words >> 24)
    centred: Words = total - _MEAN
    return centred
