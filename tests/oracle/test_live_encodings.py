"""Whole calls of the tokenizer against both originals: the Python tokenizer and the Rust one.

Ids are the Python tokenizer's (``slow``), windows and places the Rust one's (``fast``, which
transformers converts from the same model file). What the two do differently is named below.
"""

import json
import os
import random
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.tokenizers import load_tokenizer

pytestmark = pytest.mark.oracle

TOY = Path(__file__).parents[2] / "golden" / "tokenizers" / "xlm_roberta"


@pytest.fixture(scope="module")
def monkeypatch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module", params=["toy", "published"])
def three(request, monkeypatch):
    """Ours, the slow and the fast original, on one vocabulary."""
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("RUST_BACKTRACE", "0")  # its panics are expected below
    folder = TOY
    if request.param == "published":
        folder = Path(os.environ.get("REFIMPL_PUBLISHED", "nowhere")) / "xlm-roberta"
    file = folder / "sentencepiece.bpe.model"
    if not file.is_file():
        pytest.skip("REFIMPL_PUBLISHED names no folder with xlm-roberta/sentencepiece.bpe.model")
    return SimpleNamespace(
        ours=load_tokenizer(folder),
        slow=transformers.XLMRobertaTokenizer(str(file)),
        fast=transformers.XLMRobertaTokenizerFast(str(file)),
    )


# Texts that both originals cut alike: they part at repeated spaces and at spaces before a token.
TEXTS = [
    "the river is the table a e s o",
    "the",
    "",
    "The lamp<mask> reads. a",
    "山在水上，月。 the ﬁsh",
]
PAIRS = ["a lamp reads", "the table the river is a", "the", "Ｔｈｅ", "a e s o the river"]
CALLS = [
    *((text, None) for text in TEXTS),
    *zip(TEXTS, PAIRS, strict=True),
    (TEXTS, None),
    (TEXTS, PAIRS),
]
LENGTHS = (1, 2, 3, 4, 5, 6, 7, 9, 12, 30)
EVERYTHING = {
    "return_special_tokens_mask": True,
    "return_token_type_ids": True,
    "return_length": True,
}


def attempt(call, *arguments, **keywords):
    """Return what a call returns, or the error that it raises: Rust's panics are no Exception."""
    try:
        return call(*arguments, **keywords), None
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return None, error


# windows, as the fast tokenizer makes them


@pytest.mark.parametrize("truncation", [True, "only_first", "only_second"])
@pytest.mark.parametrize("padding", [False, True, "max_length"])
@pytest.mark.parametrize("special", [True, False])
def test_windows_are_the_fast_ones(three, truncation, padding, special):
    compared = 0
    multiples = (None, 4) if padding else (None,)
    for max_length, stride, side, multiple in product(
        LENGTHS, (0, 1, 2), ("right", "left"), multiples
    ):
        keywords = EVERYTHING | {
            "padding": padding,
            "truncation": truncation,
            "max_length": max_length,
            "stride": stride,
            "padding_side": side,
            "pad_to_multiple_of": multiple,
            "add_special_tokens": special,
            "return_overflowing_tokens": True,
            "return_offsets_mapping": True,
        }
        for text, pair in CALLS:
            ours, refused = attempt(three.ours, text, pair, **keywords)
            theirs, failed = attempt(three.fast, text, pair, **keywords)
            if refused is not None:
                assert isinstance(refused, ValueError)
                assert failed is not None or not_as_asked(str(refused), theirs, pair, keywords)
                continue
            if not special and "its effective max length" in str(failed):
                continue  # it makes room for special tokens that are not asked for
            assert failed is None
            compared += 1
            assert_same_windows(ours, theirs)
    assert compared > 100


def assert_same_windows(ours, theirs):
    fields = dict(theirs)
    # The model has one type. The fast one gives the second text type 1 in windows of both texts
    # and where there are no special tokens.
    types = fields.pop("token_type_ids", [])
    assert {i for row in ours.get("token_type_ids", []) for i in row} <= {0}
    assert len(types) == len(ours.get("token_type_ids", []))
    for name, value in fields.items():
        assert ours[name] == value, name
    for row in range(len(ours.input_ids)):
        assert ours.word_ids(row) == theirs.word_ids(row)
        assert ours.sequence_ids(row) == theirs.sequence_ids(row)


