"""Words of languages that put no spaces between them: Chinese, Thai, Japanese.

    chinese     jieba, a dependency: the most probable words of a dictionary, the rest guessed
                character by character
    thai        PyThaiNLP (the extra "th"): the longest words of a dictionary
    japanese    KyTea (the extra "ja"), with a model file that the user names

Each is made once and is a function from text to words, which follow one another in the text; with
``XLMTokenizer.segmenters`` a language gets another one.

Source: transformers 4.57.6 ``XLMTokenizer._tokenize``. Differs: it takes Chinese words from
rjieba, a port of jieba to Rust whose versions differ among themselves and from jieba in how they
cut Latin letters, digits and signs: jieba "x - size" and "0 - 4", rjieba to 0.2.1 "x - size" and
"0-4", from 0.2.2 "x-size". ``tok.segmenters["zh"] = rjieba.cut`` gives theirs.
The original XLM took Stanford's segmenter.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from refimpl.errors import MissingExtra

Segmenter = Callable[[str], list[str]]

KYTEA_MODEL = "~/local/share/kytea/model.bin"  # where KyTea's own installation puts it


@cache
def chinese() -> Segmenter:
    """Return jieba's segmenter.

    >>> chinese()("我们在北京学习自然语言处理")
    ['我们', '在', '北京', '学习', '自然语言', '处理']

    The dictionary is read into a segmenter of our own, without jieba's log messages, its cache
    file in the common folder for temporary files, and words that the program added to jieba's.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jieba's source has escapes that newer Pythons warn of
        import jieba

    own = jieba.Tokenizer()
    own.FREQ, own.total = own.gen_pfdict(own.get_dict_file())
    own.initialized = True
    return lambda text: list(own.cut(text))


@cache
def thai() -> Segmenter:
    """Return PyThaiNLP's segmenter; ``MissingExtra`` where it is not installed."""
    try:
        from pythainlp.tokenize import word_tokenize
    except ImportError:
        raise MissingExtra("pythainlp", "th") from None
    return lambda text: list(word_tokenize(text))


@cache
def japanese(model: str = KYTEA_MODEL) -> Segmenter:
    """Return KyTea's segmenter with a model file.

    Raises ``MissingExtra`` where KyTea is not installed, ``ValueError`` for a file that is not
    there or is no model, and for a path with a space, which KyTea cannot read.
    """
    try:
        import Mykytea
    except ImportError:
        raise MissingExtra("kytea", "ja") from None
    file = Path(model).expanduser()
    if not file.is_file() or " " in str(file):
        raise ValueError(
            "model: expected a KyTea model file at a path without spaces, got "
            f"{str(file)!r}; models are at http://www.phontron.com/kytea/model.html and in KyTea's "
            "own installation (share/kytea/model.bin): "
            'tok.segmenters["ja"] = refimpl.tokenizers.xlm.segmentation.japanese("...")'
        )
    try:
        kytea: Any = Mykytea.Mykytea(f"-model {file}")
    except RuntimeError as error:
        raise ValueError(f"model: expected a KyTea model file, got {file} ({error})") from None
    return lambda text: list(kytea.getWS(text))


SEGMENTERS: dict[str, Callable[[], Segmenter]] = {"zh": chinese, "th": thai, "ja": japanese}
