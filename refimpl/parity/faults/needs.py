"""What faults need of a model and of a call: without it they change nothing, or cannot be made."""

from __future__ import annotations

from typing import Any

import numpy

from refimpl import ops
from refimpl.parity.faults.fault import Need
from refimpl.parity.faults.run import Run


def given(name: str) -> Need:
    """The call has an input."""
    return Need(f"`{name}`", lambda run: run.inputs.get(name) is not None)


def not_given(*names: str) -> Need:
    """The call leaves inputs out."""
    text = " or ".join(f"`{name}`" for name in names)
    return Need(f"a call without {text}", lambda run: not any(n in run.inputs for n in names))


def asked(flag: str) -> Need:
    """A flag is on, in the call or in the config."""
    return Need(
        f"`{flag}`", lambda run: bool(run.inputs.get(flag, getattr(run.config, flag, False)))
    )


def module(name: str, text: str) -> Need:
    """The checkpoint has a module, in front or under the encoder's prefix."""
    return Need(text, lambda run: name in run.weights or run.base + name in run.weights)


def setting(key: str, value: Any, text: str) -> Need:
    """The config has a value."""
    return Need(text, lambda run: getattr(run.config, key, None) == value)


def layers(count: int) -> Need:
    """The model is deep enough."""
    return Need(f"at least {count} layers", lambda run: run.layers >= count)


def _tokens(run: Run) -> numpy.ndarray | None:
    """Where the ids are no padding (..., S); None where there are vectors in place of ids."""
    ids = run.inputs.get("input_ids")
    return None if ids is None else ids != run.padding


def _has_padding(run: Run) -> bool:
    tokens = _tokens(run)
    return tokens is not None and not tokens.all()


def _masks_a_key(run: Run) -> bool:
    """Whether some place may not be looked at: by a mask, or in XLM by lengths or the ids."""
    mask = run.inputs.get("attention_mask")
    if mask is not None:
        return not mask.all()
    if run.family != "xlm":
        return run.inputs.get("encoder_attention_mask") is not None
    if run.inputs.get("lengths") is not None:
        return bool((run.inputs["lengths"] < length(run)).any())
    return _has_padding(run)


def places(run: Run) -> tuple[int, ...]:
    """(B, S), or (B, C, S): the shape of the ids, or of those that the vectors stand for."""
    ids = run.inputs.get("input_ids")
    found = run.inputs["inputs_embeds"].shape[:-1] if ids is None else ids.shape
    return tuple(found)


def length(run: Run) -> int:
    """S, the places of a row."""
    return places(run)[-1]


def _is_decoder(run: Run) -> bool:
    return bool(run.config.causal if run.family == "xlm" else run.config.is_decoder)


def _is_absolute(run: Run) -> bool:
    return getattr(run.config, "position_embedding_type", "absolute") == "absolute"


IDS = given("input_ids")
VECTORS = given("inputs_embeds")
COUNTS_POSITIONS = Need(
    "absolute positions that the model counts itself",
    lambda run: _is_absolute(run) and "position_ids" not in run.inputs,
)
ABSOLUTE = Need("absolute positions", _is_absolute)
RELATIVE = Need("relative positions", lambda run: not _is_absolute(run))
RELATIVE_KEY_QUERY = setting(
    "position_embedding_type", "relative_key_query", "positions of the kind `relative_key_query`"
)
PADDING = Need("padding among the ids", _has_padding)
MASKED = Need("something that may not be looked at", _masks_a_key)
ENCODER = Need("an encoder: no `is_decoder`, no `causal`", lambda run: not _is_decoder(run))
DECODER = Need("a decoder: `is_decoder`, `causal` in XLM", _is_decoder)
NO_CACHE = not_given("past_key_values", "cache")
POST_NORM = Need("layers that normalise last", lambda run: not run.normalises_first)
PRE_NORM = Need("layers that normalise first", lambda run: run.normalises_first)
POSITION_TABLE = Need(
    "a table of positions",
    lambda run: (
        run.base + ("position_embeddings" if run.family == "xlm" else "embeddings") in run.weights
        and _is_absolute(run)
    ),
)
LM_HEAD = Need(
    "a language modelling head", lambda run: "lm_head" in run.weights or "pred_layer" in run.weights
)
LM_TRANSFORM = module("lm_head", "a language modelling head")
POOLER = module("pooler", "a pooler")
CLASSES = Need("a sequence classification head", lambda run: "classifier.dense" in run.weights)
NOT_ADAPTIVE = Need("a plain softmax", lambda run: not getattr(run.config, "asm", False))


def _uses(run: Run) -> str:
    """The name of the operation that is the feed-forward network's activation."""
    if run.family == "xlm":
        return "gelu_erf" if run.config.gelu_activation else "relu"
    return str(getattr(ops.ACTIVATIONS[run.config.hidden_act], "__name__", ""))


def activation(name: str, text: str) -> Need:
    """The feed-forward network has an activation."""
    return Need(text, lambda run: _uses(run) == name)


activation_of = _uses
GELU = activation("gelu_erf", "GELU in the feed-forward network")


def _longest(run: Run) -> int:
    tokens = _tokens(run)
    return length(run) if tokens is None else int(tokens.sum(axis=-1).max())


def _kept(run: Run) -> int:
    kept = run.inputs.get("past_key_values")
    return 0 if kept is None else int(kept[0][0].shape[2])


def room(more: str) -> Need:
    """The positions are still in the table when they are shifted by a parameter."""

    def holds(run: Run) -> bool:
        last = _longest(run) + _kept(run) + run.padding + int(run.parameters[more])
        return bool(last < run.config.max_position_embeddings)

    return Need("a text so short that the shifted positions are in the table", holds)


def _room_for_all(run: Run) -> bool:
    last = length(run) + _kept(run) + run.padding
    return bool(last < run.config.max_position_embeddings)


ROOM_FOR_ALL_PLACES = Need("a text so short that padding has positions too", _room_for_all)
ROOM_FROM_START = Need(
    "a text so short that all places are in the table",
    lambda run: bool(
        length(run) + int(run.parameters["start"]) <= run.config.max_position_embeddings
    ),
)
