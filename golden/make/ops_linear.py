"""Cards: the linear map, and the look-up of rows."""

from __future__ import annotations

import torch
from torch.nn import functional

from golden.make.ops_card import Card, Case, Draw, reals

draw = Draw("linear")
SIGNS = torch.tensor([1.0, -1.0]).repeat(8).double()

LINEAR = Card(
    "linear",
    ours="linear",
    what="y = x Wᵀ + b. The weight has a row for each output feature.",
    theirs="torch.nn.functional.linear",
    source="torch.nn.Linear",
    shapes={"x": "(..., I)", "weight": "(O, I)", "bias": "(O)", "output": "(..., O)"},
    function=functional.linear,
    cases={
        "three_axes": Case(
            "another number of features out than in",
            {"x": draw.normal(2, 3, 8), "weight": draw.weight(5, 8), "bias": draw.normal(5)},
        ),
        "square": Case(
            "as many features out as in: a transposed weight fits",
            {"x": draw.normal(4, 6), "weight": draw.weight(6, 6), "bias": draw.normal(6)},
        ),
        "no_bias": Case("without bias", {"x": draw.normal(3, 6), "weight": draw.weight(6, 6)}),
        "one_feature": Case(
            "one feature in",
            {"x": draw.normal(3, 1), "weight": draw.weight(4, 1), "bias": draw.normal(4)},
        ),
        "one_output": Case(
            "one feature out, many axes before it",
            {"x": draw.normal(2, 1, 3, 5), "weight": draw.weight(1, 5), "bias": draw.normal(1)},
        ),
        "cancelling": Case(
            "large terms that leave a small sum",
            {
                "x": draw.normal(3, 16, scale=0.5) + 64.0 * SIGNS,
                "weight": reals(*[[1.0] * 16, [0.5] * 16]),
                "bias": draw.normal(2),
            },
            without=("float16", "bfloat16"),
        ),
        "long": Case(
            "a sum of 384 positive terms",
            {
                "x": draw.normal(2, 384, mean=4.0),
                "weight": draw.normal(2, 384, mean=2.0, scale=0.25),
                "bias": draw.normal(2),
            },
        ),
        "float16_overflow": Case(
            "sums beyond 65504 beside sums that fit",
            {
                "x": reals([240.0] * 8, [24.0] * 8, [-240.0] * 8),
                "weight": reals([64.0] * 8, [1.0] * 8, [-60.0] * 8),
                "bias": reals(1.0, 2.0, 3.0),
            },
            note="float16: infinity, with the sum's sign, where the sum is beyond 65504",
        ),
        "denormal": Case(
            "products below the smallest normal number of float32",
            {
                "x": reals(*[[(i + 1) * 2.0**-70 for i in range(4)], [2.0**-72] * 4]),
                "weight": reals(*[[2.0**-64, 2.0**-65, -(2.0**-64), 2.0**-66], [2.0**-70] * 4]),
                "bias": reals(2.0**-130, -(2.0**-131)),
            },
        ),
    },
)

draw = Draw("embedding")
EMBEDDING = Card(
    "embedding",
    ours="embedding",
    what="Row ids[i] of the weight. The row of the padding id is looked up like any other.",
    theirs="torch.nn.functional.embedding",
    source="torch.nn.Embedding",
    shapes={"ids": "ids (...)", "weight": "(V, D)", "output": "(..., D)"},
    function=lambda ids, weight: functional.embedding(ids, weight),
    cases={
        "two_axes": Case(
            "first and last row, rows that occur twice",
            {"ids": torch.tensor([[0, 6, 3], [3, 1, 6]]), "weight": draw.normal(7, 4)},
        ),
        "padding_id": Case(
            "the row of the padding id is not zero",
            {"ids": torch.tensor([[1, 5, 1, 2]]), "weight": draw.normal(6, 3, mean=2.0)},
        ),
        "one_id": Case("a single id", {"ids": torch.tensor(2), "weight": draw.normal(3, 5)}),
        "one_row": Case(
            "a table of one row, of one feature",
            {"ids": torch.tensor([0, 0]), "weight": draw.normal(1, 1)},
        ),
        "square": Case(
            "as many rows as features: a transposed table fits",
            {"ids": torch.tensor([[4, 0], [2, 1]]), "weight": draw.normal(5, 5)},
        ),
        "large": Case(
            "the largest numbers of float16",
            {
                "ids": torch.tensor([1, 0]),
                "weight": reals([65280.0, -65280.0], [32768.0, 2.0**-14]),
            },
        ),
    },
)

CARDS = (LINEAR, EMBEDDING)
