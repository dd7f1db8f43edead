"""Checkpoints of XLM's authors: names, options, both prediction layers, words and BPE codes."""

import json
import os
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.checkpoints.originals.common import Options
from refimpl.checkpoints.originals.xlm import (
    SPECIAL,
    Model,
    from_original_xlm,
    is_lower_case,
    layout_of,
    prediction_layout,
    read_codes,
    vocabulary_of,
)
from refimpl.checkpoints.pytorch.pickled import Record
from refimpl.errors import CheckpointError
from refimpl.models.model import ARCHITECTURES
from tests.checkpoints.original_trees import JUNK, golden, places, put, tree, xlm
from tests.compare import assert_same
from tests.oracle import original_files as files

LM = "xlm/lm"
ADAPTIVE = "xlm/lm_adaptive"
CASES = [LM, ADAPTIVE, "xlm/lm_untied", "xlm/lm_causal"]
PATH = Path("a.pth")


def read(file, **choices):
    return from_original_xlm(PATH, tree(file), **choices)


def refused(file, **choices):
    with pytest.raises(CheckpointError) as caught:
        read(file, **choices)
    return str(caught.value)


# --- tensors and config ---------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("case", CASES)
def test_the_tensors_of_a_case(case, prefix):
    config, tensors = golden(case)
    if config.get("tie_word_embeddings", True):
        tensors.pop("pred_layer.proj.weight", None)
    checkpoint = read(xlm(case, prefix=prefix, causal=config["causal"]))
    assert checkpoint.architecture == config["architectures"][0]
    assert set(checkpoint.tensors) == set(tensors)
    for name, x in tensors.items():
        assert_same(checkpoint.tensors[name].read(), x)
    for key in ("model_type", "vocab_size", "emb_dim", "n_layers", "n_heads", "n_langs", "asm",
                "use_lang_emb", "max_position_embeddings", "gelu_activation", "causal",
                "sinusoidal_embeddings", "asm_cutoffs", "asm_div_value", "layer_norm_eps",
                "is_encoder", "bos_index", "eos_index", "pad_index", "unk_index", "mask_index",
                "bos_token_id", "pad_token_id"):  # fmt: skip
        assert checkpoint.config.get(key) == config.get(key), key
    tied = checkpoint.config.get("tie_word_embeddings", True)
    assert tied == (config.get("tie_word_embeddings", True) and not config["asm"])


def test_a_model_that_does_not_predict_words():
    def change(tensors):
        return {name: x for name, x in tensors.items() if "pred_layer" not in name}

    checkpoint = read(xlm(LM, change=change))
    assert checkpoint.architecture == "XLMModel"
    assert "embeddings.weight" in checkpoint.tensors
    whole = read(xlm(LM), architecture="XLMModel")
    assert set(whole.tensors) == set(checkpoint.tensors)
    assert "left out: the layer that predicts words" in whole.notes
    said = refused(xlm(LM, change=change), architecture="XLMWithLMHeadModel")
    assert said == "architecture: expected XLMModel of a.pth, got 'XLMWithLMHeadModel'"


def test_the_encoder_of_a_translation_model():
    file = xlm(LM, key="encoder") | {"decoder": {"encoder_attn.0.q_lin.bias": numpy.zeros(9)}}
    checkpoint = read(file)
    assert set(checkpoint.tensors) == set(read(xlm(LM)).tensors)
    assert "left out: the decoder, for which transformers has no class" in checkpoint.notes


def test_a_causal_model_is_noted():
    note = "trained as a causal language model (clm_steps)"
    assert not any(note in one for one in read(xlm(LM)).notes)
    causal = read(xlm(LM, clm_steps=[("en", None)], mlm_steps=[]))
    assert any(note in one for one in causal.notes)
    assert causal.config["causal"] is False  # as published: the options do not say it


