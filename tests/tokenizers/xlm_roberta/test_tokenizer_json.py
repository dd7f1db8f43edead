"""``tokenizer.json``: read to the very model of the .model file, or refused by name."""

import base64
import copy
import json
import re

import pytest

from refimpl.errors import CheckpointError
from refimpl.tokenizers.xlm_roberta import tokenizer_json
from refimpl.tokenizers.xlm_roberta.tokenizer_json import read_tokenizer_json
from tests.tokenizers.xlm_roberta.toy_models import toy_model

TOY = toy_model()
MASK_ID = len(TOY.pieces) + 1
TEMPLATE = {
    "single": ["<s>", "A", "</s>"],
    "pair": ["<s>", "A", "</s>", "</s>", "B", "</s>"],
}


def added(i, content):
    flags = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": i, "content": content, "lstrip": content == "<mask>", **flags}


def template(parts):
    names = ["Sequence" if part in "AB" else "SpecialToken" for part in parts]
    return [{name: {"id": part, "type_id": 0}} for name, part in zip(names, parts, strict=True)]


SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
PRECOMPILED = {
    "type": "Precompiled",
    "precompiled_charsmap": base64.b64encode(TOY.charsmap).decode(),
}
STRIP = {"type": "Strip", "strip_left": False, "strip_right": True}
REPLACE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
WHOLE = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [added(*pair) for pair in [*enumerate(SPECIAL), (MASK_ID, "<mask>")]],
    "normalizer": {"type": "Sequence", "normalizers": [PRECOMPILED, STRIP, REPLACE]},
    "pre_tokenizer": METASPACE,
    "post_processor": {
        "type": "TemplateProcessing",
        **{name: template(parts) for name, parts in TEMPLATE.items()},
        "special_tokens": {},
    },
    "decoder": METASPACE,
    "model": {
        "type": "Unigram",
        "unk_id": 3,
        "vocab": [
            *([name, 0.0] for name in SPECIAL),
            *(list(row) for row in zip(TOY.pieces[3:], TOY.scores[3:], strict=True)),
            ["<mask>", 0.0],
        ],
        "byte_fallback": False,
    },
}


def changed(path, value):
    """Return the file with another value at a path like "model.vocab.4.1"; ... removes it."""
    whole = copy.deepcopy(WHOLE)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    inner = whole
    for part in way:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return whole


def read(tmp_path, whole):
    file = tmp_path / "tokenizer.json"
    file.write_text(whole if isinstance(whole, str) else json.dumps(whole), encoding="utf-8")
    return read_tokenizer_json(file)


# what is read


def test_the_model_is_that_of_the_model_file(tmp_path):
    assert read(tmp_path, WHOLE) == TOY


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("normalizer", PRECOMPILED),  # as published
        ("normalizer.normalizers.2.content", " "),
        ("normalizer.normalizers", [PRECOMPILED, REPLACE]),
        (
            "pre_tokenizer",  # as published
            {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "WhitespaceSplit"},
                    {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
                ],
            },
        ),
        ("model.byte_fallback", ...),
        ("model.type", ...),
        ("decoder", None),
        ("truncation", {"max_length": 512}),
        ("added_tokens", []),
        ("version", ...),
    ],
)
def test_other_ways_to_say_the_same(tmp_path, path, value):
    assert read(tmp_path, changed(path, value)) == TOY


def test_scores_are_rounded_to_float32(tmp_path):
    assert read(tmp_path, changed("model.vocab.9.1", -0.1)).scores[8] == -0.10000000149011612
    assert read(tmp_path, changed("model.vocab.9.1", -3)).scores[8] == -3.0


def test_scores_of_special_tokens_go_with_them(tmp_path):
    whole = changed("model.vocab.3.1", -1.0)
    for row, value in ((0, -2.0), (1, -3.0), (2, -4.0)):
        whole["model"]["vocab"][row][1] = value
    assert read(tmp_path, whole).scores[:4] == [-1.0, -2.0, -4.0, TOY.scores[3]]


