"""From a cold process to the first answer, beside transformers: benchmarks/cold_fill_mask.py."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cold_fill_mask import SIDES, run, write_base
from benchmarks.tables import markdown, verdict

TURNS = 5
TIME_TARGET, MEMORY_TARGET = 0.25, 0.80


def measure() -> dict[str, Any]:
    """Return seconds and peak bytes of each side in each turn.

    Raises ``RuntimeError`` where ``REFIMPL_PUBLISHED`` names no folder with the vocabulary.
    """
    published = os.environ.get("REFIMPL_PUBLISHED", "")
    pieces = Path(published, "xlm-roberta", "sentencepiece.bpe.model")
    if not pieces.is_file():
        raise RuntimeError("REFIMPL_PUBLISHED names no folder with the published vocabulary")
    answers: dict[str, list[Any]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        write_base(Path(folder), pieces)
        for _ in range(TURNS):
            for side, script in SIDES.items():
                answers[side].append(run(script, Path(folder)))
    first = [tuple(answer.ids) for of_side in answers.values() for answer in of_side]
    return {
        "same_answers": len(set(first)) == 1,
        "seconds": {side: [answer.seconds for answer in x] for side, x in answers.items()},
        "peak_bytes": {side: [answer.peak for answer in x] for side, x in answers.items()},
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    seconds = {side: min(x) for side, x in figures["seconds"].items()}
    peak = {side: max(x) / 1e6 for side, x in figures["peak_bytes"].items()}
    rows = []
    for name, of_side, target, unit in (
        ("time to the first answer", seconds, TIME_TARGET, "{:.2f} s"),
        ("peak memory", peak, MEMORY_TARGET, "{:.0f} MB"),
    ):
        ratio = of_side["refimpl"] / of_side["transformers"]
        rows.append(
            [name, unit.format(of_side["refimpl"]), unit.format(of_side["transformers"]),
             f"{ratio:.3f}", f"{target:.2f}: {verdict(ratio, target)}"]
        )  # fmt: skip
    same = "" if figures["same_answers"] else "\n\nThe two did not give the same answers."
    return markdown(["", "refimpl", "transformers", "Ratio", "Target"], rows) + same
