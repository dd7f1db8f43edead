"""The models that are timed: a checkpoint, or random weights of a published size, in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy

from refimpl.backend import get_backend
from refimpl.checkpoints.folder import find_folder
from refimpl.checkpoints.weights import Weights
from refimpl.models.config import parse_config
from refimpl.models.model import ARCHITECTURES, KERNELS, Model, load

ENCODER = "XLMRobertaModel"
VOCABULARY = 5000  # of the table only the rows in use are looked at
COMMON = {"vocab_size": VOCABULARY, "max_position_embeddings": 514, "type_vocab_size": 1,
          "layer_norm_eps": 1e-5, "pad_token_id": 1}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 256},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
             "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
              "intermediate_size": 4096},
}  # fmt: skip


class Subject(NamedTuple):
    """Which model is timed, and how it runs: all that another process needs to make the same."""

    checkpoint: str | None  # a folder or a hub id; None: random weights
    size: str = "base"
    dtype: str = "float32"
    backend: str = "numpy"
    kernels: str = "fused"
    packed: bool = False


def make_model(subject: Subject) -> Model:
    """Return the model.

    Raises what :func:`refimpl.load` raises, and ``ValueError`` for an unknown size.
    """
    if subject.checkpoint is not None:
        how = (subject.dtype, subject.backend, subject.kernels)
        return load(find_folder(subject.checkpoint), None, *how, packed=subject.packed)
    if subject.size not in SIZES:
        raise ValueError(f"size: expected one of {', '.join(SIZES)}, got {subject.size!r}")
    if subject.kernels not in KERNELS:
        raise ValueError(f"kernels: expected one of {', '.join(KERNELS)}, got {subject.kernels!r}")
    device = get_backend(subject.backend)
    dtype = device.dtype(subject.dtype)
    config: Any = parse_config(ARCHITECTURES[ENCODER].config, random_config(subject.size), Path())
    weights = {name: device.asarray(x, dtype) for name, x in random_weights(config).items()}
    return Model(
        ENCODER, config, Weights(weights), device, subject.dtype, subject.kernels, subject.packed
    )


def random_config(size: str) -> dict[str, Any]:
    """Return the config of a published size, as config.json has it, with a small vocabulary."""
    return {**COMMON, **SIZES[size]}


def random_weights(config: Any, seed: int = 0) -> dict[str, numpy.ndarray]:
    """Return float32 weights of the encoder by their published names, all of them random."""
    draw = numpy.random.default_rng(seed)
    weights = {}
    for name, shape in ARCHITECTURES[ENCODER].parameters(config).items():
        x = draw.standard_normal(shape, dtype=numpy.float32) * numpy.float32(0.03)
        weights[name] = x + 1 if name.endswith("LayerNorm.weight") else x
    return weights
