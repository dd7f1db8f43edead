"""Checkpoints of any size that take next to no disk: files with holes, and random numbers between.

``python tools/sparse_checkpoint.py FOLDER xl`` (or ``xxl``) writes one of the true size of
XLM-RoBERTa-XL (or -XXL). Vectors are random throughout, and so are some rows of every matrix,
spread evenly; the other rows are holes in the file, which read as zeros.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy

from refimpl.models.config import parse_config
from refimpl.models.model import ARCHITECTURES

ITEM_SIZES = {"F32": 4, "F16": 2, "BF16": 2}

# The published sizes: facebook/xlm-roberta-xl and -xxl.
XL = {"vocab_size": 250_880, "hidden_size": 2560, "num_hidden_layers": 36,
      "num_attention_heads": 32, "intermediate_size": 10_240, "max_position_embeddings": 514,
      "type_vocab_size": 1, "layer_norm_eps": 1e-5, "hidden_act": "gelu"}  # fmt: skip
XXL = XL | {"hidden_size": 4096, "num_hidden_layers": 48, "intermediate_size": 16_384}
SIZES = {"xl": XL, "xxl": XXL}

Shape = tuple[int, ...]


def write_sparse(
    folder: Path,
    architecture: str,
    config: dict[str, Any],
    *,
    words: Iterable[int] = (),
    rows: int = 16,
    dtype: str = "F32",
    seed: int = 0,
) -> int:
    """Write a checkpoint of a class and a config; return how many parameters it has.

    ``words`` are rows of the word embeddings that are to be random too; ``rows`` is how many of
    every matrix are. ``dtype`` is that of the file: "F32", "F16" or "BF16".
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = {"architectures": [architecture], **config}
    (folder / "config.json").write_text(json.dumps(values))
    entry = ARCHITECTURES[architecture]
    parsed: Any = parse_config(entry.config, values, folder / "config.json")
    tied = entry.rules(parsed).ties
    shapes = {n: shape for n, shape in entry.parameters(parsed).items() if n not in tied}
    draw = numpy.random.default_rng(seed)
    with (folder / "model.safetensors").open("wb") as file:
        start = write_header(file, shapes, dtype)
        for name, shape in shapes.items():
            width = math.prod(shape[1:])
            for row in random_rows(name, shape, rows, words):
                count = shape[0] if len(shape) == 1 else 1
                x = draw.standard_normal(count * width, dtype=numpy.float32)
                x = 1 + x / 4 if is_norm(name) else x / 16
                file.seek(start + row * width * ITEM_SIZES[dtype])
                file.write(as_bytes(x, dtype))
            start += shape[0] * width * ITEM_SIZES[dtype]
        file.truncate(start)
    return sum(math.prod(shape) for shape in shapes.values())


def write_header(file: BinaryIO, shapes: dict[str, Shape], dtype: str) -> int:
    """Write the header of a safetensors file; return where the first tensor begins."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * ITEM_SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return file.write(struct.pack("<Q", len(text)) + text)


def random_rows(name: str, shape: Shape, rows: int, words: Iterable[int]) -> list[int]:
    """Return which rows of a tensor are random: the first and the last are. A vector is one."""
    if len(shape) == 1:
        return [0]
    spread = numpy.linspace(0, shape[0] - 1, min(rows, shape[0])).astype(int).tolist()
    return sorted({*spread, *(words if "word_embeddings" in name else ())})


def is_norm(name: str) -> bool:
    """Tell whether a tensor is the weight of a layer norm, by its published name."""
    return name.endswith(("norm.weight", "Norm.weight"))


def as_bytes(x: numpy.ndarray, dtype: str) -> bytes:
    """Return float32 numbers as a file holds them, rounded towards zero where it is bfloat16."""
    if dtype == "BF16":
        return (x.view(numpy.uint32) >> 16).astype("<u2").tobytes()
    return x.astype("<f4" if dtype == "F32" else "<f2").tobytes()


if __name__ == "__main__":
    target, size = sys.argv[1:]
    print(write_sparse(Path(target), "XLMRobertaXLForMaskedLM", SIZES[size], words=range(64)))
