"""A forward pass asks for no value on the host: the GPU's queue is never waited for.

While a model runs, every way by which a value gets from an array to Python raises. What needs the
host (ids in range, whose adapter, which texts are packed together) is decided before. On the strict
namespace this is checked on any machine; with CuPy the same ways are closed on its arrays, and
``cupyx.allow_synchronize`` tells of those that go through CuPy's own code.
"""

import operator
from contextlib import contextmanager, nullcontext

import numpy
import pytest

from refimpl.backend import get_backend
from refimpl.models import model as models
from refimpl.parity.goldens import case_name, find_goldens, read_golden
from refimpl.taps import record

# The ways, as far as a namespace has them.
WAYS = (
    "__bool__", "__float__", "__int__", "__index__", "__complex__", "__array__", "__buffer__",
    "__dlpack__", "__iter__", "__contains__", "item", "tolist", "get", "to_device",
)  # fmt: skip
# Their result's shape depends on values: to make it, values are asked for.
BY_VALUE = ("nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values", "repeat")
FOLDERS = find_goldens()
on_a_device = pytest.mark.backends("strict:device1")  # NumPy's arrays are on the host


class HostAskedError(AssertionError):
    """A value was asked for on the host."""


def refusing(name):
    def refuse(*args, **kwargs):
        raise HostAskedError(f"{name} in a forward pass")

    return refuse


def indexing(plain):
    """An array's ``[...]``, without a mask: what it picks out depends on values."""

    def index(self, key):
        for part in key if isinstance(key, tuple) else (key,):
            if "bool" in str(getattr(part, "dtype", "")):
                raise HostAskedError("[mask] in a forward pass")
        return plain(self, key)

    return index


@contextmanager
def nothing_to_the_host(backend):
    """Close every way from the arrays of a backend to Python while the block runs."""
    kind = backend.array_type
    with pytest.MonkeyPatch.context() as patch:
        for name in WAYS:
            if hasattr(kind, name):
                patch.setattr(kind, name, refusing(name))
        for name in BY_VALUE:
            if hasattr(backend.xp, name):
                patch.setattr(backend.xp, name, refusing(name))
        patch.setattr(kind, "__getitem__", indexing(kind.__getitem__))
        with synchronising_refused(backend):
            yield


@contextmanager
def synchronising_refused(backend):
    """What CuPy itself can tell; it warns that it cannot tell of everything."""
    if not backend.name.startswith("cupy"):
        yield
        return
    import cupyx

    with pytest.warns(UserWarning, match="allow_synchronize"), cupyx.allow_synchronize(False):
        yield


def run_watched(monkeypatch, folder, backend, dtype, around=nullcontext, **options):
    """Run a golden's call, its forward pass with every way to the host closed."""
    golden = read_golden(folder)
    model = models.load(folder, dtype=dtype, backend=backend, **options)
    with around():
        model(**golden.inputs())  # weights are brought to the device, kernels compiled
    entry, ran = models.ARCHITECTURES[model.architecture], []

    def forward(*args, **kwargs):
        ran.append(True)
        with nothing_to_the_host(model.backend):
            return entry.forward(*args, **kwargs)

    monkeypatch.setitem(models.ARCHITECTURES, model.architecture, entry._replace(forward=forward))
    with around():
        model(**golden.inputs())
    assert ran


WAYS_TO_RUN = {
    "fused": {"kernels": "fused"},
    "plain": {"kernels": "plain"},
    "packed": {"kernels": "fused", "packed": True},
}


@on_a_device
@pytest.mark.parametrize("way", WAYS_TO_RUN)
@pytest.mark.parametrize("folder", FOLDERS, ids=case_name)
def test_no_value_is_asked_for_in_a_forward_pass(monkeypatch, backend, folder, way):
    run_watched(monkeypatch, folder, backend, "float64", **WAYS_TO_RUN[way])


@on_a_device
@pytest.mark.parametrize("folder", FOLDERS, ids=case_name)
def test_nor_where_taps_are_recorded(monkeypatch, backend, folder):
    run_watched(monkeypatch, folder, backend, "float64", around=record)


# --- and what asks is found -----------------------------------------------------------------------

ASKING = [
    lambda xp, x: bool(xp.any(x > 0)),
    lambda xp, x: 1 if x[0, 0] > 0 else 2,
    lambda xp, x: float(x[0, 0]),
    lambda xp, x: range(int(xp.sum(x))),
    lambda xp, x: operator.index(xp.sum(x)),
    lambda xp, x: x[x > 0],
    lambda xp, x: xp.nonzero(x),
    lambda xp, x: numpy.asarray(x),
    lambda xp, x: max(x[0, 0], x[0, 1]),
]


@on_a_device
@pytest.mark.parametrize("asking", ASKING)
def test_what_asks_is_found(backend, asking):
    device = get_backend(backend)
    x = device.asarray([[1, 0], [0, 0]])
    with nothing_to_the_host(device), pytest.raises(HostAskedError):
        asking(device.xp, x)
    assert bool(x[0, 0] > 0)  # open again
