"""config.json: what is left out, what is left aside, and what is refused, key by key."""

from dataclasses import FrozenInstanceError, dataclass, fields
from pathlib import Path

import pytest

from refimpl import ops
from refimpl.errors import CheckpointError
from refimpl.models.config import PROBLEM_TYPES, parse_config
from refimpl.models.model import load
from refimpl.models.roberta import POSITION_TYPES, heads_left
from refimpl.models.xlm import XLMConfig
from refimpl.models.xlm_roberta import XLMRobertaConfig
from refimpl.models.xlm_roberta_xl import XLMRobertaXLConfig
from refimpl.models.xmod import XmodConfig

PATH = Path("some") / "config.json"
ROBERTAS = [XLMRobertaConfig, XLMRobertaXLConfig, XmodConfig]
of_every_roberta = pytest.mark.parametrize("kind", ROBERTAS)
of_all = pytest.mark.parametrize("kind", [XLMConfig, *ROBERTAS])


def parse(kind=XLMRobertaConfig, **values):
    return parse_config(kind, values, PATH)


def refusal(kind=XLMRobertaConfig, **values):
    """Return what ``parse`` has against these values, less the path."""
    with pytest.raises(CheckpointError) as caught:
        parse(kind, **values)
    text = str(caught.value)
    assert text.startswith(f"{PATH}: ")
    return text.removeprefix(f"{PATH}: ")


# --- what is taken --------------------------------------------------------------------------------


def test_values_are_taken_as_they_stand():
    config = parse(hidden_size=12, num_attention_heads=3, layer_norm_eps=0.5, hidden_act="relu")
    assert (config.hidden_size, config.num_attention_heads) == (12, 3)
    assert (config.layer_norm_eps, config.hidden_act) == (0.5, "relu")


@of_all
def test_what_is_left_out_takes_the_class_default(kind):
    assert parse(kind) == kind()


@pytest.mark.oracle
@of_all
def test_class_defaults_are_the_originals(kind):
    transformers = pytest.importorskip("transformers")
    original, ours = getattr(transformers, kind.__name__)(), kind()
    for name in (f.name for f in fields(ours)):
        if name in ("id2label", "pruned_heads", "asm_cutoffs", "asm_div_value", "languages"):
            continue  # ours are None, or cannot change; what the original has stands below
        expected = getattr(original, name)
        assert (getattr(ours, name), type(getattr(ours, name))) == (expected, type(expected)), name
    assert ours.labels == len(original.id2label)
    assert list(getattr(ours, "languages", [])) == getattr(original, "languages", [])
    assert not original.pruned_heads
    assert not hasattr(original, "asm_cutoffs")
    assert not hasattr(original, "asm_div_value")


@of_all
def test_unknown_keys_are_left_aside(kind):
    assert parse(kind, transformers_version="9.0.0", dropout=0.1, xyz={"a": 1}) == kind()


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
        ("id2label", ["A", "B"], "collections.abc.Mapping[str, typing.Any] | None"),
        ("is_decoder", "yes", "bool"),
        ("eos_token_id", [2, "3"], "int | list[int] | None"),
        ("pruned_heads", {"0": 1}, "collections.abc.Mapping[str, list[int]] | None"),
        ("pruned_heads", {"0": ["1"]}, "collections.abc.Mapping[str, list[int]] | None"),
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
@of_every_roberta
def test_sizes_are_above_0(kind, key, value):
    assert refusal(kind, **{key: value}) == f"{key}: expected a number above 0, got {value}"


@of_every_roberta
def test_the_heads_divide_the_width(kind):
    expected = "hidden_size: expected a multiple of num_attention_heads (5), got 12"
    assert refusal(kind, hidden_size=12, num_attention_heads=5) == expected


@pytest.mark.parametrize("name", ["gelu_fast", "mish", "GELU", ""])
@of_every_roberta
def test_an_unknown_activation(kind, name):
    assert refusal(kind, hidden_act=name).startswith("hidden_act: expected one of gelu, ")
    assert refusal(kind, hidden_act=name).endswith(f", got {name!r}")


