"""Reading a dump of whatever format: what it is shows in its content, not in its name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refimpl.checkpoints.folder import size_of
from refimpl.errors import CheckpointError
from refimpl.parity.dumps.debugger import FULL, find_tree, is_debugger, read_debugger
from refimpl.parity.dumps.description import read_description
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.dumps.json_files import parse_json, read_json_file
from refimpl.parity.dumps.manifest import (
    MANIFEST,
    as_described,
    is_manifest,
    read_manifest_folder,
)
from refimpl.parity.dumps.numbers import Numbers, dump_of, sort_names
from refimpl.parity.dumps.numpy_files import MAGIC, read_npy, read_npy_folder, read_npz
from refimpl.parity.dumps.onnx_files import ENDINGS, read_tensor_file, read_tensor_folder
from refimpl.parity.dumps.own import read_safetensors
from refimpl.parity.dumps.polygraphy import is_polygraphy, read_inputs, read_results
from refimpl.parity.dumps.torch_files import read_torch, read_torch_folder
from refimpl.parity.goldens import read_golden

NPZ_MANIFEST = "manifest.json"  # an array of bytes in the .npz files that we write


def read_dump(path: str | os.PathLike[str]) -> Dump:
    """Read what an implementation computed, from a file or folder of any known format.

    Files: safetensors, ``.npz``, ``.npy``, those of ``torch.save``, Polygraphy's JSON (several
    runners: ``out.json#1``), the JSON of transformers' debugger, an ONNX ``.pb``. Folders: a golden
    case, one that :func:`export_dump` wrote, an ONNX ``test_data_set_N``, of ``.npy`` or ``.pt``
    files, or of the debugger.

    Names stay as they are; those that begin with ``input.``, ``tap.`` or ``output.`` lose that and
    are sorted out, and without it the arguments of a call (``input_ids``) are inputs and all else
    is a tap. bfloat16 comes as float32, and ``about["bfloat16"]`` names it.

    Raises ``CheckpointError``, naming the file and the tensor, for what is missing, broken or of
    another kind. Nothing in a file is run.
    """
    path, part = _with_part(Path(path))
    try:
        if path.is_dir():
            dump = _read_folder(path)
        elif part:
            dump = _read_polygraphy(read_json_file(path), part, path)
        else:
            dump = _read_file(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    if "format" in dump.about and not (dump.inputs or dump.taps or dump.outputs):
        raise CheckpointError(f"{path}: there are no tensors in it")
    return dump


def _with_part(path: Path) -> tuple[Path, str]:
    """Cut ``#PART`` from the end of a path, unless a file has that name."""
    name, _, part = path.name.rpartition("#")
    try:
        is_cut = bool(name) and not path.exists()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    return (path.with_name(name), part) if is_cut else (path, "")


def _read_file(path: Path) -> Dump:
    """Read a file; its first bytes say what it is."""
    size = size_of(path)
    with path.open("rb") as file:
        head = file.read(256)
    header = int.from_bytes(head[:8], "little")
    is_torch = head[:1] == b"\x80" or (head[:2] == b"PK" and b"/data.pkl" in head)
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and header <= size):
        return read_safetensors(path)
    if head[:6] == MAGIC:
        return _foreign({path.stem: read_npy(path)}, "npy", path)
    if is_torch:
        return _foreign(read_torch(path), "torch", path)
    if head[:2] == b"PK":
        return _read_npz(path)
    if head.lstrip()[:1] in (b"{", b"[") and path.suffix not in ENDINGS:
        return _read_json(path)
    if path.suffix in ENDINGS:
        name, numbers = read_tensor_file(path)
        return _foreign({name or path.stem: numbers}, "onnx", path)
    raise CheckpointError(
        f"{path}: expected a dump (safetensors, npz, npy, torch.save, JSON of Polygraphy or of "
        f"transformers' debugger, ONNX .pb), it begins with {head[:8]!r}"
    )


def _foreign(found: Mapping[str, Numbers], form: str, where: Path) -> Dump:
    return dump_of(sort_names(found), {"format": form}, where)


def _read_npz(path: Path) -> Dump:
    """Read an archive of arrays; one of ours describes itself."""
    found = read_npz(path)
    if NPZ_MANIFEST not in found:
        return _foreign(found, "npz", path)
    where = f"{path}: {NPZ_MANIFEST}"
    about, tensors = read_description(
        parse_json(found.pop(NPZ_MANIFEST).bits.tobytes(), where), where
    )
    if {x.file for x in tensors} != set(found):
        raise CheckpointError(f"{path}: does not hold the arrays that it describes")
    described = ((x.kind, x.name, as_described(found[x.file], x, path)) for x in tensors)
    return dump_of(described, about, path)


def _read_json(path: Path) -> Dump:
    value = read_json_file(path)
    if is_debugger(value):
        return read_debugger(value, path)
    if is_polygraphy(value):
        return _read_polygraphy(value, "", path)
    if is_manifest(value):
        if path.name == MANIFEST:
            return read_manifest_folder(path.parent)
        raise CheckpointError(f"{path}: describes a dump; expected the file it stands beside")
    raise CheckpointError(
        f"{path}: expected JSON of Polygraphy (RunResults, or inputs), of transformers' debugger "
        f"(*{FULL}), or a manifest"
    )


def _read_polygraphy(value: Any, part: str, path: Path) -> Dump:
    if isinstance(value, list):
        inputs = read_inputs(value, part, path)
        found = (("input", name.removeprefix("input."), x) for name, x in inputs.items())
        return dump_of(found, {"format": "polygraphy"}, path)
    if not is_polygraphy(value):
        raise CheckpointError(f"{path}: expected JSON of Polygraphy before #{part}")
    outputs, runner = read_results(value, part, path)
    return dump_of(sort_names(outputs), {"format": "polygraphy", "made_by": runner}, path)


def _read_folder(folder: Path) -> Dump:
    """Read a folder by the files that are in it."""
    if (folder / "golden.json").exists():
        return _read_golden(folder)
    if (folder / MANIFEST).exists() and is_manifest(read_json_file(folder / MANIFEST)):
        return read_manifest_folder(folder)
    tree = find_tree(folder)
    if tree is not None:
        return read_debugger(read_json_file(tree), tree)
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if any(path.suffix in ENDINGS for path in files):
        return dump_of(read_tensor_folder(folder), {"format": "onnx"}, folder)
    sets = sorted(path for path in files if path.name.startswith("test_data_set_"))
    if len(sets) == 1:
        return _read_folder(sets[0])
    if sets:
        known = ", ".join(path.name for path in sets[:20])
        raise CheckpointError(f"{folder}: expected one of its test data sets: {known}")
    for form, read in (("npy", read_npy_folder), ("torch", read_torch_folder)):
        arrays = read(folder)
        if arrays:
            return _foreign(arrays, form, folder)
    raise CheckpointError(
        f"{folder}: expected a golden case, {MANIFEST}, .npy or .pt files, ONNX input_K.pb and "
        f"output_K.pb, or *{FULL}; found none of them"
    )


def _read_golden(folder: Path) -> Dump:
    """Return a golden's truth, in float64."""
    golden = read_golden(folder)
    about = {
        "made_by": golden.description["made_by"]["implementation"],
        "architecture": golden.description["architecture"],
        "dtype": "float64",
        "flags": golden.description["flags"],
    }
    return Dump(golden.part("tap"), golden.part("output"), golden.part("input"), about)
