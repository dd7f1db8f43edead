"""No work for padding: a batch's tokens in one row, through the encoder and back.

What an encoder computes of a token depends on the tokens of its text and on nothing else, so the
padding can be left out before it and put back behind it. A head then sees hidden states as it
always does, zeros at the padding. Where each token stood in its text is kept by the position ids,
and which tokens are of one text by the attention, the only operation that must know.

Which calls can be computed so is for the families to say: ``tokens`` of their encoders.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy

from refimpl import ops
from refimpl.backend import Array, Backend, namespace
from refimpl.replacing import replace, running

# Arguments of an encoder that hold something of each place, of each text, or of each place of all.
PACKED = ("input_ids", "inputs_embeds", "token_type_ids", "position_ids", "langs", "lang_ids")
MASKS = ("attention_mask", "lengths")  # those that say where the tokens are


class Packing(NamedTuple):
    """Where the tokens of a call are, for what is on the device and for what stays on the host."""

    device: ops.Segments
    host: ops.Segments


def packing_of(tokens: numpy.ndarray, backend: Backend) -> Packing | None:
    """Return where the tokens, mask (B, S) on the host, are; None where leaving out saves nothing.

    A batch of padding alone is left as it is.
    """
    if not tokens.any() or tokens.all():
        return None
    host = segments_of(tokens)
    places, packed = backend.asarray(host.places), backend.asarray(host.packed)
    return Packing(host._replace(places=places, packed=packed), host)


def segments_of(tokens: numpy.ndarray) -> ops.Segments:
    """Return where tokens, mask (B, S), stand in the row of all: the shorter texts first.

    >>> segments = segments_of(numpy.array([[1, 1, 0], [1, 0, 0], [0, 1, 1]], bool))
    >>> segments.runs, segments.places.tolist(), segments.packed.tolist()
    (((1, 1), (2, 2)), [3, 0, 1, 7, 8], [1, 2, 5, 0, 5, 5, 5, 3, 4])
    """
    lengths = tokens.sum(axis=1)
    order = numpy.argsort(lengths, stable=True)
    texts, columns = tokens[order].nonzero()
    places = order[texts] * tokens.shape[1] + columns
    packed = numpy.full(tokens.size, places.size)
    packed[places] = numpy.arange(places.size)
    found, counts = numpy.unique(lengths[lengths > 0], return_counts=True)
    runs = tuple(zip(counts.tolist(), found.tolist(), strict=True))
    return ops.Segments((tokens.shape[0], tokens.shape[1]), runs, places, packed)


def run(
    forward: Callable[..., Any],
    positions: Callable[..., Array],
    w: Any,
    config: Any,
    packing: Packing,
    inputs: dict[str, Any],
) -> Any:
    """Run an encoder's forward pass on the tokens alone: its outputs, zeros at the padding.

    ``positions`` gives the position ids of a call that brings none.
    """
    segments = packing.device
    if "position_ids" not in inputs:
        ids = positions(config, inputs.get("input_ids"), inputs.get("inputs_embeds"))
        inputs = {**inputs, "position_ids": ids}
    given = {
        name: pack_input(x, packing) if name in PACKED else x
        for name, x in inputs.items()
        if name not in MASKS
    }
    xp = namespace(segments.places)
    everything = xp.ones_like(segments.places, dtype=xp.bool)[None, :]
    attend = partial(
        ops.attention_by_segments, segments=segments, attend=running("multi_head_attention")
    )
    with replace(multi_head_attention=attend):
        out = forward(w, config, attention_mask=everything, **given)
    states = out.hidden_states
    return out._replace(
        last_hidden_state=ops.unpack(out.last_hidden_state, segments),
        hidden_states=states and tuple(ops.unpack(x, segments) for x in states),
    )


def pack_input(x: Array, packing: Packing) -> Array:
    """(B, ...) -> (1, N, ...)

    Pack what a call says of each place; of each text (B), or once for all (1, S), for its places.
    """
    segments = packing.host if isinstance(x, numpy.ndarray) else packing.device
    x = x[:, None] if x.ndim == 1 else x
    every = namespace(x).broadcast_to(x, (*segments.shape, *x.shape[2:]))
    return ops.pack(every, segments)
