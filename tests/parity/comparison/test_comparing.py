"""Comparisons: an honest port holds, a mistake is found where it was made, and said in words."""

from dataclasses import replace

import numpy
import pytest

from refimpl.errors import CheckpointError
from refimpl.models.model import load
from refimpl.parity.comparison import ROUNDING, as_dict, comparing, sentence
from refimpl.parity.comparison.report import render
from refimpl.parity.comparison.words import rule, unknown_lines
from refimpl.parity.dumps import write_dump
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults import CATALOGUE, place_of
from refimpl.parity.floors import (
    draw_implementation,
    find_arithmetic,
    measure_floors,
    run_honest,
    write_floors,
)
from refimpl.parity.goldens import find_goldens, read_golden
from refimpl.parity.reference import run_reference
from refimpl.taps import edit
from tests.conftest import case_folder

CASE = "xlm_roberta/padding_left"
LAYER = "encoder.layer.0"


def honest(case, model, arithmetic="float32"):
    """What an honest port computes, which is none of those that floors are measured from."""
    golden, how = read_golden(case_folder(case)), find_arithmetic(arithmetic)
    dump = run_honest(draw_implementation(how, 77), how.computing(model(case)), golden.inputs())
    return replace(dump, about={})


def without(dump, *names):
    taps, outputs = (
        {n: x for n, x in p.items() if n not in names} for p in (dump.taps, dump.outputs)
    )
    return replace(dump, taps=taps, outputs=outputs)


def changed(dump, **values):
    """A dump with other values: ``changed(dump, **{name: function of the old one})``."""
    taps, outputs = (
        {n: values[n](x) if n in values else x for n, x in p.items()}
        for p in (dump.taps, dump.outputs)
    )
    return replace(dump, taps=taps, outputs=outputs)


# --- what is right holds --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", ["xlm/lm", "xlm/question_answering", "xlm_roberta/padding_inside",
             "xlm_roberta_xl/masked_lm", "xmod/mixed_languages", "xmod/hidden_states",
             "xlm_roberta/multiple_choice", "xlm_roberta/inputs_embeds"],
)  # fmt: skip
def test_an_honest_port_holds(case, model, compare):
    report = compare(case, honest(case, model))
    assert report.held, sentence(report)
    assert report.exit_code == 0
    assert report.arithmetic == "float32"
    assert [v.name for v in report.verdicts if not v.compared] == []
    assert sentence(report).startswith(f"held: {len(report.compared)} values within rounding")
    assert "4 honest runs" in rule(report)


@pytest.mark.parametrize("arithmetic", ["float16", "bfloat16", "float16-weights", "tf32"])
def test_an_honest_run_holds_in_its_arithmetic_and_in_no_better(arithmetic, model, compare):
    dump = honest(CASE, model, arithmetic)
    report = compare(CASE, dump, arithmetic=arithmetic)
    assert report.held, sentence(report)
    if find_arithmetic(arithmetic).results is not None:
        assert compare(CASE, dump).arithmetic == arithmetic  # told from the numbers
    assert not compare(CASE, dump, arithmetic="float32").held


def test_inherited_rounding_is_no_mistake(model, compare, candidate):
    """Every operation rounds coarsely, but within its bounds; handed on, that becomes more."""
    golden, floors = read_golden(case_folder(CASE)), compare(CASE, candidate(CASE)).floors
    rng, taps = numpy.random.default_rng(0), {}

    def round_coarsely(name, x):
        taps[name] = x
        if name.endswith(("dense", "LayerNorm")):
            taps[name] = x + 3.5 * floors.forced[name].rms * rng.choice([-1.0, 1.0], x.shape)
        return taps[name]

    with edit(round_coarsely):
        model(CASE)(**golden.inputs())
    report = compare(CASE, Dump(taps, {}, golden.part("input")), arithmetic="float32")
    assert report.held, sentence(report)
    inherited = [v for v in report.verdicts if v.origin == "inherited"]
    assert inherited
    assert {v.status for v in inherited} == {ROUNDING}


