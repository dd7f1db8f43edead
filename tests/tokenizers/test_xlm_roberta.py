"""XLM-RoBERTa's tokenizer: toy vocabulary, published vocabulary, and the original itself.

Every literal id below was printed by transformers 4.57.6 (its Python tokenizer), not by refimpl.
Tests of the published vocabulary read it from the folder that REFIMPL_PUBLISHED names.
"""

import doctest
import json
import os
import random
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.errors import CheckpointError
from refimpl.tokenizers import load_tokenizer, xlm_roberta
from refimpl.tokenizers.xlm_roberta import split_at_special_tokens

ROOT = Path(__file__).parents[2]
TOY = ROOT / "golden" / "tokenizers" / "xlm_roberta"
FIXED = settings(derandomize=True, deadline=None)


@pytest.fixture(scope="module")
def tok():
    return load_tokenizer(TOY)


@pytest.fixture
def folder(tmp_path):
    """A checkpoint folder to add files to."""
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model_bytes())
    return tmp_path


def model_bytes():
    return (TOY / "sentencepiece.bpe.model").read_bytes()


def published_folder():
    folder = os.environ.get("REFIMPL_PUBLISHED")
    if not folder or not (Path(folder) / "xlm-roberta" / "sentencepiece.bpe.model").is_file():
        pytest.skip("REFIMPL_PUBLISHED names no folder with xlm-roberta/sentencepiece.bpe.model")
    return Path(folder)


@pytest.fixture(scope="module")
def published_tok():
    return load_tokenizer(published_folder() / "xlm-roberta")


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(xlm_roberta)
    assert (failed, tried > 8) == (0, True)


# the toy vocabulary

TEXTS = [
    ("The baker reads.", ["▁The", "▁baker", "▁", "read", "s", "."], [55, 169, 4, 82, 8, 5]),
    ("", [], []),
    ("  ", [], []),
    ("\u3000\n\u200b", [], []),
    ("▁the", ["▁", "▁the"], [4, 15]),
    ("Q🙂Z", ["▁", "Q🙂Z"], [4, 3]),
    # the normalisation table: full width, ligature, combining marks, zero width, half width
    ("Ｔｈｅ\u3000ﬁｓｈ！", ["▁The", "▁", "f", "is", "h", "!"], [55, 4, 25, 45, 31, 3]),
    ("e\u0301te\u0301", ["▁", "é", "t", "é"], [4, 214, 10, 214]),
    ("a\u200bb\x07c", ["▁", "a", "▁", "b", "c"], [4, 6, 4, 26, 66]),
    ("ｶﾞ ﾊﾟﾝ ﾗ", ["▁", "ガ", "▁", "パ", "ン", "▁", "ラ"], [4, 3, 4, 262, 129, 4, 102]),
    # scripts
    (
        "山在水上，月。",
        ["▁", "山", "在", "水", "上", ",", "月", "。"],
        [4, 98, 144, 212, 146, 13, 93, 29],
    ),
    ("नदी", ["▁", "न", "दी"], [4, 79, 136]),
    ("القمر", ["▁ال", "ق", "م", "ر"], [33, 249, 71, 149]),
    ("น้ำ", ["▁", "น", "้", "ำ"], [4, 40, 89, 151]),
    # special tokens in the text
    (
        "the river <mask> the lamp",
        ["▁the", "▁river", "<mask>", "▁the", "▁lamp"],
        [15, 167, 301, 15, 115],
    ),
    ("a  <mask>b", ["▁", "a", "<mask>", "▁", "b"], [4, 6, 301, 4, 26]),
    ("a\x85<unk>\x85<mask>", ["▁", "a", "\x85", "<unk>", "<mask>"], [4, 6, 3, 3, 301]),
    (
        "<s>the</s> <pad><unk> .",
        ["<s>", "▁the", "</s>", "<pad>", "<unk>", "▁", "."],
        [0, 15, 2, 1, 3, 4, 5],
    ),
]


