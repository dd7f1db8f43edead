"""The forward pass of a base encoder beside PyTorch's, eager and sdpa, at five shapes."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import markdown, milliseconds, verdict
from refimpl.bench.against import torch_models
from refimpl.bench.batches import parse_shapes
from refimpl.bench.measuring import measure as measure_batch
from refimpl.bench.models import Subject, make_model

SHAPES = "1x16,1x128,8x128,1x512,8x512"
TURNS = 11
TARGET = 1.0  # our time over PyTorch's eager, at most
SHARE_OF, SHARE_TARGET = "8x512", 0.70  # of the matrix peak, at least


def measure() -> dict[str, Any]:
    """Return what was measured of each shape, with float32 weights of the size of base."""
    subject = Subject(None)
    model = make_model(subject)
    others = torch_models(subject, model)
    batches = parse_shapes(SHAPES)
    return {
        "subject": subject._asdict(),
        "shapes": [measure_batch(subject, model, b, turns=TURNS, against=others) for b in batches],
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    head = ["Texts x tokens", "ms", "median ms", "torch eager, ms", "Ratio", f"Target {TARGET:.2f}",
            "torch sdpa, ms", "Ratio", "GFLOP/s", "Share of peak", "Peak MB"]  # fmt: skip
    rows = []
    for one in figures["shapes"]:
        eager, sdpa = (one["against"][f"torch {kind}"] for kind in ("eager", "sdpa"))
        rows.append(
            [
                one["batch"],
                milliseconds(one["best"]),
                milliseconds(one["median"]),
                milliseconds(eager["best"]),
                f"{eager['ratio_of_best']:.3f}",
                verdict(eager["ratio_of_best"], TARGET),
                milliseconds(sdpa["best"]),
                f"{sdpa['ratio_of_best']:.3f}",
                f"{one['gflops']:.1f}",
                f"{one['share_of_peak']:.3f}",
                f"{one['peak_bytes'] / 1e6:.0f}" if one.get("peak_bytes") else "not measured",
            ]
        )
    share = next(one for one in figures["shapes"] if one["batch"] == SHARE_OF)["share_of_peak"]
    judged = verdict(share, SHARE_TARGET, at_most=False)
    return (
        f"{markdown(head, rows)}\n\nShare of the matrix peak at {SHARE_OF}: {share:.3f}; target at "
        f"least {SHARE_TARGET:.2f}: {judged}."
    )
