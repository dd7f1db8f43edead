"""Candidates made from goldens, and comparisons whose floors are measured once."""

from functools import cache

import pytest

from refimpl.models.model import load
from refimpl.parity.comparison import comparing
from refimpl.parity.faults import CATALOGUE
from refimpl.parity.floors import measure_floors
from refimpl.parity.goldens import read_golden
from refimpl.parity.reference import run_reference
from tests.conftest import case_folder

RUNS = 4


@cache
def candidate_of(case, *faults, dtype="float32"):
    """What a port of a case computes, with faults of the catalogue or none."""
    golden = read_golden(case_folder(case))
    model = load(golden.folder, golden.description["architecture"], dtype, kernels="plain")
    return run_reference(model, golden.inputs(), [CATALOGUE[name] for name in faults])


@pytest.fixture(scope="session")
def candidate():
    """A function from a case and names of faults to a port's dump in float32."""
    return candidate_of


@pytest.fixture(scope="session")
def _kept():
    return {}


@pytest.fixture
def compare(monkeypatch, _kept):
    """``compare`` with few honest runs, which are not run twice for one case."""

    def compare(case, dump, **options):
        def measure(model, inputs, arithmetic, *rest):
            key = (case, arithmetic)
            if key not in _kept:
                _kept[key] = measure_floors(model, inputs, arithmetic, RUNS)
            return _kept[key]

        monkeypatch.setattr(comparing, "measure_floors", measure)
        return comparing.compare(case_folder(case), dump, **{"runs": RUNS, **options})

    return compare
