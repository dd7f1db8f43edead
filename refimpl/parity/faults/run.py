"""A forward pass with faults in it, as the faults see it, and the names of its places.

A place has one name here, whatever the family calls it: "query" is ``attentions.0.q_lin`` in XLM
and ``encoder.layer.0.attention.self.query`` elsewhere. Modules are called as their taps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from refimpl import ops
from refimpl.backend import Array
from refimpl.checkpoints.weights import Weights
from refimpl.models.model import Model

FAMILIES = ("xlm", "xlm_roberta", "xlm_roberta_xl", "xmod")
ROBERTAS = FAMILIES[1:]

_LAYER = "encoder.layer.{i}"
_ADAPTER = f"{_LAYER}.output.adapter_modules.{{language}}"


def _attention(xlm: str, others: str) -> tuple[str, ...]:
    """The names of a place in attention: XLM's, and those of self- and cross-attention."""
    return (
        f"attentions.{{i}}.{xlm}",
        f"{_LAYER}.attention.{others}",
        f"{_LAYER}.crossattention.{others}",
    )


# place -> the names of its tap, in the order of the computation; {i} is a layer.
PLACES: dict[str, tuple[str, ...]] = {
    "words": ("embeddings", "embeddings.word_embeddings"),
    "token_types": ("embeddings.token_types", "embeddings.token_type_embeddings"),
    "position_ids": ("position_ids", "embeddings.position_ids"),
    "positions": ("position_embeddings", "embeddings.position_embeddings"),
    "languages": ("lang_embeddings",),
    "embedding_norm": ("layer_norm_emb", "embeddings.LayerNorm"),
    "query": _attention("q_lin", "self.query"),
    "key": _attention("k_lin", "self.key"),
    "value": _attention("v_lin", "self.value"),
    "scores": _attention("scores", "self.scores"),
    "probs": _attention("probs", "self.probs"),
    "context": _attention("context", "self.context"),
    "attention_out": _attention("out_lin", "output.dense"),
    "attention_norm": (
        "layer_norm1.{i}",
        *_attention("", "output.LayerNorm")[1:],
        *_attention("", "self_attn_layer_norm")[1:],
    ),
    "inner": ("ffns.{i}.lin1", f"{_LAYER}.intermediate.dense"),
    "activation": ("ffns.{i}.activation", f"{_LAYER}.intermediate"),
    "ffn_out": ("ffns.{i}.lin2", f"{_LAYER}.output.dense"),
    "before_adapter": (
        f"{_LAYER}.output.LayerNorm.before_adapter",
        f"{_LAYER}.output.adapter_layer_norm",
    ),
    "adapter_down": (f"{_ADAPTER}.dense1",),
    "adapter_activation": (f"{_ADAPTER}.activation",),
    "adapter_up": (f"{_ADAPTER}.dense2",),
    "ffn_norm": ("layer_norm2.{i}", f"{_LAYER}.output.LayerNorm", f"{_LAYER}.LayerNorm"),
    "final_norm": ("encoder.LayerNorm",),
    "pooler_dense": ("pooler.dense",),
    "pooler": ("pooler",),
    "lm_dense": ("lm_head.dense",),
    "lm_activation": ("lm_head.activation",),
    "lm_norm": ("lm_head.layer_norm",),
    "lm_scores": ("pred_layer.proj", "lm_head.decoder"),
    "class_dense": ("classifier.dense",),
    "class_activation": ("classifier.activation",),
    "labels": ("classifier", "classifier.out_proj"),
    "spans": ("qa_outputs",),
    "span_starts": ("qa_outputs.start_logits.dense",),
    "span_end_dense": ("qa_outputs.end_logits.dense_0",),
    "span_end_norm": ("qa_outputs.end_logits.LayerNorm",),
    "summary": ("sequence_summary.summary",),
    "summarised": ("sequence_summary",),
    "distances": (f"{_LAYER}.attention.self.distance_embedding",),
}


def _pattern(name: str) -> str:
    return re.escape(name).replace(r"\{i\}", r"\d+").replace(r"\{language\}", "[^.]+")


_PATTERNS = {
    place: re.compile("|".join(map(_pattern, names)) or "$") for place, names in PLACES.items()
}


