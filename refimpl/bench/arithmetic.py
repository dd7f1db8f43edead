"""How much arithmetic a forward pass is, and how much of it a second the machine can do at most."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import Any

from refimpl.bench.batches import Batch
from refimpl.models.model import ARCHITECTURES, Model

# Matrices that every token is multiplied by, in the encoder and in a language model's head.
IN_LAYERS = re.compile(r"(?:^|\.)(?:layer|attentions|encoder_attn|ffns)\.")
IN_HEADS = re.compile(r"^(?:lm_head|pred_layer)\.")
OF_LANGUAGES = re.compile(r"\.adapter_modules\.([^.]+)\.")

PEAK_SECONDS = 0.2  # about as long as one measurement of the peak is to take
LARGEST = 4096  # rows and columns of its matrices


def forward_flops(model: Model, batch: Batch) -> float:
    """Return the floating-point operations of a forward pass that padding has no part in.

    2 for each token and each element of the matrices of the layers (and of a language model's
    head), and 4 S² W for the attention of each layer to a text of S tokens, W being the width of
    all heads together. Norms, activations, sums, poolers and classifiers are not counted.
    """
    parameters = ARCHITECTURES[model.architecture].parameters(model.config)
    languages: Any = getattr(model.config, "languages", ())
    per_token = attention = 0
    name: str
    shape: tuple[int, ...]
    for name, shape in parameters.items():
        counted = IN_LAYERS.search(name) or IN_HEADS.search(name)
        language = OF_LANGUAGES.search(name)
        if len(shape) != 2 or not counted or "distance_embedding" in name:
            continue
        if language and language[1] != languages[0]:
            continue
        per_token += 2 * math.prod(shape)
        if name.endswith(("self.query.weight", ".q_lin.weight")):
            attention += 4 * shape[0]
    return float(batch.tokens * per_token + sum(s * s for s in batch.lengths) * attention)


def peak_call(model: Model, wait: Callable[[], None]) -> tuple[Callable[[], None], float]:
    """Return a call that multiplies two large square matrices, and its operations.

    They have the model's dtype and are as large as takes a fraction of a second.
    """
    size = 128
    while True:
        call = multiplication(model, size)
        call()
        wait()
        begun = time.perf_counter()
        call()
        wait()
        if size == LARGEST or time.perf_counter() - begun > PEAK_SECONDS / 4:
            return call, 2.0 * size**3
        size *= 2


def multiplication(model: Model, size: int) -> Callable[[], Any]:
    """Return a call that multiplies two square matrices."""
    xp = model.backend.xp
    row = xp.reshape(xp.linspace(-1.0, 1.0, size), (1, size))
    x = model.backend.asarray(xp.matmul(xp.permute_dims(row, (1, 0)), row))
    x = xp.astype(x, model.backend.dtype(model.dtype))
    return lambda: xp.matmul(x, x)
