"""The affine map: the one operation that nearly all the arithmetic of a transformer goes into."""

from __future__ import annotations

from refimpl.backend import Array, Table, namespace
from refimpl.replacing import operation


@operation
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """(..., I), (O, I), (O) -> (..., O)

    y = x Wᵀ + b, or without b. The weight lies as published, one row per output feature. Of a
    :class:`~refimpl.backend.Table` one block of rows after another is multiplied.

    Source: ``torch.nn.Linear``. Differs: TensorFlow and JAX store the transposed kernel (I, O).
    """
    xp = namespace(x, weight)
    # One product of two matrices: as a stack of B small ones it would be slower.
    rows = xp.reshape(x, (-1, x.shape[-1]))
    blocks = weight.blocks() if isinstance(weight, Table) else (weight,)
    parts = [xp.matmul(rows, xp.matrix_transpose(block)) for block in blocks]
    y = parts[0] if len(parts) == 1 else xp.concat(parts, axis=1)
    if bias is not None:
        y = y + bias
    return xp.reshape(y, (*x.shape[:-1], weight.shape[0]))
