"""Zip archives, true ones and ones that lie: in the directory, in an entry, in the packed bytes."""

import io
import struct
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.checkpoints.pytorch import zip_entries
from refimpl.checkpoints.pytorch.zip_entries import read_entries, unpack
from refimpl.errors import CheckpointError
from tests.checkpoints.torch_bytes import Part, archive

TWO = (Part(b"a/b", b"first"), Part(b"a/c", b"second one"))


def read(data):
    """Return what every entry holds, by name."""
    view = memoryview(data)
    return {name: bytes(unpack(view, entry)) for name, entry in read_entries(view).items()}


def refuse(data, match):
    with pytest.raises(CheckpointError, match=match) as caught:
        read(data)
    assert str(caught.value).startswith("zip: ")


def deflated(content):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def test_what_an_archive_holds():
    assert read(archive(TWO)) == {"a/b": b"first", "a/c": b"second one"}
    assert read(archive([])) == {}


def test_with_a_comment():
    assert read(archive(TWO, comment=b"PK\5 hello")) == read(archive(TWO))


def test_large_archives():
    """Where sizes need 64 bits, as PyTorch always writes the end of the directory."""
    assert read(archive(TWO, end64=True)) == read(archive(TWO))
    extra = struct.pack("<HH4sHHQQ", 99, 4, b"skip", 1, 16, 5, 0)
    part = Part(b"a/b", b"first", packed=0xFFFFFFFF, size=5, offset=0xFFFFFFFF, extra=extra)
    assert read(archive([part, TWO[1]], end64=True)) == read(archive(TWO))


@given(
    contents=st.dictionaries(st.text(min_size=1, max_size=9), st.binary(max_size=300)),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_what_zipfile_writes_is_read(contents, method):
    contents = {name.replace("\0", "0"): content for name, content in contents.items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in contents.items():
            made.writestr(zipfile.ZipInfo(name), content, method)
    assert read(file.getvalue()) == contents


def test_a_checksum_that_was_not_computed():
    assert read(archive([Part(b"a", b"first", crc=0)])) == {"a": b"first"}
    refuse(archive([Part(b"a", b"first", crc=1)]), "'a': its checksum is another")


LIES = {
    "no such disk": (archive(TWO, disk=1), "one of several volumes"),
    "the first disk": (archive(TWO, first=1), "one of several volumes"),
    "entries elsewhere": (archive(TWO, here=1), "one of several volumes"),
    "too many entries": (archive(TWO, here=3, count=3), "cut short|a directory of"),
    "too few entries": (archive(TWO, here=1, count=1), "more in the directory than its entries"),
    "no entries": (archive(TWO, here=0, count=0), "more in the directory"),
    "all entries": (archive(TWO, here=65535, count=65535), "a directory of 65535"),
    "a far directory": (archive(TWO, start=2**31), "a directory of 2 entries"),
    "an early directory": (archive(TWO, start=0), "a directory of 2 entries"),
    "a large directory": (archive(TWO, size=2**31), "a directory of 2 entries"),
    "a small directory": (archive(TWO, size=47), "a directory of 2 entries"),
    "a small large one": (archive(TWO, size=94), "a directory of 2 entries"),
    "far, 64 bits": (archive(TWO, start=2**63, end64=True), "a directory of 2 entries"),
    "many, 64 bits": (archive(TWO, here=2**60, count=2**60, end64=True), "a directory of"),
    "something behind": (archive(TWO) + b"\0", "bytes follow the end|no end of the directory"),
    "a comment cut short": (archive(TWO, comment=b"abc")[:-1], "bytes follow the end"),
    "one name twice": (archive([TWO[0], TWO[0]]), "two entries of the name 'a/b'"),
    "one place twice": (archive([TWO[0], Part(b"a/c", b"", own_name=b"", offset=0)]), "agree"),
    "over another": (
        archive([Part(b"a", b"PK\3\4" + bytes(40)), Part(b"", b"", offset=31)]), "lies over"
    ),
    "another name": (archive([Part(b"a", b"x", own_name=b"b")]), "'a': directory and entry do not"),
    "a longer name": (archive([Part(b"a", b"x", own_name=b"ab")]), "do not agree"),
    "another method": (archive([Part(b"a", b"x", own_method=8)]), "do not agree"),
    "no header": (archive([Part(b"a", b"x", signature=b"PK\7\7")]), "expected b'PK.x03.x04'"),
    "a far header": (archive([Part(b"a", b"x", offset=2**31)]), "cut short at byte 2147483648"),
    "encrypted": (archive([Part(b"a", b"x", flags=1)]), "'a': encrypted"),
    "another disk": (archive([Part(b"a", b"x", disk=3)]), "'a': encrypted"),
    "bzip2": (archive([Part(b"a", b"x", method=12)]), "packed by method 12"),
    "larger than packed": (archive([Part(b"a", b"x", size=2)]), "1 bytes from 31 on, 2 unpacked"),
    "too large": (archive([Part(b"a", b"x", packed=2**31)]), "2147483648 bytes from 31 on"),
    "64 bits that are not there": (archive([Part(b"a", b"x", packed=2**32 - 1)]), "64 bits"),
    "64 bits that are too few": (
        archive([Part(b"a", b"x", packed=2**32 - 1, extra=b"\1\0\x08\0abc")]), "64 bits"
    ),
    "64 bits that lie": (
        archive([Part(b"a", b"x", packed=2**32 - 1, extra=b"\1\0\x10\0" + b"\xff" * 16)]),
        "18446744073709551615 bytes",
    ),
    "a name that is no text": (archive([Part(b"\xff", b"x")]), "a name that is not UTF-8"),
    "no deflate": (archive([Part(b"a", b"\xff" * 9, method=8)]), "'a': cannot be unpacked"),
    "deflate cut short": (
        archive([Part(b"a", deflated(bytes(99))[:-1], method=8, size=99, crc=0)]), "expected 99"
    ),
    "deflate of more": (
        archive([Part(b"a", deflated(bytes(99)), method=8, size=98, crc=0)]), "expected 98 bytes"
    ),
    "deflate of less": (
        archive([Part(b"a", deflated(bytes(99)), method=8, size=100, crc=0)]), "expected 100 bytes"
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_an_archive_that_lies(lie):
    refuse(*LIES[lie])


def test_cut_anywhere():
    for whole in (archive(TWO), archive(TWO, end64=True)):
        for length in range(len(whole)):
            refuse(whole[:length], "zip: ")


def test_more_entries_than_a_file_of_tensors_has(monkeypatch):
    monkeypatch.setattr(zip_entries, "MOST_ENTRIES", 1)
    refuse(archive(TWO), "a directory of 2 entries")


@given(st.binary(max_size=200))
def test_random_bytes(data):
    refuse(b"PK\3\4" + data, "zip: ")
