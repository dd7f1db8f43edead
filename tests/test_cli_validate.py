"""``refimpl validate``: exit codes, one line for an error, a killed run that goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.validate import checkpoints


def command(*arguments):
    return [sys.executable, "-m", "refimpl", "validate", *map(str, arguments)]


def run(*arguments):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, encoding="utf-8", timeout=120
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = checkpoints.ROBERTA | checkpoints.NLI
    folder = tmp_path_factory.mktemp("cli") / "nli"
    return checkpoints.make(folder, "XLMRobertaForSequenceClassification", config)


def write_rows(path, count):
    rows = [f"{('en', 'sw')[i % 2]}\tneutral\t{'The lamp. ' * (1 + i % 4)}\n" for i in range(count)]
    path.write_text("language\tlabel\ttext\n" + "".join(rows))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("cli") / "dev.tsv", 400)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """So many rows that a busy machine has time to stop the run before it is done."""
    return write_rows(tmp_path_factory.mktemp("cli") / "long.tsv", 4000)


def test_a_report_for_people_and_one_for_machines(model, data):
    done = run(model, "--task", "nli", "--data", data, "--limit", "8")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("XLMRobertaForSequenceClassification, nli, 8 examples\n")
    assert "texts/s" in done.stdout
    done = run(model, "--task", "nli", "--data", data, "--limit", "8", "--json")
    report = json.loads(done.stdout)
    assert (report["task"], report["examples"]) == ("nli", 8)
    assert set(report["metrics"]["languages"]) == {"en", "sw"}
    assert report["speed"]["tokens"] > 0


def test_requirements_decide_the_exit_code(model, data):
    common = (model, "--task", "nli", "--data", data, "--limit", "8")
    assert run(*common, "--require", "accuracy=0").returncode == 0
    done = run(*common, "--require", "accuracy=0", "--require", "languages.sw.accuracy=1.01")
    assert done.returncode == 1
    assert done.stderr.startswith("refimpl: languages.sw.accuracy is ")
    done = run(*common, "--require", "f1=0")
    assert done.returncode == 2
    assert done.stderr == "refimpl: metric: expected one of accuracy, got 'f1'\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "nli", "--data", "nowhere.tsv"], "data: nowhere.tsv: No such file"),
        (["--task", "sts", "--data", "nowhere.tsv"], "task: expected one of nli, ner, qa, mlm"),
        (["--task", "nli", "--data", "x", "--require", "accuracy"], "expected NAME=NUMBER"),
        (["--task", "nli", "--data", "x", "--columns", "text"], "columns: expected NAME=VALUE"),
        (["--task", "nli", "--data", "x", "--limit", "0"], "limit: expected a number above 0"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_exit_code_2(model, arguments, said):
    done = run(model, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("refimpl: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def stopped(arguments, state, how):
    """Start a run, stop it when its state has some lines; return its standard error."""
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell lets what it runs in the background ignore Ctrl-C, and what that starts, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None:
        if state.exists() and state.read_bytes().count(b"\n") > 5:
            break
        time.sleep(0.002)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0, "it was done before it could be stopped"
    return process.returncode, said.decode()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_run_goes_on_to_the_same_bytes(model, long, tmp_path):
    common = (model, "--task", "nli", "--data", long, "--batch-tokens", "30", "--json")
    whole = tmp_path / "whole.jsonl"
    expected = run(*common, "--output", whole)
    assert expected.returncode == 0
    output = tmp_path / "out.jsonl"
    state = tmp_path / "out.jsonl.state"
    stopped((*common, "--output", output), state, signal.SIGKILL)
    assert not output.exists()
    assert 5 < state.read_bytes().count(b"\n") < 4000
    resumed = run(*common, "--output", output)
    assert resumed.returncode == 0
    assert output.read_bytes() == whole.read_bytes()
    assert not state.exists()
    found, first = json.loads(resumed.stdout), json.loads(expected.stdout)
    assert found["metrics"] == first["metrics"]
    assert found["speed"]["rows"] < first["speed"]["rows"]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_is_one_line(model, long, tmp_path):
    state = tmp_path / "state"
    arguments = (model, "--task", "nli", "--data", long, "--batch-tokens", "30", "--state", state)
    code, said = stopped(arguments, state, signal.SIGINT)
    assert (code, said) == (130, f"refimpl: stopped; {state} keeps what is done\n")
