"""Area means on a device are those of the CPU, bit for bit."""

from fractions import Fraction

import numpy as np
import pytest
from fake_gpu import on_device

from mammoprep.steps._area import scale
from mammoprep.steps._on_device import shrink

HALF = Fraction(1, 2)


@pytest.mark.parametrize("size", [(50, 30), (97, 61), (96, 61), (33, 7), (1, 1)])
@pytest.mark.parametrize(
    "spans",
    [
        ((Fraction(0), Fraction(97)), (Fraction(0), Fraction(61))),
        ((HALF, Fraction(97)), (Fraction(0), Fraction(123, 2))),
        ((Fraction(1), Fraction(96)), (Fraction(1, 2), Fraction(60))),
    ],
)
def test_shrinking_on_a_device_gives_the_bits_of_the_cpu(
    size: tuple[int, int], spans: tuple[tuple[Fraction, Fraction], tuple[Fraction, Fraction]]
) -> None:
    values = np.random.default_rng(1).random((97, 61), np.float32)
    found = shrink(on_device(values), size, spans)
    if any(count > span[1] - span[0] for count, span in zip(size, spans, strict=True)):
        assert found is None
        return
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(
        found.view(np.uint32), np.ascontiguousarray(scale(values, size, spans)).view(np.uint32)
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_a_table_is_looked_up_for_every_value(bits: int) -> None:
    words = np.arange(1 << bits, dtype=f"u{bits // 8}").reshape(64, -1)
    table = np.random.default_rng(2).random(1 << bits).astype(np.float32)
    np.testing.assert_array_equal(on_device(words).looked_up(table).host(), table[words])
