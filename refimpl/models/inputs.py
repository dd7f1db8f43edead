"""Checking what a model is called with, on the host, before any arithmetic.

Every input is declared once, as an :class:`Input`: its kind, the shapes it may have and the bound
its values must stay under. So every wrong call gets one sentence that names the argument, what was
expected and what came; and ids are known to be in range on devices that would not notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy

from refimpl.backend import to_numpy

IGNORE_INDEX = -100  # a label that the loss passes over


@dataclass(frozen=True)
class Input:
    """One argument of a model.

    ``shapes`` are the shapes allowed, in letters: "B S" is (B, S). The same letter means the same
    size in all inputs of a call. ``below`` bounds ids and labels, by a number or by the size of a
    letter; "places" by one letter for each column. What stays ``on_host`` a model reads to decide
    what to compute; on a device it would have to be waited for.
    """

    kind: Literal["ids", "labels", "integers", "places", "mask", "real"]
    shapes: tuple[str, ...]
    below: int | str | None = None
    on_host: bool = False


Inputs = Mapping[str, tuple[Input, ...]]  # argument -> its forms; the first whose kind fits holds


def check_inputs(
    values: Mapping[str, Any], inputs: Inputs, sizes: Mapping[str, int], past: int = 0
) -> dict[str, numpy.ndarray]:
    """Return the checked values as NumPy arrays: integers as int64, masks as booleans.

    ``sizes`` gives the letters that the config fixes; T is S and ``past`` together. An input that
    lacks only the batch axis is read as a batch of one. Raises ``TypeError`` for a wrong kind,
    ``ValueError`` for the rest.
    """
    sizes = dict(sizes)
    checked = {}
    for name in (n for n in inputs if n in values):
        array = _as_array(name, values[name])
        form = _choose_form(name, array, inputs[name])
        array = _check_shape(name, array, form.shapes, sizes)
        if "S" in sizes:
            sizes["T"] = sizes["S"] + past
        if form.kind == "places":
            _check_places(name, array, [sizes[letter] for letter in str(form.below).split()])
        bound = sizes.get(form.below) if isinstance(form.below, str) else form.below
        checked[name] = _check_values(name, array, form.kind, bound)
    return checked


def _as_array(name: str, value: Any) -> numpy.ndarray:
    try:
        array = to_numpy(value)
    except ValueError:
        raise ValueError(
            f"{name}: expected rows of one length, got a ragged list (texts need padding=True)"
        ) from None
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one element, got shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected numbers, got {array.dtype}")
    return array


def _choose_form(name: str, array: numpy.ndarray, forms: tuple[Input, ...]) -> Input:
    integers = array.dtype.kind in "iu"
    for form in forms:
        if form.kind in ("mask", "real") or integers:
            return form
    raise TypeError(f"{name}: expected integers, got {array.dtype}")


def _check_shape(
    name: str, array: numpy.ndarray, shapes: tuple[str, ...], sizes: dict[str, int]
) -> numpy.ndarray:
    """Match the array's shape with one of ``shapes`` and note the sizes of its letters."""
    for batched in (array, array[None]):  # as it is; as a batch of one
        for shape in shapes:
            letters = shape.split()
            found = {"1": 1, "2": 2, **sizes}
            if len(letters) == batched.ndim and all(
                found.setdefault(letter, size) == size
                for letter, size in zip(letters, batched.shape, strict=True)
            ):
                sizes.update(found)
                return batched
    expected = " or ".join(_spell(shape, sizes) for shape in shapes)
    raise ValueError(f"{name}: expected shape {expected}, got {array.shape}")


def _spell(shape: str, sizes: Mapping[str, int]) -> str:
    """Return "(B=2, S)" for "B S" where B is known to be 2."""
    letters = [f"{x}={sizes[x]}" if x in sizes and x.isalpha() else x for x in shape.split()]
    return f"({', '.join(letters)})"


def _check_values(name: str, array: numpy.ndarray, kind: str, bound: int | None) -> numpy.ndarray:
    if kind == "real":
        return array if array.dtype.kind == "f" else array.astype(numpy.float64)
    if kind == "mask":
        _require_all(name, array, (array == 0) | (array == 1), "only 0 and 1")
        return array.astype(bool)
    if kind == "ids" and bound is not None:
        _require_all(name, array, (array >= 0) & (array < bound), f"ids from 0 to {bound - 1}")
    if kind == "labels" and bound is not None:
        allowed = (array >= 0) & (array < bound) | (array == IGNORE_INDEX)
        _require_all(name, array, allowed, f"labels from 0 to {bound - 1}, or {IGNORE_INDEX}")
    return array.astype(numpy.int64)


def _check_places(name: str, array: numpy.ndarray, bounds: list[int]) -> None:
    inside = numpy.asarray(((array >= 0) & (array < bounds)).all(axis=-1))
    last = " and ".join(f"0 to {bound - 1}" for bound in bounds)
    _require_all(name, array, inside, f"places from {last}")


def _require_all(name: str, array: numpy.ndarray, allowed: numpy.ndarray, expected: str) -> None:
    if not allowed.all():
        raise ValueError(f"{name}: expected {expected}, got {array[~allowed][0]}")
