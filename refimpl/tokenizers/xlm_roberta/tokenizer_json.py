"""``tokenizer.json``, the file of the fast (Rust) tokenizers, where a checkpoint has no other.

It holds the same vocabulary as ``sentencepiece.bpe.model``, but numbered as the model wants it:

    tokenizer.json   0 <s>   1 <pad>   2 </s>   3 <unk>   4 ,   5 .   ...   N <last>   N+1 <mask>
    model file       1 <s>             2 </s>   0 <unk>   3 ,   4 .   ...   N-1 <last>

and the rewriting rules, in base64. What it says about spaces and special tokens is code by name
(``Metaspace``, ``TemplateProcessing``), so it is compared with what XLM-R's converter writes, and
refused where it says anything else. ``truncation``, ``padding`` and ``decoder`` are passed over:
here a call says what is cut and padded, and decoding is one function.

Source: transformers 4.57.6 convert_slow_tokenizer.py (``XLMRobertaConverter``);
huggingface/tokenizers (the file).
Differs: the Rust tokenizer cuts some texts in other pieces than the library does; a model that is
read from here cuts as the library.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refimpl.checkpoints.folder import read_json
from refimpl.errors import CheckpointError
from refimpl.tokenizers.xlm_roberta.model_file import (
    BOS,
    EOS,
    SPACE,
    UNK,
    Kind,
    SentencePieceModel,
    check_model,
)
from refimpl.tokenizers.xlm_roberta.unigram import float32

LARGEST_FILE = 1 << 25  # bytes; the published file has 9.1 million, indented 17 million
PAD, MASK = "<pad>", "<mask>"
FIRST = [BOS, PAD, EOS, UNK]


def read_tokenizer_json(path: str | os.PathLike[str]) -> SentencePieceModel:
    """Read the model in a ``tokenizer.json``, as :func:`~.sentencepiece_model.read_model` gives it.

    Raises ``CheckpointError``, naming the file and the entry, where it is missing, broken, or not
    laid out as XLM-R's.
    """
    file = Path(path)
    whole = read_json(file, largest=LARGEST_FILE)
    try:
        pieces, scores = vocabulary(whole)
        check_special_tokens(whole, len(pieces) - 1)
        check_pre_tokenizer(whole.get("pre_tokenizer"))
        check_template(whole.get("post_processor"))
        kinds = [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, *[Kind.NORMAL] * (len(pieces) - 5)]
        return check_model(
            SentencePieceModel(
                [UNK, BOS, EOS, *pieces[4:-1]],
                [scores[3], scores[0], scores[2], *scores[4:-1]],
                kinds,
                charsmap(whole.get("normalizer")),
            )
        )
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from None


def vocabulary(whole: dict[str, Any]) -> tuple[list[str], list[float]]:
    """Return the pieces and scores of a file, in its own order.

    Raises ``ValueError`` for an entry that is no piece with its score.
    """
    model = typed(whole.get("model"), dict, "model")
    expect(model.get("type", "Unigram"), "Unigram", "model.type")
    expect(model.get("unk_id"), FIRST.index(UNK), "model.unk_id")
    expect(model.get("byte_fallback", False), False, "model.byte_fallback")
    pieces, scores = [], []
    for i, row in enumerate(typed(model.get("vocab"), list, "model.vocab")):
        if not (isinstance(row, list) and len(row) == 2 and is_entry(*row)):
            raise ValueError(f"model.vocab[{i}]: expected [piece, score], got {short(row)}")
        pieces.append(row[0])
        scores.append(float32(row[1]))
    expect(pieces[:4], FIRST, "model.vocab[:4], the pieces")
    expect(pieces[-1:], [MASK], "model.vocab[-1:], the piece")
    return pieces, scores


def is_entry(piece: Any, score: Any) -> bool:
    """Say whether these are a piece, with a UTF-8 form, and a score that a float32 can hold."""
    if not isinstance(piece, str) or any("\ud800" <= char <= "\udfff" for char in piece):
        return False
    number = isinstance(score, (int, float)) and not isinstance(score, bool)
    return number and -3e38 < score < 3e38


def check_special_tokens(whole: dict[str, Any], mask_id: int) -> None:
    """Raise ``ValueError`` for added tokens, or ways to find them, other than XLM-R's five."""
    names = {**dict(enumerate(FIRST)), mask_id: MASK}
    for i, one in enumerate(typed(whole.get("added_tokens", []), list, "added_tokens")):
        name = f"added_tokens[{i}]"
        token = typed(one, dict, name)
        content, token_id = token.get("content"), token.get("id")
        expected = names.get(token_id) if isinstance(token_id, int) else None
        if expected is None or content != expected:
            raise ValueError(
                f"{name}, of id {short(token_id)}: expected {expected or 'no such token'}, "
                f"got {short(content)}"
            )
        expect(token.get("lstrip", False), content == MASK, f"{name}.lstrip")
        for flag in ("rstrip", "single_word"):
            expect(token.get(flag, False), False, f"{name}.{flag}")


