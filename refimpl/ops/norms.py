"""Normalisation of the last axis: layer norm, softmax and its logarithm."""

from __future__ import annotations

from refimpl.backend import Array, namespace
from refimpl.replacing import operation


@operation
def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
    """(..., D), (D), (D) -> (..., D)

    y = (x - mean) / sqrt(var + eps) * weight + bias, with mean and variance over the last axis.
    The variance divides by D, not by D - 1, and eps stands inside the root. float16 is computed in
    float32 and cast back, as PyTorch does: squares of its numbers overflow or vanish, and so does
    an eps of 1e-12.

    ``eps`` has no default: it is 1e-5 in the published XLM-R checkpoints and 1e-12 in XLM's.

    Source: Ba et al. 2016, section 3; ``torch.nn.LayerNorm``. Our weight and bias are their gain
    g and bias b, and the gamma and beta of old checkpoint files.
    """
    xp = namespace(x, weight, bias)
    if xp.finfo(x.dtype).bits < 32:
        wide = [xp.astype(array, xp.float32) for array in (x, weight, bias)]
        return xp.astype(layer_norm(*wide, eps=eps), x.dtype)
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    variance = xp.mean(centred * centred, axis=-1, keepdims=True)
    return centred / xp.sqrt(variance + eps) * weight + bias


@operation
def softmax(x: Array) -> Array:
    """(..., N) -> (..., N)

    exp(x) / sum(exp(x)) over the last axis, after subtracting the row's maximum: the result is
    the same, and exp cannot overflow.

    Source: Goodfellow et al. 2016, Deep Learning, section 4.1 (the maximum); ``torch.softmax``.
    """
    xp = namespace(x)
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


@operation
def softmax_float32(x: Array) -> Array:
    """(..., N) -> (..., N)

    :func:`softmax` computed in float32 where the dtype is narrower, and cast back.

    Source: XLM's attention. (There float64 is cast down to float32 too; here it stays as it is.)
    """
    xp = namespace(x)
    if xp.finfo(x.dtype).bits >= 32:
        return softmax(x)
    return xp.astype(softmax(xp.astype(x, xp.float32)), x.dtype)


@operation
def log_softmax(x: Array) -> Array:
    """(..., N) -> (..., N)

    log(softmax(x)) over the last axis, without the underflow of taking it in two steps.

    Source: ``torch.log_softmax``.
    """
    xp = namespace(x)
    shifted = x - xp.max(x, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