# --- what is wrong is found where it was made -----------------------------------------------------

FAULTS = [
    # case, fault, the places where it is made: in every layer
    ("xlm_roberta/padding_left", "positions_from_zero", {"position_ids"}),
    ("xlm_roberta/padding_left", "padding_vector_zeroed", {"embedding_norm"}),
    ("xlm_roberta/padding_left", "gelu_tanh", {"activation"}),
    (
        "xlm_roberta/padding_left",
        "norm_eps_1e_12",
        {"embedding_norm", "attention_norm", "ffn_norm"},
    ),
    ("xlm_roberta/padding_left", "mask_ignored", {"probs"}),
    ("xlm_roberta/padding_left", "scale_missing", {"scores"}),
    ("xlm_roberta/padding_left", "heads_merged_interleaved", {"context"}),
    ("xlm_roberta/padding_left", "key_bias_missing", {"key"}),
    ("xlm_roberta/padding_left", "ffn_residual_missing", {"ffn_norm"}),
    ("xlm_roberta/padding_left", "pooler_without_tanh", {"pooler"}),
    ("xlm/padding_left", "gelu_sigmoid", {"activation"}),
    ("xlm/padding_left", "value_bias_missing", {"value"}),
    ("xmod/mixed_languages", "attention_residual_missing", {"attention_norm"}),
    ("xmod/mixed_languages", "gelu_as_relu", {"activation", "adapter_activation"}),
    ("xlm_roberta_xl/masked_lm", "query_and_key_swapped", {"query", "key"}),
    (
        "xlm_roberta_xl/masked_lm",
        "norm_weight_missing",
        {"attention_norm", "ffn_norm", "final_norm", "lm_norm"},
    ),
]


@pytest.mark.parametrize(("case", "name", "places"), FAULTS)
def test_a_fault_parts_first_where_it_is_made(case, name, places, compare, candidate):
    report = compare(case, candidate(case, name))
    assert report.exit_code == 1
    assert CATALOGUE[name].may_part_first(report.first.name)
    assert f"first parts at {report.first.name} (introduced there" in sentence(report)
    own = {place_of(v.name) for v in report.verdicts if v.origin == "introduced"}
    assert own == places  # all else is inherited


def test_two_faults_are_both_named(compare, candidate):
    report = compare(CASE, candidate(CASE, "gelu_tanh", "pooler_without_tanh"))
    own = [v.name for v in report.verdicts if v.origin == "introduced"]
    assert own == [f"{LAYER}.intermediate", "encoder.layer.1.intermediate", "pooler"]
    assert "introduced anew at encoder.layer.1.intermediate, pooler" in sentence(report)


def test_a_fault_of_padding_is_placed_there_and_may_be_left_out(compare, candidate):
    dump = candidate(CASE, "padding_vector_zeroed")
    assert compare(CASE, dump).first.where == "padded positions only"
    report = compare(CASE, dump, ignore_padding=True)
    assert report.held
    assert report.ignore_padding
    assert as_dict(report)["ignore_padding"]
    said = "what is computed at padding was not judged"
    assert said in rule(report)
    assert said in render(report)
    assert said not in rule(compare(CASE, dump))


def test_kept_keys_are_inputs_by_their_parts():
    golden = read_golden(case_folder("xmod/kept_keys"))
    dump = run_reference(load(golden.folder, dtype="float32"), golden.inputs())
    assert list(dump.inputs) == list(golden.part("input"))
    assert comparing.compare(golden.folder, dump).held


def test_in_low_precision_what_is_introduced_counts(compare, model):
    golden = read_golden(case_folder(CASE))
    how = find_arithmetic("float16")
    exact = how.weights(model(CASE))
    wrong = run_reference(exact, golden.inputs(), [CATALOGUE["gelu_sigmoid"]])
    stored = {n: x.astype("float16") if x.dtype.kind == "f" else x for n, x in wrong.taps.items()}
    report = compare(CASE, Dump(stored, {}, golden.part("input")))
    assert report.arithmetic == "float16"
    assert report.first.name == f"{LAYER}.intermediate"


