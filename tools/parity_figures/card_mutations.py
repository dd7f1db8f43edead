"""Mistakes in single operations, for the study of operation cards: each a change of one of ours.

``OPERATIONS[name][mistake]`` takes the right function and gives the wrong one. ``STEPS`` has
mistakes of steps that are no operation: each changes what the step is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy

Array = Any
Function = Callable[..., Any]
Mutation = Callable[[Function], Function]
E = numpy.exp


def instead(function: Function) -> Mutation:
    """Another function, whatever the right one is."""
    return lambda base: function


def given(**changes: Callable[..., Any]) -> Mutation:
    """The right function, with an option changed: a function of what was meant."""

    def mutation(base: Function) -> Function:
        return lambda *args, **options: base(
            *args,
            **{n: changes[n](x) if n in changes else x for n, x in options.items()},
        )

    return mutation


def after(change: Callable[[Array], Array]) -> Mutation:
    """The right result, changed."""
    return lambda base: lambda *args, **options: change(base(*args, **options))


def before(change: Callable[[Array], Array]) -> Mutation:
    """The right function of another first argument."""
    return lambda base: lambda x, *args, **options: base(change(x), *args, **options)


# --- linear, embedding ----------------------------------------------------------------------------


def _square(weight: Array) -> Array:
    return weight.T if weight.shape[0] == weight.shape[1] else weight


def _last_input_left_out(base: Function) -> Function:
    def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
        return base(x[..., :-1], weight[:, :-1], bias) if x.shape[-1] > 1 else base(x, weight, bias)

    return linear


def _int8(weight: Array) -> Array:
    step = numpy.abs(weight).max(axis=-1, keepdims=True) / weight.dtype.type(127)
    step = numpy.where(step > 0, step, step + 1)
    return numpy.round(weight / step) * step


LINEAR: dict[str, Mutation] = {
    "weight transposed": lambda base: lambda x, weight, bias=None: base(x, _square(weight), bias),
    "bias missing": lambda base: lambda x, weight, bias=None: base(x, weight),
    "bias twice": lambda base: (
        lambda x, weight, bias=None: base(x, weight, None if bias is None else 2 * bias)
    ),
    "last input left out": _last_input_left_out,
    "outputs reversed": after(lambda y: y[..., ::-1]),
    "weights of 8 bits": lambda base: lambda x, weight, bias=None: base(x, _int8(weight), bias),
    "result in float16": after(lambda y: y.astype(numpy.float16).astype(y.dtype)),
    "bias subtracted": lambda base: (
        lambda x, weight, bias=None: base(x, weight, None if bias is None else -bias)
    ),
}


def _padding_row_zero(base: Function) -> Function:
    def embedding(ids: Array, weight: Array) -> Array:
        return base(ids, weight) * (numpy.asarray(ids)[..., None] != 1)

    return embedding


EMBEDDING: dict[str, Mutation] = {
    "padding row is zero": _padding_row_zero,
    "next row": lambda base: lambda ids, weight: base((ids + 1) % weight.shape[0], weight),
    "times the root of the width": after(lambda y: y * y.dtype.type(math.sqrt(y.shape[-1]))),
    "table transposed": lambda base: lambda ids, weight: base(ids, _square(weight)),
    "ids clipped at the last row but one": lambda base: (
        lambda ids, weight: base(numpy.minimum(ids, max(weight.shape[0] - 2, 0)), weight)
    ),
}

# --- positions ------------------------------------------------------------------------------------

FROM_PADDING: dict[str, Mutation] = {
    "padding id is always 1": given(padding_idx=lambda x: 1),
    "one too many": after(lambda y: y + 1),
    "past ignored": given(past=lambda x: 0),
    "padding keeps counting": lambda base: (
        lambda ids, *, padding_idx, past=0: (
            numpy.cumsum(ids != padding_idx, axis=1) + padding_idx + past
        )
    ),
    "counted from the right": lambda base: (
        lambda ids, **options: base(ids[:, ::-1], **options)[:, ::-1]
    ),
    "counted over the whole batch": lambda base: (
        lambda ids, **options: base(ids.reshape(1, -1), **options).reshape(ids.shape)
    ),
}
IN_ORDER: dict[str, Mutation] = {
    "from 0": after(lambda y: y - y[:, :1]),
    "from padding_idx": after(lambda y: y - 1),
    "padding id is always 1": given(padding_idx=lambda x: 1),
    "zeros are padding": lambda base: (
        lambda x, **options: base(x, **options) * (numpy.abs(x).sum(axis=-1) > 0)
    ),
}


def _sines(angle: Callable[[Array, int], Array], swapped: bool = False) -> Mutation:
    def function(positions: Array, *, width: int) -> Array:
        column = numpy.arange(width)
        x = positions[:, None] * angle(column, width)
        even = (column % 2 == 0) ^ swapped
        return numpy.where(even, numpy.sin(x), numpy.cos(x)).astype(numpy.float32)

    return instead(function)


SINES: dict[str, Mutation] = {
    "sine and cosine swapped": _sines(lambda j, D: 10000.0 ** (-2.0 * (j // 2) / D), swapped=True),
    "every column its own angle": _sines(lambda j, D: 10000.0 ** (-1.0 * j / D)),
    "base 1000": _sines(lambda j, D: 1000.0 ** (-2.0 * (j // 2) / D)),
    "width without the last pair": _sines(lambda j, D: 10000.0 ** (-2.0 * (j // 2) / (D - 1))),
    "positions from 1": before(lambda positions: positions + 1),
    "in float16": after(lambda y: y.astype(numpy.float16).astype(numpy.float32)),
}


def _distance_table(change: Callable[[Array], Array]) -> Mutation:
    return lambda base: (
        lambda query, key, table, **options: base(query, key, change(table), **options)
    )


RELATIVE: dict[str, Mutation] = {
    "sign of the distance": _distance_table(lambda table: table[::-1]),
    "distance 0 is row 0": _distance_table(
        lambda table: numpy.roll(table, (table.shape[0] - 1) // 2, axis=0)
    ),
    "one row off": _distance_table(lambda table: numpy.roll(table, 1, axis=0)),
    "key left out": given(of_key=lambda x: False),
    "key always in": given(of_key=lambda x: True),
    "query and key exchanged": lambda base: (
        lambda query, key, table, *, of_key: base(
            query, query if query.shape == key.shape else key, table, of_key=of_key
        )
    ),
    "scaled already": after(lambda y: y / y.dtype.type(2.0)),
}

# --- norms ----------------------------------------------------------------------------------------


def _norm(formula: Callable[..., Array]) -> Mutation:
    return instead(lambda x, weight, bias, *, eps: formula(x, weight, bias, eps))


def _moments(x: Array, axis: int = -1) -> tuple[Array, Array]:
    mean = x.mean(axis=axis, keepdims=True)
    return mean, ((x - mean) ** 2).mean(axis=axis, keepdims=True)


def _eps_outside(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    mean, variance = _moments(x)
    return (x - mean) / (numpy.sqrt(variance) + x.dtype.type(eps)) * weight + bias


def _unbiased(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    mean, variance = _moments(x)
    D = x.shape[-1]
    return (x - mean) / numpy.sqrt(variance * (D / max(D - 1, 1)) + eps) * weight + bias


def _root_mean_square(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    return x / numpy.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight + bias


def _one_pass(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    mean = x.mean(axis=-1, keepdims=True)
    variance = (x * x).mean(axis=-1, keepdims=True) - mean * mean
    return (x - mean) / numpy.sqrt(variance + eps) * weight + bias


def _first_axis(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    mean, variance = _moments(x, axis=-2 if x.ndim > 1 else -1)
    return (x - mean) / numpy.sqrt(variance + eps) * weight + bias


def _largest_eps(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    mean, variance = _moments(x)
    return (x - mean) / numpy.sqrt(numpy.maximum(variance, x.dtype.type(eps))) * weight + bias


LAYER_NORM: dict[str, Mutation] = {
    "eps outside the root": _norm(_eps_outside),
    "no eps": given(eps=lambda eps: 0.0),
    "eps 1e-12": given(eps=lambda eps: 1e-12),
    "eps 1e-5": given(eps=lambda eps: 1e-5),
    "eps 1e-6": given(eps=lambda eps: 1e-6),
    "the larger of variance and eps": _norm(_largest_eps),
    "unbiased variance": _norm(_unbiased),
    "root mean square": _norm(_root_mean_square),
    "E[x²] - E[x]²": _norm(_one_pass),
    "wrong axis": _norm(_first_axis),
    "weight and bias exchanged": lambda base: (
        lambda x, weight, bias, *, eps: base(x, bias, weight, eps=eps)
    ),
    "weight + 1": lambda base: lambda x, weight, bias, *, eps: base(x, weight + 1, bias, eps=eps),
    "bias missing": lambda base: lambda x, weight, bias, *, eps: base(x, weight, 0 * bias, eps=eps),
    "weight missing": lambda base: (
        lambda x, weight, bias, *, eps: base(x, 0 * weight + 1, bias, eps=eps)
    ),
    "squares in float16": lambda base: (
        lambda x, weight, bias, *, eps: base(
            x.astype(numpy.float16).astype(x.dtype), weight, bias, eps=eps
        )
    ),
}


def _softmax(axis: int = -1, base: float = math.e, more: float = 0.0) -> Mutation:
    def softmax(x: Array) -> Array:
        e = numpy.asarray(base, x.dtype) ** (x - x.max(axis=axis, keepdims=True))
        return e / (e.sum(axis=axis, keepdims=True) + x.dtype.type(more))

    return instead(softmax)


def _no_maximum(x: Array) -> Array:
    e = E(x)
    return e / e.sum(axis=-1, keepdims=True)


SOFTMAX: dict[str, Mutation] = {
    "wrong axis": _softmax(axis=-2),
    "base 2": _softmax(base=2.0),
    "1 in the denominator": _softmax(more=1.0),
    "1e-6 in the denominator": _softmax(more=1e-6),
    "maximum not taken away": instead(_no_maximum),
    "in float16": lambda base: (
        lambda x: base(x.clip(-65504, 65504).astype(numpy.float16)).astype(x.dtype)
    ),
    "sigmoid": instead(lambda x: 1 / (1 + E(-x))),
    "temperature": before(lambda x: x * x.dtype.type(0.5)),
    "NaN for a single key": after(lambda y: y if y.shape[-1] > 1 else y * numpy.nan),
}
LOG_SOFTMAX: dict[str, Mutation] = {
    "in two steps": instead(
        lambda x: numpy.log(
            E(x - x.max(-1, keepdims=True)) / E(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)
        )
    ),
    "1e-6 in the logarithm": after(lambda y: numpy.log(E(y) + y.dtype.type(1e-6))),
    "wrong axis": lambda base: lambda x: numpy.swapaxes(base(numpy.swapaxes(x, -1, -2)), -1, -2),
    "maximum not taken away": instead(lambda x: x - numpy.log(E(x).sum(-1, keepdims=True))),
    "base 2": after(lambda y: y / y.dtype.type(math.log(2))),
    "logarithm forgotten": after(E),
}

# --- activations ----------------------------------------------------------------------------------


def _gelu_by_tanh(factor: float, cube: float) -> Function:
    return lambda x: 0.5 * x * (1 + numpy.tanh(factor * (x + cube * x * x * x)))


ROOT = math.sqrt(2 / math.pi)
ACTIVATIONS: dict[str, dict[str, Mutation]] = {
    "erf": {
        "tanh form": instead(lambda x: numpy.tanh(ROOT * math.sqrt(2) * (x + 0.0894 * x**3))),
        "1 - erf": after(lambda y: 1 - y),
        "factor 2/√π missing": after(lambda y: y * y.dtype.type(math.sqrt(math.pi) / 2)),
        "sign lost": after(numpy.abs),
        "argument over √2": before(lambda x: x / x.dtype.type(math.sqrt(2))),
        "NaN for large arguments": after(lambda y: numpy.where(numpy.abs(y) >= 1, numpy.nan, y)),
    },
    "gelu_erf": {
        "tanh form": instead(_gelu_by_tanh(ROOT, 0.044715)),
        "sigmoid form": instead(lambda x: x / (1 + E(-1.702 * x))),
        "silu": instead(lambda x: x / (1 + E(-x))),
        "relu": instead(lambda x: numpy.maximum(x, 0)),
        "√2 missing": instead(lambda x: x / (1 + E(-2 * x))),
        "half missing": after(lambda y: 2 * y),
        "identity": instead(lambda x: x),
    },
    "gelu_tanh": {
        "sigmoid form": instead(lambda x: x / (1 + E(-1.702 * x))),
        "0.44715": instead(_gelu_by_tanh(ROOT, 0.44715)),
        "√2π for √(2/π)": instead(_gelu_by_tanh(1 / math.sqrt(2 * math.pi), 0.044715)),
        "square for cube": instead(
            lambda x: 0.5 * x * (1 + numpy.tanh(ROOT * (x + 0.044715 * x * x)))
        ),
        "0.0447": instead(_gelu_by_tanh(ROOT, 0.0447)),
    },
    "relu": {
        "leaky": instead(lambda x: numpy.where(x < 0, 0.01 * x, x)),
        "at most 6": instead(lambda x: numpy.clip(x, 0, 6)),
        "absolute value": instead(numpy.abs),
        "softplus": instead(lambda x: numpy.logaddexp(x, 0)),
        "ELU": instead(lambda x: numpy.where(x < 0, numpy.expm1(x), x)),
    },
    "silu": {
        "sigmoid": instead(lambda x: 1 / (1 + E(-x))),
        "1.702": instead(lambda x: x / (1 + E(-1.702 * x))),
        "piecewise": instead(lambda x: x * numpy.clip(x / 6 + 0.5, 0, 1)),
        "overflow": instead(lambda x: x * E(x) / (1 + E(x))),
    },
    "tanh": {
        "clipped line": instead(lambda x: numpy.clip(x, -1, 1)),
        "sigmoid": instead(lambda x: 1 / (1 + E(-x))),
        "overflow": instead(lambda x: (E(x) - E(-x)) / (E(x) + E(-x))),
        "fraction": instead(lambda x: x * (27 + x * x) / (27 + 9 * x * x)),
        "softsign": instead(lambda x: x / (1 + numpy.abs(x))),
    },
}

# --- masks ----------------------------------------------------------------------------------------


def _masked(formula: Callable[[Array, Array], Array]) -> Mutation:
    return instead(formula)


MASKS: dict[str, dict[str, Mutation]] = {
    "broadcast_mask": {
        "inverted": after(lambda y: ~y),
        "laid along the queries": after(
            lambda y: numpy.swapaxes(y, -1, -2) if y.shape[-2] == 1 else y
        ),
        "all may be looked at": after(lambda y: y | True),
        "first text's for all": after(lambda y: numpy.repeat(y[:1], y.shape[0], axis=0)),
        "first query's for all": after(lambda y: y & y[:, :, :1]),
    },
    "causal_mask": {
        "itself left out": lambda base: (
            lambda queries, keys, *, like: numpy.tril(
                numpy.ones((queries, keys), bool), keys - queries - 1
            )
        ),
        "aligned at the first key": lambda base: (
            lambda queries, keys, *, like: numpy.tril(numpy.ones((queries, keys), bool))
        ),
        "inverted": after(lambda y: ~y),
        "looks ahead": after(lambda y: y[::-1, ::-1]),
        "all may be looked at": after(lambda y: y | True),
    },
    "length_mask": {
        "one more": lambda base: lambda lengths, *, places: base(lengths + 1, places=places),
        "inverted": after(lambda y: ~y),
        "from the right": after(lambda y: y[:, ::-1]),
        "the longest for all": lambda base: (
            lambda lengths, *, places: base(numpy.full_like(lengths, lengths.max()), places=places)
        ),
    },
    "attention_mask_for": {
        "never causal": given(causal=lambda x: False),
        "always causal": given(causal=lambda x: True),
        "padding ignored": lambda base: lambda x, mask, **options: base(x, mask | 1, **options),
        "either is enough": lambda base: (
            lambda x, mask, *, past, causal: (
                base(x, mask, past=past, causal=causal) | base(x, mask, past=past, causal=False)
            )
        ),
        "causal upon a mask of queries": lambda base: (
            lambda x, mask, *, past, causal: (
                base(x, mask, past=past, causal=causal)
                & (
                    numpy.tril(numpy.ones((x.shape[1], past + x.shape[1]), bool), past)
                    | (not causal)
                )
            )
        ),
    },
    "mask_scores": {
        "-10000 added": _masked(lambda s, m: numpy.where(m, s, s - s.dtype.type(1e4))),
        "-1000 instead": _masked(lambda s, m: numpy.where(m, s, s.dtype.type(-1e3))),
        "-10 added": _masked(lambda s, m: numpy.where(m, s, s - 10)),
        "-infinity": _masked(lambda s, m: numpy.where(m, s, -numpy.inf)),
        "-infinity, and 0 for empty rows": _masked(
            lambda s, m: numpy.where(m, s, numpy.where(m.any(-1, keepdims=True), -numpy.inf, s))
        ),
        "zero": _masked(lambda s, m: numpy.where(m, s, 0 * s)),
        "multiplied": _masked(lambda s, m: s * m),
        "ignored": _masked(lambda s, m: s),
        "inverted": lambda base: lambda s, m: base(s, ~m),
        "last key forgotten": lambda base: (
            lambda s, m: base(s, m | (numpy.arange(m.shape[-1]) == m.shape[-1] - 1))
        ),
        "mask of the first text": lambda base: lambda s, m: base(s, m[:1]),
    },
}

# --- heads, attention -----------------------------------------------------------------------------


def _twin(function: Callable[..., Any]) -> Mutation:
    """A change of attention that takes the right result's parts."""
    return lambda base: (
        lambda query, key, value, **options: function(base, query, key, value, **options)
    )


