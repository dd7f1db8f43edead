"""What stands beside a dump's numbers: who made them, and all tensors in order, as JSON.

    {"format": 1, "about": {"made_by": ...},
     "tensors": [{"kind": "tap", "name": ..., "dtype": "F32", "shape": [2, 5, 12]}, ...]}

Files of tensors have an order of their own, or none; this has the order of the computation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from refimpl.errors import CheckpointError
from refimpl.parity.dumps.numbers import DTYPES, KINDS, Numbers, shown

FORMAT = 1


class Described(NamedTuple):
    """One tensor, without its numbers."""

    kind: str  # "input", "tap" or "output"
    name: str
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]
    file: str  # that holds it, where each has one

    @property
    def full_name(self) -> str:
        """Its name with its kind: ``tap.embeddings``."""
        return f"{self.kind}.{self.name}"


def describe(
    found: Iterable[tuple[str, str, Numbers]], about: Mapping[str, Any], files: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the description of the tensors (kind, name, numbers); ``files`` are theirs, if any.

    Raises ``TypeError`` and ``ValueError`` where ``about`` holds what JSON cannot.
    """
    tensors: list[dict[str, Any]] = [
        {"kind": kind, "name": name, "dtype": x.dtype, "shape": list(x.bits.shape)}
        for kind, name, x in found
    ]
    for tensor, file in zip(tensors, files, strict=False):
        tensor["file"] = file
    # Whether a tensor is bfloat16 stands beside it.
    plain = {key: value for key, value in about.items() if key != "bfloat16"}
    try:
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"about: expected what JSON can hold: {error}") from None
    return {"format": FORMAT, "about": plain, "tensors": tensors}


def read_description(value: Any, where: object) -> tuple[dict[str, Any], list[Described]]:
    """Return what a description says of the dump, and its tensors in order.

    Raises ``CheckpointError``, naming ``where``, for what is no description.
    """
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise CheckpointError(f"{where}: expected the description of a dump, of format {FORMAT}")
    about, tensors = value.get("about"), value.get("tensors")
    if not isinstance(about, dict) or not isinstance(tensors, list):
        raise CheckpointError(f"{where}: expected an object 'about' and a list 'tensors'")
    return about, list(_tensors(tensors, where))


def _tensors(tensors: list[Any], where: object) -> Iterator[Described]:
    seen = set()
    for i, x in enumerate(tensors):
        if not isinstance(x, dict) or not _is_tensor(x):
            raise CheckpointError(f"{where}: tensors[{i}]: expected kind, name, dtype and shape")
        found = Described(x["kind"], x["name"], x["dtype"], tuple(x["shape"]), x.get("file", ""))
        if found.full_name in seen:
            raise CheckpointError(f"{where}: tensors[{i}]: a second {shown(found.full_name)}")
        seen.add(found.full_name)
        yield found


def _is_tensor(x: dict[str, Any]) -> bool:
    texts = [x.get(key) for key in ("kind", "name", "dtype")] + [x.get("file", "")]
    shape = x.get("shape")
    return (
        all(isinstance(text, str) for text in texts)
        and x["kind"] in KINDS
        and x["dtype"] in DTYPES
        and isinstance(shape, list)
        and len(shape) <= 64
        and all(type(size) is int and 0 <= size < 2**63 for size in shape)
    )