def not_as_asked(message, theirs, pair, keywords):
    """Say whether a call that ours refuses with a message returned what nobody asked for."""
    n_special = (4 if pair is not None else 2) * keywords["add_special_tokens"]
    room = keywords["max_length"] - n_special
    if message.startswith("stride: "):  # theirs takes it as long as nothing has to be cut
        return keywords["stride"] >= (room if pair is None else room // 2)
    # a row is too long, or holds nothing of a text
    parts = {0, 1} if pair is not None else {0}
    n_rows = len(theirs["input_ids"])
    too_long = max(map(len, theirs["input_ids"])) > keywords["max_length"]
    return too_long or any(not parts <= set(theirs.sequence_ids(row)) for row in range(n_rows))


@settings(max_examples=300)
@given(
    texts=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=3),
    pairs=st.booleans(),
    truncation=st.sampled_from([True, "only_first", "only_second"]),
    max_length=st.integers(1, 16),
    stride=st.integers(0, 6),
    side=st.sampled_from(["right", "left"]),
    padding=st.sampled_from([False, True, "max_length"]),
)
def test_windows_of_any_lengths(three, texts, pairs, truncation, max_length, stride, side, padding):
    words = ["the", "river", "is", "a", "lamp", "table", "of"]
    draw = random.Random(repr(texts))
    first, second = ([" ".join(draw.choices(words, k=row[i])) for row in texts] for i in (0, 1))
    keywords = {
        "padding": padding, "truncation": truncation, "max_length": max_length, "stride": stride,
        "padding_side": side, "return_overflowing_tokens": True, "return_offsets_mapping": True,
    }  # fmt: skip
    ours, refused = attempt(three.ours, first, second if pairs else None, **keywords)
    theirs, failed = attempt(three.fast, first, second if pairs else None, **keywords)
    if refused is None:
        assert failed is None
        assert_same_windows(ours, theirs)
    else:
        assert isinstance(refused, ValueError)


def test_places_in_windows_are_the_fast_ones(three):
    keywords = {"truncation": "only_second", "max_length": 14, "stride": 3}
    keywords |= {"return_overflowing_tokens": True, "padding": "max_length"}
    question, passage = "the lamp a", "The river is the table. a e s o the ﬁsh 水上 Ｔｈｅ lamp"
    ours, theirs = (tok(question, passage, **keywords) for tok in (three.ours, three.fast))
    assert len(ours.input_ids) > 2
    for row in range(len(ours.input_ids)):
        for token in range(14):
            assert ours.token_to_chars(row, token) == theirs.token_to_chars(row, token)
        for sequence, text in enumerate((question, passage)):
            for char in range(len(text) + 1):
                found = theirs.char_to_token(row, char, sequence)
                assert ours.char_to_token(row, char, sequence) == found


def test_words_are_the_fast_ones(three):
    words = ["the", "river's", "", "山在", " lamp", "<mask>", "a.b"]
    enc = three.ours([words, words[:2]], is_split_into_words=True, return_offsets_mapping=True)
    fast = three.fast([words, words[:2]], is_split_into_words=True, return_offsets_mapping=True)
    slow = three.slow([words, words[:2]], is_split_into_words=True)
    assert enc.input_ids == slow["input_ids"]
    for row in range(2):
        assert [w for w in enc.word_ids(row) if w is not None] == sorted(
            w for w in enc.word_ids(row) if w is not None
        )
    assert enc.word_ids(1) == fast.word_ids(1)
    assert enc.offset_mapping[1] == fast["offset_mapping"][1]


# ids, as the slow tokenizer makes them


