"""The files of an XLM tokenizer: what is read, and the one error that a broken one gets."""

import doctest
import json
import re

import pytest

from refimpl.errors import CheckpointError
from refimpl.tokenizers.xlm import files as xlm_files
from refimpl.tokenizers.xlm.files import ADDITIONAL, ROLES, read_files
from refimpl.tokenizers.xlm.tokenizer import XLMTokenizer
from tests.tokenizers.xlm import toy as xlm_toy


@pytest.fixture
def folder(tmp_path):
    return xlm_toy.write(tmp_path)


def vocabulary_of(folder):
    return json.loads((folder / "vocab.json").read_text(encoding="utf-8"))


def settle(folder, name="tokenizer_config.json", **values):
    (folder / name).write_text(json.dumps(values))


def refuse(folder, *parts):
    """Expect one error whose message holds all parts, in order."""
    with pytest.raises(CheckpointError, match=".*".join(map(re.escape, parts))):
        XLMTokenizer.from_folder(folder)


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(xlm_files)
    assert (failed, tried > 0) == (0, True)


def test_published_files():
    files = read_files(xlm_toy.published())
    assert len(files.vocabulary) == 95_000
    assert len(files.ranks) == 80_000
    assert files.ranks["a", "n"] == 0
    assert files.lower is True
    assert files.lang2id["zh"] == 14
    # A line whose symbols are no-break spaces: they read one symbol and a number.
    assert files.ranks["7830", ""] == 23_764


def test_what_goes_unsaid(folder):
    (folder / "tokenizer_config.json").unlink()
    files = read_files(folder)
    assert files.tokens == (ROLES, ADDITIONAL, {}, ())
    assert (files.lower, files.lang2id) == (True, {})
    assert (files.model_max_length, files.padding_side) == (None, "right")


def test_settings(folder):
    settle(
        folder,
        do_lowercase_and_remove_accent=False,
        lang2id={"en": 0, "sw": 1},
        id2lang={"0": "en", "1": "sw"},
        model_max_length=512,
        padding_side="left",
        mask_token={"content": "<special3>", "lstrip": False},
        additional_special_tokens=["<special7>"],
    )
    files = read_files(folder)
    assert files.lower is False
    assert files.lang2id == {"en": 0, "sw": 1}
    assert (files.model_max_length, files.padding_side) == (512, "left")
    assert files.tokens.roles["mask_token"] == "<special3>"
    assert files.tokens.additional == ("<special7>",)


def test_older_files(folder):
    n = len(vocabulary_of(folder))
    settle(folder, additional_special_tokens=["<special2>"])
    settle(
        folder,
        "special_tokens_map.json",
        mask_token="<special0>",
        additional_special_tokens=["<special1>", {"content": "<x>", "special": True}],
    )
    settle(folder, "added_tokens.json", **{"<x>": n, "word": n + 1})
    tokens = read_files(folder).tokens
    assert tokens.roles["mask_token"] == "<special0>"
    assert tokens.additional == ("<special2>", "<special1>", "<x>")
    assert tokens.added == {"<x>": n, "word": n + 1}
    assert tokens.cased == ("word",)


def test_newer_files_leave_the_older_unread(folder):
    n = len(vocabulary_of(folder))
    decoder = {
        "5": {"content": "<special1>", "special": True},
        n: {"content": "word", "special": False, "normalized": True},
        n + 1: {"content": "raw", "special": False, "normalized": False},
    }
    settle(folder, added_tokens_decoder=decoder)
    settle(folder, "added_tokens.json", nobody=1)
    settle(folder, "special_tokens_map.json", mask_token="nobody")
    tokens = read_files(folder).tokens
    assert tokens.added == {"<special1>": 5, "word": n, "raw": n + 1}
    assert tokens.cased == ("word",)
    assert tokens.roles == ROLES


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_files_that_are_not_there_or_empty_or_no_text(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    refuse(folder, f"{name}: no such file")
    (folder / name).mkdir()
    refuse(folder, f"{name}: cannot be read")
    (folder / name).rmdir()
    for empty in (b"", b"\n \n"):
        (folder / name).write_bytes(empty)
        refuse(folder, f"{name}: expected a tokenizer's file, found an empty one")
    lines = whole.splitlines(keepends=True)
    (folder / name).write_bytes(b"".join([*lines[:4], b"\xff" + lines[4], *lines[5:]]))
    refuse(folder, f"{name}: line 5: expected UTF-8, got the byte 0xff")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n"a": 0,\n"b" 1}', "vocab.json: line 3: "),
        ("[1]", "vocab.json: expected a JSON object of tokens and ids"),
        ("7", "vocab.json: expected a JSON object of tokens and ids"),
        ("[" * 100_000, "vocab.json: expected one JSON object, got objects in objects"),
        ('{\n"a": 0,\n"b": "1"}', "vocab.json: line 3: 'b': expected an id from 0, got '1'"),
        ('{\n"a": 0,\n"b": true}', "vocab.json: line 3: 'b': expected an id from 0, got True"),
        ('{\n"a": 0,\n"b": 1.0}', "vocab.json: line 3: 'b': expected an id from 0, got 1.0"),
        ('{\n"a": -1}', "vocab.json: line 2: 'a': expected an id from 0, got -1"),
        (
            '{\n"a": 0,\n"a": 1}',
            "vocab.json: line 3: 'a': expected each token once, got it twice",
        ),
        (
            '{\n"a": 0,\n"\\u00e9": 0}',
            "vocab.json: line 3: 'é': expected an id of its own, got 0, the id of 'a'",
        ),
    ],
)
def test_broken_vocabularies(folder, text, message):
    (folder / "vocab.json").write_text(text)
    refuse(folder, message)