@pytest.mark.parametrize(
    ("text", "tokens", "ids"), TEXTS, ids=[ascii(text) for text, _, _ in TEXTS]
)
def test_text_to_ids(tok, text, tokens, ids):
    assert tok.tokenize(text) == tokens
    assert tok.convert_tokens_to_ids(tokens) == ids
    assert tok.encode(text) == [0, *ids, 2]
    assert tok.encode(text, add_special_tokens=False) == ids
    assert tok(text) == {"input_ids": [0, *ids, 2], "attention_mask": [1] * (len(ids) + 2)}
    assert list(tok(text)) == ["input_ids", "attention_mask"]  # and no token_type_ids


@pytest.mark.parametrize(
    ("text", "pair", "ids"),
    [
        ("the river", "a lamp", [0, 15, 167, 2, 2, 4, 6, 115, 2]),
        ("", "the", [0, 2, 2, 15, 2]),
        ("the", "", [0, 15, 2, 2, 2]),
    ],
)
def test_pair(tok, text, pair, ids):
    assert tok(text, pair).input_ids == tok.encode(text, pair) == ids
    assert tok([text], [pair]).input_ids == [ids]
    assert tok.encode(text, pair, add_special_tokens=False) == [
        *tok.encode(text, add_special_tokens=False),
        *tok.encode(pair, add_special_tokens=False),
    ]


def test_batch_padded(tok):
    assert tok(["the river is", "the", "a"], padding=True) == {
        "input_ids": [[0, 15, 167, 4, 45, 2], [0, 15, 2, 1, 1, 1], [0, 4, 6, 2, 1, 1]],
        "attention_mask": [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0]],
    }


def test_pairs_truncated_and_padded_left(tok):
    enc = tok(
        ["the", "a e s o"],
        ["a", "the river"],
        padding=True,
        truncation=True,
        max_length=8,
        padding_side="left",
    )
    assert enc == {
        "input_ids": [[1, 0, 15, 2, 2, 4, 6, 2], [0, 4, 6, 2, 2, 15, 167, 2]],
        "attention_mask": [[0, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1]],
    }


@pytest.mark.parametrize(
    ("truncation", "max_length", "ids"),
    [
        (True, 12, [0, 15, 81, 4, 6, 2, 2, 15, 15, 4, 6, 2]),
        (True, 11, [0, 15, 81, 4, 6, 2, 2, 15, 15, 4, 2]),
        ("longest_first", 10, [0, 15, 81, 4, 2, 2, 15, 15, 4, 2]),
        ("only_first", 12, [0, 15, 81, 2, 2, 15, 15, 4, 6, 4, 7, 2]),
        ("only_first", 11, [0, 15, 2, 2, 15, 15, 4, 6, 4, 7, 2]),
    ],
)
def test_truncation_of_a_pair(tok, truncation, max_length, ids):
    pair = ("the table a e s o", "the the a e")
    assert tok.encode(*pair, truncation=truncation, max_length=max_length) == ids


def test_a_pad_token_in_the_text_is_attended_to(tok):
    enc = tok("<pad>", padding="max_length", max_length=4)
    assert enc == {"input_ids": [0, 1, 2, 1], "attention_mask": [1, 1, 1, 0]}


def test_language_changes_nothing(tok):
    assert tok("the", lang="sw") == tok("the", lang=["sw"]) == tok("the")
    assert tok.encode("the", lang="sw") == tok.encode("the")
    assert tok.tokenize("the", lang="sw") == tok.tokenize("the")