@pytest.mark.parametrize("cutoffs", [[7, 15], "7,15"])
def test_cutoffs_as_a_list_and_as_they_were_typed(cutoffs):
    assert read(xlm(ADAPTIVE, asm_cutoffs=cutoffs)).config["asm_cutoffs"] == [7, 15]


def test_options_as_an_object():
    file = xlm(LM)
    expected = read(file).config
    as_object = tree(file) | {"params": Record("argparse.Namespace", (), file["params"])}
    assert from_original_xlm(PATH, as_object).config == expected


def test_no_table_of_languages():
    silent = read(xlm(LM, id2lang=..., lang2id=...))
    assert "id2lang" not in silent.config
    assert "id2lang" not in json.loads(silent.files["tokenizer_config.json"])
    config = read(xlm(LM)).config
    assert config["id2lang"] == {"0": "ar", "1": "de", "2": "en", "3": "zh"}
    assert config["lang2id"] == {"ar": 0, "de": 1, "en": 2, "zh": 3}


def test_language_embeddings_are_what_the_tensors_have():
    def change(tensors):
        return {name: x for name, x in tensors.items() if name != "lang_embeddings.weight"}

    assert read(xlm(LM, change=change, use_lang_emb=...)).config["use_lang_emb"] is False
    assert read(xlm(LM, use_lang_emb=...)).config["use_lang_emb"] is True
    said = refused(xlm(LM, change=change))
    assert "use_lang_emb: expected False, as lang_embeddings.weight has it, got True" in said


# --- names ----------------------------------------------------------------------------------------


def model_of(**more):
    sizes = {"words": 40, "positions": 16, "width": 12, "layers": 2, "language_rows": 3}
    return Model(path=PATH, **{**sizes, "predicts": True, "adaptive": False, **more})


def layout_with_head(options, model):
    layout = layout_of(model, "transformer.") | prediction_layout(Options(PATH, options), model)
    return {ours: shape for ours, (_, shape) in layout.items()}


@pytest.mark.parametrize("adaptive", [False, True])
def test_names_and_shapes_are_those_of_the_class(adaptive):
    asm = {"asm": True, "asm_cutoffs": [9, 20], "asm_div_value": 2.0} if adaptive else {}
    entry = ARCHITECTURES["XLMWithLMHeadModel"]
    config = entry.config(vocab_size=40, max_position_embeddings=16, emb_dim=12, n_layers=2,
                          n_heads=3, n_langs=3, **asm)  # fmt: skip
    layout = layout_with_head(asm, model_of(adaptive=adaptive))
    assert layout == entry.parameters(config)


def test_names_are_those_that_were_published():
    folder = os.environ.get("REFIMPL_PUBLISHED")
    if folder is None:
        pytest.skip("REFIMPL_PUBLISHED names no folder with checkpoints.json")
    published = json.loads((Path(folder) / "checkpoints.json").read_text())["tensor_names"]["xlm"]
    sizes = {"V": 40, "P": 16, "D": 12, "4D": 48, "L": 3}
    expected = {
        one["name"].replace("{i}", "0"): tuple(sizes[letter] for letter in one["shape"])
        for one in published["hf_with_lm_head"]
    }
    assert layout_with_head({}, model_of(layers=1)) == expected


