"""The measures: worked by hand, and whole for whatever numbers come."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.parity.comparison.metrics import measure, top_agreement
from refimpl.parity.comparison.numbers import arithmetic_of, number_format, too_narrow
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.rounding import bfloat16, float16


def test_measures_by_hand():
    found = measure(numpy.asarray([3.0, 4.0]), numpy.asarray([4.0, 3.0]))
    assert found.max_abs == 1.0
    assert found.max_rel == 0.25
    assert found.rms == 1.0
    assert found.cosine == 24.0 / 25.0


def test_what_is_not_finite_is_left_out():
    found = measure(numpy.asarray([1.0, math.nan, 5.0]), numpy.asarray([1.0, 2.0, math.inf]))
    assert found == (0.0, 0.0, 0.0, 1.0)


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=6))
def test_measures_are_numbers_whatever_comes(pairs):
    a, b = (numpy.asarray([pair[i] for pair in pairs], dtype=float) for i in (0, 1))
    with numpy.errstate(over="ignore"):
        found = measure(a, b)
    assert not any(math.isnan(x) for x in found)
    assert -1.0 <= found.cosine <= 1.0


def test_top_agreement_is_of_sets():
    given_, truth = numpy.asarray([[3.0, 2.0, 1.0]]), numpy.asarray([[2.0, 3.0, 1.0]])
    assert top_agreement(given_, truth, 1) == (0, 1)
    assert top_agreement(given_, truth, 2) == (1, 1)


# --- which numbers --------------------------------------------------------------------------------

X = numpy.random.default_rng(0).standard_normal((3, 4))


@pytest.mark.parametrize(
    ("x", "name"),
    [
        (X, "float64"),
        (X.astype("float32"), "float32"),
        (X.astype("float16"), "float16"),
        (float16(X).astype("float32"), "float16"),
        (bfloat16(X).astype("float32"), "bfloat16"),
    ],
)
def test_numbers_tell_their_format(x, name):
    assert number_format(Dump({"a": x}), "a") == name
    assert arithmetic_of(Dump({"a": x})) == name


def test_most_of_the_values_decide_and_what_the_dump_says_counts_first():
    narrow, wide = X.astype("float16"), X.astype("float32")
    assert arithmetic_of(Dump({"a": wide, "b": narrow, "c": narrow})) == "float16"
    assert arithmetic_of(Dump({"a": wide, "b": narrow})) == "float16"
    assert arithmetic_of(Dump({"a": wide}, about={"dtype": "tf32"})) == "tf32"
    assert arithmetic_of(Dump({"a": wide}, about={"dtype": 5, "bfloat16": ["tap.a"]})) == "bfloat16"


def test_a_dump_of_ids_has_no_arithmetic():
    with pytest.raises(ValueError, match="at least one tap or output of floats"):
        arithmetic_of(Dump({"position_ids": numpy.ones((2, 3), int)}))


def test_too_narrow():
    assert too_narrow(numpy.dtype("float16"), "float32")
    assert too_narrow(numpy.dtype("float32"), "float64")
    assert not too_narrow(numpy.dtype("float64"), "float16")
    assert not too_narrow(numpy.dtype("float16"), "bfloat16")
