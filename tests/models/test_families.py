"""What all four architectures promise, in every mode they have.

Masks hide, padding and company change nothing, a decoder looks back only, and what an earlier call
kept makes no difference.
"""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.models.model import ARCHITECTURES
from tests.compare import assert_same
from tests.models.drawn import (
    VOCABULARY,
    assert_changes_nothing,
    build,
    texts,
    vectors,
    words,
)

sometimes = settings(max_examples=10)

MODES = {  # family -> modes, each by the values of its config
    "xlm": [{}],
    "xlm_roberta": [{}, {"position_embedding_type": "relative_key_query"}],
    "xlm_roberta_xl": [{}],
    "xmod": [{}, {"pre_norm": True, "adapter_layer_norm": True}],
}


def with_ids(modes):
    return [
        pytest.param(family, values, id="-".join([family, *map(str, values.values())]))
        for family, values in modes
    ]


ENCODERS = [(family, mode) for family, modes in MODES.items() for mode in modes]
DECODERS = [
    (family, {**mode, **({"causal": True} if family == "xlm" else {"is_decoder": True})})
    for family, mode in ENCODERS
]
CROSSED = [(f, {**v, "add_cross_attention": True}) for f, v in DECODERS if f != "xlm"]
encoders = pytest.mark.parametrize(("family", "values"), with_ids(ENCODERS))
decoders = pytest.mark.parametrize(("family", "values"), with_ids(DECODERS))
encoders_and_decoders = pytest.mark.parametrize(("family", "values"), with_ids(ENCODERS + DECODERS))
crossed = pytest.mark.parametrize(("family", "values"), with_ids(CROSSED))


def languages(family, ids):
    """Return the argument that says the languages: of each token in XLM, of each text in X-MOD."""
    if family == "xlm":
        return {"langs": ids % 4}
    return {"lang_ids": ids[:, 0] % 2} if family == "xmod" else {}


def hidden(model, **inputs):
    return model(**inputs).last_hidden_state


def looking(mask, values):
    """Return which places have something to look at; the others look at everything alike.

    In a decoder masked places before the first token have not.
    """
    decoder = {"causal", "is_decoder"} & set(values)
    return numpy.logical_or.accumulate(mask, axis=1) if decoder else numpy.ones_like(mask)


def cut(inputs, rows):
    """Return the inputs of some of the texts."""
    return {name: x[rows] for name, x in inputs.items()}


# --- masks ----------------------------------------------------------------------------------------


@encoders_and_decoders
@pytest.mark.parametrize("dtype", ["float64", "float16"])
@sometimes
@given(drawn=texts(), seed=st.integers(0, 9))
def test_what_is_masked_is_not_seen(family, values, dtype, drawn, seed):
    ids, mask = drawn
    others = numpy.random.default_rng(seed).integers(3, VOCABULARY, ids.shape)
    model, tongues = build(family, dtype=dtype, **values), languages(family, ids)
    seen = hidden(model, input_ids=ids, attention_mask=mask, **tongues)
    if family == "xlm":
        tongues["langs"] = numpy.where(mask, tongues["langs"], others % 4)
    ids = numpy.where(mask, ids, others)
    other = hidden(model, input_ids=ids, attention_mask=mask, **tongues)
    assert_same(other[mask], seen[mask])  # to the bit: its weight is 0, and x + 0 v is x


@encoders_and_decoders
@sometimes
@given(drawn=texts(), seed=st.integers(0, 9))
def test_what_is_not_masked_is_seen(family, values, drawn, seed):
    ids, mask = drawn
    model, tongues = build(family, **values), languages(family, ids)
    seen = hidden(model, input_ids=ids, attention_mask=mask, **tongues)
    text, place = numpy.argwhere(mask)[seed % mask.sum()]
    other = ids.copy()
    other[text, place] = 3 + (ids[text, place] - 2) % (VOCABULARY - 3)  # another word
    other = hidden(model, input_ids=other, attention_mask=mask, **tongues)
    changed = (other != seen).any(axis=-1)
    first = place if {"causal", "is_decoder"} & set(values) else 0
    # Every place of the text that may look at it: in XLM padding is zero.
    assert changed[text, first:][mask[text, first:] if family == "xlm" else ...].all()
    assert not changed[text, :first][looking(mask, values)[text, :first]].any()
    assert not numpy.delete(changed, text, axis=0).any()  # and no other text


# --- company and padding --------------------------------------------------------------------------


@encoders_and_decoders
@sometimes
@given(drawn=texts())
def test_a_batch_is_its_texts_one_by_one(family, values, drawn):
    ids, mask = drawn
    model = build(family, **values)
    inputs = {"input_ids": ids, "attention_mask": mask, **languages(family, ids)}

    def one_by_one():
        return numpy.concatenate([hidden(model, **cut(inputs, [i])) for i in range(len(ids))])

    assert_changes_nothing(lambda: hidden(model, **inputs), one_by_one)


