"""What all tokenizers share, on a tokenizer of ten words, so that every number can be checked."""

import doctest
import pickle
import re

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.backend import get_backend
from refimpl.tokenizers import tokenizer
from refimpl.tokenizers.calls.rows import Span
from refimpl.tokenizers.tokenizer import Tokenizer, clean_up_spaces

WORDS = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", "<x>", "a", "bee", "sea", "."]


class Words(Tokenizer):
    """Words and full stops. In German a "b" is a "bee"; there are token types, as in XLM."""

    bos_token, eos_token, sep_token, cls_token = "<s>", "</s>", "</s>", "<s>"
    pad_token, unk_token, mask_token = "<pad>", "<unk>", "<mask>"
    additional_special_tokens = ("<x>", "<mask>")
    model_input_names = ("input_ids", "token_type_ids", "attention_mask")
    single = (0, "A", 1)
    pair = (0, "A", 1, "B", 1)
    pair_token_types = (0, 0, 0, 1, 1)
    vocab_size = len(WORDS)
    calls = ()

    def __init__(self, lang2id=None, **options):
        if lang2id:
            self.lang2id = lang2id
        super().__init__(**options)

    def _tokenize(self, text, lang):
        return ["bee" if lang == "de" and w == "b" else w for w in re.findall(r"[^\s.]+|\.", text)]

    def _batch_ids(self, texts, lang):
        self.calls = (*self.calls, (lang, len(texts)))
        return [[self._token_to_id(w) for w in self._tokenize(text, lang)] for text in texts]

    def _spans(self, text, lang):
        found = re.finditer(r"[^\s.]+|\.", text)
        (ids,) = self._batch_ids([text], lang)
        return [Span(i, *m.span(), n) for n, (i, m) in enumerate(zip(ids, found, strict=True))]

    def _token_to_id(self, token):
        return WORDS.index(token) if token in WORDS else 3

    def _id_to_token(self, i):
        return WORDS[i]

    def _tokens_to_text(self, tokens):
        return " ".join(tokens)

    def explain(self, text, lang=None):
        return ""


@pytest.fixture
def tok():
    return Words({"en": 0, "de": 1})


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(tokenizer)
    assert (failed, tried) == (0, 1)


def test_a_family_without_a_hook_is_none():
    class Half(Words):
        pass

    Half()
    Half.__abstractmethods__ = frozenset({"_spans"})
    with pytest.raises(TypeError, match="_spans"):
        Half()


# one text, pairs, lists


def test_one_text(tok):
    assert tok("a bee.") == {
        "input_ids": [0, 6, 7, 9, 1],
        "token_type_ids": [0, 0, 0, 0, 0],
        "attention_mask": [1, 1, 1, 1, 1],
    }
    assert list(tok("a")) == ["input_ids", "token_type_ids", "attention_mask"]


def test_a_pair_has_types(tok):
    assert tok("a", "sea sea") == {
        "input_ids": [0, 6, 1, 8, 8, 1],
        "token_type_ids": [0, 0, 0, 1, 1, 1],
        "attention_mask": [1] * 6,
    }


def test_without_special_tokens_there_are_no_types(tok):
    enc = tok("a", "sea", add_special_tokens=False)
    assert (enc.input_ids, enc.token_type_ids) == ([6, 8], [0, 0])


@pytest.mark.parametrize("form", [list, tuple])
def test_lists_of_texts_and_of_pairs(tok, form):
    assert tok(form(["a", "bee sea"])).input_ids == [[0, 6, 1], [0, 7, 8, 1]]
    assert tok(form(["a", ""]), ["sea", "a"]).input_ids == [[0, 6, 1, 8, 1], [0, 1, 6, 1]]


def test_padding(tok):
    assert tok(["a bee", ""], padding=True, padding_side="left") == {
        "input_ids": [[0, 6, 7, 1], [2, 2, 0, 1]],
        "token_type_ids": [[0] * 4, [0] * 4],
        "attention_mask": [[1] * 4, [0, 0, 1, 1]],
    }
    assert tok("a", padding=True, pad_to_multiple_of=4).input_ids == [0, 6, 1, 2]
    assert Words(padding_side="left")("a", padding="max_length", max_length=4).input_ids == [
        2,
        0,
        6,
        1,
    ]


