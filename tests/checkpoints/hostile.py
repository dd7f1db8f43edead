"""Checkpoints that are broken on purpose, at random: from a format and a seed to broken files.

``FORMATS`` is a list; what is added to it is broken and judged like the rest. A format is a folder
of true files, a way to read them, and a witness: other code that reads the same. Whatever refimpl
makes of broken files must be a ``CheckpointError``, or what the witness reads of them, or where
the witness gives up, the true numbers but for the bytes that were changed.
"""

import json
import pickle
import pickletools
import random
import re
import shutil
import struct
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from refimpl.checkpoints.folder import INDEX, SINGLE, TORCH_INDEX, TORCH_SINGLE, open_tensors
from refimpl.errors import CheckpointError
from refimpl.models.model import load
from refimpl.parity.goldens import bundled
from tests.checkpoints import torch_bytes as torch

Files = dict[str, bytes]
Arrays = dict[str, numpy.ndarray]


@dataclass(frozen=True)
class Format:
    """A kind of checkpoint."""

    name: str
    parts: Files  # what is broken: files of the folder, or what ``wrap`` makes them of
    read: Callable[[Path], Arrays]  # refimpl's reading of a folder
    witness: Callable[[Path], Arrays]  # another's
    wrap: Callable[[Files], Files] = dict


@dataclass(frozen=True)
class Corruption:
    """Broken files, and what was done to them."""

    files: Files
    how: str
    changed: int | None  # bytes that are others, where none were added or taken away


# --- true files -----------------------------------------------------------------------------------

DRAW = numpy.random.default_rng(7)
ARRAYS: Arrays = {
    "embeddings.weight": DRAW.standard_normal((37, 11)).astype("f4"),
    "embeddings.position_ids": numpy.arange(4),
    "layer.0.bias": DRAW.standard_normal(3),
    "layer.0.half": DRAW.standard_normal((2, 2)).astype("f2"),
    "mask": numpy.asarray([True, False, True]),
    "none": numpy.zeros((0, 3), "f4"),
    "scale": numpy.asarray(0.5, "f4"),
}
FIRST, SECOND = (dict([*ARRAYS.items()][part]) for part in (slice(0, 4), slice(4, None)))
DTYPES = {"<f8": "F64", "<f4": "F32", "<f2": "F16", "<i8": "I64", "|b1": "BOOL"}


def safetensors_header(arrays):
    entries, end = {}, 0
    for name, x in arrays.items():
        start, end = end, end + x.nbytes
        entries[name] = {"dtype": DTYPES[x.dtype.str], "shape": x.shape}
        entries[name]["data_offsets"] = [start, end]
    return json.dumps(entries).encode()


def safetensors_file(arrays, header=None):
    header = safetensors_header(arrays) if header is None else header
    data = b"".join(x.tobytes() for x in arrays.values())
    return struct.pack("<Q", len(header)) + header + data


VIEWS = {
    "tied": (0, (37, 11), (11, 1)), "turned": (0, (11, 37), (1, 11)), "part": (1, (5, 3), (22, 1)),
    "repeated": (2, (4, 2), (0, 3)), "one": (7, (1,), (2**40,)),
}  # fmt: skip


def torch_state(arrays, legacy=False):
    """A pickle of arrays, of views of the first, and of a bfloat16; and its storages."""
    stores = [torch.store_of(x, str(10 + i)) for i, x in enumerate(arrays.values())]
    stores.append(torch.Store("99", "BFloat16Storage", 3, b"\xc0\x3f\x00\xc0\x80\x7f"))
    places = {name: (0, x.shape, torch.strides_of(x)) for name, x in arrays.items()}
    places["narrow"] = (0, (3,), (1,))
    state = {
        name: torch.tensor(store, *place, legacy)
        for (name, place), store in zip(places.items(), stores, strict=True)
    }
    if "embeddings.weight" in arrays:
        state |= {n: torch.tensor(stores[0], *place, legacy) for n, place in VIEWS.items()}
    attributes = torch.value({"_metadata": torch.ordered({"": {"version": 1}})})
    return torch.pickled(torch.Opcodes(torch.ordered(state) + attributes + b"b")), stores


