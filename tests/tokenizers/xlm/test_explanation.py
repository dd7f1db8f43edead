"""How a text became ids: to print and to look at."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.tokenizers.xlm import explanation as xlm_explanation
from refimpl.tokenizers.xlm.explanation import terminal_width
from refimpl.tokenizers.xlm.tokenizer import XLMTokenizer
from tests.tokenizers.xlm import toy as xlm_toy

TEXT = "The  Été\u200b’s <special1>, 年 lower"
PRINTED = r"""language en; * marks a step that changed something

  text                 The  Été\u200b’s <special1>, 年 lower
* lower case           the  été\u200b’s <special1>, 年 lower
* special tokens       the  été\u200b’s  | <special1> | , 年 lower
* unicode punctuation  the  été\u200b's <special1>, 年 lower
* moses punctuation    the été\u200b's<special1>, 年 lower
* non-printing         the été's<special1>, 年 lower
* moses words          the | été | 's | <special1> | , | 年 | lower
* lower case, accents  the | ete | 's | <special1> | , | 年 | lower

the
               t h e</w>
  0  t h       th e</w>
  1  th e</w>  the</w>

ete
               e t e</w>
  68  t e</w>  e te</w>

's
                ' s</w>
  271  ' s</w>  's</w>

lower
               l o w e r</w>
  23  e r</w>  l o w er</w>

253  the</w>
 60  e
320  te</w>
523  's</w>
  5  <special1>
 29  ,</w>
  3  年</w>  unknown
 74  l
 80  o
 96  w
275  er</w>"""


@pytest.fixture(scope="module")
def tok(tmp_path_factory):
    return XLMTokenizer.from_folder(xlm_toy.write(tmp_path_factory.mktemp("toy")))


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(xlm_explanation)
    assert (failed, tried > 1) == (0, True)


def test_what_is_printed(tok):
    assert str(tok.explain(TEXT)) == PRINTED


def test_symbols_stand_in_one_column_whatever_the_width_of_the_characters(tok):
    lines = str(tok.explain("我们在学习 学习", "zh")).splitlines()
    at = lines.index("学习")
    start, merged = lines[at + 1 : at + 3]
    assert terminal_width(start[: start.index("学")]) == terminal_width(
        merged[: merged.index("学习</w>")]
    )


def test_its_fields(tok):
    told = tok.explain(TEXT)
    assert [stage.name for stage in told.stages][:3] == ["text", "lower case", "special tokens"]
    assert [stage.changed for stage in told.stages] == [False, *[True] * 7]
    assert told.stages[-2].words == ("the", "été", "'s", "<special1>", ",", "年", "lower")
    assert told.stages[-1].words == ("the", "ete", "'s", "<special1>", ",", "年", "lower")
    the = told.words[0]
    assert (the.text, the.tokens) == ("the", ("the</w>",))
    assert [(merge.rank, merge.pair) for merge in the.merges] == [
        (0, ("t", "h")),
        (1, ("th", "e</w>")),
    ]
    assert told.words[3] == ("<special1>", (), ("<special1>",), (5,))
    assert (told.text, told.lang) == (TEXT, "en")


def test_a_step_that_changes_nothing_is_not_marked(tok):
    told = tok.explain("the")
    assert [stage.changed for stage in told.stages] == [False] * len(told.stages)
    assert "*" not in str(told).split("\n", 1)[1]


def test_nothing(tok):
    for text in ("", " ", "\u0301"):
        told = tok.explain(text)
        assert (told.tokens, told.ids, told.words) == ([], [], ())
        assert str(told).endswith("\nno tokens")


@pytest.mark.parametrize("text", [5, None, "\ud800"])
def test_no_text(tok, text):
    with pytest.raises((TypeError, ValueError), match="text: expected"):
        tok.explain(text)


@pytest.mark.parametrize("lang", ["en", "fr", "ro", "zh"])
@given(text=st.text() | st.text("aÉ 我们.'’<special1>\u200b"))
def test_it_ends_where_the_tokenizer_does(tok, lang, text):
    told = tok.explain(text, lang)
    assert told.tokens == tok.tokenize(text, lang)
    assert told.ids == tok._batch_ids([text], lang)[0]
    assert [word.text for word in told.words] == [w for w in told.stages[-1].words if w]
    for word in told.words:
        assert not word.merges or tuple(word.merges[-1].symbols) == word.tokens
    assert str(told)


def test_a_text_that_is_cut_into_words_already(tok):
    told = tok.explain("The  l'eau", bypass_tokenizer=True)
    assert [stage.name for stage in told.stages] == ["text", "white space"]
    assert told.stages[-1].words == ("The", "l'eau")


def test_a_long_word_comes_without_its_merges(tok):
    told = tok.explain("the" * 5_000)
    assert told.words[0].merges == ()
    assert told.ids == tok.encode("the" * 5_000, add_special_tokens=False)


@pytest.mark.parametrize("lang", [5, ["en", "fr"], {}])
def test_no_language(tok, lang):
    with pytest.raises((TypeError, ValueError), match="lang: expected"):
        tok.explain("a", lang)
