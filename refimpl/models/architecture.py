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

from refimpl.backend import Array, namespace
from refimpl.checkpoints.names import NameRules, Shape
from refimpl.checkpoints.weights import Weights
from refimpl.models import packing
from refimpl.models.inputs import Input, Inputs
from refimpl.models.lanes import PER_TEXT, Lane, run_lanes
from refimpl.models.packing import Packing

Shapes = dict[str, Shape]  # name and shape of tensors
Check = Callable[[Any, Mapping[str, numpy.ndarray], int], None]  # config, inputs, kept tokens
# config, inputs and switches, whether the head looks at first places -> mask (B, S), or None
Tokens = Callable[[Any, Mapping[str, Any], bool], numpy.ndarray | None]
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
    positions: Callable[..., Array]  # (config, ids or None, vectors) -> position ids
    tokens: Tokens  # where the tokens of a call are, if it can be computed without its padding
    flags: tuple[str, ...] = ()  # switches of a call beside output_hidden_states and _attentions
    state: str = ""  # the argument that takes what an earlier call kept
    optional: Callable[[Any], tuple[str, ...]] = lambda config: ()  # modules a file need not hold
    buffers: tuple[str, ...] = ()  # no weights: constants that old files carry along
    pooler: Callable[[Any], Shapes] | None = None  # its tensors, where the family has one
    pool: Callable[[Weights, Array], Array] | None = None  # what it computes


class Head(NamedTuple):
    """What one class adds to its encoder."""

    parameters: Callable[[Any], Shapes]
    inputs: Callable[[Any], Inputs]
    forward: Callable[..., Any]  # (encode, weights, config, **inputs) -> outputs
    pooler: bool = False  # the class's encoder has a pooler
    first: bool = False  # it looks at the first place of a text, as a pooler does
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
    tokens: Callable[[Any, Mapping[str, Any]], numpy.ndarray | None]
    forward: Callable[..., Any]
    flags: tuple[str, ...]
    state: str


def with_heads(family: str, encoder: Encoder, heads: Mapping[str, Head]) -> dict[str, Architecture]:
    """Return the published classes of a family: the encoder alone, and with each head.

    ``with_heads("XLMRoberta", ...)`` has the keys "XLMRobertaModel", "XLMRobertaForMaskedLM", ...
    """
    classes = {f"{family}Model": _alone(encoder)}
    return classes | {family + name: _with_head(encoder, head) for name, head in heads.items()}


def _encode(
    encoder: Encoder, w: Weights, config: Any, *, lanes: tuple[Lane, ...], **inputs: Any
) -> Any:
    """Run an encoder, and the pooler where the weights have one.

    The texts of each of the ``lanes`` go through the encoder by themselves; those that are packed,
    without their padding.
    """

    def forward(packed: Packing | None, **of_lane: Any) -> Any:
        if packed is None:
            return encoder.forward(w, config, **of_lane)
        return packing.run(encoder.forward, encoder.positions, w, config, packed, of_lane)

    out = run_lanes(forward, lanes, inputs)
    if encoder.pool is not None and "pooler" in w:
        out = out._replace(pooler_output=encoder.pool(w["pooler"], out.last_hidden_state))
    return out


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
        tokens=lambda config, inputs: encoder.tokens(config, inputs, encoder.pool is not None),
        forward=partial(_encode, encoder),
        flags=(*FLAGS, *encoder.flags),
        state=encoder.state,
    )


def _with_head(encoder: Encoder, head: Head) -> Architecture:
    base = encoder.base

    def encode(w: Any, config: Any, **inputs: Any) -> Any:
        return _encode(encoder, w[base], config, **inputs)

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

    def tokens(config: Any, inputs: Mapping[str, Any]) -> numpy.ndarray | None:
        texts = merge_inputs(inputs) if head.per_choice else inputs
        return encoder.tokens(config, texts, head.first)

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
        tokens=tokens,
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


def merge_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Let every choice be a text: (B, C, ...) becomes (B*C, ...) where there is a row for each.

    One row of positions (1, S) serves all texts as it is.
    """
    return {
        name: x if name not in PER_TEXT or (name == "position_ids" and x.ndim == 2) else _merge(x)
        for name, x in inputs.items()
    }


def _merge(x: Array) -> Array:
    return namespace(x).reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def linear_shapes(name: str, outputs: int, inputs: int) -> Shapes:
    """The two tensors of a linear map: weight (O, I), bias (O)."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def layer_norm_shapes(name: str, width: int) -> Shapes:
    """The two tensors of a layer norm: weight (D), bias (D)."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