def torch_file(arrays, packed=()):
    return torch.zip_file(*torch_state(arrays), packed=packed)


def torch_around(parts):
    """A file around a pickle, broken or not, all of its checksums right."""
    return {TORCH_SINGLE: torch.zip_file(parts["data.pkl"], torch_state(ARRAYS)[1])}


def in_shards(write, ending, index):
    """Two files of ``write``, and the index that names them."""
    files = [f"weights-{i}.{ending}" for i in (1, 2)]
    weight_map = dict.fromkeys(FIRST, files[0]) | dict.fromkeys(SECOND, files[1])
    text = json.dumps({"metadata": {"total_size": 99}, "weight_map": weight_map})
    return {files[0]: write(FIRST), files[1]: write(SECOND), index: text.encode()}


# --- reading --------------------------------------------------------------------------------------


def read_folder(folder):
    """Everything in a folder as it is stored. All of it is converted too."""
    tensors = open_tensors(folder)
    for name in tensors:
        assert tensors[name].shape == tensors.shape(name)
    return {name: tensors.stored(name) for name in tensors}


def witness_safetensors(path):
    """What the safetensors library hands out when it is given the bytes."""
    import safetensors

    kinds = {"BOOL": "?", "BF16": "u2", "U8": "u1", "I8": "i1"}
    found = {}
    for name, x in safetensors.deserialize(path.read_bytes()):
        dtype = x["dtype"]
        kind = kinds.get(dtype) or f"<{dtype[0].lower()}{int(dtype[1:]) // 8}"
        found[name] = numpy.frombuffer(bytes(x["data"]), kind).reshape(x["shape"])
    return found


class Witness(pickle.Unpickler):
    """Python's own unpickler, with stand-ins for the names that a state dict needs."""

    def __init__(self, file):
        super().__init__(file, encoding="utf-8")
        self.items = {}  # key of a storage -> bytes of an element

    def find_class(self, module, name):
        known = {
            "torch._utils._rebuild_tensor_v2": lambda *args: args[:4],
            "collections.OrderedDict": type("State", (dict,), {}),
            "torch.BFloat16Storage": numpy.dtype("<u2"),
            **{f"torch.{kind}": numpy.dtype(dtype) for dtype, kind in torch.KINDS.items()},
        }
        return known[f"{module}.{name}"]

    def persistent_load(self, args):
        _, dtype, key, _, _ = args[:5]
        self.items.setdefault(key, dtype.itemsize)
        return key, dtype


def views(state, storages):
    """The tensors that a witness was told of, element by element."""
    found = {}
    for name, ((key, dtype), offset, shape, strides) in state.items():
        places = numpy.full(shape, offset)
        for axis, (size, step) in enumerate(zip(shape, strides, strict=True)):
            along = numpy.arange(size) * (step if size > 1 else 0)
            places = places + along.reshape(-1, *[1] * (len(shape) - axis - 1))
        flat = numpy.frombuffer(storages[key], dtype) if storages[key] else numpy.empty(0, dtype)
        found[name] = flat[places.astype(int)]
    return found


def witness_zip(path):
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        for entry in archive.infolist():
            if "/data/" in entry.filename:
                entry.CRC = None  # of numbers it is not looked at
        with archive.open(name) as file:
            unpickler = Witness(file)
            state = unpickler.load()
        root = name.removesuffix("data.pkl")
        return views(state, {key: archive.read(f"{root}data/{key}") for key in unpickler.items})


def witness_legacy(path):
    with path.open("rb") as file:
        for _ in range(3):
            pickle.load(file)
        unpickler = Witness(file)
        state = unpickler.load()
        storages = {}
        for key in pickle.load(file):
            (count,) = struct.unpack("<q", file.read(8))
            storages[key] = file.read(count * unpickler.items[key])
    return views(state, storages)


def witness_of(single, index, witness):
    """A witness of a folder: its one file, or the shards of its index."""

    def read(folder):
        if index is None:
            return witness(folder / single)
        weight_map = json.loads((folder / index).read_text())["weight_map"]
        shards = {shard: witness(folder / shard) for shard in weight_map.values()}
        return {name: shards[shard][name] for name, shard in weight_map.items()}

    return read


def read_model(folder):
    """A model with a broken config: nothing to compare."""
    load(folder)
    return {}


