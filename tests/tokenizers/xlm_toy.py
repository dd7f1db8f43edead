"""A small XLM vocabulary for tests: merges learnt from a few sentences, the way they are learnt."""

import json
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from refimpl.tokenizers.bpe import join_pair, symbols_of
from refimpl.tokenizers.xlm_files import ADDITIONAL

SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", *ADDITIONAL]
SENTENCES = """
the president said , " the river is the longest , and the bridges on the river are the oldest . "
it 's said that the president reads the letters of the writers , and the writers read his letters
der fluss ist der langste , und die brucken uber den fluss sind die altesten der stadt .
l' eau de la riviere est l' eau de la ville , et la ville est la plus ancienne du pays .
el presidente dijo que el rio es el mas largo , y que los puentes del rio son los mas antiguos .
президент сказал , что река самая длинная , и что мосты на реке самые старые в городе .
ο ποταμος ειναι ο μεγαλυτερος , και οι γεφυρες του ποταμου ειναι οι παλαιοτερες της πολης .
我们 在 北京 学习 自然语言 处理 , 我们 在 学习 . วัน นี้ อากาศ ดี มาก วัน นี้ ดี
नदी सबसे लम्बी है और पुल सबसे पुराने हैं . 5 10 1,000 2,000 100 0.5 ... % $ ( ) [ ] ? ! : ; - ' s
"""


def learn(words, count):
    """Return the ``count`` merges that join the most frequent pair, again and again."""
    cut = {word: symbols_of(word) for word in words}
    merges = []
    for _ in range(count):
        pairs = Counter()
        for word, symbols in cut.items():
            for pair in pairwise(symbols):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        cut = {word: join_pair(symbols, best) for word, symbols in cut.items()}
    return merges


def vocabulary_and_merges(count=600):
    """Return tokens in the order of their ids, and merges."""
    words = Counter(SENTENCES.split())
    merges = learn(words, count)
    single = sorted({symbol for word in words for char in word for symbol in (char, char + "</w>")})
    return [*SPECIAL, *dict.fromkeys([*single, *("".join(pair) for pair in merges)])], merges


def write(folder, **settings):
    """Write the files of the toy tokenizer into a folder and return it."""
    tokens, merges = vocabulary_and_merges()
    vocabulary = {token: i for i, token in enumerate(tokens)}
    text = json.dumps(vocabulary, ensure_ascii=False, indent=0)
    (folder / "vocab.json").write_text(text, encoding="utf-8")
    lines = "".join(f"{first} {second} {9000 - i}\n" for i, (first, second) in enumerate(merges))
    (folder / "merges.txt").write_text(lines, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def published():
    """Return the folder of the published XNLI-15 vocabulary; skip the test where there is none."""
    folder = Path(os.environ.get("REFIMPL_PUBLISHED", "nowhere")) / "xlm-xnli15"
    if not (folder / "vocab.json").is_file():
        pytest.skip("REFIMPL_PUBLISHED names no folder with xlm-xnli15/vocab.json")
    return folder
