"""Operation cards: what is in them, how a dump is judged by them, and how they are exported."""

import json
import re
import shutil
from functools import cache

import numpy
import pytest
from typer.testing import CliRunner

from refimpl import ops
from refimpl.cli import app
from refimpl.errors import CheckpointError
from refimpl.parity.cards import export_cards, judge, read_cards, read_floors
from refimpl.parity.cards.card import ARITHMETICS, cards_folder
from refimpl.parity.cards.measuring import measure_card_floors
from refimpl.parity.cards.reference import FUNCTIONS, answer
from refimpl.parity.compare import NORM, compare_exact, compare_floats
from refimpl.parity.dumps import Dump, read_dump, write_dump
from refimpl.replacing import plain, replace

CARDS = read_cards()
CASES = {case.name: (card, case) for card in CARDS.values() for case in card.cases.values()}


def answers(dtype="float32", cards=None):
    """What our own operations dump, in a dtype."""
    with numpy.errstate(all="ignore"):
        return {
            case.key: numpy.asarray(answer(card, case, lambda x: x.astype(dtype)))
            for card in (CARDS if cards is None else {n: CARDS[n] for n in cards}).values()
            for case in card.cases.values()
            if dtype in case.arithmetics
        }


right = cache(answers)


def judged(dump, card, arithmetic=None):
    return next(x for x in judge(Dump(dump), arithmetic).cards if x.name == card)


# --- what is in them ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_the_original_and_the_reference_agree_in_float64(name):
    card, case = CASES[name]
    actual = numpy.asarray(answer(card, case, lambda x: x.astype(numpy.float64)))
    if case.output.dtype.kind != "f":
        verdict = compare_exact(name, actual, case.output)
    else:
        actual = actual.astype(numpy.float64)  # of sines, which are float32 in the original too
        verdict = compare_floats(name, actual, case.output, NORM, "float64")
    assert verdict.ok, verdict


def test_there_is_a_card_for_every_operation():
    results = {"Attention", "MultiHeadAttention", "ACTIVATIONS", "Segments"}
    # Ways to run other operations, which the original does not have.
    ours_alone = {"tiled_attention", "pack", "unpack", "attention_by_segments"}
    assert set(ops.__all__) - results - ours_alone <= set(CARDS)
    assert set(FUNCTIONS) == set(CARDS)


def test_our_name_is_that_of_a_function():
    for name, card in CARDS.items():
        assert card.ours in (None, f"refimpl.ops.{name}")
        assert (card.ours is None) == (name not in ops.__all__)


def test_all_inputs_and_outputs_are_told():
    for name, (card, case) in CASES.items():
        for given in case.inputs:
            family = re.sub(
                r"modules\.\d", "modules.{language}", re.sub(r"tail_\d", "tail_{i}", given)
            )
            assert family in card.shapes, f"{name}: {given}"
        assert "output" in card.shapes


def test_real_inputs_are_exact_in_every_arithmetic_of_a_case():
    for name, (_, case) in CASES.items():
        assert set(case.arithmetics) >= {"float64", "float32"}, name
        for x in case.inputs.values():
            if x.dtype.kind == "f" and x.ndim and "float16" in case.arithmetics:
                assert (x.astype(numpy.float16).astype(x.dtype) == x).all(), name
            if x.dtype == numpy.float32 and "bfloat16" in case.arithmetics:
                assert not (x.view(numpy.uint32) & 0xFFFF).any(), name


def test_the_nasty_cases_are_there():
    wanted = {
        "layer_norm": {"eps_dominates", "one_feature", "huge_mean", "constant", "float16_squares"},
        "softmax": {"all_padded", "one_key", "scores_of_80", "ties"},
        "mask_scores": {"all_padded", "one_key", "padding_scores_high"},
        "scaled_dot_product_attention": {"all_padded", "one_key", "scores_of_80"},
        "linear": {"float16_overflow", "denormal", "one_feature"},
    }
    for name, cases in wanted.items():
        assert cases <= set(CARDS[name].cases)


def test_the_files_are_small():
    assert sum(file.stat().st_size for file in cards_folder().iterdir()) <= 700_000


def called_by(card):
    """The operations that our function of a card calls."""
    seen = set()

    def watched(name):
        def run(*args, **options):
            seen.add(name)
            return plain(name)(*args, **options)

        return run

    names = [name for name in CARDS if name in ops.__all__]
    with replace(**{name: watched(name) for name in names}):
        for case in CARDS[card].cases.values():
            answer(CARDS[card], case, lambda x: x.astype(numpy.float64))
    return seen


def below(name):
    return {name}.union(*(below(used) for used in CARDS[name].uses))


@pytest.mark.parametrize("name", CARDS)
def test_the_cards_that_a_card_uses_are_those_of_the_operations_that_it_calls(name):
    assert called_by(name) <= below(name)


# --- verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_our_own_operations_hold(dtype):
    report = judge(Dump(right(dtype)))
    assert report.held, report.sentence
    assert report.exit_code == 0
    assert report.sentence in ("all 46 cards held", "45 of 46 cards held")


def faulty(**functions):
    with replace(**functions):
        return judge(Dump(answers()))


