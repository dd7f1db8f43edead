"""Generation against the original's ``generate``, live: the same ids, token for token.

Greedy and beam search of drawn models, prompts and options, in float64. Sampling draws from another
random number generator, so there the probabilities that tokens are drawn with are compared.
"""

import contextlib
from functools import cache
from unittest import mock

import numpy
import pytest

from refimpl.models import generation
from tests.oracle.originals import (
    FAMILIES,
    Draw,
    as_tensors,
    compare_all,
    load_ours,
    make_original,
    save,
)
from tests.oracle.test_live_families import FIRST, Lot, draw_adapters

pytestmark = pytest.mark.oracle

DRAWS = 240
SEEDS = range(FIRST, FIRST + DRAWS)
ROOM = 40  # positions: more than any text gets long
EAGER = (0.0, 6.0, 10.0)  # how much a model wants to end: added to the scores of end tokens


# --- the draws ------------------------------------------------------------------------------------


def draw(seed):
    """A language model of each family in turn; a Draw whose inputs are the options of generate."""
    family, lot = FAMILIES[seed % len(FAMILIES)], Lot(seed)
    one = (draw_xlm if family == "XLM" else draw_roberta)(lot, family)
    one.inputs.update(draw_options(lot, one))
    return one


def draw_xlm(lot, family):
    heads, pad = lot.number(1, 3), 2
    config = {
        "vocab_size": lot.number(12, 40),
        "emb_dim": heads * lot.number(6, 8),
        "n_layers": lot.number(1, 2),
        "n_heads": heads,
        "causal": lot.happens(0.5),
        "n_langs": 4,
        "max_position_embeddings": ROOM,
        "pad_index": pad,
        "pad_token_id": pad,
        "lang_id": lot.one_of(None, 0, 3),
        "mask_token_id": lot.one_of(0, 5),
        "eos_token_id": lot.one_of(None, 1, 1),
    }
    return Draw(family, "WithLMHeadModel", config, {"input_ids": draw_prompt(lot, config, pad)})


def draw_roberta(lot, family):
    heads, pad = lot.number(1, 3), lot.one_of(1, 3)
    config = {
        "vocab_size": lot.number(12, 40),
        "hidden_size": heads * lot.number(6, 8),
        "num_hidden_layers": lot.number(1, 2),
        "num_attention_heads": heads,
        "intermediate_size": lot.number(6, 25),
        "max_position_embeddings": ROOM,
        "pad_token_id": pad,
        "eos_token_id": 2,
        "is_decoder": lot.happens(0.8),
        "position_embedding_type": lot.one_of("absolute", "absolute", "relative_key"),
    }
    if family == "Xmod":
        config |= draw_adapters(lot, config)
    inputs = {"input_ids": draw_prompt(lot, config, pad)}
    ids = inputs["input_ids"]
    if lot.happens(0.5):
        inputs["attention_mask"] = (ids != pad).astype("int64")
    if family == "Xmod" and (config["default_language"] is None or lot.happens(0.5)):
        inputs["lang_ids"] = lot.ids(len(config["languages"]), len(ids))
    if config["is_decoder"] and lot.happens(0.2):
        config["add_cross_attention"] = True
        size = (len(ids), lot.number(1, 4), config["hidden_size"])
        inputs["encoder_hidden_states"] = lot.numbers.standard_normal(size)
    return Draw(family, "ForCausalLM", config, inputs)


def draw_prompt(lot, config, pad):
    """Ids without padding, or with some on the left."""
    shape = lot.number(1, 3), lot.number(1, 6)
    ids = 5 + lot.ids(config["vocab_size"] - 5, shape)
    if lot.happens(0.4):
        starts = lot.ids(shape[1], (shape[0], 1))
        ids = numpy.where(numpy.arange(shape[1]) >= starts, ids, pad)
    return ids


def draw_options(lot, one):
    length = one.inputs["input_ids"].shape[1]
    most = lot.number(length + 1, 24)
    options = {"max_length": most} if lot.happens(0.5) else {"max_new_tokens": most - length}
    if lot.happens(0.3):
        options["min_length"] = lot.number(1, most)
    if lot.happens(0.4):
        options["repetition_penalty"] = lot.one_of(0.8, 1.2, 1.5)
    if lot.happens(0.3):
        options["eos_token_id"] = lot.one_of(2, [2, 7], [one.config["pad_token_id"], 4, 6])
    if lot.happens(0.2):
        options["pad_token_id"] = 4  # for 0 the original's beam search takes the end token
    # XLM drops as many places as there is padding, its mask token first: all texts get the same
    # scores, and beams tie.
    ties = one.family == "XLM" and (one.inputs["input_ids"] == one.config["pad_index"]).any()
    if lot.happens(0.6) and not ties:
        beams = options["num_beams"] = lot.number(2, 5)
        options["num_return_sequences"] = lot.number(1, beams)
        options["length_penalty"] = lot.one_of(1.0, 0.0, 2.0, 0.5, -0.5, -2.0)
        options["early_stopping"] = lot.one_of(False, True, "never")
    return options