def test_one_text_of_no_ids_is_not_padded(tok):
    options = {"add_special_tokens": False, "padding": "max_length", "max_length": 2}
    assert tok("", **options).input_ids == tok("", "", **options).input_ids == []
    assert tok([""], **options).input_ids == [[2, 2]]
    windows = {"truncation": True, "return_overflowing_tokens": True}
    assert tok("", **options, **windows).input_ids == [[2, 2]]


def test_the_models_length_is_taken_where_none_is_given():
    tok = Words(model_max_length=4)
    assert tok("a bee sea", truncation=True).input_ids == [0, 6, 7, 1]
    assert tok("a", padding="max_length").input_ids == [0, 6, 1, 2]
    assert tok("a bee sea", truncation=True, max_length=3).input_ids == [0, 6, 1]
    assert tok("a bee sea").input_ids == [0, 6, 7, 8, 1]


def test_what_else_can_be_returned(tok):
    enc = tok(
        "a bee",
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_token_type_ids=False,
        return_attention_mask=False,
        return_length=True,
        padding="max_length",
        max_length=5,
    )
    assert enc == {
        "input_ids": [0, 6, 7, 1, 2],
        "special_tokens_mask": [1, 0, 0, 1, 1],
        "offset_mapping": [(0, 0), (0, 1), (2, 5), (0, 0), (0, 0)],
        "length": 5,
    }
    assert tok(["a", "a a"], return_length=True).length == [3, 4]
    assert tok("a", return_token_type_ids=True) == tok("a", return_attention_mask=True) == tok("a")


# languages


def test_language_of_all(tok):
    assert tok("b", lang="de") == {**tok("bee"), "langs": [1, 1, 1]}
    assert tok("b", lang="en").input_ids == [0, 3, 1]
    assert "langs" not in tok("b")
    assert tok.encode("b", lang="de") == [0, 7, 1]
    assert tok.tokenize("b", lang="de") == ["bee"]


def test_language_of_each(tok):
    enc = tok(["b", "b a", "b"], ["a", "b", "a"], lang=["de", "en", "de"], padding=True)
    assert enc.input_ids == [[0, 7, 1, 6, 1, 2], [0, 3, 6, 1, 3, 1], [0, 7, 1, 6, 1, 2]]
    assert enc.langs == [[1] * 6, [0] * 6, [1] * 6]


def test_texts_of_a_language_are_cut_together(tok):
    tok(["b"] * 5, lang=["de", "en", "de", "de", "en"])
    assert tok.calls == (("de", 3), ("en", 2))


def test_languages_of_windows(tok):
    enc = tok(
        ["a a a", "b"],
        lang=["en", "de"],
        truncation=True,
        max_length=4,
        return_overflowing_tokens=True,
    )
    assert enc.langs == [[0] * 4, [0] * 3, [1] * 3]


def test_without_ids_for_languages_there_are_no_langs():
    enc = Words()("b", lang="de")
    assert (enc.input_ids, "langs" in enc) == ([0, 7, 1], False)


@pytest.mark.parametrize("call", [Words.__call__, Words.tokenize, Words.encode])
def test_unknown_language(tok, call):
    with pytest.raises(ValueError, match="lang: expected one of en, de, got 'xx'"):
        call(tok, "b", lang="xx")


def test_explicit_langs_open_into_a_model(tok):
    def model(input_ids, attention_mask, token_type_ids, langs):
        return numpy.shape(input_ids) == numpy.shape(langs)

    assert model(**tok(["b", "a a"], lang="de", padding=True))


# words


def test_words_are_cut_one_by_one(tok):
    enc = tok(["a.", "", "bee", "sea sea"], is_split_into_words=True, return_offsets_mapping=True)
    assert enc.input_ids == [0, 6, 9, 7, 8, 8, 1]
    assert enc.word_ids() == [None, 0, 0, 2, 3, 3, None]
    assert enc.offset_mapping == [(0, 0), (0, 1), (1, 2), (0, 3), (0, 3), (4, 7), (0, 0)]


def test_lists_of_words(tok):
    enc = tok([["a", "bee"], ["sea"]], [["a"], ["."]], is_split_into_words=True)
    assert enc.input_ids == [[0, 6, 7, 1, 6, 1], [0, 8, 1, 9, 1]]
    assert enc.word_ids(0) == [None, 0, 1, None, 0, None]
    assert enc.sequence_ids(1) == [None, 0, None, 1, None]
    assert tok([["a"], []], is_split_into_words=True).input_ids == [[0, 6, 1], [0, 1]]
    assert tok([], is_split_into_words=True).input_ids == [0, 1]
    assert tok.encode(["a", "bee"], is_split_into_words=True) == [0, 6, 7, 1]


