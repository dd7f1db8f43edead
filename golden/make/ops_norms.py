"""Cards: layer norm, softmax, log-softmax."""

from __future__ import annotations

import torch
from torch.nn import functional

from golden.make.ops_card import Card, Case, Draw, reals

LOWEST = -65280.0  # about the lowest of float16, and a number of bfloat16


def layer_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """torch's own."""
    return functional.layer_norm(x, weight.shape, weight, bias, eps)


draw = Draw("layer_norm")


def norm_case(what: str, x: torch.Tensor, eps: float, without: tuple[str, ...] = ()) -> Case:
    """A case with weights of its own."""
    width = x.shape[-1]
    bias = draw.normal(width, scale=0.4)
    return Case(what, {"x": x, "weight": draw.gain(width), "bias": bias, "eps": eps}, without)


LAYER_NORM = Card(
    "layer_norm",
    ours="layer_norm",
    what="(x - mean) / sqrt(variance + eps) * weight + bias over the last axis; the variance "
    "divides by D, eps stands under the root. float16 and bfloat16 are computed in float32.",
    theirs="torch.nn.functional.layer_norm",
    source="Ba et al. 2016, section 3",
    shapes={"x": "(..., D)", "weight": "(D)", "bias": "(D)", "eps": "()", "output": "(..., D)"},
    function=layer_norm,
    cases={
        "plain": norm_case("rows of size 1", draw.normal(2, 3, 8), 1e-5),
        "square": norm_case(
            "as many rows as features: statistics of the wrong axis fit", draw.normal(6, 6), 1e-5
        ),
        "eps_matters": norm_case(
            "a variance about as large as eps", draw.normal(3, 8, scale=3e-3), 1e-5
        ),
        "eps_dominates": norm_case(
            "a variance far below eps", draw.normal(2, 8, scale=2.0**-13), 1e-5
        ),
        "eps_1e_12": norm_case(
            "XLM's eps, and rows so small that 1e-5 would not do",
            draw.normal(3, 8, scale=2.0**-7),
            1e-12,
        ),
        "constant": norm_case(
            "rows that do not vary: nothing but the bias is left",
            reals([1.5] * 6, [0.0] * 6, [-96.0] * 6),
            1e-5,
        ),
        "one_feature": norm_case("a single feature", reals([3.0], [-0.5], [0.0]), 1e-5),
        "three_features": norm_case(
            "so few that dividing by D - 1 shows at once", draw.normal(4, 3), 1e-5
        ),
        "large_mean": norm_case(
            "a mean 20 times as large as the spread",
            reals(*[[256.0 + 8 * ((i * k) % 5) for i in range(8)] for k in (1, 2, 3)]),
            1e-5,
        ),
        "huge_mean": norm_case(
            "a mean 10,000 times as large as the spread: E[x²] - E[x]² is lost in float32",
            reals(*[[8192.0 + ((i * k) % 7) / 8 for i in range(8)] for k in (1, 2, 3)]),
            1e-5,
        ),
        "float16_squares": norm_case(
            "squares beyond 65504, and a sum beyond it",
            reals(*[[3840.0 * ((i * k) % 9 - 3) for i in range(8)] for k in (1, 2)]),
            1e-5,
        ),
        "tiny": norm_case(
            "squares below the smallest number of float32; eps is all there is",
            draw.normal(2, 8) * 2.0**-80,
            1e-12,
        ),
    },
)

