"""Heads and attention: by hand, against loops, and what masks promise, bit for bit."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.ops import (
    extend,
    merge_heads,
    multi_head_attention,
    relative_position_scores,
    scaled_dot_product_attention,
    split_heads,
)
from tests.compare import assert_same, assert_ulps

every = pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])

B, H, S, T, K = 2, 3, 5, 7, 11
ALL = numpy.ones((B, 1, 1, T), bool)


def query_key_value(dtype="float64"):
    draw = numpy.random.default_rng(0).standard_normal
    return [draw((B, H, n, K)).astype(dtype) for n in (S, T, T)]


def one_head(values):
    """Return a column of numbers as (1, 1, S, 1): one text, one head, one feature."""
    return numpy.asarray(values, float).reshape(1, 1, -1, 1)


# --- heads ----------------------------------------------------------------------------------------


def test_split_heads_by_hand():
    x = numpy.asarray([[[1, 2, 3, 4], [5, 6, 7, 8]]])  # two places of four features
    assert_same(split_heads(x, size=2), [[[[1, 2], [5, 6]], [[3, 4], [7, 8]]]])


def test_merge_heads_by_hand():
    x = numpy.asarray([[[[1, 2], [5, 6]], [[3, 4], [7, 8]]]])
    assert_same(merge_heads(x), [[[1, 2, 3, 4], [5, 6, 7, 8]]])


def test_split_and_merge_undo_each_other():
    y, _, _ = query_key_value()
    x = numpy.arange(float(B * S * H * K)).reshape(B, S, H * K)
    assert split_heads(x, size=K).shape == (B, H, S, K)
    assert_same(merge_heads(split_heads(x, size=K)), x)
    assert_same(split_heads(merge_heads(y), size=K), y)


@pytest.mark.parametrize("past", [1, 4])
def test_extend_puts_new_keys_behind_those_that_were_kept(past):
    _, key, _ = query_key_value()
    assert_same(extend(key[:, :, :past], key[:, :, past:]), key)


def test_extend_of_nothing():
    _, key, _ = query_key_value()
    assert extend(None, key) is key


# --- attention ------------------------------------------------------------------------------------


def test_by_hand():
    query, key, value = one_head([2.0]), one_head([math.log(3), 0.0]), one_head([4.0, 8.0])
    mask = numpy.asarray([[[[True, True]]]])
    out = scaled_dot_product_attention(query, key, value, mask=mask, scale=0.5)
    assert_same(out.scores, [[[[math.log(3), 0.0]]]])
    # log 3 is rounded, then exp (2), the sum and the quotient; for the context one more sum.
    assert_ulps(out.probs, numpy.asarray([[[[0.75, 0.25]]]]), ulps=5)
    assert_ulps(out.context, numpy.asarray([[[[0.75 * 4 + 0.25 * 8]]]]), ulps=6)


def test_a_masked_key_by_hand():
    query, key, value = one_head([1.0]), one_head([0.0, 0.0, 9.0]), one_head([2.0, 4.0, 8.0])
    mask = numpy.asarray([[[[True, True, False]]]])
    out = scaled_dot_product_attention(query, key, value, mask=mask, scale=1.0)
    assert_same(out.probs, [[[[0.5, 0.5, 0.0]]]])
    assert_same(out.context, [[[[3.0]]]])
    assert_same(out.scores, [[[[0.0, 0.0, 9.0]]]])  # those before the mask


def test_against_loops():
    query, key, value = (numpy.rint(x) for x in query_key_value())  # so that scores are exact
    mask = numpy.random.default_rng(1).random((B, 1, S, T)) < 0.7
    out = scaled_dot_product_attention(query, key, value, mask=mask, scale=0.25)
    scores, probs, context = (numpy.zeros((B, H, S, n)) for n in (T, T, K))
    for b, h, s in numpy.ndindex(B, H, S):
        scores[b, h, s] = [0.25 * math.fsum(query[b, h, s] * key[b, h, t]) for t in range(T)]
        seen = [t for t in range(T) if mask[b, 0, s, t]]
        powers = numpy.asarray([math.exp(x) for x in scores[b, h, s, seen]])
        probs[b, h, s, seen] = powers / math.fsum(powers)
        for k in range(K):
            context[b, h, s, k] = math.fsum(probs[b, h, s, seen] * value[b, h, seen, k])
    assert_same(out.scores + 0.0, scores + 0.0)  # + 0.0: for a zero's sign
    # exp (twice 2), 6 sums and the quotient; in the loop exp (twice 2), one sum, the quotient.
    assert_ulps(out.probs, probs, ulps=17)
    # As much again in a mean of numbers below 4, with 7 products and 6 sums; 7 and 1 in the loop.
    assert_ulps(out.context, context, ulps=17 + 21, of=2.0)


def test_shapes_of_all_results():
    out = scaled_dot_product_attention(*query_key_value(), mask=ALL, scale=1.0)
    shapes = [x.shape for x in out]
    assert shapes == [(B, H, S, K), (B, H, S, T), (B, H, S, T), (B, H, S, T)]


def test_position_scores_are_added_before_the_scale():
    query, key, value = one_head([2.0]), one_head([3.0, 0.0]), one_head([4.0, 8.0])
    mask, position_scores = numpy.asarray([[[[True, True]]]]), numpy.asarray([[[[1.0, 7.0]]]])
    out = scaled_dot_product_attention(
        query, key, value, mask=mask, scale=0.5, position_scores=position_scores
    )
    assert_same(out.scores, [[[[(6 + 1) * 0.5, (0 + 7) * 0.5]]]])
    assert_same(out.context, [[[[6.0]]]])


def test_another_softmax():
    def first(x):
        return numpy.eye(1, x.shape[-1])[0] + 0.0 * x  # all weight on the first key

    query, key, value = query_key_value()
    out = scaled_dot_product_attention(query, key, value, mask=ALL, scale=0.3, softmax=first)
    assert_same(out.context, numpy.broadcast_to(value[:, :, :1], (B, H, S, K)))


# --- masks ----------------------------------------------------------------------------------------

junk = arrays(float, (B, H, T, K), elements=st.floats(-1e100, 1e100))


@given(arrays(bool, (B, 1, 1, T)), junk, junk)
def test_what_stands_at_a_masked_place_changes_nothing(mask, other_key, other_value):
    mask[..., 0] = True  # a row that may look at nothing looks at everything
    query, key, value = query_key_value()
    keep = numpy.swapaxes(mask, 2, 3)  # (B, 1, T, 1)
    out = scaled_dot_product_attention(query, key, value, mask=mask, scale=0.3)
    other = scaled_dot_product_attention(
        query,
        numpy.where(keep, key, other_key),
        numpy.where(keep, value, other_value),
        mask=mask,
        scale=0.3,
    )
    assert_same(other.context, out.context)
    assert_same(other.weights, out.weights)
    assert_same(other.probs, out.probs)


@every
def test_a_query_that_may_look_at_nothing_looks_at_all_keys_alike(dtype):
    query, key, _ = query_key_value(dtype)
    value = numpy.ones((B, H, T, K), dtype) * numpy.arange(T, dtype=dtype)[:, None]
    mask = numpy.ones((B, 1, S, T), bool)
    mask[1, :, 3, :] = False
    out = scaled_dot_product_attention(query, key, value, mask=mask, scale=0.3)
    assert_same(out.probs[1, :, 3, :], numpy.full((H, T), 1 / T, dtype))
    # The mean of 0, 1, ..., 6: 1/7 is rounded, then the products (together once), 6 sums.
    assert_ulps(out.context[1, :, 3, :], numpy.full((H, K), 3, dtype), ulps=8)
    others = scaled_dot_product_attention(query, key, value, mask=ALL, scale=0.3)
    keep = numpy.broadcast_to(mask[..., :1], out.context.shape)
    assert_same(out.context[keep], others.context[keep])


@every
def test_no_score_is_too_large(dtype):
    query, key, value = query_key_value(dtype)
    query, key = query * 25, key * 25  # scores up to 10^4, float16 ends at 6.5 * 10^4
    mask = ALL.copy()
    mask[1, ..., 2:] = False
    probs = scaled_dot_product_attention(query, key, value, mask=mask, scale=1.0).probs
    assert (probs[1, ..., 2:] == 0).all()
    # The divisor's 6 sums, the quotient, and this sum's last rounding.
    ones = numpy.ones((B, H, S), dtype)
    assert_ulps(probs.sum(axis=-1, dtype="float64").astype(dtype), ones, ulps=8)


# --- head_mask ------------------------------------------------------------------------------------


def test_head_mask_by_hand():
    query, key, value = query_key_value()
    plain = scaled_dot_product_attention(query, key, value, mask=ALL, scale=0.3)
    out = scaled_dot_product_attention(
        query, key, value, mask=ALL, scale=0.3, head_mask=numpy.asarray([1.0, 0.5, 0.0])
    )
    assert_same(out.probs, plain.probs)  # those before head_mask
    for head, factor in enumerate([1.0, 0.5, 0.0]):  # a half is exact, in every product and sum
        assert_same(out.weights[:, head], plain.weights[:, head] * factor)
        assert_same(out.context[:, head] + 0.0, plain.context[:, head] * factor + 0.0)


def test_without_head_mask_the_weights_are_the_probabilities():
    out = scaled_dot_product_attention(*query_key_value(), mask=ALL, scale=0.3)
    assert_same(out.weights, out.probs)


# --- all heads ------------------------------------------------------------------------------------


def test_multi_head_attention_is_its_parts_put_together():
    draw = numpy.random.default_rng(0).standard_normal
    query, key, value = (draw((2, n, 6)) for n in (3, 5, 5))
    table = draw((15, 2))
    mask = numpy.ones((2, 1, 1, 5), bool)
    out = multi_head_attention(
        query, key, value, head_size=2, mask=mask, distances=table, of_key=True
    )
    q, k, v = (split_heads(x, size=2) for x in (query, key, value))
    scores = relative_position_scores(q, k, table, of_key=True)
    parts = scaled_dot_product_attention(
        q, k, v, mask=mask, scale=1 / math.sqrt(2), position_scores=scores
    )
    assert_same(out.context, merge_heads(parts.context))
    assert_same(out.weights, parts.weights)
    assert_same(out.kept[0], k)
    assert_same(out.kept[1], v)


def test_kept_keys_stand_before_new_ones_and_may_be_all_there_are():
    draw = numpy.random.default_rng(0).standard_normal
    query, key, value = (draw((2, 5, 6)) for _ in range(3))
    whole = multi_head_attention(
        query, key, value, head_size=2, mask=numpy.ones((1, 1, 1, 5), bool)
    )
    for done in (2, 5):
        past = tuple(x[:, :, :done, :] for x in whole.kept)
        new = (key[:, done:], value[:, done:]) if done < 5 else (None, None)
        out = multi_head_attention(
            query, *new, head_size=2, mask=numpy.ones((1, 1, 1, 5), bool), past=past
        )
        assert_same(out.context, whole.context)
        assert_same(out.kept[0], whole.kept[0])
