"""What a name that nobody knows might mean: the taps whose words are most alike."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

# Words of other implementations -> words of ours.
_MEANS = {
    "act": "activation",
    "att": "attention",
    "attn": "attention",
    "block": "layer",
    "blk": "layer",
    "blocks": "layer",
    "ctx": "context",
    "down": "output dense",
    "emb": "embeddings",
    "embd": "embeddings",
    "embed": "embeddings",
    "embedding": "embeddings",
    "fc1": "intermediate dense",
    "fc2": "output dense",
    "ffn": "intermediate",
    "gelu": "intermediate activation",
    "h": "layer",
    "k": "key",
    "lang": "language",
    "layers": "layer",
    "ln": "layernorm",
    "mlp": "intermediate",
    "norm": "layernorm",
    "o": "attention output dense",
    "out": "output",
    "pattern": "probs",
    "pos": "position",
    "proj": "dense",
    "q": "query",
    "softmax": "probs",
    "tok": "word",
    "token": "word",
    "tokens": "word",
    "up": "intermediate dense",
    "v": "value",
    "weights": "probs",
    "wk": "key",
    "wo": "attention output dense",
    "wq": "query",
    "wv": "value",
}
_CANDIDATES = 20  # that share the most words are looked at more closely
_LEAST = 0.35  # of likeness, below which nothing is suggested


@lru_cache(maxsize=1 << 16)
def words_of(name: str) -> frozenset[str]:
    """The words and numbers of a name, in our words.

    >>> sorted(words_of("blk.3.attn_q"))
    ['3', 'attention', 'layer', 'query']
    """
    parts = re.findall(r"[a-z]+|\d+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())
    joined = re.findall(r"[a-z]+\d", name.lower())  # fc1, fc2
    return frozenset(w for part in (*parts, *joined) for w in _MEANS.get(part, part).split())


def nearest(name: str, names: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """Return those of ``names`` that are most like ``name``, the most alike first.

    >>> nearest("blk.1.attn_q", ["encoder.layer.1.attention.self.query", "pooler"])
    ('encoder.layer.1.attention.self.query',)
    """
    theirs, pairs = words_of(name), _pairs_of(name)
    by_words = sorted(names, key=lambda ours: -_shared(theirs, words_of(ours)))[:_CANDIDATES]
    scores = {
        ours: 0.7 * _shared(theirs, words_of(ours)) + 0.3 * _shared(pairs, _pairs_of(ours))
        for ours in by_words
    }
    best = sorted(by_words, key=lambda ours: -scores[ours])[:count]
    return tuple(ours for ours in best if scores[ours] >= _LEAST)


@lru_cache(maxsize=1 << 16)
def _pairs_of(name: str) -> frozenset[str]:
    """The pairs of letters that stand side by side in a name."""
    letters = name.lower()
    return frozenset(letters[i : i + 2] for i in range(len(letters) - 1))


def _shared(theirs: frozenset[str], ours: frozenset[str]) -> float:
    """How alike two sets are: Dice's coefficient."""
    return 2 * len(theirs & ours) / (len(theirs) + len(ours) or 1)
