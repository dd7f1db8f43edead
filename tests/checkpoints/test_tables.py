"""Tables among weights that are kept: the same numbers, and only the rows in use are converted."""

import numpy
import pytest

from refimpl.backend import Table
from refimpl.checkpoints import tables
from refimpl.checkpoints.tables import TabledTensors
from refimpl.checkpoints.weights import Weights
from refimpl.models.model import load
from refimpl.parity.comparison import compare
from refimpl.parity.floors import ARITHMETICS, draw_implementation, run_honest
from refimpl.parity.goldens import bundled, read_golden
from refimpl.parity.reference import run_reference
from tests.compare import assert_same

CASES = ("xlm_roberta/masked_lm", "xmod/masked_lm", "xlm/lm")
each = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def every_table(monkeypatch):
    """Matrices of any size are tables, so that small models have some."""
    monkeypatch.setattr(tables, "LARGE", 1)


def plain(folder, dtype):
    return load(folder, dtype=dtype, kernels="plain")


def tabled(model):
    model.weights = Weights(TabledTensors(model.weights.arrays))
    return model


@each
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_run_is_the_same_with_tables(case, dtype, every_table):
    golden = read_golden(bundled() / case)
    kept = run_reference(plain(golden.folder, dtype), golden.inputs()).values
    model = tabled(plain(golden.folder, dtype))
    assert any(isinstance(x, Table) for x in model.weights.arrays.values())
    found = run_reference(model, golden.inputs()).values
    assert list(found) == list(kept)
    for name, x in kept.items():
        assert_same(found[name], x)


@each
@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16", "float16-weights"])
@pytest.mark.parametrize("number", range(4))
def test_an_honest_run_is_the_same_with_tables(case, arithmetic, number, every_table):
    golden, how = read_golden(bundled() / case), ARITHMETICS[arithmetic]
    drawn = [draw_implementation(how, number) for _ in range(2)]  # lots are used up
    exact = [load(golden.folder, dtype="float64"), tabled(load(golden.folder, dtype="float64"))]
    kept, found = (
        run_honest(one, how.computing(how.weights(model)), golden.inputs()).values
        for one, model in zip(drawn, exact, strict=True)
    )
    for name, x in kept.items():
        assert_same(numpy.asarray(found[name]), numpy.asarray(x))


@each
def test_a_comparison_is_the_same_with_tables(case, monkeypatch):
    golden = read_golden(bundled() / case)
    candidate = run_reference(load(golden.folder, dtype="float32"), golden.inputs())
    without = compare(golden.folder, candidate, runs=2)
    monkeypatch.setattr(tables, "LARGE", 1)
    assert compare(golden.folder, candidate, runs=2).verdicts == without.verdicts


def test_matrices_of_layers_and_vectors_are_no_tables(every_table):
    model = tabled(load(bundled() / "xlm_roberta" / "masked_lm"))
    found = {name for name, x in model.weights.arrays.items() if isinstance(x, Table)}
    assert "roberta.embeddings.word_embeddings.weight" in found
    assert not any(".layer." in name or name.endswith("bias") for name in found)


def test_small_matrices_are_no_tables():
    model = tabled(load(bundled() / "xlm_roberta" / "masked_lm"))
    assert not any(isinstance(x, Table) for x in model.weights.arrays.values())