def _values_transposed(base: Function, query: Array, key: Array, value: Array, **o: Any) -> Any:
    square = value.shape[-1] == value.shape[-2]
    return base(query, key, numpy.swapaxes(value, -1, -2) if square else value, **o)


def _context(weights: Callable[[Any, dict[str, Any]], Array]) -> Mutation:
    """Attention whose weights are others."""

    def mutation(base: Function) -> Function:
        def attend(query: Array, key: Array, value: Array, **options: Any) -> Any:
            right = base(query, key, value, **options)
            made = weights(right, options)
            return right._replace(context=numpy.matmul(made, value), weights=made)

        return attend

    return mutation


def _off(options: dict[str, Any]) -> Array:
    head_mask = options.get("head_mask")
    return 1.0 if head_mask is None else head_mask[:, None, None]


ATTENTION: dict[str, dict[str, Mutation]] = {
    "split_heads": {
        "interleaved": lambda base: (
            lambda x, *, size: numpy.moveaxis(x.reshape(*x.shape[:2], size, -1), 3, 1)
        ),
        "not transposed": lambda base: (
            lambda x, *, size: x.reshape(x.shape[0], -1, x.shape[1], size)
        ),
        "heads reversed": after(lambda y: y[:, ::-1]),
    },
    "merge_heads": {
        "interleaved": instead(
            lambda x: numpy.moveaxis(x, 1, 3).reshape(x.shape[0], x.shape[2], -1)
        ),
        "not transposed": instead(lambda x: x.reshape(x.shape[0], x.shape[2], -1)),
        "heads reversed": before(lambda x: x[:, ::-1]),
    },
    "extend": {
        "past behind the new": lambda base: (
            lambda past, new: new if past is None else numpy.concatenate([new, past], axis=2)
        ),
        "past forgotten": lambda base: lambda past, new: new,
        "latest of the past overwritten": lambda base: (
            lambda past, new: (
                new
                if past is None
                else numpy.concatenate([past[:, :, :-1], new, new[:, :, :1]], axis=2)
            )
        ),
    },
    "scaled_dot_product_attention": {
        "no scale": given(scale=lambda x: 1.0),
        "scale twice": given(scale=lambda x: x * x),
        "scale of 2 K": given(scale=lambda x: x / math.sqrt(2)),
        "values transposed": _twin(_values_transposed),
        "mask behind the softmax": _context(
            lambda right, o: right.weights * o["mask"] if "mask" in o else right.weights
        ),
        "head_mask ignored": _context(lambda right, o: right.probs),
        "head_mask twice": _context(lambda right, o: right.weights * _off(o)),
        "position scores ignored": given(position_scores=lambda x: None),
        "zeros for empty rows": _context(
            lambda right, o: right.weights * o["mask"].any(-1, keepdims=True)
        ),
        "queries and keys exchanged": _twin(
            lambda base, q, k, v, **o: base(*((k, q) if q.shape == k.shape else (q, k)), v, **o)
        ),
        "weights not normalised": _context(
            lambda right, o: right.weights / right.probs.max(-1, keepdims=True)
        ),
    },
    "multi_head_attention": {
        "past forgotten": lambda base: (
            lambda query, key, value, *, past=None, mask, **o: base(
                query, key, value, mask=mask[..., -key.shape[1] :], **o
            )
        ),
        "keys and values of the past exchanged": given(
            past=lambda x: None if x is None else (x[1], x[0])
        ),
        "distances ignored": given(distances=lambda x: None),
        "of_key flipped": given(of_key=lambda x: not x),
        "head_mask ignored": given(head_mask=lambda x: None),
        "everything unmasked": given(mask=lambda x: x | True),
        "queries and keys exchanged": lambda base: (
            lambda query, key, value, **options: base(
                *((key, query) if query.shape == key.shape else (query, key)), value, **options
            )
        ),
        "context of the reversed heads": after(lambda y: y._replace(context=y.context[..., ::-1])),
    },
}

