"""Plain kernels, which are there to be read, beside the fused ones."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.forward import SHAPES
from benchmarks.tables import markdown, milliseconds, verdict
from refimpl.bench.batches import parse_shapes
from refimpl.bench.clock import in_turns, waiter
from refimpl.bench.models import Subject, make_model

TURNS = 5
TARGET = 3.0


def measure() -> dict[str, Any]:
    """Return the seconds of each kind of kernels at each shape, in turns."""
    fused = make_model(Subject(None))
    plain = dataclasses.replace(fused, kernels="plain")
    wait, found = waiter(fused.backend), {}
    for batch in parse_shapes(SHAPES):
        inputs = batch.inputs(fused.config)
        calls = {
            "fused": (lambda inputs=inputs: fused(**inputs), wait),
            "plain": (lambda inputs=inputs: plain(**inputs), wait),
        }
        found[batch.name] = in_turns(calls, TURNS)
    return {"turns": found}


def table(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    rows = []
    for name, seconds in figures["turns"].items():
        fused, plain = min(seconds["fused"]), min(seconds["plain"])
        ratio = plain / fused
        rows.append([name, milliseconds(fused), milliseconds(plain), f"{ratio:.3f}",
                     verdict(ratio, TARGET)])  # fmt: skip
    head = ["Texts x tokens", "fused, ms", "plain, ms", "Ratio", f"Target {TARGET:.2f}"]
    return markdown(head, rows)