def place_of(name: str) -> str:
    """The place of a tap, a module or an output: one of ``PLACES``, or its name without numbers.

    >>> place_of("roberta.encoder.layer.3.attention.self.query"), place_of("attentions.3.q_lin")
    ('query', 'query')
    >>> place_of("hidden_states.2"), place_of("loss")
    ('hidden_states', 'loss')
    """
    bare = name.removeprefix("roberta.").removeprefix("transformer.")
    for place, pattern in _PATTERNS.items():
        if pattern.fullmatch(bare):
            return place
    return ".".join(word for word in bare.split(".") if not word.isdecimal())


@dataclass(frozen=True)
class Run:
    """What a fault may look at while it changes the reference.

    Before the forward pass there are the model and the inputs; during it, what was computed so
    far, by the names of the taps and in their order.
    """

    original: Model
    given: Mapping[str, Any]  # the inputs of the call: checked, on the host
    model: Model  # with what the faults before this one changed
    inputs: Mapping[str, Any]  # the same
    parameters: Mapping[str, Any] = field(default_factory=dict)  # the fault's own
    taps: dict[str, Array] = field(default_factory=dict)  # the value that each tap has
    into: dict[str, Array] = field(default_factory=dict)  # what its linear map or norm was given
    onward: dict[str, Array] = field(default_factory=dict)  # what went on from it

    @property
    def config(self) -> Any:
        """The config that the port runs with."""
        return self.model.config

    @property
    def weights(self) -> Weights:
        """The weights that the port runs with."""
        return self.model.weights

    @property
    def family(self) -> str:
        """One of ``FAMILIES``."""
        return family_of(self.model)

    @property
    def base(self) -> str:
        """What stands in front of the encoder's names: "roberta.", "transformer." or nothing."""
        found = [name for name in ("roberta", "transformer") if name in self.weights]
        return f"{found[0]}." if found else ""

    @property
    def width(self) -> int:
        """D, the features of a hidden state."""
        size: int = self.config.emb_dim if self.family == "xlm" else self.config.hidden_size
        return size

    @property
    def heads(self) -> int:
        """H, the attention heads of a layer that is not pruned."""
        name = "n_heads" if self.family == "xlm" else "num_attention_heads"
        count: int = getattr(self.config, name)
        return count

    @property
    def layers(self) -> int:
        """L, the layers."""
        name = "n_layers" if self.family == "xlm" else "num_hidden_layers"
        count: int = getattr(self.config, name)
        return count

    @property
    def padding(self) -> int:
        """The id of the padding."""
        name = "pad_index" if self.family == "xlm" else "pad_token_id"
        found: int = getattr(self.config, name)
        return found

    @property
    def normalises_first(self) -> bool:
        """Whether a layer's parts normalise what they are given, not what they return."""
        return self.family == "xlm_roberta_xl" or bool(getattr(self.config, "pre_norm", False))

    def latest(self, place: str) -> str:
        """The name of the last tap of a place; "" where there was none yet."""
        return next((name for name in reversed(self.taps) if place_of(name) == place), "")

    def linear(self, name: str, x: Array) -> Array:
        """(..., I) -> (..., O): the linear map called ``name``, of something else."""
        return ops.linear(x, **self.weights[name])

    def norm(self, name: str, x: Array) -> Array:
        """(..., D) -> (..., D): the layer norm called ``name``, of something else."""
        module = name.removesuffix(".before_adapter")
        return ops.layer_norm(x, **self.weights[module], eps=self.config.layer_norm_eps)

    def last_hidden(self) -> Array:
        """(B, S, D), what the heads are given. (XLM's has zeros at padding besides.)"""
        return self.onward[self.latest("final_norm") or self.latest("ffn_norm")]


def family_of(model: Model) -> str:
    """The family of a model: one of ``FAMILIES``.

    Raises ``ValueError`` for a model of none.
    """
    for prefix, family in (("XLMRobertaXL", 2), ("XLMRoberta", 1), ("Xmod", 3), ("XLM", 0)):
        if model.architecture.startswith(prefix):
            return FAMILIES[family]
    raise ValueError(f"model: expected one of {', '.join(FAMILIES)}, got {model.architecture}")