def test_words_in_their_languages(tok):
    enc = tok([["b", "a"], ["b"]], lang=["de", "en"], is_split_into_words=True)
    assert enc.input_ids == [[0, 7, 6, 1], [0, 3, 1]]


def test_words_of_a_plain_text(tok):
    assert tok("a bee.").word_ids() == [None, 0, 1, 2, None]


# windows


def test_windows_for_question_answering(tok):
    enc = tok(
        ["a bee", "sea"],
        ["a . sea bee . a", "a"],
        truncation="only_second",
        max_length=8,
        stride=1,
        padding="max_length",
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert enc.input_ids == [
        [0, 6, 7, 1, 6, 9, 8, 1],
        [0, 6, 7, 1, 8, 7, 9, 1],
        [0, 6, 7, 1, 9, 6, 1, 2],
        [0, 8, 1, 6, 1, 2, 2, 2],
    ]
    assert enc.overflow_to_sample_mapping == [0, 0, 0, 1]
    assert enc.offset_mapping[1][4:7] == [(4, 7), (8, 11), (12, 13)]
    assert enc.sequence_ids(2) == [None, 0, 0, None, 1, 1, None, None]
    assert enc.char_to_token(1, 8, 1) == 5
    assert enc.char_to_token(0, 8, 1) is None
    assert enc.token_to_chars(1, 5) == (8, 11)


def test_windows_of_one_text_are_rows_too(tok):
    options = {"truncation": True, "max_length": 4, "return_overflowing_tokens": True}
    enc = tok("a bee sea", **options)
    assert enc.input_ids == [[0, 6, 7, 1], [0, 8, 1]]
    assert enc.overflow_to_sample_mapping == [0, 0]
    assert tok("a", **options).input_ids == [[0, 6, 1]]


def test_overflow_without_truncation_is_one_window_each(tok):
    enc = tok(["a", "a a"], return_overflowing_tokens=True)
    assert enc.overflow_to_sample_mapping == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 2}, "stride: expected truncation=True"),
        ({"stride": 2, "truncation": True, "max_length": 4}, "stride: expected truncation=True"),
        (
            {"stride": 2, "truncation": True, "max_length": 4, "return_overflowing_tokens": True},
            "stride: expected less than the 2 tokens that max_length=4 leaves beside 2 special",
        ),
        ({"truncation": True, "max_length": 2}, "max_length: expected at least 3"),
        ({"truncation": "only_second", "max_length": 3}, "truncation: expected a text_pair"),
        ({"pad_to_multiple_of": 8}, "pad_to_multiple_of: expected padding=True"),
        ({"padding_side": "top"}, "padding_side: expected 'right' or 'left', got 'top'"),
        ({"padding": "max_length"}, "max_length: expected an int"),
        ({"max_length": 9}, "max_length: expected truncation=True or"),
    ],
)
def test_options_refused(tok, options, message):
    with pytest.raises(ValueError, match=message):
        tok("a bee sea", **options)


words = st.lists(st.sampled_from([*WORDS[4:], "dee", "  "]), max_size=20).map(" ".join)


@given(
    texts=st.lists(st.tuples(words, words), min_size=1, max_size=3),
    pairs=st.booleans(),
    truncation=st.sampled_from([True, "only_first", "only_second"]),
    max_length=st.integers(1, 14),
    stride=st.integers(0, 6),
    special=st.booleans(),
    padding=st.sampled_from([False, True, "max_length"]),
    side=st.sampled_from(["left", "right"]),
)
def test_windows_hold_every_token_where_it_stands(
    texts, pairs, truncation, max_length, stride, special, padding, side
):
    tok = Words()
    first, second = map(list, zip(*texts, strict=True))
    try:
        enc = tok(
            first, second if pairs else None, None, padding, truncation, max_length, special,
            padding_side=side, stride=stride, return_overflowing_tokens=True,
            return_offsets_mapping=True, return_special_tokens_mask=True,
        )  # fmt: skip
    except ValueError:
        return
    seen = {(i, part): set() for i in range(len(texts)) for part in ((0, 1) if pairs else (0,))}
    for row, sample in enumerate(enc.overflow_to_sample_mapping):
        assert len(enc.input_ids[row]) <= max_length
        ends = [0, 0]
        for i, start_end, mask, part, attended in zip(
            enc.input_ids[row], enc.offset_mapping[row], enc.special_tokens_mask[row],
            enc.sequence_ids(row), enc.attention_mask[row], strict=True,
        ):  # fmt: skip
            assert (part is None) == (mask == 1) == (start_end == (0, 0))
            if part is None:
                assert i in (0, 1, 2)
                continue
            start, end = start_end
            assert ends[part] <= start < end <= len(texts[sample][part])
            ends[part] = end
            assert attended
            assert tok._token_to_id(texts[sample][part][start:end]) == i
            seen[sample, part].add((start, end))
    for (sample, part), spans in seen.items():
        assert len(spans) == len(tok._tokenize(texts[sample][part], None))


