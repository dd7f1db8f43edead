"""Tensors as PyTorch prints them, where every number is printed with enough digits.

A real number is known from its digits when there are 17 of them for float64, 9 for float32, 5 for
float16 and 4 for bfloat16; PyTorch prints five unless it is told otherwise
(``torch.set_printoptions(precision=9, threshold=10**9)``).

Source: IEEE 754-2008, section 5.12.2; ``torch/_tensor_str.py``.
"""

from __future__ import annotations

import math
import re

import numpy

from refimpl.errors import CheckpointError
from refimpl.parity.dumps.numbers import DTYPES, Numbers

DIGITS = {"F64": 17, "F32": 9, "F16": 5, "BF16": 4}
TYPES = {
    "torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16",
    "torch.bfloat16": "BF16", "torch.int64": "I64", "torch.int32": "I32", "torch.int16": "I16",
    "torch.int8": "I8", "torch.uint8": "U8", "torch.bool": "BOOL",
}  # fmt: skip

_SHAPE = re.compile(r"torch\.Size\(\[([\d, ]{0,800})\]\)")
_WORD = re.compile(r"True|False|nan|-?inf|-?\d+(?:\.\d*)?(?:e[+-]?\d+)?")


def why_inexact(text: str, dtype: str) -> str:
    """Return why the printed numbers are not the tensor's, or "" where they are.

    >>> why_inexact("tensor([1.2346e+00])", "torch.float32")
    'it is printed with fewer than the 9 digits of torch.float32'
    """
    needed = DIGITS.get(TYPES.get(dtype, ""), 0)
    if "..." in text:
        return "it is printed abbreviated"
    if any(_digits(word) < needed for word in _WORD.findall(_body(text))):
        return f"it is printed with fewer than the {needed} digits of {dtype}"
    return ""


def parse_printed(text: str, dtype: str, shape: str) -> Numbers:
    r"""Return the numbers of ``tensor([...])``; ``CheckpointError`` for what is no such text.

    >>> x = parse_printed("tensor([[1, 2],\n        [3, 4]])", "torch.int64", "torch.Size([2, 2])")
    >>> x.dtype, x.array.tolist()
    ('I64', [[1, 2], [3, 4]])
    """
    size, name = _SHAPE.fullmatch(shape), TYPES.get(dtype)
    if size is None or name is None or not text.startswith("tensor("):
        raise CheckpointError(f"expected a printed tensor, got {text[:40]!r} of {dtype[:20]}")
    sizes = tuple(int(x) for x in size[1].replace(" ", "").split(",") if x)
    body = _body(text)
    if re.sub(_WORD, "", body).strip(" \n,[]"):
        raise CheckpointError(f"expected numbers, got {body[:40]!r}")
    words = _WORD.findall(body)
    if len(words) != math.prod(sizes):
        raise CheckpointError(f"{len(words)} numbers are printed for shape {sizes}")
    try:
        return Numbers(name, _bits(words, name).reshape(sizes))
    except (ValueError, OverflowError) as error:
        raise CheckpointError(f"expected numbers of {dtype}: {error}") from None


def _body(text: str) -> str:
    """Return the numbers, without what follows them: the device, the dtype, the gradient."""
    body = text.removeprefix("tensor(")
    return body[: body.rfind("]") + 1] if body.startswith("[") else re.split(r"[,)]", body)[0]


def _digits(word: str) -> int:
    """Return how many digits a real number is known to: all of what has none, such as inf."""
    if not any(sign.isdigit() for sign in word):
        return 99
    return len(re.sub(r"e.*|[^\d]", "", word)) if "e" in word else 0


def _bits(words: list[str], name: str) -> numpy.ndarray:
    if name == "BOOL":
        return numpy.asarray([word == "True" for word in words], "|b1")
    if name not in DIGITS:
        return numpy.asarray([int(word) for word in words], DTYPES[name])
    wide = numpy.asarray([float(word) for word in words])
    with numpy.errstate(over="ignore"):
        if name != "BF16":
            return wide.astype(DTYPES[name])
        # To the nearest of the neighbours: half of the distance is far more than a digit's.
        bits = wide.astype("<f4").view("<u4").astype(numpy.uint64)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
