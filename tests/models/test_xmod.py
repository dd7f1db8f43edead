"""X-MOD: a text goes through the adapters of its language, and through no others."""

import re
from dataclasses import replace

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.models.model import ARCHITECTURES, load
from refimpl.models.xmod_languages import by_language
from refimpl.parity.goldens import bundled
from refimpl.taps import record
from tests.compare import assert_same
from tests.models.drawn import (
    assert_changes_nothing,
    build,
    in_order,
    tensors_of,
    with_tensors,
)

LANGUAGES = ("en_XX", "de_DE", "sw_KE", "fr_XX")
MODES = [
    {},
    {"pre_norm": True},
    {"adapter_layer_norm": True},
    {"adapter_reuse_layer_norm": False},
    {"ln_before_adapter": False},
    {"pre_norm": True, "adapter_layer_norm": True, "ln_before_adapter": False},
]
some = settings(max_examples=12)
modes = pytest.mark.parametrize("values", MODES, ids=lambda values: "-".join(values) or "plain")
IDS = numpy.random.default_rng(0).integers(3, 29, (6, 5))


def four(**values):
    return build("xmod", languages=LANGUAGES, **values)


def hidden(model, **inputs):
    return model(**inputs).last_hidden_state


of_texts = st.lists(st.integers(0, 3), min_size=1, max_size=6).map(numpy.asarray)


# --- which adapter --------------------------------------------------------------------------------


@modes
@some
@given(languages=of_texts)
def test_a_batch_of_many_languages_is_its_texts_one_by_one(values, languages):
    ids, model = IDS[: len(languages)], four(**values)

    def one_by_one():
        return numpy.concatenate(
            [hidden(model, input_ids=i, lang_ids=x) for i, x in zip(ids, languages, strict=True)]
        )

    assert_changes_nothing(lambda: hidden(model, input_ids=ids, lang_ids=languages), one_by_one)


@modes
@some
@given(languages=of_texts)
def test_the_language_of_a_text_may_be_given_for_each_token(values, languages):
    ids, model = IDS[: len(languages)], four(**values)
    each = numpy.broadcast_to(languages[:, None], ids.shape)
    assert_same(
        hidden(model, input_ids=ids, lang_ids=each),
        hidden(model, input_ids=ids, lang_ids=languages),
    )


@modes
@some
@given(languages=of_texts, data=st.data())
def test_adapters_of_other_languages_are_not_touched(values, languages, data):
    ids, model = IDS[: len(languages)], four(**values)
    changed = data.draw(st.integers(0, 3))
    module = f"adapter_modules.{LANGUAGES[changed]}."
    tensors = {name: x + 100.0 if module in name else x for name, x in tensors_of(model).items()}
    before = hidden(model, input_ids=ids, lang_ids=languages)
    after = hidden(with_tensors(model, tensors), input_ids=ids, lang_ids=languages)
    own = languages == changed
    assert_same(after[~own], before[~own])
    assert (after[own] != before[own]).any(axis=-1).all()


@modes
def test_adapters_of_other_languages_need_not_even_be_there(values):
    model = four(**values)
    tensors = {
        name: x
        for name, x in tensors_of(model).items()
        if "adapter_modules." not in name or "adapter_modules.de_DE." in name
    }
    ones = numpy.ones(6, int)
    alone = hidden(with_tensors(model, tensors), input_ids=IDS, lang_ids=ones)
    assert_same(alone, hidden(model, input_ids=IDS, lang_ids=ones))


@modes
@some
@given(
    languages=st.lists(st.integers(0, 3), min_size=5, max_size=5),
    place=st.integers(0, 4),
    other=st.integers(1, 3),
)
def test_in_one_layer_a_token_sees_its_own_language_only(values, languages, place, other):
    model = four(num_hidden_layers=1, **values)
    one = numpy.asarray([languages])
    two = one.copy()
    two[0, place] = (one[0, place] + other) % 4
    with in_order():
        differ = hidden(model, input_ids=IDS[:1], lang_ids=one) != hidden(
            model, input_ids=IDS[:1], lang_ids=two
        )
    assert differ.any(axis=-1).tolist() == [[i == place for i in range(5)]]


def test_each_adapter_runs_once_on_all_texts_of_its_language():
    with record() as taps:
        hidden(four(), input_ids=IDS, lang_ids=[2, 0, 2, 1, 0, 2])
    names = [name for name in taps if name.endswith("dense1")]
    assert names == [
        f"encoder.layer.{i}.output.adapter_modules.{language}.dense1"
        for i in range(2)
        for language in ("sw_KE", "en_XX", "de_DE")  # as they come in the batch
    ]
    assert [taps[name].shape[0] for name in names[:3]] == [3, 2, 1]


@given(languages=of_texts, tokens=st.booleans())
def test_rows_come_back_to_where_they_were(languages, tokens):
    x = numpy.arange(len(languages) * 6.0).reshape(-1, 3, 2)
    each = numpy.stack([languages, languages[::-1], languages], axis=1) if tokens else languages
    out = by_language(x, each, lambda language, rows: rows * 10.0**language)
    assert_same(out, x * 10.0 ** (each[..., None] if tokens else each[:, None, None]))


