"""The cases of XLM-RoBERTa: every class and every switch, on models of a few thousand numbers.

The sizes are as different from one another as they can be, so that no two axes can be swapped
unseen. Models have two layers where the case is about the encoder, one where it is about a head.
"""

from __future__ import annotations

import shutil
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from golden.make.random_weights import randomise
from golden.make.write import write_case

VOCABULARY = Path(__file__).parents[1] / "tokenizers" / "xlm_roberta" / "sentencepiece.bpe.model"
TEXTS = ["The lamp <mask>", "水"]  # short, because every piece scores the whole vocabulary

PAD = 1
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


@dataclass(frozen=True)
class Case:
    """One checkpoint and one call of it. ``inputs`` are as the class takes them."""

    what: str
    head: str = "Model"
    config: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)


# Two texts of five tokens; ids 5 and up are words, PAD is 1, 0 and 2 are <s> and </s>.
IDS = [[0, 17, 5, 23, 2], [0, 28, 11, 8, 2]]
RIGHT = [[0, 17, 5, 23, 2], [0, 28, 2, PAD, PAD]]
RIGHT_MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
LEFT = [[0, 17, 5, 23, 2], [PAD, PAD, 0, 28, 2]]
LEFT_MASK = [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]
INSIDE = [[0, 17, PAD, 23, 2], [0, PAD, 11, PAD, 2]]
INSIDE_MASK = [[1, 1, 0, 1, 1], [1, 0, 1, 0, 1]]
PADDED = {"input_ids": RIGHT, "attention_mask": RIGHT_MASK}
LABELS = [[-100, 17, -100, 4, -100], [3, -100, 28, -100, -100]]
EMBEDS = "embeds"  # stands for random vectors of the right shape


CASES: dict[str, Case] = {
    # the encoder: padding, masks, positions
    "model": Case("the encoder on two texts without padding", inputs={"input_ids": IDS}),
    "padding_right": Case("padding on the right, masked", inputs=PADDED),
    "padding_left": Case(
        "padding on the left, masked: positions start behind it",
        inputs={"input_ids": LEFT, "attention_mask": LEFT_MASK},
    ),
    "padding_inside": Case(
        "padding between tokens, masked: positions pass over it",
        inputs={"input_ids": INSIDE, "attention_mask": INSIDE_MASK},
    ),
    "padding_attended": Case(
        "padding on either side and no attention_mask: it is looked at",
        inputs={"input_ids": [RIGHT[1], LEFT[1]]},
    ),
    "one_token": Case(
        "a row of a single token beside a full one",
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
        inputs={"input_ids": IDS, "position_ids": [[15, 3, 0, 9, 9], [2, 14, 6, 1, 8]]},
    ),
    "token_type_ids": Case(
        "both token types",
        inputs={"input_ids": IDS, "token_type_ids": [[0, 0, 1, 1, 1], [1, 0, 1, 0, 0]]},
    ),
    "one_token_type": Case(
        "one token type only, as in the published checkpoints",
        config={"type_vocab_size": 1},
        inputs={"input_ids": IDS},
    ),
    "pad_token_id": Case(
        "another padding id moves the first position",
        config={"pad_token_id": 3},
        inputs={
            "input_ids": [[0, 17, 1, 23, 2], [0, 28, 2, 3, 3]],
            "attention_mask": RIGHT_MASK,
        },
    ),
    "layer_norm_eps": Case(
        "an eps that matters", config={"layer_norm_eps": 0.01}, inputs={"input_ids": IDS}
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
        inputs={
            "input_ids": [
                [[0, 17, 5, 2], [0, 28, 2, PAD], [0, 9, 11, 2]],
                [[0, 6, 2, PAD], [0, 4, 12, 2], [0, 2, PAD, PAD]],
            ],
            "attention_mask": [
                [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]],
                [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]],
            ],
            "token_type_ids": [
                [[0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 1]],
                [[0, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 0]],
            ],
            "labels": [2, 0],
        },
    ),
    "question_answering": Case(
        "spans: inside the window, and ending behind it",
        "ForQuestionAnswering",
        config=ONE_LAYER,
        inputs={**PADDED, "start_positions": [1, 2], "end_positions": [3, 9]},
    ),
}  # fmt: skip


def make_model(head: str, config: dict[str, Any], seed: int) -> transformers.PreTrainedModel:
    """An original model with random weights, in evaluation mode."""
    full = transformers.XLMRobertaConfig(**{**SIZES, **config}, attn_implementation="eager")
    model = getattr(transformers, f"XLMRoberta{head}")(full)
    randomise(model, seed)
    return model.eval()


def as_tensors(inputs: dict[str, Any], seed: int) -> dict[str, Any]:
    """Lists -> tensors (float64 where they hold reals); flags as they are."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, value in inputs.items():
        if value == EMBEDS:
            made[name] = torch.randn(2, 5, SIZES["hidden_size"], generator=generator).double()
        elif isinstance(value, list):
            x = torch.tensor(value)
            made[name] = x.double() if x.is_floating_point() else x
        else:
            made[name] = value
    return made


def make(root: Path, only: str | None = None) -> None:
    """Write all cases, or the one called ``only``, under ``root``."""
    for name, case in CASES.items():
        if only in (None, name):
            seed = zlib.crc32(name.encode())
            model = make_model(case.head, case.config, seed)
            inputs = as_tensors(case.inputs, seed)
            write_case(root / name, model, inputs, what=case.what, seed=seed)
    if only in (None, "from_text"):
        make_from_text(root / "from_text")


def make_from_text(folder: Path) -> None:
    """Write the case that goes the whole way, from text to logits, with its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(VOCABULARY, folder / VOCABULARY.name)
    tokenizer = transformers.XLMRobertaTokenizer(str(VOCABULARY))
    inputs = dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))
    config = {**ONE_LAYER, "vocab_size": len(tokenizer), "type_vocab_size": 1}
    write_case(
        folder,
        make_model("ForMaskedLM", config, seed=7),
        inputs,
        what="from text to logits: the tokenizer, then masked language modelling",
        seed=7,
        texts=TEXTS,
    )
