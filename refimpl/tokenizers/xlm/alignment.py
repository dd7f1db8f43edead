"""Text that knows where it came from: the steps of a tokenizer with every character followed.

An :class:`Aligned` text has, for each character, the slice of the source text that it stands for.
Each function does to an aligned text what a step does to a plain one, so that at the end every
token can say where it stood, whatever was replaced, joined, swapped or taken apart on the way.
It costs a hundred times the plain step, and runs only where places are asked for.

Source: our own; the originals give no offsets for XLM.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from refimpl.tokenizers.xlm.text import is_accent


class Aligned(NamedTuple):
    """A text; character i stands for ``source[starts[i]:ends[i]]``."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def cut(self, start: int, stop: int) -> Aligned:
        """Return the characters from ``start`` to ``stop``, with their places."""
        return Aligned(self.text[start:stop], self.starts[start:stop], self.ends[start:stop])


def align(text: str) -> Aligned:
    """Return a text aligned with itself.

    >>> align("ab")
    Aligned(text='ab', starts=range(0, 2), ends=range(1, 3))
    """
    return Aligned(text, range(len(text)), range(1, len(text) + 1))


class Rule(NamedTuple):
    r"""A replacement by a regular expression, with a text that its every match contains.

    A text without ``needs`` need not be searched: ``needs in text`` is far cheaper. In the
    ``template`` stands for a group what it matched (``\1``), and all else for what is in no group.
    """

    needs: str
    pattern: re.Pattern[str]
    template: str


def rule(needs: str, pattern: str, template: str) -> Rule:
    """Return a :class:`Rule`, its pattern compiled."""
    return Rule(needs, re.compile(pattern), template)


def rewrite(rules: Iterable[Rule], text: str) -> str:
    r"""Apply rules to a plain text, one after the other.

    >>> rewrite([rule(":", " (:)", r"\1"), rule("''", "''", '"')], "so : ''yes''")
    'so: "yes"'
    """
    for needs, pattern, template in rules:
        if needs in text:
            text = pattern.sub(template, text)
    return text


class _Builder:
    """Puts an aligned text together, piece by piece, from one that is there."""

    def __init__(self, old: Aligned) -> None:
        self.old = old
        self.text: list[str] = []
        self.starts: list[int] = []
        self.ends: list[int] = []

    def copy(self, start: int, stop: int) -> None:
        """Take characters over as they are."""
        self.text.append(self.old.text[start:stop])
        self.starts += self.old.starts[start:stop]
        self.ends += self.old.ends[start:stop]

    def put(self, text: str, start: int, stop: int) -> None:
        """Write a text that stands for the old characters from ``start`` to ``stop``."""
        at = self.old.starts[start] if start < len(self.old.text) else 0
        self.text.append(text)
        self.starts += [min(self.old.starts[start:stop], default=at)] * len(text)
        self.ends += [max(self.old.ends[start:stop], default=at)] * len(text)

    def done(self) -> Aligned:
        return Aligned("".join(self.text), self.starts, self.ends)


def rewrite_aligned(rules: Iterable[Rule], old: Aligned) -> Aligned:
    r"""Apply rules to an aligned text, one after the other.

    >>> rewrite_aligned([rule("''", "(x)''", r'" \1')], align("ax''"))
    Aligned(text='a" x', starts=[0, 2, 2, 1], ends=[1, 4, 4, 2])
    """
    for one in rules:
        if one.needs in old.text:
            old = _rewrite_once(one, old)
    return old


def _rewrite_once(one: Rule, old: Aligned) -> Aligned:
    parts = re.split(r"\\(\d)", one.template)  # the odd ones are numbers of groups
    groups = [int(number) for number in parts[1::2]]
    new, done = _Builder(old), 0
    for match in one.pattern.finditer(old.text):
        new.copy(done, match.start())
        start, stop = _outside_groups(match, groups)
        for i, part in enumerate(parts):
            if i % 2:
                new.copy(*match.span(int(part)))
            else:
                new.put(part, start, stop)
        done = match.end()
    new.copy(done, len(old.text))
    return new.done()


def _outside_groups(match: re.Match[str], groups: Sequence[int]) -> tuple[int, int]:
    """Return the part of a match between the first and the last character of no group."""
    kept = {i for group in groups for i in range(*match.span(group))}
    free = [i for i in range(*match.span()) if i not in kept]
    return (free[0], free[-1] + 1) if free else (match.start(), match.start())


def change_characters(change: Callable[[str], str], old: Aligned) -> Aligned:
    """Replace every character by what ``change`` makes of it, nothing included.

    >>> change_characters(str.upper, align("aß"))
    Aligned(text='ASS', starts=[0, 1, 1], ends=[1, 2, 2])
    """
    made = [change(char) for char in old.text]
    return Aligned(
        "".join(made),
        [at for at, text in zip(old.starts, made, strict=True) for _ in text],
        [at for at, text in zip(old.ends, made, strict=True) for _ in text],
    )


def lowercase_and_remove_accents_aligned(old: Aligned) -> Aligned:
    """Do what ``text.lowercase_and_remove_accents`` does; a letter's place includes its marks.

    >>> lowercase_and_remove_accents_aligned(align("De\u0301jà"))
    Aligned(text='deja', starts=(0, 1, 3, 4), ends=(1, 3, 4, 5))

    Differs: each letter is lower-cased alone, so there is no final sigma.
    """
    apart = change_characters(lambda char: unicodedata.normalize("NFD", char.lower()), old)
    kept: list[tuple[str, int, int]] = []
    for char, start, end in _in_canonical_order(apart):
        if not is_accent(char):
            kept.append((char, start, end))
        elif kept:
            kept[-1] = (*kept[-1][:2], max(end, kept[-1][2]))
    return _of_characters(kept)


def _in_canonical_order(old: Aligned) -> list[tuple[str, int, int]]:
    """Sort each run of marks by combining class, as NFD does after taking letters apart."""
    ordered: list[tuple[str, int, int]] = []
    characters = zip(*old, strict=True)
    for _, run in groupby(characters, lambda one: unicodedata.combining(one[0]) > 0):
        ordered += sorted(run, key=lambda one: unicodedata.combining(one[0]))
    return ordered


def _of_characters(characters: Sequence[tuple[str, int, int]]) -> Aligned:
    text, starts, ends = zip(*characters, strict=True) if characters else ((), (), ())
    return Aligned("".join(text), starts, ends)


def split_aligned(old: Aligned) -> list[Aligned]:
    """Cut at white space, as ``str.split`` does.

    >>> [word.text for word in split_aligned(align(" a  bc"))]
    ['a', 'bc']
    """
    return [old.cut(*match.span()) for match in re.finditer(r"\S+", old.text)]


def cut_aligned(old: Aligned, words: Iterable[str]) -> list[Aligned]:
    """Cut an aligned text into words that follow one another in it.

    >>> [word.starts for word in cut_aligned(align("大家好"), ["大家", "好"])]
    [range(0, 2), range(2, 3)]
    """
    cut, at = [], 0
    for word in words:
        at = max(old.text.find(word, at), at)
        cut.append(old.cut(at, at + len(word)))
        at += len(word)
    return cut


def join_aligned(parts: Iterable[Aligned], between: str = "") -> Aligned:
    """Put texts together again, with something between each two.

    >>> join_aligned([align("a"), align("b")], " ").text
    'a b'
    """
    joined: list[tuple[str, int, int]] = []
    for part in parts:
        if joined:
            joined += [(char, joined[-1][2], joined[-1][2]) for char in between]
        joined += zip(*part, strict=True)
    return _of_characters(joined)
