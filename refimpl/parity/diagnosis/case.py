"""A candidate judged in one arithmetic: how far it is from the reference with faults in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any

import numpy

from refimpl.models.model import ARCHITECTURES, Model
from refimpl.parity.diagnosis.honest import run_honestly
from refimpl.parity.diagnosis.subject import Subject, Values, compute
from refimpl.parity.faults import Fault
from refimpl.parity.floors import (
    ARITHMETICS,
    MULTIPLIER,
    Arithmetic,
    Errors,
    measure_errors,
    represent,
    represent_inputs,
)
from refimpl.parity.floors.floor import largest, ratio

FALLEN = 0.7  # what an error falls to, at most, where a fault explains it
RUNS = (0, 1, 2, 3)  # honest implementations behind a proof
FEW = (0, 2)  # the same where a run takes seconds: as written, and all rounded by lot
NOTHING = Errors(0.0, 0.0, 0.0)
ABSENT = Errors(math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class Proof:
    """How far a candidate is from the reference with certain faults in it, in floors."""

    faults: tuple[Fault, ...]
    units: Mapping[str, float]  # of every value that the candidate has
    errors: Mapping[str, Errors]  # the same, not in floors
    truth: Mapping[str, numpy.ndarray] = field(repr=False)
    floors: Mapping[str, Errors] = field(repr=False)

    @property
    def worst(self) -> float:
        """The largest of all."""
        return max(self.units.values(), default=math.inf)

    @property
    def holds(self) -> bool:
        """Whether nothing is left but rounding."""
        return self.worst <= MULTIPLIER

    @property
    def first(self) -> str:
        """The first value beyond rounding; "" for none."""
        return next((name for name, x in self.units.items() if x > MULTIPLIER), "")

    @property
    def typical(self) -> float:
        """The median error, in floors: far below 1 where a narrower arithmetic ran."""
        floors = self.floors
        ratios = [
            e.rms / floors[n].rms
            for n, e in self.errors.items()
            if floors.get(n, NOTHING).rms > 0.0
        ]
        return median(ratios) if ratios else 0.0

    def falls_below(self, nothing: Proof) -> bool:
        """Whether all that parts without the faults is nearer with them: no floor hides it."""
        return all(
            self.errors[name].rms < FALLEN * nothing.errors[name].rms
            for name, units in nothing.units.items()
            if units > MULTIPLIER
        )


@dataclass(frozen=True)
class Case:
    """A subject, and the arithmetic that it is taken to have run in."""

    subject: Subject
    how: Arithmetic

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """The call, as a port of that arithmetic is given it."""
        return represent_inputs(self.how, self.subject.inputs)

    @cached_property
    def exact(self) -> Model:
        """float64, on the weights as the arithmetic stores them."""
        return self.how.weights(self.subject.model)

    @cached_property
    def quick(self) -> Model:
        """The same in float32, to look for what is worth computing exactly."""
        return self.exact if self.is_small else ARITHMETICS["float32"].computing(self.exact)

    @cached_property
    def computing(self) -> Model:
        """What runs as the port does."""
        return self.how.computing(self.subject.model)

    @cached_property
    def feed(self) -> Mapping[str, numpy.ndarray] | None:
        """What operations are fed with: the candidate's values, where it has any taps."""
        return self.subject.feed

    @cached_property
    def seconds(self) -> float:
        """About how long one run takes on one core: by the size of the model and of the call."""
        model = self.subject.model
        shapes = ARCHITECTURES[model.architecture].parameters(model.config)
        factors = sum(math.prod(s) for n, s in shapes.items() if len(s) == 2 and "emb" not in n)
        tokens = max((x.size // x.shape[-1] for x in self.subject.right.values() if x.ndim == 3),
                     default=1)  # fmt: skip
        return 5e-3 + 2.0 * factors * tokens / 5e10

    @property
    def is_small(self) -> bool:
        """Whether a run takes no time to speak of."""
        return self.seconds < 0.05

    @property
    def runs(self) -> tuple[int, ...]:
        """The honest implementations that say what rounding is."""
        return RUNS if self.is_small else FEW

    def prove(self, faults: Iterable[Fault] = ()) -> Proof:
        """Compare the candidate with the reference with faults in it, by floors of that."""
        faults = tuple(faults)
        truth = compute(self.exact, self.inputs, faults, self.feed)
        floors = self._floors(truth, faults)
        errors = {name: self._errors(name, truth) for name in self.subject.given}
        units = {
            name: max(ratio(*pair) for pair in zip(e, floors.get(name, NOTHING), strict=True))
            for name, e in errors.items()
        }
        return Proof(faults, units, errors, truth, floors)

    def _errors(self, name: str, truth: Values) -> Errors:
        given = self.subject.given[name]
        computed = self.subject.computed(name, truth)
        if not computed or any(x.shape != given.shape for x in computed):
            return ABSENT
        return largest([measure_errors(given, x) for x in computed])

    def _floors(self, truth: Values, faults: tuple[Fault, ...]) -> dict[str, Errors]:
        exact = {name: self.subject.computed(name, truth) for name in self.subject.given}
        found = {
            name: [measure_errors(represent(self.how, x), x) for x in values]
            for name, values in exact.items()
        }
        for number in self.runs:
            values = run_honestly(self.how, number, self.computing, self.inputs, faults, self.feed)
            for name, expected in exact.items():
                actual = self.subject.computed(name, values)
                found[name] += map(measure_errors, actual, expected)
        return {name: largest(errors) for name, errors in found.items()}
