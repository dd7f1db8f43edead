"""Whatever stands in a dump: a report, or one clear error, and never a traceback."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refimpl.errors import CheckpointError
from refimpl.parity.comparison import STATUSES, as_dict, as_junit, comparing
from refimpl.parity.comparison.words import unknown_lines
from refimpl.parity.dumps.dump import Dump
from tests.conftest import case_folder

CASES = ("xlm_roberta/padding_left", "xlm/lm", "xmod/mixed_languages")
ODD = [0.0, -0.0, 1e-300, 1e300, numpy.nan, numpy.inf, -numpy.inf]


def with_odd_numbers(x, rng):
    x = x.astype(float)
    x[rng.random(x.shape) < 0.2] = rng.choice(ODD)
    return x


SPOILS = {
    "gone": None,
    "renamed": None,
    "odd numbers": with_odd_numbers,
    "all nan": lambda x, rng: numpy.full(x.shape, numpy.nan),
    "ids": lambda x, rng: numpy.round(x).astype(rng.choice(["int8", "int64", "uint16"])),
    "booleans": lambda x, rng: x > 0,
    "complex": lambda x, rng: x.astype(complex),
    "texts": lambda x, rng: x.astype(str),
    "half": lambda x, rng: x.astype("float16"),
    "one axis": lambda x, rng: x.reshape(-1),
    "turned": lambda x, rng: x.transpose(rng.permutation(x.ndim)),
    "cut": lambda x, rng: x[..., : rng.integers(0, 3)] if x.ndim else x,
    "first row": lambda x, rng: x[0] if x.ndim else x,
    "no axes": lambda x, rng: x.reshape(-1)[0] if x.size else x,
    "empty": lambda x, rng: numpy.zeros((0, *x.shape[1:]), x.dtype),
    "one more axis": lambda x, rng: x[None],
    "negative": lambda x, rng: -x - 1,
    "far too large": lambda x, rng: x * 10 + 1000,
}


def spoiled(arrays, how, rng):
    """Spoil some of the arrays in a way; names may change."""
    found = {}
    for name, x in arrays.items():
        if rng.random() > 0.15:
            found[name] = x
        elif how == "renamed":
            found[rng.choice(["layer.0.q", "x\n\x1b[31m", "", "é.7", name + ".output"])] = x
        elif how != "gone":
            with numpy.errstate(all="ignore"):
                found[name] = numpy.asarray(SPOILS[how](numpy.asarray(x), rng))
    return found


def look_at(report):
    """Use all that a report is for."""
    assert {v.status for v in report.verdicts} <= set(STATUSES)
    assert report.exit_code in (0, 1, 2)
    text = json.dumps(as_dict(report), allow_nan=False)
    assert json.loads(text)["held"] is report.held
    suite = ElementTree.fromstring(as_junit(report))
    assert int(suite.get("failures")) == sum(v.parts for v in report.verdicts)
    assert all(line.isprintable() for line in unknown_lines(report))


some = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@some
@given(
    case=st.sampled_from(CASES),
    first=st.sampled_from(list(SPOILS)),
    second=st.sampled_from(list(SPOILS)),
    seed=st.integers(0, 2**32 - 1),
    ignore=st.booleans(),
)
def test_spoiled_values_make_a_report(case, first, second, seed, ignore, compare, candidate):
    rng, good = numpy.random.default_rng(seed), candidate(case)
    taps = spoiled(spoiled(good.taps, first, rng), second, rng)
    dump = replace(good, taps=taps, outputs=spoiled(good.outputs, first, rng))
    look_at(compare(case, dump, arithmetic="float32", ignore_padding=ignore))


@some
@given(
    case=st.sampled_from(CASES),
    how=st.sampled_from([how for how in SPOILS if how != "renamed"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_spoiled_inputs_make_a_report_or_one_error(case, how, seed, compare, candidate):
    rng, good = numpy.random.default_rng(seed), candidate(case)
    dump = replace(good, inputs=spoiled(spoiled(good.inputs, how, rng), how, rng))
    look_at(compare(case, dump))


def test_ids_that_are_in_no_table_are_no_reason_to_stop(compare, candidate):
    """The position ids that a candidate shows go on as its own, if there are such positions."""
    case = "xlm_roberta/padding_left"
    good = candidate(case)
    for change in (1000, -1000):
        ids = good.taps["embeddings.position_ids"] + change
        report = compare(case, replace(good, taps={**good.taps, "embeddings.position_ids": ids}))
        assert report.first.name == "embeddings.position_ids"
        look_at(report)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"attention_mask": numpy.ones((2, 5), int)},
        {"input_ids": numpy.full((2, 5), 10**6)},
        {"input_ids": numpy.ones((2, 5))},
        {"input_ids": numpy.ones((2, 5, 5), int)},
    ],
)
def test_a_checkpoint_cannot_be_called_with_such_inputs(inputs, candidate, checkpoint):
    folder = checkpoint("xlm_roberta/padding_left")
    (folder / "golden.json").unlink()
    dump = replace(candidate("xlm_roberta/padding_left"), inputs=inputs)
    with pytest.raises((ValueError, TypeError)) as error:
        comparing.compare(folder, dump, runs=1)
    assert "\n" not in str(error.value)


def test_nothing_that_is_known(compare):
    dump = Dump({"a": numpy.ones((2, 3)), "b\n": numpy.ones(4)}, {}, {}, {"dtype": "float32"})
    report = compare("xlm_roberta/padding_left", dump)
    assert report.exit_code == 2
    assert not report.held
    assert set(report.unknown) == {"a", "b\n"}
    look_at(report)
    look_at(replace(report, reference="\x00\x1b \ud800 & <x>"))  # what XML cannot hold


def test_a_broken_file_is_one_error(tmp_path):
    broken = tmp_path / "dump.safetensors"
    broken.write_bytes(b"\x07" * 100)
    with pytest.raises(CheckpointError, match=r"dump\.safetensors"):
        comparing.compare(case_folder("xlm_roberta/padding_left"), broken)
