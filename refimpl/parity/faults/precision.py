"""Precision: the right computation, in arithmetic of fewer bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refimpl.backend import Array, namespace
from refimpl.parity import rounding
from refimpl.parity.faults.changes import at, with_options
from refimpl.parity.faults.fault import Fault, Function, Tensors, WeightChange, threads
from refimpl.parity.faults.layers import residual
from refimpl.parity.faults.run import Run, place_of

Rounding = Callable[[Array], Array]
TABLES = ("words", "token_types", "positions")  # the first results, of ids or of vectors

# --- products -------------------------------------------------------------------------------------


def _tf32_linear(run: Run, base: Function) -> Function:
    def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
        y: Array = base(rounding.tf32(x), rounding.tf32(weight), bias)
        return y

    return linear


def _tf32_attention(run: Run, base: Function) -> Function:
    """Both products of attention, of rounded factors; softmax and sums are not rounded."""

    def attention(query: Array, key: Array, value: Array, **options: Any) -> Any:
        right = base(rounding.tf32(query), rounding.tf32(key), value, **options)
        xp = namespace(query)
        context = xp.matmul(rounding.tf32(right.weights), rounding.tf32(value))
        return right._replace(context=context)

    return attention


# --- softmax --------------------------------------------------------------------------------------


def _softmax_in(to: Rounding) -> Function:
    """Every step of the softmax rounded. What is masked has float16's lowest number."""

    def softmax(x: Array) -> Array:
        xp = namespace(x)
        x = to(xp.maximum(x, -65504.0))
        e = to(xp.exp(to(x - xp.max(x, axis=-1, keepdims=True))))
        return to(e / to(xp.sum(e, axis=-1, keepdims=True)))

    return softmax


def _low_softmax(to: Rounding) -> dict[str, Any]:
    return {"scaled_dot_product_attention": with_options(softmax=lambda run, _: _softmax_in(to))}


# --- weights, results, sums -----------------------------------------------------------------------


def _rounded_weights(to: Rounding) -> WeightChange:
    return lambda run, tensors, name: to(tensors[name])


def _int8(run: Run, tensors: Tensors, name: str) -> Array:
    """The matrices of linear maps; tables, norms and biases keep their bits."""
    x = tensors[name]
    module, _, last = name.rpartition(".")
    is_map = last == "weight" and x.ndim == 2 and "embedding" not in module
    return rounding.int8_rows(x) if is_map else x


def _rounded_taps(to: Rounding) -> Callable[[Run, str, Array], Array]:
    def change(run: Run, name: str, x: Array) -> Array:
        xp = namespace(x)
        return to(x) if xp.isdtype(x.dtype, "real floating") else x

    return change


def _bfloat16_sum(run: Run, name: str, x: Array) -> Array:
    """The sum of a part and its input, rounded, in the place of the sum."""
    hidden = residual(run, place_of(name))
    return rounding.bfloat16(x + hidden) - hidden


FAULTS = (
    Fault(
        name="tf32_products",
        title="Matrices are multiplied in TF32",
        area="precision",
        explanation="The framework lets tensor cores round the factors of float32 products to 11 "
        "bits, often without being asked.",
        effect="Relative errors near 5e-4: a thousand times those of float32.",
        mend="Switch TF32 off to compare; judge by a tolerance for TF32 otherwise.",
        first_taps=("query",),
        operations={
            "linear": _tf32_linear,
            "scaled_dot_product_attention": _tf32_attention,
        },
    ),
    Fault(
        name="weights_in_bfloat16",
        title="Weights are stored in bfloat16",
        area="precision",
        explanation="The converter kept 8 bits of each weight; the arithmetic is float32.",
        effect="Relative errors near 4e-3. A comparison with a reference that reads the same "
        "rounded weights shows none.",
        mend="Give the reference the weights that the port has, or keep float32.",
        first_taps=TABLES,
        weights=_rounded_weights(rounding.bfloat16),
    ),
    Fault(
        name="weights_in_float16",
        title="Weights are stored in float16",
        area="precision",
        explanation="The converter kept 11 bits of each weight; the arithmetic is float32. What "
        "is below 6e-8 becomes 0.",
        effect="Relative errors near 5e-4.",
        mend="Give the reference the weights that the port has, or keep float32.",
        first_taps=TABLES,
        weights=_rounded_weights(rounding.float16),
    ),
    Fault(
        name="weights_in_int8",
        title="Matrices are stored in eight bits",
        area="precision",
        explanation="Each row of a linear map's matrix is rounded to 255 steps.",
        effect="Relative errors near 1e-2.",
        mend="Give the reference the rounded weights, or keep float32.",
        first_taps=("query",),
        weights=_int8,
    ),
    Fault(
        name="softmax_in_bfloat16",
        title="The softmax is computed in bfloat16",
        area="precision",
        explanation="Everything else is float32. XLM's authors cast up for the softmax, not down.",
        effect="Probabilities are off by up to 1 %, and no longer add up to 1.",
        mend="Compute softmax in float32 at least.",
        first_taps=("probs",),
        operations=_low_softmax(rounding.bfloat16),
    ),
    Fault(
        name="softmax_in_float16",
        title="The softmax is computed in float16",
        area="precision",
        explanation="An exported graph keeps the softmax in half precision. XLM's authors cast up "
        "for it, not down.",
        effect="Probabilities are off by up to 0.1 %; those below 6e-8 are 0.",
        mend="Compute softmax in float32 at least.",
        first_taps=("probs",),
        operations=_low_softmax(rounding.float16),
    ),
    Fault(
        name="residual_in_bfloat16",
        title="Residuals are added up in bfloat16",
        area="precision",
        explanation="Products and norms are float32; the sums between them are kept in 8 bits.",
        effect="Relative errors near 4e-3. In layers that normalise first they pile up, since "
        "the stream is never normalised.",
        mend="Keep the residual in float32.",
        first_taps=("attention_norm", "ffn_norm"),
        onward=at("attention_out", "ffn_out", become=_bfloat16_sum),
    ),
    Fault(
        name="results_in_bfloat16",
        title="Every result is stored in bfloat16",
        area="precision",
        explanation="Weights are float32 and so is the arithmetic inside an operation; what goes "
        "from one to the next has 8 bits.",
        effect="Relative errors of some per cent; with outliers among the features a token can go "
        "astray.",
        mend="Judge bfloat16 operation by operation, each given right inputs.",
        first_taps=TABLES,
        taps=_rounded_taps(rounding.bfloat16),
    ),
    Fault(
        name="results_in_float16",
        title="Every result is stored in float16",
        area="precision",
        explanation="Weights are float32 and so is the arithmetic inside an operation; what goes "
        "from one to the next has 11 bits and ends at 65504.",
        effect="Relative errors near 2e-3; XL and XXL, whose stream is never normalised, overflow.",
        mend="Keep float32 for XL and XXL, or at least their residual.",
        first_taps=TABLES,
        sources=threads("huggingface/transformers#13210"),
        known=(74,),
        taps=_rounded_taps(rounding.float16),
    ),
)
