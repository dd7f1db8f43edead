"""The verdict on each value: rounding or not, introduced or inherited, and where it is off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy

from refimpl.parity.comparison import hints, unseeing
from refimpl.parity.comparison.axes import Call, padded_elements
from refimpl.parity.comparison.forcing import Forced
from refimpl.parity.comparison.metrics import measure, root_mean_square, top_agreement
from refimpl.parity.comparison.numbers import too_narrow
from refimpl.parity.comparison.tokens import compare_ids
from refimpl.parity.comparison.verdict import (
    DIFF,
    DTYPE,
    MISSING,
    NAN,
    OK,
    OUTPUT,
    ROUNDING,
    SHAPE,
    TAP,
    Verdict,
)
from refimpl.parity.comparison.where import where
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults.run import place_of
from refimpl.parity.floors import Errors, Floors, differences, ratio, sizes

# Outputs that a call gives only when it is asked to.
_ON_REQUEST = ("hidden_states", "attentions", "cross_attentions", "past_key_values")
_TOP = (1, 5)  # how many of the largest logits are looked at

INTRODUCED, INHERITED = "introduced", "inherited"


@dataclass(frozen=True)
class Court:
    """All that verdicts are made from."""

    truth: Dump
    floors: Floors
    call: Call
    given: Mapping[str, numpy.ndarray]  # the candidate's values, in our names and layouts
    notes: Mapping[str, str]
    copies: Mapping[str, str] = field(default_factory=dict)  # outputs that are a tap: that tap
    forced: Forced | None = None
    ignore_padding: bool = False
    left_open: Mapping[str, numpy.ndarray] = field(default_factory=dict)  # elements, by our name


def judge(court: Court) -> Iterator[Verdict]:
    """Give a verdict on every tap, in the order of the computation, then on every output."""
    parted, since = False, ""
    shown = {name.partition(".")[0] for name in court.given}
    for kind, values in ((TAP, court.truth.taps), (OUTPUT, court.truth.outputs)):
        for name, truth in values.items():
            field = name.partition(".")[0]
            if kind == OUTPUT and field in _ON_REQUEST and field not in shown:
                continue
            verdict = _judge(court, Verdict(name, kind, MISSING, shape=truth.shape), truth, parted)
            if verdict.compared and court.forced is not None and name in court.forced.far:
                verdict = replace(verdict, since=since)
            if verdict.compared and kind == TAP:
                since = name
            parted = parted or verdict.parts
            yield verdict


def _judge(court: Court, verdict: Verdict, truth: numpy.ndarray, parted: bool) -> Verdict:
    given = court.given.get(verdict.name)
    if given is None:
        return verdict
    verdict = replace(verdict, shape=given.shape, note=court.notes.get(verdict.name, ""))
    if truth.dtype.kind != "f":
        return _judge_ids(court, verdict, given, truth, parted)
    status, note = _form(court, given, truth)
    if status != OK:
        return _noted(replace(verdict, status=status), note)
    verdict = _judge_floats(court, verdict, given.astype(numpy.float64), truth, parted)
    return _noted(verdict, _top_note(verdict, given, truth))


def _noted(verdict: Verdict, note: str) -> Verdict:
    return replace(verdict, note="; ".join(filter(None, (verdict.note, note))))


# --- ids, and what is no number that could be judged ----------------------------------------------


def _judge_ids(
    court: Court, verdict: Verdict, given: numpy.ndarray, truth: numpy.ndarray, parted: bool
) -> Verdict:
    """Ids are equal or not. Those that follow from the candidate's own values are inherited."""
    status, note = compare_ids(given, truth)
    forced = None if court.forced is None else court.forced.dump.values.get(verdict.name)
    origin = ""
    if status == DIFF and forced is not None:
        origin = INHERITED if numpy.array_equal(given, forced) else INTRODUCED
        if origin == INHERITED and not parted:  # numbers that are almost the same changed places
            status = ROUNDING
    return _noted(replace(verdict, status=status, origin=origin), note)


def _form(court: Court, given: numpy.ndarray, truth: numpy.ndarray) -> tuple[str, str]:
    """OK, or what is wrong with a value before its numbers are looked at, and in which words."""
    arithmetic = court.floors.arithmetic
    if given.dtype.kind != "f":
        return DTYPE, f"expected floats, got {given.dtype}"
    if given.shape != truth.shape:
        hint = hints.of_shape(given.shape, truth.shape, court.call)
        return SHAPE, f"expected {truth.shape}, got {given.shape}{hint and f'; {hint}'}"
    if too_narrow(given.dtype, arithmetic):
        return DTYPE, f"{arithmetic} numbers do not fit in {given.dtype}"
    return OK, ""


