"""Files as ``torch.save`` writes them, made opcode by opcode: true ones, and ones that lie.

    pickled({"w": tensor(store("0", "FloatStorage", 6), 0, (2, 3), (3, 1))})

A value is written as PyTorch's pickler would write it. ``Opcodes`` are bytes of a pickle taken as
they are, so a test can put any program where a value is expected.
"""

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy

KINDS = {
    "float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage",
    "int64": "LongStorage", "int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage",
    "uint8": "ByteStorage", "bool": "BoolStorage",
}  # fmt: skip
MAGIC = 0x1950A86A20F9469CFC6C


class Opcodes(bytes):
    """A part of a pickle."""


@dataclass(frozen=True)
class Store:
    """A storage: its key, its kind, how many elements it is said to have, its bytes."""

    key: str
    kind: str
    count: int
    content: bytes = b""


def name(module, name):
    return Opcodes(b"c" + module.encode() + b"\n" + name.encode() + b"\n")


def call(function, *args):
    return Opcodes(function + value(args) + b"R")


def ordered(items=()):
    """An OrderedDict, filled."""
    return Opcodes(call(name("collections", "OrderedDict")) + _items(dict(items)))


def store_of(array, key="0"):
    """The storage of an array: its bytes, one after another."""
    array = numpy.asarray(array)
    return Store(key, KINDS[array.dtype.name], array.size, array.tobytes())


def strides_of(array):
    """The strides of an array whose rows lie one after another, in elements."""
    return tuple(n // array.itemsize for n in numpy.empty(array.shape, array.dtype).strides)


def persistent(store, *more):
    """The id of a storage; ``more`` is None in the legacy format."""
    kind = name("torch", store.kind) if "." not in store.kind else name(*store.kind.rsplit(".", 1))
    return Opcodes(value(("storage", kind, store.key, "cpu", store.count, *more)) + b"Q")


def tensor(store, offset, shape, strides, legacy=False, function="_rebuild_tensor_v2", more=None):
    """A view of a storage."""
    more = (False, ordered()) if more is None else more
    storage = persistent(store, *[None] * legacy) if isinstance(store, Store) else store
    return call(name("torch._utils", function), storage, offset, shape, strides, *more)


def value(x: Any) -> bytes:
    """The opcodes that make a value."""
    if isinstance(x, Opcodes):
        return x
    if x is None or isinstance(x, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[x]
    if isinstance(x, int):
        return _int(x)
    if isinstance(x, float):
        return b"G" + struct.pack(">d", x)
    if isinstance(x, str):
        return b"X" + struct.pack("<I", len(x.encode())) + x.encode()
    if isinstance(x, tuple):
        return b"(" + b"".join(map(value, x)) + b"t" if x else b")"
    if isinstance(x, list):
        return b"]" + (b"(" + b"".join(map(value, x)) + b"e" if x else b"")
    assert isinstance(x, dict)
    return b"}" + _items(x)


def _int(x):
    if 0 <= x < 256:
        return b"K" + bytes([x])
    if -(2**31) <= x < 2**31:
        return b"J" + struct.pack("<i", x)
    size = x.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + x.to_bytes(size, "little", signed=True)


def _items(items):
    flat = b"".join(value(k) + value(v) for k, v in items.items())
    return b"(" + flat + b"u" if items else b""


def pickled(x, protocol=2):
    """A pickle that makes ``x``."""
    return b"\x80" + bytes([protocol]) + value(x) + b"."


def zip_file(pickle, stores, *, root="archive", order="little", packed=(), more=()):
    """A file as since 1.6; the entries named in ``packed`` are deflated."""
    entries = [("data.pkl", pickle), ("byteorder", order.encode() if order else None)]
    entries += [(f"data/{store.key}", store.content) for store in stores]
    entries += [("version", b"3\n"), *more]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for entry, content in entries:
            method = zipfile.ZIP_DEFLATED if entry in packed else zipfile.ZIP_STORED
            if content is not None:
                archive.writestr(f"{root}/{entry}", content, method)
    return file.getvalue()


def legacy_file(pickle, stores, *, magic=MAGIC, protocol=1001, keys=None, counts=None):
    """A file as before 1.6: pickles, then storages, each after its number of elements."""
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2}}
    keys = [store.key for store in stores] if keys is None else keys
    counts = [store.count for store in stores] if counts is None else counts
    parts = [pickled(magic), pickled(protocol), pickled(machine), pickle, pickled(keys)]
    for store, count in zip(stores, counts, strict=True):
        parts += [struct.pack("<q", count), store.content]
    return b"".join(parts)


def state_file(tensors, form="zip"):
    """A state dict of arrays as ``torch.save`` writes it; an array that occurs twice is tied."""
    stores = {}
    for array in tensors.values():
        stores.setdefault(id(array), store_of(array, key=str(len(stores))))
    state = {}
    for key, array in tensors.items():
        view = (0, array.shape, strides_of(array))
        state[key] = tensor(stores[id(array)], *view, form == "legacy")
    write = {"zip": zip_file, "legacy": legacy_file}[form]
    return write(pickled(ordered(state)), [*stores.values()])


@dataclass
class Part:
    """An entry of a zip archive; what is given here is written, true or not."""

    name: bytes
    content: bytes
    method: int = 0
    packed: int | None = None
    size: int | None = None
    crc: int | None = None
    flags: int = 0
    disk: int = 0
    extra: bytes = b""
    offset: int | None = None
    own_name: bytes | None = None  # in the header before the bytes
    own_method: int | None = None
    signature: bytes = b"PK\x03\x04"


def archive(parts, *, end64=False, comment=b"", **lies):
    """A zip archive of parts. ``lies``: disk, first, here, count, size, start of the directory."""
    body, directory = bytearray(), bytearray()
    for part in parts:
        directory += _line(part, len(body))
        body += _header(part) + part.content
    told = {"disk": 0, "first": 0, "here": len(parts), "count": len(parts)}
    told |= {"size": len(directory), "start": len(body)} | lies
    body += directory
    if end64:
        at = len(body)
        body += b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, *told.values())
        body += b"PK\x06\x07" + struct.pack("<IQI", 0, at, 1)
        told |= {"here": 0xFFFF, "count": 0xFFFF, "size": 0xFFFFFFFF, "start": 0xFFFFFFFF}
    body += b"PK\x05\x06" + struct.pack("<HHHHIIH", *told.values(), len(comment)) + comment
    return bytes(body)


def _header(part):
    """What stands before an entry's bytes."""
    name = part.name if part.own_name is None else part.own_name
    method = part.method if part.own_method is None else part.own_method
    fields = (20, part.flags, method, 0, 0, _checksum(part), 0, 0, len(name), 0)
    return part.signature + struct.pack("<HHHHHIIIHH", *fields) + name


def _line(part, place):
    """An entry's line in the directory."""
    offset = place if part.offset is None else part.offset
    packed = len(part.content) if part.packed is None else part.packed
    size = packed if part.size is None else part.size
    fields = (20, 20, part.flags, part.method, 0, 0, _checksum(part), packed, size)
    fields += (len(part.name), len(part.extra), 0, part.disk, 0, 0, offset)
    return b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", *fields) + part.name + part.extra


def _checksum(part):
    return zlib.crc32(part.content) if part.crc is None else part.crc
