"""Which mistake it is: the fault, or the pair of faults, that makes the reference a candidate.

    diagnose(load(path, dtype="float64"), read_dump("candidate.safetensors")).faults

A fault is named where the reference with it in it agrees with every value of the candidate to
within rounding; where none does, none is named. ``docs/diagnosing.md`` tells how to read it.
"""

from refimpl.parity.diagnosis.diagnosis import Answer, Diagnosis, diagnose, named

__all__ = ["Answer", "Diagnosis", "diagnose", "named"]