@given(
    st.lists(words, min_size=1, max_size=4), st.sampled_from(["left", "right"]), st.integers(1, 9)
)
def test_a_padded_batch_is_its_texts(texts, side, multiple):
    tok = Words()
    enc = tok(texts, padding=True, padding_side=side, pad_to_multiple_of=multiple)
    assert len({len(row) for field in enc.values() for row in field}) == 1
    for text, ids, mask in zip(texts, enc.input_ids, enc.attention_mask, strict=True):
        assert [i for i, on in zip(ids, mask, strict=True) if on] == tok.encode(text)


# arrays


@pytest.mark.parametrize("backend", ["numpy", "strict", get_backend("numpy")])
def test_arrays(tok, backend):
    enc = tok(["a", "a bee"], lang="de", padding=True, return_length=True, backend=backend)
    assert {name: x.shape for name, x in enc.items()} == {
        "input_ids": (2, 4), "token_type_ids": (2, 4), "attention_mask": (2, 4),
        "length": (2,), "langs": (2, 4),
    }  # fmt: skip
    assert enc.input_ids[1, 2] == 7
    assert enc.word_ids(1) == [None, 0, 1, None]


def test_arrays_of_one_text_have_a_batch_axis(tok):
    enc = tok("a bee", return_offsets_mapping=True, backend="numpy")
    assert (enc.input_ids.shape, enc.offset_mapping.shape) == ((1, 4), (1, 4, 2))


def test_ragged_rows_are_refused(tok):
    with pytest.raises(ValueError, match=r"backend: .*got 3 to 4 tokens \(padding=True makes them"):
        tok(["a", "a bee"], backend="numpy")


# encode


def test_encode_is_the_ids_of_a_call(tok):
    options = {"padding": "max_length", "max_length": 6, "padding_side": "left"}
    assert tok.encode("a", "bee", **options) == tok("a", "bee", **options).input_ids
    assert tok.encode("a bee", add_special_tokens=False) == [6, 7]


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        (["a"], {}, TypeError, r"text: expected one text \(for a list: a call\), got \['a'\]"),
        (5, {}, TypeError, r"text: expected a str .* got 5 \(int\)"),
        (None, {}, TypeError, r"text: expected a str .* got None"),
        ([["a"]], {"is_split_into_words": True}, TypeError, r"text: expected one text .* \[\['a'"),
        ("a\ud800", {}, ValueError, "text: .* lone surrogate"),
    ],
)
def test_encode_refuses(tok, text, options, error, message):
    with pytest.raises(error, match=message):
        tok.encode(text, **options)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, TypeError, "text: expected a str, got None"),
        (b"a", TypeError, r"text: expected a str, got b'a' \(bytes\)"),
        (["a"], TypeError, r"text: expected a str, got \['a'\]"),
        ("\ud800", ValueError, "text: .* lone surrogate"),
    ],
)
def test_tokenize_refuses(tok, text, error, message):
    with pytest.raises(error, match=message):
        tok.tokenize(text)


# back


def test_decode(tok):
    ids = [0, 6, 7, 3, 9, 1, 2, 4, 5]
    assert tok.decode(ids) == "<s> a bee <unk> . </s> <pad> <mask> <x>"
    assert tok.decode(ids, skip_special_tokens=True) == "a bee ."
    assert tok.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True) == "a bee."
    assert tok.decode(numpy.array(ids), True) == "a bee ."
    assert tok.decode(7) == tok.decode(numpy.int64(7)) == tok.decode([7]) == "bee"
    assert tok.decode([]) == ""


