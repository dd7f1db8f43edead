"""Sines and cosines against mpmath; scores of distances by hand, against loops, from a cache."""

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf

from refimpl.ops import relative_position_scores, sinusoidal_positions
from tests.compare import assert_same, assert_ulps

# --- sines and cosines ----------------------------------------------------------------------------


def test_sines_stand_in_even_columns_and_cosines_in_odd_ones():
    x = sinusoidal_positions(numpy.asarray([0, 1, 200]), width=4)
    # Two angles a position: p / 10000^0 and p / 10000^(1/2).
    angles = [[0.0, 0.0], [1.0, 0.01], [200.0, 2.0]]
    expected = [[math.sin(a), math.cos(a), math.sin(b), math.cos(b)] for a, b in angles]
    assert_same(x, numpy.asarray(expected, "float32"))


@pytest.mark.parametrize("width", [1, 2, 7, 64, 1024])
def test_sines_and_cosines_against_mpmath(width):
    positions = numpy.asarray([0, 1, 2, 17, 255, 511])
    with mp.workdps(40):
        angles = [
            [int(p) / mpf(10000) ** (mpf(2 * (j // 2)) / width) for j in range(width)]
            for p in positions
        ]
        exact = [[(mp.cos if j % 2 else mp.sin)(a) for j, a in enumerate(row)] for row in angles]
        expected = numpy.asarray([[float(x) for x in row] for row in exact]).astype("float32")
    # The cast rounds; what float64 leaves of an angle up to 511 is nothing beside a number of 1e-3,
    # and may tip a rounding.
    assert_ulps(sinusoidal_positions(positions, width=width), expected, ulps=1, of=1e-3)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=5), st.integers(1, 33))
def test_a_position_has_its_row_wherever_it_stands(positions, width):
    table = sinusoidal_positions(numpy.arange(10_001), width=width)
    x = sinusoidal_positions(numpy.asarray(positions), width=width)
    assert x.dtype == numpy.float32
    assert_same(x, table[positions])


# --- scores of distances --------------------------------------------------------------------------


def one_feature(values):
    """Return a column of numbers as (1, 1, S, 1): one text, one head, one feature."""
    return numpy.asarray(values, float).reshape(1, 1, -1, 1)


def test_by_hand():
    query, key = one_feature([1, 2]), one_feature([3, 4])
    table = numpy.asarray([[10.0], [20.0], [30.0]])  # distance -1 (the key stands behind), 0, 1
    of_query = [[1 * 20.0, 1 * 10.0], [2 * 30.0, 2 * 20.0]]
    assert_same(relative_position_scores(query, key, table, of_key=False), [[of_query]])
    of_both = [[20 + 3 * 20.0, 10 + 4 * 10.0], [60 + 3 * 30.0, 40 + 4 * 20.0]]
    assert_same(relative_position_scores(query, key, table, of_key=True), [[of_both]])


B, H, T, K, P = 2, 3, 7, 5, 17


def whole(*shape):
    """Return whole numbers from -9 to 9: their products and sums are exact."""
    return numpy.random.default_rng(sum(shape)).integers(-9, 10, shape).astype(float)


@pytest.mark.parametrize("of_key", [False, True])
@pytest.mark.parametrize("queries", [1, 4, T])
def test_against_loops(queries, of_key):
    query, key, table = whole(B, H, queries, K), whole(B, H, T, K), whole(P, K)
    expected = numpy.zeros((B, H, queries, T))
    for b, h, s, t in numpy.ndindex(*expected.shape):
        place = T - queries + s  # the queries are the last of all places
        vector = table[place - t + 8]  # 8 is the row of distance 0
        expected[b, h, s, t] = query[b, h, s] @ vector + of_key * (key[b, h, t] @ vector)
    scores = relative_position_scores(query, key, table, of_key=of_key)
    assert_same(scores + 0.0, expected + 0.0)  # + 0.0: for a zero's sign


@settings(max_examples=30)
@given(arrays(float, (B, H, T, K), elements=st.integers(-9, 9).map(float)), st.integers(1, T))
def test_the_last_queries_are_scored_as_among_all(query, count):
    key, table = whole(B, H, T, K), whole(P, K)
    for of_key in (False, True):
        every = relative_position_scores(query, key, table, of_key=of_key)
        last = relative_position_scores(query[:, :, -count:], key, table, of_key=of_key)
        assert_same(last + 0.0, every[:, :, -count:] + 0.0)


def test_the_largest_distances_are_the_ends_of_the_table():
    table = numpy.arange(13.0)[:, None]
    one = one_feature([1] * 7)
    scores = relative_position_scores(one, one, table, of_key=False)[0, 0]
    assert (scores[0, 6], scores[3, 3], scores[6, 0]) == (0.0, 6.0, 12.0)
