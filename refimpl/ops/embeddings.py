"""Table look-up, and the position ids that the RoBERTa family counts from the padding."""

from __future__ import annotations

from refimpl.backend import Array, Table, arange, namespace
from refimpl.replacing import operation


@operation
def embedding(ids: Array, weight: Array) -> Array:
    """ids (...), (V, D) -> (..., D)

    Row ``ids[i]`` of ``weight`` for every id. Ids must lie in [0, V): a model checks that on the
    host before it calls, because CuPy wraps an id that is out of range instead of raising. Of a
    :class:`~refimpl.backend.Table` only the rows that occur are read.

    Source: ``torch.nn.Embedding``. Its padding_idx concerns gradients only: the row of the
    padding id is looked up like any other.
    """
    xp = namespace(ids, weight)
    flat = xp.reshape(ids, (-1,))
    rows = weight.rows(flat) if isinstance(weight, Table) else xp.take(weight, flat, axis=0)
    return xp.reshape(rows, (*ids.shape, weight.shape[1]))


@operation
def position_ids_from_padding(input_ids: Array, *, padding_idx: int, past: int = 0) -> Array:
    """ids (B, S) -> ids (B, S)

    Number the tokens of each row from ``padding_idx + 1`` on, passing over padding wherever it
    stands; padding itself gets ``padding_idx``. ``past`` tokens were numbered in earlier calls.

    With padding_idx 1, ``[[5, 6, 1]] -> [[2, 3, 1]]`` and ``[[1, 5, 6]] -> [[1, 2, 3]]``: a
    table of 514 positions serves 512 tokens.

    Source: ``make_positions`` of fairseq; ``create_position_ids_from_input_ids`` of transformers.
    """
    xp = namespace(input_ids)
    is_token = xp.astype(input_ids != padding_idx, input_ids.dtype)
    count = xp.cumulative_sum(is_token, axis=1, dtype=input_ids.dtype) + past
    return count * is_token + padding_idx


@operation
def position_ids_in_order(inputs_embeds: Array, *, padding_idx: int, past: int = 0) -> Array:
    """(B, S, D) -> ids (B, S)

    Number all places of each row from ``padding_idx + 1`` on: nobody can tell padding from tokens
    once they are vectors. Only the shape and the device of ``inputs_embeds`` are used. ``past``
    tokens were numbered in earlier calls (the original forgets them here).

    Source: ``create_position_ids_from_inputs_embeds`` of transformers.
    """
    xp = namespace(inputs_embeds)
    batch, length, _ = inputs_embeds.shape
    row = arange(length, like=inputs_embeds) + padding_idx + 1 + past
    return xp.broadcast_to(row, (batch, length))
