"""Checkpoints that somebody broke with an aim: to run code, to fill the memory, to read elsewhere.

Each has a name, files, and what the error says. They are read in a process of their own, which
counts its memory and its time and notes what a program could do there (``hostile_process.py``).
"""

import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy

from refimpl.checkpoints.folder import INDEX, SINGLE, TORCH_INDEX, TORCH_SINGLE
from tests.checkpoints import torch_bytes as torch
from tests.checkpoints.hostile import CASE, Files, beside_weights
from tests.checkpoints.torch_bytes import Opcodes, Part, Store, call, name, pickled, tensor, value

CANARY = "a-file-that-nobody-should-make"
COMMAND = f"touch {CANARY}"


@dataclass(frozen=True)
class Attack:
    """One of them."""

    files: Callable[[], Files]  # made when they are needed: some are large
    says: str  # a pattern of the error
    model: bool = False  # aimed at ``load``, not at the tensors alone
    slow: bool = False  # it takes a second or more to see through it


def in_zip(program, stores=()):
    return {TORCH_SINGLE: torch.zip_file(program, stores)}


def in_both(label, program, says):
    """An attack by a pickle, as the state dict of either format."""
    return {
        f"{label} (zip)": Attack(lambda: in_zip(program), says),
        f"{label} (legacy)": Attack(lambda: {TORCH_SINGLE: torch.legacy_file(program, [])}, says),
    }


# --- to run code ----------------------------------------------------------------------------------

OPEN = f"open({CANARY!r}, 'w')"
ORDERED = name("collections", "OrderedDict")
TO_CALL = [
    ("os", "system", (COMMAND,)), ("posix", "system", (COMMAND,)), ("nt", "system", (COMMAND,)),
    ("subprocess", "Popen", (("touch", CANARY),)), ("subprocess", "run", (["touch", CANARY],)),
    ("builtins", "eval", (OPEN,)), ("builtins", "exec", (OPEN,)), ("__builtin__", "eval", (OPEN,)),
    ("builtins", "open", (CANARY, "w")), ("builtins", "__import__", ("antigravity",)),
    ("builtins", "getattr", (ORDERED, "__init__")), ("importlib", "import_module", ("this",)),
    ("runpy", "_run_code", (OPEN, {})), ("pickle", "loads", ("cos\nsystem\n.",)),
    ("operator", "attrgetter", ("system",)), ("functools", "partial", (ORDERED,)),
    ("copyreg", "_reconstructor", (ORDERED, None, None)), ("shutil", "rmtree", (CANARY,)),
    ("webbrowser", "open", ("http://localhost",)), ("numpy", "load", (CANARY,)),
    ("torch", "load", (CANARY,)), ("torch.hub", "load", ("a", "b")),
    ("torch.storage", "_load_from_bytes", ("x",)),
    ("torch.serialization", "_get_layout", ("torch.strided",)),
    ("torch._utils", "_rebuild_wrapper_subclass", ()),
    ("torch._utils", "_rebuild_tensor_v2.__globals__", ()),
    ("collections", "OrderedDict.fromkeys", ((),)),
]  # fmt: skip
FORBIDDEN_OPCODES = {
    "INST": b"(" + value(COMMAND) + b"ios\nsystem\n",
    "OBJ": b"(" + ORDERED + value(COMMAND) + b"o",
    "NEWOBJ_EX": ORDERED + b")}\x92",
    "EXT1": b"\x82\x01)R",
    "EXT2": b"\x83\x01\x00)R",
    "EXT4": b"\x84\x01\x00\x00\x00)R",
    "PERSID": b"Pstorage\n",
    "NEXT_BUFFER": b"\x97",
    "BYTEARRAY8": b"\x96" + bytes(8),
    "FROZENSET": b"(\x91",
    "INT": b"I1\n",
    "STRING": b"S'x'\n",
}
SYSTEM = name("os", "system")
TRICKS = {
    "STACK_GLOBAL os.system": (
        Opcodes(value("os") + value("system") + b"\x93" + value((COMMAND,)) + b"R"), "'os.system'"
    ),
    "NEWOBJ os.system": (Opcodes(SYSTEM + value((COMMAND,)) + b"\x81"), "refused 'os.system'"),
    "a name that is dropped again": (Opcodes(SYSTEM + b"0N"), "refused 'os.system'"),
    "BUILD of a dictionary": (Opcodes(b"}" + value(("x", COMMAND)) + b"b"), "a dict has no state"),
    "BUILD of a class": (Opcodes(ORDERED + b"}b"), "collections.OrderedDict has no state"),
    "a string is called": (Opcodes(value(COMMAND) + b")R"), "expected a name and a tuple"),
    "a result is called": (call(call(ORDERED), COMMAND), "expected a name and a tuple"),
    "a storage class is called": (call(name("torch", "FloatStorage"), 9), "got a constant"),
}  # fmt: skip


