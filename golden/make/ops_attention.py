"""Cards: heads, and attention in all its forms."""

from __future__ import annotations

from typing import Any

import torch

from golden.make.ops_card import Card, Case, Draw, reals
from golden.make.ops_modules import attend, merge, split, xlm_attend

ROBERTA = "transformers 4.57.6, models/xlm_roberta/modeling_xlm_roberta.py"
VASWANI = "Vaswani et al. 2017, equation 1"

draw = Draw("heads")
SPLIT = Card(
    "split_heads",
    ours="split_heads",
    what="Cut the last axis into heads of `size` features each: the head is the slower index.",
    theirs="view(B, S, H, K).transpose(1, 2), in XLMRobertaSelfAttention",
    source=ROBERTA,
    shapes={"x": "(B, S, D)", "size": "()", "output": "(B, H, S, K)"},
    function=lambda x, size: split(x, size),
    cases={
        "several": Case("three heads of two", {"x": draw.normal(2, 4, 6), "size": 2}),
        "square": Case("as many heads as tokens", {"x": draw.normal(1, 3, 12), "size": 4}),
        "one_head": Case("one head", {"x": draw.normal(2, 3, 4), "size": 4}),
        "one_feature": Case("heads of one feature", {"x": draw.normal(1, 2, 3), "size": 1}),
    },
)
MERGE = Card(
    "merge_heads",
    ours="merge_heads",
    what="Undo split_heads: the heads' features side by side again.",
    theirs="permute(0, 2, 1, 3), then view, in XLMRobertaSelfAttention",
    source=ROBERTA,
    shapes={"x": "(B, H, S, K)", "output": "(B, S, D)"},
    function=merge,
    cases={
        "several": Case("three heads of two", {"x": draw.normal(2, 3, 4, 2)}),
        "square": Case("as many heads as tokens", {"x": draw.normal(1, 3, 3, 4)}),
        "one_head": Case("one head", {"x": draw.normal(2, 1, 3, 4)}),
        "one_feature": Case("heads of one feature", {"x": draw.normal(1, 3, 2, 1)}),
    },
)
EXTEND = Card(
    "extend",
    ours="extend",
    what="Keys (or values) of new tokens behind those that an earlier call kept, if it did.",
    theirs="DynamicCache.update",
    source="transformers 4.57.6, cache_utils.py",
    shapes={"past": "(B, H, T-S, K)", "new": "(B, H, S, K)", "output": "(B, H, T, K)"},
    function=lambda new, past=None: new if past is None else torch.cat([past, new], dim=2),
    cases={
        "one": Case(
            "one token behind three",
            {"past": draw.normal(2, 2, 3, 2), "new": draw.normal(2, 2, 1, 2)},
        ),
        "as_many": Case(
            "as many as there were: the order shows",
            {"past": draw.normal(1, 2, 2, 2), "new": draw.normal(1, 2, 2, 2)},
        ),
        "none": Case("nothing was kept", {"new": draw.normal(1, 2, 3, 2)}),
    },
)

# --- heads that attend ----------------------------------------------------------------------------


def everything(queries: int, keys: int, batch: int = 1) -> torch.Tensor:
    """A mask that hides nothing."""
    return torch.ones(batch, 1, queries, keys, dtype=torch.bool)


def keys_of(*rows: list[int]) -> torch.Tensor:
    """A mask of keys, the same for every query."""
    return torch.tensor(rows).bool()[:, None, None, :]


def past_only(size: int) -> torch.Tensor:
    """A causal mask."""
    return torch.ones(size, size).tril().bool()[None, None]


def sdpa(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scale: float,
    head_mask: torch.Tensor | None = None,
    position_scores: torch.Tensor | None = None,
) -> torch.Tensor:
    """Heads apart on both sides; the scale of the original is always 1/√K."""
    size = query.shape[3]
    assert scale == size**-0.5
    more = {"head_mask": head_mask, "position_scores": position_scores}
    return split(attend(query, key, value, mask=mask, **more), size)


draw = Draw("scaled_dot_product_attention")


def heads_case(what: str, mask: torch.Tensor, shape: Any, **more: Any) -> Case:
    """A case of random queries, keys and values; ``shape`` is B, H, S, T, K."""
    batch, heads, queries, keys, size = shape
    factor, note = more.pop("factor", 1.5), more.pop("note", "")
    return Case(
        what,
        {
            "query": draw.normal(batch, heads, queries, size, scale=factor),
            "key": draw.normal(batch, heads, keys, size, scale=factor),
            "value": draw.normal(batch, heads, keys, size),
            "mask": mask,
            "scale": size**-0.5,
            **more,
        },
        note=note,
    )