@pytest.mark.parametrize("truncation", [False, True, "only_first", "only_second"])
@pytest.mark.parametrize("padding", [False, True, "max_length"])
@pytest.mark.parametrize("special", [True, False])
def test_ids_are_the_slow_ones(three, truncation, padding, special):
    compared = 0
    multiples = (None, 4) if padding else (None,)
    lengths = LENGTHS if truncation or padding == "max_length" else (None,)
    for max_length, side, multiple in product(lengths, ("right", "left"), multiples):
        keywords = {
            "padding": padding,
            "truncation": truncation,
            "max_length": max_length,
            "padding_side": side,
            "pad_to_multiple_of": multiple,
            "add_special_tokens": special,
            "return_special_tokens_mask": True,
            "return_token_type_ids": special or None,  # True is an error without special tokens
        }
        for text, pair in CALLS:
            ours, refused = attempt(three.ours, text, pair, **keywords)
            theirs, failed = attempt(three.slow, text, pair, **keywords)
            if refused is None:
                assert failed is None
                compared += 1
                assert ours == theirs
            elif failed is None:  # theirs logs a message and returns more than was asked for
                rows = theirs["input_ids"]
                assert max(map(len, rows if isinstance(text, list) else [rows])) > max_length
    assert compared > 10


def test_where_slow_and_fast_agree_so_do_we(three):
    """All calls without windows that the two originals answer alike."""
    agreed = differed = 0
    for truncation, max_length in product((True, "only_first", "only_second"), LENGTHS):
        for text, pair in CALLS:
            keywords = {"truncation": truncation, "max_length": max_length}
            slow, fast = (attempt(t, text, pair, **keywords)[0] for t in (three.slow, three.fast))
            ours, refused = attempt(three.ours, text, pair, **keywords)
            if refused is not None or slow is None or fast is None:
                continue
            agreed += slow["input_ids"] == fast["input_ids"]
            differed += slow["input_ids"] != fast["input_ids"]
            assert ours.input_ids == slow["input_ids"]
    assert agreed > differed > 0


# where the two originals part


@pytest.mark.parametrize(("max_length", "slow", "fast"), [(9, (3, 2), (2, 3)), (8, (2, 2), (2, 2))])
def test_the_odd_token_of_longest_first(three, max_length, slow, fast):
    text = "the the the the the"
    keywords = {"truncation": True, "max_length": max_length}
    for tok, (n, m) in ((three.slow, slow), (three.fast, fast), (three.ours, slow)):
        ids = tok(text, text, **keywords)["input_ids"]
        assert (ids.index(2) - 1, len(ids) - ids.index(2) - 3) == (n, m)
    rows = three.ours(text, text, **keywords, return_overflowing_tokens=True)["input_ids"]
    assert (rows[0].index(2) - 1, len(rows[0]) - rows[0].index(2) - 3) == fast


def test_an_empty_second_text(three):
    """The fast tokenizer takes it for none where it is given alone."""
    assert three.slow("the", "")["input_ids"] == three.ours("the", "")["input_ids"]
    assert three.fast("the", "")["input_ids"] == three.ours("the")["input_ids"]
    assert three.fast(["the"], [""])["input_ids"] == three.ours(["the"], [""])["input_ids"]


@pytest.mark.parametrize("text", ["a  b", "the <mask>", "the  "])
def test_spaces(three, text):
    """Ids at repeated spaces, before <mask> and at the end: the slow tokenizer's."""
    assert three.ours(text).input_ids == three.slow(text)["input_ids"]


def test_length(three):
    """Padding counts, as in the fast one; the slow one counts it for one text, not for a list."""
    keywords = {"padding": "max_length", "max_length": 9, "return_length": True}
    assert (
        three.fast(["the"], **keywords)["length"] == three.ours(["the"], **keywords).length == [9]
    )
    assert three.slow("the", **keywords)["length"] == three.ours("the", **keywords).length == 9
    assert three.fast("the", **keywords)["length"] == [9]
    assert three.slow(["the"], **keywords)["length"] == [3]


def test_decode_tidies_as_theirs(three):
    texts = ["the lamp's . a , b ? do n't we 're ' it", "a <mask> . <s> the", "山 ， 水 。", ""]
    for text, skip, tidy in product(texts, (False, True), (False, True)):
        ids = three.slow(text)["input_ids"]
        expected = three.slow.decode(
            ids, skip_special_tokens=skip, clean_up_tokenization_spaces=tidy
        )
        assert three.ours.decode(ids, skip, tidy) == expected
    rows = three.slow(texts)["input_ids"]
    assert three.ours.batch_decode(rows, True) == three.slow.batch_decode(rows, True)