# --- part of a dump -------------------------------------------------------------------------------


def test_values_that_are_not_shown_are_no_fault(compare, candidate):
    dump = without(candidate(CASE), f"{LAYER}.attention.self.scores", "pooler")
    report = compare(CASE, dump)
    assert report.held
    assert report.counts()["MISSING"] == 1  # the pooler's value is shown as an output
    assert "1 value not in the dump" in sentence(report)


def test_between_two_values_is_said_where_those_in_between_are_not_shown(compare, candidate):
    dump = candidate(CASE, "mask_ignored")
    own = f"{LAYER}.attention.self"
    report = compare(CASE, without(dump, f"{own}.scores", f"{own}.probs"))
    assert (report.first.name, report.first.since) == (f"{own}.context", f"{own}.value")
    assert f"introduced between {own}.value and it" in sentence(report)
    later = next(v for v in report.verdicts if v.name == f"{LAYER}.attention.output.dense")
    assert (later.origin, later.since) == ("inherited", "")


def test_a_long_way_is_judged_by_the_floor_of_a_long_way(compare, model):
    """What rounds in a whole model is more than what rounds in its last operation."""
    dump = honest(CASE, model, "bfloat16")
    kept = ("embeddings.word_embeddings", "pooler")
    few = Dump({name: dump.taps[name] for name in kept}, {}, dump.inputs)
    report = compare(CASE, few, arithmetic="bfloat16")
    assert report.held, sentence(report)
    pooler = next(v for v in report.verdicts if v.name == "pooler")
    alone = report.floors.forced["pooler"].rms
    assert pooler.rms > report.floors.multiplier * alone
    assert pooler.since == "embeddings.word_embeddings"


def test_outputs_alone(compare, candidate):
    for faults, held in (((), True), (("gelu_tanh",), False)):
        dump = replace(candidate(CASE, *faults), taps={})
        report = compare(CASE, dump)
        assert report.held is held
        assert {v.name for v in report.compared} >= set(dump.outputs)


def test_hidden_states_stand_for_the_taps_that_they_are(compare, candidate):
    case = "xlm_roberta/hidden_states"
    dump = candidate(case, "last_layer_skipped")
    dump = replace(dump, taps={}, outputs=candidate(case).outputs | {
        "hidden_states.2": dump.outputs["last_hidden_state"],
        "last_hidden_state": dump.outputs["last_hidden_state"],
        "pooler_output": dump.outputs["pooler_output"],
    })  # fmt: skip
    report = compare(case, dump)
    first = report.first
    assert first.name == "encoder.layer.1.output.LayerNorm"
    assert first.note == "shown as hidden_states.2"
    assert next(v for v in report.verdicts if v.name == "pooler_output").status == "DIFF"


def test_one_tap(compare, candidate):
    name = f"{LAYER}.intermediate"
    for faults, held in (((), True), (("gelu_tanh",), False)):
        dump = candidate(CASE, *faults)
        report = compare(CASE, Dump({name: dump.taps[name]}, {}, dump.inputs))
        assert (report.held, [v.name for v in report.compared]) == (held, [name])


# --- names, layouts, forms ------------------------------------------------------------------------


def test_names_that_are_not_known_get_suggestions_or_are_recognised(compare, candidate):
    name = f"{LAYER}.attention.self.query"
    dump = without(candidate(CASE), name, "pooler.dense")
    taps = {"t17": candidate(CASE).taps[name].swapaxes(0, 1), "pooler_dense_x": numpy.ones(7, "f4")}
    report = compare(CASE, replace(dump, taps={**dump.taps, **taps}))
    assert report.held
    verdict = next(v for v in report.verdicts if v.name == name)
    assert "recognised by its values: t17" in verdict.note
    assert list(report.unknown) == ["pooler_dense_x"]
    assert any(s.startswith("pooler_dense_x: is it pooler.dense") for s in unknown_lines(report))