def charsmap(normalizer: Any) -> bytes:
    """Return the rewriting rules of a normaliser that otherwise only puts spaces in order.

    Raises ``ValueError`` for a step that does more.
    """
    found = b""
    for name, step in steps(normalizer, "normalizer", "normalizers"):
        kind = step.get("type")
        if kind == "Precompiled" and not found:
            found = from_base64(step.get("precompiled_charsmap"), f"{name}.precompiled_charsmap")
        elif kind == "Replace":
            expect(step.get("pattern"), {"Regex": " {2,}"}, f"{name}.pattern")
            if step.get("content") not in (SPACE, " "):
                raise ValueError(
                    f"{name}.content: expected ' ' or '▁', got {step.get('content')!r}"
                )
        elif kind != "Strip":
            raise ValueError(
                f"{name}.type: expected one 'Precompiled', 'Strip' or 'Replace', got {kind!r}"
            )
    return found


def from_base64(text: Any, name: str) -> bytes:
    """Return the bytes that a text spells; ``ValueError`` where it spells none."""
    try:
        return base64.b64decode(typed(text, str, name), validate=True)
    except ValueError as error:
        raise ValueError(f"{name}: expected base64 ({error})") from None


def check_pre_tokenizer(pre_tokenizer: Any) -> None:
    """Raise ``ValueError`` for any way to cut a text but at spaces, made visible."""
    found = list(steps(pre_tokenizer, "pre_tokenizer", "pretokenizers"))
    kinds = [step.get("type") for _, step in found]
    if kinds not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]):
        raise ValueError(f"pre_tokenizer: expected Metaspace, got {kinds}")
    name, space = found[-1]
    expect(space.get("replacement"), SPACE, f"{name}.replacement")
    expect(space.get("prepend_scheme", "always"), "always", f"{name}.prepend_scheme")
    expect(space.get("add_prefix_space", True), True, f"{name}.add_prefix_space")


def check_template(post_processor: Any) -> None:
    """Refuse another template than ``<s> A </s>`` and ``<s> A </s></s> B </s>``."""
    template = typed(post_processor, dict, "post_processor")
    expect(template.get("type"), "TemplateProcessing", "post_processor.type")
    for key, expected in (("single", [BOS, "A", EOS]), ("pair", [BOS, "A", EOS, EOS, "B", EOS])):
        name = f"post_processor.{key}"
        parts = [
            typed(value, dict, name).get("id")
            for part in typed(template.get(key), list, name)
            for value in typed(part, dict, name).values()
        ]
        expect(parts, expected, name)


def steps(step: Any, name: str, inner: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the steps of a normaliser or pre-tokeniser, each with its name."""
    if step is None:
        return
    step = typed(step, dict, name)
    if step.get("type") != "Sequence":
        yield name, step
        return
    for i, one in enumerate(typed(step.get(inner), list, f"{name}.{inner}")):
        yield f"{name}.{inner}[{i}]", typed(one, dict, f"{name}.{inner}[{i}]")


def typed(value: Any, kind: type, name: str) -> Any:
    """Return a value of the kind expected; ``ValueError`` for another."""
    if not isinstance(value, kind):
        raise ValueError(f"{name}: expected a {kind.__name__}, got {short(value)}")
    return value


def expect(value: Any, expected: Any, name: str) -> None:
    """Raise ``ValueError`` for any value but the one that is served."""
    if value != expected or type(value) is not type(expected):
        raise ValueError(f"{name}: expected {expected!r}, got {short(value)}")


def short(value: Any) -> str:
    """Return a value for a message, cut where it is long."""
    text = ascii(value) if value is not None else "nothing"
    return text if len(text) <= 60 else f"{text[:57]}..."
