"""How often an honest implementation is called wrong: tap verdicts over random models and calls.

Every draw is a model of one of the four families with random weights, config and call (those of
the live tests). Each implementation runs it and leaves a dump; ``compare`` judges that; every DIFF,
SHAPE, DTYPE or NAN is a false alarm. None of the implementations is among those that the floors
were measured with.
"""

from __future__ import annotations

import copy
import math
import os
import platform
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy
import torch
import transformers

import refimpl
from refimpl.adapters.torch import dump
from refimpl.parity import comparison
from refimpl.parity.comparison import comparing
from refimpl.parity.dumps import read_dump
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.floors import (
    ARITHMETICS,
    MULTIPLIER,
    RUNS,
    draw_implementation,
    measure_floors,
    represent_inputs,
    run_honest,
)
from refimpl.parity.reference import run_reference
from tools.parity_figures.foreign_onnx import run_onnx

MODELS = int(os.environ.get("REFIMPL_MODELS", "112"))  # four of each class
HELD_OUT = 1000  # the numbers of our own implementations begin here
LOW = ("float16", "bfloat16")
WITNESS = os.environ.get("REFIMPL_WITNESS", ".venv5/bin/python")  # one that has transformers 5

Drawn = Any  # a draw of the live tests: a checkpoint and a call of it
Run = tuple[str, str, Dump]  # implementation, arithmetic, what it computed


def measure(progress: Callable[..., Any]) -> dict[str, Any]:
    """Judge every implementation on every draw."""
    from tests.oracle.originals import make_original
    from tests.oracle.test_live_families import draw

    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    units: dict[str, list[float]] = defaultdict(list)
    alarms: list[dict[str, Any]] = []
    failed: Counter[str] = Counter()
    for seed in progress(range(MODELS)):
        drawn = draw(seed)
        for flag in ("output_attentions", "output_hidden_states"):
            drawn.inputs.pop(flag, None)
            drawn.config.pop(flag, None)
        model = make_original(drawn, seed).float()
        with tempfile.TemporaryDirectory() as name, floors_once():
            folder = Path(name)
            model.save_pretrained(folder)
            for implementation, arithmetic, found in runs(drawn, folder, seed, failed):
                report = comparison.compare(
                    folder, found, inputs=drawn.inputs, arithmetic=arithmetic, runs=RUNS
                )
                count = counts[implementation, arithmetic]
                count["models"] += 1
                for verdict in report.compared:
                    count["verdicts"] += 1
                    count["alarms"] += verdict.parts
                    if verdict.introduced is not None:
                        units[arithmetic].append(verdict.introduced)
                    if verdict.parts:
                        alarms.append(told(drawn, seed, implementation, arithmetic, verdict))
    return {
        "models": MODELS,
        "runs": RUNS,
        "multiplier": MULTIPLIER,
        "versions": versions(),
        "counts": [{"by": b, "arithmetic": a, **c} for (b, a), c in sorted(counts.items())],
        "units": {name: quantiles(of) for name, of in units.items()},
        "alarms": alarms,
        "not run": dict(failed),
    }


@contextmanager
def floors_once() -> Iterator[None]:
    """Measure the floors of a draw once in each arithmetic, whoever is judged by them."""
    kept: dict[str, Any] = {}

    def measured(model: Any, inputs: Any, arithmetic: str, runs: int, *rest: Any) -> Any:
        if arithmetic not in kept:
            kept[arithmetic] = measure_floors(model, inputs, arithmetic, runs)
        return kept[arithmetic]

    with mock.patch.object(comparing, "measure_floors", measured):
        yield


# --- implementations ------------------------------------------------------------------------------


def runs(drawn: Drawn, folder: Path, seed: int, failed: Counter[str]) -> Iterator[Run]:
    """Run every implementation that can run a draw; count those that cannot."""
    for makers in (held_out, fused_kernels, transformers_4, transformers_5, onnxruntime):
        try:
            yield from makers(drawn, folder, seed)
        except Exception as error:  # what a foreign implementation cannot do is no verdict
            words = str(error).partition("\n")[0][:80]
            failed[f"{makers.__name__}: {type(error).__name__}: {words}"] += 1


def held_out(drawn: Drawn, folder: Path, seed: int) -> Iterator[Run]:
    """Our own honest implementations, other ones than those of the floors."""
    model = refimpl.load(folder, dtype="float64", kernels="plain")
    for name in ("float32", "tf32", *LOW):
        how = ARITHMETICS[name]
        given = represent_inputs(how, drawn.inputs)
        other = draw_implementation(how, HELD_OUT + seed)
        yield "held-out ways", name, run_honest(other, how.computing(model), given)


