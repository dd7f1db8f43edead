"""Decoding in parts, live: keys and values that a call keeps give the next call the same scores.

Drawn decoders of XLM-R, XLM-R-XL, X-MOD and XLM read a text at once, token by token and in parts
of random lengths. All of refimpl's ways must agree with the original's reading at once, and with
its reading in parts where that is right.
"""

import numpy
import pytest

from refimpl.backend import to_numpy
from tests.oracle.originals import (
    Draw,
    as_tensors,
    compare_all,
    load_ours,
    make_original,
    run_original,
    save,
)
from tests.oracle.test_live_families import FIRST, Lot, draw_adapters, draw_head_mask

pytestmark = pytest.mark.oracle

ROBERTAS = ("XLMRoberta", "XLMRobertaXL", "Xmod")
POSITIONS = ("absolute", "relative_key", "relative_key_query")
KINDS = [(f, p, c) for f in ROBERTAS for p in POSITIONS for c in ("alone", "cross")]
SEEDS = range(FIRST, FIRST + 4 * len(KINDS))
XLM_SEEDS = range(FIRST, FIRST + 24)


# --- the draws ------------------------------------------------------------------------------------


def draw_decoder(seed):
    """A decoder of each kind in turn, and a text. ``positions`` are given where there is padding:
    those that a call counts by itself pass over the padding of its own part only.
    """
    family, position_type, cross = KINDS[seed % len(KINDS)]
    lot = Lot(seed)
    heads, layers, length = lot.number(1, 3), lot.number(1, 3), lot.number(3, 9)
    pad = lot.number(0, 4)
    config = {
        "vocab_size": lot.number(7, 40),
        "hidden_size": heads * lot.number(6, 8),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": lot.number(6, 25),
        "max_position_embeddings": length + pad + 1 + lot.number(0, 3),
        "pad_token_id": pad,
        "position_embedding_type": position_type,
        "is_decoder": True,
        "add_cross_attention": cross == "cross",
    }
    if family == "Xmod":
        config |= draw_adapters(lot, config)
    shape = lot.number(1, 3), length
    ids = (pad + 1 + lot.ids(config["vocab_size"] - 1, shape)) % config["vocab_size"]
    inputs = {"input_ids": ids}
    if lot.happens(0.5):
        places = numpy.arange(length)
        starts = lot.ids(length, (shape[0], 1))
        mask = (places >= starts) if lot.happens(0.5) else lot.numbers.random(shape) < 0.7
        inputs["input_ids"] = numpy.where(mask, ids, pad)
        inputs["attention_mask"] = mask.astype("int64")
        inputs["position_ids"] = lot.ids(config["max_position_embeddings"], shape)
    if lot.happens(0.3):
        inputs["head_mask"] = draw_head_mask(lot, layers, heads)
    if family == "Xmod":
        inputs["lang_ids"] = lot.ids(len(config["languages"]), shape[0])
    if cross == "cross":
        size = (shape[0], lot.number(1, 5), config["hidden_size"])
        inputs["encoder_hidden_states"] = lot.numbers.standard_normal(size)
        if lot.happens(0.5):
            rows = shape if lot.happens(0.5) else shape[:1]
            mask = lot.numbers.random((*rows, size[1])) < 0.7
            inputs["encoder_attention_mask"] = mask.astype("int64")
    return Draw(family, "ForCausalLM", config, inputs), draw_parts(lot, length)


def draw_parts(lot, length):
    """Where to cut a text: into tokens, and by lot."""
    cuts = sorted(lot.rng.sample(range(1, length), lot.number(1, length - 1)))
    return {"tokens": [*range(1, length), length], "parts": [*cuts, length]}


def draw_causal_xlm(seed):
    lot = Lot(seed)
    heads, length = lot.number(1, 3), lot.number(3, 9)
    config = {
        "vocab_size": lot.number(9, 40),
        "emb_dim": heads * lot.number(6, 8),
        "n_layers": lot.number(1, 3),
        "n_heads": heads,
        "causal": True,
        "gelu_activation": lot.happens(0.5),
        "n_langs": lot.number(1, 4),
        "max_position_embeddings": length + lot.number(0, 3),
    }
    shape = lot.number(1, 3), length
    inputs = {"input_ids": lot.ids(config["vocab_size"], shape)}
    mask = lot.numbers.random(shape) < 0.7
    inputs["attention_mask"] = (mask | lot.happens(0.5)).astype("int64")
    if lot.happens(0.5):
        inputs["langs"] = lot.ids(config["n_langs"], shape)
    if lot.happens(0.5):
        inputs["position_ids"] = lot.ids(config["max_position_embeddings"], shape)
    if lot.happens(0.3):
        inputs["head_mask"] = draw_head_mask(lot, config["n_layers"], heads)
    return Draw("XLM", "WithLMHeadModel", config, inputs), draw_parts(lot, length)


