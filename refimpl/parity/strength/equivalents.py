"""What is a mistake in float32, and in another arithmetic what a port is meant to do."""

from __future__ import annotations

from refimpl.parity.faults import Fault

_SAME = "A port of this arithmetic keeps {} in this format: it is what it is meant to do."
_FINER = "11 bits are no fewer than this arithmetic has: what it has rounded stays as it is."

# arithmetic -> fault -> the argument
NO_MISTAKE: dict[str, dict[str, str]] = {
    "tf32": {"tf32_products": "A port of this arithmetic multiplies so."},
    "float16": {
        "tf32_products": _FINER,
        "weights_in_float16": _SAME.format("weights"),
        "softmax_in_float16": _SAME.format("every result, those of the softmax too,"),
        "results_in_float16": _SAME.format("every result"),
    },
    "bfloat16": {
        "tf32_products": _FINER,
        "weights_in_bfloat16": _SAME.format("weights"),
        "softmax_in_bfloat16": _SAME.format("every result, those of the softmax too,"),
        "softmax_in_float16": f"{_FINER} (Probabilities below 6e-8 vanish.)",
        "residual_in_bfloat16": _SAME.format("every result, sums too,"),
        "results_in_bfloat16": _SAME.format("every result"),
    },
    "float16-weights": {"weights_in_float16": _SAME.format("weights")},
    "bfloat16-weights": {"weights_in_bfloat16": _SAME.format("weights")},
}


def no_mistake(fault: Fault, arithmetic: str) -> str:
    """Say why a fault is none in a port of an arithmetic; "" where it is one."""
    return NO_MISTAKE.get(arithmetic, {}).get(fault.name, "")
