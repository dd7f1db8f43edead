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
from refimpl.parity.floors import read_floors
from refimpl.parity.goldens import bundled, case_name, find_goldens, read_golden
from refimpl.parity.verify import CaseReport, run_cases
from refimpl.replacing import plain, replace

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


# --- narrow numbers are judged by floors ----------------------------------------------------------


def verify_narrow(folder, dtype) -> CaseReport:
    (report,) = run_cases([folder], "numpy", dtype, "plain")
    assert not report.error
    return report


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_float_is_judged_by_its_own_floor(dtype):
    folder = bundled() / "xlm_roberta" / "model"
    golden = read_golden(folder)
    floors, report = read_floors(golden, dtype), verify_narrow(folder, dtype)
    truth = {**golden.part("tap"), **golden.part("output")}
    for found in report.comparisons:
        name = found.name.removesuffix(", without taps")
        if truth[name].dtype.kind == "f":
            assert found.multiplier == floors.multiplier
            assert 0.0 <= found.units <= floors.multiplier
            worst = floors.free[name].worst
            largest = numpy.abs(truth[name]).max()
            if dtype == "float32":  # in float16 the weights are others, and so is the truth
                assert found.tolerance == floors.multiplier * worst / largest
        else:
            assert (found.units, found.error) == (None, 0.0)
    assert report.worst.share == max(c.share for c in report.comparisons)


def larger_eps(x, weight, bias, *, eps):
    return plain("layer_norm")(x, weight, bias, eps=1.1 * eps)


def test_an_eps_that_is_a_tenth_larger_shows_in_float32():
    with replace(layer_norm=larger_eps):
        report = refimpl.verify(dtype="float32")
    first = {case.first.name for case in report.cases if not case.held}
    assert any("norm" in name.lower() for name in first)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_mistake_shows_though_the_truth_is_of_rounded_weights(dtype):
    # Both float64 runs have it, that of the weights as they are and that of rounded ones.
    folder = bundled() / "xlm" / "edges"
    assert verify_narrow(folder, dtype).held
    with replace(gelu_erf=plain("gelu_tanh")):
        report = verify_narrow(folder, dtype)
    assert (report.first.name, report.first.status) == ("transformer.ffns.0.activation", DIFF)
    assert report.first.units > report.first.multiplier


def test_a_case_without_floors_is_judged_by_some_that_are_measured(copy):
    broken = copy(bundled() / "xlm_roberta" / "one_token")
    (broken / "floors.safetensors").unlink()
    report = verify_narrow(broken, "float32")
    assert report.held
    assert report.worst.units > 0


def test_floors_of_another_golden_are_refused(copy):
    broken = copy(bundled() / "xlm_roberta" / "model")
    other = bundled() / "xlm_roberta" / "padding_left" / "floors.safetensors"
    shutil.copy(other, broken / "floors.safetensors")
    report = refimpl.verify(broken.parent, dtype="float32")
    assert report.exit_code == 2
    assert "was measured on another golden" in report.cases[0].error


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


def test_a_mistake_that_shows_only_without_taps(monkeypatch):
    """The second run goes other ways: attention in parts, no padding."""
    from refimpl.ops import fused

    made = fused.twins

    def broken(backend, attention_wanted):
        twins = dict(made(backend, attention_wanted))
        if not attention_wanted:
            right = twins["scaled_dot_product_attention"]
            twins["scaled_dot_product_attention"] = lambda *x, scale, **o: right(
                *x, scale=1.1 * scale, **o
            )
        return twins

    monkeypatch.setattr(fused, "twins", broken)
    (report,) = run_cases([bundled() / "xlm_roberta" / "padding_left"], "numpy", "float64", "fused")
    assert report.first.name == "last_hidden_state, without taps"


@pytest.mark.parametrize("packed", [True, False])
def test_padding_is_computed_where_it_is_asked_for(packed, monkeypatch):
    from refimpl.models import lanes

    seen = []
    made = lanes.packing_of
    monkeypatch.setattr(lanes, "packing_of", lambda *given: seen.append(given) or made(*given))
    folder = bundled() / "xlm_roberta" / "padding_right"
    (report,) = run_cases([folder], "numpy", "float64", "fused", packed)
    assert report.held
    assert bool(seen) == packed
