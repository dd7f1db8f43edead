"""Files of ``torch.save``, read without PyTorch and without running anything that is in them.

Two layouts, both with a pickle that says what there is and storages that hold the numbers. A zip
archive since 1.6 (2020): the pickle is the entry ``data.pkl``, each storage one entry ``data/KEY``.
Before: pickles one after another (a magic number, the version of the protocol, the machine, the
object, the keys of the storages) and then the storages, each after its number of elements. The
file is mapped, and tensors are views of the mapping. The pickle is read as data, by
:mod:`refimpl.checkpoints.pytorch.unpickler`; names outside the short list in ``tensors.py`` are
refused.

Source: ``torch/serialization.py``, ``torch/csrc/serialization.cpp``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from refimpl.checkpoints.pytorch.pickled import Global, Record, describe
from refimpl.checkpoints.pytorch.tensors import (
    CONSTANTS,
    FUNCTIONS,
    STORAGES,
    Storage,
    Tensor,
    TypedStorage,
    item_size,
)
from refimpl.checkpoints.pytorch.unpickler import Vocabulary, unpickle
from refimpl.checkpoints.pytorch.zip_entries import Entry, read_entries, unpack
from refimpl.checkpoints.safetensors_file import Place
from refimpl.errors import CheckpointError

__all__ = ["Global", "Record", "Tensor", "TorchFile", "TypedStorage", "read_torch_file"]

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
ROOM = 192 * 2**20  # bytes of memory that a file may take beyond its own size
LARGEST_PACKED_PICKLE = 32 * 2**20


class Mapped(NamedTuple):
    """A file in memory."""

    path: Path
    content: numpy.ndarray  # its bytes

    @property
    def data(self) -> memoryview:
        """The same bytes, in the form in which they can be searched and unpacked."""
        return memoryview(self.content)  # type: ignore[arg-type]  # an array is a buffer


Contents = tuple[Any, dict[str, Storage], int]  # and what the value may take, in bytes


def read_torch_file(path: Path, records: Collection[str] = ()) -> Any:
    """Return what ``torch.save`` wrote: plain Python values, and :class:`Tensor` for tensors.

    ``records`` names further classes that may occur ("argparse.Namespace"); each object of one
    comes as :class:`Record` and is not made. A class that stands alone, and a dtype, comes as
    :class:`Global`. An OrderedDict comes as a dict. Values may contain one another in a circle,
    as in any pickle; dictionaries that contain tensors are what checkpoints are.

    Raises ``CheckpointError`` for a file that is missing, broken, of another kind, or names
    anything else: nothing of it is then returned.
    """
    try:
        content = numpy.memmap(path, dtype=numpy.uint8, mode="r")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: an empty file, or a NUL in the path
        raise CheckpointError(f"{path}: expected a file of torch.save: {error}") from None
    read = _reader_of(path, bytes(content[:512]))
    try:
        value, storages, charged = read(Mapped(path, content), records)
        _refuse_bombs(storages.values(), content.size, ROOM - charged)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return value


class TorchFile(Mapping[str, numpy.ndarray]):
    """The tensors of a state dict, by name; ``file[name]`` is a read-only view of the file.

    Raises ``CheckpointError`` where the file does not hold a state dict: names to tensors, and
    nothing else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors = _state_dict(path, read_torch_file(path))
        self._first_names: dict[Any, str] = {}
        for name, tensor in self._tensors.items():
            self._first_names.setdefault(tensor.identity, name)

    def __getitem__(self, name: str) -> numpy.ndarray:
        return self._tensors[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without touching its bytes."""
        return self._tensors[name].shape

    def first_name(self, name: str) -> str:
        """Return the first of the names that the file has for the same numbers: tied weights."""
        return self._first_names[self._tensors[name].identity]

    def place(self, name: str) -> Place:
        """Return where a tensor lies, for those who read files in another way.

        Raises ``CheckpointError`` for one whose numbers do not lie one after another.
        """
        tensor = self._tensors[name]
        if not tensor.is_contiguous or tensor.storage.is_packed:
            raise CheckpointError(
                f"{self.path}: {name}: is stored transposed or packed, and can only be read whole"
            )
        return Place(self.path, tensor.stored_dtype, tensor.dtype == "BF16", tensor.shape,
                     tensor.start)  # fmt: skip

    def dtype(self, name: str) -> str:
        """Return a tensor's dtype as safetensors files name it: "F32", "BF16", "I64"."""
        return self._tensors[name].dtype

    def stored(self, name: str) -> numpy.ndarray:
        """Return a tensor as it is stored: of a bfloat16 the bits, as uint16."""
        return self._tensors[name].raw_bits()


def _state_dict(path: Path, value: Any) -> dict[str, Tensor]:
    """Return a value that is a state dict; say what it is if it is none."""
    if type(value) is not dict or not value:
        raise CheckpointError(f"{path}: expected names and tensors, found {describe(value)}")
    odd = {name: x for name, x in value.items() if not isinstance(x, Tensor)}
    if odd or any(not isinstance(name, str) for name in value):
        found = ", ".join(f"{describe(name)}: {describe(x)}" for name, x in [*odd.items()][:8])
        raise CheckpointError(
            f"{path}: expected names and tensors, nothing else; found {found or 'other names'}"
        )
    return value


def _reader_of(path: Path, head: bytes) -> Callable[[Mapped, Collection[str]], Contents]:
    """Return the function that reads a file which begins with ``head``."""
    if head[:4] == b"PK\x03\x04":
        return _read_zip
    if head[:1] == b"\x80":
        return _read_legacy
    if head[257:262] == b"ustar":
        raise CheckpointError(
            f"{path}: a tar archive, as torch.save wrote before PyTorch 0.1.10 of 2017: not read"
        )
    raise CheckpointError(f"{path}: expected a file of torch.save, it begins with {head[:8]!r}")


def _vocabulary(
    typed_storage: Callable[..., TypedStorage], extra: int, records: Collection[str]
) -> Vocabulary:
    """Return the names that files of tensors use.

    ``typed_storage`` is called with dtype, key, number of elements and ``extra`` values more.
    """

    def persistent(args: Any) -> TypedStorage:
        if type(args) is not tuple or len(args) != 5 + extra or args[0] != "storage":
            raise CheckpointError(f"expected the id of a storage, got {describe(args)}")
        _, kind, key, _, count, *rest = args  # which device it was on matters no more
        if not isinstance(kind, Global) or kind.name not in STORAGES:
            raise CheckpointError(f"storage: expected its class, got {describe(kind)}")
        if type(key) is not str or type(count) is not int or count < 0:
            raise CheckpointError(
                f"storage: expected a key and a count, got {describe(key)}, {describe(count)}"
            )
        return typed_storage(STORAGES[kind.name], key, count, *rest)

    return Vocabulary(FUNCTIONS, CONSTANTS, records, persistent)


def _refuse_bombs(storages: Collection[Storage], file_size: int, room: int) -> None:
    """Refuse a small file of large tensors: packed well, or the same numbers again and again."""
    packed = sum(storage.size for storage in storages if storage.is_packed)
    if packed > file_size + room:
        raise CheckpointError(f"{file_size} bytes unpack to {packed}: refused")
    held = sum(storage.size for storage in storages)
    seen = sum(sum(storage.views.values()) for storage in storages)
    if seen > 2 * held + room:
        raise CheckpointError(f"{held} bytes are seen as tensors of {seen} bytes: refused")


# --- zip ------------------------------------------------------------------------------------------


def _read_zip(file: Mapped, records: Collection[str]) -> Contents:
    data = file.data
    entries = read_entries(data)
    root = _root(entries)
    order = _byte_order(data, entries.get(f"{root}/byteorder"))
    storages: dict[str, Storage] = {}

    def typed_storage(dtype: str, key: str, count: int) -> TypedStorage:
        entry = entries.get(f"{root}/data/{key}")
        size = count * item_size(dtype)
        if entry is None or entry.size != size:
            found = "no such entry" if entry is None else f"one of {entry.size}"
            raise CheckpointError(
                f"storage {describe(key)}: expected an entry of {size} bytes, found {found}"
            )
        if key not in storages:
            storages[key] = _zip_storage(file, key, entry, order)
        return TypedStorage(storages[key], dtype)

    entry = entries[f"{root}/data.pkl"]
    if entry.is_deflated and entry.size > LARGEST_PACKED_PICKLE:
        raise CheckpointError(f"data.pkl: {entry.packed} bytes unpack to {entry.size}: refused")
    pickle = unpack(data, entry)
    value, end, charged = unpickle(pickle, 0, _vocabulary(typed_storage, 0, records))
    if end != len(pickle):
        raise CheckpointError(f"data.pkl: {len(pickle) - end} bytes follow the pickle")
    return value, storages, charged


def _root(entries: Collection[str]) -> str:
    """Return the archive's one folder; it is called as the file was when it was written."""
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(f"zip: expected one entry FOLDER/data.pkl, found {len(pickles)}")
    root = pickles[0].partition("/")[0]
    if f"{root}/constants.pkl" in entries:
        raise CheckpointError("a TorchScript program, not a file of torch.save")
    return root


def _byte_order(data: memoryview, entry: Entry | None) -> str:
    """Return "<" or ">"; files without the entry (before 2.1) are of little-endian machines."""
    if entry is None:
        return "<"
    orders = {b"little": "<", b"big": ">"}
    found = bytes(unpack(data, entry)) if entry.size < 10 else b""
    if found not in orders:
        raise CheckpointError(f"byteorder: expected little or big, got {found!r}")
    return orders[found]


def _zip_storage(file: Mapped, key: str, entry: Entry, order: str) -> Storage:
    if not entry.is_deflated:
        return Storage(key, entry.size, order, lambda: file.content, entry.start)

    @cache
    def inflated() -> numpy.ndarray:
        try:
            return numpy.frombuffer(unpack(file.data, entry), numpy.uint8)
        except CheckpointError as error:
            raise CheckpointError(f"{file.path}: {error}") from None

    return Storage(key, entry.size, order, inflated, 0, is_packed=True)


# --- legacy ---------------------------------------------------------------------------------------


def _read_legacy(file: Mapped, records: Collection[str]) -> Contents:
    data = file.data
    storages: dict[str, Storage] = {}
    item_sizes: dict[str, int] = {}

    def typed_storage(dtype: str, key: str, count: int, part: Any) -> TypedStorage:
        if part is not None:
            raise CheckpointError(f"storage {describe(key)}: a part of another one is not read")
        size = count * item_size(dtype)
        if key not in storages:
            # Numbers are little-endian whatever machine wrote them; where they lie is found below.
            storages[key] = Storage(key, size, "<", lambda: file.content, 0)
            item_sizes[key] = item_size(dtype)
        if storages[key].size != size:
            raise CheckpointError(f"storage {describe(key)}: of two sizes")
        return TypedStorage(storages[key], dtype)

    at = _past_preamble(data)
    value, at, charged = unpickle(data, at, _vocabulary(typed_storage, 1, records))
    keys, at, _ = unpickle(data, at, _NO_WORDS)
    if type(keys) is not list or {*map(_key, keys)} != {*storages} or len(keys) != len(storages):
        raise CheckpointError("expected the keys of the storages, each once")
    for key in keys:
        at = _find_place(data, at, storages[key], item_sizes[key])
    if at != len(data):
        raise CheckpointError(f"{len(data) - at} bytes follow the last storage")
    return value, storages, charged


def _past_preamble(data: memoryview) -> int:
    """Return where the object's pickle begins: after magic number, version and machine."""
    magic, at, _ = unpickle(data, 0, _NO_WORDS)
    if type(magic) is not int or magic != MAGIC:
        raise CheckpointError("expected a file of torch.save, found another pickle")
    version, at, _ = unpickle(data, at, _NO_WORDS)
    if type(version) is not int or version != PROTOCOL:
        raise CheckpointError(f"expected protocol {PROTOCOL}, got {describe(version)}")
    _, at, _ = unpickle(data, at, _NO_WORDS)
    return at


def _key(key: Any) -> str:
    if type(key) is not str:
        raise CheckpointError(f"storage: expected a key, got {describe(key)}")
    return key


def _find_place(data: memoryview, at: int, storage: Storage, item: int) -> int:
    """Set where a storage begins: after its number of elements. Return where it ends."""
    if at + 8 > len(data):
        raise CheckpointError(f"storage {describe(storage.key)}: cut short")
    (count,) = struct.unpack_from("<q", data, at)
    storage.start, end = at + 8, at + 8 + storage.size
    if count * item != storage.size or end > len(data):
        raise CheckpointError(
            f"storage {describe(storage.key)}: expected {storage.size} bytes, found "
            f"{min(count * item, len(data) - at - 8)}"
        )
    return end


def _no_storages(args: Any) -> Any:
    raise CheckpointError("expected no storages here")


_NO_WORDS = Vocabulary({}, (), (), _no_storages)
