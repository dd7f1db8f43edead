"""Validate a GPU, and write docs/gpu-validation.md from what was found.

    python -m tools.gpu_validation

needs CuPy, a CUDA device and the ``test`` extra, and, for the ratios, a PyTorch with CUDA and
transformers. It runs the test-suite on CuPy, recomputes every golden in every dtype, and times true
sizes beside PyTorch: about half an hour. ``--backend numpy --sizes tiny --page FILE`` tries the
command itself where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from refimpl.backend import Backend, get_backend, to_numpy  # noqa: E402
from refimpl.models.model import load  # noqa: E402
from refimpl.parity.goldens import (  # noqa: E402
    find_goldens,
    flatten,
    read_golden,
)
from refimpl.parity.verify import verify  # noqa: E402

PAGE = ROOT / "docs" / "gpu-validation.md"
DTYPES = ("float64", "float32", "float16", "bfloat16")
TIMED = (("float32", False), ("float32", True), ("float16", False))  # dtype, TF32 allowed
PACKAGES = ("numpy", "cupy-cuda13x", "cupy-cuda12x", "ml_dtypes", "torch", "transformers")


# --- what is measured -----------------------------------------------------------------------------


def machine(backend: Backend) -> dict[str, str]:
    """Return the device, its driver and the versions of what computes."""
    found = {"date": date.today().isoformat(), "Python": platform.python_version()}
    if backend.name.startswith("cupy"):
        runtime, number = backend.xp.cuda.runtime, backend.device.id
        device = runtime.getDeviceProperties(number)
        found["device"] = device["name"].decode()
        found["compute capability"] = f"{device['major']}.{device['minor']}"
        found["memory"] = f"{device['totalGlobalMem'] / 2**30:.0f} GiB"
        found["CUDA of the driver"] = readable(runtime.driverGetVersion())
        found["CUDA of CuPy"] = readable(runtime.runtimeGetVersion())
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def readable(cuda: int) -> str:
    """Return 13010 as "13.1".

    >>> readable(13010)
    '13.1'
    """
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


def count_tests(options: list[str]) -> dict[str, int]:
    """Run pytest; return how many tests there were, and what became of them."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *options]
        subprocess.run(command, cwd=ROOT, check=False)
        suite = next(ElementTree.parse(report).iter("testsuite"))
    found = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    return {"passed": 2 * found["tests"] - sum(found.values()), **found}


def verified(backend: str, dtype: str, kernels: str) -> dict[str, Any]:
    """Recompute all goldens; return how many hold, and which value is nearest to its tolerance."""
    report = verify(backend=backend, dtype=dtype, kernels=kernels)
    worst = max(report.cases, key=lambda case: case.worst.share if case.worst else 0.0)
    return {
        "dtype": dtype,
        "kernels": kernels,
        "cases": len(report.cases),
        "held": sum(case.held for case in report.cases),
        "share": worst.worst.share if worst.worst else None,
        "where": f"{worst.name}: {worst.worst.name}" if worst.worst else worst.error,
    }


def output_error(backend: str, dtype: str) -> dict[str, Any]:
    """Return the errors of the goldens' real outputs, each relative to the largest true value."""
    errors = []
    for folder in find_goldens():
        golden = read_golden(folder)
        outputs = flatten(load(folder, dtype=dtype, backend=backend)(**golden.inputs()))
        for name, truth in golden.part("output").items():
            if truth.dtype.kind == "f" and numpy.isfinite(truth).all() and truth.any():
                apart = numpy.abs(to_numpy(outputs[name]).astype("float64") - truth).max()
                errors.append(float(apart / numpy.abs(truth).max()))
    return {"dtype": dtype, "outputs": len(errors), "median": float(numpy.median(errors)),
            "largest": max(errors)}  # fmt: skip


def timed(backend: str, size: str, dtype: str, tf32: bool, shapes: str, torch: bool) -> Any:
    """Run ``refimpl bench`` in a process of its own; return what it measured, or why it did not."""
    command = [sys.executable, "-m", "refimpl", "bench", "--size", size, "--dtype", dtype,
               "--backend", backend, "--shapes", shapes, "--json"]  # fmt: skip
    command += ["--against", "torch"] if torch and not tf32 else []
    environment = os.environ | ({"CUPY_TF32": "1"} if tf32 else {"NVIDIA_TF32_OVERRIDE": "0"})
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        return {"size": size, "dtype": dtype, "tf32": tf32, "error": done.stderr.strip()}
    return {**json.loads(done.stdout), "tf32": tf32}


# --- the page -------------------------------------------------------------------------------------


