"""refimpl against the originals, live: checkpoints and calls of all four families by lot.

Every class in turn, every switch of its config and every argument of its call by lot; every tap
and every output compared in float64. A draw's seed stands in the test's id and gives the same
checkpoint and call again. ``REFIMPL_DRAWS`` sets how many draws there are, ``REFIMPL_SEED`` where
their seeds begin.
"""

import os
import random

import numpy
import pytest

from refimpl import ops
from tests.compare import assert_same
from tests.oracle.originals import (
    Draw,
    compare_all,
    load_ours,
    make_original,
    run_original,
    run_ours,
    save,
)

pytestmark = pytest.mark.oracle

SHARED = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForMultipleChoice")
ROBERTA = (*SHARED, "ForQuestionAnswering", "ForMaskedLM", "ForCausalLM")
XLM = (*SHARED, "ForQuestionAnsweringSimple", "ForQuestionAnswering", "WithLMHeadModel")
CLASSES = [
    *(("XLM", head) for head in XLM),
    *((family, head) for head in ROBERTA for family in ("XLMRoberta", "XLMRobertaXL", "Xmod")),
]
DEFAULT = 20 * len(CLASSES)
FIRST = int(os.environ.get("REFIMPL_SEED", "0"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("REFIMPL_DRAWS", DEFAULT)))


# --- what all families have -----------------------------------------------------------------------


