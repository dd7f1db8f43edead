"""The error function, which the array API standard lacks and the exact GELU needs.

The tables below are the output of ``tools/fit_erf.py``, which says how they are fitted. Beside
each polynomial stands the largest error it leaves in erf: relative for the core, absolute for
the tail.
"""

from __future__ import annotations

from typing import NamedTuple

from refimpl.backend import Array, Namespace, namespace
from refimpl.replacing import operation


class Table(NamedTuple):
    """Two polynomials, highest power first, for one dtype; erf rounds to 1 from ``end`` on."""

    split: float
    end: float
    core: tuple[float, ...]
    tail: tuple[float, ...]


FLOAT32 = Table(
    split=0.875,
    end=4.0,
    core=(  # fitted to 2^-26.8
        -0.0006203271332196891,
        0.0050321840681135654,
        -0.026791464537382126,
        0.11282455176115036,
        -0.3761255145072937,
        0.12837915122509003,
    ),
    tail=(  # fitted to 2^-28.3
        0.00021480335271917284,
        -0.003221785882487893,
        0.02291215769946575,
        -0.10529693961143494,
        -0.6356912851333618,
        -1.128522515296936,
    ),
)
FLOAT64 = Table(
    split=0.875,
    end=6.0,
    core=(  # fitted to 2^-55.3
        1.0456791269629316e-08,
        -1.5619258244426287e-07,
        1.6387374613944892e-06,
        -1.4920942001994554e-05,
        0.00012055141077344856,
        -0.0008548321977277382,
        0.005223977542437402,
        -0.026866170637142604,
        0.1128379167091558,
        -0.3761263890318299,
        0.12837916709551256,
    ),
    tail=(  # fitted to 2^-57.0
        1.8140970047703807e-12,
        -7.903978548599749e-11,
        1.613396056203541e-09,
        -2.0494321163870913e-08,
        1.8127836119882918e-07,
        -1.181262314799102e-06,
        5.826614683843774e-06,
        -2.1812785023265343e-05,
        5.9828791559308345e-05,
        -0.00010323069109595561,
        1.3440325522794484e-05,
        0.0005589393028887036,
        -0.0016772671609311513,
        0.00020069182058625083,
        0.01913110484115393,
        -0.10277311948560736,
        -0.6366197254515935,
        -1.1283791671132875,
    ),
)


@operation
def erf(x: Array) -> Array:
    """(...) -> (...)

    Return the error function of every element, in the dtype of ``x``, to within 2 ulp.

    erf(x) = 2/√π ∫₀ˣ exp(-t²) dt, for a = |x| computed as
        a + a core(a²)           where a < split
        1 - exp(a tail(a))       elsewhere
    with the sign of x. float64 and float32 are computed in their own dtype, each with its own
    polynomials; float16 is computed in float32 and cast back.

    Raises ``TypeError`` for any other dtype.

    Source: Abramowitz & Stegun, Handbook of Mathematical Functions, 7.1.1 (the definition); the
    coefficients are our own, from tools/fit_erf.py.
    """
    xp = namespace(x)
    if x.dtype == xp.float64:
        return _erf(xp, x, FLOAT64)
    if x.dtype == xp.float32:
        return _erf(xp, x, FLOAT32)
    if hasattr(xp, "float16") and x.dtype == xp.float16:  # float16 is not in the standard
        return xp.astype(_erf(xp, xp.astype(x, xp.float32), FLOAT32), x.dtype)
    raise TypeError(f"erf: expected float64, float32 or float16, got {x.dtype}")


def _erf(xp: Namespace, x: Array, table: Table) -> Array:
    a = xp.minimum(xp.abs(x), table.end)  # both branches stay finite, used or not
    core = a + a * _horner(table.core, a * a)  # most rounding is in the small summand
    tail = 1 - xp.exp(a * _horner(table.tail, a))
    return xp.copysign(xp.where(a < table.split, core, tail), x)  # keeps -0


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    y: Array = x * coefficients[0]
    for c in coefficients[1:-1]:
        y += c
        y *= x  # in place: over a large array, fresh memory takes longer than the arithmetic
    return y + coefficients[-1]
