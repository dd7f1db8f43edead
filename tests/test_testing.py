"""What other people's tests use: an assertion on what a port computed, and pytest fixtures."""

import subprocess
import sys
import textwrap

import numpy
import pytest

from refimpl import ops
from refimpl.parity.dumps import Dump, read_dump, write_dump
from refimpl.parity.goldens import bundled
from refimpl.parity.values import dump_values
from refimpl.testing import assert_card, assert_cards, assert_parity, find_cases, golden_folder

pytest_plugins = ["pytester"]
CASE = "xlm_roberta/single_token_alone"


@pytest.fixture
def computed():
    """What a right port in float32 would hand over: names and arrays."""
    values = read_dump(bundled() / CASE).values
    return {n: x.astype(numpy.float32) if x.dtype.kind == "f" else x for n, x in values.items()}


# --- assert_parity --------------------------------------------------------------------------------


def test_a_right_port_passes_however_it_is_given(computed, tmp_path):
    write_dump(tmp_path / "mine.safetensors", Dump(computed))
    for candidate in (computed, Dump(computed), tmp_path / "mine.safetensors"):
        report = assert_parity(candidate, CASE, runs=1)
        assert report.held
        assert report.arithmetic == "float32"


def test_the_reference_is_a_name_or_a_folder(computed):
    assert assert_parity(computed, str(bundled() / CASE), runs=1).held
    assert golden_folder(CASE) == bundled() / CASE
    assert golden_folder("FacebookAI/xlm-roberta-base") == "FacebookAI/xlm-roberta-base"


def test_a_wrong_port_is_told_where_it_parts(computed):
    name = next(name for name in computed if name.endswith("LayerNorm"))
    computed[name] = computed[name] * numpy.float32(1.01)
    with pytest.raises(AssertionError) as caught:
        assert_parity(computed, CASE, runs=1)
    first, *rows = str(caught.value).splitlines()
    assert f"first parts at {name}" in first
    assert rows[0].split()[:2] == ["DIFF", name]
    assert "is no rounding" in rows[-1]


def test_nothing_to_compare_is_no_parity():
    with pytest.raises(AssertionError, match="nothing was compared"):
        assert_parity({"weird": numpy.zeros(3, numpy.float32)}, CASE)


def test_a_dump_may_name_its_checkpoint(computed):
    with pytest.raises(ValueError, match=r"^reference: expected a golden, a checkpoint or a dump"):
        assert_parity(computed)
    inputs = read_dump(bundled() / CASE).inputs
    dump = Dump(computed, inputs=inputs, about={"checkpoint": str(bundled() / CASE)})
    assert assert_parity(dump, runs=1).held


def test_what_is_no_candidate():
    with pytest.raises(
        TypeError, match=r"^candidate: expected a mapping of arrays, a dump or a pa"
    ):
        assert_parity(3, CASE)


# --- values of other libraries --------------------------------------------------------------------


def test_values_are_sorted_out_and_tuples_counted():
    dump = dump_values(
        {
            "input.input_ids": [[0, 5, 2]],
            "output.logits": numpy.zeros((1, 2)),
            "query": numpy.ones(2, numpy.float32),
            "hidden_states": (numpy.zeros(1), numpy.ones(1)),
            "loss": None,
        }
    )
    assert list(dump.inputs) == ["input_ids"]
    assert list(dump.outputs) == ["logits"]
    assert list(dump.taps) == ["query", "hidden_states.0", "hidden_states.1"]


class Tensor:
    """What there is of a tensor of PyTorch that matters here."""

    def __init__(self, array, dtype):
        self.array, self.dtype = array, dtype

    def detach(self):
        return self

    cpu = detach

    def float(self):
        return self.array

    def __array__(self, dtype=None, copy=None):
        assert self.dtype != "torch.bfloat16", "NumPy has no such dtype"
        return self.array


