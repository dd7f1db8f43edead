"""What is measured of an error, and how it is told in floors."""

import math

import numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from refimpl.parity.floors import Errors, Floors, differences, measure_errors
from tests.compare import assert_ulps

numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))
tensors = arrays(
    "float64", array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4), elements=numbers
)


def floors(**free):
    return Floors("float32", 32, 4.0, free, {})


def test_one_element_one_cell_the_whole():
    truth = numpy.zeros((2, 3, 4))
    actual = truth.copy()
    actual[1, 2, 3] = -6.0
    errors = measure_errors(actual, truth)
    expected = numpy.asarray([6.0 / math.sqrt(24), 6.0 / math.sqrt(4), 6.0])
    assert_ulps(numpy.asarray(errors), expected, ulps=2)


def test_a_single_number_is_a_cell():
    assert measure_errors(numpy.asarray(3.0), numpy.asarray(1.0)) == (2.0, 2.0, 2.0)


@given(tensors)
def test_the_statistics_are_ordered(x):
    errors = measure_errors(x, numpy.zeros_like(x))
    rounded = numpy.spacing(errors.worst) * x.size
    assert errors.rms <= errors.cell + rounded
    assert errors.cell <= errors.worst + rounded


@given(tensors, st.integers(-500, 500))
def test_an_error_has_the_unit_of_the_value(x, power):
    """Also of numbers whose squares overflow, or vanish."""
    scale = 2.0**power
    small, large = (measure_errors(y, numpy.zeros_like(y)) for y in (x, x * scale))
    assert_ulps(numpy.asarray(large) / scale, numpy.asarray(small), ulps=2 * x.size + 2)


def test_what_is_not_finite_on_one_side_is_infinitely_off():
    inf, nan = math.inf, math.nan
    truth = numpy.asarray([1.0, inf, -inf, nan])
    assert measure_errors(truth, truth) == (0.0, 0.0, 0.0)
    for wrong in ([nan, inf, -inf, nan], [1, -inf, -inf, nan], [1, inf, 1, nan], [1, inf, -inf, 1]):
        assert measure_errors(numpy.asarray(wrong), truth) == (inf, inf, inf)


def test_no_elements_no_error():
    assert measure_errors(numpy.zeros((2, 0)), numpy.zeros((2, 0))) == (0.0, 0.0, 0.0)


def test_differences_are_taken_in_float64():
    small = numpy.asarray([1e-9], dtype="float32")
    assert differences(small, numpy.asarray([1.0]))[0] == float(small[0]) - 1.0


def test_units_are_of_the_statistic_that_is_largest():
    measured = floors(query=Errors(1.0, 2.0, 4.0))
    assert measured.units("query", Errors(0.5, 0.5, 0.5)) == 0.5
    assert measured.units("query", Errors(0.5, 3.0, 4.0)) == 1.5
    assert measured.units("query", Errors(0.0, 0.0, 10.0)) == 2.5


def test_where_honest_runs_are_exact_any_error_is_infinite():
    measured = floors(words=Errors(0.0, 0.0, 0.0))
    assert measured.units("words", Errors(0.0, 0.0, 0.0)) == 0.0
    assert measured.units("words", Errors(1e-30, 0.0, 1e-30)) == math.inf


def test_a_verdict_says_how_it_is_made():
    text = floors().describe()
    assert "4 floors" in text
    assert "32 honest runs" in text
    assert "0.970" in text
