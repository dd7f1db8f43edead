"""Recomputing one published number: for each kind of number a function from inputs to comparisons.

A number says what goes in, which output it is, what of it was printed, and how far off another
run may be, in the publisher's own terms: ``|actual - expected| <= atol + rtol * |expected|`` for
every element, as numpy.allclose and torch.testing.assert_close have it; no tolerance is exact.
The kinds are the keys of ``KINDS``; what a number of each holds is shown in its docstring.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy

from refimpl.backend import to_numpy
from refimpl.checkpoints.registry import Number, Registry
from refimpl.fill_mask import fill_mask
from refimpl.models.model import Model
from refimpl.ops import softmax
from refimpl.parity.compare import DIFF, NAN, OK, SHAPE, Comparison, compare_exact
from refimpl.taps import record

Comparisons = Iterator[Comparison]


class NotRecomputed(Exception):  # noqa: N818 (no error: a reason)
    """Why a number cannot be recomputed from this checkpoint."""


class Computed(NamedTuple):
    """What one call gave, on the host, in the dtype of the run."""

    embeddings: numpy.ndarray  # (B, S, D)  the first hidden states
    last_hidden_state: numpy.ndarray  # (B, S, D)
    hidden_states: int  # how many there are: one more than layers
    logits: numpy.ndarray | None


@dataclass(frozen=True)
class Subject:
    """A checkpoint whose numbers are recomputed. Calls are kept: many numbers are of one text."""

    model: Model
    registry: Registry
    tokenizer: Any = None  # None: there is none, and ``no_tokenizer`` says why
    no_tokenizer: str = "no tokenizer"
    kept: dict[str, Computed] = field(default_factory=dict)

    def run(self, inputs: Mapping[str, Any]) -> Computed:
        """Call the model; "text" is for the reader."""
        given = {key: x for key, x in inputs.items() if key != "text"}
        key = json.dumps(given)
        if key not in self.kept:
            out = self.model(**given, output_hidden_states=True)
            logits = getattr(out, "logits", None)
            self.kept[key] = Computed(
                to_numpy(out.hidden_states[0]),
                to_numpy(out.hidden_states[-1]),
                len(out.hidden_states),
                None if logits is None else to_numpy(logits),
            )
        return self.kept[key]

    def needs(self, *heads: str) -> None:
        """Say that a number is of a class with one of these heads."""
        if not self.model.architecture.endswith(heads):
            wanted = " or ".join(f"...{head}" for head in heads)
            raise NotRecomputed(f"needs {wanted}, this is {self.model.architecture}")

    def reads_text(self) -> Any:
        """The tokenizer; a number of a text cannot be recomputed without one."""
        if self.tokenizer is None:
            raise NotRecomputed(self.no_tokenizer)
        return self.tokenizer


LANGUAGE_MODELS = ("ForMaskedLM", "ForCausalLM", "WithLMHeadModel")


def recompute(subject: Subject, number: Number) -> Comparisons:
    """Yield a comparison of every part of a number; ``NotRecomputed`` where it cannot be."""
    if number.not_recomputed:
        raise NotRecomputed(number.not_recomputed)
    if number.kind not in KINDS:
        raise NotRecomputed(f"kind {number.kind!r}: expected one of {', '.join(KINDS)}")
    return KINDS[number.kind](subject, number)


# --- arrays ---------------------------------------------------------------------------------------


def hidden(subject: Subject, number: Number) -> Comparisons:
    """Hidden states, whole or in part.

    ``value`` is ``{"of": "last_hidden_state" or "embeddings", "shape": [1, 12, 768], "take": [":",
    ":", -1], "reduce": "sum", "mean" or "max"}``: the output, its whole shape, what is taken of
    each axis, and what becomes of the last axis of that. ``expected`` is nested lists, or
    ``{"array": name, "sha256": digest}`` of one beside the registry.
    """
    out = subject.run(number.inputs)
    of = {"embeddings": out.embeddings, "last_hidden_state": out.last_hidden_state}
    return _array(subject, number, of[number.value["of"]])


def mlm_logits(subject: Subject, number: Number) -> Comparisons:
    """Scores of a language model, whole or in part: as ``hidden``."""
    subject.needs(*LANGUAGE_MODELS)
    logits = subject.run(number.inputs).logits
    assert logits is not None
    return _array(subject, number, logits)


def _array(subject: Subject, number: Number, x: numpy.ndarray) -> Comparisons:
    shape = number.value.get("shape", list(x.shape))
    if list(x.shape) != shape:
        yield Comparison(number.name, SHAPE, note=f"expected {shape}, got {list(x.shape)}")
        return
    part = take(x.astype(numpy.float64), number.value.get("take", []))
    if "reduce" in number.value:
        part = REDUCE[number.value["reduce"]](part, axis=-1)
    yield judge(number, number.name, part, _expected(subject.registry, number))


REDUCE: dict[str, Callable[..., Any]] = {
    "sum": numpy.sum,
    "mean": numpy.mean,
    "max": numpy.max,
}


def take(x: numpy.ndarray, places: Sequence[Any]) -> numpy.ndarray:
    """Take of each axis what the registry says: all, a stretch, one place, or several.

    >>> x = numpy.arange(24).reshape(2, 3, 4)
    >>> take(x, [1, "0:2", [0, -1]]).tolist()
    [[12, 15], [16, 19]]
    >>> take(x, [":", 0]).shape
    (2, 4)
    """
    axis = 0
    for place in places:
        if isinstance(place, str):
            first, _, last = place.partition(":")
            stretch = slice(int(first) if first else None, int(last) if last else None)
            x = x[(slice(None),) * axis + (stretch,)]
        else:
            x = numpy.take(x, place, axis=axis)
        axis += not isinstance(place, int)  # one place leaves no axis
    return x


def _expected(registry: Registry, number: Number) -> numpy.ndarray:
    expected = number.expected
    if not isinstance(expected, Mapping):
        return numpy.asarray(expected, numpy.float64)
    array = registry.array(expected["array"])
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    if digest != expected["sha256"]:
        raise ValueError(f"array {expected['array']!r}: not the one that the registry describes")
    return array.astype(numpy.float64)


def judge(number: Number, name: str, actual: numpy.ndarray, expected: numpy.ndarray) -> Comparison:
    """Compare floats by their publisher's tolerance; the element nearest to its own is told."""
    if actual.shape != expected.shape:
        note = f"expected {list(expected.shape)}, got {list(actual.shape)}"
        return Comparison(name, SHAPE, note=note)
    if not numpy.isfinite(actual).all():
        return Comparison(name, NAN, note=f"{(~numpy.isfinite(actual)).sum()} are not finite")
    tolerance = number.tolerance or {"atol": 0.0, "rtol": 0.0}
    limits = tolerance["atol"] + tolerance["rtol"] * numpy.abs(expected)
    errors = numpy.abs(actual - expected)
    with numpy.errstate(over="ignore"):  # where the tolerance is 0
        worst = int(numpy.argmax(errors / numpy.maximum(limits, numpy.finfo(float).tiny)))
    error, limit = float(errors.flat[worst]), float(limits.flat[worst])
    return Comparison(name, OK if error <= limit else DIFF, error, limit)


