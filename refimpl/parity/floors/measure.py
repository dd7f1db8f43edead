"""Measuring floors: an ensemble of honest implementations against the float64 truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy

from refimpl.models.model import Model
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.floors.arithmetic import Arithmetic, find_arithmetic
from refimpl.parity.floors.floor import Errors, Floor, Floors, largest, measure_errors, sizes
from refimpl.parity.floors.implementation import Implementation, draw_implementation
from refimpl.parity.reference import Forced, as_dump, run_forced, run_reference
from refimpl.parity.staged import attention_in
from refimpl.replacing import replace
from refimpl.taps import edit, record

RUNS = 32  # of the bundled goldens' floors
MULTIPLIER = 4.0
POINTS = 8  # what operations are given when they are measured alone: so many times other numbers
AT_EACH = 4  # runs, at least: a large model has few, and tensors that no luck rounds well
NEAR = 4.0  # roundings that those may be off by

Inputs = Mapping[str, Any]
Values = Mapping[str, numpy.ndarray]
Track = Callable[[Iterable[int]], Iterable[int]]


def measure_floors(
    model: Model,
    inputs: Inputs,
    arithmetic: str = "float32",
    runs: int = RUNS,
    track: Track = iter,
    truth: Values | None = None,
) -> Floors:
    """Measure what honest runs of ``model(**inputs)`` are off by, tap by tap.

    ``model`` is the checkpoint in float64; ``arithmetic`` one of ``ARITHMETICS``. ``track`` may
    show the progress of the runs. ``truth`` spares a run where it is known: every tap and output in
    float64, of the weights as they are stored.

    Raises ``ValueError`` for an unknown arithmetic and for fewer than one run.
    """
    how = find_arithmetic(arithmetic)
    if runs < 1:
        raise ValueError(f"runs: expected 1 or more, got {runs}")
    exact, computing = how.weights(model), how.computing(model)
    inputs = represent_inputs(how, inputs)
    truth = run_reference(exact, inputs).values if truth is None else truth
    free, forced = [_once_rounded(how, truth)], []
    given = _given(exact, how, inputs, truth, runs)
    for number, (values, expected) in zip(track(range(runs)), given, strict=True):
        drawn = draw_implementation(how, number)
        free.append(_errors(run_honest(drawn, computing, inputs).values, truth))
        forced.append(_errors(run_honest(drawn, computing, inputs, values).values, expected))
        forced.append(_once_rounded(how, expected))
    return Floors(arithmetic, runs, MULTIPLIER, _largest_of(free), _largest_of(forced))


def _given(
    exact: Model, how: Arithmetic, inputs: Inputs, truth: Values, runs: int
) -> Iterator[tuple[Values, Values]]:
    """Yield, for each run, the values that operations are given, and what is right of these.

    The same numbers are rounded to a narrow format in the same way by everyone, and that may go
    well by luck. A port has other numbers, so operations are measured at several points.
    """
    points = max(1, min(POINTS, runs // AT_EACH))
    for point in range(points):
        values = {name: represent(how, _near(how, x, point)) for name, x in truth.items()}
        expected = run_forced(exact, inputs, values).values
        for _ in range(runs * point // points, runs * (point + 1) // points):
            yield values, expected


def _near(how: Arithmetic, x: numpy.ndarray, point: int) -> numpy.ndarray:
    """(...) -> (...): numbers a few roundings from those of the truth, which is point 0."""
    if x.dtype.kind != "f" or not point:
        return x
    off = NEAR * max(how.unit, how.factor_unit)
    lots: numpy.ndarray = numpy.random.default_rng(point).uniform(-off, off, x.shape)
    return x * (1.0 + lots)


def run_honest(
    drawn: Implementation, computing: Model, inputs: Inputs, values: Values | None = None
) -> Dump:
    """Return an honest implementation's run; with ``values``, each operation is given these.

    ``computing`` is what ``drawn.arithmetic.computing`` made of the model.
    """
    forced = Forced(computing, values or {}, drawn.stages())
    with honest(drawn, forced), record() as taps:
        outputs = computing(**inputs)
    return as_dump(computing, inputs, taps, outputs)


@contextmanager
def honest(drawn: Implementation, forced: Forced) -> Iterator[None]:
    """Let the operations be computed as ``drawn`` does, in the block."""
    put = partial(_put, drawn.arithmetic, forced)
    attend = attention_in(drawn.stages(), partial(_put_stage, drawn.arithmetic, forced))
    operations = {**drawn.operations(), "scaled_dot_product_attention": attend}
    with numpy.errstate(all="ignore"), replace(**operations), edit(put):
        yield


def _put(how: Arithmetic, forced: Forced, name: str, x: numpy.ndarray) -> numpy.ndarray:
    """What goes on from a tap: in a narrow arithmetic, what keeps further steps narrow."""
    return how.keep(forced.put(name, x))


def _put_stage(how: Arithmetic, forced: Forced, role: str, x: numpy.ndarray) -> numpy.ndarray:
    return how.keep(forced.put_stage(role, x))


def represent(how: Arithmetic, x: numpy.ndarray) -> numpy.ndarray:
    """(...) -> (...): a result as the arithmetic keeps it, in float64; ids as they are."""
    with numpy.errstate(over="ignore"):
        return how.represent(x) if x.dtype.kind == "f" else x


def represent_inputs(how: Arithmetic, inputs: Inputs) -> dict[str, Any]:
    """Return the arguments of a call as a port of that arithmetic is given them."""
    return {name: _represent_all(how, x) for name, x in inputs.items()}


def _represent_all(how: Arithmetic, x: Any) -> Any:
    """An argument, or a tuple of them (keys and values), as a port of that arithmetic has it."""
    if isinstance(x, tuple):
        return tuple(_represent_all(how, part) for part in x)
    return represent(how, x) if isinstance(x, numpy.ndarray) else x


def _once_rounded(how: Arithmetic, truth: Values) -> dict[str, Errors]:
    """The errors of keeping the truth in the arithmetic: no honest run need be better.

    They are those of the worst numbers of its size, not its own, which may be exact by luck.
    """
    return {name: _rounding_of(how, x) for name, x in truth.items()}


def _rounding_of(how: Arithmetic, x: numpy.ndarray) -> Errors:
    if x.dtype.kind != "f" or not x.size:
        return Errors(0.0, 0.0, 0.0)
    of_each = numpy.maximum(numpy.abs(x), how.smallest)
    finite = numpy.isfinite(x)
    size = sizes(of_each if finite.all() else numpy.where(finite, of_each, 0.0))
    of_all, of_cell = _spread(x.size), _spread(x.shape[-1] if x.ndim else 1)
    return Errors(
        size.rms * of_all * how.unit, size.cell * of_cell * how.unit, size.worst * how.unit
    )


def _spread(count: int) -> float:
    """The root mean square of ``count`` errors, each anywhere from -1 to 1; of one it may be 1."""
    return math.sqrt((1.0 + 2.0 / count) / 3.0)


def _errors(actual: Values, truth: Values) -> dict[str, Errors]:
    return {name: measure_errors(actual[name], x) for name, x in truth.items()}


def _largest_of(runs: list[dict[str, Errors]]) -> dict[str, Floor]:
    return {name: largest([run[name] for run in runs]) for name in runs[0]}
