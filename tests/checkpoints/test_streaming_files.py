"""Files that change while a model reads from them: an error that says so, whatever the change."""

import os

import numpy
import pytest
from safetensors.numpy import load_file

from refimpl.checkpoints.folder import SINGLE, open_tensors
from refimpl.checkpoints.streaming import SteadyFile
from refimpl.errors import CheckpointError
from refimpl.models.model import load
from tests.checkpoints.streamed import IDS, SMALL
from tools.sparse_checkpoint import write_sparse


@pytest.fixture
def small(tmp_path):
    """A checkpoint of six layers whose matrices are random in every row."""
    write_sparse(tmp_path, "XLMRobertaXLForMaskedLM", SMALL, rows=1000)
    return tmp_path


def cut_short(path):
    os.truncate(path, path.stat().st_size // 2)


def replaced(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes() + b"\0")
    other.replace(path)


def written_to(path):
    state = path.stat()
    with path.open("r+b") as file:
        file.seek(state.st_size // 2)
        file.write(b"\1")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))  # as a clock would, in time


def removed(path):
    path.unlink()


def now_a_folder(path):
    path.unlink()
    path.mkdir()


HAS_CHANGED = "has changed since the model was loaded"
CHANGES = pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut_short, HAS_CHANGED),
        (replaced, HAS_CHANGED),
        (written_to, HAS_CHANGED),
        (removed, "cannot be read any more: .*No such file"),
        (now_a_folder, "cannot be read any more: .*directory"),
    ],
)


@CHANGES
def test_a_file_that_changed_between_two_calls(small, change, said):
    model = load(small, stream=True)
    model(input_ids=IDS)
    change(small / SINGLE)
    with pytest.raises(CheckpointError, match=f"{SINGLE}: {said}"):
        model(input_ids=IDS)


@CHANGES
@pytest.mark.parametrize("after", [1, 20, 60])
def test_a_file_that_changes_in_the_middle_of_a_call(small, change, said, after, monkeypatch):
    left, read = [after], SteadyFile.read

    def spy(self, start, out):
        left[0] -= 1
        if left[0] == 0:
            change(self.path)
        read(self, start, out)

    monkeypatch.setattr(SteadyFile, "read", spy)
    with pytest.raises(CheckpointError, match=f"{SINGLE}: {said}"):
        load(small, stream=True)(input_ids=IDS)


@CHANGES
def test_a_file_that_changes_while_it_is_read(small, change, said, monkeypatch):
    look = SteadyFile._look

    def spy(self):
        if hasattr(self, "_state"):  # the bytes are there, and are looked at once more
            monkeypatch.setattr(SteadyFile, "_look", look)
            change(self.path)
        return look(self)

    monkeypatch.setattr(SteadyFile, "_look", spy)
    with pytest.raises(CheckpointError, match=f"{SINGLE}: ({said}|{HAS_CHANGED})"):
        load(small, stream=True)(input_ids=IDS)


def test_a_file_that_ends_before_its_tensors_do(small):
    file = SteadyFile(small / SINGLE)
    with pytest.raises(CheckpointError, match=HAS_CHANGED):
        file.read((small / SINGLE).stat().st_size - 4, numpy.empty(2, "f4"))


def test_a_file_that_goes_while_it_is_opened(small, monkeypatch):
    place = open_tensors(small).__class__.place
    gone = small / SINGLE

    def spy(self, name):
        found = place(self, name)
        gone.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(open_tensors(small).__class__, "place", spy)
    with pytest.raises(CheckpointError, match=f"{SINGLE}: cannot be read any more"):
        load(small, stream=True)


def test_a_relative_path_and_another_working_directory(small, monkeypatch):
    monkeypatch.chdir(small.parent)
    model = load(small.name, stream=True)
    monkeypatch.chdir("/")
    assert model(input_ids=IDS).logits.shape == (1, 5, 700)


def test_tensors_that_do_not_lie_in_the_file_row_by_row(checkpoint):
    torch = pytest.importorskip("torch")
    folder = checkpoint("model")
    tensors = {name: torch.from_numpy(x) for name, x in load_file(folder / SINGLE).items()}
    tensors["pooler.dense.weight"] = tensors["pooler.dense.weight"].t().contiguous().t()
    (folder / SINGLE).unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin: pooler.dense.weight: is stored"):
        load(folder, stream=True)
