"""``refimpl convert``: sources told apart, and a folder written whole or not at all."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import load_file

from refimpl.checkpoints import writing
from refimpl.checkpoints.convert import convert, find_file
from refimpl.checkpoints.folder import INDEX, SINGLE, open_tensors
from refimpl.checkpoints.safetensors_file import SafetensorsFile
from refimpl.checkpoints.writing import Checkpoint, Pending, plan_shards, write_checkpoint
from refimpl.errors import CheckpointError
from refimpl.models.model import load
from tests.checkpoints.original_trees import DTYPES, WORDS, fairseq, golden, xlm
from tests.compare import assert_same
from tests.oracle import original_files as files


def pending(array, dtype=None):
    return Pending(dtype or DTYPES[array.dtype.name], array.shape, lambda: array)


def checkpoint_of(arrays):
    tensors = {name: pending(x) for name, x in arrays.items()}
    return Checkpoint({"architectures": ["XLMModel"]}, tensors, {"vocab.json": b"{}"})


def write(dest, checkpoint, **more):
    return list(write_checkpoint(dest, checkpoint, **more))


ARRAYS = {
    "a": numpy.arange(12, dtype=numpy.float32).reshape(3, 4),
    "b": numpy.arange(5, dtype=numpy.float16),
    "c": numpy.arange(6, dtype=numpy.float64).reshape(2, 3).T,  # its columns lie together
    "d": numpy.float32([]).reshape(0, 3),
    "e": numpy.array(7, dtype=numpy.int64),
}


@pytest.fixture
def source(tmp_path):
    """A folder as an archive of fairseq unpacks to."""
    return fairseq_folder(tmp_path / "source")


def fairseq_folder(folder, case="xlm_roberta/masked_lm", **options):
    folder.mkdir()
    files.save(fairseq(case, **options), folder / "model.pt")
    files.beside_fairseq_file(folder, WORDS)
    return folder


def left_in(folder):
    """What lies in a folder, beside a source."""
    return sorted(path.name for path in folder.iterdir() if path.name != "source")


# --- the files ------------------------------------------------------------------------------------


def test_one_file(tmp_path):
    assert sorted(write(tmp_path / "dest", checkpoint_of(ARRAYS))) == sorted(ARRAYS)
    assert left_in(tmp_path / "dest") == ["config.json", SINGLE, "vocab.json"]
    read = load_file(tmp_path / "dest" / SINGLE)  # by the library
    assert set(read) == set(ARRAYS)
    for name, x in ARRAYS.items():
        assert_same(read[name], x)


def test_every_tensor_begins_where_its_numbers_may(tmp_path):
    write(tmp_path / "dest", checkpoint_of(ARRAYS))
    file = SafetensorsFile(tmp_path / "dest" / SINGLE)
    for name, x in ARRAYS.items():
        assert file.place(name).start % x.itemsize == 0


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
def test_other_numbers(tmp_path, kind):
    names = {"b": "I", "h": "I", "i": "I", "l": "I", "B": "U", "H": "U", "I": "U", "L": "U"}
    x = numpy.array([[1, 0, 1]], kind)
    dtype = f"{names[x.dtype.char]}{8 * x.itemsize}" if kind != "?" else "BOOL"
    write(tmp_path / "dest", Checkpoint({}, {"x": pending(x, dtype)}))
    assert_same(load_file(tmp_path / "dest" / SINGLE)["x"], x)


def test_bits_of_a_bfloat16(tmp_path):
    bits = numpy.array([0x3F80, 0xC000], numpy.uint16)
    write(tmp_path / "dest", Checkpoint({}, {"x": pending(bits, "BF16")}))
    assert_same(open_tensors(tmp_path / "dest")["x"], numpy.float32([1, -2]))


REAL = st.sampled_from([numpy.float16, numpy.float32, numpy.float64, numpy.dtype(">f4")])


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name != "__metadata__"),
        arrays_of.arrays(REAL, arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4)),
        max_size=5,
    ),
    st.integers(1, 200),
)
def test_any_arrays_in_shards_of_any_size(tmp_path_factory, arrays, limit):
    folder = tmp_path_factory.mktemp("shards")
    list(writing.write_weights(folder, checkpoint_of(arrays).tensors, limit))
    read = open_tensors(folder)
    assert set(read) == set(arrays)
    for name, x in arrays.items():
        assert_same(read[name], x.astype(x.dtype.newbyteorder("=")))


def test_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SHARD_BYTES", 100)
    write(tmp_path / "dest", checkpoint_of(ARRAYS))
    shards = [f"model-{i:05}-of-00002.safetensors" for i in (1, 2)]
    assert left_in(tmp_path / "dest") == ["config.json", *shards, INDEX, "vocab.json"]
    index = json.loads((tmp_path / "dest" / INDEX).read_text())
    assert index["metadata"] == {"total_size": sum(x.nbytes for x in ARRAYS.values())}
    assert index["weight_map"] == dict(zip("abcde", [0, 0, 0, 0, 1], strict=True)) | {
        name: shards[i] for name, i in zip("abcde", [0, 0, 1, 1, 1], strict=True)
    }
    for name, x in ARRAYS.items():
        assert_same(open_tensors(tmp_path / "dest")[name], x)


@given(st.dictionaries(st.text(), st.integers(0, 30)), st.integers(1, 20))
def test_shards_hold_every_tensor_in_order_and_no_more_than_they_may(sizes, limit):
    shards = plan_shards(sizes, limit)
    assert [name for shard in shards for name in shard] == list(sizes)
    for shard in shards:
        assert sum(sizes[name] for name in shard) <= limit or sizes[shard[0]] > limit


def test_a_tensor_that_is_not_what_it_was_said_to_be(tmp_path):
    wrong = Checkpoint({}, {"x": Pending("F32", (3,), lambda: numpy.zeros(4, numpy.float32))})
    with pytest.raises(CheckpointError) as caught:
        write(tmp_path / "dest", wrong)
    assert str(caught.value) == "x: expected F32 of shape (3,), got float32 of (4,)"
    assert left_in(tmp_path) == []


# --- all or nothing -------------------------------------------------------------------------------


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "dest").mkdir()
    write(tmp_path / "dest", checkpoint_of(ARRAYS))
    assert SINGLE in left_in(tmp_path / "dest")
    assert left_in(tmp_path) == ["dest"]


def test_a_dest_that_is_taken(tmp_path):
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    for name, said in {
        "dest": "expected a folder that is new or empty, it holds files",
        "file": "expected a folder that is new or empty, it is a file",
        "no/where": f"there is no folder {tmp_path / 'no'} to write it to",
    }.items():
        with pytest.raises(CheckpointError) as caught:
            write(tmp_path / name, checkpoint_of(ARRAYS))
        assert str(caught.value) == f"{tmp_path / name}: {said}"
    assert left_in(tmp_path) == ["dest", "file"]
    assert (tmp_path / "dest" / "mine").read_text() == "x"


def test_a_dest_that_fills_while_it_is_written(tmp_path):
    def check(folder):
        (tmp_path / "dest").mkdir()
        (tmp_path / "dest" / "mine").write_text("x")

    with pytest.raises(CheckpointError, match="dest: cannot be written: Directory not empty"):
        write(tmp_path / "dest", checkpoint_of(ARRAYS), check=check)
    assert left_in(tmp_path) == ["dest"]
    assert left_in(tmp_path / "dest") == ["mine"]


def test_a_disk_without_room(tmp_path, monkeypatch):
    room = namedtuple("usage", "free")(10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    with pytest.raises(CheckpointError, match=r"expected room for 0.0 GB on the disk, got 0.0 GB"):
        write(tmp_path / "dest", checkpoint_of(ARRAYS))
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("call", range(5))
def test_a_disk_that_fills(tmp_path, monkeypatch, call):
    calls = []
    fsync = os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) > call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError) as caught:
        write(tmp_path / "dest", checkpoint_of(ARRAYS))
    assert str(caught.value) == f"{tmp_path / 'dest'}: cannot be written: No space left on device"
    assert left_in(tmp_path) == (["dest"] if call == 4 else [])  # the last is of dest's own name


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("x"), MemoryError()])
def test_an_error_while_a_tensor_is_read(tmp_path, error):
    def fail():
        raise error

    broken = checkpoint_of(ARRAYS)
    broken.tensors["d"] = Pending("F32", (1,), fail)
    with pytest.raises((CheckpointError, ValueError, MemoryError)):
        write(tmp_path / "dest", broken)
    assert left_in(tmp_path) == []


def test_an_interruption(tmp_path, source):
    def track(names, total):
        assert total > 10
        yield next(iter(names))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "dest", track=track)
    assert left_in(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from refimpl.checkpoints.convert import convert

def kill(*anything):
    os.kill(os.getpid(), signal.SIGKILL)

def track(names, total):
    for i, name in enumerate(names):
        if i == int(sys.argv[3]):
            kill()
        yield name

convert(Path(sys.argv[1]), Path(sys.argv[2]), track=track, check=kill)
"""


