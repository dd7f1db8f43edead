"""Hub ids: found in the cache without a network, fetched otherwise, and one error where neither."""

import doctest
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from refimpl.checkpoints import hub as module
from refimpl.checkpoints.folder import find_folder
from refimpl.checkpoints.hub import PICKLES, READ, fetch, holds_weights, wanted
from refimpl.errors import CheckpointError, MissingExtra
from refimpl.models.model import load
from refimpl.parity.goldens import bundled

ID = "someone/small-xlm-r"
CASE = bundled() / "xlm_roberta" / "from_text"
FILES = ("config.json", "model.safetensors", "sentencepiece.bpe.model")


class Hub:
    """Stands for huggingface_hub: notes what it is asked, and answers as told."""

    def __init__(self, cached=None, files=(), snapshot=None, error=None):
        self.cached, self.files, self.snapshot, self.error = cached, files, snapshot, error
        self.downloads = []

    def snapshot_download(self, hub_id, **options):
        if options.get("local_files_only"):
            if self.cached is None:
                raise FileNotFoundError("not in the cache")
            return str(self.cached)
        self.downloads.append((hub_id, options))
        return str(self.snapshot)

    def list_repo_files(self, hub_id):
        if self.error:
            raise self.error
        return list(self.files)


@pytest.fixture
def install(monkeypatch):
    """A function that puts a hub in the place of huggingface_hub."""

    def put(hub):
        bars = SimpleNamespace(are_progress_bars_disabled=lambda: True)
        constants = SimpleNamespace(HF_HUB_DISABLE_PROGRESS_BARS=None)
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
        monkeypatch.setitem(sys.modules, "huggingface_hub.utils", bars)
        monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
        return hub

    return put


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(module)
    assert (failed, tried) == (0, 2)


# --- what is asked of the hub ---------------------------------------------------------------------


def test_what_is_in_the_cache_is_not_asked_for(install):
    hub = install(Hub(cached=CASE, error=AssertionError("asked")))
    assert find_folder(ID) == CASE
    assert hub.downloads == []


def test_what_is_not_in_the_cache_is_fetched(install, checkpoint):
    folder = checkpoint("model")
    hub = install(Hub(files=["config.json", "model.safetensors"], snapshot=folder))
    assert find_folder(ID) == folder
    options = {"allow_patterns": [*READ], "ignore_patterns": ["*/*"]}
    assert hub.downloads == [(ID, options)]
    assert load(ID)(input_ids=[5]).pooler_output.shape == (1, 12)


def test_a_part_of_a_checkpoint_in_the_cache_is_completed(install, tmp_path, checkpoint):
    (tmp_path / "config.json").write_text("{}")
    hub = install(Hub(cached=tmp_path, snapshot=checkpoint("model")))
    find_folder(ID)
    assert len(hub.downloads) == 1


def test_a_part_of_a_checkpoint_is_all_there_is_without_a_network(install, tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"")
    install(Hub(cached=tmp_path, error=ConnectionError("no network")))
    assert find_folder(ID) == tmp_path


@pytest.mark.parametrize(
    ("files", "pickles"),
    [
        (["config.json", "model.safetensors"], False),
        (["config.json", "model.safetensors", "pytorch_model.bin"], False),
        (["config.json", "model-00001-of-00002.safetensors"], False),
        (["config.json", "pytorch_model.bin"], True),
        (["config.json", "pytorch_model.bin", "onnx/model.safetensors"], True),
        ([], True),
    ],
)
def test_a_file_that_could_run_code_is_fetched_only_where_there_is_no_other(files, pickles):
    assert (PICKLES in wanted(files)) == pickles


@pytest.mark.parametrize("name", [*FILES, "vocab.json", "merges.txt", "tokenizer_config.json",
    "model.safetensors.index.json", "model-00001-of-00002.safetensors"])  # fmt: skip
def test_every_file_that_is_read_is_fetched(name):
    assert any(Path(name).match(pattern) for pattern in wanted(["model.safetensors"]))


