"""Dumps of ``torch.save``: tensors in dictionaries, lists and tuples, as deep as they come.

The file is read as data, see :mod:`refimpl.checkpoints.pytorch.file`; nothing in it is run. A
tensor's name is the way to it: ``{"layer": [q, k]}`` has "layer.0" and "layer.1".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refimpl.checkpoints.folder import size_of
from refimpl.checkpoints.pytorch.file import Tensor, read_torch_file
from refimpl.checkpoints.pytorch.pickled import describe
from refimpl.errors import CheckpointError
from refimpl.parity.dumps.numbers import Numbers, shown

# The classes of what transformers' models return; such an object is not made here.
_OUTPUTS = re.compile(r"refused '\w[\w.]*Output\w*'")

DEEPEST = 32
MOST_TENSORS = 2**16  # a list in a list in a list of the same one is small in a file


def read_torch(path: Path) -> dict[str, Numbers]:
    """Return the tensors of a file of ``torch.save`` by the way to them; what is none is left out.

    A file that is one tensor has it under the file's name. Raises ``CheckpointError``.
    """
    size_of(path)
    try:
        value = read_torch_file(path)
    except CheckpointError as error:
        hint = "; of a model's outputs save dict(outputs)" if _OUTPUTS.search(str(error)) else ""
        raise CheckpointError(f"{error}{hint}") from None
    if isinstance(value, Tensor):
        return {path.stem: _numbers(value)}
    found: dict[str, Numbers] = {}
    try:
        for visited, (name, x) in enumerate(_leaves("", value, 0)):
            if visited > MOST_TENSORS:
                raise CheckpointError(f"expected up to {MOST_TENSORS} values")
            if not isinstance(x, Tensor):
                continue
            if name in found:
                raise CheckpointError(f"two tensors of the name {shown(name)}")
            found[name] = _numbers(x)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return found


def read_torch_folder(folder: Path) -> dict[str, Numbers]:
    """Return the tensors of all ``.pt`` files below a folder, in order of their paths.

    The path from the folder, with dots for slashes, is the name of a file's one tensor, and stands
    before the names of several. Raises ``CheckpointError``.
    """
    found: dict[str, Numbers] = {}
    for path in sorted(folder.rglob("*.pt")):
        place = ".".join(path.relative_to(folder).with_suffix("").parts)
        tensors = read_torch(path)
        for inner, numbers in tensors.items():
            name = place if list(tensors) == [path.stem] else f"{place}.{inner}"
            if name in found:
                raise CheckpointError(f"{path}: a second tensor of the name {shown(name)}")
            found[name] = numbers
    return found


def _leaves(prefix: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Give everything in nested containers with the way to it, containers included."""
    yield prefix, None if isinstance(value, dict | list | tuple) else value
    if depth > DEEPEST:
        raise CheckpointError(
            f"{shown(prefix)}: expected up to {DEEPEST} containers in one another"
        )
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return
    for key, x in items:
        if type(key) not in (str, int):
            raise CheckpointError(f"{shown(prefix)}: expected names, got {describe(key)}")
        yield from _leaves(f"{prefix}.{key}" if prefix else str(key), x, depth + 1)


def _numbers(tensor: Tensor) -> Numbers:
    bits = tensor.raw_bits()
    return Numbers(tensor.dtype, bits.astype(bits.dtype.newbyteorder("<"), copy=False))
