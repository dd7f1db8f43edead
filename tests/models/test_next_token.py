"""Generation by the models of the family: caches, padding, languages, devices, refusals."""

import re

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.backend import get_backend, to_numpy
from refimpl.models.generation import GenerateOutput, Settings, log_softmax
from refimpl.models.model import ARCHITECTURES
from refimpl.models.next_token import of_last_place, reorder_cache
from tests.compare import assert_same, assert_ulps
from tests.models.drawn import OTHER_ORDER, build, tensors_of, vectors, with_tensors

some = settings(max_examples=8)
EN_DE = {"lang_ids": [1, 0]}
MODELS = {
    "xlm": ("xlm", "XLMWithLMHeadModel", {}),
    "xlm-causal": ("xlm", "XLMWithLMHeadModel", {"causal": True}),
    "xlm-adaptive": (
        "xlm",
        "XLMWithLMHeadModel",
        {"causal": True, "asm": True, "asm_cutoffs": (7, 15), "asm_div_value": 2.0},
    ),
    "xlm-no-lang": ("xlm", "XLMWithLMHeadModel", {"causal": True, "lang_id": None}),
    "xlm_roberta": ("xlm_roberta", "XLMRobertaForCausalLM", {"is_decoder": True}),
    "xlm_roberta-encoder": ("xlm_roberta", "XLMRobertaForCausalLM", {}),
    "xlm_roberta-relative": (
        "xlm_roberta",
        "XLMRobertaForCausalLM",
        {"is_decoder": True, "position_embedding_type": "relative_key_query"},
    ),
    "xlm_roberta_xl": ("xlm_roberta_xl", "XLMRobertaXLForCausalLM", {"is_decoder": True}),
    "xmod": ("xmod", "XmodForCausalLM", {"is_decoder": True, "pre_norm": True}),
}
every = pytest.mark.parametrize("name", MODELS)
CAUSAL = [name for name in MODELS if "is_decoder" in MODELS[name][2]]
causal = pytest.mark.parametrize("name", CAUSAL)
prompts = arrays("int64", st.tuples(st.just(2), st.integers(1, 4)), elements=st.integers(3, 28))
PROMPT = numpy.asarray([[3, 17, 5], [9, 28, 11]])


def make(name):
    family, architecture, values = MODELS[name]
    return build(family, architecture, **values)


def more(name):
    return EN_DE if name == "xmod" else {}


def end_of(model, prompt, place=1, **options):
    """Return the token that greedy search puts at a place of the first row."""
    return int(model.generate(prompt, max_new_tokens=6, eos_token_id=[], **options)[0, 3 + place])


# --- greedy and beams -----------------------------------------------------------------------------


def scores_by_hand(name, model, ids):
    """Return the scores of the next token, from one call as the original makes it."""
    if name.startswith("xlm-") or name == "xlm":
        ids = numpy.concatenate([ids, [[model.config.mask_token_id]] * len(ids)], axis=1)
        language = model.config.lang_id
        langs = {} if language is None else {"langs": numpy.full(ids.shape, language)}
        return model(input_ids=ids, **langs).logits[:, -1]
    first = 2 if name == "xlm_roberta_xl" else 0  # where positions begin
    positions = numpy.arange(ids.shape[1])[None] + first
    return model(input_ids=ids, position_ids=positions, **more(name)).logits[:, -1]


@every
@some
@given(prompt=prompts)
def test_greedy_is_a_loop_of_the_best_next_token(name, prompt):
    model = make(name)
    ids = prompt
    for _ in range(4):
        best = numpy.argmax(scores_by_hand(name, model, ids), axis=1)
        ids = numpy.concatenate([ids, best[:, None]], axis=1)
    out = model.generate(prompt, max_new_tokens=4, eos_token_id=[], **more(name))
    assert out.dtype == numpy.int64
    assert_same(out, ids)


