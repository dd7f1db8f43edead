"""Blind fixtures, for contrast: weights as a model has them before it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy

from refimpl.checkpoints.weights import Weights
from refimpl.models.model import ARCHITECTURES, Model
from refimpl.parity.strength.fixture import Fixture

STANDARD_DEVIATION = 0.02


def fresh(fixture: Fixture, inputs: Mapping[str, Any] | None = None, seed: int = 0) -> Fixture:
    """Return a fixture of the same architecture, with weights that are freshly initialised.

    ``inputs`` None keeps those of the fixture.
    """
    model = replace(fixture.model, weights=Weights(_Fresh(fixture.model, seed)))
    given = fixture.inputs if inputs is None else inputs
    return Fixture(
        f"{fixture.name} (fresh weights)", model, given, fixture.arithmetic, fixture.runs
    )


class _Fresh(Mapping[str, Any]):
    """Matrices and tables by lot, biases 0, gains of norms 1, a padding row of zeros.

    Source: ``initializer_range`` and ``_init_weights`` of transformers 4.57.6.
    """

    def __init__(self, model: Model, seed: int) -> None:
        padding = getattr(model.config, "pad_token_id", getattr(model.config, "pad_index", None))
        lot = numpy.random.default_rng(seed)
        parameters = ARCHITECTURES[model.architecture].parameters(model.config)
        self._tensors = {
            name: _draw(name, shape, padding, lot)
            for name, shape in parameters.items()
            if name.rpartition(".")[0] in model.weights
        }

    def __getitem__(self, name: str) -> numpy.ndarray:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _draw(
    name: str, shape: tuple[int, ...], padding: int | None, lot: numpy.random.Generator
) -> numpy.ndarray:
    if name.endswith("bias"):
        return numpy.zeros(shape)
    if "norm" in name.lower():
        return numpy.ones(shape)
    x = lot.standard_normal(shape) * STANDARD_DEVIATION
    if padding is not None and name.endswith("word_embeddings.weight"):
        x[padding] = 0.0
    return x
