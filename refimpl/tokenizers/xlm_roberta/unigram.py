"""The engine "explicit": the most probable pieces of a text, found in the open.

A unigram model gives every piece a probability, whatever stands around it. A text can be cut into
pieces in many ways; the way taken is the one with the largest product of probabilities, or sum of
their logarithms, the scores. All ways together are a *lattice*: its positions are those between
characters, and every piece that fits is an edge from where it begins to where it ends:

    0 -- ▁ -- 1 -- t -- 2 -- h -- 3 -- e -- 4
    |         '------- th -------'          |
    '---------------- ▁the -----------------'

The best way to a position is the best way to some earlier one and one more piece (Viterbi), so one
pass from left to right finds the best way to the end, and going back from there says which it was.
A character that is no piece can be passed as unknown, at a price of 10 below the rarest piece.

Source: google/sentencepiece 0.2.3 src/unigram_model.cc (``Model::EncodeOptimized``),
src/sentencepiece_processor.cc (``EncodeOptimized``: what becomes of the unknown).
Differs: positions are characters, not bytes; the result is the same. Before 0.2.2 the library
compared sums before it rounded them; in long repetitions (``-----``) that decides otherwise.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from refimpl.tokenizers.xlm_roberta.model_file import (
    UNK_PLACE,
    Kind,
    SentencePieceModel,
    byte_piece,
    places_by_use,
    read_model,
)
from refimpl.tokenizers.xlm_roberta.normaliser import Normaliser, check_utf8, locate

UNK_PENALTY = 10.0
LARGEST_SUM = 100_000.0
KEY = 3  # characters: what begins in no piece like these three is at most two long


class Edge(NamedTuple):
    """A piece in a lattice: where it begins and ends, its place in the model file, its score."""

    start: int
    end: int
    place: int
    score: float


class Vocabulary:
    """The pieces of a model that can be found in a text, and their scores."""

    def __init__(self, model: SentencePieceModel) -> None:
        self._pieces: dict[str, tuple[int, float]] = {}
        self._longest: dict[str, int] = {}  # the longest piece's length, by the first characters
        scored = zip(*model[:3], strict=True)
        for place, (piece, score, kind) in enumerate(scored):
            if kind == Kind.NORMAL:
                self._pieces[piece] = place, score
            elif kind == Kind.USER_DEFINED:
                self._pieces[piece] = place, symbol_score(piece)
        for piece in self._pieces:
            first = piece[:KEY]
            self._longest[first] = max(len(piece), self._longest.get(first, 0))
        self.longest = max(self._longest.values())
        self._unk_score = unknown_score(model)

    def edges(self, text: str, start: int) -> Iterator[tuple[int, int, float]]:
        """Give (end, place, score) of every piece that begins at a position, short ones first.

        The unknown comes last, where the first character alone is no piece.
        """
        pieces = self._pieces
        longest = self._longest.get(text[start : start + KEY], KEY - 1)
        for end in range(start + 1, min(start + longest, len(text)) + 1):
            found = pieces.get(text[start:end])
            if found is not None:
                place, score = found
                yield end, place, score
        if text[start] not in pieces:
            yield start + 1, UNK_PLACE, self._unk_score


def unknown_score(model: SentencePieceModel) -> float:
    """Return what it costs to pass a character as unknown."""
    normal = (s for s, kind in zip(*model[1:3], strict=True) if kind == Kind.NORMAL)
    return float32(min(normal) - UNK_PENALTY)


def float32(x: float) -> float:
    """Return the float32 nearest to a number.

    >>> float32(0.1)
    0.10000000149011612
    """
    return array("f", [x])[0]


def symbol_score(piece: str) -> float:
    """Return the score of a user-defined symbol: above any piece's, and the more so the longer."""
    return float32(0.1 * (len(piece.encode()) - 1))


class Lattice(NamedTuple):
    """The best way to every position of a text: its score, and the edge that it ends with."""

    scores: Sequence[float]  # float32
    last: list[Edge | None]


