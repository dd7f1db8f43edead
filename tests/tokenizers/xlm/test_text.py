"""XLM's care for characters. Expected texts were printed by transformers 4.57.6, not by refimpl."""

import doctest
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.tokenizers.xlm import text


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(text)
    assert (failed, tried > 7) == (0, True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("plain ASCII, 'quoted' - \"so\"", "plain ASCII, 'quoted' - \"so\""),
        ("，、“”《》「」", ',,""""""'),
        ("∶：？！；（）【】〈〉", "::?!;()[]<>"),
        ("～％’━…", "~%'-..."),
        ("０１２３４５６７８９", "0123456789"),
        ("好。\u3000 \n好．好", "好. 好. 好"),
        ("。．。", ". . . "),
        ("．\u3000。", ". . "),
        ("«a» ‘b„ é", "«a» ‘b„ é"),  # not in the table
    ],
)
def test_replace_unicode_punctuation(before, after):
    assert text.replace_unicode_punctuation(before) == after


def test_remove_non_printing_leaves_every_space_and_mark():
    assert text.remove_non_printing("a\xa0b\u3000c\u0301") == "a\xa0b\u3000c\u0301"
    assert text.remove_non_printing("a\r\nb\tc\x00\xad\ufeff\ue000\u0378") == "abc"
    assert text.remove_non_printing("👩\u200d👧") == "👩👧"


@given(st.text())
def test_remove_non_printing_removes_the_categories_c_and_nothing_else(one):
    kept = [char for char in one if not unicodedata.category(char).startswith("C")]
    assert text.remove_non_printing(one) == "".join(kept)


@given(st.text() | st.text("aΣσςİIǅẞ. "))
def test_lower_characters_is_each_character_alone(one):
    assert text.lower_characters(one) == "".join(char.lower() for char in one)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ÀÉÎÕÜ ñ ç", "aeiou n c"),
        ("ΟΔΌΣ σ", "οδος σ"),  # the sigma that ends a word becomes a final one
        ("İI", "ii"),
        ("ё й", "е и"),
        ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8"),
        ("ệ q\u0307\u0323", "e q"),
        ("שָׁלוֹם", "שלום"),
        ("\u0301", ""),
        ("Straße Ǆ ﬁ", "straße ǆ ﬁ"),
    ],
)
def test_lowercase_and_remove_accents(before, after):
    assert text.lowercase_and_remove_accents(before) == after


@given(st.text(), st.text())
def test_a_space_keeps_words_apart(one, two):
    joined = text.lowercase_and_remove_accents(f"{one} {two}")
    alone = [text.lowercase_and_remove_accents(word) for word in (one, two)]
    assert joined == " ".join(alone)


def test_romanian():
    assert text.normalize_romanian("ŞşŢţ ăâî") == "ȘșȚț ăâî"
    assert text.remove_romanian_diacritics("ȘșȚțĂăÂâÎî") == "SsTtAaAaIi"
    assert text.remove_romanian_diacritics("ŞşŢţ éÁ") == "ŞşŢţ éÁ"  # normalised before