# --- what is missing, or contradicts --------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"n_heads": ...}, "a.pth: n_heads: expected it among the options, found none"),
        ({"n_heads": 2}, "n_heads: expected a divisor of 9, the width, got 2"),
        ({"n_heads": 3.0}, "n_heads: expected int, got 3.0"),
        ({"emb_dim": 1024}, "emb_dim: expected 9, as embeddings.weight has it, got 1024"),
        ({"n_layers": 12}, "n_layers: expected 2, as attentions has it, got 12"),
        ({"n_words": 95000}, "n_words: expected 29"),
        ({"n_langs": 15}, "n_langs: expected 4, as lang_embeddings.weight has it, got 15"),
        ({"n_langs": ...}, "n_langs: expected it among the options, found none"),
        ({"asm": True}, "asm: expected False, as pred_layer has it, got True"),
        ({"gelu_activation": ...}, "gelu_activation: expected it among the options"),
        ({"id2lang": {0: "en"}}, "id2lang: expected the names of 4 languages by their ids"),
        ({"id2lang": {i: i for i in range(4)}}, "id2lang: expected the names of 4 languages"),
        ({"id2lang": {str(i): "x" for i in range(4)}}, "id2lang: expected the names"),
        ({"id2lang": ["en"]}, "id2lang: expected dict, got a list"),
    ],
)
def test_options_that_contradict(params, said):
    assert said in refused(xlm(LM, **params))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"asm_cutoffs": ...}, "asm_cutoffs: expected rising numbers below 29, got None"),
        ({"asm_cutoffs": [15, 7]}, "asm_cutoffs: expected rising numbers below 29, got a list"),
        ({"asm_cutoffs": "7,x"}, "asm_cutoffs: expected rising numbers below 29, got '7,x'"),
        ({"asm_cutoffs": [8, 15]}, "misshapen"),
        ({"asm_div_value": ...}, "asm_div_value: expected it among the options"),
        ({"asm_div_value": 4.0}, "misshapen (4)"),
        ({"asm_div_value": 0}, "asm_div_value: expected more than 1, got 0"),
        ({"asm_div_value": float("nan")}, "asm_div_value: expected float, got nan"),
    ],
)
def test_options_of_an_adaptive_softmax_that_contradict(params, said):
    assert said in refused(xlm(ADAPTIVE, **params))


def with_(name, shape):
    return lambda tensors: tensors | {name: numpy.zeros(shape, numpy.float32)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {n: x for n, x in t.items() if n != "embeddings.weight"},
         "a.pth: expected a tensor embeddings.weight, found none"),
        (lambda t: {n: x for n, x in t.items() if "ffns.0" not in n}, "missing (4): ffns.0.lin1."),
        (with_("layer_norm15.0.weight", (9,)), "a.pth: layer_norm15.0.weight: expected an encoder"),
        (with_("memories.0_in.keys", (9,)), "expected an encoder without memory layers"),
        (with_("proj.weight", (3, 9)), "unexpected (1): proj.weight"),
        (with_("attentions.7.q_lin.bias", (9,)), "unexpected (1): attentions.7.q_lin.bias"),
        (with_("ffns.0.lin1.weight", (9, 9)), "ffns.0.lin1.weight: expected (36, 9), got (9, 9)"),
        (lambda t: {}, "a.pth: model: expected a dictionary of tensors"),
    ],
)  # fmt: skip
def test_tensors_that_are_no_model(change, said):
    assert said in refused(xlm(LM, change=change, n_words=...))


def test_a_matrix_that_ought_to_be_tied():
    said = refused(xlm("xlm/lm_untied", share_inout_emb=True))
    assert "share_inout_emb: expected False, as pred_layer.proj.weight has it, got True" in said


@pytest.mark.parametrize("params", [None, 3, []])
def test_no_options(params):
    assert "params: expected the options of the run" in refused(xlm(LM) | {"params": params})


LIES = [tree(xlm(ADAPTIVE)), tree(xlm("xlm/lm_untied"))]