# --- the ways to read a text ----------------------------------------------------------------------


def part_of(inputs, start, end):
    """A call's inputs for the tokens from ``start`` to ``end``, those before them being kept."""
    cut = {
        "input_ids": numpy.s_[:, start:end],
        "position_ids": numpy.s_[:, start:end],
        "attention_mask": numpy.s_[:, :end],
    }
    part = {name: x[cut[name]] if name in cut else x for name, x in inputs.items()}
    mask = part.get("encoder_attention_mask")
    if mask is not None and mask.ndim == 3:
        part["encoder_attention_mask"] = mask[:, start:end]
    return part


def spans(ends):
    return zip([0, *ends[:-1]], ends, strict=True)


def ours_in_parts(model, inputs, ends):
    """Return the scores of all places, and the keys and values after the last part."""
    past, logits = None, []
    for start, end in spans(ends):
        out = model(**part_of(inputs, start, end), past_key_values=past, use_cache=True)
        past = out.past_key_values
        logits.append(to_numpy(out.logits))
    return numpy.concatenate(logits, axis=1), past


def original_in_parts(model, inputs, ends):
    import torch

    past, logits = None, []
    for start, end in spans(ends):
        tensors = as_tensors(part_of(inputs, start, end))
        with torch.no_grad():
            out = model(**tensors, past_key_values=past, use_cache=True)
        past = out.past_key_values
        logits.append(out.logits.numpy())
    kept = [[x for x in layer if x is not None] for layer in past.to_legacy_cache()]
    return numpy.concatenate(logits, axis=1), [[x.numpy() for x in layer] for layer in kept]


def original_at_once(model, inputs):
    flags = {} if model.config.model_type == "xlm" else {"use_cache": False}
    return run_original(model, inputs | flags).outputs["logits"]


def assert_agrees(actual, expected):
    for verdict in compare_all({"logits": actual}, {"logits": expected}):
        assert verdict.ok, verdict


@pytest.fixture
def decoder(tmp_path):
    """A function: seed -> original, ours, inputs, the parts."""
    pytest.importorskip("transformers")

    def make(one, seed):
        original = make_original(one, seed)
        return original, load_ours(save(original, tmp_path))

    return make


# --- XLM-R, XLM-R-XL, X-MOD -----------------------------------------------------------------------


def describe(seed):
    return f"seed{seed}-{'-'.join(KINDS[seed % len(KINDS)])}"


each = pytest.mark.parametrize("seed", SEEDS, ids=describe)


@each
def test_reading_in_parts_is_reading_at_once(decoder, seed):
    one, parts = draw_decoder(seed)
    original, ours = decoder(one, seed)
    truth = original_at_once(original, one.inputs)
    at_once = to_numpy(ours(**one.inputs, use_cache=False).logits)
    assert_agrees(at_once, truth)
    # Padding before the first token may look at nothing: it looks at all keys alike, and in parts
    # these are fewer. No token looks at it.
    mask = one.inputs.get("attention_mask", numpy.ones(truth.shape[:2]))
    looks = mask.cumsum(axis=1) > 0
    for ends in (*parts.values(), [truth.shape[1]]):
        in_parts, _ = ours_in_parts(ours, one.inputs, ends)
        assert_agrees(in_parts[looks], at_once[looks])


@each
def test_reading_in_parts_agrees_with_the_originals(decoder, seed):
    one, parts = draw_decoder(seed)
    original, ours = decoder(one, seed)
    # Of relative positions the original gets right those of a single new token.
    absolute = one.config["position_embedding_type"] == "absolute"
    for ends in parts.values() if absolute else [parts["tokens"]]:
        expected, their_past = original_in_parts(original, one.inputs, ends)
        in_parts, past = ours_in_parts(ours, one.inputs, ends)
        assert_agrees(in_parts, expected)
        assert [len(layer) for layer in past] == [len(layer) for layer in their_past]
        for layer, theirs in zip(past, their_past, strict=True):
            for x, truth in zip(layer, theirs, strict=True):
                assert_agrees(to_numpy(x), truth)


