"""The two runs that the live tests compare: an original's, and refimpl's of the same checkpoint."""

import contextlib
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy

from refimpl.backend import to_numpy
from refimpl.models.model import load
from refimpl.parity.compare import NORM, compare_exact, compare_floats
from refimpl.parity.goldens import flatten
from refimpl.taps import record as record_ours

FAMILIES = ("XLM", "XLMRoberta", "XLMRobertaXL", "Xmod")


@dataclass(frozen=True)
class Draw:
    """A checkpoint and a call of it."""

    family: str
    head: str
    config: dict
    inputs: dict  # NumPy arrays and flags

    @property
    def name(self):
        return self.family + self.head


@dataclass(frozen=True)
class Run:
    """What a model computed, by name, in order."""

    taps: dict
    outputs: dict


def make_original(one, seed):
    """Return the original of a draw, with random weights, in float64."""
    from golden.make.case import make_model

    return make_model(one.family, one.head, one.config, seed).double()


def save(model, folder):
    """Write a checkpoint that refimpl reads; return its folder."""
    model.save_pretrained(folder)
    return folder


def as_tensors(inputs):
    import torch

    tensors = {n: torch.tensor(x) if isinstance(x, numpy.ndarray) else x for n, x in inputs.items()}
    return {
        n: x.double() if torch.is_tensor(x) and x.is_floating_point() else x
        for n, x in tensors.items()
    }


def run_original(model, inputs):
    from golden.make import record

    with adaptive_softmax_of_places():
        taps, outputs = record.run(model, as_tensors(inputs))
    if "inputs_embeds" in inputs:  # then XLM looks up its word table for token types only
        word_table = "transformer.embeddings", "embeddings"
        taps = {f"{n}.token_types" if n in word_table else n: x for n, x in taps.items()}
    return Run(
        {name: x.numpy() for name, x in taps.items()},
        {name: x.numpy() for name, x in outputs.items()},
    )


@contextlib.contextmanager
def adaptive_softmax_of_places():
    """XLMPredLayer for (B, S, D), as the goldens have it: transformers 4.57 fails on it."""
    from transformers.models.xlm.modeling_xlm import XLMPredLayer

    from golden.make.xlm import pred_layer_of_places

    plain = XLMPredLayer.forward

    def forward(self, x, y=None):
        return (pred_layer_of_places if self.asm else plain)(self, x, y)

    with mock.patch.object(XLMPredLayer, "forward", forward):
        yield


def run_ours(model, inputs):
    with record_ours() as taps:
        outputs = model(**inputs)
    return Run(
        {name: to_numpy(x) for name, x in taps.items()},
        {name: to_numpy(x) for name, x in flatten(outputs).items()},
    )


def load_ours(folder) -> Any:
    return load(folder, dtype="float64", kernels="plain")


def compare_all(actual, expected):
    """Yield a verdict on each value of ``expected``, whose names ``actual`` has in this order."""
    assert list(actual) == list(expected)
    for name, truth in expected.items():
        if truth.dtype.kind == "f":
            yield compare_floats(name, actual[name], truth, NORM, "float64")
        else:
            yield compare_exact(name, actual[name], truth)
