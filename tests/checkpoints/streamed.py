"""What tests of ``stream=True`` share: runs to compare, a small checkpoint, its layers' sizes."""

import functools
import math

import numpy

import refimpl
from refimpl.backend import to_numpy
from refimpl.checkpoints import streaming
from refimpl.checkpoints.folder import open_tensors
from refimpl.models.model import load
from refimpl.parity import verify
from refimpl.parity.goldens import find_goldens, flatten
from tests.compare import assert_same

IDS = [[0, 17, 5, 23, 2]]
SMALL = {"vocab_size": 700, "hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 4,
         "intermediate_size": 128, "max_position_embeddings": 64, "type_vocab_size": 1,
         "layer_norm_eps": 1e-5, "pad_token_id": 1}  # fmt: skip


def run(folder, inputs, **options):
    """Return the taps, in order, and the outputs, as NumPy arrays by name."""
    model = load(folder, kernels="plain", **options)
    with refimpl.record() as taps:
        out = model(**inputs)
    return {name: to_numpy(x) for name, x in [*taps.items(), *flatten(out).items()]}


def assert_same_run(folder, inputs, **options):
    kept = run(folder, inputs, **options)
    streamed = run(folder, inputs, stream=True, **options)
    assert list(streamed) == list(kept)
    for name, x in kept.items():
        assert_same(streamed[name], x)


def assert_goldens_hold_in_parts(monkeypatch, backend):
    """Verify all goldens, with blocks of five rows, and files converted three numbers at a time."""
    monkeypatch.setattr(verify, "load", functools.partial(load, stream=True))
    monkeypatch.setattr(streaming, "BLOCK", 1)
    monkeypatch.setattr(streaming, "ROWS", 5)
    monkeypatch.setattr(streaming, "CHUNK", 12)
    report = verify.verify(dtype="float64", backend=backend)
    assert report.exit_code == 0, [case for case in report.cases if not case.held]
    assert len(report.cases) == len(find_goldens())


def sizes_of_layers(folder, dtype="float32"):
    """Return the bytes of one layer and of its largest linear map, in a dtype."""
    tensors, sizes = open_tensors(folder), {}
    for name in (name for name in tensors if "layer.0." in name):
        module = name.rpartition(".")[0]
        size = math.prod(tensors.shape(name)) * numpy.dtype(dtype).itemsize
        sizes[module] = sizes.get(module, 0) + size
    return sum(sizes.values()), max(sizes.values())
