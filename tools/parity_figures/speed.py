"""How long the instrument takes on models of published width: 12 layers of 768, 128 tokens.

The weights are random. Compared are a float32 run with every tap, its outputs alone, and one with a
mistake, which is diagnosed as well. Nothing was measured before: floors are measured on the spot,
from the few honest runs that a large model gets. So the original is run on further draws, in both
its forms of attention: a verdict that something parts there is a false alarm.

Seconds are those of a clock, on a machine that may have had other work; processor seconds are what
the work itself took, on all cores together.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
from safetensors.numpy import save_file

from refimpl.adapters.torch import dump
from refimpl.models.config import parse_config
from refimpl.models.model import ARCHITECTURES, load
from refimpl.parity.comparison import compare
from refimpl.parity.diagnosis import diagnose
from refimpl.parity.dumps import write_dump
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults import CATALOGUE
from refimpl.parity.goldens import find_goldens, read_golden
from refimpl.parity.reference import run_reference

Track = Callable[[list[Any]], Iterable[Any]]

CONFIG = {
    "architectures": ["XLMRobertaModel"],
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
}
VOCABULARIES = (5000, 250_002)
TEXTS, TOKENS = 4, 32  # 128 tokens
DRAWS = 5  # further models, for false alarms


def measure(progress: Track = iter) -> dict[str, Any]:
    """Return how long each task takes and what came out, and the false alarms."""
    tasks: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        for vocabulary in VOCABULARIES:
            checkpoint = make_checkpoint(Path(name) / str(vocabulary), vocabulary)
            for task, run in work(checkpoint, vocabulary, progress):
                tasks[task] = timed(run)
        tasks["the first verdict of `refimpl verify -- PROGRAM`"] = first_verdict(Path(name))
    return {
        "tasks": tasks,
        "false alarms": false_alarms(progress),
        "tokens": TEXTS * TOKENS,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "machine": platform.machine(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def timed(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a task; return its seconds and what it gives."""
    began, used = time.perf_counter(), time.process_time()
    found = run()
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "processor_seconds": round(time.process_time() - used, 2),
        **found,
    }


# --- the tasks ------------------------------------------------------------------------------------


def work(checkpoint: Path, vocabulary: int, progress: Track) -> Iterator[tuple[str, Any]]:
    """Yield the name of each task, and the function that is measured."""
    right, wrong = candidates(checkpoint, vocabulary)
    dumps = {
        "every tap": right,
        "outputs alone": replace(right, taps={}),
        "every tap, GELU by tanh": wrong,
    }
    for name, candidate in progress(list(dumps.items())):
        task = f"`compare`, {name}, {vocabulary} words"
        yield task, lambda of=candidate: compared(checkpoint, of)
    if vocabulary == VOCABULARIES[0]:
        yield "`diagnose`, GELU by tanh", lambda: diagnosed(checkpoint, wrong)


def compared(checkpoint: Path, candidate: Dump) -> dict[str, Any]:
    """Compare; say how much was compared, and the verdict."""
    report = compare(checkpoint, candidate)
    said = "held" if report.held else f"first parts at `{report.first.name}`"
    return {"values": len(report.compared), "runs": report.floors.runs, "said": said}


def diagnosed(checkpoint: Path, candidate: Dump) -> dict[str, Any]:
    """Diagnose; say what was named."""
    found = diagnose(load(checkpoint, dtype="float64", kernels="plain"), candidate)
    return {"values": len(candidate.values), "said": f"named {', '.join(found.faults)}"}


def first_verdict(folder: Path) -> dict[str, Any]:
    """The time from the start of the command to its first line, of a program that copies a dump."""
    golden = read_golden(find_goldens()[0])
    write_dump(folder / "dump.safetensors", Dump(golden.part("tap"), golden.part("output")))
    copy = [sys.executable, "-c", "import shutil, sys; shutil.copy(*sys.argv[1:])"]
    program = [*copy, str(folder / "dump.safetensors"), "{out}.safetensors"]
    order = [sys.executable, "-m", "refimpl", "verify", str(golden.folder), "--", *program]
    began = time.perf_counter()
    with subprocess.Popen(order, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline().split()
        seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 2), "said": said[0]}


