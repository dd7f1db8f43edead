"""XLM's tokenizer: a toy vocabulary, the published one, languages, places, special tokens.

Every literal token and id below was printed by transformers 4.57.6, told the language, and not by
refimpl. Tests of the published vocabulary read it from the folder that REFIMPL_PUBLISHED names.
"""

import copy
import doctest
import pickle
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refimpl.tokenizers.xlm import steps as xlm_steps
from refimpl.tokenizers.xlm import tokenizer as xlm
from refimpl.tokenizers.xlm.bpe import END
from refimpl.tokenizers.xlm.files import SpecialTokens
from refimpl.tokenizers.xlm.text import lowercase_and_remove_accents
from refimpl.tokenizers.xlm.tokenizer import XLMTokenizer
from tests.tokenizers.xlm import toy as xlm_toy


@pytest.fixture(scope="module")
def tok(tmp_path_factory):
    return XLMTokenizer.from_folder(xlm_toy.write(tmp_path_factory.mktemp("toy")))


@pytest.fixture(scope="module")
def cased(tmp_path_factory):
    folder = xlm_toy.write(tmp_path_factory.mktemp("cased"), do_lowercase_and_remove_accent=False)
    return XLMTokenizer.from_folder(folder)


@pytest.fixture(scope="module")
def published_tok():
    return XLMTokenizer.from_folder(xlm_toy.published())


def test_examples_in_docstrings():
    for module in (xlm, xlm_steps):
        failed, tried = doctest.testmod(module)
        assert (failed, tried > 1) == (0, True)


# Text to tokens


LOWER = [
    (
        "en",
        'The President said: "It’s the river’s oldest bridge."',
        "the</w> president</w> said</w> :</w> \"</w> it</w> 's</w> the</w> river</w> 's</w> "
        'oldest</w> b ridg e</w> .</w> "</w>',
    ),
    (
        "fr",
        "L'eau de la « rivière » n’est pas à 5\xa0%.",
        "l'</w> eau</w> de</w> la</w> \"</w> riviere</w> \"</w> n '</w> est</w> pa s</w> a</w> "
        "5</w> %</w> .</w>",
    ),
    (
        "de",
        'Die Brücken sind 1\xa0000 m lang."',
        'die</w> brucken</w> sind</w> 1,000</w> m</w> lan g</w> .</w> "</w>',
    ),
    (
        "ro",
        "Știinţă şi cunoaştere în România",
        "s ti i n t a</w> s i</w> c u n o a s ter e</w> i n</w> r o m an i a</w>",
    ),
    (
        "el",
        "Ο ΠΟΤΑΜΟΣ είναι ο μεγαλύτερος",
        "ο</w> ποταμο σ</w> ειναι</w> ο</w> μεγαλυτερος</w>",
    ),
    ("hi", "नदी सबसे लम्बी है।", "नदी</w> सब स</w> लम ब ी</w> ह</w> ।</w>"),
    (
        "zh",
        "我们在北京学习自然语言处理。",
        "我们</w> 在</w> 北京</w> 学习</w> 自然语言</w> 处理</w> .</w>",
    ),
    ("zh", "我\u200b们 在", "我</w> 们</w> 在</w>"),  # cut before it is cleaned
    ("hu", "Irmak İSTANBUL’dan", "i r ma k</w> i</w> s t an b u l</w> '</w> d a n</w>"),
    ("ko", "강이", "\u1100 \u1161 \u11bc \u110b \u1175</w>"),
    (
        "en",
        "a\tb\nc \u200bd 🙂👩\u200d👧 <special1> <S> </s>x",
        "a b c</w> d</w> 🙂</w> 👩</w> 👧</w> <special1> <s> </s> x</w>",
    ),
    ("en", "", ""),
    ("en", " \n ", ""),
]
CASED = [
    (
        "en",
        'The President said: "It’s"',
        'T h e</w> P residen t</w> said</w> :</w> "</w> I t</w> \'s</w> "</w>',
    ),
    ("ro", "Știinţă în România", "S ti i n t a</w> i n</w> R o m an i a</w>"),
    ("el", "Ο ΠΟΤΑΜΟΣ", "Ο</w> Π Ο Τ Α Μ Ο Σ</w>"),
    ("hi", "सबसे लम्बी है।", "सबसे</w> लम्बी</w> है</w> ।</w>"),
    ("en", "<special1> <S> </s>x", "<special1> <</w> S</w> ></w> </s> x</w>"),
]