@pytest.mark.parametrize(
    ("ids", "text", "text_without"),
    [
        ([0, 15, 81, 2, 1, 1], "<s> the table</s><pad><pad>", "the table"),
        ([3, 4, 5], "<unk> .", "."),
        ([0, 301, 6, 2], "<s><mask>a</s>", "a"),
        ([4, 4, 6, 4], "a", "a"),
        ([15, 301, 5], "the<mask>.", "the."),
        ([3], "<unk>", ""),
        ([], "", ""),
    ],
)
def test_decode(tok, ids, text, text_without):
    assert tok.decode(ids) == tok.decode(tuple(ids)) == tok.decode(np.array(ids, int)) == text
    assert tok.decode(ids, skip_special_tokens=True) == text_without


def test_decode_one_id(tok):
    assert tok.decode(15) == tok.decode(np.int64(15)) == tok.decode(np.array(15)) == "the"
    assert tok.convert_ids_to_tokens(np.int32(15)) == "▁the"


def test_tokens_and_ids(tok):
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "▁", ".", "ط", "<mask>"]
    assert tok.convert_ids_to_tokens([0, 1, 2, 3, 4, 5, 300, 301]) == tokens
    assert tok.convert_tokens_to_ids(tokens) == [0, 1, 2, 3, 4, 5, 300, 301]
    assert tok.convert_tokens_to_ids(["x", "nope", ""]) == [235, 3, 3]
    assert tok.convert_tokens_to_ids("▁the") == 15
    assert tok.convert_tokens_to_ids([]) == tok.convert_ids_to_tokens([]) == []


def test_every_id_has_its_token(tok):
    every = list(range(tok.vocab_size))
    assert tok.convert_tokens_to_ids(tok.convert_ids_to_tokens(every)) == every


def test_vocabulary(tok):
    assert tok.vocab_size == len(tok) == 302
    assert (tok.bos_token, tok.eos_token, tok.sep_token, tok.cls_token) == (
        "<s>",
        "</s>",
        "</s>",
        "<s>",
    )
    assert (tok.pad_token, tok.unk_token, tok.mask_token) == ("<pad>", "<unk>", "<mask>")
    assert (tok.bos_token_id, tok.eos_token_id, tok.sep_token_id, tok.cls_token_id) == (0, 2, 2, 0)
    assert (tok.pad_token_id, tok.unk_token_id, tok.mask_token_id) == (1, 3, 301)
    assert tok.all_special_ids == [0, 2, 3, 1, 301]
    assert (tok.model_max_length, tok.padding_side) == (None, "right")


