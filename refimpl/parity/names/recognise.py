"""Anonymous tensors named by what they hold: which tap is it, and in which layout.

A tensor is named where one tap, in one layout, is nearer to it than the limit and all others are
more than twice as far. Where that cannot be said it stays unnamed. The order of a dump is no
evidence and is not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy

from refimpl.parity.names.recognise_layouts import Layout, layouts
from refimpl.parity.rounding import round_to_bits

Arrays = Mapping[str, numpy.ndarray]
Limit = Callable[[str], float]

MARGIN = 2.0  # how many times as far as the nearest tap the next must be
SAME = 1e-12  # a relative distance in float64 at which two taps hold the same values
DIGITS = 6.0  # decimal digits that must agree: the best of many agrees in one or two by chance
WIDEST = 0.5  # a larger relative error recognises nothing, whatever the limit
FEW_BITS = 5  # of a significand: such a number may have been written by hand
SAMPLE = 256  # elements looked at before all are
FAR = 8.0  # a sample this many times as far as any limit is no sample of a tap
_FUSED = (
    ("query", "key", "value"),
    ("q_lin", "k_lin", "v_lin"),
    ("key", "value"),
    ("k_lin", "v_lin"),
)


@dataclass(frozen=True)
class Recognised:
    """What a foreign tensor is."""

    names: tuple[str, ...]  # one tap; the two or three of a fused projection
    layout: str  # "as is", "b s (h k) -> (b h) s k", "real tokens only, t d -> d t"
    error: float  # relative RMS, the largest of the taps
    same: tuple[str, ...]  # other taps that hold the very same values as the one named
    _match: _Match
    _others: tuple[_Match, ...]  # those of ``same``

    @property
    def canonical(self) -> str:
        """The first name."""
        return self.names[0]

    def take(self, array: numpy.ndarray) -> dict[str, numpy.ndarray]:
        """Return the foreign tensor as the taps that it is, in their own shapes.

        Where the foreign program left out padding there is nothing to return: NaN.
        """
        return self._match.take(array)

    def take_same(self, array: numpy.ndarray) -> dict[str, numpy.ndarray]:
        """Return the foreign tensor as the taps in ``same``, which may have other shapes."""
        taken = {name: x for other in self._others for name, x in other.take(array).items()}
        return {name: taken[name] for name in self.same}


def recognise(
    unnamed: Arrays, truth: Arrays, limit: Limit, real: numpy.ndarray | None = None
) -> dict[str, Recognised]:
    """Return what each anonymous tensor is, without those that cannot be told.

    ``truth`` holds the reference's taps and outputs in the order of the computation; ``limit``
    gives the largest relative RMS error at which a tensor still counts as that tap. ``real`` (B, S)
    is True where there is no padding; without it, tensors from which padding was left out are not
    recognised.

    Taps with the very same values (a hidden state and the layer norm that made it) are one for
    this purpose: the first is named, the others stand in ``same``. Several tensors may be the same
    tap, in one layout or in several.

    >>> x = numpy.random.default_rng(0).standard_normal((2, 3, 4))
    >>> found = recognise({"t0": x.swapaxes(0, 1)}, {"encoder": x}, lambda name: 1e-6)
    >>> found["t0"].canonical, found["t0"].layout, found["t0"].same
    ('encoder', 'b s d -> s b d', ())
    """
    search = _Search(_forms(truth, _some_padding(real)), limit)
    found = {name: search.best(array) for name, array in unnamed.items()}
    return {name: recognised for name, recognised in found.items() if recognised is not None}


# --- the forms of a tap ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Form:
    """A tap, or what another program may keep of it, or of some of them."""

    names: tuple[str, ...]
    kind: str
    array: numpy.ndarray  # float64
    restore: Callable[[numpy.ndarray], dict[str, numpy.ndarray]]
    stacked: bool = False  # several taps along a new first axis
    integers: bool = False
    counts: numpy.ndarray | None = None  # True where an element counts, in the array's shape

    @cached_property
    def norm(self) -> float:
        return _norm(self.array if self.counts is None else self.array[self.counts])

    @cached_property
    def places(self) -> numpy.ndarray:
        """Where, in the flattened array, a sample of the elements that count lies."""
        draw = numpy.random.default_rng(0)
        if self.counts is None and self.array.size > SAMPLE:
            return draw.integers(self.array.size, size=SAMPLE)
        places = numpy.arange(self.array.size)
        counted = places if self.counts is None else places[self.counts.ravel()]
        return draw.permutation(counted)[:SAMPLE]

    @cached_property
    def sample(self) -> numpy.ndarray:
        return numpy.asarray(self.array.ravel()[self.places])

    @cached_property
    def evidence(self) -> float:
        """How many decimal digits a match to the last bit would confirm.

        Numbers of few bits (0, 1, 0.125, small integers) stand in many tensors and count for
        nothing; one number is left out because a scale may agree by chance.
        """
        numbers = numpy.unique(self.sample[round_to_bits(self.sample, FEW_BITS) != self.sample])
        return max(numbers.size - 1, min(numbers.size, 1)) * self.digits

    @cached_property
    def digits(self) -> float:
        """The decimal digits of its numbers: those of bfloat16, of float16 or of float32."""
        narrow = (
            bits for bits in (8, 11) if (round_to_bits(self.sample, bits) == self.sample).all()
        )
        return next(narrow, 24) * math.log10(2.0)


def _forms(truth: Arrays, real: numpy.ndarray | None) -> Iterator[_Form]:
    """Yield the forms of all taps, whole ones first."""
    arrays = {
        name: numpy.asarray(x, numpy.float64)
        for name, x in truth.items()
        if x.dtype.kind in "fiu" and x.size and numpy.isfinite(x).all()
    }
    rows = max((x.shape[0] for x in arrays.values() if x.ndim == 3), default=1)
    for name, x in arrays.items():
        integers = truth[name].dtype.kind in "iu"
        yield _Form((name,), "", x, _reshaped(name, x.shape), integers=integers)
    for name, x in arrays.items():
        yield from _fewer_or_more_rows(name, x, rows)
        if real is not None and x.ndim == 3 and x.shape[:2] == real.shape:
            yield _Form((name,), "real tokens only", x[real], _unpacked(name, x.shape, real))
            counts = numpy.broadcast_to(real[..., None], x.shape)
            yield _Form((name,), "but for padding", x, _reshaped(name, x.shape), counts=counts)
    for names in _projections(arrays):
        stack = numpy.stack([arrays[name] for name in names])
        yield _Form(names, "fused", stack, _unstacked(names, stack.shape[1:]), stacked=True)


def _fewer_or_more_rows(name: str, x: numpy.ndarray, rows: int) -> Iterator[_Form]:
    """Yield forms of what is the same for all rows: once for all, or for each row again."""
    if x.ndim < 2 or rows == 1:
        return
    if x.shape[0] == 1:
        repeated = numpy.repeat(x, rows, axis=0)
        yield _Form((name,), "repeated", repeated, lambda given: {name: given[:1].reshape(x.shape)})
    elif x.shape[0] == rows and (x == x[:1]).all():
        once = _broadcast(name, x.shape, (1, *x.shape[1:]))
        yield _Form((name,), "one row of all", x[:1], once)


def _projections(arrays: Arrays) -> Iterator[tuple[str, ...]]:
    """Yield the names of projections that may be fused: those of the same module and shape."""
    for name, x in arrays.items():
        module, _, word = name.rpartition(".")
        for words in _FUSED:
            names = tuple(f"{module}.{other}" for other in words)
            shapes = [arrays[other].shape for other in names if other in arrays]
            if word == words[0] and x.ndim == 3 and shapes == [x.shape] * len(names):
                yield names


def _reshaped(name: str, shape: tuple[int, ...]) -> Callable[..., dict[str, numpy.ndarray]]:
    return lambda given: {name: given.reshape(shape)}


def _broadcast(
    name: str, shape: tuple[int, ...], once: tuple[int, ...]
) -> Callable[..., dict[str, numpy.ndarray]]:
    return lambda given: {name: numpy.broadcast_to(given.reshape(once), shape).copy()}


def _unpacked(
    name: str, shape: tuple[int, ...], real: numpy.ndarray
) -> Callable[..., dict[str, numpy.ndarray]]:
    def restore(given: numpy.ndarray) -> dict[str, numpy.ndarray]:
        dtype = numpy.float64 if given.dtype.kind in "iu" else given.dtype
        whole = numpy.full(shape, numpy.nan, dtype)
        whole[real] = given.reshape(-1, shape[-1])
        return {name: whole}

    return restore


def _unstacked(
    names: tuple[str, ...], shape: tuple[int, ...]
) -> Callable[..., dict[str, numpy.ndarray]]:
    return lambda given: dict(zip(names, given.reshape(len(names), *shape), strict=True))


def _some_padding(real: numpy.ndarray | None) -> numpy.ndarray | None:
    """Return where tokens are real, as booleans; None where all are."""
    mask = None if real is None else numpy.asarray(real) != 0
    return None if mask is None or mask.ndim != 2 or mask.all() or not mask.any() else mask


# --- which form -----------------------------------------------------------------------------------


class _Match(NamedTuple):
    """A form, a layout in which it has the foreign tensor's shape, and how far they are apart."""

    form: _Form
    layout: Layout
    error: float  # relative RMS: of all, or the largest of the taps that are fused

    def take(self, array: numpy.ndarray) -> dict[str, numpy.ndarray]:
        return self.form.restore(self.layout.take(array))


