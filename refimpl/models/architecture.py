"""What the rest of the program needs to know of an architecture: one entry per published class.

An architecture file describes its encoder, a head file the heads; :func:`with_heads` joins them to
the classes whose names stand in a config.json.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy

from refimpl.checkpoints.names import NameRules, Shape
from refimpl.models.inputs import Input, Inputs

Shapes = dict[str, Shape]  # name and shape of tensors
Check = Callable[[Any, Mapping[str, numpy.ndarray], int], None]  # config, inputs, kept tokens
FLAGS = ("output_hidden_states", "output_attentions")


class Encoder(NamedTuple):
    """A model without a head, as its file describes it."""

    config: type
    base: str  # the prefix under which a class with a head keeps it
    parameters: Callable[[Any], Shapes]
    inputs: Callable[[Any], Inputs]  # config -> the arguments of a call
    sizes: Callable[[Any], Mapping[str, int]]  # config -> the letters of shapes that it fixes
    check: Check  # what no single input can tell
    forward: Callable[..., Any]  # (weights, config, **inputs) -> outputs
    flags: tuple[str, ...] = ()  # switches of a call beside output_hidden_states and _attentions
    state: str = ""  # the argument that takes what an earlier call kept
    optional: Callable[[Any], tuple[str, ...]] = lambda config: ()  # modules a file need not hold
    buffers: tuple[str, ...] = ()  # no weights: constants that old files carry along
    pooler: Callable[[Any], Shapes] | None = None  # its tensors, where the family has one


class Head(NamedTuple):
    """What one class adds to its encoder."""

    parameters: Callable[[Any], Shapes]
    inputs: Callable[[Any], Inputs]
    forward: Callable[..., Any]  # (encode, weights, config, **inputs) -> outputs
    pooler: bool = False  # the class's encoder has a pooler
    per_choice: bool = False  # each text is a choice: inputs have an axis more
    refuses: tuple[str, ...] = ()  # arguments of the encoder that the class does not take
    old_names: Mapping[str, str] = {}
    ties: Callable[[Any], Mapping[str, str]] = lambda config: {}


class Architecture(NamedTuple):
    """A class whose name may stand in a config.json, and how it is run."""

    config: type
    parameters: Callable[[Any], Shapes]
    rules: Callable[[Any], NameRules]  # config -> what a file may call otherwise
    inputs: Callable[[Any], Inputs]
    sizes: Callable[[Any], Mapping[str, int]]
    check: Check
    forward: Callable[..., Any]
    flags: tuple[str, ...]
    state: str


def with_heads(family: str, encoder: Encoder, heads: Mapping[str, Head]) -> dict[str, Architecture]:
    """Return the published classes of a family: the encoder alone, and with each head.

    ``with_heads("XLMRoberta", ...)`` has the keys "XLMRobertaModel", "XLMRobertaForMaskedLM", ...
    """
    classes = {f"{family}Model": _alone(encoder)}
    return classes | {family + name: _with_head(encoder, head) for name, head in heads.items()}


def _alone(encoder: Encoder) -> Architecture:
    """The encoder and its pooler. A file that was saved without a pooler loads, and has none."""
    pooler = encoder.pooler or (lambda config: {})
    return Architecture(
        config=encoder.config,
        parameters=lambda config: encoder.parameters(config) | pooler(config),
        rules=lambda config: NameRules(
            encoder.base,
            buffers=encoder.buffers,
            optional=("pooler", *encoder.optional(config)),
        ),
        inputs=encoder.inputs,
        sizes=encoder.sizes,
        check=encoder.check,
        forward=encoder.forward,
        flags=(*FLAGS, *encoder.flags),
        state=encoder.state,
    )


def _with_head(encoder: Encoder, head: Head) -> Architecture:
    base = encoder.base

    def encode(w: Any, config: Any, **inputs: Any) -> Any:
        return encoder.forward(w[base], config, **inputs)

    def parameters(config: Any) -> Shapes:
        shapes = encoder.parameters(config)
        if head.pooler and encoder.pooler:
            shapes |= encoder.pooler(config)
        return {f"{base}.{name}": shape for name, shape in shapes.items()} | head.parameters(config)

    def inputs(config: Any) -> Inputs:
        forms = {n: x for n, x in encoder.inputs(config).items() if n not in head.refuses}
        if head.per_choice:
            forms = {name: _per_choice(of_name) for name, of_name in forms.items()}
        return {**forms, **head.inputs(config)}

    def rules(config: Any) -> NameRules:
        return NameRules(
            base,
            old_names=head.old_names,
            ties=head.ties(config),
            buffers=tuple(f"{base}.{name}" for name in encoder.buffers),
            # The published masked-LM files hold a pooler that the class does not have.
            optional=tuple(f"{base}.{name}" for name in encoder.optional(config)),
            unused=() if head.pooler else (f"{base}.pooler",),
        )

    return Architecture(
        config=encoder.config,
        parameters=parameters,
        rules=rules,
        inputs=inputs,
        sizes=encoder.sizes,
        check=encoder.check,
        forward=partial(head.forward, encode),
        flags=(*FLAGS, *encoder.flags),
        state=encoder.state,
    )


def _per_choice(forms: tuple[Input, ...]) -> tuple[Input, ...]:
    """The forms of an input whose texts are choices: (B, S) becomes (B, C, S).

    A mask for each query (B, S, T) has none: the axes would read the same.
    """
    return tuple(
        replace(form, shapes=tuple(re.sub(r"^B\b", "B C", s) for s in form.shapes if s != "B S T"))
        for form in forms
    )


def linear_shapes(name: str, outputs: int, inputs: int) -> Shapes:
    """The two tensors of a linear map: weight (O, I), bias (O)."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def layer_norm_shapes(name: str, width: int) -> Shapes:
    """The two tensors of a layer norm: weight (D), bias (D)."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