@encoders_and_decoders
@sometimes
@given(drawn=texts(), seed=st.integers(0, 99))
def test_the_order_of_the_batch_is_no_matter(family, values, drawn, seed):
    ids, mask = drawn
    model = build(family, **values)
    inputs = {"input_ids": ids, "attention_mask": mask, **languages(family, ids)}
    order = numpy.random.default_rng(seed).permutation(len(ids))
    assert_changes_nothing(
        lambda: hidden(model, **cut(inputs, order)), lambda: hidden(model, **inputs)[order]
    )


@encoders_and_decoders
@pytest.mark.parametrize("side", ["right", "left", "inside"])
@sometimes
@given(drawn=texts(longest=7), padding=st.integers(1, 7), seed=st.integers(0, 99))
def test_padding_changes_no_token(family, values, side, drawn, padding, seed):
    if values.get("position_embedding_type") and side == "inside":
        return  # padding makes distances larger
    if values.get("causal"):
        return  # XLM's attention looks at what stands before, padding too: see test_xlm.py
    ids, mask = drawn
    length = ids.shape[1]
    somewhere = numpy.random.default_rng(seed).permutation(length + padding)[:length]
    places = {
        "right": numpy.arange(length),
        "left": numpy.arange(length) + padding,
        "inside": numpy.sort(somewhere),
    }[side]

    def widen(x, value):
        wide = numpy.full((len(x), length + padding), value)
        wide[:, places] = x
        return wide

    model = build(family, **values)
    pad = model.config.pad_token_id
    inputs = {"input_ids": ids, "attention_mask": mask, **languages(family, ids)}
    padded = {**inputs, "input_ids": widen(ids, pad), "attention_mask": widen(mask, False)}
    if family == "xlm":
        padded["langs"] = widen(inputs["langs"], 0)
        if side != "right":  # XLM numbers padding like tokens
            padded["position_ids"] = widen(numpy.arange(length)[None].repeat(len(ids), 0), 0)
    look = looking(mask, values)
    assert_changes_nothing(
        lambda: hidden(model, **padded)[:, places][look], lambda: hidden(model, **inputs)[look]
    )


# --- decoders -------------------------------------------------------------------------------------


@decoders
@sometimes
@given(drawn=texts(), data=st.data())
def test_a_later_token_changes_nothing_before_it(family, values, drawn, data):
    ids, mask = drawn
    first = data.draw(st.integers(0, ids.shape[1] - 1))
    model, tongues = build(family, **values), languages(family, ids)
    seen = hidden(model, input_ids=ids, attention_mask=mask, **tongues)
    other = ids.copy()
    other[:, first:] = data.draw(words)
    other = hidden(model, input_ids=other, attention_mask=mask, **tongues)
    look = looking(mask, values)[:, :first]
    assert_same(other[:, :first][look], seen[:, :first][look])


@decoders
@sometimes
@given(drawn=texts(longest=7))
def test_a_decoder_sees_nothing_of_a_longer_text(family, values, drawn):
    ids, _ = drawn
    model, tongues = build(family, **values), languages(family, ids)
    if family != "xlm":
        short = {"input_ids": ids[:, :1], **tongues}
    else:
        short = {"input_ids": ids[:, :1], "langs": tongues["langs"][:, :1]}
    assert_changes_nothing(
        lambda: hidden(model, input_ids=ids, **tongues)[:, :1], lambda: hidden(model, **short)
    )


def state_of(model):
    return ARCHITECTURES[model.architecture].state


def in_chunks(model, ends, **inputs):
    """Return the hidden states of a text that is given in pieces, and what the last call kept.

    XLM takes the whole text so far, the others only what is new.
    """
    state = state_of(model)
    kept, done, parts = None, 0, []
    for end in ends:
        first = 0 if state == "cache" else done
        piece = {}
        for name, x in inputs.items():
            if name in ("input_ids", "langs", "position_ids"):
                piece[name] = x[:, first:end]
            else:
                piece[name] = x[:, :end] if name == "attention_mask" else x
        out = model(**piece, use_cache=True, **{state: kept})
        parts.append(out.last_hidden_state)
        kept, done = getattr(out, state), end
    return numpy.concatenate(parts, axis=1), kept


@decoders
@pytest.mark.parametrize("masked", [False, True])
@sometimes
@given(drawn=texts(longest=7), data=st.data())
def test_a_text_in_pieces_is_the_text(family, values, masked, drawn, data):
    ids, mask = drawn
    length = ids.shape[1]
    ends = sorted(data.draw(st.sets(st.integers(1, length))) | {length})
    model = build(family, **values)
    inputs = {"input_ids": ids, **languages(family, ids)}
    look = numpy.ones_like(mask)
    if masked:
        inputs["attention_mask"], look = mask, looking(mask, values)
    for pieces in (ends, range(1, length + 1)):
        assert_changes_nothing(
            lambda pieces=pieces: in_chunks(model, pieces, **inputs)[0][look],
            lambda: hidden(model, **inputs)[look],
        )