@pytest.mark.parametrize(("lang", "text", "tokens"), LOWER)
def test_tokens(tok, lang, text, tokens):
    assert tok.tokenize(text, lang) == tokens.split(" " if tokens else None)


@pytest.mark.parametrize(("lang", "text", "tokens"), CASED)
def test_tokens_with_case(cased, lang, text, tokens):
    assert cased.tokenize(text, lang) == tokens.split()


PUBLISHED = [
    (
        "en",
        "Mr. Smith left. He paid $1,000.50… (5 %)",
        [
            37763,
            6839,
            239,
            9348,
            15,
            1456,
            82714,
            2899,
            2511,
            5360,
            3046,
            1039,
            719,
            22,
            249,
            124,
            21,
        ],
    ),
    (
        "fr",
        "L'eau de la « rivière » n’est pas à 5\xa0%.",
        [35, 1756, 16, 18, 17, 4805, 17, 436, 47, 311, 23, 249, 124, 15],
    ),
    ("de", 'Die Brücken sind 1\xa0000 m lang."', [24, 15210, 187, 42570, 226, 1811, 15, 17]),
    ("ru", "Президент сказал, что река", [15459, 20370, 14, 235, 6369]),
    ("hi", "नदी सबसे लम्बी है।", [41267, 20917, 7850, 6262, 38864, 300, 314]),
    ("zh", "我们在北京学习自然语言处理。", [27145, 115, 9195, 26479, 38462, 25851, 36705, 15]),
    ("ar", "الرئيس قال إن النهر طويل", [24692, 12348, 403, 52012, 50939]),
    ("sw", "Mto ni mrefu sana.", [39470, 1287, 78549, 31565, 15]),
    ("ur", "دریا بہت لمبا ہے", [39904, 39839, 10028, 13848, 1131]),
    ("vi", "Con sông dài nhất là ở đây", [66, 1532, 6472, 1627, 18, 80, 4600]),
    ("bg", "Реката е най-дългата", [47139, 133, 9462, 44318, 29896]),
    ("es", "¿Qué es «esto»? 3\xa0ºC", [22349, 37, 45, 17, 2406, 17, 1898, 178, 32348, 393]),
    ("en", "a\tb\nc 🙂 <special1> <S> </s>x", [22232, 3, 5, 0, 1, 684]),
]


@pytest.mark.parametrize(("lang", "text", "ids"), PUBLISHED)
def test_published_vocabulary(published_tok, lang, text, ids):
    assert published_tok.encode(text, lang=lang) == [0, *ids, 1]
    enc = published_tok([text], lang=[lang], return_offsets_mapping=True)
    assert enc["input_ids"] == [[0, *ids, 1]]
    assert enc["langs"] == [[published_tok.lang2id[lang]] * (len(ids) + 2)]


def test_thai_with_the_published_vocabulary(published_tok):
    pytest.importorskip("pythainlp")
    assert published_tok.encode("วันนี้อากาศดีมาก", lang="th") == [0, 78028, 47075, 11962, 14350, 1]


def test_xlm_toy_bpe():
    """Transformers' own test of its tokenizer; the special tokens follow the toy's vocabulary."""
    words = "l o w e r s t i d n w</w> r</w> t</w> lo low er</w> low</w> lowest</w> newer</w>"
    words = [*words.split(), "wider</w>", "<unk>"]
    special = [one for one in xlm_toy.SPECIAL if one != "<unk>"]
    vocabulary = {token: i for i, token in enumerate([*words, *special])}
    toy = XLMTokenizer(vocabulary, {("l", "o"): 0, ("lo", "w"): 1, ("e", "r</w>"): 2})
    assert toy.tokenize("lower") == ["low", "er</w>"]
    assert toy.convert_tokens_to_ids([*toy.tokenize("lower"), "<unk>"]) == [14, 15, 20]


def test_xlm_special_tokens(published_tok):
    one, two = "sequence builders", "multi-sequence build"
    a, b = (published_tok.encode(x, add_special_tokens=False) for x in (one, two))
    assert published_tok.encode(one) == [0, *a, 1]
    assert published_tok.encode(one, two) == [0, *a, 1, *b, 1]