AXES = {"query": "(B, H, S, K)", "key": "(B, H, T, K)", "value": "(B, H, T, K)"}
SDPA = Card(
    "scaled_dot_product_attention",
    ours="scaled_dot_product_attention",
    what="softmax(mask(Q Kᵀ scale)) V. head_mask multiplies each head's probabilities. A query "
    "that may look at nothing looks at all keys alike.",
    theirs="XLMRobertaSelfAttention, given queries, keys and values",
    source=VASWANI,
    shapes={
        **AXES,
        "mask": "mask (B, 1, 1 or S, T)",
        "scale": "()",
        "head_mask": "(H)",
        "position_scores": "(B, H, S, T)",
        "output": "(B, H, S, K)",
    },
    meaning={"position_scores": "added to the products before they are scaled"},
    function=sdpa,
    uses=("mask_scores", "softmax"),
    cases={
        "plain": heads_case("nothing masked", everything(3, 3), (1, 2, 3, 3, 4)),
        "square": heads_case(
            "as many tokens as features: every transposition fits",
            everything(4, 4),
            (1, 4, 4, 4, 4),
        ),
        "padded": heads_case(
            "padding on the right", keys_of([1, 1, 1, 0], [1, 0, 0, 0]), (2, 2, 4, 4, 4)
        ),
        "left": heads_case("padding on the left", keys_of([0, 0, 1, 1]), (1, 2, 4, 4, 2)),
        "causal": heads_case("each looks back only", past_only(4), (1, 2, 4, 4, 4)),
        "more_keys": heads_case(
            "more keys than queries", keys_of([1, 0, 1, 1, 1]), (1, 2, 2, 5, 4)
        ),
        "one_key": heads_case("one key: the value itself", everything(1, 1), (1, 2, 1, 1, 4)),
        "all_padded": heads_case(
            "a text of nothing but padding: the mean of the values",
            keys_of([0] * 4, [1, 1, 0, 0]),
            (2, 2, 4, 4, 4),
            factor=1.0,
        ),
        "head_mask": heads_case(
            "a head off, a head by half",
            everything(3, 3),
            (1, 3, 3, 3, 2),
            head_mask=reals(0.0, 1.0, 0.5),
        ),
        "one_feature": heads_case("heads of one feature", everything(3, 3), (1, 2, 3, 3, 1)),
        "position_scores": heads_case(
            "scores of distances are scaled with the products",
            keys_of([1, 1, 0]),
            (1, 2, 3, 3, 4),
            position_scores=draw.normal(1, 2, 3, 3, scale=2.0),
        ),
        "scores_of_80": Case(
            "scores up to 80 in size: all but one-hot, with a tie",
            {
                "query": reals([[[40.0, 0.0], [0.0, -40.0], [8.0, 8.0]]]) * 2.0,
                "key": reals([[[1.4140625, 0.0], [1.4140625, 0.5], [-1.0, 1.25]]]),
                "value": draw.normal(1, 1, 3, 2),
                "mask": everything(3, 3),
                "scale": 2**-0.5,
            },
        ),
        "float16_overflow": Case(
            "products beyond 65504 before they are scaled",
            {
                "query": reals([[[256.0, 256.0, 0.0, 0.0], [1.0, 0.0, 0.5, 0.25]]]),
                "key": reals([[[240.0, 240.0, 0.0, 0.0], [0.5, 0.0, 1.0, 0.0]]]),
                "value": draw.normal(1, 1, 2, 4),
                "mask": everything(2, 2),
                "scale": 0.5,
            },
            note="float16: the original's scores overflow and the row becomes NaN; a port that "
            "scales the queries first has the right row",
        ),
    },
)

# --- heads side by side ---------------------------------------------------------------------------


