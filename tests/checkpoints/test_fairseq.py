"""fairseq's checkpoints: names of all ages, what options must agree with, heads, vocabularies."""

import json
import os
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.checkpoints.originals.fairseq import from_fairseq, head_layout, layout_of
from refimpl.checkpoints.originals.fairseq_config import Model
from refimpl.checkpoints.originals.fairseq_vocabulary import parse, read_vocabulary, split_at_mask
from refimpl.checkpoints.pytorch.pickled import Record
from refimpl.errors import CheckpointError
from refimpl.models.model import ARCHITECTURES
from refimpl.tokenizers.xlm_roberta.library import LibraryEngine
from tests.checkpoints.original_trees import (
    JUNK,
    WORDS,
    fairseq,
    golden,
    node,
    places,
    put,
    tree,
)
from tests.compare import assert_same
from tests.oracle import original_files as files

CASES = ["xlm_roberta/masked_lm", "xlm_roberta_xl/masked_lm", "xmod/masked_lm"]
XLMR = CASES[0]
XMOD = CASES[2]
WORD_TABLE = "encoder.sentence_encoder.embed_tokens.weight"
TYPES = "roberta.embeddings.token_type_embeddings.weight"


@pytest.fixture
def folder(tmp_path):
    """A folder with a vocabulary of the cases' 29 ids."""
    files.beside_fairseq_file(tmp_path, WORDS)
    return tmp_path


def read(folder, file, **choices):
    return from_fairseq(folder / "model.pt", tree(file), **choices)


def refused(folder, file, **choices):
    """Return why a file is refused, without the file's name."""
    with pytest.raises(CheckpointError) as caught:
        read(folder, file, **choices)
    return str(caught.value).replace(f"{folder / 'model.pt'}", "FILE")


def assert_tensors(checkpoint, expected):
    """The tensors are those expected, but for the token types, which are none."""
    assert set(checkpoint.tensors) | {TYPES} == set(expected) | {TYPES}
    for name, x in expected.items():
        if name != TYPES:
            assert_same(checkpoint.tensors[name].read(), x)
            assert checkpoint.tensors[name].shape == x.shape


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("case", CASES)
def test_the_tensors_of_a_case(folder, case, old):
    config, tensors = golden(case)
    del tensors["lm_head.decoder.weight"]  # tied
    checkpoint = read(folder, fairseq(case, old=old))
    assert checkpoint.architecture == config["architectures"][0]
    assert_tensors(checkpoint, tensors)
    assert_same(checkpoint.tensors[TYPES].read(), numpy.zeros((1, 12), numpy.float32))
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                "intermediate_size", "max_position_embeddings", "layer_norm_eps", "model_type",
                "languages", "adapter_reduction_factor", "adapter_layer_norm", "pre_norm",
                "adapter_reuse_layer_norm", "ln_before_adapter", "hidden_act",
                "default_language", "bos_token_id", "pad_token_id", "eos_token_id",
                "position_embedding_type"):  # fmt: skip
        assert checkpoint.config.get(key) == config.get(key), key
    assert checkpoint.config["type_vocab_size"] == 1


def test_names_without_the_module_around_them(folder):
    bare = fairseq(XLMR)
    bare["model"] = {name.removeprefix("encoder."): x for name, x in bare["model"].items()}
    assert set(read(folder, bare).tensors) == set(read(folder, fairseq(XLMR)).tensors)


def test_buffers_are_left_out(folder):
    buffers = {
        "encoder.sentence_encoder.version": numpy.array([3.0], numpy.float32),
        "encoder.sentence_encoder.embed_positions._float_tensor": numpy.zeros(1, numpy.float32),
    }
    with_them = read(folder, fairseq(XLMR, change=lambda tensors: tensors | buffers))
    assert set(with_them.tensors) == set(read(folder, fairseq(XLMR)).tensors)
    assert with_them.notes == read(folder, fairseq(XLMR)).notes


def test_float16_stays(folder):
    half = fairseq(
        XLMR, change=lambda t: {name: x.astype(numpy.float16) for name, x in t.items()}, old=True
    )
    tensors = read(folder, half).tensors
    assert {x.dtype for x in tensors.values()} == {"F16"}
    assert {x.read().dtype for x in tensors.values()} == {numpy.dtype("f2")}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("head", [None, "mnli"])
