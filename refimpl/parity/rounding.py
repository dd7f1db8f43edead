"""Arithmetic of fewer bits, on arrays of more: numbers rounded to what another format can hold.

A number of a narrow format is also one of float32 and float64, so a narrow format is emulated by
rounding: the results stay arrays of the dtype that came in, on any backend. All rounding is to the
nearest number, ties to the even one, as IEEE 754 has it.
"""

from __future__ import annotations

from refimpl.backend import Array, namespace

SIGNIFICANDS = {64: 53, 32: 24, 16: 11}  # bits of a dtype -> those of its significand


def round_to_bits(x: Array, bits: int) -> Array:
    """(...) -> (...)

    The nearest numbers with a significand of ``bits`` bits, the leading one included; the exponent
    is not bounded. A dtype that has no more bits than that is returned as it is, and so are numbers
    next to the dtype's largest.

    Source: Veltkamp's splitting (Dekker 1971, section 5). That ties go to the even number was tried
    out on all significands of float32.

    >>> import numpy
    >>> round_to_bits(numpy.asarray([257.0, 258.0, 259.0]), 8).tolist()
    [256.0, 258.0, 260.0]
    """
    xp = namespace(x)
    fewer = SIGNIFICANDS[xp.finfo(x.dtype).bits] - bits
    if fewer <= 0:
        return x
    small = xp.abs(x) < float(xp.finfo(x.dtype).max) / 2.0 ** (fewer + 2)  # nothing overflows
    y = xp.where(small, x, xp.zeros_like(x))
    product = y * (2.0**fewer + 1.0)
    return xp.where(small, product - (product - y), x)


def bfloat16(x: Array) -> Array:
    """(...) -> (...)

    Round as a cast to bfloat16 does: 8 bits. (Numbers below its range, 1e-38, keep their bits.)
    """
    return round_to_bits(x, 8)


def tf32(x: Array) -> Array:
    """(...) -> (...)

    Round as a tensor core does what it multiplies in TF32: 11 bits.
    """
    return round_to_bits(x, 11)


def float16(x: Array) -> Array:
    """(...) -> (...)

    Round as a cast to float16 does: 11 bits, steps of 2^-24 below 2^-14, infinity from 65520 on.

    >>> import numpy
    >>> float16(numpy.asarray([1e-12, 3e-8, 65519.0, 65520.0])).tolist()
    [0.0, 5.960464477539063e-08, 65504.0, inf]
    """
    xp = namespace(x)
    own = SIGNIFICANDS[xp.finfo(x.dtype).bits]
    if own <= 11:
        return x
    step_is_2_to_minus_24 = 1.5 * 2.0 ** (own - 25)  # so large that adding it rounds to the step
    small = xp.abs(x) < 2.0**-14
    coarse = (xp.where(small, x, xp.zeros_like(x)) + step_is_2_to_minus_24) - step_is_2_to_minus_24
    y = xp.where(small, xp.copysign(coarse, x), round_to_bits(x, 11))
    infinity = xp.copysign(xp.full_like(x, float("inf")), x)
    return xp.where(xp.abs(y) > 65504.0, infinity, y)


def int8_rows(x: Array) -> Array:
    """(O, I) -> (O, I)

    Round each row to 255 steps between plus and minus its largest element, as weights of eight
    bits are kept.
    """
    xp = namespace(x)
    step = xp.max(xp.abs(x), axis=-1, keepdims=True) / 127.0
    step = xp.where(step > 0.0, step, xp.ones_like(step))
    return xp.round(x / step) * step