def ends(one):
    """The tokens at which the draw's texts end."""
    ids = one.inputs.get("eos_token_id", one.config["eos_token_id"])
    return [] if ids is None else [ids] if isinstance(ids, int) else ids


# --- the two runs ---------------------------------------------------------------------------------


@contextlib.contextmanager
def float64_stays():
    """The original's generate, and XLM's softmax, cast to float32 whatever the model's dtype."""
    import torch

    from golden.make import record

    plain = torch.Tensor.to

    def to(self, *args, **kwargs):
        if self.dtype == torch.float64 and kwargs.get("dtype") == torch.float32:
            kwargs["dtype"] = torch.float64
        return plain(self, *args, **kwargs)

    with record._float64_stays(), mock.patch.object(torch.Tensor, "to", to):
        yield


def make_eager_to_end(model, one, seed):
    """Raise the scores of the end tokens in two draws of three; and let XLM generate no padding."""
    scores = model.get_output_embeddings().bias.data
    scores[ends(one)] += EAGER[seed % 3]
    if one.family == "XLM":
        scores[one.config["pad_index"]] -= 50.0


def generate_by_original(model, one):
    """Its ids, and the beams' scores where there are beams.

    With a cache it is right only in a decoder (any other would look at later tokens anew), only
    about absolute positions, and without an encoder's states: their keys and values land among the
    text's own.
    """
    import torch

    absolute = one.config.get("position_embedding_type") == "absolute"
    alone = "encoder_hidden_states" not in one.inputs
    right = one.config.get("is_decoder") and absolute and alone
    options = as_tensors(one.inputs)
    with torch.no_grad(), float64_stays():
        out = model.generate(
            **options,
            do_sample=False,
            use_cache=bool(right),
            return_dict_in_generate=True,
            output_scores=True,
        )
    scores = getattr(out, "sequences_scores", None)
    return out.sequences.numpy(), None if scores is None else scores.numpy()


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A function: seed -> the draw, our model, and the original's ids and scores."""
    pytest.importorskip("transformers")

    def make(seed):
        one = draw(seed)
        original = make_original(one, seed)
        make_eager_to_end(original, one, seed)
        ours = load_ours(save(original, tmp_path_factory.mktemp("draw")))
        return one, ours, *generate_by_original(original, one)

    return cache(make)


def describe(seed):
    return f"seed{seed}-{FAMILIES[seed % len(FAMILIES)]}"


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no_cache"])
@pytest.mark.parametrize("seed", SEEDS, ids=describe)
def test_ids_are_the_originals_token_for_token(generated, seed, use_cache):
    one, ours, ids, scores = generated(seed)
    out = ours.generate(**one.inputs, use_cache=use_cache, return_dict_in_generate=True)
    numpy.testing.assert_array_equal(out.sequences, ids)
    assert (out.sequences_scores is None) == (scores is None)
    if scores is not None:
        # A log-probability errs by ulps of the scores that it is made from, even where it is
        # nearly 0: no score is taken to be smaller than 1 over the power of its length.
        size = max(1.0, float(ids.shape[1]) ** -one.inputs["length_penalty"])
        actual, expected = numpy.append(out.sequences_scores, size), numpy.append(scores, size)
        verdict = next(compare_all({"scores": actual}, {"scores": expected}))
        assert verdict.ok, verdict


# --- the draws ------------------------------------------------------------------------------------


def test_texts_end_at_an_end_token_in_a_good_part_of_the_draws(generated):
    ended = []
    for seed in SEEDS:
        one, _, ids, _ = generated(seed)
        new = ids[:, one.inputs["input_ids"].shape[1] :]
        ended.append(numpy.isin(new, ends(one)).any(axis=1))
    rows = numpy.concatenate(ended)
    assert 0.3 < rows.mean() < 0.9
    assert sum(0 < of_draw.mean() < 1 for of_draw in ended) > DRAWS // 20  # some rows only