def test_names_and_shapes_are_those_of_the_class(case, head):
    config, _ = golden(case)
    family = config["architectures"][0].removesuffix("ForMaskedLM")
    model = Model(
        path=Path(), family=family, rows=29, positions=16, width=12, layers=3, inner=20,
        pre_norm=family == "XLMRobertaXL", classifiers={"mnli": 2},
        languages=("en_XX", "de_DE") if family == "Xmod" else (), narrow=6, adapter_norm=False,
    )  # fmt: skip
    layout = layout_of(model) | head_layout(model, head)
    kind = "ForMaskedLM" if head is None else "ForSequenceClassification"
    entry = ARCHITECTURES[family + kind]
    sizes = {"vocab_size": 29, "max_position_embeddings": 16, "hidden_size": 12,
             "num_hidden_layers": 3, "intermediate_size": 20, "type_vocab_size": 1,
             "num_attention_heads": 2}  # fmt: skip
    more = {"languages": ["en_XX", "de_DE"]} if family == "Xmod" else {}
    expected = entry.parameters(entry.config(**sizes, **more))
    expected.pop(TYPES)
    assert {ours: shape for ours, (_, shape) in layout.items()} == expected


def published():
    folder = os.environ.get("REFIMPL_PUBLISHED")
    if folder is None:
        pytest.skip("REFIMPL_PUBLISHED names no folder with checkpoints.json")
    return json.loads((Path(folder) / "checkpoints.json").read_text())["tensor_names"]


@pytest.mark.parametrize("case", CASES)
def test_names_are_those_that_were_published(case):
    config, _ = golden(case)
    family = config["architectures"][0].removesuffix("ForMaskedLM")
    model = Model(
        path=Path(), family=family, rows=29, positions=16, width=12, layers=1, inner=20,
        pre_norm=family == "XLMRobertaXL", classifiers={},
        languages=("en_XX",) if family == "Xmod" else (), narrow=6, adapter_norm=family == "Xmod",
    )  # fmt: skip
    sizes = {"V": 29, "P": 16, "H": 12, "I": 20, "T": 1, "B": 6}
    expected = {}
    for one in published()[case.split("/")[0]]["hf_with_lm_head"]:
        name = one["name"].replace("{i}", "0").replace("{lang}", "en_XX")
        expected[name] = tuple(sizes[letter] for letter in one["shape"])
    for name in (TYPES, "lm_head.decoder.bias"):
        expected.pop(name)
    if not model.pre_norm:
        expected = {n: x for n, x in expected.items() if "encoder.LayerNorm" not in n}
    layout = layout_of(model) | head_layout(model, None)
    assert {ours: shape for ours, (_, shape) in layout.items()} == expected


# --- what is missing, or contradicts --------------------------------------------------------------


def without(*names):
    return lambda tensors: {name: x for name, x in tensors.items() if name not in names}


def with_(**more):
    arrays = {name: numpy.zeros(shape, numpy.float32) for name, shape in more.items()}
    return lambda tensors: tensors | arrays


