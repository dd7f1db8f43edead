"""Mistakes made in transformers, in float32, are named from what transformers then computes."""

import numpy
import pytest

from refimpl.parity.diagnosis import diagnose
from refimpl.parity.faults import CATALOGUE

pytestmark = pytest.mark.oracle

# One of each area, in one family each.
SOME = [
    ("positions_one_short", "xlm_roberta"),
    ("padding_vector_zeroed", "xmod"),
    ("xlm_languages_shifted", "xlm"),
    ("norm_eps_outside_root", "xlm_roberta"),
    ("gelu_tanh", "xlm_roberta_xl"),
    ("biases_missing", "xlm"),
    ("heads_split_interleaved", "xmod"),
    ("mask_behind_softmax", "xlm_roberta"),
    ("residual_behind_norm", "xlm_roberta_xl"),
    ("layers_reversed", "xlm_roberta"),
    ("xmod_residual_missing", "xmod"),
    ("lm_norm_missing", "xlm_roberta"),
]


@pytest.fixture(params=SOME, ids=lambda pair: "-".join(pair))
def mistaken(request, monkeypatch, tmp_path):
    pytest.importorskip("transformers")
    from tests.oracle.mistakes import answers, attention, embeddings, layers  # noqa: F401
    from tests.oracle.mistakes.registry import MISTAKES
    from tools.parity_figures.identification import make_in_transformers

    name, family = request.param
    return make_in_transformers((name, family, 0), MISTAKES[name, family, 0], monkeypatch, tmp_path)


@pytest.mark.parametrize("outputs_only", [False, True])
def test_a_mistake_in_transformers_is_named(mistaken, outputs_only):
    found = diagnose(mistaken.model, mistaken.candidate, outputs_only=outputs_only)
    assert found.faults == tuple(fault.name for fault in mistaken.faults)
    assert found.arithmetic == "float32"


def test_the_candidates_are_in_float32(mistaken):
    kinds = {x.dtype for x in mistaken.candidate.values.values() if x.dtype.kind == "f"}
    assert kinds == {numpy.dtype("float32")}
    assert mistaken.faults[0].name in CATALOGUE
