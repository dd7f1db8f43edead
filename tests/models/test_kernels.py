"""Models with kernels="fused": the outputs of every golden, and who wins where somebody looks."""

import threading

import numpy
import pytest

from refimpl import ops
from refimpl.models.model import load
from refimpl.ops import fused
from refimpl.parity.compare import NORM, compare_floats
from refimpl.parity.goldens import find_goldens, read_golden
from refimpl.parity.verify import compare_unwatched, right_values
from refimpl.replacing import plain, replace, running
from refimpl.taps import edit, record
from tests.compare import assert_same
from tests.conftest import case_folder

CASES = [f"{folder.parent.name}/{folder.name}" for folder in find_goldens()]
IDS = [[5, 6, 7, 8, 1], [9, 6, 1, 1, 1]]


@pytest.fixture
def calls(monkeypatch):
    """Which twins ran, and with how many results of attention."""
    seen = []
    made = fused.twins

    def watched(name, twin):
        def run(*arguments, **options):
            seen.append(name)
            return twin(*arguments, **options)

        return run

    monkeypatch.setattr(
        fused,
        "twins",
        lambda *arguments: {name: watched(name, f) for name, f in made(*arguments).items()},
    )
    return seen


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_outputs_of_goldens_without_taps(case, dtype):
    golden = read_golden(case_folder(case))
    model = load(golden.folder, dtype=dtype, kernels="fused")
    with numpy.errstate(all="ignore"):
        verdicts = list(compare_unwatched(golden, model, *right_values(golden, dtype)))
    assert len(verdicts) == len(golden.description["outputs"])
    assert [verdict for verdict in verdicts if not verdict.ok] == []


def test_twins_run_with_fused_kernels_and_not_with_plain_ones(calls):
    load(case_folder("model"), kernels="plain")(input_ids=IDS)
    assert not calls
    load(case_folder("model"))(input_ids=IDS)
    assert {"linear", "layer_norm", "gelu_erf", "scaled_dot_product_attention"} <= set(calls)


def test_nothing_stays_replaced(calls):
    load(case_folder("model"))(input_ids=IDS)
    assert running("linear") is plain("linear")
    with pytest.raises(ValueError, match="input_ids"):
        load(case_folder("model"))(input_ids=[[10**6]])
    assert running("linear") is plain("linear")


def test_attention_is_made_whole_for_who_wants_to_see_it(calls):
    model = load(case_folder("model"))
    with record() as taps:
        model(input_ids=IDS)
    assert any(name.endswith(".probs") for name in taps)
    with edit(lambda name, x: x):
        model(input_ids=IDS)
    assert model(input_ids=IDS, output_attentions=True).attentions[0] is not None
    assert "scaled_dot_product_attention" not in calls
    assert "linear" in calls


@pytest.mark.parametrize("name", ["softmax", "mask_scores", "erf", "linear", "split_heads"])
def test_what_somebody_replaced_takes_effect_inside_other_operations_too(name, calls):
    model, count = load(case_folder("model")), []

    def counted(*arguments, **options):
        count.append(name)
        return plain(name)(*arguments, **options)

    with replace(**{name: counted}):
        found = model(input_ids=IDS).last_hidden_state
    assert count
    assert not calls
    assert_same(found, load(case_folder("model"), kernels="plain")(input_ids=IDS).last_hidden_state)


def test_the_same_bits_in_every_run():
    model = load(case_folder("model"))
    assert_same(model(input_ids=IDS).last_hidden_state, model(input_ids=IDS).last_hidden_state)


def test_two_models_in_two_threads():
    models = [load(case_folder(case)) for case in ("model", "xlm_roberta_xl/model")]
    expected = [model(input_ids=IDS).last_hidden_state for model in models]
    found = {}

    def run(i):
        found[i] = [models[i](input_ids=IDS).last_hidden_state for _ in range(10)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        for y in found[i]:
            assert_same(y, expected[i])


def test_attention_in_tiles_in_the_place_of_the_plain_one():
    def tiled(query, key, value, *, softmax, **options):
        return ops.Attention(
            ops.tiled_attention(query, key, value, tile=2, **options), None, None, None
        )

    model = load(case_folder("model"), dtype="float64", kernels="plain")
    expected = model(input_ids=IDS).last_hidden_state
    with replace(scaled_dot_product_attention=tiled):
        found = model(input_ids=IDS).last_hidden_state
    assert compare_floats("last_hidden_state", found, expected, NORM, "float64").ok
