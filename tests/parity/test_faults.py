"""Every fault of the catalogue does something, and what it says, on the bundled goldens."""

import os
import re
import subprocess
import sys
from functools import cache, lru_cache
from pathlib import Path

import numpy
import pytest

from refimpl.backend import to_numpy
from refimpl.models.model import load
from refimpl.parity.compare import NORM
from refimpl.parity.faults import (
    AREAS,
    CATALOGUE,
    FAMILIES,
    KNOWN,
    LEFT_OUT,
    PLACES,
    applies,
    effect,
    first_changed,
    place_of,
    run_faulty,
    shows,
)
from refimpl.parity.goldens import find_goldens, read_golden
from tests.models.drawn import build

ROOT = Path(__file__).parents[2]
ROBERTAS = FAMILIES[1:]
GOLDENS = {f"{f.parent.name}/{f.name}": f for f in find_goldens()}
every_golden = pytest.mark.parametrize("golden", GOLDENS)
every_fault = pytest.mark.parametrize("fault", CATALOGUE.values(), ids=lambda fault: fault.name)


@lru_cache(16)  # each holds files open
def read(golden):
    """A golden's model, its inputs, and what it computes without a fault."""
    model = load(GOLDENS[golden], dtype="float64", kernels="plain")
    inputs = read_golden(GOLDENS[golden]).inputs()
    return model, inputs, run_faulty(model, inputs, [])


@cache
def effects(golden):
    """What each fault that applies to a golden changes, by its name."""
    model, inputs, right = read(golden)
    return {
        name: effect(right, run_faulty(model, inputs, [fault]))
        for name, fault in CATALOGUE.items()
        if applies(fault, model, inputs)
    }


# --- the catalogue as a text ----------------------------------------------------------------------


def test_the_catalogue_is_large_enough():
    assert len(CATALOGUE) >= 70
    for family in FAMILIES:
        assert sum(family in fault.families for fault in CATALOGUE.values()) >= 60


@every_fault
def test_a_fault_is_told_in_full(fault):
    assert CATALOGUE[fault.name] is fault
    assert re.fullmatch("[a-z][a-z0-9_]+", fault.name)
    assert fault.anchor == f"docs/faults.md#{fault.name}"
    assert fault.area in AREAS
    assert set(fault.families) <= set(FAMILIES)
    assert fault.families
    assert fault.title[0].isupper() or fault.title.startswith(("eps", "gelu", "relative"))
    assert not fault.title.endswith(".")
    assert len(fault.title) <= 90
    for text in (fault.explanation, fault.effect, fault.mend):
        assert text.endswith((".", '."', ".)"))
        assert "  " not in text
    assert all(
        re.match(r"https://github\.com/[\w.-]+/[\w.-]+/issues/\d+$", x) for x in fault.sources
    )


@every_fault
def test_a_fault_changes_something_from_outside(fault):
    ways = (fault.config, fault.weights, fault.inputs, fault.taps, fault.onward, fault.outputs)
    assert any(ways) or fault.operations


@every_fault
def test_a_fault_names_places_that_there_are(fault):
    outputs = {
        *("last_hidden_state", "hidden_states", "logits", "loss", "start_logits"),
        "start_top_log_probs",
    }
    assert set(fault.first_taps) <= {*PLACES, *outputs}
    assert fault.first_taps or fault.equivalent


def test_no_two_faults_tell_the_same():
    for field in ("title", "explanation"):
        texts = [getattr(fault, field) for fault in CATALOGUE.values()]
        assert len(set(texts)) == len(texts)


def test_every_known_mistake_is_a_fault_or_left_out_with_a_reason():
    made = {number for fault in CATALOGUE.values() for number in fault.known}
    left = [entry.number for entry in LEFT_OUT]
    assert sorted(left) == left
    assert made.isdisjoint(left)
    assert made | set(left) == set(range(1, KNOWN + 1))
    assert all(entry.mistake and entry.why.endswith(".") for entry in LEFT_OUT)


def test_places_tell_taps_apart():
    """A name has one place, in whatever class it stands."""
    assert place_of("transformer.ffns.1.lin2") == "ffn_out"
    assert place_of("roberta.encoder.layer.11.crossattention.self.value") == "value"
    assert place_of("encoder.layer.0.output.LayerNorm") == "ffn_norm"
    assert place_of("encoder.layer.0.output.LayerNorm.before_adapter") == "before_adapter"
    assert place_of("encoder.layer.0.output.adapter_modules.en_XX.dense1") == "adapter_down"
    assert place_of("encoder.LayerNorm") == "final_norm"
    assert place_of("past_key_values.0.1") == "past_key_values"


@every_golden
def test_every_tap_has_a_place(golden):
    taps = read_golden(GOLDENS[golden]).description["taps"]
    assert {name for name in taps if place_of(name) not in PLACES} <= set(OTHER_TAPS)


OTHER_TAPS = (  # where no fault of the catalogue begins
    "logits_proj",
    "qa_outputs.end_logits.dense_1",
    "qa_outputs.answer_class.dense_0",
    "qa_outputs.answer_class.dense_1",
)


