"""Arrays whose arithmetic is rounded at every step."""

import numpy
import pytest

from refimpl.parity import rounding
from refimpl.parity.floors.narrow import Narrow, narrow, round_like, to_bfloat16, to_float16, widen

LOT = numpy.random.default_rng(3)
FORMATS = {"bfloat16": (to_bfloat16, rounding.bfloat16), "float16": (to_float16, rounding.float16)}


@pytest.mark.parametrize("name", FORMATS)
def test_the_fast_roundings_are_the_written_ones(name):
    fast, written = FORMATS[name]
    bits = LOT.integers(0, 2**32, 300_000, dtype=numpy.uint32)
    x = bits.view("float32")
    x = x[numpy.isfinite(x) & (numpy.abs(x) < 1e30) & (numpy.abs(x) > 1e-36)]
    x = numpy.concat(
        [x, (LOT.standard_normal(300_000) * 10.0 ** LOT.integers(-9, 6, 300_000)).astype("f")]
    )
    with numpy.errstate(over="ignore"):
        assert (fast(x) == written(x)).all()
        assert (fast(x.astype("float64")) == written(x)).all()


def test_what_is_not_finite_stays_so():
    x = numpy.asarray([numpy.inf, -numpy.inf, numpy.nan], dtype="float32")
    for fast, _ in FORMATS.values():
        assert numpy.array_equal(fast(x), x, equal_nan=True)


def test_each_step_is_rounded_and_stays_narrow():
    x = narrow(LOT.standard_normal((3, 8)).astype("f"), to_bfloat16)
    steps = {
        "sum": x + x[:, :1],
        "product": 0.3 * x,
        "matrices": numpy.matmul(x, x.mT),
        "power": numpy.exp(x),
        "total": numpy.sum(x, axis=-1, keepdims=True),
        "mean": numpy.mean(x, axis=-1, keepdims=True),
        "rows": numpy.take(x, numpy.asarray([1, 0]), axis=0) * 1.1,
        "cut": numpy.reshape(x, (6, 4)) * 1.1,
    }
    for name, y in steps.items():
        assert isinstance(y, Narrow), name
        assert (to_bfloat16(widen(y)) == y).all(), name


def test_within_a_product_of_matrices_sums_are_not_rounded():
    x = narrow(numpy.full((1, 1000), 1.0, "f"), to_bfloat16)
    assert numpy.matmul(x, x.mT)[0, 0] == 1000.0  # summed in bfloat16 it would stop at 256


def test_comparisons_and_ids_are_what_they_are():
    x = narrow(numpy.asarray([1.0, -1.0], "f"), to_bfloat16)
    assert (x > 0).tolist() == [True, False]
    assert (x > 0).dtype == bool
    assert numpy.argmax(x) == 0


def test_round_like():
    wide = numpy.asarray([1.001], "f")
    assert round_like(wide, wide) is wide
    assert round_like(wide, narrow(wide, to_bfloat16)).tolist() == [1.0]
