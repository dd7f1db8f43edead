"""What the originals' two formats share: the options of a training run, and tensors by other names.

Both are dictionaries that PyTorch pickled: in them a dictionary of tensors ("model"), and the
options of the run that made it, which say what no shape can tell.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from refimpl.checkpoints.pytorch.file import Tensor
from refimpl.checkpoints.pytorch.pickled import Record, describe
from refimpl.checkpoints.writing import Pending
from refimpl.errors import CheckpointError

Shape = tuple[int, ...]
Layout = dict[str, tuple[str, Shape]]  # our name -> the original's, and the shape it must have


class ClassNames:
    """Names of classes whose objects occur in such files: they are read as records, never made.

    >>> "fairseq.meters.AverageMeter" in ClassNames(), "posix.system" in ClassNames()
    (True, False)
    """

    packages = ("argparse.Namespace", "omegaconf.", "fairseq.", "typing.", "src.", "xlm.",
                "collections.defaultdict", "builtins.dict", "builtins.list", "builtins.int",
                "builtins.long", "builtins.str", "builtins.float", "builtins.bool",
                "numpy.ndarray", "numpy.dtype", "numpy.core.multiarray.",
                "numpy._core.multiarray.")  # fmt: skip

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.startswith(self.packages)

    def __iter__(self) -> Iterator[str]:
        return iter(self.packages)

    def __len__(self) -> int:
        return len(self.packages)


@dataclass(frozen=True)
class Options:
    """The options of a run: command line arguments, or a configuration."""

    path: Path  # the file that they stand in
    values: Mapping[str, Any]

    def __contains__(self, key: str) -> bool:
        return plain(self.values.get(key)) is not None

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Return an option, ``default`` where there is none.

        Raises ``CheckpointError`` for a value that is not of a kind; an int is a float too.
        """
        value = plain(self.values.get(key))
        if value is None:
            return default
        kinds = (int, float) if kind is float else kind
        fits = isinstance(value, kinds) and (kind is bool or not isinstance(value, bool))
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            raise CheckpointError(
                f"{self.path}: {key}: expected {kind.__name__}, got {describe(value)}"
            )
        return value

    def need(self, key: str, kind: type) -> Any:
        """Return an option; ``CheckpointError`` where there is none."""
        if key not in self:
            raise CheckpointError(f"{self.path}: {key}: expected it among the options, found none")
        return self.get(key, kind)

    def agree(self, key: str, kind: type, found: Any, where: str) -> None:
        """Raise ``CheckpointError`` where an option says otherwise than the tensors do."""
        value = self.get(key, kind, found)
        if value != found:
            raise CheckpointError(
                f"{self.path}: {key}: expected {found!r}, as {where} has it, got {value!r}"
            )


def plain(value: Any) -> Any:
    """Return a value of an option: what an omegaconf node holds, anything else as it is.

    >>> node = Record("omegaconf.nodes.AnyNode", (), {"_val": "en_XX"})
    >>> plain(Record("omegaconf.listconfig.ListConfig", (), {"_content": [node]}))
    ['en_XX']
    """
    for _ in range(8):  # a file could make a node hold itself
        if not isinstance(value, Record) or not isinstance(value.state, Mapping):
            break
        key = next((key for key in ("_val", "_content") if key in value.state), None)
        if key is None:
            break
        value = value.state[key]
    if isinstance(value, list | tuple):
        return [one if isinstance(one, list | tuple) else plain(one) for one in value]
    return value


def options_of(path: Path, value: Any) -> Options | None:
    """Return options that were saved as a dictionary, or as an object; None for anything else."""
    value = plain(value)
    if isinstance(value, Record):
        value = value.state
    if not isinstance(value, Mapping):
        return None
    return Options(path, {key: x for key, x in value.items() if isinstance(key, str)})


def tensors_of(path: Path, key: str, value: Any) -> dict[str, Pending]:
    """Return a dictionary of tensors by name; ``CheckpointError`` where it is something else."""
    if not isinstance(value, Mapping) or not value:
        raise CheckpointError(
            f"{path}: {key}: expected a dictionary of tensors, got {describe(value)}"
        )
    for name, x in value.items():
        if not isinstance(name, str) or not isinstance(x, Tensor):
            raise CheckpointError(
                f"{path}: {key}: {describe(name)}: expected a tensor, got {describe(x)}"
            )
    return {name: Pending(x.dtype, tuple(x.shape), x.raw_bits) for name, x in value.items()}


def find(path: Path, tensors: Mapping[str, Pending], name: str, axes: int) -> Pending:
    """Return a tensor whose shape says how large the model is; ``CheckpointError`` without it."""
    if name not in tensors:
        raise CheckpointError(f"{path}: expected a tensor {name}, found none")
    if len(tensors[name].shape) != axes or 0 in tensors[name].shape:
        got = tensors[name].shape
        raise CheckpointError(f"{path}: {name}: expected a shape of {axes} sizes, got {got}")
    return tensors[name]


def rename(
    path: Path,
    kind: str,
    tensors: Mapping[str, Pending],
    layout: Layout,
    left_out: Collection[str],
) -> dict[str, Pending]:
    """Return the tensors of a layout by our names, in its order. ``kind``: of what model they are.

    Every other tensor must begin with one of ``left_out``. Raises one ``CheckpointError`` that
    lists every tensor that is missing, unexpected or of another shape.
    """
    used = {theirs for theirs, _ in layout.values()}
    lists = {
        "missing": [theirs for theirs in used if theirs not in tensors],
        "unexpected": [
            name for name in tensors if name not in used and not name.startswith(tuple(left_out))
        ],
        "misshapen": [
            f"{theirs}: expected {shape}, got {tensors[theirs].shape}"
            for theirs, shape in layout.values()
            if theirs in tensors and tensors[theirs].shape != shape
        ],
    }
    parts = [
        f"{what} ({len(x)}): {', '.join(f'{one:.150}' for one in sorted(x)[:20])}"
        for what, x in lists.items()
        if x
    ]
    if parts:
        raise CheckpointError(f"{path}: these are not the tensors of {kind}: {'; '.join(parts)}")
    return {ours: tensors[theirs] for ours, (theirs, _) in layout.items()}


def same_numbers(one: Pending, other: Pending) -> bool:
    """Say whether two tables hold the same, bit for bit: whether they are tied."""
    if one is other:
        return True
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    x, y = numpy.atleast_1d(one.read(), other.read())
    bits = numpy.dtype(f"u{x.itemsize}")
    rows = range(0, len(x), 1024)  # some at a time: the tables may be gigabytes
    return all(
        numpy.array_equal(x[i : i + 1024].view(bits), y[i : i + 1024].view(bits)) for i in rows
    )


def linear(ours: str, theirs: str, outputs: int, inputs: int) -> Layout:
    """The two tensors of a linear map."""
    return {
        f"{ours}.weight": (f"{theirs}.weight", (outputs, inputs)),
        f"{ours}.bias": (f"{theirs}.bias", (outputs,)),
    }


def layer_norm(ours: str, theirs: str, width: int) -> Layout:
    """The two tensors of a layer norm."""
    return {
        f"{ours}.weight": (f"{theirs}.weight", (width,)),
        f"{ours}.bias": (f"{theirs}.bias", (width,)),
    }


def table(ours: str, theirs: str, rows: int, width: int) -> Layout:
    """The one tensor of an embedding."""
    return {f"{ours}.weight": (f"{theirs}.weight", (rows, width))}
