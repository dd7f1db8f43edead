"""Masks: their axes, and what stands in the scores where nobody may look."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.ops import (
    attention_mask_for,
    broadcast_mask,
    causal_mask,
    length_mask,
    mask_scores,
    softmax,
)
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


def test_a_causal_mask_shows_what_stands_before():
    expected = [[True, False, False], [True, True, False], [True, True, True]]
    assert_same(causal_mask(3, 3, like=numpy.zeros(1)), expected)
    assert_same(causal_mask(2, 3, like=numpy.zeros(1)), expected[1:])  # one key from a cache


@given(st.integers(1, 9), st.integers(0, 9))
def test_in_a_causal_mask_a_token_sees_itself_and_its_past(queries, past):
    mask = causal_mask(queries, past + queries, like=numpy.zeros(1))
    assert mask.shape == (queries, past + queries)
    for (s, t), seen in numpy.ndenumerate(mask):
        assert seen == (t <= past + s)


def test_a_mask_of_lengths():
    expected = [[True, True, False], [False, False, False], [True, True, True]]
    assert_same(length_mask(numpy.asarray([2, 0, 3]), places=3), expected)


@given(arrays("int64", 5, elements=st.integers(0, 9)), st.integers(1, 9))
def test_a_mask_of_lengths_lets_as_many_be_seen(lengths, places):
    mask = length_mask(lengths, places=places)
    assert_same(mask.sum(axis=1), numpy.minimum(lengths, places))
    assert (mask[:, :-1] >= mask[:, 1:]).all()  # and those come first


# --- the mask of a model --------------------------------------------------------------------------

HIDDEN = numpy.zeros((2, 3, 5), "float32")  # (B, S, D)


def test_without_a_mask_everything_is_seen():
    mask = attention_mask_for(HIDDEN, None, past=4, causal=False)
    assert_same(mask, numpy.ones((2, 1, 1, 7), bool))


def test_without_a_mask_a_causal_model_sees_the_past():
    mask = attention_mask_for(HIDDEN, None, past=1, causal=True)
    rows = [[True, True, False, False], [True, True, True, False], [True] * 4]
    assert_same(mask, [[rows], [rows]])


@given(arrays(bool, (2, 7)), st.booleans())
def test_a_mask_of_keys_holds_beside_the_causal_one(given_mask, causal):
    mask = attention_mask_for(HIDDEN, given_mask, past=4, causal=causal)
    keys = numpy.broadcast_to(given_mask[:, None, None, :], (2, 1, 3, 7))
    past = numpy.arange(7) <= numpy.arange(4, 7)[:, None]
    assert_same(numpy.broadcast_to(mask, keys.shape), keys & past if causal else keys)


@given(arrays(bool, (2, 3, 7)), st.booleans())
def test_a_mask_for_each_query_holds_as_it_is(given_mask, causal):
    mask = attention_mask_for(HIDDEN, given_mask, past=4, causal=causal)
    assert_same(mask, given_mask[:, None])


# --- masks and scores -----------------------------------------------------------------------------


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
