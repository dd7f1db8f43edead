"""Fit and print the coefficient tables of refimpl/ops/erf.py.

Both polynomials of a table are minimax fits: Remez exchange on a grid of Chebyshev points, in
40 digits, with the weight that turns an error of the polynomial into an error of erf:

    core, |x| <= split:  erf(x) = x + x core(x^2)          minimise max |error of erf / erf|
    tail, x >= split:    erf(x) = 1 - exp(x tail(x))       minimise max |error of erf|

The degrees are the lowest that keep the fit below a quarter of an ulp just below 1 (2^-26 and
2^-55); the rest of the two ulps is left to rounding. From ``end`` on erf rounds to 1.

Run ``python tools/fit_erf.py`` (about a second); the output stands in erf.py as it is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

from mpmath import mp, mpf

GRID = 400  # points; many times the number of extrema of the error


class Spec(NamedTuple):
    """What is fitted for one dtype."""

    bits: int  # of the significand, to which the coefficients are rounded
    split: float
    end: float
    core_degree: int
    tail_degree: int


SPECS = {
    "FLOAT32": Spec(bits=24, split=0.875, end=4.0, core_degree=5, tail_degree=5),
    "FLOAT64": Spec(bits=53, split=0.875, end=6.0, core_degree=10, tail_degree=17),
}


def remez(
    f: Callable[[mpf], mpf], weight: Callable[[mpf], mpf], degree: int, low: float, high: float
) -> tuple[list[mpf], mpf]:
    """Return the polynomial p of least max |weight (f - p)|, highest power first, and that max."""
    middle, half = (mpf(low) + high) / 2, (mpf(high) - low) / 2
    xs = [middle - half * mp.cos(mp.pi * (2 * k + 1) / (2 * GRID)) for k in range(GRID)]
    fs, ws = [f(x) for x in xs], [weight(x) for x in xs]
    chosen = [round((GRID - 1) * k / (degree + 1)) for k in range(degree + 2)]
    while True:
        # Solve for the polynomial whose weighted error is +e, -e, +e, ... at the chosen points.
        rows = [
            [xs[i] ** n for n in range(degree, -1, -1)] + [(-1) ** k / ws[i]]
            for k, i in enumerate(chosen)
        ]
        *p, level = mp.lu_solve(mp.matrix(rows), mp.matrix([fs[i] for i in chosen]))
        errors = [w * (y - horner(p, x)) for x, y, w in zip(xs, fs, ws, strict=True)]
        extrema = alternating_extrema(errors, degree + 2)
        if extrema == chosen:
            return p, abs(level)
        chosen = extrema


def horner(coefficients: list[mpf], x: mpf) -> mpf:
    """Return the polynomial's value at x, highest power first."""
    return reduce(lambda value, coefficient: value * x + coefficient, coefficients)


def alternating_extrema(errors: list[mpf], count: int) -> list[int]:
    """Return where |error| is largest between changes of its sign, ``count`` places in all."""
    places = [0]
    for i in range(1, len(errors)):
        if (errors[i] > 0) != (errors[places[-1]] > 0):
            places.append(i)
        elif abs(errors[i]) > abs(errors[places[-1]]):
            places[-1] = i
    while len(places) > count:  # only an end may go: the signs must keep alternating
        places.pop(0 if abs(errors[places[0]]) < abs(errors[places[-1]]) else -1)
    return places


def fit_core(spec: Spec) -> tuple[list[mpf], mpf]:
    """Fit erf(x)/x - 1 as a polynomial in s = x^2; its error over erf(x)/x is relative in erf."""

    def ratio(s: mpf) -> mpf:
        return mp.erf(mp.sqrt(s)) / mp.sqrt(s)

    split = mpf(spec.split)
    return remez(lambda s: ratio(s) - 1, lambda s: 1 / ratio(s), spec.core_degree, 0, split**2)


def fit_tail(spec: Spec) -> tuple[list[mpf], mpf]:
    """Fit log(erfc(x))/x as a polynomial in x; times x erfc(x), its error is that of erf."""
    return remez(
        lambda x: mp.log(mp.erfc(x)) / x,
        lambda x: x * mp.erfc(x),
        spec.tail_degree,
        spec.split,
        spec.end,
    )


def rounded(coefficients: list[mpf], bits: int) -> tuple[float, ...]:
    """Round to ``bits`` significant bits, which a Python float holds exactly."""
    with mp.workprec(bits):
        return tuple(float(+c) for c in coefficients)


def table(name: str) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """Return the Python text of one table, and its core and tail coefficients."""
    spec = SPECS[name]
    with mp.workdps(40):
        fits = {"core": fit_core(spec), "tail": fit_tail(spec)}
    lines = [f"{name} = Table(", f"    split={spec.split},", f"    end={spec.end},"]
    for part, (coefficients, error) in fits.items():
        lines.append(f"    {part}=(  # fitted to 2^{mp.nstr(mp.log(error, 2), 3)}")
        lines += [f"        {c!r}," for c in rounded(coefficients, spec.bits)]
        lines.append("    ),")
    core, tail = (rounded(coefficients, spec.bits) for coefficients, _ in fits.values())
    return "\n".join([*lines, ")"]), core, tail


if __name__ == "__main__":
    for name in SPECS:
        print(table(name)[0])
