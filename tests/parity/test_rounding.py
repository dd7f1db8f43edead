"""Rounding to fewer bits: as the formats' own casts do it, ties and all."""

import array_api_strict
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.parity import rounding
from tests.compare import assert_same, assert_ulps

BITS = st.integers(0, 2**32 - 1)


def float32_from(bits):
    return numpy.asarray([bits], numpy.uint32).view(numpy.float32)


def cut(x, dropped):
    """Round float32 to fewer mantissa bits by integer arithmetic, ties to even."""
    u = x.view(numpy.uint32)
    half, last = numpy.uint32((1 << (dropped - 1)) - 1), (u >> numpy.uint32(dropped)) & 1
    mask = numpy.uint32((0xFFFFFFFF << dropped) & 0xFFFFFFFF)
    return ((u + half + last) & mask).view(numpy.float32)


def is_ordinary(x):
    return bool(numpy.isfinite(x).all() and (abs(x) > 1e-36).all() and (abs(x) < 1e30).all())


@pytest.mark.parametrize(("name", "dropped"), [("bfloat16", 16), ("tf32", 13)])
@given(bits=BITS, tie=st.booleans())
def test_a_mantissa_is_cut_as_its_bits_are(name, dropped, bits, tie):
    if tie:  # exactly between two numbers
        bits = bits >> dropped << dropped | 1 << (dropped - 1)
    x = float32_from(bits)
    if is_ordinary(x):
        assert_same(getattr(rounding, name)(x), cut(x, dropped))
        wide = getattr(rounding, name)(x.astype(numpy.float64))
        assert_same(wide, cut(x, dropped).astype(numpy.float64))


@given(bits=BITS, scale=st.sampled_from([1.0, 2.0**-140, 2.0**-20, 2.0**15]))
def test_float16_is_what_a_cast_gives(bits, scale):
    x = float32_from(bits & 0x807FFFFF | 0x3F800000) * numpy.float32(scale)  # near the scale
    with numpy.errstate(over="ignore"):
        expected = x.astype(numpy.float16)
    assert_same(rounding.float16(x), expected.astype(numpy.float32))
    assert_same(rounding.float16(x.astype(numpy.float64)), expected.astype(numpy.float64))


@pytest.mark.parametrize(
    "x",
    [0.0, 2.0**-25, 3 * 2.0**-25, 2.0**-24, 2.0**-14, 65504.0, 65519.99, 65520.0, 1e300],
)
def test_float16_at_its_ends(x):
    for number in (x, -x):
        with numpy.errstate(over="ignore"):
            expected = numpy.asarray([number]).astype(numpy.float16).astype(numpy.float64)
        assert_same(rounding.float16(numpy.asarray([number])), expected)


def test_what_has_no_more_bits_stays_as_it_is():
    x = numpy.asarray([1.0009765625, 65504.0], numpy.float16)
    for name in ("float16", "tf32"):
        assert getattr(rounding, name)(x) is x
    assert rounding.round_to_bits(x, 8).dtype == numpy.float16


def test_what_is_rounded_stays_rounded():
    x = numpy.random.default_rng(3).standard_normal(1000)
    for name in ("bfloat16", "tf32", "float16"):
        once = getattr(rounding, name)(x)
        assert_same(getattr(rounding, name)(once), once)


def test_numbers_too_large_to_split_stay_finite():
    x = numpy.asarray([1e308, -1.7e308, numpy.inf])
    assert_same(rounding.bfloat16(x), x)


def test_rows_of_eight_bits():
    x = numpy.asarray([[127.0, -63.6, 0.4], [0.0, 0.0, 0.0], [-1.0, 0.5, 0.25]])
    y = rounding.int8_rows(x)
    assert_same(y[:2], numpy.asarray([[127.0, -64.0, 0.0], [0.0, 0.0, 0.0]]))
    steps = y[2] * 127
    assert_ulps(steps, numpy.round(steps), ulps=2)
    assert abs(y[2] - x[2]).max() <= 1 / 254


def test_the_strict_namespace_rounds_the_same():
    x = numpy.random.default_rng(4).standard_normal((3, 5))
    for name in ("bfloat16", "tf32", "float16", "int8_rows"):
        strict = getattr(rounding, name)(array_api_strict.asarray(x))
        assert_same(strict, getattr(rounding, name)(x))