def test_batch_decode(tok):
    rows = tok(["a bee.", "sea"], padding=True).input_ids
    assert tok.batch_decode(rows) == ["<s> a bee . </s>", "<s> sea </s> <pad> <pad>"]
    assert tok.batch_decode(numpy.array(rows), True, True) == ["a bee.", "sea"]
    assert tok.batch_decode([6, [7]]) == ["a", "bee"]
    assert tok.batch_decode([]) == []


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([0, 10], ValueError, r"ids\[1\]: expected an id from 0 to 9, got 10"),
        (-1, ValueError, r"ids\[0\]: expected an id from 0 to 9, got -1"),
        ([5.0], TypeError, r"ids\[0\]: expected an int, got 5.0 \(float\)"),
        ("a", TypeError, "ids: expected a list of ints, got 'a'"),
        (None, TypeError, "ids: expected a list of ints, got None"),
        ({"input_ids": [0]}, TypeError, "ids: expected a list of ints, got {'input_ids'"),
    ],
)
def test_decode_refuses(tok, ids, error, message):
    for back in (tok.decode, tok.convert_ids_to_tokens):
        with pytest.raises(error, match=message):
            back(ids)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        (5, r"sequences: expected a list of lists of ids, got 5"),
        ("ab", r"sequences: .* got 'ab'"),
        ({"input_ids": [[0]]}, r"sequences: .* got {'input_ids'"),
        (["ab"], r"ids: expected a list of ints, got 'ab'"),
    ],
)
def test_batch_decode_refuses(tok, sequences, message):
    with pytest.raises(TypeError, match=message):
        tok.batch_decode(sequences)


def test_a_call_is_not_ids(tok):
    with pytest.raises(TypeError, match="ids: expected a list of ints, got Encoding"):
        tok.decode(tok("a"))


@given(words)
def test_decoded_text_has_the_same_ids_again(text):
    tok = Words()
    ids = tok.encode(text, add_special_tokens=False)
    assert tok.encode(tok.decode(ids), add_special_tokens=False) == ids


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a . b ? c ! d , e", "a. b? c! d, e"),
        ("I 'm he 's we 've you 're do n't", "I'm he's we've you're don't"),
        ("dogs ' bowl", "dogs'bowl"),
        ("a ; b : c", "a ; b : c"),
        ("", ""),
    ],
)
def test_clean_up(text, clean):
    assert clean_up_spaces(text) == clean


# the vocabulary


def test_tokens_and_ids(tok):
    assert tok.convert_tokens_to_ids(["a", "<pad>", "zzz", ""]) == [6, 2, 3, 3]
    assert tok.convert_tokens_to_ids("bee") == 7
    assert tok.convert_tokens_to_ids([]) == tok.convert_ids_to_tokens([]) == []
    assert tok.convert_ids_to_tokens([6, 2, 3]) == ["a", "<pad>", "<unk>"]
    assert tok.convert_ids_to_tokens([6, 2, 3], skip_special_tokens=True) == ["a"]
    assert tok.convert_ids_to_tokens(7) == tok.convert_ids_to_tokens(numpy.int32(7)) == "bee"


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (5, TypeError, "tokens: expected a str or a list of str, got 5"),
        (None, TypeError, "tokens: expected a str or a list of str, got None"),
        (["a", 5], TypeError, r"tokens\[1\]: expected a str, got 5"),
        ("\ud800", ValueError, "tokens: .* lone surrogate"),
    ],
)
def test_tokens_refused(tok, tokens, error, message):
    with pytest.raises(error, match=message):
        tok.convert_tokens_to_ids(tokens)


def test_vocabulary(tok):
    assert tok.vocab_size == len(tok) == 10
    assert tok.get_vocab() == {word: i for i, word in enumerate(WORDS)}
    assert (tok.bos_token_id, tok.eos_token_id, tok.sep_token_id, tok.cls_token_id) == (0, 1, 1, 0)
    assert (tok.pad_token_id, tok.unk_token_id, tok.mask_token_id) == (2, 3, 4)
    assert tok.all_special_tokens == ["<s>", "</s>", "<unk>", "<pad>", "<mask>", "<x>"]
    assert tok.all_special_ids == [0, 1, 3, 2, 4, 5]
    assert (tok.model_max_length, tok.padding_side) == (None, "right")


def test_an_encoding_can_be_pickled(tok):
    enc = tok(["a"], return_offsets_mapping=True)
    assert pickle.loads(pickle.dumps(enc)) == enc
