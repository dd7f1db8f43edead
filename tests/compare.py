"""The two ways in which tests of the arithmetic compare arrays: bit for bit, or in counted ulps.

An ulp is the distance from a number to the next one of its dtype. A bound in ulps is a count of
roundings, and the test that states it says which: a rounding errs by half an ulp, and by at most
one where it is carried on to a result that lies further below the next power of two. What a
library's function adds is counted as its own tests allow (NumPy: exp 1 ulp in float64 and 3 in
float32, tanh 2), each ulp as two roundings. There is no third way, and no tolerance.
"""

import numpy
from mpmath import mp, mpf

from refimpl.backend import to_numpy


def assert_same(actual, expected):
    """Shape, dtype and every value are the same, the signs of zeros too; NaN equals NaN."""
    actual, expected = to_numpy(actual), to_numpy(expected)
    numpy.testing.assert_array_equal(actual, expected, strict=True)
    if actual.dtype.kind == "f":
        zeros = actual == 0
        numpy.testing.assert_array_equal(
            numpy.signbit(actual[zeros]), numpy.signbit(expected[zeros])
        )


def ulp_distance(actual, expected, of=0.0):
    """Return |actual - expected| in ulps of ``expected``, or of ``of`` where that is larger."""
    size = numpy.maximum(numpy.abs(expected), numpy.asarray(of, expected.dtype))
    return numpy.abs(numpy.float64(actual) - numpy.float64(expected)) / numpy.spacing(size)


def assert_ulps(actual, expected, *, ulps, of=0.0):
    """Shape and dtype are the same, all is finite, no value is more than ``ulps`` ulps away.

    ``of`` is the size of the terms of a sum, which may cancel: its roundings are ulps of them,
    not of what is left.
    """
    actual, expected = to_numpy(actual), to_numpy(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    assert numpy.isfinite(actual).all()
    distance = ulp_distance(actual, expected, of)
    worst = numpy.unravel_index(numpy.argmax(distance), distance.shape)
    assert distance[worst] <= ulps, (
        f"{distance[worst]:.2f} ulps at {worst}: "
        f"got {actual[worst]!r}, expected {expected[worst]!r}"
    )


def exactly(function, x):
    """Return ``function`` of every element, computed by mpmath to 40 digits, rounded once."""
    with mp.workdps(40):
        values = [float(function(mpf(float(v)))) for v in x.ravel()]
    return numpy.asarray(values, x.dtype).reshape(x.shape)