class _Group:
    """Forms of one shape, of which all or none have padding that does not count."""

    def __init__(self, forms: list[_Form]) -> None:
        self.forms = forms
        self.norms = numpy.asarray([form.norm for form in forms])
        self.samples = numpy.stack([form.sample for form in forms])
        counts = forms[0].counts
        of = forms[0].array.size if counts is None else int(counts.sum())
        self.scales = self.norms * math.sqrt(self.samples.shape[1] / of)
        self.but_for_padding = counts is not None

    def matches(self, given: numpy.ndarray, norm: float, widest: float) -> Iterator[_Match]:
        """Yield forms that a tensor may be, in its shape; the errors are of the samples."""
        likely = abs(norm / self.norms - 1.0) <= MARGIN * widest + SAME
        likely |= self.but_for_padding
        if not likely.any():
            return
        shape = self.forms[0].array.shape
        for layout in layouts(shape, given.shape, self.forms[0].stacked):
            sizes = [n for _, n in layout.sizes]
            places = numpy.unravel_index(self.forms[0].places, sizes) if sizes else ()
            off = self.samples - layout.view(given)[places]
            errors = numpy.sqrt(numpy.square(off).sum(axis=1)) / self.scales
            for i in numpy.flatnonzero(likely & (errors <= FAR * widest + SAME)):
                yield _Match(self.forms[i], layout, float(errors[i]))


