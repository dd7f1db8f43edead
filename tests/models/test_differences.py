"""Every difference that docs/differences.md names: what we do, and what the original does.

The column "Test" of that page has the names of these tests, and no other; tests/test_docs.py holds
the two together. Tests marked oracle run the original, in whichever version is installed: they know
4.57.6 and 5.23.0, and the page shows both.
"""

from dataclasses import replace

import numpy
import pytest

from refimpl import ops
from refimpl.backend import to_numpy
from refimpl.errors import CheckpointError
from refimpl.models.model import load
from refimpl.parity.compare import compare_floats, relative_error
from refimpl.taps import record
from tests.compare import assert_same

IDS = [[0, 17, 5, 23, 2], [0, 28, 11, 8, 2]]
CHOICES = [
    [[0, 17, 5, 2], [0, 9, 11, 2], [0, 28, 1, 1]],
    [[0, 6, 2, 1], [0, 4, 12, 2], [0, 7, 7, 2]],
]

ROBERTA = {
    "vocab_size": 29,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 11,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "pad_token_id": 1,
}
SIZES = {
    "XLMRoberta": ROBERTA,
    "XLMRobertaXL": ROBERTA,
    "Xmod": {**ROBERTA, "languages": ["en_XX", "de_DE", "sw_KE"], "default_language": "en_XX"},
    "XLM": {"vocab_size": 29, "emb_dim": 9, "n_layers": 2, "n_heads": 3, "n_langs": 4,
            "max_position_embeddings": 16, "pad_index": 2, "pad_token_id": 2},
}  # fmt: skip
ROBERTAS = ("XLMRoberta", "XLMRobertaXL", "Xmod")


class Original:
    """A model of the original implementation, and ours of the same weights."""

    def __init__(self, family, head, config, folder):
        self.torch = pytest.importorskip("torch")
        transformers = pytest.importorskip("transformers")
        from golden.make.case import make_model

        self.version = 4 if transformers.__version__.startswith("4.") else 5
        self.model = make_model(family, head, SIZES[family] | config, seed=3).double()
        self._folder = folder

    def ours(self):
        self.model.save_pretrained(self._folder)
        return load(self._folder, dtype="float64", kernels="plain")

    def tensors(self, **inputs):
        flags = {name: x for name, x in inputs.items() if not isinstance(x, list | numpy.ndarray)}
        arrays = {name: self.torch.tensor(inputs[name]) for name in inputs if name not in flags}
        reals = {name: x.double() for name, x in arrays.items() if x.is_floating_point()}
        return {**arrays, **reals, **flags}

    def __call__(self, **inputs):
        with self.torch.no_grad():
            return self.model(**self.tensors(**inputs))

    def scores(self, **inputs):
        return self(**inputs).logits.numpy()

    def generate(self, ids, **options):
        with self.torch.no_grad():
            options = {"do_sample": False, **options}
            return self.model.generate(self.torch.tensor(ids), **options).numpy()


@pytest.fixture
def original(tmp_path):
    """A function that makes a model of the original implementation, in float64."""
    return lambda family, head, **config: Original(family, head, config, tmp_path)


def agree(actual, expected):
    """Whether two honest runs in float64, of models as small as these, came to the same."""
    return compare_floats("", to_numpy(actual), to_numpy(expected), 1e-11, "float64").ok


# --- any class ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "wrong"),
    [
        ("model", {"input_ids": [[0, 29]]}),
        ("model", {"input_ids": [[0, -1]]}),
        ("model", {"input_ids": [[0, 5]], "token_type_ids": [[0, 2]]}),
        ("model", {"input_ids": [[0, 5]], "position_ids": [[0, 16]]}),
        ("token_classification", {"input_ids": [[0, 5]], "labels": [[0, 4]]}),
        ("xlm/model", {"input_ids": [[0, 5]], "langs": [[0, 4]]}),
        ("xmod/model", {"input_ids": [[0, 5]], "lang_ids": [2]}),
    ],
)
def test_out_of_range(model, case, wrong):
    with record() as taps, pytest.raises(ValueError, match="expected"):
        model(case)(**wrong)
    assert not taps  # nothing was computed


