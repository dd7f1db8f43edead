"""Broken and hostile dumps: one CheckpointError that names the file, and nothing else happens."""

import base64
import io
import json
import os
import pickle
import struct
import tempfile
import warnings
import zipfile
import zlib
from contextlib import chdir
from pathlib import Path

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from refimpl.errors import CheckpointError
from refimpl.parity.dumps import FORMATS, Dump, export_dump, read_dump
from refimpl.parity.goldens import bundled
from refimpl.tokenizers.xlm_roberta.protobuf import field
from tests.checkpoints import torch_bytes as torch
from tests.parity.dumps.test_foreign_dumps import X, encoded, message, results, saved, tensor, tree

DUMP = Dump(
    {"layer.0": X, "half": X.astype("f2"), "none": X[:0], "narrow": X},
    {"logits": numpy.asarray(0.25)},
    {"input_ids": numpy.asarray([[0, 5, 2]])},
    {"made_by": "a test", "bfloat16": ["tap.narrow"]},
)


RAW = X.tobytes()


class Bomb:
    """What a pickle runs, if it is read."""

    def __reduce__(self):
        return os.mkdir, ("pickle-was-run",)


def npy(descr="<f4", shape="(2, 2)", content=RAW, order="False", head=b"\x93NUMPY\x01\x00"):
    text = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return head + struct.pack("<H", len(text)) + text + content


