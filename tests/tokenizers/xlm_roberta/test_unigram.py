"""The explicit engine: by hand, against all ways, and piece for piece against the library."""

import doctest
import math
import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import CheckpointError
from refimpl.tokenizers.xlm_roberta import unigram
from refimpl.tokenizers.xlm_roberta.library import LibraryEngine
from refimpl.tokenizers.xlm_roberta.model_file import Kind
from refimpl.tokenizers.xlm_roberta.unigram import (
    LARGEST_SUM,
    ExplicitEngine,
    Vocabulary,
    best_path,
    best_ways,
    float32,
)
from tests.oracle.corpus import interesting_text, nasty
from tests.tokenizers.xlm_roberta.toy_models import TOY, make_model, published, toy_model

BYTES = {f"<0x{i:02X}>": (0.0, Kind.BYTE) for i in range(256)}


@cache
def engines(path):
    """Return both engines of a model file."""
    return ExplicitEngine(path), LibraryEngine(path)


def assert_agree(pair, texts):
    """Compare every answer about a text."""
    explicit, other = pair
    assert explicit.encode(texts) == other.encode(texts)
    for text in texts:
        assert explicit.tokenize(text) == other.tokenize(text), ascii(text)
        assert explicit.spans(text) == other.spans(text), ascii(text)


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(unigram)
    assert (failed, tried > 1) == (0, True)


# by hand

FISH = make_model({"▁": -2, "f": -3, "i": -3, "s": -3, "h": -3, "fi": -4, "▁fi": -6.5, "sh": -4})


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("fish", ["▁", "fi", "sh"]),  # -10; ▁fi would make -10.5
        ("ifish", ["▁", "i", "fi", "sh"]),
        ("ﬁ", ["▁", "ﬁ"]),  # no rules here
        ("", []),
        (" ", []),
        ("fxyzi", ["▁", "f", "xyz", "i"]),  # neighbours that are unknown are one
        ("xfx", ["▁", "x", "f", "x"]),
        ("f f", ["▁", "f", "▁", "f"]),
    ],
)
def test_the_best_way(text, pieces):
    engine = ExplicitEngine(FISH)
    assert engine.tokenize(text) == pieces
    assert [engine.id_to_piece(i) for i in engine.encode([text])[0]] == [
        piece if piece in FISH.pieces else "<unk>" for piece in pieces
    ]


def test_the_unknown_costs_ten_more_than_the_rarest_piece():
    vocabulary = Vocabulary(make_model({"ab": -19.0, "b": -1.5}))  # a alone is unknown
    assert list(vocabulary.edges("ab", 0)) == [(2, 3, -19.0), (1, 0, -29.0)]
    assert list(vocabulary.edges("ab", 1)) == [(2, 4, -1.5)]
    lattice = best_ways(vocabulary, "ab")
    assert list(lattice.scores) == [0.0, -29.0, -19.0]
    assert [edge.place for edge in best_path(lattice)] == [3]


def test_of_two_equal_ways_the_first_stays():
    model = make_model({"▁": -1.0, "a": -1.0, "aa": -2.0})
    for text in ("aa", "aaa", "aaaaa"):
        pieces = ExplicitEngine(model).tokenize(text)
        assert pieces == LibraryEngine(model).tokenize(text)
    assert ExplicitEngine(model).tokenize("aa") == ["▁", "aa"]  # found at ▁, before a at a


def test_places():
    engine = ExplicitEngine(TOY)
    assert len(engine) == 300
    for place, piece in enumerate(engine.model.pieces):
        assert engine.piece_to_id(piece) == place
        assert engine.id_to_piece(place) == piece
    assert [engine.piece_to_id(piece) for piece in ("nope", "", "🙂")] == [0, 0, 0]
    for place in (-1, 300):
        with pytest.raises(IndexError, match=f"i: expected a place from 0 to 299, got {place}"):
            engine.id_to_piece(place)


def test_a_path_or_a_model():
    assert ExplicitEngine(TOY).model == ExplicitEngine(str(TOY)).model == toy_model()
    with pytest.raises(CheckpointError, match=r"gone\.model: expected the SentencePiece model"):
        ExplicitEngine("gone.model")


@pytest.mark.parametrize("name", ["tokenize", "spans", "piece_to_id"])
def test_a_lone_surrogate_is_refused(name):
    with pytest.raises(ValueError, match=r"UTF-8 form, got a lone surrogate, '\\ud800', at char"):
        getattr(ExplicitEngine(TOY), name)("a\ud800")


def test_a_lone_surrogate_in_a_batch_is_refused():
    with pytest.raises(ValueError, match="got a lone surrogate"):
        ExplicitEngine(TOY).encode(["a", "\ud800"])


# all ways, tried one by one


def all_ways(vocabulary, text, start=0):
    """Give every way from a position to the end, as (score, pieces)."""
    if start == len(text):
        yield 0.0, []
    else:
        for end, place, score in vocabulary.edges(text, start):
            for rest, places in all_ways(vocabulary, text, end):
                yield score + rest, [place, *places]


pieces_of_abc = st.dictionaries(
    st.text("abc", min_size=1, max_size=4),
    st.floats(-20, -0.5, width=32),
    min_size=1,
    max_size=12,
)


