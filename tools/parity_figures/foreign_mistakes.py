"""Mistakes that are no entry of the catalogue: what ``diagnose`` should not give a name to.

Each is drawn by lot: which tensor, head, layer or place, and how far. They are written as faults so
that an honest implementation can make them; ``diagnose`` never sees them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from refimpl.models.model import ARCHITECTURES, Model
from refimpl.parity.faults import Fault
from refimpl.parity.faults.run import Run

Lot = numpy.random.Generator
Array = Any


def draw_mistake(kind: str, lot: Lot, model: Model, taps: list[str]) -> Fault:
    """Draw a mistake of one of ``KINDS`` for a model; ``taps`` are those that a call of it has."""
    return KINDS[kind](lot, model, taps)


def _fault(**changes: Any) -> Fault:
    return Fault("foreign", "", "layers", "", "", "", (), **changes)


# --- one tensor -----------------------------------------------------------------------------------


def _tensors(model: Model, dimensions: int, last: str) -> list[str]:
    """The tensors of the layers: matrices ("weight", 2), their biases or a norm's vectors."""
    shapes = ARCHITECTURES[model.architecture].parameters(model.config)
    return [
        name
        for name, shape in shapes.items()
        if len(shape) == dimensions and name.endswith(last)
        if "emb" not in name.lower() and name.rpartition(".")[0] in model.weights
    ]


def _one(change: Callable[[Lot, Array], Array], dimensions: int, last: str, norm: bool) -> Any:
    """A change of one tensor, drawn by lot."""

    def draw(lot: Lot, model: Model, taps: list[str]) -> Fault:
        fitting = [n for n in _tensors(model, dimensions, last) if ("norm" in n.lower()) is norm]
        chosen, seed = str(lot.choice(fitting)), int(lot.integers(2**32))

        def of(run: Run, tensors: Any, name: str) -> Array:
            x = tensors[name]
            return change(numpy.random.default_rng(seed), x) if name == chosen else x

        return _fault(weights=of)

    return draw


def _at_one_row(become: Callable[[Array], Array]) -> Callable[[Lot, Array], Array]:
    def change(lot: Lot, x: Array) -> Array:
        chosen = numpy.arange(x.shape[0]) == int(lot.integers(x.shape[0]))
        return numpy.where(chosen.reshape(-1, *[1] * (x.ndim - 1)), become(x), x)

    return change


def _swap_two_rows(lot: Lot, x: Array) -> Array:
    order = numpy.arange(x.shape[0])
    i, j = lot.choice(len(order), 2, replace=False)
    order[[i, j]] = j, i
    return x[order]


def _of_another_layer(lot: Lot, model: Model, taps: list[str]) -> Fault:
    """One matrix is read from another layer."""
    names = _tensors(model, 2, "weight")
    of_layer = {n: n.replace(".0.", ".1.", 1) for n in names if ".0." in n}
    fitting = [n for n, other in of_layer.items() if other in names]
    chosen = str(lot.choice(fitting or names))
    other = of_layer.get(chosen, chosen)
    return _fault(weights=lambda run, tensors, n: tensors[other if n == chosen else n])


# --- one place ------------------------------------------------------------------------------------


def _tap(become: Callable[[Array], Array], *words: str) -> Any:
    """A change of one tap that has one of some words in its name."""

    def draw(lot: Lot, model: Model, taps: list[str]) -> Fault:
        fitting = [name for name in taps if any(word in name for word in words)]
        chosen = str(lot.choice(fitting or taps[2:]))
        return _fault(taps=lambda run, name, x: become(x) if name == chosen else x)

    return draw


def _function(name: str, function: Callable[[Array], Array]) -> Any:
    """Another function in the place of an operation, everywhere."""
    return lambda lot, model, taps: _fault(operations={name: lambda run, base: function})


def _sigmoid(x: Array, factor: float) -> Array:
    return x / (1.0 + numpy.exp(-factor * x))


_LINEAR = ("query", "value", "q_lin", "v_lin", "dense", "lin1", "lin2", "out_lin")

KINDS: dict[str, Callable[[Lot, Model, list[str]], Fault]] = {
    "a row of a matrix is half too large": _one(_at_one_row(lambda x: 1.5 * x), 2, "weight", False),
    "a row of a matrix is missing": _one(_at_one_row(lambda x: 0.0 * x), 2, "weight", False),
    "two rows of a matrix are exchanged": _one(_swap_two_rows, 2, "weight", False),
    "a matrix is a tenth too small": _one(lambda lot, x: 0.9 * x, 2, "weight", False),
    "a matrix is that of another layer": _of_another_layer,
    "one bias is missing": _one(lambda lot, x: 0.0 * x, 1, "bias", False),
    "one bias has the wrong sign": _one(lambda lot, x: -x, 1, "bias", False),
    "a bias is rolled by one": _one(lambda lot, x: numpy.roll(x, 1), 1, "bias", False),
    "one norm has no weight": _one(lambda lot, x: 0.0 * x + 1.0, 1, "weight", True),
    "one norm has no bias": _one(lambda lot, x: 0.0 * x, 1, "bias", True),
    "a result is 1 % too large": _tap(lambda x: 1.01 * x, *_LINEAR),
    "a result's features are rolled": _tap(lambda x: numpy.roll(x, 1, axis=-1), *_LINEAR),
    "a result is clipped": _tap(lambda x: numpy.clip(x, -0.5, 0.5), *_LINEAR),
    "a result of one text is missing": _tap(
        lambda x: numpy.concatenate([0.0 * x[:1], x[1:]]), *_LINEAR
    ),
    "scores are a tenth too large": _tap(lambda x: 1.1 * x, "scores"),
    "probabilities have a floor": _tap(lambda x: x + 0.01, "probs"),
    "GELU by a sigmoid of 1.5 x": _function("gelu_erf", lambda x: _sigmoid(x, 1.5)),
    "GELU is halved": _function("gelu_erf", lambda x: 0.5 * _sigmoid(x, 1.702)),
}
