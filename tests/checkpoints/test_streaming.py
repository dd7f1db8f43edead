"""``stream=True``: the numbers are those of weights that are kept, and next to nothing is."""

import functools
import gc
import json
import math
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from refimpl import ops
from refimpl.backend import HostRoom, Table, get_backend, namespace, to_numpy
from refimpl.checkpoints import streaming
from refimpl.checkpoints.folder import INDEX, SINGLE, open_tensors
from refimpl.checkpoints.safetensors_file import SafetensorsFile
from refimpl.checkpoints.streaming import SteadyFile, Stored, StoredTable, Way
from refimpl.models.model import load
from refimpl.parity.goldens import bundled, case_name, find_goldens, read_golden
from tests.checkpoints.streamed import (
    IDS,
    SMALL,
    assert_goldens_hold_in_parts,
    assert_same_run,
    run,
    sizes_of_layers,
)
from tests.compare import assert_same
from tools.sparse_checkpoint import write_sparse

FOLDERS = find_goldens()
CASES = pytest.mark.parametrize("folder", FOLDERS, ids=case_name)


@pytest.fixture
def small(tmp_path):
    """A checkpoint of six layers whose matrices are random in every row."""
    write_sparse(tmp_path, "XLMRobertaXLForMaskedLM", SMALL, rows=1000)
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """What is read: a list of (path, first byte, bytes)."""
    found, read = [], SteadyFile.read

    def spy(self, start, out):
        found.append((self.path, start, out.nbytes))
        read(self, start, out)

    monkeypatch.setattr(SteadyFile, "read", spy)
    return found


def bytes_by_name(folder, reads):
    """Return how many bytes were read of each tensor; every read lies within one."""
    file = SafetensorsFile(folder / SINGLE)
    found = {}
    for _, start, size in reads:
        of = [n for n in file if file.place(n).start <= start < end_of(file.place(n))]
        assert len(of) == 1
        assert start + size <= end_of(file.place(of[0]))
        found[of[0]] = found.get(of[0], 0) + size
    return found


def end_of(place):
    return place.start + bytes_of(place)


def bytes_of(place):
    return math.prod(place.shape) * place.dtype.itemsize


# --- the same numbers -----------------------------------------------------------------------------


@CASES
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_every_tap_and_output_is_that_of_kept_weights_bit_for_bit(folder, dtype):
    assert_same_run(folder, read_golden(folder).inputs(), dtype=dtype)


def test_goldens_hold_where_tables_come_in_many_blocks(monkeypatch, backend):
    assert_goldens_hold_in_parts(monkeypatch, backend)


GENERATING = ["xlm/lm", "xlm/lm_causal", "xlm/lm_adaptive", "xlm_roberta/causal_lm",
              "xlm_roberta_xl/causal_lm", "xmod/causal_lm"]  # fmt: skip


@pytest.mark.parametrize("case", GENERATING)
@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("use_cache", [True, False])
def test_the_same_text_is_generated(case, num_beams, use_cache):
    options = {"max_new_tokens": 4, "num_beams": num_beams, "use_cache": use_cache,
               "return_dict_in_generate": True}  # fmt: skip
    if case.startswith("xmod"):
        options["lang_ids"] = [0]
    kept, streamed = (
        load(bundled() / case, dtype="float64", kernels="plain", stream=stream).generate(
            [[5, 6, 7]], **options
        )
        for stream in (False, True)
    )
    assert_same(streamed.sequences, kept.sequences)
    if num_beams > 1:
        assert_same(streamed.sequences_scores, kept.sequences_scores)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
def test_every_dtype_of_a_file(tmp_path, stored, dtype, monkeypatch):
    write_sparse(tmp_path, "XLMRobertaXLForMaskedLM", SMALL, rows=1000, dtype=stored)
    monkeypatch.setattr(streaming, "CHUNK", 1000)  # converted in several parts
    assert_same_run(tmp_path, {"input_ids": IDS}, dtype=dtype)


