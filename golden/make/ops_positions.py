"""Cards: which position a token has, and positions as numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import XLMRobertaConfig
from transformers.models.xlm.modeling_xlm import create_sinusoidal_embeddings
from transformers.models.xlm_roberta.modeling_xlm_roberta import (
    XLMRobertaEmbeddings,
    create_position_ids_from_input_ids,
)

from golden.make.ops_card import Card, Case, Draw, reals
from golden.make.ops_modules import attend


def from_padding(input_ids: torch.Tensor, padding_idx: int, past: int) -> torch.Tensor:
    """The original's function."""
    return create_position_ids_from_input_ids(input_ids, padding_idx, past)


def padded(what: str, ids: list[list[int]], padding_idx: int = 1, past: int = 0) -> Case:
    """A case of ids."""
    return Case(what, {"input_ids": torch.tensor(ids), "padding_idx": padding_idx, "past": past})


FROM_PADDING = Card(
    "position_ids_from_padding",
    ours="position_ids_from_padding",
    what="Number the tokens of each row from padding_idx + 1 on, passing over padding wherever it "
    "stands; padding itself gets padding_idx. `past` tokens were numbered before.",
    theirs="create_position_ids_from_input_ids",
    source="fairseq's make_positions; transformers 4.57.6, models/xlm_roberta",
    shapes={"input_ids": "ids (B, S)", "padding_idx": "()", "past": "()", "output": "ids (B, S)"},
    function=from_padding,
    cases={
        "unpadded": padded("no padding: from 2 on", [[0, 5, 6, 2], [0, 9, 8, 2]]),
        "right": padded("padding on the right", [[0, 5, 6, 2], [0, 2, 1, 1]]),
        "left": padded("padding on the left", [[1, 1, 0, 2], [1, 0, 5, 2]]),
        "inside": padded("padding between tokens", [[0, 1, 5, 1, 2]]),
        "all_padded": padded("nothing but padding", [[1, 1, 1], [0, 2, 1]]),
        "one_token": padded("a single place, token or padding", [[0], [1]]),
        "past": padded("three tokens went before", [[7, 2, 1], [1, 9, 2]], past=3),
        "padding_0": padded("another padding id", [[5, 0, 1, 2], [1, 1, 0, 0]], padding_idx=0),
        "long": padded(
            "300 tokens: positions that bfloat16 cannot count", [[1, 1, *[7] * 298], [7] * 300]
        ),
        "padding_5": padded("a large padding id", [[5, 0, 1, 5], [1, 1, 5, 4]], padding_idx=5),
    },
)


def in_order(inputs_embeds: torch.Tensor, padding_idx: int) -> torch.Tensor:
    """The original's method; it looks at nothing but the shape."""
    config = XLMRobertaConfig(
        vocab_size=4, hidden_size=4, max_position_embeddings=8, pad_token_id=min(padding_idx, 3)
    )
    module = XLMRobertaEmbeddings(config)
    module.padding_idx = padding_idx
    return module.create_position_ids_from_inputs_embeds(inputs_embeds)


draw = Draw("position_ids_in_order")
IN_ORDER = Card(
    "position_ids_in_order",
    ours="position_ids_in_order",
    what="Number all places of each row from padding_idx + 1 on: vectors do not tell padding.",
    theirs="XLMRobertaEmbeddings.create_position_ids_from_inputs_embeds",
    source="transformers 4.57.6, models/xlm_roberta",
    shapes={"inputs_embeds": "(B, S, D)", "padding_idx": "()", "output": "ids (B, S)"},
    function=in_order,
    cases={
        "two_rows": Case(
            "two texts of four", {"inputs_embeds": draw.normal(2, 4, 3), "padding_idx": 1}
        ),
        "one_place": Case(
            "a single place", {"inputs_embeds": draw.normal(1, 1, 3), "padding_idx": 1}
        ),
        "padding_0": Case(
            "another padding id", {"inputs_embeds": draw.normal(1, 3, 2), "padding_idx": 0}
        ),
        "zeros": Case(
            "vectors of zeros count", {"inputs_embeds": reals([[0.0], [1.0]]), "padding_idx": 1}
        ),
    },
)


