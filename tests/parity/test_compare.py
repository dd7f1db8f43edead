"""The two comparators: what passes, what does not, and what each refuses to judge."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from refimpl.parity.compare import (
    DIFF,
    DTYPE,
    NAN,
    OK,
    SHAPE,
    Comparison,
    compare_exact,
    compare_floats,
    relative_error,
)

IDS = numpy.array([[250001, 7], [3, 2]])
TRUTH = numpy.array([[1.0, -8.0], [0.5, 0.0]])


def test_equal_ids_are_ok():
    assert compare_exact("ids", IDS.copy(), IDS).status == OK


def test_an_id_that_is_off_by_one_differs_however_large_it_is():
    verdict = compare_exact("ids", IDS + numpy.array([[1, 0], [0, 0]]), IDS)
    assert verdict.status == DIFF
    assert verdict.note == "1 of 4 differ, first at (0, 0): expected 250001, got 250002"


def test_ids_of_another_shape_or_kind_are_named_before_their_values():
    assert compare_exact("ids", IDS[:1], IDS).status == SHAPE
    assert compare_exact("ids", IDS.astype(float), IDS).status == DTYPE


def test_each_comparator_refuses_the_other_kind():
    with pytest.raises(TypeError, match="expected integers or booleans, got float64"):
        compare_exact("x", TRUTH, TRUTH)
    with pytest.raises(TypeError, match="expected floats, got int64"):
        compare_floats("ids", IDS, IDS, 1.0, "int64")


def test_error_is_measured_by_the_largest_element():
    off = TRUTH + numpy.array([[0.0, 0.0], [0.0, 0.004]])
    assert compare_floats("x", off, TRUTH, 0.001, "float64").status == OK
    verdict = compare_floats("x", off, TRUTH, 0.0004, "float64")
    assert verdict.status == DIFF
    assert verdict.error == 0.004 / 8.0


def test_floats_of_another_dtype_or_shape_are_named_before_their_values():
    assert compare_floats("x", TRUTH, TRUTH, 1.0, "float32").status == DTYPE
    assert compare_floats("x", TRUTH[0], TRUTH, 1.0, "float64").status == SHAPE


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nothing_is_near_enough_to_excuse_a_nan(bad):
    verdict = compare_floats("x", numpy.where(TRUTH == 0.5, bad, TRUTH), TRUTH, 1e9, "float64")
    assert (verdict.status, verdict.note) == (NAN, "1 of 4 are not finite")


def test_a_nan_that_the_truth_has_too_agrees():
    truth = numpy.array([math.nan, 1.0])
    assert compare_floats("loss", truth.copy(), truth, 0.0, "float64").status == OK


def test_a_truth_of_zeros_is_judged_by_absolute_error():
    assert relative_error(numpy.array([0.0, 0.25]), numpy.zeros(2)) == 0.25


def test_share_of_a_tolerance_of_zero():
    assert Comparison("x", OK).share == 0.0
    assert Comparison("x", DIFF, error=1e-9).share == math.inf


def test_share_of_floors():
    assert Comparison("x", OK, 0.5, 0.25, units=1.0, multiplier=4.0).share == 0.25


@given(
    arrays.arrays(numpy.float64, 5, elements=st.integers(-1000, 1000).filter(bool)),
    st.sampled_from([0.5, 0.25, 2.0**-20]),
)
def test_error_is_zero_for_the_truth_and_grows_with_the_distance(truth, factor):
    assert relative_error(truth, truth) == 0.0
    largest = abs(truth).max()
    moved = truth + numpy.array(
        [factor * largest, 0, 0, 0, 0]
    )  # exact: small integers and powers of two
    assert relative_error(moved, truth) == factor