# what is refused


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda tok: tok(None), TypeError, "text: expected a str or a list of str, got None"),
        (lambda tok: tok(["a", b"b"]), TypeError, r"text\[1\]: expected a str, got b'b' \(bytes\)"),
        (
            lambda tok: tok("a\ud800"),
            ValueError,
            r"text: .* lone surrogate, '\\ud800', at char.* 1",
        ),
        (lambda tok: tok(["a", "\udfff"]), ValueError, "text: .* lone surrogate"),
        (lambda tok: tok("a", "\ud83d\ude00"), ValueError, "text_pair: .* lone surrogate.* 0$"),
        (lambda tok: tok("a", padding="max_length"), ValueError, "max_length: expected an int"),
        (lambda tok: tok("a", truncation=True), ValueError, "max_length: expected an int"),
        (
            lambda tok: tok("a b", truncation=True, max_length=2),
            ValueError,
            "max_length: .* least 3",
        ),
        (lambda tok: tok("a", padding_side="top"), ValueError, "padding_side: expected 'right' or"),
        (lambda tok: tok.encode(["a"]), TypeError, r"text: expected a str .* got \['a'\] \(list\)"),
        (lambda tok: tok.encode(5), TypeError, r"text: expected a str .* got 5 \(int\)"),
        (lambda tok: tok.tokenize(b"a"), TypeError, r"text: expected a str, got b'a' \(bytes\)"),
        (lambda tok: tok.tokenize("\ud800"), ValueError, "text: .* lone surrogate"),
        (lambda tok: tok.convert_tokens_to_ids(5), TypeError, "tokens: expected a str or a list"),
        (
            lambda tok: tok.convert_tokens_to_ids(["a", 5]),
            TypeError,
            r"tokens\[1\]: expected a str",
        ),
        (lambda tok: tok.convert_tokens_to_ids("\ud800"), ValueError, "tokens: .* lone surrogate"),
        (
            lambda tok: tok.decode([0, 302]),
            ValueError,
            r"ids\[1\]: expected an id from 0 to 301, got",
        ),
        (lambda tok: tok.decode(-1), ValueError, r"ids\[0\]: expected an id from 0 to 301, got -1"),
        (lambda tok: tok.decode([5.0]), TypeError, r"ids\[0\]: expected an int, got 5.0 \(float\)"),
        (
            lambda tok: tok.decode([True]),
            TypeError,
            r"ids\[0\]: expected an int, got True \(bool\)",
        ),
        (lambda tok: tok.decode([[0, 5]]), TypeError, r"ids\[0\]: expected an int, got \[0, 5\]"),
        (lambda tok: tok.decode(np.zeros((1, 2), int)), TypeError, r"ids\[0\]: expected an int"),
        (
            lambda tok: tok.decode("ab"),
            TypeError,
            r"ids: expected a list of ints, got 'ab' \(str\)",
        ),
        (lambda tok: tok.decode(b"ab"), TypeError, "ids: expected a list of ints"),
        (lambda tok: tok.decode(tok("a")), TypeError, "ids: expected a list of ints, got Encoding"),
        (lambda tok: tok.decode(None), TypeError, "ids: expected a list of ints, got None"),
        (
            lambda tok: tok.convert_ids_to_tokens(302),
            ValueError,
            r"ids\[0\]: expected an id from 0",
        ),
    ],
)
def test_refused(tok, call, error, message):
    with pytest.raises(error, match=message):
        call(tok)


# the checkpoint folder


def test_light_import():
    code = "import sys, refimpl.tokenizers.xlm_roberta; print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True
    )
    assert "sentencepiece" not in loaded.stdout
    assert "transformers" not in loaded.stdout


@pytest.mark.parametrize("path", [str, Path])
@pytest.mark.parametrize("engine", [None, "library"])
def test_load(path, engine):
    assert load_tokenizer(path(TOY), engine=engine).encode("the table") == [0, 15, 81, 2]


@pytest.mark.parametrize("engine", ["explicit", "", 5])
def test_unknown_engine(engine):
    with pytest.raises(
        ValueError, match=f"engine: expected None or one of 'library', got {engine!r}"
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
    with pytest.raises(CheckpointError, match=r"sentencepiece.bpe.model: .* no such file"):
        load_tokenizer(tmp_path)
    (tmp_path / "sentencepiece.bpe.model").mkdir()
    with pytest.raises(CheckpointError, match=r"sentencepiece.bpe.model: .* no such file"):
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
            {"tokenizer_class": "CamembertTokenizer"},
            "tokenizer_class: exp",
        ),
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


# properties

PLAIN = "abcdefghilmnoprstuvwyz ABDMéñйаиклмност月山水कनदी,.?-"
SPECIALS = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]
NASTY = [
    *(*SPECIALS, "<S>", "<mas", "the", " Hello", "река", "  ", *"<>/s ▁ae月🙂\u0301\u0308\u0e33"),
    *"\n\t\r\x00\x07\x1c\x7f\x85\xa0\xad\u2003\u2028\u200b\u200d\u3000\ufeff\uffff\U0010ffff",
    *"Ａﬁ①…½ｶﾞﾊﾟ각\u1100\u1161",
]
nasty_texts = st.lists(st.sampled_from(NASTY), max_size=12).map("".join)


@FIXED
@given(nasty_texts)
def test_splitting_loses_nothing_but_white_space_before_masks(text):
    parts = split_at_special_tokens(text)
    assert all(parts)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert re.sub(r"\s+<mask>", "<mask>", text) in ("".join(parts), text)
    assert all(part in SPECIALS or not any(one in part for one in SPECIALS) for part in parts)


