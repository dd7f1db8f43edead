"""Adaptive softmax: by hand, in two steps, and what probabilities promise."""

import math

import numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf

from refimpl.ops import adaptive_log_softmax, log_softmax
from tests.compare import assert_same, assert_ulps

# Five frequent words, and clusters of eleven and seven: 23 words.
D, FREQUENT, CLUSTERS = 6, 5, ((3, 11), (2, 7))
WORDS = FREQUENT + 11 + 7


def whole(*shape, most=2):
    """Return whole numbers: their products and sums are exact."""
    return numpy.random.default_rng(sum(shape)).integers(-most, most + 1, shape).astype(float)


HEAD = whole(FREQUENT + len(CLUSTERS), D), whole(FREQUENT + len(CLUSTERS))
TAILS = [(whole(inner, D, most=1), whole(words, inner, most=1)) for inner, words in CLUSTERS]
rows = arrays(float, (3, D), elements=st.integers(-3, 3).map(float))


def test_by_hand():
    # Two frequent words and two clusters, all alike: a quarter each. The first cluster's two words
    # are alike; the second has one word, which is sure.
    x = numpy.asarray([[1.0, 2.0]])
    tails = [(numpy.ones((1, 2)), numpy.zeros((2, 1))), (numpy.ones((1, 2)), numpy.ones((1, 1)))]
    out = adaptive_log_softmax(x, numpy.zeros((4, 2)), numpy.zeros(4), tails)
    quarter, half = -numpy.log(4), -numpy.log(2)
    assert_same(out, [[quarter, quarter, quarter + half, quarter + half, quarter]])


def test_the_bias_is_the_heads():
    # Frequent word, cluster of one: odds of 3 to 1.
    bias = numpy.asarray([math.log(3), 0.0])
    out = adaptive_log_softmax(
        numpy.ones((1, 1)), numpy.zeros((2, 1)), bias, [(numpy.ones((1, 1)), numpy.ones((1, 1)))]
    )
    assert_same(out, log_softmax(bias[None]))


@given(rows)
def test_in_two_steps(x):
    def softmax(values):
        powers = [mp.exp(mpf(float(v))) for v in values]
        return [p / mp.fsum(powers) for p in powers]

    expected = []
    with mp.workdps(40):
        for row in x:
            head = softmax(HEAD[0] @ row + HEAD[1])
            probabilities = head[:FREQUENT]
            for of_cluster, (projection, weight) in zip(head[FREQUENT:], TAILS, strict=True):
                probabilities += [of_cluster * p for p in softmax(weight @ (projection @ row))]
            expected.append([float(mp.log(p)) for p in probabilities])
    # Scores are whole numbers up to 38, and so are differences. Head and cluster each: the
    # logarithm's ten roundings (of exp, sums, and itself) of numbers up to 4, and a difference of
    # numbers up to 76; then a sum, and the reference. In ulps of 64:
    actual = adaptive_log_softmax(x, *HEAD, TAILS)
    assert_ulps(actual, numpy.asarray(expected), ulps=4, of=64.0)


@given(rows)
def test_probabilities_add_up_to_one(x):
    out = adaptive_log_softmax(x, *HEAD, TAILS)
    assert out.shape == (3, WORDS)
    assert (out <= 0).all()
    sums = numpy.asarray([math.fsum(map(math.exp, row)) for row in out])
    # What counts is larger than 1e-16: logarithms above -37, off by four ulps of 32 as above, and
    # so are the probabilities, by as much of themselves.
    assert_ulps(sums, numpy.ones(3), ulps=4 * 32)


@given(rows, st.integers(0, 1))
def test_a_cluster_shares_out_what_the_head_gives_it(x, i):
    out = adaptive_log_softmax(x, *HEAD, TAILS)
    first = FREQUENT + (0, 11)[i]
    projection, weight = TAILS[i]
    within = log_softmax(x @ projection.T @ weight.T)
    head = log_softmax(x @ HEAD[0].T + HEAD[1])[:, FREQUENT + i, None]
    assert_same(out[:, first : first + CLUSTERS[i][1]], head + within)


def test_frequent_words_do_not_see_the_words_of_a_cluster():
    x = whole(3, D)
    others = [(projection + 1, weight - 1) for projection, weight in TAILS]
    out, other = (adaptive_log_softmax(x, *HEAD, tails) for tails in (TAILS, others))
    assert_same(out[:, :FREQUENT], other[:, :FREQUENT])
    assert (out[:, FREQUENT:] != other[:, FREQUENT:]).any()