@every
@pytest.mark.parametrize("num_beams", [1, 3])
@some
@given(prompt=prompts)
def test_a_cache_changes_no_token(name, num_beams, prompt):
    model = make(name)
    options = {
        "max_new_tokens": 6,
        "num_beams": num_beams,
        "num_return_sequences": num_beams,
        "eos_token_id": [7, 12],
        "return_dict_in_generate": True,
        **more(name),
    }
    with_cache = model.generate(prompt, use_cache=True, **options)
    without = model.generate(prompt, use_cache=False, **options)
    assert isinstance(with_cache, GenerateOutput)
    assert_same(with_cache.sequences, without.sequences)


@every
def test_beams_are_scored_by_the_model(name):
    model = make(name)
    options = {"max_new_tokens": 3, "num_beams": 4, "num_return_sequences": 4, "eos_token_id": []}
    out = model.generate(PROMPT, return_dict_in_generate=True, **options, **more(name))
    assert out.sequences.shape == (8, 6)
    for beam in range(4):
        rows = out.sequences[[beam, 4 + beam]]  # one of either text
        totals = numpy.zeros(2)
        for end in range(3, 6):
            scores = log_softmax(scores_by_hand(name, model, rows[:, :end]))
            totals += scores[[0, 1], rows[:, end]]
        # Sums of three logarithms, and the rounding that a cache makes (see test_families.py).
        actual = out.sequences_scores[[beam, 4 + beam]]
        assert_ulps(actual, totals / 3, ulps=OTHER_ORDER, of=max(1.0, numpy.abs(totals).max()))


@every
@pytest.mark.parametrize("where", ["strict", "strict:device1"])
@pytest.mark.parametrize("num_beams", [1, 2])
def test_every_device_writes_the_same(name, where, num_beams):
    model = make(name)
    device = get_backend(where)
    tensors = {n: device.asarray(x) for n, x in tensors_of(model).items()}
    other = with_tensors(model, tensors)
    other.backend = device
    options = {"max_new_tokens": 4, "num_beams": num_beams, "return_dict_in_generate": True}
    expected = model.generate(PROMPT, **options, **more(name))
    actual = other.generate(device.asarray(PROMPT), **options, **more(name))
    assert_same(actual.sequences, expected.sequences)
    assert num_beams == 1 or (actual.sequences_scores == expected.sequences_scores).all()


@every
def test_float16_is_summed_in_float32(name):
    family, architecture, values = MODELS[name]
    model = build(family, architecture, dtype="float16", **values)
    out = model.generate(
        PROMPT, max_new_tokens=3, num_beams=2, return_dict_in_generate=True, **more(name)
    )
    assert out.sequences_scores.dtype == numpy.float64
    logits = numpy.zeros((1, 2, 70_000), "float16")  # float16 ends at 65,504
    scores = of_last_place(logits)
    assert scores.dtype == numpy.float32
    assert of_last_place(logits.astype("float64")).dtype == numpy.float64


# --- ends -----------------------------------------------------------------------------------------


@every
def test_a_text_ends_and_padding_follows(name):
    model = make(name)
    free = model.generate(PROMPT, max_new_tokens=5, eos_token_id=[], **more(name))
    end = int(free[0, 4])
    out = model.generate(PROMPT, max_new_tokens=5, eos_token_id=end, **more(name))
    for row, open_ in zip(out, free, strict=True):
        ends = numpy.flatnonzero(open_[3:] == end)
        stop = 4 + ends[0] if len(ends) else 8
        assert_same(row[:stop], open_[:stop])
        assert (row[stop:] == model.config.pad_token_id).all()
    options = {"max_new_tokens": 5, "eos_token_id": end, "pad_token_id": 13}
    out = model.generate(PROMPT[:1], **options, **({"lang_ids": [1]} if name == "xmod" else {}))
    assert out[0, -1] == end  # nothing is left to pad


