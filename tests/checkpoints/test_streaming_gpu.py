"""``stream=True`` on a GPU: the order of the copies, played by the host; and the real thing."""

import numpy
import pytest

import refimpl
from refimpl.backend import GpuRoom, get_backend, to_numpy
from refimpl.errors import CheckpointError
from refimpl.models.model import load
from refimpl.parity.goldens import find_goldens, read_golden
from tests.checkpoints.streamed import (
    IDS,
    SMALL,
    assert_goldens_hold_in_parts,
    assert_same_run,
    sizes_of_layers,
)
from tests.compare import assert_same
from tools.sparse_checkpoint import write_sparse

# --- a GPU, played by the host --------------------------------------------------------------------


class LateArray(numpy.ndarray):
    """An array like CuPy's: what it is set to arrives when its stream is waited for."""

    def set(self, source, stream):
        assert source.flags.c_contiguous
        assert source.dtype == self.dtype
        stream.copies.append((self, source))


class Event:
    def __init__(self, stream):
        self.stream, self.after = stream, stream.done + len(stream.copies)

    def synchronize(self):
        self.stream.catch_up(self.after)


class Stream:
    def __init__(self, non_blocking):
        assert non_blocking
        self.copies, self.done, self.waited_for = [], 0, []

    def wait_event(self, event):
        assert not self.copies
        self.waited_for.append(event)

    def record(self):
        return Event(self)

    def synchronize(self):
        self.catch_up(self.done + len(self.copies))

    def catch_up(self, count):
        assert self.waited_for == ["given"]
        while self.done < count:
            target, source = self.copies.pop(0)
            target[...] = source
            self.done += 1


class LateCupy:
    """As much of CuPy as :class:`GpuRoom` uses."""

    def __init__(self):
        self.cuda = self
        self.pinned = []

    def empty(self, shape, dtype):
        return numpy.full(shape, numpy.nan, dtype).view(LateArray)

    def get_current_stream(self):
        return self

    def record(self):
        return "given"

    def Stream(self, *, non_blocking):  # noqa: N802 (CuPy's name)
        return Stream(non_blocking)

    def alloc_pinned_memory(self, size):
        self.pinned.append(bytearray(size))
        return self.pinned[-1]


class Device:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 17, 64, 67])
def test_what_goes_to_a_gpu_piece_by_piece_arrives_whole(monkeypatch, count):
    monkeypatch.setattr("refimpl.backend.PIECE", 64)  # eight numbers
    cupy, numbers = LateCupy(), numpy.arange(float(count))
    room = GpuRoom(cupy, Device(), (count,), "float64")

    def read(part, first):
        part[:] = numbers[first : first + part.size]

    room.fill(read)
    assert_same(numpy.asarray(room.array), numbers)
    assert [len(memory) for memory in cupy.pinned] == [64, 64]


def test_a_broken_read_waits_for_the_copies_before_the_memory_is_given_back(monkeypatch):
    monkeypatch.setattr("refimpl.backend.PIECE", 64)
    room = GpuRoom(LateCupy(), Device(), (3, 8), "float64")

    def read(part, first):
        if first == 16:
            raise CheckpointError("gone")
        part[:] = first

    with pytest.raises(CheckpointError, match="gone"):
        room.fill(read)
    assert_same(numpy.asarray(room.array)[:2], numpy.asarray([[0.0] * 8, [8.0] * 8]))


# --- a GPU ----------------------------------------------------------------------------------------


def there_is_a_gpu():
    try:
        get_backend("cupy")
    except (refimpl.MissingExtra, RuntimeError):
        return False
    return True


def on_a_gpu(test):
    here = there_is_a_gpu()
    return pytest.mark.gpu(
        pytest.mark.skipif(not here, reason="needs CuPy and a CUDA device")(test)
    )


@on_a_gpu
def test_every_tap_and_output_is_that_of_kept_weights():
    for folder in find_goldens():
        inputs = read_golden(folder).inputs()
        assert_same_run(folder, inputs, dtype="float64", backend="cupy")


@on_a_gpu
def test_goldens_hold_where_all_comes_in_pieces(monkeypatch):
    monkeypatch.setattr("refimpl.backend.PIECE", 64)
    assert_goldens_hold_in_parts(monkeypatch, "cupy")


@on_a_gpu
def test_calls_one_after_another_without_waiting(tmp_path):
    """Memory that a kernel still reads must not be filled anew: large layers, many calls."""
    wide = SMALL | {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 12}
    write_sparse(tmp_path, "XLMRobertaXLModel", wide, rows=5000)
    ids = numpy.arange(2, 58)[None, :].repeat(16, axis=0)
    expected = to_numpy(load(tmp_path, backend="cupy")(input_ids=ids).last_hidden_state)
    model = load(tmp_path, backend="cupy", stream=True)
    outputs = [model(input_ids=ids).last_hidden_state for _ in range(8)]
    for x in outputs:
        assert_same(to_numpy(x), expected)


@on_a_gpu
def test_device_memory_stays_near_two_layers(tmp_path):
    wide = SMALL | {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    write_sparse(tmp_path, "XLMRobertaXLForMaskedLM", wide, rows=0)
    layer, largest = sizes_of_layers(tmp_path)
    pool = get_backend("cupy").xp.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    load(tmp_path, backend="cupy", stream=True)(input_ids=IDS)
    taken = pool.total_bytes() - before  # a pool gives nothing back by itself
    print(f"\na layer {layer / 1e6:.0f} MB, of 24; device memory {taken / 1e6:.0f} MB")
    assert layer < taken < 2 * layer + largest