def make_checkpoint(folder: Path, vocabulary: int, seed: int = 0) -> Path:
    """Write a checkpoint with random weights, biases and norms among them."""
    folder.mkdir()
    values = {**CONFIG, "vocab_size": vocabulary}
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    entry, rng = ARCHITECTURES[CONFIG["architectures"][0]], numpy.random.default_rng(seed)
    config = parse_config(entry.config, values, folder / "config.json")
    tensors = {}
    for name, shape in entry.parameters(config).items():
        x = 0.03 * rng.standard_normal(shape, dtype=numpy.float32)
        tensors[name] = 1.0 + 5.0 * x if name.endswith("LayerNorm.weight") else x
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def call(vocabulary: int, seed: int = 0) -> dict[str, numpy.ndarray]:
    """Return the inputs of a call: random ids, one text with padding."""
    ids = numpy.random.default_rng(seed).integers(3, vocabulary, (TEXTS, TOKENS))
    mask = numpy.ones_like(ids)
    mask[0, 20:] = 0
    ids[mask == 0] = CONFIG["pad_token_id"]
    return {"input_ids": ids, "attention_mask": mask}


def candidates(checkpoint: Path, vocabulary: int) -> tuple[Dump, Dump]:
    """Return a float32 run, and one with a mistake in it."""
    model, inputs = load(checkpoint, dtype="float32"), call(vocabulary)
    return run_reference(model, inputs), run_reference(model, inputs, [CATALOGUE["gelu_tanh"]])


# --- false alarms ---------------------------------------------------------------------------------


def false_alarms(progress: Track) -> dict[str, Any]:
    """Judge the original on draws of its own; count verdicts, and those that something parts."""
    verdicts, alarms, units = 0, [], 0.0
    for seed in progress(list(range(1, DRAWS + 1))):
        for by, report in judged(seed):
            verdicts += len(report.compared)
            alarms += [f"{by}, seed {seed}: {v.name}" for v in report.compared if v.parts]
            found = [x for v in report.compared for x in (v.units, v.introduced) if x is not None]
            units = max(units, *found)
    return {
        "models": DRAWS,
        "runs": report.floors.runs,
        "verdicts": verdicts,
        "alarms": alarms,
        "most units": round(units, 2),
        "multiplier": report.floors.multiplier,
    }


def judged(seed: int) -> Iterator[tuple[str, Any]]:
    """Yield a report of each form of attention on one draw."""
    vocabulary = VOCABULARIES[0]
    with tempfile.TemporaryDirectory() as name:
        folder = make_checkpoint(Path(name) / "model", vocabulary, seed)
        for attention in ("eager", "sdpa"):
            kind = transformers.XLMRobertaModel
            model = kind.from_pretrained(folder, attn_implementation=attention).eval()
            yield attention, compare(folder, dump(model, **call(vocabulary, seed)))


def table(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = ["| Task | Seconds | Processor seconds | Said |", "|---|---|---|---|"]
    for name, found in figures["tasks"].items():
        used = found.get("processor_seconds", "")
        lines.append(f"| {name} | {found['seconds']} | {used} | {found['said']} |")
    found = figures["false alarms"]
    lines += [
        "",
        f"{figures['cores']} cores; as many programs were running or waiting as the load says: "
        f"{figures['load']}. Floors of models of this size come from {found['runs']} honest runs. "
        f"The original in float32, eager and sdpa, on {found['models']} further draws: "
        f"{found['verdicts']} verdicts, {len(found['alarms'])} false alarms, at most "
        f"{found['most units']:g} floor units (beyond {found['multiplier']:g} is an alarm).",
    ]
    return "\n".join(lines) + "\n"
