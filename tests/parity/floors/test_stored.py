"""Floors kept beside a golden."""

import shutil

import pytest
from safetensors.numpy import load_file, save_file

from refimpl import load
from refimpl.errors import CheckpointError
from refimpl.parity.floors import measure_floors, read_floors, write_floors
from refimpl.parity.floors.stored import FILE, value_names
from refimpl.parity.goldens import bundled, read_golden


@pytest.fixture
def golden(tmp_path):
    return read_golden(shutil.copytree(bundled() / "xlm_roberta" / "model", tmp_path / "model"))


@pytest.fixture
def measured(golden):
    model = load(golden.folder, dtype="float64", kernels="plain")
    return [measure_floors(model, golden.inputs(), how, runs=3) for how in ("float32", "bfloat16")]


def test_what_was_written_is_read(golden, measured):
    write_floors(golden, measured)
    for one in measured:
        found = read_floors(golden, one.arithmetic)
        assert (found.runs, found.multiplier) == (3, one.multiplier)
        for ours, theirs in ((found.free, one.free), (found.forced, one.forced)):
            assert list(ours) == value_names(golden)
            for name, floor in ours.items():
                # Nothing that was measured is beyond what was written, nor far below.
                assert all(
                    e <= f <= e * (1 + 2**-22) for e, f in zip(theirs[name], floor, strict=True)
                )
    assert read_floors(golden, "tf32") is None


def test_none_where_none_were_measured(golden):
    (golden.folder / FILE).unlink(missing_ok=True)
    assert read_floors(golden, "float32") is None


def test_floors_of_another_golden_are_refused(golden, measured):
    write_floors(golden, measured)
    golden.description["sha256"]["golden.safetensors"] = "0" * 64
    with pytest.raises(CheckpointError, match="was measured on another golden"):
        read_floors(golden, "float32")


def test_broken_files(golden, measured):
    write_floors(golden, measured)
    path = golden.folder / FILE
    about = {"golden": golden.description["sha256"]["golden.safetensors"], "runs": "3"}
    rows = load_file(path)
    save_file(rows, path, metadata=about)
    with pytest.raises(CheckpointError, match="expected runs and multiplier"):
        read_floors(golden, "float32")
    save_file({"float32": rows["float32"][:, 1:].copy()}, path, metadata=about)
    with pytest.raises(
        CheckpointError, match=r"float32: expected \(2, \d+, 3\), got \(2, \d+, 3\)"
    ):
        read_floors(golden, "float32")
    path.write_bytes(b"no floors")
    with pytest.raises(CheckpointError):
        read_floors(golden, "float32")
