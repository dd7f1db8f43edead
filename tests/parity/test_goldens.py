"""Goldens on disk: whole, described, within their budget, and refused when they are not."""

import json
import shutil

import numpy
import pytest
from safetensors.numpy import load_file, save_file

from refimpl.errors import CheckpointError
from refimpl.parity.goldens import (
    FORMAT,
    bundled,
    case_name,
    find_goldens,
    join,
    read_golden,
    split,
)

FOLDERS = find_goldens()


@pytest.fixture
def case(tmp_path):
    return shutil.copytree(bundled() / "xlm_roberta" / "model", tmp_path / "xlm_roberta" / "model")


@pytest.mark.parametrize("folder", FOLDERS, ids=case_name)
def test_a_golden_is_what_its_description_says(folder):
    golden = read_golden(folder)
    assert golden.changed_files() == []
    for kind in ("input", "tap", "output"):
        for name, x in golden.part(kind).items():
            described = golden.description[f"{kind}s"][name]
            assert list(x.shape) == described["shape"]
            assert x.dtype == ("float64" if described["dtype"] == "float" else described["dtype"])
    assert golden.description["made_by"]["implementation"].startswith("transformers 4.57.6")


def test_keys_and_values_are_tuples_in_a_call():
    golden = read_golden(bundled() / "xlm_roberta" / "kept_keys")
    kept = golden.inputs()["past_key_values"]
    assert [[x.shape for x in layer] for layer in kept] == [[(1, 2, 257, 2)] * 2]
    assert split(golden.inputs()).keys() == golden.part("input").keys()


def test_both_ways_between_flat_names_and_tuples():
    nested = {"a": 1, "kept": ((2, 3), (4, 5)), "flag": True}
    assert join(split(nested)) == nested


def test_goldens_stay_within_their_budget():
    sizes = {case_name(f): sum(p.stat().st_size for p in f.iterdir()) for f in FOLDERS}
    assert sum(sizes.values()) < 8_000_000
    assert max(sizes.values()) < 110_000


def test_no_tensor_of_a_golden_checkpoint_hides_a_mistake():
    """No zero bias, no unit gain, no zero padding row, no two layers alike."""
    for folder in FOLDERS:
        tensors = load_file(folder / "model.safetensors")
        for name, x in tensors.items():
            if folder.name == "sinusoidal" and name == "position_embeddings.weight":
                continue  # a sine is 0 at position 0
            assert numpy.all(x != 0), name
            assert x.size == 1 or numpy.unique(x).size > 1, name
        layers = [
            x.tobytes() for n, x in tensors.items() if n.endswith(("query.weight", "q_lin.weight"))
        ]
        assert len(set(layers)) == len(layers)


def test_a_golden_that_was_tampered_with_is_refused(case):
    tensors = load_file(case / "golden.safetensors")
    tensors["tap.pooler"] = tensors["tap.pooler"] + 1e-3
    save_file(tensors, case / "golden.safetensors")
    with pytest.raises(CheckpointError, match="is not the file that"):
        read_golden(case)


def test_a_changed_checkpoint_is_named_not_refused(case):
    config = json.loads((case / "config.json").read_text())
    (case / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-12}))
    (case / "model.safetensors").unlink()
    assert read_golden(case).changed_files() == ["config.json", "model.safetensors"]


def test_another_format_and_a_missing_entry_are_refused(case):
    description = json.loads((case / "golden.json").read_text())
    (case / "golden.json").write_text(json.dumps({**description, "format": 99}))
    with pytest.raises(CheckpointError, match=f"expected format {FORMAT}, got format 99"):
        read_golden(case)
    del description["taps"]
    (case / "golden.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match="got no taps"):
        read_golden(case)


def test_where_there_is_no_golden_there_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="expected a golden case or a folder of them"):
        find_goldens(tmp_path)