@every
def test_how_long_a_text_may_become(name):
    model = make(name)
    for options in (
        {"max_length": 8},
        {"max_new_tokens": 5},
        {"max_new_tokens": 5, "max_length": 4},
    ):
        out = model.generate(PROMPT, eos_token_id=[], **options, **more(name))
        assert out.shape == (2, 8)
    end = end_of(model, PROMPT, **more(name))
    out = model.generate(PROMPT, max_length=8, min_length=8, eos_token_id=end, **more(name))
    assert not (out[:, 3:7] == end).any()


def test_the_end_is_the_configs_unless_it_is_given():
    model = build("xlm_roberta", "XLMRobertaForCausalLM", is_decoder=True)
    end = end_of(model, PROMPT)
    with_end = build(
        "xlm_roberta",
        "XLMRobertaForCausalLM",
        eos_token_id=end,
        is_decoder=True,
    )
    expected = model.generate(PROMPT, max_new_tokens=5, eos_token_id=end)
    assert (expected[0, 5:] == 1).all()
    assert_same(with_end.generate(PROMPT, max_new_tokens=5), expected)


def test_without_a_padding_id_the_end_is_the_padding():
    model = build("xlm", "XLMWithLMHeadModel", causal=True, pad_token_id=None)
    for prompt in numpy.random.default_rng(0).integers(3, 29, (50, 2, 3)):
        one, other = model.generate(prompt, max_new_tokens=5)[:, 3:].tolist()
        if one[0] not in other:
            break
    out = model.generate(prompt, max_new_tokens=5, eos_token_id=[one[0], 4])
    assert (out[0, 3:] == one[0]).all()
    assert_same(out[1, 3:], numpy.asarray(other)[: out.shape[1] - 3])


# --- inputs ---------------------------------------------------------------------------------------


@causal
@pytest.mark.parametrize("num_beams", [1, 2])
@some
@given(prompt=prompts, padding=st.integers(1, 3))
def test_padding_before_a_prompt_changes_nothing(name, num_beams, prompt, padding):
    model = make(name)
    options = {"max_new_tokens": 4, "num_beams": num_beams, "eos_token_id": [7], **more(name)}
    padded = numpy.pad(prompt, ((0, 0), (padding, 0)), constant_values=1)
    expected = model.generate(prompt, **options)
    out = model.generate(padded, **options)
    assert_same(out[:, padding:], expected)
    given_ = model.generate(padded, attention_mask=padded != 1, **options)
    assert_same(given_, out)


@causal
def test_a_mask_holds(name):
    model = make(name)
    mask = [[0, 1, 1], [0, 0, 1]]
    options = {"max_new_tokens": 4, "eos_token_id": [], **more(name)}
    others = PROMPT.copy()
    others[0, 0], others[1, :2] = 4, 6
    kept = model.generate(PROMPT, attention_mask=mask, **options)[:, 3:]
    assert_same(model.generate(others, attention_mask=mask, **options)[:, 3:], kept)
    assert (model.generate(others, **options)[:, 3:] != kept).any()


def test_every_text_is_written_in_its_language():
    model = make("xmod")
    options = {"max_new_tokens": 5, "eos_token_id": []}
    same = numpy.repeat(PROMPT[:1], 2, axis=0)
    out = model.generate(same, lang_ids=[0, 1], **options)
    assert (out[0] != out[1]).any()
    for i in (0, 1):
        assert_same(model.generate(same[:1], lang_ids=[i], **options)[0], out[i])
        assert_same(model.generate(same[0], lang_ids=i, **options)[0], out[i])
    beams = model.generate(same, lang_ids=[0, 1], num_beams=2, num_return_sequences=2, **options)
    for i in (0, 1):
        alone = model.generate(
            same[:1], lang_ids=[i], num_beams=2, num_return_sequences=2, **options
        )
        assert_same(beams[2 * i : 2 * i + 2], alone)
    with pytest.raises(ValueError, match=r"^lang_ids: expected the language of each text"):
        model.generate(same, **options)


def test_a_default_language_is_written():
    values = {"is_decoder": True, "pre_norm": True, "default_language": "de_DE"}
    model = build("xmod", "XmodForCausalLM", **values)
    expected = make("xmod").generate(PROMPT, lang_ids=[1, 1], max_new_tokens=4)
    assert_same(model.generate(PROMPT, max_new_tokens=4), expected)


