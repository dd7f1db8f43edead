"""A dump: what one implementation computed in one call, on the host, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy

Arrays = Mapping[str, numpy.ndarray]


@dataclass(frozen=True)
class Dump:
    """The inputs, every tap in the order of the computation, and the outputs of one call.

    Of a foreign program's dump all that is not marked otherwise is a tap, under its own name, and
    the inputs may be missing.
    """

    taps: Arrays
    outputs: Arrays = field(default_factory=dict)
    inputs: Arrays = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)  # made_by, architecture, dtype, flags

    @property
    def values(self) -> dict[str, numpy.ndarray]:
        """Taps, then outputs."""
        return {**self.taps, **self.outputs}

    @property
    def flags(self) -> dict[str, bool]:
        """The switches of the call (``output_attentions``) that ``about`` tells."""
        told = self.about.get("flags")
        told = told if isinstance(told, Mapping) else {}
        return {name: x for name, x in told.items() if isinstance(x, bool)}