# --- adaptive softmax, losses ---------------------------------------------------------------------


def _adaptive(change: Callable[[Array, int], Array]) -> Mutation:
    return lambda base: (
        lambda x, head_weight, head_bias, tails: change(
            base(x, head_weight, head_bias, tails), len(tails)
        )
    )


LOSSES: dict[str, dict[str, Mutation]] = {
    "adaptive_log_softmax": {
        "clusters exchanged": lambda base: (
            lambda x, w, b, tails: (
                base(x, w, b, tails[::-1])
                if len(tails) > 1 and tails[0][0].shape == tails[1][0].shape
                else base(
                    x, numpy.concatenate([w[: -len(tails)], w[-len(tails) :][::-1]]), b, tails
                )
            )
        ),
        "no bias in the head": lambda base: lambda x, w, b, tails: base(x, w, 0 * b, tails),
        "clusters scored first": lambda base: (
            lambda x, w, b, tails: base(
                x, numpy.roll(w, len(tails), axis=0), numpy.roll(b, len(tails)), tails
            )
        ),
        "probabilities": _adaptive(lambda y, clusters: E(y)),
    },
    "negative_log_likelihood": {
        "sum": lambda base: (
            lambda p, labels, *, ignore_index: (
                base(p, labels, ignore_index=ignore_index) * (labels != ignore_index).sum()
            )
        ),
        "ignored rows count": lambda base: (
            lambda p, labels, *, ignore_index: (
                base(p, labels, ignore_index=ignore_index)
                * (labels != ignore_index).sum()
                / p.dtype.type(len(labels))
            )
        ),
        "ignored rows are class 0": lambda base: (
            lambda p, labels, *, ignore_index: base(
                p, numpy.where(labels == ignore_index, 0, labels), ignore_index=ignore_index
            )
        ),
        "sign": after(lambda y: -y),
        "0 for no rows": after(numpy.nan_to_num),
    },
    "cross_entropy": {
        "no softmax": lambda base: (
            lambda x, labels, *, ignore_index: (
                -numpy.take_along_axis(x, labels.clip(0)[:, None], axis=1).mean()
            )
        ),
        "base 2": after(lambda y: y / y.dtype.type(math.log(2))),
        "smoothed labels": lambda base: (
            lambda x, labels, *, ignore_index: (
                base(x, labels, ignore_index=ignore_index) * x.dtype.type(0.9)
            )
        ),
        "labels shifted": lambda base: (
            lambda x, labels, *, ignore_index: (
                base(x, numpy.roll(labels, 1), ignore_index=ignore_index)
                + (0 if len(labels) > 1 else 1)
            )
        ),
    },
    "mean_squared_error": {
        "half": after(lambda y: y / 2),
        "sum": lambda base: lambda x, target: base(x, target) * numpy.asarray(x).size,
        "absolute": instead(lambda x, target: numpy.abs(x - target).mean()),
        "root": after(numpy.sqrt),
    },
    "binary_cross_entropy_with_logits": {
        "naive": instead(
            lambda x, t: (
                -(t * numpy.log(1 / (1 + E(-x))) + (1 - t) * numpy.log(1 - 1 / (1 + E(-x)))).mean()
            )
        ),
        "sum": lambda base: lambda x, t: base(x, t) * numpy.asarray(x).size,
        "sigmoid twice": before(lambda x: 1 / (1 + E(-x))),
        "target ignored where 0": instead(lambda x, t: (numpy.logaddexp(0, -x) * t).mean()),
    },
}

