"""``refimpl verify`` holds on what the originals made, and fails, at the right tap, on all else."""

import json
import shutil

import numpy
import pytest
from safetensors.numpy import load_file, save_file

import refimpl
from refimpl import ops
from refimpl.parity.compare import DIFF
from refimpl.parity.goldens import find_goldens
from refimpl.parity.verify import CaseReport, run_cases

FOLDERS = find_goldens()
CASES = pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)


def verify_one(folder) -> CaseReport:
    (report,) = run_cases([folder], "numpy", "float64", "plain")
    return report


@pytest.fixture
def copy(tmp_path):
    """A function that copies a case to a place where it can be broken."""
    return lambda folder: shutil.copytree(folder, tmp_path / "xlm_roberta" / folder.name)


def set_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    return config


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("kernels", ["plain", "fused"])
def test_all_bundled_goldens_hold(dtype, kernels):
    report = refimpl.verify(dtype=dtype, kernels=kernels)
    assert report.exit_code == 0, [case for case in report.cases if not case.held]
    assert len(report.cases) == len(FOLDERS)


@pytest.mark.parametrize("backend", ["strict", "strict:device1"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_all_bundled_goldens_hold_on_the_strict_namespace(backend, dtype):
    report = refimpl.verify(backend=backend, dtype=dtype)
    assert report.exit_code == 0, [case for case in report.cases if not case.held]


@CASES
def test_taps_come_in_the_order_of_the_original(folder):
    golden = json.loads((folder / "golden.json").read_text())
    compared = [c.name for c in verify_one(folder).comparisons]
    taps = [name for name in compared if name in golden["taps"]]
    assert taps == list(golden["taps"])


# --- what must be noticed -------------------------------------------------------------------------


def tap_of(tensor: str, tensors) -> str:
    """The first tap that a change of this tensor shows at: the output of its module."""
    module = tensor.rpartition(".")[0]
    return "lm_head.decoder" if module == "lm_head" else module


@CASES
def test_any_weight_tensor_that_is_off_by_a_hundredth_shows_at_its_own_tap(folder, copy):
    broken = copy(folder)
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        changed = {**tensors, name: tensors[name] + numpy.float32(1e-2)}
        save_file(changed, broken / "model.safetensors")
        report = verify_one(broken)
        expected = tap_of(name, tensors)
        if folder.name == "inputs_embeds" and expected.endswith("word_embeddings"):
            expected = "lm_head.decoder"  # no id is looked up; the matrix is tied
        assert report.first is not None, name
        assert (report.first.name, report.first.status) == (expected, DIFF), name
        assert report.changed_files == ("model.safetensors",)


@CASES
def test_another_eps_shows_at_the_first_norm(folder, copy):
    broken = copy(folder)
    set_config(broken, layer_norm_eps=1e-12)
    assert verify_one(broken).first.name.endswith("embeddings.LayerNorm")


@pytest.mark.parametrize(
    "folder",
    [f for f in FOLDERS if json.loads((f / "config.json").read_text())["hidden_act"] == "gelu"],
    ids=lambda f: f.name,
)
def test_the_other_gelu_shows_at_the_first_activation(folder, copy):
    broken = copy(folder)
    set_config(broken, hidden_act="gelu_new")
    assert verify_one(broken).first.name.endswith("encoder.layer.0.intermediate")


@pytest.mark.parametrize("folder", [f for f in FOLDERS if f.name != "position_ids"],
                         ids=lambda f: f.name)  # fmt: skip
def test_positions_that_start_one_off_show_as_positions(folder, monkeypatch):
    for op in ("position_ids_from_padding", "position_ids_in_order"):
        true = getattr(ops, op)
        monkeypatch.setattr(ops, op, lambda *x, true=true, **more: true(*x, **more) - 1)
    first = verify_one(folder).first
    assert first.name.endswith("embeddings.position_ids")
    assert first.status == DIFF


def test_a_tokenizer_that_parts_shows_before_the_model(copy, monkeypatch):
    from refimpl.tokenizers.xlm_roberta import XLMRobertaTokenizer

    true = XLMRobertaTokenizer.__call__

    def off_by_one(self, *args, **kwargs):
        encoded = true(self, *args, **kwargs)
        return {**encoded, "input_ids": [[i + 1 for i in row] for row in encoded["input_ids"]]}

    monkeypatch.setattr(XLMRobertaTokenizer, "__call__", off_by_one)
    (folder,) = (f for f in FOLDERS if f.name == "from_text")
    assert verify_one(folder).first.name == "tokenizer.input_ids"


def test_a_tap_that_is_not_computed_and_one_too_many_are_named(copy, monkeypatch):
    from refimpl.models import heads

    (folder,) = (f for f in FOLDERS if f.name == "model")
    monkeypatch.setattr(heads, "tap", lambda name, x: x)
    report = verify_one(folder)
    assert report.first[:2] == ("pooler.dense", "MISSING")
    assert report.first.note == "expected, and not computed"


# --- what cannot be run ---------------------------------------------------------------------------


def test_a_case_without_weights_cannot_be_run(copy):
    broken = copy(FOLDERS[0])
    (broken / "model.safetensors").unlink()
    report = refimpl.verify(broken.parent)
    assert report.exit_code == 2
    assert "expected model.safetensors" in report.cases[0].error


def test_a_case_whose_golden_was_changed_cannot_be_run(copy):
    broken = copy(FOLDERS[0])
    tensors = load_file(broken / "golden.safetensors")
    save_file({n: x * 2 for n, x in tensors.items()}, broken / "golden.safetensors")
    report = refimpl.verify(broken.parent)
    assert report.exit_code == 2
    assert "is not the file that golden.json describes" in report.cases[0].error
