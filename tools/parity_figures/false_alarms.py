"""How often an honest implementation is called wrong: tap verdicts over random models and calls.

Every draw is a model of one of the four families with random weights, config and call (those of
the live tests). Each implementation runs it and leaves a dump; ``compare`` judges that; every DIFF,
SHAPE, DTYPE or NAN is a false alarm. None of the implementations is among those that the floors
were measured with.

``REFIMPL_PARTS=fused_kernels,onnxruntime`` judges only these parts of it and keeps what was
measured of the others; ``REFIMPL_MODELS`` sets the number of draws, ``REFIMPL_WITNESS`` the
interpreter that has transformers 5.
"""

from __future__ import annotations

import copy
import json
import math
import os
import platform
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
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

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs" / "parity-figures" / "false_alarms.json"
MODELS = int(os.environ.get("REFIMPL_MODELS", "112"))  # four of each class
HELD_OUT = 1000  # the numbers of our own implementations begin here
LOW = ("float16", "bfloat16")
WITNESS = os.environ.get("REFIMPL_WITNESS", ".venv5/bin/python")  # one that has transformers 5
LABELS = ("labels", "start_positions", "end_positions", "is_impossible")

Drawn = Any  # a draw of the live tests: a checkpoint and a call of it


class Run(NamedTuple):
    """What one implementation computed."""

    by: str
    arithmetic: str
    found: Dump
    inputs: Mapping[str, Any]


def measure(progress: Callable[..., Any]) -> dict[str, Any]:
    """Judge the implementations of all parts, or of those that are asked for, on every draw."""
    from tests.oracle.originals import make_original
    from tests.oracle.test_live_families import draw

    chosen = os.environ.get("REFIMPL_PARTS", ",".join(PARTS)).split(",")
    about = {"models": MODELS, "runs": RUNS, "multiplier": MULTIPLIER}
    kept = kept_parts(about, chosen)
    parts = {name: Part(PARTS[name]) for name in chosen}
    for seed in progress(range(MODELS)):
        drawn = draw(seed)
        for flag in ("output_attentions", "output_hidden_states"):
            drawn.inputs.pop(flag, None)
            drawn.config.pop(flag, None)
        with tempfile.TemporaryDirectory() as folder, floors_once():
            make_original(drawn, seed).float().save_pretrained(folder)
            for part in parts.values():
                part.judge(drawn, Path(folder), seed)
    fresh = {name: part.figures() for name, part in parts.items()}
    return {**about, "parts": {name: {**kept, **fresh}[name] for name in PARTS}}


def kept_parts(about: Mapping[str, Any], chosen: list[str]) -> dict[str, Any]:
    """What was measured before of the parts that are not measured now, in the same way."""
    missing = [name for name in PARTS if name not in chosen]
    if not missing:
        return {}
    before = json.loads(FIGURES.read_text(encoding="utf-8"))
    if {name: before[name] for name in about} != about:
        raise ValueError(f"REFIMPL_PARTS: expected all, {FIGURES} was measured in another way")
    return {name: before["parts"][name] for name in missing}


