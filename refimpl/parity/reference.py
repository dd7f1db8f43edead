"""The reference's own run, as a dump: free, or with the values of the taps given from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy

from refimpl import ops
from refimpl.backend import Array, namespace, to_numpy
from refimpl.models.model import Model
from refimpl.ops import Attention
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults.fault import Fault
from refimpl.parity.faults.inject import run_faulty
from refimpl.parity.verify import flatten
from refimpl.replacing import plain, replace
from refimpl.taps import edit, record

Given = Mapping[str, numpy.ndarray]


def run_reference(model: Model, inputs: Mapping[str, Any], faults: Iterable[Fault] = ()) -> Dump:
    """Return every tap and output of ``model(**inputs)``, with faults in it or without.

    ``inputs`` are the arguments of the call, flags such as ``output_attentions`` included. Raises
    what the model raises for bad inputs, ``ValueError`` for a fault that does not apply.
    """
    faults = tuple(faults)
    if faults:
        taps, outputs = run_faulty(model, inputs, faults)
    else:
        with record() as taps:
            outputs = model(**inputs)
    return _dump(model, inputs, taps, outputs)


def run_forced(model: Model, inputs: Mapping[str, Any], values: Given) -> Dump:
    """Return what each operation makes of the ``values`` of the taps before it.

    A tap whose name is in ``values`` is recorded as it was computed, and goes on as it was given;
    one that is not goes on as computed. So what a given value and the recorded one part by was
    introduced since the last given values: by the one operation in between, where all are given.
    """
    forced = _Forced(model, values)
    with record() as taps, replace(scaled_dot_product_attention=forced.attend), edit(forced.put):
        outputs = model(**inputs)
    return _dump(model, inputs, taps, outputs)


class _Forced:
    """Puts given values in the place of computed ones, wherever they have a tap."""

    def __init__(self, model: Model, values: Given) -> None:
        self._model = model
        self._values = values
        self._place = ""  # the module of the latest tap

    def put(self, name: str, x: Array) -> Array:
        """Return what goes on from a tap."""
        self._place = name.rpartition(".")[0]
        given = self._values.get(name)
        if given is None or given.shape != tuple(x.shape) or given.dtype.kind not in "fiub":
            return x
        return self._model.backend.asarray(given, x.dtype)

    def attend(self, query: Array, key: Array, value: Array, **options: Any) -> Attention:
        """Attend, each step on the given result of the step before.

        The three results of attention are tapped when all are there, too late for :meth:`put`. The
        tap before them is that of a query, a key or a value, in the same module.
        """
        here = plain("scaled_dot_product_attention")(query, key, value, **options)
        place, xp = self._place, namespace(query)
        scores = self.put(f"{place}.scores", here.scores)
        softmax = options.get("softmax", ops.softmax)
        probs = softmax(ops.mask_scores(scores, options["mask"]))
        onward = self.put(f"{place}.probs", probs)
        head_mask = options.get("head_mask")
        weights = onward if head_mask is None else onward * head_mask[:, None, None]
        return Attention(xp.matmul(weights, value), weights, probs, here.scores)


def _dump(model: Model, inputs: Mapping[str, Any], taps: Mapping[str, Array], outputs: Any) -> Dump:
    arrays = {k: numpy.asarray(to_numpy(x)) for k, x in inputs.items() if not isinstance(x, bool)}
    return Dump(
        {name: to_numpy(x) for name, x in taps.items()},
        {name: to_numpy(x) for name, x in flatten(outputs).items()},
        {k: x for k, x in arrays.items() if x.dtype != object},
        {
            "made_by": "refimpl",
            "architecture": model.architecture,
            "dtype": model.dtype,
            "flags": {k: x for k, x in inputs.items() if isinstance(x, bool)},
        },
    )