class Evil:
    """What pickles itself as a call."""

    def __reduce__(self):
        return os.system, (COMMAND,)


def code_attacks():
    for module, attribute, args in TO_CALL:
        full = f"{module.replace('__builtin__', 'builtins')}.{attribute}"
        program = pickled({"w": call(name(module, attribute), *args)})
        yield in_both(f"{module}.{attribute}", program, f"refused '{full}'")
    for opcode, part in FORBIDDEN_OPCODES.items():
        program = pickled({"w": Opcodes(part)}, 4)
        yield in_both(f"opcode {opcode}", program, f"opcode {opcode} is not allowed")
    for trick, (part, says) in TRICKS.items():
        yield in_both(trick, pickled({"w": part}, 4), says)
    for protocol in range(6):
        program = pickle.dumps({"w": Evil()}, protocol)
        says = "refused '(posix|nt).system'" if protocol > 1 else "a pickle of protocol 2 to 5"
        yield in_both(f"as Python pickles it, protocol {protocol}", program, says)
    evil, empty = pickle.dumps(Evil(), 2), torch.legacy_file(pickled({}), [])
    keyless = empty.removesuffix(pickled([])) + evil
    yield {
        "zip: a second pickle": Attack(lambda: in_zip(pickled({}) + evil), "follow the pickle"),
        "legacy: where the magic number is": Attack(lambda: {TORCH_SINGLE: evil}, "refused '"),
        "legacy: where the keys are": Attack(lambda: {TORCH_SINGLE: keyless}, "refused '"),
        "legacy: behind it all": Attack(lambda: {TORCH_SINGLE: empty + evil}, "bytes follow"),
    }


# --- to fill the memory, or to take forever -------------------------------------------------------