LAYER = "encoder.sentence_encoder.layers.1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(WORD_TABLE), "FILE: expected a tensor sentence_encoder.embed_tokens.weight"),
        (without("encoder.sentence_encoder.embed_positions.weight"),
         "FILE: expected a tensor sentence_encoder.embed_positions.weight, found none"),
        (without("encoder.sentence_encoder.layernorm_embedding.weight"),
         "FILE: expected XLM-R (embeddings normalised, no norm at the end)"),
        (without(f"{LAYER}.fc2.bias", f"{LAYER}.self_attn.v_proj.weight"),
         "FILE: these are not the tensors of XLMRobertaForMaskedLM: missing (2): "
         "sentence_encoder.layers.1.fc2.bias, sentence_encoder.layers.1.self_attn.v_proj.weight"),
        (with_(**{f"{LAYER}.self_attn.bias_k": (1, 1, 12), "encoder.regression_head": (12,)}),
         "unexpected (2): regression_head, sentence_encoder.layers.1.self_attn.bias_k"),
        (with_(**{"encoder.sentence_encoder.layers.3.fc1.weight": (20, 12)}), "missing ("),
        (with_(**{f"{LAYER}.fc1.weight": (20, 13)}),
         "misshapen (1): sentence_encoder.layers.1.fc1.weight: expected (11, 12), got (20, 13)"),
        (with_(**{WORD_TABLE: (29, 0)}), "expected a shape of 2 sizes, got (29, 0)"),
        (with_(**{WORD_TABLE: (28, 12)}),
         "expected a row for each of the 29 ids of dict.txt, got 28"),
        (with_(**{"encoder.sentence_encoder.layer_norm.weight": (12,)}),
         "got a norm of the embeddings, one at the end and no adapters"),
        (with_(**{"decoder.sentence_encoder.embed_tokens.weight": (29, 12)}),
         "stands there twice, as sentence_encoder.embed_tokens.weight"),
        (lambda tensors: tensors | {"x": 3}, "FILE: model: 'x': expected a tensor, got"),
        (lambda tensors: {}, "FILE: model: expected a dictionary of tensors, got"),
    ],
)  # fmt: skip
def test_tensors_that_are_no_model(folder, change, said):
    assert said in refused(folder, fairseq(XLMR, change=change))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoder_attention_heads": ...}, "FILE: encoder_attention_heads: expected it among the"),
        ({"encoder_attention_heads": 5}, "expected a divisor of 12, the width, got 5"),
        ({"encoder_attention_heads": 0}, "expected a divisor of 12, the width, got 0"),
        ({"encoder_attention_heads": "3"}, "encoder_attention_heads: expected int, got '3'"),
        ({"encoder_attention_heads": True}, "encoder_attention_heads: expected int, got True"),
        ({"encoder_embed_dim": 768}, "encoder_embed_dim: expected 12, as sentence_encoder.embed_"),
        ({"encoder_layers": 12}, "encoder_layers: expected 2"),
        ({"encoder_ffn_embed_dim": 12}, "encoder_ffn_embed_dim: expected 11"),
        ({"max_positions": 512}, "max_positions: expected 14"),
        ({"encoder_normalize_before": True}, "encoder_normalize_before: expected False"),
        ({"layernorm_embedding": False}, "layernorm_embedding: expected True"),
        ({"encoder_learned_pos": False}, "encoder_learned_pos: expected True"),
        ({"no_scale_embedding": False}, "no_scale_embedding: expected True, as every class"),
        ({"encoder_layers_to_keep": "0,2"}, "encoder_layers_to_keep: expected all layers"),
        ({"activation_fn": "swish"}, "activation_fn: expected one of gelu, gelu_accurate, relu"),
        ({"activation_fn": "relu"}, "activation_fn: expected 'gelu', as the head that predicts"),
    ],
)
def test_options_that_contradict(folder, options, said):
    assert said in refused(folder, fairseq(XLMR, **options))


def test_options_may_be_silent(folder):
    silent = dict.fromkeys(
        ["encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim", "max_positions", "dropout",
         "activation_fn", "pooler_dropout", "untie_weights_roberta", "attention_dropout"], ...
    )  # fmt: skip
    checkpoint = read(folder, fairseq(XLMR, **silent))
    assert checkpoint.config["num_hidden_layers"] == 2
    assert checkpoint.config["hidden_act"] == "gelu"


@pytest.mark.parametrize("args", [None, 3, "x"])
@pytest.mark.parametrize("cfg", [None, {}, {"model": None}, {"model": [1]}])
def test_no_options(folder, args, cfg):
    file = fairseq(XLMR) | {"args": args, "cfg": cfg}
    assert "expected the options of the training run as args, or as cfg" in refused(folder, file)


def test_options_as_omegaconf_pickles_them(folder):
    file = fairseq(XMOD)
    options = vars(file["cfg"]["model"])
    expected = read(folder, file).config
    assert expected["languages"] == ["en_XX", "de_DE"]
    file["cfg"] = node({"model": options, "task": {"data": "x"}})
    assert read(folder, file).config == expected


def test_an_omegaconf_node_that_holds_itself(folder):
    loop = Record("omegaconf.nodes.AnyNode", (), {})
    loop.state["_val"] = loop
    said = refused(folder, fairseq(XLMR, encoder_attention_heads=loop))
    assert "encoder_attention_heads: expected int, got" in said


def test_two_tables_that_are_not_tied(folder):
    def untie(tensors):
        return tensors | {"encoder.lm_head.weight": tensors["encoder.lm_head.weight"] + 1}

    checkpoint = read(folder, fairseq(XLMR, change=untie, untie_weights_roberta=True))
    assert checkpoint.config["tie_word_embeddings"] is False
    expected = golden(XLMR)[1]["lm_head.decoder.weight"] + 1
    assert_same(checkpoint.tensors["lm_head.decoder.weight"].read(), expected)
    said = refused(folder, fairseq(XLMR, change=untie, untie_weights_roberta=False))
    assert "untie_weights_roberta: expected True, as lm_head.weight has it, got False" in said


