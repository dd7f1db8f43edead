"""Generation: from a prompt to the tokens that a language model puts behind it.

Greedy search, beam search and sampling. The loop runs on the host: each round asks the model for
the scores of the next token, which it computes on its device, and decides here. This file knows no
model: ``next_token.py`` joins it to those of the family.

Source throughout: transformers 4.57.6, ``generation/utils.py`` and ``logits_process.py``; greedy
and beam search give its ids, token for token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, get_type_hints

import numpy

from refimpl.models.config import fits

Ids = Any  # a NumPy array (B, T) of int64
Scores = Any  # a NumPy array (B, V)
NEVER = -1.0e9  # the score of a beam that does not exist


class GenerateOutput(NamedTuple):
    """What was generated. Behind a text's end stands padding."""

    sequences: numpy.ndarray  # (B*N, T)  prompt and continuation
    sequences_scores: numpy.ndarray | None  # (B*N)  beam search: log-probability over length


@dataclass(frozen=True)
class Settings:
    """How to generate. Names and defaults are those of transformers' GenerationConfig."""

    max_length: int = 20
    min_length: int = 0
    num_beams: int = 1
    num_return_sequences: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    eos_token_id: tuple[int, ...] = ()
    pad_token_id: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        def require(condition: bool, name: str, expected: str) -> None:
            if not condition:
                raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

        for name, hint in get_type_hints(Settings).items():
            require(fits(getattr(self, name), hint), name, getattr(hint, "__name__", str(hint)))
        require(self.num_beams >= 1, "num_beams", "at least 1")
        require(self.num_return_sequences >= 1, "num_return_sequences", "at least 1")
        most = self.num_return_sequences if self.do_sample else self.num_beams
        require(self.num_return_sequences <= most, "num_return_sequences",
                f"at most num_beams ({self.num_beams}) without sampling")  # fmt: skip
        require(not (self.do_sample and self.num_beams > 1), "num_beams", "1 with do_sample")
        require(self.temperature > 0, "temperature", "a number above 0")
        require(self.top_k >= 0, "top_k", "0 (off) or more")
        require(0 < self.top_p <= 1, "top_p", "a number above 0, up to 1")
        require(self.repetition_penalty > 0, "repetition_penalty", "a number above 0")
        require(self.early_stopping in (True, False, "never"), "early_stopping",
                "True, False or 'never'")  # fmt: skip


class NextToken(Protocol):
    """A language model, as generation sees it: from ids so far to the scores of the next."""

    def __call__(self, ids: Ids) -> Scores:
        """Return the scores of the next token of each row (B, T) -> (B, V)."""

    def reorder(self, rows: numpy.ndarray) -> None:
        """Let row i go on from what row ``rows[i]`` kept."""


def generate(next_token: NextToken, prompt: Ids, settings: Settings) -> GenerateOutput:
    """ids (B, S) -> ids (B*N, T)

    Continue each row of ``prompt`` until its end token or ``max_length``.
    Raises ``ValueError`` for a prompt that is as long already.
    """
    if prompt.shape[1] >= settings.max_length:
        raise ValueError(
            f"max_length: expected more than the prompt's {prompt.shape[1]} tokens, "
            f"got {settings.max_length}"
        )
    if settings.num_beams > 1:
        return beam_search(next_token, prompt, settings)
    return one_by_one(next_token, prompt, settings)


# --- one token after another: greedy or sampled ---------------------------------------------------


def one_by_one(next_token: NextToken, prompt: Ids, settings: Settings) -> GenerateOutput:
    """ids (B, S) -> ids (B*N, T)

    Take the best next token, or draw one, until all rows have ended.
    """
    ids = numpy.repeat(prompt, settings.num_return_sequences, axis=0)
    random = numpy.random.default_rng(settings.seed)
    ended = numpy.zeros(len(ids), dtype=bool)
    while ids.shape[1] < settings.max_length and not ended.all():
        scores = process(next_token(ids), ids, settings)
        chosen = draw(scores, settings, random) if settings.do_sample else scores.argmax(axis=1)
        chosen = numpy.where(ended, settings.pad_token_id, chosen)
        ids = numpy.concatenate([ids, chosen[:, None]], axis=1)
        ended |= numpy.isin(chosen, settings.eos_token_id)
    return GenerateOutput(ids, None)