def best_ways(vocabulary: Vocabulary, text: str) -> Lattice:
    """Find the best way to every position.

    Sums are rounded to float32, as in the library, and of equal ones the first stays: ways that
    differ by rounding alone would else be decided here in one way and there in the other. A sum
    beyond 100,000, which only long texts have, is made 0, and those ahead of it move along.
    """
    n = len(text)
    scores = array("f", [0.0]) + array("f", [-math.inf]) * n
    last: list[Edge | None] = [None] * (n + 1)
    for start in range(n):
        if abs(scores[start]) > LARGEST_SUM:
            for i in reversed(range(start, min(start + vocabulary.longest, n + 1))):
                scores[i] -= scores[start]
        so_far = scores[start]
        for end, place, score in vocabulary.edges(text, start):
            total = so_far + score
            if total > scores[end] and float32(total) > scores[end]:
                scores[end] = total  # which rounds it
                last[end] = Edge(start, end, place, score)
    return Lattice(scores, last)


def best_path(lattice: Lattice) -> list[Edge]:
    """Go back from the end along the best edges, and return them from the beginning."""
    path = []
    edge = lattice.last[-1]
    while edge is not None:
        path.append(edge)
        edge = lattice.last[edge.start]
    return path[::-1]


def join_unknown(path: list[Edge]) -> list[Edge]:
    """Make one edge of unknown ones that follow each other.

    >>> join_unknown([Edge(0, 1, 3, -2.5), Edge(1, 2, 0, -15.0), Edge(2, 3, 0, -15.0)])
    [Edge(start=0, end=1, place=3, score=-2.5), Edge(start=1, end=3, place=0, score=-30.0)]
    """
    joined: list[Edge] = []
    for edge in path:
        if edge.place == UNK_PLACE and joined and joined[-1].place == UNK_PLACE:
            before = joined.pop()
            edge = Edge(before.start, edge.end, UNK_PLACE, before.score + edge.score)
        joined.append(edge)
    return joined


class ExplicitEngine:
    """A SentencePiece model run by the code of this file.

    ``model`` is one that was read, or the path to read it from.
    """

    def __init__(self, model: SentencePieceModel | str | os.PathLike[str]) -> None:
        self.model = model if isinstance(model, SentencePieceModel) else read_model(model)
        self.normaliser = Normaliser(self.model)
        self.vocabulary = Vocabulary(self.model)
        in_text, names = places_by_use(self.model)
        self._places = {self.model.pieces[i]: i for i in in_text + names}  # a name goes before

    def __len__(self) -> int:
        return len(self.model.pieces)

    def tokenize(self, text: str) -> list[str]:
        """Return the most probable pieces of a text; what is unknown, as it is, in one.

        Raises ``ValueError`` for a lone surrogate, as the other methods that take text.
        """
        return [piece for piece, _ in self._cut(self.normaliser(text).text)]

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the places in the model file of the pieces of each text."""
        return [[place for _, place in self._cut(self.normaliser(text).text)] for text in texts]

    def spans(self, text: str) -> list[tuple[str, int, int, int]]:
        """Return each piece, its place, and where in the text it begins and ends.

        Which characters a piece stands for is told in normaliser.py.
        """
        normalised = self.normaliser(text)
        return locate(normalised, self._cut(normalised.text), self.model)

    def piece_to_id(self, piece: str) -> int:
        """Return a piece's place in the model file, 0 for one that is not there."""
        check_utf8(piece)
        return self._places.get(piece, UNK_PLACE)

    def id_to_piece(self, i: int) -> str:
        """Return the piece at a place in the model file; ``IndexError`` where there is none."""
        if not 0 <= i < len(self):
            raise IndexError(f"i: expected a place from 0 to {len(self) - 1}, got {i}")
        return self.model.pieces[i]

    def _cut(self, text: str) -> list[tuple[str, int]]:
        """Return the pieces of a prepared text, and their places."""
        path = join_unknown(best_path(best_ways(self.vocabulary, text)))
        pieces = [(text[edge.start : edge.end], edge.place) for edge in path]
        return self._spelt(pieces) if self.model.byte_fallback else pieces

    def _spelt(self, pieces: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return pieces with the unknown ones spelt in bytes."""
        spelt = []
        for piece, place in pieces:
            if place == UNK_PLACE:
                names = [byte_piece(byte) for byte in piece.encode()]
                spelt += [(name, self._places[name]) for name in names]
            else:
                spelt.append((piece, place))
        return spelt
