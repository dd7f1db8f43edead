"""Named entities: tags to entities, entities to precision, recall and F1.

An entity is right when its type, its first and its last word are.

Source: the rules of the CoNLL shared tasks (Tjong Kim Sang and De Meulder 2003; conlleval), in the
form of seqeval's default mode: an ``I-`` that continues nothing begins an entity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Entity(NamedTuple):
    """The words of a sentence from ``first`` to ``last``, that one included."""

    type: str
    first: int
    last: int


class Score(NamedTuple):
    """What precision, recall and F1 are made of."""

    right: int
    predicted: int
    true: int

    @property
    def precision(self) -> float:
        """The share of right ones among those predicted; 0 where there are none."""
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """The share of the true ones that were found; 0 where there are none."""
        return self.right / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of the two: 2 right / (predicted + true)."""
        total = self.predicted + self.true
        return 2 * self.right / total if total else 0.0


def split_tag(tag: str) -> tuple[str, str]:
    """Return the place in its entity (B, I, E, S, O) and the type that a tag names.

    >>> split_tag("B-PER"), split_tag("O"), split_tag("I")
    (('B', 'PER'), ('O', ''), ('I', '_'))

    Raises ``ValueError`` for a tag that begins with none of these letters.
    """
    place, rest = tag[:1], tag[1:]
    if not place or place not in "BIESO":
        raise ValueError(f"tag: expected O, or B-, I-, E- or S- and a type, got {tag!r}")
    return (place, "") if place == "O" else (place, rest.partition("-")[2] or rest or "_")


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of a sentence, from one tag for each word.

    Tags are those of IOB1, BIO (IOB2), IOE and IOBES.

    >>> entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [Entity(type='PER', first=0, last=1), Entity(type='LOC', first=3, last=3), \
Entity(type='LOC', first=4, last=4)]
    """
    found: list[Entity] = []
    before, kind_before, first = "O", "", 0
    for i, tag in enumerate([*tags, "O"]):
        place, kind = split_tag(tag)
        if ends(before, place, kind_before, kind):
            found.append(Entity(kind_before, first, i - 1))
        if begins(before, place, kind_before, kind):
            first = i
        before, kind_before = place, kind
    return found


def ends(before: str, place: str, kind_before: str, kind: str) -> bool:
    """Say whether an entity ends before a word, by the tags of the word before and of this."""
    if before == "O":
        return False
    return before in "ES" or place in "BSO" or kind != kind_before


def begins(before: str, place: str, kind_before: str, kind: str) -> bool:
    """Say whether an entity begins at a word, by the tags of the word before and of this."""
    if place == "O":
        return False
    return place in "BS" or before in "ES" or kind != kind_before  # behind O, that is ""


def scores(
    truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> tuple[Score, dict[str, Score]]:
    """Return the score over all types (micro), and that of each type.

    Raises ``ValueError`` where the tags of a sentence are not as many as it has words.
    """
    counts = [Counter[str]() for _ in Score._fields]
    for a, b in zip(truth, predicted, strict=True):
        if len(a) != len(b):
            raise ValueError(f"tags: expected {len(a)}, one for each word, got {len(b)}")
        true, found = set(entities(a)), set(entities(b))
        for counter, some in zip(counts, (true & found, found, true), strict=True):
            counter.update(entity.type for entity in some)
    types = sorted(set().union(*counts))
    by_type = {kind: Score(*(counter[kind] for counter in counts)) for kind in types}
    return Score(*(counter.total() for counter in counts)), by_type
