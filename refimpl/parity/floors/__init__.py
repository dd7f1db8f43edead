"""Measured floors: how far off a correct implementation may be, at every tap, in each arithmetic.

    floors = measure_floors(load(path, dtype="float64"), inputs, "bfloat16")
    floors.units(name, measure_errors(actual, truth)) > floors.multiplier  # no rounding

Against the float64 truth stands an ensemble of honest implementations, which compute the same in
other orders and roundings. ``docs/parity.md`` has how many false alarms this makes.
"""

from refimpl.parity.floors.arithmetic import ARITHMETICS, Arithmetic, find_arithmetic
from refimpl.parity.floors.floor import (
    Errors,
    Floor,
    Floors,
    differences,
    measure_errors,
    ratio,
    sizes,
)
from refimpl.parity.floors.implementation import Implementation, draw_implementation
from refimpl.parity.floors.measure import (
    MULTIPLIER,
    RUNS,
    measure_floors,
    represent,
    represent_inputs,
    run_honest,
)
from refimpl.parity.floors.stored import read_floors, write_floors

__all__ = [
    "ARITHMETICS",
    "MULTIPLIER",
    "RUNS",
    "Arithmetic",
    "Errors",
    "Floor",
    "Floors",
    "Implementation",
    "differences",
    "draw_implementation",
    "find_arithmetic",
    "measure_errors",
    "measure_floors",
    "ratio",
    "read_floors",
    "represent",
    "represent_inputs",
    "run_honest",
    "sizes",
    "write_floors",
]
