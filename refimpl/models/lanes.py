"""A batch in lanes: some of its texts each go through the encoder by themselves, side by side.

Texts do not see one another before a loss. So threads need not meet in every operation: each takes
some texts from the embeddings to the last layer, and they meet at the end. That is worth it where
the lanes have as much to do as one another; else threads share each operation
(:mod:`refimpl.ops.fused.threads`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy

from refimpl.backend import Array, Backend, namespace
from refimpl.models.packing import Packing, packing_of
from refimpl.ops.fused.threads import share

# Arguments that hold one value, or one row of values, for each text.
PER_TEXT = ("input_ids", "inputs_embeds", "attention_mask", "token_type_ids", "position_ids",
            "langs", "lengths", "lang_ids")  # fmt: skip
LEAST = 96  # tokens of a lane: with fewer, threads that share each product are as fast
UNEVEN = 1.1  # how much longer than an even one the longest lane may be


class Lane(NamedTuple):
    """Some of the texts of a batch."""

    texts: numpy.ndarray  # ids (M)  which they are
    packed: Packing | None  # where their tokens are, if the padding is to be left out


def lanes_of(
    shape: tuple[int, int], tokens: numpy.ndarray | None, backend: Backend, count: int
) -> tuple[Lane, ...]:
    """Return the lanes, one or up to ``count``, of a batch of a shape (B, S).

    With ``tokens``, mask (B, S) on the host, what is not a token is left out.
    """
    lengths = numpy.full(shape[0], shape[1]) if tokens is None else tokens.sum(axis=1)
    return tuple(
        Lane(texts, None if tokens is None else packing_of(tokens[texts], backend))
        for texts in evenly(lengths, count)
    )


def evenly(lengths: numpy.ndarray, count: int) -> list[numpy.ndarray]:
    """Deal texts of lengths (B) out to ``count`` lanes: to the shortest lane, the longest first.

    All to one lane where that cannot be done evenly, or leaves too little for each.

    >>> evenly(numpy.array([100, 300, 200, 200]), 2)
    [array([0, 1]), array([2, 3])]
    >>> evenly(numpy.array([100, 300]), 2), evenly(numpy.array([5, 5]), 2)
    ([array([0, 1])], [array([0, 1])])
    """
    loads = [0] * count
    texts: list[list[int]] = [[] for _ in range(count)]
    for text in numpy.argsort(-lengths, stable=True).tolist():
        lane = loads.index(min(loads))
        loads[lane] += int(lengths[text])
        texts[lane].append(text)
    even = sum(loads) / count
    if min(loads) < LEAST or max(loads) > UNEVEN * even:
        return [numpy.arange(len(lengths))]
    return [numpy.sort(numpy.asarray(of_lane)) for of_lane in texts]


def run_lanes(forward: Callable[..., Any], lanes: Sequence[Lane], inputs: Mapping[str, Any]) -> Any:
    """Return the outputs of ``forward(packed, **inputs)``, each lane's texts computed alone."""
    if len(lanes) == 1:
        return forward(lanes[0].packed, **inputs)
    batch = sum(len(lane.texts) for lane in lanes)
    outputs: list[Any] = [None] * len(lanes)

    def run(i: int) -> None:
        of_lane = {
            name: x[lanes[i].texts] if name in PER_TEXT and len(x) == batch else x
            for name, x in inputs.items()
        }
        outputs[i] = forward(lanes[i].packed, **of_lane)

    share(run, range(len(lanes)))
    return _together(outputs, numpy.argsort(numpy.concatenate([lane.texts for lane in lanes])))


def _together(parts: Sequence[Any], order: numpy.ndarray) -> Any:
    """Join what came of the lanes: arrays (M, ...), tuples of such, None."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, tuple):
        joined = [_together(of_field, order) for of_field in zip(*parts, strict=True)]
        return type(first)(*joined) if hasattr(first, "_fields") else tuple(joined)
    xp = namespace(first)
    array: Array = xp.take(xp.concat(parts), order, axis=0)
    return array
