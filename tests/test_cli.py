"""The command line: exit codes, one line per error, JSON for machines, quiet on a pipe."""

import json
import shutil
import subprocess
import sys

import pytest

from refimpl.parity.goldens import bundled

CASE = bundled() / "xlm_roberta" / "from_text"


def run(*arguments):
    command = [sys.executable, "-m", "refimpl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)


def test_verify_holds_and_says_so():
    done = run("verify", "--dtype", "float64")
    assert done.returncode == 0
    assert done.stderr == ""  # no progress bar on a pipe
    *cases, summary, worst = done.stdout.splitlines()
    assert all(line.startswith("held  float64 x") for line in cases)
    assert summary.startswith(f"{len(cases)} of {len(cases)} cases held")
    assert worst.startswith("float64: largest relative error")


def test_verify_fails_with_the_first_tap(tmp_path):
    broken = shutil.copytree(CASE, tmp_path / "case")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-12}))
    done = run("verify", broken)
    assert done.returncode == 1
    assert done.stdout.startswith("DIFF  float64")
    assert "first DIFF at roberta.embeddings.LayerNorm" in done.stdout
    assert "config.json is not the golden's" in done.stdout


def test_verify_speaks_json():
    done = run("verify", CASE, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["exit_code"], report["held"]) == (0, 0, True)
    assert [case["dtype"] for case in report["cases"]] == ["float64", "float32"]
    assert report["cases"][0]["comparisons"][0]["name"] == "tokenizer.input_ids"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "nowhere"], "nowhere: expected a golden case or a folder of them, found none"),
        (["verify", "--backend", "tpu"], "backend: expected 'numpy', 'cupy'"),
        (["verify", "--dtype", "float8"], "dtype: expected one of float64, float32"),
        (["verify", "--kernels", "slow"], "kernels: expected one of plain, fused, got 'slow'"),
        (["fill-mask", "nowhere", "a <mask>"], "nowhere: no such folder"),
        (["fill-mask", CASE, "no mask"], "text: expected at least one <mask>, got 'no mask'"),
        (["fill-mask", CASE, "<mask>", "--top-k", "0"], "top_k: expected 1 to 302, got 0"),
        (
            ["fill-mask", bundled() / "xlm_roberta" / "model", "a <mask>"],
            "sentencepiece.bpe.model",
        ),
    ],
)
def test_what_cannot_be_run_is_one_line_and_exit_code_2(arguments, said):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("refimpl: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_fill_mask_prints_a_table_for_each_mask():
    done = run("fill-mask", CASE, "The lamp <mask> the <mask>.", "--top-k", "2")
    assert done.returncode == 0
    assert "<mask> 1" in done.stdout
    assert "<mask> 2" in done.stdout


def test_fill_mask_speaks_json_and_probabilities_fall():
    done = run("fill-mask", CASE, "The lamp <mask>", "--top-k", "302", "--json")
    fillings = json.loads(done.stdout)
    probabilities = [f["probability"] for f in fillings]
    assert len(fillings) == 302
    assert probabilities == sorted(probabilities, reverse=True)
    assert 1 - 2**-20 < sum(probabilities) < 1 + 2**-20  # 302 float32 roundings of at most 2^-24
    assert fillings[0]["text"].startswith("The lamp")


def test_help_names_the_commands():
    done = run("--help")
    assert done.returncode == 0
    assert "verify" in done.stdout
    assert "fill-mask" in done.stdout
