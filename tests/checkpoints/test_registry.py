"""The registry: complete, consistent with the architectures, sourced; and other people's own."""

import hashlib
import json
import math
import os
import re
import runpy
from collections import Counter
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import load

from refimpl.checkpoints.registry import BUNDLED, TRUST, read_registry
from refimpl.errors import CheckpointError
from refimpl.models.config import parse_config
from refimpl.models.model import ARCHITECTURES
from refimpl.parity.recompute import KINDS

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = read_registry()
KNOWN = [c for c in REGISTRY.checkpoints if c.tensors is not None]
BASE = "FacebookAI/xlm-roberta-base"


def config_of(published):
    values = {**published.config, **published.inferred}
    return parse_config(ARCHITECTURES[published.architecture].config, values, BUNDLED)


def shapes_of(published):
    """Name and shape of every tensor, as refimpl has them, what is tied once."""
    entry, config = ARCHITECTURES[published.architecture], config_of(published)
    tied = entry.rules(config).ties
    return {n: shape for n, shape in entry.parameters(config).items() if n not in tied}


# --- the one that comes with refimpl --------------------------------------------------------------


def test_it_has_every_published_checkpoint():
    families = Counter(c.family for c in REGISTRY.checkpoints)
    assert families == {"xlm": 10, "xlm_roberta": 7, "xlm_roberta_xl": 2, "xmod": 9}
    assert len(KNOWN) == 23  # of four fine-tuned ones, and a random one, no config is known


def test_no_id_stands_for_two():
    ids = [name for c in REGISTRY.checkpoints for name in (c.id, *c.aliases)]
    assert len(ids) == len(set(ids))
    names = [number.name for number in REGISTRY.numbers]
    assert len(names) == len(set(names)) == 60


@pytest.mark.parametrize("published", KNOWN, ids=lambda c: c.id)
def test_tensors_and_parameters_are_as_many_as_ours(published):
    shapes = shapes_of(published)
    assert len(shapes) == published.tensors
    assert sum(map(math.prod, shapes.values())) == published.parameters


@pytest.mark.parametrize("published", REGISTRY.checkpoints, ids=lambda c: c.id)
def test_an_entry_says_what_is_known_and_from_where(published):
    assert ARCHITECTURES[published.architecture].config.__module__.endswith(published.family)
    assert published.sources
    said = [*published.config, *published.inferred, *published.unknown]
    assert len(said) == len(set(said))
    assert "vocab_size" in said


def test_every_source_that_is_named_is_explained():
    values = json.loads(BUNDLED.read_text(encoding="utf-8"))
    explained = values.pop("sources")
    named = set(re.findall(r"S_[A-Z0-9]+", json.dumps(values)))
    assert len(named) > 10
    assert named <= set(explained)


@pytest.mark.parametrize("number", REGISTRY.numbers, ids=lambda n: n.name)
def test_a_number_can_be_recomputed_or_says_why_not(number):
    assert number.source
    if number.not_recomputed:
        assert (number.inputs, number.expected) == ({}, None)
        return
    assert number.kind in KINDS
    assert number.of in REGISTRY.groups or REGISTRY.find(number.of)
    if number.tolerance is not None:
        assert number.tolerance["atol"] > 0
        assert number.tolerance["rtol"] >= 0


def test_groups_name_checkpoints():
    for ids in REGISTRY.groups.values():
        assert [name for name in ids if REGISTRY.find(name) is None] == []


def test_the_complete_outputs_are_the_published_ones():
    wholes = [n for n in REGISTRY.numbers if isinstance(n.expected, dict) and "array" in n.expected]
    assert [n.name for n in wholes] == ["torchtext_xlmr_base", "torchtext_xlmr_large"]
    for number in wholes:
        array = REGISTRY.array(number.expected["array"])
        assert (array.dtype, list(array.shape)) == (numpy.float32, number.value["shape"])
        assert hashlib.sha256(array.tobytes()).hexdigest() == number.expected["sha256"]


def test_it_is_small():
    files = [BUNDLED, BUNDLED.with_suffix(".safetensors")]
    assert sum(file.stat().st_size for file in files) < 300_000


def test_found_by_id_and_by_older_id():
    assert REGISTRY.find(BASE).id == REGISTRY.find("xlm-roberta-base").id == BASE
    assert REGISTRY.find("roberta-base") is None


def test_numbers_are_a_checkpoints_own_and_those_of_its_groups():
    numbers = {number.name for number in REGISTRY.numbers_of("facebook/xmod-base")}
    assert {"xmod_base_de", "tok_hello", "position_ids_regression"} <= numbers
    assert not numbers & {"xmod_large_de", "xlmr_base_en"}
    assert REGISTRY.numbers_of("FacebookAI/xlm-mlm-ende-1024") == []