class Lot:
    """One seed's random choices."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.numbers = numpy.random.default_rng(self.rng.getrandbits(32))

    def happens(self, chance):
        return self.rng.random() < chance

    def number(self, low, high):
        """A whole number, both ends included."""
        return self.rng.randint(low, high)

    def one_of(self, *choices):
        return self.rng.choice(choices)

    def ids(self, below, shape):
        return self.numbers.integers(0, below, shape)


def draw(seed):
    """Every class in turn; everything else by lot."""
    family, head = CLASSES[seed % len(CLASSES)]
    return (draw_xlm if family == "XLM" else draw_roberta)(Lot(seed), family, head)


def draw_shape(lot, head, length):
    if head == "ForMultipleChoice":
        return lot.number(1, 3), lot.number(1, 3), length
    return lot.number(1, 4), length


def draw_places(lot, shape):
    """Where the tokens are: padding on the right, on the left, anywhere, or nowhere."""
    places = numpy.broadcast_to(numpy.arange(shape[-1]), shape)
    lengths = lot.numbers.integers(0, shape[-1] + 1, (*shape[:-1], 1))  # 0: a text of nothing
    return {
        "right": places < lengths,
        "left": places >= shape[-1] - lengths,
        "anywhere": lot.numbers.random(shape) < 0.6,
        "nowhere": places >= 0,
    }[lot.one_of("right", "left", "anywhere", "nowhere")]


def draw_text(lot, config, width, pad, shape, tokens):
    """Ids, padding included, or vectors."""
    if lot.happens(0.2):
        return {"inputs_embeds": lot.numbers.standard_normal((*shape, width))}
    return {"input_ids": numpy.where(tokens, lot.ids(config["vocab_size"], shape), pad)}


def as_mask(lot, mask):
    return mask.astype(lot.one_of("int64", "float64", "bool"))


def draw_head_mask(lot, layers, heads):
    return lot.numbers.choice([0.0, 0.5, 1.0], (layers, heads)[lot.number(0, 1) :])


def draw_pruned_heads(lot, layers, heads):
    """Some heads of some layers, never all of one; layer -> heads."""
    pruned = {i: lot.rng.sample(range(heads), lot.number(1, heads - 1)) for i in range(layers)}
    return {i: of_layer for i, of_layer in pruned.items() if lot.happens(0.7)}


def draw_flags(lot, config):
    """Ask for hidden states and attentions, in the call or in the config."""
    inputs = {}
    for flag in ("output_hidden_states", "output_attentions"):
        if lot.happens(0.2):
            config[flag] = True
        if lot.happens(0.4):
            inputs[flag] = lot.happens(0.8)
    return inputs


def wants_attentions(config, inputs):
    return inputs.get("output_attentions", config.get("output_attentions", False))


ENOUGH = 6


def draw_activation(lot, width):
    """An activation, but no GELU of few features.

    Far below zero a GELU is x (1 + tanh(...)), with nearly all of the sum cancelled: it errs by an
    ulp of x, not of itself. That shows where all features of a layer lie there.
    """
    names = ops.ACTIVATIONS if width >= ENOUGH else ("relu", "silu", "swish", "tanh")
    return lot.one_of(*names)


def draw_num_labels(lot, head):
    return 2 if head.startswith("ForQuestionAnswering") else lot.number(1, 5)


def draw_problem_type(lot):
    return lot.one_of(
        None, None, "regression", "single_label_classification", "multi_label_classification"
    )


def ignored(lot, labels):
    """Labels, some of which do not count."""
    return numpy.where(lot.numbers.random(labels.shape) < 0.3, -100, labels)


def draw_labels(lot, head, config, shape):
    """The labels that the heads of all families have alike."""
    number = config["num_labels"]
    if head in ("ForQuestionAnswering", "ForQuestionAnsweringSimple"):
        places = lot.numbers.integers(-1, shape[-1] + 3, (2, shape[0], 1))
        starts, ends = places if lot.happens(0.3) else places[:, :, 0]
        return {"start_positions": starts, "end_positions": ends}
    if head == "ForSequenceClassification":
        kind = config.get("problem_type") or ("regression" if number == 1 else "inferred")
        if kind == "regression":
            rows = lot.numbers.standard_normal((shape[0], number))
            return {"labels": rows[:, 0] if number == 1 else rows}
        if kind.startswith("multi") or (kind == "inferred" and lot.happens(0.5)):
            return {"labels": lot.ids(2, (shape[0], number)).astype("float64")}
        return {"labels": ignored(lot, lot.ids(number, shape[0]))}
    below, of = {
        "ForMaskedLM": (config["vocab_size"], shape),
        "ForCausalLM": (config["vocab_size"], shape),
        "WithLMHeadModel": (config["vocab_size"], shape),
        "ForTokenClassification": (number, shape),
        "ForMultipleChoice": (shape[1], shape[0]),
    }[head]
    return {"labels": ignored(lot, lot.ids(below, of))}


# --- XLM ------------------------------------------------------------------------------------------


def draw_xlm(lot, family, head):
    heads, layers, length = lot.number(1, 4), lot.number(1, 3), lot.number(1, 9)
    spans = head == "ForQuestionAnswering"
    width = heads * lot.number(4 if spans else 2, 6)  # two features are +-1 after a norm: ties
    pad = lot.number(0, 4)
    config = {
        "vocab_size": lot.number(9, 40),
        "emb_dim": width,
        "n_layers": layers,
        "n_heads": heads,
        "gelu_activation": lot.happens(0.6),
        # The original's heads fail on it.
        "sinusoidal_embeddings": head == "Model" and lot.happens(0.3),
        "causal": lot.happens(0.4),
        "n_langs": lot.number(1, 4),
        "use_lang_emb": lot.happens(0.8),
        "max_position_embeddings": length + lot.number(0, 3),
        "layer_norm_eps": lot.one_of(1e-12, 1e-7, 1e-5, 1e-3, 0.1),
        "pad_index": pad,
        "pad_token_id": pad,
        "tie_word_embeddings": lot.happens(0.7),
        "num_labels": draw_num_labels(lot, head),
    }
    if heads > 1 and lot.happens(0.2):
        config["pruned_heads"] = draw_pruned_heads(lot, layers, heads)
    if head == "WithLMHeadModel" and lot.happens(0.3):
        config |= draw_adaptive_softmax(lot, config)
    if head in ("ForSequenceClassification", "ForMultipleChoice"):
        config |= draw_summary(lot, head, config)
    if head == "ForSequenceClassification":
        config["problem_type"] = draw_problem_type(lot)
    shape = draw_shape(lot, head, length)
    inputs = draw_xlm_inputs(lot, head, config, shape)
    return Draw(family, head, config, inputs | draw_flags(lot, config))


def draw_adaptive_softmax(lot, config):
    words, clusters = config["vocab_size"], lot.number(1, 3)
    return {
        "asm": True,
        "asm_cutoffs": sorted(lot.rng.sample(range(1, words), clusters)),
        "asm_div_value": lot.one_of(1.0, 1.25),
    }


def draw_summary(lot, head, config):
    """How the sequence becomes one vector. Multiple choice needs as many numbers as labels."""
    summary = {
        "summary_type": lot.one_of("first", "last", "mean", "cls_index"),
        "summary_use_proj": lot.happens(0.8),
        "summary_proj_to_labels": lot.happens(0.7),
    }
    width = summary_width(config | summary)
    if head == "ForMultipleChoice" or lot.happens(0.5):
        summary["num_labels"] = width
    if lot.happens(0.7):
        summary["summary_activation"] = draw_activation(lot, width)
    return summary


def draw_xlm_inputs(lot, head, config, shape):
    tokens = draw_places(lot, shape)
    if head == "ForQuestionAnswering":
        tokens = tokens | (numpy.arange(shape[1]) == 0)  # a span is somewhere
    inputs = draw_text(lot, config, config["emb_dim"], config["pad_index"], shape, tokens)
    if lot.happens(0.5):
        inputs["attention_mask"] = as_mask(lot, tokens)
    if lot.happens(0.3) and head != "ForMultipleChoice":  # the original's takes none
        inputs["lengths"] = lot.numbers.integers(1, shape[-1] + 1, shape[0])
    if lot.happens(0.7):
        inputs["langs"] = lot.ids(config["n_langs"], shape)
    if lot.happens(0.2):
        inputs["token_type_ids"] = lot.ids(config["vocab_size"], shape)
    if lot.happens(0.25):
        order = numpy.arange(config["max_position_embeddings"])
        rows = numpy.broadcast_to(order, (*shape[:-1], len(order)))
        inputs["position_ids"] = lot.numbers.permuted(rows, axis=-1)[..., : shape[-1]]
    if lot.happens(0.3) and "pruned_heads" not in config:
        inputs["head_mask"] = draw_head_mask(lot, config["n_layers"], config["n_heads"])
    if head == "ForQuestionAnswering":
        return inputs | draw_span_inputs(lot, config, shape, seen_as_tokens(config, inputs))
    fits = head != "ForSequenceClassification" or summary_width(config) == config["num_labels"]
    if head == "Model" or not fits or lot.happens(0.3):
        return inputs
    labels = draw_labels(lot, head, config, shape)
    if config.get("asm"):  # which ignores no label
        labels = {"labels": lot.ids(config["vocab_size"], shape)}
    return inputs | labels


def summary_width(config):
    to_labels = config["summary_use_proj"] and config["summary_proj_to_labels"]
    return config["num_labels"] if to_labels else config["emb_dim"]


def seen_as_tokens(config, inputs):
    """Where XLM takes the text to be (B, S); elsewhere hidden states are zero."""
    if "attention_mask" in inputs:
        return inputs["attention_mask"] != 0
    text = inputs.get("input_ids", inputs.get("inputs_embeds"))
    lengths = numpy.full(text.shape[0], text.shape[1])
    if "input_ids" in inputs:
        lengths = (inputs["input_ids"] != config["pad_index"]).sum(axis=1)
    lengths = inputs.get("lengths", lengths)
    return numpy.arange(text.shape[1]) < lengths[:, None]


def draw_span_inputs(lot, config, shape, tokens):
    """p_mask, cls_index, and the true span or none.

    Without the true span the best ones are ranked. Equal scores would have no rank: those of
    padding, and those of places ruled out. So p_mask rules out all padding, and no more spans are
    asked for than places are left.
    """
    inputs, config["start_n_top"], config["end_n_top"] = {}, 1, 1
    allowed = numpy.ones(shape, dtype=bool)
    if not tokens.all() or lot.happens(0.4):
        allowed = tokens & (lot.numbers.random(shape) < 0.8)
        some = numpy.where(tokens.any(axis=1, keepdims=True), tokens, True).argmax(axis=1)
        allowed[numpy.arange(shape[0]), some] = True
        inputs["p_mask"] = (~allowed).astype("float64")
    if lot.happens(0.5):
        inputs["cls_index"] = lot.ids(shape[1], shape[0])
    if lot.happens(0.5):
        most = int(allowed.sum(axis=1).min())
        config["start_n_top"], config["end_n_top"] = lot.number(1, most), lot.number(1, most)
        return inputs
    for name in ("start_positions", "end_positions"):
        inputs[name] = (lot.numbers.random(shape) * allowed).argmax(axis=1)
    if lot.happens(0.7):
        inputs["is_impossible"] = lot.ids(2, shape[0]).astype("float64")
    if lot.happens(0.3):  # one value for each text, with an axis
        for name in ("start_positions", "end_positions", "cls_index", "is_impossible"):
            if name in inputs:
                inputs[name] = inputs[name][:, None]
    return inputs


# --- XLM-R, XLM-R-XL, X-MOD -----------------------------------------------------------------------


def draw_roberta(lot, family, head):
    heads, layers, length = lot.number(1, 4), lot.number(1, 3), lot.number(1, 9)
    pad, inner = lot.number(0, 4), lot.number(1, 25)
    least = ENOUGH if head in ("ForMaskedLM", "ForCausalLM") else 2  # their heads have a GELU
    config = {
        "vocab_size": lot.number(7, 40),
        "hidden_size": heads * lot.number(-(-least // heads), 6),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "hidden_act": draw_activation(lot, inner),
        "max_position_embeddings": length + pad + 1 + lot.number(0, 3),
        "type_vocab_size": lot.number(1, 4),
        "layer_norm_eps": lot.one_of(1e-12, 1e-7, 1e-5, 1e-3, 0.1),
        "pad_token_id": pad,
        "position_embedding_type": lot.one_of(
            "absolute", "absolute", "absolute", "relative_key", "relative_key_query"
        ),
        "tie_word_embeddings": lot.happens(0.7),
        "num_labels": draw_num_labels(lot, head),
    }
    if heads > 1 and lot.happens(0.15):
        config["pruned_heads"] = draw_pruned_heads(lot, layers, heads)
    if lot.happens(0.8 if head == "ForCausalLM" else 0.35):
        absolute = config["position_embedding_type"] == "absolute"
        config |= {
            "is_decoder": True,
            # With a cache the original mistakes relative positions: see test_live_cache.py.
            "use_cache": absolute and lot.happens(0.6),
            "add_cross_attention": lot.happens(0.5),
        }
    if family == "Xmod":
        config |= draw_adapters(lot, config)
    if head == "ForSequenceClassification":
        config["problem_type"] = draw_problem_type(lot)
    shape = draw_shape(lot, head, length)
    inputs = draw_roberta_inputs(lot, family, head, config, shape)
    inputs |= draw_flags(lot, config)
    inputs |= draw_decoder_inputs(lot, head, config, inputs, shape)
    if head != "Model" and lot.happens(0.7):
        inputs |= draw_labels(lot, head, config, shape)
        if (family, head) == ("XLMRobertaXL", "ForTokenClassification"):
            inputs = without_mask_for_each_query(inputs)  # the original fails on it
    return Draw(family, head, config, inputs)


def draw_adapters(lot, config):
    languages = ["en_XX", "de_DE", "sw_KE", "zh_CN"][: lot.number(1, 4)]
    width, reduction = config["hidden_size"], lot.number(1, config["hidden_size"])
    return {
        "hidden_act": draw_activation(lot, min(width // reduction, config["intermediate_size"])),
        "pre_norm": lot.happens(0.4),
        "adapter_reduction_factor": reduction,
        "adapter_layer_norm": lot.happens(0.4),
        "adapter_reuse_layer_norm": lot.happens(0.5),
        "ln_before_adapter": lot.happens(0.5),
        "languages": languages,
        "default_language": lot.one_of(None, *languages),
    }


def draw_roberta_inputs(lot, family, head, config, shape):
    tokens = draw_places(lot, shape)
    inputs = draw_text(lot, config, config["hidden_size"], config["pad_token_id"], shape, tokens)
    if lot.happens(0.2) and len(shape) == 2:
        inputs["attention_mask"] = as_mask(lot, lot.ids(2, (*shape, shape[-1])))
    elif lot.happens(0.7):
        inputs["attention_mask"] = as_mask(lot, tokens)
    if lot.happens(0.5):
        inputs["token_type_ids"] = lot.ids(config["type_vocab_size"], shape)
    if lot.happens(0.25):
        rows = shape if lot.happens(0.7) else (1, shape[-1])
        inputs["position_ids"] = lot.ids(config["max_position_embeddings"], rows)
    if lot.happens(0.3) and "pruned_heads" not in config:
        sizes = config["num_hidden_layers"], config["num_attention_heads"]
        inputs["head_mask"] = draw_head_mask(lot, *sizes)
    if family == "Xmod":
        inputs |= draw_languages(lot, head, config, inputs, shape)
    return inputs


def draw_languages(lot, head, config, inputs, shape):
    """A language for each text.

    The original's multiple choice takes one for all texts (and no vectors beside it), in a shape
    of its own: see ``for_the_original``.
    """
    number = len(config["languages"])
    if head == "ForMultipleChoice":
        if "inputs_embeds" in inputs:
            config["default_language"] = lot.one_of(*config["languages"])
            return {}
        languages = numpy.full(shape[:-1], lot.number(0, number - 1))
    else:
        languages = lot.ids(number, shape[0])
    given = config["default_language"] is None or lot.happens(0.5)
    return {"lang_ids": languages} if given else {}


def draw_decoder_inputs(lot, head, config, inputs, shape):
    """An encoder's states, and whether to return keys and values, where the class takes them."""
    if not config.get("is_decoder"):
        return {}
    more = {}
    absolute = config["position_embedding_type"] == "absolute"
    if head in ("Model", "ForCausalLM") and lot.happens(0.4):
        more["use_cache"] = absolute and lot.happens(0.5)
    takes = head in ("Model", "ForMaskedLM", "ForCausalLM")
    if config["add_cross_attention"] and takes and lot.happens(0.8):
        length = lot.number(1, 6)
        size = (shape[0], length, config["hidden_size"])
        more["encoder_hidden_states"] = lot.numbers.standard_normal(size)
        rows = shape if lot.happens(0.4) else shape[:1]
        if lot.happens(0.7):
            mask = lot.numbers.random((*rows, length)) < 0.7
            more["encoder_attention_mask"] = as_mask(lot, mask)
    elif config["add_cross_attention"] and wants_attentions(config, inputs):
        config["add_cross_attention"] = False  # the original fails
    return more