LIES = [tree(fairseq(XMOD)), tree(fairseq("xlm_roberta/classification"))]


@settings(max_examples=400)
@given(st.sampled_from([(t, at) for t in LIES for at in places(t)]), st.sampled_from(JUNK))
def test_a_lie_anywhere_is_refused_or_harmless(tmp_path_factory, place, junk):
    whole, where = place
    folder = tmp_path_factory.mktemp("lies")
    files.beside_fairseq_file(folder, WORDS)
    try:
        checkpoint = from_fairseq(folder / "model.pt", put(whole, where, junk))
    except CheckpointError:
        return
    json.dumps(checkpoint.config, allow_nan=False)
    assert all(x.read().shape == x.shape for x in checkpoint.tensors.values())


# --- X-MOD ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"languages": ["en_XX"]}, "languages: expected those of the adapters, de_DE, en_XX, got"),
        ({"languages": ["en_XX", "en_XX"]}, "languages: expected those of the adapters"),
        ({"languages": "en_XX"}, "languages: expected list, got 'en_XX'"),
        ({"bottleneck": 3}, "bottleneck: expected 2, as adapters are 6 wide, got 3"),
        ({"bottleneck": 0}, "bottleneck: expected 2"),
        ({"adapter_layer_norm": True}, "adapter_layer_norm: expected False"),
        ({"arch": "mine", "ln_before_adapter": ...}, "ln_before_adapter: expected it among the"),
    ],
)
def test_xmod_options_that_contradict(folder, options, said):
    assert said in refused(folder, fairseq(XMOD, **options))


def test_a_language_s_id_is_its_place_among_the_options(folder):
    config = read(folder, fairseq(XMOD, languages=["en_XX", "de_DE"])).config
    assert config["languages"] == ["en_XX", "de_DE"]
    silent = read(folder, fairseq(XMOD, languages=..., bottleneck=...)).config
    assert silent["languages"] == ["de_DE", "en_XX"]  # as they follow one another in this file
    assert silent["adapter_reduction_factor"] == 2


@pytest.mark.parametrize(
    ("arch", "expected"), [("xmod_base_13", True), ("xmod_large_prenorm", False)]
)
def test_xmod_s_architectures_have_defaults(folder, arch, expected):
    silent = {"adapter_reuse_layer_norm": ..., "ln_before_adapter": ..., "arch": arch}
    config = read(folder, fairseq(XMOD, **silent)).config
    assert config["adapter_reuse_layer_norm"] is config["ln_before_adapter"] is expected


def test_languages_times_layers_are_counted_before_they_are_listed(folder):
    def change(tensors):
        name = "encoder.sentence_encoder.layers.{}.adapter_modules.{}.fc1.weight"
        one = tensors[name.format(0, "en_XX")]
        more = {name.format(0, f"l{i}"): one for i in range(3000)}
        return tensors | more | {name.format(i, "en_XX"): one for i in range(3000)}

    said = refused(folder, fairseq(XMOD, change=change))
    assert said == "FILE: expected adapters of every language in every layer"


# --- heads ----------------------------------------------------------------------------------------

CLASSES = "xlm_roberta/classification"


def two_heads(tensors):
    """The head of the case under two names, and the head that predicts words."""
    lm_head = {n: x for n, x in fairseq(XLMR)["model"].items() if "lm_head" in n}
    lm_head["encoder.lm_head.weight"] = tensors[WORD_TABLE]
    other = {n.replace(".mnli.", ".other."): x for n, x in tensors.items() if ".mnli." in n}
    return tensors | other | lm_head


@pytest.mark.parametrize("case", [CLASSES, "xmod/classification"])
def test_a_classification_head(folder, case):
    config, tensors = golden(case)
    checkpoint = read(folder, fairseq(case))
    assert checkpoint.architecture == config["architectures"][0]
    assert checkpoint.config["id2label"] == config["id2label"]
    assert checkpoint.config["label2id"] == {f"LABEL_{i}": i for i in range(3)}
    assert_tensors(checkpoint, tensors)


