"""Layer norm, softmax and log_softmax: by hand, against mpmath, and what must not change them."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf

from refimpl.ops import layer_norm, log_softmax, softmax, softmax_float32
from tests.compare import assert_same, assert_ulps

both = pytest.mark.parametrize("dtype", ["float64", "float32"])


def normal(*shape):
    return numpy.random.default_rng(sum(shape)).standard_normal(shape)


def row_by_row(function, x):
    """Return ``function`` (a list of mpf -> a list of mpf) of every row, rounded once."""
    with mp.workdps(40):
        exact = [function([mpf(float(v)) for v in row]) for row in x.reshape(-1, x.shape[-1])]
        return numpy.asarray([[float(y) for y in row] for row in exact], x.dtype).reshape(x.shape)


# --- layer norm -----------------------------------------------------------------------------------


def test_layer_norm_by_hand():
    x = numpy.asarray([[1.0, 3.0], [10.0, 6.0]])  # deviations (-1, 1) and (2, -2)
    weight, bias = numpy.asarray([2.0, 3.0]), numpy.asarray([10.0, 20.0])
    assert_same(
        layer_norm(x, weight, bias, eps=0.0), [[-2 + 10.0, 3 + 20.0], [2 + 10.0, -3 + 20.0]]
    )


def test_eps_stands_inside_the_root():
    x = numpy.asarray([0.0, 2.0])  # deviations (-1, 1), variance 1; 1 + 3 = 2 squared
    assert_same(layer_norm(x, numpy.ones(2), numpy.zeros(2), eps=3.0), [-0.5, 0.5])


@both
def test_layer_norm_against_mpmath(dtype):
    draw = numpy.random.default_rng(0).standard_normal
    x, weight, bias = (draw(shape).astype(dtype) for shape in ((2, 3, 7), (7,), (7,)))

    def reference(row):
        mean = mp.fsum(row) / 7
        root = mp.sqrt(mp.fsum((v - mean) ** 2 for v in row) / 7 + mpf("1e-5"))
        return [
            (v - mean) / root * mpf(float(g)) + mpf(float(b))
            for v, g, b in zip(row, weight, bias, strict=True)
        ]

    # 18 roundings, in numbers below 4: the mean's 6 sums and quotient, a difference, the variance's
    # square, sums and quotient (8, which the root halves), eps, root, quotient, gain, bias; and the
    # reference.
    assert_ulps(layer_norm(x, weight, bias, eps=1e-5), row_by_row(reference, x), ulps=18, of=2.0)


# Rows of eight multiples of eight: mean, deviations and variance are whole numbers, so that one
# root and one quotient are all that rounds.
eights = arrays(float, 8, elements=st.integers(-1000, 1000).map(lambda i: 8.0 * i))
uneven = eights.filter(lambda x: x.min() < x.max())


@given(uneven)
def test_layer_norm_has_mean_0_and_variance_1_before_the_gain(x):
    y = layer_norm(x, numpy.ones(8), numpy.zeros(8), eps=0.0)
    mean, square = math.fsum(y) / 8, math.fsum(y * y) / 8
    # y is rounded twice; its square counts both twice, its own, and that of the quotient by 8: six
    # half ulps of what is 1 on average. The mean has fewer.
    assert_ulps(numpy.asarray([mean, square]), numpy.asarray([0.0, 1.0]), ulps=3, of=1.0)


@given(uneven, st.integers(-1000, 1000), st.integers(-20, 20))
def test_layer_norm_does_not_see_shift_and_scale(x, shift, power):
    one, zero = numpy.ones(8), numpy.zeros(8)
    moved = (x + 8.0 * shift) * 2.0**power  # exact
    assert_same(layer_norm(moved, one, zero, eps=0.0), layer_norm(x, one, zero, eps=0.0))


@pytest.mark.parametrize("value", [0.0, -3.0, 2.0**60])
def test_layer_norm_of_a_constant_row_is_the_bias(value):
    bias = normal(5)
    assert_same(layer_norm(numpy.full((2, 5), value), normal(5), bias, eps=1e-12), [bias, bias])


# --- softmax --------------------------------------------------------------------------------------


def test_softmax_by_hand():
    x = numpy.asarray([[0.0, 0.0, 0.0, 0.0], [1000.0, 1000.0, 0.0, -1000.0]])
    assert_same(softmax(x), [[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]])


def test_softmax_of_minus_infinity_is_zero():
    assert_same(softmax(numpy.asarray([-1e308, -numpy.inf])), [1.0, 0.0])


@both
def test_softmax_against_mpmath(dtype):
    def reference(row):
        powers = [mp.exp(v) for v in row]
        return [e / mp.fsum(powers) for e in powers]

    x = numpy.round(4 * normal(2, 3, 7)).astype(dtype) / 4  # quarters: x - max is exact
    # exp, once above the line and once below it, 6 sums, a quotient, the reference.
    exp = {"float64": 2, "float32": 6}[dtype]
    assert_ulps(softmax(x), row_by_row(reference, x), ulps=2 * exp + 8)


rows = arrays(float, (3, 7), elements=st.floats(-700, 700))


@given(rows)
def test_softmax_rows_sum_to_one(x):
    y = softmax(x)
    assert ((y >= 0) & (y <= 1)).all()
    sums = numpy.asarray([math.fsum(row) for row in y])
    # The divisor has 6 roundings, the quotients one, this sum one: 8 half ulps of 1.
    assert_ulps(sums, numpy.ones(3), ulps=4)


quarters = st.integers(-2000, 2000).map(lambda i: i / 4)  # sums and differences of these are exact


@given(arrays(float, (3, 7), elements=quarters), quarters)
def test_softmax_and_its_logarithm_do_not_see_a_constant_added(x, constant):
    assert_same(softmax(x + constant), softmax(x))
    assert_same(log_softmax(x + constant), log_softmax(x))


def test_softmax_float32_is_softmax_but_for_narrower_dtypes():
    x = normal(3, 7)
    for wide in (x, x.astype("float32")):
        assert_same(softmax_float32(wide), softmax(wide))
    narrow = x.astype("float16")
    assert_same(softmax_float32(narrow), softmax(narrow.astype("float32")).astype("float16"))
    assert (softmax_float32(narrow) != softmax(narrow)).any()


# --- log_softmax ----------------------------------------------------------------------------------


def test_log_softmax_by_hand():
    x = numpy.asarray([[1000.0, 0.0], [5.0, 5.0]])
    assert_same(log_softmax(x), [[0.0, -1000.0], [-numpy.log(2), -numpy.log(2)]])


@given(arrays(float, (3, 7), elements=st.floats(-15, 15)))
def test_log_softmax_is_the_logarithm_of_softmax(x):
    # Both are above -32, and both start from x - max, so that its rounding is in both alike. What
    # differs, in ulps of 31: the difference at the end (half), the outer logarithm (one), and some
    # twenty roundings of numbers up to 2 on the way to either logarithm (one thirty-second each).
    assert_ulps(log_softmax(x), numpy.log(softmax(x)), ulps=3, of=31.0)


def test_layer_norm_of_float16_does_not_overflow_or_underflow():
    for x in ([0, 600, 3, 1], [1e-4, 3e-4, 2e-4, 9e-4]):
        x, one, zero = numpy.asarray(x, "float16"), numpy.ones(4), numpy.zeros(4)
        exact = layer_norm(x.astype("float64"), one, zero, eps=1e-12).astype("float16")
        y = layer_norm(x, one.astype("float16"), zero.astype("float16"), eps=1e-12)
        assert_ulps(y, exact, ulps=4, of=1.0)
