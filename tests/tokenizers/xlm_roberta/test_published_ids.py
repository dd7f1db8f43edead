"""Ids that others published for XLM-R's vocabulary: all of them come out, of both engines.

They are read from goldens.json in the folder that REFIMPL_PUBLISHED names. Where it does not spell
a text out, the text is what the ids decode to.
"""

import json
import os
from functools import cache
from pathlib import Path

import pytest

import refimpl
from refimpl.tokenizers.xlm_roberta.fairseq_dict import ids_by_place
from tests.tokenizers.xlm_roberta.toy_models import published

NOT_SERVED = {
    "xlm_toy_bpe": "XLM's tokenizer: tests/tokenizers/xlm/test_tokenizer.py",
    "xlm_special_tokens": "XLM's tokenizer: tests/tokenizers/xlm/test_tokenizer.py",
    "tok_toy_1000": "its vocabulary was not published with the ids",
    "tok_toy_dict_v5": "its vocabulary is of no file that can be read: six words, no scores",
    "curated_toy": "its vocabulary was not published with the ids",
    "syntaxdot_unk": "documents a fault: the unknown as 1",
}


@cache
def goldens():
    """Return the published ids, by name."""
    file = Path(os.environ.get("REFIMPL_PUBLISHED") or "", "goldens.json")
    if not os.environ.get("REFIMPL_PUBLISHED") or not file.is_file():
        pytest.skip("REFIMPL_PUBLISHED names no folder with goldens.json")
    found = json.loads(file.read_text(encoding="utf-8"))["goldens"]
    return {one["name"]: one for one in found if one["kind"] == "tokenizer"}


@cache
def tokenizer(engine):
    return refimpl.load_tokenizer(published().parent, engine=engine)


every_engine = pytest.mark.parametrize("engine", ["library", "explicit"])
WITH_SPECIAL = ["tok_hello", "tok_hard", *(f"fairseq_readme_{i}" for i in range(5))]
WITHOUT_SPECIAL = ["keras_tok", "blingfire_49"]
NAMED_HERE = [*WITH_SPECIAL, *WITHOUT_SPECIAL, "tok_integration", "tok_v5_integration"]


def test_none_is_forgotten():
    assert set(goldens()) == {*NAMED_HERE, "spm_offset", "spm_offset_2", *NOT_SERVED}


@every_engine
@pytest.mark.parametrize("name", WITH_SPECIAL)
def test_with_special_tokens(engine, name):
    one = goldens()[name]
    assert tokenizer(engine).encode(one["inputs"]["text"]) == one["expected"]


@every_engine
@pytest.mark.parametrize("name", WITHOUT_SPECIAL)
def test_without_special_tokens(engine, name):
    one = goldens()[name]
    ids = tokenizer(engine).encode(one["inputs"]["text"], add_special_tokens=False)
    assert ids == one["expected"]


@every_engine
def test_a_padded_batch(engine):
    tok, one = tokenizer(engine), goldens()["tok_integration"]
    rows = [
        [i for i in row if isinstance(i, int)]  # the last entry says how a row is padded
        for row in one["expected"].values()
    ]
    *texts, last = [tok.decode(row[1:-1]) for row in rows]
    assert last == one["inputs"]["text"][2]
    assert all(len(text.split()) > 20 for text in texts)
    longest = max(map(len, rows))
    assert (longest, rows[0][-1]) == (106, 2)
    padded = [row + [1] * (longest - len(row)) for row in rows]
    assert tok([*texts, last], padding=True).input_ids == padded


@every_engine
def test_the_mixed_text_of_transformers_5(engine):
    tok, ids = tokenizer(engine), goldens()["tok_v5_integration"]["expected"]
    text = tok.decode(ids)
    assert "😊" in text
    assert "<s> hi<s> there" in text
    assert tok.encode(text, add_special_tokens=False) == ids


@every_engine
def test_an_id_is_one_more_than_the_place(engine):
    one = goldens()["spm_offset"]
    tok, text = tokenizer(engine), one["inputs"]["text"]
    assert tok.engine.encode([text]) == [one["expected"]["sentencepiece raw"]]
    assert tok.encode(text, add_special_tokens=False) == one["expected"]["fairseq/HF"]
    two = goldens()["spm_offset_2"]
    tok, text = tokenizer(engine), two["inputs"]["text"]
    ids = two["expected"]["HF"]
    assert tok.encode(text, add_special_tokens=False) == ids
    assert tok.engine.encode([text]) == [[i - 1 for i in ids]]


@every_engine
def test_fairseq_takes_a_written_special_token_for_text(engine):
    """4426, 3678, 2740 where the ids above have 3 and 6: said in the note of the golden."""
    assert "4426, 3678, 2740" in goldens()["tok_hard"]["note"]
    engine = tokenizer(engine).engine
    ids = ids_by_place(engine.model.pieces, engine.model.pieces[3:])
    text = goldens()["tok_hard"]["inputs"]["text"]
    found = [ids[place] for place in engine.encode([text])[0]]
    assert [4426, 3678, 2740] in [found[i : i + 3] for i in range(len(found))]