def multi_head(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    head_size: int,
    mask: torch.Tensor,
    past_key: torch.Tensor | None = None,
    past_value: torch.Tensor | None = None,
    distances: torch.Tensor | None = None,
    of_key: bool = False,
    head_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The original's module, whole."""
    return attend(
        *(split(x, head_size) for x in (query, key, value)),
        mask=mask,
        past=None if past_key is None or past_value is None else (past_key, past_value),
        table=distances,
        of_key=of_key,
        head_mask=head_mask,
    )


draw = Draw("multi_head_attention")


def whole_case(what: str, mask: torch.Tensor, batch: int, queries: int, **more: Any) -> Case:
    """Three heads of two features; ``keys`` new keys where they are not as many as queries."""
    keys = more.pop("keys", queries)
    return Case(
        what,
        {
            "query": draw.normal(batch, queries, 6, scale=1.5),
            "key": draw.normal(batch, keys, 6, scale=1.5),
            "value": draw.normal(batch, keys, 6),
            "head_size": 2,
            "mask": mask,
            **more,
        },
    )


def kept(batch: int, length: int) -> dict[str, torch.Tensor]:
    """Keys and values of an earlier call."""
    return {name: draw.normal(batch, 3, length, 2) for name in ("past_key", "past_value")}


WHOLE = {"query": "(B, S, A)", "key": "(B, T-P, A)", "value": "(B, T-P, A)"}
MULTI_HEAD = Card(
    "multi_head_attention",
    ours="multi_head_attention",
    what="Cut queries, keys and values into heads, put kept keys and values before the new ones, "
    "let each head attend, scaled by 1/√K, and put the results side by side.",
    theirs="XLMRobertaSelfAttention, given queries, keys and values",
    source="Vaswani et al. 2017, section 3.2.2",
    shapes={
        **WHOLE,
        "head_size": "()",
        "mask": "mask (B, 1, 1 or S, T)",
        "past_key": "(B, H, P, K)",
        "past_value": "(B, H, P, K)",
        "distances": "(2 N - 1, K)",
        "of_key": "()",
        "head_mask": "(H)",
        "output": "(B, S, A)",
    },
    meaning={"distances": "the table of relative_position_scores"},
    function=multi_head,
    uses=(
        "split_heads",
        "extend",
        "relative_position_scores",
        "scaled_dot_product_attention",
        "merge_heads",
    ),
    cases={
        "plain": whole_case("nothing masked", everything(4, 4, 2), 2, 4),
        "padded": whole_case("padding on both sides", keys_of([1, 1, 0], [0, 1, 1]), 2, 3),
        "of_queries": whole_case("another mask for each query", past_only(3), 1, 3),
        "cross": whole_case(
            "the keys of another text", keys_of([1, 1, 0, 1, 1]), 1, 2, keys=5
        ),
        "cache": whole_case(
            "two tokens behind three", everything(2, 5), 1, 2, **kept(1, 3)
        ),
        "all_padded": whole_case("nothing may be looked at", keys_of([0, 0, 0], [1, 1, 1]), 2, 3),
        "relative_key": whole_case(
            "relative positions", everything(4, 4), 1, 4, distances=draw.normal(9, 2), of_key=False
        ),
        "relative_key_query": whole_case(
            "relative positions of both",
            keys_of([1, 1, 1, 0]), 1, 4, distances=draw.normal(7, 2), of_key=True,
        ),
        "relative_cache": whole_case(
            "one token behind three, with relative positions",
            everything(1, 4), 1, 1, **kept(1, 3), distances=draw.normal(7, 2), of_key=True,
        ),
        "head_mask": whole_case(
            "heads off", everything(3, 3), 1, 3, head_mask=reals(1.0, 0.0, 0.25)
        ),
    },
)  # fmt: skip

draw = Draw("xlm_attention")
XLM = Card(
    "xlm_attention",
    what="XLM's attention: queries are scaled before the product, the softmax is computed in "
    "float32 and cast back. Else it is multi_head_attention.",
    theirs="MultiHeadAttention of XLM, given queries, keys and values, without out_lin",
    source="transformers 4.57.6, models/xlm/modeling_xlm.py",
    shapes={
        **dict.fromkeys(("query", "key", "value"), "(B, S, D)"),
        "heads": "()",
        "mask": "ids (B, T)",
        "head_mask": "(H)",
        "output": "(B, S, D)",
    },
    function=xlm_attend,
    uses=("multi_head_attention", "softmax_float32", "broadcast_mask"),
    cases={
        name: Case(
            what,
            {
                **{x: draw.normal(2, 4, 6, scale=1.5) for x in ("query", "key", "value")},
                "heads": 3,
                "mask": torch.tensor(mask),
                **more,
            },
        )
        for name, what, mask, more in (
            ("plain", "nothing masked", [[1] * 4] * 2, {}),
            ("padded", "padding", [[1, 1, 1, 0], [0, 0, 1, 1]], {}),
            ("all_padded", "a text of no tokens", [[0] * 4, [1] * 4], {}),
            ("head_mask", "heads off", [[1] * 4] * 2, {"head_mask": reals(0.5, 1.0, 0.0)}),
        )
    },
)

CARDS = (SPLIT, MERGE, EXTEND, SDPA, MULTI_HEAD, XLM)