@pytest.mark.parametrize("after", [0, 7, 1000])
def test_a_run_that_is_killed(tmp_path, source, after):
    command = [sys.executable, "-c", KILLED, source, tmp_path / "dest", str(after)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (partial,) = left_in(tmp_path)
    assert partial.startswith(".dest.")
    assert partial.endswith(".partial")
    assert (tmp_path / partial / "config.json").exists() == (after == 1000)
    convert(source, tmp_path / "dest")  # and the next run is not in its way
    load(tmp_path / "dest")


def test_what_the_check_finds_is_said_of_dest(tmp_path, source):
    def check(folder):
        raise CheckpointError(f"{folder / SINGLE}: is odd")

    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "dest", check=check)
    assert str(caught.value) == f"{tmp_path / 'dest' / SINGLE}: is odd"
    assert left_in(tmp_path) == []


# --- dtypes ---------------------------------------------------------------------------------------


def test_dtypes(tmp_path, source):
    expected = golden("xlm_roberta/masked_lm")[1]
    for dtype in ("keep", "float32", "float16"):
        convert(source, tmp_path / dtype, dtype=dtype)
        kind = numpy.float16 if dtype == "float16" else numpy.float32
        config = json.loads((tmp_path / dtype / "config.json").read_text())
        assert config["torch_dtype"] == numpy.dtype(kind).name
        tensors = open_tensors(tmp_path / dtype)
        for name in tensors:
            if "token_type" not in name:
                assert_same(tensors[name], expected[name].astype(kind))


