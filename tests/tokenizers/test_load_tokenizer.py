"""load_tokenizer: which files make which tokenizer, which settings are served, what is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from refimpl.errors import CheckpointError
from refimpl.tokenizers import load_tokenizer
from refimpl.tokenizers.tokenizer import Tokenizer
from refimpl.tokenizers.xlm.tokenizer import XLMTokenizer
from refimpl.tokenizers.xlm_roberta.library import LibraryEngine
from refimpl.tokenizers.xlm_roberta.tokenizer import XLMRobertaTokenizer
from refimpl.tokenizers.xlm_roberta.unigram import ExplicitEngine

ROOT = Path(__file__).parents[2]
TOY = ROOT / "golden" / "tokenizers" / "xlm_roberta"


@pytest.fixture
def folder(tmp_path):
    """A checkpoint folder of XLM-R to add files to."""
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model_bytes())
    return tmp_path


def model_bytes():
    return (TOY / "sentencepiece.bpe.model").read_bytes()


@pytest.fixture
def xlm_folder(tmp_path):
    """A checkpoint folder of XLM with a vocabulary of three words."""
    special = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{i}>" for i in range(10))]
    vocabulary = [*special, "a</w>", "b</w>", "ab</w>"]
    write(tmp_path / "vocab.json", {token: i for i, token in enumerate(vocabulary)})
    (tmp_path / "merges.txt").write_text("a b</w> 7\n")
    write(tmp_path / "tokenizer_config.json", {"lang2id": {"en": 0, "fr": 1}})
    return tmp_path


def write(file, value):
    file.write_text(json.dumps(value))


def test_light_import():
    code = "import sys, refimpl.tokenizers.xlm_roberta.tokenizer; print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True
    )
    for package in ("sentencepiece", "transformers", "sacremoses", "matplotlib"):
        assert f"'{package}'" not in loaded.stdout


# which tokenizer


@pytest.mark.parametrize("path", [str, Path])
@pytest.mark.parametrize(
    ("engine", "kind"),
    [(None, LibraryEngine), ("library", LibraryEngine), ("explicit", ExplicitEngine)],
)
def test_xlm_roberta(path, engine, kind):
    tok = load_tokenizer(path(TOY), engine=engine)
    assert isinstance(tok, XLMRobertaTokenizer)
    assert isinstance(tok, Tokenizer)
    assert isinstance(tok.engine, kind)
    assert tok.encode("the table") == [0, 15, 81, 2]


@pytest.mark.parametrize("engine", [None, "explicit"])
def test_xlm(xlm_folder, engine):
    tok = load_tokenizer(xlm_folder, engine)
    assert isinstance(tok, XLMTokenizer)
    assert tok("ab b", lang="fr") == {
        "input_ids": [0, 16, 15, 1],
        "token_type_ids": [0] * 4,
        "attention_mask": [1] * 4,
        "langs": [1] * 4,
    }


def test_xlm_has_no_library(xlm_folder):
    with pytest.raises(ValueError, match=r"engine: expected None or 'explicit' for an XLM tok"):
        load_tokenizer(xlm_folder, "library")


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt"])
def test_half_an_xlm(xlm_folder, missing):
    (xlm_folder / missing).unlink()
    with pytest.raises(CheckpointError, match=f"{missing}: no such file"):
        load_tokenizer(xlm_folder)


def test_files_of_two_families(folder, xlm_folder):
    assert folder == xlm_folder
    with pytest.raises(
        CheckpointError,
        match=r"expected the files of one tokenizer, found vocab.json, merges.txt, sentencepiece",
    ):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("tokenizer_config.json", "tokenizer_class", "XLMRobertaTokenizer"),
        ("tokenizer_config.json", "tokenizer_class", "XLMRobertaTokenizerFast"),
        ("config.json", "model_type", "xlm-roberta"),
        ("config.json", "model_type", "xlm-roberta-xl"),
        ("config.json", "model_type", "xmod"),
        ("config.json", "tokenizer_class", "XLMRobertaTokenizer"),
    ],
)
def test_names_that_agree_with_the_files(folder, file, key, value):
    write(folder / file, {key: value})
    assert isinstance(load_tokenizer(folder), XLMRobertaTokenizer)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("tokenizer_config.json", "tokenizer_class", "CamembertTokenizer"),
        ("tokenizer_config.json", "tokenizer_class", "XLMTokenizer"),
        ("config.json", "model_type", "xlm"),
        ("config.json", "model_type", "camembert"),
        ("config.json", "tokenizer_class", "XLMTokenizer"),
    ],
)
def test_names_that_contradict_the_files(folder, file, key, value):
    write(folder / file, {key: value})
    with pytest.raises(
        CheckpointError,
        match=f"{re.escape(str(folder / file))}: {key}: expected .* beside sentencepiece.bpe.model"
        f", got '{value}'",
    ):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("tokenizer_config.json", "tokenizer_class", "XLMRobertaTokenizer"),
        ("config.json", "model_type", "xlm-roberta"),
    ],
)
def test_names_that_contradict_xlms_files(xlm_folder, file, key, value):
    write(xlm_folder / file, {key: value})
    with pytest.raises(
        CheckpointError, match=f"{key}: expected .* beside vocab.json, got '{value}"
    ):
        load_tokenizer(xlm_folder)


# tokenizer.json alone, made of what the toy model file holds


def fast_file(model):
    import base64

    template = [[part, {"id": part}] for part in ("<s>", "A", "</s>", "B")]
    s, a, e, b = ({"Sequence" if len(part) == 1 else "SpecialToken": one} for part, one in template)
    pieces = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
    pieces += [[p, x] for p, x in zip(model.pieces[3:], model.scores[3:], strict=True)]
    return {
        "added_tokens": [{"id": 0, "content": "<s>"}],
        "normalizer": {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(model.charsmap).decode(),
        },
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [s, a, e],
            "pair": [s, a, e, e, b, e],
        },
        "model": {"type": "Unigram", "unk_id": 3, "vocab": [*pieces, ["<mask>", 0.0]]},
    }


@pytest.mark.parametrize(
    ("engine", "kind"),
    [(None, LibraryEngine), ("library", LibraryEngine), ("explicit", ExplicitEngine)],
)
def test_tokenizer_json_alone(tmp_path, engine, kind):
    whole = load_tokenizer(TOY, "explicit")
    write(tmp_path / "tokenizer.json", fast_file(whole.engine.model))
    tok = load_tokenizer(tmp_path, engine)
    assert isinstance(tok.engine, kind)
    for text in ("the table <mask>", "ﬁsh Ｔｈｅ 山 🙂", ""):
        assert tok(text) == whole(text)
    assert tok.get_vocab() == whole.get_vocab()


def test_tokenizer_json_is_not_read_beside_the_model(folder):
    (folder / "tokenizer.json").write_text("{")
    assert load_tokenizer(folder).encode("the") == [0, 15, 2]


def test_broken_tokenizer_json(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer.json: model: expected a dict"):
        load_tokenizer(tmp_path)


# fairseq's folder: the ids are those of dict.txt


def dictionary_of(pieces):
    return "".join(f"{piece} 1\n" for piece in pieces)


@pytest.mark.parametrize("engine", ["library", "explicit"])
def test_fairseq_folder_in_the_models_order(folder, engine):
    pieces = load_tokenizer(TOY, "explicit").engine.model.pieces
    (folder / "dict.txt").write_text(dictionary_of(pieces[3:]))
    ours, plain = load_tokenizer(folder, engine), load_tokenizer(TOY)
    assert ours("the <mask> table 🙂") == plain("the <mask> table 🙂")
    assert ours.get_vocab() == plain.get_vocab()


@pytest.mark.parametrize("engine", ["library", "explicit"])
def test_fairseq_folder_in_another_order(folder, engine):
    entries = ["▁table", "madeupword0000", "▁the", "s"]
    (folder / "dict.txt").write_text(dictionary_of(entries))
    tok = load_tokenizer(folder, engine)
    assert tok.encode("the tables <mask> lamp") == [0, 6, 4, 7, 8, 3, 2]
    assert tok.convert_ids_to_tokens([4, 5, 6, 7, 8, 3]) == [*entries, "<mask>", "<unk>"]
    assert (tok.vocab_size, tok.mask_token_id) == (9, 8)
    assert tok.convert_tokens_to_ids(["▁lamp", "</s>", "▁the"]) == [3, 2, 6]
    assert tok.decode([6, 4, 7]) == "the tables"
    enc = tok("the tables", return_offsets_mapping=True)
    assert enc.offset_mapping == [(0, 0), (0, 3), (3, 9), (9, 10), (0, 0)]
    assert len(tok.get_vocab()) == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("▁the 1\n▁nowhere 1\n", "dict.txt: line 2: the model has no piece '▁nowhere'"),
        ("▁the\n", "dict.txt: line 1: expected a piece, a space and a count"),
        ("", "dict.txt: expected lines of a piece and a count, found none"),
    ],
)
def test_broken_dictionary(folder, text, message):
    (folder / "dict.txt").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_tokenizer(folder)


# what is refused


@pytest.mark.parametrize("engine", ["sentencepiece", "", 5, True])
def test_unknown_engine(engine):
    with pytest.raises(
        ValueError, match=f"engine: expected None or one of 'library', 'explicit', got {engine!r}"
    ):
        load_tokenizer(TOY, engine=engine)


@pytest.mark.parametrize("path", [None, 5, b"x"])
def test_path_of_a_wrong_type(path):
    with pytest.raises(TypeError, match="path: expected a str or a path"):
        load_tokenizer(path)


def test_no_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone: no such folder"):
        load_tokenizer(tmp_path / "gone")
    with pytest.raises(CheckpointError, match=r"model: expected a checkpoint folder, got a file"):
        load_tokenizer(TOY / "sentencepiece.bpe.model")
    none = "expected a tokenizer, vocab.json and merges.txt or sentencepiece.bpe.model or tokenizer"
    with pytest.raises(CheckpointError, match=none):
        load_tokenizer(tmp_path)
    (tmp_path / "sentencepiece.bpe.model").mkdir()
    with pytest.raises(CheckpointError, match=none):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is no SentencePiece model"),
        (bytes(64), "is no SentencePiece model"),
    ],
)
def test_broken_model_file(tmp_path, data, message):
    file = tmp_path / "sentencepiece.bpe.model"
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{re.escape(str(file))}: .*{message}") as raised:
        load_tokenizer(tmp_path)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_model_file_cut_anywhere(tmp_path):
    data = model_bytes()
    for end in range(0, len(data), 11):
        (tmp_path / "sentencepiece.bpe.model").write_bytes(data[:end])
        with pytest.raises(CheckpointError, match=r"sentencepiece\.bpe\.model: "):
            load_tokenizer(tmp_path)


def test_model_of_another_family(tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model_bytes().replace(b"<s>", b"<S>"))
    with pytest.raises(
        CheckpointError, match="pieces 0, 1, 2 are <unk>, <s>, </s>, got <unk>, <S>"
    ):
        load_tokenizer(tmp_path)


MASK_TOKEN = {"content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False}


@pytest.mark.parametrize(
    ("config", "length", "side"),
    [
        ({}, None, "right"),
        ({"model_max_length": 512}, 512, "right"),
        ({"model_max_length": 512.0, "padding_side": "left"}, 512, "left"),
        ({"model_max_length": 1000000000000000019884624838656}, None, "right"),
        ({"model_max_length": 1e30}, None, "right"),
        ({"model_max_length": None}, None, "right"),
        ({"max_len": 512}, 512, "right"),
        ({"tokenizer_class": "XLMRobertaTokenizerFast", "mask_token": MASK_TOKEN}, None, "right"),
        ({"clean_up_tokenization_spaces": True, "chat_template": None}, None, "right"),
        ({"added_tokens_decoder": {"0": {"content": "<s>"}, "301": MASK_TOKEN}}, None, "right"),
        ({"sp_model_kwargs": {}, "additional_special_tokens": []}, None, "right"),
    ],
)
def test_settings_served(folder, config, length, side):
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tok = load_tokenizer(folder)
    assert (tok.model_max_length, tok.padding_side) == (length, side)
    assert tok.encode("the <mask>") == [0, 15, 301, 2]


def test_settings_at_work(folder):
    config = {"model_max_length": 4, "padding_side": "left"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tok = load_tokenizer(folder)
    assert tok(["the table the", "the"], padding="max_length", truncation=True) == {
        "input_ids": [[0, 15, 81, 2], [1, 0, 15, 2]],
        "attention_mask": [[1, 1, 1, 1], [0, 1, 1, 1]],
    }
    assert tok(["the", "the table"], padding=True, padding_side="right").input_ids[0] == [
        0,
        15,
        2,
        1,
    ]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer_config.json", "{", "expected a JSON file"),
        ("tokenizer_config.json", "\udcff", "expected a JSON file"),
        ("tokenizer_config.json", "[]", "expected a JSON object, got list"),
        (
            "tokenizer_config.json",
            {"cls_token": "[CLS]"},
            r"cls_token: expected '<s>', got '\[CLS\]'",
        ),
        ("tokenizer_config.json", {"pad_token": None}, "pad_token: expected '<pad>', got None"),
        (
            "tokenizer_config.json",
            {"mask_token": {"content": "<mask>"}},
            "mask_token.lstrip: expec",
        ),
        (
            "tokenizer_config.json",
            {"eos_token": MASK_TOKEN},
            "eos_token: expected '</s>', got '<mask",
        ),
        (
            "tokenizer_config.json",
            {"unk_token": {"content": "<unk>", "rstrip": True}},
            "rstrip: exp",
        ),
        ("tokenizer_config.json", {"truncation_side": "left"}, "truncation_side: expected 'right'"),
        (
            "tokenizer_config.json",
            {"padding_side": "up"},
            "padding_side: expected 'right' or 'left'",
        ),
        (
            "tokenizer_config.json",
            {"split_special_tokens": True},
            "split_special_tokens: expected F",
        ),
        (
            "tokenizer_config.json",
            {"sp_model_kwargs": {"alpha": 1}},
            "sp_model_kwargs: expected none",
        ),
        (
            "tokenizer_config.json",
            {"additional_special_tokens": ["<x>"]},
            "additional_special_tokens",
        ),
        (
            "tokenizer_config.json",
            {"model_input_names": ["input_ids"]},
            "model_input_names: expected",
        ),
        (
            "tokenizer_config.json",
            {"model_max_length": "512"},
            "model_max_length: expected a whole",
        ),
        ("tokenizer_config.json", {"model_max_length": 0}, "model_max_length: .* got 0"),
        ("tokenizer_config.json", {"model_max_length": 1.5}, "model_max_length: .* got 1.5"),
        ("tokenizer_config.json", {"model_max_length": True}, "model_max_length: .* got True"),
        ("tokenizer_config.json", '{"model_max_length": NaN}', "model_max_length: .* got nan"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"302": {"content": "<x>"}}},
            r"added_tokens_decoder\[302\]: expected none, got '<x>'",
        ),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"5": MASK_TOKEN}},
            r"decoder\[5\]: expec",
        ),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"301": {**MASK_TOKEN, "lstrip": False}}},
            r"added_tokens_decoder\[301\].lstrip: expected True, got False",
        ),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": [1]},
            "type of added_tokens_decoder: exp",
        ),
        (
            "special_tokens_map.json",
            {"bos_token": "<bos>"},
            "bos_token: expected '<s>', got '<bos>'",
        ),
        (
            "special_tokens_map.json",
            {"additional_special_tokens": ["<x>"]},
            "additional_special_tok",
        ),
        ("added_tokens.json", {"<x>": 302}, "id of '<x>': expected none, got 302"),
        ("added_tokens.json", {"<mask>": 7}, "id of '<mask>': expected 301, got 7"),
    ],
)
def test_settings_refused(folder, file, content, message):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / file).write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(CheckpointError, match=f"{re.escape(str(folder / file))}: .*{message}"):
        load_tokenizer(folder)


def test_newer_config_rules_over_older_files(folder):
    config = {"added_tokens_decoder": {"301": MASK_TOKEN}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "added_tokens.json").write_text('{"<x>": 302}')
    assert load_tokenizer(folder).tokenize("<x>") == ["▁", "<", "x", ">"]
