"""Every operation of the family, one pure function each: arrays in, a new array out.

The first line of each docstring is its shapes; ``docs/notation.md`` says what the letters mean.
"""

from refimpl.ops.activations import ACTIVATIONS, gelu_erf, gelu_tanh, relu, silu, tanh
from refimpl.ops.attention import (
    Attention,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)
from refimpl.ops.embeddings import embedding, position_ids_from_padding, position_ids_in_order
from refimpl.ops.erf import erf
from refimpl.ops.linear import linear
from refimpl.ops.losses import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    mean_squared_error,
)
from refimpl.ops.masks import broadcast_mask, mask_scores
from refimpl.ops.norms import layer_norm, log_softmax, softmax

__all__ = [
    "ACTIVATIONS",
    "Attention",
    "binary_cross_entropy_with_logits",
    "broadcast_mask",
    "cross_entropy",
    "embedding",
    "erf",
    "gelu_erf",
    "gelu_tanh",
    "layer_norm",
    "linear",
    "log_softmax",
    "mask_scores",
    "mean_squared_error",
    "merge_heads",
    "position_ids_from_padding",
    "position_ids_in_order",
    "relu",
    "scaled_dot_product_attention",
    "silu",
    "softmax",
    "split_heads",
    "tanh",
]
