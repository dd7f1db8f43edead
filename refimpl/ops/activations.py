"""The activation functions of the family, and the names under which configs ask for them.

There are two GELUs, and they are not the same function: they part by up to 4.7e-4. Here they have
two names and neither is called plain gelu.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from refimpl.backend import Array, namespace
from refimpl.ops.erf import erf
from refimpl.replacing import operation


@operation
def gelu_erf(x: Array) -> Array:
    """(...) -> (...)

    x Φ(x) = x/2 (1 + erf(x / √2)): the form of all published checkpoints of the family.

    float16 is computed in float32 and cast back, as PyTorch does: far below zero 1 + erf cancels.

    Source: Hendrycks & Gimpel 2016, section 2. Our gelu_erf is ``"gelu"`` in a config.
    """
    xp = namespace(x)
    if xp.finfo(x.dtype).bits < 32:
        return xp.astype(gelu_erf(xp.astype(x, xp.float32)), x.dtype)
    return 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))


@operation
def gelu_tanh(x: Array) -> Array:
    """(...) -> (...)

    x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))): an approximation of ``gelu_erf``.

    float16 is computed in float32 and cast back: the cube overflows above 40.

    Source: Hendrycks & Gimpel 2016, section 2. Our gelu_tanh is ``"gelu_new"`` in a config, and
    fairseq's "gelu_accurate".
    """
    xp = namespace(x)
    if xp.finfo(x.dtype).bits < 32:
        return xp.astype(gelu_tanh(xp.astype(x, xp.float32)), x.dtype)
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))
    return 0.5 * x * (1.0 + xp.tanh(inner))


@operation
def relu(x: Array) -> Array:
    """(...) -> (...)

    max(x, 0).

    Source: Nair & Hinton 2010; ``torch.nn.ReLU``.
    """
    return namespace(x).maximum(x, 0.0)


@operation
def silu(x: Array) -> Array:
    """(...) -> (...)

    x / (1 + exp(-x)), also called swish.

    Source: Elfwing et al. 2017, equation 11.
    """
    xp = namespace(x)
    e = xp.exp(-xp.abs(x))  # of a number that is never positive, so it cannot overflow
    return x * xp.where(x < 0.0, e, 1.0) / (1.0 + e)


@operation
def tanh(x: Array) -> Array:
    """(...) -> (...)

    The hyperbolic tangent.

    Source: ``torch.tanh``.
    """
    return namespace(x).tanh(x)


# hidden_act of a config -> the function; several names of the original are one formula.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu_erf,
    "gelu_python": gelu_erf,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "gelu_accurate": gelu_tanh,
    "relu": relu,
    "silu": silu,
    "swish": silu,
    "tanh": tanh,
}
