"""Loading and calling: what is refused, what comes out, and the same bits on every device."""

import re

import numpy
import pytest

import refimpl
from refimpl.backend import get_backend, to_numpy
from refimpl.errors import CheckpointError
from refimpl.models.model import ARCHITECTURES, Model, load
from refimpl.parity.goldens import case_name, find_goldens, flatten, read_golden
from refimpl.taps import record
from tests.compare import assert_same

IDS = [[0, 17, 5, 23, 2], [0, 28, 11, 8, 2]]
EMBEDS = numpy.random.default_rng(1).standard_normal((2, 5, 12))
ROOM = 14  # 16 positions less pad_token_id + 1


def assert_same_outputs(actual, expected):
    actual, expected = flatten(actual), flatten(expected)
    assert list(actual) == list(expected)
    for name, x in expected.items():
        assert_same(actual[name], x)


def refuse(model, error, message, **inputs):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        model(**inputs)


# --- load -----------------------------------------------------------------------------------------


def test_load_says_what_it_made(checkpoint):
    model = refimpl.load(checkpoint("masked_lm"), dtype="float64", kernels="plain")
    assert isinstance(model, Model)
    assert model.architecture == "XLMRobertaForMaskedLM"
    assert (model.dtype, model.kernels) == ("float64", "plain")
    assert model.backend == get_backend("numpy")
    assert model.config.hidden_size == 12
    assert model.weights["lm_head.bias"].shape == (29,)


def test_load_takes_a_path_or_a_string(checkpoint):
    folder = checkpoint("model")
    assert_same_outputs(load(str(folder))(input_ids=IDS), load(folder)(input_ids=IDS))