def witness_json(folder):
    assert isinstance(json.loads((folder / "config.json").read_text()), dict)
    return {}


CASE = bundled() / "xlm_roberta" / "model"


def beside_weights(parts):
    return parts | {SINGLE: (CASE / SINGLE).read_bytes()}


ST, ZIP = witness_of(SINGLE, None, witness_safetensors), witness_of(TORCH_SINGLE, None, witness_zip)
FORMATS = [
    Format("safetensors", {SINGLE: safetensors_file(ARRAYS)}, read_folder, ST),
    Format(
        "safetensors header", {"header": safetensors_header(ARRAYS)}, read_folder, ST,
        wrap=lambda parts: {SINGLE: safetensors_file(ARRAYS, parts["header"])},
    ),
    Format(
        "safetensors shards", in_shards(safetensors_file, "safetensors", INDEX), read_folder,
        witness_of(SINGLE, INDEX, witness_safetensors),
    ),
    Format("torch zip", {TORCH_SINGLE: torch_file(ARRAYS)}, read_folder, ZIP),
    Format(
        "torch zip, packed",
        {TORCH_SINGLE: torch_file(ARRAYS, ["data.pkl", *(f"data/{i}" for i in range(10, 17))])},
        read_folder, ZIP,
    ),
    Format(
        "torch pickle", {"data.pkl": torch_state(ARRAYS)[0]}, read_folder, ZIP, wrap=torch_around
    ),
    Format(
        "torch legacy", {TORCH_SINGLE: torch.legacy_file(*torch_state(ARRAYS, legacy=True))},
        read_folder, witness_of(TORCH_SINGLE, None, witness_legacy),
    ),
    Format(
        "torch shards", in_shards(torch_file, "bin", TORCH_INDEX), read_folder,
        witness_of(TORCH_SINGLE, TORCH_INDEX, witness_zip),
    ),
    Format(
        "config", {"config.json": (CASE / "config.json").read_bytes()}, read_model, witness_json,
        wrap=beside_weights,
    ),
]  # fmt: skip


# --- breaking -------------------------------------------------------------------------------------

EXTREMES = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**60, 2**63 - 1,
            2**63, 2**64 - 1]  # fmt: skip
OPCODES = bytes(ord(opcode.code) for opcode in pickletools.opcodes)


def place_in(data, rng):
    """A place in a file: anywhere, or where its structure is told."""
    last = max(len(data) - 1, 0)
    low, high = rng.choice([(0, last), (0, last), (0, min(300, last)), (max(0, last - 700), last)])
    return rng.randint(low, high)


def overwrite(data, at, new):
    return data[:at] + new[: len(data) - at] + data[at + len(new) :]


def flip_bits(data, rng):
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = place_in(data, rng)
        data = overwrite(data, at, bytes([data[at] ^ 1 << rng.randrange(8)]))
    return data


def other_bytes(data, rng):
    for _ in range(rng.choice([1, 1, 2, 4])):
        data = overwrite(data, place_in(data, rng), bytes([rng.randrange(256)]))
    return data


def other_opcode(data, rng):
    return overwrite(data, place_in(data, rng), bytes([rng.choice(OPCODES)]))


def more_opcodes(data, rng):
    at = place_in(data, rng)
    return data[:at] + bytes(rng.choices(OPCODES, k=rng.choice([1, 1, 2, 5]))) + data[at:]


def lie(data, rng):
    """Put an extreme number where one may stand."""
    form, number = rng.choice("BHIQ"), rng.choice(EXTREMES)
    size = struct.calcsize(form)
    new = (number & (1 << 8 * size) - 1).to_bytes(size, "little")
    return overwrite(data, place_in(data, rng), new)


def lie_in_digits(data, rng):
    numbers = [*re.finditer(rb"-?[0-9]+", data)]
    if not numbers:
        return lie(data, rng)
    found = rng.choice(numbers)
    new = str(rng.choice([*EXTREMES, -1, 2**64, 10**300, 0.5])).encode()
    return data[: found.start()] + new + data[found.end() :]


def cut_the_end(data, rng):
    return data[: place_in(data, rng)]