def test_bfloat16_is_widened_and_integers_stay():
    bits, ids = numpy.array([0x3F80], numpy.uint16), numpy.array([1 << 40])
    tensors = writing.in_dtype({"x": pending(bits, "BF16"), "i": pending(ids)}, "F32")
    assert tensors["x"].dtype == "F32"
    assert_same(tensors["x"].read(), numpy.float32([1]))
    assert tensors["i"].dtype == "I64"


def test_numbers_too_large_for_float16():
    x = numpy.float32([1, -70000, numpy.inf])
    with pytest.raises(CheckpointError) as caught:
        writing.in_dtype({"a.weight": pending(x)}, "F16")["a.weight"].read()
    assert str(caught.value) == (
        "a.weight: expected numbers up to 65504, the largest of float16, got 70000"
    )
    fits = numpy.float32([65504, -numpy.inf, numpy.nan])
    read = writing.in_dtype({"a.weight": pending(fits)}, "F16")["a.weight"].read()
    assert_same(read, fits.astype(numpy.float16))


def test_an_unknown_dtype(tmp_path, source):
    with pytest.raises(ValueError, match="dtype: expected one of keep, float32, float16, got 'x'"):
        convert(source, tmp_path / "dest", dtype="x")


# --- sources --------------------------------------------------------------------------------------


def test_a_file_or_its_folder(tmp_path, source):
    assert find_file(source) == find_file(source / "model.pt") == source / "model.pt"
    (source / "checkpoint_best.pt").write_bytes(b"")
    assert find_file(source) == source / "model.pt"
    (source / "model.pt").rename(source / "other.pt")
    said = "expected config.json, model.pt or one other .pt or .pth file, found checkpoint_best.pt"
    with pytest.raises(CheckpointError, match=said):
        find_file(source)
    (source / "checkpoint_best.pt").unlink()
    assert find_file(source) == source / "other.pt"


