"""How long ``compare`` takes on a model of published width: 12 layers of 768, 128 tokens.

The weights are random. The candidate is the reference in float32, with every tap, with the outputs
alone, and with a mistake. Nothing was measured before: floors are measured on the spot.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
from safetensors.numpy import save_file

from refimpl.models.config import parse_config
from refimpl.models.model import ARCHITECTURES, load
from refimpl.parity.comparison import compare
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults import CATALOGUE
from refimpl.parity.reference import run_reference

Track = Callable[[list[Any]], Iterable[Any]]

ARCHITECTURE = "XLMRobertaModel"
CONFIG = {
    "architectures": [ARCHITECTURE],
    "vocab_size": 5000,  # of the table only the rows in use are looked at
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
}
TEXTS, TOKENS = 4, 32  # 128 tokens
SEED = 0


def measure(progress: Track = iter) -> dict[str, Any]:
    """Return the seconds that comparisons of three candidates take, and what came out."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = make_checkpoint(Path(folder))
        found = {}
        for name, dump in progress(list(candidates(checkpoint).items())):
            began, used = time.perf_counter(), time.process_time()
            report = compare(checkpoint, dump)
            found[name] = {
                "seconds": round(time.perf_counter() - began, 2),
                "processor_seconds": round(time.process_time() - used, 2),
                "values": len(report.compared),
                "runs": report.floors.runs,
                "held": report.held,
                "first": report.first.name if report.first else None,
            }
    return {
        "candidates": found,
        "tokens": TEXTS * TOKENS,
        "seed": SEED,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "numpy": numpy.__version__,
    }


def make_checkpoint(folder: Path) -> Path:
    """Write a checkpoint with random weights, biases and norms among them."""
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    entry, rng = ARCHITECTURES[ARCHITECTURE], numpy.random.default_rng(SEED)
    config = parse_config(entry.config, CONFIG, folder / "config.json")
    tensors = {}
    for name, shape in entry.parameters(config).items():
        x = 0.03 * rng.standard_normal(shape, dtype=numpy.float32)
        tensors[name] = 1.0 + 5.0 * x if name.endswith("LayerNorm.weight") else x
    save_file(tensors, folder / "model.safetensors")
    return folder


def candidates(checkpoint: Path) -> dict[str, Dump]:
    """Return the dumps that are compared."""
    model = load(checkpoint, dtype="float32")
    ids = numpy.random.default_rng(SEED).integers(3, CONFIG["vocab_size"], (TEXTS, TOKENS))
    mask = numpy.ones_like(ids)
    mask[0, 20:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    right = run_reference(model, inputs)
    return {
        "every tap": right,
        "outputs alone": replace(right, taps={}),
        "every tap, GELU by tanh": run_reference(model, inputs, [CATALOGUE["gelu_tanh"]]),
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| Candidate | Values | Honest runs | Seconds | Verdict |", "|---|---|---|---|---|"]
    for name, found in figures["candidates"].items():
        verdict = "held" if found["held"] else f"first parts at `{found['first']}`"
        lines.append(
            f"| {name} | {found['values']} | {found['runs']} | {found['seconds']} | {verdict} |"
        )
    return "\n".join(lines) + "\n"