def draw(scores: Scores, settings: Settings, random: numpy.random.Generator) -> Ids:
    """(B, V) -> ids (B)

    One token for each row, by the probabilities that temperature, top-k and top-p leave.
    """
    kept = keep_top_p(keep_top_k(scores / settings.temperature, settings.top_k), settings.top_p)
    probabilities = numpy.exp(kept - kept.max(axis=1, keepdims=True))
    reached = numpy.cumsum(probabilities, axis=1)
    goal = random.random(len(scores)) * reached[:, -1]
    return (reached > goal[:, None]).argmax(axis=1)


# --- what is done to scores before a choice -------------------------------------------------------


def process(scores: Scores, ids: Ids, settings: Settings) -> Scores:
    """(B, V) -> (B, V)

    Discourage repetition, and forbid the end token until the text is long enough.
    """
    scores = penalize_repetition(scores, ids, settings.repetition_penalty)
    if ids.shape[1] < settings.min_length and settings.eos_token_id:
        scores = scores.copy()
        scores[:, list(settings.eos_token_id)] = -numpy.inf
    return scores


def penalize_repetition(scores: Scores, ids: Ids, penalty: float) -> Scores:
    """(B, V) -> (B, V)

    Divide the score of every token that the row already holds by ``penalty`` (multiply, where it
    is negative).

    Source: Keskar et al. 2019, section 4.1.

    >>> penalize_repetition(numpy.array([[4.0, -4.0, 1.0]]), numpy.array([[0, 1]]), 2.0)
    array([[ 2., -8.,  1.]])
    """
    if penalty == 1.0:
        return scores
    seen = numpy.zeros(scores.shape, dtype=bool)
    numpy.put_along_axis(seen, ids, True, axis=1)
    penalized = numpy.where(scores < 0, scores * penalty, scores / penalty)
    return numpy.where(seen, penalized, scores)


def keep_top_k(scores: Scores, k: int) -> Scores:
    """(B, V) -> (B, V)

    Rule out all but the ``k`` best of each row, and what equals the last of them. 0 keeps all.
    """
    if k == 0 or k >= scores.shape[1]:
        return scores
    last = numpy.sort(scores, axis=1)[:, -k, None]
    return numpy.where(scores < last, -numpy.inf, scores)


def keep_top_p(scores: Scores, p: float) -> Scores:
    """(B, V) -> (B, V)

    Rule out the least probable of each row, as many as have at most 1 - ``p`` together.

    Source: Holtzman et al. 2020, section 3.1.
    """
    if p == 1.0:
        return scores
    order = numpy.argsort(scores, axis=1, kind="stable")
    probabilities = numpy.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    below = numpy.cumsum(numpy.take_along_axis(probabilities, order, axis=1), axis=1)
    out = below <= 1 - p
    out[:, -1] = False  # the best always stays
    ruled_out = numpy.zeros(scores.shape, dtype=bool)
    numpy.put_along_axis(ruled_out, order, out, axis=1)
    return numpy.where(ruled_out, -numpy.inf, scores)


# --- beam search ----------------------------------------------------------------------------------


class Beams(NamedTuple):
    """The N beams of each text. T is ``max_length``; what is not filled yet is padding."""

    ids: numpy.ndarray  # (B, N, T)
    scores: numpy.ndarray  # (B, N)


class Ended(NamedTuple):
    """The N best texts that have ended, best first."""

    ids: numpy.ndarray  # (B, N, T)
    scores: numpy.ndarray  # (B, N)  log-probability over length ** length_penalty
    lengths: numpy.ndarray  # (B, N)
    real: numpy.ndarray  # (B, N)  False where fewer than N have ended


def beam_search(next_token: NextToken, prompt: Ids, settings: Settings) -> GenerateOutput:
    """ids (B, S) -> ids (B*N, T)

    Keep the ``num_beams`` most probable continuations; what ends goes to the finished ones, where
    probability is divided by length ** ``length_penalty``; stop when no beam can do better.
    """
    (batch, start), n = prompt.shape, settings.num_beams
    running, ended = _first_beams(prompt, settings)
    hopeful = numpy.ones((batch, 1), dtype=bool)
    for length in range(start, settings.max_length):
        rows = running.ids[:, :, :length].reshape(batch * n, length)
        scores = process(log_softmax(next_token(rows)), rows, settings)
        candidates, beam_of, stops = _continue(running, scores.reshape(batch, n, -1), length,
                                               settings)  # fmt: skip
        ended = _finish(ended, candidates, stops, hopeful, length + 1, start, settings)
        alive = numpy.where(stops, candidates.scores + NEVER, candidates.scores)
        best = top(alive, n)
        running = Beams(pick(candidates.ids, best), pick(alive, best))
        next_token.reorder((pick(beam_of, best) + n * numpy.arange(batch)[:, None]).reshape(-1))
        hopeful = hopeful & _may_improve(running, ended, length + 1, start, settings)
        full = ended.real.all() and settings.early_stopping is True
        if not hopeful.any() or full or stops.all():
            break
    keep = settings.num_return_sequences
    longest = ended.lengths[:, :keep].max()
    sequences = ended.ids[:, :keep, :longest].reshape(batch * keep, longest)
    return GenerateOutput(sequences, ended.scores[:, :keep].reshape(-1))