@pytest.mark.parametrize("case", ["model", "xlm/model", "xlm_roberta_xl/model", "xmod/model"])
def test_too_long(model, case):
    room = 16 if case.startswith("xlm/") else 14
    languages = {"lang_ids": [0]} if case.startswith("xmod") else {}
    model(case)(input_ids=[[5] * room], **languages)
    with pytest.raises(ValueError, match=f"at most {room} tokens in a row"):
        model(case)(input_ids=[[5] * (room + 1)], **languages)


def test_mask_values(model):
    for mask in ([[1, 2]], [[1, -1]], [[1.0, 0.5]]):
        with pytest.raises(ValueError, match="attention_mask: expected only 0 and 1"):
            model("model")(input_ids=[[0, 5]], attention_mask=mask)


@pytest.mark.oracle
def test_mask_values_of_the_original(original):
    theirs = original("XLMRoberta", "ForMaskedLM")
    ones = theirs.scores(input_ids=IDS)
    # Up to 4.57 a mask of 2 adds the greatest number: what a query attends to is lost in it.
    twos = theirs.scores(input_ids=IDS, attention_mask=[[2] * 5] * 2)
    assert agree(twos, ones) == (theirs.version == 5)


def test_masked_scores():
    scores = numpy.asarray([[[[-40.0, -50.0]]]], "float16")
    probs = ops.softmax(ops.mask_scores(scores, numpy.zeros((1, 1, 1, 2), bool)))
    assert_same(probs, numpy.full((1, 1, 1, 2), 0.5, "float16"))
    with numpy.errstate(over="ignore"):
        assert numpy.isinf(scores + numpy.finfo("float16").min).all()  # the sum of the original


def test_missing_weights(checkpoint):
    folder = checkpoint("model", tensors=lambda x: without(x, "encoder.layer.1."))
    with pytest.raises(CheckpointError, match="missing"):
        load(folder)


def test_unexpected_tensors(checkpoint):
    folder = checkpoint("model", tensors=lambda x: {**x, "extra.weight": numpy.zeros(2)})
    with pytest.raises(CheckpointError, match=r"unexpected \(1\): extra.weight"):
        load(folder)


@pytest.mark.parametrize("case", ["model", "xlm_roberta_xl/model", "xmod/default_language"])
def test_missing_pooler(checkpoint, case):
    call = load(checkpoint(case, tensors=lambda x: without(x, "pooler.")))
    assert call(input_ids=IDS).pooler_output is None


def without(tensors, prefix):
    return {name: x for name, x in tensors.items() if not name.startswith(prefix)}


@pytest.mark.parametrize("case", ["classification", "xlm/summary_first", "xmod/classification"])
def test_problem_type(model, case):
    call = model(case)
    classes = call(input_ids=IDS, labels=[0, 2]).loss
    several = call(input_ids=IDS, labels=[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]).loss
    assert several != classes
    assert call.config.problem_type is None
    assert_same(call(input_ids=IDS, labels=[0, 2]).loss, classes)


