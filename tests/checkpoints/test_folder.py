"""A checkpoint folder: one file or shards, config.json, hub ids, and what is wrong with others."""

import json
import sys
from types import SimpleNamespace

import numpy
import pytest
from safetensors.numpy import load_file

from refimpl.checkpoints.folder import INDEX, SINGLE, find_folder, open_tensors, read_json
from refimpl.errors import CheckpointError, MissingExtra
from refimpl.models.model import load
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
    assert str(caught.value) == f"{folder}: expected {SINGLE} or {INDEX}, found neither"


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
    "shard", ["../x.safetensors", "/x.safetensors", "sub/x", ".", 3, None, ["x"], {"x": 1}]
)
def test_a_shard_is_a_file_of_the_folder(sharded, shard):
    set_weight_map(sharded, weight_map_of(sharded) | {"pooler.dense.bias": shard})
    with pytest.raises(CheckpointError) as caught:
        open_tensors(sharded)
    expected = f"expected a file name in this folder, got {shard!r}"
    assert str(caught.value) == f"{sharded / INDEX}: {expected}"


@pytest.mark.parametrize("shard", ["", "..", "a\0b", "\ud800", "x" * 300])
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


def test_no_config(checkpoint):
    folder = checkpoint("model")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert str(caught.value) == f"{folder / 'config.json'}: no such file"


def test_config_is_a_folder(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointError, match=r"expected a JSON file: .*directory"):
        load(tmp_path)


# --- folders and hub ids --------------------------------------------------------------------------


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


def test_a_hub_id_is_looked_up(monkeypatch, checkpoint):
    folder, asked = checkpoint("model"), []

    def snapshot_download(*arguments, **options):
        asked.append((arguments, options))
        return str(folder)

    hub = SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert find_folder("FacebookAI/xlm-roberta-base") == folder
    # Weights that could run code (pytorch_model.bin) are not even fetched.
    patterns = {"allow_patterns": ["*.json", "*.safetensors", "*.model"]}
    assert asked == [(("FacebookAI/xlm-roberta-base",), patterns)]
    assert numpy.shape(load("a/b")(input_ids=[5]).pooler_output) == (1, 12)


def test_a_hub_id_without_the_hub_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra) as caught:
        find_folder("FacebookAI/xlm-roberta-base")
    assert "FacebookAI/xlm-roberta-base: no such folder" in str(caught.value)
    assert "pip install 'refimpl[hub]'" in str(caught.value)


def test_a_hub_id_that_is_not_found(monkeypatch):
    def snapshot_download(*arguments, **options):
        raise RuntimeError("404, nobody there")

    hub = SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(CheckpointError) as caught:
        find_folder("a/b")
    expected = "a/b: no such folder, and not found as a hub id: 404, nobody there"
    assert str(caught.value) == expected
