"""One measurement: our time, PyTorch's in turns with it, the share of the machine's peak."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy

from refimpl.bench import memory
from refimpl.bench.against import difference, torch_call
from refimpl.bench.arithmetic import forward_flops, peak_call
from refimpl.bench.batches import Batch
from refimpl.bench.clock import Track, best_and_median, in_turns, waiter
from refimpl.bench.models import Subject
from refimpl.models.model import Model

OURS, PEAK = "refimpl", "peak"


def measure(
    subject: Subject,
    model: Model,
    batch: Batch,
    *,
    turns: int = 5,
    against: dict[str, Any] | None = None,
    with_memory: bool = True,
    track: Track = lambda items, total: items,
) -> dict[str, Any]:
    """Return what was measured of a batch: seconds of each turn, and the numbers they come to.

    ``against`` holds models of PyTorch, from :func:`refimpl.bench.against.torch_models`. Peak
    matrix arithmetic is measured in the same turns. A ratio is our time over theirs: below 1 we
    are faster.
    """
    wait, inputs = waiter(model.backend), batch.inputs(model.config)
    multiply, of_peak = peak_call(model, wait)
    calls: dict[str, tuple[Any, Any]] = {
        OURS: (lambda: model(**inputs), wait),
        PEAK: (multiply, wait),
    }
    for name, made in (against or {}).items():
        calls[name] = torch_call(made, inputs)
    seconds = in_turns(calls, turns, track)
    flops, times = forward_flops(model, batch), best_and_median(seconds[OURS])
    found: dict[str, Any] = {
        "batch": batch.name,
        "lengths": list(batch.lengths),
        "seconds": seconds,
        **times,
        "tokens_per_second": batch.tokens / times["best"],
        "gflops": flops / times["best"] / 1e9,
        "peak_gflops": of_peak / min(seconds[PEAK]) / 1e9,
        "share_of_peak": flops / times["best"] / (of_peak / min(seconds[PEAK])),
        "against": _ratios(seconds, calls.keys() - {OURS, PEAK}),
    }
    for name, of_name in found["against"].items():
        of_name["difference"] = difference(model(**inputs), calls[name][0](), inputs)
    if with_memory:
        found["peak_bytes"] = _peak_memory(subject, model, batch)
    return found


def _ratios(seconds: dict[str, list[float]], names: Any) -> dict[str, dict[str, float]]:
    ours = best_and_median(seconds[OURS])
    found = {}
    for name in sorted(names):
        theirs = best_and_median(seconds[name])
        ratios = {f"ratio_of_{kind}": ours[kind] / theirs[kind] for kind in ours}
        found[name] = {**theirs, **ratios}
    return found


def _peak_memory(subject: Subject, model: Model, batch: Batch) -> int | None:
    if subject.backend.startswith("cupy"):
        return memory.peak_of_pool(model, batch)
    return memory.peak_of_process(subject, batch)


def machine(model: Model | None = None) -> dict[str, Any]:
    """Return what a time depends on beside the code: processor, cores, threads, load, versions."""
    found: dict[str, Any] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
    }
    for package in ("numpy", "torch", "transformers", "cupy-cuda13x", "cupy-cuda12x"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    found["blas"] = f"{blas['name']} {blas['version']}"
    if model is not None and model.backend.name.startswith("cupy"):
        runtime = model.backend.xp.cuda.runtime
        found["gpu"] = runtime.getDeviceProperties(model.backend.device.id)["name"].decode()
    return found


def processor() -> str:
    """Return the processor's name, or the kind of machine where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