@pytest.mark.parametrize("value", [-1, 7])
@of_every_roberta
def test_the_padding_id_is_an_id(kind, value):
    told = refusal(kind, vocab_size=7, pad_token_id=value)
    assert told == f"pad_token_id: expected an id of the vocabulary, got {value}"


@of_all
def test_an_unknown_problem_type(kind):
    told = refusal(kind, problem_type="ranking")
    assert told == f"problem_type: expected one of {', '.join(PROBLEM_TYPES)}, got 'ranking'"


# --- decoders, positions, pruned heads ------------------------------------------------------------


@pytest.mark.parametrize("name", POSITION_TYPES)
@of_every_roberta
def test_positions_of_three_kinds(kind, name):
    assert parse(kind, position_embedding_type=name).position_embedding_type == name


@of_every_roberta
def test_an_unknown_kind_of_positions(kind):
    told = refusal(kind, position_embedding_type="rotary")
    assert told == (
        "position_embedding_type: expected one of absolute, relative_key, relative_key_query, "
        "got 'rotary'"
    )


@of_every_roberta
def test_cross_attention_needs_a_decoder(kind):
    assert parse(kind, is_decoder=True, add_cross_attention=True).add_cross_attention
    told = refusal(kind, add_cross_attention=True)
    assert told == "add_cross_attention: expected false where is_decoder is false, got True"


ROBERTA_SIZES = {"num_attention_heads": 3, "hidden_size": 12, "num_hidden_layers": 2}
HEADS = dict.fromkeys(ROBERTAS, ROBERTA_SIZES)
HEADS[XLMConfig] = {"n_heads": 3, "emb_dim": 12, "n_layers": 2}


@of_all
def test_pruned_heads(kind):
    for none in (None, {}):
        assert parse(kind, pruned_heads=none).pruned_heads == none
    config = parse(kind, **HEADS[kind], pruned_heads={"1": [0, 2, 2, 7]})  # there is no head 7
    left = config.heads_left if kind is XLMConfig else lambda i: heads_left(config, i)
    assert (left(0), left(1)) == (3, 1)
    assert config.head_size == 4  # as without pruning


@of_all
@pytest.mark.parametrize("pruned", [{"2": [0]}, {"-1": [0]}, {"all": [0]}, {"0": [2, 1, 0]}])
def test_heads_that_cannot_be_pruned(kind, pruned):
    assert refusal(kind, **HEADS[kind], pruned_heads=pruned) == (
        f"pruned_heads: expected layers of the model, some heads left in each, got {pruned}"
    )


@of_all
@pytest.mark.parametrize("value", [None, 2, [2, 3]])
def test_end_tokens(kind, value):
    assert parse(kind, eos_token_id=value).eos_token_id == value


# --- XLM ------------------------------------------------------------------------------------------


def test_xlm_goes_by_two_names():
    config = parse(XLMConfig, n_words=7, hidden_size=6, num_attention_heads=2, num_hidden_layers=3)
    assert (config.vocab_size, config.emb_dim, config.n_heads, config.n_layers) == (7, 6, 2, 3)


@pytest.mark.parametrize(
    "values", [{"n_words": 7, "vocab_size": 5}, {"vocab_size": 5, "n_words": 7}]
)
def test_n_words_is_what_counts(values):
    assert parse(XLMConfig, **values).vocab_size == 7


@pytest.mark.oracle
@pytest.mark.parametrize(
    "values", [{"n_words": 7, "vocab_size": 5}, {"vocab_size": 5, "n_words": 7}]
)
def test_n_words_is_what_counts_in_the_original(values):
    transformers = pytest.importorskip("transformers")
    assert transformers.XLMConfig(**values).vocab_size == 7


def test_another_name_of_a_wrong_type():
    assert refusal(XLMConfig, n_words="7") == "vocab_size: expected int, got '7'"


@pytest.mark.parametrize(
    "key",
    ["vocab_size", "emb_dim", "n_layers", "n_heads", "n_langs", "max_position_embeddings",
     "start_n_top", "end_n_top"],
)  # fmt: skip
@pytest.mark.parametrize("value", [0, -1])
def test_sizes_of_xlm_are_above_0(key, value):
    assert refusal(XLMConfig, **{key: value}) == f"{key}: expected a number above 0, got {value}"


