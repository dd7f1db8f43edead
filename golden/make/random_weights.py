"""Random weights that leave no mistake a place to hide.

Freshly initialised models are blind fixtures: zero biases, unit norm gains and a zero padding row
make a good part of all porting mistakes invisible. Here every bias, gain and row is random, gains
spread over [0.1, 4] with an outlier in each, and matrices differ in scale from layer to layer.

Query and key matrices are halved: with gains like these the attention would otherwise be all but
one-hot, and rounding, which it then blows up a hundredfold, would hide what float32 should show.

Those are the "spread" weights, of most cases. Others shift them to where one kind of mistake is
largest beside rounding, or rounding largest:

- "benign": gains near 1, small biases: what arithmetic of few bits computes well.
- "outliers": two features far larger than the rest, as trained models of this family have them.
- "edges": embeddings that hardly vary, so that a norm's eps counts as much as the variance; and
  a GELU that is given numbers near -2.9, where its two formulas differ by a tenth.
"""

from __future__ import annotations

import math

import torch
from torch import nn

INTO_GELU = ("intermediate.dense", "lin1", "lm_head.dense")


def randomise(model: nn.Module, seed: int, weights: str = "spread") -> None:
    """Fill all parameters of ``model`` in place, the same for the same seed."""
    _spread(model, seed)
    shift = {"spread": None, "benign": _benign, "outliers": _outliers, "edges": _edges}[weights]
    if shift is not None:
        for path, module in model.named_modules():
            shift(path, module)


def _benign(path: str, module: nn.Module) -> None:
    if isinstance(module, nn.LayerNorm):
        module.weight.data.clamp_(0.6, 1.6)
    if getattr(module, "bias", None) is not None:
        module.bias.data.mul_(0.5)


def _outliers(path: str, module: nn.Module) -> None:
    """The second feature and the last but one of every norm, an eighth of that in the tables."""
    if isinstance(module, nn.LayerNorm):
        module.weight.data[[1, -2]] *= 8.0
        module.bias.data[[1, -2]] *= 20.0
    elif isinstance(module, nn.Embedding):
        module.weight.data[:, [1, -2]] *= 3.0


def _edges(path: str, module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        module.weight.data.mul_(5e-4)
    elif isinstance(module, nn.Linear) and path.endswith(INTO_GELU):
        module.weight.data.mul_(0.1)
        module.bias.data.mul_(0.2).clamp_(-0.2, 0.2).sub_(2.9)


def _spread(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter: nn.Parameter, scale: float) -> None:
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * scale)

    done: set[int] = set()
    for path, module in model.named_modules():
        halved = 0.5 if path.endswith(("query", "key", "q_lin", "k_lin")) else 1.0
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in done:  # tied
                continue
            done.add(id(parameter))
            spread = 0.7 + torch.rand((), generator=generator).item()
            if isinstance(module, nn.LayerNorm) and name == "weight":
                normal(parameter, 0.6)
                parameter.data.exp_().clamp_(0.1, 4.0)
                outlier = int(torch.randint(parameter.numel(), (), generator=generator))
                parameter.data[outlier] = 4.0
            elif isinstance(module, nn.Embedding):
                normal(parameter, spread)
            elif name == "weight":
                normal(parameter, halved * spread / math.sqrt(parameter.shape[1]))
            else:
                normal(parameter, 0.4 * spread)