def test_an_encoder_is_looked_at():
    values = {"is_decoder": True, "add_cross_attention": True}
    model = build("xlm_roberta", "XLMRobertaForCausalLM", **values)
    states, mask = vectors((2, 4), 3), numpy.asarray([[1, 1, 0, 1], [0, 1, 1, 1]])
    options = {"max_new_tokens": 5, "num_beams": 2, "num_return_sequences": 2, "eos_token_id": []}
    encoded = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
    out = model.generate(PROMPT, **encoded, **options)
    assert_same(model.generate(PROMPT, **encoded, use_cache=False, **options), out)
    for i in range(2):
        alone = {key: x[i : i + 1] for key, x in encoded.items()}
        assert_same(model.generate(PROMPT[i : i + 1], **alone, **options), out[2 * i : 2 * i + 2])
    others = numpy.where(mask[:, :, None], states, 9.0)
    encoded["encoder_hidden_states"] = others
    assert_same(model.generate(PROMPT, **encoded, **options), out)
    assert (model.generate(PROMPT, **options) != out).any()


def test_xlm_writes_in_the_language_of_its_config():
    one, other = (build("xlm", "XLMWithLMHeadModel", causal=True, lang_id=i) for i in (0, 3))
    options = {"max_new_tokens": 6, "eos_token_id": []}
    assert (one.generate(PROMPT, **options) != other.generate(PROMPT, **options)).any()


@every
def test_one_prompt_needs_no_batch_axis(name):
    model = make(name)
    tongue = {"lang_ids": [1]} if name == "xmod" else {}
    one = model.generate(PROMPT[0].tolist(), max_new_tokens=3, **tongue)
    assert_same(one, model.generate(PROMPT[:1], max_new_tokens=3, **tongue))


@every
def test_a_prompt_is_not_changed(name):
    prompt = PROMPT.copy()
    make(name).generate(prompt, max_new_tokens=2, num_beams=2, **more(name))
    assert_same(prompt, PROMPT)


# --- sampling -------------------------------------------------------------------------------------


@every
def test_samples_of_a_model(name):
    model = make(name)
    options = {"max_new_tokens": 6, "do_sample": True, "num_return_sequences": 3, **more(name)}
    out = model.generate(PROMPT, seed=1, **options)
    assert out.shape[0] == 6
    assert_same(out[:, :3], PROMPT.repeat(3, axis=0))
    assert_same(model.generate(PROMPT, seed=1, use_cache=False, **options), out)
    assert (model.generate(PROMPT, seed=1, top_k=1, **options)[::3]
            == model.generate(PROMPT, max_new_tokens=6, **more(name))).all()  # fmt: skip


# --- what was kept --------------------------------------------------------------------------------


def test_rows_of_what_was_kept(backend):
    device = get_backend(backend)
    x = numpy.arange(24.0).reshape(3, 2, 2, 2)
    kept = tuple(tuple(device.asarray(x + 100 * i + 10 * j) for j in range(2)) for i in range(2))
    rows = numpy.asarray([2, 0, 0])
    out = reorder_cache(kept, rows)
    for i in range(2):
        for j in range(2):
            assert out[i][j].device == device.device
            assert_same(to_numpy(out[i][j]), x[rows] + 100 * i + 10 * j)
    assert reorder_cache(None, rows) is None


# --- what is refused ------------------------------------------------------------------------------

SILENT = [name for name in ARCHITECTURES
          if not name.endswith("ForCausalLM") and name != "XLMWithLMHeadModel"]  # fmt: skip


