"""PyTorch's tensors as its files describe them: views of storages, checked before they are made.

A storage is a run of bytes. A tensor is a view of one: where it begins, its shape, and for each
axis how many elements lie from one index to the next (its strides), so that a transposed matrix or
two tied weights need no bytes of their own. Nothing is read until :meth:`Tensor.read`.

Source: ``torch/_utils.py``, whose functions the files name.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy

from refimpl.checkpoints.pytorch.pickled import Global, Record, describe
from refimpl.checkpoints.safetensors_file import widen_bfloat16
from refimpl.errors import CheckpointError

# Names as in safetensors files -> NumPy, without byte order. Of bfloat16 the bits.
DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2",
    "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip

STORAGES = {
    "torch.DoubleStorage": "F64", "torch.FloatStorage": "F32", "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16", "torch.LongStorage": "I64", "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16", "torch.CharStorage": "I8", "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL", "torch.storage.UntypedStorage": "U8",
}  # fmt: skip

TORCH_DTYPES = {
    "torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64", "torch.int32": "I32", "torch.int16": "I16", "torch.int8": "I8",
    "torch.uint64": "U64", "torch.uint32": "U32", "torch.uint16": "U16", "torch.uint8": "U8",
    "torch.bool": "BOOL",
}  # fmt: skip

MOST_AXES = 64  # of a NumPy array


def item_size(dtype: str) -> int:
    """Return how many bytes a number of a dtype takes.

    >>> item_size("BF16")
    2
    """
    return numpy.dtype(DTYPES[dtype]).itemsize


@dataclass(eq=False)
class Storage:
    """Bytes that tensors are views of. One object for each storage of a file."""

    key: str  # its name in the file
    size: int  # bytes
    order: str  # of the bytes in a number: "<" or ">"
    source: Callable[[], numpy.ndarray]  # the file's bytes, or those that it unpacks to
    start: int  # the first byte in there
    is_packed: bool = False  # it does not lie in the file as it is
    views: dict[tuple[Any, ...], int] = field(default_factory=dict)  # identity -> bytes

    def read(self) -> numpy.ndarray:
        """Return the bytes, mapped where the file holds them as they are."""
        return self.source()[self.start : self.start + self.size]


@dataclass(frozen=True)
class TypedStorage:
    """A storage and what its bytes are: what a tensor is made of."""

    storage: Storage
    dtype: str


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor in a file: lazily read, at no cost in memory where the file holds it as it is."""

    storage: Storage
    dtype: str  # as safetensors files name it: "F32", "BF16", "I64", "BOOL", ...
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements, like offset
    offset: int

    @property
    def storage_key(self) -> str:
        """The name of the storage in the file; tensors that share memory have the same."""
        return self.storage.key

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for two tensors of one file where they are the same view: tied weights."""
        return (self.storage.key, self.dtype, self.offset, self.shape, self.strides)

    @property
    def stored_dtype(self) -> numpy.dtype:
        """What NumPy reads the stored numbers as; a bfloat16 as its bits."""
        return numpy.dtype(self.storage.order + DTYPES[self.dtype])

    @property
    def start(self) -> int:
        """The first byte, in the file or in what it unpacks to."""
        return self.storage.start + self.offset * self.stored_dtype.itemsize

    @property
    def is_contiguous(self) -> bool:
        """Whether its elements lie one after another, row by row."""
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size > 1 and stride != step:
                return False
            step *= size
        return True

    def raw_bits(self) -> numpy.ndarray:
        """Return the numbers as they are stored, those of a bfloat16 as the bits of a uint16."""
        dtype = self.stored_dtype
        if 0 in self.shape:
            array = numpy.empty(self.shape, dtype)
        else:  # an axis of one element may have any stride, even one that NumPy cannot hold
            steps = [x if n > 1 else 1 for n, x in zip(self.shape, self.strides, strict=True)]
            array = numpy.ndarray(
                self.shape,
                dtype,
                buffer=self.storage.read(),
                offset=self.offset * dtype.itemsize,
                strides=[step * dtype.itemsize for step in steps],
            )
        array = array.astype(dtype.newbyteorder("="), copy=False)
        array.flags.writeable = False
        return array

    def read(self) -> numpy.ndarray:
        """Return the numbers as a read-only array, those of a bfloat16 as float32."""
        array = self.raw_bits()
        if self.dtype == "BF16":
            array = widen_bfloat16(array)
            array.flags.writeable = False
        return array


def rebuild_tensor(typed: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """Return the view of a storage; ``CheckpointError`` where it is none."""
    if not isinstance(typed, TypedStorage):
        raise CheckpointError(f"tensor: expected a storage, got {describe(typed)}")
    storage, dtype = typed.storage, typed.dtype
    shape, strides = _sizes("shape", shape), _sizes("strides", strides)
    (offset,) = _sizes("offset", (offset,))
    if len(shape) != len(strides):
        raise CheckpointError(f"tensor: expected {len(shape)} strides, got {len(strides)}")
    item = item_size(dtype)
    if math.prod(max(size, 1) for size in shape) * item > sys.maxsize:
        raise CheckpointError(f"tensor: more bytes than there can be: shape {shape}")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 not in shape and (last + 1) * item > storage.size:
        raise CheckpointError(
            f"tensor: expected {(last + 1) * item} bytes in storage {describe(storage.key)}, "
            f"found {storage.size}"
        )
    tensor = Tensor(storage, dtype, shape, strides, offset)
    storage.views[tensor.identity] = math.prod(shape) * item
    return tensor


def _sizes(what: str, values: Any) -> tuple[int, ...]:
    """Return a tuple of sizes, checked: whole numbers, none negative, not too many."""
    if type(values) is not tuple or len(values) > MOST_AXES:
        raise CheckpointError(
            f"tensor: {what}: expected up to {MOST_AXES} numbers, got {describe(values)}"
        )
    if any(type(value) is not int or value < 0 for value in values):
        raise CheckpointError(f"tensor: {what}: expected whole numbers from 0 on")
    return values


def _take(name: str, args: tuple[Any, ...], counts: tuple[int, ...]) -> tuple[Any, ...]:
    if len(args) not in counts:
        raise CheckpointError(f"{name}: expected {counts[0]} arguments, got {len(args)}")
    return args


def _of_v1(args: tuple[Any, ...]) -> Tensor:
    return rebuild_tensor(*_take("_rebuild_tensor", args, (4,)))


def _of_v2(args: tuple[Any, ...]) -> Tensor:
    """Of storage, offset, shape, strides, requires_grad, hooks, and metadata in newer files."""
    _take("_rebuild_tensor_v2", args, (6, 7))
    _refuse_metadata(args[6:])
    return rebuild_tensor(*args[:4])


def _of_v3(args: tuple[Any, ...]) -> Tensor:
    """The same with a dtype: for those that have no storage class of their own."""
    typed, offset, shape, strides, _, _, dtype = _take("_rebuild_tensor_v3", args, (7, 8))[:7]
    _refuse_metadata(args[7:])
    if not isinstance(dtype, Global) or dtype.name not in TORCH_DTYPES:
        raise CheckpointError(f"tensor: expected a dtype, got {describe(dtype)}")
    if not isinstance(typed, TypedStorage):
        raise CheckpointError(f"tensor: expected a storage, got {describe(typed)}")
    typed = TypedStorage(typed.storage, TORCH_DTYPES[dtype.name])
    return rebuild_tensor(typed, offset, shape, strides)


def _refuse_metadata(metadata: tuple[Any, ...]) -> None:
    """Metadata say that the numbers are to be negated, or conjugated."""
    if any(metadata):
        raise CheckpointError("tensor: is stored as the negative or conjugate of its numbers")


def _of_parameter(args: tuple[Any, ...]) -> Tensor:
    """A parameter is its tensor; requires_grad, hooks and attributes are left aside."""
    return _expect_tensor(_take("_rebuild_parameter", args, (3, 4))[0])


def _expect_tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise CheckpointError(f"parameter: expected a tensor, got {describe(value)}")
    return value


def _of_type(args: tuple[Any, ...]) -> Tensor:
    """A tensor with Python attributes: function, class, arguments, attributes."""
    function, kind, inner, _ = _take("_rebuild_from_type_v2", args, (4,))
    known = {n: f for n, f in FUNCTIONS.items() if n.startswith("torch._utils.")}
    classes = (Global("torch.Tensor"), Global("torch.nn.parameter.Parameter"))
    if not isinstance(function, Global) or function.name not in known or kind not in classes:
        raise CheckpointError(f"tensor: expected its function and class, got {describe(function)}")
    if type(inner) is not tuple:
        raise CheckpointError(f"tensor: expected a tuple of arguments, got {describe(inner)}")
    return _expect_tensor(known[function.name](inner))


def _size(args: tuple[Any, ...]) -> tuple[int, ...]:
    return _sizes("Size", _take("Size", args, (1,))[0])


def _device(args: tuple[Any, ...]) -> Record:
    return Record("torch.device", args)


FUNCTIONS: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor": _of_v1,
    "torch._utils._rebuild_tensor_v2": _of_v2,
    "torch._utils._rebuild_tensor_v3": _of_v3,
    "torch._utils._rebuild_parameter": _of_parameter,
    "torch._utils._rebuild_parameter_with_state": _of_parameter,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": _size,
    "torch.device": _device,
}

CONSTANTS = (*STORAGES, *TORCH_DTYPES, "torch.Tensor", "torch.nn.parameter.Parameter")
