"""What an operation card is, how its inputs are drawn, and how it becomes a file.

All reals that go into a case are numbers that float16 and bfloat16 hold exactly, but where the case
says otherwise: so the truth is one, whichever arithmetic a port runs in. A case belongs to the
arithmetics that can hold its inputs.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch

from golden.make.record import _float64_stays

ARITHMETICS = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class Case:
    """One call of an operation: tensors (float64, ids, booleans) and plain numbers, by name."""

    what: str
    inputs: dict[str, Any]
    without: tuple[str, ...] = ()  # arithmetics that it is not for, though they hold its inputs
    note: str = ""  # what the original does that a reader would not expect


@dataclass(frozen=True)
class Card:
    """One operation, told for whoever has only the file."""

    name: str
    what: str  # in words or as a formula
    theirs: str  # the original's name for it
    source: str  # where it is defined: paper, section
    shapes: Mapping[str, str]  # of the inputs and of the output, in docs/notation.md's letters
    function: Callable[..., torch.Tensor]
    cases: Mapping[str, Case]
    ours: str = ""  # our name for it; "" where it is a step that takes several operations
    uses: tuple[str, ...] = ()  # the cards of the operations that it is made of
    meaning: Mapping[str, str] = field(default_factory=dict)  # of inputs that need a word


class Draw:
    """Random numbers, the same for the same name, all exact in every arithmetic."""

    def __init__(self, name: str) -> None:
        self._generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def normal(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> torch.Tensor:
        """Normally distributed reals."""
        return exact(torch.randn(shape, generator=self._generator).double() * scale + mean)

    def weight(self, outputs: int, inputs: int) -> torch.Tensor:
        """A matrix (O, I) that keeps the size of what it multiplies."""
        return self.normal(outputs, inputs, scale=inputs**-0.5)

    def gain(self, width: int) -> torch.Tensor:
        """The weight of a norm: between 0.1 and 4, and one outlier of 4."""
        gain = torch.randn(width, generator=self._generator).mul(0.6).exp().clamp(0.1, 4.0)
        gain[int(torch.randint(width, (), generator=self._generator))] = 4.0
        return exact(gain.double())

    def ids(self, *shape: int, below: int) -> torch.Tensor:
        """Integers from 0 up to but without ``below``."""
        return torch.randint(below, shape, generator=self._generator)

    def linear(self, name: str, outputs: int, inputs: int) -> dict[str, torch.Tensor]:
        """The tensors of a linear map, by their names in a checkpoint."""
        weight, bias = self.weight(outputs, inputs), self.normal(outputs, scale=0.4)
        return {f"{name}.weight": weight, f"{name}.bias": bias}

    def norm(self, name: str, width: int) -> dict[str, torch.Tensor]:
        """The tensors of a layer norm."""
        return {f"{name}.weight": self.gain(width), f"{name}.bias": self.normal(width, scale=0.4)}


def exact(x: torch.Tensor) -> torch.Tensor:
    """Round to numbers that float16 and bfloat16 both hold."""
    return x.bfloat16().half().double()


def reals(*values: Any) -> torch.Tensor:
    """Chosen numbers, as they are."""
    return torch.tensor(values, dtype=torch.float64)


def fill(module: torch.nn.Module, tensors: Mapping[str, Any]) -> Any:
    """Give a module its parameters, all of them, and their dtype; return it in evaluation mode."""
    state = {name: tensors[name] for name in module.state_dict() if name in tensors}
    missing = {name for name, _ in module.named_parameters()} - set(state)
    assert not missing, f"{type(module).__name__}: no values for {sorted(missing)}"
    dtype = next(iter(state.values())).dtype
    module = module.to(dtype)
    module.load_state_dict(state, strict=False)
    return module.eval()


# --- a card as tensors ----------------------------------------------------------------------------


def tensors_of(card: Card) -> dict[str, numpy.ndarray]:
    """Run the original on every case: ``<case>.input.<name>``, ``<case>.output`` in float64.

    Where the original overflows in a narrow arithmetic, ``<case>.output.float16`` says what it
    gives there.
    """
    made: dict[str, numpy.ndarray] = {}
    for name, case in card.cases.items():
        made |= {f"{name}.input.{key}": _stored(x) for key, x in case.inputs.items()}
        truth = run(card, case, "float64")
        made[f"{name}.output"] = _stored(truth, numpy.float64)
        for arithmetic in arithmetics_of(case):
            given = run(card, case, arithmetic)
            if given.is_floating_point() and (given.isfinite() != truth.isfinite()).any():
                made[f"{name}.output.{arithmetic}"] = _stored(given.double(), numpy.float32)
    return made


def run(card: Card, case: Case, arithmetic: str) -> torch.Tensor:
    """What the original computes in an arithmetic."""
    dtype = ARITHMETICS[arithmetic]
    given = {name: _cast(x, dtype) for name, x in case.inputs.items()}
    with torch.no_grad(), _float64_stays():
        return card.function(**given)


def arithmetics_of(case: Case) -> list[str]:
    """The arithmetics that can hold all reals of a case, and that it is for."""
    found = [x for x in case.inputs.values() if torch.is_tensor(x) and x.is_floating_point()]
    return [
        name
        for name, dtype in ARITHMETICS.items()
        if name not in case.without and all(bool((x.to(dtype).double() == x).all()) for x in found)
    ]


def described(card: Card, tensors: Mapping[str, numpy.ndarray]) -> dict[str, Any]:
    """A card's entry in the list of all cards."""
    return {
        "what": card.what,
        "ours": f"refimpl.ops.{card.ours}" if card.ours else None,
        "theirs": card.theirs,
        "source": card.source,
        "uses": list(card.uses),
        "shapes": dict(card.shapes),
        "meaning": dict(card.meaning),
        "cases": {
            name: {
                "what": case.what,
                **({"note": case.note} if case.note else {}),
                "arithmetics": arithmetics_of(case),
                "overflows": [a for a in ARITHMETICS if f"{name}.output.{a}" in tensors],
            }
            for name, case in card.cases.items()
        },
    }


def _cast(x: Any, dtype: torch.dtype) -> Any:
    return x.to(dtype) if torch.is_tensor(x) and x.is_floating_point() else x


def _stored(x: Any, dtype: Any = numpy.float32) -> numpy.ndarray:
    """Reals in a dtype that holds them exactly, numbers as they are."""
    if not torch.is_tensor(x):
        return numpy.asarray(x)
    array = x.numpy()
    if array.dtype.kind != "f":
        return array
    stored = array.astype(dtype)
    exactly = numpy.array_equal(stored.astype(numpy.float64), array, equal_nan=True)
    return stored if exactly else array
