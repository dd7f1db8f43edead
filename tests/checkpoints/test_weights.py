"""Weights: a view by dotted names, and arrays that are converted once, when they are first used."""

import json
import struct

import numpy
import pytest

from refimpl import ops
from refimpl.backend import get_backend
from refimpl.checkpoints.folder import open_tensors
from refimpl.checkpoints.weights import DeviceTensors, Weights, nest
from refimpl.models.model import load
from tests.compare import assert_same

QUERY = "encoder.layer.0.attention.self.query"


@pytest.fixture
def arrays():
    return {
        "dense.weight": numpy.eye(3),
        "dense.bias": numpy.arange(3.0),
        "layer.0.bias": numpy.ones(2),
        "layer.10.bias": numpy.zeros(2),
        "bias": numpy.ones(1),
    }


class Counting(dict):
    """Tensors that count how often each is read."""

    def __init__(self, tensors):
        super().__init__(tensors)
        self.reads = []

    def __getitem__(self, name):
        self.reads.append(name)
        return super().__getitem__(name)


# --- the view -------------------------------------------------------------------------------------


def test_a_name_leads_to_a_module_or_to_an_array(arrays):
    w = Weights(arrays)
    assert isinstance(w["dense"], Weights)
    assert w["dense"]["weight"] is w["dense.weight"] is arrays["dense.weight"]
    assert w["layer"]["0"]["bias"] is w["layer.0"]["bias"] is w["layer"]["0.bias"]
    assert w["layer.10.bias"] is arrays["layer.10.bias"]
    assert w["bias"] is arrays["bias"]


def test_a_module_is_unpacked_into_an_op(arrays):
    w = Weights(arrays)
    assert dict(w["dense"]).keys() == {"weight", "bias"}
    y = ops.linear(numpy.ones((1, 3)), **w["dense"])
    assert_same(y, numpy.asarray([[1.0, 2.0, 3.0]]))


def test_path_is_where_a_module_stands(arrays):
    w = Weights(arrays)
    assert w.path == ""
    assert w.at("dense") == "dense"
    assert w["layer"]["0"].path == w["layer.0"].path == "layer.0"
    assert w["layer"]["0"].at("bias") == "layer.0.bias"


def test_iterates_over_what_stands_directly_below(arrays):
    w = Weights(arrays)
    assert list(w) == ["dense", "layer", "bias"]
    assert list(w["layer"]) == ["0", "10"]
    assert (len(w), len(w["layer.0"])) == (3, 1)
    assert "dense" in w
    assert "dense.weight" in w
    assert "pooler" not in w
    assert "layer.1" not in w  # the start of a name is no name


@pytest.mark.parametrize("name", ["pooler", "0.weight", "0.bias.more", "1", ""])
def test_what_is_not_there_is_named_in_full(arrays, name):
    with pytest.raises(KeyError) as caught:
        Weights(arrays)["layer"][name]
    assert caught.value.args == (f"layer.{name}",)


def test_nest_keeps_order_and_leaves_are_empty():
    assert nest([]) == {}
    assert list(nest(["b.x", "a", "b.y"])) == ["b", "a"]
    assert nest(["b.x", "a", "b.y"]) == {"b": {"x": {}, "y": {}}, "a": {}}


# --- on the device --------------------------------------------------------------------------------


def test_each_tensor_is_converted_once_and_only_when_used():
    tensors = Counting({"a": numpy.ones(2, "f4"), "b": numpy.zeros(3, "f4")})
    on_device = DeviceTensors(tensors, {"x": "a", "y": "b"}, get_backend("numpy"), numpy.float64)
    assert list(on_device) == ["x", "y"]
    assert len(on_device) == 2
    assert "x" in on_device
    assert "a" not in on_device
    assert tensors.reads == []
    first = on_device["x"]
    assert on_device["x"] is first
    assert tensors.reads == ["a"]


def test_two_names_of_one_tensor_are_one_array():
    tensors = Counting({"a": numpy.ones(2, "f4")})
    on_device = DeviceTensors(tensors, {"x": "a", "y": "a"}, get_backend("numpy"), numpy.float64)
    assert on_device["x"] is on_device["y"]
    assert tensors.reads == ["a"]


def test_loading_reads_no_tensor_and_a_call_those_it_needs(monkeypatch, checkpoint):
    reads = []
    tensors = type(open_tensors(checkpoint("masked_lm")))
    read = tensors.__getitem__
    monkeypatch.setattr(tensors, "__getitem__", lambda self, n: reads.append(n) or read(self, n))
    model = load(checkpoint("masked_lm"))
    assert reads == []
    for _ in range(2):
        model(inputs_embeds=numpy.zeros((1, 2, 12)))
    assert len(reads) == len(set(reads)) == len(open_tensors(checkpoint("masked_lm")))
    assert "roberta.embeddings.word_embeddings.weight" in reads  # the decoder is tied to it


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_weights_have_the_dtype_that_was_asked_for(checkpoint, dtype):
    folder = checkpoint("model")
    weight = load(folder, dtype=dtype).weights[f"{QUERY}.weight"]
    assert_same(weight, open_tensors(folder)[f"{QUERY}.weight"].astype(dtype))


def test_weights_of_the_files_own_dtype_are_not_copied(checkpoint):
    weight = load(checkpoint("model"), dtype="float32").weights[f"{QUERY}.weight"]
    assert not weight.flags.owndata
    assert not weight.flags.writeable


def test_weights_live_on_the_device_that_was_asked_for(checkpoint, backend):
    folder = checkpoint("model")
    weight = load(folder, dtype="float64", backend=backend).weights[f"{QUERY}.weight"]
    there = get_backend(backend)
    assert (weight.device, weight.dtype) == (there.device, there.dtype("float64"))
    assert_same(weight, open_tensors(folder)[f"{QUERY}.weight"].astype("float64"))


def test_a_checkpoint_in_bfloat16_is_read_as_its_exact_values(checkpoint):
    def rounded(tensors):  # towards zero to a bfloat16, kept in float32
        bits = {name: x.view("u4") & 0xFFFF0000 for name, x in tensors.items()}
        return {name: x.view("f4") for name, x in bits.items()}

    wide = checkpoint("model", tensors=rounded)
    narrow = checkpoint("model", tensors=rounded)
    write_bfloat16(narrow / "model.safetensors", open_tensors(wide))
    ids = {"input_ids": [[0, 17, 5, 2]]}
    assert_same(load(narrow)(**ids).last_hidden_state, load(wide)(**ids).last_hidden_state)


def write_bfloat16(path, tensors):
    header, data = {}, b""
    for name, x in tensors.items():
        half = (x.view("u4") >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": x.shape,
                        "data_offsets": [len(data), len(data) + len(half)]}  # fmt: skip
        data += half
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
