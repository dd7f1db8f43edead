"""XLM-R's published vocabulary on real lines: refimpl, the library and transformers side by side.

Ids are judged by transformers' slow tokenizer, offsets by its fast one, made from the model file
by its own converter. Where the two disagree about ids there is nothing to compare offsets with:
those lines are few, and each is explained.
"""

import math
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given

import refimpl
from refimpl.tokenizers.xlm_roberta.charsmap import longest_rule, parse_charsmap
from refimpl.tokenizers.xlm_roberta.fairseq_dict import ids_by_place, read_dict
from refimpl.tokenizers.xlm_roberta.library import LibraryEngine
from refimpl.tokenizers.xlm_roberta.model_file import UNK_PLACE, read_model
from refimpl.tokenizers.xlm_roberta.tokenizer_json import read_tokenizer_json
from refimpl.tokenizers.xlm_roberta.unigram import ExplicitEngine
from tests.oracle.corpus import interesting_text, lines, nasty

pytestmark = pytest.mark.oracle
SPECIAL = re.compile("<s>|</s>|<pad>|<unk>|<mask>")


def published():
    folder = os.environ.get("REFIMPL_PUBLISHED")
    file = Path(folder or "", "xlm-roberta", "sentencepiece.bpe.model")
    if not folder or not file.is_file():
        pytest.skip("REFIMPL_PUBLISHED names no folder with xlm-roberta/sentencepiece.bpe.model")
    return file


@cache
def texts():
    """Return the real lines and the nasty texts."""
    return [line for _, line in lines(20_000)] + nasty()


@cache
def plain_texts():
    """Return those in which no special token is written: an engine alone can cut them."""
    return [text for text in texts() if not SPECIAL.search(text)]


@cache
def slow():
    import transformers

    return transformers.XLMRobertaTokenizer(str(published()))


@cache
def fast():
    import transformers

    return transformers.XLMRobertaTokenizerFast(str(published()))


@cache
def library():
    return LibraryEngine(published())


@cache
def explicit():
    return ExplicitEngine(published())


@cache
def ours(engine):
    return refimpl.load_tokenizer(published().parent, engine=engine)


def test_the_lines_are_of_many_languages_and_scripts():
    import unicodedata

    found = lines(20_000)
    assert len({line for _, line in found}) == 20_000
    letters = {char for _, line in found for char in line if char.isalpha()}
    scripts = Counter(unicodedata.name(char, "?").split()[0] for char in letters)
    assert len({language for language, _ in found}) >= 20
    assert len([script for script, n in scripts.items() if n >= 5]) >= 10


# ids


def test_the_explicit_engine_cuts_every_line_as_the_library():
    assert explicit().encode(texts()) == library().encode(texts())


def test_the_explicit_engine_names_every_piece_as_the_library():
    wrong = [text for text in texts()[::10] if explicit().spans(text) != library().spans(text)]
    assert wrong == []


@pytest.mark.parametrize("engine", ["library", "explicit"])
def test_ids_are_those_of_the_slow_tokenizer(engine):
    found = ours(engine)(texts()).input_ids
    wrong = [t for t, ids in zip(texts(), found, strict=True) if slow()(t).input_ids != ids]
    assert wrong == []


@pytest.mark.parametrize("engine", ["library", "explicit"])
@given(text=interesting_text(40))
def test_ids_are_those_of_the_slow_tokenizer_on_random_texts(engine, text):
    assert ours(engine).encode(text) == slow()(text).input_ids


# offsets


def as_ours(encoding):
    """Return the fast tokenizer's (token, place, start, end)."""
    places = [i - 1 if i != 3 else UNK_PLACE for i in encoding.ids]
    return [
        (token, place, *span)
        for token, place, span in zip(encoding.tokens, places, encoding.offsets, strict=True)
    ]


@cache
def compared():
    """Return (text, fast's pieces, ours) of every plain text."""
    backend = fast().backend_tokenizer
    encodings = backend.encode_batch(plain_texts(), add_special_tokens=False)
    return [
        (text, as_ours(one), library().spans(text))
        for text, one in zip(plain_texts(), encodings, strict=True)
    ]


def without_spans(pieces):
    return [place for _, place, _, _ in pieces]


def has_dropped_at_an_edge(text):
    """Say whether a rule drops a character at the beginning, or one behind a character made two.

    There the fast tokenizer's offsets are a character off: it counts the dropped one as the one
    that follows, or as the second of the two.
    """
    parts = [new for _, _, new in explicit().normaliser.parts(text)]
    dropped = [i for i, new in enumerate(parts) if new == ""]
    return any(i == 0 or not parts[i - 1] or len(parts[i - 1]) > 1 for i in dropped)


def test_offsets_are_those_of_the_fast_tokenizer():
    same = [row for row in compared() if without_spans(row[1]) == without_spans(row[2])]
    wrong = [text for text, theirs, found in same if theirs != found]
    assert [text for text in wrong if not has_dropped_at_an_edge(text)] == []
    assert len(same) > 0.995 * len(compared())
    assert len(wrong) < 5


