"""Scores at the places that were asked for, and at no others."""

from dataclasses import replace
from unittest import mock

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compare import assert_ulps
from tests.models.drawn import OTHER_ORDER, build, texts

CASES = [
    ("xlm", "XLMWithLMHeadModel", {}),
    ("xlm", "XLMWithLMHeadModel", {"asm": True, "asm_cutoffs": (9, 19), "asm_div_value": 2.0}),
    ("xlm_roberta", "XLMRobertaForMaskedLM", {}),
    ("xlm_roberta", "XLMRobertaForCausalLM", {"is_decoder": True}),
    ("xlm_roberta_xl", "XLMRobertaXLForMaskedLM", {}),
    ("xmod", "XmodForMaskedLM", {"default_language": "en_XX"}),
]
language_models = pytest.mark.parametrize(
    ("family", "architecture", "values"), CASES, ids=[f"{c}-{'-'.join(v)}" for _, c, v in CASES]
)
IDS = numpy.arange(3, 15).reshape(2, 6)


@language_models
@pytest.mark.parametrize("packed", [False, True])
@settings(max_examples=8, deadline=None)
@given(drawn=texts(), data=st.data())
def test_scores_are_those_of_these_places(family, architecture, values, packed, drawn, data):
    ids, mask = drawn
    mask[:, 0] = True
    model = build(family, architecture, **values)
    place = st.tuples(*(st.integers(0, n - 1) for n in ids.shape)).filter(lambda at: mask[at])
    at = numpy.array(data.draw(st.lists(place, min_size=1, max_size=4)))
    inputs = {"input_ids": ids, "attention_mask": mask}
    expected = model(**inputs).logits[at[:, 0], at[:, 1], :]
    actual = replace(model, packed=packed)(**inputs, logits_at=at).logits
    assert_ulps(actual, expected, ulps=OTHER_ORDER, of=numpy.abs(expected).max())


@language_models
def test_the_large_matrix_is_multiplied_with_these_places_only(family, architecture, values):
    model = build(family, architecture, **values)
    shapes, plain = [], numpy.matmul

    def matmul(a, b):
        shapes.append((a.shape, b.shape))
        return plain(a, b)

    with mock.patch.object(numpy, "matmul", matmul):
        model(input_ids=IDS, logits_at=[[0, 1], [1, 5], [0, 0]])
    vocabulary = 11 if values.get("asm") else model.config.vocab_size  # the head: 9 words, 2 tails
    assert [a[0] for a, b in shapes if b[-1] == vocabulary] == [3]


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ([[0, 6]], r"expected places from 0 to 1 and 0 to 5, got \[0 6\]"),
        ([[2, 0]], r"got \[2 0\]"),
        ([[0, 0], [0, -1]], r"got \[ 0 -1\]"),
        ([[0, 1, 2]], r"expected shape \(P, 2\), got \(1, 3\)"),
        ([], "expected at least one"),
    ],
)
def test_places_that_are_none_are_refused(places, words):
    model = build("xlm_roberta", "XLMRobertaForMaskedLM")
    with pytest.raises(ValueError, match=f"logits_at: .*{words}"):
        model(input_ids=IDS, logits_at=places)


@language_models
def test_a_loss_is_of_all_places(family, architecture, values):
    with pytest.raises(ValueError, match="logits_at: expected none beside labels"):
        build(family, architecture, **values)(input_ids=IDS, labels=IDS, logits_at=[[0, 0]])


def test_what_lies_in_a_cache_has_no_scores():
    model = build("xlm", "XLMWithLMHeadModel", causal=True)
    cache = model(input_ids=IDS[:, :3], use_cache=True).cache
    with pytest.raises(ValueError, match="logits_at: expected none with a cache"):
        model(input_ids=IDS, cache=cache, logits_at=[[0, 0]])


def test_other_classes_do_not_take_it():
    with pytest.raises(TypeError, match="takes no 'logits_at'"):
        build("xlm_roberta", "XLMRobertaModel")(input_ids=IDS, logits_at=[[0, 0]])
