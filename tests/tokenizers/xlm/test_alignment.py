"""Aligned texts: every step does to one what it does to a plain text, and keeps the places."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.tokenizers.xlm import alignment, text
from refimpl.tokenizers.xlm.alignment import (
    Aligned,
    align,
    change_characters,
    cut_aligned,
    join_aligned,
    lowercase_and_remove_accents_aligned,
    rewrite,
    rewrite_aligned,
    rule,
    split_aligned,
)
from refimpl.tokenizers.xlm.steps import steps_for

ODD = st.text() | st.text("aéÉ\u0301\u0323\u3099ΣİßǅﬁK\u1e69가한 \xa0\u302e\U0001d165")


def slices(aligned, source):
    """Return what each character stands for."""
    return [source[start:end] for _, start, end in zip(*aligned, strict=True)]


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(alignment)
    assert (failed, tried > 7) == (0, True)


RULES = [
    rule("(", r"(\()", r" \1"),
    rule("''", "''", ' " '),
    rule('"', '(")([,.]+)', r"\2\1"),
    rule("a", r"(a)(b)?(c)", r"\3\2-\1"),
    rule("  ", " +", " "),
    rule("x", "x", ""),
    rule("", "(?=Z)", "*"),
]


@given(st.text("abc\"',. (xZ", max_size=30))
def test_rewriting_an_aligned_text_is_rewriting(one):
    aligned = rewrite_aligned(RULES, align(one))
    assert aligned.text == rewrite(RULES, one)
    assert len(aligned.text) == len(aligned.starts) == len(aligned.ends)
    for char, what in zip(aligned.text, slices(aligned, one), strict=True):
        assert char in what or char in '"- *', (char, what)


def test_a_swap_keeps_each_characters_place():
    source = 'so".'
    aligned = rewrite_aligned([rule('"', '(")([,.]+)', r"\2\1")], align(source))
    assert aligned.text == 'so."'
    assert slices(aligned, source) == ["s", "o", ".", '"']


def test_what_is_put_in_stands_for_what_went():
    source = "1\xa0000"
    aligned = rewrite_aligned([rule("\xa0", r"(\d)\xa0(\d)", r"\1,\2")], align(source))
    assert slices(aligned, source) == ["1", "\xa0", "0", "0", "0"]
    source = "a``b"
    aligned = rewrite_aligned([rule("``", "``", ' " ')], align(source))
    assert slices(aligned, source) == ["a", "``", "``", "``", "b"]


def test_a_sign_put_in_at_the_end():
    aligned = rewrite_aligned([rule("b", "(b)", r"\1!")], align("ab"))
    assert aligned == Aligned("ab!", [0, 1, 1], [1, 2, 1])
    assert rewrite_aligned([rule("", "$", "!")], align("")).text == "!"


@given(ODD)
def test_accents(one):
    aligned = lowercase_and_remove_accents_aligned(align(one))
    assert aligned.text == text.lowercase_and_remove_accents(text.lower_characters(one))
    for char, what in zip(aligned.text, slices(aligned, one), strict=True):
        assert char in text.lowercase_and_remove_accents(what)


def test_marks_that_stay_are_put_in_canonical_order():
    source = "a\u302e\U0001d165b"  # marks that take room, of combining classes 224 and 216
    aligned = lowercase_and_remove_accents_aligned(align(source))
    assert aligned.text == text.lowercase_and_remove_accents(source) == "a\U0001d165\u302eb"
    assert slices(aligned, source) == list(aligned.text)


def test_a_letters_place_takes_its_marks_along():
    source = "a\u0301\u0323b \u0301e"
    aligned = lowercase_and_remove_accents_aligned(align(source))
    assert aligned.text == "ab e"
    assert slices(aligned, source) == ["a\u0301\u0323", "b", " \u0301", "e"]


@given(ODD)
def test_changing_characters(one):
    assert change_characters(str.upper, align(one)).text == "".join(map(str.upper, one))
    assert change_characters(text.remove_non_printing, align(one)).text == (
        text.remove_non_printing(one)
    )


@given(st.text() | st.text("a \xa0\n\u2028\x1f"))
def test_splitting(one):
    words = split_aligned(align(one))
    assert [word.text for word in words] == one.split()
    assert all("".join(slices(word, one)) == word.text for word in words)


@given(st.lists(st.text(min_size=1, max_size=3)))
def test_cutting_and_joining(words):
    source = "".join(words)
    cut = cut_aligned(align(source), words)
    assert [word.text for word in cut] == words
    assert join_aligned(cut).text == source
    spaced = join_aligned(cut, " ")
    assert spaced.text == " ".join(words)
    assert len(spaced.starts) == len(spaced.ends) == len(spaced.text)


def test_cutting_passes_over_what_no_word_holds():
    cut = cut_aligned(align("a--b"), ["a", "b"])
    assert [(word.text, *word.starts, *word.ends) for word in cut] == [("a", 0, 1), ("b", 3, 4)]


@pytest.mark.parametrize("lang", ["en", "fr", "de", "ro", "sw"])
@given(one=st.text() | st.text("aBé'’\".,…«»\xa0()。５ş：%\u200b\u0301 "))
def test_the_steps_of_a_language(lang, one):
    steps = steps_for(lang, True, None)
    aligned = align(one)
    for step in steps.before:
        plain, aligned = step.plain(aligned.text), step.aligned(aligned)
        assert aligned.text == plain, step.name
    assert [word.text for word in steps.cut.aligned(aligned)] == steps.cut.plain(aligned.text)


@pytest.mark.parametrize("lang", ["zh", "th", "ja"])
@given(one=st.text() | st.text("a我们。 \xa0…「"))
def test_the_steps_of_a_segmented_language(lang, one):
    steps = steps_for(lang, True, lambda text: [text[i : i + 2] for i in range(0, len(text), 2)])
    assert [word.text for word in steps.aligned_words(align(one))] == steps.words(one)
