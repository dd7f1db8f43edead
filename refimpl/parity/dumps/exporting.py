"""Writing a dump in the formats that other programs read: nothing of it is lost on the way.

Each export holds a manifest (``manifest.json``) with the order, the names, the shapes, the dtypes
and who made the dump, so that it reads back as it was, whatever the format has a place for.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy

from refimpl.checkpoints.writing import new_folder
from refimpl.parity.dumps.description import describe
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.dumps.manifest import MANIFEST
from refimpl.parity.dumps.numbers import Numbers, all_numbers
from refimpl.parity.dumps.numpy_files import npy_bytes
from refimpl.parity.dumps.onnx_files import tensor_bytes
from refimpl.parity.dumps.own import new_file, write_dump
from refimpl.parity.dumps.polygraphy import inputs_bytes, results_bytes
from refimpl.parity.dumps.reading import NPZ_MANIFEST

Found = list[tuple[str, str, Numbers]]  # kind, name, numbers
Files = Mapping[str, Callable[[], bytes]]  # path in the folder -> content

LONGEST = 180  # characters of a file's name


def export_dump(dump: Dump, dest: str | os.PathLike[str], format: str) -> None:
    """Write ``dump`` to ``dest`` in a format of other programs.

    "safetensors" and "npz" are one file, which is replaced if it is there; "npy", "onnx", "raw"
    and "polygraphy" are a folder, which must be new or empty. It is there whole or not at all, and
    ``read_dump`` gives back the same numbers, names and order. bfloat16, which NumPy lacks, is
    uint16 in the formats of NumPy and Polygraphy; the manifest says so.

    Raises ``ValueError`` for an unknown format and for what files cannot hold, ``TypeError`` for
    arrays of other things than numbers, ``CheckpointError`` where it cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    FORMATS[format](dump, Path(dest))


def _export_npz(dump: Dump, dest: Path) -> None:
    found = list(all_numbers(dump))
    names = _file_names(found, lambda kind, name: f"{kind}.{name}")
    text = json.dumps(describe(found, dump.about, names)).encode()
    arrays = {NPZ_MANIFEST: numpy.frombuffer(text, numpy.uint8)}
    arrays |= {name: numbers.bits for name, (_, _, numbers) in zip(names, found, strict=True)}
    with new_file(dest) as path, zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # Of no date: the same dump is the same file.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                entry.write(npy_bytes(array))


def _export_npy(dump: Dump, dest: Path) -> None:
    found = list(all_numbers(dump))
    names = [f"{x}.npy" for x in _file_names(found, lambda kind, name: f"{kind}/{name}")]
    _write_folder(dump, dest, found, names, _contents(names, found, npy_bytes))


def _export_raw(dump: Dump, dest: Path) -> None:
    found = list(all_numbers(dump))
    names = [f"{x}.bin" for x in _file_names(found, lambda kind, name: f"{kind}.{name}")]
    _write_folder(dump, dest, found, names, _contents(names, found, lambda bits: bits.tobytes()))


def _export_onnx(dump: Dump, dest: Path) -> None:
    found = list(all_numbers(dump))
    counts = dict.fromkeys(("input", "tap", "output"), 0)
    names, files = [], {}
    for kind, name, numbers in found:
        names.append(f"{kind}_{counts[kind]}.pb")
        counts[kind] += 1
        files[names[-1]] = _of_onnx(name, numbers)
    _write_folder(dump, dest, found, names, files)


def _of_onnx(name: str, numbers: Numbers) -> Callable[[], bytes]:
    return lambda: tensor_bytes(name, numbers)


def _export_polygraphy(dump: Dump, dest: Path) -> None:
    found = list(all_numbers(dump))
    inputs: dict[str, numpy.ndarray] = {}
    results: dict[str, numpy.ndarray] = {}
    names = []
    for kind, name, numbers in found:
        file, arrays = ("inputs.json", inputs) if kind == "input" else ("outputs.json", results)
        key = name if name not in arrays else f"{kind}.{name}"  # a tap may be called as an output
        while key in arrays:
            key += "'"
        arrays[key] = numbers.bits
        names.append(f"{file}#{key}")
    runner = str(dump.about.get("made_by", "refimpl"))
    files = {
        "inputs.json": lambda: inputs_bytes(inputs),
        "outputs.json": lambda: results_bytes(results, runner),
    }
    _write_folder(dump, dest, found, names, files)


def _contents(
    names: list[str], found: Found, content: Callable[[numpy.ndarray], bytes]
) -> dict[str, Callable[[], bytes]]:
    """Return files and what is in each, made when it is written."""

    def of(numbers: Numbers) -> Callable[[], bytes]:
        return lambda: content(numbers.bits)

    return {name: of(numbers) for name, (_, _, numbers) in zip(names, found, strict=True)}


def _write_folder(dump: Dump, dest: Path, found: Found, names: list[str], files: Files) -> None:
    text = json.dumps(describe(found, dump.about, names), indent=1) + "\n"
    with new_folder(dest) as folder:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content())
        (folder / MANIFEST).write_text(text, encoding="utf-8")


def _file_names(found: Found, place: Callable[[str, str], str]) -> list[str]:
    """Return for each tensor a name that every system takes: its own, where it can be."""
    taken: set[str] = set()
    names = []
    for i, (kind, name, _) in enumerate(found):
        own = place(kind, name)
        is_plain = re.fullmatch(r"[\w+-][\w.+-]*", name, re.ASCII) and len(name) < LONGEST
        if not is_plain or name.endswith(".") or own.lower() in taken:
            own = place(kind, f"{i:04}")
            while own.lower() in taken:
                own += "_"
        taken.add(own.lower())
        names.append(own)
    return names


FORMATS: dict[str, Callable[[Dump, Path], None]] = {
    "safetensors": lambda dump, dest: write_dump(dest, dump),
    "npz": _export_npz,
    "npy": _export_npy,
    "onnx": _export_onnx,
    "raw": _export_raw,
    "polygraphy": _export_polygraphy,
}
