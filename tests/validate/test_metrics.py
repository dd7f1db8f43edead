"""The metrics, by cases that can be done by hand and by what holds of all."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.validate import answers
from refimpl.validate.accuracy import accuracy, confusion
from refimpl.validate.answers import best_over, exact_match, f1, normalise
from refimpl.validate.entities import Entity, entities, scores
from refimpl.validate.pseudo_perplexity import Surprise, total

TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-PER"])
WORDS = st.text(alphabet="ab the«.-$ال北1 ", max_size=12)


def test_accuracy_of_nothing_is_zero():
    assert accuracy([], []) == 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("ab")), min_size=1))
def test_the_diagonal_of_confusion_is_accuracy(pairs):
    truth, predicted = zip(*pairs, strict=True)
    counts = confusion(truth, predicted, "ab")
    assert sum(counts[x][x] for x in "ab") / len(pairs) == accuracy(truth, predicted)
    assert sum(sum(row.values()) for row in counts.values()) == len(pairs)


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("B-A I-A O", [("A", 0, 1)]),
        ("I-A I-A", [("A", 0, 1)]),  # IOB1
        ("I-A B-A", [("A", 0, 0), ("A", 1, 1)]),
        ("B-A I-B", [("A", 0, 0), ("B", 1, 1)]),
        ("B-A O I-A", [("A", 0, 0), ("A", 2, 2)]),
        ("S-A B-A I-A E-A", [("A", 0, 0), ("A", 1, 3)]),
        ("E-A E-A", [("A", 0, 0), ("A", 1, 1)]),
        ("B I O", [("_", 0, 1)]),
        ("O O", []),
    ],
)
def test_entities(tags, found):
    assert entities(tags.split()) == [Entity(*one) for one in found]


def test_a_tag_of_no_scheme_is_an_error():
    with pytest.raises(ValueError, match=r"tag: expected O, or B-.*got 'PER'"):
        entities(["PER"])


def test_scores_count_type_and_both_ends():
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "O"]]
    found = [["B-PER", "O", "O", "B-LOC"], ["B-PER", "O"]]
    over_all, by_type = scores(truth, found)
    assert over_all == (1, 3, 3)
    assert by_type["LOC"] == (1, 1, 2)
    assert by_type["PER"] == (0, 2, 1)
    assert (by_type["LOC"].precision, by_type["LOC"].recall) == (1.0, 0.5)
    assert by_type["LOC"].f1 == 2 / 3
    assert by_type["PER"].f1 == 0


@given(st.lists(st.lists(TAGS, max_size=8), max_size=5))
def test_the_truth_is_perfect(truth):
    over_all, _ = scores(truth, truth)
    assert over_all.right == over_all.predicted == over_all.true
    assert over_all.f1 == (1.0 if over_all.true else 0.0)


def test_sentences_of_two_lengths_are_an_error():
    with pytest.raises(ValueError, match="expected 1, one for each word, got 2"):
        scores([["O"]], [["O", "O"]])


@pytest.mark.parametrize(
    ("text", "rule", "shown"),
    [
        ("The «book» of an A-team!", "squad", "«book» of ateam"),
        ("The «book» of an A-team!", "en", "book of ateam"),
        ("El libro y la mesa", "es", "libro y mesa"),
        ("Das Buch des Königs", "de", "buch königs"),
        ("những cuốn sách", "vi", "cuốn sách"),
        ("الكتاب", "ar", "كتاب"),
        ("किताब।", "hi", "किताब"),
        ("2008年，北京 Olympic", "zh", "2008 年 北 京 olympic"),
    ],
)
def test_normalise(text, rule, shown):
    assert normalise(text, rule) == shown


def test_an_unknown_rule_is_an_error():
    with pytest.raises(ValueError, match="rule: expected squad or one of en, es"):
        normalise("x", "fr")


@given(WORDS, WORDS, st.sampled_from(["squad", *answers.LANGUAGES]))
def test_f1_lies_between_exact_match_and_one_whichever_way(a, b, rule):
    assert exact_match(a, b, rule) <= f1(a, b, rule) <= 1
    assert f1(a, b, rule) == f1(b, a, rule)
    assert f1(a, a, rule) == exact_match(a, a, rule) == 1


def test_the_best_truth_counts_and_no_truth_means_no_answer():
    assert best_over(f1, "a red book", ["lamp", "red"], "squad") == 2 / 3
    assert best_over(exact_match, "", [], "squad") == 1
    assert best_over(exact_match, "x", [], "squad") == 0
    assert best_over(exact_match, "", ["the", "x"], "squad") == 0  # "the" is nothing


def test_pseudo_perplexity_of_even_odds_is_their_number():
    text = Surprise(-8 * math.log(2), 4, 16)
    assert text.pseudo_perplexity == 4
    assert (text.bits_per_token, text.bits_per_character) == (2, 0.5)
    assert Surprise(-math.inf, 1, 1).pseudo_perplexity == math.inf
    assert Surprise(-1e6, 1, 1).pseudo_perplexity == math.inf
    assert Surprise(0.0, 0, 0).pseudo_perplexity == 1


@given(st.lists(st.floats(-50, 0), min_size=2), st.randoms())
def test_the_order_of_texts_does_not_matter(logs, random):
    texts = [Surprise(x, 1, 3) for x in logs]
    mixed = random.sample(texts, len(texts))
    assert total(texts) == total(mixed)
