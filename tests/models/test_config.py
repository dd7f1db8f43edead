"""config.json: what is left out, what is left aside, and what is refused, key by key."""

from dataclasses import FrozenInstanceError, dataclass, fields
from pathlib import Path

import pytest

from refimpl import ops
from refimpl.errors import CheckpointError
from refimpl.models.config import PROBLEM_TYPES, parse_config
from refimpl.models.model import load
from refimpl.models.xlm_roberta import XLMRobertaConfig

PATH = Path("some") / "config.json"


def parse(**values):
    return parse_config(XLMRobertaConfig, values, PATH)


def refusal(**values):
    """Return what ``parse`` has against these values, less the path."""
    with pytest.raises(CheckpointError) as caught:
        parse(**values)
    text = str(caught.value)
    assert text.startswith(f"{PATH}: ")
    return text.removeprefix(f"{PATH}: ")


# --- what is taken --------------------------------------------------------------------------------


def test_values_are_taken_as_they_stand():
    config = parse(hidden_size=12, num_attention_heads=3, layer_norm_eps=0.5, hidden_act="relu")
    assert (config.hidden_size, config.num_attention_heads) == (12, 3)
    assert (config.layer_norm_eps, config.hidden_act) == (0.5, "relu")


def test_what_is_left_out_takes_the_class_default():
    assert parse() == XLMRobertaConfig()


@pytest.mark.oracle
def test_class_defaults_are_the_originals():
    transformers = pytest.importorskip("transformers")
    original = transformers.XLMRobertaConfig()
    ours = XLMRobertaConfig()
    for name in (f.name for f in fields(ours) if f.name not in ("id2label", "pruned_heads")):
        expected = getattr(original, name)
        assert (getattr(ours, name), type(getattr(ours, name))) == (expected, type(expected)), name
    assert ours.labels == len(original.id2label)
    assert not original.pruned_heads


def test_unknown_keys_are_left_aside():
    assert parse(transformers_version="9.0.0", use_cache=True, xyz={"a": 1}) == XLMRobertaConfig()


def test_a_whole_number_is_a_real_number():
    assert parse(layer_norm_eps=1).layer_norm_eps == 1


def test_a_config_does_not_change():
    with pytest.raises(FrozenInstanceError):
        parse().hidden_size = 1


@pytest.mark.parametrize("name", ops.ACTIVATIONS)
def test_every_activation_of_ops_may_be_asked_for(name):
    assert parse(hidden_act=name).hidden_act == name


@pytest.mark.parametrize("name", [None, *PROBLEM_TYPES])
def test_problem_types(name):
    assert parse(problem_type=name).problem_type == name


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ({}, 2),
        ({"num_labels": 5}, 5),
        ({"id2label": {"0": "A", "1": "B", "2": "C"}}, 3),
        ({"id2label": {"0": "A"}, "num_labels": 5}, 1),  # as in the original, which warns
        ({"id2label": None, "num_labels": 4}, 4),
    ],
)
def test_the_names_of_labels_count_where_there_are_any(values, labels):
    assert parse(**values).labels == labels


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("hidden_size", "12", "int"),
        ("hidden_size", 12.0, "int"),
        ("hidden_size", True, "int"),
        ("hidden_size", None, "int"),
        ("hidden_size", [12], "int"),
        ("layer_norm_eps", "1e-5", "float"),
        ("layer_norm_eps", False, "float"),
        ("hidden_act", 1, "str"),
        ("hidden_act", {"name": "gelu"}, "str"),
        ("tie_word_embeddings", 1, "bool"),
        ("tie_word_embeddings", "false", "bool"),
        ("pad_token_id", None, "int"),
        ("problem_type", 1, "str | None"),
        ("id2label", ["A", "B"], "collections.abc.Mapping[str, str] | None"),
    ],
)
def test_a_value_of_a_wrong_type(key, value, expected):
    assert refusal(**{key: value}) == f"{key}: expected {expected}, got {value!r}"


@pytest.mark.parametrize(
    "key",
    ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
     "intermediate_size", "max_position_embeddings", "type_vocab_size"],
)  # fmt: skip
@pytest.mark.parametrize("value", [0, -1])
def test_sizes_are_above_0(key, value):
    assert refusal(**{key: value}) == f"{key}: expected a number above 0, got {value}"


def test_the_heads_divide_the_width():
    expected = "hidden_size: expected a multiple of num_attention_heads (5), got 12"
    assert refusal(hidden_size=12, num_attention_heads=5) == expected


@pytest.mark.parametrize("name", ["gelu_fast", "mish", "GELU", ""])
def test_an_unknown_activation(name):
    assert refusal(hidden_act=name).startswith("hidden_act: expected one of gelu, ")
    assert refusal(hidden_act=name).endswith(f", got {name!r}")


@pytest.mark.parametrize("value", [-1, 7])
def test_the_padding_id_is_an_id(value):
    told = refusal(vocab_size=7, pad_token_id=value)
    assert told == f"pad_token_id: expected an id of the vocabulary, got {value}"


def test_an_unknown_problem_type():
    told = refusal(problem_type="ranking")
    assert told == f"problem_type: expected one of {', '.join(PROBLEM_TYPES)}, got 'ranking'"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("position_embedding_type", "relative_key", "'absolute'"),
        ("position_embedding_type", "relative_key_query", "'absolute'"),
        ("is_decoder", True, "false"),
        ("add_cross_attention", True, "false"),
        ("pruned_heads", {"0": [1]}, "none"),
    ],
)
def test_what_the_original_can_and_this_cannot_is_refused(key, value, expected):
    assert refusal(**{key: value}) == f"{key}: expected {expected}, got {value!r}"


def test_no_pruned_heads_may_stand_there():
    assert parse(pruned_heads={}).pruned_heads == {}


def test_load_names_file_key_and_value(checkpoint):
    folder = checkpoint("model", config={"hidden_act": "mish"})
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    expected = f"{folder / 'config.json'}: hidden_act: expected one of "
    assert str(caught.value).startswith(expected)


def test_any_frozen_dataclass_can_be_read():
    @dataclass(frozen=True)
    class Two:
        size: int
        names: dict[str, int] | None = None

    assert parse_config(Two, {"size": 3, "names": {"a": 1}}, PATH) == Two(3, {"a": 1})
    with pytest.raises(CheckpointError, match="size: expected int, got 'x'"):
        parse_config(Two, {"size": "x"}, PATH)
