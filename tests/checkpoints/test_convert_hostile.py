"""Originals broken at random: refused in one clear sentence, or read as something whole."""

import io
import json
import zipfile

import pytest

from refimpl.checkpoints.convert import read_source
from refimpl.errors import CheckpointError
from tests.checkpoints import hostile
from tests.checkpoints.original_trees import WORDS, fairseq, xlm
from tests.oracle import original_files as files


def bytes_of(folder, value):
    """A file of an original, and its pickle alone."""
    content = files.save(value, folder / "file").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return content, file.read("archive/data.pkl")


def around(content, pickled):
    """A file with another pickle in it, its checksums right."""
    new = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(new, "w") as file:
        for name in old.namelist():
            file.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return new.getvalue()


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    files.beside_fairseq_file(folder, WORDS)
    beside = {name: (folder / name).read_bytes() for name in ("dict.txt", files.SPM.name)}
    theirs, theirs_pickle = bytes_of(folder, fairseq("xmod/masked_lm", old=True))
    authors, authors_pickle = bytes_of(folder, xlm("xlm/lm_adaptive"))
    forms = [
        ("fairseq", {"model.pt": theirs}, lambda parts: parts | beside),
        ("fairseq pickle", {"data.pkl": theirs_pickle},
         lambda parts: {"model.pt": around(theirs, parts["data.pkl"]), **beside}),
        ("fairseq vocabulary", beside, lambda parts: parts | {"model.pt": theirs}),
        ("XLM", {"a.pth": authors}, dict),
        ("XLM pickle", {"data.pkl": authors_pickle},
         lambda parts: {"a.pth": around(authors, parts["data.pkl"])}),
    ]  # fmt: skip
    return {n: hostile.Format(n, parts, None, None, wrap=wrap) for n, parts, wrap in forms}


@pytest.mark.parametrize(
    "name", ["fairseq", "fairseq pickle", "fairseq vocabulary", "XLM", "XLM pickle"]
)
def test_broken_originals(tmp_path, formats, name):
    refused = 0
    for seed in range(300):
        corruption = hostile.corrupted(formats[name], seed)
        folder = tmp_path / "broken"
        hostile.write(corruption.files, folder)
        try:
            checkpoint = read_source(folder, None, None, None)
        except CheckpointError as caught:
            refused += 1
            error = str(caught)
            assert str(folder) in error, f"{corruption.how}: names no file: {error}"
            assert len(error) < 20_000, f"{corruption.how}: repeats what is in the file"
        else:
            json.dumps(checkpoint.config, allow_nan=False)
            shapes = [x.read().shape == x.shape for x in checkpoint.tensors.values()]
            assert all(shapes), corruption.how
    assert 20 < refused < 300
