"""``stream=True`` at the published sizes of XLM-RoBERTa-XL and -XXL: what is in memory.

The checkpoints are files with holes, which take next to no disk, and random numbers in between.
Peaks are those of a process of its own.
"""

import json
import shutil
import subprocess
import sys

import numpy
import pytest

import refimpl
from benchmarks.streaming import CLASSES, measure
from refimpl.backend import to_numpy
from refimpl.parity.compare import compare_floats
from tests.compare import assert_same
from tools.sparse_checkpoint import SIZES, XL, write_sparse

pytestmark = [
    pytest.mark.large,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc, needs holes"),
]

LIMITS = {"xl": 3e9, "xxl": 4e9}  # bytes
# Both classes, each twice; of XXL, 43 GB to be read in each pass, the larger class once.
PASSES = {"xl": dict.fromkeys(CLASSES, 2), "xxl": {CLASSES[1]: 1}}
IDS = [[0, *range(5, 18), 250_879, 2]]

LOAD = """
import json, re, sys, time
from pathlib import Path
import refimpl
import refimpl.models.model

def read():
    return int(re.search(r"rchar: (\\d+)", Path("/proc/self/io").read_text())[1])

before, start = read(), time.perf_counter()
refimpl.load(sys.argv[1], stream=True)
print(json.dumps({"seconds": time.perf_counter() - start, "bytes": read() - before}))
"""


@pytest.fixture
def folder(tmp_path):
    """A folder that is gone after the test: what is in it is large."""
    yield tmp_path / "checkpoint"
    shutil.rmtree(tmp_path / "checkpoint")


@pytest.mark.parametrize("size", SIZES)
def test_a_pass_at_published_size_stays_within_its_memory(size, folder):
    count = write_sparse(folder, CLASSES[1], SIZES[size], words=range(16))
    for architecture, passes in PASSES[size].items():
        m = measure(folder, architecture, passes=passes)
        seconds = ", then ".join(f"{x:.0f} s" for x in m["passes"])
        print(
            f"\n{size}, {count * 4 / 1e9:.1f} GB, {architecture}: {seconds}, "
            f"peak {m['peak'] / 1e9:.2f} GB"
        )
        width = SIZES[size]["hidden_size"] if architecture == CLASSES[0] else 250_880
        assert m["shape"] == [1, 16, width]
        assert 0 < m["largest"] < numpy.inf
        assert m["peak"] < LIMITS[size]


def length_of_rows(x):
    """The length of the longest of the rows (N, D)."""
    return float(numpy.sqrt(numpy.einsum("nd,nd->n", x, x).max()))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scores_of_the_published_vocabulary_are_those_of_kept_weights(folder, dtype):
    """One layer of XL, and its decoder with every row random: 2.6 GB on disk."""
    write_sparse(folder, CLASSES[1], XL | {"num_hidden_layers": 1}, rows=XL["vocab_size"])
    runs, rows = [], 0.0
    for stream in (False, True):
        model = refimpl.load(folder, dtype=dtype, kernels="plain", stream=stream)
        with refimpl.record() as taps:
            model(input_ids=IDS)
        runs.append({name: to_numpy(x) for name, x in taps.items()})
        if not stream:
            rows = length_of_rows(model.weights["lm_head.decoder.weight"])
        del model, taps
    kept, streamed = runs
    assert list(streamed) == list(kept)
    decoder = "lm_head.decoder"
    for name in kept:
        if name != decoder:
            assert_same(streamed[name], kept[name])
    # Two sums of the same terms, each in its own order: n roundings of at most |x| |w| in each.
    x, width = kept["lm_head.layer_norm"], XL["hidden_size"]
    bound = width * float(numpy.finfo(dtype).eps) * length_of_rows(x[0]) * rows
    limit = bound / float(numpy.abs(kept[decoder]).max())
    verdict = compare_floats(decoder, streamed[decoder], kept[decoder], limit, dtype)
    print(f"\n{dtype}: the scores of {kept[decoder].shape[2]} words part by {verdict.error:.1e}")
    assert verdict.ok, verdict


def test_loading_reads_next_to_nothing(folder):
    write_sparse(folder, CLASSES[1], SIZES["xxl"])
    command = [sys.executable, "-c", LOAD, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    loaded = json.loads(done.stdout)
    print(f"\nXXL loaded in {loaded['seconds']:.3f} s, {loaded['bytes'] / 1e6:.2f} MB read")
    assert loaded["bytes"] < 8e6