@pytest.mark.parametrize("stored", ["F32", "BF16"])
def test_parts_of_a_tensor_are_read_from_any_element_on(tmp_path, stored, monkeypatch):
    write_sparse(tmp_path, "XLMRobertaXLModel", SMALL, rows=1000, dtype=stored)
    monkeypatch.setattr(streaming, "CHUNK", 100)
    name = "encoder.layer.2.output.dense.weight"
    place, whole = open_tensors(tmp_path).place(name), open_tensors(tmp_path)[name]
    tensor = Stored(SteadyFile(place.path), place)
    for dtype in ("float32", "float64"):
        for first, count in [(0, 1), (1, 60), (129, 200), (4000, 96), (4096, 0)]:
            part = numpy.empty(count, dtype)
            tensor.read(part, first)
            assert_same(part, whole.reshape(-1)[first : first + count].astype(dtype))


def test_a_file_of_float64_and_of_whole_numbers(checkpoint):
    def change(tensors):
        wide = {name: x.astype("f8") / 3 for name, x in tensors.items()}
        return wide | {"pooler.dense.bias": numpy.arange(12)}

    assert_same_run(checkpoint("model", tensors=change), {"input_ids": IDS}, dtype="float32")


def test_a_table_of_many_blocks_of_the_usual_height(small, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK", 200 * 32 * 8)  # 192 rows, 64 times three
    for length in (1, 5, 16):
        assert_same_run(small, {"input_ids": [list(range(length))]}, dtype="float64")


def test_shards(checkpoint, write):
    folder = checkpoint("masked_lm")
    tensors = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    shards = {name: f"part-{i % 3}.safetensors" for i, name in enumerate(tensors)}
    for shard in set(shards.values()):
        write(folder / shard, {n: x for n, x in tensors.items() if shards[n] == shard})
    (folder / INDEX).write_text(json.dumps({"weight_map": shards}))
    sharded = run(folder, {"input_ids": IDS}, dtype="float64", stream=True)
    whole = run(bundled() / "xlm_roberta/masked_lm", {"input_ids": IDS}, dtype="float64")
    for name, x in whole.items():
        assert_same(sharded[name], x)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_pytorch(checkpoint, zipped):
    torch = pytest.importorskip("torch")
    folder = checkpoint("masked_lm")
    tensors = {name: torch.from_numpy(x) for name, x in load_file(folder / SINGLE).items()}
    (folder / SINGLE).unlink()
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert_same_run(folder, {"input_ids": IDS}, dtype="float64")


def test_the_classes_that_share_a_checkpoint():
    folder = bundled() / "xlm_roberta" / "masked_lm"
    assert_same_run(folder, {"input_ids": IDS}, architecture="XLMRobertaModel")


# --- weights to look at ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["xlm/lm", "xlm_roberta/masked_lm", "xmod/masked_lm"])
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_every_weight_can_be_looked_at(case, dtype):
    kept, streamed = (
        load(bundled() / case, dtype=dtype, stream=stream).weights._arrays
        for stream in (False, True)
    )
    assert list(streamed) == list(kept)
    assert len(streamed) == len(kept)
    for name, x in kept.items():
        assert (streamed[name].shape, streamed[name].dtype) == (x.shape, x.dtype)
        assert_same(to_numpy(streamed[name]), x)


def test_a_matrix_outside_the_layers_is_a_table_and_tied_ones_are_one():
    weights = load(bundled() / "xlm_roberta" / "masked_lm", stream=True).weights
    words = weights["roberta.embeddings.word_embeddings.weight"]
    assert isinstance(words, Table)
    assert weights["lm_head.decoder.weight"] is words
    assert isinstance(weights["lm_head.dense.weight"], Table)
    assert namespace(words) is numpy
    assert numpy.asarray(words, "f8").dtype == "f8"
    layer = weights["roberta.encoder.layer.1"]
    assert isinstance(layer["attention.self.query.weight"], numpy.ndarray)
    assert not isinstance(layer["attention.self.query.weight"], Table)


def test_arrays_are_the_callers_own():
    weights = load(bundled() / "xlm_roberta" / "model", stream=True).weights
    name = "encoder.layer.0.output.dense.weight"
    mine = weights[name]
    before = mine.copy()
    mine[:] = 0
    assert_same(weights[name], before)


@pytest.mark.parametrize("stream", ["yes", 1, None])
def test_stream_is_true_or_false(stream):
    with pytest.raises(TypeError, match=f"^stream: expected True or False, got {stream!r}$"):
        load(bundled() / "xlm_roberta" / "model", stream=stream)


# --- tables and the operations that take them -----------------------------------------------------


@pytest.fixture(scope="module")
def table_of(tmp_path_factory):
    """A function from a matrix to a table of it, in a file of its own."""
    path = tmp_path_factory.mktemp("table") / SINGLE

    def table(matrix, write, backend="numpy"):
        write(path, {"a.weight": matrix})
        place = SafetensorsFile(path).place("a.weight")
        return StoredTable(Stored(SteadyFile(path), place), Way(get_backend(backend), "float64"))

    return table


whole_numbers = functools.partial(st.integers, -9, 9)  # whose products no library rounds


@st.composite
def matrices(draw):
    """A matrix, ids of its rows, rows to multiply it with, and how high a block is."""
    height, width = draw(st.integers(1, 23)), draw(st.integers(1, 4))
    count = draw(st.integers(1, 7))
    rng = numpy.random.default_rng(draw(st.integers(0, 999)))
    return (
        rng.integers(-9, 10, (height, width)).astype("f4"),
        rng.integers(0, height, (2, count)),
        rng.integers(-9, 10, (2, count, width)).astype("f8"),
        draw(st.integers(1, 30)),
    )


@pytest.mark.backends("numpy", "strict:device1")
@given(drawn=matrices())
def test_operations_take_a_table_as_they_take_the_matrix(table_of, write, backend, drawn):
    matrix, ids, x, rows = drawn
    device = get_backend(backend)
    table, whole = table_of(matrix, write, backend), device.asarray(matrix.astype("f8"))
    bias = device.asarray(numpy.arange(len(matrix)) / 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "BLOCK", 1)
        patch.setattr(streaming, "ROWS", rows)
        ids, x = device.asarray(ids), device.asarray(x)
        assert_same(ops.embedding(ids, table), ops.embedding(ids, whole))
        assert_same(ops.linear(x, table), ops.linear(x, whole))
        assert_same(ops.linear(x, table, bias), ops.linear(x, whole, bias))
        heights = [block.shape[0] for block in table.blocks()]
    assert sum(heights) == len(matrix)
    assert all(height == rows for height in heights[:-1])


# --- what is read ---------------------------------------------------------------------------------


def test_loading_reads_nothing_and_a_call_each_tensor_once(small, reads):
    model = load(small, stream=True)
    assert reads == []
    ids = [[0, 5, 6, 5, 5], [0, 699, 5, 1, 1]]
    for _ in range(2):
        reads.clear()
        model(input_ids=ids)
        read = bytes_by_name(small, reads)
        tensors = open_tensors(small)
        assert set(read) == set(tensors)
        words, places, types = (f"roberta.embeddings.{name}_embeddings.weight"
                                for name in ("word", "position", "token_type"))  # fmt: skip
        row = 32 * 4
        for name in tensors:
            whole = bytes_of(tensors.place(name))
            expected = {
                words: whole + 5 * row,  # once as the decoder, and the rows 0, 1, 5, 6, 699
                places: 6 * row,  # places 1 (padding) to 6
                types: row,
            }.get(name, whole)
            assert read[name] == expected, name


def test_of_the_word_embeddings_the_encoder_reads_the_rows_in_use(small, reads):
    model = load(small, architecture="XLMRobertaXLModel", stream=True)
    model(input_ids=[[7, 7, 3], [3, 7, 600]])
    place = open_tensors(small).place("roberta.embeddings.word_embeddings.weight")
    rows = [(start - place.start) / (32 * 4) for _, start, size in reads
            if place.start <= start < end_of(place) and size == 32 * 4]  # fmt: skip
    assert rows == [3, 7, 600]
    assert "lm_head.dense.weight" not in bytes_by_name(small, reads)


@pytest.mark.parametrize("lang_ids", [[0], [1], [1, 0]])
def test_of_the_adapters_those_of_the_languages_in_use_are_read(lang_ids, reads):
    folder = bundled() / "xmod" / "model"
    model = load(folder, stream=True)
    languages = model.config.languages
    assert len(languages) == 2
    model(input_ids=[[0, 5, 6, 2]] * len(lang_ids), lang_ids=lang_ids)
    read = {name.partition("adapter_modules.")[2].partition(".")[0]
            for name in bytes_by_name(folder, reads)} - {""}  # fmt: skip
    assert read == {languages[i] for i in lang_ids}


# --- what is in memory ----------------------------------------------------------------------------


class Live:
    """Bytes of weights in memory: now, and at most."""

    def __init__(self):
        self.now = self.most = 0

    def count(self, array):
        self.now += array.nbytes
        self.most = max(self.most, self.now)
        weakref.finalize(array, self.leave, array.nbytes)

    def leave(self, size):
        self.now -= size


@pytest.fixture
def live(monkeypatch):
    """Counts every array that a weight is read into."""
    found, init = Live(), HostRoom.__init__

    def spy(self, *arguments):
        init(self, *arguments)
        found.count(self._host)

    monkeypatch.setattr(HostRoom, "__init__", spy)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_about_one_layer_is_in_memory(small, live, dtype, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK", 1)  # 64 rows of 700
    layer, largest = sizes_of_layers(small, dtype)
    model = load(small, dtype=dtype, stream=True)
    for _ in range(3):
        model(input_ids=IDS)
        assert live.now == 0  # and after the call, nothing
    assert layer < live.most <= layer + largest


@pytest.mark.parametrize("blocks", [2, 3, 9])
def test_three_blocks_of_a_table_are_in_memory(table_of, write, live, monkeypatch, blocks):
    monkeypatch.setattr(streaming, "BLOCK", 1)
    height, width = 64 * (blocks - 1) + 9, 3
    ops.linear(numpy.ones((1, width)), table_of(numpy.ones((height, width), "f4"), write))
    assert 0 < live.most <= 3 * 64 * width * 8
    assert live.now == 0


def test_generation_keeps_no_weights(live):
    folder = bundled() / "xlm_roberta" / "causal_lm"
    load(folder, stream=True).generate([[5, 6]], max_new_tokens=3, num_beams=2)
    layer, largest = sizes_of_layers(folder)
    assert (live.now, live.most <= layer + largest) == (0, True)


def break_off_at(model, layer):
    """Run a model up to one of its layers."""
    read = model.weights._arrays.__class__.__getitem__

    def stop(self, name):
        if f"layer.{layer}.output" in name:
            raise KeyboardInterrupt
        return read(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming.StreamedTensors, "__getitem__", stop)
        with pytest.raises(KeyboardInterrupt):
            model(input_ids=IDS)


def test_calls_that_are_broken_off_leave_no_more_and_more_behind(small, live):
    layer, largest = sizes_of_layers(small)
    expected = load(small, kernels="plain")(input_ids=IDS).logits
    model = load(small, kernels="plain", stream=True)
    for i in (1, 3, 0, 4, 2, 5):
        break_off_at(model, i)
        gc.collect()  # the traceback held what was in use
        assert live.now <= layer
    assert_same(model(input_ids=IDS).logits, expected)
    assert live.now == 0
    assert live.most <= 2 * (layer + largest)


def test_a_model_that_is_gone_leaves_no_thread_behind(small):
    before = set(threading.enumerate())
    model = load(small, stream=True)
    model(input_ids=IDS)
    (worker,) = set(threading.enumerate()) - before
    del model
    gc.collect()
    worker.join(timeout=60)
    assert not worker.is_alive()


def test_calls_from_several_threads(small):
    model = load(small, kernels="plain", stream=True)
    texts = [[list(range(i, i + 9))] for i in range(12)]
    expected = [load(small, kernels="plain")(input_ids=text).logits for text in texts]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: model(input_ids=text).logits, texts))
    for actual, kept in zip(found, expected, strict=True):
        assert_same(actual, kept)
