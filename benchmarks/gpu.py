"""Forward passes on a GPU: CuPy beside PyTorch's eager, base and large, float32 and float16."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import markdown, milliseconds, verdict
from refimpl.bench.against import torch_models
from refimpl.bench.batches import parse_shapes
from refimpl.bench.measuring import machine
from refimpl.bench.measuring import measure as measure_batch
from refimpl.bench.models import Subject, make_model

SHAPES = "32x128,8x512"
TURNS = 9
TARGET = 1.10


def measure() -> dict[str, Any]:
    """Return what was measured of each size, dtype and shape.

    Raises ``RuntimeError`` (or ``MissingExtra``) where there is no GPU, CuPy, or PyTorch for it.
    """
    found: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    for size in ("base", "large"):
        for dtype in ("float32", "float16"):
            subject = Subject(None, size, dtype, "cupy")
            model = make_model(subject)
            others = torch_models(subject, model)
            about = machine(model)
            for batch in parse_shapes(SHAPES):
                one = measure_batch(subject, model, batch, turns=TURNS, against=others)
                found.append({"size": size, "dtype": dtype, **one})
    return {"machine": about, "measurements": found}


def table(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    rows = []
    for one in figures["measurements"]:
        eager, sdpa = (one["against"][f"torch {kind}"] for kind in ("eager", "sdpa"))
        rows.append(
            [one["size"], one["dtype"], one["batch"], milliseconds(one["best"]),
             milliseconds(eager["best"]), f"{eager['ratio_of_best']:.3f}",
             verdict(eager["ratio_of_best"], TARGET), milliseconds(sdpa["best"]),
             f"{sdpa['ratio_of_best']:.3f}", f"{one['share_of_peak']:.3f}",
             f"{one['peak_bytes'] / 1e6:.0f}", f"{eager['difference']:.1e}"]
        )  # fmt: skip
    head = ["Size", "Dtype", "Texts x tokens", "ms", "torch eager, ms", "Ratio",
            f"Target {TARGET:.2f}", "torch sdpa, ms", "Ratio", "Share of peak", "Peak MB",
            "Outputs differ by"]  # fmt: skip
    return markdown(head, rows)
