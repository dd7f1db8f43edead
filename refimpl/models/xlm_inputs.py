"""What a call of XLM may hold, checked before any arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from refimpl.models.inputs import Input, Inputs


def inputs(config: Any) -> Inputs:
    """The encoder's arguments: kinds, shapes and bounds."""
    return {
        "input_ids": (Input("ids", ("B S",), below=config.vocab_size),),
        "inputs_embeds": (Input("real", ("B S D",)),),
        "attention_mask": (Input("mask", ("B S",)),),
        "langs": (Input("ids", ("B S",), below=config.n_langs),),
        "token_type_ids": (Input("ids", ("B S",), below=config.vocab_size),),
        "position_ids": (Input("ids", ("B S", "1 S"), below=config.max_position_embeddings),),
        "lengths": (Input("ids", ("B",)),),
        "head_mask": (Input("real", ("H", "L H")),),
    }


def check_inputs(config: Any, inputs: Mapping[str, numpy.ndarray], past: int) -> None:
    """Refuse a text that is longer than there are positions, and what does not go together.

    Raises ``ValueError``, which names the argument, what was expected and what came.
    """
    name = "input_ids" if "input_ids" in inputs else "inputs_embeds"
    length = inputs[name].shape[-2 if name == "inputs_embeds" else -1]
    if "position_ids" not in inputs and length > config.max_position_embeddings:
        raise ValueError(
            f"{name}: expected at most {config.max_position_embeddings} tokens in a row "
            f"(max_position_embeddings), got {length}"
        )
    lengths = inputs.get("lengths")
    if lengths is not None and ((lengths < 1) | (lengths > length)).any():
        got = lengths.tolist()
        raise ValueError(f"lengths: expected 1 to {length}, the length of a row, got {got}")
    if past >= length:
        raise ValueError(f"{name}: expected more than the {past} tokens in the cache, got {length}")
    if past and "logits_at" in inputs:
        raise ValueError("logits_at: expected none with a cache, which holds some of the places")
    if config.pruned_heads and "head_mask" in inputs:
        raise ValueError("head_mask: expected none for a model with pruned_heads")


def sizes(config: Any) -> dict[str, int]:
    """The letters of shapes that the config fixes."""
    return {"D": config.emb_dim, "H": config.n_heads, "L": config.n_layers, "N": config.labels}
