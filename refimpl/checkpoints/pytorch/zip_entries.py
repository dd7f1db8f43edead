"""Where the entries of a zip archive lie in its file, checked against each other.

Python's zipfile believes the directory at the end of an archive; what stands before each entry may
say something else, entries may lie one over the other, and it makes an object of every line,
however many there are. Files of tensors need little of the format: entries in one file, stored as
they are or deflated.

Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.4.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

from refimpl.errors import CheckpointError

MOST_ENTRIES = 2**15  # a storage each: some ten times those of the largest checkpoints

# What follows the signature in: the end of the directory, the same for large archives, where that
# one lies, an entry of the directory, the header before an entry's bytes.
_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_HEADER = struct.Struct("<4sHHHHHIIIHH")

_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1
_SEE_EXTRA = 0xFFFFFFFF  # a size that needs 64 bits stands in the extra field


class Entry(NamedTuple):
    """One file of an archive."""

    name: str
    start: int  # of its bytes, as they are in the archive
    packed: int  # how many there are
    size: int  # how many they are when unpacked
    crc: int
    is_deflated: bool
    header: int  # where the entry begins


def read_entries(data: memoryview) -> dict[str, Entry]:
    """Return the entries of an archive by name.

    Raises ``CheckpointError`` for an archive that is broken, contradicts itself, has two entries
    of one name or at one place, or is of a kind that files of tensors are not (encrypted, in
    several volumes, packed by another method).
    """
    count, start, size, limit = _directory(data)
    if count > MOST_ENTRIES or start + size != limit or size < count * _ENTRY.size:
        raise CheckpointError(f"zip: a directory of {count} entries, {size} bytes from {start} on")
    entries: dict[str, Entry] = {}
    at = start
    for _ in range(count):
        entry, at = _read_entry(data[: start + size], at, start)
        if entry.name in entries:
            raise CheckpointError(f"zip: two entries of the name {entry.name!r}")
        entries[entry.name] = entry
    if at != start + size:
        raise CheckpointError("zip: more in the directory than its entries")
    _refuse_overlaps(entries)
    return entries


def unpack(data: memoryview, entry: Entry) -> memoryview:
    """Return the bytes of an entry, unpacked; ``CheckpointError`` if they are not what it says."""
    content = data[entry.start : entry.start + entry.packed]
    if entry.is_deflated:
        content = _inflated(content, entry)
    # PyTorch writes 0 where it was told not to compute the checksum.
    if entry.crc not in (0, zlib.crc32(content)):
        raise CheckpointError(f"zip: {entry.name!r}: its checksum is another")
    return content


def _inflated(packed: memoryview, entry: Entry) -> memoryview:
    """Inflate to the size that the entry says and not one byte more."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(packed, entry.size + 1)
    except zlib.error as error:
        raise CheckpointError(f"zip: {entry.name!r}: cannot be unpacked: {error}") from None
    if len(content) != entry.size or not inflater.eof:
        raise CheckpointError(f"zip: {entry.name!r}: expected {entry.size} bytes when unpacked")
    return memoryview(content)


def _fields(form: struct.Struct, data: memoryview, at: int, signature: bytes) -> tuple[Any, ...]:
    """Return what follows a signature."""
    if at < 0 or at + form.size > len(data):
        raise CheckpointError(f"zip: cut short at byte {at}")
    found, *fields = form.unpack_from(data, at)
    if found != signature:
        raise CheckpointError(f"zip: expected {signature!r} at byte {at}, found {found!r}")
    return tuple(fields)


def _directory(data: memoryview) -> tuple[int, int, int, int]:
    """Return the directory's number of entries, first byte, size, and where it must end."""
    tail = bytes(data[-(_END.size + 0xFFFF) :])
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise CheckpointError("zip: no end of the directory: the file may be cut short")
    at += len(data) - len(tail)
    disk, first_disk, here, count, size, start, comment = _fields(_END, data, at, b"PK\x05\x06")
    if at + _END.size + comment != len(data):
        raise CheckpointError("zip: bytes follow the end of the directory")
    limit = at
    if bytes(data[max(at - _LOCATOR.size, 0) : at])[:4] == b"PK\x06\x07":
        disk64, limit, disks = _fields(_LOCATOR, data, at - _LOCATOR.size, b"PK\x06\x07")
        _, _, _, disk, first_disk, here, count, size, start = _fields(
            _END64, data, limit, b"PK\x06\x06"
        )
        disk = disk or disk64 or disks > 1
    if disk or first_disk or here != count:
        raise CheckpointError("zip: one of several volumes")
    return count, start, size, limit


def _read_entry(data: memoryview, at: int, limit: int) -> tuple[Entry, int]:
    """Return the entry whose line of the directory is at ``at``, and where the next line is."""
    (_, _, flags, method, _, _, crc, packed, size, name_length, extra_length, comment_length, disk,
     _, _, header) = _fields(_ENTRY, data, at, b"PK\x01\x02")  # fmt: skip
    name_end = at + _ENTRY.size + name_length
    extra_end = name_end + extra_length
    raw_name = bytes(data[at + _ENTRY.size : name_end])
    if extra_end + comment_length > len(data):
        raise CheckpointError(f"zip: cut short at byte {at}")
    try:
        name = raw_name.decode("utf-8")
    except UnicodeDecodeError:
        raise CheckpointError(f"zip: a name that is not UTF-8: {raw_name[:40]!r}") from None
    size, packed, header = _sizes64(bytes(data[name_end:extra_end]), [size, packed, header])
    if flags & _ENCRYPTED or disk or method not in (_STORED, _DEFLATED):
        raise CheckpointError(f"zip: {name!r}: encrypted, or packed by method {method}")
    start = _start_of(data, header, raw_name, method)
    if start + packed > limit or (method == _STORED and packed != size):
        raise CheckpointError(f"zip: {name!r}: {packed} bytes from {start} on, {size} unpacked")
    entry = Entry(name, start, packed, size, crc, method == _DEFLATED, header)
    return entry, extra_end + comment_length


def _sizes64(extra: bytes, sizes: list[int]) -> list[int]:
    """Return sizes, those that need 64 bits from the extra field of kind 1."""
    fields = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            fields = extra[4 : 4 + length]
        extra = extra[4 + length :]
    wide = [i for i, size in enumerate(sizes) if size == _SEE_EXTRA]
    if len(fields) < 8 * len(wide):
        raise CheckpointError("zip: expected a size of 64 bits in an extra field")
    for place, i in enumerate(wide):
        sizes[i] = struct.unpack_from("<Q", fields, 8 * place)[0]
    return sizes


def _start_of(data: memoryview, header: int, raw_name: bytes, method: int) -> int:
    """Return where an entry's bytes begin: after its header, which must agree."""
    fields = _fields(_HEADER, data, header, b"PK\x03\x04")
    own_method, name_length, extra_length = fields[2], int(fields[8]), int(fields[9])
    name_end = header + _HEADER.size + name_length
    if bytes(data[header + _HEADER.size : name_end]) != raw_name or own_method != method:
        raise CheckpointError(f"zip: {raw_name[:40]!r}: directory and entry do not agree")
    return name_end + extra_length


def _refuse_overlaps(entries: dict[str, Entry]) -> None:
    """Entries that lie one over the other are how a small archive unpacks to a huge one."""
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: entry.header):
        if entry.header < end:
            raise CheckpointError(f"zip: {entry.name!r} lies over another entry")
        end = entry.start + entry.packed