def page(found: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    heads = {
        "tests": tuple(found["tests"]),
        "goldens": ("dtype", "kernels", "cases held", "share of tolerance", "where"),
        "outputs": ("dtype", "outputs", "median", "largest"),
        "times": ("size", "dtype", "texts x tokens", "ms", "tokens/s", "/ eager", "/ sdpa"),
    }
    return "\n".join([
        "# GPU validation", "",
        f"What `python -m tools.gpu_validation` found. [GPU](gpu.md) says how to run on one; where "
        f"this page and another differ, this one was measured. Backend: `{found['backend']}`.", "",
        *table(("", ""), found["machine"].items()),
        "## Tests", "",
        f"`pytest --backend {found['backend']}`:", "",
        *table(heads["tests"], [found["tests"].values()]),
        "## Goldens", "",
        "The value nearest to its tolerance (1: on it), of all taps and outputs:", "",
        *table(heads["goldens"], map(verdict, found["goldens"])),
        "## Outputs", "",
        "The largest error of an output over its largest true value, fused kernels. bfloat16 has "
        "no tolerances; this is all that is known of it.", "",
        *table(heads["outputs"], map(spread, found["outputs"])),
        "## Time", "",
        "Random weights; the median of alternating turns; ratio: our time over PyTorch's. TF32 is "
        "off on both sides, but where it is named.", "",
        *table(heads["times"], times(found["times"])),
    ])  # fmt: skip


def table(head: tuple[str, ...], rows: Any) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return [*("| " + " | ".join(map(str, row)) + " |" for row in lines), ""]


def verdict(one: dict[str, Any]) -> tuple[str, ...]:
    """Return the row of what ``verified`` found."""
    share = "-" if one["share"] is None else f"{one['share']:.2f}"
    return one["dtype"], one["kernels"], f"{one['held']} of {one['cases']}", share, one["where"]


def spread(one: dict[str, Any]) -> tuple[str, ...]:
    """Return the row of what ``output_error`` found."""
    if "error" in one:
        return one["dtype"], "-", "-", one["error"]
    return one["dtype"], str(one["outputs"]), f"{one['median']:.1e}", f"{one['largest']:.1e}"


def times(measured: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each batch that was timed."""
    for run in measured:
        dtype = run["dtype"] + (" (TF32)" if run["tf32"] else "")
        if "error" in run:
            yield run["size"], dtype, "not run", *["-"] * 3, run["error"].replace("\n", " ")
            continue
        for one in run["measurements"]:
            ratios = [
                f"{one['against'][f'torch {name}']['ratio_of_median']:.2f}"
                if f"torch {name}" in one["against"] else "-" for name in ("eager", "sdpa")
            ]  # fmt: skip
            yield (run["size"], dtype, one["batch"], f"{1e3 * one['median']:.2f}",
                   f"{one['tokens_per_second']:,.0f}", *ratios)  # fmt: skip


# --- the command ----------------------------------------------------------------------------------


def there_is_cuda() -> bool:
    """Tell whether there is a PyTorch that sees the GPU."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything, the shortest first."""
    backend = get_backend(options.backend)
    on_gpu = backend.name.startswith("cupy")
    dtypes = DTYPES if on_gpu else DTYPES[:3]
    goldens = [
        verified(backend.name, dtype, kernels)
        for dtype in DTYPES[:3]
        for kernels in ("plain", "fused")
    ]
    ways = TIMED if on_gpu else TIMED[:1]
    return {
        "backend": backend.name,
        "machine": machine(backend),
        "goldens": goldens,
        "outputs": [output_error(backend.name, dtype) for dtype in dtypes],
        "tests": count_tests(["--backend", backend.name, *options.tests]),
        "times": [
            timed(backend.name, size, *way, options.shapes, there_is_cuda() or not on_gpu)
            for size in options.sizes.split(",")
            for way in ways
        ],
    }


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="cupy")
    parser.add_argument("--sizes", default="base,large")
    parser.add_argument("--shapes", default="1x16,32x128,8x512")
    parser.add_argument("--tests", nargs="*", default=[], help="paths of tests; else all")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    try:
        get_backend(options.backend)
    except (ValueError, RuntimeError, ImportError) as error:
        sys.exit(f"gpu_validation: {error}")
    if options.page == PAGE and not options.backend.startswith("cupy"):
        sys.exit("gpu_validation: --page: expected another file for a backend that is no GPU")
    found = measure(options)
    options.page.write_text(page(found), encoding="utf-8")
    print(f"wrote {options.page}")


if __name__ == "__main__":
    main()