def test_one_of_several_heads(folder):
    file = fairseq(CLASSES, change=two_heads)
    checkpoint = read(folder, file, head="other")
    assert checkpoint.architecture == "XLMRobertaForSequenceClassification"
    assert_tensors(checkpoint, golden(CLASSES)[1])
    left_out = [note for note in checkpoint.notes if note.startswith("left out")]
    assert left_out == [
        "left out: classification_heads.mnli (4 tensors)", "left out: lm_head (6 tensors)"
    ]  # fmt: skip


def test_the_head_that_predicts_words_beside_classification_heads(folder):
    file = fairseq(CLASSES, change=two_heads)
    checkpoint = read(folder, file, architecture="XLMRobertaForMaskedLM")
    assert "lm_head.dense.weight" in checkpoint.tensors
    assert "classifier.dense.weight" not in checkpoint.tensors
    assert "id2label" not in checkpoint.config


@pytest.mark.parametrize(
    ("case", "choices", "said"),
    [
        (CLASSES, {}, "head: expected one of mnli, other (in FILE), got None"),
        (CLASSES, {"head": "x"}, "head: expected one of mnli, other (in FILE), got 'x'"),
        (XLMR, {"head": "x"}, "head: expected one of none (in FILE), got 'x'"),
        (CLASSES, {"architecture": "XLMRobertaModel"},
         "architecture: expected XLMRobertaForMaskedLM or XLMRobertaForSequenceClassification"),
        (CLASSES, {"architecture": "XLMRobertaForMaskedLM", "head": "mnli"},
         "head: XLMRobertaForMaskedLM has no classification head, got 'mnli'"),
        (XLMR, {"architecture": "XLMRobertaForSequenceClassification"},
         "head: expected one of none"),
    ],
)  # fmt: skip
def test_no_such_head(folder, case, choices, said):
    change = two_heads if case == CLASSES else lambda tensors: tensors
    assert said in refused(folder, fairseq(case, change=change), **choices)


def test_a_classification_head_of_another_kind(folder):
    said = refused(folder, fairseq(CLASSES, pooler_activation_fn="relu"))
    assert "pooler_activation_fn: expected 'tanh', as the classification head has it" in said
    file = fairseq(CLASSES, change=with_(**{"classification_heads.mnli.dense.weight": (7, 12)}))
    assert "classification_heads.mnli.dense.weight: expected (12, 12), got (7, 12)" in refused(
        folder, file
    )


# --- vocabularies ---------------------------------------------------------------------------------

ALL = files.pieces()[3:]


def vocabulary_of(tmp_path, words, content=None):
    files.beside_fairseq_file(tmp_path, words)
    if content is not None:
        (tmp_path / "dict.txt").write_bytes(content)
    return read_vocabulary(tmp_path)


def pieces_of(tmp_path, vocabulary):
    (tmp_path / "new.model").write_bytes(vocabulary.model)
    return LibraryEngine(tmp_path / "new.model"), files.pieces(tmp_path / "new.model")


def test_the_published_order_leaves_the_file_as_it_is(tmp_path):
    vocabulary = vocabulary_of(tmp_path, ALL)
    assert vocabulary == (len(ALL) + 5, len(ALL) + 5, files.SPM.read_bytes(), False, 0)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_may_end_either_way(tmp_path, newline):
    content = newline.join(f"{word} 1" for word in ALL).encode()
    assert not vocabulary_of(tmp_path, ALL, content).is_new


def test_pieces_take_the_order_of_the_dictionary(tmp_path):
    words = ALL[::-2]
    vocabulary = vocabulary_of(tmp_path, words)
    assert pieces_of(tmp_path, vocabulary)[1] == ["<unk>", "<s>", "</s>", *words]
    assert vocabulary[:2] == (len(words) + 5, len(words) + 5)
    assert vocabulary.left_out == len(ALL) - len(words)


def test_a_text_whose_pieces_are_all_kept_is_cut_as_before(tmp_path):
    text = "The lamp is on the table."
    before = LibraryEngine(files.SPM).tokenize(text)
    kept = set(before)
    words = [word for i, word in enumerate(ALL) if word in kept or i % 3]
    model, pieces = pieces_of(tmp_path, vocabulary_of(tmp_path, words))
    assert model.tokenize(text) == before
    assert [pieces.index(piece) + 1 for piece in before] == [4 + words.index(p) for p in before]