@pytest.mark.oracle
@pytest.mark.parametrize("family", SIZES)
def test_problem_type_of_the_original(original, family):
    theirs = original(family, "ForSequenceClassification", num_labels=3)
    theirs(input_ids=IDS, labels=[0, 2])
    assert theirs.model.config.problem_type == "single_label_classification"
    with pytest.raises(ValueError, match="batch_size"):
        theirs(input_ids=IDS, labels=[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


def test_one_text(model):
    call = model("model")
    one = call(input_ids=IDS[0], attention_mask=[1, 1, 1, 1, 0])
    batch = call(input_ids=IDS[:1], attention_mask=[[1, 1, 1, 1, 0]])
    assert_same(one.last_hidden_state, batch.last_hidden_state)


def test_kinds_of_inputs(model):
    call, vectors = model("model"), numpy.ones((1, 2, 12), "float32")
    of_lists = call(inputs_embeds=vectors.tolist()).last_hidden_state
    assert_same(call(inputs_embeds=vectors).last_hidden_state, of_lists)
    assert to_numpy(of_lists).dtype == "float64"


def test_outputs_keep_their_places(model):
    out = model("masked_lm")(input_ids=IDS)
    assert out[0] is None
    assert out[1] is out.logits
    assert out._fields == ("loss", "logits", "hidden_states", "attentions")


def test_logits_at(model):
    lm = model("masked_lm")
    everywhere = lm(input_ids=IDS).logits
    some = lm(input_ids=IDS, logits_at=[[1, 4], [0, 0]]).logits
    assert agree(some, everywhere[[1, 0], [4, 0], :])
    with pytest.raises(ValueError, match="logits_at: expected none beside labels"):
        lm(input_ids=IDS, labels=IDS, logits_at=[[0, 0]])


def test_packed(model):
    whole = model("model")
    mask = numpy.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
    padded = whole(input_ids=IDS, attention_mask=mask).last_hidden_state
    packed = replace(whole, packed=True)(input_ids=IDS, attention_mask=mask).last_hidden_state
    assert agree(packed[mask], padded[mask])
    assert not packed[~mask].any()
    assert padded[~mask].all()


@pytest.mark.parametrize("name", ["return_dict", "head_maskk", "lang_ids"])
def test_unknown_arguments(model, name):
    with pytest.raises(TypeError, match=f"takes no {name!r}; it takes input_ids"):
        model("model")(input_ids=IDS, **{name: [True]})


@pytest.mark.oracle
@pytest.mark.parametrize("family", SIZES)
def test_unknown_arguments_of_the_original(original, family):
    theirs = original(family, "ForSequenceClassification")
    if theirs.version == 4:
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            theirs(input_ids=IDS, head_maskk=True)
    else:
        assert_same(theirs.scores(input_ids=IDS, head_maskk=True), theirs.scores(input_ids=IDS))


@pytest.mark.oracle
@pytest.mark.parametrize("family", SIZES)
def test_switches_that_transformers_5_dropped(original, family):
    theirs = original(family, "ForTokenClassification")
    masked = theirs.scores(input_ids=IDS, head_mask=[1.0, 0.0, 0.5])
    pruned = original(family, "ForTokenClassification", pruned_heads={0: [0]}).model.base_model
    query = next(w for name, w in pruned.named_parameters() if name.endswith(QUERY))
    kept = theirs.version == 4
    assert agree(masked, theirs.scores(input_ids=IDS)) != kept
    assert (query.shape[0] < query.shape[1]) == kept


QUERY = ("0.q_lin.weight", "0.attention.self.query.weight")


# --- languages ------------------------------------------------------------------------------------


def test_a_language_for_each_token(model):
    call = model("xmod/model")
    of_texts = call(input_ids=IDS, lang_ids=[1, 0]).last_hidden_state
    of_tokens = call(input_ids=IDS, lang_ids=[[1] * 5, [0] * 5]).last_hidden_state
    mixed = call(input_ids=IDS, lang_ids=[[1, 0, 0, 1, 1], [0] * 5]).last_hidden_state
    assert agree(of_tokens, of_texts)
    mixed, of_texts = to_numpy(mixed), to_numpy(of_texts)
    assert not agree(mixed[0], of_texts[0])
    assert agree(mixed[1], of_texts[1])


@pytest.mark.oracle
def test_a_language_for_each_token_in_the_original(original):
    theirs = original("Xmod", "ForTokenClassification")
    inputs = {"input_ids": IDS, "lang_ids": [[1, 0, 2, 1, 1], [0, 0, 2, 2, 2]]}
    if theirs.version == 4:
        with pytest.raises(RuntimeError, match="split_sizes"):
            theirs(**inputs)
    else:
        assert agree(theirs.ours()(**inputs).logits, theirs.scores(**inputs))


def test_a_language_out_of_range(model):
    for language in (-1, 2):
        with pytest.raises(ValueError, match="lang_ids: expected ids from 0 to 1"):
            model("xmod/model")(input_ids=IDS, lang_ids=[0, language])


@pytest.mark.oracle
def test_a_language_out_of_range_in_the_original(original):
    theirs = original("Xmod", "ForTokenClassification")
    last = theirs.scores(input_ids=IDS, lang_ids=[2, 2])
    before = theirs.scores(input_ids=IDS, lang_ids=[-1, -1])
    if theirs.version == 4:
        assert_same(before, last)
        with pytest.raises(IndexError):
            theirs(input_ids=IDS, lang_ids=[3, 3])
    else:  # no adapter at all, in silence: what comes out is the residual
        assert not agree(before, last)
        assert_same(theirs.scores(input_ids=IDS, lang_ids=[3, 3]), before)


def test_languages_of_choices(model):
    call = model("xmod/multiple_choice")  # one language
    assert_same(
        call(input_ids=CHOICES, lang_ids=[[0, 0, 0], [0, 0, 0]]).logits,
        call(input_ids=CHOICES).logits,
    )


@pytest.mark.oracle
def test_languages_of_choices_in_the_original(original):
    theirs = original("Xmod", "ForMultipleChoice")
    for languages in ([[0, 0, 0], [0, 0, 0]], [0] * 6, [0, 0]):
        with pytest.raises((RuntimeError, IndexError)):
            theirs(input_ids=CHOICES, lang_ids=languages)
    ours = theirs.ours()
    for language in range(3):
        expected = theirs.scores(input_ids=CHOICES, lang_ids=[language])
        actual = ours(input_ids=CHOICES, lang_ids=[[language] * 3] * 2).logits
        assert agree(actual, expected)


def test_what_fine_tuning_leaves_alone(model):
    names = model("xmod/model").freeze_embeddings_and_language_adapters()
    parts = {"embeddings" in name or "adapter_modules" in name for name in names}
    assert parts == {True}


@pytest.mark.oracle
@pytest.mark.parametrize("own_norm", [False, True])
def test_what_fine_tuning_leaves_alone_in_the_original(original, own_norm):
    theirs = original("Xmod", "ForTokenClassification", adapter_layer_norm=own_norm)
    names = theirs.ours().freeze_embeddings_and_language_adapters()
    theirs.model.freeze_embeddings_and_language_adapters()  # there it sets a flag
    frozen = [n for n, w in theirs.model.named_parameters() if not w.requires_grad]
    assert sorted(names) == sorted(frozen)


# --- decoders -------------------------------------------------------------------------------------


def in_two_calls(call, **inputs):
    """The scores of a text whose first three places come in a call of their own."""
    first = call(**{name: x[:, :3] for name, x in inputs.items()}, use_cache=True)
    rest = {name: x[:, 3:] for name, x in inputs.items()}
    return first, call(**rest, past_key_values=first.past_key_values, use_cache=True)


@pytest.mark.parametrize("case", [f"{x}/position_relative_key" for x in
                                  ("xlm_roberta", "xlm_roberta_xl", "xmod")])  # fmt: skip
def test_relative_positions_with_a_cache(checkpoint, case):
    call = load(checkpoint(case, config={"is_decoder": True}), dtype="float64")
    expected = call(input_ids=IDS, use_cache=False).last_hidden_state
    first, rest = in_two_calls(call, input_ids=numpy.asarray(IDS))
    both = numpy.concatenate([first.last_hidden_state, rest.last_hidden_state], axis=1)
    assert agree(both, expected)


@pytest.mark.oracle
@pytest.mark.parametrize("family", ROBERTAS)
def test_relative_positions_with_a_cache_in_the_original(original, family):
    settings = {"is_decoder": True, "position_embedding_type": "relative_key"}
    theirs = original(family, "ForCausalLM", **settings)
    expected = theirs.scores(input_ids=IDS, use_cache=False)
    with_cache = theirs.scores(input_ids=IDS, use_cache=True)
    if theirs.version == 4:  # every query has the distances of the last
        assert not agree(with_cache, expected)
        assert not agree(with_cache[:, -1], expected[:, -1])  # from the second layer on
        assert agree(theirs.ours()(input_ids=IDS).logits, expected)
    else:  # positions are absolute, whatever the config says
        absolute = original(family, "ForCausalLM", is_decoder=True)
        assert_same(with_cache, absolute.scores(input_ids=IDS, use_cache=True))


@pytest.mark.parametrize("case", ["xlm_roberta", "xlm_roberta_xl", "xmod"])
def test_vectors_with_a_cache(model, case):
    call = model(f"{case}/causal_lm_cache")
    vectors = numpy.random.default_rng(0).standard_normal((2, 5, 12))
    expected = call(inputs_embeds=vectors).logits
    first, rest = in_two_calls(call, inputs_embeds=vectors)
    both = numpy.concatenate([to_numpy(x.logits) for x in (first, rest)], axis=1)
    assert agree(both, expected)


@pytest.mark.oracle
@pytest.mark.parametrize("family", ROBERTAS)
def test_vectors_with_a_cache_in_the_original(original, family):
    theirs = original(family, "ForCausalLM", is_decoder=True)
    vectors = theirs.torch.randn(2, 5, 12).double()
    with theirs.torch.no_grad():
        expected = theirs.model(inputs_embeds=vectors, use_cache=False).logits
        first, rest = in_two_calls(theirs.model, inputs_embeds=vectors)
    assert agree(first.logits.numpy(), expected[:, :3].numpy())
    assert not agree(rest.logits.numpy(), expected[:, 3:].numpy())  # it counts from 0 again


def test_attentions_of_a_decoder_without_an_encoder(model):
    out = model("cross_attention")(input_ids=IDS, output_attentions=True)
    assert len(out.attentions) == 1
    assert out.cross_attentions is None


@pytest.mark.oracle
@pytest.mark.parametrize("family", ROBERTAS)
def test_attentions_of_a_decoder_without_an_encoder_in_the_original(original, family):
    theirs = original(family, "Model", is_decoder=True, add_cross_attention=True)
    if theirs.version == 4:
        with pytest.raises(IndexError):
            theirs(input_ids=IDS, output_attentions=True)
    else:
        assert len(theirs(input_ids=IDS, output_attentions=True).attentions) == 2


def test_encoder_states_for_heads(checkpoint):
    settings = {"is_decoder": True, "add_cross_attention": True}
    names = ("query", "key", "value")
    folder = checkpoint(
        "classification",
        config=settings,
        tensors=lambda x: {
            **x,
            **{
                name.replace(".attention.", ".crossattention."): w
                for name, w in x.items()
                if ".attention." in name
            },
        },
    )
    call, states = load(folder, dtype="float64"), numpy.ones((2, 3, 12))
    with record() as taps:
        call(input_ids=IDS, encoder_hidden_states=states)
    assert {f"roberta.encoder.layer.0.crossattention.self.{n}" for n in names} <= set(taps)


@pytest.mark.oracle
@pytest.mark.parametrize("family", ROBERTAS)
def test_encoder_states_for_heads_in_the_original(original, family):
    settings = {"is_decoder": True, "add_cross_attention": True}
    theirs = original(family, "ForSequenceClassification", **settings)
    states = numpy.random.default_rng(0).standard_normal((2, 3, 12))
    ours = theirs.ours()(input_ids=IDS, encoder_hidden_states=states).logits
    if theirs.version == 4:
        with pytest.raises(TypeError, match="encoder_hidden_states"):
            theirs(input_ids=IDS, encoder_hidden_states=states)
    else:
        assert agree(ours, theirs.scores(input_ids=IDS, encoder_hidden_states=states))
    lm = original(family, "ForMaskedLM", **settings)
    with_states = lm.scores(input_ids=IDS, encoder_hidden_states=states)
    assert not agree(with_states, lm.scores(input_ids=IDS))


def test_head_mask_for_pruned_heads(model):
    for case in ("pruned_heads", "xlm/pruned_heads", "xmod/pruned_heads"):
        with pytest.raises(ValueError, match="head_mask: expected none"):
            model(case)(input_ids=IDS, head_mask=[1.0, 0.0, 1.0])


@pytest.mark.oracle
def test_head_mask_for_pruned_heads_in_the_original(original):
    theirs = original("XLMRoberta", "Model", pruned_heads={0: [0]})
    if theirs.version == 4:
        with pytest.raises(RuntimeError, match="size of tensor"):
            theirs(input_ids=IDS, head_mask=[1.0, 0.0, 1.0])


@pytest.mark.oracle
def test_labels_with_a_mask_for_each_query(original):
    theirs = original("XLMRobertaXL", "ForTokenClassification")
    inputs = {
        "input_ids": IDS,
        "attention_mask": numpy.ones((2, 5, 5), int),
        "labels": [[0] * 5] * 2,
    }
    with pytest.raises((RuntimeError, ValueError)):
        theirs(**inputs)
    ours = theirs.ours()
    assert_same(ours(**inputs).loss, ours(input_ids=IDS, labels=[[0] * 5] * 2).loss)


def test_loss_of_a_causal_model(model):
    loss = model("causal_lm")(input_ids=IDS, labels=IDS).loss
    assert to_numpy(loss).dtype == "float64"


@pytest.mark.oracle
def test_loss_of_a_causal_model_in_the_original(original):
    theirs = original("XLMRoberta", "ForCausalLM", is_decoder=True)
    assert theirs(input_ids=IDS, labels=IDS).loss.dtype == theirs.torch.float32


# --- XLM ------------------------------------------------------------------------------------------


def causal_xlm(checkpoint):
    return load(checkpoint("xlm/lm_causal"), dtype="float64")


def test_cache_of_xlm(checkpoint):
    call, langs = causal_xlm(checkpoint), numpy.asarray([[3] * 5, [0, 0, 1, 1, 2]])
    expected = call(input_ids=IDS, langs=langs)
    assert expected.cache is None
    first = call(input_ids=numpy.asarray(IDS)[:, :3], langs=langs[:, :3], use_cache=True)
    assert [x.shape for x in first.cache[0]] == [(2, 3, 3, 3)] * 2
    rest = call(input_ids=IDS, langs=langs, cache=first.cache, use_cache=True)  # the whole text
    assert rest.logits.shape == (2, 2, 29)
    assert agree(rest.logits, expected.logits[:, 3:])
    assert first.cache[0][0].shape[2] == 3  # nothing was written into it


@pytest.mark.oracle
def test_cache_of_xlm_in_the_original(original):
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    theirs = original("XLM", "Model", causal=True)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    out = theirs(input_ids=[row[:3] for row in IDS], cache=cache)
    assert list(out) == ["last_hidden_state"]
    assert cache.get_seq_length() == 3  # it was written into
    assert theirs(input_ids=IDS, cache=cache)[0].shape[1] == 2


def test_adaptive_softmax(model):
    call = model("xlm/lm_adaptive")
    scores = to_numpy(call(input_ids=IDS).logits)
    assert agree(numpy.exp(scores).sum(axis=-1), numpy.ones((2, 5)))
    labels = numpy.full((2, 5), -100)
    labels[1, 2] = 7
    loss = call(input_ids=IDS, labels=labels).loss
    assert to_numpy(loss) == -scores[1, 2, 7]


@pytest.mark.oracle
def test_adaptive_softmax_of_the_original(original):
    settings = {"asm": True, "asm_cutoffs": [7, 15], "asm_div_value": 2.0}
    theirs = original("XLM", "WithLMHeadModel", **settings)
    with pytest.raises(RuntimeError):
        theirs(input_ids=IDS)
    softmax = theirs.torch.nn.AdaptiveLogSoftmaxWithLoss(9, 29, [7, 15], div_value=2.0)
    with pytest.raises(RuntimeError, match="Target values"):
        softmax(theirs.torch.zeros(2, 9), theirs.torch.tensor([1, -100]))


def test_softmax_of_xlm():
    scores = numpy.random.default_rng(0).standard_normal((4, 7))
    assert_same(ops.softmax_float32(scores), ops.softmax(scores))
    narrow = scores.astype("float16")
    wide = ops.softmax(narrow.astype("float32")).astype("float16")
    assert_same(ops.softmax_float32(narrow), wide)


@pytest.mark.oracle
def test_softmax_of_xlm_in_the_original(original):
    theirs = original("XLM", "Model")
    given = {"input_ids": IDS, "output_attentions": True}
    actual = theirs.ours()(**given).attentions[0]
    apart = relative_error(theirs(**given).attentions[0].numpy(), actual)
    # float32, in a model of float64
    assert 0.01 < apart / numpy.finfo("float32").eps < 8


def test_lengths_of_choices(model):
    call = model("xlm/multiple_choice")
    lengths = [[4, 2, 1], [3, 3, 4]]
    mask = numpy.arange(4) < numpy.asarray(lengths)[:, :, None]
    of_lengths = call(input_ids=CHOICES, lengths=lengths).logits
    assert_same(of_lengths, call(input_ids=CHOICES, attention_mask=mask).logits)


@pytest.mark.oracle
def test_lengths_of_choices_in_the_original(original):
    theirs = original("XLM", "ForMultipleChoice")
    assert_same(
        theirs.scores(input_ids=CHOICES, lengths=[[4, 2, 1], [3, 3, 4]]),
        theirs.scores(input_ids=CHOICES),
    )


def test_ties_between_spans(model):
    out = model("xlm/question_answering")(input_ids=[[0, 2, 2, 2, 2]])  # padding scores alike
    assert to_numpy(out.start_top_index)[0].tolist() in ([0, 1], [1, 2])


@pytest.mark.oracle
def test_ties_between_spans_in_the_original(original):
    theirs = original("XLM", "ForQuestionAnswering", start_n_top=5, end_n_top=1)
    order = theirs(input_ids=[[0, 2, 2, 2, 2]]).start_top_index[0].tolist()
    order.remove(0)
    assert order != [1, 2, 3, 4]


def test_places_of_spans(model):
    call = model("xlm/question_answering_loss")
    both = {"start_positions": [1, 2], "end_positions": [3, 4]}
    one = {"start_positions": [1, -100], "end_positions": [3, -100]}
    alone = {name: x[:1] for name, x in one.items()}
    assert call(input_ids=IDS, **both).loss != call(input_ids=IDS, **one).loss
    of_first = call(input_ids=IDS[:1], **alone).loss
    assert agree(call(input_ids=IDS, **one).loss, of_first)
    for name in both:
        with pytest.raises(ValueError, match=f"{name}: expected labels from 0 to 4, or -100"):
            call(input_ids=IDS, **(both | {name: [1, 5]}))


@pytest.mark.oracle
def test_places_of_spans_in_the_original(original):
    theirs = original("XLM", "ForQuestionAnswering")
    with pytest.raises(RuntimeError):
        theirs(input_ids=IDS, start_positions=[1, -100], end_positions=[3, -100])
    with pytest.raises(IndexError):
        theirs(input_ids=IDS, start_positions=[1, 2], end_positions=[3, 5])


# --- generation -----------------------------------------------------------------------------------


def with_favourite(tensors, word):
    """Weights with which XLM finds one word the likeliest, whatever came before."""
    bias = numpy.zeros_like(tensors["pred_layer.proj.bias"])
    bias[word] = 1000.0
    return {**tensors, "pred_layer.proj.bias": bias}


def test_end_of_generation(checkpoint):
    def generate(config, **options):
        folder = checkpoint("xlm/lm", config=config, tensors=lambda x: with_favourite(x, 1))
        return load(folder).generate([[0, 17]], max_length=5, **options).tolist()

    assert generate({}) == [[0, 17, 1, 1, 1]]  # eos_index is 1, eos_token_id null
    assert generate({"eos_token_id": 1}) == [[0, 17, 1]]
    assert generate({}, eos_token_id=[1, 4]) == [[0, 17, 1]]


def test_no_end_of_generation(checkpoint):
    config, likely = {"eos_token_id": 1}, lambda tensors: with_favourite(tensors, 1)
    call = load(checkpoint("xlm/lm", config=config, tensors=likely))
    assert call.generate([[0, 17]], max_length=5, eos_token_id=None).tolist() == [[0, 17, 1]]
    never = call.generate([[0, 17]], max_length=5, eos_token_id=[])
    assert never.tolist() == [[0, 17, 1, 1, 1]]


@pytest.mark.oracle
def test_end_of_generation_in_the_original(original):
    theirs = original("XLM", "WithLMHeadModel")
    assert theirs.model.config.eos_index == 1
    with theirs.torch.no_grad():
        theirs.model.pred_layer.proj.bias[1] = 1000.0
    generated = theirs.generate([[0, 17]], max_length=5).tolist()
    if theirs.version == 4:
        assert theirs.model.config.eos_token_id is None
        assert generated == [[0, 17, 1, 1, 1]]
    else:
        assert generated == [[0, 17, 1]]


@pytest.mark.oracle
def test_no_end_of_generation_in_the_original(original):
    theirs = original("XLM", "WithLMHeadModel")
    with theirs.torch.no_grad():
        theirs.model.pred_layer.proj.bias[1] = 1000.0
    assert theirs.generate([[0, 17]], max_length=5, eos_token_id=1).tolist() == [[0, 17, 1]]
    theirs.model.generation_config.eos_token_id = 1
    never = theirs.generate([[0, 17]], max_length=5, eos_token_id=None)
    assert never.tolist() == [[0, 17, 1, 1, 1]]


def asked_while_generating(call, ids, **options):
    """The inputs of every call that generation makes of a model of ours."""
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        true = type(call).__call__
        watch = lambda self, **inputs: asked.append(inputs) or true(self, **inputs)  # noqa: E731
        patch.setattr(type(call), "__call__", watch)
        call.generate(ids, **options)
    return asked


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("causal_lm_cache", [0, 1, 2, 3, 4]),
        ("xmod/causal_lm_cache", [0, 1, 2, 3, 4]),
        ("xlm_roberta_xl/causal_lm_cache", [2, 3, 4, 5, 6]),
    ],
)
def test_positions_in_generation(model, case, expected):
    options = {"max_new_tokens": 3, "eos_token_id": []}
    asked = asked_while_generating(model(case), [[0, 17, 5]], **options)
    assert [i for call in asked for i in to_numpy(call["position_ids"])[0].tolist()] == expected
    with record() as taps:
        model(case)(input_ids=[[0, 17, 5, 6, 7]])
    assert to_numpy(taps["roberta.embeddings.position_ids"]).tolist() == [[2, 3, 4, 5, 6]]


