"""The cases of XLM-RoBERTa-XL: what pre-norm layers change, in every class."""

from __future__ import annotations

from pathlib import Path

from golden.make.case import EMBEDS, STATES, Case, make_cases
from golden.make.inputs import (
    CHOICES,
    EACH_QUERY,
    IDS,
    INSIDE,
    INSIDE_MASK,
    LABELS,
    LEFT,
    LEFT_MASK,
    PADDED,
    RIGHT,
    SPANS,
    TAGS,
)
from golden.make.xlm_roberta import AGAINST_MISTAKES, DECODER, ONE_LAYER, SIZES

CASES: dict[str, Case] = {
    **AGAINST_MISTAKES,
    "model": Case("the encoder on two texts without padding", inputs={"input_ids": IDS}),
    "padding_left": Case(
        "padding on the left, masked",
        inputs={"input_ids": LEFT, "attention_mask": LEFT_MASK},
    ),
    "padding_inside": Case(
        "padding between tokens, masked",
        inputs={"input_ids": INSIDE, "attention_mask": INSIDE_MASK},
    ),
    "padding_attended": Case(
        "padding on either side and no attention_mask: it is looked at",
        config=ONE_LAYER,
        inputs={"input_ids": [RIGHT[1], LEFT[1]]},
    ),
    "mask_3d": Case(
        "a mask for each query; one may look at nothing", config=ONE_LAYER, inputs=EACH_QUERY
    ),
    "hidden_states": Case(
        "all hidden states and attentions returned: the last hidden state is normalised",
        inputs={**PADDED, "output_hidden_states": True, "output_attentions": True},
    ),
    "head_mask_per_layer": Case(
        "other heads switched off in each layer",
        inputs={**PADDED, "head_mask": [[0.0, 1.0, 1.0], [1.0, 0.25, 0.0]]},
    ),
    "token_type_ids": Case(
        "both token types, positions given",
        config=ONE_LAYER,
        inputs={
            "input_ids": IDS,
            "token_type_ids": [[0, 0, 1, 1, 1], [1, 0, 1, 0, 0]],
            "position_ids": [[15, 3, 0, 9, 9], [2, 14, 6, 1, 8]],
        },
    ),
    "layer_norm_eps": Case(
        "an eps that matters",
        config={**ONE_LAYER, "layer_norm_eps": 0.01},
        inputs={"input_ids": IDS},
    ),
    "activation_relu": Case(
        "hidden_act 'relu'", config={**ONE_LAYER, "hidden_act": "relu"}, inputs=PADDED
    ),
    "activation_gelu_new": Case(
        "hidden_act 'gelu_new', far below zero",
        config={**ONE_LAYER, "hidden_act": "gelu_new"},
        inputs=PADDED,
        weights="edges",
    ),
    **{
        f"position_{kind}": Case(
            f"position_embedding_type {kind!r}",
            config={**ONE_LAYER, "position_embedding_type": kind},
            inputs=PADDED,
        )
        for kind in ("relative_key", "relative_key_query")
    },
    "pruned_heads": Case(
        "two heads pruned in the first layer, one in the second",
        config={"pruned_heads": {0: [0, 2], 1: [1]}},
        inputs=PADDED,
    ),
    "cross_attention": Case(
        "a decoder that looks at an encoder's tokens, some of them masked",
        config={**ONE_LAYER, **DECODER, "add_cross_attention": True},
        inputs={
            **PADDED,
            "encoder_hidden_states": STATES,
            "encoder_attention_mask": [[1, 1, 1, 0], [0, 1, 1, 1]],
            "output_attentions": True,
        },
    ),
    "causal_lm": Case(
        "a causal language model, with labels",
        "ForCausalLM",
        config={**ONE_LAYER, **DECODER},
        inputs={**PADDED, "labels": LABELS},
    ),
    "causal_lm_cache": Case(
        "keys and values returned for the next call",
        "ForCausalLM",
        config={**ONE_LAYER, **DECODER, "use_cache": True},
        inputs={"input_ids": IDS},
    ),
    "masked_lm": Case(
        "masked language modelling, with labels",
        "ForMaskedLM",
        config=ONE_LAYER,
        inputs={**PADDED, "labels": LABELS},
    ),
    "inputs_embeds": Case(
        "vectors in place of ids: positions count every place",
        "ForMaskedLM",
        config=ONE_LAYER,
        inputs={"inputs_embeds": EMBEDS, "attention_mask": LEFT_MASK},
    ),
    "classification": Case(
        "one of three classes",
        "ForSequenceClassification",
        config={**ONE_LAYER, "num_labels": 3},
        inputs={**PADDED, "labels": [2, 0]},
    ),
    "token_classification": Case(
        "a label for each token; those at padding do not count here, whatever they are",
        "ForTokenClassification",
        config={**ONE_LAYER, "num_labels": 4},
        inputs={**PADDED, "labels": TAGS},
    ),
    "multiple_choice": Case(
        "two questions of three choices each",
        "ForMultipleChoice",
        config=ONE_LAYER,
        inputs=CHOICES,
    ),
    "question_answering": Case(
        "spans: inside the window, and ending behind it",
        "ForQuestionAnswering",
        config=ONE_LAYER,
        inputs={**PADDED, **SPANS},
    ),
}


def make(root: Path, only: str | None = None) -> None:
    """Write all cases, or the one called ``only``, under ``root``."""
    make_cases("XLMRobertaXL", CASES, SIZES, root, only)
