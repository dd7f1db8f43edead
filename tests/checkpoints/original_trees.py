"""Golden cases as the originals would have saved them, as trees that the reader gives."""

import argparse
import json

import numpy
from safetensors.numpy import load_file

from refimpl.checkpoints.pytorch.file import Tensor
from refimpl.checkpoints.pytorch.pickled import Global, Record
from refimpl.checkpoints.pytorch.tensors import Storage
from refimpl.parity.goldens import bundled
from tests.oracle import original_files as files

DTYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64", "uint16": "BF16"}
WORDS = files.pieces()[3:27]  # with <s>, <pad>, </s>, <unk> and <mask> the 29 ids of the cases


def golden(case):
    """A case's config and its tensors, with both of two tied ones."""
    folder = bundled() / case
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    if "lm_head.bias" in tensors:
        words = tensors["roberta.embeddings.word_embeddings.weight"]
        tensors.setdefault("lm_head.decoder.weight", words)
    elif "pred_layer.proj.bias" in tensors:
        tensors.setdefault("pred_layer.proj.weight", tensors["transformer.embeddings.weight"])
    return config, tensors


def tensor(array):
    """An array as the reader of torch files gives it."""
    content = numpy.frombuffer(array.tobytes(), numpy.uint8)
    strides = tuple(n // array.itemsize for n in numpy.ascontiguousarray(array).strides)
    storage = Storage(key="0", size=array.nbytes, order="<", source=lambda: content, start=0)
    return Tensor(storage, DTYPES[array.dtype.name], array.shape, strides[: array.ndim], 0)


def tree(value):
    """What a file holds as the reader gives it: arrays as tensors, options as records."""
    if isinstance(value, numpy.ndarray):
        return tensor(value)
    if isinstance(value, argparse.Namespace):
        return Record("argparse.Namespace", (), vars(value))
    if isinstance(value, dict):
        return {key: tree(x) for key, x in value.items()}
    return value


def fairseq(case, *, old=False, change=lambda tensors: tensors, **options):
    """A case of the RoBERta kind as a fairseq file: ``...`` removes an option."""
    config, tensors = golden(case)
    tensors = files.fairseq_tensors(tensors)
    tensors = change(files.as_in_2019(tensors) if old else tensors)
    options = files.fairseq_options(config) | options
    options = {key: value for key, value in options.items() if value is not ...}
    return files.fairseq_file(tensors, options, old=old)


def xlm(case, *, change=lambda tensors: tensors, words=None, prefix="", key="model", **params):
    """A case of XLM as a file of its authors."""
    config, tensors = golden(case)
    tensors = change(files.xlm_tensors(tensors, prefix))
    params = files.xlm_params(config, ["ar", "de", "en", "zh"][: config["n_langs"]]) | params
    params = {key: value for key, value in params.items() if value is not ...}
    words = files.xlm_words(config["vocab_size"]) if words is None else words
    return files.xlm_file(tensors, params, words, key)


def node(value):
    """A value as omegaconf pickles it."""
    if isinstance(value, dict):
        content = {key: node(x) for key, x in value.items()}
        return Record("omegaconf.dictconfig.DictConfig", (), {"_content": content, "_parent": None})
    if isinstance(value, list):
        content = [node(x) for x in value]
        return Record("omegaconf.listconfig.ListConfig", (), {"_content": content})
    return Record("omegaconf.nodes.AnyNode", (), {"_val": value, "_metadata": None})


# --- trees that lie -------------------------------------------------------------------------------

_LOOP = []
_LOOP.append(_LOOP)
_NODE = Record("omegaconf.nodes.AnyNode", (), {})
_NODE.state["_val"] = _NODE
JUNK = [
    None, 3, -1, 0, 2**70, True, False, 1.5, float("nan"), float("inf"), "x", "", b"x", [], [1],
    ["a", "b"], {}, {"a": 1}, {1: 2}, (1, 2), _LOOP, _NODE, Global("torch.float32"),
    Record("argparse.Namespace", (), None), Record("argparse.Namespace", (), {"a": _NODE}),
    tensor(numpy.zeros((2, 2), "f4")), tensor(numpy.zeros((), "f4")),
    tensor(numpy.zeros((0,), "f4")), tensor(numpy.zeros((3, 3, 3), "i8")),
]  # fmt: skip


def places(value, at=()):
    """Where in a tree something stands: keys, one below the other."""
    items = value.state if isinstance(value, Record) else value
    if isinstance(items, dict) and len(at) < 4:
        for key, x in items.items():
            yield (*at, key)
            yield from places(x, (*at, key))


def put(value, place, junk):
    """A tree with something else at a place."""
    if isinstance(value, Record):
        return Record(value.name, value.args, put(value.state, place, junk))
    below = junk if len(place) == 1 else put(value[place[0]], place[1:], junk)
    return {**value, place[0]: below}
