"""transformers 5 as an honest foreign implementation: run checkpoints, leave dumps.

    python tools/parity_figures/foreign_transformers5.py

Each line of the standard input is a folder and a class, with a tab between. ``FOLDER/inputs.npz``
is run in float32, float16 and bfloat16, with each form of attention; for each run there is a line:
who ran, in which arithmetic, the file of the dump. Then "done" follows, or "failed" and why.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from refimpl.adapters.torch import dump
from refimpl.parity.dumps import write_dump


def main() -> None:
    """Run what is asked for, until nothing more is."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for line in sys.stdin:
        folder, name = line.rstrip("\n").split("\t")
        try:
            for told in run(Path(folder), name):
                print(*told, sep="\t")
            print("done", flush=True)
        except Exception as error:  # of whatever it cannot do
            words = str(error).partition("\n")[0]
            print("failed", f"{type(error).__name__}: {words}", sep="\t", flush=True)


def run(folder: Path, name: str) -> Iterator[tuple[str, str, Path]]:
    """Run one checkpoint as a model of the class ``name``."""
    inputs = dict(numpy.load(folder / "inputs.npz"))
    kind = getattr(transformers, name)
    for attention in ("eager", "sdpa") if name.startswith("XLMRoberta") else ("eager",):
        for dtype in ("float32", "float16", "bfloat16"):
            model = kind.from_pretrained(
                folder, attn_implementation=attention, dtype=getattr(torch, dtype)
            )
            file = folder / f"{attention}_{dtype}.safetensors"
            write_dump(file, dump(model.eval(), **inputs))
            yield f"transformers {transformers.__version__}, {attention}", dtype, file


if __name__ == "__main__":
    main()