class _Search:
    """Knows the forms of all taps, by their number of elements."""

    def __init__(self, forms: Iterator[_Form], limit: Limit) -> None:
        together: dict[tuple[Any, ...], list[_Form]] = {}
        self._limits: dict[_Form, float] = {}
        for form in forms:
            if form.norm > 0.0:
                key = form.array.shape, form.stacked, form.counts is None
                together.setdefault(key, []).append(form)
                self._limits[form] = min(WIDEST, *(limit(name) for name in form.names))
        self._order = {form: i for i, form in enumerate(self._limits)}
        self._groups: dict[int, list[_Group]] = {}
        for alike in together.values():
            self._groups.setdefault(alike[0].array.size, []).append(_Group(alike))
        self._widest = max(self._limits.values(), default=0.0)

    def best(self, array: numpy.ndarray) -> Recognised | None:
        """Return what a foreign tensor is, or None."""
        if array.dtype.kind in "bOSUMmc" or array.size not in self._groups:
            return None
        given = array.astype(numpy.float64)
        with numpy.errstate(invalid="ignore", over="ignore"):
            for but_for_padding in (False, True):
                near = _nearest(given, self._possible(given, but_for_padding))
                within = [match for match in near if match.error <= self._limits[match.form]]
                if within:
                    return self._decide(within[0], near)
        return None

    def _possible(self, given: numpy.ndarray, but_for_padding: bool) -> list[_Match]:
        """Return the forms that a tensor may be, in the order of the computation."""
        norm = _norm(given)
        found = [
            match
            for group in self._groups[given.size]
            if group.but_for_padding == but_for_padding
            for match in group.matches(given, norm, self._widest)
        ]
        return sorted(found, key=lambda match: self._order[match.form])

    def _decide(self, first: _Match, near: list[_Match]) -> Recognised | None:
        """Return the first of the nearest, if they hold the same values and it is no chance."""
        form, layout, error = first
        limit = self._limits[form]
        agreeing = min(1.0, -math.log10(limit) / form.digits) if limit > 0.0 else 1.0
        if agreeing * form.evidence < DIGITS and not _same_integers(form, error):
            return None
        if not all(_same_values(first, other) for other in near):
            return None
        names = dict.fromkeys(name for match in near for name in match.form.names)
        same = tuple(name for name in names if name not in form.names)
        told = ", ".join(filter(None, (form.kind, str(layout))))
        others = {match.form.names: match for match in reversed(near)}
        return Recognised(form.names, told, error, same, first, tuple(others.values()))


def _nearest(given: numpy.ndarray, possible: list[_Match]) -> list[_Match]:
    """Return the forms that are nearest, and those less than ``MARGIN`` times as far."""
    likely = _within(2.0 * MARGIN, possible)
    measured = [match._replace(error=_error(given, match.form, match.layout)) for match in likely]
    return _within(MARGIN, [match for match in measured if math.isfinite(match.error)])


def _within(factor: float, matches: list[_Match]) -> list[_Match]:
    nearest = min((match.error for match in matches), default=0.0)
    return [match for match in matches if match.error <= factor * nearest + SAME]


def _error(given: numpy.ndarray, form: _Form, layout: Layout) -> float:
    """Return the relative RMS error, of fused taps the largest."""
    off = layout.take(given).reshape(form.array.shape) - form.array
    if form.counts is not None:
        return _norm(off[form.counts]) / form.norm
    if form.stacked:
        return max(_norm(x) / _norm(part) for x, part in zip(off, form.array, strict=True))
    return _norm(off) / form.norm


def _same_values(one: _Match, other: _Match) -> bool:
    """Tell whether the tensor would be the same, whichever of two it is."""
    expected = [match.layout.give(match.form.array) for match in (one, other)]
    if one.form.counts is not None:
        counted = one.layout.give(one.form.counts)
        expected = [array[counted] for array in expected]
    return _norm(expected[0] - expected[1]) <= SAME * _norm(expected[0])


def _same_integers(form: _Form, error: float) -> bool:
    """Tell whether integers agree that are more than one or two."""
    return form.integers and error == 0.0 and numpy.unique(form.array).size > 2


def _norm(x: numpy.ndarray) -> float:
    return float(numpy.sqrt(numpy.vdot(x, x)))
