"""The protocol buffer wire format, as far as a SentencePiece model file uses it.

A message is a row of fields, each a key and a value. The key holds the field's number and says how
the value is written: as a varint, as 8 or 4 bytes, or as a length and that many bytes (a string,
or a message again). Which number means what stands in a schema, not in the file.

Source: https://protobuf.dev/programming-guides/encoding/.
Differs: groups, which were given up before SentencePiece was written, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
SIZES = {FIXED64: 8, FIXED32: 4}
LONGEST_VARINT = 10  # bytes: 64 bits, seven to a byte


def fields(message: bytes, besides: int = 0) -> Iterator[tuple[int, int | bytes]]:
    """Give the number and the value of each field of a message, in order.

    >>> list(fields(bytes([1 << 3 | LENGTH, 2, 104, 105, 3 << 3 | VARINT, 0x81, 0x02])))
    [(1, b'hi'), (3, 257)]

    Strings of the field ``besides`` may be passed over, which is faster. A varint's value is an
    int, any other a bytes. Nothing is copied before it is known to be there.
    Raises ``ValueError`` where the bytes are no message.
    """
    at, end = 0, len(message)
    while (at := pass_over(message, at, besides) if besides else at) < end:
        key, at = read_varint(message, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError(f"a field of number 0 before byte {at}")
        if wire == VARINT:
            value, at = read_varint(message, at)
            yield number, value
            continue
        if wire == LENGTH:
            size, at = read_varint(message, at)
        elif wire in SIZES:
            size = SIZES[wire]
        else:
            raise ValueError(f"a field of the unknown wire type {wire} before byte {at}")
        if size > end - at:
            raise ValueError(f"{size} bytes announced at byte {at} of {end}")
        yield number, message[at : at + size]
        at += size


def pass_over(message: bytes, at: int, number: int) -> int:
    """Return where the strings of one field, each shorter than 128 bytes, end that begin at ``at``.

    Raises ``ValueError`` where the last is cut short.
    """
    key, end = number << 3 | LENGTH, len(message)
    while at + 1 < end and message[at] == key and message[at + 1] < 0x80:
        at += 2 + message[at + 1]
    if at > end:
        raise ValueError(f"a string that ends at byte {at} of {end}")
    return at


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at a byte, seven bits to a byte, and where it ends.

    >>> read_varint(bytes([0b1000_0001, 0b0000_0010]), 0)
    (257, 2)

    Raises ``ValueError`` for one that is cut short or has more than 64 bits.
    """
    if at < len(message) and message[at] < 0x80:  # nearly all of them
        return message[at], at + 1
    value = 0
    for i, byte in enumerate(message[at : at + LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80 and value < 1 << 64:
            return value, at + i + 1
    raise ValueError(f"no varint at byte {at} of {len(message)}")


def write_varint(value: int) -> bytes:
    r"""Return a number from 0 to 2**64 - 1 as :func:`read_varint` reads it.

    >>> write_varint(257)
    b'\x81\x02'
    """
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def field(number: int, value: int | bytes, wire: int | None = None) -> bytes:
    r"""Return one field as bytes: an int as a varint, bytes with their length before them.

    >>> field(1, b"hi") + field(3, 257)
    b'\n\x02hi\x18\x81\x02'

    ``wire`` FIXED32 or FIXED64 writes bytes, 4 or 8, without a length.
    """
    if isinstance(value, int):
        return write_varint(number << 3 | VARINT) + write_varint(value)
    if wire in SIZES:
        return write_varint(number << 3 | wire) + value
    return write_varint(number << 3 | LENGTH) + write_varint(len(value)) + value