@dataclass
class Part:
    """One kind of implementation, and what was said of it so far."""

    run: Callable[[Drawn, Path, int], Iterator[Run]]
    counts: dict[tuple[str, str], Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    units: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    alarms: list[dict[str, Any]] = field(default_factory=list)
    not_run: Counter[str] = field(default_factory=Counter)

    def judge(self, drawn: Drawn, folder: Path, seed: int) -> None:
        """Let it run a draw, if it can; judge what it computed."""
        for run in self.runs(drawn, folder, seed):
            report = comparison.compare(
                folder, run.found, inputs=run.inputs, arithmetic=run.arithmetic, runs=RUNS
            )
            count = self.counts[run.by, run.arithmetic]
            count["models"] += 1
            for verdict in report.compared:
                count["verdicts"] += 1
                count["alarms"] += verdict.parts
                if verdict.introduced is not None:
                    self.units[run.arithmetic].append(verdict.introduced)
                if verdict.parts:
                    self.alarms.append(told(drawn, seed, run, verdict))

    def runs(self, *of: Any) -> list[Run]:
        """What it runs; what a foreign implementation cannot do is counted, and no verdict."""
        found = []
        try:
            for run in self.run(*of):
                found.append(run)
        except Exception as error:
            words = str(error).partition("\n")[0][:80]
            self.not_run[f"{type(error).__name__}: {words}"] += 1
        return found

    def figures(self) -> dict[str, Any]:
        """All that was counted."""
        return {
            "versions": versions(),
            "counts": [
                {"by": by, "arithmetic": how, **count}
                for (by, how), count in sorted(self.counts.items())
            ],
            "units": {how: quantiles(of) for how, of in self.units.items()},
            "alarms": self.alarms,
            "not run": dict(self.not_run),
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


def held_out(drawn: Drawn, folder: Path, seed: int) -> Iterator[Run]:
    """Our own honest implementations, other ones than those of the floors."""
    model = refimpl.load(folder, dtype="float64", kernels="plain")
    for name in ("float32", "tf32", *LOW):
        how = ARITHMETICS[name]
        given = represent_inputs(how, drawn.inputs)
        other = draw_implementation(how, HELD_OUT + seed)
        found = run_honest(other, how.computing(model), given)
        yield Run("held-out ways", name, found, drawn.inputs)


def fused_kernels(drawn: Drawn, folder: Path, seed: int) -> Iterator[Run]:
    """refimpl itself, as it runs by default."""
    model = refimpl.load(folder, dtype="float32", kernels="fused")
    found = run_reference(model, drawn.inputs)
    yield Run("refimpl, fused kernels", "float32", found, drawn.inputs)


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
                yield Run(by, name, dump(cast, **drawn.inputs), drawn.inputs)
    torch.set_num_threads(1)


def transformers_5(drawn: Drawn, folder: Path, seed: int) -> Iterator[Run]:
    """Its successor, under another interpreter."""
    if not Path(WITNESS).exists() or gone(drawn):
        return
    arrays = {n: x for n, x in drawn.inputs.items() if isinstance(x, numpy.ndarray)}
    numpy.savez(folder / "inputs.npz", **arrays)
    for line in ask_witness(f"{folder}\t{drawn.name}"):
        by, name, file = line.split("\t")
        yield Run(by, name, read_dump(Path(file)), drawn.inputs)


def ask_witness(order: str) -> list[str]:
    """Let transformers 5 run a checkpoint; return a line for each dump. Raises ``RuntimeError``."""
    process = witness()
    print(order, file=process.stdin, flush=True)
    lines = []
    while (line := process.stdout.readline().rstrip("\n")) != "done":
        if not line or line.startswith("failed\t"):
            raise RuntimeError(line.partition("\t")[2] or "transformers 5 has gone")
        lines.append(line)
    return lines


@cache
def witness() -> Any:
    """The process that has transformers 5: it runs as long as we do."""
    script = Path(__file__).with_name("foreign_transformers5.py")
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(
        [WITNESS, str(script)], stdin=pipe, stdout=pipe, stderr=nowhere, text=True
    )


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
    """The original exported to ONNX, which takes no labels: it is called without."""
    inputs = {name: x for name, x in drawn.inputs.items() if name not in LABELS}
    other_outputs = drawn.name == "XLMForQuestionAnswering" and len(inputs) < len(drawn.inputs)
    if "head_mask" in inputs or other_outputs:
        return
    kind = getattr(transformers, drawn.name)
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    yield Run("onnxruntime", "float32", run_onnx(model, inputs), inputs)


PARTS = {
    "held_out": held_out,
    "fused_kernels": fused_kernels,
    "transformers_4": transformers_4,
    "transformers_5": transformers_5,
    "onnxruntime": onnxruntime,
}

# --- figures --------------------------------------------------------------------------------------


def told(drawn: Drawn, seed: int, run: Run, verdict: Any) -> dict[str, Any]:
    """One false alarm."""
    return {
        "seed": seed,
        "class": drawn.name,
        "by": run.by,
        "arithmetic": run.arithmetic,
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
    counts = [count for part in figures["parts"].values() for count in part["counts"]]
    rows += [
        f"| {c['by']} | {c['arithmetic']} | {c['models']} | {c['verdicts']:,} | {c['alarms']} |"
        for c in counts
    ]
    verdicts, alarms = (sum(c[key] for c in counts) for key in ("verdicts", "alarms"))
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