# --- shapes, places, padding ----------------------------------------------------------------------


def shape(subject: Subject, number: Number) -> Comparisons:
    """The shape of outputs: ``{"last_hidden_state": [1, 6, 1024], "hidden_states": 25}``."""
    out = subject.run(number.inputs)
    actual = {
        "last_hidden_state": out.last_hidden_state.shape,
        "hidden_states": out.hidden_states,
    }
    for name, expected in number.expected.items():
        yield compare_exact(name, numpy.asarray(actual[name]), numpy.asarray(expected))


def invariance(subject: Subject, number: Number) -> Comparisons:
    """Texts with and without padding: the same hidden states where the first text's tokens are."""
    alone, *padded = number.inputs["input_ids"]
    truth = subject.run({"input_ids": [alone]}).last_hidden_state.astype(numpy.float64)
    for ids in padded:
        mask = [int(i != subject.model.config.pad_token_id) for i in ids]
        out = subject.run({"input_ids": [ids], "attention_mask": [mask]}).last_hidden_state
        yield judge(number, number.name, out[:, : len(alone)].astype(numpy.float64), truth)


def position_ids(subject: Subject, number: Number) -> Comparisons:
    """Position ids of ids, or of vectors: ``inputs_embeds`` gives texts and tokens, (B, S)."""
    inputs, config = dict(number.inputs), subject.model.config
    if "inputs_embeds" in inputs:
        inputs["inputs_embeds"] = numpy.zeros((*inputs["inputs_embeds"], config.hidden_size))
    if getattr(config, "languages", None) and config.default_language is None:
        inputs["lang_ids"] = [0] * len(number.expected)
    with record() as taps:
        subject.model(**inputs)
    found = [to_numpy(x) for name, x in taps.items() if name.endswith("embeddings.position_ids")]
    expected = numpy.asarray(number.expected)
    # One row serves all texts where position ids do not depend on the text.
    yield compare_exact(number.name, numpy.broadcast_to(found[0], expected.shape), expected)


