"""Arrays that another program hands over, whichever library they are of, as a dump."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy

from refimpl.parity.dumps.dump import Dump
from refimpl.parity.dumps.numbers import Numbers, dump_of, narrow_bfloat16, numbers_of, sort_names


def dump_values(values: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> Dump:
    """Return arrays by name as a dump, with what is known of it in ``about``.

    Arrays are NumPy's, or of any library whose arrays NumPy takes, PyTorch's on any device and of
    bfloat16 included; what is None is left out, and ``name`` of a tuple or list is ``name.0``,
    ``name.1``, ... Names that begin with "input.", "tap." or "output." are sorted out, as in
    a file.

    Raises ``TypeError``, naming the value, for what is no array of numbers.

    >>> dump_values({"input.input_ids": [[0, 5, 2]], "logits": [[0.5, 1.0]]}).taps["logits"].shape
    (1, 2)
    """
    found = {name: _numbers(name, x) for name, x in _flat(values)}
    return dump_of(sort_names(found), dict(about or {}), "the values")


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, x in values.items():
        if not isinstance(name, str):
            raise TypeError(f"expected names that are text, got {name!r}")
        is_several = isinstance(x, (tuple, list)) and any(hasattr(part, "shape") for part in x)
        if is_several:
            yield from _flat({f"{name}.{i}": part for i, part in enumerate(x)})
        elif x is not None:
            yield name, x


def _numbers(name: str, x: Any) -> Numbers:
    if hasattr(x, "detach"):  # PyTorch
        x = x.detach().cpu()
        if str(x.dtype) == "torch.bfloat16":
            return narrow_bfloat16(name, numpy.asarray(x.float()))
    elif hasattr(x, "get") and not isinstance(x, Mapping):  # CuPy
        x = x.get()
    try:
        array = numpy.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: expected an array of numbers, got {type(x).__name__}") from error
    if array.dtype.name == "bfloat16":  # of ml_dtypes: JAX's
        return narrow_bfloat16(name, array.astype(numpy.float32))
    if array.dtype == object:
        raise TypeError(f"{name}: expected an array of numbers, got {type(x).__name__}")
    return numbers_of(name, array)