def _first_beams(prompt: Ids, settings: Settings) -> tuple[Beams, Ended]:
    """The prompt in every beam. Only the first counts yet, or all would go the same way."""
    (batch, start), n = prompt.shape, settings.num_beams
    ids = numpy.full((batch, n, settings.max_length), settings.pad_token_id, dtype=numpy.int64)
    ids[:, :, :start] = prompt[:, None, :]
    scores = numpy.full((batch, n), NEVER)
    none = numpy.zeros((batch, n), dtype=bool)
    ended = Ended(ids, scores, numpy.full((batch, n), start), none)
    return Beams(ids, numpy.where(numpy.arange(n) == 0, 0.0, scores)), ended


def _continue(
    beams: Beams, scores: numpy.ndarray, length: int, settings: Settings
) -> tuple[Beams, numpy.ndarray, numpy.ndarray]:
    """Return the best continuations of all beams, the beam each comes from, and which have ended.

    Enough of them that ``num_beams`` go on even if every end token is among the best.
    """
    batch, n, words = scores.shape
    total = (scores + beams.scores[:, :, None]).reshape(batch, n * words)
    best = top(total, max(2, 1 + len(settings.eos_token_id)) * n)
    beam_of, words_of = best // words, best % words
    ids = pick(beams.ids, beam_of)
    ids[:, :, length] = words_of
    stops = numpy.isin(words_of, settings.eos_token_id) | (length + 1 >= settings.max_length)
    return Beams(ids, pick(total, best)), beam_of, stops


def _finish(
    ended: Ended,
    candidates: Beams,
    stops: numpy.ndarray,
    hopeful: numpy.ndarray,
    length: int,
    start: int,
    settings: Settings,
) -> Ended:
    """Take in those of the ``num_beams`` best candidates that have just ended."""
    n = settings.num_beams
    just_ended = stops & (numpy.arange(stops.shape[1]) < n)
    scores = candidates.scores / (length - start) ** settings.length_penalty
    closed = ended.real.all(axis=1, keepdims=True) & (settings.early_stopping is True)
    for barred in (closed, ~hopeful, ~just_ended):
        scores = scores + numpy.where(barred, NEVER, 0.0)
    merged = numpy.concatenate([ended.scores, scores], axis=1)
    best = top(merged, n)
    lengths = numpy.full(scores.shape, length)
    return Ended(
        pick(numpy.concatenate([ended.ids, candidates.ids], axis=1), best),
        pick(merged, best),
        pick(numpy.concatenate([ended.lengths, lengths], axis=1), best),
        pick(numpy.concatenate([ended.real, just_ended], axis=1), best),
    )


def _may_improve(running: Beams, ended: Ended, length: int, start: int, settings: Settings) -> Any:
    """Say for each text whether its best beam could still beat the worst that has ended (B, 1).

    What a beam can reach is guessed from its score and its length now; with early_stopping
    "never" and a positive penalty, from the greatest length.
    """
    far = settings.early_stopping == "never" and settings.length_penalty > 0
    reach = (settings.max_length if far else length) - start
    possible = running.scores[:, :1] / reach**settings.length_penalty
    worst = numpy.where(ended.real, ended.scores.min(axis=1, keepdims=True), NEVER)
    return (possible > worst).any(axis=1, keepdims=True)


def log_softmax(scores: Scores) -> Scores:
    """(B, V) -> (B, V)"""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(axis=1, keepdims=True))


def top(scores: Scores, k: int) -> Ids:
    """(B, V) -> ids (B, N)

    The places of the ``k`` (N) largest, largest first, equals in order.
    """
    return numpy.argsort(-scores, axis=1, kind="stable")[:, :k]


def pick(x: Any, places: Ids) -> Any:
    """(B, V, ...), ids (B, N) -> (B, N, ...)

    What stands at other places in each row.
    """
    return x[numpy.arange(len(x))[:, None], places]
