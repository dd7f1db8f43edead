"""The rewriting rules: bit by bit, rule by rule, and any trie against a plain search."""

import doctest
import re
import struct
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.make.sentencepiece_model import rules
from refimpl.tokenizers.xlm_roberta import charsmap
from refimpl.tokenizers.xlm_roberta.charsmap import (
    ends_here,
    is_leaf,
    label,
    longest_rule,
    offset,
    parse_charsmap,
    value,
)
from refimpl.tokenizers.xlm_roberta.model_file import read_model
from tests.tokenizers.xlm_roberta.toy_models import make_charsmap, published, toy_model


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(charsmap)
    assert (failed, tried > 0) == (0, True)


# a unit


def test_the_bits_of_a_leaf():
    unit = 0b1_0000000_00000000_00000001_00000011
    assert (is_leaf(unit), value(unit)) == (True, 259)
    assert label(unit) > 255


def test_the_bits_of_a_node():
    unit = 0b0_0000000_00000000_000001_0_1_11101001
    assert not is_leaf(unit)
    assert (offset(unit), ends_here(unit), label(unit)) == (1, True, 0xE9)
    assert offset(unit | 1 << 9) == 256
    assert not ends_here(unit ^ 1 << 8)


# rules


def test_the_toy_rules_are_those_that_it_was_made_with():
    table = parse_charsmap(toy_model().charsmap)
    for old, new in rules().items():
        assert longest_rule(table, f"{old}z", 0) == (len(old), new), ascii(old)
        assert longest_rule(table, f"x{old}", 1) == (len(old) + 1, new), ascii(old)


def test_the_published_rules_are_compatible_composition():
    table = parse_charsmap(read_model(published()).charsmap)
    for text in ["ﬁ", "Ｔ", "™", "ｶﾞ", "e\u0301", "½", "℃", "\u1e9b\u0323"[0], "각"]:
        end, new = longest_rule(table, text, 0) or (1, text)
        assert (end, new) == (len(text), unicodedata.normalize("NFKC", text)), text
    assert longest_rule(table, "\t", 0) == (1, " ")
    assert longest_rule(table, "\u200b", 0) == (1, " ")
    assert longest_rule(table, "\x07", 0) == (1, "")
    assert longest_rule(table, "a", 0) is None


keys = st.text("aé\u0301字🙂\x7f", min_size=1, max_size=4)
tables = st.dictionaries(keys, st.text("xyé字 ", max_size=4), min_size=1, max_size=8)


@given(tables, st.text("aé\u0301字🙂\x00\x7fb", min_size=1, max_size=8), st.data())
def test_the_longest_rule_is_the_longest(table, text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    fits = [old for old in table if text.startswith(old, start)]
    expected = max(((start + len(old), table[old]) for old in fits), default=None)
    found = longest_rule(parse_charsmap(make_charsmap(table)), text, start)
    assert found == expected


def test_no_rules():
    assert parse_charsmap(b"") is None


# what is refused


GOOD = make_charsmap({"é": "e", "ab": "x"})


def changed(at, unit, data=GOOD):
    return data[: 4 + 4 * at] + struct.pack("<I", unit) + data[8 + 4 * at :]


SIZE = int.from_bytes(GOOD[:4], "little")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0", "a trie of 0 bytes in 1 bytes"),
        (bytes(4), "a trie of 0 bytes in 4 bytes"),
        (bytes(2000), "a trie of 0 bytes in 2000 bytes"),
        (b"\xff\xff\xff\xff" + GOOD[4:], f"a trie of 4294967295 bytes in {len(GOOD)} bytes"),
        (struct.pack("<I", SIZE - 4) + GOOD[4:], f"a trie of {SIZE - 4} bytes"),
        (GOOD[: 4 + SIZE], f"a trie of {SIZE} bytes in {4 + SIZE} bytes"),
        (GOOD[:-1] + b"x", "the last string does not end in a zero byte"),
        (GOOD[: 4 + SIZE] + b"\xff\0", "the strings are no UTF-8"),
        (changed(0, 0), "unit 0 is no root"),
        (changed(0, 1 << 10 | ord("a")), "unit 0 is no root"),
        (changed(0, 1 << 10 | 1 << 8), "unit 0 is no root"),
        (changed(0, 1 << 31), "unit 0 is no root"),
        (changed(7, 0x3FFFFF << 9), "unit 7 leads to unit 536870663"),
        (changed(7, 1 << 10 | 1 << 8), "unit 7 promises a rule but has none"),
        (changed(7, 1 << 31 | 4), "no string begins at byte 4"),
    ],
)
def test_broken(data, message):
    with pytest.raises(ValueError, match=f"^precompiled_charsmap: {re.escape(message)}"):
        parse_charsmap(data)


def test_a_string_does_not_begin_inside_a_character():
    data = make_charsmap({"a": "é"})
    units = struct.unpack_from(f"<{int.from_bytes(data[:4], 'little') // 4}I", data, 4)
    leaf = units.index(1 << 31)
    with pytest.raises(ValueError, match="no string begins at byte 1"):
        parse_charsmap(changed(leaf, 1 << 31 | 1, data))


@given(st.data())
def test_a_changed_trie_is_refused_or_can_be_walked(data):
    broken = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at] = data.draw(st.sampled_from([0, 1, 2, 4, 0x61, 0x80, 0xC3, 0xFF]))
    try:
        table = parse_charsmap(bytes(broken))
    except ValueError:
        return
    for text in ["aé", "ab", "éa", "b", "\x00", "a\x00", "字"]:
        for start in range(len(text)):
            found = longest_rule(table, text, start)
            assert found is None or start < found[0] <= len(text)