OPERATIONS: Mapping[str, Mapping[str, Mutation]] = {
    "linear": LINEAR,
    "embedding": EMBEDDING,
    "position_ids_from_padding": FROM_PADDING,
    "position_ids_in_order": IN_ORDER,
    "sinusoidal_positions": SINES,
    "relative_position_scores": RELATIVE,
    "layer_norm": LAYER_NORM,
    "softmax": SOFTMAX,
    "softmax_float32": {"in float16": SOFTMAX["in float16"], "wrong axis": SOFTMAX["wrong axis"]},
    "log_softmax": LOG_SOFTMAX,
    **ACTIVATIONS,
    **MASKS,
    **ATTENTION,
    **LOSSES,
}

# --- steps ----------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], dict[str, Any]]


def other(**changes: Callable[[Any], Any]) -> Change:
    """Other arguments: a function of what each was; a dot in a name is written as "__"."""

    def change(arguments: dict[str, Any]) -> dict[str, Any]:
        made = {name.replace("__", "."): function for name, function in changes.items()}
        return {name: made[name](x) if name in made else x for name, x in arguments.items()}

    return change


def _zero(x: Array) -> Array:
    return 0 * x


def _last(x: Array) -> Array:
    return x[:, ::-1]


STEPS: Mapping[str, Mapping[str, Change]] = {
    "xlm_attention": {
        "head_mask ignored": other(head_mask=lambda x: 0 * x + 1),
        "one head": other(heads=lambda x: 1),
        "mask inverted": other(mask=lambda x: 1 - x),
    },
    "add_and_norm": {
        "residual missing": other(residual=_zero),
        "bias of the linear map missing": other(dense__bias=_zero),
        "eps of another model": other(eps=lambda x: 1e-3),
    },
    "feed_forward": {
        "first bias missing": other(intermediate__dense__bias=_zero),
        "norm without weight": other(output__LayerNorm__weight=lambda x: 0 * x + 1),
    },
    "pre_norm_feed_forward": {
        "norm without bias": other(LayerNorm__bias=_zero),
        "second bias missing": other(output__dense__bias=_zero),
    },
    "language_adapter": {
        "first language for all": other(lang_ids=lambda x: 0 * x),
        "residual on the other side": other(ln_before_adapter=lambda x: not x),
        "layer's norm not used": other(adapter_reuse_layer_norm=lambda x: False),
        "languages counted from the end": other(lang_ids=lambda x: 2 - x),
    },
    "roberta_embeddings": {
        "token types ignored": other(token_type_ids=_zero),
        "another padding id": other(padding_idx=lambda x: 0),
        "no positions": other(position_embeddings__weight=_zero),
    },
    "xl_embeddings": {
        "token types ignored": other(token_type_ids=_zero),
        "no positions": other(position_embeddings__weight=_zero),
    },
    "xlm_embeddings": {
        "languages ignored": other(lang_embeddings__weight=_zero),
        "padding not zeroed": other(attention_mask=lambda x: x | 1),
        "one language for a row": other(langs=lambda x: x[:, :1] + 0 * x),
    },
    "pooler": {"last token": other(hidden=_last), "bias missing": other(dense__bias=_zero)},
    "lm_head": {
        "bias missing": other(bias=_zero),
        "norm without bias": other(layer_norm__bias=_zero),
    },
    "classification_head": {
        "last token": other(hidden=_last),
        "first bias missing": other(dense__bias=_zero),
    },
    "sequence_summary": {
        "always the first": other(kind=lambda x: 0),
        "always the last": other(kind=lambda x: 1),
        "tanh always": other(activation=lambda x: True),
        "cls_index counted from the end": other(cls_index=lambda x: 3 - x),
    },
    "start_logits": {
        "p_mask ignored": other(p_mask=_zero),
        "bias missing": other(dense__bias=_zero),
    },
    "end_logits": {
        "p_mask ignored": other(p_mask=_zero),
        "start of another text": other(start_states=lambda x: x[::-1]),
    },
    "answer_class": {
        "first token for the last": other(hidden=_last),
        "start ignored": other(start_states=_zero),
    },
}