def test_a_map_names_what_is_not_known(compare, candidate, tmp_path):
    dump = candidate(CASE, "gelu_tanh")
    renamed = {f"mine.{i}": x for i, x in enumerate(dump.taps.values())}
    lines = [f'"{name}" = "mine.{i}"' for i, name in enumerate(dump.taps)]
    (tmp_path / "names.toml").write_text("\n".join(lines))
    report = compare(CASE, replace(dump, taps=renamed), map_file=tmp_path / "names.toml")
    assert report.first.name == f"{LAYER}.intermediate"
    assert "called mine." in report.first.note


def test_what_has_another_form_is_said(compare, candidate):
    key, value = f"{LAYER}.attention.self.key", f"{LAYER}.attention.self.value"
    dense, norm = f"{LAYER}.attention.output.dense", f"{LAYER}.attention.output.LayerNorm"
    dump = changed(
        candidate(CASE),
        **{
            key: lambda x: x[:, :3],
            value: lambda x: x.astype(int),
            dense: lambda x: x.astype("float16"),
            norm: lambda x: numpy.where(numpy.arange(12) == 4, numpy.nan, x),
            "embeddings.position_ids": lambda x: x.astype(float),
        },
    )
    report = compare(CASE, dump, arithmetic="float32")
    said = {v.name: (v.status, v.note, v.where) for v in report.verdicts}
    assert said[key][:2] == (
        "SHAPE", "expected (2, 5, 12), got (2, 3, 12); was its text cut or padded to 3 tokens?"
    )  # fmt: skip
    assert said[value][:2] == ("DTYPE", "expected floats, got int64")
    assert said[dense][:2] == ("DTYPE", "float32 numbers do not fit in float16")
    assert said[norm] == ("NAN", "10 of 120 not finite, or should not be", "feature 4 only")
    assert said["embeddings.position_ids"][:2] == ("DTYPE", "expected int64, got float64, equal")
    assert report.exit_code == 1


def test_rows_in_another_order_are_said(compare, candidate):
    dump = candidate(CASE)
    turned = {n: x[::-1] if x.dtype.kind == "f" else x for n, x in dump.taps.items()}
    report = compare(CASE, replace(dump, taps=turned, outputs={}))
    assert report.first.name == "embeddings.word_embeddings"
    assert report.first.where == "its rows are 1, 0 of the batch"


def test_scores_behind_the_mask_are_those_before_it(compare, candidate):
    own = f"{LAYER}.attention.self"
    dump = candidate(CASE)
    masked = numpy.where(dump.taps[f"{own}.probs"] == 0.0, -numpy.inf, dump.taps[f"{own}.scores"])
    report = compare(CASE, changed(dump, **{f"{own}.scores": lambda x: masked.astype("f4")}))
    assert report.held
    assert "recorded behind the mask" in [v.note for v in report.verdicts]


def test_positions_once_for_all_rows(compare, candidate):
    case = "xlm_roberta/model"
    report = compare(case, changed(candidate(case), **{
        "embeddings.position_ids": lambda x: x[0], "embeddings.position_embeddings": lambda x: x[:1]
    }))  # fmt: skip
    assert report.held, sentence(report)
    assert [v.note for v in report.verdicts].count("one row for all") == 2


# --- tokens before numbers ------------------------------------------------------------------------


def test_other_inputs_end_it(compare, candidate):
    dump = candidate(CASE)
    ids = dump.inputs["input_ids"].copy()
    ids[1, 3] += 1
    report = compare(CASE, replace(dump, inputs={**dump.inputs, "input_ids": ids}))
    assert report.exit_code == 1
    assert sentence(report).startswith(
        "the inputs part at input_ids: 1 of 10 differ, first at [1, 3]"
    )
    assert report.compared == ()
    assert report.notes