def test_no_rules(tmp_path):
    assert read(tmp_path, changed("normalizer", None)) == TOY._replace(charsmap=b"")


# what is refused


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model", ..., "model: expected a dict, got nothing"),
        ("model", [], r"model: expected a dict, got \[\]"),
        ("model.type", "BPE", "model.type: expected 'Unigram', got 'BPE'"),
        ("model.unk_id", 0, "model.unk_id: expected 3, got 0"),
        ("model.unk_id", None, "model.unk_id: expected 3, got nothing"),
        ("model.unk_id", True, "model.unk_id: expected 3, got True"),
        ("model.byte_fallback", True, "model.byte_fallback: expected False, got True"),
        ("model.byte_fallback", 0, "model.byte_fallback: expected False, got 0"),
        ("model.vocab", {}, "model.vocab: expected a list"),
        ("model.vocab", [], r"model.vocab\[:4\], the pieces: expected .'<s>', .* got \[\]"),
        ("model.vocab.0.0", "<S>", r"model.vocab\[:4\], the pieces: expected .'<s>'.* got .'<S>'"),
        ("model.vocab.301", ["last", 0.0], r"model.vocab\[-1:\], the piece: expected .'<mask>'"),
        ("model.vocab.5", "x", r"model.vocab\[5\]: expected \[piece, score\], got 'x'"),
        ("model.vocab.5", ["x"], r"model.vocab\[5\]: expected \[piece, score\], got \['x'\]"),
        ("model.vocab.5", ["x", 1, 2], r"model.vocab\[5\]: expected \[piece, score\]"),
        ("model.vocab.5.0", 5, r"model.vocab\[5\]: expected \[piece, score\]"),
        ("model.vocab.5.1", "-1", r"model.vocab\[5\]: expected \[piece, score\]"),
        ("model.vocab.5.1", True, r"model.vocab\[5\]: expected \[piece, score\]"),
        ("model.vocab.5.1", None, r"model.vocab\[5\]: expected \[piece, score\]"),
        ("model.vocab.5.1", float("nan"), r"model.vocab\[5\]: expected \[piece, score\]"),
        ("model.vocab.5.1", float("-inf"), r"model.vocab\[5\]: expected \[piece, score\]"),
        ("model.vocab.5.1", -1e39, r"model.vocab\[5\]: expected \[piece, score\]"),
        ("model.vocab.5.1", -(10**400), r"model.vocab\[5\]: expected \[piece, score\]"),
        ("model.vocab.5.0", "\ud800", r"model.vocab\[5\]: expected \[piece, score\]"),
        ("model.vocab.5.0", "", "piece 4: expected text without a null character, got ''"),
        ("model.vocab.5.0", "a\x00", "piece 4: expected text without a null character"),
        ("model.vocab.5.0", "x" * 9000, "piece 4: expected at most 7999 bytes"),
        ("model.vocab.6.0", ".", "piece 5, '.': is piece 4 too"),
        ("normalizer", {"type": "NFKC"}, "normalizer.type: expected one 'Precompiled', 'Strip' or"),
        ("normalizer", "NFKC", "normalizer: expected a dict, got 'NFKC'"),
        ("normalizer.normalizers", None, "normalizer.normalizers: expected a list, got nothing"),
        ("normalizer.normalizers.1", None, r"normalizer.normalizers\[1\]: expected a dict, got no"),
        ("normalizer.normalizers.1", PRECOMPILED, r"normalizers\[1\].type: expected one 'Precomp"),
        (
            "normalizer.normalizers.1",
            {"type": "Lowercase"},
            r"normalizer.normalizers\[1\].type: expected one .* got 'Lowercase'",
        ),
        (
            "normalizer.normalizers.2.pattern",
            {"String": "a"},
            r"normalizers\[2\].pattern: expected .'Regex': ' .2,.'., got .'String': 'a'",
        ),
        ("normalizer.normalizers.2.content", "_", r"content: expected ' ' or '▁', got '_'"),
        (
            "normalizer.normalizers.0.precompiled_charsmap",
            "!!",
            r"normalizer.normalizers\[0\].precompiled_charsmap: expected base64",
        ),
        ("normalizer.normalizers.0.precompiled_charsmap", "é", "expected base64"),
        ("normalizer.normalizers.0.precompiled_charsmap", 5, "precompiled_charsmap: expected base"),
        ("normalizer.normalizers.0.precompiled_charsmap", "AAAA", "a trie of 0 bytes in 3 bytes"),
        ("pre_tokenizer", None, r"pre_tokenizer: expected Metaspace, got \[\]"),
        ("pre_tokenizer", {"type": "ByteLevel"}, r"pre_tokenizer: expected Metaspace, got .'ByteL"),
        ("pre_tokenizer.replacement", "_", "pre_tokenizer.replacement: expected '▁', got '_'"),
        ("pre_tokenizer.prepend_scheme", "first", "prepend_scheme: expected 'always', got 'first'"),
        ("pre_tokenizer.add_prefix_space", False, "add_prefix_space: expected True, got False"),
        ("post_processor", None, "post_processor: expected a dict, got nothing"),
        ("post_processor.type", "RobertaProcessing", "post_processor.type: expected 'TemplatePro"),
        (
            "post_processor.single",
            template(["<s>", "A"]),
            "post_processor.single: expected .'<s>",
        ),
        ("post_processor.pair", template(TEMPLATE["single"]), "post_processor.pair: expected "),
        ("post_processor.single", [5], "post_processor.single: expected a dict, got 5"),
        ("post_processor.single", [{"A": 5}], "post_processor.single: expected a dict, got 5"),
        ("added_tokens", 5, "added_tokens: expected a list, got 5"),
        ("added_tokens.0", 5, r"added_tokens\[0\]: expected a dict, got 5"),
        ("added_tokens.0", added(300, "<new>"), r"added_tokens\[0\], of id 300: expected no such"),
        ("added_tokens.0", added("0", "<s>"), r"added_tokens\[0\], of id '0': expected no such"),
        ("added_tokens.1", added(1, "<PAD>"), r"added_tokens\[1\], of id 1: expected <pad>, got"),
        ("added_tokens.4.lstrip", False, r"added_tokens\[4\].lstrip: expected True, got False"),
        ("added_tokens.0.lstrip", True, r"added_tokens\[0\].lstrip: expected False, got True"),
        ("added_tokens.0.rstrip", True, r"added_tokens\[0\].rstrip: expected False, got True"),
        ("added_tokens.2.single_word", True, r"added_tokens\[2\].single_word: expected False"),
    ],
)
def test_refused(tmp_path, path, value, message):
    file = re.escape(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=f"^{file}: .*{message}") as raised:
        read(tmp_path, changed(path, value))
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert len(str(raised.value)) < 400


PARTS = ["added_tokens", "normalizer", "pre_tokenizer", "post_processor", "model", "model.vocab"]


@pytest.mark.parametrize("value", [None, True, 5, -1.5, "x", [], {}, [[]], [{}], {"type": []}])
@pytest.mark.parametrize("path", PARTS)
def test_a_value_of_any_kind_is_read_or_refused(tmp_path, path, value):
    try:
        read(tmp_path, changed(path, value))
    except CheckpointError:
        return
    assert (path, value) in [("added_tokens", []), ("normalizer", None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a JSON file"),
        ("[]", "expected a JSON object, got list"),
        ("[" * 100_000, "expected a JSON file"),
        ('{"a":' * 100_000, "expected a JSON file"),
        ('{"model": {"vocab": [["a", 1' + "0" * 5000, "expected a JSON file"),
        ("{}", "model: expected a dict, got nothing"),
    ],
)
def test_no_such_file_format(tmp_path, text, message):
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path, text)


def test_no_file_and_too_large(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"gone\.json: no such file"):
        read_tokenizer_json(tmp_path / "gone.json")
    monkeypatch.setattr(tokenizer_json, "LARGEST_FILE", 9)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: expected up to 9 bytes"):
        read(tmp_path, WHOLE)
