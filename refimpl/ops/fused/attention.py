"""Attention some queries of some heads at a time: the scores of all are never there together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy

from refimpl import ops
from refimpl.ops.attention import Attention
from refimpl.ops.fused.blocks import covers, cut, scratch
from refimpl.ops.fused.threads import share
from refimpl.replacing import plain

Array = numpy.ndarray

TILE = 262144  # scores of a part: 1 MB of float32; see blocks.BLOCK


def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Array,
    scale: float,
    position_scores: Array | None = None,
    head_mask: Array | None = None,
    softmax: Callable[[Array], Array] = ops.softmax,
) -> Attention:
    """(B, H, S, K), (B, H, T, K), (B, H, T, K) -> (B, H, S, K)

    The context of :func:`refimpl.ops.scaled_dot_product_attention`, and nothing else. The queries
    are scaled, not the scores, and the sums of values divided, not the probabilities: S K numbers
    and not S T. float16 is left to the plain operation.
    """
    reals = (query, key, value, position_scores, head_mask)
    known = softmax in (ops.softmax, ops.softmax_float32)
    if not (known and covers(*reals) and query.dtype != numpy.float16):
        found: Attention = plain("scaled_dot_product_attention")(
            query, key, value, mask=mask, scale=scale, position_scores=position_scores,
            head_mask=head_mask, softmax=softmax,
        )  # fmt: skip
        return found
    context = _context(query, key, value, mask, scale, position_scores, head_mask)
    return Attention(context, None, None, None)


def _context(
    query: Array,
    key: Array,
    value: Array,
    mask: Array,
    scale: float,
    position_scores: Array | None,
    head_mask: Array | None,
) -> Array:
    batch, heads, queries = query.shape[:3]
    keys, size = value.shape[2:]
    # The features of all heads lie side by side, so that merge_heads has nothing to move.
    context = numpy.empty((batch, queries, heads, size), query.dtype).transpose(0, 2, 1, 3)
    by_feature = key.swapaxes(2, 3)  # (B, H, K, T)
    masked = None if mask.all() else numpy.broadcast_to(~mask, (batch, heads, queries, keys))
    lowest = float(numpy.finfo(query.dtype).min) / 2  # as in ops.mask_scores
    ones = numpy.ones(keys, query.dtype)

    def attend(part: tuple[slice, ...]) -> None:
        of_heads = part[:2]
        scaled, keys_of = query[part] * scale, by_feature[of_heads]
        scores = scratch((*scaled.shape[:3], keys), scaled.dtype)
        numpy.matmul(scaled, keys_of, out=scores)
        if position_scores is not None:
            scores += position_scores[part] * scale
        if masked is not None:
            numpy.copyto(scores, lowest, where=masked[part])
        scores -= numpy.maximum.reduce(scores, axis=-1, keepdims=True)
        numpy.exp(scores, out=scores)
        total = numpy.vecdot(scores, ones)[..., None]  # a third of the time of numpy.add.reduce
        sums = numpy.matmul(scores, value[of_heads])
        numpy.divide(sums, total, out=context[part])
        if head_mask is not None:
            context[part] *= head_mask[part[1], None, None]

    share(attend, _parts(batch, heads, queries, keys))
    return context


def _parts(batch: int, heads: int, queries: int, keys: int) -> Iterator[tuple[slice, ...]]:
    """Cut the work into parts of about TILE scores: several texts, or heads of one, or queries."""
    of_head = queries * keys
    texts = cut(batch, max(1, TILE // (of_head * heads)))
    of_text = list(cut(heads, max(1, TILE // of_head)))
    of_one = list(cut(queries, max(1, TILE // keys)))
    return ((b, h, s) for b in texts for h in of_text for s in of_one)
