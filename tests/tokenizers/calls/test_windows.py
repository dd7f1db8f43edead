"""Truncation and windows: by hand, and what holds for any length."""

import doctest
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.tokenizers.calls import windows
from refimpl.tokenizers.calls.plan import Plan
from refimpl.tokenizers.calls.windows import Window, keep, make_windows

LONGEST_FIRST, ONLY_FIRST, ONLY_SECOND = "longest_first", "only_first", "only_second"


def cutting(truncation, max_length):
    return Plan(None, truncation, max_length)


def sliding(truncation, max_length, stride=0):
    return Plan(None, truncation, max_length, stride=stride, overflow=True)


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(windows)
    assert (failed, tried > 2) == (0, True)


# truncation


@pytest.mark.parametrize(
    ("strategy", "max_length", "n_special", "expected"),
    [
        (LONGEST_FIRST, 10, 4, (4, 2)),
        (LONGEST_FIRST, 9, 4, (3, 2)),
        (LONGEST_FIRST, 8, 4, (2, 2)),
        (LONGEST_FIRST, 7, 4, (2, 1)),
        (LONGEST_FIRST, 6, 4, (1, 1)),
        (LONGEST_FIRST, 5, 4, (1, 0)),
        (LONGEST_FIRST, 4, 4, (0, 0)),
        (LONGEST_FIRST, 1, 0, (1, 0)),
        (ONLY_FIRST, 7, 4, (1, 2)),
        (ONLY_SECOND, 9, 4, (4, 1)),
    ],
)
def test_a_pair_is_cut(strategy, max_length, n_special, expected):
    assert keep(4, 2, cutting(strategy, max_length), n_special) == expected


@pytest.mark.parametrize("strategy", [LONGEST_FIRST, ONLY_FIRST])
def test_one_text_is_cut(strategy):
    assert keep(4, None, cutting(strategy, 3), 2) == (1, 0)


@pytest.mark.parametrize("max_length", [6, 7])
def test_what_fits_is_left(max_length):
    assert keep(4, None, cutting(ONLY_SECOND, max_length), 2) == (4, 0)


@pytest.mark.parametrize(
    ("n", "n_pair", "first", "in_windows"),
    [
        (9, 9, (3, 2), (2, 3)),
        (9, 5, (3, 2), (3, 2)),
        (5, 9, (3, 2), (2, 3)),
        (2, 9, (2, 3), (2, 3)),
    ],
)
def test_the_odd_token_goes_to_the_first_text_or_in_windows_to_the_longer(
    n, n_pair, first, in_windows
):
    assert keep(n, n_pair, cutting(LONGEST_FIRST, 9), 4) == first
    assert keep(n, n_pair, sliding(LONGEST_FIRST, 9), 4) == in_windows


@pytest.mark.parametrize(
    ("n", "n_pair", "strategy", "max_length", "n_special", "message"),
    [
        (3, None, LONGEST_FIRST, 2, 2, "max_length: expected at least 3 .* text .* got 2"),
        (0, None, LONGEST_FIRST, 1, 2, "max_length: expected at least 2 .* got 1"),
        (3, 2, ONLY_FIRST, 6, 4, "max_length: expected at least 7 .* text .* got 6"),
        (2, 2, ONLY_SECOND, 6, 4, "max_length: expected at least 7 .* text_pair .* got"),
        (2, 2, LONGEST_FIRST, 3, 4, "max_length: expected at least 4, the special tok"),
        (2, None, ONLY_SECOND, 3, 2, "truncation: expected a text_pair for 'only_second'"),
    ],
)
def test_truncation_refuses(n, n_pair, strategy, max_length, n_special, message):
    with pytest.raises(ValueError, match=message):
        keep(n, n_pair, cutting(strategy, max_length), n_special)


# windows


def spans(n, n_pair, plan, n_special=0):
    made = make_windows(n, n_pair, plan, n_special)
    return [((w.start, w.stop), (w.pair_start, w.pair_stop)) for w in made]


@pytest.mark.parametrize(
    ("n", "stride", "expected"),
    [
        (4, 0, [(0, 4)]),
        (5, 0, [(0, 4), (4, 5)]),
        (8, 0, [(0, 4), (4, 8)]),
        (9, 0, [(0, 4), (4, 8), (8, 9)]),
        (5, 2, [(0, 4), (2, 5)]),
        (6, 2, [(0, 4), (2, 6)]),
        (7, 2, [(0, 4), (2, 6), (4, 7)]),
        (5, 3, [(0, 4), (1, 5)]),
        (7, 3, [(0, 4), (1, 5), (2, 6), (3, 7)]),
        (0, 3, [(0, 0)]),
    ],
)
def test_windows_of_one_text(n, stride, expected):
    assert spans(n, None, sliding(LONGEST_FIRST, 6, stride), 2) == [(w, (0, 0)) for w in expected]


