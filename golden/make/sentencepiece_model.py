"""Train the toy vocabulary of the XLM-RoBERTa tokenizer's tests.

    python golden/make/sentencepiece_model.py

reads ``sentencepiece_corpus.txt`` (prose written for this file) and writes
``golden/tokenizers/xlm_roberta/sentencepiece.bpe.model``: a unigram model of 300 pieces that has
what the published one has in 250,000. The ids of ``<unk>``, ``<s>`` and ``</s>`` are 0, 1 and 2,
a space becomes ``▁``, and text passes a normalisation table first. That table is the part of the
published ``nmt_nfkc`` listed in :func:`rules`; the whole of it would be 240 kB in the file.

The trainer is the sentencepiece library, the original implementation. With one thread, no
shuffling and no absolute path inside the model, running it twice gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
import unicodedata
from pathlib import Path

import sentencepiece

HERE = Path(__file__).parent
CORPUS = HERE / "sentencepiece_corpus.txt"
MODEL = HERE.parent / "tokenizers" / "xlm_roberta" / "sentencepiece.bpe.model"

# What "nmt" adds to NFKC: control characters vanish, characters that look like a space are one.
REMOVED = [*range(0x01, 0x09), 0x0B, *range(0x0E, 0x20), 0x7F]
SPACES = [0x09, 0x0A, 0x0C, 0x0D, 0xA0, 0x2009, 0x200B, 0x200E, 0x2028, 0x202F, 0x3000, 0xFEFF]
# Where NFKC changes the text: full-width ASCII (but the tilde, which nmt leaves alone), ligatures,
# raised and circled digits, fractions, Roman numerals, units, half-width katakana, Arabic forms.
COMPATIBLE = [
    *map(chr, range(0xFF01, 0xFF5E)),
    *"ﬀﬁﬂﬃﬄﬅﬆĳ¹²³①②③½¼ⅣⅫ…™℃㎏",
    *("ｶ", "ｶﾞ", "ﾒ", "ﾗ", "ｽ", "ﾝ", "ﾌ", "ﾌﾟ", "ﾊ", "ﾊﾟ", "ｰ", "｡"),
    "ﻻ",
]
# A letter followed by a combining mark is composed where Unicode has the composed letter.
COMPOSED = "ÄÖÜäöüáéíóúàèêçñãйёяй"


def rules() -> dict[str, str]:
    """Return the normalisation table: what is written -> what the pieces are made of."""
    table = dict.fromkeys(map(chr, REMOVED), "")
    table |= dict.fromkeys(map(chr, SPACES), " ")
    table |= {text: unicodedata.normalize("NFKC", text) for text in COMPATIBLE}
    table |= {unicodedata.normalize("NFD", letter): letter for letter in COMPOSED}
    return {text: new for text, new in table.items() if text != new}


def rules_tsv(table: dict[str, str]) -> str:
    """Write a table as the trainer reads it: code points in hexadecimal, a tab in between."""

    def points(text: str) -> str:
        return " ".join(f"{ord(char):X}" for char in text)

    return "".join(f"{points(old)}\t{points(new)}\n" for old, new in table.items())


def train(corpus: str) -> bytes:
    """Train on the lines of ``corpus`` and return the model file's bytes."""
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("rules.tsv").write_text(rules_tsv(rules()), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus.splitlines()),
            model_writer=model,
            model_type="unigram",
            vocab_size=300,
            character_coverage=0.98,  # the rarest characters stay out: <unk> must happen
            normalization_rule_tsv="rules.tsv",
            shuffle_input_sentence=False,
            num_threads=1,
            minloglevel=2,
        )
    return model.getvalue()


def main() -> None:
    """Train, write, and say what was written."""
    data = train(CORPUS.read_text(encoding="utf-8"))
    MODEL.parent.mkdir(parents=True, exist_ok=True)
    MODEL.write_bytes(data)
    print(f"{MODEL}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
