"""erf against mpmath, in units in the last place of the exact value."""

import inspect
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from refimpl.backend import get_backend, to_numpy
from refimpl.ops.erf import FLOAT32, FLOAT64, erf
from tools import fit_erf

BOUND = 2
TABLES = {"float32": FLOAT32, "float64": FLOAT64}
# bits of the significand, binary exponent of the smallest normal number (as frexp counts)
FORMATS = {"float16": (11, -13), "float32": (24, -125), "float64": (53, -1021)}
both = pytest.mark.parametrize("dtype", ["float32", "float64"])


def ulps(y, x):
    """Return the error of y = erf(x), for one finite x, in ulps of the exact value."""
    bits, lowest = FORMATS[x.dtype.name]
    with mp.workprec(120):
        exact = mp.erf(mpf(float(x)))
        ulp = mp.ldexp(1, max(mp.frexp(exact)[1], lowest) - bits)
        return float(abs(mpf(float(y)) - exact) / ulp)


def worst(x):
    """Return the largest error of erf over the array x, and where it is."""
    return max((ulps(b, a), float(a)) for a, b in zip(x, erf(x), strict=True))


def neighbours(value, dtype, count=8):
    """Return ``value`` and the ``count`` numbers of ``dtype`` on either side of it."""
    above = below = numpy.asarray(value, dtype)
    found = [above]
    for _ in range(count):
        above = numpy.nextafter(above, above.dtype.type(numpy.inf))
        below = numpy.nextafter(below, below.dtype.type(-numpy.inf))
        found += [above, below]
    return numpy.asarray(found)


def points(dtype):
    """Return positive finite points: every binade, the slope, the tail, the boundaries."""
    bits, lowest = FORMATS[dtype]
    table = TABLES[dtype]
    exponents = numpy.arange(lowest - bits, 2 - lowest)
    edges = [table.split, table.end, 0.5, 1.0, 2.0, 3.83, 3.92, 5.86, 5.92]
    parts = [
        *(numpy.ldexp(numpy.asarray(m, dtype), exponents) for m in (1.0, 1.37, 1.9)),
        numpy.linspace(0.001, 1.5, 6001),
        numpy.linspace(1.5, table.end + 0.5, 2001),
        *(neighbours(edge, dtype) for edge in edges),
        [numpy.finfo(dtype).smallest_subnormal, numpy.finfo(dtype).tiny, numpy.finfo(dtype).max],
    ]
    return numpy.concatenate([numpy.asarray(part, dtype) for part in parts])


@both
def test_is_within_two_ulp_of_mpmath(dtype):
    error, x = worst(points(dtype))
    assert error <= BOUND, f"{error} ulp at {x!r}"


def check_random(value, dtype):
    x = numpy.asarray([value], dtype)
    assert ulps(erf(x)[0], x[0]) <= BOUND


anything = {"allow_nan": False, "allow_infinity": False}
steadily = settings(derandomize=True, database=None, deadline=None, max_examples=500)


@steadily
@given(st.one_of(st.floats(-7, 7, width=32), st.floats(width=32, **anything)))
def test_random_float32(value):
    check_random(value, "float32")


@steadily
@given(st.one_of(st.floats(-7, 7), st.floats(**anything)))
def test_random_float64(value):
    check_random(value, "float64")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_special_values(dtype):
    x = numpy.asarray([0.0, -0.0, numpy.inf, -numpy.inf, numpy.nan, -numpy.nan], dtype)
    with numpy.errstate(over="raise", invalid="raise", divide="raise"):
        y = erf(x)
    numpy.testing.assert_array_equal(y, numpy.asarray([0, 0, 1, -1, numpy.nan, numpy.nan], dtype))
    assert numpy.signbit(y[:4]).tolist() == [False, True, False, True]


@both
def test_is_odd_to_the_bit(dtype):
    x = points(dtype)
    assert erf(-x).tobytes() == (-erf(x)).tobytes()


@both
def test_rises_to_one_and_never_beyond(dtype):
    reach = {"float32": 3, "float64": 5}[dtype]  # further out the steps sink into the rounding
    grid = erf(numpy.asarray(numpy.arange(0, reach, 0.01), dtype))
    assert numpy.all(grid[1:] > grid[:-1])
    x = points(dtype)
    y = erf(x)
    assert numpy.all((y >= 0) & (y <= 1))
    assert numpy.all(y[x >= TABLES[dtype].end] == 1)


@pytest.mark.parametrize("shape", [(), (0, 4), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_keeps_dtype_and_shape_and_leaves_its_input_alone(dtype, shape):
    x = numpy.full(shape, -0.75, dtype)
    before = x.copy()
    y = erf(x)
    assert (y.dtype, y.shape) == (x.dtype, shape)
    assert x.tobytes() == before.tobytes()


@both
@pytest.mark.parametrize("name", ["strict:CPU_DEVICE", "strict:device1"])
def test_strict_namespace_gives_the_bits_of_numpy(name, dtype):
    backend = get_backend(name)
    x = numpy.concatenate([points(dtype), -points(dtype)])
    y = erf(backend.asarray(x))
    assert (y.dtype, y.device) == (backend.dtype(dtype), backend.device)
    assert to_numpy(y).tobytes() == erf(x).tobytes()


def test_float16_is_rounded_once_from_float32():
    x = numpy.arange(1, 0x7C00, 3, dtype=numpy.uint16).view(numpy.float16)  # a third of them all
    error, where = worst(x)
    assert error <= 0.501, f"{error} ulp at {where!r}"


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "bool", "complex64"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(
        TypeError, match=f"^erf: expected float64, float32 or float16, got {dtype}$"
    ):
        erf(numpy.zeros(3, dtype))


def test_strict_integers_are_refused():
    with pytest.raises(
        TypeError, match=r"^erf: expected float64, float32 or float16, got .*int64$"
    ):
        erf(get_backend("strict:device1").asarray([1, 2]))


@both
def test_tables_are_what_the_fit_prints(dtype):
    text, core, tail = fit_erf.table(dtype.upper())
    assert (TABLES[dtype].core, TABLES[dtype].tail) == (core, tail)
    assert f"\n{text}\n" in Path(inspect.getfile(inspect.unwrap(erf))).read_text(encoding="utf-8")
