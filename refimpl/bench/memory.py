"""Peak memory of a forward pass: of a process that does nothing else, or of a GPU's pool.

``python -m refimpl.bench.memory SUBJECT LENGTHS`` is that process; both are JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from refimpl.bench.batches import Batch
from refimpl.bench.models import Subject, make_model
from refimpl.models.model import Model

STATUS = Path("/proc/self/status")


def peak_of_process(subject: Subject, batch: Batch) -> int | None:
    """Return the peak memory of a process that loads the model and runs it once, in bytes.

    That is the kernel's count of resident memory, of which NumPy and Python take some 50 MB and
    the weights most; None where the system keeps no such count.
    """
    if not STATUS.exists():
        return None
    command = [sys.executable, "-m", "refimpl.bench.memory", json.dumps(subject), json.dumps(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise RuntimeError(f"memory: the process that measures it failed: {said[-1:] or ''}")
    return int(done.stdout)


def peak_of_pool(model: Model, batch: Batch) -> int:
    """Return how much the GPU's memory pool holds after a forward pass that began with none free.

    The pool keeps what it once gave out, so that is its peak, the weights included.
    """
    pool = model.backend.xp.get_default_memory_pool()
    inputs = batch.inputs(model.config)
    model(**inputs)
    pool.free_all_blocks()
    model(**inputs)
    model.backend.device.synchronize()
    return int(pool.total_bytes())


def main() -> None:
    """Be the process that is measured."""
    subject, (name, lengths) = Subject(*json.loads(sys.argv[1])), json.loads(sys.argv[2])
    model = make_model(subject)
    model(**Batch(name, tuple(lengths)).inputs(model.config))
    # Not ru_maxrss: a child inherits its parent's.
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    print(int(found[1]) * 1024 if found else 0)


if __name__ == "__main__":
    main()