def test_a_full_stop_before_a_new_sentence_stays_at_its_word(tok, cased):
    """Lower-cased beforehand, as in transformers, a new sentence is no sign of an end to Moses."""
    assert tok.tokenize("the end. The river")[1:4] == ["en", "d", ".</w>"]
    assert cased.tokenize("the end. The river")[1:4] == ["e", "nd</w>", ".</w>"]


def test_a_call(tok):
    enc = tok(["the river", "the"], ["it", "the president"], padding=True)
    assert list(enc) == ["input_ids", "token_type_ids", "attention_mask"]
    the, river, it, president = tok.convert_tokens_to_ids(
        ["the</w>", "river</w>", "it</w>", "president</w>"]
    )
    assert enc["input_ids"] == [[0, the, river, 1, it, 1], [0, the, 1, the, president, 1]]
    assert enc["token_type_ids"] == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert tok("the", padding="max_length", max_length=5)["input_ids"] == [0, the, 1, 2, 2]


# Languages


def test_lang_reaches_the_steps_where_the_original_loses_it(tok):
    """Their tokenize, encode and call take ``lang`` and cut as in English all the same."""
    english, french = ["l</w>", "'", "eau</w>"], ["l'</w>", "eau</w>"]
    assert tok.tokenize("l'eau") == tok.tokenize("l'eau", "en") == english
    assert tok.tokenize("l'eau", lang="fr") == french
    ids = [0, *tok.convert_tokens_to_ids(french), 1]
    assert tok.encode("l'eau", lang="fr") == tok("l'eau", lang="fr")["input_ids"] == ids
    rows = tok(["l'eau"] * 3, lang=["fr", "en", "fr"])["input_ids"]
    assert rows == [ids, tok.encode("l'eau"), ids] != [ids] * 3


def test_a_language_nobody_knows(tok, published_tok):
    for cut in (tok.tokenize, tok.encode, tok, tok.explain):
        with pytest.raises(ValueError, match=r"lang: expected one of as, bn, .* zh, got 'tlh'"):
            cut("a", lang="tlh")
    with pytest.raises(ValueError, match=r"lang: expected one of ar, bg, .* zh, got 'tlh'"):
        published_tok.encode("a", lang="tlh")
    with pytest.raises(ValueError, match=r"lang: expected one of ar, bg, .* zh, got 'tlh'"):
        published_tok.explain("a", lang="tlh")


def test_a_language_of_the_model_that_moses_has_no_list_for(published_tok):
    assert published_tok.tokenize("Mto ni", "sw") == ["mto</w>", "ni</w>"]


def test_lang2id_and_id2lang(tok, published_tok):
    assert published_tok.id2lang[14] == "zh"
    assert published_tok.lang2id["zh"] == 14
    assert (tok.lang2id, tok.id2lang) == ({}, {})
    assert "langs" not in tok("a", lang="fr")


def test_another_segmenter(tok):
    own = copy.copy(tok)
    own.segmenters = {"ja": lambda text: list(text), "zh": lambda text: text.split("在")}
    assert own.tokenize("我们在学习", "zh") == ["我们</w>", "学习</w>"]
    assert own.tokenize("我们", "ja") == ["我</w>", "们</w>"]


def test_white_space_that_a_segmenter_makes_a_word(tok, cased):
    """Thai has such words; without case they vanish, with case they leave an empty token behind."""
    for one in (tok, cased):
        own = copy.copy(one)
        own.segmenters = {"th": lambda text: re.split("( )", text)}
        word, between = ("ด</w>", []) if one is tok else ("ดี</w>", ["", END])
        assert own.tokenize("ดี ดี", "th") == [word, *between, word]
        spans = own._spans("ดี ดี", "th")
        assert [span.id for span in spans] == own._batch_ids(["ดี ดี"], "th")[0]


def test_white_space_inside_a_word(tok):
    own = copy.copy(tok)
    own.segmenters = {"th": lambda text: [text]}
    assert own.tokenize("the  la the", "th") == ["the</w>", "la</w>", "the</w>"]
    places = [(span.start, span.end) for span in own._spans("the  la the", "th")]
    assert places == [(0, 3), (5, 7), (8, 11)]


# Texts that are cut into words already


