"""Table look-up, and how the RoBERTa family numbers its tokens."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.ops import embedding, position_ids_from_padding, position_ids_in_order
from tests.compare import assert_same

# --- embedding ------------------------------------------------------------------------------------


def test_embedding_by_hand():
    weight = numpy.asarray([[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]])
    ids = numpy.asarray([[2, 0], [2, 1]])
    assert_same(embedding(ids, weight), [[[2.0, 2.5], [0.0, 0.5]], [[2.0, 2.5], [1.0, 1.5]]])


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 3, 5)])
def test_embedding_of_any_number_of_axes(leading):
    ids = numpy.random.default_rng(0).integers(0, 11, leading)
    weight = numpy.arange(77.0).reshape(11, 7)
    assert_same(embedding(ids, weight), weight[ids])


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_embedding_returns_the_bits_of_the_table(dtype):
    weight = numpy.asarray([[-0.0, numpy.inf, numpy.finfo(dtype).smallest_subnormal]], dtype)
    assert_same(embedding(numpy.asarray([0, 0]), weight), weight[[0, 0]])


# --- position ids from padding --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "positions"),
    [
        ([5, 6, 7], [2, 3, 4]),
        ([5, 6, 1], [2, 3, 1]),  # padding at the end,
        ([1, 5, 6], [1, 2, 3]),  # before,
        ([5, 1, 6], [2, 1, 3]),  # and within
        ([1, 1, 1], [1, 1, 1]),
        ([0, 0, 2], [2, 3, 4]),
    ],
)
def test_positions_pass_over_padding_1(ids, positions):
    assert_same(position_ids_from_padding(numpy.asarray([ids]), padding_idx=1), [positions])


def test_positions_pass_over_another_padding():
    ids = numpy.asarray([[0, 1, 1, 0], [1, 0, 1, 1]])
    expected = [[0, 1, 2, 0], [1, 0, 2, 3]]
    assert_same(position_ids_from_padding(ids, padding_idx=0), expected)


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_positions_are_integers_as_the_ids_are(dtype):
    ids = numpy.asarray([[5, 1]], dtype)
    assert_same(position_ids_from_padding(ids, padding_idx=1), numpy.asarray([[2, 1]], dtype))


@given(arrays(numpy.int64, (2, 13), elements=st.integers(0, 3)), st.integers(0, 4))
def test_tokens_are_numbered_from_above_the_padding_and_padding_is_not(ids, padding):
    positions = position_ids_from_padding(ids, padding_idx=padding)
    for row, numbered in zip(ids, positions, strict=True):
        tokens = numbered[row != padding]
        assert_same(tokens, numpy.arange(len(tokens)) + padding + 1)
        assert (numbered[row == padding] == padding).all()


@given(arrays(numpy.int64, (2, 13), elements=st.integers(0, 3)), st.integers(0, 13))
def test_positions_go_on_where_an_earlier_call_ended(ids, cut):
    ids[:, :cut] = 2  # tokens: past counts no padding
    whole = position_ids_from_padding(ids, padding_idx=1)
    rest = position_ids_from_padding(ids[:, cut:], padding_idx=1, past=cut)
    assert_same(rest, whole[:, cut:])


# --- position ids in order ------------------------------------------------------------------------


def test_positions_in_order_count_every_place_and_look_at_no_vector():
    vectors = numpy.full((2, 3, 5), numpy.nan)
    expected = [[2, 3, 4], [2, 3, 4]]
    assert_same(position_ids_in_order(vectors, padding_idx=1), expected)


def test_positions_in_order_are_those_of_a_text_without_padding():
    ids, vectors = numpy.full((2, 13), 5), numpy.zeros((2, 13, 3), "float32")
    expected = position_ids_from_padding(ids, padding_idx=1)
    assert_same(position_ids_in_order(vectors, padding_idx=1), expected)


@pytest.mark.parametrize("cut", [0, 1, 12])
def test_positions_in_order_go_on_where_an_earlier_call_ended(cut):
    vectors = numpy.zeros((2, 13, 3))
    whole = position_ids_in_order(vectors, padding_idx=1)
    assert_same(position_ids_in_order(vectors[:, cut:], padding_idx=1, past=cut), whole[:, cut:])
