"""The faults of the catalogue are the mistakes that they say: made in the original too.

Each function of ``mistakes/`` makes one mistake in the original, in the terms of the original:
other weights, hooks, forward functions written anew. The original with the mistake and refimpl
with the fault must agree at every output, hidden states and attentions among them.
"""

import math
import zlib

import numpy
import pytest

from refimpl.backend import to_numpy
from refimpl.parity.compare import relative_error
from refimpl.parity.faults import CATALOGUE, run_faulty
from refimpl.parity.goldens import flatten
from tests.oracle.mistakes import answers, attention, embeddings, layers
from tests.oracle.mistakes.port import Port
from tests.oracle.mistakes.registry import MISTAKES, draw
from tests.oracle.originals import compare_all, load_ours, make_original, run_original, save

pytestmark = pytest.mark.oracle

FILES = (embeddings, layers, attention, answers)  # which fill MISTAKES when they are imported

NOT_MADE = {
    "positions_restart_behind_cache",  # needs what an earlier call kept: tests/parity has it
}

# A mistake that changes less than this would agree with a fault that does nothing.
VISIBLE = 1e-10


@pytest.mark.parametrize("key", MISTAKES, ids=lambda key: "-".join(map(str, key)))
def test_the_fault_is_that_mistake(key, tmp_path, monkeypatch):
    name, family, _ = key
    one, fault = draw(family, MISTAKES[key]), CATALOGUE[name]
    model = make_original(one, zlib.crc32(name.encode()))
    ours = load_ours(save(model, tmp_path))
    right = run_original(model, one.inputs).outputs

    port = Port(model, family, dict(one.inputs), monkeypatch)
    MISTAKES[key].make(port)
    expected = port.outputs(run_original(model, port.inputs).outputs)
    assert (farthest(right, expected) > VISIBLE) is not bool(fault.equivalent)

    _, outputs = run_faulty(ours, one.inputs, [fault])
    actual = {n: to_numpy(x) for n, x in flatten(outputs).items()}
    assert [c for c in compare_all(actual, expected) if not c.ok] == []


def farthest(right, wrong):
    """The largest relative error of an output; infinity where they are not the same outputs."""
    if {n: x.shape for n, x in right.items()} != {n: x.shape for n, x in wrong.items()}:
        return math.inf
    if not all(numpy.isfinite(x).all() for x in wrong.values()):
        return math.inf
    return max(relative_error(x, right[n]) for n, x in wrong.items())


def test_every_fault_is_made_in_the_original():
    made = {fault for fault, *_ in MISTAKES}
    assert set(CATALOGUE) - made == NOT_MADE
    assert made <= set(CATALOGUE)


def test_every_family_of_a_fault_is_made():
    missing = [
        (name, family)
        for name, fault in CATALOGUE.items()
        for family in fault.families
        if name not in NOT_MADE and (name, family, 0) not in MISTAKES
    ]
    assert missing == []
