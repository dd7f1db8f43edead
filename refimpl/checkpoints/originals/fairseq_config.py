"""What fairseq's options and tensors say about a model, as a Hugging Face config.

Source: fairseq ``models/roberta/model.py`` (``base_architecture``), ``models/xmod/model.py``; the
conversion scripts of transformers for ``roberta``, ``xlm_roberta_xl`` and ``xmod``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refimpl.checkpoints.originals import common as originals
from refimpl.checkpoints.originals.common import Options
from refimpl.checkpoints.pytorch.pickled import describe
from refimpl.errors import CheckpointError

ENCODER = "sentence_encoder"
MODEL_TYPES = {"XLMRoberta": "xlm-roberta", "XLMRobertaXL": "xlm-roberta-xl", "Xmod": "xmod"}
ACTIVATIONS = {"gelu": "gelu", "gelu_accurate": "gelu_new", "relu": "relu"}
FIRST_POSITION = 2  # rows of the position table before it serve no token: one more than <pad>'s id

# What fairseq takes for adapter_reuse_layer_norm and ln_before_adapter where options are silent.
XMOD_DEFAULTS = {"xmod_base": True, "xmod_large_prenorm": False}


@dataclass(frozen=True)
class Model:
    """What the tensors say about a model."""

    path: Path
    family: str  # as in the names of classes: "XLMRoberta", "XLMRobertaXL", "Xmod"
    rows: int
    positions: int
    width: int
    layers: int
    inner: int
    pre_norm: bool  # each part of a layer normalises first
    classifiers: Mapping[str, int]  # classification heads: name -> number of labels
    languages: tuple[str, ...]  # of the adapters, in the order of the file
    narrow: int  # width inside an adapter
    adapter_norm: bool  # adapters have a layer norm of their own


def options_of(path: Path, tree: Mapping[str, Any]) -> Options:
    """Return the options of the run: ``args``, or the ``model`` part of ``cfg``."""
    options = originals.options_of(path, tree.get("args"))
    cfg = originals.options_of(path, tree.get("cfg"))
    if options is None and cfg is not None:
        options = originals.options_of(path, cfg.values.get("model"))
    if options is None:
        raise CheckpointError(
            f"{path}: expected the options of the training run as args, or as cfg with a model "
            "in it: without them the number of heads cannot be known"
        )
    return options


def config_of(options: Options, model: Model, head: str | None) -> dict[str, Any]:
    """Return the config of a model with a classification head, or (None) with that for words."""
    check_shapes(options, model)
    check_computation(options, model, head)
    heads = options.need("encoder_attention_heads", int)
    if heads < 1 or model.width % heads:
        raise CheckpointError(
            f"{model.path}: encoder_attention_heads: expected a divisor of {model.width}, the "
            f"width, got {heads}"
        )
    config = {
        "model_type": MODEL_TYPES[model.family],
        "vocab_size": model.rows,
        "hidden_size": model.width,
        "num_hidden_layers": model.layers,
        "num_attention_heads": heads,
        "intermediate_size": model.inner,
        "hidden_act": ACTIVATIONS[options.get("activation_fn", str, "gelu")],
        "hidden_dropout_prob": options.get("dropout", float, 0.1),
        "attention_probs_dropout_prob": options.get("attention_dropout", float, 0.1),
        "classifier_dropout": options.get("pooler_dropout", float),
        "max_position_embeddings": model.positions,
        "type_vocab_size": 1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-5,  # PyTorch's own: fairseq never gives another
        "position_embedding_type": "absolute",
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    }
    config |= adapter_config(options, model) if model.languages else {}
    if head is not None:
        names = [f"LABEL_{i}" for i in range(model.classifiers[head])]
        config["id2label"] = {str(i): name for i, name in enumerate(names)}
        config["label2id"] = {name: i for i, name in enumerate(names)}
    return config


def check_shapes(options: Options, model: Model) -> None:
    """Raise ``CheckpointError`` for options that contradict the tensors."""
    positions = model.positions - FIRST_POSITION
    has_norm = model.family != "XLMRobertaXL"
    options.agree("encoder_embed_dim", int, model.width, f"{ENCODER}.embed_tokens")
    options.agree("encoder_layers", int, model.layers, f"{ENCODER}.layers")
    options.agree("encoder_ffn_embed_dim", int, model.inner, f"{ENCODER}.layers.0.fc1")
    options.agree("max_positions", int, positions, f"{ENCODER}.embed_positions")
    options.agree("encoder_normalize_before", bool, model.pre_norm, f"{ENCODER}.layer_norm")
    options.agree("layernorm_embedding", bool, has_norm, f"{ENCODER}.layernorm_embedding")
    options.agree("encoder_learned_pos", bool, True, f"{ENCODER}.embed_positions")


def check_computation(options: Options, model: Model, head: str | None) -> None:
    """Raise ``CheckpointError`` for options that make another computation than our classes do."""
    options.agree("no_scale_embedding", bool, True, "every class of ours")
    if options.get("encoder_layers_to_keep", object):
        raise CheckpointError(
            f"{model.path}: encoder_layers_to_keep: expected all layers, got a choice of them"
        )
    activation = options.get("activation_fn", str, "gelu")
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise CheckpointError(
            f"{model.path}: activation_fn: expected one of {known}, got {describe(activation)}"
        )
    if head is None:  # it has the activation of the layers there, and always GELU here
        options.agree("activation_fn", str, "gelu", "the head that predicts words")
    else:
        options.agree("pooler_activation_fn", str, "tanh", "the classification head")


def adapter_config(options: Options, model: Model) -> dict[str, Any]:
    """Return X-MOD's part of the config: its languages, and what its adapters do."""
    languages: list[Any] = options.get("languages", list, list(model.languages))
    strings = all(isinstance(language, str) for language in languages)
    if not strings or sorted(languages) != sorted(model.languages):
        got = ", ".join(map(describe, languages))
        raise CheckpointError(
            f"{model.path}: languages: expected those of the adapters, "
            f"{', '.join(model.languages)[:2000]}, got {got[:2000]}"
        )
    reduction = options.get("bottleneck", int, model.width // model.narrow)
    if reduction < 1 or model.width // reduction != model.narrow:
        raise CheckpointError(
            f"{model.path}: bottleneck: expected {model.width // model.narrow}, as adapters are "
            f"{model.narrow} wide, got {reduction}"
        )
    options.agree("adapter_layer_norm", bool, model.adapter_norm, "adapter_layer_norm")
    return {
        "languages": languages,  # a language's id is its place here
        "default_language": None,
        "pre_norm": model.pre_norm,
        "adapter_reduction_factor": reduction,
        "adapter_layer_norm": model.adapter_norm,
        "adapter_reuse_layer_norm": xmod_flag(options, "adapter_reuse_layer_norm"),
        "ln_before_adapter": xmod_flag(options, "ln_before_adapter"),
    }


def xmod_flag(options: Options, key: str) -> bool:
    """Return a flag that no tensor shows: the option, or what the architecture makes of none."""
    arch = options.get("_name", str) or options.get("arch", str, "")
    known = [value for name, value in XMOD_DEFAULTS.items() if arch.startswith(name)]
    value: bool = options.get(key, bool, known[0]) if known else options.need(key, bool)
    return value