@given(pieces_of_abc, st.text("abcd", min_size=1, max_size=8))
def test_no_other_way_is_better(pieces, text):
    vocabulary = Vocabulary(make_model(pieces))
    found = math.fsum(edge.score for edge in best_path(best_ways(vocabulary, text)))
    best = max(score for score, _ in all_ways(vocabulary, text))
    assert best - found <= len(text) * 2.0**-16  # rounding of sums below 300 to float32


# against the library: models with everything that a model can have

MIXED = {
    "▁": -2.0,
    "a": -3.0,
    "b": -3.5,
    "ab": -5.0,
    "▁a": -4.0,
    "字": -6.0,
    "c": -2.5,
    "abc": (0.0, Kind.USER_DEFINED),
    "x y": (0.0, Kind.USER_DEFINED),
    "▁b": (0.0, Kind.USER_DEFINED),
    "d": (-1.0, Kind.UNUSED),
    "ca": (-0.5, Kind.UNUSED),
    "<s>": -7.0,
    "<mask>": (0.0, Kind.CONTROL),
}
MODELS = {
    "mixed": make_model(MIXED),
    "bytes": make_model({**MIXED, **BYTES}, byte_fallback=True),
    "suffix": make_model({**MIXED, "a▁": -4.0}, treat_whitespace_as_suffix=True),
    "as it is": make_model(MIXED, add_dummy_prefix=False, remove_extra_whitespaces=False),
    "spaces": make_model({**MIXED, " ": -2.0, " a": -3.0}, escape_whitespaces=False),
    "ties": make_model({"▁": -1, "a": -0.1, "aa": -0.2, "aaa": -0.3, "b": -0.1, "ab": -0.2}),
    "thirds": make_model(
        {"▁": -1, "a": -1 / 3, "aa": -2 / 3, "aaa": -1, "b": -0.7, "ba": -31 / 30}
    ),
    "threes": make_model({"▁": -1, "a": -1 / 3, "aaa": -0.9, "b": -1.033}),
    "positive": make_model(
        {"▁": 1.0, "a": 2.0, "b": -1.0, "ab": 2.5, "字": 0.2, "字字": (0.0, Kind.USER_DEFINED)}
    ),
}


@cache
def both(name):
    return ExplicitEngine(MODELS[name]), LibraryEngine(MODELS[name])


@pytest.mark.parametrize("name", MODELS)
@given(st.text("aaabbcdxy  ▁字字é🙂<s>\x00", max_size=20))
def test_every_kind_of_piece_is_as_in_the_library(name, text):
    assert_agree(both(name), [text])


@pytest.mark.parametrize("name", MODELS)
def test_long_repetitions_are_as_in_the_library(name):
    draw = random.Random(7)
    texts = ["".join(draw.choices("aab", k=draw.randint(50, 400))) for _ in range(60)]
    assert_agree(both(name), [*texts, "a" * 3000, "ab" * 2000, "aaab" * 800])


@given(interesting_text(40))
def test_the_toy_model_is_as_in_the_library(text):
    assert_agree(engines(TOY), [text])


def test_the_toy_model_is_as_in_the_library_on_nasty_texts():
    assert_agree(engines(TOY), nasty())


@pytest.mark.parametrize("name", ["thirds", "threes"])
def test_sums_beyond_the_precision_of_a_float32(name):
    draw = random.Random(3)
    tails = ["".join(draw.choices("aab", k=300)) for _ in range(3)]
    # An unknown character costs 11.033: the sum passes 100,000 among them, or in the tail.
    texts = ["é" * n + tail for tail in tails for n in (15_000, *range(9055, 9064, 2))]
    explicit, other = both(name)
    assert explicit.encode(texts) == other.encode(texts)
    lattice = best_ways(explicit.vocabulary, texts[0])
    assert math.fsum(edge.score for edge in best_path(lattice)) < -1.5 * LARGEST_SUM
    assert max(map(abs, lattice.scores)) < LARGEST_SUM + 100


def test_sums_are_rounded_as_they_grow():
    vocabulary = Vocabulary(make_model({"a": -0.1}))
    scores = best_ways(vocabulary, "a" * 1000).scores
    rounded = 0.0
    for score in scores:
        assert score == rounded
        rounded = float32(rounded + float32(-0.1))


# against the library: the published model


def test_the_published_model_is_as_in_the_library_on_nasty_texts():
    assert_agree(engines(published()), nasty())


@given(interesting_text(40))
def test_the_published_model_is_as_in_the_library(text):
    assert_agree(engines(published()), [text])


def test_the_published_model_is_as_in_the_library_on_repetitions():
    draw = random.Random(5)
    alphabet = "aeinrst xyzABC.,-0123абвг中文字あい"
    texts = []
    for _ in range(400):
        part = "".join(draw.choices(alphabet, k=draw.randint(1, 3)))
        parts = [part if draw.random() < 0.9 else draw.choice(alphabet) for _ in range(100)]
        texts.append("".join(parts))
    assert_agree(engines(published()), [*texts, *(char * 300 for char in alphabet)])