def test_words_that_are_no_pieces_take_their_ids_and_nothing_else(tmp_path):
    words = ["madeupword0000", *ALL, "<lang:en>"]
    model, pieces = pieces_of(tmp_path, vocabulary_of(tmp_path, words))
    assert pieces == ["<unk>", "<s>", "</s>", *words]
    text = "madeupword0000 <lang:en> The lamp"
    assert model.tokenize(text) == LibraryEngine(files.SPM).tokenize(text)


def test_filling_behind_the_mask(tmp_path):
    vocabulary = vocabulary_of(tmp_path, [*ALL, "<mask>", "madeupword0000", "madeupword0001"])
    assert (vocabulary.size, vocabulary.tokens) == (len(ALL) + 7, len(ALL) + 5)
    assert not vocabulary.is_new


def test_notes_on_a_vocabulary(folder):
    notes = read(folder, fairseq(XLMR)).notes
    assert notes[0].startswith("sentencepiece.bpe.model was written anew")
    assert notes[1].startswith(f"{len(ALL) - 24} pieces of sentencepiece.bpe.model are not in")
    files.beside_fairseq_file(folder, [*WORDS[:-3], "<mask>", "madeupword0000"])
    assert read(folder, fairseq(XLMR)).notes[2] == (
        "3 rows of the word embeddings belong to no token"
    )


LINES = "".join(f"{word} 1\n" for word in ALL[:9])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "dict.txt: expected a word and its count in each line, it is empty"),
        (b"\n", "dict.txt: line 1: expected a word and its count, got ''"),
        (f"{LINES}\n".encode(), "dict.txt: line 10: expected a word and its count, got ''"),
        (f"{LINES}word\n".encode(), "line 10: expected a word and its count, got 'word'"),
        (f"{LINES}word x\n".encode(), "line 10: expected a word and its count, got 'word x'"),
        (f"{LINES}{ALL[2]} 3\n".encode(), f"line 10: {ALL[2]!r} comes twice"),
        (f"{LINES}<s> 3 #fairseq:overwrite\n".encode(), "line 10: expected a word and its count"),
        (f"{LINES}<s> 3\n".encode(), "line 10: <s> stands before the first line already"),
        (f"{LINES}<mask> 1\n{ALL[20]} 1\n".encode(), "expected no piece behind <mask>"),
        (b"\xff 1\n", "dict.txt: expected UTF-8"),
    ],
)
def test_a_broken_dictionary(tmp_path, content, said):
    with pytest.raises(CheckpointError) as caught:
        vocabulary_of(tmp_path, ALL, content)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["dict.txt", "sentencepiece.bpe.model"])
def test_what_must_lie_beside_the_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError) as caught:
        read_vocabulary(folder)
    assert str(caught.value) == f"{folder / name}: no such file, ids cannot be known without it"
    (folder / name).mkdir()
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        read_vocabulary(folder)


@pytest.mark.parametrize("cut", [1, 2, 17, 100])
def test_a_model_file_that_is_cut_short(folder, cut):
    path = folder / files.SPM.name
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(CheckpointError) as caught:
        read_vocabulary(folder)
    assert str(caught.value) == f"{path}: is cut short, or no SentencePiece model"


def test_a_model_file_that_is_cut_between_two_fields(folder):
    path = folder / files.SPM.name
    whole = path.read_bytes()
    pieces = [f.whole for f in parse(path, whole) if f.number == 1]
    assert whole.startswith(b"".join(pieces))
    path.write_bytes(b"".join(pieces[:200]))
    with pytest.raises(CheckpointError, match="is cut short: it ends before its normaliser"):
        read_vocabulary(folder)


BROKEN = [
    b"",
    b"\x00",
    b"\xff" * 40,
    b"\x0a",
    b"\x0a\xff\xff\xff\xff\x7f",
    b"\x0b",
    b"PK\3\4",
    b"{",
]


@pytest.mark.parametrize("content", BROKEN)
def test_no_model_file(folder, content):
    (folder / files.SPM.name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"sentencepiece.bpe.model: "):
        read_vocabulary(folder)


def test_fields_of_other_kinds_are_passed_over():
    message = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1d" + bytes(4) + b"\x22\x01A"
    assert [(f.number, len(f.content)) for f in parse(Path(), message)] == [
        (1, 2), (2, 8), (3, 4), (4, 1)
    ]  # fmt: skip
    assert b"".join(f.whole for f in parse(Path(), message)) == message


def test_split_without_a_mask():
    assert split_at_mask(["a"]) == (["a"], [])
