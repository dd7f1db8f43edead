"""The wire format: by hand, round trips, and every way in which bytes can fail to be a message."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.tokenizers.xlm_roberta import protobuf
from refimpl.tokenizers.xlm_roberta.protobuf import (
    FIXED32,
    FIXED64,
    field,
    fields,
    read_varint,
    write_varint,
)

numbers = st.integers(1, 2**29 - 1)
values = st.one_of(
    st.integers(0, 2**64 - 1).map(lambda value: (value, None)),
    st.binary(max_size=300).map(lambda value: (value, None)),
    st.binary(min_size=4, max_size=4).map(lambda value: (value, FIXED32)),
    st.binary(min_size=8, max_size=8).map(lambda value: (value, FIXED64)),
)


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(protobuf)
    assert (failed, tried > 3) == (0, True)


@given(st.lists(st.tuples(numbers, values), max_size=8))
def test_fields_come_back_as_they_were_written(rows):
    message = b"".join(field(number, value, wire) for number, (value, wire) in rows)
    assert list(fields(message)) == [(number, value) for number, (value, _) in rows]


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_a_varint_ends_where_it_ends(value, before):
    data = before + write_varint(value)
    assert read_varint(data + b"\xff", len(before)) == (value, len(data))


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"\x0a", "no varint at byte 1 of 1"),  # a key, and nothing
        (b"\x0a\x05abcd", "5 bytes announced at byte 2 of 6"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + b"a" * 99, "9223372036854775807 bytes"),
        (b"\x15abc", "4 bytes announced at byte 1 of 4"),
        (b"\x11abcdefg", "8 bytes announced at byte 1 of 8"),
        (b"\x18\x80", "no varint at byte 1 of 2"),
        (b"\x18" + b"\x80" * 10 + b"\x00", "no varint at byte 1"),  # eleven bytes
        (b"\x18" + b"\xff" * 9 + b"\x02", "no varint at byte 1"),  # 65 bits
        (b"\x80" * 20, "no varint at byte 0"),
        (b"\x00\x00", "a field of number 0 before byte 1"),
        (b"\x02\x00", "a field of number 0"),
        (b"\x0b\x0c", "unknown wire type 3 before byte 1"),
        (b"\x0c", "wire type 4"),
        (b"\x0e", "wire type 6"),
        (b"\x0f", "wire type 7"),
    ],
)
def test_what_is_no_message(message, error):
    with pytest.raises(ValueError, match=error):
        list(fields(message))


def test_the_largest_number_is_one():
    assert list(fields(b"\x18" + b"\xff" * 9 + b"\x01")) == [(3, 2**64 - 1)]


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error(data):
    try:
        found = list(fields(data))
    except ValueError:
        return
    assert sum(len(value) for _, value in found if isinstance(value, bytes)) <= len(data)