def test_bypass_tokenizer(tok):
    text = " it 's  The\tl'eau <special1>"
    tokens = tok.tokenize(text, bypass_tokenizer=True)
    assert tokens[:3] == ["it</w>", "'s</w>", "T"]  # and no lower case
    assert tokens[-1] == "<special1>"
    assert "".join(tokens).split(END) == ["it", "'s", "The", "l'eau", "<special1>"]
    ids = tok.convert_tokens_to_ids(tokens)
    assert tok.encode(text, bypass_tokenizer=True) == [0, *ids, 1]
    enc = tok([text, "the"], bypass_tokenizer=True, padding=True, return_offsets_mapping=True)
    assert enc["input_ids"][0] == [0, *ids, 1]
    assert enc["offset_mapping"][0][1] == (1, 3)
    assert enc.word_ids(0)[1:4] == [0, 1, 2]
    bypassed = tok.encode("é The", bypass_tokenizer=True)
    assert tok.encode("e the") == tok.encode("é The") != bypassed  # nothing sticks
    assert tok.encode("é The", bypass_tokenizer=True) == bypassed
    assert tok.explain(text, bypass_tokenizer=True).tokens == tokens


# Special tokens


def test_special_tokens(tok):
    assert (tok.bos_token_id, tok.sep_token_id, tok.pad_token_id, tok.unk_token_id) == (0, 1, 2, 3)
    assert (tok.cls_token, tok.mask_token, tok.mask_token_id) == ("</s>", "<special1>", 5)
    assert (tok.eos_token, tok.eos_token_id) == ("</s>", 1)
    assert tok.all_special_tokens[:6] == [
        "<s>",
        "<unk>",
        "</s>",
        "<pad>",
        "<special1>",
        "<special0>",
    ]
    assert sorted(tok.all_special_ids) == list(range(14))
    assert tok.convert_tokens_to_ids("no such token") == 3


def test_special_tokens_in_a_text_are_found_after_lower_casing(tok, cased):
    assert tok.tokenize("A<SPECIAL1>b") == ["a</w>", "<special1>", "b</w>"]
    assert cased.tokenize("<SPECIAL1>")[0] == "<</w>"


def with_added(lower):
    tokens, merges = xlm_toy.vocabulary_and_merges()
    vocabulary = {token: i for i, token in enumerate(tokens)}
    added = {token: len(tokens) + i for i, token in enumerate(["<Ent>", "word", "wordy", "<Note>"])}
    special = SpecialTokens(additional=("<Note>",), added=added, cased=("word", "wordy"))
    ranks = {pair: i for i, pair in enumerate(merges)}
    return XLMTokenizer(vocabulary, ranks, special, do_lowercase_and_remove_accent=lower)


def test_added_tokens():
    lower, cased = with_added(True), with_added(False)
    assert lower.tokenize("a<Note><Ent>word") == [
        *("a</w>", "<Note>", "<</w>", "en", "t</w>", "></w>", "word")
    ]
    assert cased.tokenize("a<Note><Ent>word") == ["a</w>", "<Note>", "<Ent>", "word"]
    assert cased.tokenize("words wordyx") == ["word", "s</w>", "wordy", "x</w>"]
    assert len(lower) == lower.vocab_size == lower.convert_tokens_to_ids("<Note>") + 1
    ids = cased.encode("the<Ent>the word", add_special_tokens=False)
    assert cased.decode(ids) == "the <Ent> the word"


def test_a_vocabulary_without_a_special_token():
    with pytest.raises(ValueError, match=r"vocabulary: expected the special token '<s>', found"):
        XLMTokenizer({"a": 0}, {})


# Ids to text


def test_decode(tok):
    ids = tok.encode("The president's letters, <special1>")
    assert tok.decode(ids) == "<s>the president 's letters , <special1></s>"
    assert tok.decode(ids, skip_special_tokens=True) == "the president 's letters ,"
    assert tok.decode([]) == ""
    assert tok.decode(tok.convert_tokens_to_ids(["the</w>"])) == "the"


# Places


def words_of(tok, text, lang):
    """Return the letters of the words of a text, as they stand before byte-pair encoding."""
    steps = tok._steps(lang)
    words = []
    for i, part in enumerate(tok._parts(text)):
        words += [part] if i % 2 else steps.words(part)
    joined = "".join(words)
    return joined if steps.after is None else lowercase_and_remove_accents(joined)


