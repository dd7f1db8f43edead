"""The activation functions against mpmath, at their ends, and under their names."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from refimpl.ops import ACTIVATIONS, gelu_erf, gelu_tanh, relu, silu, tanh
from tests.compare import assert_same, assert_ulps, exactly

both = pytest.mark.parametrize("dtype", ["float64", "float32"])
every = pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])


def exact_gelu_erf(x):
    return x * mp.ncdf(x)


def exact_gelu_tanh(x):
    return x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mpf("0.044715") * x**3)))


def exact_silu(x):
    return x / (1 + mp.exp(-x))


def grid(dtype):
    return numpy.linspace(-9.0, 9.0, 1201).astype(dtype)


@pytest.mark.parametrize(
    ("function", "at_minus_one", "at_one"),
    [
        (gelu_erf, -0.15865525393145707, 0.8413447460685429),
        (gelu_tanh, -0.15880800939172324, 0.8411919906082768),
        (relu, 0.0, 1.0),
        (silu, -0.2689414213699951, 0.7310585786300049),
        (tanh, -0.7615941559557649, 0.7615941559557649),
    ],
)
def test_at_minus_one_zero_and_one(function, at_minus_one, at_one):
    y = function(numpy.asarray([-1.0, 0.0, 1.0]))
    # No function's count, in the tests below, is higher than gelu_tanh's 6 ulps of x.
    assert_ulps(y, numpy.asarray([at_minus_one, 0.0, at_one]), ulps=6, of=1.0)


# Below zero 1 + erf(x) cancels: its errors are ulps of 1 however small it is, and those of the
# result are ulps of x. They are: erf (2 ulps, of numbers up to 1), its argument's product and
# constant (t erf'(t) < 1/2, so one rounding), the sum (an ulp of 1 is two of those), halved by x/2;
# then the last product, and the reference.
@both
def test_gelu_erf_against_mpmath(dtype):
    x = grid(dtype)
    assert_ulps(gelu_erf(x), exactly(exact_gelu_erf, x), ulps=4, of=numpy.abs(x))


# The same, with tanh (2 ulps) of an argument that is rounded eight times (t tanh'(t) < 1/2).
@both
def test_gelu_tanh_against_mpmath(dtype):
    x = grid(dtype)
    assert_ulps(gelu_tanh(x), exactly(exact_gelu_tanh, x), ulps=6, of=numpy.abs(x))


# exp, then sum, product, quotient, and the reference.
@both
def test_silu_against_mpmath(dtype):
    x = grid(dtype)
    exp = {"float64": 2, "float32": 6}[dtype]
    assert_ulps(silu(x), exactly(exact_silu, x), ulps=exp + 4)


# The library's tanh and the reference.
@both
def test_tanh_against_mpmath(dtype):
    x = grid(dtype)
    assert_ulps(tanh(x), exactly(mp.tanh, x), ulps=3)


def test_the_two_gelus_part_by_up_to_5e_4():
    x = grid("float64")
    assert round(float(numpy.max(numpy.abs(gelu_erf(x) - gelu_tanh(x)))), 5) == 0.00047


def test_relu_keeps_what_is_positive():
    x = numpy.asarray([-numpy.inf, -1e-300, 0.0, 1e-300, numpy.inf, numpy.nan])
    assert_same(relu(x), [0.0, 0.0, 0.0, 1e-300, numpy.inf, numpy.nan])


@every
@pytest.mark.parametrize("function", [gelu_erf, relu, silu])
def test_far_out_they_are_x_or_nothing_without_a_warning(function, dtype):
    top = numpy.finfo(dtype).max
    x = numpy.asarray([-top, -top / 2, top / 2, top], dtype)
    with numpy.errstate(over="raise", invalid="raise", divide="raise"):
        y = function(x)
    assert_same(numpy.abs(y), numpy.asarray([0, 0, top / 2, top], dtype))


def test_gelu_erf_of_float16_is_rounded_once():
    x = numpy.arange(-8, 8, 2**-6).astype("float16")
    assert_same(gelu_erf(x), gelu_erf(x.astype("float32")).astype("float16"))


@pytest.mark.parametrize(("dtype", "far"), [("float64", 1e102), ("float32", 6e12), ("float16", 40)])
def test_far_out_gelu_tanh_is_x_or_nothing_as_long_as_its_cube_fits(dtype, far):
    x = numpy.asarray([-far, far], dtype)
    assert_same(numpy.abs(gelu_tanh(x)), numpy.asarray([0, far], dtype))


@given(st.floats(-1e300, 1e300).filter(lambda x: x == 0 or abs(x) > 1e-300))
def test_silu_of_x_less_silu_of_minus_x_is_x(x):
    x = numpy.asarray([x])
    # x/(1 + e) + xe/(1 + e), with one e in both: the sum, the product, the quotients (each of its
    # part, together once of x) and the difference.
    assert_ulps(silu(x) - silu(-x), x, ulps=4)


@given(st.floats(-30, 30))
def test_the_gelus_of_x_and_minus_x_are_x_apart(x):
    x = numpy.asarray([x])
    # x/2 (1 + f) + x/2 (1 - f), with one f in both: sums, products, difference.
    for gelu in (gelu_erf, gelu_tanh):
        assert_ulps(gelu(x) - gelu(-x), x, ulps=3)


def test_the_names_in_a_config():
    expected = {
        "gelu": gelu_erf,
        "gelu_python": gelu_erf,
        "gelu_new": gelu_tanh,
        "gelu_pytorch_tanh": gelu_tanh,
        "gelu_python_tanh": gelu_tanh,
        "gelu_accurate": gelu_tanh,
        "relu": relu,
        "silu": silu,
        "swish": silu,
        "tanh": tanh,
    }
    assert expected == ACTIVATIONS
