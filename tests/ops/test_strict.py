"""Every operation, a row each: on the strict namespace, in every dtype, with inputs locked.

array-api-strict knows the standard's names and nothing else, and its devices refuse to meet. What
runs there in NumPy's bits uses no NumPy by accident and makes no array on the wrong device.
"""

import inspect

import numpy
import pytest

from refimpl import ops
from refimpl.backend import get_backend, to_numpy
from tests.compare import assert_same

draw = numpy.random.default_rng(0)


def real(*shape):
    return draw.standard_normal(shape)


def ids(*shape, below):
    return draw.integers(0, below, shape)


LABELS = numpy.asarray([2, -100, 0, 1, -100])
MASK = numpy.asarray([[1, 1, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0]], bool)[:, None, None, :]
QUERY_KEY_VALUE = (real(2, 3, 5, 11), real(2, 3, 7, 11), real(2, 3, 7, 11))

# Two texts of 2 and 1 tokens in a batch (2, 3), without its padding.
SEGMENTS = ops.Segments(
    (2, 3), ((1, 1), (1, 2)), numpy.asarray([5, 0, 1]), numpy.asarray([1, 2, 3, 3, 3, 0])
)

# operation -> its calls: positional arguments, keyword arguments
CALLS = {
    "adaptive_log_softmax": [
        (
            (real(13, 7), real(5, 7), real(5)),
            {"tails": [(real(3, 7), real(11, 3)), (real(2, 7), real(17, 2))]},
        )
    ],
    "attention_by_segments": [
        (
            (real(1, 3, 6), real(1, 3, 6), real(1, 3, 6)),
            {
                "segments": SEGMENTS,
                "attend": ops.multi_head_attention,
                "mask": numpy.ones((1, 1, 1, 3), bool),
                "head_size": 2,
            },
        )
    ],
    "attention_mask_for": [
        ((real(2, 5, 3), None), {"past": 2, "causal": False}),
        ((real(2, 5, 3), None), {"past": 2, "causal": True}),
        ((real(2, 5, 3), ids(2, 7, below=2)), {"past": 2, "causal": True}),
        ((real(2, 5, 3), ids(2, 5, 7, below=2)), {"past": 2, "causal": True}),
    ],
    "binary_cross_entropy_with_logits": [((real(5, 7), real(5, 7)), {})],
    "broadcast_mask": [((ids(2, 7, below=2),), {}), ((ids(2, 5, 7, below=2),), {})],
    "causal_mask": [((3, 7), {"like": real(1)})],
    "cross_entropy": [
        ((real(5, 3), LABELS), {"ignore_index": -100}),
        ((real(5, 3), numpy.full(5, -100)), {"ignore_index": -100}),
    ],
    "embedding": [((ids(2, 3, below=11), real(11, 7)), {})],
    "erf": [((real(5, 7),), {})],
    "extend": [((real(2, 3, 4, 7), real(2, 3, 5, 7)), {}), ((None, real(2, 3, 5, 7)), {})],
    "gelu_erf": [((real(5, 7),), {})],
    "gelu_tanh": [((real(5, 7),), {})],
    "layer_norm": [((real(2, 3, 7), real(7), real(7)), {"eps": 1e-5})],
    "length_mask": [((ids(5, below=8),), {"places": 7})],
    "linear": [((real(2, 3, 7), real(11, 7), real(11)), {}), ((real(7), real(5, 7)), {})],
    "log_softmax": [((real(2, 3, 7),), {})],
    "mask_scores": [((real(2, 3, 5, 7), MASK), {})],
    "mean_squared_error": [((real(5, 7), real(5, 7)), {})],
    "merge_heads": [((real(2, 3, 5, 7),), {})],
    "negative_log_likelihood": [((real(5, 3), LABELS), {"ignore_index": -100})],
    "pack": [((real(2, 3, 4), SEGMENTS), {}), ((ids(2, 3, below=9), SEGMENTS), {})],
    "position_ids_from_padding": [
        ((ids(2, 13, below=3),), {"padding_idx": 1}),
        ((ids(2, 13, below=3),), {"padding_idx": 1, "past": 5}),
    ],
    "position_ids_in_order": [
        ((real(2, 13, 3),), {"padding_idx": 1}),
        ((real(2, 13, 3),), {"padding_idx": 1, "past": 5}),
    ],
    "relative_position_scores": [
        ((real(2, 3, 5, 11), real(2, 3, 7, 11), real(13, 11)), {"of_key": of_key})
        for of_key in (False, True)
    ],
    "relu": [((real(5, 7),), {})],
    "multi_head_attention": [
        (
            (real(2, 3, 35), real(2, 5, 35), real(2, 5, 35)),
            {
                "head_size": 7,
                "mask": MASK,
                "past": (real(2, 5, 2, 7), real(2, 5, 2, 7)),
                "distances": real(15, 7),
                "of_key": True,
                "head_mask": real(5),
            },
        ),
        (
            (real(2, 3, 35), None, None),
            {"head_size": 7, "mask": MASK, "past": (real(2, 5, 7, 7), real(2, 5, 7, 7))},
        ),
    ],
    "scaled_dot_product_attention": [
        (QUERY_KEY_VALUE, {"mask": MASK, "scale": 0.3}),
        (QUERY_KEY_VALUE, {"mask": MASK, "scale": 0.3, "head_mask": real(3)}),
        (QUERY_KEY_VALUE, {"mask": MASK, "scale": 0.3, "position_scores": real(2, 3, 5, 7)}),
        (QUERY_KEY_VALUE, {"mask": MASK, "scale": 0.3, "softmax": ops.softmax_float32}),
    ],
    "silu": [((real(5, 7),), {})],
    "sinusoidal_positions": [((numpy.arange(13),), {"width": 7})],
    "softmax": [((real(2, 3, 7),), {})],
    "softmax_float32": [((real(2, 3, 7),), {})],
    "split_heads": [((real(2, 3, 35),), {"size": 7})],
    "tanh": [((real(5, 7),), {})],
    "unpack": [((real(1, 3, 4), SEGMENTS), {})],
    "tiled_attention": [
        (QUERY_KEY_VALUE, {"mask": MASK, "scale": 0.3, "tile": 3, "head_mask": real(3)}),
        (
            QUERY_KEY_VALUE,
            {"mask": MASK, "scale": 0.3, "tile": 9, "position_scores": real(2, 3, 5, 7)},
        ),
    ],
}

