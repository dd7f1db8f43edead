"""NumPy's files: ``.npy``, a folder of them, and the zip archive of them that is ``.npz``.

Their headers are read here, by a pattern: NumPy's own reader evaluates them, and would run the
pickles that arrays of objects are. Numbers stay in the file until they are used, unless packed.
The two-byte type without a name (``|V2``) is how JAX's bfloat16 comes out of NumPy.

Source: ``numpy/lib/_format_impl.py``, the format of version 1.0 to 3.0.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy

from refimpl.checkpoints.folder import size_of
from refimpl.checkpoints.pytorch.zip_entries import Entry, read_entries, unpack
from refimpl.errors import CheckpointError
from refimpl.parity.dumps.numbers import NAMES, Numbers, shaped, shown

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 10_000  # characters, as in NumPy
MOST_AXES = 64
ROOM = 256 * 2**20  # bytes that packed arrays may take beyond sixteen times the file

_DESCR = re.compile(r"""["']descr["']\s*:\s*["']([^"']{1,20})["']""")
_ORDER = re.compile(r"""["']fortran_order["']\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""["']shape["']\s*:\s*\(([\d,\s]*)\)""")


def map_file(path: Path) -> numpy.ndarray:
    """Return the bytes of a file, mapped; ``CheckpointError`` where it cannot be read."""
    if size_of(path) == 0:
        raise CheckpointError(f"{path}: the file is empty")
    try:
        return numpy.memmap(path, dtype=numpy.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None


def read_npy(path: Path) -> Numbers:
    """Return the array in a ``.npy`` file; ``CheckpointError`` where there is none."""
    return parse_npy(map_file(path), path)


def read_npz(path: Path) -> dict[str, Numbers]:
    """Return the arrays of an ``.npz`` file by name, in the order in which it holds them.

    Raises ``CheckpointError``, naming the entry, for anything that is no array of numbers, and
    for an archive that unpacks to far more than it is.
    """
    content = map_file(path)
    data = memoryview(content)  # type: ignore[arg-type]  # an array is a buffer
    try:
        entries = read_entries(data)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    packed = sum(entry.size for entry in entries.values() if entry.is_deflated)
    if packed > 16 * content.size + ROOM:
        raise CheckpointError(f"{path}: {content.size} bytes unpack to {packed}: refused")
    ordered = sorted(entries.values(), key=lambda entry: entry.header)
    found: dict[str, Numbers] = {}
    for entry in ordered:
        if not entry.name.endswith(".npy"):
            raise CheckpointError(f"{path}: {shown(entry.name)}: expected arrays only, NAME.npy")
        found[entry.name.removesuffix(".npy")] = _read_entry(data, content, entry, path)
    return found


def _read_entry(data: memoryview, content: numpy.ndarray, entry: Entry, path: Path) -> Numbers:
    try:
        unpacked = unpack(data, entry)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if entry.is_deflated:
        array = numpy.frombuffer(unpacked, numpy.uint8)
    else:
        array = content[entry.start : entry.start + entry.size]
    return parse_npy(array, f"{path}: {shown(entry.name)}")


def read_npy_folder(folder: Path) -> dict[str, Numbers]:
    """Return the arrays of all ``.npy`` files below a folder, in order of their paths.

    The path from the folder, with dots for slashes, is the name: ``layer/0/query.npy`` is
    "layer.0.query". Raises ``CheckpointError``, also where two files have one name.
    """
    found: dict[str, Numbers] = {}
    for path in sorted(folder.rglob("*.npy")):
        name = ".".join(path.relative_to(folder).with_suffix("").parts)
        if name in found:
            raise CheckpointError(f"{path}: a second file for the name {shown(name)}")
        found[name] = read_npy(path)
    return found


def parse_npy(content: numpy.ndarray, where: object) -> Numbers:
    """Return the array in the bytes of a ``.npy`` file, as a view of them.

    Raises ``CheckpointError``, naming ``where``, for what is not exactly one array of numbers.
    """
    head = bytes(content[:12])
    if head[:6] != MAGIC or len(head) < 12 or head[6] not in (1, 2, 3):
        raise CheckpointError(f"{where}: expected a .npy file, it begins with {head[:8]!r}")
    length_form, start = ("<H", 10) if head[6] == 1 else ("<I", 12)
    (length,) = struct.unpack_from(length_form, head, 8)
    if length > LONGEST_HEADER or start + length > content.size:
        raise CheckpointError(f"{where}: a header of {length} bytes in {content.size}")
    text = bytes(content[start : start + length]).decode("utf-8", "replace")
    form, dtype, shape, is_fortran = _parse_header(text, where)
    raw = content[start + length :]
    stored = shape[::-1] if is_fortran else shape
    if form.byteorder == ">":
        raw = _swapped(raw, form.itemsize)
    bits = shaped(raw, dtype, stored, where).bits
    return Numbers(dtype, bits.T if is_fortran else bits)


def _swapped(raw: numpy.ndarray, size: int) -> numpy.ndarray:
    """Return the bytes of big-endian numbers as little-endian; those that are too many as well."""
    whole = raw.size // size * size
    return numpy.concatenate([raw[:whole].reshape(-1, size)[:, ::-1].reshape(-1), raw[whole:]])


def _parse_header(text: str, where: object) -> tuple[numpy.dtype, str, tuple[int, ...], bool]:
    """Return what NumPy reads the bits as, the name of the dtype, the shape, the order of axes."""
    descr, order, shape = (form.search(text) for form in (_DESCR, _ORDER, _SHAPE))
    rest = text
    for match in (descr, order, shape):
        rest = rest.replace(match[0], "", 1) if match else rest
    if descr is None or order is None or shape is None or re.sub(r"[\s,]", "", rest) != "{}":
        raise CheckpointError(f"{where}: expected dtype, order and shape, got {text[:60]!r}")
    if "O" in descr[1]:
        raise CheckpointError(f"{where}: holds Python objects, which are not read from files")
    sizes = [size.strip() for size in shape[1].split(",") if size.strip()]
    if len(sizes) > MOST_AXES or any(not s.isascii() or len(s) > 18 or " " in s for s in sizes):
        raise CheckpointError(f"{where}: shape ({shape[1][:60]}): too many axes, or too long")
    form, dtype = _dtype(descr[1], where)
    return form, dtype, tuple(map(int, sizes)), order[1] == "True"


def _dtype(descr: str, where: object) -> tuple[numpy.dtype, str]:
    if descr[1:] == "V2":
        return numpy.dtype("<u2"), "BF16"
    form = numpy.dtype(descr if re.fullmatch("[<>=|]?(f[248]|[iu][1248]|b1)", descr) else "V1")
    name = NAMES.get(form.newbyteorder("<").str)
    if name is None:
        raise CheckpointError(
            f"{where}: expected one of {', '.join(NAMES.values())}, got {descr!r}"
        )
    return form, name


def npy_bytes(bits: numpy.ndarray) -> bytes:
    """Return an array as the content of a ``.npy`` file, as NumPy 1.x and 2.x write it."""
    header = f"{{'descr': '{bits.dtype.str}', 'fortran_order': False, 'shape': {bits.shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    head = MAGIC + bytes([1, 0]) + struct.pack("<H", len(header))
    return head + header.encode() + bits.tobytes()