def no_eps(x, weight, bias, *, eps):
    return plain("layer_norm")(x, weight, bias, eps=0.0)


def test_a_wrong_operation_is_named_and_not_those_that_use_it():
    report = faulty(layer_norm=no_eps)
    assert [card.name for card in report.wrong] == ["layer_norm"]
    assert report.exit_code == 1
    failing = {card.name for card in report.judged if not card.held}
    assert failing > {"layer_norm"}
    for name in failing - {"layer_norm"}:
        verdict = next(card for card in report.cards if card.name == name)
        assert verdict.inherited == ("layer_norm",)
    assert report.sentence == (
        f"wrong: layer_norm; {len(failing) - 1} more fail because they use it"
    )


@pytest.mark.parametrize(
    ("operation", "function"),
    [
        ("linear", lambda x, weight, bias=None: plain("linear")(x, weight)),
        ("gelu_erf", plain("gelu_tanh")),
        ("softmax", lambda x: numpy.exp(x) / numpy.exp(x).sum(axis=-1, keepdims=True)),
        ("mask_scores", lambda s, m: numpy.where(m, s, s - s.dtype.type(1e4))),
        ("split_heads", lambda x, *, size: x.reshape(x.shape[0], -1, x.shape[1], size)),
        ("embedding", lambda ids, weight: weight[ids] * (ids != 1)[..., None]),
        ("position_ids_from_padding", lambda ids, *, padding_idx, past=0: plain(
            "position_ids_from_padding")(ids, padding_idx=1, past=past)),
        ("relu", lambda x: numpy.where(x < 0, 0.01 * x, x)),
    ],
)  # fmt: skip
def test_a_wrong_operation_is_found(operation, function):
    with numpy.errstate(all="ignore"):
        assert [card.name for card in faulty(**{operation: function}).wrong] == [operation]


def test_what_is_not_in_the_dump_is_absent_and_decides_nothing():
    dump = answers(cards=["softmax"])
    report = judge(Dump(dump))
    assert report.held
    assert [card.name for card in report.judged] == ["softmax"]
    assert {card.status for card in report.cards if card.name != "softmax"} == {"ABSENT"}
    assert report.sentence == "1 of 46 cards held"


def test_a_case_that_is_missing_fails_its_card():
    dump = answers(cards=["softmax"])
    del dump["softmax.ties.output"]
    verdict = judged(dump, "softmax")
    assert verdict.status == "MISSING"
    assert verdict.first.name == "softmax.ties"


def test_an_empty_dump_cannot_be_judged():
    report = judge(Dump({"something": numpy.zeros(2)}))
    assert (report.exit_code, report.unknown) == (2, ("something",))
    assert report.sentence == "the dump has no output of any card"


@pytest.mark.parametrize(
    ("change", "status", "note"),
    [
        (lambda x: x[:-1], "SHAPE", "expected (3, 4), got (2, 4)"),
        (lambda x: x.astype(int), "DTYPE", "expected one of float64, float32, float16, bfloat16, "
         "got int64"),
        (lambda x: x * numpy.nan, "NAN", "12 of 12 are not finite"),
        (lambda x: x * numpy.float32(1.001), "DIFF", None),
        (lambda x: x.astype("complex64"), "DTYPE", None),
    ],
)  # fmt: skip
def test_verdicts(change, status, note):
    dump = answers(cards=["softmax"])
    dump["softmax.ties.output"] = change(dump["softmax.ties.output"])
    case = judged(dump, "softmax").first
    assert (case.name, case.status) == ("softmax.ties", status)
    assert note in (None, case.note)


def test_ids_are_compared_exactly_in_whatever_dtype():
    dump = answers(cards=["causal_mask", "position_ids_from_padding"])
    as_floats = {name: x.astype(numpy.float32) for name, x in dump.items()}
    assert judge(Dump(as_floats)).held
    key = "position_ids_from_padding.left.output"
    as_floats[key] = as_floats[key] + 1
    case = judged(as_floats, "position_ids_from_padding").first
    assert case.status == "DIFF"
    assert case.note == "8 of 8 differ, first at (0, 0): expected 1, got 2.0"


def test_the_original_may_overflow_in_float16_and_so_may_a_port():
    _, case = CASES["linear.float16_overflow"]
    overflowing = ~numpy.isfinite(case.overflows["float16"])
    assert overflowing.any()
    assert not overflowing.all()
    dump = answers("float16", ["linear"])
    assert numpy.isinf(dump[case.key][overflowing]).all()
    assert judged(dump, "linear").held
    dump[case.key] = numpy.where(overflowing, numpy.float16(65504), dump[case.key])
    assert judged(dump, "linear").first.name == "linear.float16_overflow"


def test_nan_is_expected_where_the_original_gives_it():
    dump = answers(cards=["cross_entropy"])
    assert numpy.isnan(dump["cross_entropy.all_ignored.output"])
    assert judged(dump, "cross_entropy").held
    dump["cross_entropy.all_ignored.output"] = numpy.float32(0.0)
    case = judged(dump, "cross_entropy").first
    assert (case.status, case.note) == (
        "NAN", "expected 1 of 1 not to be finite, as in the original",
    )  # fmt: skip


