"""What a call may be given: every form it takes, and one error for every form it refuses."""

import doctest

import numpy
import pytest

from refimpl.tokenizers.calls import arguments
from refimpl.tokenizers.calls.arguments import as_batch, as_languages, check_ids, check_text


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(arguments)
    assert (failed, tried > 3) == (0, True)


@pytest.mark.parametrize(
    ("text", "pair", "split", "texts", "pairs", "is_list"),
    [
        ("a", None, False, [["a"]], None, False),
        ("", "", False, [[""]], [[""]], False),
        (("a", "b"), ["c", "d"], False, [["a"], ["b"]], [["c"], ["d"]], True),
        (["a", "b"], None, True, [["a", "b"]], None, False),
        ([], None, True, [[]], None, False),
        ([], ["a"], True, [[]], [["a"]], False),
        ([["a", "b"], ()], None, True, [["a", "b"], []], None, True),
        ([["a"]], [["b", "c"]], True, [["a"]], [["b", "c"]], True),
    ],
)
def test_every_form_becomes_one(text, pair, split, texts, pairs, is_list):
    batch = as_batch(text, pair, split)
    assert (batch.texts, batch.pairs) == (texts, pairs)
    assert (batch.is_list, batch.is_split) == (is_list, split)


@pytest.mark.parametrize(
    ("text", "pair", "error", "message"),
    [
        (None, None, TypeError, "text: expected a str or a list of str, got None$"),
        (b"a", None, TypeError, r"text: expected a str or a list of str, got b'a' \(bytes\)"),
        (5, None, TypeError, r"text: .* got 5 \(int\)"),
        ({"a": 1}, None, TypeError, r"text: .* \(dict\)"),
        (numpy.array(["a"]), None, TypeError, r"text: .* \(ndarray\)"),
        (["a", 5], None, TypeError, r"text\[1\]: expected a str, got 5 \(int\)"),
        (["a", None], None, TypeError, r"text\[1\]: expected a str, got None"),
        ([("a", "b")], None, TypeError, r"text\[0\]: expected a str, got \('a', 'b'\) \(tuple\)"),
        ([], None, ValueError, "text: expected at least one text, got an empty list"),
        (["a"], [], ValueError, "text_pair: expected at least one text, got an empty list"),
        ("a", ["b"], TypeError, r"text_pair: expected one text, as text is, got \['b'\] \(list\)"),
        ("a", 5, TypeError, "text_pair: expected one text, as text is, got 5"),
        (["a"], "b", TypeError, "text_pair: expected a list of texts, as text is, got 'b'"),
        (["a"], 5, TypeError, "text_pair: expected a str or a list of str, got 5"),
        (["a"], [None], TypeError, r"text_pair\[0\]: expected a str, got None"),
        (["a"], ["b", "c"], ValueError, "text_pair: expected 1 texts, as many as text has, got 2"),
        ("a\ud800", None, ValueError, r"text: .* lone surrogate, '\\ud800', at character 1$"),
        (["a", "\udfff"], None, ValueError, r"text\[1\]: .* lone surrogate"),
        ("a", "\ud83d\ude00", ValueError, "text_pair: .* lone surrogate.* 0$"),
    ],
)
def test_texts_refused(text, pair, error, message):
    with pytest.raises(error, match=message):
        as_batch(text, pair)


@pytest.mark.parametrize(
    ("text", "pair", "error", "message"),
    [
        ("a b", None, TypeError, r"text: expected a list of words \(is_split_into_words=True\), g"),
        (5, None, TypeError, "text: expected a list of words .* got 5"),
        (["a", 5], None, TypeError, r"text\[1\]: expected a str, got 5"),
        ([["a"], "b"], None, TypeError, r"text\[1\]: expected a list of words .* got 'b'"),
        ([["a"], [b"b"]], None, TypeError, r"text\[1\]\[0\]: expected a str, got b'b'"),
        (["a", "\ud800"], None, ValueError, r"text\[1\]: .* lone surrogate"),
        (["a"], "b", TypeError, r"text_pair: expected a list of words"),
        (["a"], [["b"]], TypeError, "text_pair: expected one text, as text is"),
        ([["a"]], ["b"], TypeError, "text_pair: expected a list of texts, as text is"),
        ([["a"]], [["b"], []], ValueError, "text_pair: expected 1 texts"),
    ],
)
def test_words_refused(text, pair, error, message):
    with pytest.raises(error, match=message):
        as_batch(text, pair, is_split_into_words=True)


def test_text_is_checked_where_it_stands():
    assert check_text("x", "Aé山🙂") == "Aé山🙂"
    with pytest.raises(TypeError, match=r"^x\[3\]: expected a str, got 5"):
        check_text("x", 5, 3)


LANGUAGES = {"en": 0, "sw": 1}


@pytest.mark.parametrize(
    ("lang", "known", "names"),
    [
        (None, LANGUAGES, [None, None]),
        ("sw", LANGUAGES, ["sw", "sw"]),
        (["sw", "en"], LANGUAGES, ["sw", "en"]),
        (("sw", "xx"), {}, ["sw", "xx"]),
    ],
)
def test_languages(lang, known, names):
    assert as_languages(lang, 2, known) == names


@pytest.mark.parametrize(
    ("lang", "error", "message"),
    [
        (5, TypeError, r"lang: expected a str or a list of str, got 5 \(int\)"),
        ({"en": 0}, TypeError, "lang: expected a str or a list of str"),
        (["en", 5], TypeError, "lang: expected a str or a list of str, got 5 .* in a list"),
        (["en", None], TypeError, "lang: expected a str or a list of str, got None in a list"),
        (["en"], ValueError, r"lang: expected one name, or 2 as there are texts, got \['en'\]"),
        (["en"] * 3, ValueError, "lang: expected one name, or 2"),
        ("EN", ValueError, "lang: expected one of en, sw, got 'EN'"),
        (["en", ""], ValueError, "lang: expected one of en, sw, got ''"),
    ],
)
def test_languages_refused(lang, error, message):
    with pytest.raises(error, match=message):
        as_languages(lang, 2, LANGUAGES)


def test_ids_of_any_kind():
    assert check_ids([0, numpy.int32(4), numpy.array(2)], 5) == [0, 4, 2]
    assert check_ids(numpy.array([3, 1], "uint8"), 5) == [3, 1]
    assert check_ids(iter((1, 0)), 2) == [1, 0]
    assert all(type(i) is int for i in check_ids(numpy.arange(3), 5))


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([0, 5], ValueError, r"ids\[1\]: expected an id from 0 to 4, got 5"),
        ([-1], ValueError, r"ids\[0\]: expected an id from 0 to 4, got -1"),
        ([5.0], TypeError, r"ids\[0\]: expected an int, got 5.0 \(float\)"),
        ([True], TypeError, r"ids\[0\]: expected an int, got True \(bool\)"),
        ([[0]], TypeError, r"ids\[0\]: expected an int, got \[0\]"),
        (numpy.zeros((1, 2), int), TypeError, r"ids\[0\]: expected an int"),
        ("ab", TypeError, r"ids: expected a list of ints, got 'ab' \(str\)"),
        (b"ab", TypeError, "ids: expected a list of ints"),
        ({0: 1}, TypeError, "ids: expected a list of ints"),
        (None, TypeError, "ids: expected a list of ints, got None"),
    ],
)
def test_ids_refused(ids, error, message):
    with pytest.raises(error, match=message):
        check_ids(ids, 5)
