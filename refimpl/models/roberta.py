"""What XLM-RoBERTa, XLM-RoBERTa-XL and X-MOD share around their encoders.

They are three RoBERTas: their configs have the same switches and their calls the same arguments
and outputs, so what is checked before any arithmetic, and what is returned after it, stands here,
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy

from refimpl import ops
from refimpl.backend import Array
from refimpl.models.config import PROBLEM_TYPES, require
from refimpl.models.inputs import IGNORE_INDEX, Input, Inputs
from refimpl.models.outputs import BaseModelOutput

POSITION_TYPES = ("absolute", "relative_key", "relative_key_query")
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")  # constants, not weights


def check_config(config: Any) -> None:
    """Raise ``ValueError`` for a value that no model of the kind can have."""
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                "intermediate_size", "max_position_embeddings", "type_vocab_size"):  # fmt: skip
        require(getattr(config, key) > 0, key, "a number above 0", getattr(config, key))
    require(config.hidden_size % config.num_attention_heads == 0, "hidden_size",
            f"a multiple of num_attention_heads ({config.num_attention_heads})",
            config.hidden_size)  # fmt: skip
    require(config.hidden_act in ops.ACTIVATIONS, "hidden_act",
            f"one of {', '.join(ops.ACTIVATIONS)}", config.hidden_act)  # fmt: skip
    require(0 <= config.pad_token_id < config.vocab_size, "pad_token_id",
            "an id of the vocabulary", config.pad_token_id)  # fmt: skip
    require(config.position_embedding_type in POSITION_TYPES, "position_embedding_type",
            f"one of {', '.join(POSITION_TYPES)}", config.position_embedding_type)  # fmt: skip
    require(config.is_decoder or not config.add_cross_attention, "add_cross_attention",
            "false where is_decoder is false", config.add_cross_attention)  # fmt: skip
    require(config.problem_type in (None, *PROBLEM_TYPES), "problem_type",
            f"one of {', '.join(PROBLEM_TYPES)}", config.problem_type)  # fmt: skip
    for layer, pruned in (config.pruned_heads or {}).items():
        known = layer.isdecimal() and int(layer) < config.num_hidden_layers
        require(known and heads_left(config, int(layer)) > 0, "pruned_heads",
                "layers of the model, some heads left in each", {layer: pruned})  # fmt: skip


def heads_left(config: Any, layer: int) -> int:
    """The number of heads of a layer that were not pruned."""
    pruned = set((config.pruned_heads or {}).get(str(layer), ()))
    count: int = config.num_attention_heads
    return count - len(pruned & set(range(count)))


def inputs(config: Any) -> Inputs:
    """The arguments of a call: kinds, shapes and bounds. E is the length of an encoder's text."""
    forms: dict[str, tuple[Input, ...]] = {
        "input_ids": (Input("ids", ("B S",), below=config.vocab_size),),
        "inputs_embeds": (Input("real", ("B S D",)),),
        "attention_mask": (Input("mask", ("B T", "B S T")),),
        "token_type_ids": (Input("ids", ("B S",), below=config.type_vocab_size),),
        "position_ids": (Input("ids", ("B S", "1 S"), below=config.max_position_embeddings),),
        "head_mask": (Input("real", ("H", "L H")),),
    }
    if config.add_cross_attention:
        forms["encoder_hidden_states"] = (Input("real", ("B E D",)),)
        forms["encoder_attention_mask"] = (Input("mask", ("B E", "B S E")),)
    return forms


def sizes(config: Any) -> dict[str, int]:
    """The letters of shapes that the config fixes."""
    return {
        "D": config.hidden_size,
        "H": config.num_attention_heads,
        "L": config.num_hidden_layers,
        "N": config.labels,
    }


def check_inputs(config: Any, inputs: Mapping[str, numpy.ndarray], past: int) -> None:
    """Refuse a text that is longer than there are positions, and a head mask for pruned heads.

    The first ``pad_token_id + 1`` rows of the position table serve no token: 514 positions are 512
    tokens. Padding takes no position, so only tokens count, unless the vectors are given. A table
    of distances serves as many places as there are positions, padding too.

    Raises ``ValueError``, which names the argument, what was expected and what came.
    """
    if config.pruned_heads and "head_mask" in inputs:
        raise ValueError("head_mask: expected none for a model with pruned_heads")
    name = "input_ids" if "input_ids" in inputs else "inputs_embeds"
    if config.position_embedding_type != "absolute":
        places = inputs[name].shape[-1 if name == "input_ids" else -2] + past
        if places > config.max_position_embeddings:
            raise ValueError(
                f"{name}: expected at most {config.max_position_embeddings} places in a row "
                f"(max_position_embeddings), got {places}"
            )
        return
    if "position_ids" in inputs:
        return
    if name == "input_ids":
        longest = (inputs[name] != config.pad_token_id).sum(axis=-1).max()
    else:
        longest = inputs[name].shape[-2]
    room = config.max_position_embeddings - config.pad_token_id - 1
    if longest + past > room:
        raise ValueError(
            f"{name}: expected at most {room} tokens in a row (max_position_embeddings "
            f"{config.max_position_embeddings} less pad_token_id + 1), got {longest + past}"
        )


