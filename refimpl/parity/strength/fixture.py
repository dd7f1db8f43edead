"""One golden as a test of ports: what it makes of a fault, in floors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from refimpl.models.model import Model, load
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults import Fault, run_faulty, why_not
from refimpl.parity.faults.run import family_of
from refimpl.parity.floors import (
    RUNS,
    Arithmetic,
    Floors,
    find_arithmetic,
    measure_errors,
    measure_floors,
    read_floors,
    represent,
    represent_inputs,
)
from refimpl.parity.goldens import read_golden
from refimpl.parity.reference import as_dump, run_forced, run_reference
from refimpl.parity.staged import AS_WRITTEN, attention_in
from refimpl.replacing import replace

Values = Mapping[str, numpy.ndarray]


class Seen(NamedTuple):
    """Where a fault is largest beside rounding."""

    units: float  # in floors; infinity where a value has another shape, or is not finite
    name: str  # the tap or output


NOTHING = Seen(0.0, "")


@dataclass(frozen=True)
class Fixture:
    """A checkpoint and a call of it, by which ports of one arithmetic are judged."""

    name: str
    model: Model  # in float64, on the weights as the arithmetic stores them
    inputs: Mapping[str, Any]  # as a port of that arithmetic is given them
    arithmetic: Arithmetic
    runs: int = RUNS
    known: Floors | None = None  # measured before

    @property
    def family(self) -> str:
        """One of ``refimpl.parity.faults.FAMILIES``."""
        return family_of(self.model)

    @cached_property
    def reference(self) -> Dump:
        """What is right, in float64."""
        return run_reference(self.model, self.inputs)

    @property
    def truth(self) -> Values:
        """Every tap and output, in float64."""
        return self.reference.values

    @cached_property
    def floors(self) -> Floors:
        """How far off honest runs are here; measured when first asked for, if not before."""
        return self.known or measure_floors(
            self.model, self.inputs, self.arithmetic.name, self.runs
        )

    def refusal(self, fault: Fault) -> str:
        """Say why a fault cannot matter here; "" where it can."""
        return why_not(fault, self.model, self.inputs)

    @cached_property
    def doubtful(self) -> frozenset[str]:
        """The values at which a port without any mistake would seem to have one."""
        found = self._judge(self.port())
        return frozenset(n for n, units in found.items() if units > self.floors.multiplier)

    def port(self, *faults: Fault) -> Values:
        """Return what a port with the faults computes, in float64.

        Its arithmetic is as good as can be: each operation exact, each result kept in the port's
        format. So what is seen of it is the fault, not the rounding of one implementation.
        """

        def keep(_: str, x: numpy.ndarray) -> numpy.ndarray:
            return represent(self.arithmetic, x)

        attend = attention_in(AS_WRITTEN, keep)
        with numpy.errstate(all="ignore"), replace(scaled_dot_product_attention=attend):
            taps, outputs = run_faulty(self.model, self.inputs, faults, keep)
        found = as_dump(self.model, self.inputs, taps, outputs).values
        return {name: represent(self.arithmetic, x) for name, x in found.items()}

    def look(self, fault: Fault) -> Seen:
        """Return where a port with the fault is off most, as ``compare`` would judge it."""
        found = self._judge(self.port(fault))
        seen = (Seen(units, n) for n, units in found.items() if units)
        return max((s for s in seen if s.name not in self.doubtful), default=NOTHING)

    def _judge(self, values: Values) -> dict[str, float]:
        """How far each value is off, in floors.

        Each operation is judged by what it makes of the port's own values before it.
        """
        with numpy.errstate(all="ignore"):
            expected = run_forced(self.model, self.inputs, values).values
        missing = dict.fromkeys(set(self.truth) - set(values), math.inf)
        known = (name for name in values if name in expected)
        return missing | {name: self._units(name, values[name], expected[name]) for name in known}

    def _units(self, name: str, x: numpy.ndarray, expected: numpy.ndarray) -> float:
        if x.shape != expected.shape:
            return math.inf
        if x.dtype.kind != "f":
            return 0.0 if numpy.array_equal(x, expected) else math.inf
        if name not in self.floors.forced:
            return math.inf
        units = self.floors.units(name, measure_errors(x, expected), forced=True)
        return 0.0 if math.isnan(units) else units


def read_fixture(folder: Path, arithmetic: str = "float32", runs: int | None = None) -> Fixture:
    """Make a golden case a fixture.

    ``runs`` None takes the floors that stand beside it, where they do. Raises ``CheckpointError``
    for a case that cannot be read.
    """
    how = find_arithmetic(arithmetic)
    golden = read_golden(folder)
    model = how.weights(load(folder, dtype="float64", kernels="plain"))
    known = read_floors(golden, arithmetic) if runs is None else None
    inputs = represent_inputs(how, golden.inputs())
    return Fixture(golden.name, model, inputs, how, runs or RUNS, known)


def read_fixtures(
    folders: Sequence[Path], arithmetic: str = "float32", runs: int | None = None
) -> Iterator[Fixture]:
    """Yield a fixture for each case folder."""
    for folder in folders:
        yield read_fixture(folder, arithmetic, runs)