def test_windows_of_a_passage_behind_a_question():
    made = spans(2, 7, sliding(ONLY_SECOND, 9, 1), n_special=4)
    assert made == [((0, 2), (0, 3)), ((0, 2), (2, 5)), ((0, 2), (4, 7))]


def test_windows_of_a_passage_before_a_question():
    made = spans(5, 2, sliding(ONLY_FIRST, 9, 1), n_special=4)
    assert made == [((0, 3), (0, 2)), ((2, 5), (0, 2))]


def test_where_both_are_cut_each_window_comes_with_each():
    a, b = [(0, 2), (2, 4), (4, 5)], [(0, 2), (2, 3)]
    assert spans(5, 3, sliding(LONGEST_FIRST, 4)) == [
        (a[0], b[0]),
        *((a[1], b[0]), (a[1], b[1])),
        *((a[2], b[0]), (a[2], b[1])),
        (a[0], b[1]),
    ]


def test_without_truncation_there_is_one_window():
    assert make_windows(9, None, Plan(overflow=True), 2) == [Window(0, 9)]
    assert make_windows(9, 3, Plan(), 4) == [Window(0, 9, 0, 3)]


@pytest.mark.parametrize(
    ("n", "n_pair", "plan", "message"),
    [
        (9, None, sliding(LONGEST_FIRST, 5, 3), "stride: .* less than the 3 tokens that max_len"),
        (1, None, sliding(LONGEST_FIRST, 5, 3), "stride: .* less than the 3 tokens that max_len"),
        (9, None, sliding(LONGEST_FIRST, 5, 99), "stride: expected less than the 3 .* got 99"),
        (9, 9, sliding(LONGEST_FIRST, 6, 2), "stride: expected less than the 2 tokens of text "),
        (2, 9, sliding(ONLY_SECOND, 7, 3), "stride: .* less than the 3 tokens of text_pair .* 3$"),
        (9, 9, sliding(LONGEST_FIRST, 3, 0), "max_length: expected room for tokens of text in"),
        (9, 1, sliding(LONGEST_FIRST, 2, 0), "max_length: expected room for tokens of text in"),
        (9, None, sliding(LONGEST_FIRST, 2), "max_length: expected at least 3"),
    ],
)
def test_windows_refuse(n, n_pair, plan, message):
    with pytest.raises(ValueError, match=message):
        make_windows(n, n_pair, plan, 2)


# properties

lengths = st.integers(0, 40)


@given(
    n=lengths,
    n_pair=st.none() | lengths,
    truncation=st.sampled_from([LONGEST_FIRST, ONLY_FIRST, ONLY_SECOND]),
    max_length=st.integers(1, 30),
    n_special=st.integers(0, 4),
)
def test_what_is_kept_fits_exactly(n, n_pair, truncation, max_length, n_special):
    total = n + (n_pair or 0) + n_special
    for plan in (cutting(truncation, max_length), sliding(truncation, max_length)):
        try:
            size, size_pair = keep(n, n_pair, plan, n_special)
        except ValueError:
            assert total > max_length
            continue
        assert size + size_pair + n_special == min(total, max_length)
        assert 0 <= size <= n
        assert 0 <= size_pair <= (n_pair or 0)
        if truncation == LONGEST_FIRST and size < n and size_pair < (n_pair or 0):
            assert abs(size - size_pair) <= 1


@given(
    n=lengths,
    n_pair=st.none() | lengths,
    truncation=st.sampled_from([LONGEST_FIRST, ONLY_FIRST, ONLY_SECOND]),
    max_length=st.integers(1, 30),
    n_special=st.integers(0, 4),
    stride=st.integers(0, 12),
)
def test_windows_cover_the_texts_and_overlap_by_the_stride(
    n, n_pair, truncation, max_length, n_special, stride
):
    plan = sliding(truncation, max_length, stride)
    try:
        made = make_windows(n, n_pair, plan, n_special)
    except ValueError:
        assert n + (n_pair or 0) + n_special > max_length or stride >= max_length - n_special
        return
    for w in made:
        size = w.stop - w.start + w.pair_stop - w.pair_start
        assert size + n_special <= max_length
    size, size_pair = keep(n, n_pair, plan, n_special)
    assert made[0] == Window(0, size, 0, size_pair)
    assert len(set(made)) == len(made)
    first = sorted({(w.start, w.stop) for w in made})
    second = sorted({(w.pair_start, w.pair_stop) for w in made})
    assert len(made) == len(first) * len(second)
    for pieces, length in ((first, n), (second, n_pair or 0)):
        assert pieces[0][0] == 0
        assert pieces[-1][1] == length
        for (_, stop), (start, after) in pairwise(pieces):
            assert (start, after > stop) == (stop - stride, True)
