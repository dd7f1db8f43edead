"""``refimpl compare``: exit codes, the table, the sentence, and what machines read."""

import json
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from refimpl.cli.compare import compare
from refimpl.models.model import load
from refimpl.parity.dumps import write_dump
from refimpl.parity.faults import CATALOGUE
from refimpl.parity.goldens import read_golden
from refimpl.parity.reference import run_reference
from tests.conftest import case_folder

CASE = case_folder("xlm/padding_left")
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(compare)


@pytest.fixture(scope="module")
def dumps(tmp_path_factory):
    """The files of a port that is right and of one that is not."""
    folder = tmp_path_factory.mktemp("dumps")
    model = load(CASE, dtype="float32", kernels="plain")
    for name, faults in (("right", []), ("wrong", [CATALOGUE["gelu_tanh"]])):
        dump = run_reference(model, read_golden(CASE).inputs(), faults)
        write_dump(folder / f"{name}.safetensors", dump)
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments), "--runs", "2"])


def test_what_is_right_holds(dumps):
    done = run(CASE, dumps / "right.safetensors")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["status", "units", "own", "max", "abs", "max", "rel", "value"]
    assert len(lines) == 7  # the three nearest to parting, the counts, the rule, the verdict
    assert lines[-1].startswith("held: ")
    assert "2 honest runs" in lines[-2]


def test_what_is_wrong_is_named(dumps):
    done = run(CASE, dumps / "wrong.safetensors")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[1].endswith(" ffns.0.lin1")  # the last that is right
    assert lines[2].startswith("DIFF ")
    assert lines[2].endswith(" ffns.0.activation")
    assert lines[3].strip() == "introduced, everywhere"
    assert lines[-1].startswith("first parts at ffns.0.activation (introduced there, ")
    assert max(map(len, lines[:-2])) <= 84


def test_all_and_first(dumps):
    every = run(CASE, dumps / "wrong.safetensors", "--all").stdout
    first = run(CASE, dumps / "wrong.safetensors", "--first").stdout
    names = [*read_golden(CASE).part("input"), *read_golden(CASE).part("tap")]
    assert all(f"  {name}\n" in every for name in names)
    assert len(first.splitlines()) == 6
    assert "ffns.0.activation" in first.splitlines()[1]


def test_machines_can_read_it(dumps, tmp_path):
    files = {"--junit": tmp_path / "found.xml", "--report": tmp_path / "found.html"}
    options = [x for pair in files.items() for x in pair]
    done = run(CASE, dumps / "wrong.safetensors", "--json", *options)
    found = json.loads(done.stdout)
    assert (done.exit_code, found["exit_code"], found["held"]) == (1, 1, False)
    assert found["first"] == "ffns.0.activation"
    assert found["rule"]["runs"] == 2
    value = next(v for v in found["values"] if v["name"] == found["first"])
    assert (value["status"], value["origin"]) == ("DIFF", "introduced")
    assert set(value["in_units"]) == {"max_abs", "rms", "cell"}
    suite = ElementTree.parse(files["--junit"]).getroot()
    assert [case.get("name") for case in suite.iter("testcase")] == [
        v["name"] for v in found["values"]
    ]
    assert int(suite.get("failures")) == found["counts"]["DIFF"] == len(list(suite.iter("failure")))
    assert "<html" in files["--report"].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "right.safetensors"], "nowhere: no such folder"),
        ([CASE, "nowhere.npz"], "nowhere.npz"),
        ([CASE, "right.safetensors", "--dtype", "float8"], "arithmetic: expected one of"),
        ([CASE, "right.safetensors", "--names", "keras"], "source: expected one of"),
        ([CASE, "right.safetensors", "--map", "nowhere.toml"], "nowhere.toml"),
        ([CASE, "right.safetensors", "--junit", "no/such/folder/x.xml"], "cannot be written"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_exit_code_2(arguments, said, dumps, monkeypatch):
    monkeypatch.chdir(dumps)
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("refimpl: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_padding_may_be_left_out(tmp_path):
    case, file = case_folder("xlm_roberta/padding_left"), tmp_path / "port.safetensors"
    model = load(case, dtype="float32", kernels="plain")
    fault = CATALOGUE["padding_vector_zeroed"]
    write_dump(file, run_reference(model, read_golden(case).inputs(), [fault]))
    done = run(case, file)
    assert done.exit_code == 1
    assert "padded positions only" in done.stdout
    assert run(case, file, "--ignore-padding").exit_code == 0