def positions_of(config: Any, input_ids: Array | None, words: Array, past: int = 0) -> Array:
    """ids (B, S), (B, S, D) -> ids (B, S)

    Number the tokens, from ``pad_token_id + 1`` on and passing over padding; where only vectors
    are given, all places. ``past`` tokens came in earlier calls.
    Source: ``create_position_ids_from_input_ids``.
    """
    padding_idx = config.pad_token_id
    if input_ids is None:
        return ops.position_ids_in_order(words, padding_idx=padding_idx, past=past)
    return ops.position_ids_from_padding(input_ids, padding_idx=padding_idx, past=past)


def tokens(config: Any, inputs: Mapping[str, Any], first: bool) -> numpy.ndarray | None:
    """Return where the tokens of a call are, mask (B, S), if it may leave out its padding, or None.

    It may not where the model is a decoder; where the first place of a text is padding, and a head
    looks at it (``first``); where a loss counts padding; and where distances tell positions, and
    there is padding between tokens.
    """
    mask: numpy.ndarray | None = inputs.get("attention_mask")
    texts = inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"][..., 0]
    if mask is None or mask.shape != texts.shape or config.is_decoder:
        return None
    if first and not mask[:, 0].all():
        return None
    labels: Any = inputs.get("labels")
    of_places = labels is not None and labels.shape == mask.shape
    if "start_positions" in inputs or (of_places and (labels[~mask] != IGNORE_INDEX).any()):
        return None
    stretches = mask[:, 0] + (mask[:, 1:] & ~mask[:, :-1]).sum(axis=1)
    if config.position_embedding_type != "absolute" and (stretches > 1).any():
        return None
    return mask


class LayerResult(NamedTuple):
    """What a layer computes."""

    hidden: Array  # (B, S, D)
    own: ops.MultiHeadAttention  # to the text itself
    cross: ops.MultiHeadAttention | None  # to the encoder's text

    @property
    def kept(self) -> tuple[Array, ...]:
        """Keys and values for the next call."""
        return self.own.kept if self.cross is None else (*self.own.kept, *self.cross.kept)


def of_layer(head_mask: Array | None, i: int) -> Array | None:
    """Return the row of layer ``i`` of a head mask (L, H); one of (H) holds for every layer."""
    return head_mask[i, :] if head_mask is not None and head_mask.ndim == 2 else head_mask


class Kept:
    """What is kept of the layers of a call: what was asked for, and nothing else.

    Keys and values are kept by decoders only.
    """

    def __init__(
        self, config: Any, embedded: Array, use_cache: bool, hidden_states: bool, attentions: bool
    ) -> None:
        asked = {
            "past_key_values": use_cache and config.is_decoder,
            "hidden_states": hidden_states,
            "attentions": attentions,
            "cross_attentions": attentions,
        }
        self._kept: dict[str, list[Any]] = {name: [] for name, wanted in asked.items() if wanted}
        if hidden_states:
            self._kept["hidden_states"].append(embedded)

    def add(self, result: LayerResult) -> Array:
        """Keep of a layer what was asked for; return its hidden states."""
        found = {
            "past_key_values": result.kept,
            "hidden_states": result.hidden,
            "attentions": result.own.weights,
            "cross_attentions": None if result.cross is None else result.cross.weights,
        }
        for name, kept in self._kept.items():
            if found[name] is not None:
                kept.append(found[name])
        return result.hidden

    def outputs(self, hidden: Array) -> BaseModelOutput:
        """Return what a call returns; ``hidden``, what it ends in, is the last hidden state."""
        out = BaseModelOutput(hidden, **{name: tuple(x) for name, x in self._kept.items() if x})
        if out.hidden_states is not None:
            out = out._replace(hidden_states=(*out.hidden_states[:-1], hidden))
        return out