@pytest.mark.oracle
@pytest.mark.parametrize("family", ROBERTAS)
def test_positions_in_generation_of_the_original(original, family):
    theirs, seen = original(family, "ForCausalLM", is_decoder=True), []
    table = theirs.model.roberta.embeddings.position_embeddings
    table.register_forward_pre_hook(lambda module, ids: seen.extend(ids[0][0].tolist()))
    theirs.generate([[0, 17, 5]], max_new_tokens=3, eos_token_id=None)
    as_forward = family == "XLMRobertaXL" and theirs.version == 4
    assert seen == ([2, 3, 4, 5, 6] if as_forward else [0, 1, 2, 3, 4])


def test_what_xlm_is_asked_in_generation(model):
    call, options = model("xlm/lm"), {"max_new_tokens": 2, "eos_token_id": []}
    first, second = asked_while_generating(call, [[7, 17]], attention_mask=[[0, 1]], **options)
    assert first["input_ids"].tolist() == [[7, 17, 0]]  # the config's mask_token_id is 0
    assert first["langs"].tolist() == [[0, 0, 0]]  # its lang_id, too
    assert second["input_ids"].shape == (1, 4)
    assert "attention_mask" not in first


@pytest.mark.oracle
def test_what_xlm_is_asked_in_generation_in_the_original(original):
    theirs, seen = original("XLM", "WithLMHeadModel"), []
    assert theirs.model.config.mask_index == 5  # what the tokenizer calls <special1>
    theirs.model.transformer.embeddings.register_forward_pre_hook(
        lambda module, ids: seen.append(ids[0].tolist())
    )
    options = {"max_new_tokens": 2, "eos_token_id": None}
    masked = theirs.generate([[7, 17]], attention_mask=theirs.torch.tensor([[0, 1]]), **options)
    assert seen[0] == [[7, 17, 0]]
    assert_same(masked, theirs.generate([[7, 17]], **options))


def test_sampling(model):
    call = model("causal_lm_cache")
    options = {"do_sample": True, "max_new_tokens": 4, "eos_token_id": [], "temperature": 9.0}
    drawn = [call.generate([[0, 17]], seed=seed, **options).tolist() for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert any(other != drawn[0] for other in drawn[2:])


def test_sampled_beams(model):
    with pytest.raises(ValueError, match="num_beams: expected 1 with do_sample"):
        model("causal_lm_cache").generate([[0, 17]], do_sample=True, num_beams=2)


@pytest.mark.oracle
def test_sampled_beams_of_the_original(original):
    theirs = original("XLMRoberta", "ForCausalLM", is_decoder=True)
    drawn = theirs.generate([[0, 17]], do_sample=True, num_beams=2, max_new_tokens=2)
    assert drawn.shape[0] == 1


def test_what_generate_returns(model):
    ids = model("causal_lm_cache").generate([[0, 17]], max_new_tokens=2)
    assert type(ids) is numpy.ndarray
    assert ids.dtype == "int64"