def test_vocabulary_is_theirs(three):
    assert three.ours.get_vocab() == three.slow.get_vocab()
    assert three.ours.all_special_tokens == three.slow.all_special_tokens
    assert three.ours.convert_ids_to_tokens([0, 5, 3, 1], skip_special_tokens=True) == (
        three.slow.convert_ids_to_tokens([0, 5, 3, 1], skip_special_tokens=True)
    )


# any text

ZOO = [
    *("", " ", "   ", "\t\n", "\u3000", "\u00a0", "\u200b", "\x00", "a\x00b", "\x01\x02", "\x7f"),
    *("Hello World!", " Hello", "Hello ", "a  b", "a\nb\r\nc\td", ".", "don't", "12:30", "\x85"),
    *("<s>", "<mask>", " <mask>", "<mask> ", "  <mask>  <mask>  ", "a<mask>b", "a <mask> b"),
    *("<mask>.", "a\u3000\t\n<mask>\u3000b", "a \x1c<mask>", "a \x85<mask>", "a\u2028<mask>"),
    *("a\u200b<mask>", "<s><s>", "<s> <pad> </s>", "<s>a</s>", " <s> a </s> ", "<pad> <mask>"),
    *("<mask><mask>", "x <unk> y", "<<s>>", "<s", "s>", "< s >", "<S>", "<MASK>", "</s</s>>"),
    *("<mas<mask>k>", "<s>\n<mask>", "<s>NOTUSED", "#tag @me", "▁", "▁▁a", "a▁b", "Ｚ\u0301"),
    *("e\u0301", "a\u0308\u0301", "\u0301", "\u0301a", "\u0958", "\u2126", "\u0344", "\u0340"),
    *("❤\ufe0f", "🙂", "👨\u200d👩\u200d👧", "🇩🇪", "\ufeffBOM", "a\u00adb", "\u202eabc", "\uffff"),
    *("Ｈｅｌｌｏ　Ｗｏｒｌｄ！", "ﬁne ﬂow", "①②③ ½ ² ™", "ｶﾞﾗｽ ﾊﾟﾝ ｶﾒﾗ", "～〜", "ſ"),
    *("x" * 2000, "река" * 300, "山" * 500, " " * 1000 + "a", "가", "\u1100\u1161", "\U0010ffff"),
    *("नमस्ते दुनिया", "مرحبا بالعالم", "你好，世界", "น้ำอยู่บนโต๊ะ", "Что это?", "İ ı ß ẞ", "ﷺ"),
]


SPECIALS = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]
NASTY = [
    *(*SPECIALS, "<S>", "<mas", "the", " Hello", "река", "  ", *"<>/s ▁ae月🙂\u0301\u0308\u0e33"),
    *"\n\t\r\x00\x07\x1c\x7f\x85\xa0\xad\u2003\u2028\u200b\u200d\u3000\ufeff\uffff\U0010ffff",
    *"Ａﬁ①…½ｶﾞﾊﾟ각\u1100\u1161",
]
nasty_texts = st.lists(st.sampled_from(NASTY), max_size=12).map("".join)
any_text = nasty_texts | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def assert_same_on(three, text):
    ours, slow = three.ours, three.slow
    assert ours.tokenize(text) == slow.tokenize(text)
    assert ours(text) == slow(text)
    for ids, skip in product((ours.encode(text), ours.encode(text)[1:-1]), (False, True)):
        assert ours.decode(ids, skip) == slow.decode(ids, skip_special_tokens=skip)


@pytest.mark.parametrize("text", ZOO, ids=lambda text: ascii(text)[:40])
def test_nasty_texts(three, text):
    assert_same_on(three, text)


@settings(max_examples=400)
@given(text=any_text)
def test_any_text(three, text):
    assert_same_on(three, text)


@given(st.lists(any_text, min_size=1, max_size=5))
def test_any_list(three, texts):
    assert three.ours(texts, padding=True) == three.slow(texts, padding=True)