@pytest.mark.parametrize("name", ["xlmr.base.tar.gz", "a.tgz", "a.tar", "a.zip"])
def test_archives_are_to_be_unpacked(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    with pytest.raises(CheckpointError) as caught:
        convert(tmp_path / name, tmp_path / "dest")
    assert str(caught.value) == f"{tmp_path / name}: is an archive: unpack it, and give the folder"


def test_files_of_neither_kind(tmp_path):
    for value, said in {
        "list": ([1], "expected a dictionary, got list"),
        "state": (
            {"a": numpy.zeros(2, "f4")},
            "expected a file of fairseq (with args or cfg in it)",
        ),
        "empty": ({}, "found nothing"),
    }.values():
        files.save(value, tmp_path / "a.pth")
        with pytest.raises(CheckpointError) as caught:
            convert(tmp_path, tmp_path / "dest")
        assert said in str(caught.value)
    (tmp_path / "a.pth").write_bytes(b"hello")
    with pytest.raises(CheckpointError, match=r"expected a file of torch\.save"):
        convert(tmp_path, tmp_path / "dest")
    assert left_in(tmp_path) == ["a.pth"]


def test_a_source_that_may_not_be_read(tmp_path, monkeypatch):
    source = hugging_face(tmp_path / "source", "xlm/lm")
    (source / "vocab.json").write_text("{}")

    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(type(source), "read_bytes", refuse)
    with pytest.raises(CheckpointError, match="source: cannot be read: Permission denied"):
        convert(source, tmp_path / "dest")


def test_options_of_another_kind(tmp_path, source):
    codes = tmp_path / "codes"
    with pytest.raises(ValueError, match="codes: a fairseq file has no such choice"):
        convert(source, tmp_path / "dest", codes=codes)
    files.save(xlm("xlm/lm"), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="head: a file of the XLM authors has no such choice"):
        convert(tmp_path / "a.pth", tmp_path / "dest", head="x")
    convert(source, tmp_path / "dest")
    for name in ("head", "architecture", "codes"):
        with pytest.raises(ValueError, match=f"{name}: a Hugging Face folder has no such choice"):
            convert(tmp_path / "dest", tmp_path / "again", **{name: "x"})


EVIL = b"\x80\x02cposix\nsystem\nX\x05\x00\x00\x00true \x85R."


@pytest.mark.parametrize("name", ["model.pt", "a.pth"])
def test_a_file_that_would_run_code_is_refused(tmp_path, name):
    import zipfile

    with zipfile.ZipFile(tmp_path / name, "w") as file:
        file.writestr("archive/data.pkl", EVIL)
    with pytest.raises(CheckpointError, match=r"posix.system"):
        convert(tmp_path / name, tmp_path / "dest")


# --- Hugging Face folders -------------------------------------------------------------------------


def hugging_face(folder, case, change=lambda tensors: tensors, **config):
    """A case as a folder with pytorch_model.bin, both of two tied tensors in it."""
    folder.mkdir()
    values, tensors = golden(case)
    (folder / "config.json").write_text(json.dumps(values | config))
    files.save(change(tensors), folder / "pytorch_model.bin")
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "training_args.bin").write_bytes(b"x")
    return folder


@pytest.mark.parametrize("case", ["xlm_roberta/masked_lm", "xmod/masked_lm", "xlm/lm"])
def test_pytorch_model_bin(tmp_path, case):
    def as_long_ago(tensors):
        ids = {"roberta.embeddings.position_ids": numpy.zeros((1, 16), numpy.float32)}
        renamed = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma")
            .replace("LayerNorm.bias", "LayerNorm.beta")
            .replace("lm_head.decoder.weight", "lm_head.weight"): x
            for name, x in tensors.items()
        }
        bias = {"lm_head.decoder.bias": tensors["lm_head.bias"]} if "roberta" in case else {}
        return renamed | ids | bias

    source = hugging_face(tmp_path / "source", case, as_long_ago)
    convert(source, tmp_path / "dest")
    assert left_in(tmp_path / "dest") == ["config.json", SINGLE, "tokenizer_config.json"]
    _, expected = golden(case)
    expected.pop("lm_head.decoder.weight", None)
    expected.pop("pred_layer.proj.weight", None)
    tensors = open_tensors(tmp_path / "dest")
    assert set(tensors) == set(expected)
    for name, x in expected.items():
        assert_same(tensors[name], x)
    load(tmp_path / "dest")


