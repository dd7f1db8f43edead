"""The cases of XLM-RoBERTa: every class and every switch, on models of a few thousand numbers.

The sizes are as different from one another as they can be, so that no two axes can be swapped
unseen. Models have two layers where the case is about the encoder, one where it is about a head.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import transformers

from golden.make.case import EMBEDS, STATES, Case, make_cases, make_model
from golden.make.inputs import (
    BEFORE,
    BEHIND,
    CHOICES,
    EVERY,
    FEW_NUMBERS,
    IDS,
    INSIDE,
    INSIDE_MASK,
    LABELS,
    LEFT,
    LEFT_MASK,
    LEFT_PADDED,
    PAD,
    PADDED,
    RIGHT,
    RIGHT_MASK,
    SIX_POSITIONS,
    SPANS,
)
from golden.make.write import write_case

VOCABULARY = Path(__file__).parents[1] / "tokenizers" / "xlm_roberta" / "sentencepiece.bpe.model"
TEXTS = ["The lamp <mask>", "水"]  # short, because every piece scores the whole vocabulary

SIZES = {
    "vocab_size": 29,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 11,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-5,
    "pad_token_id": PAD,
}
ONE_LAYER = {"num_hidden_layers": 1}
DECODER = {"is_decoder": True, "use_cache": False}

# What every family of RoBERTas has, against mistakes that hide elsewhere.
AGAINST_MISTAKES: dict[str, Case] = {
    "benign": Case(
        "gains near 1; as many tokens as there are positions, padding on every side, one token",
        config={**ONE_LAYER, **SIX_POSITIONS},
        inputs=EVERY,
        weights="benign",
    ),
    "outliers": Case(
        "two features far larger than the rest; padding on every side",
        config={**ONE_LAYER, **SIX_POSITIONS},
        inputs=EVERY,
        weights="outliers",
    ),
    "edges": Case(
        "embeddings that hardly vary, so that eps counts; GELU far below zero",
        "ForMaskedLM",
        config={**ONE_LAYER, "layer_norm_eps": 1e-6},
        inputs=PADDED,
        weights="edges",
        seed=3,
    ),
    "eleven_layers": Case(
        "so many layers that their names, sorted as text, are in another order",
        config={**FEW_NUMBERS, "num_hidden_layers": 11},
        inputs={"input_ids": [[0, 17, 2]]},
        weights="benign",
        seed=5,
    ),
    "kept_keys": Case(
        "the second call of a decoder: three tokens behind 257, whose keys and values are given",
        config={**ONE_LAYER, **FEW_NUMBERS, "is_decoder": True, "max_position_embeddings": 262},
        inputs=BEHIND,
        before=BEFORE,
    ),
    "decoder_padding_left": Case(
        "a decoder, and padding on the left: queries that may look at nothing",
        config={**ONE_LAYER, **DECODER},
        inputs=LEFT_PADDED,
    ),
    "masked_lm_relu": Case(
        "hidden_act 'relu', which the language modelling head does not follow; a matrix of its own",
        "ForMaskedLM",
        config={**ONE_LAYER, "hidden_act": "relu", "tie_word_embeddings": False},
        inputs=PADDED,
    ),
}

CASES: dict[str, Case] = {
    **AGAINST_MISTAKES,
    # the encoder: padding, masks, positions
    "model": Case("the encoder on two texts without padding", inputs={"input_ids": IDS}),
    "padding_right": Case("padding on the right, masked", inputs=PADDED),
    "padding_left": Case(
        "padding on the left, masked: positions start behind it",
        inputs={"input_ids": LEFT, "attention_mask": LEFT_MASK},
    ),
    "padding_inside": Case(
        "padding between tokens, masked: positions pass over it",
        config=ONE_LAYER,
        inputs={"input_ids": INSIDE, "attention_mask": INSIDE_MASK},
    ),
    "padding_attended": Case(
        "padding on either side and no attention_mask: it is looked at",
        config=ONE_LAYER,
        inputs={"input_ids": [RIGHT[1], LEFT[1]]},
    ),
    "one_token": Case(
        "a row of a single token beside a full one",
        config=ONE_LAYER,
        inputs={
            "input_ids": [[0, PAD, PAD, PAD, PAD], IDS[1]],
            "attention_mask": [[1, 0, 0, 0, 0], [1, 1, 1, 1, 1]],
        },
    ),
    "single_token_alone": Case("one text of one token", inputs={"input_ids": [[7]]}),
    "all_masked": Case(
        "a row that may look at nothing: it attends to all keys alike",
        inputs={"input_ids": IDS, "attention_mask": [[0, 0, 0, 0, 0], [1, 1, 1, 1, 0]]},
    ),
    "full_length": Case(
        "as many tokens as there are positions",
        config=ONE_LAYER,
        inputs={"input_ids": [[0, 28, 11, 8, 5, 9, 9, 27, 3, 4, 6, 17, 12, 2]]},
    ),
    "mask_3d": Case(
        "a mask for each query: causal in the first text, any in the second",
        inputs={
            "input_ids": IDS,
            "attention_mask": [
                [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1] * 5],
                [[0, 1, 0, 1, 0], [1] * 5, [0, 0, 0, 0, 1], [0] * 5, [1, 0, 0, 0, 1]],
            ],
        },
    ),
    "position_ids": Case(
        "positions given, in no order",
        config=ONE_LAYER,
        inputs={"input_ids": IDS, "position_ids": [[15, 3, 0, 9, 9], [2, 14, 6, 1, 8]]},
    ),
    "token_type_ids": Case(
        "both token types",
        config=ONE_LAYER,
        inputs={"input_ids": IDS, "token_type_ids": [[0, 0, 1, 1, 1], [1, 0, 1, 0, 0]]},
    ),
    "one_token_type": Case(
        "one token type only, as in the published checkpoints",
        config={**ONE_LAYER, "type_vocab_size": 1},
        inputs={"input_ids": IDS},
    ),
    "pad_token_id": Case(
        "another padding id moves the first position",
        config={**ONE_LAYER, "pad_token_id": 3},
        inputs={
            "input_ids": [[0, 17, 1, 23, 2], [0, 28, 2, 3, 3]],
            "attention_mask": RIGHT_MASK,
        },
    ),
    "layer_norm_eps": Case(
        "an eps that matters",
        config={**ONE_LAYER, "layer_norm_eps": 0.01},
        inputs={"input_ids": IDS},
    ),
    "head_mask": Case(
        "the same heads switched off, or halved, in every layer; attentions show it",
        inputs={**PADDED, "head_mask": [1.0, 0.0, 0.5], "output_attentions": True},
    ),
    "head_mask_per_layer": Case(
        "other heads switched off in each layer",
        inputs={**PADDED, "head_mask": [[0.0, 1.0, 1.0], [1.0, 0.25, 0.0]]},
    ),
    "hidden_states": Case(
        "all hidden states and attentions returned",
        inputs={**PADDED, "output_hidden_states": True, "output_attentions": True},
    ),
    # the feed-forward activation
    **{
        f"activation_{name}": Case(
            f"hidden_act {name!r}", config={**ONE_LAYER, "hidden_act": name}, inputs=PADDED
        )
        for name in ("gelu_new", "relu", "silu", "tanh")
    },
    # the heads
    "masked_lm": Case(
        "masked language modelling, with labels",
        "ForMaskedLM",
        inputs={**PADDED, "labels": LABELS},
    ),
    "masked_lm_untied": Case(
        "an output matrix of its own",
        "ForMaskedLM",
        config={**ONE_LAYER, "tie_word_embeddings": False},
        inputs=PADDED,
    ),
    "inputs_embeds": Case(
        "vectors in place of ids: positions count every place",
        "ForMaskedLM",
        config=ONE_LAYER,
        inputs={"inputs_embeds": EMBEDS, "attention_mask": LEFT_MASK},
    ),
    "classification": Case(
        "one of three classes, inferred from integer labels",
        "ForSequenceClassification",
        config={**ONE_LAYER, "num_labels": 3},
        inputs={**PADDED, "labels": [2, 0]},
    ),
    "classification_single": Case(
        "problem_type single_label_classification",
        "ForSequenceClassification",
        config={
            **ONE_LAYER, "num_labels": 3, "problem_type": "single_label_classification",
        },
        inputs={**PADDED, "labels": [1, -100]},
    ),
    "classification_multi": Case(
        "problem_type multi_label_classification",
        "ForSequenceClassification",
        config={
            **ONE_LAYER, "num_labels": 3, "problem_type": "multi_label_classification",
        },
        inputs={**PADDED, "labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]},
    ),
    "regression": Case(
        "regression of one number, inferred from num_labels",
        "ForSequenceClassification",
        config={**ONE_LAYER, "num_labels": 1},
        inputs={**PADDED, "labels": [0.75, -1.5]},
    ),
    "regression_multi": Case(
        "problem_type regression, of three numbers",
        "ForSequenceClassification",
        config={**ONE_LAYER, "num_labels": 3, "problem_type": "regression"},
        inputs={**PADDED, "labels": [[0.5, -0.25, 2.0], [1.5, 0.125, -1.0]]},
    ),
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
        inputs=CHOICES,
    ),
    "question_answering": Case(
        "spans: inside the window, and ending behind it",
        "ForQuestionAnswering",
        config=ONE_LAYER,
        inputs={**PADDED, **SPANS},
    ),
    # the decoder
    "causal_lm": Case(
        "a causal language model: tokens look back, padding is masked; the loss of the next token",
        "ForCausalLM",
        config=DECODER,
        inputs={**PADDED, "labels": LABELS},
    ),
    "causal_lm_cache": Case(
        "keys and values returned for the next call",
        "ForCausalLM",
        config={**DECODER, "use_cache": True},
        inputs={"input_ids": IDS},
    ),
    "causal_lm_encoder": Case(
        "is_decoder false: every token looks at every other, as the original does with a warning",
        "ForCausalLM",
        config=ONE_LAYER,
        inputs=PADDED,
    ),
    "decoder_mask_3d": Case(
        "a mask for each query in a decoder: it holds as it is, and is not made causal",
        config={**ONE_LAYER, **DECODER},
        inputs={
            "input_ids": IDS,
            "attention_mask": [
                [[1, 1, 0, 0, 0], [1, 1, 0, 0, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1] * 5],
                [[0, 1, 0, 1, 0], [1] * 5, [0, 0, 0, 0, 1], [1] * 5, [1, 0, 0, 0, 1]],
            ],
        },
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
    "cross_attention_mask_3d": Case(
        "a mask of the encoder's tokens for each query, a head mask for both attentions, a cache",
        "ForCausalLM",
        config={**ONE_LAYER, **DECODER, "add_cross_attention": True, "use_cache": True},
        inputs={
            "input_ids": IDS,
            "encoder_hidden_states": STATES,
            "encoder_attention_mask": [
                [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1] * 4, [0, 0, 1, 1]],
                [[1] * 4, [0, 1, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0], [1] * 4],
            ],
            "head_mask": [1.0, 0.5, 0.0],
        },
    ),
    # other switches
    **{
        f"position_{kind}": Case(
            f"position_embedding_type {kind!r}: distances in the scores, no positions added",
            config={"position_embedding_type": kind},
            inputs=PADDED,
        )
        for kind in ("relative_key", "relative_key_query")
    },
    "pruned_heads": Case(
        "two heads pruned in the first layer, one in the second",
        config={"pruned_heads": {0: [0, 2], 1: [1]}},
        inputs=PADDED,
    ),
}  # fmt: skip


def make(root: Path, only: str | None = None) -> None:
    """Write all cases, or the one called ``only``, under ``root``."""
    make_cases("XLMRoberta", CASES, SIZES, root, only)
    if only in (None, "from_text"):
        make_from_text(root / "from_text")


def make_from_text(folder: Path) -> None:
    """Write the case that goes the whole way, from text to logits, with its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(VOCABULARY, folder / VOCABULARY.name)
    tokenizer = transformers.XLMRobertaTokenizer(str(VOCABULARY))
    inputs = dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))
    config = {**SIZES, **ONE_LAYER, "vocab_size": len(tokenizer), "type_vocab_size": 1}
    write_case(
        folder,
        make_model("XLMRoberta", "ForMaskedLM", config, seed=7),
        inputs,
        what="from text to logits: the tokenizer, then masked language modelling",
        seed=7,
        texts=TEXTS,
    )