def without_mask_for_each_query(inputs):
    mask = inputs.get("attention_mask")
    if mask is None or mask.ndim == 2:
        return inputs
    return inputs | {"attention_mask": mask[:, 0, :]}


# --- agreement ------------------------------------------------------------------------------------


def for_the_original(one):
    """The inputs in the original's form, where it is not ours."""
    if one.name == "XmodForMultipleChoice" and "lang_ids" in one.inputs:
        return one.inputs | {"lang_ids": one.inputs["lang_ids"].reshape(-1)[:1]}
    return one.inputs


def verdicts(seed, folder):
    one = draw(seed)
    original = make_original(one, seed)
    save(original, folder)
    expected = run_original(original, for_the_original(one))
    ours = run_ours(load_ours(folder), one.inputs)
    return [
        *compare_all(ours.taps, expected.taps),
        *compare_all(ours.outputs, expected.outputs),
    ]


def describe(seed):
    return f"seed{seed}-{''.join(CLASSES[seed % len(CLASSES)])}"


@pytest.mark.parametrize("seed", SEEDS, ids=describe)
def test_every_tap_and_output_agrees(tmp_path, seed):
    pytest.importorskip("transformers")
    for verdict in verdicts(seed, tmp_path):
        assert verdict.ok, verdict


@pytest.mark.parametrize("seed", [i for i in range(200) if CLASSES[i % 28][0] == "XLMRobertaXL"])
def test_the_other_attention_of_xl_agrees(tmp_path, seed):
    transformers = pytest.importorskip("transformers")
    one = draw(seed)
    # With these the original falls back to the attention that the taps are recorded from.
    config = {n: x for n, x in one.config.items() if n not in ("output_attentions", "use_cache")}
    config["position_embedding_type"] = "absolute"
    inputs = {n: x for n, x in one.inputs.items() if n not in ("head_mask", "output_attentions")}
    if config.get("is_decoder"):  # in float64 the original fails on a decoder's masks
        inputs.pop("attention_mask", None)
    eager = make_original(Draw(one.family, one.head, config, inputs), seed)
    save(eager, tmp_path)
    sdpa = getattr(transformers, one.name).from_pretrained(
        tmp_path, attn_implementation="sdpa", dtype="float64"
    )
    assert "SdpaSelfAttention" in str(sdpa)
    expected = run_original(sdpa, inputs).outputs
    for verdict in compare_all(run_ours(load_ours(tmp_path), inputs).outputs, expected):
        assert verdict.ok, verdict