def _top_note(verdict: Verdict, given: numpy.ndarray, truth: numpy.ndarray) -> str:
    """Of logits over a vocabulary: whether the best guesses are the same."""
    if verdict.kind != OUTPUT or not verdict.name.endswith("logits") or truth.ndim < 3:
        return ""
    if truth.shape[-1] <= 2 * max(_TOP) or not numpy.isfinite(given).all():
        return ""
    agree = [top_agreement(given, truth, k) for k in _TOP]
    words = [f"top {k} at {same} of {all_}" for k, (same, all_) in zip(_TOP, agree, strict=True)]
    return f"the same {', '.join(words)} places"


# --- floats ---------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """An error of one kind: free-running, or introduced here."""

    error: numpy.ndarray  # with its sign
    errors: Errors
    floor: Errors

    @property
    def units(self) -> dict[str, float]:
        """The statistics in their floors."""
        names = {"max_abs": "worst", "rms": "rms", "cell": "cell"}
        return {k: ratio(getattr(self.errors, x), getattr(self.floor, x)) for k, x in names.items()}


def _judge_floats(
    court: Court, verdict: Verdict, given: numpy.ndarray, truth: numpy.ndarray, parted: bool
) -> Verdict:
    name, limit = verdict.name, court.floors.multiplier
    axes = court.call.axes(name, truth.shape)
    if court.ignore_padding:
        padded = padded_elements(axes, truth.shape)
        given = given if padded is None else numpy.where(padded, truth, given)
    own = _introduced(court, name, given, truth)
    if name in court.left_open:  # there the candidate need not be as we are, but true to itself
        given = numpy.where(court.left_open[name], truth, given)
        verdict = _noted(verdict, unseeing.NOTE)
    free = _part(given, truth, court.floors.free[name])
    units = max(free.units.values())
    introduced = None if own is None else max(own.units.values())
    status, origin = _status(units, introduced, limit, parted)
    shown = own if own is not None and origin == INTRODUCED else free
    not_finite = int(numpy.isinf(shown.error).sum()) if status == DIFF else 0
    if not_finite:
        status = NAN
        verdict = _noted(verdict, f"{not_finite} of {truth.size} not finite, or should not be")
    metrics = measure(given, truth)
    return replace(
        verdict,
        **metrics._asdict(),
        status=status,
        units=units,
        introduced=introduced,
        origin=origin,
        in_units=free.units,
        where=""
        if status in (OK, ROUNDING)
        else where(shown.error, shown.floor.worst, axes, court.call.language),
    )


def _status(units: float, introduced: float | None, limit: float, parted: bool) -> tuple[str, str]:
    """Say whether it is rounding, and whose error it is.

    >>> _status(30.0, 0.5, 4.0, parted=False), _status(30.0, 0.5, 4.0, parted=True)
    (('ROUNDING', 'inherited'), ('DIFF', 'inherited'))
    """
    if introduced is not None and introduced > limit:
        return DIFF, INTRODUCED
    if units <= 1.0:
        return OK, ""
    if units <= limit:
        return ROUNDING, ""
    if introduced is None:
        return DIFF, ""
    return (DIFF if parted else ROUNDING), INHERITED


def _introduced(
    court: Court, name: str, given: numpy.ndarray, truth: numpy.ndarray
) -> _Part | None:
    """The error that arose here: against what the candidate's own values give.

    The floor is that of the operation alone, where the candidate shows what it is fed with. Where
    it does not, or where two outputs should be one, there is a longer way in between, and the
    floor is that of all the way from the inputs.
    """
    if court.forced is None:
        return None
    expected = court.forced.dump.values.get(name)
    if expected is None or expected.shape != given.shape:
        return None
    long_way = name in court.forced.far or name in court.copies
    floor = (court.floors.free if long_way else court.floors.forced)[name]
    if court.ignore_padding:
        padded = padded_elements(court.call.axes(name, truth.shape), truth.shape)
        expected = expected if padded is None else numpy.where(padded, given, expected)
    if name in court.left_open and (long_way or place_of(name) == "probs"):
        expected = numpy.where(court.left_open[name], given, expected)
    grown = _growth(expected, truth)
    return _part(given, expected, Errors(*(x * grown for x in floor)))


def _growth(expected: numpy.ndarray, truth: numpy.ndarray) -> float:
    """How many times as large the values are that a mistake made earlier; at least 1.

    Rounding grows with what is rounded.
    """
    if expected is truth:
        return 1.0
    size, usual = (root_mean_square(_finite(x)) for x in (expected, truth))
    return max(1.0, size / usual) if size and usual else 1.0


def _finite(x: numpy.ndarray) -> numpy.ndarray:
    finite = numpy.isfinite(x)
    return x if finite.all() else x[finite]


def _part(given: numpy.ndarray, expected: numpy.ndarray, floor: Errors) -> _Part:
    error = differences(given, expected)
    return _Part(error, sizes(error), floor)