every_call = pytest.mark.parametrize(
    ("name", "call"),
    [
        pytest.param(name, c, id=f"{name}-{i}")
        for name, cs in CALLS.items()
        for i, c in enumerate(cs)
    ],
)
both = pytest.mark.parametrize("dtype", ["float64", "float32"])


def prepare(x, dtype, convert):
    """Return ``x`` with each array in it converted, real ones in ``dtype``."""
    if isinstance(x, (tuple, list)):
        parts = [prepare(part, dtype, convert) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    if isinstance(x, dict):
        return {key: prepare(value, dtype, convert) for key, value in x.items()}
    if not isinstance(x, numpy.ndarray):
        return x
    return convert(x.astype(dtype) if x.dtype.kind == "f" else x)


def run(name, call, dtype, convert=lambda x: x):
    """Run a call and return all its results."""
    arguments, options = prepare(call, dtype, convert)
    return flat(getattr(ops, name)(*arguments, **options))


def flat(result):
    """Return the arrays of a result, which may be tuples of arrays in one another, or None."""
    if isinstance(result, tuple):
        return sum(map(flat, result), ())
    return () if result is None else (result,)


def test_every_operation_has_a_row():
    functions = {name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
    assert set(CALLS) == functions
    assert set(ops.__all__) - functions == {
        "ACTIVATIONS",
        "Attention",
        "MultiHeadAttention",
        "Segments",
    }


@every_call
@both
@pytest.mark.parametrize("where", ["strict", "strict:device1"])
def test_the_strict_namespace_gives_the_bits_of_numpy(name, call, dtype, where):
    backend = get_backend(where)
    for strict, plain in zip(
        run(name, call, dtype, backend.asarray), run(name, call, dtype), strict=True
    ):
        assert strict.device == backend.device
        assert_same(to_numpy(strict), plain)


@every_call
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_real_numbers_come_out_in_the_dtype_they_went_in(name, call, dtype):
    taken = []
    results = run(name, call, dtype, lambda x: taken.append(x) or x)
    if any(x.dtype.kind == "f" for x in taken):
        assert {x.dtype.name for x in results if x.dtype.kind == "f"} <= {dtype}


@every_call
def test_inputs_are_not_written_to(name, call):
    taken = []

    def lock(x):
        x = x.copy()
        taken.append((x, x.tobytes()))
        x.flags.writeable = False
        return x

    run(name, call, "float64", lock)
    assert taken
    assert all(x.tobytes() == before for x, before in taken)