@settings(max_examples=400)
@given(st.sampled_from([(t, at) for t in LIES for at in places(t)]), st.sampled_from(JUNK))
def test_a_lie_anywhere_is_refused_or_harmless(place, junk):
    whole, where = place
    try:
        checkpoint = from_original_xlm(PATH, put(whole, where, junk))
    except CheckpointError:
        return
    json.dumps(checkpoint.config, allow_nan=False)
    assert all(x.read().shape == x.shape for x in checkpoint.tensors.values())


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (None, "a.pth: dico_id2word: expected the words, found none"),
        ({}, "dico_id2word: expected 29 words, one for each row of embeddings.weight, got 0"),
        (dict(enumerate(files.xlm_words(28))), "expected 29 words"),
        (dict(enumerate(files.xlm_words(29), 1)), "expected 29 words"),
        ({i: i for i in range(29)}, "expected 29 words"),
        (dict(enumerate(["a", *files.xlm_words(29)[:-1]])), "expected <s>, </s>, <pad>, <unk>"),
        (dict(enumerate([*files.xlm_words(28), "x", "w1"])) | {28: "w1"}, "expected 29 words"),
    ],
)
def test_words_that_are_no_vocabulary(words, said):
    assert said in refused(xlm(LM) | {"dico_id2word": words})


def test_two_words_that_hugging_face_cannot_tell_apart():
    words = [*SPECIAL, "x", "x</w>@@"]
    with pytest.raises(CheckpointError) as caught:
        vocabulary_of(PATH, words)
    assert "'x</w>@@' and 'x' are one word, 'x</w>', to a Hugging Face" in str(caught.value)


@given(st.sets(st.text(st.characters(exclude_characters="</w>"), min_size=1)))
def test_every_word_keeps_its_id(pieces):
    words = [*SPECIAL, *sorted({piece.removesuffix("@@") + end for piece in pieces
                                for end in ("", "@@")})]  # fmt: skip
    vocabulary = vocabulary_of(PATH, words)
    assert list(vocabulary.values()) == list(range(len(words)))
    for word, i in list(vocabulary.items())[len(SPECIAL) :]:
        ends = word.endswith("</w>")
        assert words[i] == (word.removesuffix("</w>") if ends else word + "@@")


def test_only_the_mark_at_the_end_is_taken():
    words = [*SPECIAL, "a@@b", "a@@b@@", "@@@", "@@"]
    assert list(vocabulary_of(PATH, words))[14:] == ["a@@b</w>", "a@@b", "@", ""]


def test_case_is_told_by_latin_capitals():
    lower = [f"wort{i}" for i in range(5000)]
    assert is_lower_case([*SPECIAL, *lower, "Москва", "Ω", "5G"])
    assert not is_lower_case([*SPECIAL, *lower, *(f"Wort{i}" for i in range(50))])


def test_the_published_vocabulary_is_of_lower_case():
    folder = os.environ.get("REFIMPL_PUBLISHED")
    if folder is None:
        pytest.skip("REFIMPL_PUBLISHED names no folder with xlm-xnli15")
    published = Path(folder) / "xlm-xnli15"
    words = json.loads((published / "vocab.json").read_text(encoding="utf-8"))
    assert is_lower_case([word.removesuffix("</w>") for word in words])
    codes = (published / "merges.txt").read_bytes()
    assert read_codes(published / "merges.txt") == codes


# --- BPE codes ------------------------------------------------------------------------------------


def test_codes_become_merges(tmp_path):
    path = tmp_path / "codes"
    path.write_text("a n 186\n\xa0 \xa0</w> 7\ne r</w>", encoding="utf-8")
    merges = read(xlm(LM), codes=path).files["merges.txt"]
    assert merges == "a n 186\n\xa0 \xa0</w> 7\ne r</w>\n".encode()
    assert read(xlm(LM), codes=path).notes == []
    assert read(xlm(LM)).notes == [
        "no merges.txt, without which there is no tokenizer: it needs the BPE codes"
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1: expected two pieces and a count, got ''"),
        (b"a n 186\nb\n", "line 2: expected two pieces and a count, got 'b'"),
        (b"a n many\n", "line 1: expected two pieces and a count, got 'a n many'"),
        (b"a n 1\n\nb c 2\n", "line 2: expected two pieces"),
        (b"\xff", "expected BPE codes in UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_holds_no_codes(tmp_path, content, said):
    path = tmp_path / "codes"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_codes(path)
    assert f"{path}: {said}" in str(caught.value)
