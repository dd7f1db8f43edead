"""The cases of X-MOD: the adapters' switches, mixed languages, and every class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from golden.make.case import EMBEDS, STATES, Case, make_cases
from golden.make.inputs import (
    CHOICES,
    EACH_QUERY,
    IDS,
    LABELS,
    LEFT,
    LEFT_MASK,
    PADDED,
    RIGHT,
    SPANS,
    TAGS,
)
from golden.make.xlm_roberta import AGAINST_MISTAKES, DECODER, ONE_LAYER
from golden.make.xlm_roberta import SIZES as ROBERTA_SIZES

SIZES = {**ROBERTA_SIZES, "languages": ["en_XX", "de_DE", "sw_KE"]}
FOUR = [[0, 17, 5, 2], [0, 28, 11, 2], [0, 9, 2, 1], [0, 6, 12, 2]]
ENGLISH = {"default_language": "en_XX", "languages": ["en_XX"]}

CASES: dict[str, Case] = {
    **{
        name: replace(case, config={**case.config, **ENGLISH})
        for name, case in AGAINST_MISTAKES.items()
    },
    "padding_attended": Case(
        "padding on either side and no attention_mask: it is looked at",
        config={**ONE_LAYER, **ENGLISH},
        inputs={"input_ids": [RIGHT[1], LEFT[1]]},
    ),
    "mask_3d": Case(
        "a mask for each query; one may look at nothing",
        config={**ONE_LAYER, **ENGLISH},
        inputs=EACH_QUERY,
    ),
    "position_ids": Case(
        "positions given, in no order",
        config={**ONE_LAYER, **ENGLISH},
        inputs={"input_ids": IDS, "position_ids": [[15, 3, 0, 9, 9], [2, 14, 6, 1, 8]]},
    ),
    "activation_gelu_new": Case(
        "hidden_act 'gelu_new', far below zero",
        config={**ONE_LAYER, **ENGLISH, "hidden_act": "gelu_new"},
        inputs=PADDED,
        weights="edges",
    ),
    "model": Case(
        "each text through the adapters of its language",
        config={"languages": ["en_XX", "de_DE"]},
        inputs={"input_ids": IDS, "lang_ids": [1, 0]},
    ),
    "mixed_languages": Case(
        "three languages in a batch of four, one of them twice and apart",
        config=ONE_LAYER,
        inputs={
            "input_ids": FOUR,
            "attention_mask": [[1] * 4, [1] * 4, [1, 1, 1, 0], [1] * 4],
            "lang_ids": [2, 0, 2, 1],
        },
    ),
    "default_language": Case(
        "no lang_ids: the config's default language for all",
        config=ENGLISH,
        inputs={"input_ids": LEFT, "attention_mask": LEFT_MASK},
    ),
    **{
        name: Case(what, config={**ENGLISH, **config}, inputs=PADDED)
        for name, what, config in (
            ("pre_norm", "pre_norm", {"pre_norm": True}),
            ("adapter_layer_norm", "adapter_layer_norm", {**ONE_LAYER, "adapter_layer_norm": True}),
            ("no_norm", "adapter_reuse_layer_norm off",
             {**ONE_LAYER, "adapter_reuse_layer_norm": False}),
            ("ln_after", "ln_before_adapter off", {**ONE_LAYER, "ln_before_adapter": False}),
            (
                "pre_norm_adapter_norm",
                "pre_norm, adapter_layer_norm, ln_before_adapter off",
                {"pre_norm": True, "adapter_layer_norm": True, "ln_before_adapter": False},
            ),
            ("reduction", "adapter_reduction_factor 5, relu",
             {**ONE_LAYER, "adapter_reduction_factor": 5, "hidden_act": "relu"}),
        )
    },
    "hidden_states": Case(
        "all hidden states and attentions returned, pre-norm, a head mask",
        config={**ENGLISH, "pre_norm": True},
        inputs={
            **PADDED,
            "head_mask": [0.0, 1.0, 0.5],
            "output_hidden_states": True,
            "output_attentions": True,
        },
    ),
    **{
        f"position_{kind}": Case(
            f"position_embedding_type {kind!r}",
            config={**ONE_LAYER, **ENGLISH, "position_embedding_type": kind},
            inputs=PADDED,
        )
        for kind in ("relative_key", "relative_key_query")
    },
    "pruned_heads": Case(
        "two heads pruned in the first layer, one in the second",
        config={**ENGLISH, "pruned_heads": {0: [0, 2], 1: [1]}},
        inputs=PADDED,
    ),
    "cross_attention": Case(
        "a decoder that looks at an encoder's tokens, some of them masked",
        config={**ONE_LAYER, **DECODER, **ENGLISH, "add_cross_attention": True},
        inputs={
            **PADDED,
            "encoder_hidden_states": STATES,
            "encoder_attention_mask": [[1, 1, 1, 0], [0, 1, 1, 1]],
            "output_attentions": True,
        },
    ),
    "cross_attention_pre_norm": Case(
        "the same, pre-norm",
        config={**ONE_LAYER, **DECODER, **ENGLISH, "add_cross_attention": True, "pre_norm": True},
        inputs={**PADDED, "encoder_hidden_states": STATES},
    ),
    "causal_lm": Case(
        "a causal language model, with labels",
        "ForCausalLM",
        config={**ONE_LAYER, **DECODER, **ENGLISH},
        inputs={**PADDED, "labels": LABELS},
    ),
    "causal_lm_cache": Case(
        "keys and values returned for the next call",
        "ForCausalLM",
        config={**ONE_LAYER, **DECODER, **ENGLISH, "use_cache": True},
        inputs={"input_ids": IDS},
    ),
    "masked_lm": Case(
        "masked language modelling, two languages, with labels",
        "ForMaskedLM",
        config={**ONE_LAYER, "languages": ["en_XX", "de_DE"]},
        inputs={**PADDED, "labels": LABELS, "lang_ids": [0, 1]},
    ),
    "inputs_embeds": Case(
        "vectors in place of ids",
        "ForMaskedLM",
        config={**ONE_LAYER, **ENGLISH},
        inputs={"inputs_embeds": EMBEDS, "attention_mask": LEFT_MASK},
    ),
    "classification": Case(
        "one of three classes",
        "ForSequenceClassification",
        config={**ONE_LAYER, **ENGLISH, "num_labels": 3},
        inputs={**PADDED, "labels": [2, 0]},
    ),
    "token_classification": Case(
        "a label for each token",
        "ForTokenClassification",
        config={**ONE_LAYER, **ENGLISH, "num_labels": 4},
        inputs={**PADDED, "labels": TAGS},
    ),
    "multiple_choice": Case(
        "two questions of three choices each, in the default language",
        "ForMultipleChoice",
        config={**ONE_LAYER, **ENGLISH},
        inputs=CHOICES,
    ),
    "question_answering": Case(
        "spans: inside the window, and ending behind it",
        "ForQuestionAnswering",
        config={**ONE_LAYER, **ENGLISH},
        inputs={**PADDED, **SPANS},
    ),
}  # fmt: skip


def make(root: Path, only: str | None = None) -> None:
    """Write all cases, or the one called ``only``, under ``root``."""
    make_cases("Xmod", CASES, SIZES, root, only)
