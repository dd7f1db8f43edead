"""Twins of the operations for NumPy's arrays: few passes over memory, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy

from refimpl.ops.fused.attention import scaled_dot_product_attention
from refimpl.ops.fused.blocks import elementwise, rowwise
from refimpl.ops.fused.gelu import gelu_erf
from refimpl.ops.fused.norms import layer_norm
from refimpl.ops.fused.products import linear

# Memory that goes back to the system comes again in zeroed pages: 10,000 of them for 128 tokens, a
# tenth of the time. glibc keeps as much as the largest array (up to 32 MB) that it saw freed;
# so here it sees one, which nobody has touched. Source: mallopt(3), M_MMAP_THRESHOLD.
numpy.empty(31 * 2**20, numpy.uint8)

TWINS: Mapping[str, Callable[..., Any]] = MappingProxyType({
    "linear": linear,
    "gelu_erf": gelu_erf,
    **{name: elementwise(name) for name in ("erf", "gelu_tanh", "silu", "tanh")},
    "layer_norm": layer_norm,
    **{name: rowwise(name) for name in ("softmax", "softmax_float32", "log_softmax")},
})  # fmt: skip


def twins(attention_wanted: bool) -> Mapping[str, Callable[..., Any]]:
    """Return the twins by the names of their operations.

    Attention has one where nobody wants its scores and weights (``attention_wanted``).
    """
    if attention_wanted:
        return TWINS
    return {**TWINS, "scaled_dot_product_attention": scaled_dot_product_attention}