def sines(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Rows of the original's table, which it keeps in float32."""
    table = torch.empty(int(positions.max()) + 1, width)
    create_sinusoidal_embeddings(*table.shape, out=table)
    return table[positions]


def sine_case(what: str, positions: list[int], width: int) -> Case:
    """A case of the table; its numbers are float32's in every arithmetic."""
    return Case(
        what,
        {"positions": torch.tensor(positions), "width": width},
        without=("float16", "bfloat16"),
    )


SINUSOIDAL = Card(
    "sinusoidal_positions",
    ours="sinusoidal_positions",
    what="Column j of position p: sin(p / 10000^(2i/D)) for j = 2i, the cosine of the same angle "
    "for j = 2i + 1. The original computes in float64 and keeps float32.",
    theirs="create_sinusoidal_embeddings",
    source="Vaswani et al. 2017, section 3.5; transformers 4.57.6, models/xlm/modeling_xlm.py",
    shapes={"positions": "ids (P)", "width": "()", "output": "(P, D)"},
    function=sines,
    cases={
        "even": sine_case("eight columns, near positions", [0, 1, 2, 3, 4, 9], 8),
        "odd": sine_case("seven columns: the last is a sine", [0, 1, 5], 7),
        "two": sine_case("one sine and one cosine", [0, 1, 2], 2),
        "far": sine_case("positions up to 511", [31, 127, 500, 511], 6),
        "unordered": sine_case("positions in any order, one twice", [7, 0, 7, 3], 4),
    },
)


class Einsums(TorchFunctionMode):
    """Adds up what einsum returns while it is open: the original's scores of the distances."""

    total: torch.Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.einsum:
            self.total = result if self.total is None else self.total + result
        return result


def distance_scores(
    query: torch.Tensor, key: torch.Tensor, table: torch.Tensor, of_key: bool
) -> torch.Tensor:
    """What the original's attention adds to its products."""
    past = key.shape[2] - query.shape[2]
    with Einsums() as seen:
        attend(
            query,
            key[:, :, past:],
            key[:, :, past:],
            past=(key[:, :, :past], key[:, :, :past]) if past else None,
            table=table,
            of_key=of_key,
        )
    assert seen.total is not None
    return seen.total


draw = Draw("relative_position_scores")


def distance_case(what: str, queries: int, keys: int, of_key: bool, scale: float = 1.0) -> Case:
    """Two texts, two heads of four features, distances up to ``keys``."""
    return Case(
        what,
        {
            "query": draw.normal(2, 2, queries, 4, scale=scale),
            "key": draw.normal(2, 2, keys, 4, scale=scale),
            "table": draw.normal(2 * keys - 1 + 2 * (keys % 2), 4),
            "of_key": of_key,
        },
    )


RELATIVE = Card(
    "relative_position_scores",
    ours="relative_position_scores",
    what="q · t for the learned vector t of the distance (place of the query minus place of the "
    "key), plus k · t where of_key is true; before the scale. Row (P-1)/2 is distance 0. The "
    "queries are the last S of the T places.",
    theirs='the einsums of XLMRobertaSelfAttention, for "relative_key" and "relative_key_query"',
    source="Shaw et al. 2018, equation 4; Huang et al. 2020, method 4",
    shapes={
        "query": "(B, H, S, K)",
        "key": "(B, H, T, K)",
        "table": "(P, K)",
        "of_key": "()",
        "output": "(B, H, S, T)",
    },
    function=distance_scores,
    uses=("embedding",),
    cases={
        "key": distance_case("relative_key", 4, 4, of_key=False),
        "key_query": distance_case("relative_key_query", 4, 4, of_key=True),
        "larger_table": distance_case("a table of more distances than occur", 3, 3, of_key=True),
        "cache": distance_case("one query behind four earlier keys", 1, 5, of_key=False),
        "cache_key_query": distance_case("the same, relative_key_query", 1, 4, of_key=True),
        "one_token": distance_case("one query and one key", 1, 1, of_key=True),
        "large": distance_case("scores of 80 and more", 3, 3, of_key=True, scale=16.0),
    },
)

CARDS = (FROM_PADDING, IN_ORDER, SINUSOIDAL, RELATIVE)
