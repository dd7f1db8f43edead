"""The reference's own run, as a dump: free, or with the values of the taps given from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy

from refimpl.backend import Array, to_numpy
from refimpl.models.model import Model
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults.fault import Fault
from refimpl.parity.faults.inject import run_faulty
from refimpl.parity.goldens import flatten, split
from refimpl.parity.staged import AS_WRITTEN, Stages, attention_in
from refimpl.replacing import replace
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
    return as_dump(model, inputs, taps, outputs)


def run_forced(
    model: Model, inputs: Mapping[str, Any], values: Given, faults: Iterable[Fault] = ()
) -> Dump:
    """Return what each operation makes of the ``values`` of the taps before it.

    A tap whose name is in ``values`` is recorded as it was computed, and goes on as it was given;
    one that is not goes on as computed. So what a given value and the recorded one part by was
    introduced since the last given values: by the one operation in between, where all are given.
    The operations may have ``faults`` in them.
    """
    forced, faults = Forced(model, values), tuple(faults)
    with replace(scaled_dot_product_attention=forced.attend):
        if faults:
            taps, outputs = run_faulty(model, inputs, faults, forced.put)
        else:
            with record() as taps, edit(forced.put):
                outputs = model(**inputs)
    return as_dump(model, inputs, taps, outputs)


class Forced:
    """Puts given values in the place of computed ones, wherever they have a tap."""

    def __init__(self, model: Model, values: Given, stages: Stages = AS_WRITTEN) -> None:
        self._model = model
        self._values = values
        self._place = ""  # the module of the latest tap
        self.attend = attention_in(stages, self.put_stage)

    def put(self, name: str, x: Array) -> Array:
        """Return what goes on from a tap."""
        self._place = name.rpartition(".")[0]
        given = self._values.get(name)
        if given is None or given.shape != tuple(x.shape) or given.dtype.kind not in "fiub":
            return x
        return self._model.backend.asarray(given, x.dtype)

    def put_stage(self, role: str, x: Array) -> Array:
        """Return what goes on from a stage of attention."""
        # The latest tap was that of a query, a key or a value, in the same module.
        return self.put(f"{self._place}.{role}", x)


def as_dump(
    model: Model, inputs: Mapping[str, Any], taps: Mapping[str, Array], outputs: Any
) -> Dump:
    """Return a run as a dump: arrays brought home, outputs by one flat name each."""
    arrays = {k: to_numpy(x) for k, x in split(inputs).items() if not isinstance(x, bool)}
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