# --- ids ------------------------------------------------------------------------------------------


def tokenizer(subject: Subject, number: Number) -> Comparisons:
    """Texts and their ids. A text that was not recorded (null) is read off its ids first.

    With ``text`` and ``text_pair`` instead: where their ids stand among the special tokens,
    ``{"single": [0, "text", 1], "pair": [0, "text", 1, "text_pair", 1]}``.
    """
    encode = subject.reads_text()
    if "texts" not in number.inputs:
        yield from _special_tokens(encode, number)
        return
    special = number.inputs.get("add_special_tokens", True)
    for text, ids in zip(number.inputs["texts"], number.expected, strict=True):
        if text is None:
            text = encode.decode(ids[1:-1] if special else ids)
        actual = encode(text, add_special_tokens=special)["input_ids"]
        yield compare_exact(repr(text[:40]), numpy.asarray(actual), numpy.asarray(ids))


def _special_tokens(encode: Any, number: Number) -> Comparisons:
    texts = {key: number.inputs[key] for key in ("text", "text_pair")}
    bare = {key: encode(x, add_special_tokens=False)["input_ids"] for key, x in texts.items()}
    actual = {"single": encode(texts["text"]), "pair": encode(**texts)}
    for name, pattern in number.expected.items():
        ids = [i for part in pattern for i in (bare[part] if isinstance(part, str) else [part])]
        yield compare_exact(name, numpy.asarray(actual[name]["input_ids"]), numpy.asarray(ids))


def generation(subject: Subject, number: Number) -> Comparisons:
    """The ids that greedy search continues ``input_ids`` with, prompt included."""
    subject.needs("WithLMHeadModel", "ForCausalLM")
    ids = subject.model.generate(number.inputs["input_ids"], max_length=number.inputs["max_length"])
    yield compare_exact(number.name, to_numpy(ids), numpy.asarray(number.expected))


# --- texts ----------------------------------------------------------------------------------------


def masks(subject: Subject, number: Number) -> Comparisons:
    """The best pieces for the first mask of each text, best first; ``language`` is X-MOD's.

    Of each piece what the source prints: any of ``id``, ``piece``, ``probability`` and ``text``.
    """
    subject.needs("ForMaskedLM")
    reads, model = subject.reads_text(), replace(subject.model)
    if "language" in number.inputs:
        model.set_default_language(number.inputs["language"])
    for text, pieces in zip(number.inputs["texts"], number.expected, strict=True):
        best = fill_mask(model, reads, text, top_k=len(pieces))
        for i, (filling, printed) in enumerate(zip(best, pieces, strict=False), start=1):
            found = {"id": filling.id, "piece": filling.token, "text": filling.text}
            found["probability"] = filling.probability
            yield from _entry(number, f"place {i} of {text!r}", found, printed)