def test_the_page_is_what_its_tool_makes():
    tool = [sys.executable, "tools/faults_page.py", "--check"]
    subprocess.run(tool, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


# --- on the bundled goldens -----------------------------------------------------------------------


@every_golden
def test_without_a_fault_it_is_the_model_itself(golden):
    model, inputs, (taps, outputs) = read(golden)
    from refimpl import record
    from refimpl.parity.goldens import flatten

    with record() as recorded:
        expected = model(**inputs)
    assert list(taps) == list(recorded)
    assert all(numpy.array_equal(taps[name], recorded[name]) for name in taps)
    assert flatten(outputs).keys() == flatten(expected).keys()
    for name, x in flatten(outputs).items():
        assert numpy.array_equal(x, flatten(expected)[name])


@every_golden
def test_a_fault_shows_first_where_it_says(golden):
    wrong = {
        name: first_changed(found)
        for name, found in effects(golden).items()
        if first_changed(found) and not CATALOGUE[name].may_part_first(first_changed(found))
    }
    assert {n: first for n, first in wrong.items() if not CATALOGUE[n].equivalent} == {}


@every_golden
def test_an_equivalent_fault_changes_no_output(golden):
    _, _, (taps, _) = read(golden)
    for name, found in effects(golden).items():
        if CATALOGUE[name].equivalent:
            moved = {
                output: error
                for output, error in found.items()
                if output not in taps and error > NORM
            }
            # What is kept for the next call are keys and values themselves.
            assert all(output.startswith(("past_key_values", "cache")) for output in moved)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_fault_shows_on_a_golden(family):
    seen = {
        name
        for golden in GOLDENS
        if golden.startswith(f"{family}/")
        for name, found in effects(golden).items()
        if shows(found)
    }
    unseen = [
        name
        for name, fault in CATALOGUE.items()
        if family in fault.families and not fault.equivalent and name not in seen
    ]
    assert unseen == []


# --- where the numbers of a call decide -----------------------------------------------------------

IDS = [[0, 17, 5, 23, 2], [0, 28, 11, 8, 2]]
PREFIX = {"xlm_roberta": "XLMRoberta", "xlm_roberta_xl": "XLMRobertaXL", "xmod": "Xmod"}


@pytest.mark.parametrize("family", ROBERTAS)
def test_positions_that_restart_behind_a_cache(family):
    more = {"default_language": "de_DE"} if family == "xmod" else {}
    model = build(family, f"{PREFIX[family]}Model", is_decoder=True, use_cache=True, **more)
    first = model(input_ids=[row[:3] for row in IDS])
    behind = {"input_ids": [row[3:] for row in IDS], "past_key_values": first.past_key_values}
    fault = CATALOGUE["positions_restart_behind_cache"]
    found = effect(run_faulty(model, behind, []), run_faulty(model, behind, [fault]))
    assert fault.may_part_first(first_changed(found))
    restarted = run_faulty(model, {**behind, "position_ids": [[2, 3], [2, 3]]}, [])
    assert max(effect(restarted, run_faulty(model, behind, [fault])).values()) == 0


# --- parameters -----------------------------------------------------------------------------------

OTHER = {"eps": 1e-3, "offset": 1, "first_id": 28, "row": 0, "language": 2, "shift": 2,
         "value": -1.0, "seed": 1, "start": 4, "first": 1, "padding": 1, "scale": 0.25,
         "which": "key", "layer": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "parameter"),
    [(name, parameter) for name, fault in CATALOGUE.items() for parameter in fault.parameters],
)
def test_every_parameter_matters(name, parameter):
    fault = CATALOGUE[name].with_parameters(**{parameter: OTHER[parameter]})
    assert any(
        shows(
            effect(run_faulty(model, inputs, [CATALOGUE[name]]), run_faulty(model, inputs, [fault]))
        )
        for model, inputs, _ in map(read, GOLDENS)
        if applies(fault, model, inputs) and applies(CATALOGUE[name], model, inputs)
    )


# --- on every backend and in every dtype ----------------------------------------------------------


def one_golden_each(family):
    """For every fault of a family the first golden that it applies to."""
    found = {}
    for golden in GOLDENS:
        if golden.startswith(f"{family}/"):
            model, inputs, _ = read(golden)
            for name, fault in CATALOGUE.items():
                if name not in found and applies(fault, model, inputs):
                    found[name] = golden
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_faults_are_the_same_on_another_backend(family):
    for name, golden in one_golden_each(family).items():
        _, inputs, _ = read(golden)
        strict = load_on("strict:device1", "float64", golden)
        faulty = run_faulty(read(golden)[0], inputs, [CATALOGUE[name]])
        found = effect(faulty, run_faulty(strict, inputs, [CATALOGUE[name]]))
        assert max(found.values()) <= NORM, (name, golden)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fault_keeps_the_dtype(family):
    for name, golden in one_golden_each(family).items():
        _, inputs, _ = read(golden)
        for dtype in ("float32", "float16"):
            model = load_on("numpy", dtype, golden)
            taps, _ = run_faulty(model, inputs, [CATALOGUE[name]])
            kinds = {str(to_numpy(x).dtype) for x in taps.values()} - {"int64"}
            assert kinds == {dtype}, (name, golden)


@lru_cache(16)
def load_on(backend, dtype, golden):
    return load(GOLDENS[golden], dtype=dtype, backend=backend, kernels="plain")