def test_the_draws_leave_no_option_out():
    draws = [draw(seed) for seed in range(DRAWS)]
    options = [one.inputs for one in draws]
    assert {name for given in options for name in given} == {
        "input_ids", "attention_mask", "lang_ids", "encoder_hidden_states", "max_length",
        "max_new_tokens", "min_length", "repetition_penalty", "eos_token_id", "pad_token_id",
        "num_beams", "num_return_sequences", "length_penalty", "early_stopping",
    }  # fmt: skip
    for family in FAMILIES:
        given = [one.inputs for one in draws if one.family == family]
        assert {x["num_beams"] for x in given if "num_beams" in x} == {2, 3, 4, 5}
        assert {x["early_stopping"] for x in given if "num_beams" in x} == {False, True, "never"}
        penalties = {numpy.sign(x["length_penalty"]) for x in given if "num_beams" in x}
        assert penalties == {-1.0, 0.0, 1.0}
        assert any("num_beams" not in x for x in given)
        kept = [one.config for one in draws if one.family == family]
        padded = [c for c, x in zip(kept, given, strict=True)
                  if (x["input_ids"] == c["pad_token_id"]).any()]  # fmt: skip
        assert padded
    xlm = [one.config for one in draws if one.family == "XLM"]
    for key, values in {"causal": {True, False}, "lang_id": {None, 0, 3}, "mask_token_id": {0, 5},
                        "eos_token_id": {None, 1}}.items():  # fmt: skip
        assert {config[key] for config in xlm} == values, key


# --- sampling -------------------------------------------------------------------------------------


ROWS, WORDS = 6, 50


def random_scores(seed):
    numbers = numpy.random.default_rng(seed)
    scores = numbers.standard_normal((ROWS, WORDS)) * numbers.uniform(0.1, 20, (ROWS, 1))
    return scores, numbers.integers(0, WORDS, (ROWS, 8))


def processed(kind, scores, ids, *args):
    """What a class of transformers' makes of scores."""
    torch = pytest.importorskip("torch")
    import transformers

    process = getattr(transformers, kind)(*args)
    return process(torch.tensor(ids), torch.tensor(scores)).numpy()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("k", [1, 2, 7, 49, 50, 80])
def test_top_k_is_the_originals(seed, k):
    scores, ids = random_scores(seed)
    scores[0] = numpy.round(scores[0])  # equals of the last stay
    expected = processed("TopKLogitsWarper", scores, ids, k)
    numpy.testing.assert_array_equal(generation.keep_top_k(scores, k), expected, strict=True)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_top_p_is_the_originals(seed, p):
    scores, ids = random_scores(seed)
    scores[1, ::3] = -numpy.inf  # as top_k leaves them
    expected = processed("TopPLogitsWarper", scores, ids, p)
    numpy.testing.assert_array_equal(generation.keep_top_p(scores, p), expected, strict=True)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.2, 3.0])
def test_the_repetition_penalty_is_the_originals(seed, penalty):
    scores, ids = random_scores(seed)
    expected = processed("RepetitionPenaltyLogitsProcessor", scores, ids, penalty)
    actual = generation.penalize_repetition(scores, ids, penalty)
    numpy.testing.assert_array_equal(actual, expected, strict=True)


@pytest.mark.parametrize("eos", [(), (3,), (0, 7, 49)])
@pytest.mark.parametrize("least", [0, 7, 8, 9])
def test_the_least_length_is_the_originals(least, eos):
    scores, ids = random_scores(least)
    settings = generation.Settings(min_length=least, eos_token_id=eos)
    expected = scores
    if eos:
        expected = processed("MinLengthLogitsProcessor", scores, ids, least, list(eos))
    actual = generation.process(scores, ids, settings)
    numpy.testing.assert_array_equal(actual, expected, strict=True)


class Evenly:
    """Stands for a random number generator: as many numbers as rows, evenly over [0, 1)."""

    def random(self, number):
        return (numpy.arange(number) + 0.5) / number


@pytest.mark.parametrize("seed", range(10))
def test_tokens_are_drawn_with_the_originals_probabilities(seed):
    torch = pytest.importorskip("torch")
    lot = Lot(seed)
    options = {"temperature": lot.one_of(0.5, 1.0, 2.0), "top_k": lot.one_of(0, 5, 20),
               "top_p": lot.one_of(0.5, 0.9, 1.0)}  # fmt: skip
    scores, ids = random_scores(seed)
    kept = processed("TemperatureLogitsWarper", scores, ids, options["temperature"])
    if options["top_k"]:
        kept = processed("TopKLogitsWarper", kept, ids, options["top_k"])
    if options["top_p"] < 1:
        kept = processed("TopPLogitsWarper", kept, ids, options["top_p"])
    probabilities = torch.tensor(kept).softmax(dim=-1).numpy()
    rows, settings = 1000, generation.Settings(do_sample=True, **options)
    for row, expected in zip(scores, probabilities, strict=True):
        chosen = generation.draw(numpy.tile(row, (rows, 1)), settings, Evenly())
        counts = numpy.bincount(chosen, minlength=WORDS)
        # Each token has an interval of its probability's length, and a row in each thousandth.
        assert (abs(counts - rows * expected) <= 1).all()
        assert (counts[expected == 0] == 0).all()
