"""What the rest of the program needs to know of an architecture: one entry per published class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy

from refimpl.checkpoints.names import NameRules, Shape
from refimpl.models.inputs import Inputs


class Encoder(NamedTuple):
    """A model without a head, as its file describes it."""

    config: type
    parameters: Callable[[Any], dict[str, Shape]]  # config -> name and shape of every tensor
    inputs: Callable[[Any], Inputs]  # config -> the arguments of a call
    check: Callable[[Any, Mapping[str, numpy.ndarray]], None]  # what no single input can tell
    forward: Callable[..., Any]  # (weights, config, **inputs) -> outputs


class Architecture(NamedTuple):
    """A class whose name may stand in a config.json, and how it is run."""

    config: type
    parameters: Callable[[Any], dict[str, Shape]]
    rules: Callable[[Any], NameRules]  # config -> what a file may call otherwise
    inputs: Callable[[Any], Inputs]
    sizes: Callable[[Any], Mapping[str, int]]  # config -> the letters of shapes that it fixes
    check: Callable[[Any, Mapping[str, numpy.ndarray]], None]
    forward: Callable[..., Any]


def linear_shapes(name: str, outputs: int, inputs: int) -> dict[str, Shape]:
    """The two tensors of a linear map: weight (O, I), bias (O)."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def layer_norm_shapes(name: str, width: int) -> dict[str, Shape]:
    """The two tensors of a layer norm: weight (D), bias (D)."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
