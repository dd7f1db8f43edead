"""Dumps of other programs, written here as they write them: names, order, numbers."""

import base64
import io
import json
import struct
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn
from safetensors.numpy import save_file

from refimpl.errors import CheckpointError
from refimpl.parity.dumps import read_dump
from refimpl.parity.dumps.numpy_files import npy_bytes, parse_npy
from refimpl.parity.dumps.onnx_files import parse_tensor, unpack_varints
from refimpl.parity.dumps.printed import parse_printed
from refimpl.tokenizers.xlm_roberta.protobuf import FIXED32, FIXED64, field, write_varint
from tests.checkpoints import torch_bytes as torch

IDS = numpy.asarray([[0, 5, 2]])
X = numpy.asarray([[1.5, -2.25], [0.0, 3.5]], "f4")
NARROW = numpy.asarray([0x3FC0, 0xC010], "u2")  # bfloat16: 1.5, -2.25


def assert_holds(dump, *, inputs=(), taps=(), outputs=()):
    """A dump holds these arrays, of these dtypes, and no others."""
    for part, expected in (("inputs", inputs), ("taps", taps), ("outputs", outputs)):
        found, expected = getattr(dump, part), dict(expected)
        assert list(found) == list(expected)
        for name, x in expected.items():
            assert found[name].dtype == x.dtype, name
            numpy.testing.assert_array_equal(found[name], x, strict=True)


# --- names ----------------------------------------------------------------------------------------


def test_names_are_sorted_out(tmp_path):
    names = ["tap.layer.0", "input.position_ids", "output.logits", "output", "attention_mask"]
    numpy.savez(tmp_path / "x.npz", **dict.fromkeys([*names, "tapped.x", "position_ids"], X))
    dump = read_dump(tmp_path / "x.npz")
    assert list(dump.inputs) == ["position_ids", "attention_mask"]
    assert list(dump.taps) == ["layer.0", "output", "tapped.x", "position_ids"]
    assert list(dump.outputs) == ["logits"]


def test_two_tensors_of_one_name(tmp_path):
    numpy.savez(tmp_path / "x.npz", **{"tap.layer": X, "layer": X})
    with pytest.raises(CheckpointError, match=r"x\.npz: two tensors are the tap 'layer'"):
        read_dump(tmp_path / "x.npz")


# --- safetensors ----------------------------------------------------------------------------------


def test_safetensors(tmp_path):
    save_file({"layer.0": X, "input_ids": IDS}, tmp_path / "x.safetensors", {"made_by": "mine"})
    dump = read_dump(tmp_path / "x.safetensors")
    assert_holds(dump, inputs={"input_ids": IDS}, taps={"layer.0": X})
    assert dump.about["made_by"] == "mine"


def test_safetensors_by_content_and_in_bfloat16(tmp_path):
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    content = struct.pack("<Q", len(header)) + header + NARROW.tobytes()
    (tmp_path / "dump").write_bytes(content)
    dump = read_dump(tmp_path / "dump")
    assert_holds(dump, taps={"x": numpy.asarray([1.5, -2.25], "f4")})
    assert dump.about["bfloat16"] == ["tap.x"]


# --- NumPy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [numpy.savez, numpy.savez_compressed])
def test_npz(save, tmp_path):
    more = {"half": X.astype("f2"), "none": X[:0], "one": X[0, 0], "big": X.astype(">f8")}
    save(tmp_path / "x.npz", input_ids=IDS, turned=X.T, **more)
    more["big"] = X.astype("f8")
    dump = read_dump(tmp_path / "x.npz")
    more["one"] = numpy.asarray(X[0, 0])
    assert_holds(dump, inputs={"input_ids": IDS}, taps={"turned": X.T, **more})


def test_an_npz_of_nothing(tmp_path):
    numpy.savez(tmp_path / "x.npz")
    with pytest.raises(CheckpointError, match=r"x\.npz: there are no tensors in it"):
        read_dump(tmp_path / "x.npz")