def zipped(entries, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two entries of one name are what is wanted
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def objects():
    file = io.BytesIO()
    numpy.save(file, numpy.asarray([Bomb()], object), allow_pickle=True)
    return file.getvalue()


def deep(text, depth=100_000):
    return (text * depth).encode()


def safetensors(header, content=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def described(tensors, content=b"\0\0\0\0", about="{}"):
    """A file of ours that says what it likes of itself."""
    words = f'{{"format": 1, "about": {about}, "tensors": {tensors}}}'
    header = {"__metadata__": {"refimpl_dump": words}}
    return safetensors(
        {**header, "tap.x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, content
    )


TRUE_NAME = '[{"kind": "tap", "name": "x", "dtype": "F32", "shape": [%s]}]'


def pair(i):
    """A list of the list before, twice."""
    return b"]q%c(h%ch%ce0" % (i + 1, i, i)


LONG = b"".join(field(1, 2**62) for _ in range(3))
FILES = {
    # NumPy
    "objects": ("x.npy", objects(), "holds Python objects, which are not read"),
    "objects in an npz": ("x.npz", zipped([("a.npy", objects())]), "'a.npy': holds Python objects"),
    "a record": ("x.npy", npy("V8"), "expected one of F64"),
    "a string": ("x.npy", npy("<U2"), "expected one of F64.*got '<U2'"),
    "code for a header": ("x.npy", npy(shape="(__import__('os').mkdir('y'),)"), "expected dtype"),
    "a deep header": ("x.npy", npy(shape="(" * 4000), "expected dtype"),
    "too few numbers": ("x.npy", npy(shape="(2, 3)"), "expected 24 bytes for F32 of .*, found 16"),
    "too many numbers": ("x.npy", npy(shape="(3,)"), "expected 12 bytes"),
    "huge": ("x.npy", npy(shape=f"({10**17}, {10**17})"), "expected .* bytes"),
    "huge and empty": ("x.npy", npy(shape=f"({2**62}, {2**62}, 0)", content=b""), "shape"),
    "longer than numbers": ("x.npy", npy(shape="(" + "9" * 5000 + ",)"), "too many axes, or too l"),
    "a hundred axes": ("x.npy", npy(shape="(" + "1," * 100 + ")"), "too many axes"),
    "a cut header": ("x.npy", npy()[:40], "a header of"),
    "only the magic": ("x.npy", b"\x93NUMPY", r"expected a \.npy file"),
    "version 9": ("x.npy", npy(head=b"\x93NUMPY\x09\x00"), r"expected a \.npy file"),
    "a pickle for npy": ("x.npz", zipped([("a.npy", pickle.dumps(Bomb()))]), r"'a\.npy': expected"),
    "another entry": ("x.npz", zipped([("a.txt", b"")]), r"'a\.txt': expected arrays only"),
    "two of one name": ("x.npz", zipped([("a.npy", npy()), ("a.npy", npy())]), "two entries"),
    "a zip bomb": (
        "x.npz", torch.archive([torch.Part(b"a.npy", b"x", method=8, size=10**9)]),
        "unpack to 1000000000: refused",
    ),
    "half an archive": ("x.npz", zipped([("a.npy", npy())])[:-30], "zip: no end"),
    "an archive that lies of itself": (
        "x.npz", zipped([("manifest.json.npy", npy("|u1", "(2,)", b"{}"))]), "the description of a",
    ),
    # safetensors
    "no header": ("x.safetensors", b"", "expected a safetensors file"),
    "half a header": ("x.safetensors", struct.pack("<Q", 99) + b"{}", "expected a safetensors fi"),
    "bytes are missing": ("x.safetensors", described(TRUE_NAME % 1, b"\0"), "expected a safetens"),
    "another shape": ("x.safetensors", described(TRUE_NAME % 2), "does not hold the tensors"),
    "another tensor": ("x.safetensors", described("[]"), "does not hold the tensors"),
    "not a list": ("x.safetensors", described("{}"), "expected an object 'about' and a list"),
    "not an object": ("x.safetensors", described("[]", about="7"), "expected an object 'about'"),
    "no names": ("x.safetensors", described("[{}]"), r"tensors\[0\]: expected kind, name"),
    "twice": (
        "x.safetensors", described(TRUE_NAME[:-1] % 1 + "," + TRUE_NAME[1:] % 1), "second 'tap.x'",
    ),
    "deep words": ("x.safetensors", described("[" * 50000 + "]" * 50000), "refimpl_dump: expected"),
    # PyTorch
    "a pickle": ("x.pt", pickle.dumps(Bomb()), "x.pt"),
    "a pickle in an archive": ("x.pt", torch.zip_file(pickle.dumps(Bomb(), 2), []), "x.pt: .*mk"),
    "a list of itself": (
        "x.pt", torch.zip_file(b"\x80\x02]q\x00h\x00a.", []), "up to 32 containers in one another",
    ),
    "lists of the same": (
        "x.pt",
        torch.zip_file(b"\x80\x02]q\x000" + b"".join(map(pair, range(30))) + b"h\x1e.", []),
        "expected up to 65536 values",
    ),
    "odd names": ("x.pt", torch.zip_file(torch.pickled({('a', 'b'): "x"}), []), "expected names"),
    # JSON
    "deep lists": ("x.json", deep("["), "x.json: expected JSON"),
    "deep objects": ("x.json", deep('{"lst":'), "x.json: expected JSON"),
    "millions of values": ("x.json", b"[" + b"[]," * 4_000_000 + b"1]", "up to 4000000 values"),
    "twice in an object": ("x.json", b'{"lst": [], "lst": []}', "two values of the name 'lst'"),
    "not UTF-8": ("x.json", b'{"lst": "\xff"}', "x.json: expected JSON"),
    "half a JSON": ("x.json", results(("a", {"x": X})).encode()[:-5], "x.json: expected JSON"),
    "not base64": ("x.json", json.dumps([{"x": {"array": "%", "polygraphy_class": ""}}]).encode(),
                   "'x': expected base64"),
    "not an array": ("x.json", json.dumps([{"x": {"array": 7, "polygraphy_class": ""}}]).encode(),
                     "'x': expected an array in base64"),
    "objects in base64": (
        "x.json", json.dumps([{"x": {**encoded(X), "array": base64.b64encode(objects()).decode()}}])
        .encode(), "'x': holds Python objects",
    ),
    "a pickle in base64": (
        "x.json", json.dumps([{"x": {"tensor": base64.b64encode(pickle.dumps(Bomb())).decode(),
                                     "polygraphy_class": "Tensor"}}]).encode(), "'x': tensor: ",
    ),
    "no runners": ("x.json", b'{"lst": []}', "runners: there is none"),
    "odd runners": ("x.json", b'{"lst": [7]}', "expected runners with their iterations"),
    "odd iterations": ("x.json", b'{"lst": [["a", [7]]]}', "expected arrays by name"),
    "odd outputs": ("x.json", b'{"lst": [["a", [{"outputs": 7}]]]}', "expected arrays by name"),
    "a manifest alone": (
        "x.json", b'{"format": 1, "about": {}, "tensors": []}', "expected the file it stands besid",
    ),
    # ONNX
    "half a tensor": ("x.pb", message("x", 1, (2, 2), field(9, RAW))[:-1], "a TensorProto"),
    "too few raw bytes": ("x.pb", message("x", 1, (2, 3), field(9, RAW)), "16 bytes for"),
    "numbers elsewhere": ("x.pb", message("x", 1, (2, 2), field(13, b"")), "are in another file"),
    "numbers elsewhere too": ("x.pb", message("x", 1, (2, 2), field(14, 1)), "are in another file"),
    "strings": ("x.pb", message("x", 8, (1,), field(6, b"a")), "'x': expected real numbers, found"),
    "float8": ("x.pb", message("x", 17, (1,), field(9, b"a")), "found float8e4m3fn"),
    "no dtype": ("x.pb", field(8, b"x"), "found type 0"),
    "two fields of numbers": (
        "x.pb", message("x", 1, (2, 2), field(9, RAW) + field(4, RAW)), "expected one",
    ),
    "another field": ("x.pb", message("x", 1, (2, 2), field(10, RAW)), "F32 in the field 10"),
    "too large an integer": ("x.pb", message("x", 3, (1,), field(5, 128)), "integer beyond I8"),
    "negative dims": ("x.pb", message("x", 1, (2**64 - 1,), b""), "sizes from 0 on"),
    "huge dims": ("x.pb", LONG + message("x", 1, (), b""), "0 bytes for F32"),
    "huge dims, and empty": ("x.pb", LONG + message("x", 1, (0,), b""), "a TensorProto"),
    "a name that is no text": ("x.pb", field(8, b"\xff") + field(2, 1), "a TensorProto"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_file(case, tmp_path):
    name, content, said = FILES[case]
    (tmp_path / name).write_bytes(content)
    with chdir(tmp_path), pytest.raises(CheckpointError, match=said) as caught:
        read_dump(name)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_no_code_is_run_even_where_numpy_would(tmp_path):
    """The bomb is real: what is refused above would make a folder."""
    with chdir(tmp_path):
        numpy.load(io.BytesIO(objects()), allow_pickle=True)
    assert [path.name for path in tmp_path.iterdir()] == ["pickle-was-run"]


@pytest.mark.parametrize("held", [[], ["tap.x"], ["tap.y", "tap.x"]])
def test_an_npz_with_other_arrays_than_it_describes(held, tmp_path):
    tensor = {"kind": "tap", "name": "y", "dtype": "F32", "shape": [2, 2], "file": "tap.y"}
    text = json.dumps({"format": 1, "about": {}, "tensors": [tensor]}).encode()
    arrays = {"manifest.json": numpy.frombuffer(text, "u1"), **dict.fromkeys(held, X)}
    numpy.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(CheckpointError, match="does not hold the arrays that it describes"):
        read_dump(tmp_path / "x.npz")


GOLDENS = {
    "made_by": 7, "goldens": [], "taps": 7, "inputs": {"nothing": 1}, "flags": None, "sha256": [],
    "outputs": [{}],
}  # fmt: skip


@pytest.mark.parametrize("key", GOLDENS)
def test_a_golden_that_is_odd(key, tmp_path):
    case = bundled() / "xlm_roberta" / "padding_left"
    for path in case.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    golden = json.loads((case / "golden.json").read_text())
    (tmp_path / "golden.json").write_text(json.dumps({**golden, key: GOLDENS[key]}))
    try:
        assert read_dump(tmp_path).about["flags"] is None
    except CheckpointError as error:
        said = str(error)
        assert str(tmp_path) in said


# --- folders --------------------------------------------------------------------------------------


def edit_manifest(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest["tensors"][1])
    path.write_text(json.dumps(manifest))


OUTSIDE = [
    "../secret.bin",
    "HERE/secret.bin",
    "a/../../secret.bin",
    "..\\secret.bin",
    "",
    ".",
    "#",
    "\0",
]


@pytest.mark.parametrize("file", OUTSIDE)
def test_a_manifest_leads_out_of_the_folder(file, tmp_path):
    (tmp_path / "secret.bin").write_bytes(RAW)
    file = file.replace("HERE", str(tmp_path))
    export_dump(DUMP, tmp_path / "mine", "raw")
    edit_manifest(tmp_path / "mine", lambda x: x.update(file=file))
    with pytest.raises(
        CheckpointError, match=r"layer\.0': expected a file of the folder|no such file"
    ):
        read_dump(tmp_path / "mine")


@pytest.mark.parametrize("form", ["raw", "npy", "onnx", "polygraphy"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [5]}, r"layer\.0': expected (F32 of shape \(5,\)|20 bytes)"),
        ({"shape": [2, 3]}, r"layer\.0': expected (F32 of shape \(2, 3\)|24 bytes)"),
        ({"dtype": "F64"}, r"layer\.0': expected (F64 of shape|32 bytes)"),
        ({"dtype": "F8"}, r"tensors\[1\]: expected kind, name, dtype and shape"),
        ({"shape": [2**63]}, r"tensors\[1\]: expected kind, name, dtype and shape"),
        ({"shape": [-1]}, r"tensors\[1\]: expected kind, name, dtype and shape"),
        ({"shape": [True, 4]}, r"tensors\[1\]: expected kind, name, dtype and shape"),
        ({"kind": "weight"}, r"tensors\[1\]: expected kind, name, dtype and shape"),
        ({"file": "missing.bin"}, "no such file"),
    ],
)
def test_a_manifest_that_lies(form, change, said, tmp_path):
    export_dump(DUMP, tmp_path / "mine", form)
    edit_manifest(tmp_path / "mine", lambda x: x.update(change))
    with pytest.raises(CheckpointError, match=said):
        read_dump(tmp_path / "mine")


def test_a_raw_file_that_is_cut_short(tmp_path):
    export_dump(DUMP, tmp_path / "mine", "raw")
    (tmp_path / "mine" / "tap.layer.0.bin").write_bytes(b"123")
    with pytest.raises(CheckpointError, match=r"tap\.layer\.0\.bin: .*expected 16 bytes.*found 3"):
        read_dump(tmp_path / "mine")


@pytest.mark.parametrize("file", ["../x.safetensors", "/x.safetensors", "..", "", "a\\b", 7, {}])
def test_a_tree_that_leads_out_of_its_folder(file, tmp_path):
    save_file({"data": X}, tmp_path / "x.safetensors")
    (tmp_path / "inner").mkdir()
    tree(tmp_path / "inner", children=[{"module_path": "M.a", "outputs": tensor(file, X)}])
    with pytest.raises(
        CheckpointError, match=r"M_debug_tree.*json: 'a': expected a file beside it"
    ):
        read_dump(tmp_path / "inner")


TREES = {
    "no file": ({"outputs": tensor("./no.safetensors", X)}, "no such file"),
    "odd children": ({"children": 7}, "expected a list 'children'"),
    "odd child": ({"children": [7]}, "expected modules, each with its 'module_path'"),
    "not a tensor": ({"outputs": tensor(["hello"], X, "int64")}, "expected a printed tensor"),
    "too few": ({"outputs": tensor(["tensor([1])"], X, "int64")}, "1 numbers are printed"),
    "words": ({"outputs": tensor(["tensor([a, b, c, d])"], X, "int64")}, "expected numbers, got"),
    "parts": ({"outputs": tensor(["tensor([1, 2, 3, 4.5])"], X, "int64")}, "expected numbers of"),
    "beyond": ({"outputs": tensor(["tensor([1, 2, 3, 999])"], X, "int8")}, "expected numbers of"),
    "truth": ({"outputs": tensor(["tensor([True, inf, inf, inf])"], X)}, "expected numbers of"),
    "odd dtype": ({"outputs": tensor(["tensor([1])"], X, "mine")}, "expected a printed tensor"),
    "nothing": ({}, "no tensor can be read from it"),
}


@pytest.mark.parametrize("case", TREES)
def test_a_tree_that_is_broken(case, tmp_path):
    node, said = TREES[case]
    tree(tmp_path, children=[{"module_path": "M.a", **node}])
    with pytest.raises(CheckpointError, match=said):
        read_dump(tmp_path)


def test_a_tree_that_is_deep(tmp_path):
    node = {"module_path": "M.a", "outputs": saved(tmp_path, "x", X)}
    for _ in range(70):
        node = {"module_path": "M.a", "children": [node]}
    tree(tmp_path, children=[node])
    with pytest.raises(CheckpointError, match="up to 64 modules"):
        read_dump(tmp_path)
    value = saved(tmp_path, "x", X)
    for _ in range(70):
        value = [value]
    tree(tmp_path, outputs=value)
    with pytest.raises(CheckpointError, match="up to 64 containers"):
        read_dump(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
@pytest.mark.parametrize("name", ["x.npz", "x.json", "x.npy", "x.pb", "x.safetensors", "x.pt"])
def test_a_pipe_is_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    for place in (tmp_path / name, tmp_path):
        with pytest.raises(CheckpointError):
            read_dump(place)


# --- at random ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Every format, written: format -> file of it -> bytes."""
    root = tmp_path_factory.mktemp("written")
    found = {}
    for form in FORMATS:
        (root / form).mkdir()
        export_dump(DUMP, root / form / "mine", form)
        found[form] = {
            path.relative_to(root / form).as_posix(): path.read_bytes()
            for path in (root / form).rglob("*")
            if path.is_file()
        }
    folder = root / "tree"
    folder.mkdir()
    node = {
        "module_path": "M.a",
        "outputs": [saved(folder, "x", X), tensor(["tensor(5)"], X[0, 0], "int64")],
    }
    tree(folder, children=[node])
    found["tree"] = {f"mine/{path.name}": path.read_bytes() for path in folder.iterdir()}
    case = bundled() / "xlm_roberta" / "padding_left"
    found["golden"] = {f"mine/{path.name}": path.read_bytes() for path in case.iterdir()}
    stores = [torch.store_of(X)]
    state = {"a": [torch.tensor(stores[0], 0, (2, 2), (2, 1))]}
    found["torch"] = {"mine": torch.zip_file(torch.pickled(state), stores)}
    return found


@st.composite
def damages(draw):
    """Something that can happen to bytes."""
    kind = draw(st.sampled_from(["cut", "flip", "put", "drop"]))
    at, more = draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=9))

    def damage(content):
        place = int(at * max(len(content) - 1, 0))
        if kind == "cut":
            return content[:place]
        if kind == "flip":
            changed = bytes(x ^ y for x, y in zip(content[place:], more, strict=False))
            return content[:place] + changed + content[place + len(changed) :]
        return content[:place] + more * (kind == "put") + content[place + len(more) :]

    return damage


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(damage=damages(), chosen=st.floats(0, 0.999))
@pytest.mark.parametrize("form", [*FORMATS, "tree", "torch", "golden"])
def test_damage_is_found_or_leaves_a_dump(form, damage, chosen, written):
    files = written[form]
    broken = sorted(files)[int(chosen * len(files))]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(damage(content) if name == broken else content)
        try:
            dump = read_dump(Path(folder) / "mine")
        except CheckpointError as error:
            said = str(error)
            assert folder in said
        else:
            for array in (*dump.inputs.values(), *dump.taps.values(), *dump.outputs.values()):
                zlib.crc32(numpy.ascontiguousarray(array))  # every byte is there
