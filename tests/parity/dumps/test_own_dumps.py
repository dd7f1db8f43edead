"""Our own dumps, and every export: what is written reads back bit for bit, or is not there."""

import doctest
import importlib
import json
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from safetensors.numpy import load_file

from refimpl.errors import CheckpointError
from refimpl.models.model import load
from refimpl.parity.dumps import FORMATS, Dump, export_dump, list_dump, read_dump, write_dump
from refimpl.parity.goldens import bundled, read_golden
from refimpl.parity.reference import run_reference
from tests.parity.dumps.drawn import assert_equal, dumps

MODULES = (
    "debugger", "description", "dump", "exporting", "json_files", "manifest", "numbers",
    "numpy_files", "onnx_files", "own", "polygraphy", "printed", "reading", "torch_files",
)  # fmt: skip
CASE = bundled() / "xlm_roberta" / "padding_left"
EXAMPLE = Dump(
    {"layer.0": numpy.asarray([[1.5, -2.0]], "f4"), "mask": numpy.asarray([True, False])},
    {"logits": numpy.asarray(0.25)},
    {"input_ids": numpy.asarray([[0, 5, 2]])},
    {"made_by": "a test", "bfloat16": ["tap.layer.0"]},
)


@pytest.fixture(scope="module")
def reference():
    golden = read_golden(CASE)
    return run_reference(load(golden.folder, dtype="float64"), golden.inputs())


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(f"refimpl.parity.dumps.{name}")).failed == 0


@pytest.mark.parametrize("form", FORMATS)
def test_a_run_reads_back_as_it_was(reference, form, tmp_path):
    export_dump(reference, tmp_path / "mine", form)
    assert_equal(read_dump(tmp_path / "mine"), reference)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(dump=dumps())
@pytest.mark.parametrize("form", FORMATS)
def test_every_dump_reads_back_bit_for_bit(form, dump):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine"
        export_dump(dump, path, form)
        assert_equal(read_dump(path), dump)
        assert [x.name for x in path.parent.iterdir() if x.name.startswith(".")] == []


def test_the_file_is_plain_safetensors(reference, tmp_path):
    write_dump(tmp_path / "mine.safetensors", reference)
    tensors = load_file(tmp_path / "mine.safetensors")
    names = [f"tap.{name}" for name in reference.taps]
    names += [f"input.{name}" for name in reference.inputs]
    assert set(names + [f"output.{name}" for name in reference.outputs]) == set(tensors)
    for name, array in reference.taps.items():
        assert (tensors[f"tap.{name}"] == array).all()


def test_bfloat16_is_written_as_bfloat16(tmp_path):
    write_dump(tmp_path / "mine.safetensors", EXAMPLE)
    data = (tmp_path / "mine.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert header["tap.layer.0"]["dtype"] == "BF16"
    assert header["output.logits"] == {"dtype": "F64", "shape": [], "data_offsets": [24, 32]}


def test_every_tensor_begins_at_a_multiple_of_its_numbers_size(tmp_path):
    taps = {f"x{i}": numpy.ones(3, dtype) for i, dtype in enumerate(("u1", "f8", "f2", "f4", "?"))}
    write_dump(tmp_path / "mine.safetensors", Dump(taps))
    data = (tmp_path / "mine.safetensors").read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    for name, x in taps.items():
        assert (start + header[f"tap.{name}"]["data_offsets"][0]) % x.itemsize == 0


def test_the_list_beside_it(tmp_path):
    write_dump(tmp_path / "mine.safetensors", EXAMPLE)
    listed = json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))
    assert listed == list_dump(EXAMPLE)
    assert listed["about"] == {"made_by": "a test"}
    assert listed["tensors"] == [
        {"kind": "input", "name": "input_ids", "dtype": "I64", "shape": [1, 3]},
        {"kind": "tap", "name": "layer.0", "dtype": "BF16", "shape": [1, 2]},
        {"kind": "tap", "name": "mask", "dtype": "BOOL", "shape": [2]},
        {"kind": "output", "name": "logits", "dtype": "F64", "shape": []},
    ]


def test_a_golden_is_a_dump():
    golden, dump = read_golden(CASE), read_dump(CASE)
    assert list(dump.taps) == list(golden.description["taps"])
    assert dump.about["architecture"] == "XLMRobertaModel"
    assert (dump.outputs["last_hidden_state"] == golden.part("output")["last_hidden_state"]).all()


def test_an_old_dump_is_replaced_and_can_be_while_it_is_read(tmp_path):
    path = tmp_path / "mine.safetensors"
    write_dump(path, EXAMPLE)
    write_dump(path, read_dump(path))
    assert_equal(read_dump(path), EXAMPLE)
    write_dump(path, Dump({"other": numpy.zeros(2)}))
    assert list(read_dump(path).taps) == ["other"]


@pytest.mark.parametrize(
    ("dump", "error", "said"),
    [
        (Dump({"x": numpy.asarray(["a"])}), TypeError, "tap.x: expected one of F64"),
        (Dump({"x": numpy.asarray([1j])}), TypeError, "tap.x: expected one of F64"),
        (Dump({"x": numpy.asarray([None])}), TypeError, "tap.x: expected one of F64"),
        (Dump({}, {"\ud800": numpy.zeros(1)}), ValueError, "half a character"),
        (Dump({}, about={"x": float("nan")}), ValueError, "JSON"),
        (Dump({}, about={"x": numpy.float64}), TypeError, "JSON"),
        (
            Dump({"x": numpy.asarray([0.1], "f4")}, about={"bfloat16": ["tap.x"]}),
            ValueError, "tap.x: about says bfloat16, and not all of its numbers are",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", FORMATS)
def test_what_no_file_can_hold_leaves_nothing(form, dump, error, said, tmp_path):
    with pytest.raises(error, match=said):
        export_dump(dump, tmp_path / "mine", form)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMATS)
def test_a_place_that_cannot_be_written(form, tmp_path):
    with pytest.raises(CheckpointError, match="mine"):
        export_dump(EXAMPLE, tmp_path / "missing" / "mine", form)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    with pytest.raises(CheckpointError, match="mine"):
        export_dump(EXAMPLE, tmp_path / "mine", form)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "file"]


@pytest.mark.parametrize("form", ["npz", "npy", "raw"])
def test_names_of_files_are_others_where_case_does_not_count(form, tmp_path):
    dump = Dump({"Layer": numpy.zeros(1), "layer": numpy.ones(1), "0001": numpy.ones(2)})
    export_dump(dump, tmp_path / "mine", form)
    if form == "npz":
        names = zipfile.ZipFile(tmp_path / "mine").namelist()
    else:
        names = [path.name for path in (tmp_path / "mine").rglob("*.*")]
    assert len({name.lower() for name in names}) == len(names) == 4
    assert_equal(read_dump(tmp_path / "mine"), dump)


def test_an_unknown_format(tmp_path):
    with pytest.raises(ValueError, match=r"format: expected one of safetensors, npz.*got 'hdf5'"):
        export_dump(EXAMPLE, tmp_path / "mine", "hdf5")
