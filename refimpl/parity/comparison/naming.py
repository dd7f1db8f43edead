"""The candidate's tensors under our names and in our layouts: by name, then by what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy

from refimpl.parity.comparison.axes import texts
from refimpl.parity.comparison.metrics import root_mean_square
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults.run import place_of
from refimpl.parity.floors import Floors
from refimpl.parity.names import read_map, resolve
from refimpl.parity.names.recognise import Recognised, recognise

Arrays = Mapping[str, numpy.ndarray]

# What stands once for all rows in many implementations.
_OF_POSITIONS = ("position_ids", "positions", "token_types")
_LOW = -1e4  # what is added to forbidden scores is at least as low


@dataclass(frozen=True)
class Named:
    """What a candidate gave of the values that are expected."""

    values: Arrays  # by our name, in our order
    notes: Mapping[str, str]  # by our name: what it was called, how it lay
    unknown: Mapping[str, tuple[str, ...]]  # theirs: the nearest of ours that are missing


def name_values(
    candidate: Dump, truth: Dump, source: str | None = None, map_file: str | Path | None = None
) -> Named:
    """Find the expected values by their names. ``source`` and ``map_file`` say whose those are.

    Raises ``ValueError`` for an unknown source, ``CheckpointError`` for a map that is none.
    """
    found, expected = candidate.values, truth.values
    # What has a name and a shape of ours needs no map, unless there is one.
    ours = {n: x for n, x in expected.items() if n in found and found[n].shape == x.shape}
    ours = ours if source is None and map_file is None else {}
    naming = resolve(
        {name: x.shape for name, x in found.items() if name not in ours},
        {name: x.shape for name, x in expected.items() if name not in ours},
        source,
        None if map_file is None else read_map(map_file),
    )
    values, notes = {}, {}
    for name in expected:
        if name not in ours and name not in naming.named:
            continue
        given = naming.named.get(name)
        said = [] if given is None or given.name == name else [f"called {given.name}"]
        said += [] if given is None or given.layout == "same" else [given.layout]
        taken = found[name] if given is None else given.take(found[given.name])
        x, how = in_rows(name, taken, expected[name])
        x, masked = without_mask(name, x, expected)
        values[name] = x
        notes[name] = ", ".join(filter(None, (*said, how, masked)))
    return Named(values, notes, naming.unknown)


def in_rows(name: str, x: numpy.ndarray, truth: numpy.ndarray) -> tuple[numpy.ndarray, str]:
    """Give a value the rows that are expected: the only one, or of positions as many as there are.

    >>> in_rows("pooler", numpy.ones(12), numpy.ones((1, 12)))[1]
    'without its batch axis'
    """
    if x.shape == truth.shape or not truth.ndim:
        return x, ""
    if truth.shape == (1, *x.shape):
        return x[None], "without its batch axis"
    if place_of(name) not in _OF_POSITIONS:
        return x, ""
    if x.shape == truth.shape[1:] or x.shape == (1, *truth.shape[1:]):
        return numpy.broadcast_to(x, truth.shape).copy(), "one row for all"
    if truth.shape[0] == 1 and x.ndim and x.shape[1:] == truth.shape[1:] and (x == x[:1]).all():
        return x[:1], "the same in all rows"
    return x, ""


def without_mask(name: str, x: numpy.ndarray, truth: Arrays) -> tuple[numpy.ndarray, str]:
    """Take forbidden scores as ours, where theirs were recorded behind the mask and ours before."""
    probs = truth.get(name.removesuffix("scores") + "probs")
    if place_of(name) != "scores" or probs is None or (x.shape, x.dtype.kind) != (probs.shape, "f"):
        return x, ""
    behind = (probs == 0.0) & (x <= _LOW)
    if not behind.any():
        return x, ""
    return numpy.where(behind, truth[name].astype(x.dtype), x), "recorded behind the mask"


def add_recognised(named: Named, candidate: Dump, truth: Dump, floors: Floors) -> Named:
    """Find missing values among the tensors of unknown names, by what they hold."""
    expected, found = truth.values, candidate.values
    unnamed = {name: found[name] for name in named.unknown}
    if not unnamed or len(named.values) == len(expected):
        return named
    mask = candidate.inputs.get("attention_mask", truth.inputs.get("attention_mask"))
    real = None if mask is None or mask.ndim not in (2, 3) else texts(mask)
    seen = recognise(unnamed, expected, lambda name: _limit(name, expected, floors), real)
    values, notes = dict(named.values), dict(named.notes)
    for foreign, one in seen.items():
        for name, x in _taken(one, unnamed[foreign], expected).items():
            if name not in values:
                how = "" if one.layout == "as is" else f", {one.layout}"
                values[name] = x
                notes[name] = f"recognised by its values: {foreign}{how}"
    left = {name: near for name, near in named.unknown.items() if name not in seen}
    ordered = {name: values[name] for name in expected if name in values}
    return replace(named, values=ordered, notes=notes, unknown=left)


def find_copies(truth: Dump) -> Iterator[tuple[str, str]]:
    """Pair each output with the last tap that holds the same numbers, if one does."""
    for output, x in truth.outputs.items():
        if x.dtype.kind == "f" and x.ndim > 1:
            for tap, y in reversed(list(truth.taps.items())):
                if x.shape == y.shape and _equal(x, y):
                    yield output, tap
                    break


def _equal(x: numpy.ndarray, y: numpy.ndarray) -> bool:
    """Whether two arrays of one shape hold the same numbers; most that do not, part at once."""
    first = (slice(0, 1),) * x.ndim
    return all(numpy.array_equal(a, b, equal_nan=True) for a, b in ((x[first], y[first]), (x, y)))


def with_copies(named: Named, truth: Dump, copies: Mapping[str, str]) -> Named:
    """Take outputs for taps of the same values that the candidate does not show."""
    values, notes = dict(named.values), dict(named.notes)
    for output, tap in copies.items():
        if output in named.values and tap not in named.values:
            values[tap], notes[tap] = named.values[output], f"shown as {output}"
    ordered = {name: values[name] for name in truth.values if name in values}
    return replace(named, values=ordered, notes=notes)


def _taken(one: Recognised, x: numpy.ndarray, truth: Arrays) -> dict[str, numpy.ndarray]:
    """The taps that a tensor is, and later ones of the same values; where it has no padding, ours.

    A program that leaves padding out has no values there to be judged.
    """
    taken = one.take(x) | one.take_same(x)
    if "real tokens only" not in one.layout:
        return taken
    return {name: numpy.where(numpy.isnan(y), truth[name], y) for name, y in taken.items()}


def _limit(name: str, truth: Arrays, floors: Floors) -> float:
    """The largest relative RMS error that is rounding; 0 of what floors were not measured for."""
    if name not in floors.free:
        return 0.0
    size = root_mean_square(truth[name].astype(numpy.float64))
    return floors.limit(name).rms / size if size else 0.0
