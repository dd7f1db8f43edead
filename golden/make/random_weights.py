"""Random weights that leave no mistake a place to hide.

Freshly initialised models are blind fixtures: zero biases, unit norm gains and a zero padding row
make a good part of all porting mistakes invisible. Here every bias, gain and row is random, gains
spread over [0.1, 4] with an outlier in each, and matrices differ in scale from layer to layer.

Query and key matrices are halved: with gains like these the attention would otherwise be all but
one-hot, and rounding, which it then blows up a hundredfold, would hide what float32 should show.
"""

from __future__ import annotations

import math

import torch
from torch import nn


def randomise(model: nn.Module, seed: int) -> None:
    """Fill all parameters of ``model`` in place, the same for the same seed."""
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
