"""Where PyTorch spends its time and where we do, by kind of operation, at one shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.tables import markdown, milliseconds
from refimpl.bench.against import torch_call, torch_models
from refimpl.bench.batches import parse_shapes
from refimpl.bench.clock import PAUSE
from refimpl.bench.models import Subject, make_model
from refimpl.bench.profile import profile

SHAPES = "1x128"
TURNS = 11
REST = "everything else"

# Our operations, and the operators of PyTorch's eager classes that do the same.
KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "linear maps": (("linear",), ("aten::addmm",)),
    "GELU": (("gelu_erf",), ("aten::gelu",)),
    "attention": (("scaled_dot_product_attention",), ("aten::bmm", "aten::_softmax")),
    "layer norms": (("layer_norm",), ("aten::native_layer_norm",)),
}


def measure() -> dict[str, Any]:
    """Return the seconds of each kind, ours and theirs, in the fastest of the passes of each."""
    subject = Subject(None)
    model = make_model(subject)
    theirs = torch_models(subject, model)["torch eager"]
    sides = {}
    for batch in parse_shapes(SHAPES):
        inputs = batch.inputs(model.config)
        call, ours, aten = torch_call(theirs, inputs)[0], [], []
        for _ in range(TURNS):
            time.sleep(PAUSE)
            ours.append({part.name: part.seconds for part in profile(model, inputs, turns=1)})
            time.sleep(PAUSE)
            aten.append(profile_torch(call))
        sides[batch.name] = {
            "refimpl": by_kind(fastest(ours), [names for names, _ in KINDS.values()]),
            "torch eager": by_kind(fastest(aten), [names for _, names in KINDS.values()]),
        }
    return {"sides": sides}


def fastest(passes: list[dict[str, float]]) -> dict[str, float]:
    """Return the pass that took least time."""
    return min(passes, key=lambda parts: sum(parts.values()))


def profile_torch(call: Callable[[], Any]) -> dict[str, float]:
    """Return the seconds of each operator in the second of two passes, without those it calls.

    The last is what no operator took; all of them together are the whole.
    """
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recording

    call()
    with recording(activities=[ProfilerActivity.CPU]) as recorded:
        begun = time.perf_counter()
        call()
        whole = time.perf_counter() - begun
    found = {one.key: one.self_cpu_time_total / 1e6 for one in recorded.key_averages()}
    return {**found, REST: whole - sum(found.values())}


def by_kind(parts: Mapping[str, float], names: list[tuple[str, ...]]) -> dict[str, float]:
    """Return the seconds of each of ``KINDS``, given what each is called, and of all the rest."""
    kinds = [sum(parts.get(name, 0.0) for name in of_kind) for of_kind in names]
    found = dict(zip(KINDS, kinds, strict=True))
    return {**found, REST: sum(parts.values()) - sum(kinds)}


def table(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown, a table for each shape."""
    return "\n\n".join(_one(name, sides) for name, sides in figures["sides"].items())


def _one(name: str, sides: Mapping[str, Mapping[str, float]]) -> str:
    ours, theirs = sides["refimpl"], sides["torch eager"]
    rows = [[kind, *map(milliseconds, (ours[kind], theirs[kind]))] for kind in ours]
    rows.append(["all", *(milliseconds(sum(side.values())) for side in (ours, theirs))])
    return markdown([name, "refimpl, ms", "torch eager, ms"], rows)
