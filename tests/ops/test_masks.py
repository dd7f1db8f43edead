"""Masks: their axes, and what stands in the scores where nobody may look."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.ops import broadcast_mask, mask_scores, softmax
from tests.compare import assert_same

every = pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])


@pytest.mark.parametrize("dtype", ["bool", "int64", "int32", "float64"])
def test_a_mask_of_keys_is_the_same_for_every_head_and_query(dtype):
    mask = numpy.asarray([[1, 1, 0], [0, 1, 1]], dtype)
    expected = [[[[True, True, False]]], [[[False, True, True]]]]
    assert_same(broadcast_mask(mask), expected)


def test_a_mask_of_keys_for_each_query_is_the_same_for_every_head():
    mask = numpy.asarray([[[1, 0], [1, 1]]])
    assert_same(broadcast_mask(mask), [[[[True, False], [True, True]]]])


@pytest.mark.parametrize("shape", [(2, 7), (2, 5, 7)])
def test_masks_broadcast_against_scores(shape):
    mask = broadcast_mask(numpy.ones(shape))
    assert numpy.broadcast_shapes(mask.shape, (2, 3, 5, 7)) == (2, 3, 5, 7)


@pytest.mark.parametrize(
    ("dtype", "low"),
    [
        ("float64", -(2.0**1023) + 2.0**970),
        ("float32", -(2.0**127) + 2.0**103),
        ("float16", -32752.0),
    ],
)
def test_half_the_lowest_number_stands_where_nobody_may_look(dtype, low):
    scores = numpy.asarray([[[[1.5, 2.5, -3.5]]]], dtype)
    mask = numpy.asarray([[[[True, False, True]]]])
    assert_same(mask_scores(scores, mask), numpy.asarray([[[[1.5, low, -3.5]]]], dtype))


@every
def test_softmax_neither_overflows_nor_leaves_anything_there(dtype):
    top = float(numpy.finfo(dtype).max) / 2
    scores = numpy.asarray([[[[top, 7.0, 7.0], [0.0, 7.0, 7.0], [-top / 2, 7.0, 7.0]]]], dtype)
    mask = numpy.asarray([[[[True, False, False]]]])
    with numpy.errstate(over="raise", invalid="raise"):
        probs = softmax(mask_scores(scores, mask))
    assert_same(probs, numpy.asarray([[[[1, 0, 0], [1, 0, 0], [1, 0, 0]]]], dtype))


shape = (2, 3, 5, 7)
scores = arrays(float, shape, elements=st.floats(allow_nan=False))


@given(scores, arrays(bool, (2, 1, 1, 7)))
def test_scores_that_count_are_untouched_and_the_others_forgotten(x, mask):
    masked = mask_scores(x, mask)
    everywhere = numpy.broadcast_to(mask, shape)
    assert_same(masked[everywhere], x[everywhere])
    assert_same(masked, mask_scores(numpy.where(mask, x, 0.0), mask))
