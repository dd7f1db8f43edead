"""What is diagnosed: a candidate's values, beside a reference that can be made to compute them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy

from refimpl.backend import Array, to_numpy
from refimpl.models.model import Model
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults import CATALOGUE, Fault, applies, run_faulty
from refimpl.parity.goldens import flatten, join
from refimpl.parity.reference import Forced
from refimpl.replacing import replace as replace_operations

Values = dict[str, numpy.ndarray]
Check = Callable[[str, Array], None]
FLAGS = {"hidden_states": "output_hidden_states", "attentions": "output_attentions"}


@dataclass(frozen=True)
class Subject:
    """A candidate and the call that made it."""

    model: Model  # in float64, as written
    inputs: Mapping[str, Any]  # of the call, flags among them
    right: Mapping[str, numpy.ndarray]  # what the reference computes, in order
    given: Mapping[str, numpy.ndarray]  # what the candidate computed, in that order
    outputs: frozenset[str]  # the names of outputs, other than taps
    also: Mapping[str, str]  # taps that are the same as an output that it has -> that output
    unknown: tuple[str, ...] = ()  # names of the candidate that the reference does not have

    @property
    def feed(self) -> dict[str, numpy.ndarray] | None:
        """What operations can be fed with: the candidate's values of taps, if it has any."""
        taps = {n: x for n, x in self.given.items() if n in self.right and n not in self.outputs}
        return {**taps, **{tap: self.given[name] for tap, name in self.also.items()}} or None

    @property
    def judged(self) -> dict[str, numpy.ndarray]:
        """The candidate's values by the name under which a run fed so computes them."""
        taken = set(self.also.values())
        rest = {name: x for name, x in self.given.items() if name not in taken}
        return {**rest, **{tap: self.given[name] for tap, name in self.also.items()}}

    def computed(self, name: str, values: Mapping[str, numpy.ndarray]) -> list[numpy.ndarray]:
        """What a run, fed so, computed for a value: itself, and where it was fed from."""
        taps = (tap for tap, output in self.also.items() if output == name)
        return [values[n] for n in (name, *taps) if n in values]

    def views(self) -> Iterator[Subject]:
        """Ways to look at it, the most telling first; the last takes nothing for granted.

        A fault may part an output from the tap that it is the same as in the reference, and a port
        may show something else under a tap's name.
        """
        yield self
        if self.also:
            yield replace(self, also={})
        outputs = {n: x for n, x in self.given.items() if n not in self.right or n in self.outputs}
        if outputs and len(outputs) < len(self.given):
            yield replace(self, given=outputs, also={})


def make_subject(
    model: Model, candidate: Dump, inputs: Mapping[str, Any] | None = None, taps: bool = True
) -> Subject:
    """Put a candidate beside the reference; ``inputs`` are those of its dump, if not given.

    Without ``taps`` only its outputs count. Raises ``ValueError`` where the inputs are nowhere, or
    where no value of the candidate has a name of the reference.
    """
    call = join(candidate.inputs) if inputs is None else dict(inputs)
    call |= {k: x for k, x in candidate.flags.items() if k not in call}
    if not call:
        raise ValueError("inputs: expected those of the call, in the candidate's dump or given")
    names = candidate.values
    for field, flag in FLAGS.items():
        if any(name.partition(".")[0] == field for name in names):
            call[flag] = True
    model = replace(model, kernels="plain")
    tapped, outputs = run_faulty(model, call, [])
    right = _on_the_host({**tapped, **flatten(outputs)})
    ends = frozenset(flatten(outputs))
    order = [*right, *(name for name in names if name not in right)]
    given = {n: numpy.asarray(names[n]) for n in order if n in names and _is_ours(n, right)}
    if not taps:
        given = {n: x for n, x in given.items() if n not in right or n in ends}
    if not set(given) & set(right):
        raise ValueError(f"candidate: expected names such as {next(iter(right))}, got none of them")
    also = _as_taps(right, given, ends)
    return Subject(model, call, right, given, ends, also, tuple(n for n in names if n not in given))


def _is_ours(name: str, right: Values) -> bool:
    """Whether a name is one of the reference, or another entry of one of its outputs."""
    first = name.partition(".")[0]
    return name in right or (first in FLAGS and any(n.partition(".")[0] == first for n in right))


def _as_taps(right: Values, given: Values, outputs: Set[str]) -> dict[str, str]:
    """The taps that are the same values as an output of the candidate, which has not got them.

    A hidden state is what a norm returned, attentions are probabilities: so they feed operations.
    """
    found: dict[str, str] = {}
    computed = [name for name in right if name not in outputs]  # the last of them feeds nothing
    taps = {n: right[n] for n in computed[:-1] if n not in given}
    for name in given:
        if name in outputs and name in right and right[name].ndim > 2:
            same = (n for n, x in taps.items() if numpy.array_equal(x, right[name]))
            found |= {tap: name for tap in same if given[name].shape == right[name].shape}
    return found


def compute(
    model: Model,
    inputs: Mapping[str, Any],
    faults: Iterable[Fault] = (),
    given: Mapping[str, numpy.ndarray] | None = None,
    check: Check | None = None,
) -> Values:
    """Return every tap and output with faults in the reference, on the host, in order.

    With ``given`` values each operation is fed with those in the place of computed ones. ``check``
    is shown each tap as it is computed.
    """
    forced = None if given is None else Forced(model, given)

    def editor(name: str, x: Array) -> Array:
        if check is not None:
            check(name, x)
        return x if forced is None else forced.put(name, x)

    with ExitStack() as stack:
        if forced is not None:
            stack.enter_context(replace_operations(scaled_dot_product_attention=forced.attend))
        taps, outputs = run_faulty(model, inputs, faults, editor)
    return _on_the_host({**taps, **flatten(outputs)})


def _on_the_host(values: Mapping[str, Array]) -> Values:
    return {name: numpy.asarray(to_numpy(x)) for name, x in values.items()}


def possible(subject: Subject) -> list[Fault]:
    """The faults of the catalogue that can matter for a subject."""
    return [f for f in CATALOGUE.values() if applies(f, subject.model, subject.inputs)]
