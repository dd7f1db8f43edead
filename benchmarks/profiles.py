"""Where the time of a forward pass goes, by operation."""

from __future__ import annotations

from typing import Any

from benchmarks.padded import make_lengths
from benchmarks.tables import markdown, milliseconds
from refimpl.bench.batches import Batch, parse_shapes
from refimpl.bench.models import Subject, make_model
from refimpl.bench.profile import Part, bar, profile

SHAPES = "1x16,1x128,8x128,8x512"
LEAST_SHARE = 0.01  # smaller parts are put together
SMALLER = "all smaller ones"


def measure() -> dict[str, Any]:
    """Return the parts of a forward pass at three shapes, and of the padded batch, packed."""
    model, packed = make_model(Subject(None)), make_model(Subject(None, packed=True))
    found = {
        batch.name: profile(model, batch.inputs(model.config)) for batch in parse_shapes(SHAPES)
    }
    batch = Batch("32 texts, packed", make_lengths())
    found[batch.name] = profile(packed, batch.inputs(packed.config))
    return {"profiles": {name: [list(part) for part in parts] for name, parts in found.items()}}


def table(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown, a table for each batch."""
    return "\n\n".join(_one(name, parts) for name, parts in figures["profiles"].items())


def _one(name: str, lists: list[list[Any]]) -> str:
    parts = [Part(*one) for one in lists]
    whole = sum(part.seconds for part in parts)
    small = [part for part in parts if part.seconds < LEAST_SHARE * whole]
    shown = [part for part in parts if part not in small]
    if small:
        total = sum(part.seconds for part in small)
        shown.append(Part(SMALLER, total, sum(part.calls for part in small)))
    rows = [
        [f"`{part.name}`" if " " not in part.name else part.name, milliseconds(part.seconds),
         str(part.calls), f"{part.seconds / whole:.1%}", bar(part.seconds / whole)]
        for part in shown
    ]  # fmt: skip
    head = ["Operation", "ms", "Calls", "Share", ""]
    return f"{name}: {milliseconds(whole)} ms\n\n{markdown(head, rows)}"