def many(start, again, size=3_000_000):
    """A pickle that does the same over and over."""
    return b"\x80\x04" + start + again * (size // len(again)) + b"."


X = Store("0", "FloatStorage", 8, numpy.arange(8, dtype="f4").tobytes())
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
VIEW = value((torch.persistent(X), 0, (1,), (1,), False, {}))
ENCODE = name("_codecs", "encode") + b"q\1" + value(("a" * 10**5, "latin1")) + b"q\2"


def different_tensors():
    """Views of 60 axes, each another, of one storage."""
    parts = []
    for i in range(60_000):
        strides = Opcodes(b"(" + b"h\2" * 59 + value(i) + b"t")
        sizes = Opcodes(b"h\3")
        parts.append(call(Opcodes(b"h\1"), Opcodes(b"h\4"), 0, sizes, strides, False, {}))
    start = REBUILD + b"q\1K\7q\2(" + b"K\1" * 60 + b"tq\3" + torch.persistent(X) + b"q\4"
    return b"\x80\x02" + start + b"".join(parts) + b"."


BOMBS: dict[str, tuple[Callable[[], bytes], bool]] = {  # and whether it is tried every time
    "lists": (lambda: many(b"", b"]"), True),
    "dictionaries": (lambda: many(b"", b"}"), False),
    "sets": (lambda: many(b"", b"\x8f"), False),
    "marks": (lambda: many(b"", b"("), False),
    "lists of one": (lambda: many(b"", b"]Na", 12_000_000), False),
    "dictionaries of one": (lambda: many(b"", b"}NNs", 12_000_000), False),
    "deep lists": (lambda: many(b"", b"]q\1", 12_000_000), False),
    "deep tuples": (lambda: many(b")", b"\x85"), False),
    "floats": (lambda: many(b"", b"G" + bytes(8), 30_000_000), False),
    "ints": (lambda: many(b"", b"J\1\2\3\4", 20_000_000), False),
    "references": (lambda: many(b"]q\1", b"h\1", 6_000_000), False),
    "copies of the top": (lambda: many(b"N", b"2"), False),
    "memo": (lambda: many(b"N", b"\x94"), False),
    "strings": (lambda: many(b"", value("abc\N{PILE OF POO}"), 30_000_000), False),
    "wide strings": (lambda: many(b"", value("a" * 1000 + "\N{PILE OF POO}"), 60_000_000), True),
    "bytes": (lambda: many(b"", b"B\x10\x27\0\0" + bytes(10_000), 200_000_000), False),
    "names": (lambda: many(b"", b"ctorch\nfloat32\n", 40_000_000), False),
    "ordered dictionaries": (lambda: many(ORDERED + b"q\1", b"h\1)R"), False),
    "bytes by encoding": (lambda: many(ENCODE, b"h\1h\2R"), False),
    "tensors": (lambda: many(REBUILD + b"q\1" + VIEW + b"q\2", b"h\1h\2R"), False),
    "different tensors": (different_tensors, False),
}
LENGTHS = {
    "BINUNICODE8 of 2^60": b"\x8d" + struct.pack("<Q", 2**60),
    "BINBYTES8 of 2^64 - 1": b"\x8e" + struct.pack("<Q", 2**64 - 1),
    "BINUNICODE of 2^32 - 1": b"X" + struct.pack("<I", 2**32 - 1),
    "FRAME of 2^63": b"\x95" + struct.pack("<Q", 2**63),
    "LONG4 of 2^31 - 1": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "LONG4 of -1": b"\x8b" + struct.pack("<i", -1),
    "LONG4 of a million": b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6,
    "a place 2^32 - 1 in the memo": b"j" + struct.pack("<I", 2**32 - 1),
}
SHAPES = {
    "a list in itself": b"]q\1h\1a",
    "a tuple in itself": b"]q\1h\1\x85q\2a0h\2",
    "a tree of 2^200 leaves": b"]q\1" + b"0](h\1h\1eq\1" * 200,
    "a deep list": b"]" * 100_000 + b"a" * 99_999,
    "a deep tuple": b")" + b"\x85" * 100_000,
}


def colliding_keys():
    """Ints whose hashes are the same: to look n of them up takes n * n steps."""
    numbers = (i * (2**61 - 1) for i in range(1, 60_000))
    return b"\x80\x02}(" + b"".join(value(number) + b"N" for number in numbers) + b"u."


@cache
def deflated(size):
    """That many zeros, packed a thousand to one."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [packer.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b"".join([*parts, packer.flush()])


def packed_storage(size, told):
    program = pickled({"w": tensor(Store("0", "ByteStorage", told), 0, (told,), (1,))})
    zeros = Part(b"a/data/0", deflated(size), method=8, size=told, crc=0)
    return {TORCH_SINGLE: torch.archive([Part(b"a/data.pkl", program), zeros])}


def packed_pickle(size, told):
    zeros = Part(b"a/data.pkl", deflated(size), method=8, size=told, crc=0)
    return {TORCH_SINGLE: torch.archive([zeros])}


def many_entries():
    parts = [Part(b"a/%d" % i, b"") for i in range(300_000)]
    return {TORCH_SINGLE: torch.archive(parts, end64=True)}


def memory_attacks():
    for label, (program, always) in BOMBS.items():
        files = lambda p=program: in_zip(p(), [X])  # noqa: E731
        yield {
            f"a bomb of {label}": Attack(files, "more than 160 MB|on the stack", slow=not always)
        }
    for label, part in LENGTHS.items():
        yield in_both(label, b"\x80\x04" + part + b".", "cut short|an int of up to|of the memo")
    for label, part in SHAPES.items():
        yield in_both(label, pickled({"w": Opcodes(part)}), "found 'w': a (list|tuple)")
    yield in_both("a dictionary in itself", b"\x80\x02}q\1X\1\0\0\0wh\1s.", "found 'w': a dict")
    yield in_both("a key too deep to hash", b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.", "key: ")
    wide = pickled({"w": tensor(X, 0, (2**20, 2**20, 8), (0, 0, 1))})
    yield {
        "colliding keys": Attack(lambda: in_zip(colliding_keys()), "key: expected"),
        "a tensor of 32 terabytes": Attack(lambda: in_zip(wide, [X]), "32 bytes are seen as"),
        "a storage packed to a thousandth": Attack(
            lambda: packed_storage(2**28, told=2**28), "unpack to 268435456: refused"
        ),
        "a storage larger than it says": Attack(
            lambda: packed_storage(2**26, told=1000), "expected 1000 bytes when unpacked"
        ),
        "a pickle packed to a thousandth": Attack(
            lambda: packed_pickle(2**28, told=2**28), "unpack to 268435456: refused"
        ),
        "a pickle larger than it says": Attack(
            lambda: packed_pickle(2**26, told=1000), "expected 1000 bytes when unpacked"
        ),
        "300,000 entries": Attack(many_entries, "a directory of 300000 entries", slow=True),
    }


# --- to read elsewhere ----------------------------------------------------------------------------


def rebuilt(*view, store=X):
    return pickled({"w": tensor(store, *view)})


VIEWS = {
    "behind the storage": rebuilt(4, (5,), (1,)),
    "before the storage": rebuilt(-1, (2,), (1,)),
    "by wide strides": rebuilt(0, (2,), (8,)),
    "backwards": rebuilt(7, (2,), (-1,)),
    "at 2^62": rebuilt(2**62, (1,), (1,)),
    "at 2^64": rebuilt(2**64, (1,), (1,)),
    "by strides that overflow": rebuilt(0, (2, 2), (2**62, 2**62)),
    "of size 2^63": rebuilt(0, (2**63,), (0,)),
    "of sizes that overflow": rebuilt(0, (2**32, 2**32), (0, 0)),
    "of a negative size": rebuilt(0, (-2,), (1,)),
    "of half a size": rebuilt(0, (2.5,), (1,)),
    "of a string of sizes": rebuilt(0, "22", (1,)),
    "of more strides than sizes": rebuilt(0, (2,), (1, 1)),
    "of a thousand axes": rebuilt(0, (1,) * 1000, (1,) * 1000),
    "of no storage": rebuilt(0, (1,), (1,), store=Opcodes(b"}")),
    "of a tensor": rebuilt(0, (1,), (1,), store=tensor(X, 0, (1,), (1,))),
}
STORAGES = {
    "larger than its entry": Store("0", "FloatStorage", 9),
    "of 2^62 numbers": Store("0", "DoubleStorage", 2**62),
    "of -1 numbers": Store("0", "FloatStorage", -1),
    "of another name": Store("1", "FloatStorage", 8),
    "by a path": Store("../../../../../../etc/passwd", "FloatStorage", 8),
    "by a path from the root": Store("/etc/passwd", "FloatStorage", 8),
    "that is the pickle": Store("../data.pkl", "ByteStorage", 8),
    "of a complex kind": Store("0", "ComplexFloatStorage", 4),
}
PICKLE, NUMBERS = Part(b"a/data.pkl", rebuilt(0, (8,), (1,))), Part(b"a/data/0", X.content)
WITHIN = len(PICKLE.content) + 40  # where an entry's header begins that is the content of another
ARCHIVES = {
    "two pickles of one name": ([PICKLE, PICKLE, NUMBERS], {}, "two entries of the name"),
    "two storages of one name": ([PICKLE, NUMBERS, NUMBERS], {}, "two entries of the name"),
    "two folders": ([PICKLE, NUMBERS, Part(b"b/data.pkl", b"x")], {}, "one entry FOLDER/data.pkl"),
    "its folder above": ([Part(b"../data.pkl", PICKLE.content), NUMBERS], {}, "no such entry"),
    "its folder at the root": ([Part(b"/a/data.pkl", PICKLE.content)], {}, "found 0"),
    "no folder": ([Part(b"data.pkl", PICKLE.content)], {}, "FOLDER/data.pkl, found 0"),
    "another name in the entry": (
        [PICKLE, Part(b"a/data/0", X.content, own_name=b"a/data/1")], {}, "do not agree"
    ),
    "another name in the directory": (
        [PICKLE, Part(b"a/data/0", b"", packed=32, size=32, offset=0, own_name=b"")], {}, "agree"
    ),
    "an entry in an entry": (
        [PICKLE, Part(b"b", torch.archive([NUMBERS])), Part(b"a/data/0", b"", packed=32, crc=0,
                                                            offset=WITHIN + 31, own_name=b"")],
        {}, "lies over another",
    ),
    "an entry behind the directory": ([PICKLE, Part(b"a/x", b"", packed=2**31)], {}, "bytes from"),
    "2^60 entries": ([PICKLE], {"here": 2**60, "count": 2**60, "end64": True}, "a directory of"),
    "a directory at 2^63": ([PICKLE, NUMBERS], {"start": 2**63, "end64": True}, "a directory of"),
    "a directory before its place": ([PICKLE, NUMBERS], {"start": 3}, "a directory of"),
    "an encrypted pickle": ([Part(b"a/data.pkl", PICKLE.content, flags=1)], {}, "encrypted"),
    "a pickle in bzip2": ([Part(b"a/data.pkl", b"BZh9", method=12)], {}, "by method 12"),
    "a wrong checksum": ([Part(b"a/data.pkl", PICKLE.content, crc=5), NUMBERS], {}, "checksum"),
    "no byte order": ([PICKLE, NUMBERS, Part(b"a/byteorder", b"none")], {}, "byteorder: expected"),
}  # fmt: skip
LEGACY = {
    "a count that lies": {"counts": [9]},
    "a negative count": {"counts": [-8]},
    "a count of 2^62": {"counts": [2**62]},
    "a key that is not there": {"keys": ["1"]},
    "a key twice": {"keys": ["0", "0"]},
    "a key that is none": {"keys": [["0"]]},
}


def reading_attacks():
    for label, program in VIEWS.items():
        files = lambda p=program: in_zip(p, [X])  # noqa: E731
        yield {f"a view {label}": Attack(files, "pickle, byte [0-9]+: tensor: ")}
    for label, store in STORAGES.items():
        program = rebuilt(0, (8,), (1,), store=store)
        files = lambda p=program: in_zip(p, [X])  # noqa: E731
        yield {f"a storage {label}": Attack(files, "storage|refused 'torch.Complex")}
    for label, (parts, lies, says) in ARCHIVES.items():
        files = lambda p=parts, x=lies: {TORCH_SINGLE: torch.archive(p, **x)}  # noqa: E731
        yield {f"zip: {label}": Attack(files, says)}
    program = pickled({"w": tensor(X, 0, (8,), (1,), legacy=True)})
    for label, lies in LEGACY.items():
        files = lambda x=lies: {TORCH_SINGLE: torch.legacy_file(program, [X], **x)}  # noqa: E731
        yield {f"legacy: {label}": Attack(files, "storage|the keys of the")}
    for shard in SHARDS:
        for index in (INDEX, TORCH_INDEX):
            text = json.dumps({"weight_map": {"w": shard}}).encode()
            files = lambda i=index, t=text: {i: t}  # noqa: E731
            label = f"shard {str(shard)[:20]!r} in {index}"
            yield {label: Attack(files, "expected a (file name|safetensors file|file of)|no such")}


SHARDS = ["../x", "../../../etc/passwd", "/etc/passwd", "a/../b", "sub/x", "..", ".", "", "a\0b",
          "x" * 5000, "\ud800", INDEX, TORCH_INDEX, 3, None, ["x"], {"x": 1}]  # fmt: skip


# --- headers, indices, configs --------------------------------------------------------------------


def header(text, length=None):
    return {SINGLE: struct.pack("<Q", len(text) if length is None else length) + text}


def tensors(*places):
    """A header of tensors: shape, first byte, end, dtype of each."""
    keys = ("shape", "data_offsets", "dtype")
    entries = {str(i): dict(zip(keys, place, strict=True)) for i, place in enumerate(places)}
    return header(json.dumps(entries).encode())


HEADERS = {
    "of 2^60 bytes": header(b"{}", 2**60),
    "of 2^64 - 1 bytes": header(b"{}", 2**64 - 1),
    "longer than the file": header(b"{}", 3),
    "of no bytes": header(b""),
    "of no text": header(b"\xff" * 8),
    "of deep lists": header(b'{"a":' + b"[" * 10**6),
    "of tensors one over the other": tensors(([1], [0, 4], "F32"), ([1], [2, 6], "F32")),
    "of a tensor behind the end": tensors(([2**40], [0, 2**42], "F32")),
    "of a shape that overflows": tensors(([2**40, 2**40], [0, 0], "F32")),
    "of a negative shape": tensors(([-1], [0, 0], "F32")),
    "of offsets backwards": tensors(([0], [4, 0], "F32")),
    "of an unknown dtype": tensors(([0], [0, 0], "F99")),
    "of 65 axes": tensors(([1] * 64 + [0], [0, 0], "F32")),
}


def large_header():
    one = '"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    return header(b"{" + ",".join(map(one.format, range(10**6))).encode() + b"}")


TEXTS = {
    "deep": (lambda: b"[" * 10**5, "expected a JSON file"),
    "of 60 MB": (lambda: b'{"a": [' + b"{}," * 20_000_000 + b"1]}", "bytes of JSON, found"),
    "of just as much as is read": (
        lambda: b'{"a": [' + b'{"":{}},' * (2**19 - 2) + b"1]}", "weight_map|architectures"
    ),
    "of long digits": (lambda: b'{"a": ' + b"9" * 10**6 + b"}", "expected a JSON file"),
    "of a list": (lambda: b"[]", "expected a JSON object"),
    "of nothing": (lambda: b"", "expected a JSON file"),
}  # fmt: skip
MANY = [str(i) for i in range(300_000)]
VALUES = {
    "of 2^31 layers": ({"num_hidden_layers": 2**31}, "layers"),
    "of 10^300 layers": ({"num_hidden_layers": 10**300}, "layers"),
    "of -1 layers": ({"num_hidden_layers": -1}, "num_hidden_layers"),
    "of 2^62 words": ({"vocab_size": 2**62}, "misshapen"),
    "of no width": ({"hidden_size": 0}, "hidden_size|num_attention_heads|misshapen"),
    "of a list of widths": ({"hidden_size": [12]}, "hidden_size: expected int"),
    "of no class": ({"architectures": ["os.system"]}, "architecture: expected one of"),
    "of many languages": (
        {"architectures": ["XmodModel"], "languages": MANY, "num_hidden_layers": 20}, "languages"
    ),
}  # fmt: skip


def text_attacks():
    for label, files in HEADERS.items():
        yield {f"a header {label}": Attack(lambda f=files: f, "safetensors")}
    yield {"a header of a million tensors": Attack(large_header, "bytes of header, found")}
    for label, (text, says) in TEXTS.items():
        for file in (INDEX, TORCH_INDEX):
            yield {f"{file} {label}": Attack(lambda f=file, t=text: {f: t()}, says)}
        files = lambda t=text: beside_weights({"config.json": t()})  # noqa: E731
        yield {f"config.json {label}": Attack(files, says, model=True)}
    true = json.loads((CASE / "config.json").read_text())
    for label, (values, says) in VALUES.items():
        text = json.dumps(true | values).encode()
        files = lambda t=text: beside_weights({"config.json": t})  # noqa: E731
        yield {f"config.json {label}": Attack(files, says, model=True)}


def all_attacks():
    """Every attack by its name."""
    found: dict[str, Attack] = {}
    for group in (code_attacks, memory_attacks, reading_attacks, text_attacks):
        for attacks in group():
            assert not found.keys() & attacks.keys()
            found |= attacks
    return found


ATTACKS = all_attacks()