# --- languages that the original takes in one form only -------------------------------------------


def small_xmod(head):
    config = {
        "vocab_size": 29, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3,
        "intermediate_size": 11, "max_position_embeddings": 16, "pad_token_id": 1,
        "languages": ["en_XX", "de_DE", "sw_KE"],
    }  # fmt: skip
    return Draw("Xmod", head, config, {})


def test_a_language_for_each_choice(tmp_path):
    """The original's multiple choice repeats ``lang_ids``; a text is a text, whoever calls."""
    torch = pytest.importorskip("torch")
    original = make_original(small_xmod("ForMultipleChoice"), seed=0)
    ours = load_ours(save(original, tmp_path))
    lot = Lot(0)
    ids, languages = lot.ids(29, (2, 3, 5)), numpy.array([[2, 0, 1], [1, 1, 2]])
    logits = ours(input_ids=ids, lang_ids=languages).logits
    for text, language, score in zip(
        ids.reshape(-1, 5), languages.reshape(-1), logits.reshape(-1), strict=True
    ):
        inputs = {"input_ids": torch.tensor(text[None, None]), "lang_ids": torch.tensor([language])}
        with torch.no_grad():
            expected = original(**inputs).logits.numpy().reshape(1)
        verdict = next(compare_all({"logits": score[None]}, {"logits": expected}))
        assert verdict.ok, verdict


