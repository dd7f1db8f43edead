"""Cards: activations and the error function."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers.activations import ACT2FN

from golden.make.ops_card import Card, Case, exact, reals

EVERYWHERE = exact(torch.linspace(-6.0, 6.0, 97).double())
SMALL = torch.cat([s * 2.0 ** torch.arange(-16.0, -3.0) for s in (1, -1)]).double()
LARGE = reals(*(s * x for x in (8.0, 20.0, 44.0, 60.0, 80.0, 89.0, 104.0, 240.0) for s in (1, -1)))
HUGE = reals(1000.0, -1000.0, 32768.0, -32768.0, 65280.0, -65280.0)
TINY = reals(*(s * 2.0**-k for k in (100, 126, 130, 133) for s in (1, -1)), 0.0)
TAIL = exact(torch.linspace(-12.0, -2.0, 41).double())


def elementwise(
    name: str,
    what: str,
    theirs: str,
    source: str,
    function: Callable[[torch.Tensor], torch.Tensor],
    without: tuple[str, ...] = (),
    note: str = "",
) -> Card:
    """A card of a function of every element: the same places for all."""
    cases = {
        "everywhere": Case("from -6 to 6", {"x": EVERYWHERE.reshape(97, 1)}),
        "two_axes": Case("a matrix", {"x": EVERYWHERE[17:81].reshape(8, 8)}),
        "small": Case("near 0, where it is nearly a line", {"x": SMALL}),
        "tail": Case("far below 0, where a sum with 1 cancels", {"x": TAIL}),
        "large": Case("where its exponentials overflow, in float16 or float32", {"x": LARGE}),
        "huge": Case("up to the largest numbers of float16", {"x": HUGE}),
        "tiny": Case("next to the smallest numbers of float32, and 0", {"x": TINY}, without, note),
    }
    return Card(
        name,
        ours=name,
        what=what,
        theirs=theirs,
        source=source,
        shapes={"x": "(...)", "output": "(...)"},
        function=lambda x: function(x),
        uses=("erf",) if name == "gelu_erf" else (),
        cases=cases,
    )


GELU = "Hendrycks & Gimpel 2016, section 2"

CARDS = (
    elementwise(
        "erf",
        "The error function, 2/√π ∫₀ˣ exp(-t²) dt.",
        "torch.erf",
        "Abramowitz & Stegun, 7.1.1",
        torch.erf,
        without=("bfloat16",),
        note="bfloat16: the original gives 0 for all that is below 2^-30",
    ),
    elementwise(
        "gelu_erf",
        "x/2 (1 + erf(x/√2)): the GELU of all published checkpoints of the family.",
        'ACT2FN["gelu"]',
        GELU,
        ACT2FN["gelu"],
    ),
    elementwise(
        "gelu_tanh",
        "x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))): an approximation of gelu_erf.",
        'ACT2FN["gelu_pytorch_tanh"]; "gelu_new" is the same formula',
        GELU,
        ACT2FN["gelu_pytorch_tanh"],
    ),
    elementwise("relu", "max(x, 0).", 'ACT2FN["relu"]', "torch.nn.ReLU", ACT2FN["relu"]),
    elementwise(
        "silu",
        "x / (1 + exp(-x)), also called swish.",
        'ACT2FN["silu"]',
        "Elfwing et al. 2017, equation 11",
        ACT2FN["silu"],
    ),
    elementwise("tanh", "The hyperbolic tangent.", 'ACT2FN["tanh"]', "torch.nn.Tanh", torch.tanh),
)
