"""Attention: scores, softmax and heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from refimpl.backend import Array, namespace
from refimpl.parity.faults import needs
from refimpl.parity.faults.changes import (
    at,
    put,
    settings,
    skipped,
    softmax_over,
    with_options,
    without_input,
)
from refimpl.parity.faults.fault import Fault, Function, Need, OperationChange, Tensors
from refimpl.parity.faults.run import ROBERTAS, Run

SCORES, PROBS, CONTEXT = ("scores",), ("probs",), ("context",)

# --- scores ---------------------------------------------------------------------------------------


def _scaled(scale: Callable[[Run, float], float]) -> OperationChange:
    """Another scale: a function of the run and of the right one, 1/√K."""
    return with_options(scale=scale)


def _bias_times_root(run: Run, name: str, x: Array) -> Array:
    """Queries whose bias, unlike the rest, escapes the scale 1/√K: W x + b √K."""
    return x + run.weights[name]["bias"] * (math.sqrt(run.config.head_size) - 1.0)


def _scale_query(run: Run, base: Function) -> Function:
    def attention(query: Array, key: Array, value: Array, **options: Any) -> Any:
        scale, distances = options.pop("scale"), options.pop("position_scores", None)
        scaled = None if distances is None else distances * scale
        return base(query * scale, key, value, scale=1.0, position_scores=scaled, **options)

    return attention


def _unscaled_distances(run: Run, base: Function) -> Function:
    def attention(*arrays: Array, scale: float, position_scores: Array, **options: Any) -> Any:
        return base(*arrays, scale=scale, position_scores=position_scores / scale, **options)

    return attention


def _softmax_without_maximum(x: Array) -> Array:
    xp = namespace(x)
    e = xp.exp(x)
    return e / xp.sum(e, axis=-1, keepdims=True)


# --- heads ----------------------------------------------------------------------------------------


def _split_interleaved(x: Array, *, size: int) -> Array:
    """(B, S, D) -> (B, H, S, K): the head is the faster index of D."""
    xp = namespace(x)
    batch, length, width = x.shape
    return xp.permute_dims(xp.reshape(x, (batch, length, size, width // size)), (0, 3, 1, 2))


def _merge_interleaved(x: Array) -> Array:
    """(B, H, S, K) -> (B, S, D): the head is the faster index of D."""
    xp = namespace(x)
    batch, heads, length, size = x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 3, 1)), (batch, length, size * heads))


def _split_without_transposing(x: Array, *, size: int) -> Array:
    """(B, S, D) -> (B, H, S, K): the numbers in the order in which they lie."""
    batch, length, width = x.shape
    return namespace(x).reshape(x, (batch, width // size, length, size))


def _merge_without_transposing(x: Array) -> Array:
    """(B, H, S, K) -> (B, S, D): the numbers in the order in which they lie."""
    batch, heads, length, size = x.shape
    return namespace(x).reshape(x, (batch, length, heads * size))


def other_head_count(width: int, heads: int) -> int:
    """The largest divisor of ``width`` below ``heads``, or the smallest above it.

    >>> other_head_count(768, 12), other_head_count(9, 1)
    (8, 3)
    """
    fitting = [n for n in range(1, width + 1) if width % n == 0 and n != heads]
    below = [n for n in fitting if n < heads and n > 1]
    return below[-1] if below else next((n for n in fitting if n > heads), 1)


def _other_heads(run: Run) -> Any:
    count = other_head_count(run.width, run.heads)
    key = "n_heads" if run.family == "xlm" else "num_attention_heads"
    return settings(**{key: count})(run)


# --- the catalogue --------------------------------------------------------------------------------

_SEVERAL_HEADS = Need("at least two heads", lambda run: run.heads > 1)
_OTHER_COUNT = Need(
    "a width that another number of heads divides",
    lambda run: other_head_count(run.width, run.heads) != run.heads,
)


def _is_square(run: Run) -> bool:
    return bool(run.heads == run.config.head_size)


_NOT_PRUNED = Need("no `pruned_heads`", lambda run: not run.config.pruned_heads)


def _every_row_looks_at_something(run: Run) -> bool:
    mask, lengths = run.inputs.get("attention_mask"), run.inputs.get("lengths")
    if mask is not None:
        return bool(mask.any(axis=-1).all())
    return lengths is None or bool((lengths > 0).all())


def _reversed(run: Run, tensors: Tensors, name: str) -> Array:
    x = tensors[name]
    return namespace(x).flip(x, axis=0) if "distance_embedding" in name else x


SCALES = (
    Fault(
        name="scale_of_width",
        title="Scores are divided by the root of the width",
        area="attention",
        explanation="The port scales by 1/√D, the whole width, not by 1/√K, the width of a head.",
        effect="Attention is flatter than it should be: by √12 in the base model.",
        mend="1/√(D/H).",
        first_taps=SCORES,
        needs=(_SEVERAL_HEADS,),
        operations={
            "scaled_dot_product_attention": _scaled(lambda run, _: 1 / math.sqrt(run.width))
        },
    ),
    Fault(
        name="scale_of_head_count",
        title="Scores are divided by the root of the number of heads",
        area="attention",
        explanation="The port scales by 1/√H, the number of heads, not by 1/√K, the width of one.",
        effect="Attention is sharper than it should be: by 2.3 in the base model.",
        mend="1/√(D/H).",
        first_taps=SCORES,
        operations={
            "scaled_dot_product_attention": _scaled(lambda run, _: 1 / math.sqrt(run.heads))
        },
        needs=(
            Need("other than as many heads as a head is wide", lambda run: not _is_square(run)),
        ),
    ),
    Fault(
        name="scale_constant",
        title="Scores are scaled by a constant",
        area="attention",
        explanation="The port has 1/8 for every model, which is 1/√64, the scale of a head 64 "
        "wide. XLM's and XL's heads are 80 to 160 wide.",
        effect="Nothing where heads are 64 wide; otherwise attention is sharper than it should be.",
        mend="1/√K, from the config.",
        first_taps=SCORES,
        needs=(
            Need(
                "heads of another width",
                lambda run: run.config.head_size != round(run.parameters["scale"] ** -2),
            ),
        ),
        parameters={"scale": 0.125},
        alternatives={"scale": (128**-0.5, 80**-0.5, 32**-0.5)},
        operations={
            "scaled_dot_product_attention": _scaled(lambda run, _: float(run.parameters["scale"]))
        },
    ),
    Fault(
        name="scale_missing",
        title="Scores are not scaled",
        area="attention",
        explanation="The port leaves the factor 1/√K out, often because a fused operation was "
        "expected to apply it.",
        effect="Attention is far too sharp. A text of one token shows nothing.",
        mend="1/√K, once.",
        first_taps=SCORES,
        operations={"scaled_dot_product_attention": _scaled(lambda run, _: 1.0)},
    ),
    Fault(
        name="scale_by_size",
        title="Scores are divided by K, not by its root",
        area="attention",
        explanation="The port scales by 1/K: a root was lost, or the scale is applied twice, to "
        "queries and keys both, or by hand and once more by a fused operation.",
        effect="Attention is flatter than it should be, by 8 in XLM-R.",
        mend="1/√K.",
        first_taps=SCORES,
        operations={"scaled_dot_product_attention": _scaled(lambda run, right: right * right)},
    ),
    Fault(
        name="query_bias_not_scaled",
        title="Queries are scaled before their bias is added",
        area="attention",
        explanation="The port folds 1/√K into the matrix of the queries and forgets the bias.",
        effect="The bias of the queries counts √K times too much: 8 times in XLM-R.",
        mend="Scale the bias too, or the scores.",
        first_taps=SCORES,
        onward=at("query", become=_bias_times_root),
    ),
    Fault(
        name="scale_on_query",
        title="The scale is applied to the queries",
        area="attention",
        explanation="The code of XLM's authors divides the queries by √K before the product, as "
        "many fused operations do; others divide the scores.",
        effect="Only rounding, which in float16 can be seen. A dump of queries may hold scaled "
        "ones.",
        mend="Nothing, but follow the original's order where float16 is compared.",
        first_taps=(),
        known=(55,),
        equivalent="(s q) k = s (q k).",
        operations={"scaled_dot_product_attention": _scale_query},
    ),
    Fault(
        name="softmax_over_queries",
        title="The softmax runs over the queries",
        area="attention",
        explanation="The port sums the exponentials along the wrong axis of the scores.",
        effect="Columns add up to 1, and rows do not. Without padding and in a square the shapes "
        "tell nothing.",
        mend="Softmax over the keys, the last axis.",
        first_taps=PROBS,
        operations={
            "scaled_dot_product_attention": with_options(softmax=lambda run, _: softmax_over(-2))
        },
    ),
    Fault(
        name="softmax_without_maximum",
        title="The softmax does not take the maximum away",
        area="attention",
        explanation="The port takes exponentials of the scores as they are.",
        effect="Only rounding, until a score reaches 88 in float32 or 11 in float16: then it "
        "overflows to NaN.",
        mend="Subtract the maximum of each row first.",
        first_taps=(),
        equivalent="Numerator and denominator have the same factor. (A row that may look at "
        "nothing is 0/0.)",
        needs=(
            Need(
                "a key for every query",
                lambda run: needs.ENCODER.holds(run) and _every_row_looks_at_something(run),
            ),
        ),
        operations={
            "scaled_dot_product_attention": with_options(
                softmax=lambda run, _: _softmax_without_maximum
            )
        },
    ),
)

HEADS = (
    Fault(
        name="attention_out_missing",
        title="There is no linear map behind attention",
        area="attention",
        explanation="The port adds the context to the residual as it is: the matrix that mixes "
        "the heads was left out.",
        effect="Heads are not mixed; everything behind is wrong.",
        mend="Multiply the context by `attention.output.dense` (`out_lin` in XLM).",
        first_taps=("attention_out",),
        needs=(Need("no `pruned_heads`", lambda run: not run.config.pruned_heads),),
        taps=at("attention_out", become=skipped),
    ),
    Fault(
        name="heads_split_interleaved",
        title="Heads are cut out with the head as the faster index",
        area="attention",
        explanation="The port reshapes D to (K, H) where the published matrices have (H, K): "
        "feature j belongs to head j // K, not to j % H.",
        effect="Every head works with features of all heads.",
        mend="Reshape to (..., H, K).",
        first_taps=SCORES,
        needs=(_SEVERAL_HEADS,),
        operations={"split_heads": put(_split_interleaved)},
    ),
    Fault(
        name="heads_merged_interleaved",
        title="Heads are put side by side with the head as the faster index",
        area="attention",
        explanation="The heads are cut out rightly, and put together as (K, H).",
        effect="Probabilities are right, the context is a permutation of the right one.",
        mend="Undo what the splitting did, in the opposite order.",
        first_taps=CONTEXT,
        needs=(_SEVERAL_HEADS,),
        operations={"merge_heads": put(_merge_interleaved)},
    ),
    Fault(
        name="heads_split_without_transposing",
        title="Heads are reshaped, not transposed",
        area="attention",
        explanation="The port reads (B, S, D) as (B, H, S, K) and back, without exchanging the "
        "axes.",
        effect="Tokens and heads are mixed up. The shapes are right.",
        mend="Reshape to (B, S, H, K), then exchange the second and third axis.",
        first_taps=SCORES,
        needs=(_SEVERAL_HEADS,),
        operations={
            "split_heads": put(_split_without_transposing),
            "merge_heads": put(_merge_without_transposing),
        },
    ),
    Fault(
        name="heads_merged_without_transposing",
        title="The context is reshaped, not transposed",
        area="attention",
        explanation="The port reads (B, H, S, K) as (B, S, D).",
        effect="Probabilities are right; the context mixes tokens and heads. A text of one token "
        "shows nothing.",
        mend="Exchange the second and third axis, then reshape.",
        first_taps=CONTEXT,
        needs=(_SEVERAL_HEADS,),
        operations={"merge_heads": put(_merge_without_transposing)},
    ),
    Fault(
        name="head_count_wrong",
        title="Another number of heads",
        area="attention",
        explanation="The number is copied from a table, not read from the config. An old table of "
        "transformers' documentation has 8 heads for the base model, which has 12; 8 divide 768 "
        "too, and every shape fits.",
        effect="Scores of other features, scaled by another K.",
        mend="Read the number of heads from the checkpoint's config.json.",
        first_taps=SCORES,
        known=(50,),
        needs=(
            _OTHER_COUNT,
            _NOT_PRUNED,
            needs.ABSOLUTE,
            needs.not_given("head_mask"),
            needs.NO_CACHE,
        ),
        config=_other_heads,
    ),
    Fault(
        name="head_mask_ignored",
        title="The head_mask of a call is ignored",
        area="attention",
        explanation="The port takes `head_mask` and does not use it; transformers 5 does so.",
        effect="Heads that should be off are on.",
        mend="Multiply each head's probabilities by its number.",
        first_taps=CONTEXT,
        needs=(needs.given("head_mask"),),
        inputs=without_input("head_mask"),
    ),
)

DISTANCES = (
    Fault(
        name="distances_ignored",
        title="Relative positions are ignored",
        area="attention",
        families=ROBERTAS,
        explanation="The config has a `position_embedding_type` other than `absolute`, and the "
        "port does not know it; transformers 5 dropped it.",
        effect="Nothing in the model knows the order of the tokens.",
        mend="Add the scores of the distances, or refuse the config.",
        first_taps=SCORES,
        needs=(needs.RELATIVE,),
        operations={"multi_head_attention": with_options(distances=lambda run, _: None)},
    ),
    Fault(
        name="distances_reversed",
        title="Distances have the wrong sign",
        area="attention",
        families=ROBERTAS,
        explanation="The port takes key minus query where the tables were learned for query minus "
        "key.",
        effect="Left and right are exchanged.",
        mend="Place of the query minus place of the key.",
        first_taps=SCORES,
        needs=(needs.RELATIVE,),
        weights=_reversed,
    ),
    Fault(
        name="distances_not_scaled",
        title="The scores of the distances are added behind the scale",
        area="attention",
        families=ROBERTAS,
        explanation="The port scales the products of queries and keys and adds the distances "
        "then. The original scales the sum.",
        effect="Distances count √K times too much.",
        mend="Add first, then scale.",
        first_taps=SCORES,
        needs=(needs.RELATIVE,),
        operations={"scaled_dot_product_attention": _unscaled_distances},
    ),
    Fault(
        name="distances_without_key",
        title="relative_key_query computed as relative_key",
        area="attention",
        families=ROBERTAS,
        explanation="The port adds query times distance and leaves key times distance out.",
        effect="Half of the scores of the distances is missing.",
        mend="Add both.",
        first_taps=SCORES,
        needs=(needs.RELATIVE_KEY_QUERY,),
        config=settings(position_embedding_type="relative_key"),
    ),
)

FAULTS = (*SCALES, *HEADS, *DISTANCES)
