"""``refimpl golden``: the score, a case of one's own, exports; exit codes and errors."""

import json
import shutil

import numpy
import pytest
import typer
from typer.testing import CliRunner

import refimpl
from refimpl.cli.golden import golden
from refimpl.parity.goldens import bundled, read_golden

CASES = bundled() / "xlm_roberta"
app = typer.Typer()
app.command("golden")(golden)


def run(*arguments):
    return CliRunner().invoke(app, [str(x) for x in arguments])


@pytest.fixture
def weak(tmp_path):
    """A set of one golden, without padding."""
    return shutil.copytree(CASES / "model", tmp_path / "xlm_roberta" / "model")


# --- the score ------------------------------------------------------------------------------------


def test_a_weak_set_is_told_what_it_would_miss(weak):
    done = run("--score", weak, "--runs", 2)
    assert done.exit_code == 1
    *lines, total, weakest = done.stdout.splitlines()
    missed = {line.split()[1]: line for line in lines if line.startswith("missed")}
    assert "no golden has what it takes" in missed["mask_ignored"]
    assert "gelu_tanh" not in missed
    equivalent = [line for line in lines if line.startswith("equivalent")]
    assert any("(s q) k = s (q k)." in line for line in equivalent)
    assert len(missed) + len(equivalent) == len(lines)
    assert total.startswith("float32: ")
    assert "mistakes noticed" in total
    assert weakest.startswith("the weakest: ")


def test_the_score_for_machines_with_gates(weak):
    done = run("--score", weak, "--runs", 2, "--gates", "--json")
    (score,) = json.loads(done.stdout)["scores"]
    assert done.exit_code == score["exit_code"] == 1
    assert score["caught"] + score["missed"] + score["equivalent"] == len(score["findings"])
    assert score["share"] == score["caught"] / (score["caught"] + score["missed"])
    gates = {gate["gate"]: gate for gate in score["gates"]}
    assert gates["cosine"]["caught"] < gates["polygraphy"]["caught"] <= score["caught"]
    assert all(gate["asked"] == score["caught"] + score["missed"] for gate in gates.values())


# --- a case of one's own --------------------------------------------------------------------------


def test_a_case_from_ids(tmp_path):
    case = tmp_path / "case"
    done = run(CASES / "masked_lm", "--ids", "0,17,5,2", "--ids", "0,2", "-o", case, "--runs", 2)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"{case}: ")
    made = read_golden(case)
    assert made.part("input")["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert refimpl.verify(case).exit_code == 0


def test_a_case_from_a_text(tmp_path):
    case = tmp_path / "case"
    done = run(CASES / "from_text", "--text", "The lamp", "-o", case, "--runs", 1, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["folder"] == str(case)
    assert read_golden(case).part("input")["input_ids"][0, 0] == 0


def test_a_case_from_the_inputs_of_a_dump(tmp_path):
    numpy.savez(tmp_path / "call.npz", input_ids=numpy.asarray([[0, 17, 2]]))
    case, call = tmp_path / "case", tmp_path / "call.npz"
    how = ("--weights", "link", "--what", "three tokens", "--arithmetic", "bfloat16")
    done = run(CASES / "model", "--inputs", call, "-o", case, "--runs", 1, *how)
    assert done.exit_code == 0, done.stderr
    assert (case / "model.safetensors").is_symlink()
    assert read_golden(case).description["what"] == "three tokens"


# --- exports --------------------------------------------------------------------------------------


def test_a_golden_in_another_format(tmp_path):
    done = run(CASES / "model", "--export", "npz", "-o", tmp_path / "golden.npz")
    assert done.exit_code == 0, done.stderr
    with numpy.load(tmp_path / "golden.npz") as arrays:
        assert "input.input_ids" in arrays


def test_the_operation_cards(tmp_path):
    done = run("--ops", "-o", tmp_path / "cards")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.endswith("operation cards\n")
    assert any((tmp_path / "cards").iterdir())


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "output: expected a folder to write (-o DIR), or --score"),
        ([CASES / "model"], "output: expected a folder to write"),
        (["-o", "out"], "path: expected a checkpoint or a golden"),
        (["--score", "--ops"], "expected one of --score, --ops and --export, got --score, --ops"),
        (["--score", "--ids", "0,2"], "--ids: has no meaning beside --score"),
        ([CASES / "model", "-o", "out", "--gates"], "--gates: has no meaning beside a checkpoint"),
        (["--ops", "--text", "x", "-o", "out"], "--text: has no meaning beside --ops"),
        (["--score", "nowhere"], "nowhere: expected a golden case or a folder of them, found none"),
        (["--score", "--arithmetic", "float8"], "arithmetic: expected one of float64, float32"),
        ([CASES / "model", "--ids", "0,x", "-o", "out"], "ids[0]: expected numbers such as 0,5"),
        ([CASES / "model", "--export", "zip", "-o", "out"], "export: expected one of"),
        (["nowhere", "--ids", "0,2", "-o", "out"], "nowhere: no such folder"),
        ([CASES / "model", "--ids", "0,2", "-o", "out", "--weights", "zip"], "weights: expected"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"refimpl: {said}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
