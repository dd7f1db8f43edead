"""Byte-pair encoding: the published toy, and the definition tied to what is faster."""

import doctest
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.tokenizers.xlm import bpe
from refimpl.tokenizers.xlm.bpe import END, bpe_of_long_word, merges_of, symbols_of


def by_definition(word, ranks):
    """Return the symbols after the last of the merges, told one by one."""
    return [symbols_of(word), *(merge.symbols for merge in merges_of(word, ranks))][-1]


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(bpe)
    assert (failed, tried > 3) == (0, True)


def test_xlm_toy_bpe():
    """As in transformers' own test of its tokenizer (tests/models/xlm)."""
    ranks = {("l", "o"): 0, ("lo", "w"): 1, ("e", "r</w>"): 2}
    assert bpe.bpe("lower", ranks) == ["low", "er</w>"]


def test_a_pair_that_comes_up_with_a_lower_rank_waits_for_its_turn():
    ranks = {("abc", "a"): 0, ("b", "c"): 1, ("b", "c</w>"): 2, ("a", "bc"): 3}
    # (abc, a) is known as soon as the first "abc" is made; the second is made nevertheless.
    assert by_definition("abcabcd", ranks) == ["abc", "abc", "d</w>"]
    assert (
        bpe.bpe("abcabcd", ranks) == bpe_of_long_word("abcabcd", ranks) == ["abc", "abc", "d</w>"]
    )


@pytest.mark.parametrize(
    ("word", "symbols"),
    [
        ("a", ["a</w>"]),
        ("aa", ["a", "a</w>"]),
        ("aaa", ["aa", "a</w>"]),
        ("aaaa", ["aa", "a", "a</w>"]),
        ("aaaaa", ["aaaa", "a</w>"]),
        ("🙂é", ["🙂", "é</w>"]),
    ],
)
def test_pairs_that_overlap(word, symbols):
    ranks = {("a", "a"): 0, ("aa", "aa"): 1}
    assert bpe.bpe(word, ranks) == bpe_of_long_word(word, ranks) == symbols


def test_no_merges():
    assert bpe.bpe("ab", {}) == bpe_of_long_word("ab", {}) == ["a", "b</w>"]


@st.composite
def merge_lists(draw):
    """Draw merges in any order, most of them of symbols that others make."""
    symbols = list("ab")
    pairs = []
    for _ in range(draw(st.integers(0, 12))):
        pair = draw(st.sampled_from(symbols)), draw(st.sampled_from(symbols))
        symbols.append("".join(pair))
        pairs += [pair, (pair[0], pair[1] + END)]
    return {pair: rank for rank, pair in enumerate(draw(st.permutations(pairs)))}


@given(merge_lists(), st.text("abc", min_size=1, max_size=60))
def test_the_faster_ways_do_what_the_definition_says(ranks, word):
    expected = by_definition(word, ranks)
    assert bpe.bpe(word, ranks) == expected
    assert bpe_of_long_word(word, ranks) == expected
    assert "".join(expected) == word + END


@given(merge_lists(), st.text("ab", min_size=1, max_size=30))
def test_when_it_ends_no_pair_is_known(ranks, word):
    assert not [pair for pair in pairwise(bpe.bpe(word, ranks)) if pair in ranks]


def test_both_sides_of_the_length_at_which_the_algorithm_changes():
    ranks = {("a", "b"): 0, ("ab", "ab"): 1, ("b", "a"): 2}
    for n in (bpe.LONG - 1, bpe.LONG, bpe.LONG + 1):
        word = ("ab" * n)[:n]
        assert bpe.bpe(word, ranks) == by_definition(word, ranks)


def test_a_word_of_200_000_characters():
    """A way that grows with the square of the length would take an hour."""
    ranks = {("a", "b"): 0, ("ab", "ab"): 1, ("c", "a"): 2, ("abab", "c"): 3}
    symbols = bpe.bpe("ababcab" * 30_000, ranks)
    assert "".join(symbols) == "ababcab" * 30_000 + END
    assert len(symbols) < 100_000
