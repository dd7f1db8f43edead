"""Byte-pair encoding: a word's characters, joined pair by pair in the order the merges were learnt.

    lower    l o w e r</w>        the last character carries the end of the word
      l o    lo w e r</w>         merge 0
      lo w   low e r</w>          merge 1
      e r    low er</w>           merge 2

:func:`merges_of` says it as above, a step for each merge; :func:`bpe` gives the last line only,
in time that hardly grows faster than the word. Tests tie the two.

Source: Sennrich et al. 2016, section 3.2; transformers 4.57.6 models/xlm/tokenization_xlm.py
(``bpe``). Differs: nothing in what comes out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from itertools import pairwise, repeat
from typing import NamedTuple

Ranks = Mapping[tuple[str, str], int]  # pair of symbols -> its place in the list of merges

END = "</w>"  # at the end of the last symbol of a word
NO_RANK = sys.maxsize  # of a pair that is not joined
LONG = 100  # characters of a word from which on bpe_of_long_word is the faster


class Merge(NamedTuple):
    """One step: the pair that was joined, its rank, and the symbols after it."""

    rank: int
    pair: tuple[str, str]
    symbols: list[str]


def symbols_of(word: str) -> list[str]:
    """Return the characters of a word, the end of the word marked at the last.

    >>> symbols_of("low")
    ['l', 'o', 'w</w>']
    """
    return [*word[:-1], word[-1] + END]


def join_pair(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of a pair, from left to right.

    >>> join_pair(["a", "a", "a", "b"], ("a", "a"))
    ['aa', 'a', 'b']
    """
    joined: list[str] = []
    at = 0
    while at < len(symbols):
        here = tuple(symbols[at : at + 2]) == pair
        joined.append("".join(pair) if here else symbols[at])
        at += 2 if here else 1
    return joined


def merges_of(word: str, ranks: Ranks) -> Iterator[Merge]:
    """Join the pair of lowest rank, everywhere in the word, until no pair has a rank.

    >>> for merge in merges_of("lower", {("l", "o"): 0, ("lo", "w"): 1, ("e", "r</w>"): 2}):
    ...     print(merge.rank, merge.symbols)
    0 ['lo', 'w', 'e', 'r</w>']
    1 ['low', 'e', 'r</w>']
    2 ['low', 'er</w>']
    """
    symbols = symbols_of(word)
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        pair = min(known, key=ranks.__getitem__)
        symbols = join_pair(symbols, pair)
        yield Merge(ranks[pair], pair, symbols)


def bpe(word: str, ranks: Ranks) -> list[str]:
    """Return the symbols of a word after the last merge.

    >>> bpe("lower", {("l", "o"): 0, ("lo", "w"): 1, ("e", "r</w>"): 2})
    ['low', 'er</w>']

    The rank of every pair is kept (and one that ends the list), and only those beside a merge are
    looked up again.
    """
    if len(word) > LONG:
        return bpe_of_long_word(word, ranks)
    rank_of = ranks.get
    symbols = symbols_of(word)
    found = [*map(rank_of, pairwise(symbols), repeat(NO_RANK)), NO_RANK]
    while (rank := min(found)) != NO_RANK:
        while rank in found:
            at = found.index(rank)
            joined = symbols[at] + symbols.pop(at + 1)
            symbols[at] = joined
            del found[at]
            if at:
                found[at - 1] = rank_of((symbols[at - 1], joined), NO_RANK)
            if at + 1 < len(symbols):
                found[at] = rank_of((joined, symbols[at + 1]), NO_RANK)
    return symbols


def bpe_of_long_word(word: str, ranks: Ranks) -> list[str]:
    """Do what :func:`bpe` does in time that hardly grows faster than the word.

    The places of each pair are kept by its rank, and the ranks in a heap: a merge looks at its own
    places and their neighbours only. All places of a rank are joined before another rank is looked
    at, a lower one that came up meanwhile included, as the definition has it.
    """
    symbols = symbols_of(word)
    end = len(symbols)
    after = list(range(1, end + 1))  # where the next symbol stands that is left
    before = list(range(-1, end - 1))
    places: dict[int, list[int]] = {}  # rank -> where the left of its pair stands
    heap: list[int] = []  # the ranks in places

    def note(place: int) -> None:
        """Keep the pair that begins at a place, if it is known."""
        if place >= 0 and after[place] < end:
            rank = ranks.get((symbols[place], symbols[after[place]]))
            if rank is not None:
                if rank not in places:
                    places[rank] = []
                    heappush(heap, rank)
                places[rank].append(place)

    for place in range(end):
        note(place)
    while heap:
        rank = heappop(heap)
        for place in sorted(places.pop(rank)):
            second = after[place]
            if second == end or ranks.get((symbols[place], symbols[second])) != rank:
                continue  # one of the two has been joined to another
            symbols[place] += symbols[second]
            symbols[second] = ""
            after[place] = after[second]
            if after[second] < end:
                before[after[second]] = place
            note(before[place])
            note(place)
    return [symbol for symbol in symbols if symbol]