def test_what_is_not_tied_stays(tmp_path):
    case = "xlm_roberta/masked_lm_untied"
    convert(hugging_face(tmp_path / "source", case), tmp_path / "dest")
    assert set(open_tensors(tmp_path / "dest")) == set(golden(case)[1])


def test_two_names_for_one_tensor(tmp_path):
    def change(tensors):
        return tensors | {"lm_head.weight": tensors["lm_head.decoder.weight"] + 1}

    source = hugging_face(tmp_path / "source", "xlm_roberta/masked_lm", change)
    with pytest.raises(CheckpointError, match=r"another tensor is lm_head\.decoder"):
        convert(source, tmp_path / "dest")


@pytest.mark.parametrize("architectures", [None, [], ["A", "B"], [3], "A"])
def test_a_config_without_a_class(tmp_path, architectures):
    source = hugging_face(tmp_path / "source", "xlm/lm", architectures=architectures)
    with pytest.raises(CheckpointError, match="architectures: expected one class name, got"):
        convert(source, tmp_path / "dest")


# --- the command ----------------------------------------------------------------------------------


def run(*arguments, **more):
    command = [sys.executable, "-m", "refimpl", "convert", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", timeout=120, **more
    )


def test_the_command(tmp_path, source):
    done = run(source, tmp_path / "dest")
    assert (done.returncode, done.stderr) == (0, "")  # no progress bar on a pipe
    first, *notes = done.stdout.splitlines()
    assert first == f"{tmp_path / 'dest'}: XLMRobertaForMaskedLM, 42 tensors, 0.0 MB"
    assert all(note.startswith("note: ") for note in notes)
    assert len(notes) == 2
    load(tmp_path / "dest")


def test_the_command_speaks_json(tmp_path):
    files.save(xlm("xlm/lm"), tmp_path / "a.pth")
    (tmp_path / "codes").write_text("a b 3\n")
    done = run(tmp_path / "a.pth", tmp_path / "dest", "--codes", tmp_path / "codes", "--json",
               "--dtype", "float16")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    tensors = open_tensors(tmp_path / "dest")
    assert json.loads(done.stdout) == {
        "folder": str(tmp_path / "dest"),
        "architecture": "XLMWithLMHeadModel",
        "tensors": len(tensors),
        "bytes": sum(x.nbytes for x in tensors.values()),
        "files": ["merges.txt", "tokenizer_config.json", "vocab.json"],
        "notes": [],
    }
    assert load(tmp_path / "dest").architecture == "XLMWithLMHeadModel"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--dtype", "float8"], "dtype: expected one of keep, float32, float16, got 'float8'"),
        (["--head", "mnli"], "head: expected one of none"),
        (["--architecture", "BertModel"], "architecture: expected XLMRobertaForMaskedLM or"),
        (["--codes", "codes"], "codes: a fairseq file has no such choice, got 'codes'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(tmp_path, source, more, said):
    done = run(source, tmp_path / "dest", *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"refimpl: {said}")
    assert done.stderr.count("\n") == 1
    assert left_in(tmp_path) == []


def test_a_source_that_is_not_there(tmp_path):
    done = run(tmp_path / "nowhere", tmp_path / "dest")
    assert done.returncode == 2
    assert done.stderr == f"refimpl: {tmp_path / 'nowhere'}: no such file or folder\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
@pytest.mark.parametrize("size", [0, 1000, 10_000])
def test_no_file_may_grow(tmp_path, source, size):
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = run(source, tmp_path / "dest", preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"refimpl: {tmp_path / 'dest'}: cannot be written: File too large\n"
    assert left_in(tmp_path) == []


def test_a_folder_that_refimpl_would_not_load_is_not_written(tmp_path):
    source = hugging_face(tmp_path / "source", "xlm/lm", vocab_size=7)
    done = run(source, tmp_path / "dest")
    assert done.returncode == 2
    assert done.stderr.startswith(f"refimpl: {tmp_path / 'dest'}: XLMWithLMHeadModel: tensors do")
    assert left_in(tmp_path) == []
