"""The same study on PyTorch: the originals' own code, with one function of PyTorch exchanged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
import transformers
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from golden.make.ops import CARDS
from golden.make.ops_card import run
from refimpl.parity.cards import Card, judge
from refimpl.parity.dumps import Dump
from tools.parity_figures.cards import Arrays, Injected, injected

Function = Callable[..., torch.Tensor]
Tensor = torch.Tensor


class Exchanged(TorchFunctionMode):
    """While it is open, other functions run in the place of some of PyTorch's."""

    def __init__(self, functions: Mapping[Any, Function]) -> None:
        super().__init__()
        self._functions = functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._functions.get(func, func)(*args, **(kwargs or {}))


def _norm(formula: Callable[[Tensor, float], Tensor]) -> Function:
    def layer_norm(
        x: Tensor, shape: Any, weight: Tensor, bias: Tensor, eps: float = 1e-5
    ) -> Tensor:
        return formula(x, eps) * weight + bias

    return layer_norm


def _variance(x: Tensor, correction: int = 0) -> Tensor:
    return x.var(-1, correction=correction if x.shape[-1] > 1 else 0, keepdim=True)


def _mean(x: Tensor) -> Tensor:
    return x.mean(-1, keepdim=True)


def _linear(change: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]) -> Function:
    def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        weight, bias = change(weight, bias)
        y = x @ weight.T
        return y if bias is None else y + bias

    return linear


def _turned(weight: Tensor) -> Tensor:
    return weight.T if weight.shape[0] == weight.shape[1] else weight


def _table(change: Callable[[Tensor, Tensor], Tensor]) -> Function:
    return lambda ids, weight, *args, **options: change(ids, weight)


def _softmax(x: Tensor, dim: int = -1, **options: Any) -> Tensor:
    e = x.exp()
    return e / e.sum(dim, keepdim=True)


def _two_steps(x: Tensor, dim: int = -1, **options: Any) -> Tensor:
    return torch.softmax(x, dim).log()


def _ignored_count(x: Tensor, labels: Tensor, ignore_index: int = -100, **options: Any) -> Tensor:
    picked = x.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    return -(picked * (labels != ignore_index)).mean()


