"""A padded batch of 32 texts with lengths like XNLI's: packed here, padded in PyTorch."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

from benchmarks.tables import markdown, milliseconds, verdict
from refimpl.bench.against import torch_models
from refimpl.bench.batches import Batch
from refimpl.bench.measuring import measure as measure_batch
from refimpl.bench.models import Subject, make_model

TURNS = 9
TARGET = 0.40


def make_lengths() -> tuple[int, ...]:
    """Return 32 lengths: evenly spaced quantiles of a log-normal distribution, and 128.

    31 quantiles of exp(3.168 + 0.5 z), rounded, sum to 832; with the one text of 128 tokens the
    mean is 30. They stand in an order in which neighbours differ, as in a file.

    >>> sum(make_lengths()) / len(make_lengths()), max(make_lengths())
    (30.0, 128)
    """
    z = [NormalDist().inv_cdf((i + 0.5) / 31) for i in range(31)]
    lengths = [*(round(math.exp(3.168 + 0.5 * x)) for x in z), 128]
    return tuple(lengths[11 * i % 32] for i in range(32))


def measure() -> dict[str, Any]:
    """Return what was measured of the batch, packed and (beside it) unpacked."""
    lengths = make_lengths()
    batch = Batch("32 texts", lengths)
    found: dict[str, Any] = {}
    others = None
    for name, packed in (("packed", True), ("unpacked", False)):
        subject = Subject(None, packed=packed)
        model = make_model(subject)
        others = others or torch_models(subject, model)
        found[name] = measure_batch(subject, model, batch, turns=TURNS, against=others)
    return found


def table(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    rows = []
    for name in ("packed", "unpacked"):
        one = figures[name]
        eager, sdpa = (one["against"][f"torch {kind}"] for kind in ("eager", "sdpa"))
        rows.append(
            [
                name,
                milliseconds(one["best"]),
                milliseconds(one["median"]),
                milliseconds(eager["best"]),
                f"{eager['ratio_of_best']:.3f}",
                verdict(eager["ratio_of_best"], TARGET) if name == "packed" else "",
                milliseconds(sdpa["best"]),
                f"{sdpa['ratio_of_best']:.3f}",
            ]
        )
    head = ["refimpl", "ms", "median ms", "torch eager, ms", "Ratio", f"Target {TARGET:.2f}",
            "torch sdpa, ms", "Ratio"]  # fmt: skip
    lengths = ", ".join(map(str, figures["packed"]["lengths"]))
    return f"{markdown(head, rows)}\n\nLengths: {lengths}."