def test_a_language_for_each_token(tmp_path):
    """An adapter sees one token at a time: what it makes of one is what it makes of all."""
    original = make_original(small_xmod("ForMaskedLM"), seed=0)
    ours = load_ours(save(original, tmp_path))
    lot = Lot(1)
    ids, languages = lot.ids(29, (4, 5)), lot.ids(3, (4, 5))
    actual = ours(input_ids=ids, lang_ids=languages).logits
    expected = numpy.empty_like(actual)
    for language in range(3):
        inputs = {"input_ids": ids, "lang_ids": numpy.full(4, language)}
        of_all = run_original(original, inputs).outputs["logits"]
        expected = numpy.where((languages == language)[..., None], of_all, expected)
    verdict = next(compare_all({"logits": actual}, {"logits": expected}))
    assert verdict.ok, verdict


# --- the draws ------------------------------------------------------------------------------------


def test_the_same_seed_is_the_same_draw():
    for seed in range(len(CLASSES)):
        one, other = draw(seed), draw(seed)
        assert (one.name, one.config) == (other.name, other.config)
        assert list(one.inputs) == list(other.inputs)
        for name, x in one.inputs.items():
            assert_same(numpy.asarray(x), numpy.asarray(other.inputs[name]))


def values(draws, key):
    """The values that a key of the config takes."""
    return {one.config[key] for one in draws if key in one.config}


