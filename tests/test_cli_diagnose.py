"""``refimpl diagnose`` from a shell: what it prints, JSON, exit codes, one line for an error."""

import json

import pytest
import typer
from typer.testing import CliRunner

from refimpl.cli.diagnose import diagnose
from refimpl.models.model import load
from refimpl.parity.dumps import write_dump
from refimpl.parity.faults import CATALOGUE
from refimpl.parity.goldens import bundled, read_golden
from refimpl.parity.reference import run_reference

CASE = bundled() / "xlm_roberta" / "one_token_type"


def run(*arguments):
    app = typer.Typer()
    app.command()(diagnose)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def candidate(tmp_path):
    """Writes the dump of a port with faults; returns its path."""

    def make(*names, **inputs):
        model = load(CASE, dtype="float32", kernels="plain")
        given = {**read_golden(CASE).inputs(), **inputs}
        path = tmp_path / "candidate.safetensors"
        write_dump(path, run_reference(model, given, [CATALOGUE[name] for name in names]))
        return path

    return make


def test_a_fault_is_printed_with_its_proof(candidate):
    done = run(CASE, candidate("gelu_tanh"))
    assert done.exit_code == 1
    fault, title, mend, told, proof, first, arithmetic = done.stdout.splitlines()
    assert fault == "fault: gelu_tanh"
    assert title == "  GELU by its tanh formula"
    assert mend == f"  mend:  {CATALOGUE['gelu_tanh'].mend}"
    assert told == "  told:  docs/faults.md#gelu_tanh"
    assert proof.startswith("proof: ")
    assert proof.endswith(" values")
    assert first == "first parts at encoder.layer.0.intermediate"
    assert arithmetic == "arithmetic: float32"
    assert done.stderr == ""  # no progress bar on a pipe


def test_it_speaks_json(candidate):
    done = run(CASE, candidate("norm_eps_1e_12"), "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["exit_code"], found["right"]) == (1, 1, False)
    fault = found["answers"][0]["faults"][0]
    assert (fault["name"], fault["parameters"]) == ("norm_eps_1e_12", {"eps": 1e-12})
    assert found["answers"][0]["after"] < found["answers"][0]["before"]


def test_a_right_candidate_is_no_fault(candidate):
    done = run(CASE, candidate())
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1] == "arithmetic: float32"
    assert "agree to within rounding" in done.stdout


def test_outputs_alone_hide_what_changes_none(candidate):
    path = candidate("key_bias_missing")
    assert run(CASE, path, "--arithmetic", "float32").exit_code == 1
    assert run(CASE, path, "--outputs-only").exit_code == 0


def test_names_of_others_go_by_a_map(candidate, tmp_path):
    from safetensors.numpy import load_file, save_file

    first = load_file(candidate("gelu_tanh"))
    name = next(n for n in first if n.endswith("encoder.layer.0.intermediate"))
    save_file(first | {"ffn/gelu": first.pop(name)}, tmp_path / "theirs.safetensors")
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"encoder.layer.0.intermediate": "ffn/gelu"}))
    done = run(CASE, tmp_path / "theirs.safetensors", "--map", names)
    assert done.exit_code == 1
    assert "first parts at encoder.layer.0.intermediate" in done.stdout
    assert "names that are not known" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "nowhere: no such"),
        ((CASE, "--arithmetic", "float8"), "arithmetic: expected one of float64"),
    ],
)
def test_an_error_is_one_line(candidate, arguments, said):
    reference, *options = arguments
    done = run(reference, candidate(), *options)
    assert done.exit_code == 2
    assert done.stderr.startswith("refimpl: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_other_inputs_are_refused(candidate):
    given = read_golden(CASE).inputs()["input_ids"].copy()
    given[0, 1] += 1
    done = run(CASE, candidate(input_ids=given))
    assert done.exit_code == 2
    assert "input_ids" in done.stderr