# --- the default language -------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_default_language_holds_where_a_call_names_none(language):
    model = four(default_language=language)
    place = LANGUAGES.index(language)
    assert_same(
        hidden(model, input_ids=IDS), hidden(model, input_ids=IDS, lang_ids=numpy.full(6, place))
    )
    other = numpy.full(6, (place + 1) % 4)
    plain = four()
    assert_same(
        hidden(model, input_ids=IDS, lang_ids=other), hidden(plain, input_ids=IDS, lang_ids=other)
    )


def test_no_language_and_no_default():
    message = (
        "lang_ids: expected the language of each text (a place in config.languages), or a "
        "default: model.set_default_language(...); got neither"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        four()(input_ids=IDS)


def test_one_language_is_no_default():
    with pytest.raises(ValueError, match=r"^lang_ids: "):  # as in the original
        build("xmod", languages=("en_XX",))(input_ids=IDS)


def test_a_default_language_is_set():
    model = replace(four())
    before = model.config
    model.set_default_language("sw_KE")
    assert model.config == replace(before, default_language="sw_KE")
    assert before.default_language is None
    expected = hidden(four(default_language="sw_KE"), input_ids=IDS)
    assert_same(hidden(model, input_ids=IDS), expected)


def test_a_default_language_that_the_model_does_not_speak():
    model = replace(four(default_language="en_XX"))
    message = "language: expected one of en_XX, de_DE, sw_KE, fr_XX, got 'de'"
    with pytest.raises(ValueError, match=f"^{message}$"):
        model.set_default_language("de")
    assert model.config.default_language == "en_XX"


@pytest.mark.parametrize("family", ["xlm", "xlm_roberta", "xlm_roberta_xl"])
def test_models_without_adapters_have_no_default_language(family):
    model = build(family)
    name = model.architecture
    with pytest.raises(ValueError, match=f"^set_default_language: {name} has no languages$"):
        model.set_default_language("en_XX")
    with pytest.raises(ValueError, match=f"^{name} has no language adapters$"):
        model.freeze_embeddings_and_language_adapters()


def test_choices_have_a_language_each():
    model = build("xmod", "XmodForMultipleChoice", languages=LANGUAGES)
    choices = IDS.reshape(2, 3, 5)
    lang_ids = numpy.asarray([[0, 1, 2], [3, 0, 1]])
    whole = model(input_ids=choices, lang_ids=lang_ids).logits
    for b, c in numpy.ndindex(2, 3):
        assert_changes_nothing(
            lambda b=b, c=c: (
                model(
                    input_ids=choices[b, c][None, None], lang_ids=lang_ids[b, c][None, None]
                ).logits
            ),
            lambda b=b, c=c: model(input_ids=choices, lang_ids=lang_ids).logits[b, c, None, None],
        )
    assert whole.shape == (2, 3)


# --- fine-tuning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [{}, {"adapter_layer_norm": True}])
def test_what_is_frozen_is_embeddings_and_adapters(values):
    frozen = four(**values).freeze_embeddings_and_language_adapters()
    expected = [
        f"embeddings.{part}_embeddings.weight" for part in ("word", "position", "token_type")
    ]
    expected += ["embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"]
    for i in range(2):
        output = f"encoder.layer.{i}.output"
        if values:
            expected += [f"{output}.adapter_layer_norm.{part}" for part in ("weight", "bias")]
        expected += [
            f"{output}.adapter_modules.{language}.{dense}.{part}"
            for language in LANGUAGES
            for dense in ("dense1", "dense2")
            for part in ("weight", "bias")
        ]
    assert frozen == expected


@pytest.mark.oracle
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name.startswith("Xmod")])
@pytest.mark.parametrize("adapter_layer_norm", [False, True])
def test_what_is_frozen_is_what_the_original_freezes(name, adapter_layer_norm):
    transformers = pytest.importorskip("transformers")
    ours = build("xmod", name, adapter_layer_norm=adapter_layer_norm)
    config = transformers.XmodConfig.from_pretrained(bundled() / "xmod" / "model")
    config.adapter_layer_norm = adapter_layer_norm
    original = getattr(transformers, name)(config)
    base = original if name == "XmodModel" else original.roberta
    if name == "XmodModel":
        # The original's method fails without a head: it looks for self.roberta. Its body is this.
        for part in (
            base.embeddings,
            *(
                module
                for layer in base.encoder.layer
                for module in (layer.output.adapter_layer_norm, layer.output.adapter_modules)
                if module is not None
            ),
        ):
            part.requires_grad_(False)
    else:
        original.freeze_embeddings_and_language_adapters()
    frozen = {n for n, p in original.named_parameters() if not p.requires_grad}
    # A matrix that is tied to the words is one parameter under two names.
    assert set(ours.freeze_embeddings_and_language_adapters()) == frozen


def test_a_published_shape_of_adapters(checkpoint):
    # Down to a half, and up again; one pair of layers for each language.
    model = load(checkpoint("xmod/model"))
    module = model.weights["encoder.layer.0.output.adapter_modules.de_DE"]
    assert module["dense1.weight"].shape == (6, 12)
    assert module["dense2.weight"].shape == (12, 6)