def test_an_input_that_is_as_if_it_were_not_given(compare, candidate):
    dump = candidate(CASE)
    zeros = numpy.zeros((2, 5), int)
    for types, code in ((zeros, 0), (zeros + 1, 1)):
        report = compare(CASE, replace(dump, inputs={**dump.inputs, "token_type_ids": types}))
        assert report.exit_code == code


def test_no_inputs_are_noted(compare, candidate):
    report = compare(CASE, replace(candidate(CASE), inputs={}))
    assert report.held
    assert "holds no inputs" in report.notes[0]


# --- references -----------------------------------------------------------------------------------


def test_a_checkpoint_with_the_call_of_the_dump(candidate, tmp_path, checkpoint):
    folder = checkpoint(CASE)
    (folder / "golden.json").unlink()
    report = comparing.compare(folder, candidate(CASE, "gelu_tanh"), runs=2)
    assert report.first.name == f"{LAYER}.intermediate"
    assert comparing.compare(folder, candidate(CASE), runs=2).held
    with pytest.raises(ValueError, match="input_ids in the candidate's dump"):
        comparing.compare(folder, replace(candidate(CASE), inputs={}))


def test_a_dump_that_names_its_checkpoint(candidate, tmp_path):
    golden = read_golden(case_folder(CASE))
    about = {"checkpoint": str(golden.folder), "architecture": "XLMRobertaModel"}
    truth = Dump(golden.part("tap"), golden.part("output"), golden.part("input"), about)
    write_dump(tmp_path / "truth.safetensors", truth)
    report = comparing.compare(tmp_path / "truth.safetensors", candidate(CASE), runs=2)
    assert report.held
    with pytest.raises(ValueError, match="a dump has no floors"):
        comparing.compare(replace(truth, about={}), candidate(CASE))
    with pytest.raises(ValueError, match="expected a reference in float64, got float32"):
        comparing.compare(candidate(CASE), candidate(CASE))


@pytest.mark.parametrize(
    ("reference", "dump", "options", "error", "said"),
    [
        (CASE, "nowhere.npz", {}, CheckpointError, "nowhere.npz"),
        (CASE, None, {"arithmetic": "float8"}, ValueError, "arithmetic: expected one of float64"),
        (CASE, None, {"names": "keras"}, ValueError, "source: expected one of"),
        (CASE, None, {"map_file": "nowhere.toml"}, CheckpointError, "nowhere.toml"),
        (CASE, None, {"runs": 0}, ValueError, "runs: expected 1 or more"),
        ("nowhere", None, {}, CheckpointError, "nowhere"),
    ],
)
def test_what_cannot_be_run_is_one_error(reference, dump, options, error, said, candidate):
    with pytest.raises(error, match=said):
        comparing.compare(case_folder(reference), dump or candidate(CASE), **options)


def test_floors_that_stand_beside_a_golden_are_taken(candidate, checkpoint):
    folder = checkpoint(CASE)
    golden = read_golden(folder)
    write_floors(golden, [measure_floors(load(folder, dtype="float64"), golden.inputs(), runs=3)])
    assert comparing.compare(folder, candidate(CASE)).floors.runs == 3
    assert comparing.compare(folder, candidate(CASE), runs=2).floors.runs == 2
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    report = comparing.compare(folder, candidate(CASE))
    assert report.floors.runs == 32  # those of another checkpoint do not count
    assert report.notes == ("config.json is not the one that the golden was made with",)


def test_large_models_have_fewer_honest_runs(model):
    one, many = ({"input_ids": numpy.zeros((n, 512), int)} for n in (1, 10**5))
    assert comparing.honest_runs(model(CASE), one) == 32
    assert comparing.honest_runs(model(CASE), many) == 2
    assert len(find_goldens()) > 100
