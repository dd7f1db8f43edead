"""The cases of XLM: languages, masks, both language models, and every class."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers.models.xlm import modeling_xlm

from golden.make.case import EMBEDS, Case, make_cases

PAD = 2
SIZES = {
    "vocab_size": 29,
    "emb_dim": 9,
    "n_layers": 2,
    "n_heads": 3,
    "max_position_embeddings": 16,
    "n_langs": 4,
    "layer_norm_eps": 1e-12,
    "pad_index": PAD,
    "pad_token_id": PAD,
}
ONE_LAYER = {"n_layers": 1}
ASM = {"asm": True, "asm_cutoffs": [7, 15], "asm_div_value": 2.0}

IDS = [[0, 17, 5, 23, 1], [0, 28, 11, 8, 1]]
RIGHT = [[0, 17, 5, 23, 1], [0, 28, 1, PAD, PAD]]
RIGHT_MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
LANGS = [[3, 3, 3, 3, 3], [0, 0, 1, 1, 2]]
PADDED = {"input_ids": RIGHT, "attention_mask": RIGHT_MASK, "langs": LANGS}
LABELS = [[-100, 17, -100, 4, -100], [3, -100, 28, -100, -100]]
ALL_LABELS = [[4, 17, 20, 4, 12], [3, 9, 28, 7, 16]]  # adaptive softmax ignores no label

# As many tokens as there are positions; padding on the left; inside and on the right; one token.
EVERY = {
    "input_ids": [
        [0, 28, 11, 8, 17, 1],
        [PAD, PAD, 0, 23, 4, 1],
        [0, 16, PAD, 6, 1, PAD],
        [14, PAD, PAD, PAD, PAD, PAD],
    ],
    "attention_mask": [[1] * 6, [0, 0, 1, 1, 1, 1], [1, 1, 0, 1, 1, 0], [1] + [0] * 5],
    "langs": [[3] * 6, [2, 2, 0, 0, 1, 3], [1, 0, 1, 0, 1, 0], [2] * 6],
}

CASES: dict[str, Case] = {
    # against mistakes that hide elsewhere
    "benign": Case(
        "gains near 1; as many tokens as there are positions, padding on every side, one token",
        config={**ONE_LAYER, "max_position_embeddings": 6, "emb_dim": 10, "n_heads": 2},
        inputs=EVERY,
        weights="benign",
    ),
    "outliers": Case(
        "two features far larger than the rest; padding on every side",
        config={**ONE_LAYER, "max_position_embeddings": 6},
        inputs=EVERY,
        weights="outliers",
    ),
    "edges": Case(
        "embeddings that hardly vary, so that eps counts; GELU far below zero",
        "WithLMHeadModel",
        config={**ONE_LAYER, "layer_norm_eps": 1e-6},
        inputs=PADDED,
        weights="edges",
        seed=2,
    ),
    "eleven_layers": Case(
        "so many layers that their names, sorted as text, are in another order",
        config={"emb_dim": 4, "n_heads": 2, "n_layers": 11},
        inputs={"input_ids": [[0, 17, 1]], "langs": [[3, 1, 0]]},
        weights="benign",
        seed=5,
    ),
    # the encoder: languages, masks, positions
    "model": Case(
        "a language for each token; padding counted from the ids",
        inputs={"input_ids": RIGHT, "langs": LANGS},
    ),
    "padding_right": Case("padding on the right, masked", inputs=PADDED),
    "padding_left": Case(
        "padding on the left, masked: positions count it",
        config=ONE_LAYER,
        inputs={
            "input_ids": [IDS[0], [PAD, PAD, 0, 28, 1]],
            "attention_mask": [[1] * 5, [0, 0, 1, 1, 1]],
            "langs": LANGS,
        },
    ),
    "padding_left_unmasked": Case(
        "padding on the left and no mask: as many tokens are dropped on the right",
        config=ONE_LAYER,
        inputs={"input_ids": [IDS[0], [PAD, PAD, 0, 28, 1]], "langs": LANGS},
    ),
    "padding_inside": Case(
        "padding between tokens, masked",
        config=ONE_LAYER,
        inputs={
            "input_ids": [[0, 17, PAD, 23, 1], [0, PAD, 11, PAD, 1]],
            "attention_mask": [[1, 1, 0, 1, 1], [1, 0, 1, 0, 1]],
            "langs": LANGS,
        },
    ),
    "lengths": Case(
        "lengths in place of a mask", config=ONE_LAYER,
        inputs={"input_ids": IDS, "lengths": [3, 5], "langs": LANGS}
    ),
    "one_token": Case(
        "a row of a single token beside a full one",
        config=ONE_LAYER,
        inputs={"input_ids": [[0, PAD, PAD, PAD, PAD], IDS[1]], "langs": LANGS},
    ),
    "all_masked": Case(
        "a row without any token: it attends to all keys alike, and is zero",
        config=ONE_LAYER,
        inputs={
            "input_ids": IDS, "attention_mask": [[0] * 5, [1, 1, 1, 1, 0]], "langs": LANGS,
        },
    ),
    "full_length": Case(
        "as many tokens as there are positions",
        config=ONE_LAYER,
        inputs={"input_ids": [[0, 28, 11, 8, 5, 9, 9, 27, 3, 4, 6, 17, 12, 14, 20, 1]],
                "langs": [[1] * 16]},
    ),
    "causal": Case(
        "a causal model: tokens look back, padding is looked at too",
        config={"causal": True},
        inputs={**PADDED, "output_attentions": True},
    ),
    "no_langs": Case("languages not given", config=ONE_LAYER,
        inputs={"input_ids": RIGHT}),
    "one_language": Case(
        "a model of one language: langs change nothing",
        config={**ONE_LAYER, "n_langs": 1},
        inputs={"input_ids": RIGHT},
    ),
    "no_language_embeddings": Case(
        "use_lang_emb off: langs change nothing",
        config={**ONE_LAYER, "use_lang_emb": False},
        inputs={"input_ids": RIGHT, "langs": LANGS},
    ),
    "relu": Case(
        "gelu_activation off",
        config={**ONE_LAYER, "gelu_activation": False},
        inputs=PADDED,
    ),
    "sinusoidal": Case(
        "a table of sines and cosines",
        config={**ONE_LAYER, "sinusoidal_embeddings": True},
        inputs=PADDED,
    ),
    "layer_norm_eps": Case(
        "an eps that matters", config={**ONE_LAYER, "layer_norm_eps": 0.01}, inputs=PADDED
    ),
    "position_ids": Case(
        "positions given, in no order",
        config=ONE_LAYER,
        inputs={**PADDED, "position_ids": [[15, 3, 0, 9, 9], [2, 14, 6, 1, 8]]},
    ),
    "token_type_ids": Case(
        "token types are looked up among the words",
        config=ONE_LAYER,
        inputs={**PADDED, "token_type_ids": [[0, 0, 1, 1, 1], [1, 0, 5, 0, 0]]},
    ),
    "head_mask": Case(
        "heads switched off in every layer; attentions and hidden states show it",
        inputs={
            **PADDED,
            "head_mask": [1.0, 0.0, 0.5],
            "output_attentions": True,
            "output_hidden_states": True,
        },
    ),
    "head_mask_per_layer": Case(
        "other heads switched off in each layer",
        inputs={**PADDED, "head_mask": [[0.0, 1.0, 1.0], [1.0, 0.25, 0.0]]},
    ),
    "pruned_heads": Case(
        "two heads pruned in the first layer, one in the second",
        config={"pruned_heads": {0: [0, 2], 1: [1]}},
        inputs=PADDED,
    ),
    # language models
    "lm": Case(
        "masked language modelling, with labels",
        "WithLMHeadModel",
        inputs={**PADDED, "labels": LABELS},
    ),
    "lm_causal": Case(
        "causal language modelling: labels are not shifted",
        "WithLMHeadModel",
        config={**ONE_LAYER, "causal": True},
        inputs={**PADDED, "labels": LABELS},
    ),
    "lm_untied": Case(
        "an output matrix of its own",
        "WithLMHeadModel",
        config={**ONE_LAYER, "tie_word_embeddings": False},
        inputs=PADDED,
    ),
    "lm_adaptive": Case(
        "adaptive softmax: log-probabilities and loss, of the flattened places",
        "WithLMHeadModel",
        config={**ONE_LAYER, **ASM},
        inputs={**PADDED, "labels": ALL_LABELS},
    ),
    "inputs_embeds": Case(
        "vectors in place of ids",
        "WithLMHeadModel",
        config=ONE_LAYER,
        inputs={"inputs_embeds": EMBEDS, "langs": LANGS},
    ),
    # summaries
    **{
        f"summary_{kind}": Case(
            f"summary_type {kind!r}, projected to three labels",
            "ForSequenceClassification",
            config={**ONE_LAYER, "num_labels": 3, "summary_type": kind},
            inputs={**PADDED, "labels": [2, 0]},
        )
        for kind in ("first", "last", "mean", "cls_index")
    },
    "summary_tanh": Case(
        "summary_activation 'tanh'; regression",
        "ForSequenceClassification",
        config={**ONE_LAYER, "num_labels": 1, "summary_activation": "tanh"},
        inputs={**PADDED, "labels": [0.75, -1.5]},
    ),
    "summary_to_hidden": Case(
        "projected to the hidden width, not to labels",
        "ForSequenceClassification",
        config={**ONE_LAYER, "summary_proj_to_labels": False, "summary_activation": "relu"},
        inputs=PADDED,
    ),
    "summary_without_projection": Case(
        "no projection at all",
        "ForSequenceClassification",
        config={**ONE_LAYER, "summary_use_proj": False},
        inputs=PADDED,
    ),
    "classification_multi": Case(
        "problem_type multi_label_classification",
        "ForSequenceClassification",
        config={**ONE_LAYER, "num_labels": 3, "problem_type": "multi_label_classification"},
        inputs={**PADDED, "labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]},
    ),
    # the other heads
    "token_classification": Case(
        "a label for each token",
        "ForTokenClassification",
        config={**ONE_LAYER, "num_labels": 4},
        inputs={**PADDED, "labels": [[-100, 3, 0, 1, -100], [-100, 2, -100, -100, -100]]},
    ),
    "multiple_choice": Case(
        "two questions of three choices each",
        "ForMultipleChoice",
        config=ONE_LAYER,
        inputs={
            "input_ids": [
                [[0, 17, 5, 1], [0, 28, 1, PAD], [0, 9, 11, 1]],
                [[0, 6, 1, PAD], [0, 4, 12, 1], [0, 1, PAD, PAD]],
            ],
            "langs": [[[1] * 4, [0] * 4, [2] * 4], [[3] * 4, [1] * 4, [0, 0, 1, 1]]],
            "labels": [2, 0],
        },
    ),
    "question_answering_simple": Case(
        "spans: inside the window, and ending behind it",
        "ForQuestionAnsweringSimple",
        config=ONE_LAYER,
        inputs={**PADDED, "start_positions": [1, 2], "end_positions": [3, 9]},
    ),
    "question_answering": Case(
        # No padding, whose places would tie, and no two candidates closer than float16 can tell.
        "the best spans by beam search, and whether there is an answer",
        "ForQuestionAnswering",
        config={**ONE_LAYER, "start_n_top": 2, "end_n_top": 3},
        inputs={"input_ids": [[0, 9, 14, 22, 1], [0, 3, 26, 6, 1]], "langs": LANGS},
    ),
    "question_answering_p_mask": Case(
        "places ruled out, and the classification token given",
        "ForQuestionAnswering",
        config={**ONE_LAYER, "start_n_top": 2, "end_n_top": 2},
        inputs={
            **PADDED,
            "p_mask": [[1.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0, 1.0]],
            "cls_index": [0, 2],
        },
    ),
    "question_answering_loss": Case(
        "the loss of the true span",
        "ForQuestionAnswering",
        config=ONE_LAYER,
        inputs={**PADDED, "start_positions": [1, 2], "end_positions": [3, 2]},
    ),
    "question_answering_impossible": Case(
        "the loss of the true span and of whether there is an answer",
        "ForQuestionAnswering",
        config=ONE_LAYER,
        inputs={
            **PADDED,
            "start_positions": [1, 2],
            "end_positions": [3, 2],
            "cls_index": [0, 1],
            "is_impossible": [0.0, 1.0],
        },
    ),
}  # fmt: skip


def pred_layer_of_places(self: Any, x: torch.Tensor, y: torch.Tensor | None = None) -> Any:
    """XLMPredLayer for (B, S, D): adaptive softmax of the flattened places.

    transformers 4.57 hands (B, S, D) to ``AdaptiveLogSoftmaxWithLoss``, which takes (N, D) and
    fails; the code of XLM's authors flattens first.
    """
    rows = x.reshape(-1, x.shape[-1])
    scores = self.proj.log_prob(rows).reshape(*x.shape[:-1], -1)
    return (scores,) if y is None else (self.proj(rows, y.reshape(-1)).loss, scores)


def make(root: Path, only: str | None = None) -> None:
    """Write all cases, or the one called ``only``, under ``root``."""
    plain = modeling_xlm.XLMPredLayer.forward

    def forward(self: Any, x: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        return (pred_layer_of_places if self.asm else plain)(self, x, y)

    with mock.patch.object(modeling_xlm.XLMPredLayer, "forward", forward):
        make_cases("XLM", CASES, SIZES, root, only)