draw = Draw("softmax")
TIES = reals([3.0, 3.0, -1.0, 3.0], [0.0, 0.0, 0.0, 0.0], [-2.0, 5.0, 5.0, 1.0])
EIGHTIES = reals([80.0, 79.5, -80.0, 0.0], [-80.0, -80.5, -79.0, -96.0], [88.0, 89.0, 90.0, 1.0])
SOFTMAX_CASES = {
    "plain": Case("scores of size 2", {"x": draw.normal(2, 3, 5, scale=2.0)}),
    "square": Case(
        "as many rows as places: the wrong axis fits", {"x": draw.normal(5, 5, scale=2.0)}
    ),
    "ties": Case("equal scores", {"x": TIES}),
    "one_key": Case("one place: 1, whatever the score", {"x": reals([7.0], [-300.0], [0.0])}),
    "scores_of_80": Case(
        "exponentials that float16 cannot hold, and float32 just", {"x": EIGHTIES}
    ),
    "scores_of_1000": Case(
        "exponentials that overflow or vanish unless the maximum is taken away",
        {
            "x": reals(
                [1000.0, 996.0, -1000.0], [-1000.0, -1004.0, -992.0], [24576.0, 0.0, -24576.0]
            )
        },
    ),
    "all_padded": Case(
        "rows of nothing but the lowest number: all places alike",
        {"x": reals([LOWEST] * 4, [LOWEST / 2] * 4)},
    ),
    "padded": Case(
        "the lowest number beside scores: exactly 0",
        {"x": reals([1.5, LOWEST, 0.25, LOWEST], [LOWEST, LOWEST, LOWEST, -80.0])},
    ),
    "long": Case("300 places", {"x": draw.normal(2, 300)}),
    "negative": Case("all scores far below 0", {"x": draw.normal(3, 6, mean=-512.0, scale=4.0)}),
}
SOFTMAX = Card(
    "softmax",
    ours="softmax",
    what="exp(x) / sum(exp(x)) over the last axis, after taking the row's maximum away.",
    theirs="torch.nn.functional.softmax",
    source="Vaswani et al. 2017, section 3.2.1",
    shapes={"x": "(..., N)", "output": "(..., N)"},
    function=lambda x: functional.softmax(x, dim=-1),
    cases=SOFTMAX_CASES,
)
SOFTMAX_FLOAT32 = Card(
    "softmax_float32",
    ours="softmax_float32",
    what="XLM's softmax: float16 and bfloat16 are computed in float32 and cast back.",
    theirs="softmax(scores.float(), dim=-1).type_as(scores), in MultiHeadAttention of XLM",
    source="transformers 4.57.6, models/xlm/modeling_xlm.py",
    shapes={"x": "(..., N)", "output": "(..., N)"},
    function=lambda x: functional.softmax(x.float(), dim=-1).type_as(x),
    uses=("softmax",),
    cases=SOFTMAX_CASES,
)

draw = Draw("log_softmax")
LOG_SOFTMAX = Card(
    "log_softmax",
    ours="log_softmax",
    what="log(softmax(x)) over the last axis, in one step.",
    theirs="torch.nn.functional.log_softmax",
    source="torch.nn.LogSoftmax",
    shapes={"x": "(..., N)", "output": "(..., N)"},
    function=lambda x: functional.log_softmax(x, dim=-1),
    cases={
        "plain": Case("scores of size 2", {"x": draw.normal(2, 3, 5, scale=2.0)}),
        "square": Case("the wrong axis fits", {"x": draw.normal(5, 5, scale=2.0)}),
        "ties": Case("equal scores", {"x": TIES}),
        "one_class": Case("one place: 0, whatever the score", {"x": reals([7.0], [-300.0])}),
        "vanishing": Case(
            "probabilities below the smallest number: the logarithm in two steps is -infinity",
            {"x": reals([0.0, -200.0, 16.0], [240.0, -240.0, 0.0])},
        ),
        "scores_of_80": Case("exponentials that float16 cannot hold", {"x": EIGHTIES}),
        "certain": Case(
            "one place with nearly all: its logarithm is almost 0",
            {"x": reals([12.0, 0.0, -1.0], [40.0, 1.0, 2.0])},
        ),
        "long": Case("300 places", {"x": draw.normal(2, 300)}),
    },
)

CARDS = (LAYER_NORM, SOFTMAX, SOFTMAX_FLOAT32, LOG_SOFTMAX)