# --- made from the published facts ----------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    """The folder of the facts, and the tool that makes the registry of them."""
    folder = os.environ.get("REFIMPL_PUBLISHED")
    if not folder or not (Path(folder) / "checkpoints.json").is_file():
        pytest.skip("REFIMPL_PUBLISHED names no folder with checkpoints.json")
    return Path(folder), runpy.run_path(str(ROOT / "tools" / "make_registry.py"))


def test_it_is_what_its_tool_makes(published):
    folder, tool = published
    text, arrays = tool["make"](folder)
    assert text == BUNDLED.read_text(encoding="utf-8")
    made, kept = load(arrays), load(BUNDLED.with_suffix(".safetensors").read_bytes())
    assert {n: x.tobytes() for n, x in made.items()} == {n: x.tobytes() for n, x in kept.items()}


@pytest.mark.parametrize("checkpoint", KNOWN, ids=lambda c: c.id)
def test_published_names_and_shapes_are_ours(published, checkpoint):
    folder, tool = published
    patterns = json.loads((folder / "checkpoints.json").read_text())["tensor_names"]
    values = {**checkpoint.config, **checkpoint.inferred}
    expected = tool["expand"](patterns, checkpoint.family, values)
    assert {n: list(shape) for n, shape in shapes_of(checkpoint).items()} == expected


def test_the_complete_outputs_agree_with_what_else_is_told_of_them(published):
    folder, _ = published
    goldens = json.loads((folder / "goldens.json").read_text())["goldens"]
    for golden in goldens:
        if golden["name"].startswith("torchtext_xlmr"):
            array, told = REGISTRY.array(golden["name"])[0], golden["expected"]
            shown = [[float(f"{x:.9g}") for x in row] for row in array[:, :5]]
            assert shown == json.loads(json.dumps(told["first5_per_position"]))
            assert [float(f"{x:.9g}") for x in array[:, -1]] == told["last_per_position"]
            assert float(abs(array).max()) == told["max_abs"]


# --- other people's -------------------------------------------------------------------------------

SMALL = {
    "format": 1,
    "checkpoints": [{"id": "a/b", "family": "xlm", "class": "XLMModel"}],
    "numbers": [{"name": "n", "of": "a/b", "kind": "hidden", "source": "s", "trust": "low"}],
}


@pytest.fixture
def registry(tmp_path):
    """A function that writes SMALL, changed, and reads it."""

    def write(**changes):
        path = tmp_path / "registry.json"
        path.write_text(json.dumps({**SMALL, **changes}))
        return read_registry(path)

    return write


def test_a_registry_of_ones_own(registry):
    found = registry()
    assert [c.id for c in found.checkpoints] == ["a/b"]
    assert [n.name for n in found.numbers_of("a/b")] == ["n"]


def changed(name, **changes):
    """SMALL's one checkpoint or number with other values; ``...`` leaves one out."""
    entry = {**SMALL[name][0], **changes}
    return {name: [{key: value for key, value in entry.items() if value is not ...}]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "expected a registry of format 1"),
        ({"groups": []}, "groups: expected names with lists of checkpoints"),
        ({"groups": {"g": "a/b"}}, "groups: expected names with lists of checkpoints"),
        ({"checkpoints": {}}, "checkpoints: expected a list of objects"),
        ({"numbers": [1]}, "numbers: expected a list of objects"),
        (changed("checkpoints", id=...), "checkpoints[0]: id: expected str, got nothing"),
        (changed("checkpoints", id=3), "checkpoints[0]: id: expected str, got 3"),
        (changed("checkpoints", size=3), "checkpoints[0]: expected no key 'size'"),
        (changed("checkpoints", tensors="3"), "tensors: expected int | None, got '3'"),
        (changed("numbers", inputs=[1]), "numbers[0]: inputs: expected Mapping[str, Any], got [1]"),
        (changed("numbers", trust="full"), "n: trust: expected one of high, medium, low"),
        (changed("numbers", source=...), "numbers[0]: source: expected str, got nothing"),
    ],
)
def test_what_is_no_registry(registry, tmp_path, changes, said):
    with pytest.raises(CheckpointError) as caught:
        registry(**changes)
    assert str(caught.value).startswith(f"{tmp_path / 'registry.json'}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_json(tmp_path, content):
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"r.json: expected a registry"):
        read_registry(tmp_path / "r.json")


def test_no_such_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.json: no such file"):
        read_registry(tmp_path / "none.json")


def test_an_array_that_is_not_there(registry, tmp_path, write):
    found = registry()
    with pytest.raises(CheckpointError, match=r"registry.safetensors: no such file"):
        found.array("x")
    write(tmp_path / "registry.safetensors", {"y": numpy.zeros(3)})
    with pytest.raises(CheckpointError, match=r"expected an array 'x', found none"):
        found.array("x")


def test_trust_is_of_three_kinds():
    assert {number.trust for number in REGISTRY.numbers} == set(TRUST)