@pytest.mark.parametrize("family", ROBERTAS)
def test_positions_counted_from_padding_agree_with_the_originals_in_parts(decoder, family):
    """Each part counts its own padding only, here and in the original: give positions instead."""
    seed = KINDS.index((family, "absolute", "alone"))
    one, _ = draw_decoder(seed)
    original, ours = decoder(one, seed)
    pad = one.config["pad_token_id"]
    inputs = {name: x for name, x in one.inputs.items() if name != "position_ids"}
    ids = inputs["input_ids"].copy()
    ids[0, 0] = pad
    inputs |= {"input_ids": ids, "attention_mask": (ids != pad).astype("int64")}
    ends = [2, ids.shape[1]]
    expected, _ = original_in_parts(original, inputs, ends)
    in_parts, _ = ours_in_parts(ours, inputs, ends)
    assert_agrees(in_parts, expected)
    with pytest.raises(AssertionError, match="DIFF"):
        assert_agrees(in_parts, original_at_once(original, inputs))


@pytest.mark.parametrize("kind", POSITIONS[1:])
@pytest.mark.parametrize("family", ROBERTAS)
def test_the_original_mistakes_relative_positions_where_it_keeps_a_prompt(decoder, family, kind):
    """transformers 4.57.6 takes the distance of the last query for all queries of a call with
    ``use_cache=True``. refimpl gives each its own: with a cache it is the original without one.
    """
    seed = KINDS.index((family, kind, "alone"))
    one, _ = draw_decoder(seed)
    original, ours = decoder(one, seed)
    whole = [one.inputs["input_ids"].shape[1]]
    without_cache = original_at_once(original, one.inputs)
    with_cache, _ = original_in_parts(original, one.inputs, whole)
    with pytest.raises(AssertionError, match="DIFF"):
        assert_agrees(with_cache, without_cache)
    ours_with_cache, _ = ours_in_parts(ours, one.inputs, whole)
    assert_agrees(ours_with_cache, without_cache)


# --- XLM ------------------------------------------------------------------------------------------


def xlm_part(inputs, end):
    """The inputs of the whole text up to ``end``: XLM itself leaves out what it keeps."""
    return {name: x if name == "head_mask" else x[:, :end] for name, x in inputs.items()}


def ours_of_xlm(model, inputs, ends):
    cache, logits = None, []
    for end in ends:
        out = model(**xlm_part(inputs, end), cache=cache, use_cache=True)
        cache = out.cache
        logits.append(to_numpy(out.logits))
    return numpy.concatenate(logits, axis=1)


def original_of_xlm(model, inputs, ends):
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    cache = {"cache": EncoderDecoderCache(DynamicCache(), DynamicCache())}
    runs = [run_original(model, xlm_part(inputs, end) | cache) for end in ends]
    return numpy.concatenate([run.outputs["logits"] for run in runs], axis=1)


@pytest.mark.parametrize("seed", XLM_SEEDS)
def test_a_causal_xlm_reads_in_parts(decoder, seed):
    one, parts = draw_causal_xlm(seed)
    original, ours = decoder(one, seed)
    truth = original_at_once(original, one.inputs)
    at_once = to_numpy(ours(**one.inputs).logits)
    assert_agrees(at_once, truth)
    for ends in (*parts.values(), [truth.shape[1]]):
        in_parts = ours_of_xlm(ours, one.inputs, ends)
        assert_agrees(in_parts, at_once)
        assert_agrees(in_parts, original_of_xlm(original, one.inputs, ends))


@pytest.mark.parametrize("seed", range(4))
def test_a_causal_xlm_reads_token_types_and_vectors_in_parts(decoder, seed):
    """The original does not cut these where it keeps keys and values, and fails."""
    one, parts = draw_causal_xlm(seed)
    original, ours = decoder(one, seed)
    lot, ids = Lot(seed), one.inputs["input_ids"]
    vectors = lot.numbers.standard_normal((*ids.shape, one.config["emb_dim"]))
    more = {"token_type_ids": lot.ids(one.config["vocab_size"], ids.shape)}
    rest = {name: x for name, x in one.inputs.items() if name != "input_ids"} | more
    for inputs in ({"input_ids": ids, **rest}, {"inputs_embeds": vectors, **rest}):
        truth = original_at_once(original, inputs)
        for ends in parts.values():
            assert_agrees(ours_of_xlm(ours, inputs, ends), truth)
