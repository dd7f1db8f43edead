"""Cards: what may be looked at, and what a mask does to scores."""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import XLMRobertaConfig, XLMRobertaModel
from transformers.models.xlm.modeling_xlm import get_masks

from golden.make.ops_card import Card, Case, Draw, reals
from golden.make.ops_modules import added

EXTENDED = "ModuleUtilsMixin.get_extended_attention_mask; true where it adds 0"
TRANSFORMERS = "transformers 4.57.6, modeling_utils.py"


def extended(mask: torch.Tensor, shape: tuple[int, int], causal: bool) -> torch.Tensor:
    """The mask that the original adds to the scores, as a boolean: true where it adds nothing."""
    config = XLMRobertaConfig(
        vocab_size=4,
        hidden_size=4,
        num_hidden_layers=0,
        num_attention_heads=1,
        is_decoder=causal,
        max_position_embeddings=4,
    )
    model = XLMRobertaModel(config, add_pooling_layer=False)
    return model.get_extended_attention_mask(mask, shape, dtype=torch.float64) == 0


def broadcast(attention_mask: torch.Tensor) -> torch.Tensor:
    """An encoder's mask."""
    return extended(attention_mask, tuple(attention_mask.shape[:2]), causal=False)


def ones(*rows: list[int]) -> torch.Tensor:
    """A mask of integers."""
    return torch.tensor(rows)


BROADCAST = Card(
    "broadcast_mask",
    ours="broadcast_mask",
    what="Give a mask of keys (B, T), or of keys for each query (B, S, T), the axes of attention "
    "scores. The output is true where a key may be looked at.",
    theirs=EXTENDED,
    source=TRANSFORMERS,
    shapes={"attention_mask": "ids (B, T) or (B, S, T)", "output": "mask (B, 1, 1 or S, T)"},
    function=broadcast,
    cases={
        "right": Case("padding on the right", {"attention_mask": ones([1, 1, 1], [1, 0, 0])}),
        "left": Case("padding on the left", {"attention_mask": ones([0, 0, 1, 1], [1, 1, 1, 1])}),
        "inside": Case("padding between tokens", {"attention_mask": ones([1, 0, 1, 0])}),
        "all_padded": Case("nothing may be looked at", {"attention_mask": ones([0, 0], [1, 1])}),
        "one_key": Case("a single key", {"attention_mask": ones([1])}),
        "of_queries": Case(
            "another mask for each query",
            {"attention_mask": torch.tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 1], [0, 0, 0]]])},
        ),
    },
)


def causal(queries: int, keys: int) -> torch.Tensor:
    """A decoder's mask, where all tokens may be looked at."""
    everything = torch.ones(1, keys, dtype=torch.long)
    return extended(everything, (1, queries), causal=True)[0, 0]


CAUSAL = Card(
    "causal_mask",
    ours="causal_mask",
    what="Each of S queries looks at itself and what stands before it among T keys; the queries "
    "are the last S of the T places.",
    theirs=f"{EXTENDED}, of a decoder",
    source=TRANSFORMERS,
    shapes={"queries": "()", "keys": "()", "output": "mask (S, T)"},
    function=causal,
    cases={
        "square": Case("as many queries as keys", {"queries": 4, "keys": 4}),
        "one": Case("one token", {"queries": 1, "keys": 1}),
        "one_behind_cache": Case("one query behind four keys", {"queries": 1, "keys": 5}),
        "some_behind_cache": Case("three queries behind two keys", {"queries": 3, "keys": 5}),
    },
)

LENGTH = Card(
    "length_mask",
    ours="length_mask",
    what="The first lengths[i] of the places of row i may be looked at.",
    theirs="get_masks, the first of its results",
    source="transformers 4.57.6, models/xlm/modeling_xlm.py",
    shapes={"lengths": "ids (B)", "places": "()", "output": "mask (B, S)"},
    function=lambda lengths, places: get_masks(places, lengths, causal=False)[0],
    cases={
        "several": Case("some padding", {"lengths": torch.tensor([3, 1, 2]), "places": 4}),
        "full": Case("no padding", {"lengths": torch.tensor([4, 4]), "places": 4}),
        "all_padded": Case("a text of no tokens", {"lengths": torch.tensor([0, 2]), "places": 3}),
        "one": Case("one place", {"lengths": torch.tensor([1]), "places": 1}),
    },
)


def decoder(attention_mask: torch.Tensor, queries: int, causal: bool) -> torch.Tensor:
    """A mask of keys for the latest queries."""
    return extended(attention_mask, (attention_mask.shape[0], queries), causal)


