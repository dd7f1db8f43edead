"""From scores of first and last tokens to answers: the best spans of a window, and of them all.

Source: the way of transformers' run_qa example (``postprocess_qa_predictions`` of utils_qa.py),
and for XLM's beam-search head ``postprocess_qa_predictions_with_beam_search``. Differs: that takes
``end_top_log_probs[i * end_n_top + j]`` for the j-th end of the i-th start, though the model puts
it at ``j * start_n_top + i``; here it is taken from where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy

from refimpl.backend import to_numpy


class Span(NamedTuple):
    """A part of a context, in characters, and its score."""

    score: float
    start: int
    end: int


class Window(NamedTuple):
    """What the model says of a window: the score of "no answer", and the best spans."""

    null: float
    spans: list[Span]


Characters = Mapping[int, tuple[int, int]]  # place of a token -> its characters in the context


def of_logits(
    start: numpy.ndarray, end: numpy.ndarray, context: Characters, n_best: int, longest: int
) -> Window:
    """(S), (S) -> the window: every span is scored by the sum of its two logits.

    "No answer" is the span of the first token alone. Of the ``n_best`` best first and last places,
    pairs are left out that lie outside the context, end before they begin, or have more than
    ``longest`` tokens.
    """
    starts, ends = (numpy.argsort(-x, stable=True)[:n_best].tolist() for x in (start, end))
    pairs = ((float(start[i]) + float(end[j]), i, j) for i in starts for j in ends)
    null = float(start[0]) + float(end[0])
    return Window(null, _best(pairs, context, n_best, longest))


def of_beams(outputs: Any, row: int, context: Characters, n_best: int, longest: int) -> Window:
    """The window of a row of XLM's beam-search outputs: the sum of the two probabilities.

    The score of "no answer" is the logit that there is none.
    """
    start, start_at = (
        to_numpy(x[row, :]) for x in (outputs.start_top_log_probs, outputs.start_top_index)
    )
    end, end_at = (to_numpy(x[row, :]) for x in (outputs.end_top_log_probs, outputs.end_top_index))
    beams = start.shape[0]
    pairs = (
        (float(start[i]) + float(end[k]), int(start_at[i]), int(end_at[k]))
        for i in range(beams)
        for k in range(i, end.shape[0], beams)
    )
    null = float(to_numpy(outputs.cls_logits[row]))
    return Window(null, _best(pairs, context, n_best, longest))


def _best(
    pairs: Iterator[tuple[float, int, int]], context: Characters, n_best: int, longest: int
) -> list[Span]:
    found = [
        Span(score, context[first][0], context[last][1])
        for score, first, last in pairs
        if first in context and last in context and first <= last < first + longest
    ]
    return sorted(found, key=lambda span: -span.score)[:n_best]


def best_answer(
    windows: Sequence[Window], context: str, may_be_none: bool, threshold: float, beams: bool
) -> tuple[str, float | None]:
    """Return the best span over all windows of a context as text, and how much better "none" is.

    Where a question may have no answer, it is "" if "no answer" (in the window where it scores
    least) beats the best span by more than ``threshold``; of beams, whose "no answer" is a logit
    of its own, if that alone does. Else "" only where no window holds a span.

    >>> best_answer([Window(1.0, [Span(3.0, 0, 3)]), Window(2.5, [Span(2.0, 4, 7)])], "one two",
    ...             True, 0.0, False)
    ('one', -2.0)
    """
    spans = [span for window in windows for span in window.spans]
    best = max(spans, key=lambda span: span.score, default=None)
    text = "" if best is None else context[best.start : best.end]
    if not may_be_none:
        return text, None
    null = min(window.null for window in windows)
    lead = null if beams or best is None else null - best.score
    return ("" if lead > threshold else text), lead
