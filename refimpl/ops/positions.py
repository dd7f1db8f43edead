"""Positions as numbers in the attention scores, and as sines and cosines."""

from __future__ import annotations

from refimpl.backend import Array, arange, namespace
from refimpl.ops.embeddings import embedding
from refimpl.replacing import operation


@operation
def sinusoidal_positions(positions: Array, *, width: int) -> Array:
    """ids (P) -> (P, D)

    Column j of position p is sin(p / 10000^(2i/D)) for j = 2i and the cosine of the same angle for
    j = 2i + 1, in float32. ``width`` is D.

    Source: Vaswani et al. 2017, section 3.5; ``create_sinusoidal_embeddings`` of transformers,
    which computes in float64 and stores float32, as this does.
    """
    xp = namespace(positions)
    column = arange(width, like=positions)
    pair = xp.astype(column // 2, xp.float64)
    angle = xp.astype(positions, xp.float64)[:, None] / 10000.0 ** (2.0 * pair / width)
    return xp.astype(xp.where(column % 2 == 0, xp.sin(angle), xp.cos(angle)), xp.float32)


@operation
def relative_position_scores(query: Array, key: Array, table: Array, *, of_key: bool) -> Array:
    """(B, H, S, K), (B, H, T, K), (P, K) -> (B, H, S, T)

    What the distance of query and key adds to their dot product, before scaling: q · t for the
    learned vector t of their distance ("relative_key"), plus k · t where ``of_key`` is true
    ("relative_key_query"). ``table`` has a row for each distance from -(P-1)/2 to (P-1)/2. The
    queries are the last S of the T places, as they are when earlier keys come from a cache.

    Source: Shaw et al. 2018, equation 4 (relative_key); Huang et al. 2020, method 4.
    """
    xp = namespace(query, key, table)
    queries, keys = query.shape[2], key.shape[2]
    place = arange(keys, like=query)
    distance = place[keys - queries :, None] - place[None, :]
    vectors = embedding(distance + (table.shape[0] - 1) // 2, table)  # (S, T, K)
    # A matrix product for each query: (B, H, S, 1, K) (S, K, T) -> (B, H, S, 1, T).
    scores = xp.matmul(query[:, :, :, None, :], xp.matrix_transpose(vectors))[:, :, :, 0, :]
    if of_key:
        by_key = xp.permute_dims(vectors, (1, 2, 0))  # (T, K, S)
        of_keys = xp.matmul(key[:, :, :, None, :], by_key)[:, :, :, 0, :]  # (B, H, T, S)
        scores = scores + xp.matrix_transpose(of_keys)
    return scores
