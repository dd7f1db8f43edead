"""What a porting mistake is, in the catalogue: its story, and how the reference is made to make it.

A fault changes the reference from outside: its config, weights, inputs, operations, taps or
outputs. The architecture files know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from refimpl.backend import Array
from refimpl.parity.faults.run import FAMILIES, Run, place_of

AREAS = (
    "positions",
    "embeddings",
    "languages",
    "norms",
    "activations",
    "biases",
    "attention",
    "masks",
    "residuals",
    "layers",
    "adapters",
    "heads",
    "losses",
    "weights",
    "precision",
)

Tensors = Mapping[str, Array]
Function = Callable[..., Any]
ConfigChange = Callable[[Run], Any]  # -> the config that the port runs with
WeightChange = Callable[[Run, Tensors, str], Array]  # -> the tensor that it has under a name
InputChange = Callable[[Run], Mapping[str, Any]]  # -> what it makes of the inputs
OperationChange = Callable[[Run, Function], Function]  # what stands there -> what the port has
TapChange = Callable[[Run, str, Array], Array]  # name and value of a tap -> its value in the port
OutputChange = Callable[[Run, Any], Any]  # what the model returns -> what the port returns


class Need(NamedTuple):
    """Something without which a fault changes nothing, or cannot be made."""

    text: str  # it stands behind "needs"
    holds: Callable[[Run], bool]


@dataclass(frozen=True)
class Fault:
    """One known way to get a port wrong."""

    name: str
    title: str  # one line: what the port does
    area: str  # one of AREAS
    explanation: str  # what is wrong, and where that was seen
    effect: str  # what the numbers then do
    mend: str  # what the port should do
    first_taps: tuple[str, ...]  # places (see run.PLACES) and outputs: the first to part is one
    families: tuple[str, ...] = FAMILIES
    sources: tuple[str, ...] = ()  # threads in which it was met
    known: tuple[int, ...] = ()  # its numbers in the list of known mistakes (docs/faults.md)
    equivalent: str = ""  # why no output changes, where none does
    needs: tuple[Need, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    alternatives: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # other values met
    config: ConfigChange | None = None
    weights: WeightChange | None = None
    inputs: InputChange | None = None
    operations: Mapping[str, OperationChange] = field(default_factory=dict)
    taps: TapChange | None = None
    onward: TapChange | None = None  # what goes on from a tap whose own value is right
    outputs: OutputChange | None = None

    @property
    def anchor(self) -> str:
        """Where the documentation tells of it."""
        return f"docs/faults.md#{self.name}"

    def with_parameters(self, **values: Any) -> Fault:
        """The same mistake with other numbers in it: ``with_parameters(eps=1e-6)``.

        Raises ``ValueError`` for a parameter that the fault does not have.
        """
        for name in values:
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "no parameters"
                raise ValueError(f"{self.name} has {known}, got {name!r}")
        return replace(self, parameters={**self.parameters, **values})

    def may_part_first(self, name: str) -> bool:
        """Whether the fault says that this tap or output may be the first that it changes."""
        return place_of(name) in self.first_taps


def threads(*names: str) -> tuple[str, ...]:
    """Addresses of threads on GitHub.

    >>> threads("ggml-org/llama.cpp#8658")
    ('https://github.com/ggml-org/llama.cpp/issues/8658',)
    """
    return tuple(f"https://github.com/{name.replace('#', '/issues/')}" for name in names)
