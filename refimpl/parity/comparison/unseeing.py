"""Queries that may look at nothing: what attention makes of them, float16 leaves open.

The truth is 1/T for each key, as the original has it by adding the dtype's lowest number to what is
forbidden. In float16 that is -65504, beside which a score does not vanish: eager attention rounds
the sum in steps of 32, or to minus infinity; a kernel that adds in float32 attends as if nothing
were forbidden. No two forms of the original agree there, and a port need not agree with one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from refimpl.models.model import Model
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.reference import run_reference
from refimpl.replacing import plain, replace

OPEN_IN = ("float16",)  # the arithmetics in which the original itself does not keep its convention
NOTE = "not held to the reference where a query may look at nothing"
_CHANGED = 1e-9  # of the largest number: what changes by less did not


def left_open(model: Model, call: Mapping[str, Any], truth: Dump) -> dict[str, numpy.ndarray]:
    """Return which elements of the values depend on what unseeing queries see; only such values.

    ``truth`` is what ``model(**call)`` gives. It is run again, with other scores in the place of
    the forbidden ones of those queries.
    """
    lot, found = numpy.random.default_rng(0), False

    def look_around(scores: Any, mask: Any) -> Any:
        nonlocal found
        masked = plain("mask_scores")(scores, mask)
        sees = mask.any(axis=-1, keepdims=True)
        found = found or not sees.all()
        return numpy.where(sees, masked, lot.standard_normal(scores.shape))

    with replace(mask_scores=look_around):
        other = run_reference(model, call).values
    if not found:
        return {}
    changed = {name: _changed(x, other[name]) for name, x in truth.values.items() if name in other}
    return {name: where for name, where in changed.items() if where.any()}


def _changed(x: numpy.ndarray, y: numpy.ndarray) -> numpy.ndarray:
    """(...), (...) -> (...): where two runs part; of ids nowhere."""
    if x.dtype.kind != "f" or x.shape != y.shape:
        return numpy.zeros(x.shape, bool)
    largest = numpy.abs(x, where=numpy.isfinite(x), out=numpy.zeros_like(x)).max(initial=0.0)
    with numpy.errstate(invalid="ignore"):
        same: numpy.ndarray = (numpy.abs(x - y) <= _CHANGED * largest) | (x == y)
    return ~same
