"""``compare`` with the original as the candidate: it holds, or parts where a mistake is made.

The mistakes are those of ``mistakes/``, made in the original, which then runs in float32: each in
one of its families, or, where ``REFIMPL_MISTAKES`` is "all", in all of them.
"""

import os
import warnings
import zlib
from dataclasses import replace

import pytest

from refimpl.adapters.torch import dump
from refimpl.parity.comparison import compare, sentence
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults import CATALOGUE, place_of
from tests.oracle.mistakes import answers, attention, embeddings, layers
from tests.oracle.mistakes.port import PREFIX, Port
from tests.oracle.mistakes.registry import MISTAKES, SHOW, draw
from tests.oracle.originals import adaptive_softmax_of_places, as_tensors, make_original, save

pytestmark = pytest.mark.oracle

FILES = (embeddings, layers, attention, answers)  # which fill MISTAKES when they are imported
RUNS = 16
IMPLEMENTATIONS = [*((family, "eager") for family in PREFIX), ("xlm_roberta", "sdpa")]


def as_port(model, inputs, dtype="float32"):
    """What the original computes, as a dump without the inputs: they are another matter."""
    import torch

    model = model.to(getattr(torch, dtype)).eval()
    tensors = {n: x.to(model.dtype) if torch.is_tensor(x) and x.is_floating_point() else x
               for n, x in as_tensors(inputs).items()}  # fmt: skip
    with adaptive_softmax_of_places(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = dump(model, **tensors)
    return replace(found, inputs={})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("family", "implementation"), IMPLEMENTATIONS)
def test_the_original_holds(family, implementation, dtype, tmp_path):
    one = draw(family, MISTAKES["gelu_tanh", family, 0])
    model = make_original(one, zlib.crc32(family.encode()))
    folder = save(model, tmp_path)
    inputs = {name: x for name, x in one.inputs.items() if name not in SHOW}
    if implementation == "sdpa":
        model = type(model).from_pretrained(folder, attn_implementation="sdpa").eval()
    report = compare(folder, as_port(model, inputs, dtype), inputs=inputs, runs=2 * RUNS)
    assert report.held, sentence(report)
    assert report.arithmetic == dtype
    taps = [v for v in report.verdicts if v.kind == "tap"]
    missing = {v.name.rpartition(".")[2] for v in taps if not v.compared}
    assert missing == (set() if implementation == "eager" else {"scores", "probs"})


def in_float32(model, inputs):
    """What the original computes in float32, or in float64 where the mistake needs that."""
    try:
        return as_port(model, inputs)
    except RuntimeError:  # of PyTorch: numbers of two kinds, or too large for float32
        found = as_port(model, inputs, "float64")
        taps, outputs = (
            {n: x.astype("float32") if x.dtype.kind == "f" else x for n, x in part.items()}
            for part in (found.taps, found.outputs)
        )
        return replace(found, taps=taps, outputs=outputs)


# What changes less than float32 rounds: the nearest float16 to 1e-5.
TOO_SMALL = {"norm_eps_in_float16"}

# Where the mistake is made in the original, and its modules show it, if elsewhere than in a port.
MADE_IN = {
    "query_bias_not_scaled": ("query",),
    "scale_on_query": ("query",),
    "words_scaled": ("words",),
    "padding_vector_zeroed": ("words",),
    "positions_behind_embedding_norm": ("positions",),
    "xlm_languages_behind_norm": ("languages",),
    "final_norm_added": ("ffn_norm", "attention_norm"),
    "norm_before_residual": ("attention_out",),
    "norm_eps_in_float16": ("ffn_norm", "before_adapter"),  # whose variance is the smallest
    "xmod_adapter_adds_nothing": ("ffn_norm", "attention_norm"),
    "xmod_residual_on_the_other_side": ("adapter_down",),
}


def may_be_first(fault, report):
    """Whether the first value that parts is one that the fault may part first.

    Where the candidate does not show what comes before, one of those that it does not show may be.
    """
    if place_of(report.first.name) in MADE_IN.get(fault.name, ()):
        return True
    first, names = report.first, [v.name for v in report.verdicts]
    at = names.index(first.name)
    since = names.index(first.since) + 1 if first.since else at
    hidden = [v.name for v in report.verdicts[since:at] if not v.compared]
    return any(fault.may_part_first(name) for name in (first.name, *hidden))


def made():
    """The mistakes to make: (fault, family, number)."""
    if os.environ.get("REFIMPL_MISTAKES") == "all":
        return list(MISTAKES)
    of_fault = {}
    for key in MISTAKES:
        of_fault.setdefault(key[0], []).append(key)
    return [keys[zlib.crc32(fault.encode()) % len(keys)] for fault, keys in of_fault.items()]


@pytest.mark.parametrize("key", made(), ids=lambda key: "-".join(map(str, key)))
def test_a_mistake_parts_where_it_is_made(key, tmp_path, monkeypatch):
    name, family, _ = key
    one, fault = draw(family, MISTAKES[key]), CATALOGUE[name]
    model = make_original(one, zlib.crc32(name.encode()))
    folder = save(model, tmp_path)
    port = Port(model, family, dict(one.inputs), monkeypatch)
    MISTAKES[key].make(port)
    found = in_float32(model, port.inputs)
    outputs = port.outputs(dict(found.outputs))
    shown = Dump(found.taps, outputs)
    report = compare(folder, shown, inputs=one.inputs, arithmetic="float32", runs=RUNS)
    if report.first is None:
        assert fault.equivalent or name in TOO_SMALL, sentence(report)
    else:
        assert may_be_first(fault, report), sentence(report)
