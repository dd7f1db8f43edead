"""Texts of different lengths without their padding: all tokens in one row, one text after another.

Linear maps, norms and activations take each token by itself, so they do not see the difference.
Only attention has to know which tokens are of one text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from refimpl.backend import Array, namespace
from refimpl.ops.attention import MultiHeadAttention
from refimpl.replacing import operation


class Segments(NamedTuple):
    """Where the N tokens of a batch stand in their texts, and where in the row of all.

    In that row texts of one length stand side by side.
    """

    shape: tuple[int, int]  # B, S
    runs: tuple[tuple[int, int], ...]  # how many texts of which length follow one another
    places: Array  # ids (N)    of each token in the row, its place in the batch laid flat
    packed: Array  # ids (B*S)  of each place in the batch, its token's place in the row; N: padding


@operation
def pack(x: Array, segments: Segments) -> Array:
    """(B, S, D) -> (1, N, D)

    Take the tokens of all texts into one row, and leave the padding. ``x`` may have any axes
    behind the first two, or none.

    Source: our own; the originals compute padding and mask it.
    """
    xp = namespace(x, segments.places)
    flat = xp.reshape(x, (-1, *x.shape[2:]))
    return xp.take(flat, segments.places, axis=0)[None, ...]


@operation
def unpack(x: Array, segments: Segments) -> Array:
    """(1, N, D) -> (B, S, D)

    Undo :func:`pack`: every token in its text again, zeros at the padding.

    Source: our own; the originals compute padding and mask it.
    """
    xp = namespace(x, segments.packed)
    rows = xp.concat([x[0, ...], xp.zeros_like(x[0, :1, ...])], axis=0)  # the last is the padding's
    return xp.reshape(xp.take(rows, segments.packed, axis=0), (*segments.shape, *x.shape[2:]))


@operation
def attention_by_segments(
    query: Array,
    key: Array,
    value: Array,
    *,
    segments: Segments,
    attend: Callable[..., MultiHeadAttention],
    mask: Array,
    **options: Any,
) -> MultiHeadAttention:
    """(1, N, A), (1, N, A), (1, N, A) -> (1, N, A)

    Let the tokens of each text attend to one another: ``attend`` (multi-head attention) runs for
    each stack of texts of one length. ``mask`` (1, 1, 1, N) allows everything; ``options`` are
    those of ``attend``. Only the context is returned.

    Source: our own; the originals compute padding and mask it.
    """
    xp = namespace(query, key, value)
    parts, start = [], 0
    for count, length in segments.runs:
        end = start + count * length
        stacks = [
            xp.reshape(x[0, start:end, :], (count, length, x.shape[2])) for x in (query, key, value)
        ]
        context = attend(*stacks, mask=mask[:, :, :, start : start + length], **options).context
        parts.append(xp.reshape(context, (1, count * length, query.shape[2])))
        start = end
    return MultiHeadAttention(xp.concat(parts, axis=1), None, None, None, ())
