"""Learn the toy vocabulary of the XLM tokenizer's tests.

    python golden/make/xlm_vocabulary.py

reads ``xlm_corpus.txt`` (sentences written for this file, as they look after Moses and in lower
case) and writes ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json`` to
``golden/tokenizers/xlm``, in the layout of the published checkpoints: special tokens first, then
symbols and what the merges make of them; merges in order, each with a count; a language id for
each of six languages.

Source: Sennrich et al. 2016, algorithm 1: join the most frequent pair, again and again.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "xlm_corpus.txt"
FOLDER = HERE.parent / "tokenizers" / "xlm"
MERGES = 600
SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{i}>" for i in range(10))]
LANGUAGES = ["de", "en", "es", "fr", "ru", "zh"]

Symbols = tuple[str, ...]
Pair = tuple[str, str]


def symbols_of(word: str) -> Symbols:
    """Cut a word into characters, the last one marked as the last."""
    return (*word[:-1], word[-1] + "</w>")


def join(symbols: Symbols, pair: Pair) -> Symbols:
    """Join a pair wherever it stands, from the left."""
    joined: list[str] = []
    for symbol in symbols:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return tuple(joined)


def learn(words: Counter[str], count: int) -> list[tuple[Pair, int]]:
    """Return the merges with how often each pair stood in the text; ties by the alphabet."""
    cut = {word: symbols_of(word) for word in words}
    merges = []
    for _ in range(count):
        pairs: Counter[Pair] = Counter()
        for word, symbols in cut.items():
            for pair in pairwise(symbols):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append((best, pairs[best]))
        cut = {word: join(symbols, best) for word, symbols in cut.items()}
    return merges


def main() -> None:
    """Learn and write."""
    words = Counter(CORPUS.read_text(encoding="utf-8").split())
    merges = learn(words, MERGES)
    single = sorted({mark for word in words for char in word for mark in (char, char + "</w>")})
    tokens = dict.fromkeys([*SPECIAL, *single, *("".join(pair) for pair, _ in merges)])
    vocabulary = {token: i for i, token in enumerate(tokens)}
    settings = {
        "do_lowercase_and_remove_accent": True,
        "lang2id": {name: i for i, name in enumerate(LANGUAGES)},
        "id2lang": {str(i): name for i, name in enumerate(LANGUAGES)},
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, value in (("vocab.json", vocabulary), ("tokenizer_config.json", settings)):
        text = json.dumps(value, ensure_ascii=False, indent=0) + "\n"
        (FOLDER / name).write_text(text, encoding="utf-8")
    lines = "".join(f"{first} {second} {n}\n" for (first, second), n in merges)
    (FOLDER / "merges.txt").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