ATTENTION_MASK = Card(
    "attention_mask_for",
    ours="attention_mask_for",
    what="The mask that broadcasts against attention scores: padding, and in a causal model what "
    "comes later, unless the mask already says for each query what it may look at.",
    theirs=EXTENDED,
    source=TRANSFORMERS,
    shapes={
        "attention_mask": "ids (B, T) or (B, S, T)",
        "queries": "()",
        "causal": "()",
        "output": "mask (B, 1, 1 or S, T)",
    },
    function=decoder,
    uses=("broadcast_mask", "causal_mask"),
    cases={
        "encoder": Case(
            "not causal",
            {"attention_mask": ones([1, 1, 0], [0, 1, 1]), "queries": 3, "causal": False},
        ),
        "decoder": Case(
            "causal and padded",
            {"attention_mask": ones([1, 1, 1, 0], [0, 1, 1, 1]), "queries": 4, "causal": True},
        ),
        "cache": Case(
            "two queries behind three keys, one of which is padding",
            {"attention_mask": ones([0, 1, 1, 1, 1]), "queries": 2, "causal": True},
        ),
        "of_queries": Case(
            "a causal model, and a mask for each query: it is taken as it is",
            {
                "attention_mask": torch.tensor([[[1, 1, 0], [0, 1, 1], [1, 1, 1]]]),
                "queries": 3,
                "causal": True,
            },
        ),
    },
)

draw = Draw("mask_scores")


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """As the eager attention does it."""
    return functional.softmax(scores + added(mask, scores.dtype), dim=-1)


def boolean(*rows: list[int]) -> torch.Tensor:
    """A mask that broadcasts against scores of one text, or of several."""
    return torch.tensor(rows).bool()[:, None, None, :]


MASK_SCORES = Card(
    "mask_scores",
    ours="mask_scores",
    what="Scores that may not be looked at are made so low that softmax gives exactly 0 there. The "
    "output is the softmax of the masked scores. A row that may look at nothing looks at all keys "
    "alike, 1/T each.",
    theirs="softmax(scores + get_extended_attention_mask(mask)), in XLMRobertaSelfAttention",
    source="Vaswani et al. 2017, section 3.2.3",
    shapes={"scores": "(B, H, S, T)", "mask": "mask (B, 1, 1 or S, T)", "output": "(B, H, S, T)"},
    function=masked_softmax,
    uses=("softmax",),
    cases={
        "right": Case(
            "padding on the right",
            {"scores": draw.normal(2, 2, 3, 4, scale=2.0), "mask": boolean([1, 1, 1, 0], [1] * 4)},
        ),
        "left": Case(
            "padding on the left",
            {"scores": draw.normal(2, 2, 3, 4), "mask": boolean([0, 1, 1, 1], [0, 0, 0, 1])},
        ),
        "one_key": Case(
            "one key is left",
            {"scores": draw.normal(1, 2, 2, 4, scale=2.0), "mask": boolean([0, 0, 1, 0])},
        ),
        "all_padded": Case(
            "nothing may be looked at, and scores differ: 1/T each",
            {"scores": draw.normal(2, 2, 2, 5, scale=2.0), "mask": boolean([0] * 5, [1] * 5)},
        ),
        "all_padded_large": Case(
            "the same, with scores of 80",
            {
                "scores": reals([[[80.0, -80.0, 0.0, 40.0]]]),
                "mask": boolean([0] * 4),
            },
            without=("float16",),
            note="float16: the original's sum with the lowest number reaches -infinity and is not "
            "1/T each; there is no right answer to compare with",
        ),
        "padding_scores_high": Case(
            "what is masked has scores of 80, what is not has scores of -80",
            {
                "scores": reals([[[-80.0, 80.0, -80.5, 80.0], [-79.0, 79.0, -80.0, 96.0]]]),
                "mask": boolean([1, 0, 1, 0]),
            },
        ),
        "beyond_10000": Case(
            "masked scores of 20,000: adding -10,000 does not hide them",
            {"scores": reals([[[0.5, 20480.0, 1.0]]]), "mask": boolean([1, 0, 1])},
        ),
        "below_10000": Case(
            "scores of -20,000 beside a masked one: replacing it by -10,000 lets it win",
            {"scores": reals([[[-20480.0, 1.0, -20352.0]]]), "mask": boolean([1, 0, 1])},
        ),
        "of_queries": Case(
            "another mask for each query",
            {
                "scores": draw.normal(1, 2, 3, 3, scale=2.0),
                "mask": torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()[None, None],
            },
        ),
        "unmasked": Case(
            "everything may be looked at",
            {"scores": draw.normal(1, 2, 2, 3), "mask": boolean([1, 1, 1])},
        ),
    },
)

CARDS = (BROADCAST, CAUSAL, LENGTH, ATTENTION_MASK, MASK_SCORES)
