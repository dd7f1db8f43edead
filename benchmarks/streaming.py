"""What a forward pass takes that keeps no weights: ``python benchmarks/streaming.py``.

Checkpoints of the true sizes of XLM-RoBERTa-XL (3.5 billion parameters) and -XXL (10.7 billion),
written with holes (``tools/sparse_checkpoint.py``), run a text of 16 tokens with ``stream=True``
on NumPy: the bare encoder, and the masked language model with its 250,880 scores for each token.
Each line is a process of its own; its peak memory is the kernel's count (VmHWM, Linux only). The
second pass finds in the page cache what fits there.

Arguments are sizes and dtypes of the file: ``python benchmarks/streaming.py xl BF16``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.sparse_checkpoint import ITEM_SIZES, SIZES, write_sparse  # noqa: E402

CLASSES = ("XLMRobertaXLModel", "XLMRobertaXLForMaskedLM")
TOKENS = 16

RUN = """
import json, re, sys, time
from pathlib import Path
import refimpl
import refimpl.models.model

folder, architecture, tokens, passes = sys.argv[1:]
marks = [time.perf_counter()]
model = refimpl.load(folder, architecture=architecture, stream=True)
marks.append(time.perf_counter())
for _ in range(int(passes)):
    out = model(input_ids=[list(range(int(tokens)))])
    marks.append(time.perf_counter())
# Not ru_maxrss: a child inherits its parent's.
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
load, *seconds = (b - a for a, b in zip(marks, marks[1:]))
x = out.last_hidden_state if hasattr(out, "last_hidden_state") else out.logits
print(json.dumps({"load": load, "passes": seconds, "peak": peak,
                  "shape": x.shape, "largest": float(abs(x).max())}))
"""


def measure(
    folder: Path, architecture: str, tokens: int = TOKENS, passes: int = 2
) -> dict[str, Any]:
    """Run a checkpoint in a process of its own; return seconds, bytes, and what came out."""
    command = [sys.executable, "-c", RUN, str(folder), architecture, str(tokens), str(passes)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def main(sizes: list[str], dtypes: list[str]) -> None:
    """Write each checkpoint, measure it, print its lines, remove it."""
    print(f"{'size':5} {'file':5} {'GB':>5}  {'class':24} {'load s':>7} {'1st s':>7} {'2nd s':>7} "
          f"{'peak GB':>8}")  # fmt: skip
    for size in sizes:
        for dtype in dtypes:
            with tempfile.TemporaryDirectory() as folder:
                count = write_sparse(
                    Path(folder), CLASSES[1], SIZES[size], words=range(TOKENS), dtype=dtype
                )
                for architecture in CLASSES:
                    m = measure(Path(folder), architecture)
                    first, second = m["passes"]
                    print(f"{size:5} {dtype:5} {count * ITEM_SIZES[dtype] / 1e9:5.1f}  "
                          f"{architecture:24} {m['load']:7.3f} {first:7.1f} "
                          f"{second:7.1f} {m['peak'] / 1e9:8.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    chosen = sys.argv[1:]
    main([s for s in SIZES if s in chosen] or list(SIZES),
         [d for d in ITEM_SIZES if d in chosen] or ["F32"])  # fmt: skip
