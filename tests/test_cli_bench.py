"""``refimpl bench``: what it prints, exit codes, one line for an error."""

import json
import subprocess
import sys

import pytest


def run(*arguments):
    command = [sys.executable, "-m", "refimpl", "bench", "--size", "tiny", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)


def test_a_line_for_each_shape_and_nothing_on_standard_error():
    done = run("--shapes", "1x4,2x8", "--turns", "1")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, about = done.stdout.splitlines()
    assert first.startswith("1x4: best ")
    assert second.startswith("2x8: best ")
    assert "GFLOP/s" in first
    assert "load" in about


def test_json_has_every_turn_and_the_machine(tmp_path):
    lengths = tmp_path / "lengths"
    lengths.write_text("3 9")
    done = run("--lengths", lengths, "--packed", "--turns", "2", "--json")
    found = json.loads(done.stdout)
    (one,) = found["measurements"]
    assert (found["packed"], one["lengths"]) == (True, [3, 9])
    assert len(one["seconds"]["refimpl"]) == 2
    assert one["peak_bytes"] is None or one["peak_bytes"] > 2**20
    assert found["machine"]["cores"] > 0


def test_a_profile_ends_in_what_no_operation_took():
    done = run("--shapes", "1x4", "--profile", "--turns", "1")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("1x4: ")
    assert any("linear" in line for line in lines)
    assert "everything else" in lines[-1]


@pytest.mark.oracle
def test_pytorch_beside_it_with_the_same_outputs():
    pytest.importorskip("transformers")
    done = run("--shapes", "2x8", "--turns", "5", "--against", "torch", "--no-memory", "--json")
    (one,) = json.loads(done.stdout)["measurements"]
    assert set(one["against"]) == {"torch eager", "torch sdpa"}
    for theirs in one["against"].values():
        assert theirs["ratio_of_best"] == one["best"] / theirs["best"]
        assert theirs["difference"] * 2**16 < 1  # float32: some hundred roundings of 2^-24


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shapes", "8"], "shapes: expected TEXTSxTOKENS, with commas between, got '8'"),
        (["--shapes", "1x4", "--turns", "0"], "turns: expected a number above 0, got 0"),
        (["--shapes", "1x4", "--size", "huge"], "size: expected one of tiny, base, large"),
        (["--shapes", "1x999"], "shapes: expected texts of up to 512 tokens, got 1x999"),
        (["nowhere"], "nowhere: no such folder"),
        (["--against", "jax"], "against: expected torch, got 'jax'"),
        (["--lengths", "nowhere"], "lengths: nowhere"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_exit_code_2(arguments, said):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("refimpl: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
