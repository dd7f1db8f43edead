"""tools/gpu_validation.py, as far as it goes without a GPU: what it measures, and its page."""

import re
import subprocess
import sys

import pytest

from refimpl.backend import get_backend
from tests.test_docs import ROOT
from tools import gpu_validation

FOUND = {
    "backend": "cupy",
    "machine": {"device": "Some GPU", "memory": "80 GiB"},
    "goldens": [
        {
            "dtype": "float32", "kernels": "fused", "cases": 9, "held": 8, "share": 1.256,
            "where": "a: b",
        },
        {
            "dtype": "float16", "kernels": "plain", "cases": 9, "held": 0, "share": None,
            "where": "no",
        },
    ],
    "outputs": [{"dtype": "bfloat16", "outputs": 3, "median": 0.00123, "largest": 0.0456}],
    "tests": {"passed": 7, "tests": 9, "failures": 1, "errors": 0, "skipped": 1},
    "times": [
        {
            "size": "base", "dtype": "float32", "tf32": False,
            "measurements": [{
                "batch": "8x512", "median": 0.0125, "tokens_per_second": 327680.0,
                "against": {"torch eager": {"ratio_of_median": 0.987}},
            }],
        },
        {"size": "large", "dtype": "float32", "tf32": True, "error": "out of\nmemory"},
    ],
}  # fmt: skip


def test_the_page_says_what_was_found():
    rows = [line for line in gpu_validation.page(FOUND).splitlines() if line.startswith("|")]
    for row in (
        "| device | Some GPU |",
        "| 7 | 9 | 1 | 0 | 1 |",
        "| float32 | fused | 8 of 9 | 1.26 | a: b |",
        "| float16 | plain | 0 of 9 | - | no |",
        "| bfloat16 | 3 | 1.2e-03 | 4.6e-02 |",
        "| base | float32 | 8x512 | 12.50 | 327,680 | 0.99 | - |",
        "| large | float32 (TF32) | not run | - | - | - | out of memory |",
    ):
        assert row in rows


def test_all_rows_of_a_table_are_as_long_as_its_head():
    for part in gpu_validation.page(FOUND).split("\n\n"):
        if part.startswith("|"):
            assert len({len(re.findall(r"\|", line)) for line in part.splitlines()}) == 1


def test_tests_are_counted(tmp_path):
    (tmp_path / "test_three.py").write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): assert False\n"
        "@pytest.mark.skip(reason='so')\ndef test_c(): pass\n"
    )
    found = gpu_validation.count_tests([str(tmp_path), "--rootdir", str(tmp_path)])
    assert found == {"passed": 1, "tests": 3, "failures": 1, "errors": 0, "skipped": 1}


def test_outputs_in_float32_are_near_the_truth():
    found = gpu_validation.output_error("numpy", "float32")
    assert found["outputs"] > 100
    assert 0 < found["median"] <= found["largest"]


def test_a_process_of_its_own_times_a_model():
    found = gpu_validation.timed("numpy", "tiny", "float32", False, "1x16", torch=False)
    assert [one["batch"] for one in found["measurements"]] == ["1x16"]
    broken = gpu_validation.timed("numpy", "tiny", "float8", False, "1x16", torch=False)
    assert broken["error"].startswith("refimpl: dtype: expected one of")


def test_versions_are_named():
    assert {"date", "Python", "numpy"} <= set(gpu_validation.machine(get_backend("numpy")))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--backend", "abacus"], "gpu_validation: backend: expected 'numpy'"),
        (["--backend", "numpy"], "gpu_validation: --page: expected another file"),
    ],
)
def test_what_cannot_be_run_is_one_line(given, message):
    command = [sys.executable, "-m", "tools.gpu_validation", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
