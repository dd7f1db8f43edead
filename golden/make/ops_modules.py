"""The original's attention modules, given queries, keys and values in place of hidden states."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from transformers import XLMConfig, XLMRobertaConfig
from transformers.cache_utils import DynamicCache
from transformers.models.xlm.modeling_xlm import MultiHeadAttention
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaSelfAttention

Pair = tuple[torch.Tensor, torch.Tensor]


class Given(nn.Module):
    """Stands where a linear map stood, and returns what was given."""

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()
        self.x = x

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """Return it."""
        return self.x


def merge(x: torch.Tensor) -> torch.Tensor:
    """(B, H, S, K) -> (B, S, D)."""
    return x.transpose(1, 2).flatten(2)


def split(x: torch.Tensor, size: int) -> torch.Tensor:
    """(B, S, D) -> (B, H, S, K)."""
    return x.unflatten(2, (-1, size)).transpose(1, 2)


def added(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A boolean mask as transformers adds it to the scores (get_extended_attention_mask)."""
    return (1.0 - mask.to(dtype)) * torch.finfo(dtype).min


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    past: Pair | None = None,
    table: torch.Tensor | None = None,
    of_key: bool = False,
    head_mask: torch.Tensor | None = None,
    position_scores: torch.Tensor | None = None,
) -> torch.Tensor:
    """(B, H, S, K), (B, H, T, K), (B, H, T, K) -> (B, S, D): XLMRobertaSelfAttention, eager.

    ``position_scores`` are scaled, and added as a mask is.
    """
    heads, size = query.shape[1], query.shape[3]
    kinds = {True: "relative_key_query", False: "relative_key"}
    config = XLMRobertaConfig(
        hidden_size=heads * size,
        num_attention_heads=heads,
        max_position_embeddings=1 if table is None else (table.shape[0] + 1) // 2,
        position_embedding_type="absolute" if table is None else kinds[of_key],
    )
    module = XLMRobertaSelfAttention(config, layer_idx=0).to(query.dtype).eval()
    module.query, module.key, module.value = (Given(merge(x)) for x in (query, key, value))
    if table is not None:
        module.distance_embedding.weight.data = table
    cache = None
    if past is not None:
        cache = DynamicCache()
        cache.update(*past, 0)
    addend = None if mask is None else added(mask, query.dtype)
    if position_scores is not None:
        addend = (0.0 if addend is None else addend) + position_scores / math.sqrt(size)
    states = torch.zeros(query.shape[0], query.shape[2], heads * size, dtype=query.dtype)
    context, _ = module(
        states,
        addend,
        None if head_mask is None else head_mask[:, None, None],
        past_key_values=cache,
    )
    return context


def xlm_attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    mask: torch.Tensor,
    heads: int,
    head_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """(B, S, D), (B, T, D), (B, T, D) -> (B, S, D): XLM's MultiHeadAttention without out_lin."""
    config: Any = XLMConfig(emb_dim=query.shape[2], n_heads=heads)
    module = MultiHeadAttention(heads, query.shape[2], config).eval()
    module.q_lin, module.k_lin, module.v_lin = Given(query), Given(key), Given(value)
    module.out_lin = nn.Identity()
    off = None if head_mask is None else head_mask[:, None, None]
    (context,) = module(query, mask, head_mask=off)
    return context
