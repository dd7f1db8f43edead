"""The rewriting rules of a SentencePiece model, and the trie in which the file holds them.

The rules (those of the published file are called ``nmt_nfkc``: Unicode's compatible composition,
with control characters dropped) turn a string into a string, both as UTF-8: ``ﬁ`` into ``fi``,
``e`` and an accent into ``é``. At each place of a text the longest rule applies that fits there.

The left-hand sides are a *double-array trie*: all nodes of their tree in one row of 32-bit units.
The child of a node for the byte ``b`` is

    child = node ^ offset(units[node]) ^ b        and is there if  label(units[child]) == b

A node at which a left-hand side ends has one more child, for no byte at all: its unit is a leaf,
and holds the place where the right-hand side begins in a row of strings that each end in a zero
byte. The bits of a unit, from the 31st to the 0th:

    leaf    1 vvvvvvv vvvvvvvv vvvvvvvv vvvvvvvv     v  value
    node    0 ooooooo oooooooo oooooosl bbbbbbbb     o  offset, times 256 where s is 1
                                                     l  a left-hand side ends here
                                                     b  label

Source: google/sentencepiece src/normalizer.cc; third_party/darts_clone (the bits).
Differs: a rule ends where a character ends (a published table has no other); any number of rules
may begin alike (the library looks at the 32 shortest).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

ROOT = 0
BLOCK = 256  # the units come in blocks of as many as a byte has values


class Charsmap(NamedTuple):
    """The rules: a trie of their left-hand sides, and their right-hand sides in a row."""

    units: Sequence[int]
    strings: bytes


# a unit, bit by bit


def is_leaf(unit: int) -> bool:
    """Say whether a unit is a leaf: bit 31."""
    return unit >> 31 == 1


def value(leaf: int) -> int:
    """Return what a leaf holds: bits 0 to 30."""
    return leaf & 0x7FFF_FFFF


def label(unit: int) -> int:
    """Return the byte that leads to a unit, bits 0 to 7; a leaf's is above all bytes."""
    return unit & 0x8000_00FF


def ends_here(unit: int) -> bool:
    """Say whether a left-hand side ends at a node: bit 8."""
    return unit >> 8 & 1 == 1


def offset(unit: int) -> int:
    """Return how far a node's children are from it: bits 10 to 30, times 256 where bit 9 is set.

    >>> offset(0b101 << 10), offset(0b101 << 10 | 1 << 9)
    (5, 1280)
    """
    return unit >> 10 << (8 if unit >> 9 & 1 else 0)


# the table


def parse_charsmap(data: bytes) -> Charsmap | None:
    """Return the rules that a model file holds: size of the trie, trie, strings. None for none.

    Raises ``ValueError`` where a walk through the trie could leave it, or a string be no UTF-8.
    """
    if not data:
        return None
    size = int.from_bytes(data[:4], "little")
    if len(data) <= 4 or size >= len(data) - 4 or size % (4 * BLOCK) or not size:
        raise ValueError(f"precompiled_charsmap: a trie of {size} bytes in {len(data)} bytes")
    units = struct.unpack_from(f"<{size // 4}I", data, 4)
    strings = data[4 + size :]
    check_strings(strings, [value(unit) for unit in units if is_leaf(unit)])
    check_nodes(units)
    return Charsmap(units, strings)


def check_strings(strings: bytes, starts: list[int]) -> None:
    """Raise ``ValueError`` for strings that are no UTF-8, do not end, or begin in a character."""
    if not strings.endswith(b"\0"):
        raise ValueError("precompiled_charsmap: the last string does not end in a zero byte")
    try:
        strings.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"precompiled_charsmap: the strings are no UTF-8 ({error})") from None
    for start in starts:
        if start >= len(strings) or strings[start] & 0xC0 == 0x80:
            raise ValueError(f"precompiled_charsmap: no string begins at byte {start}")


def check_nodes(units: Sequence[int]) -> None:
    """Raise ``ValueError`` for nodes with children outside, and ends of rules without a leaf."""
    if label(units[ROOT]) or ends_here(units[ROOT]) or not offset(units[ROOT]):
        raise ValueError("precompiled_charsmap: unit 0 is no root")
    for i, unit in enumerate(units):
        if is_leaf(unit):
            continue
        child = i ^ offset(unit)  # the others are in its block
        if child >= len(units):
            raise ValueError(f"precompiled_charsmap: unit {i} leads to unit {child}")
        if ends_here(unit) and not is_leaf(units[child]):
            raise ValueError(f"precompiled_charsmap: unit {i} promises a rule but has none")


# text -> rules that apply


def walk(units: Sequence[int], node: int, key: bytes) -> int | None:
    """Follow bytes through the trie; None where no left-hand side goes on like that."""
    for byte in key:
        node ^= offset(units[node]) ^ byte
        if label(units[node]) != byte:
            return None
    return node


def longest_rule(charsmap: Charsmap, text: str, start: int) -> tuple[int, str] | None:
    """Return where the longest left-hand side that begins at ``start`` ends, and what it becomes.

    None where no rule applies: the character stays as it is.
    """
    units = charsmap.units
    node = ROOT
    found: tuple[int, int] | None = None
    for at in range(start, len(text)):
        child = walk(units, node, text[at].encode())
        if child is None:
            break
        node = child
        if ends_here(units[node]):
            found = at + 1, value(units[node ^ offset(units[node])])
    if found is None:
        return None
    end, begin = found
    return end, charsmap.strings[begin : charsmap.strings.index(0, begin)].decode()
