"""The batches that are timed: shapes, or lengths of real texts, filled with random ids."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy

FIRST_WORD = 5  # ids below are special tokens in every vocabulary of the family


class Batch(NamedTuple):
    """Texts of given lengths, padded to the longest."""

    name: str  # "8x128", or "32 texts, up to 128"
    lengths: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """How many texts, and how long a row is."""
        return len(self.lengths), max(self.lengths)

    @property
    def tokens(self) -> int:
        """How many places are no padding."""
        return sum(self.lengths)

    def inputs(self, config: Any, seed: int = 0) -> dict[str, numpy.ndarray]:
        """Return random ids and, where there is padding, its mask; X-MOD's first language.

        Raises ``ValueError`` for texts that are longer than the model takes.
        """
        pad = config.pad_index if hasattr(config, "pad_index") else config.pad_token_id
        most = config.max_position_embeddings - (0 if hasattr(config, "emb_dim") else pad + 1)
        if self.shape[1] > most:
            raise ValueError(f"shapes: expected texts of up to {most} tokens, got {self.name}")
        draw = numpy.random.default_rng(seed)
        ids = draw.integers(min(FIRST_WORD, config.vocab_size - 1), config.vocab_size, self.shape)
        mask = numpy.arange(self.shape[1]) < numpy.array(self.lengths)[:, None]
        inputs = {"input_ids": numpy.where(mask, ids, pad)}
        if not mask.all():
            inputs["attention_mask"] = mask.astype(numpy.int64)
        if hasattr(config, "languages"):
            inputs["lang_ids"] = numpy.zeros(self.shape[0], dtype=numpy.int64)
        return inputs


def parse_shapes(text: str) -> list[Batch]:
    """Return the batches of "1x16,8x128": texts x tokens, no padding.

    >>> [batch.shape for batch in parse_shapes("1x16,8x128")]
    [(1, 16), (8, 128)]

    Raises ``ValueError`` for what has another form.
    """
    batches = []
    for part in text.split(","):
        found = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", part.strip())
        if found is None:
            raise ValueError(f"shapes: expected TEXTSxTOKENS, with commas between, got {part!r}")
        batches.append(Batch(part.strip(), (int(found[2]),) * int(found[1])))
    return batches


def read_lengths(path: Path) -> Batch:
    """Return the padded batch of texts whose lengths stand in a file, with space between.

    Raises ``ValueError`` for a file that holds anything else.
    """
    try:
        words = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"lengths: {path}: {error}") from None
    if not words or not all(re.fullmatch("[1-9][0-9]{0,5}", word) for word in words):
        raise ValueError(f"lengths: {path}: expected numbers above 0, with space between")
    lengths = tuple(map(int, words))
    return Batch(f"{len(lengths)} texts, up to {max(lengths)}", lengths)
