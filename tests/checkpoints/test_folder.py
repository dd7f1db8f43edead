"""A checkpoint folder: one file or shards, config.json, hub ids, and what is wrong with others."""

import json
import sys

import numpy
import pytest
from safetensors.numpy import load_file

from refimpl.checkpoints.folder import (
    INDEX,
    SINGLE,
    TORCH_INDEX,
    TORCH_SINGLE,
    find_folder,
    open_tensors,
    read_json,
)
from refimpl.errors import CheckpointError
from refimpl.models.model import load
from tests.checkpoints import torch_bytes
from tests.compare import assert_same


@pytest.fixture
def sharded(checkpoint, write):
    """The case "model", its tensors dealt out to three files."""
    folder = checkpoint("model")
    tensors = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    shards = {name: f"model-{i % 3 + 1:05}-of-00003.safetensors" for i, name in enumerate(tensors)}
    for shard in set(shards.values()):
        write(folder / shard, {n: x for n, x in tensors.items() if shards[n] == shard})
    index = {"metadata": {"total_size": 1}, "weight_map": shards}
    (folder / INDEX).write_text(json.dumps(index))
    return folder


@pytest.fixture
def in_torch(checkpoint):
    """A function that copies a case, its tensors in ``pytorch_model.bin``, or in three of it."""

    def copy(case, form="zip", shards=1):
        folder = checkpoint(case)
        tensors = load_file(folder / SINGLE)
        (folder / SINGLE).unlink()
        files = [f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" for i in range(shards)]
        files = files if shards > 1 else [TORCH_SINGLE]
        weight_map = {name: files[i % shards] for i, name in enumerate(tensors)}
        for file in files:
            part = {name: x for name, x in tensors.items() if weight_map[name] == file}
            (folder / file).write_bytes(torch_bytes.state_file(part, form))
        if shards > 1:
            (folder / TORCH_INDEX).write_text(json.dumps({"weight_map": weight_map}))
        return folder

    return copy


def set_weight_map(folder, weight_map):
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def weight_map_of(folder):
    return json.loads((folder / INDEX).read_text())["weight_map"]


# --- weights --------------------------------------------------------------------------------------


def test_one_file(checkpoint):
    folder = checkpoint("model")
    tensors = open_tensors(folder)
    expected = load_file(folder / SINGLE)
    assert set(tensors) == set(expected)
    assert len(tensors) == len(expected)
    for name, x in expected.items():
        assert_same(tensors[name], x)
        assert tensors.shape(name) == x.shape


def test_shards_hold_what_the_one_file_held(checkpoint, sharded):
    whole, parts = open_tensors(checkpoint("model")), open_tensors(sharded)
    assert set(parts) == set(whole)
    for name, x in whole.items():
        assert_same(parts[name], x)
        assert parts.shape(name) == x.shape


def test_shards_make_the_same_model(model, sharded):
    ids = [[0, 17, 5, 2]]
    actual = load(sharded, dtype="float64", kernels="plain")(input_ids=ids)
    assert_same(actual.last_hidden_state, model("model")(input_ids=ids).last_hidden_state)


def test_the_one_file_counts_where_both_are_there(checkpoint):
    folder = checkpoint("model")
    (folder / INDEX).write_text("broken")
    assert len(open_tensors(folder)) > 0


def test_neither(checkpoint):
    folder = checkpoint("model")
    (folder / SINGLE).unlink()
    with pytest.raises(CheckpointError) as caught:
        open_tensors(folder)
    names = ", ".join([SINGLE, INDEX, TORCH_SINGLE, TORCH_INDEX])
    assert str(caught.value) == f"{folder}: expected one of {names}, found none"


def test_index_names_tensors_that_their_shard_lacks(sharded):
    weight_map = weight_map_of(sharded)
    shard = weight_map["pooler.dense.bias"]
    set_weight_map(sharded, weight_map | {"lost.one": shard, "lost.two": shard})
    with pytest.raises(CheckpointError) as caught:
        open_tensors(sharded)
    assert str(caught.value) == f"{sharded / INDEX}: not in the shard it names: lost.one, lost.two"


def test_a_shard_is_missing(sharded):
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003.safetensors: no such file$"):
        open_tensors(sharded)


@pytest.mark.parametrize(
    ("shard", "got"),
    [
        *[(x, repr(x)) for x in ("../x.safetensors", "/x.safetensors", "sub/x", ".", 3, None)],
        (["x"], "a list"),
        ({"x": 1}, "a dict"),
        ("x" * 256, f"'{'x' * 40}'..."),
    ],
)
def test_a_shard_is_a_file_of_the_folder(sharded, shard, got):
    set_weight_map(sharded, weight_map_of(sharded) | {"pooler.dense.bias": shard})
    with pytest.raises(CheckpointError) as caught:
        open_tensors(sharded)
    expected = f"expected a file name in this folder, got {got}"
    assert str(caught.value) == f"{sharded / INDEX}: {expected}"


def test_of_many_lost_tensors_some_are_named(sharded):
    weight_map = weight_map_of(sharded)
    shard = next(iter(weight_map.values()))
    set_weight_map(sharded, weight_map | {f"lost.{i}": shard for i in range(10_000)})
    with pytest.raises(CheckpointError, match=r"lost\.19, \.\.\.$"):
        open_tensors(sharded)


@pytest.mark.parametrize("shard", ["", "..", "a\0b", "\ud800", "é" * 255])
def test_a_shard_whose_name_no_file_can_have(sharded, shard):
    set_weight_map(sharded, {"a": shard})
    with pytest.raises(CheckpointError, match="expected a safetensors file"):
        open_tensors(sharded)


def test_a_shard_may_be_a_link_out_of_the_folder(sharded, tmp_path):
    shard = sharded / "model-00001-of-00003.safetensors"  # so the hub's cache keeps its files
    shard.rename(tmp_path / "blob")
    shard.symlink_to(tmp_path / "blob")
    assert len(open_tensors(sharded)) == len(weight_map_of(sharded))


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": 1}])
def test_an_index_without_a_weight_map(sharded, index):
    (sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=f"{INDEX}: expected a weight_map of tensor names"):
        open_tensors(sharded)


# --- weights in files of PyTorch ------------------------------------------------------------------


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("shards", [1, 3])
def test_files_of_pytorch_hold_the_same(checkpoint, in_torch, form, shards):
    folder = in_torch("masked_lm", form, shards)
    actual, expected = open_tensors(folder), open_tensors(checkpoint("masked_lm"))
    assert set(actual) == set(expected)
    for name, x in expected.items():
        assert_same(actual[name], x)
        assert_same(actual.stored(name), expected.stored(name))
        assert actual.shape(name) == x.shape
        assert actual.dtype(name) == expected.dtype(name) == "F32"


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("stream", [False, True])
def test_files_of_pytorch_make_the_same_model(model, in_torch, form, stream):
    ids = [[0, 17, 5, 2]]
    made = load(in_torch("masked_lm", form), dtype="float64", kernels="plain", stream=stream)
    assert_same(made(input_ids=ids).logits, model("masked_lm")(input_ids=ids).logits)


def test_safetensors_count_where_both_are_there(in_torch, checkpoint):
    folder = checkpoint("model")
    for broken in (TORCH_SINGLE, TORCH_INDEX):
        (folder / broken).write_bytes(b"broken")
    assert len(open_tensors(folder)) > 0
    folder = in_torch("model")
    (folder / TORCH_INDEX).write_bytes(b"broken")
    assert len(open_tensors(folder)) > 0


def test_tied_tensors_have_one_first_name(in_torch, write):
    folder = in_torch("model")
    x, y = numpy.ones((2, 3), "f4"), numpy.zeros(2, "f4")
    (folder / "one").write_bytes(torch_bytes.state_file({"a": x, "b": y, "c": x}))
    (folder / "two").write_bytes(torch_bytes.state_file({"d": y, "e": y, "a": x}))
    (folder / TORCH_SINGLE).unlink()
    weight_map = {"b": "one", "c": "one", "d": "two", "e": "two"}
    (folder / TORCH_INDEX).write_text(json.dumps({"weight_map": weight_map}))
    tensors = open_tensors(folder)
    # "a" is no name of this checkpoint, though the file has it.
    assert {name: tensors.first_name(name) for name in tensors} == {
        "b": "b", "c": "c", "d": "d", "e": "d",
    }  # fmt: skip
    write(folder / SINGLE, {"a": x, "c": x})
    assert [open_tensors(folder).first_name(name) for name in "ac"] == ["a", "c"]


def test_a_pickle_that_wants_to_run(in_torch):
    folder = in_torch("model")
    system = torch_bytes.name("os", "system")
    attack = torch_bytes.pickled({"w": torch_bytes.call(system, f"touch {folder / 'ran'}")})
    (folder / TORCH_SINGLE).write_bytes(torch_bytes.zip_file(attack, []))
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{folder / TORCH_SINGLE}: pickle, byte ")
    assert "refused 'os.system'" in str(caught.value)
    assert not (folder / "ran").exists()


# --- JSON -----------------------------------------------------------------------------------------


def test_read_json(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes('{"a": ["ä", 1e-5]}'.encode())
    assert read_json(path) == {"a": ["ä", 1e-5]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected a JSON file"),
        (b"{", "expected a JSON file"),
        (b"\xff\xfe", "expected a JSON file"),
        (b"\xef\xbb\xbf{}", "expected a JSON file"),
        (b"[" * 100_000, "expected a JSON file"),
        (b'{"a":' * 100_000, "expected a JSON file"),
        (b'{"a": ' + b"9" * 5000 + b"}", "expected a JSON file"),
        (b"[]", "expected a JSON object, got list"),
        (b"null", "expected a JSON object, got NoneType"),
        (b'"{}"', "expected a JSON object, got str"),
    ],
    ids=lambda x: repr(x[:9]) if isinstance(x, bytes) else "",
)
def test_what_is_no_json_object(tmp_path, content, expected):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: {expected}")


def test_a_json_file_that_is_too_large(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"a": "x" * 4 * 2**20}))
    size = path.stat().st_size
    with pytest.raises(CheckpointError) as caught:
        read_json(path)
    assert str(caught.value) == f"{path}: expected up to 4194304 bytes of JSON, found {size}"
    assert len(read_json(path, largest=size)["a"]) == 4 * 2**20


def test_no_config(checkpoint):
    folder = checkpoint("model")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert str(caught.value) == f"{folder / 'config.json'}: no such file"


def test_config_is_a_folder(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json: expected a file of bytes"):
        load(tmp_path)


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert find_folder(tmp_path) == tmp_path
    assert find_folder(str(tmp_path)) == tmp_path


def test_a_file_is_no_folder(checkpoint):
    path = checkpoint("model") / SINGLE
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: expected a checkpoint folder, got a file"


@pytest.mark.parametrize("path", ["nowhere", "./no/where", "a/b/c", "/no/where", "-a/b", "a b/c"])
def test_what_is_neither_folder_nor_hub_id(monkeypatch, path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # it is not even asked
    with pytest.raises(CheckpointError) as caught:
        find_folder(path)
    assert str(caught.value) == f"{path}: no such folder"