@pytest.mark.parametrize(
    ("files", "complete"),
    [
        (["config.json", "model.safetensors"], True),
        (["config.json", "pytorch_model.bin"], True),
        (["model.safetensors"], False),
        (["config.json"], False),
        (["config.json", "model.safetensors.index.json", "a", "b"], True),
        (["config.json", "model.safetensors.index.json", "a"], False),
        (["config.json", "pytorch_model.bin.index.json", "a", "b"], True),
        (["config.json", "pytorch_model.bin.index.json", "b"], False),
    ],
)
def test_what_is_a_whole_checkpoint(tmp_path, files, complete):
    for name in files:
        (tmp_path / name).write_text(json.dumps({"weight_map": {"x": "a", "y": "b"}}))
    assert holds_weights(tmp_path) == complete


@pytest.mark.parametrize("shards", [None, [], {"x": 3}])
def test_an_index_that_names_no_files_is_not_whole(tmp_path, shards):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert not holds_weights(tmp_path)


def test_an_older_id_is_the_newer_one(install, checkpoint):
    hub = install(Hub(snapshot=checkpoint("model")))
    find_folder("xlm-roberta-base")
    assert hub.downloads[0][0] == "FacebookAI/xlm-roberta-base"


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra) as caught:
        find_folder("FacebookAI/xlm-roberta-base")
    assert "FacebookAI/xlm-roberta-base: no such folder" in str(caught.value)
    assert "pip install 'refimpl[hub]'" in str(caught.value)


def test_an_id_that_is_nowhere_is_one_error_of_one_line(install):
    install(Hub(error=RuntimeError("404,\n\nnobody   there")))
    with pytest.raises(CheckpointError) as caught:
        fetch("a/b")
    assert str(caught.value) == (
        "a/b: no such folder, and not found as a hub id: 404, nobody there"
    )


# --- huggingface_hub itself -----------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path):
    """A cache as huggingface_hub keeps it, with one small checkpoint in it."""
    pytest.importorskip("huggingface_hub")
    home = tmp_path / "hub" / f"models--{ID.replace('/', '--')}"
    snapshot = home / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    for name in FILES:
        shutil.copy(CASE / name, snapshot)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(snapshot.name)
    return tmp_path


def run(cache, *arguments, **settings):
    """Run the command line with this cache and without a network."""
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", **settings}
    environment.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-m", "refimpl", *arguments]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", env=environment, timeout=120
    )


def test_an_id_in_the_cache_is_found_without_a_network(cache):
    done = run(cache, "fill-mask", ID, "The lamp <mask>", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)) == 5


def test_an_id_that_is_not_in_the_cache_is_one_line_without_a_network(cache):
    done = run(cache, "inspect", "someone/else")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "refimpl: someone/else: no such folder, and not found as a hub id: "
    )
    assert done.stderr.count("\n") == 1


QUIET = """
import sys
from huggingface_hub import utils
import huggingface_hub
def list_repo_files(hub_id):
    print(utils.are_progress_bars_disabled())
    return []
huggingface_hub.list_repo_files = list_repo_files
from refimpl.checkpoints.hub import fetch
try:
    fetch("a/b")
except Exception as error:
    print(type(error).__name__, utils.are_progress_bars_disabled())
"""


@pytest.mark.parametrize(("setting", "quiet"), [(None, "True"), ("0", "False"), ("1", "True")])
def test_progress_bars_are_off_on_a_pipe_unless_asked_for(cache, setting, quiet):
    settings = {} if setting is None else {"HF_HUB_DISABLE_PROGRESS_BARS": setting}
    environment = {k: x for k, x in os.environ.items() if k != "HF_HUB_DISABLE_PROGRESS_BARS"}
    environment |= {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", **settings}
    command = [sys.executable, "-W", "error", "-c", QUIET]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", env=environment, timeout=120
    )
    # During the download, and as it was before, afterwards.
    before = "True" if setting == "1" else "False"
    assert (done.stdout.split(), done.stderr) == ([quiet, "CheckpointError", before], "")
