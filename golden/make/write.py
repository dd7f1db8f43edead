"""Writing a case folder: checkpoint, golden in float64, and where it all comes from."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
from safetensors.numpy import load_file, save_file

from golden.make import record

FORMAT = 1
GOLDENS = {"float64": "golden.safetensors"}


def write_case(
    folder: Path,
    model: transformers.PreTrainedModel,
    inputs: dict[str, Any],
    *,
    what: str,
    seed: int,
    weights: str = "spread",
    texts: list[str] | None = None,
) -> None:
    """Write the checkpoint, run it in float64 and write what it computed.

    ``weights`` say how they were drawn (random_weights.py); ``texts`` are what the inputs were
    tokenized from, where they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.float().save_pretrained(folder)
    given = record.flatten({n: x for n, x in inputs.items() if not isinstance(x, bool)})
    taps, outputs = record.run(model.double(), inputs)
    tensors = {f"input.{name}": x for name, x in given.items()}
    tensors |= {f"tap.{name}": x for name, x in taps.items()}
    tensors |= {f"output.{name}": x for name, x in outputs.items()}
    write_tensors(folder / GOLDENS["float64"], {n: x.numpy() for n, x in tensors.items()})
    for file in folder.iterdir():
        file.chmod(0o644)
    description = {
        "format": FORMAT,
        "what": what,
        "architecture": type(model).__name__,
        "made_by": {
            "implementation": f"transformers {transformers.__version__}, attention 'eager'",
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "seed": seed,
        **({} if weights == "spread" else {"weights": weights}),
        "goldens": GOLDENS,
        "flags": {name: x for name, x in inputs.items() if isinstance(x, bool)},
        "inputs": {name: _describe(x) for name, x in given.items()},
        "taps": {name: _describe(x) for name, x in taps.items()},
        "outputs": {name: _describe(x) for name, x in outputs.items()},
        **({} if texts is None else {"texts": texts}),
        "sha256": {f.name: sha256(f) for f in sorted(folder.iterdir()) if f.name != "golden.json"},
    }
    text = json.dumps(description, indent=1, ensure_ascii=False)
    (folder / "golden.json").write_text(text + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, numpy.ndarray]) -> None:
    """Write arrays to a safetensors file, and read them back: they must come out the same.

    Contiguous copies, because the library writes the bytes of any other array in the wrong order.
    """
    save_file({name: x.copy(order="C") for name, x in tensors.items()}, path)
    written = load_file(path)
    for name, x in tensors.items():
        numpy.testing.assert_array_equal(written[name], x, err_msg=name, strict=True)


def sha256(path: Path) -> str:
    """The hash by which a reader knows that it holds the file the golden was made with."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _describe(x: torch.Tensor) -> dict[str, Any]:
    kind = "float" if x.is_floating_point() else str(x.dtype).removeprefix("torch.")
    return {"dtype": kind, "shape": list(x.shape)}
