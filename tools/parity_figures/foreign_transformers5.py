"""transformers 5 as an honest foreign implementation: run a checkpoint, leave dumps.

    python tools/parity_figures/foreign_transformers5.py FOLDER CLASS

Runs ``FOLDER/inputs.npz`` in float32, float16 and bfloat16, with each form of attention, and prints
a line for each: who ran, in which arithmetic, the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from refimpl.adapters.torch import dump
from refimpl.parity.dumps import write_dump


def main() -> None:
    """Run the checkpoint that is named."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    folder, name = Path(sys.argv[1]), sys.argv[2]
    inputs = dict(numpy.load(folder / "inputs.npz"))
    kind = getattr(transformers, name)
    for attention in ("eager", "sdpa") if name.startswith("XLMRoberta") else ("eager",):
        for dtype in ("float32", "float16", "bfloat16"):
            model = kind.from_pretrained(
                folder, attn_implementation=attention, dtype=getattr(torch, dtype)
            )
            file = folder / f"{attention}_{dtype}.safetensors"
            write_dump(file, dump(model.eval(), **inputs))
            print(f"transformers {transformers.__version__}, {attention}", dtype, file, sep="\t")


if __name__ == "__main__":
    main()