def fused_kernels(drawn: Drawn, folder: Path, seed: int) -> Iterator[Run]:
    """refimpl itself, as it runs by default."""
    model = refimpl.load(folder, dtype="float32", kernels="fused")
    yield "refimpl, fused kernels", "float32", run_reference(model, drawn.inputs)


def transformers_4(drawn: Drawn, folder: Path, seed: int) -> Iterator[Run]:
    """The original: its two forms of attention, one thread and two."""
    version = transformers.__version__
    for attention in ("eager", "sdpa") if drawn.family.startswith("XLMR") else ("eager",):
        kind = getattr(transformers, drawn.name)
        model = kind.from_pretrained(folder, attn_implementation=attention).eval()
        for name in ("float32", *LOW):
            for threads in (1, 2) if name == "float32" else (1 + seed % 2,):
                torch.set_num_threads(threads)
                cast = copy.deepcopy(model).to(getattr(torch, name))
                by = f"transformers {version}, {attention}, {threads} thread{'s' * (threads > 1)}"
                yield by, name, dump(cast, **drawn.inputs)
    torch.set_num_threads(1)


def transformers_5(drawn: Drawn, folder: Path, seed: int) -> Iterator[Run]:
    """Its successor, under another interpreter."""
    if not Path(WITNESS).exists() or gone(drawn):
        return
    arrays = {n: x for n, x in drawn.inputs.items() if isinstance(x, numpy.ndarray)}
    numpy.savez(folder / "inputs.npz", **arrays)
    script = Path(__file__).with_name("foreign_transformers5.py")
    order = [WITNESS, str(script), str(folder), drawn.name]
    done = subprocess.run(order, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
    for line in done.stdout.splitlines():
        by, name, file = line.split("\t")
        yield by, name, read_dump(Path(file))


def gone(drawn: Drawn) -> bool:
    """Whether a draw needs what transformers 5 has no longer, and passes over without a word."""
    config, mask = drawn.config, drawn.inputs.get("attention_mask")
    return bool(
        "head_mask" in drawn.inputs
        or config.get("pruned_heads")
        or config.get("position_embedding_type", "absolute") != "absolute"
        or not config.get("tie_word_embeddings", True)
        or (mask is not None and mask.ndim == 3 and not drawn.name.endswith("MultipleChoice"))
    )


def onnxruntime(drawn: Drawn, folder: Path, seed: int) -> Iterator[Run]:
    """The original exported to ONNX."""
    if set(drawn.inputs) & {"labels", "start_positions", "end_positions", "head_mask"}:
        return
    kind = getattr(transformers, drawn.name)
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    yield "onnxruntime", "float32", run_onnx(model, drawn.inputs)


# --- figures --------------------------------------------------------------------------------------


def told(drawn: Drawn, seed: int, by: str, arithmetic: str, verdict: Any) -> dict[str, Any]:
    """One false alarm."""
    return {
        "seed": seed,
        "class": drawn.name,
        "by": by,
        "arithmetic": arithmetic,
        "name": verdict.name,
        "status": verdict.status,
        "units": _plain(verdict.units),
        "introduced": _plain(verdict.introduced),
        "where": verdict.where,
        "note": verdict.note,
    }


def _plain(x: float | None) -> float | str | None:
    return x if x is None or math.isfinite(x) else str(x)


def quantiles(of: list[float]) -> dict[str, float]:
    """Some quantiles of the errors of single operations, in floors."""
    finite = numpy.asarray([x for x in of if math.isfinite(x)])
    return {str(q): round(float(numpy.quantile(finite, q)), 2) for q in (0.5, 0.9, 0.99, 0.999, 1)}


def versions() -> dict[str, str]:
    """What was run."""
    import onnxruntime as ort

    return {
        "numpy": numpy.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "onnxruntime": ort.__version__,
        "machine": platform.machine(),
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    rows = [
        "| implementation | arithmetic | models | verdicts | false alarms |",
        "|---|---|---|---|---|",
    ]
    rows += [
        f"| {c['by']} | {c['arithmetic']} | {c['models']} | {c['verdicts']:,} | {c['alarms']} |"
        for c in figures["counts"]
    ]
    verdicts, alarms = (sum(c[key] for c in figures["counts"]) for key in ("verdicts", "alarms"))
    rows.append(f"| all | | {figures['models']} | {verdicts:,} | {alarms} |")
    rate = 1000 * alarms / verdicts
    return "\n".join(
        [
            *rows,
            "",
            f"{rate:.2f} false alarms in 1,000 verdicts. Floors: {figures['runs']} honest runs; "
            f"multiplier {figures['multiplier']:g}.",
        ]
    )
