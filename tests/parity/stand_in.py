"""Stand-ins for published checkpoints: a small checkpoint, and a registry of numbers of it."""

import hashlib
import json

import numpy

from refimpl.parity.compare import NORM
from refimpl.parity.floors import read_floors
from refimpl.parity.published import verify_checkpoint

ID = "someone/stand-in"


def number(name, kind, inputs, expected, **more):
    """Return an entry of a registry."""
    defaults = {"of": ID, "source": "the original", "trust": "high"}
    return {"name": name, "kind": kind, "inputs": inputs, "expected": expected, **defaults, **more}


def within(error):
    """Return a tolerance as a publisher states it, of every element."""
    return {"atol": error, "rtol": 0.0}


class StandIn:
    """A checkpoint folder, and a registry beside it; of a golden, with its floors."""

    def __init__(self, folder, family, dtype="float64", golden=None):
        self.folder, self.family, self.dtype = folder, family, dtype
        self.floors = None if dtype == "float64" else read_floors(golden, dtype)
        self.registry = folder.with_name(f"{folder.name}.json")
        self.arrays, self.numbers = {}, []
        self.config = json.loads((folder / "config.json").read_text())

    def add(self, name, kind, inputs, expected, **more):
        """Add a number."""
        self.numbers.append(number(name, kind, inputs, expected, **more))

    def allowed(self, tap, truth):
        """Return how far off an element may be: by the norm, or by the floor of a tap."""
        if self.floors is None:
            return NORM * float(numpy.abs(truth).max())
        return self.floors.limit(tap).worst

    def add_array(self, name, inputs, of, whole, tap, *, take=None, part=None, reduce=None):
        """Add an array: complete ones beside the registry, ``part`` (what is taken) inside of it.

        ``tap`` is the tap or output that it is, whose floors were measured.
        """
        value = {"of": of, "shape": list(whole.shape), "take": take, "reduce": reduce}
        expected = whole if part is None else part
        if reduce is not None:
            expected = getattr(expected, reduce)(axis=-1)
        kind = "mlm_logits" if of == "logits" else "hidden"
        terms = whole.shape[-1] if reduce == "sum" else 1  # each may be off
        allowed = within(terms * self.allowed(tap, whole))
        if take is None and reduce is None:
            self.arrays[name] = numpy.ascontiguousarray(whole)
            digest = hashlib.sha256(self.arrays[name].tobytes()).hexdigest()
            told = {"array": name, "sha256": digest}
        else:
            told = expected.tolist()
        value = {key: x for key, x in value.items() if x is not None}
        self.add(name, kind, inputs, told, value=value, tolerance=allowed)

    def write(self, write, **changes):
        """Write the registry and its arrays; ``write`` writes arrays to a safetensors file."""
        checkpoint = {
            "id": ID,
            "family": self.family,
            "class": self.config["architectures"][0],
            "config": self.config,
            "aliases": ["stand-in"],
        }
        text = {"format": 1, "checkpoints": [checkpoint], "numbers": self.numbers, **changes}
        self.registry.write_text(json.dumps(text))
        write(self.registry.with_suffix(".safetensors"), self.arrays or {"x": numpy.zeros(1)})
        return self

    def verify(self, **options):
        """Return the report on the checkpoint."""
        return verify_checkpoint(
            self.folder, **{"registry": self.registry, "dtype": self.dtype, **options}
        )


def statuses(report):
    """Return what became of each number, by name."""
    return {finding.number.name: finding.status for finding in report.findings}
