"""Every operation of the family, one pure function each: arrays in, a new array out.

The first line of each docstring is its shapes; ``docs/notation.md`` says what the letters mean.
"""

from refimpl.ops.activations import ACTIVATIONS, gelu_erf, gelu_tanh, relu, silu, tanh
from refimpl.ops.adaptive_softmax import adaptive_log_softmax
from refimpl.ops.attention import (
    Attention,
    MultiHeadAttention,
    extend,
    merge_heads,
    multi_head_attention,
    scaled_dot_product_attention,
    split_heads,
    tiled_attention,
)
from refimpl.ops.embeddings import embedding, position_ids_from_padding, position_ids_in_order
from refimpl.ops.erf import erf
from refimpl.ops.linear import linear
from refimpl.ops.losses import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    mean_squared_error,
    negative_log_likelihood,
)
from refimpl.ops.masks import (
    attention_mask_for,
    broadcast_mask,
    causal_mask,
    length_mask,
    mask_scores,
)
from refimpl.ops.norms import layer_norm, log_softmax, softmax, softmax_float32
from refimpl.ops.packing import Segments, attention_by_segments, pack, unpack
from refimpl.ops.positions import relative_position_scores, sinusoidal_positions

__all__ = [
    "ACTIVATIONS",
    "Attention",
    "MultiHeadAttention",
    "Segments",
    "adaptive_log_softmax",
    "attention_by_segments",
    "attention_mask_for",
    "binary_cross_entropy_with_logits",
    "broadcast_mask",
    "causal_mask",
    "cross_entropy",
    "embedding",
    "erf",
    "extend",
    "gelu_erf",
    "gelu_tanh",
    "layer_norm",
    "length_mask",
    "linear",
    "log_softmax",
    "mask_scores",
    "mean_squared_error",
    "merge_heads",
    "multi_head_attention",
    "negative_log_likelihood",
    "pack",
    "position_ids_from_padding",
    "position_ids_in_order",
    "relative_position_scores",
    "relu",
    "scaled_dot_product_attention",
    "silu",
    "sinusoidal_positions",
    "softmax",
    "softmax_float32",
    "split_heads",
    "tanh",
    "tiled_attention",
    "unpack",
]