def token_classification(subject: Subject, number: Number) -> Comparisons:
    """What a text names: its words that are not labelled O (all), or tokens by index (some).

    Words are ``{"word", "label", "score"}`` and tokens ``{"index", "piece", "label", "score"}``.
    """
    subject.needs("ForTokenClassification")
    reads, config = subject.reads_text(), subject.model.config
    ids = reads.encode(number.inputs["text"])
    logits = subject.run({"input_ids": [ids]}).logits
    assert logits is not None
    scores = softmax(logits[0].astype(numpy.float64))
    best = scores.argmax(axis=-1)
    names = config.id2label or {str(i): f"LABEL_{i}" for i in range(config.labels)}
    tokens = [
        {"index": i, "piece": piece, "label": names[str(label)], "score": float(row[label])}
        for i, (piece, label, row) in enumerate(
            zip(reads.convert_ids_to_tokens(ids), best, scores, strict=True)
        )
    ]
    if "index" in number.expected[0]:
        for printed in number.expected:
            yield from _entry(
                number, f"token {printed['index']}", tokens[printed["index"]], printed
            )
        return
    words = [word for word in join_words(tokens[1:-1]) if word["label"] != "O"]
    found, expected = numpy.asarray(len(words)), numpy.asarray(len(number.expected))
    yield compare_exact("how many words are named", found, expected)
    for word, printed in zip(words, number.expected, strict=False):
        yield from _entry(number, repr(printed["word"]), word, printed)


def join_words(tokens: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Join pieces to words: ``▁`` begins one, and punctuation is one and ends one.

    >>> pieces = [("▁Am", "PER", 0.5), ("élie", "PER", 0.5), (".", "O", 1.0)]
    >>> tokens = [{"piece": p, "label": l, "score": s} for p, l, s in pieces]
    >>> [word["word"] for word in join_words(tokens)], join_words(tokens)[0]["score"]
    (['Amélie', '.'], 0.25)

    A word has the label of its first piece; its score is the product over its pieces, of a piece
    with another label the probability of not being that.

    Source: guillaume-be/rust-bert, ``consolidate_tokens``; rust-tokenizers, ``populate_masks``.
    """
    words: list[dict[str, Any]] = []
    after_punctuation = True
    for token in tokens:
        piece, label, score = token["piece"], token["label"], token["score"]
        alone = len(piece) == 1 and unicodedata.category(piece).startswith("P")
        if alone or after_punctuation or piece.startswith("▁"):
            words.append({"word": piece, "label": label, "score": score})
        else:
            words[-1]["word"] += piece
            words[-1]["score"] *= score if label == words[-1]["label"] else 1.0 - score
        after_punctuation = alone
    return [{**word, "word": word["word"].replace("▁", " ").strip()} for word in words]


def _entry(
    number: Number, name: str, found: Mapping[str, Any], printed: Mapping[str, Any]
) -> Comparisons:
    """Compare what a source prints of one place: numbers by tolerance, all else exactly."""
    for key, expected in printed.items():
        actual, what = found[key], f"{key} at {name}"
        if isinstance(expected, float):
            yield judge(number, what, numpy.asarray(actual), numpy.asarray(expected))
        elif actual == expected:
            yield Comparison(what, OK)
        else:
            yield Comparison(what, DIFF, note=f"expected {expected!r}, got {actual!r}")


KINDS: dict[str, Callable[[Subject, Number], Comparisons]] = {
    "hidden": hidden,
    "mlm_logits": mlm_logits,
    "shape": shape,
    "invariance": invariance,
    "position_ids": position_ids,
    "tokenizer": tokenizer,
    "generation": generation,
    "fill_mask": masks,
    "token_classification": token_classification,
}
