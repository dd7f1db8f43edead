"""From a cold process to the first answer: ``python benchmarks/cold_fill_mask.py``.

Both sides fill the mask of one text with a checkpoint of the true size of XLM-RoBERTa base (278
million random float32 parameters, written to a temporary folder): ``refimpl fill-mask``, and a
plain script of transformers' AutoModelForMaskedLM and AutoTokenizer. Each time is that of a process
of its own, from before it is started to its answer; the sides take turns. Peak memory is the
kernel's count (VmHWM, Linux only), pages of mapped files included. The checkpoint's file is in the
page cache throughout: what is measured is the programs, not the disk.

``REFIMPL_PUBLISHED`` names a folder with ``xlm-roberta/sentencepiece.bpe.model``. The number of
rounds is an argument: ``python benchmarks/cold_fill_mask.py 9``; 5 if there is none.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from refimpl.checkpoints.names import Shape  # noqa: E402
from refimpl.checkpoints.writing import Pending, write_safetensors  # noqa: E402
from refimpl.models.config import parse_config  # noqa: E402
from refimpl.models.model import ARCHITECTURES  # noqa: E402
from tools.sparse_checkpoint import is_norm  # noqa: E402

NAME = "XLMRobertaForMaskedLM"
BASE = {
    "architectures": [NAME], "model_type": "xlm-roberta", "torch_dtype": "float32",
    "vocab_size": 250_002, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "max_position_embeddings": 514, "type_vocab_size": 1,
    "layer_norm_eps": 1e-5, "hidden_act": "gelu", "bos_token_id": 0, "pad_token_id": 1,
    "eos_token_id": 2, "transformers_version": "4.57.6",
}  # fmt: skip
TEXT = "The goal of life is <mask>."

TAIL = """
import re, time
from pathlib import Path
status = Path("/proc/self/status").read_text()  # not ru_maxrss: a child inherits its parent's
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024
print("\\n" + json.dumps({"ids": ids, "at": answered, "peak": peak}))
"""

OURS = (
    """
import io, json, sys, time
from contextlib import redirect_stdout
from refimpl.cli import app
said = io.StringIO()
with redirect_stdout(said):
    app(["fill-mask", *sys.argv[1:], "--json"], standalone_mode=False)
answered = time.time()
ids = [filling["id"] for filling in json.loads(said.getvalue())]
"""
    + TAIL
)

THEIRS = (
    """
import json, sys, time
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
folder, text = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForMaskedLM.from_pretrained(folder)
inputs = tokenizer(text, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
place = inputs.input_ids[0].tolist().index(tokenizer.mask_token_id)
ids = logits[0, place].softmax(-1).topk(5).indices.tolist()
answered = time.time()
"""
    + TAIL
)

SIDES = {"refimpl": OURS, "transformers": THEIRS}


class Answer(NamedTuple):
    """What one process did."""

    ids: list[int]  # the best pieces, best first
    seconds: float
    peak: int  # bytes


def write_base(folder: Path, pieces: Path) -> None:
    """Write a checkpoint of base's true size, with the files that the published one has."""
    (folder / "config.json").write_text(json.dumps(BASE))
    entry: Any = ARCHITECTURES[NAME]
    config = parse_config(entry.config, BASE, folder / "config.json")
    draw = numpy.random.default_rng(0)

    def read(name: str, shape: Shape) -> numpy.ndarray:
        x = draw.standard_normal(shape, dtype=numpy.float32)
        return 1 + x / 16 if is_norm(name) else x / 32

    tied = entry.rules(config).ties
    tensors = {
        name: Pending("F32", shape, partial(read, name, shape))
        for name, shape in entry.parameters(config).items()
        if name not in tied
    }
    list(write_safetensors(folder / "model.safetensors", tensors))
    shutil.copy(pieces, folder / pieces.name)
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)  # tokenizer.json, as published


def run(script: str, folder: Path) -> Answer:
    """Run one side once."""
    command = [sys.executable, "-c", script, str(folder), TEXT]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    start = time.time()
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=quiet
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return Answer(found["ids"], found["at"] - start, found["peak"])


def main(rounds: int) -> None:
    """Let both sides answer in turn; print the least time and the largest peak of each."""
    pieces = Path(os.environ["REFIMPL_PUBLISHED"], "xlm-roberta", "sentencepiece.bpe.model")
    answers: dict[str, list[Answer]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        write_base(Path(folder), pieces)
        for _ in range(rounds):
            for side, script in SIDES.items():
                answers[side].append(run(script, Path(folder)))
                print(f"{side:12} {answers[side][-1].seconds:6.2f} s", file=sys.stderr, flush=True)
    ours, theirs = answers.values()
    assert len({tuple(answer.ids) for answer in (*ours, *theirs)}) == 1, answers
    seconds = {side: min(x.seconds for x in all_of) for side, all_of in answers.items()}
    peak = {side: max(x.peak for x in all_of) for side, all_of in answers.items()}
    for side in SIDES:
        print(f"{side:12} {seconds[side]:6.2f} s  {peak[side] / 1e6:6.0f} MB")
    print(f"{'ratio':12} {seconds['refimpl'] / seconds['transformers']:6.2f}    "
          f"{peak['refimpl'] / peak['transformers']:6.2f}")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
