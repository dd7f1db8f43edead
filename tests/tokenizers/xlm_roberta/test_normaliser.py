"""Text prepared for the pieces: by hand, against the library, and what stands for what."""

import doctest
import sys
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.tokenizers.xlm_roberta import normaliser as sentencepiece_normaliser
from refimpl.tokenizers.xlm_roberta.model_file import Kind, read_model
from refimpl.tokenizers.xlm_roberta.normaliser import Normaliser
from tests.oracle.corpus import interesting_text, nasty
from tests.tokenizers.xlm_roberta.toy_models import (
    library,
    make_charsmap,
    make_model,
    published,
    toy_model,
)

TOY = toy_model()


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(sentencepiece_normaliser)
    assert (failed, tried > 4) == (0, True)


@pytest.mark.parametrize(
    ("text", "prepared", "spans"),
    [
        ("", "", []),
        ("  \u3000\n", "", []),
        ("\x07", "", []),
        ("ab", "▁ab", "01 01 12"),  # the dummy shares the first character
        (" ab", "▁ab", "01 12 23"),  # or is the space in front
        ("   ab", "▁ab", "23 34 45"),  # the last of them
        ("a  b", "▁a▁b", "01 01 23 34"),
        ("a \u3000\tb ", "▁a▁b", "01 01 34 45"),
        ("a \x07 b", "▁a▁b", "01 01 34 45"),  # what vanishes parts no spaces
        ("a\x07b", "▁ab", "01 01 23"),
        ("\x07a", "▁a", "12 12"),
        ("ﬁx", "▁fix", "01 01 01 12"),  # two for one
        ("e\u0301x", "▁éx", "01 01 23"),  # one for two: the accent is no one's
        ("™ℓ", "▁TMℓ", "01 01 01 12"),
        ("ｶﾞﾊﾟ", "▁ガパ", "01 01 23"),
        ("a▁ ▁b▁", "▁a▁▁▁b", "01 01 12 23 34 45"),  # a ▁ in the text is one, but not at the end
        ("a ▁ ", "▁a", "01 01"),
    ],
)
def test_by_hand(text, prepared, spans):
    found = Normaliser(TOY)(text)
    assert found.text == prepared
    assert found.spans == [(int(a), int(b)) for a, b in (spans.split() if spans else [])]


def test_long_expansions():
    model = make_model({"a": -1.0}, make_charsmap({"ab": "x y", "c": " ", "d": "  z  ", "e": " "}))
    found = Normaliser(model)("abcdabee")
    assert found.text == "▁x▁y▁z▁▁x▁y" == f"▁{library(model).normalize('abcdabee')[1:]}"
    spans = [*[(0, 1)] * 2, *[(1, 2)] * 2, *[(3, 4)] * 4, (4, 5), (5, 6), (5, 6)]
    assert found.spans == spans


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ud83d\ude42"])
def test_a_lone_surrogate_is_refused(text):
    with pytest.raises(ValueError, match=r"text: expected text that has a UTF-8 form, got a lone"):
        Normaliser(TOY)(text)


# against the library

SYMBOLS = {"ab": (0.0, Kind.USER_DEFINED), "abc": (0.0, Kind.USER_DEFINED), "ﬁ": (0, Kind(4))}
RULES = make_charsmap({"a": "b", "bc": " x", "\t": " ", "d": "", "e": "  ", "ﬁ": "fi", "c": "▁"})
SWITCHES = TOY._fields[4:8]


@pytest.mark.parametrize("values", list(product([False, True], repeat=4)))
@given(st.text("abcdex \t▁ﬁ字\x00", max_size=12))
def test_every_switch_against_the_library(values, text):
    switches = dict(zip(SWITCHES, values, strict=True))
    model = make_model({"q": -1.0, **SYMBOLS}, RULES, **switches)
    found = Normaliser(model)(text)
    assert found.text == library(model).normalize(text)
    assert len(found.spans) == len(found.text)


@given(interesting_text())
def test_the_toy_model_against_the_library(text):
    assert Normaliser(TOY)(text).text == LIBRARY.normalize(text)


LIBRARY = library(TOY)


def test_the_published_model_against_the_library():
    file = published()
    normaliser, other = Normaliser(read_model(file)), library(file)
    # All characters where rules are; of the large blocks without any, one in fifty.
    dense = [*range(0x3400), *range(0xF900, 0x10000), *range(0x1D000, 0x1FC00)]
    dense += [*range(0x2F800, 0x2FA20)]
    points = {*dense, *range(0x3400, sys.maxunicode + 1, 50)} - {*range(0xD800, 0xE000)}
    texts = [f"a{char}\u0301b" for char in map(chr, sorted(points))] + nasty()
    wrong = [text for text in texts if normaliser(text).text != other.normalize(text)]
    assert wrong == []


@given(interesting_text())
def test_the_published_model_against_the_library_on_random_texts(text):
    normaliser, other = published_pair()
    assert normaliser(text).text == other.normalize(text)


def published_pair(cache=[]):  # noqa: B006 (one pair for all draws)
    if not cache:
        file = published()
        cache.append((Normaliser(read_model(file)), library(file)))
    return cache[0]


# spans


@given(interesting_text())
def test_spans_lie_in_the_text_in_order(text):
    found = Normaliser(TOY)(text)
    assert len(found.spans) == len(found.text)
    assert all(0 <= start < end <= len(text) for start, end in found.spans)
    assert found.spans == sorted(found.spans)


@given(interesting_text())
def test_what_a_span_covers_becomes_its_character(text):
    """Up to where the next character's span begins, which takes in the accents of é."""
    normaliser = Normaliser(TOY)
    found = normaliser(text)
    starts = [start for start, _ in found.spans] + [len(text)]
    for i, char in enumerate(found.text):
        behind = next(at for at in [*starts[i:], len(text)] if at > starts[i] or at == len(text))
        covered = normaliser(text[starts[i] : max(behind, found.spans[i][1])]).text
        assert char == "▁" or char in covered
