"""The losses: by hand, against mpmath, what does not count, and how far they reach."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf

from refimpl.ops import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    log_softmax,
    mean_squared_error,
    negative_log_likelihood,
)
from tests.compare import assert_same, assert_ulps

every = pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])


def normal(*shape):
    return numpy.random.default_rng(sum(shape)).standard_normal(shape)


def loss(logits, labels, dtype="float64"):
    return cross_entropy(numpy.asarray(logits, dtype), numpy.asarray(labels), ignore_index=-100)


# --- cross entropy --------------------------------------------------------------------------------


def test_cross_entropy_by_hand():
    # Two classes alike: log 2, whichever is right. Three alike: log 3.
    assert_same(loss([[0, 0], [7, 7]], [0, 1]), numpy.log(2))
    assert_same(loss([[-5, -5, -5]], [2]), numpy.log(3))
    # One class three times as likely as the other: -log 3/4, or -log 1/4. log 3 is rounded, then
    # exp, the sum, its logarithm (two each) and the difference; and the expected logarithm.
    odds = [[math.log(3), 0]]
    assert_ulps(loss(odds, [0]), numpy.asarray(math.log(4 / 3)), ulps=8, of=1.0)
    assert_ulps(loss(odds, [1]), numpy.asarray(math.log(4)), ulps=8, of=1.0)


def test_cross_entropy_against_mpmath():
    logits, labels = normal(13, 7), numpy.random.default_rng(0).integers(0, 7, 13)
    with mp.workdps(40):
        rows = [[mpf(float(v)) for v in row] for row in logits]
        sums = [mp.log(mp.fsum(map(mp.exp, row))) for row in rows]
        losses = [s - row[i] for s, row, i in zip(sums, rows, labels, strict=True)]
        expected = numpy.asarray(float(mp.fsum(losses) / 13))
    # In a loss (below 8): x - max, the logarithm (2) of some ten roundings, which it makes ulps of
    # 1, and the difference; then the mean's 12 sums and quotient, and the reference.
    assert_ulps(loss(logits, labels), expected, ulps=21, of=4.0)


def test_rows_labelled_minus_100_do_not_count():
    logits = normal(5, 3)
    labels = numpy.asarray([2, -100, 0, -100, 1])
    counted = labels != -100
    assert_same(loss(logits, labels), loss(logits[counted], labels[counted]))


@pytest.mark.parametrize("ignored", [0, 3, 10**9, -1])
def test_another_ignore_index_may_be_a_class_or_beyond_all_classes(ignored):
    logits, labels = normal(5, 3), numpy.asarray([ignored, 2, 2, 1, 1])
    expected = loss(logits[1:], labels[1:])
    assert_same(cross_entropy(logits, labels, ignore_index=ignored), expected)


@given(arrays(float, (5, 3), elements=st.floats(-1e300, 1e300)))
def test_what_stands_in_a_row_that_does_not_count_changes_nothing(junk):
    labels = numpy.asarray([2, -100, 0, -100, 1])
    logits = numpy.where(labels[:, None] == -100, junk, normal(5, 3))
    assert_same(loss(logits, labels), loss(normal(5, 3), labels))


@every
def test_a_mean_of_nothing_is_nan_without_a_warning(dtype):
    with numpy.errstate(all="raise", under="ignore"):
        nothing = loss([[1, 2], [3, 4]], [-100, -100], dtype)
    assert_same(nothing, numpy.asarray(numpy.nan, dtype))


@every
def test_huge_logits(dtype):
    logits = [[3e4, -3e4]]
    assert_same(loss(logits, [0], dtype), numpy.asarray(0, dtype))
    assert_same(loss(logits, [1], dtype), numpy.asarray(6e4, dtype))


quarters = st.integers(-2000, 2000).map(lambda i: i / 4)  # sums and differences of these are exact


@given(arrays(float, (5, 3), elements=quarters), quarters)
def test_cross_entropy_does_not_see_a_constant_added(logits, constant):
    labels = numpy.asarray([2, 0, 0, -100, 1])
    assert_same(loss(logits + constant, labels), loss(logits, labels))


def test_negative_log_likelihood_by_hand():
    log_probs = numpy.asarray([[-1.0, -2.0], [-3.0, -4.0], [-5.0, -6.0]])
    labels = numpy.asarray([1, -100, 0])
    assert_same(negative_log_likelihood(log_probs, labels, ignore_index=-100), (2.0 + 5.0) / 2)


def test_cross_entropy_is_that_of_log_softmax():
    logits, labels = normal(5, 3), numpy.asarray([2, -100, 0, -100, 1])
    expected = negative_log_likelihood(log_softmax(logits), labels, ignore_index=-100)
    assert_same(loss(logits, labels), expected)


# --- mean squared error ---------------------------------------------------------------------------


def test_mean_squared_error_by_hand():
    assert_same(mean_squared_error(numpy.asarray([1.0, 2.0]), numpy.asarray([3.0, 5.0])), 6.5)


def test_mean_squared_error_over_all_axes():
    x = numpy.arange(30.0).reshape(2, 3, 5)
    assert_same(mean_squared_error(x, numpy.zeros((2, 3, 5))), sum(i * i for i in range(30)) / 30)


@given(*[arrays(float, (7,), elements=st.floats(-1e100, 1e100))] * 2)
def test_mean_squared_error_is_symmetric_and_zero_for_equals(x, y):
    assert_same(mean_squared_error(x, y), mean_squared_error(y, x))
    assert_same(mean_squared_error(x, x), 0.0)


# --- binary cross entropy -------------------------------------------------------------------------


def test_binary_cross_entropy_by_hand():
    zeros, target = numpy.zeros(2), numpy.asarray([0.0, 1.0])
    assert_same(binary_cross_entropy_with_logits(zeros, target), numpy.log1p(1.0))  # log 2


@every
@pytest.mark.parametrize(
    ("logit", "target", "expected"),
    [(1000, 1, 0), (1000, 0, 1000), (-1000, 1, 1000), (-1000, 0, 0), (1000, 0.25, 750)],
)
def test_binary_cross_entropy_far_out_without_a_warning(logit, target, expected, dtype):
    logit, target, expected = (numpy.asarray(v, dtype) for v in (logit, target, expected))
    with numpy.errstate(all="raise", under="ignore"):
        assert_same(binary_cross_entropy_with_logits(logit, target), expected)


def test_binary_cross_entropy_against_mpmath():
    x, t = normal(5, 7), numpy.random.default_rng(0).random((5, 7))
    with mp.workdps(40):
        rows = []
        for logit, target in zip(x.ravel(), t.ravel(), strict=True):
            p, q = 1 / (1 + mp.exp(-mpf(float(logit)))), mpf(float(target))
            rows.append(-(q * mp.log(p) + (1 - q) * mp.log(1 - p)))
        expected = numpy.asarray(float(mp.fsum(rows) / len(rows)))
    # In a loss (below 4): the product, exp and log1p (2 each), two sums; then the mean's 34
    # sums and quotient, and the reference.
    assert_ulps(binary_cross_entropy_with_logits(x, t), expected, ulps=43, of=2.0)


@given(arrays(float, (7,), elements=st.floats(-1e10, 1e10)), arrays(bool, (7,)))
def test_binary_cross_entropy_of_the_opposite_is_the_same(x, target):
    yes = target.astype(float)
    expected = binary_cross_entropy_with_logits(x, yes)
    assert_same(binary_cross_entropy_with_logits(-x, 1.0 - yes), expected)