def test_float32_is_the_default(checkpoint):
    model = load(checkpoint("model"))
    assert model.dtype == "float32"
    assert model(input_ids=IDS).last_hidden_state.dtype == numpy.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float8"}, "dtype: expected one of float64, float32, float16, bfloat16, got"),
        ({"dtype": "bfloat16"}, "dtype: the numpy backend has no bfloat16"),
        ({"dtype": "float16", "backend": "strict"}, "dtype: the strict backend has no float16"),
        ({"backend": "torch"}, "backend: expected 'numpy', 'cupy', 'cupy:N', 'strict' or"),
        ({"backend": "numpy:1"}, "backend: expected 'numpy', 'cupy', 'cupy:N', 'strict' or"),
        ({"backend": "strict:device9"}, "backend: 'strict:device9' names no device; there are CPU"),
        ({"backend": "cupy:first"}, "backend: expected a CUDA device number after 'cupy:', got"),
        ({"kernels": "fast"}, "kernels: expected one of plain, fused, got 'fast'"),
    ],
)
def test_options_that_do_not_exist(checkpoint, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        load(checkpoint("model"), **options)


def test_options_are_looked_at_before_the_checkpoint():
    with pytest.raises(ValueError, match=r"^kernels: "):
        load("nowhere", kernels="fast")


@pytest.mark.parametrize("name", ["XLMRobertaForPreTraining", "BertModel", "xlm_roberta"])
def test_an_unknown_architecture(checkpoint, name):
    expected = f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {name!r}"
    asked, named = checkpoint("model"), checkpoint("model", config={"architectures": [name]})
    for folder, options in ((asked, {"architecture": name}), (named, {})):
        with pytest.raises(CheckpointError) as caught:
            load(folder, **options)
        assert str(caught.value) == f"{folder}: {expected}"


@pytest.mark.parametrize("value", [..., None, [], ["A", "B"], "XLMRobertaModel", [1], {}])
def test_a_config_that_does_not_name_one_architecture(checkpoint, value):
    folder = checkpoint("model", config={"architectures": value})
    got = None if value is ... else value
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert str(caught.value) == (
        f"{folder / 'config.json'}: architectures: expected one class name, got {got!r}; "
        "pass architecture="
    )
    assert load(folder, "XLMRobertaModel").architecture == "XLMRobertaModel"


# --- a call ---------------------------------------------------------------------------------------


def test_lists_and_arrays_of_any_backend_are_the_same_input(model):
    mask = [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]
    expected = model("model")(input_ids=IDS, attention_mask=mask)
    for name in ("numpy", "strict", "strict:device1"):
        bring = get_backend(name).asarray
        actual = model("model")(input_ids=bring(IDS), attention_mask=bring(mask))
        assert_same_outputs(actual, expected)


def test_none_is_as_absent(model):
    call = model("masked_lm")
    nothing = dict.fromkeys(
        ["attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds",
         "labels", "output_hidden_states", "output_attentions"]
    )  # fmt: skip
    assert_same_outputs(call(input_ids=IDS, **nothing), call(input_ids=IDS))


def test_one_text_is_a_batch_of_one(model):
    call = model("masked_lm")
    one = {"input_ids": IDS[0], "attention_mask": [1, 1, 1, 0, 0], "labels": IDS[0]}
    batch = {name: [x] for name, x in one.items()}
    assert_same_outputs(call(**one), call(**batch))
    one = {"input_ids": IDS, "labels": 1}  # one question of two choices
    batch = {name: [x] for name, x in one.items()}
    assert_same_outputs(model("multiple_choice")(**one), model("multiple_choice")(**batch))


def test_a_call_changes_neither_its_inputs_nor_the_model(model):
    ids, embeds = numpy.asarray(IDS), EMBEDS.copy()
    call = model("masked_lm")
    before = call(inputs_embeds=embeds)
    call(input_ids=ids, labels=ids, head_mask=[0, 0, 0], output_attentions=True)
    assert_same_outputs(call(inputs_embeds=embeds), before)
    assert_same(ids, numpy.asarray(IDS))
    assert_same(embeds, EMBEDS)


def test_an_argument_that_the_class_does_not_take(model):
    known = (
        "input_ids, inputs_embeds, attention_mask, token_type_ids, position_ids, head_mask, "
        "output_hidden_states, output_attentions, use_cache, past_key_values"
    )
    message = f"XLMRobertaModel takes no 'labels'; it takes {known}"
    refuse(model("model"), TypeError, message, input_ids=IDS, labels=[0, 0])
    with pytest.raises(TypeError, match="takes no 'mask'"):
        model("masked_lm")(input_ids=IDS, mask=IDS)
    with pytest.raises(TypeError, match="takes no 'encoder_hidden_states'"):  # is no such decoder
        model("causal_lm")(input_ids=IDS, encoder_hidden_states=EMBEDS)
    with pytest.raises(TypeError, match=r"takes no 'past_key_values'; .* use_cache, cache$"):
        model("xlm/model")(input_ids=IDS, past_key_values=())
    with pytest.raises(TypeError, match="takes no 'lang_ids'"):
        model("xlm/model")(input_ids=IDS, lang_ids=[0, 0])
    with pytest.raises(TypeError, match="takes no 'langs'"):
        model("xmod/model")(input_ids=IDS, langs=IDS)
    with pytest.raises(TypeError, match="positional"):
        model("model")(IDS)


def test_one_of_ids_and_vectors(model):
    message = "expected one of input_ids and inputs_embeds, got"
    refuse(model("model"), ValueError, f"{message} neither")
    refuse(model("model"), ValueError, f"{message} neither", input_ids=None, attention_mask=[[1]])
    refuse(model("model"), ValueError, f"{message} both", input_ids=IDS, inputs_embeds=EMBEDS)


@pytest.mark.parametrize(
    ("case", "inputs", "message"),
    [
        ("model", {"input_ids": [[0, 29]]}, "input_ids: expected ids from 0 to 28, got 29"),
        ("model", {"input_ids": [[0, -1]]}, "input_ids: expected ids from 0 to 28, got -1"),
        ("model", {"token_type_ids": [[0, 1, 2, 0, 0]] * 2},
         "token_type_ids: expected ids from 0 to 1, got 2"),
        ("one_token_type", {"token_type_ids": [[0, 1, 0, 0, 0]] * 2},
         "token_type_ids: expected ids from 0 to 0, got 1"),
        ("model", {"position_ids": [[12, 13, 14, 15, 16]]},
         "position_ids: expected ids from 0 to 15, got 16"),
        ("model", {"head_mask": [1, 1]},
         "head_mask: expected shape (H=3) or (L=2, H=3), got (2,)"),
        ("model", {"input_ids": None, "inputs_embeds": EMBEDS[:, :, :11]},
         "inputs_embeds: expected shape (B, S, D=12), got (2, 5, 11)"),
        ("masked_lm", {"labels": [[29] * 5] * 2},
         "labels: expected labels from 0 to 28, or -100, got 29"),
        ("masked_lm", {"labels": [0, 0]}, "labels: expected shape (B=2, S=5), got (2,)"),
        ("classification", {"labels": [0, 3]},
         "labels: expected labels from 0 to 2, or -100, got 3"),
        ("classification", {"labels": [0.0, 1.0]},
         "labels: expected shape (B=2, N=3), got (2,)"),
        ("classification_multi", {"labels": [0, 1]},
         "labels: expected shape (B=2, N=3), got (2,)"),
        ("regression", {"labels": [[0.5, 1.0]] * 2},
         "labels: expected shape (B=2) or (B=2, N=1), got (2, 2)"),
        ("token_classification", {"labels": [[4] * 5] * 2},
         "labels: expected labels from 0 to 3, or -100, got 4"),
        ("multiple_choice", {"input_ids": [IDS], "labels": [2]},
         "labels: expected labels from 0 to 1, or -100, got 2"),
        ("multiple_choice", {"input_ids": [IDS], "attention_mask": [[[1] * 5] * 3]},
         "attention_mask: expected shape (B=1, C=2, T=5), got (1, 3, 5)"),
        ("multiple_choice", {"input_ids": [IDS], "attention_mask": numpy.ones((1, 2, 5, 5))},
         "attention_mask: expected shape (B=1, C=2, T=5), got (1, 2, 5, 5)"),
        ("question_answering", {"start_positions": [0, 0, 0], "end_positions": [0, 0]},
         "start_positions: expected shape (B=2) or (B=2, 1), got (3,)"),
        ("pruned_heads", {"head_mask": [1, 1, 1]},
         "head_mask: expected none for a model with pruned_heads"),
        ("cross_attention", {"encoder_hidden_states": EMBEDS[:, :, 1:]},
         "encoder_hidden_states: expected shape (B=2, E, D=12), got (2, 5, 11)"),
        ("cross_attention", {"encoder_hidden_states": EMBEDS[:1]},
         "encoder_hidden_states: expected shape (B=2, E, D=12), got (1, 5, 12)"),
        ("cross_attention",
         {"encoder_hidden_states": EMBEDS[:, :3], "encoder_attention_mask": [[1] * 5] * 2},
         "encoder_attention_mask: expected shape (B=2, E=3) or (B=2, S=5, E=3), got (2, 5)"),
        ("cross_attention",
         {"encoder_hidden_states": EMBEDS, "encoder_attention_mask": [[1, 1, 1, 1, 2]] * 2},
         "encoder_attention_mask: expected only 0 and 1, got 2"),
        ("causal_lm", {"labels": [[29] * 5] * 2},
         "labels: expected labels from 0 to 28, or -100, got 29"),
        ("xlm/model", {"langs": [[0, 1, 2, 3, 4]] * 2}, "langs: expected ids from 0 to 3, got 4"),
        ("xlm/model", {"langs": [0, 1]}, "langs: expected shape (B=2, S=5), got (2,)"),
        ("xlm/one_language", {"langs": [[0, 1, 0, 0, 0]] * 2},
         "langs: expected ids from 0 to 0, got 1"),
        ("xlm/model", {"token_type_ids": [[29] * 5] * 2},
         "token_type_ids: expected ids from 0 to 28, got 29"),
        ("xlm/model", {"attention_mask": numpy.ones((2, 5, 5))},
         "attention_mask: expected shape (B=2, S=5), got (2, 5, 5)"),
        ("xlm/model", {"lengths": [5, 6]},
         "lengths: expected 1 to 5, the length of a row, got [5, 6]"),
        ("xlm/model", {"lengths": [0, 5]},
         "lengths: expected 1 to 5, the length of a row, got [0, 5]"),
        ("xlm/model", {"lengths": [5]}, "lengths: expected shape (B=2), got (1,)"),
        ("xlm/pruned_heads", {"head_mask": [1, 1, 1]},
         "head_mask: expected none for a model with pruned_heads"),
        ("xlm/question_answering", {"cls_index": [0, 5]},
         "cls_index: expected ids from 0 to 4, got 5"),
        ("xlm/question_answering", {"start_positions": [0, 5], "end_positions": [0, 0]},
         "start_positions: expected labels from 0 to 4, or -100, got 5"),
        ("xlm/question_answering", {"p_mask": [0, 1]},
         "p_mask: expected shape (B=2, S=5), got (2,)"),
        ("xmod/model", {"lang_ids": [0, 2]}, "lang_ids: expected ids from 0 to 1, got 2"),
        ("xmod/model", {"lang_ids": [0, -1]}, "lang_ids: expected ids from 0 to 1, got -1"),
        ("xmod/model", {"lang_ids": [0, 1, 0]},
         "lang_ids: expected shape (B=2) or (B=2, S=5), got (3,)"),
        ("xmod/model", {"lang_ids": [[0, 1, 0, 1]] * 2},
         "lang_ids: expected shape (B=2) or (B=2, S=5), got (2, 4)"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_the_checkpoint(model, case, inputs, message):
    refuse(model(case), ValueError, message, **{"input_ids": IDS, **inputs})


def test_ids_are_checked_on_every_device(model):
    message = "input_ids: expected ids from 0 to 28, got 29"
    refuse(model("model", backend="strict:device1"), ValueError, message, input_ids=[[29]])


# --- length ---------------------------------------------------------------------------------------


def too_long(name, got):
    return (
        f"{name}: expected at most {ROOM} tokens in a row (max_position_embeddings 16 "
        f"less pad_token_id + 1), got {got}"
    )


def test_a_text_may_be_as_long_as_there_are_positions(model):
    with record() as taps:
        model("model")(input_ids=[[5] * ROOM])
    assert to_numpy(taps["embeddings.position_ids"]).max() == 15
    refuse(model("model"), ValueError, too_long("input_ids", 15), input_ids=[[5] * (ROOM + 1)])


def test_padding_takes_no_position(model):
    padded = [[1] * 9 + [5] * ROOM, [5] * ROOM + [1] * 9]
    assert model("model")(input_ids=padded).last_hidden_state.shape == (2, 23, 12)
    padded[1][-1] = 5
    refuse(model("model"), ValueError, too_long("input_ids", 15), input_ids=padded)


def test_every_choice_has_its_own_positions(model):
    call = model("multiple_choice")
    assert call(input_ids=[[[5] * ROOM] * 3]).logits.shape == (1, 3)
    texts = [[[5] * 15, [1] * 15]]
    refuse(call, ValueError, too_long("input_ids", 15), input_ids=texts)


def test_vectors_take_a_position_each(model):
    vectors = numpy.zeros((1, ROOM + 1, 12))
    assert model("model")(inputs_embeds=vectors[:, 1:]).last_hidden_state.shape == (1, ROOM, 12)
    refuse(model("model"), ValueError, too_long("inputs_embeds", 15), inputs_embeds=vectors)


def test_positions_that_are_given_have_no_such_limit(model):
    positions = [[3] * 20]
    out = model("model")(input_ids=[[5] * 20], position_ids=positions)
    assert out.last_hidden_state.shape == (1, 20, 12)


@pytest.mark.parametrize("family", ["xlm_roberta", "xlm_roberta_xl", "xmod"])
@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_a_table_of_distances_serves_as_many_places_as_there_are_positions(model, family, kind):
    call = model(f"{family}/position_{kind}")
    for inputs in ({"input_ids": [[5] * 16]}, {"inputs_embeds": numpy.zeros((1, 16, 12))}):
        assert call(**inputs).last_hidden_state.shape == (1, 16, 12)
    told = "expected at most 16 places in a row (max_position_embeddings), got 17"
    refuse(call, ValueError, f"input_ids: {told}", input_ids=[[5] * 17])
    refuse(call, ValueError, f"input_ids: {told}", input_ids=[[5] * 16 + [1]])  # padding, too
    positions = [[3] * 17]
    refuse(call, ValueError, f"input_ids: {told}", input_ids=[[5] * 17], position_ids=positions)
    refuse(call, ValueError, f"inputs_embeds: {told}", inputs_embeds=numpy.zeros((1, 17, 12)))


def test_xlm_numbers_every_place(model):
    call = model("xlm/model")
    assert call(input_ids=[[5] * 16]).last_hidden_state.shape == (1, 16, 9)
    told = "expected at most 16 tokens in a row (max_position_embeddings), got 17"
    refuse(call, ValueError, f"input_ids: {told}", input_ids=[[5] * 16 + [2]])
    refuse(call, ValueError, f"inputs_embeds: {told}", inputs_embeds=numpy.zeros((1, 17, 9)))
    out = call(input_ids=[[5] * 17], position_ids=[[3] * 17])
    assert out.last_hidden_state.shape == (1, 17, 9)


# --- what an earlier call kept --------------------------------------------------------------------

STATES = {
    "xlm/causal": "cache",
    "causal_lm_cache": "past_key_values",
    "xlm_roberta_xl/causal_lm_cache": "past_key_values",
    "xmod/causal_lm_cache": "past_key_values",
}
every_state = pytest.mark.parametrize(("case", "name"), STATES.items())


@every_state
@pytest.mark.parametrize(
    "thing", [(), [], 5, "text", [()], [[5]], ((numpy.zeros((2, 3)),),), {"a": 1}, numpy.zeros(3)]
)
def test_what_no_call_has_kept(model, case, name, thing):
    message = f"{name}: expected what an earlier call returned under this name"
    refuse(model(case), TypeError, message, input_ids=IDS, **{name: thing})


@every_state
def test_what_a_model_with_other_layers_has_kept(model, case, name):
    kept = getattr(model(case)(input_ids=IDS, use_cache=True), name)
    message = f"{name}: expected keys and values of {len(kept)} layers, got {len(kept) + 1}"
    refuse(model(case), ValueError, message, input_ids=IDS, **{name: (*kept, kept[0])})


def test_what_was_kept_takes_room(model):
    call = model("causal_lm_cache")
    kept = call(input_ids=[[5] * 10]).past_key_values
    assert call(input_ids=[[5] * 4], past_key_values=kept).logits.shape == (1, 4, 29)
    refuse(call, ValueError, too_long("input_ids", 15), input_ids=[[5] * 5], past_key_values=kept)


def test_xlm_takes_the_whole_text_beside_what_was_kept(model):
    call = model("xlm/causal")
    kept = call(input_ids=IDS, use_cache=True).cache
    message = "input_ids: expected more than the 5 tokens in the cache, got 5"
    refuse(call, ValueError, message, input_ids=IDS, cache=kept)


@every_state
@pytest.mark.parametrize("use_cache", [False, True])
def test_keys_and_values_are_returned_where_they_are_asked_for(model, case, name, use_cache):
    kept = getattr(model(case)(input_ids=IDS, use_cache=use_cache), name)
    assert (kept is not None) == use_cache
    assert not use_cache or {x.shape[:3] for layer in kept for x in layer} == {(2, 3, 5)}


def test_an_encoder_keeps_nothing(model):
    assert model("model")(input_ids=IDS, use_cache=True).past_key_values is None


def test_use_cache_in_the_config_holds_where_the_call_says_nothing(model, checkpoint):
    assert model("causal_lm_cache")(input_ids=IDS).past_key_values is not None
    other = load(checkpoint("causal_lm_cache", config={"use_cache": False}))
    assert other(input_ids=IDS).past_key_values is None
    assert model("causal_lm_cache")(input_ids=IDS, labels=IDS).past_key_values is None


# --- what comes out -------------------------------------------------------------------------------


def test_outputs_hold_what_was_asked_for(model):
    call = model("model")
    plain = call(input_ids=IDS)
    given = {name for name, x in plain._asdict().items() if x is not None}
    assert given == {"last_hidden_state", "pooler_output"}
    full = call(input_ids=IDS, output_hidden_states=True, output_attentions=True)
    assert [x.shape for x in full.hidden_states] == [(2, 5, 12)] * 3
    assert [x.shape for x in full.attentions] == [(2, 3, 5, 5)] * 2
    assert_same(full.last_hidden_state, plain.last_hidden_state)
    assert_same(full.hidden_states[-1], plain.last_hidden_state)
    decoder = model("cross_attention")
    full = decoder(input_ids=IDS, encoder_hidden_states=EMBEDS[:, :3], output_attentions=True)
    assert {x.shape for x in full.attentions} == {(2, 3, 5, 5)}
    assert [x.shape for x in full.cross_attentions] == [(2, 3, 5, 3)] * len(full.attentions)
    assert decoder(input_ids=IDS, output_attentions=True).cross_attentions is None
    assert decoder(input_ids=IDS, encoder_hidden_states=EMBEDS).cross_attentions is None


def test_what_the_config_asks_for_holds_where_the_call_says_nothing(checkpoint):
    flags = {"output_hidden_states": True, "output_attentions": True}
    call = load(checkpoint("model", config=flags))
    assert call(input_ids=IDS).hidden_states is not None
    assert call(input_ids=IDS).attentions is not None
    assert call(input_ids=IDS, output_hidden_states=False).hidden_states is None
    assert call(input_ids=IDS, output_attentions=False).attentions is None


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("folder", find_goldens(), ids=case_name)
def test_every_float_has_the_dtype_of_the_model(model, folder, dtype):
    with record() as taps:
        outputs = model(folder, dtype)(**read_golden(folder).inputs())
    for name, x in {**taps, **flatten(outputs)}.items():
        whole = name.endswith(("position_ids", "_top_index"))
        assert to_numpy(x).dtype == ("int64" if whole else dtype), name


@pytest.mark.parametrize(("dtype", "name"), [("float64", "strict:device1"), ("float32", "strict")])
@pytest.mark.parametrize("folder", find_goldens(), ids=case_name)
def test_every_device_computes_the_same_bits(model, folder, dtype, name):
    inputs = read_golden(folder).inputs()
    with record() as expected:
        expected |= flatten(model(folder, dtype)(**inputs))
    with record() as taps:
        taps |= flatten(model(folder, dtype, name)(**inputs))
    assert list(taps) == list(expected)
    for tap, x in expected.items():
        assert taps[tap].device == get_backend(name).device
        assert_same(to_numpy(taps[tap]), x)
