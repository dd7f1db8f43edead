"""The cases of a study, some at once; what is done is kept, so that a study can be cut off."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("refimpl", "golden", "tests/oracle", "tools/parity_figures")


def run_all(
    study: str, cases: Sequence[str], run: Callable[[str], Any], progress: Callable[..., Any]
) -> list[Any]:
    """Return ``run(case)`` of each, in order: a function of a module, its results fit for JSON.

    They are also kept, line by line, in a file that goes with the sources as they are now: the
    same study of the same sources goes on where it was cut off.
    """
    file = _file(study)
    done = _read(file)
    left = [case for case in cases if case not in done]
    for case, result in progress(_results(run, left), len(left)):
        done[case] = result
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps([case, result]) + "\n")
    return [done[case] for case in cases]


def _results(run: Callable[[str], Any], cases: Sequence[str]) -> Iterable[tuple[str, Any]]:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each process
    workers = int(os.environ.get("REFIMPL_WORKERS", os.cpu_count() or 1))
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=fresh) as pool:
        asked = {pool.submit(run, case): case for case in cases}
        for future in as_completed(asked):
            yield asked[future], json.loads(json.dumps(future.result()))


def _file(study: str) -> Path:
    folder = Path(tempfile.gettempdir()) / "refimpl-parity-figures"
    folder.mkdir(exist_ok=True)
    return folder / f"{study}-{_fingerprint()}.jsonl"


def _fingerprint() -> str:
    found = hashlib.sha256()
    for folder in SOURCES:
        for file in sorted((ROOT / folder).rglob("*.py")):
            found.update(file.read_bytes())
    return found.hexdigest()[:16]


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(json.loads(line) for line in lines)