@pytest.mark.parametrize("architecture", SILENT)
def test_a_class_that_does_not_generate(architecture):
    families = {"XLMRobertaXL": "xlm_roberta_xl", "XLMRoberta": "xlm_roberta", "Xmod": "xmod"}
    family = next((x for start, x in families.items() if architecture.startswith(start)), "xlm")
    model = build(family, architecture)
    message = (
        "generate: expected a class that generates (...ForCausalLM, XLMWithLMHeadModel), "
        f"got {architecture}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        model.generate(PROMPT)


def test_all_classes_are_known():
    assert len(ARCHITECTURES) - len(SILENT) == 4


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens: expected at least 1, got 0"),
        ({"max_new_tokens": "3"}, ValueError, "max_new_tokens: expected at least 1, got '3'"),
        ({"max_length": 3}, ValueError,
         "max_length: expected more than the prompt's 3 tokens, got 3"),
        ({"num_beams": 0}, ValueError, "num_beams: expected at least 1, got 0"),
        ({"temperature": 0.0}, ValueError, "temperature: expected a number above 0, got 0.0"),
        ({"eos_token_id": 29}, ValueError, "eos_token_id: expected ids from 0 to 28, got 29"),
        ({"eos_token_id": [2, -1]}, ValueError, "eos_token_id: expected ids from 0 to 28, got -1"),
        ({"eos_token_id": "2"}, ValueError, "eos_token_id: expected ids from 0 to 28, got '2'"),
        ({"pad_token_id": 29}, ValueError, "pad_token_id: expected ids from 0 to 28, got 29"),
        ({"pad_token_id": 1.5}, ValueError, "pad_token_id: expected ids from 0 to 28, got 1.5"),
        ({"attention_mask": [[1, 1], [1, 1]]}, ValueError,
         "attention_mask: expected shape (B=2, S=3), got (2, 2)"),
        ({"attention_mask": [[1, 1, 2], [1, 1, 1]]}, ValueError,
         "attention_mask: expected only 0 and 1, got 2"),
        ({"lang_ids": [0]}, ValueError, "lang_ids: expected a row for each of 2 texts, got 1"),
        ({"lang_ids": 0}, ValueError, "lang_ids: expected a row for each of 2 texts, got 1"),
        ({"lang_ids": [0, 2]}, ValueError, "lang_ids: expected ids from 0 to 1, got 2"),
    ],
)  # fmt: skip
def test_an_option_that_does_not_fit_the_model(options, error, message):
    options = {"lang_ids": [0, 1], **options}
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make("xmod").generate(PROMPT, **options)


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ([[3, 29, 5]], ValueError, "input_ids: expected ids from 0 to 28, got 29"),
        ([[3.0, 4.0]], TypeError, "input_ids: expected integers, got float64"),
        ([[]], ValueError, "input_ids: expected at least one element, got shape (1, 0)"),
        ([[1, 2], [3]], ValueError,
         "input_ids: expected rows of one length, got a ragged list (texts need padding=True)"),
        ([[[3]]], ValueError, "input_ids: expected shape (B, S), got (1, 1, 1)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("num_beams", [1, 2])
@every
def test_a_prompt_that_is_none(name, num_beams, prompt, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make(name).generate(prompt, num_beams=num_beams)


KNOWN = ", ".join(["max_new_tokens", "use_cache", "return_dict_in_generate",
                   *Settings.__annotations__])  # fmt: skip


@pytest.mark.parametrize("option", ["top_q", "langs", "position_ids", "labels", "past_key_values"])
@every
def test_an_option_that_there_is_not(name, option):
    model = make(name)
    per_text = "lang_ids, encoder_hidden_states, encoder_attention_mask, "
    takes = "attention_mask, " + ("" if model.architecture.startswith("XLMWith") else per_text)
    message = f"generate: {model.architecture} takes no {option!r}; it takes {takes}{KNOWN}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        model.generate(PROMPT, **{option: [[1, 1, 1], [1, 1, 1]]})


@every
def test_none_is_as_absent(name):
    model = make(name)
    nothing = dict.fromkeys(["attention_mask", "num_beams", "temperature", "seed", "pad_token_id"])
    options = {"max_new_tokens": 3, **more(name)}
    assert_same(model.generate(PROMPT, **nothing, **options), model.generate(PROMPT, **options))