@FIXED
@given(text=st.text(PLAIN, max_size=40))
def test_decoded_text_has_the_same_ids_again(tok, text):
    ids = tok.encode(text)
    assert tok.encode(tok.decode(ids), add_special_tokens=False) == ids
    assert tok.decode(ids, skip_special_tokens=True) == " ".join(text.split())


@FIXED
@given(
    texts=st.lists(nasty_texts, min_size=1, max_size=4),
    max_length=st.integers(3, 12),
    padding=st.sampled_from(["longest", "max_length"]),
    side=st.sampled_from(["right", "left"]),
)
def test_a_batch_is_its_texts_padded(tok, texts, max_length, padding, side):
    enc = tok(texts, truncation=True, max_length=max_length, padding=padding, padding_side=side)
    width = {len(row) for row in enc.input_ids + enc.attention_mask}
    assert len(width) == 1
    assert max(width) <= max_length
    for text, row, mask in zip(texts, enc.input_ids, enc.attention_mask, strict=True):
        ids = tok.encode(text, truncation=True, max_length=max_length)
        n_pads = len(row) - len(ids)
        assert row == (ids + [1] * n_pads if side == "right" else [1] * n_pads + ids)
        assert mask == ([1] * len(ids) + [0] * n_pads)[:: 1 if side == "right" else -1]


# the published vocabulary


def test_published_vocabulary(published_tok):
    assert published_tok.vocab_size == len(published_tok) == 250_002
    assert published_tok.mask_token_id == 250_001
    assert published_tok.encode("Hello World!") == [0, 35378, 6661, 38, 2]


# The entries of goldens.json that give a text and its complete ids word for word.
GOLDENS = [
    *("tok_hello", "tok_hard", "spm_offset", "spm_offset_2", "keras_tok", "blingfire_49"),
    *(f"fairseq_readme_{i}" for i in range(5)),
    *("xlmr_base_en", "xlmr_large_en", "xlmr_base_tf"),
    *("torchtext_xlmr_base", "torchtext_xlmr_large"),
    *("syntaxdot_embed_sum", "bumblebee_old_hidden", "xl_en", "xxl_en", "xl_pr12082_logits"),
    *("xmod_base_en", "xmod_base_de", "xmod_large_en", "xmod_large_de"),
]  # fmt: skip


def read_golden(name):
    entries = json.loads((published_folder() / "goldens.json").read_text(encoding="utf-8"))
    return next(entry for entry in entries["goldens"] if entry["name"] == name)


def text_and_ids(golden):
    inputs, ids = golden["inputs"], golden["expected"]
    text = inputs["text"] if "text" in inputs else inputs["text_derived_from_pieces"]
    if golden["kind"] != "tokenizer":
        return text, (inputs.get("input_ids") or inputs["input_ids_derived"])[0]
    return text, ids if isinstance(ids, list) else ids.get("HF", ids.get("fairseq/HF"))


@pytest.mark.parametrize("name", GOLDENS)
def test_published_ids(published_tok, name):
    text, ids = text_and_ids(read_golden(name))
    assert published_tok.encode(text, add_special_tokens=ids[0] == 0) == ids


def test_published_ids_padded(published_tok):
    golden = read_golden("torchtext_docs_shape")["inputs"]
    enc = published_tok(golden["text"], padding=True)
    assert enc.input_ids == golden["input_ids_derived"]
    golden = read_golden("tok_integration")
    *ids, _pads = golden["expected"]["row3"]
    width = len(golden["expected"]["row1_106_ids"])
    enc = published_tok(golden["inputs"]["text"][2], padding="max_length", max_length=width)
    assert enc.input_ids == ids + [1] * (106 - len(ids))


