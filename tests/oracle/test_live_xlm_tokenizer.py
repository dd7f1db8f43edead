"""XLM's tokenizer against transformers' own: every step, every language, real lines and odd ones.

The original takes a language in ``_tokenize`` only; its ``encode`` and call lose it on the way. So
that it can be asked in every language, ``_tokenize`` is given the language beforehand.
"""

import contextlib
import functools
import json
import logging
import os
import random
import types
import warnings
from collections import defaultdict

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refimpl.tokenizers.xlm import bpe, moses, text
from refimpl.tokenizers.xlm.files import read_files
from refimpl.tokenizers.xlm.segmentation import japanese
from refimpl.tokenizers.xlm.tokenizer import XLMTokenizer
from tests.oracle import corpus
from tests.tokenizers.xlm import toy as xlm_toy

pytestmark = pytest.mark.oracle
transformers = pytest.importorskip("transformers")
original = pytest.importorskip("transformers.models.xlm.tokenization_xlm")

LANGUAGES = sorted((moses.languages() | {"ar", "bg", "sw", "tr", "ur", "vi"}) - {"zh", "ja"})
HUNT = settings(max_examples=300, deadline=None)


def load(folder, lower):
    """Return the original and ours of a folder; ours takes every language."""
    files = read_files(folder)
    theirs = transformers.XLMTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        do_lowercase_and_remove_accent=lower,
    )
    ours = XLMTokenizer(
        files.vocabulary,
        files.ranks,
        lang2id={lang: i for i, lang in enumerate([*LANGUAGES, "zh", "th", "ja", "xx"])},
        do_lowercase_and_remove_accent=lower,
    )
    return theirs, ours


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory):
    return xlm_toy.write(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module", params=[True, False], ids=["lower", "cased"])
def toy(request, toy_folder):
    return load(toy_folder, request.param)


@pytest.fixture(scope="module", params=[True, False], ids=["lower", "cased"])
def published(request):
    return load(xlm_toy.published(), request.param)


@contextlib.contextmanager
def told(theirs, **options):
    """Have the original's tokenize and encode hand on a language to its ``_tokenize``."""
    theirs._tokenize = functools.partial(type(theirs)._tokenize, theirs, **options)
    try:
        yield theirs
    finally:
        del theirs._tokenize


def assert_same(theirs, ours, texts, lang):
    """Compare tokens and ids of texts, and our three ways to them with one another."""
    with told(theirs, lang=lang):
        expected = [theirs.tokenize(one) for one in texts]
    rows = ours._batch_ids(list(texts), lang)
    for one, tokens, ids in zip(texts, expected, rows, strict=True):
        assert ids == theirs.convert_tokens_to_ids(tokens), (lang, one)
        assert ours.tokenize(one, lang) == tokens, (lang, one)
        assert [span.id for span in ours._spans(one, lang)] == ids, (lang, one)


# The steps


def test_the_steps_of_text_on_every_character():
    words = [f"a{chr(code)}b" for code in range(0x110000)]
    words += [f"{chr(code)}  x" for code in range(0x110000)]
    everything = "\n".join(words)
    assert text.replace_unicode_punctuation(everything) == original.replace_unicode_punct(
        everything
    )
    assert text.remove_non_printing(everything) == original.remove_non_printing_char(everything)
    folded = text.lowercase_and_remove_accents(" ".join(words))
    assert folded.split(" ") == original.lowercase_and_remove_accent(words)
    plain = text.remove_romanian_diacritics(text.normalize_romanian(everything))
    assert plain == original.romanian_preprocessing(everything)


@HUNT
@given(corpus.interesting_text())
def test_the_steps_of_text_on_drawn_texts(one):
    assert text.replace_unicode_punctuation(one) == original.replace_unicode_punct(one)
    assert text.remove_non_printing(one) == original.remove_non_printing_char(one)
    words = one.split() or [""]
    folded = text.lowercase_and_remove_accents(" ".join(words))
    assert folded.split(" ") == original.lowercase_and_remove_accent(words)


def merge_lists():
    """Draw merges of symbols that merges before them make, in any order."""
    symbols = st.text("ab", min_size=1, max_size=4)
    ends = st.sampled_from(["", bpe.END])
    pairs = st.tuples(symbols, symbols, ends).map(lambda one: (one[0], one[1] + one[2]))
    return st.lists(pairs, unique=True, max_size=30)


@HUNT
@given(merge_lists(), st.text("abc", min_size=1, max_size=40))
def test_bpe(merges, word):
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    theirs = types.SimpleNamespace(bpe_ranks=ranks, cache={})
    expected = original.XLMTokenizer.bpe(theirs, word).split(" ")
    assert bpe.bpe(word, ranks) == bpe.bpe_of_long_word(word, ranks) == expected


# Every language


def language_of(name):
    """Return the language of a catalogue's folder, "xx" where Moses knows none."""
    code = name.partition("@")[0].partition("_")[0]
    return code if code in LANGUAGES else "xx"


def real_lines(count):
    """Return real lines by language."""
    lines = defaultdict(list)
    for name, line in corpus.lines(count):
        lines[language_of(name)].append(line)
    return lines


@pytest.mark.large
def test_twenty_thousand_real_lines(published):
    for lang, lines in real_lines(20_000).items():
        assert_same(*published, lines, lang)


def test_two_thousand_real_lines(toy):
    for lang, lines in real_lines(2_000).items():
        assert_same(*toy, lines, lang)


def test_every_language_of_moses(toy):
    lines = [line for _, line in corpus.lines(20_000)]
    odd = [one for one in corpus.nasty() if len(one) < 500]
    draw = random.Random(15)
    for lang in LANGUAGES:
        assert_same(*toy, [*draw.sample(lines, 40), *draw.sample(odd, 60)], lang)


@HUNT
@given(corpus.interesting_text(), st.sampled_from(["en", "fr", "de", "ro", "fi", "ko", "xx"]))
@example("\"...,,\" 'a.'", "en")
@example("DOTMULTI. DOTDOTMULTI' ..MULTI", "en")
@example("Mr. No. 5 No. x pp. 7, U.S. U.. a.. .a", "en")
@example("ΑΣ. ΣΑΣ İstanbul ǅ", "en")
@example("\x00 a. \x01b\x1f' .'", "fr")
def test_drawn_texts(toy_pair, one, lang):
    for pair in toy_pair:
        assert_same(*pair, [one], lang)


@pytest.fixture(scope="module")
def toy_pair(toy_folder):
    return load(toy_folder, True), load(toy_folder, False)


def test_very_long_words(toy):
    words = ["a" * 10_000, "the" * 4_000, "é" * 5_000, "." * 9_000, "x." * 4_000, "'" * 999]
    for lang in ("en", "de", "fr"):
        assert_same(*toy, words, lang)


# Chinese, Thai, Japanese


CHINESE = [
    "我们在北京学习自然语言处理。",
    "“中文”，（第1章）：价格是３．５元！",
    "他说:「今天 天气\t很好」…",
    "小明硕士毕业于中国科学院计算所,后在日本京都大学深造",
]


@pytest.fixture
def rjieba_is(monkeypatch):
    """Return a function that puts a module in the place of rjieba."""
    return lambda module: monkeypatch.setitem(__import__("sys").modules, "rjieba", module)


def test_chinese_is_the_originals_with_jieba_in_the_place_of_rjieba(toy, rjieba_is):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
    jieba.setLogLevel(logging.ERROR)
    rjieba_is(types.SimpleNamespace(cut=jieba.cut))
    lines = [line for name, line in corpus.all_lines() if name.startswith("zh")][:1000]
    assert_same(*toy, [*CHINESE, *lines], "zh")


def test_chinese_is_the_originals_with_rjieba_as_segmenter(toy):
    rjieba = pytest.importorskip("rjieba")
    lines = [line for name, line in corpus.all_lines() if name.startswith("zh")][:1000]
    theirs, ours = toy
    ours.segmenters["zh"] = rjieba.cut
    try:
        assert_same(theirs, ours, [*CHINESE, *lines, *corpus.nasty()[:100]], "zh")
    finally:
        ours.segmenters.clear()


def test_rjieba_parts_from_jieba_in_latin_letters_digits_and_signs_only():
    rjieba = pytest.importorskip("rjieba")
    from refimpl.tokenizers.xlm.segmentation import chinese

    cut = chinese()
    assert cut("范围 0-4") == ["范围", " ", "0", "-", "4"]
    assert rjieba.cut("范围 0-4") == ["范围", " ", "0-4"]
    lines = [line for name, line in corpus.all_lines() if name.startswith("zh")]
    parted = [line for line in lines if cut(line) != rjieba.cut(line)]
    assert 0 < len(parted) < len(lines) / 10
    for line in parted:
        chinese_words = [
            [word for word in words if not word.isascii()]
            for words in (cut(line), rjieba.cut(line))
        ]
        assert chinese_words[0] == chinese_words[1], line


def test_thai(toy):
    pytest.importorskip("pythainlp")
    lines = [line for name, line in corpus.all_lines() if name.startswith("th")][:1000]
    assert_same(*toy, [*lines, *(one for one in corpus.nasty() if len(one) < 500)], "th")


@pytest.fixture
def kytea_in_both(toy):
    """The original and ours with KyTea and the model that REFIMPL_KYTEA_MODEL names."""
    kytea = pytest.importorskip("Mykytea")
    model = os.environ.get("REFIMPL_KYTEA_MODEL")
    if not model:
        pytest.skip("REFIMPL_KYTEA_MODEL names no KyTea model")
    theirs, ours = toy
    theirs.ja_word_tokenizer = kytea.Mykytea(f"-model {model}")
    ours.segmenters["ja"] = japanese(model)
    yield theirs, ours
    ours.segmenters.clear()


def test_japanese(kytea_in_both):
    lines = [line for name, line in corpus.all_lines() if name.startswith("ja")][:1000]
    assert_same(*kytea_in_both, [*lines, *(x for x in corpus.nasty() if 0 < len(x) < 500)], "ja")


def test_japanese_in_twos(toy):
    """What is around KyTea, with a segmenter that cuts after every second character."""
    theirs, ours = toy

    def twos(one):
        return [one[i : i + 2] for i in range(0, len(one), 2)]

    theirs.ja_word_tokenizer = types.SimpleNamespace(getWS=twos)
    ours.segmenters["ja"] = twos
    lines = [line for name, line in corpus.all_lines() if name.startswith("ja")][:1000]
    try:
        assert_same(theirs, ours, lines, "ja")
    finally:
        ours.segmenters.clear()


# Calls, special tokens, files


def test_the_original_ignores_a_language_that_ours_honours(toy):
    theirs, ours = toy
    french = "l'eau"
    assert theirs.encode(french, lang="fr") == theirs.encode(french) == ours.encode(french)
    assert ours.encode(french, lang="fr") != ours.encode(french)
    with told(theirs, lang="fr"):
        assert ours.encode(french, lang="fr") == theirs.encode(french)


def test_the_original_goes_on_with_a_language_that_ours_refuses(toy):
    theirs, ours = toy
    assert theirs._tokenize("a b", lang="no such") == ["a</w>", "b</w>"]
    with pytest.raises(ValueError, match=r"lang: expected one of .*en.*, got 'no such'"):
        ours.tokenize("a b", lang="no such")


def test_bypass_tokenizer(toy):
    theirs, ours = toy
    for one in ["The president , l' Été", " a  b\tc\n", "", "it 's x.y", *corpus.nasty()[:200]]:
        if any(token in one for token in ours.all_special_tokens):
            continue  # which their _tokenize, asked for itself, takes apart
        expected = theirs._tokenize(one, bypass_tokenizer=True)
        assert ours.tokenize(one, bypass_tokenizer=True) == expected, one
        ids = [0, *theirs.convert_tokens_to_ids(expected), 1]
        assert ours(one, bypass_tokenizer=True)["input_ids"] == ids
        assert ours.encode(one, bypass_tokenizer=True) == ids


SPECIAL_PIECES = [
    *(
        "<s>",
        "</s>",
        "<S>",
        "<special1>",
        "<SPECIAL1>",
        "<special",
        "1>",
        "<pad>",
        "<",
        ">",
        "<unk>",
    ),
    *("a", " ", "The", "Ünk", "Σ", "\n", "<ent>", "<Ent>", "ENT", ".", "é", "\u0301"),
]
SPECIAL_TEXT = st.lists(st.sampled_from(SPECIAL_PIECES), max_size=12).map("".join)


@HUNT
@given(SPECIAL_TEXT)
def test_special_tokens_in_texts(toy_pair, one):
    for pair in toy_pair:
        assert_same(*pair, [one], "en")


@HUNT
@given(st.lists(SPECIAL_TEXT, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_calls(toy_pair, texts, pairs, special):
    for theirs, ours in toy_pair:
        second = texts[::-1] if pairs else None
        for options in ({}, {"padding": True}, {"truncation": True, "max_length": 9}):
            one = theirs(texts, second, add_special_tokens=special, **options)
            assert ours(texts, second, add_special_tokens=special, **options) == dict(one)


@HUNT
@given(st.lists(st.integers(0, 400), max_size=12), st.booleans())
def test_decode(toy_pair, ids, skip):
    for theirs, ours in toy_pair:
        assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(
            ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
        )


@pytest.fixture(scope="module", params=["newer", "older"])
def saved(request, toy_folder, tmp_path_factory):
    """The original with added tokens, and the folder that it was saved to."""
    theirs = transformers.XLMTokenizer.from_pretrained(
        toy_folder, additional_special_tokens=["<special0>", "<special1>", "<Note>"]
    )
    theirs.add_tokens(["<Ent>", "word", "wordy"])
    theirs.model_max_length = 77
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    if request.param == "older":
        file = folder / "tokenizer_config.json"
        values = json.loads(file.read_text())
        for key in ("added_tokens_decoder", "additional_special_tokens"):
            del values[key]
        file.write_text(json.dumps(values))
    return transformers.XLMTokenizer.from_pretrained(folder), XLMTokenizer.from_folder(folder)


@HUNT
@given(SPECIAL_TEXT | st.sampled_from(["a word<Note>x", "<NOTE><note>", "wordy Word"]))
def test_files_that_the_original_saved(saved, one):
    theirs, ours = saved
    ids = theirs.encode(one)
    assert ours.encode(one) == ids
    assert ours.tokenize(one) == theirs.tokenize(one)
    assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)
    assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


def test_what_a_saved_tokenizer_is_like(saved):
    theirs, ours = saved
    assert len(ours) == len(theirs)
    assert ours.model_max_length == theirs.model_max_length == 77
    assert ours.all_special_tokens == theirs.all_special_tokens
    assert ours.all_special_ids == theirs.all_special_ids
    assert ours.get_vocab() == theirs.get_vocab()
    for role in ("bos", "unk", "sep", "pad", "cls", "mask"):
        name = f"{role}_token"
        assert getattr(ours, name) == getattr(theirs, name)
        assert getattr(ours, f"{name}_id") == getattr(theirs, f"{name}_id")


def test_published_files(published):
    theirs, ours = published
    assert len(ours) == len(theirs) == 95_000
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.all_special_ids == theirs.all_special_ids