ASM = {"asm": True, "vocab_size": 29, "asm_cutoffs": [7, 15], "asm_div_value": 2.0}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"emb_dim": 12, "n_heads": 5}, "emb_dim: expected a multiple of n_heads (5), got 12"),
        ({"pad_index": 7, "vocab_size": 7},
         "pad_index: expected an id of the vocabulary, got 7"),
        ({"pad_index": -1}, "pad_index: expected an id of the vocabulary, got -1"),
        ({"is_encoder": False},
         "is_encoder: expected true (the original has no decoder either), got False"),
        ({"summary_type": "attn"},
         "summary_type: expected first, last, mean or cls_index, got 'attn'"),
        ({"summary_activation": "softmax"},
         f"summary_activation: expected null or one of {', '.join(ops.ACTIVATIONS)}, "
         "got 'softmax'"),
        *(({**ASM, "asm_cutoffs": cutoffs},
           f"asm_cutoffs: expected rising word counts below vocab_size, got {cutoffs}")
          for cutoffs in (None, [], [0, 7], [15, 7], [7, 7], [7, 29], [7, 30], [-1])),
        *(({**ASM, "asm_div_value": value},
           f"asm_div_value: expected a number above 0, got {value}")
          for value in (None, 0, -2.0)),
        ({**ASM, "asm_cutoffs": [7.0]}, "asm_cutoffs: expected list[int] | None, got [7.0]"),
    ],
)  # fmt: skip
def test_what_no_xlm_can_have(values, told):
    assert refusal(XLMConfig, **values) == told


def test_what_an_xlm_can_have():
    assert parse(XLMConfig, **ASM).asm_cutoffs == [7, 15]
    assert parse(XLMConfig, asm_cutoffs=[15, 7]).asm_cutoffs == [15, 7]  # not used without asm
    for kind in ("first", "last", "mean", "cls_index"):
        assert parse(XLMConfig, summary_type=kind).summary_type == kind
    for name in (None, *ops.ACTIVATIONS):
        assert parse(XLMConfig, summary_activation=name).summary_activation == name


@pytest.mark.parametrize(
    ("values", "expected"),
    [({}, False), ({"n_langs": 2}, True), ({"n_langs": 2, "use_lang_emb": False}, False)],
)
def test_languages_of_xlm_are_embedded_where_there_are_two(values, expected):
    assert parse(XLMConfig, **values).has_languages is expected


# --- X-MOD ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"languages": []}, "languages: expected at least one, got []"),
        ({"languages": ["en_XX", 1]},
         "languages: expected list[str] | tuple[str, ...], got ['en_XX', 1]"),
        ({"languages": "en_XX"}, "languages: expected list[str] | tuple[str, ...], got 'en_XX'"),
        ({"languages": ["en_XX", "de_DE"], "default_language": "fr_XX"},
         "default_language: expected null or one of en_XX, de_DE, got 'fr_XX'"),
        *(({"hidden_size": 12, "num_attention_heads": 3, "adapter_reduction_factor": value},
           f"adapter_reduction_factor: expected a number above 0, up to hidden_size (12), "
           f"got {value}")
          for value in (0, -1, 12.5)),
        ({"adapter_reduction_factor": None},
         "adapter_reduction_factor: expected int | float, got None"),
    ],
)  # fmt: skip
def test_what_no_xmod_can_have(values, told):
    assert refusal(XmodConfig, **values) == told


@pytest.mark.parametrize("value", [1, 2.5, 12])
def test_reduction_factors(value):
    config = parse(
        XmodConfig, hidden_size=12, num_attention_heads=3, adapter_reduction_factor=value
    )
    assert config.adapter_reduction_factor == value


@pytest.mark.parametrize("name", [None, "en_XX", "de_DE"])
def test_default_languages(name):
    config = parse(XmodConfig, languages=["en_XX", "de_DE"], default_language=name)
    assert config.default_language == name


# --- load -----------------------------------------------------------------------------------------


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