def test_published_ids_truncated(published_tok):
    golden = read_golden("keras_base")["inputs"]
    text = golden["text"].removesuffix(" (cut to 4)")
    assert [published_tok.encode(text, truncation=True, max_length=4)] == golden["input_ids"]


@pytest.mark.parametrize("name", ["card_fill_base", "card_fill_xl"])
def test_published_pieces(published_tok, name):
    ids, pieces, _ = zip(*read_golden(name)["expected"], strict=True)
    assert published_tok.convert_tokens_to_ids(pieces) == list(ids)
    assert published_tok.convert_ids_to_tokens(ids) == list(pieces)


# the original, live

ZOO = [
    *("", " ", "   ", "\t\n", "\u3000", "\u00a0", "\u200b", "\x00", "a\x00b", "\x01\x02", "\x7f"),
    *("Hello World!", " Hello", "Hello ", "a  b", "a\nb\r\nc\td", ".", "don't", "12:30", "\x85"),
    *("<s>", "<mask>", " <mask>", "<mask> ", "  <mask>  <mask>  ", "a<mask>b", "a <mask> b"),
    *("<mask>.", "a\u3000\t\n<mask>\u3000b", "a \x1c<mask>", "a \x85<mask>", "a\u2028<mask>"),
    *("a\u200b<mask>", "<s><s>", "<s> <pad> </s>", "<s>a</s>", " <s> a </s> ", "<pad> <mask>"),
    *("<mask><mask>", "x <unk> y", "<<s>>", "<s", "s>", "< s >", "<S>", "<MASK>", "</s</s>>"),
    *("<mas<mask>k>", "<s>\n<mask>", "<s>NOTUSED", "#tag @me", "▁", "▁▁a", "a▁b", "Ｚ\u0301"),
    *("e\u0301", "a\u0308\u0301", "\u0301", "\u0301a", "\u0958", "\u2126", "\u0344", "\u0340"),
    *("❤\ufe0f", "🙂", "👨\u200d👩\u200d👧", "🇩🇪", "\ufeffBOM", "a\u00adb", "\u202eabc", "\uffff"),
    *("Ｈｅｌｌｏ　Ｗｏｒｌｄ！", "ﬁne ﬂow", "①②③ ½ ² ™", "ｶﾞﾗｽ ﾊﾟﾝ ｶﾒﾗ", "～〜", "ſ"),
    *("x" * 2000, "река" * 300, "山" * 500, " " * 1000 + "a", "가", "\u1100\u1161", "\U0010ffff"),
    *("नमस्ते दुनिया", "مرحبا بالعالم", "你好，世界", "น้ำอยู่บนโต๊ะ", "Что это?", "İ ı ß ẞ", "ﷺ"),
]


def original(folder):
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    return transformers.XLMRobertaTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="module", params=["toy", "published"])
def both(request):
    folder = TOY if request.param == "toy" else published_folder() / "xlm-roberta"
    return load_tokenizer(folder), original(folder)


def assert_same_on(ours, theirs, text):
    assert ours.tokenize(text) == theirs.tokenize(text)
    assert ours(text) == theirs(text)
    for ids, skip in product((ours.encode(text), ours.encode(text)[1:-1]), (False, True)):
        assert ours.decode(ids, skip) == theirs.decode(
            ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
        )


@pytest.mark.oracle
def test_original_has_the_same_vocabulary(both):
    ours, theirs = both
    assert (ours.vocab_size, len(ours)) == (theirs.vocab_size, len(theirs))
    assert ours.all_special_ids == theirs.all_special_ids
    for name in ("bos", "eos", "sep", "cls", "pad", "unk", "mask"):
        assert getattr(ours, f"{name}_token") == getattr(theirs, f"{name}_token")
        assert getattr(ours, f"{name}_token_id") == getattr(theirs, f"{name}_token_id")
    ids = random.Random(0).sample(range(len(ours)), 300)
    tokens = ours.convert_ids_to_tokens(ids)
    assert tokens == theirs.convert_ids_to_tokens(ids)
    assert ours.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)