def shapes(draws, name):
    """How many axes an input has, and of which kind it is."""
    given = [one.inputs[name] for one in draws if name in one.inputs]
    return {(x.ndim, x.dtype.kind) for x in given}


def test_the_draws_leave_no_switch_of_xlm_out():
    draws = [one for one in map(draw, range(DEFAULT)) if one.family == "XLM"]
    assert {one.head for one in draws} == set(XLM)
    for switch in ("gelu_activation", "sinusoidal_embeddings", "causal", "use_lang_emb",
                   "tie_word_embeddings", "summary_use_proj",
                   "summary_proj_to_labels"):  # fmt: skip
        assert values(draws, switch) == {True, False}, switch
    assert values(draws, "asm") == {True}
    assert values(draws, "n_langs") == {1, 2, 3, 4}
    assert values(draws, "summary_type") == {"first", "last", "mean", "cls_index"}
    assert len(values(draws, "summary_activation")) > 4
    assert len(values(draws, "start_n_top")) > 2
    assert len(values(draws, "end_n_top")) > 2
    assert any(one.config.get("pruned_heads") for one in draws)
    assert {name for one in draws for name in one.inputs} == {
        "input_ids", "inputs_embeds", "attention_mask", "lengths", "langs", "token_type_ids",
        "position_ids", "head_mask", "labels", "start_positions", "end_positions", "is_impossible",
        "cls_index", "p_mask", "output_hidden_states", "output_attentions",
    }  # fmt: skip
    given = [{"attention_mask", "lengths"} & set(one.inputs) for one in draws]
    assert all(x in given for x in ({"attention_mask"}, {"lengths"}, set()))
    assert {ndim for ndim, _ in shapes(draws, "head_mask")} == {1, 2}
    assert {ndim for ndim, _ in shapes(draws, "start_positions")} == {1, 2}