def test_bfloat16_is_told_by_the_file(tmp_path):
    coarse = {}
    for name, x in answers(cards=["tanh"]).items():
        bits = x.view(numpy.uint32) + numpy.uint32(0x7FFF) + ((x.view(numpy.uint32) >> 16) & 1)
        coarse[name] = (bits & numpy.uint32(0xFFFF0000)).view(numpy.float32)
    assert not judge(Dump(coarse)).held  # as float32
    assert judge(Dump(coarse), "bfloat16").held
    marked = Dump(coarse, about={"bfloat16": [f"tap.{name}" for name in coarse]})
    write_dump(tmp_path / "tanh.safetensors", marked)
    report = judge(read_dump(tmp_path / "tanh.safetensors"))
    assert report.held
    assert {case.arithmetic for card in report.judged for case in card.cases} == {"bfloat16"}


def test_an_arithmetic_that_no_card_knows():
    with pytest.raises(ValueError, match=r"^arithmetic: expected one of float64, float32"):
        judge(Dump({}), "float8")


# --- files ----------------------------------------------------------------------------------------


def test_floors_are_there_for_every_case_of_an_arithmetic_and_can_be_measured_again():
    floors = read_floors()
    for arithmetic in ARITHMETICS:
        for name, (_, case) in CASES.items():
            floor = floors[arithmetic].free[name]
            assert numpy.isfinite(floor).all() == (arithmetic in case.arithmetics), name
    some = {name: CARDS[name] for name in ("relu", "tanh")}
    again = measure_card_floors(some, runs=2)
    for name in again["float32"].free:
        assert again["float32"].free[name].worst <= floors["float32"].free[name].worst


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(cards_folder(), tmp_path / "ops")


def test_a_changed_file_is_noticed(folder):
    (folder / "relu.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"relu.safetensors: is not the file that is desc"):
        read_cards(folder)
    (folder / "relu.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"relu.safetensors: no such file"):
        read_cards(folder)


def test_floors_of_other_cards_are_noticed(folder):
    listed = json.loads((folder / "cards.json").read_text("utf-8"))
    listed["cards"]["relu"]["sha256"] = "0"
    (folder / "cards.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match="was measured on another card relu"):
        read_floors(folder)


def test_a_folder_that_is_none_of_cards(tmp_path):
    with pytest.raises(CheckpointError, match=r"cards.json"):
        read_cards(tmp_path)
    (tmp_path / "cards.json").write_text('{"format": 2, "cards": {}}')
    with pytest.raises(CheckpointError, match="expected format 1, got format 2"):
        read_cards(tmp_path)


@pytest.mark.parametrize("form", ["safetensors", "npz", "raw"])
def test_exported_cards_hold_the_same_numbers(tmp_path, form):
    names = export_cards(tmp_path / "cards", form)
    assert names == list(CARDS)
    ending = {"raw": ""}.get(form, f".{form}")
    dump = read_dump(tmp_path / "cards" / f"softmax{ending}")
    _, case = CASES["softmax.ties"]
    if form == "safetensors":  # as they are
        assert read_cards(tmp_path / "cards").keys() == CARDS.keys()
        return
    assert (dump.outputs["ties"] == case.output).all()
    assert (dump.inputs["ties.x"] == case.inputs["x"]).all()
    assert (tmp_path / "cards" / "cards.json").exists()


def test_an_unknown_format_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"^format: expected one of"):
        export_cards(tmp_path / "cards", "docx")
    assert not (tmp_path / "cards").exists()


# --- the command ----------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_verify_ops(tmp_path):
    write_dump(tmp_path / "right.safetensors", Dump(right("float32")))
    done = run("--ops", tmp_path / "right.safetensors")
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "all 46 cards held")

    with replace(layer_norm=no_eps):
        wrong = answers(cards=["layer_norm", "add_and_norm"])
    write_dump(tmp_path / "wrong.safetensors", Dump(wrong))
    done = run("--ops", tmp_path / "wrong.safetensors")
    assert done.exit_code == 1
    assert "layer_norm.eps_dominates: a variance far below eps" in done.output
    assert done.output.splitlines()[-1].startswith("wrong: layer_norm")

    found = json.loads(run("--ops", tmp_path / "wrong.safetensors", "--json").output)
    assert found["wrong"] == ["layer_norm"]
    assert found["exit_code"] == 1


def test_what_is_infinite_is_json_all_the_same(tmp_path):
    dump = answers(cards=["relu"])
    dump["relu.small.output"] = dump["relu.small.output"] + numpy.float32(1)
    write_dump(tmp_path / "relu.safetensors", Dump(dump))
    text = run("--ops", tmp_path / "relu.safetensors", "--json").output
    found = json.loads(text, parse_constant=pytest.fail)
    (card,) = (card for card in found["cards"] if card["name"] == "relu")
    assert "inf" in [case["units"] for case in card["cases"]]


def test_verify_ops_of_a_file_that_is_no_dump(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"nothing")
    done = run("--ops", tmp_path / "x.npz")
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
