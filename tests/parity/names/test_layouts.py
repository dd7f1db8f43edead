"""A layout brings a tensor back exactly, and only where it fits."""

import numpy
import pytest

from refimpl.parity.names import LAYOUTS, layout_of_shape, plan

B, S, H, K = 2, 5, 3, 7
D = H * K
X = numpy.random.default_rng(0).standard_normal((B, S, D))
SCORES = numpy.random.default_rng(1).standard_normal((B, H, S, S + 1))
SPLIT = X.reshape(B, S, H, K)
OTHERS = [X + 1, X + 2]


def fused(parts, axis=-1):
    return numpy.concatenate(parts, axis)


def by_head(parts):
    split = [x.reshape(B, S, H, K) for x in parts]
    return numpy.stack(split, 3).reshape(B, S, -1)


LAID = {
    "same": (X, X),
    "time first": (X.swapaxes(0, 1), X),
    "heads first": (SCORES.swapaxes(0, 1), SCORES),
    "transposed": (SCORES.swapaxes(2, 3), SCORES),
    "heads": (SPLIT.swapaxes(1, 2), X),
    "heads last": (SPLIT, X),
    "heads in rows": (SPLIT.swapaxes(1, 2).reshape(B * H, S, K), X),
    "tokens in rows": (X.reshape(B * S, D), X),
    "time first, tokens in rows": (X.swapaxes(0, 1).reshape(B * S, D), X),
    "without ones": (X[:, None], X),
    "part 1 of 2": (fused([X, OTHERS[0]]), X),
    "part 2 of 2": (fused([OTHERS[0], X]), X),
    "part 1 of 3": (fused([X, *OTHERS]), X),
    "part 2 of 3": (fused([OTHERS[0], X, OTHERS[1]]), X),
    "part 3 of 3": (fused([*OTHERS, X]), X),
    "part 1 of 2, time first": (fused([X, OTHERS[0]]).swapaxes(0, 1), X),
    "part 2 of 2, time first": (fused([OTHERS[0], X]).swapaxes(0, 1), X),
    "part 1 of 3, time first": (fused([X, *OTHERS]).swapaxes(0, 1), X),
    "part 2 of 3, time first": (fused([OTHERS[0], X, OTHERS[1]]).swapaxes(0, 1), X),
    "part 3 of 3, time first": (fused([*OTHERS, X]).swapaxes(0, 1), X),
    "part 1 of 2 of each head": (by_head([X, OTHERS[0]]), X),
    "part 2 of 2 of each head": (by_head([OTHERS[0], X]), X),
    "part 1 of 3 of each head": (by_head([X, *OTHERS]), X),
    "part 2 of 3 of each head": (by_head([OTHERS[0], X, OTHERS[1]]), X),
    "part 3 of 3 of each head": (by_head([*OTHERS, X]), X),
}


def test_every_layout_is_tried():
    assert set(LAID) == set(LAYOUTS)


@pytest.mark.parametrize("layout", LAID)
def test_a_layout_brings_the_tensor_back(layout):
    given, expected = LAID[layout]
    assert numpy.array_equal(plan(layout, given.shape, expected.shape, H).take(given), expected)


def test_scores_with_heads_in_rows():
    rows = SCORES.reshape(B * H, S, S + 1)
    assert numpy.array_equal(plan("heads in rows", rows.shape, SCORES.shape).take(rows), SCORES)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (1,), (B, S), (B, S, D, 1, 1), (0, S, D), (B, S + 1, D)])
def test_a_layout_does_not_fit_any_shape(layout, shape):
    if layout == "without ones" and shape == (B, S, D, 1, 1):
        return
    assert plan(layout, shape, X.shape, H) is None


def test_a_shape_tells_the_layout_only_where_one_is_possible():
    assert layout_of_shape((B, H, S, K), (B, S, D)) == "heads"
    assert layout_of_shape((S, B, D), (B, S, D)) == "time first"
    assert layout_of_shape((2, 5, 5, 4), (2, 5, 20)) is None  # heads before places, or behind
    assert layout_of_shape((2, 5, 5, 4), (2, 5, 20), heads=3) is None  # neither has three
    assert layout_of_shape((4, 4), (4, 4)) == "same"


def test_an_unknown_layout_is_an_error():
    with pytest.raises(ValueError, match=r"layout: expected one of same, .*, got 'upside down'"):
        plan("upside down", (1,), (1,))
