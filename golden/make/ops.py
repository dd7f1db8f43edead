"""``python -m golden.make.ops [CARD]``: write all operation cards, or one.

Each card is run through the original in float64 and written to ``golden/ops/<card>.safetensors``;
``golden/ops/cards.json`` tells what each is.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import numpy
import torch
import transformers

from golden.make import (
    ops_attention,
    ops_elementwise,
    ops_heads,
    ops_linear,
    ops_masks,
    ops_norms,
    ops_positions,
    ops_steps,
)
from golden.make.ops_card import Card, described, tensors_of
from golden.make.write import sha256, write_tensors

FORMAT = 1
FILES = (
    ops_linear,
    ops_positions,
    ops_norms,
    ops_elementwise,
    ops_masks,
    ops_attention,
    ops_steps,
    ops_heads,
)
CARDS: dict[str, Card] = {card.name: card for file in FILES for card in file.CARDS}


def make(root: Path, only: str | None = None) -> None:
    """Write all cards, or the one called ``only``, under ``root``, and the list of them."""
    root.mkdir(exist_ok=True)
    listed = {}
    for name, card in CARDS.items():
        file = root / f"{name}.safetensors"
        tensors = tensors_of(card)
        if only in (None, name):
            write_tensors(file, tensors)
            file.chmod(0o644)
        listed[name] = {"file": file.name, "sha256": sha256(file), **described(card, tensors)}
    description = {
        "format": FORMAT,
        "made_by": {
            "implementation": f"transformers {transformers.__version__}, attention 'eager'",
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "cards": listed,
    }
    text = json.dumps(description, indent=1, ensure_ascii=False)
    (root / "cards.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    if transformers.__version__ != "4.57.6":
        sys.exit(f"expected transformers 4.57.6, found {transformers.__version__}")
    make(Path(__file__).resolve().parents[1] / "ops", *sys.argv[1:2])
