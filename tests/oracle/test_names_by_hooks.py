"""The maps of names hold in the originals: plain hooks, names resolved, values compared.

fairseq, the XLM authors' code, TransformerLens and transformers 5 are run by
``tools/parity_figures/maps.py`` where they are; here they are skipped, by name.
"""

import os
import warnings

import pytest

from refimpl.parity.goldens import find_goldens
from tools.parity_figures import maps

pytestmark = pytest.mark.oracle

ALL = [f"{folder.parent.name}/{folder.name}" for folder in find_goldens()]


def assert_all_right(figures):
    for family, one in figures.items():
        assert one["wrong"] == [], family
        assert one["not_seen"] == [], family
        assert one["taps"] > 15, family


def test_transformers_4():
    cases = [case for case in ALL if maps.runs(case, "transformers 4.57")]
    assert_all_right(
        maps.judge("transformers", maps.run_original("transformers", "", cases), cases)
    )


@pytest.mark.parametrize("title", maps.FOLDERS)
def test_originals_that_are_given_by_folders(title):
    path = os.environ.get(maps.FOLDERS[title], "")
    if not path:
        pytest.skip(f"{maps.FOLDERS[title]} is not set")
    source = title.partition(" ")[0]
    cases = maps.CASES.get(source, [c for c in ALL if maps.runs(c, title)])
    assert_all_right(maps.judge(source, maps.run_original(source, path, cases), cases))


@pytest.mark.parametrize("source", ["onnx", "onnx_dynamo"])
def test_onnx(source):
    pytest.importorskip("onnxruntime")
    cases = maps.CASES[source]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is an old one, and says so
        dumps = {case: maps.export(case, source) for case in cases}
    assert_all_right(maps.judge(source, dumps, cases))


def test_a_name_that_leads_to_another_tap_is_found(monkeypatch):
    dumps = maps.run_original("transformers", "", ["xlm_roberta/model"])
    dump = dumps["xlm_roberta/model"]
    first, second = (f"encoder.layer.0.attention.self.{word}" for word in ("query", "key"))
    dump[first], dump[second] = dump[second], dump[first]
    wrong = maps.judge("transformers", dumps, ["xlm_roberta/model"])["xlm_roberta"]["wrong"]
    assert len(wrong) == 2
