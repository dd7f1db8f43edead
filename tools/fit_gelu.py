"""Fit and print the coefficients of refimpl/ops/fused/gelu.py: ``python -m tools.fit_gelu``.

A minimax fit of ln(2 Φ(-z)) / z, by the Remez exchange of ``tools/fit_erf.py``, with the weight
that turns an error of the polynomial into one of Φ. The degree is the lowest that keeps it below
half an ulp of numbers below 1, and odd: of an even one the polynomial rises beyond its interval.
"""

from __future__ import annotations

from mpmath import mp, mpf

from tools.fit_erf import remez, rounded

DEGREE = 7
END = 5.5  # from here on Φ(-z) is less than half an ulp of numbers below 1
BITS = 24  # of a float32's significand


def fit() -> tuple[tuple[float, ...], mpf]:
    """Return the coefficients, highest power first, and the largest error in Φ."""
    with mp.workdps(40):
        coefficients, error = remez(
            lambda z: mp.log(mp.erfc(z / mp.sqrt(2))) / z,
            lambda z: z * mp.erfc(z / mp.sqrt(2)) / 2,
            DEGREE,
            0,
            END,
        )
        return rounded(coefficients, BITS), error


if __name__ == "__main__":
    found, error = fit()
    print(f"# fitted to 2^{mp.nstr(mp.log(error, 2), 3)}")
    for c in found:
        print(f"{c!r},")
