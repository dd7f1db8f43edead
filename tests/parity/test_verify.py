"""``refimpl verify`` holds on what the originals made, and fails, at the right tap, on all else."""

import json
import shutil

import numpy
import pytest
from safetensors.numpy import load_file, save_file

import refimpl
from refimpl import ops
from refimpl.backend import arange
from refimpl.models import xlm
from refimpl.parity.compare import DIFF
from refimpl.parity.goldens import bundled, case_name, find_goldens
from refimpl.parity.verify import CaseReport, run_cases

FOLDERS = find_goldens()
CASES = pytest.mark.parametrize("folder", FOLDERS, ids=case_name)


def verify_one(folder) -> CaseReport:
    (report,) = run_cases([folder], "numpy", "float64", "plain")
    return report


@pytest.fixture
def copy(tmp_path):
    """A function that copies a case to a place where it can be broken."""
    return lambda folder: shutil.copytree(folder, tmp_path / folder.parent.name / folder.name)


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


@pytest.mark.backends("strict", "strict:device1")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kernels", ["plain", "fused"])
def test_all_bundled_goldens_hold_on_every_backend(backend, dtype, kernels):
    report = refimpl.verify(backend=backend, dtype=dtype, kernels=kernels)
    assert report.exit_code == 0, [case for case in report.cases if not case.held]


@CASES
def test_taps_come_in_the_order_of_the_original(folder):
    golden = json.loads((folder / "golden.json").read_text())
    compared = [c.name for c in verify_one(folder).comparisons]
    taps = [name for name in compared if name in golden["taps"]]
    assert taps == list(golden["taps"])


# --- what must be noticed -------------------------------------------------------------------------

# Tensors that a call does not touch, so that no comparison of what it computes could notice them.
UNUSED = {
    "xlm/no_langs": ("lang_embeddings",),
    "xlm/question_answering_loss": ("qa_outputs.answer_class",),
    "xlm_roberta/position_relative_key": ("position_embeddings",),
    "xlm_roberta/position_relative_key_query": ("position_embeddings",),
    "xlm_roberta_xl/position_relative_key": ("position_embeddings",),
    "xlm_roberta_xl/position_relative_key_query": ("position_embeddings",),
    "xmod/position_relative_key": ("position_embeddings",),
    "xmod/position_relative_key_query": ("position_embeddings",),
}


def taps_of(tensor: str, case: str) -> set[str]:
    """Where a change of this tensor shows first: at the output of its module, if that is a tap."""
    module = tensor.rpartition(".")[0]
    if module.endswith("word_embeddings") and case.endswith("inputs_embeds"):
        return {"lm_head.decoder"}  # no id is looked up; the matrix is tied
    if module == "transformer.embeddings" and case.endswith("inputs_embeds"):
        return {"pred_layer.proj"}
    if module.endswith("distance_embedding"):
        return {module.replace("distance_embedding", "scores")}
    if module.startswith(("pred_layer.proj.head", "pred_layer.proj.tail")):
        return {"loss"}  # the first output; the inside of an adaptive softmax has no taps
    if module.endswith("sequence_summary.summary"):
        return {module}
    return {"lm_head.decoder" if module == "lm_head" else module, f"{module}.before_adapter"}


@CASES
def test_any_weight_tensor_that_is_off_by_a_hundredth_shows_at_its_own_tap(folder, copy):
    broken = copy(folder)
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        if any(part in name for part in UNUSED.get(case_name(folder), ())):
            continue
        changed = {**tensors, name: tensors[name] + numpy.float32(1e-2)}
        save_file(changed, broken / "model.safetensors")
        report = verify_one(broken)
        assert report.first is not None, name
        assert report.first.name in taps_of(name, case_name(folder)), name
        assert report.first.status == DIFF, name
        assert report.changed_files == ("model.safetensors",)


@CASES
def test_another_eps_shows_at_the_first_norm(folder, copy):
    broken = copy(folder)
    set_config(broken, layer_norm_eps=3e-4)
    taps = json.loads((folder / "golden.json").read_text())["taps"]
    first_norm = next(name for name in taps if "layernorm" in name.lower().replace("_", ""))
    assert verify_one(broken).first.name == first_norm


@CASES
def test_the_other_gelu_shows_at_the_first_activation(folder, copy, monkeypatch):
    broken = copy(folder)
    config = set_config(broken, hidden_act="gelu_new")
    if config.get("hidden_act", "gelu") != "gelu" or config.get("gelu_activation") is False:
        return  # this model has another activation
    monkeypatch.setattr(ops, "gelu_erf", ops.gelu_tanh)  # what XLM calls; it has no switch for it
    first = verify_one(broken).first.name
    assert first.endswith(("encoder.layer.0.intermediate", "ffns.0.activation"))


@CASES
def test_positions_that_start_one_off_show_as_positions(folder, monkeypatch):
    description = json.loads((folder / "golden.json").read_text())
    if "position_ids" in description["inputs"] or "relative" in folder.name:
        return  # this call counts no positions
    for op in ("position_ids_from_padding", "position_ids_in_order"):
        true = getattr(ops, op)
        monkeypatch.setattr(ops, op, lambda *x, true=true, **more: true(*x, **more) - 1)
    monkeypatch.setattr(xlm, "arange", lambda n, *, like: (arange(n, like=like) - 1).clip(0))
    first = verify_one(folder).first
    assert first.name.endswith("position_ids")
    assert first.status == DIFF


def test_a_tokenizer_that_parts_shows_before_the_model(copy, monkeypatch):
    from refimpl.tokenizers.xlm_roberta.tokenizer import XLMRobertaTokenizer

    true = XLMRobertaTokenizer.__call__

    def off_by_one(self, *args, **kwargs):
        encoded = true(self, *args, **kwargs)
        return {**encoded, "input_ids": [[i + 1 for i in row] for row in encoded["input_ids"]]}

    monkeypatch.setattr(XLMRobertaTokenizer, "__call__", off_by_one)
    folder = bundled() / "xlm_roberta" / "from_text"
    assert verify_one(folder).first.name == "tokenizer.input_ids"


def test_a_tap_that_is_not_computed_and_one_too_many_are_named(copy, monkeypatch):
    from refimpl.models import heads

    folder = bundled() / "xlm_roberta" / "model"
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
    assert "expected one of model.safetensors" in report.cases[0].error


def test_a_case_whose_golden_was_changed_cannot_be_run(copy):
    broken = copy(FOLDERS[0])
    tensors = load_file(broken / "golden.safetensors")
    save_file({n: x * 2 for n, x in tensors.items()}, broken / "golden.safetensors")
    report = refimpl.verify(broken.parent)
    assert report.exit_code == 2
    assert "is not the file that golden.json describes" in report.cases[0].error
