"""Introduced or inherited: each operation recomputed from what the candidate fed it with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy

from refimpl.models.model import Model
from refimpl.parity.comparison.truth import Inputs
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.reference import run_forced

Values = Mapping[str, numpy.ndarray]

NUDGE = 2.0**-6  # by how much a value is changed to see what depends on it
CHANGED = 1e-9  # what changes by less did not: rounding in float64 stays far below


class Forced(NamedTuple):
    """What each operation makes of the candidate's values."""

    dump: Dump
    far: frozenset[str]  # what is computed from values that the candidate does not show


def force(model: Model, call: Inputs, truth: Dump, given: Values) -> Forced:
    """Recompute every operation from the ``given`` values of the taps in front of it.

    Values of another shape than the truth's, and ids that there are not, are not taken. Where
    nothing is left, every value is far from the inputs, and what is computed is the truth.
    """
    fed = {name: given[name] for name, x in truth.taps.items() if _fits(given.get(name), x)}
    if not fed:
        return Forced(truth, frozenset(truth.values))
    dump = _run(model, call, fed)
    hidden = [n for n, x in truth.taps.items() if n not in fed and x.dtype.kind == "f"]
    if not hidden:
        return Forced(dump, frozenset())
    nudged = _run(model, call, {**_nudged(dump, hidden), **fed})
    far = [name for name, x in dump.values.items() if _differ(x, nudged.values.get(name))]
    return Forced(dump, frozenset(far))


def _fits(x: numpy.ndarray | None, truth: numpy.ndarray) -> bool:
    if x is None or x.shape != truth.shape or x.dtype.kind not in "biuf":
        return False
    ids = truth.dtype.kind in "iu"
    return not ids or (x.dtype.kind in "iu" and not (x < 0).any())


def _run(model: Model, call: Inputs, fed: Values) -> Dump:
    """Run with the values fed in; without the ids among them, where a table has no such row."""
    with numpy.errstate(all="ignore"):  # a candidate's values may be anything
        try:
            return run_forced(model, call, fed)
        except IndexError:
            return run_forced(model, call, {n: x for n, x in fed.items() if x.dtype.kind == "f"})


def _nudged(dump: Dump, names: list[str]) -> dict[str, numpy.ndarray]:
    rng = numpy.random.default_rng(0)
    return {
        name: x * (1.0 + NUDGE * rng.standard_normal(x.shape))
        for name, x in dump.taps.items()
        if name in names
    }


def _differ(x: numpy.ndarray, y: numpy.ndarray | None) -> bool:
    if y is None or x.shape != y.shape:
        return True
    if x.dtype.kind != "f":
        return not numpy.array_equal(x, y)
    finite = numpy.isfinite(x) & numpy.isfinite(y)
    if not finite.any():
        return False
    off = float(numpy.abs(x[finite] - y[finite]).max())
    return off > CHANGED * float(numpy.abs(x[finite]).max())
