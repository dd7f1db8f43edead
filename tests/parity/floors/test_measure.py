"""Floors of single operations are those of a port's numbers, not of the truth's own."""

from functools import cache

from refimpl.models.model import load
from refimpl.parity.floors import (
    ARITHMETICS,
    draw_implementation,
    measure,
    measure_errors,
    measure_floors,
    represent_inputs,
    run_honest,
)
from refimpl.parity.goldens import read_golden
from refimpl.parity.reference import run_forced
from tests.conftest import case_folder

CASE, HELD_OUT = "xlm_roberta/one_token", 1000


@cache
def model_and_inputs():
    golden = read_golden(case_folder(CASE))
    model = load(golden.folder, golden.description["architecture"], "float64", kernels="plain")
    return model, golden.inputs()


def worst_units(arithmetic):
    """How far held-out honest runs are off at most, each operation given what the run gave it."""
    (model, inputs), how = model_and_inputs(), ARITHMETICS[arithmetic]
    floors = measure_floors(model, inputs, arithmetic)
    exact, given = how.weights(model), represent_inputs(how, inputs)
    worst = 0.0
    for number in range(HELD_OUT, HELD_OUT + 12):
        found = run_honest(draw_implementation(how, number), how.computing(model), given).values
        expected = run_forced(exact, given, found).values
        errors = {n: measure_errors(x, expected[n]) for n, x in found.items()}
        worst = max(worst, *(floors.units(n, e, forced=True) for n, e in errors.items()))
    return worst


def test_what_a_port_gives_its_operations_is_rounded_well_within_their_floors(monkeypatch):
    """On the truth alone all honest runs round the same numbers, and may do well by luck."""
    several = worst_units("bfloat16")
    assert several < measure.MULTIPLIER / 2
    monkeypatch.setattr(measure, "POINTS", 1)
    assert worst_units("bfloat16") > 1.5 * several
