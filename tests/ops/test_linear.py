"""linear by hand, in all its shapes, and on whole numbers, where every sum is exact."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.ops import linear
from tests.compare import assert_same


def test_by_hand():
    x = numpy.asarray([[1.0, 2.0, 3.0]])
    weight = numpy.asarray([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])  # one row per output
    bias = numpy.asarray([10.0, 20.0])
    assert_same(linear(x, weight, bias), [[1 + 6 + 10.0, 2 - 3 + 20.0]])


def test_without_a_bias():
    x, weight = numpy.asarray([1.0, 2.0]), numpy.asarray([[3.0, 4.0]])
    assert_same(linear(x, weight), [11.0])
    rows = whole(2, 3, 7)
    assert_same(linear(rows, whole(11, 7)), linear(rows, whole(11, 7), numpy.zeros(11)))


def whole(*shape):
    """Return whole numbers from -9 to 9: their products and sums are exact."""
    return numpy.random.default_rng(sum(shape)).integers(-9, 10, shape).astype(float)


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 3, 5)])
def test_any_number_of_leading_axes(leading):
    x, weight, bias = whole(*leading, 7), whole(11, 7), whole(11)
    assert_same(linear(x, weight, bias), numpy.einsum("...i,oi->...o", x, weight) + bias)


def test_a_view_that_is_not_contiguous():
    x, weight, bias = whole(3, 2, 7).transpose(1, 0, 2), whole(11, 7), whole(11)
    assert_same(linear(x, weight, bias), linear(x.copy(), weight, bias))


rows = arrays(float, (3, 5), elements=st.integers(-(2**20), 2**20).map(float))


@given(rows, rows)
def test_is_linear(x, y):
    weight, bias, nothing = whole(7, 5), whole(7), numpy.zeros(7)
    parts = linear(x, weight, bias) + linear(y, weight, nothing)
    assert_same(linear(x + y, weight, bias) + 0.0, parts + 0.0)  # + 0.0: for a zero's sign