def check_places(tok, text, lang):
    """Check that each token is what the characters at its place become.

    A character that came apart (a Hangul syllable, "…") may be shared between tokens.
    """
    spans = tok._spans(text, lang)
    tokens = tok.tokenize(text, lang)
    assert [span.id for span in spans] == tok._batch_ids([text], lang)[0]
    for i, (span, token) in enumerate(zip(spans, tokens, strict=True)):
        assert 0 <= span.start < span.end <= len(text)
        there = words_of(tok, text[span.start : span.end], lang)
        if there != token.removesuffix(END):
            around = [spans[j] for j in (i - 1, i + 1) if 0 <= j < len(spans)]
            shared = [one for one in around if one.start < span.end and span.start < one.end]
            assert token.removesuffix(END) in there, (token, there)
            assert shared, (token, there)
    assert [span.word for span in spans] == sorted(span.word for span in spans)


@pytest.mark.parametrize(("lang", "text", "tokens"), LOWER)
def test_places(tok, cased, lang, text, tokens):
    check_places(tok, text, lang)
    check_places(cased, text, lang)


PLACED = st.sampled_from(
    [
        *(
            "a",
            "é",
            "E\u0301",
            "Σ",
            "İ",
            "ß",
            "가",
            "字",
            "ह",
            "्",
            "1",
            "５",
            " ",
            "  ",
            "\u3000",
            "\t",
        ),
        *(
            "...",
            "…",
            "。",
            "，",
            "“",
            "’",
            "«\xa0",
            "\xa0»",
            "—",
            "(",
            ")",
            " :",
            " %",
            "`",
            "\x00",
        ),
        *("\u200b", "\u200d", "🙂", "<special1>", "<S>", "<", "the", "river", "Mr.", "it's", "ş"),
    ]
)


@given(st.lists(PLACED, max_size=12).map("".join), st.sampled_from(["en", "fr", "ro", "ko"]))
@example("«\xa0É\u0301\u200bté\xa0».", "fr")
@example("The “Président”\u200b’s dog… é  <special1> Ok.", "en")
def test_places_of_drawn_texts(tok, cased, text, lang):
    check_places(tok, text, lang)
    check_places(cased, text, lang)


def test_places_one_by_one(tok):
    text = "The “Président”, it’s… 가"
    enc = tok(text, return_offsets_mapping=True, add_special_tokens=False)
    slices = [text[start:end] for start, end in enc["offset_mapping"]]
    tokens = tok.convert_ids_to_tokens(enc["input_ids"])
    found = dict(zip(tokens, slices, strict=True))
    assert found["the</w>"] == "The"
    assert found["president</w>"] == "Président"
    assert found["'s</w>"] == "’s"
    assert found["...</w>"] == "…"
    assert slices[-1] == slices[-2] == "가"
    assert enc.word_ids() == [0, 1, 2, *range(3, len(tokens) - 1), len(tokens) - 2]


def test_a_quote_that_changed_places_with_a_comma(tok):
    text = 'he said "it", the river'
    enc = tok(text, return_offsets_mapping=True)
    at = [text[start:end] for start, end in enc["offset_mapping"]]
    comma = at.index(",")
    assert at[comma + 1] == '"'
    assert enc["offset_mapping"][comma][0] == enc["offset_mapping"][comma + 1][1]


# Size


def test_the_memory_of_words_is_bounded(tok, monkeypatch):
    monkeypatch.setattr(xlm, "CACHED_WORDS", 50)
    fresh = copy.copy(tok)
    fresh._cache = {}
    words = [f"{a}{b}" for a in "thepr" for b in "abcdefghijklmnopqrstu"]
    for _ in range(3):
        assert fresh.encode(" ".join(words)) == tok.encode(" ".join(words))
        assert len(fresh._cache) <= 50
    fresh.encode("a" * 1000)
    assert max(map(len, fresh._cache)) <= xlm.LONGEST_CACHED_WORD


@pytest.mark.parametrize("lang", ["en", "zh", "ro"])
@pytest.mark.parametrize(
    "unit", ["the", "é", "ab ", ".", "'", "我们", "\u0301", "<special1>", "\x00"]
)
def test_very_long_texts(tok, unit, lang):
    """At this length anything quadratic would be felt."""
    text = unit * (20_000 // len(unit))
    ids = tok.encode(text, lang=lang, add_special_tokens=False)
    assert [span.id for span in tok._spans(text, lang)] == ids


def test_copies_and_pickles(tok):
    for other in (copy.copy(tok), copy.deepcopy(tok), pickle.loads(pickle.dumps(tok))):
        assert other.encode("The president’s letters") == tok.encode("The president’s letters")