# card -> mistake -> the functions of PyTorch that it exchanges
MISTAKES: Mapping[str, Mapping[str, Mapping[Any, Function]]] = {
    "linear": {
        "weight transposed": {functional.linear: _linear(lambda w, b: (_turned(w), b))},
        "bias missing": {functional.linear: _linear(lambda w, b: (w, None))},
        "weights in 8 bits": {
            functional.linear: _linear(
                lambda w, b: ((w / w.abs().max() * 127).round() * w.abs().max() / 127, b)
            )
        },
    },
    "embedding": {
        "padding row is zero": {
            functional.embedding: _table(lambda ids, w: w[ids] * (ids != 1)[..., None])
        },
        "next row": {functional.embedding: _table(lambda ids, w: w[(ids + 1) % len(w)])},
    },
    "position_ids_from_padding": {
        "from 0": {torch.cumsum: lambda x, dim: torch.ones_like(x).cumsum(dim) - 2},
        "padding counts": {torch.cumsum: lambda x, dim: torch.ones_like(x).cumsum(dim)},
    },
    "layer_norm": {
        "eps outside the root": {
            functional.layer_norm: _norm(
                lambda x, eps: (x - _mean(x)) / (_variance(x).sqrt() + eps)
            )
        },
        "unbiased variance": {
            functional.layer_norm: _norm(
                lambda x, eps: (x - _mean(x)) / (_variance(x, 1) + eps).sqrt()
            )
        },
        "root mean square": {
            functional.layer_norm: _norm(lambda x, eps: x / ((x * x).mean(-1, True) + eps).sqrt())
        },
        "E[x²] - E[x]²": {
            functional.layer_norm: _norm(
                lambda x, eps: (
                    (x - _mean(x)) / ((x * x).mean(-1, True) - _mean(x) ** 2 + eps).sqrt()
                )
            )
        },
        "eps 1e-12": {
            functional.layer_norm: _norm(
                lambda x, eps: (x - _mean(x)) / (_variance(x) + 1e-12).sqrt()
            )
        },
        "eps 1e-5": {
            functional.layer_norm: _norm(
                lambda x, eps: (x - _mean(x)) / (_variance(x) + 1e-5).sqrt()
            )
        },
    },
    "softmax": {
        "maximum not taken away": {functional.softmax: _softmax},
        "wrong axis": {
            functional.softmax: lambda x, dim=-1, **o: torch.softmax(x, max(-2, -x.ndim))
        },
        "in float16": {
            functional.softmax: lambda x, dim=-1, **o: torch.softmax(x.half(), dim).to(x.dtype)
        },
    },
    "log_softmax": {
        "in two steps": {functional.log_softmax: _two_steps},
        "base 2": {
            functional.log_softmax: lambda x, dim=-1, **o: torch.log_softmax(x, dim) / math.log(2.0)
        },
    },
    "gelu_erf": {
        "tanh form": {
            functional.gelu: lambda x, approximate="none": torch.ops.aten.gelu(
                x, approximate="tanh"
            )
        },
        "sigmoid form": {
            functional.gelu: lambda x, approximate="none": (
                x * torch.sigmoid(1.702 * x)
                if approximate == "none"
                else torch.ops.aten.gelu(x, approximate=approximate)
            )
        },
    },
    "gelu_tanh": {
        "erf form": {functional.gelu: lambda x, approximate="none": torch.ops.aten.gelu(x)},
    },
    "relu": {
        "leaky": {functional.relu: lambda x, inplace=False: functional.leaky_relu(x, 0.01)},
        "at most 6": {functional.relu: lambda x, inplace=False: functional.relu6(x)},
    },
    "silu": {"sigmoid": {functional.silu: lambda x, inplace=False: torch.sigmoid(x)}},
    "tanh": {"clipped line": {torch.tanh: lambda x: x.clamp(-1, 1)}},
    "erf": {"tanh form": {torch.erf: lambda x: torch.tanh(1.1283792 * (x + 0.0894 * x**3))}},
    "negative_log_likelihood": {"ignored rows count": {functional.nll_loss: _ignored_count}},
    "cross_entropy": {
        "smoothed labels": {
            functional.cross_entropy: lambda x, labels, **o: functional.nll_loss(
                0.9 * torch.log_softmax(x, 1) + 0.1 * torch.log_softmax(x, 1).mean(1, True),
                labels,
                ignore_index=-100,
            )
        },
    },
    "mean_squared_error": {
        "sum": {functional.mse_loss: lambda x, target, **o: ((x - target) ** 2).sum()}
    },
    "binary_cross_entropy_with_logits": {
        "naive": {
            functional.binary_cross_entropy_with_logits: lambda x, t, **o: (
                -(t * torch.sigmoid(x).log() + (1 - t) * (1 - torch.sigmoid(x)).log()).mean()
            )
        }
    },
}


def answers(arithmetic: str = "float32") -> Arrays:
    """What the originals make of all cards in an arithmetic; bfloat16 as float32."""
    found: Arrays = {}
    for card in CARDS.values():
        for name, case in card.cases.items():
            with suppress(Exception):
                y = run(card, case, arithmetic)
                wide = y.float() if y.dtype == torch.bfloat16 else y
                found[f"{card.name}.{name}.output"] = wide.numpy()
    return found


def inject() -> Iterator[Injected]:
    """Inject every mistake into the originals, in float32."""
    for card, mistakes in MISTAKES.items():
        for name, functions in mistakes.items():
            with Exchanged(functions):
                given = answers()
            yield injected(f"{card}: {name}", (card,), given)


def false_alarms(cards: Mapping[str, Card]) -> dict[str, tuple[int, int]]:
    """Verdicts on the originals themselves that are wrong, and how many there were."""
    found = {}
    for arithmetic in ("float64", "float32", "float16", "bfloat16"):
        given = {
            key: x
            for key, x in answers(arithmetic).items()
            if arithmetic in cards[key.split(".")[0]].cases[key.split(".")[1]].arithmetics
        }
        verdicts = [x for card in judge(Dump(given), arithmetic).judged for x in card.cases]
        wrong = sum(not x.held for x in verdicts)
        found[f"{arithmetic}, transformers on PyTorch"] = (wrong, len(verdicts))
    return found


def versions() -> dict[str, str]:
    """Of what was run."""
    return {"torch": torch.__version__, "transformers": transformers.__version__}