@decoders
@sometimes
@given(drawn=texts(longest=7), data=st.data())
def test_what_is_kept_of_pieces_is_what_is_kept_of_the_text(family, values, drawn, data):
    ids, _ = drawn
    length = ids.shape[1]
    end = data.draw(st.integers(1, length))
    model = build(family, **values)
    inputs = {"input_ids": ids, **languages(family, ids)}

    def flat(kept):
        return numpy.stack([x for layer in kept for x in layer])

    of_text = getattr(model(**inputs, use_cache=True), state_of(model))
    assert flat(of_text).shape == (4, len(ids), 3, length, model.config.head_size)
    assert_changes_nothing(
        lambda: flat(in_chunks(model, sorted({end, length}), **inputs)[1]),
        lambda: flat(getattr(model(**inputs, use_cache=True), state_of(model))),
    )


@decoders
def test_attentions_reach_back_into_what_was_kept(family, values):
    model = build(family, **values)
    ids = numpy.arange(3, 13).reshape(2, 5)
    tongues = languages(family, ids)
    first = 0 if family == "xlm" else 3
    more = {name: x[:, first:] if name == "langs" else x for name, x in tongues.items()}

    def rest():
        _, kept = in_chunks(model, [3], input_ids=ids, **tongues)
        more[state_of(model)] = kept
        return model(input_ids=ids[:, first:], **more, output_attentions=True).attentions

    def whole():
        return model(input_ids=ids, **tongues, output_attentions=True).attentions

    for i in range(2):
        assert not numpy.triu(whole()[i], 1).any()
        assert rest()[i].shape == (2, 3, 2, 5)
        assert_changes_nothing(lambda i=i: rest()[i], lambda i=i: whole()[i][:, :, 3:])


# --- cross-attention ------------------------------------------------------------------------------

ENCODED = vectors((3, 4), 7)


@crossed
@sometimes
@given(drawn=texts(longest=7), seed=st.integers(1, 14))
def test_encoder_tokens_that_are_masked_are_not_seen(family, values, drawn, seed):
    ids, mask = drawn
    keep = numpy.asarray([[bool(seed & 1 << i) for i in range(4)]]).repeat(len(ids), 0)
    model, states = build(family, **values), ENCODED[: len(ids)]
    inputs = {"input_ids": ids, "attention_mask": mask, **languages(family, ids)}
    inputs["encoder_attention_mask"] = keep
    seen = hidden(model, **inputs, encoder_hidden_states=states)
    other = numpy.where(keep[:, :, None], states, 1e3 * states[:, ::-1])
    assert_same(hidden(model, **inputs, encoder_hidden_states=other), seen)
    other = numpy.where(keep[:, :, None], states + 0.5, states)
    changed = hidden(model, **inputs, encoder_hidden_states=other) != seen
    assert changed.any(axis=-1).all()  # every token sees what is not masked


@crossed
@sometimes
@given(drawn=texts(longest=5))
def test_no_mask_of_encoder_tokens_is_a_mask_of_ones(family, values, drawn):
    ids, _ = drawn
    model, states = build(family, **values), ENCODED[: len(ids)]
    inputs = {"input_ids": ids, **languages(family, ids), "encoder_hidden_states": states}
    expected = hidden(model, **inputs)
    for shape in ((len(ids), 4), (len(ids), ids.shape[1], 4)):
        ones = numpy.ones(shape, bool)
        assert_same(hidden(model, **inputs, encoder_attention_mask=ones), expected)


@crossed
@sometimes
@given(drawn=texts(longest=5))
def test_a_text_in_pieces_beside_an_encoder_is_the_text(family, values, drawn):
    ids, _ = drawn
    model, states = build(family, **values), ENCODED[: len(ids)]
    inputs = {"input_ids": ids, **languages(family, ids), "encoder_hidden_states": states}
    each = range(1, ids.shape[1] + 1)
    assert_changes_nothing(
        lambda: in_chunks(model, each, **inputs)[0], lambda: hidden(model, **inputs)
    )
    kept = model(**inputs, use_cache=True).past_key_values
    assert [x.shape[2] for x in kept[0]] == [ids.shape[1], ids.shape[1], 4, 4]


@crossed
def test_keys_and_values_of_the_encoder_are_computed_once(family, values):
    ids = numpy.arange(3, 13).reshape(2, 5)
    model, states = build(family, **values), ENCODED[:2]
    inputs = {"input_ids": ids, **languages(family, ids)}
    kept = model(**inputs, encoder_hidden_states=states, use_cache=True).past_key_values
    inputs["input_ids"] = ids[:, :2]
    again = hidden(model, **inputs, encoder_hidden_states=states, past_key_values=kept)
    nothing = numpy.full_like(states, numpy.nan)  # is not looked at
    other = hidden(model, **inputs, encoder_hidden_states=nothing, past_key_values=kept)
    assert_same(other, again)


@crossed
def test_a_decoder_without_an_encoder_is_one_that_has_none(family, values):
    ids = numpy.arange(3, 13).reshape(2, 5)
    inputs = {"input_ids": ids, **languages(family, ids)}
    plain = {name: x for name, x in values.items() if name != "add_cross_attention"}
    assert_same(hidden(build(family, **values), **inputs), hidden(build(family, **plain), **inputs))
