"""Our own dumps: one safetensors file, and beside it the same description as a JSON file.

Tensors are called ``input.NAME``, ``tap.NAME`` and ``output.NAME``, as in the golden files; the
metadata ``refimpl_dump`` holds the description. The file is there whole or not at all.

Source of the layout: the format description in the safetensors README.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from refimpl.checkpoints.safetensors_file import SafetensorsFile
from refimpl.checkpoints.writing import Pending, write_safetensors
from refimpl.errors import CheckpointError
from refimpl.parity.dumps.description import Described, describe, read_description
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.dumps.numbers import Numbers, all_numbers, dump_of, sort_names

METADATA = "refimpl_dump"


def list_dump(dump: Dump) -> dict[str, Any]:
    """Return a dump's description: who made it, and all tensors in order, without their numbers.

    It is what stands in ``DUMP.json``: see :mod:`refimpl.parity.dumps.description`.
    """
    return describe(list(all_numbers(dump)), dump.about)


def write_dump(path: str | os.PathLike[str], dump: Dump) -> None:
    """Write a dump to the safetensors file ``path``, and its description to ``path``.json.

    For ``DUMP.safetensors`` the description is ``DUMP.json``. Files that are there are replaced.

    Raises ``CheckpointError`` where it cannot be written, ``TypeError`` and ``ValueError`` for
    arrays and an ``about`` that files cannot hold.
    """
    path = Path(path)
    found = list(all_numbers(dump))
    description = describe(found, dump.about)
    tensors = {f"{kind}.{name}": _pending(numbers) for kind, name, numbers in found}
    text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
    with new_file(path) as whole, new_file(beside(path)) as listing:
        for _ in write_safetensors(whole, tensors, {METADATA: json.dumps(description)}):
            pass
        listing.write_text(text, encoding="utf-8")


def beside(path: Path) -> Path:
    """Return where the description of a dump's file stands.

    >>> beside(Path("runs/mine.safetensors")).as_posix(), beside(Path("mine")).as_posix()
    ('runs/mine.json', 'mine.json')
    """
    return path.with_name(path.name.removesuffix(".safetensors") + ".json")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give the path of a hidden file to fill, which becomes ``path`` when all went well.

    Raises ``CheckpointError``, naming ``path``, where the system cannot write it, and where a
    folder has that name, a pipe, or a device: /dev/null would be gone.
    """
    if not path.name:
        raise CheckpointError(f"{str(path)!r}: expected the name of a file")
    partial = path.with_name(f".{path.name}.{token_hex(4)}.partial")
    try:
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "a pipe or a device"
            raise CheckpointError(f"{path}: expected the name of a file, it is {what}")
        yield partial
        partial.replace(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # it is gone, or never was
            partial.unlink()


def _pending(numbers: Numbers) -> Pending:
    return Pending(numbers.dtype, numbers.bits.shape, lambda: numbers.bits)


def read_safetensors(path: Path) -> Dump:
    """Read a dump from a safetensors file: our own, or tensors of anyone's.

    Raises ``CheckpointError`` for a file that is missing, broken or not as it describes itself.
    """
    file = SafetensorsFile(path)
    if METADATA not in file.metadata:
        every = {name: _numbers(file, name) for name in file}
        return dump_of(sort_names(every), {"format": "safetensors", **file.metadata}, path)
    try:
        value = json.loads(file.metadata[METADATA])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {METADATA}: expected JSON: {error}") from None
    about, tensors = read_description(value, f"{path}: {METADATA}")
    if {x.full_name: (x.dtype, x.shape) for x in tensors} != {
        name: (file.dtype(name), file.shape(name)) for name in file
    }:
        raise CheckpointError(f"{path}: does not hold the tensors that it describes")
    return dump_of(_described(file, tensors), about, path)


def _described(
    file: SafetensorsFile, tensors: list[Described]
) -> Iterator[tuple[str, str, Numbers]]:
    for x in tensors:
        yield x.kind, x.name, _numbers(file, x.full_name)


def _numbers(file: SafetensorsFile, name: str) -> Numbers:
    return Numbers(file.dtype(name), file.stored(name))