def test_offsets_are_a_character_off_where_the_fast_tokenizer_drops_one():
    backend = fast().backend_tokenizer
    for text, theirs, found in [
        ("\x07abc", [(0, 2), (2, 3)], [(1, 3), (3, 4)]),
        ("™\x1eg", [(0, 2), (2, 3)], [(0, 1), (2, 3)]),
    ]:
        assert has_dropped_at_an_edge(text)
        encoding = backend.encode(text, add_special_tokens=False)
        assert encoding.offsets == theirs
        assert [(start, end) for _, _, start, end in library().spans(text)] == found


@pytest.mark.parametrize("engine", ["library", "explicit"])
def test_offsets_of_a_call_are_those_of_the_fast_tokenizer(engine):
    some = [text for text, theirs, found in compared()[::20] if theirs == found]
    rows = ours(engine)(some, return_offsets_mapping=True).offset_mapping
    theirs = fast()(some, return_offsets_mapping=True)["offset_mapping"]
    assert [[tuple(span) for span in row] for row in rows] == theirs


# where the fast tokenizer has other ids


def why(text, theirs, found):
    """Return the stage at which the fast and the slow tokenizer part, and how they do."""
    from tokenizers.normalizers import Precompiled

    parts = explicit().normaliser.parts(text)
    rewritten = Precompiled(explicit().model.charsmap).normalize_str(text)
    if rewritten != "".join(new for _, _, new in parts):
        return "rules: by grapheme in Rust" if rewritten == by_grapheme(text) else None
    prepared = explicit().normaliser(text).text
    others = "".join(piece for piece, _, _, _ in theirs)
    if others != prepared:
        at_the_end = "\x85" in text and others == prepared.rstrip("▁\x85")
        return "spaces: U+0085 is one in Rust, at the end" if at_the_end else None
    scores = [math.fsum(map(score, without_spans(pieces))) for pieces in (theirs, found)]
    # Sums of float64 against sums of float32: what is equal but for rounding falls either way.
    near = abs(scores[0] - scores[1]) <= len(text) * 2.0**-24 * abs(scores[0])
    return "scores: equal but for rounding" if near else None


def by_grapheme(text):
    """Rewrite a text as Rust does: of a short grapheme all, by the shortest rule it begins with."""
    graphemes = pytest.importorskip("regex").findall(r"\X", text)
    return "".join(
        short(part)
        for grapheme in graphemes
        for part in ([grapheme] if is_short(grapheme) else grapheme)
    )


def is_short(grapheme):
    return len(grapheme.encode()) < 6 and shortest(grapheme) is not None


def short(part):
    found = shortest(part)
    return part if found is None else found


def shortest(text):
    """Return what the shortest rule makes of a beginning of a text, None where there is none."""
    found = [longest_rule(rules(), text[: i + 1], 0) for i in range(len(text))]
    return next((rule[1] for rule in found if rule), None)


@cache
def rules():
    return parse_charsmap(explicit().model.charsmap)


def score(place):
    """Return a piece's score."""
    return explicit().model.scores[place] if place else min(explicit().model.scores) - 10


def test_every_line_with_other_ids_is_explained():
    other = [row for row in compared() if without_spans(row[1]) != without_spans(row[2])]
    causes = {text: why(text, theirs, found) for text, theirs, found in other}
    assert [ascii(text) for text, cause in causes.items() if cause is None] == []
    real = {line for _, line in lines(20_000)}
    assert sum(text in real for text in causes) < 0.001 * len(real)
    assert len(Counter(causes.values())) == 3  # each way to differ is met, in nasty() at the latest
    for cause, n in Counter(causes.values()).items():
        print(f"{n} of {len(compared())} texts: {cause}")  # shown with -s


def test_a_part_before_mask_keeps_a_space_in_the_fast_tokenizer_only():
    """The slow one takes all white space before <mask> along; this is ours."""
    text = "a  <mask> b"
    assert ours("library").encode(text) == slow()(text).input_ids


# the other files


@cache
def converted(folder):
    """Return a tokenizer.json written by transformers' converter."""
    fast().save_pretrained(folder)
    return folder / "tokenizer.json"


@pytest.fixture(scope="module")
def json_file(tmp_path_factory):
    return converted(tmp_path_factory.mktemp("fast"))


def test_a_converted_tokenizer_json_is_the_model_file(json_file):
    assert read_tokenizer_json(json_file) == read_model(published())


def test_a_checkpoint_with_a_tokenizer_json_alone_gives_the_same_ids(json_file, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(json_file.read_bytes())
    found = refimpl.load_tokenizer(tmp_path)(texts()).input_ids
    assert found == ours("library")(texts()).input_ids


def test_a_dictionary_in_the_order_of_the_model_gives_the_same_ids(tmp_path):
    pieces = explicit().model.pieces
    file = tmp_path / "dict.txt"
    file.write_text("".join(f"{piece} 999\n" for piece in pieces[3:]), encoding="utf-8")
    ids = ids_by_place(pieces, read_dict(file))
    assert ids == [3, 0, 2, *range(4, 250_001)]
