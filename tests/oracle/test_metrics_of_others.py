"""Metrics beside those of others: seqeval for entities, transformers' SQuAD script for answers."""

import random
import re
import string
import sys
import unicodedata
import warnings

import pytest

from refimpl.validate.answers import LANGUAGES, exact_match, f1, normalise
from refimpl.validate.entities import scores

pytestmark = pytest.mark.oracle

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-PER", "E-PER", "S-LOC"]
WORDS = ["the", "a", "An", "lamp", "«Lamp»", "U.S.", "ein", "der", "la", "unos", "của", "ال",
         "الكتاب",
         "北京", "2008年", "किताब।", "-", "$5", "co-op", "  ", "\u2028", "that", "_"]  # fmt: skip


def test_entities_are_those_of_seqeval():
    metrics = pytest.importorskip("seqeval.metrics")
    draw = random.Random(0)
    for _ in range(300):
        lengths = [draw.randrange(1, 9) for _ in range(draw.randrange(1, 5))]
        truth = [[draw.choice(TAGS) for _ in range(n)] for n in lengths]
        found = [[draw.choice([tag, *TAGS]) for tag in tags] for tags in truth]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of types without a true entity
            theirs = metrics.classification_report(truth, found, output_dict=True, zero_division=0)
        over_all, by_type = scores(truth, found)
        for kind, score in {"micro avg": over_all, **by_type}.items():
            row = theirs[kind]
            assert score.true == row["support"]
            ours = (score.precision, score.recall, score.f1)
            expected = (row["precision"], row["recall"], row["f1-score"])
            assert [f"{x:.12f}" for x in ours] == [f"{x:.12f}" for x in expected]


def answers(draw):
    return "".join(draw.choice(WORDS) + draw.choice(["", " "]) for _ in range(draw.randrange(5)))


def test_answers_are_those_of_squads_script():
    theirs = pytest.importorskip("transformers.data.metrics.squad_metrics")
    draw = random.Random(0)
    for _ in range(2000):
        a, b = answers(draw), answers(draw)
        assert normalise(a) == theirs.normalize_answer(a)
        assert exact_match(a, b) == theirs.compute_exact(b, a)
        assert f"{f1(a, b):.12f}" == f"{theirs.compute_f1(b, a):.12f}"


def by_mlqas_rules(text, lang):
    """MLQA's normalisation, written from its description, another way than ours."""
    marks = {chr(i) for i in range(sys.maxunicode) if unicodedata.category(chr(i))[0] == "P"}
    text = text.lower()
    for mark in marks | set(string.punctuation):
        text = text.replace(mark, "")
    words = {
        "en": "a an the", "es": "un una unos unas el la los las",
        "vi": "của là cái chiếc những",
        "de": "ein eine einen einem eines einer der die das den dem des",
    }.get(lang, "")  # fmt: skip
    for word in words.split():
        text = re.sub(rf"(?<!\w){word}(?!\w)", " ", text)
    if lang == "ar":
        text = text.replace("ال", " ")
    if lang == "zh":
        text = "".join(f" {c} " if "\u4e00" <= c <= "\u9fa5" else c for c in text)
    return " ".join(text.split())


@pytest.mark.parametrize("lang", LANGUAGES)
def test_answers_are_normalised_by_mlqas_rules(lang):
    draw = random.Random(0)
    for _ in range(12):
        text = answers(draw) + " " + answers(draw)
        assert normalise(text, lang) == by_mlqas_rules(text, lang), text