@pytest.mark.oracle
@pytest.mark.parametrize("text", ZOO, ids=lambda text: ascii(text)[:40])
def test_original_on_nasty_texts(both, text):
    assert_same_on(*both, text)


@pytest.mark.oracle
@settings(FIXED, max_examples=400)
@given(text=nasty_texts | st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_original_on_random_texts(both, text):
    assert_same_on(*both, text)


@pytest.mark.oracle
@FIXED
@given(ids=st.lists(st.integers(0, 301), max_size=12), skip=st.booleans())
def test_original_decodes_random_ids_alike(both, ids, skip):
    ours, theirs = both
    assert ours.decode(ids, skip) == theirs.decode(
        ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
    )


@pytest.mark.oracle
def test_original_chokes_on_a_lone_surrogate_too(both):
    ours, theirs = both
    with pytest.raises((RuntimeError, TypeError, UnicodeEncodeError)):
        theirs("a\ud800")
    with pytest.raises(ValueError, match="lone surrogate"):
        ours("a\ud800")


ROWS = [
    ("the table a e s o", "the the a e"),
    ("", "the river <mask>"),
    ("the", ""),
    ("Hello <pad> World!", "नदी"),
]


@pytest.mark.oracle
@pytest.mark.parametrize("padding", [False, True, "max_length"])
@pytest.mark.parametrize("truncation", [False, True, "only_first", "only_second"])
@pytest.mark.parametrize("add_special_tokens", [True, False])
def test_original_pads_and_truncates_alike(both, padding, truncation, add_special_tokens):
    texts, pairs = map(list, zip(*ROWS, strict=True))
    calls = [*ROWS, *((text, None) for text in texts), (texts, pairs), (texts, None)]
    keywords = {
        "padding": padding,
        "truncation": truncation,
        "add_special_tokens": add_special_tokens,
    }
    for max_length, side in product([None, 1, 2, 3, 4, 5, 9, 30], [None, "left"]):
        keywords |= {"max_length": max_length, "padding_side": side}
        for text, pair in calls:
            assert_same_or_refused(*both, text, pair, keywords)


def assert_same_or_refused(ours, theirs, text, pair, keywords):
    try:
        enc = ours(text, pair, **keywords)
    except ValueError as refused:
        assert_refused_with_reason(theirs, text, pair, keywords, str(refused))
    else:
        assert enc == theirs(text, pair, **keywords)


def assert_refused_with_reason(theirs, text, pair, keywords, message):
    """What we refuse is what the original does not do as asked."""
    idle = not keywords["truncation"] and keywords["padding"] != "max_length"
    if keywords["max_length"] is None or idle:  # it would go on without a length, or ignore it
        assert message.startswith("max_length: expected")
        return
    rows = theirs(text, pair, **keywords)["input_ids"]
    longest = max(map(len, rows)) if isinstance(text, list) else len(rows)
    assert longest > keywords["max_length"]


@pytest.mark.oracle
@pytest.mark.parametrize("fast", [False, True])
def test_folders_that_the_original_saves(tmp_path, fast):
    transformers = pytest.importorskip("transformers")
    name = "XLMRobertaTokenizerFast" if fast else "XLMRobertaTokenizer"
    theirs = getattr(transformers, name)(
        str(TOY / "sentencepiece.bpe.model"), model_max_length=77, padding_side="left"
    )
    theirs.save_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    assert (ours.model_max_length, ours.padding_side) == (77, "left")
    assert ours.encode("a  <mask>") == [0, 4, 6, 301, 2] == original(tmp_path).encode("a  <mask>")


@pytest.mark.oracle
def test_original_reads_older_files_alike(folder):
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": MASK_TOKEN}))
    (folder / "added_tokens.json").write_text('{"<mask>": 301}')
    assert load_tokenizer(folder).encode("a  <mask>") == original(folder).encode("a  <mask>")