@pytest.mark.parametrize("family", ["XLMRoberta", "XLMRobertaXL", "Xmod"])
def test_the_draws_leave_no_switch_of_the_robertas_out(family):
    draws = [one for one in map(draw, range(DEFAULT)) if one.family == family]
    assert {one.head for one in draws} == set(ROBERTA)
    assert len(values(draws, "hidden_act")) > 7
    assert values(draws, "position_embedding_type") == {
        "absolute", "relative_key", "relative_key_query",
    }  # fmt: skip
    for switch in ("use_cache", "add_cross_attention", "tie_word_embeddings"):
        assert values(draws, switch) == {True, False}, switch
    assert values(draws, "is_decoder") == {True}
    assert any(one.config.get("pruned_heads") for one in draws)
    assert values(draws, "problem_type") >= {None, "regression", "single_label_classification"}
    given = {
        "input_ids", "inputs_embeds", "attention_mask", "token_type_ids", "position_ids",
        "head_mask", "labels", "start_positions", "end_positions", "encoder_hidden_states",
        "encoder_attention_mask", "use_cache", "output_hidden_states", "output_attentions",
    }  # fmt: skip
    if family == "Xmod":
        given |= {"lang_ids"}
        for switch in ("pre_norm", "adapter_layer_norm", "adapter_reuse_layer_norm",
                       "ln_before_adapter"):  # fmt: skip
            assert values(draws, switch) == {True, False}, switch
        assert len(values(draws, "adapter_reduction_factor")) > 4
        assert None in values(draws, "default_language")
        mixed = [one.inputs["lang_ids"] for one in draws if "lang_ids" in one.inputs]
        assert any(len(set(x.reshape(-1).tolist())) > 2 for x in mixed)
    assert {name for one in draws for name in one.inputs} == given
    assert {ndim for ndim, _ in shapes(draws, "attention_mask")} == {2, 3}
    assert {kind for _, kind in shapes(draws, "attention_mask")} == {"b", "i", "f"}
    assert {ndim for ndim, _ in shapes(draws, "encoder_attention_mask")} == {2, 3}
    assert {ndim for ndim, _ in shapes(draws, "head_mask")} == {1, 2}