def test_a_vocabulary_with_a_hole(folder):
    vocabulary = vocabulary_of(folder)
    del vocabulary["the</w>"]
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    hole = xlm_toy.vocabulary_and_merges()[0].index("the</w>")
    refuse(folder, f"vocab.json: expected every id from 0 on, found no token for {hole}")


@pytest.mark.parametrize("token", ["<s>", "</s>", "<pad>", "<unk>", "<special1>", "<special9>"])
def test_a_special_token_that_is_not_there(folder, token):
    tokens = [one for one in xlm_toy.vocabulary_and_merges()[0] if one != token]
    (folder / "vocab.json").write_text(json.dumps({one: i for i, one in enumerate(tokens)}))
    refuse(folder, f"vocab.json: expected the special token {token!r}, found no such token there")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a", "expected two symbols with a space between, got 'a'"),
        ("", "expected two symbols with a space between, got ''"),
        (" b 1", "expected two symbols with a space between, got ' b 1'"),
        ("a  1", "expected two symbols with a space between, got 'a  1'"),
        ("qq a 1", "expected symbols that a line before makes, got 'qq'"),
        ("a qq</w> 1", "expected symbols that a line before makes, got 'qq</w>'"),
    ],
)
def test_broken_merges(folder, line, message):
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    lines[6] = line
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    refuse(folder, "merges.txt: line 7: ", message)


def test_merges_without_counts_and_with_the_line_ends_of_windows(folder):
    expected = read_files(folder).ranks
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    text = "".join(" ".join(line.split()[:2]) + "\r\n" for line in lines)
    (folder / "merges.txt").write_bytes(text.encode())
    assert read_files(folder).ranks == expected


def test_merges_that_were_cut_short(folder):
    text = (folder / "merges.txt").read_text(encoding="utf-8").rstrip("\n")
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    n = text.count("\n") + 1
    refuse(folder, f'merges.txt: line {n}: expected a line end behind "\' s</w> 1"')


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tokenizer_class": "BertTokenizer"}, "tokenizer_class: expected 'XLMTokenizer'"),
        ({"do_lowercase_and_remove_accent": 1}, "remove_accent: expected true or false, got 1"),
        ({"split_special_tokens": True}, "split_special_tokens: expected False, got True"),
        ({"truncation_side": "left"}, "truncation_side: expected 'right', got 'left'"),
        ({"model_input_names": ["input_ids"]}, "model_input_names: expected ['input_ids', 'token"),
        ({"model_max_length": "many"}, "model_max_length: expected a whole number"),
        ({"padding_side": "top"}, "padding_side: expected 'right' or 'left', got 'top'"),
        ({"lang2id": ["en"]}, "lang2id: expected names and ids, got ['en']"),
        ({"lang2id": {"en": "0"}}, "lang2id: expected names and ids, got {'en': '0'}"),
        (
            {"lang2id": {"en": 0}, "id2lang": {"0": "fr"}},
            "id2lang: expected {'0': 'en'}, got {'0': 'fr'}",
        ),
        ({"mask_token": 5}, "mask_token: expected a token, got 5"),
        ({"mask_token": ""}, "mask_token: expected a token, got ''"),
        ({"mask_token": "<mask>"}, "expected the special token '<mask>', found no such token"),
        (
            {"mask_token": {"content": "<special1>", "lstrip": True}},
            "mask_token.lstrip: expected False, got True",
        ),
        (
            {"additional_special_tokens": "<special1>"},
            "additional_special_tokens: expected a list, got '<special1>'",
        ),
        (
            {"added_tokens_decoder": {"x": {"content": "word"}}},
            "expected tokens and ids, got {'word': 'x'}",
        ),
        (
            {"added_tokens_decoder": {"6": {"content": "<special1>"}}},
            "id of the added token '<special1>': expected 5, got 6",
        ),
        (
            {"added_tokens_decoder": {"5": {"content": "word"}}},
            "expected every id once, found two tokens for 5",
        ),
        (
            {"added_tokens_decoder": {"9999": {"content": "word"}}},
            "expected every id from 0 on, found no token for ",
        ),
        ({"added_tokens_decoder": {"5": "word"}}, "added_tokens_decoder: expected ids and tokens"),
        ({"added_tokens_decoder": [1]}, "added_tokens_decoder: expected ids and tokens, got [1]"),
    ],
)
def test_settings_that_are_not_served(folder, values, message):
    settle(folder, **values)
    refuse(folder, message)