def cut_out(data, rng):
    at = place_in(data, rng)
    return data[:at] + data[at + rng.choice([1, 1, 2, 8, 100]) :]


def put_in(data, rng):
    at = place_in(data, rng)
    return data[:at] + rng.randbytes(rng.choice([1, 1, 2, 8, 100])) + data[at:]


def repeat(data, rng):
    at, size = place_in(data, rng), rng.choice([1, 8, 64, 500])
    return data[:at] + data[at : at + size] * rng.choice([2, 2, 3, 50]) + data[at + size :]


def blank(data, rng):
    return overwrite(data, place_in(data, rng), rng.choice([b"\0", b"\xff"]) * rng.choice([4, 40]))


def move(data, rng):
    """Put a part of the file over another."""
    start, size = place_in(data, rng), rng.choice([1, 4, 16, 100])
    return overwrite(data, place_in(data, rng), data[start : start + size])


BREAKINGS = [flip_bits, flip_bits, other_bytes, other_opcode, more_opcodes, lie, lie, lie_in_digits,
             cut_the_end, cut_out, put_in, repeat, blank, move]  # fmt: skip


def corrupted(form, seed):
    """The files of a format, broken in the way that a seed says."""
    rng = random.Random(f"{form.name} {seed}")
    part = rng.choice([*form.parts])
    breaking = rng.choice(BREAKINGS)
    true = form.parts[part]
    broken = breaking(true, rng)
    same_length = len(broken) == len(true)
    changed = sum(map(int.__ne__, broken, true)) if same_length else None
    files = form.wrap(form.parts | {part: broken})
    return Corruption(files, f"{form.name} {seed}: {breaking.__name__} of {part}", changed)


# --- judging --------------------------------------------------------------------------------------

# Read: nothing is others; as the witness reads it; no more bytes are others than were changed.
OUTCOMES = ("refused", "true", "witnessed", "near")


def write(files, folder):
    """Write files to a folder that is then there and holds nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def judge(form, corruption, folder, truth):
    """Read broken files, and say how that went: in one of ``OUTCOMES``, or it raises."""
    try:
        ours = form.read(folder)
    except CheckpointError as caught:
        error = str(caught)
    else:
        return compare(ours, form, corruption, folder, truth)
    assert str(folder) in error, f"names no file: {error}"
    assert len(error) < 20_000, "repeats what is in the file"
    return "refused"


def compare(ours, form, corruption, folder, truth):
    """Assert that what was read of broken files is what is in them."""
    distance = differing(ours, truth)
    if distance == 0:
        return "true"
    try:
        theirs = form.witness(folder)
    except Exception:  # of any kind: then the truth is the judge
        theirs = None
    if theirs is not None and differing(ours, theirs) == 0:
        return "witnessed"
    assert distance is not None, "other names, dtypes or shapes than the witness reads"
    assert corruption.changed is not None, "other numbers than the witness reads"
    assert distance <= corruption.changed, f"{distance} bytes are others"
    return "near"


def differing(ours, theirs):
    """How many bytes of the worst tensor differ; None where names or shapes do."""
    if {n: (x.shape, x.dtype.itemsize) for n, x in ours.items()} != {
        n: (x.shape, x.dtype.itemsize) for n, x in theirs.items()
    }:
        return None
    worst = 0
    for name, x in ours.items():
        worst = max(worst, sum(map(int.__ne__, x.tobytes(), theirs[name].tobytes())))
    return worst


def run(form, seeds, folder):
    """Break a format again and again; return how often it went how, and what went wrong."""
    write(form.wrap(form.parts), folder)
    truth = form.read(folder)
    assert differing(truth, form.witness(folder)) == 0
    report: dict[str, Any] = dict.fromkeys(OUTCOMES, 0) | {"wrong": [], "seconds": 0.0}
    for seed in seeds:
        corruption = corrupted(form, seed)
        write(corruption.files, folder)
        start = time.process_time()
        try:
            report[judge(form, corruption, folder, truth)] += 1
        except BaseException as error:  # RecursionError, MemoryError and SystemExit too
            report["wrong"].append(f"{corruption.how}: {type(error).__name__}: {error}"[:500])
        report["seconds"] = max(report["seconds"], time.process_time() - start)
    return report