def test_bfloat16_of_jax_in_npz(tmp_path):
    numpy.savez(tmp_path / "x.npz", x=NARROW.view("V2"))
    dump = read_dump(tmp_path / "x.npz")
    assert_holds(dump, taps={"x": numpy.asarray([1.5, -2.25], "f4")})
    assert dump.about["bfloat16"] == ["tap.x"]


def test_a_folder_of_npy(tmp_path):
    (tmp_path / "layer" / "0").mkdir(parents=True)
    for name in ("layer/0/query", "logits", "input_ids"):
        numpy.save(tmp_path / f"{name}.npy", IDS if name == "input_ids" else X)
    dump = read_dump(tmp_path)
    assert_holds(dump, inputs={"input_ids": IDS}, taps={"layer.0.query": X, "logits": X})
    assert_holds(read_dump(tmp_path / "logits.npy"), taps={"logits": X})


def test_two_files_of_one_name(tmp_path):
    (tmp_path / "layer").mkdir()
    numpy.save(tmp_path / "layer" / "0.npy", X)
    numpy.save(tmp_path / "layer.0.npy", X)
    with pytest.raises(CheckpointError, match=r"a second file for the name 'layer\.0'"):
        read_dump(tmp_path)


@given(
    x=drawn.arrays(
        st.sampled_from(["<f4", ">f8", "f2", "?", ">i2", "<i8", "u1"]),
        drawn.array_shapes(min_dims=0, min_side=0, max_side=4),
    ),
    fortran=st.booleans(),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_npy_as_numpy_writes_it(x, fortran, version):
    file = io.BytesIO()
    x = numpy.asarray(x, order="F") if fortran else x
    numpy.lib.format.write_array(file, x, version, allow_pickle=False)
    found = parse_npy(numpy.frombuffer(file.getvalue(), "u1"), "x").array
    assert found.dtype == x.dtype.newbyteorder("<")
    assert found.shape == x.shape
    assert found.astype(x.dtype).tobytes() == x.tobytes()
    if not fortran and version == (1, 0):
        assert npy_bytes(x) == file.getvalue()


def test_npy_of_other_writers():
    header = b"{'shape': (2,2,),\"fortran_order\":False ,'descr':'=f4'}\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + X.tobytes()
    assert (parse_npy(numpy.frombuffer(content, "u1"), "x").array == X).all()


# --- PyTorch --------------------------------------------------------------------------------------


def torch_tensor(array, key):
    store = torch.store_of(array, key)
    return store, torch.tensor(store, 0, array.shape, torch.strides_of(array))


def test_torch(tmp_path):
    stores, tensors = zip(
        *(torch_tensor(x, str(i)) for i, x in enumerate((IDS, X, X))), strict=True
    )
    value = {"input_ids": tensors[0], "layer": [(tensors[1],), {"q": tensors[2]}], 3: 5, "n": None}
    pickle = torch.pickled(value)
    (tmp_path / "x.pt").write_bytes(torch.zip_file(pickle, stores))
    dump = read_dump(tmp_path / "x.pt")
    assert_holds(dump, inputs={"input_ids": IDS}, taps={"layer.0.0": X, "layer.1.q": X})


def test_torch_one_tensor_in_bfloat16(tmp_path):
    store = torch.Store("0", "BFloat16Storage", 2, NARROW.tobytes())
    (tmp_path / "mine").write_bytes(
        torch.zip_file(torch.pickled(torch.tensor(store, 0, (2,), (1,))), [store])
    )
    dump = read_dump(tmp_path / "mine")
    assert_holds(dump, taps={"mine": numpy.asarray([1.5, -2.25], "f4")})
    assert dump.about["bfloat16"] == ["tap.mine"]


def test_a_folder_of_torch_files(tmp_path):
    (tmp_path / "layer" / "0").mkdir(parents=True)
    store, one = torch_tensor(X, "0")
    (tmp_path / "layer" / "0" / "q.pt").write_bytes(torch.zip_file(torch.pickled(one), [store]))
    (tmp_path / "out.pt").write_bytes(torch.state_file({"logits": X, "mask": IDS}))
    dump = read_dump(tmp_path)
    assert_holds(dump, taps={"layer.0.q": X, "out.logits": X, "out.mask": IDS})
    (tmp_path / "layer.0.q.pt").write_bytes(torch.zip_file(torch.pickled(one), [store]))
    with pytest.raises(CheckpointError, match=r"a second tensor of the name 'layer\.0\.q'"):
        read_dump(tmp_path)


def test_torch_of_old(tmp_path):
    (tmp_path / "x.bin").write_bytes(torch.state_file({"layer": X}, "legacy"))
    assert_holds(read_dump(tmp_path / "x.bin"), taps={"layer": X})


# --- Polygraphy -----------------------------------------------------------------------------------


def encoded(x):
    file = io.BytesIO()
    numpy.save(file, x)
    return {"array": base64.b64encode(file.getvalue()).decode(), "polygraphy_class": "ndarray"}


def results(*runners):
    """A file of results: for each runner its name, then its iterations."""
    lists = [
        [name, [{"outputs": {k: {"values": encoded(x)} for k, x in it.items()}} for it in its]]
        for name, *its in runners
    ]
    return json.dumps({"lst": lists, "polygraphy_class": "RunResults"})


def test_polygraphy(tmp_path):
    (tmp_path / "x.json").write_text(results(("ort", {"logits": X, "tap.layer": IDS})))
    dump = read_dump(tmp_path / "x.json")
    assert_holds(dump, taps={"logits": X, "layer": IDS})
    assert dump.about["made_by"] == "ort"


def test_polygraphy_inputs(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps([{"input_ids": encoded(IDS), "own": encoded(X)}]))
    assert_holds(read_dump(tmp_path / "x.json"), inputs={"input_ids": IDS, "own": X})


def test_polygraphy_of_several(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(results(("ort", {"x": X}), ("trt", {"x": X + 1}, {"x": X + 2})))
    for part, expected in (("#0", X), ("#1.0", X + 1), ("#1.1", X + 2)):
        assert_holds(read_dump(f"{path}{part}"), taps={"x": expected})
    for part, said in {
        "": r"x\.json: runners: expected one, choose by writing behind the path: #0 ort, #1 trt",
        "#1": r"iterations of 'trt': expected one, choose by writing behind the path: #1\.0, #1\.1",
        "#2": r"runners: there is no #2, they are 2",
        "#1.7": r"iterations of 'trt': there is no #1\.7, they are 2",
        "#ort": "expected #RUNNER or #RUNNER.ITERATION, got #ort",
    }.items():
        with pytest.raises(CheckpointError, match=said):
            read_dump(f"{path}{part}")


# --- the debugger of transformers -----------------------------------------------------------------


def tensor(value, x, dtype="float32"):
    return {"shape": f"torch.Size({list(x.shape)})", "dtype": f"torch.{dtype}", "value": value}


def tree(folder, **node):
    """Write a tree of the module "M" to a folder."""
    text = json.dumps({"module_path": "M", **node})
    (folder / "M_debug_tree_FULL_TENSORS.json").write_text(text)
    return folder


def saved(folder, name, x):
    save_file({"data": x}, folder / f"{name}.safetensors")
    return tensor(f"./{name}.safetensors", x)


def test_the_debugger_with_files(tmp_path):
    leaf = {
        "module_path": "M.layer.0.dense",
        "inputs": {"args": [saved(tmp_path, "in", X)], "kwargs": {"mask": "None"}},
        "outputs": [saved(tmp_path, "out", X + 1), {"more": saved(tmp_path, "more", X + 2)}],
    }
    block = {"module_path": "M.layer.0", "inputs": None, "children": [leaf]}
    given = {"args": [saved(tmp_path, "ids", IDS)], "kwargs": {"langs": saved(tmp_path, "l", IDS)}}
    for name in ("logits", "hidden_states_10", "hidden_states_2"):
        save_file({"data": X}, tmp_path / f"M_outputs_{name}.safetensors")
    dump = read_dump(tree(tmp_path, inputs=given, children=[block]))
    outputs = ("hidden_states.2", "hidden_states.10", "logits")
    assert_holds(
        dump,
        inputs={"input_ids": IDS, "langs": IDS},
        taps={
            "layer.0.dense.inputs.0": X,
            "layer.0.dense.0": X + 1,
            "layer.0.dense.1.more": X + 2,
        },
        outputs=dict.fromkeys(outputs, X),
    )
    again = read_dump(tmp_path / "M_debug_tree_FULL_TENSORS.json")
    assert_holds(again, inputs=dump.inputs, taps=dump.taps, outputs=dump.outputs)


def test_a_module_that_is_called_twice(tmp_path):
    again = saved(tmp_path, "same", X)
    other = {"module_path": "M.b", "outputs": tensor(["tensor([1, 2])"], IDS[0, :2], "int64")}
    children = [{"module_path": "M.a", "outputs": again}, other] * 2
    dump = read_dump(tree(tmp_path, children=children))
    assert_holds(
        dump, taps={"b": IDS[0, :2] * 0 + [1, 2], "a#2": X, "b#2": IDS[0, :2] * 0 + [1, 2]}
    )
    assert dump.about["left_out"] == {"a": "a later call wrote over its file"}


PRINTED = {
    "all digits": (["tensor([[1.50000000e+00,", "         inf]], grad_fn=<X>)"], "float32", ""),
    "half": (["tensor([[1.5000e+00, nan]], dtype=torch.float16)"], "float16", ""),
    "five digits": (["tensor([[1.5000e+00, 2.0000e+00]])"], "float32", "fewer than the 9 digits"),
    "not scientific": (
        ["tensor([[1.50000000, 0.00000012]])"],
        "float32",
        "fewer than the 9 digits",
    ),
    "abbreviated": (["tensor([[1.50000000e+00, ...]])"], "float32", "printed abbreviated"),
}


@pytest.mark.parametrize("case", PRINTED)
def test_printed_numbers_are_taken_where_they_are_exact(case, tmp_path):
    lines, dtype, reason = PRINTED[case]
    whole = {"module_path": "M.b", "outputs": tensor(["tensor(7)"], numpy.asarray(7), "int64")}
    part = {"module_path": "M.a", "outputs": tensor(lines, X[:1], dtype)}
    dump = read_dump(tree(tmp_path, children=[whole, part]))
    assert dump.taps["b"] == 7
    assert ("a" in dump.taps) == (not reason)
    assert reason in dump.about.get("left_out", {"a": ""})["a"]
    tree(tmp_path, children=[part])
    if reason:
        with pytest.raises(CheckpointError, match="record with use_repr=False"):
            read_dump(tmp_path)


@given(bits=st.integers(0, 2**16 - 1))
def test_printed_bfloat16_is_the_number(bits):
    value = (numpy.asarray(bits, "u4") << 16).view("f4")
    text = f"{value:.4e}" if numpy.isfinite(value) else str(value)
    found = parse_printed(f"tensor({text})", "torch.bfloat16", "torch.Size([])").array
    assert numpy.array_equal(found, value, equal_nan=True)


def test_a_summary_has_no_values(tmp_path):
    node = {"module_path": "M.a", "outputs": {"shape": "torch.Size([1])", "dtype": "torch.int64"}}
    path = tmp_path / "M_debug_tree_SUMMARY.json"
    path.write_text(json.dumps({"module_path": "M", "children": [node]}))
    for place in (tmp_path, path):
        with pytest.raises(CheckpointError, match=r"a summary holds mean.*no values.*FULL_TENSORS"):
            read_dump(place)


# --- ONNX -----------------------------------------------------------------------------------------


def message(name, kind, dims, numbers):
    return b"".join(
        [*(field(1, size) for size in dims), field(2, kind), field(8, name.encode()), numbers]
    )


def packed(values):
    return b"".join(write_varint(value % 2**64) for value in values)


TENSORS = {
    "raw": (1, field(9, X.tobytes()), X),
    "floats": (1, field(4, X.tobytes()), X),
    "floats, one by one": (1, b"".join(field(4, x.tobytes(), FIXED32) for x in X.reshape(-1)), X),
    "doubles": (11, field(10, X.astype("f8").tobytes()), X.astype("f8")),
    "double by double": (
        11, b"".join(field(10, x.tobytes(), FIXED64) for x in X.astype("f8").reshape(-1)),
        X.astype("f8"),
    ),
    "half as integers": (
        10, field(5, packed(X.astype("f2").view("u2").reshape(-1).tolist())), X.astype("f2"),
    ),
    "bfloat16 as integers": (16, field(5, packed((X.view("u4") >> 16).reshape(-1).tolist())), X),
    "bfloat16 raw": (16, field(9, (X.view("u4") >> 16).astype("u2").tobytes()), X),
    "negative": (3, field(5, packed([-1, 2, -128, 127])),
                 numpy.asarray([[-1, 2], [-128, 127]], "i1")),
    "booleans": (9, field(5, packed([1, 0, 0, 1])), numpy.asarray([[True, False], [False, True]])),
    "longs": (7, field(7, packed([-(2**63), -1, 0, 2**63 - 1])),
              numpy.asarray([[-(2**63), -1], [0, 2**63 - 1]])),
    "long by long": (7, b"".join(field(7, x) for x in (1, 2, 3, 4)),
                     numpy.asarray([[1, 2], [3, 4]])),
    "unsigned": (13, field(11, packed([0, 1, 2, 2**64 - 1])),
                 numpy.asarray([[0, 1], [2, 2**64 - 1]], "u8")),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSORS)
def test_onnx_tensors_in_every_field(case):
    kind, numbers, expected = TENSORS[case]
    name, found = parse_tensor(message("x", kind, (2, 2), numbers), "x.pb")
    assert name == "x"
    assert found.array.dtype == expected.dtype
    assert (found.array == expected).all()


def test_dims_may_be_packed():
    _, found = parse_tensor(
        field(1, packed([2, 2])) + message("x", 1, (), field(9, X.tobytes())), ""
    )
    assert (found.array == X).all()


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_varints(values):
    assert unpack_varints(packed(values)).tolist() == values


def test_a_test_data_set(tmp_path):
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    tensors = {
        "input_0": "input_ids",
        "output_2": "b",
        "output_10": "c",
        "output_0": "",
        "tap_0": "t",
    }
    for i, (file, name) in enumerate(tensors.items()):
        (folder / f"{file}.pb").write_bytes(message(name, 1, (2, 2), field(9, (X + i).tobytes())))
    (folder / "seen.tensorproto").write_bytes(message("", 1, (2, 2), field(9, X.tobytes())))
    for place in (folder, tmp_path):
        assert_holds(
            read_dump(place),
            inputs={"input_ids": X},
            taps={"seen": X, "t": X + 4},
            outputs={"output_0": X + 3, "b": X + 1, "c": X + 2},
        )
    assert_holds(read_dump(folder / "tap_0.pb"), taps={"t": X + 4})
    (tmp_path / "test_data_set_1").mkdir()
    with pytest.raises(CheckpointError, match="one of its test data sets: test_data_set_0, test_d"):
        read_dump(tmp_path)


# --- what a dump is -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it begins with b''"),
        (b"hello", "it begins with b'hello'"),
        (b"{}", "JSON of Polygraphy"),
        (b"[]", "JSON of Polygraphy"),
        (b"[1, {}]", "JSON of Polygraphy"),
    ],
)
def test_what_is_no_dump(content, said, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"/x: expected.*{said}"):
        read_dump(tmp_path / "x")


@pytest.mark.parametrize("path", ["missing", "missing.npz", "missing.json#1", "x\0y", "a" * 999])
def test_no_such_file(path, tmp_path):
    with pytest.raises(CheckpointError, match=r"no such file|cannot be read"):
        read_dump(Path(tmp_path) / path)


def test_an_empty_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected a golden case, manifest\.json"):
        read_dump(tmp_path)
