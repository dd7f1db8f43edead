"""Which tensor of a foreign dump is which tap."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy

from refimpl.parity.names.layouts import Shape, layout_of_shape, plan
from refimpl.parity.names.name_map import NameMap, foreign_pattern
from refimpl.parity.names.sources import (
    BASES,
    OUTPUTS,
    SOURCES,
    Called,
    called,
    kind_of,
    known_map,
    user_map,
)
from refimpl.parity.names.suggestions import nearest

Shapes = Mapping[str, Shape]
_SUGGESTED = 500  # unknown names at most that get suggestions
_OURS = NameMap((), identity=True, prefixes=("{base}", *BASES, ""))


@dataclass(frozen=True)
class Given:
    """A tensor of a dump that is one of ours."""

    name: str  # as the dump has it
    layout: str  # one of ``layouts.LAYOUTS``
    shape: Shape  # as given
    expected: Shape  # as ours is
    heads: int = 0

    @property
    def fits(self) -> bool:
        """Whether it can be brought to our shape."""
        return plan(self.layout, self.shape, self.expected, self.heads) is not None

    def take(self, array: numpy.ndarray) -> numpy.ndarray:
        """Return the array in our layout; as it is where its shape is another than expected."""
        found = plan(self.layout, tuple(array.shape), self.expected, self.heads)
        return array if found is None else found.take(array)


@dataclass(frozen=True)
class Naming:
    """What was found out about the names of a dump."""

    source: str  # whose names they are: one of ``SOURCES``
    named: Mapping[str, Given]  # by our name, in our order
    also: Mapping[str, str]  # further names of tensors that are named: theirs to ours
    unknown: Mapping[str, tuple[str, ...]]  # theirs, and the nearest of ours
    missing: tuple[str, ...]  # ours, which the dump does not have


def resolve(
    given: Shapes,
    expected: Shapes,
    source: str | None = None,
    extra: NameMap | Mapping[str, str] | None = None,
) -> Naming:
    """Say which of the ``given`` tensors is which of the ``expected`` taps and outputs.

    ``source`` says whose names they are; None tries all and takes the one that explains most.
    ``extra`` goes before the built-in maps: what ``read_map`` read, or ours to theirs. A tensor
    whose name no map knows, or whose name could be two of ours, stays unknown. Raises
    ``ValueError`` for a source that is not known, and for an ``extra`` that has no tap of these.

    >>> naming = resolve({"layers.0.fc1": (5, 2, 11)}, {"encoder.layer.0.intermediate.dense":
    ...                  (2, 5, 11)})
    >>> naming.source, naming.named["encoder.layer.0.intermediate.dense"].layout
    ('fairseq', 'time first')
    """
    heads = heads_of(expected)
    own = extra if isinstance(extra, NameMap | None) else user_map(extra)
    before = [] if own is None else [_own_book(own, given, expected)]
    behind = [_Book(called(expected, names), given) for names in (known_map(OUTPUTS), _OURS)]
    namings = []
    for name in SOURCES if source is None else (source,):
        book = _Book(called(expected, known_map(name)), given)
        namings.append(_resolve(given, expected, heads, name, [*before, book, *behind]))
    best = max(namings, key=lambda n: (len(n.named) + len(n.also), len(n.named)))
    unnamed = list(best.missing) or list(expected)
    unknown = {
        name: nearest(name, unnamed) if i < _SUGGESTED else ()
        for i, name in enumerate(best.unknown)
    }
    return Naming(best.source, best.named, best.also, unknown, best.missing)


def _own_book(own: NameMap, given: Shapes, expected: Shapes) -> _Book:
    known = list(called(expected, own))
    if not known:
        taps = ", ".join(row.tap for row in own.rows[:3]) or "nothing"
        raise ValueError(f"map: expected taps of this model on the left, got {taps}")
    return _Book(known, given)


def _resolve(
    given: Shapes, expected: Shapes, heads: int, source: str, books: list[_Book]
) -> Naming:
    claims: dict[str, list[_Match]] = defaultdict(list)
    known: dict[str, list[str]] = {}
    for theirs, shape in given.items():
        called_again = f"{theirs}#2" in given
        spelling = f"{theirs}#1" if called_again else theirs
        found = _claims(theirs, spelling, shape, expected, books, heads)
        known[theirs] = list(found)
        for canonical, match in found.items():
            claims[canonical].append(match)
    best = {name: min(ms, key=lambda m: (not m.given.fits, m.rank)) for name, ms in claims.items()}
    unsure = {name for name in best if _is_one_of_two(name, best, expected)}
    named = {name: best[name].given for name in expected if name in best and name not in unsure}
    known = {theirs: [x for x in ours if x not in unsure] for theirs, ours in known.items()}
    used = {one.name for one in named.values()}
    return Naming(
        source,
        named,
        {theirs: ours[0] for theirs, ours in known.items() if ours and theirs not in used},
        {theirs: () for theirs, ours in known.items() if not ours},
        tuple(canonical for canonical in expected if canonical not in named),
    )


def _is_one_of_two(name: str, best: Mapping[str, _Match], expected: Shapes) -> bool:
    """Whether a module that is called twice gave one tensor, and nothing says for which call.

    Where X-MOD normalises last, its second call is the one that a dictionary of hooks keeps.
    """
    for word in (".token_types", ".before_adapter"):
        if f"{name}{word}" in expected and f"{name}{word}" not in best:
            last = word == ".before_adapter" and kind_of(expected) == "xmod"
            return not last and "#" not in best[name].given.name
    return False


def heads_of(expected: Shapes) -> int:
    """The number of heads, from the shape of scores or probabilities; 0 where they do not say."""
    counts = {
        shape[1]
        for name, shape in expected.items()
        if len(shape) == 4 and name.endswith((".scores", ".probs"))
    }
    return counts.pop() if len(counts) == 1 else 0


# --- names ----------------------------------------------------------------------------------------


class _Match(NamedTuple):
    rank: tuple[int, int]
    canonical: str
    given: Given


class _Book:
    """The names that a map knows for the expected taps, to be looked up."""

    def __init__(self, known: Iterable[Called], given: Shapes) -> None:
        self._exact: dict[str, list[Called]] = defaultdict(list)
        self._open: list[tuple[re.Pattern[str], Called]] = []
        for one in known:
            if (one.beside and one.beside not in given) or (one.without and one.without in given):
                continue
            pattern = foreign_pattern(one.theirs)
            if pattern is None:
                self._exact[one.theirs].append(one)
            else:
                self._open.append((pattern, one))

    @cached_property
    def _squashed(self) -> dict[str, list[Called]]:
        found: dict[str, list[Called]] = defaultdict(list)
        for theirs, known in self._exact.items():
            found[squash(theirs)] += known
        return found

    def look_up(self, spellings: list[str]) -> Iterator[list[Called]]:
        """Yield what a name may be, the best spelling of it first."""
        for spelling in spellings:
            yield self._exact.get(spelling, [])
        if self._open:
            for spelling in spellings:
                yield [one for pattern, one in self._open if pattern.fullmatch(spelling)]
        yield self._squashed.get(squash(spellings[-1]), [])


def spellings_of(name: str) -> list[str]:
    """A name, and without what wrappers and recorders add to it.

    >>> spellings_of("module.lm_head.outputs[0]")
    ['module.lm_head.outputs[0]', 'lm_head.outputs.0', 'lm_head.0', 'lm_head']
    """
    clean = re.sub(r"\[(\d+)\]", r".\1", name)
    clean = re.sub(r"^(module|model|_orig_mod|base_model)\.(?=.)", "", clean)
    clean = re.sub(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.", "", clean)
    clean = re.sub(r"[.:](inputs?|args)([.:]args)?([.:]0)?$", ".input", clean)
    bare = re.sub(r"[.:](outputs?|out)(?=([.:]\d+)?$)", "", clean)
    return list(dict.fromkeys([name, clean, bare, re.sub(r"[.:]0$", "", bare)]))


def squash(name: str) -> str:
    """A name with all separators alike: a file's name cannot have every sign.

    >>> squash("/encoder/layer.0/output/dense/Add_output_0")
    'encoder_layer_0_output_dense_Add_output_0'
    """
    return re.sub(r"[^A-Za-z0-9{}]+", "_", name).strip("_")


def _claims(
    theirs: str, spelling: str, shape: Shape, expected: Shapes, books: list[_Book], heads: int
) -> dict[str, _Match]:
    """Return the taps that a tensor is: one, or several that lie in it; none where it is unclear.

    What has the very name of one of ours is that one too: an output may be a tap besides.
    """
    spellings = spellings_of(spelling)
    found: dict[str, _Match] = {}
    unfit: dict[str, _Match] = {}  # the name is known, its shape another than it should have
    groups = (group for book in books for group in book.look_up(spellings))
    for i, group in enumerate(groups):
        matches = [_match((i, x.rank), theirs, shape, x, expected, heads) for x in group]
        unfit = unfit or _best(matches)
        found = _best([m for m in matches if m.given.fits])
        if found:
            break
    if spelling in expected and (shape == expected[theirs] or not found):
        layout = layout_of_shape(shape, expected[theirs], heads) or "same"
        given = Given(theirs, layout, shape, expected[theirs], heads)
        found[theirs] = _Match((0, 0), theirs, given)
    return found or unfit


def _best(group: list[_Match]) -> dict[str, _Match]:
    """The first choice of a group, with the other parts where it is a part of the tensor."""
    if not group:
        return {}
    first = min(group, key=lambda m: m.rank)
    if first.given.layout.startswith("part "):
        return {m.canonical: m for m in group if m.given.layout.startswith("part ")}
    equal = {m.canonical for m in group if m.rank == first.rank}
    return {first.canonical: first} if len(equal) == 1 else {}


def _match(
    rank: tuple[int, int], theirs: str, shape: Shape, one: Called, expected: Shapes, heads: int
) -> _Match:
    layout, wanted = one.layout, expected[one.canonical]
    if not layout.startswith("part ") and plan(layout, shape, wanted, heads) is None:
        layout = layout_of_shape(shape, wanted, heads) or layout
    return _Match(rank, one.canonical, Given(theirs, layout, shape, wanted, heads))
