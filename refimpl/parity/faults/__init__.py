"""The catalogue of known porting mistakes: each a change of the reference that can be switched on.

    taps, outputs = run_faulty(model, inputs, [CATALOGUE["positions_from_zero"]])

What a port with that mistake would compute, at every tap, on any backend and in any dtype.
``docs/faults.md`` tells of each.
"""

from refimpl.parity.faults import (
    activations,
    adapters,
    attention,
    embeddings,
    heads,
    layers,
    mask_sources,
    masks,
    norms,
    outputs,
    positions,
    precision,
    weights,
)
from refimpl.parity.faults.fault import AREAS, Fault, Need
from refimpl.parity.faults.inject import (
    applies,
    effect,
    first_changed,
    run_faulty,
    shows,
    why_not,
)
from refimpl.parity.faults.left_out import KNOWN, LEFT_OUT, LeftOut
from refimpl.parity.faults.run import FAMILIES, PLACES, place_of

_FILES = (
    positions,
    embeddings,
    norms,
    activations,
    attention,
    masks,
    mask_sources,
    layers,
    adapters,
    heads,
    outputs,
    weights,
    precision,
)

CATALOGUE: dict[str, Fault] = {
    fault.name: fault
    for area in AREAS
    for file in _FILES
    for fault in file.FAULTS
    if fault.area == area
}

__all__ = [
    "AREAS",
    "CATALOGUE",
    "FAMILIES",
    "KNOWN",
    "LEFT_OUT",
    "PLACES",
    "Fault",
    "LeftOut",
    "Need",
    "applies",
    "effect",
    "first_changed",
    "place_of",
    "run_faulty",
    "shows",
    "why_not",
]
