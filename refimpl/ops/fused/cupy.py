"""Twins of the operations for CuPy's arrays: fewer kernels, and float32 inside 16-bit numbers.

A GPU computes faster than it reads and writes memory, so what a twin saves are passes over
memory: an activation, a layer norm, a softmax is one kernel each (``kernels.cu``), and attention
two products with one kernel between them. Each twin has the signature of the plain operation, gives
its result in the dtype of its input, writes into no array that it was given, and asks for no value
on the host. For arrays that the kernels are not written for, it is the plain operation.

Numbers of 16 bits (float16, bfloat16) are computed in float32 and rounded once, at the end; a
product of matrices sums in float32. float32 and float64 are computed in themselves.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import cupy

from refimpl.backend import Array
from refimpl.ops import norms
from refimpl.ops.attention import Attention
from refimpl.replacing import plain

# The dtypes that the kernels are written for: STORED and COMPUTED of kernels.cu.
TYPES = {
    "float64": ("double", "double"),
    "float32": ("float", "float"),
    "float16": ("__half", "float"),
    "bfloat16": ("__nv_bfloat16", "float"),
}
LOWEST = {
    "double": -(2.0**1023),
    "float": -(2.0**127),
}  # half the lowest, as ops.mask_scores has it

THREADS = 256  # of a block, for elementwise kernels and for rows of one warp
WARP = 32
BLOCKS = 4096  # at most: more than any GPU runs at a time; a thread takes several elements
SHARE = 8  # elements of a row for each thread, up to the largest block


# --- one kernel -----------------------------------------------------------------------------------


@cache
def kernel(name: str, dtype: str) -> Any:
    """Return a kernel of ``kernels.cu`` for a dtype. It is compiled when it is first launched."""
    return _module(dtype).get_function(name)


@cache
def _module(dtype: str) -> Any:
    source = Path(__file__).with_name("kernels.cu").read_text(encoding="utf-8")
    return cupy.RawModule(code=source, options=options(dtype))


def options(dtype: str) -> tuple[str, ...]:
    """Return what the compiler is told of a dtype."""
    stored, computed = TYPES[dtype]
    return (f"-DSTORED={stored}", f"-DCOMPUTED={computed}")


def covers(*arrays: Any) -> bool:
    """Tell whether the kernels are written for arrays: CuPy's, not empty, of one dtype they know.

    None stands for an array that there is not.
    """
    found = [x for x in arrays if x is not None]
    return all(
        isinstance(x, cupy.ndarray) and x.size > 0 and x.dtype == found[0].dtype for x in found
    ) and str(found[0].dtype) in TYPES  # fmt: skip


def elementwise(name: str, operation: str, x: Array) -> Array:
    """(...) -> (...)

    Run the kernel ``name`` over every element, in the place of the plain ``operation``.
    """
    if not covers(x):
        return plain(operation)(x)
    to = cupy.empty(x.shape, x.dtype)
    blocks = min(-(-x.size // THREADS), BLOCKS)
    kernel(name, str(x.dtype))((blocks,), (THREADS,), (cupy.ascontiguousarray(x), to, x.size))
    return to


def over_rows(rows: int, width: int) -> tuple[tuple[int], tuple[int, int]]:
    """Return how many blocks run over rows, and the threads of a block: along a row, and rows."""
    warps = 1
    while warps < WARP and warps * WARP * SHARE < width:
        warps *= 2
    together = THREADS // WARP if warps == 1 else 1
    return (-(-rows // together),), (warps * WARP, together)


def rowwise(name: str, operation: str, x: Array) -> Array:
    """(..., N) -> (..., N)

    Run the kernel ``name`` over every row, in the place of the plain ``operation``.
    """
    if not covers(x):
        return plain(operation)(x)
    to = cupy.empty(x.shape, x.dtype)
    width = x.shape[-1]
    rows = x.size // width
    blocks, threads = over_rows(rows, width)
    kernel(name, str(x.dtype))(blocks, threads, (cupy.ascontiguousarray(x), to, rows, width))
    return to


# --- the twins ------------------------------------------------------------------------------------


def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
    """(..., D), (D), (D) -> (..., D)

    :func:`refimpl.ops.layer_norm` in one kernel. The sums of a row are taken pairwise across its
    threads, in the same order in every run.
    """
    if not covers(x, weight, bias):
        return plain("layer_norm")(x, weight, bias, eps=eps)
    to = cupy.empty(x.shape, x.dtype)
    width = x.shape[-1]
    rows = x.size // width
    blocks, threads = over_rows(rows, width)
    given = [cupy.ascontiguousarray(array) for array in (x, weight, bias)]
    kernel("layer_norm", str(x.dtype))(blocks, threads, (*given, to, rows, width, float(eps)))
    return to


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """(..., I), (O, I), (O) -> (..., O)

    :func:`refimpl.ops.linear`, the bias added where the product lies. Of a streamed matrix
    (:class:`refimpl.backend.Table`) the plain operation takes one block after another.
    """
    if not covers(x, weight, bias):
        return plain("linear")(x, weight, bias)
    y = cupy.matmul(x.reshape(-1, x.shape[-1]), weight.T)
    if bias is not None:
        cupy.add(y, bias, out=y)
    return y.reshape(*x.shape[:-1], weight.shape[0])


def scaled_dot_product_attention(
    wanted: bool,
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Array,
    scale: float,
    position_scores: Array | None = None,
    head_mask: Array | None = None,
    softmax: Callable[[Array], Array] = norms.softmax,
) -> Attention:
    """(B, H, S, K), (B, H, T, K), (B, H, T, K) -> (B, H, S, K)

    :func:`refimpl.ops.scaled_dot_product_attention`: a product of all heads, a kernel that scales,
    masks and normalises the scores where they lie, a product. The mask is read as it was given,
    broadcast by strides. ``wanted`` tells whether scores, probs and weights are to be returned
    too; else they are None.
    """
    given = (query, key, value, position_scores, head_mask)
    of_heads = {x.shape[:2] for x in (query, key, value)}
    known = softmax in (norms.softmax, norms.softmax_float32)
    if not (known and covers(*given) and isinstance(mask, cupy.ndarray) and len(of_heads) == 1):
        result: Attention = plain("scaled_dot_product_attention")(
            query, key, value, mask=mask, scale=scale, position_scores=position_scores,
            head_mask=head_mask, softmax=softmax,
        )  # fmt: skip
        return result
    scores = products(query, key, transposed=True, scale=scale, onto=position_scores)
    if not wanted:
        return Attention(products(normalise(scores, mask, head_mask), value), None, None, None)
    probs = normalise(scores.copy(), mask, None)
    weights = probs if head_mask is None else probs * head_mask[:, None, None]
    return Attention(products(weights, value), weights, probs, scores)


def normalise(scores: Array, mask: Array, head_mask: Array | None) -> Array:
    """(B, H, S, T), mask (B, 1, 1, T) -> (B, H, S, T)

    Make scaled scores the weights of attention, where they lie: the mask, the softmax, the head
    mask.
    """
    _, heads, queries, keys = scores.shape
    rows = scores.size // keys
    blocks, threads = over_rows(rows, keys)
    strides = cupy.broadcast_to(mask, scores.shape).strides  # in bytes, and a boolean is one
    kept = None if head_mask is None else cupy.ascontiguousarray(head_mask)
    dtype = str(scores.dtype)
    lowest = LOWEST[TYPES[dtype][1]]
    kernel("attention_weights", dtype)(
        blocks, threads, (scores, kept, mask, *strides, rows, heads, queries, keys, lowest)
    )
    return scores


# --- products of many matrices --------------------------------------------------------------------


def products(
    a: Array, b: Array, *, transposed: bool = False, scale: float = 1.0, onto: Array | None = None
) -> Array:
    """(B, H, S, K), (B, H, K, T) -> (B, H, S, T)

    scale (a b) for every head, or scale (a bᵀ) of ``transposed`` b (B, H, T, K), or either with
    ``onto`` (B, H, S, T) added before it is scaled. Numbers of 16 bits are summed, and scaled, in
    float32.

    cuBLAS is called as CuPy's matmul calls it for float32, but matmul (CuPy 14.2) copies a
    transposed operand, takes float16 to float32 and back, and fails for bfloat16.
    """
    a, b = cupy.ascontiguousarray(a), cupy.ascontiguousarray(b)
    *heads, rows, inner = a.shape
    columns = b.shape[-2] if transposed else b.shape[-1]
    c = cupy.empty((*heads, rows, columns), a.dtype)
    if onto is not None:
        c[...] = onto
    kind, compute, number = arithmetic(str(a.dtype))
    # On the host, as cuBLAS expects them; where beta is 0 it does not read c.
    alpha, beta = number(scale), number(0.0 if onto is None else scale)
    # cuBLAS reads columns where we have rows: to it our c is cᵀ = bᵀ aᵀ.
    cupy.cuda.cublas.gemmStridedBatchedEx(
        cupy.cuda.device.get_cublas_handle(),
        int(transposed), 0, columns, rows, inner,
        ctypes.addressof(alpha),
        b.data.ptr, kind, b.shape[-1], b.shape[-2] * b.shape[-1],
        a.data.ptr, kind, inner, rows * inner,
        ctypes.addressof(beta),
        c.data.ptr, kind, columns, rows * columns,
        c.size // (rows * columns), compute, cupy.cuda.cublas.CUBLAS_GEMM_DEFAULT,
    )  # fmt: skip
    return c


def arithmetic(dtype: str) -> tuple[int, int, type]:
    """Return what cuBLAS calls a dtype, how it is to compute, and the C type of its factors.

    TF32 where CuPy itself takes it: with CUPY_TF32=1 in the environment.
    """
    runtime, cublas = cupy.cuda.runtime, cupy.cuda.cublas
    if dtype == "float64":
        return runtime.CUDA_R_64F, cublas.CUBLAS_COMPUTE_64F, ctypes.c_double
    if dtype == "float32":
        linalg = cupy._core._routines_linalg
        tf32 = linalg.get_compute_type(cupy.float32) == linalg.COMPUTE_TYPE_TF32
        way = cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else cublas.CUBLAS_COMPUTE_32F
        return runtime.CUDA_R_32F, way, ctypes.c_float
    kind = runtime.CUDA_R_16F if dtype == "float16" else runtime.CUDA_R_16BF
    return kind, cublas.CUBLAS_COMPUTE_32F, ctypes.c_float


# --- the table ------------------------------------------------------------------------------------

TWINS: Mapping[str, Callable[..., Any]] = {
    "erf": partial(elementwise, "erf_of", "erf"),
    "gelu_erf": partial(elementwise, "gelu_erf", "gelu_erf"),
    "gelu_tanh": partial(elementwise, "gelu_tanh", "gelu_tanh"),
    "silu": partial(elementwise, "silu", "silu"),
    "softmax": partial(rowwise, "softmax", "softmax"),
    "softmax_float32": partial(rowwise, "softmax", "softmax_float32"),
    "log_softmax": partial(rowwise, "log_softmax", "log_softmax"),
    "layer_norm": layer_norm,
    "linear": linear,
}


def twins(attention_wanted: bool) -> Mapping[str, Callable[..., Any]]:
    """Return the twins by the names of their operations.

    ``attention_wanted`` tells whether somebody wants the scores and weights of attention.
    """
    attention = partial(scaled_dot_product_attention, attention_wanted)
    return {**TWINS, "scaled_dot_product_attention": attention}