def test_tensors_of_pytorch_are_taken_bfloat16_too():
    array = numpy.asarray([1.5, 257.0, 258.0], numpy.float32)
    assert (dump_values({"x": Tensor(array, "torch.float32")}).taps["x"] == array).all()
    coarse = array[[0, 2]]
    dump = dump_values({"x": Tensor(coarse, "torch.bfloat16")})
    assert (dump.taps["x"] == coarse).all()
    assert dump.about["bfloat16"] == ["tap.x"]


@pytest.mark.parametrize("value", ["text", object(), {"a": 1}])
def test_what_is_no_array(value):
    with pytest.raises(TypeError, match=r"^x: expected"):
        dump_values({"x": value})
    with pytest.raises(TypeError, match=r"^expected names that are text, got 3"):
        dump_values({3: numpy.zeros(1)})


# --- goldens and cards ----------------------------------------------------------------------------


def test_cases_of_a_family():
    assert {case.name.split("/")[0] for case in find_cases()} == {
        "xlm", "xlm_roberta", "xlm_roberta_xl", "xmod",
    }  # fmt: skip
    case = find_cases("xmod", limit=1)[0]
    assert (case.folder / "model.safetensors").exists()
    assert case.inputs["input_ids"].ndim == 2
    with pytest.raises(ValueError, match=r"^family: expected one of xlm, xlm_roberta"):
        find_cases("bert")
    with pytest.raises(ValueError, match=r"^limit: expected 1 or more, got 0"):
        find_cases(limit=0)


def layer_norm(x, weight, bias, eps):
    return ops.layer_norm(x, weight, bias, eps=eps)


def test_a_function_against_a_card():
    for arithmetic in ("float64", "float32", "float16"):
        assert assert_card("layer_norm", layer_norm, arithmetic).held
    with pytest.raises(AssertionError) as caught:
        assert_card("layer_norm", lambda x, weight, bias, eps: layer_norm(x, weight, bias, 1e-6))
    assert str(caught.value).startswith("wrong: layer_norm\n  DIFF     layer_norm.")
    with pytest.raises(ValueError, match=r"^card: expected one of linear, embedding"):
        assert_card("batch_norm", layer_norm)


def test_a_dump_against_cards():
    with pytest.raises(AssertionError, match="the dump has no output of any card"):
        assert_cards({"x": numpy.zeros(1)})


# --- fixtures -------------------------------------------------------------------------------------

SUITE = """
    import pytest
    from refimpl.parity.dumps import read_dump

    @pytest.mark.refimpl(family="xlm_roberta_xl", limit=1)
    def test_port(refimpl_case):
        refimpl_case.check(read_dump(refimpl_case.folder))

    def test_operations(refimpl_cards):
        refimpl_cards.check("relu", lambda x: x.clip(0))
"""


def run_suite(pytester, text):
    pytester.makeconftest('pytest_plugins = ["refimpl.testing.plugin"]')
    pytester.makepyfile(textwrap.dedent(text))
    return pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider")


def test_a_suite_of_a_few_lines(pytester):
    result = run_suite(pytester, SUITE)
    result.assert_outcomes(passed=2)


def test_a_suite_fails_with_the_verdict(pytester):
    wrong = SUITE.replace("x.clip(0)", "x.clip(0, 6)").replace(
        "read_dump(refimpl_case.folder)", "{'pooler_output': read_dump(refimpl_case.folder).taps"
        "['embeddings.word_embeddings']}",
    )  # fmt: skip
    result = run_suite(pytester, wrong)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*wrong: relu*", "*relu.large: *"])


def test_a_family_that_does_not_exist_is_an_error_of_collection(pytester):
    result = run_suite(pytester, SUITE.replace("xlm_roberta_xl", "bert"))
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*family: expected one of*"])


def test_the_assertions_need_no_pytest_and_the_package_imports_neither():
    code = "import sys, refimpl; assert 'refimpl.testing' not in sys.modules\n"
    code += "import refimpl.testing; assert 'pytest' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