@given(words=st.lists(st.lists(any_text, min_size=1, max_size=5), min_size=1, max_size=3))
def test_any_words(three, words):
    ours = three.ours(words, is_split_into_words=True)
    assert ours == three.slow(words, is_split_into_words=True)


@given(ids=st.lists(st.integers(0, 301), max_size=12), skip=st.booleans(), tidy=st.booleans())
def test_any_ids(three, ids, skip, tidy):
    expected = three.slow.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=tidy)
    assert three.ours.decode(ids, skip, tidy) == expected


def test_a_lone_surrogate(three):
    with pytest.raises((RuntimeError, TypeError, UnicodeEncodeError)):
        three.slow("a\ud800")
    with pytest.raises(ValueError, match="lone surrogate"):
        three.ours("a\ud800")


# XLM, whose original is a Python tokenizer only


@pytest.fixture(scope="module")
def xlm(tmp_path_factory):
    """Ours and the original, on a vocabulary of a few words."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("xlm")
    special = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{i}>" for i in range(10))]
    tokens = [*special, "a</w>", "b</w>", "ab</w>", "c</w>", ".</w>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("a b</w> 7\n")
    theirs = transformers.XLMTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    return SimpleNamespace(ours=load_tokenizer(folder), slow=theirs)


XLM_TEXTS = ["ab c a. b c a b.", "a", "", "c c <special1> <s> ab"]
XLM_PAIRS = ["a b c", "ab c ab a b ab", "c", ""]


@pytest.mark.parametrize("truncation", [False, True, "only_first", "only_second"])
@pytest.mark.parametrize("padding", [False, True, "max_length"])
@pytest.mark.parametrize("special", [True, False])
def test_calls_of_xlm(xlm, truncation, padding, special):
    calls = [
        *((text, None) for text in XLM_TEXTS),
        *zip(XLM_TEXTS, XLM_PAIRS, strict=True),
        (XLM_TEXTS, None),
        (XLM_TEXTS, XLM_PAIRS),
    ]
    lengths = LENGTHS if truncation or padding == "max_length" else (None,)
    compared = 0
    for max_length, side, (text, pair) in product(lengths, ("right", "left"), calls):
        keywords = {
            "padding": padding,
            "truncation": truncation,
            "max_length": max_length,
            "padding_side": side,
            "add_special_tokens": special,
            "return_special_tokens_mask": True,
        }
        ours, refused = attempt(xlm.ours, text, pair, **keywords)
        theirs, failed = attempt(xlm.slow, text, pair, **keywords)
        if refused is None:
            assert failed is None
            compared += 1
            assert ours == theirs
    assert compared > 10


# checkpoint folders


@pytest.fixture
def folder(tmp_path):
    file = "sentencepiece.bpe.model"
    (tmp_path / file).write_bytes((TOY / file).read_bytes())
    return tmp_path


def slow_from(folder):
    transformers = pytest.importorskip("transformers")
    return transformers.XLMRobertaTokenizer.from_pretrained(str(folder))


@pytest.mark.parametrize("fast", [False, True])
def test_folders_that_the_originals_save(tmp_path, fast):
    transformers = pytest.importorskip("transformers")
    name = "XLMRobertaTokenizerFast" if fast else "XLMRobertaTokenizer"
    theirs = getattr(transformers, name)(
        str(TOY / "sentencepiece.bpe.model"), model_max_length=77, padding_side="left"
    )
    theirs.save_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    assert (ours.model_max_length, ours.padding_side) == (77, "left")
    expected = [0, 4, 6, 301, 2]
    assert ours.encode("a  <mask>") == expected == slow_from(tmp_path).encode("a  <mask>")
    if fast:
        (tmp_path / "sentencepiece.bpe.model").unlink()  # what is left is tokenizer.json
        assert load_tokenizer(tmp_path).encode("a  <mask>") == expected


def test_older_files(folder):
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False}
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": mask}))
    (folder / "added_tokens.json").write_text('{"<mask>": 301}')
    assert load_tokenizer(folder).encode("a  <mask>") == slow_from(folder).encode("a  <mask>")
