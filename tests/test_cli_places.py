"""Places that cannot be read or written, from a shell: one line, exit code 2, nothing harmed."""

import errno
import json
import os
import shutil
import stat
from dataclasses import replace

import numpy
import pytest
import typer
from typer.testing import CliRunner

from refimpl.cli.compare import compare
from refimpl.cli.diagnose import diagnose
from refimpl.cli.golden import golden
from refimpl.cli.program import WithProgram
from refimpl.cli.trace import export, trace
from refimpl.cli.verify import verify
from refimpl.parity.dumps import FORMATS, Dump, export_dump, read_dump
from refimpl.parity.goldens import bundled

CASE = bundled() / "xlm_roberta" / "single_token_alone"
app = typer.Typer(pretty_exceptions_enable=False)
for command in (compare, diagnose, golden, trace, export):
    app.command(command.__name__)(command)
app.command("verify", cls=WithProgram)(verify)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to stand in, with a dump that is right and things that are no dumps."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(CASE / "golden.safetensors", "good.safetensors")
    (tmp_path / "folder").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    os.mkfifo("pipe")
    for name, target in (("link", "pipe"), ("loop", "loop"), ("dangling", "nowhere")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "empty").touch()
    (tmp_path / "list.json").write_text("[]")
    return tmp_path


def refused(*arguments):
    """Run a command that cannot be run; return what it says, one line."""
    done = CliRunner().invoke(app, [str(x) for x in arguments])
    assert isinstance(done.exception, SystemExit), done.exception
    assert (done.exit_code, done.stdout) == (2, ""), (arguments, done.stdout, done.stderr)
    assert done.stderr.startswith("refimpl: "), arguments
    assert done.stderr.count("\n") == 1, arguments
    assert done.stderr[:-1].isprintable(), arguments
    return done.stderr


def contents(folder):
    """Return every name in a folder, what it is, and what a small file holds."""
    return {
        path.name: (stat.S_IFMT(path.lstat().st_mode), path.is_file() and path.read_bytes())
        for path in folder.iterdir()
    }


needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
# Three parts: two could be the hub's name of a checkpoint, which would be asked for it.
UNREADABLE = ["folder", "pipe", "link", "loop", "dangling", "empty", "list.json", "missing",
              "good.safetensors/x/y", "x" * 300, "new\nline", "n\x1b[31m", ""]  # fmt: skip


@needs_pipes
@pytest.mark.parametrize("path", UNREADABLE)
def test_what_cannot_be_read(path, place):
    before = contents(place)
    for arguments in (
        ("compare", CASE, path),
        ("compare", path or "missing", "good.safetensors"),
        ("compare", CASE, "good.safetensors", "--map", path or "missing"),
        ("diagnose", CASE, path),
        ("trace", CASE, "--inputs", path),
        ("export", path, "-o", "out", "--to", "npy"),
        ("golden", CASE, "--inputs", path, "-o", "out"),
        ("golden", "--score", path or "missing"),
        ("verify", "--ops", path),
        ("verify", path or "missing"),
    ):
        refused(*arguments)
    assert contents(place) == before


@needs_pipes
@pytest.mark.parametrize("path", ["pipe", "link", "missing/x", "good.safetensors/x", "x" * 300,
                                  "full"])  # fmt: skip
def test_what_cannot_be_written(path, place):
    """A pipe or a device that is there stays: /dev/null must not become a file."""
    before = contents(place)
    for form in FORMATS:
        refused("export", "good.safetensors", "-o", path, "--to", form)
    refused("golden", "--ops", "-o", path)
    refused("golden", CASE, "--ids", "0,2", "-o", path, "--runs", "1")
    for option in ("--report", "--junit"):
        refused("compare", CASE, "good.safetensors", option, path)
    assert contents(place) == before


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@needs_pipes
@pytest.mark.parametrize("form", FORMATS)
def test_a_disk_that_is_full_holds_nothing_of_it(form, place, monkeypatch):
    before = contents(place)
    for step in ("os.fsync", "pathlib.Path.write_bytes", "zipfile.ZipFile.open"):
        monkeypatch.setattr(step, no_room)
    said = refused("export", "good.safetensors", "-o", "out", "--to", form)
    assert "cannot be written: No space left on device" in said
    assert contents(place) == before


@needs_pipes
@pytest.mark.parametrize("form", FORMATS)
def test_what_fails_at_the_end_leaves_nothing(form, place, monkeypatch):
    before, dump = contents(place), read_dump("good.safetensors")
    for step in ("replace", "rename"):
        monkeypatch.setattr(f"pathlib.Path.{step}", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_dump(dump, "out", form)
    assert contents(place) == before


# --- goldens and dumps that say odd things of themselves ------------------------------------------

JUNK = [None, 7, "../x", [None], {}, {"a": 1}]
KEYS = ["format", "architecture", "made_by", "goldens", "flags", "inputs", "taps", "outputs",
        "sha256", "texts"]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_golden_that_says_odd_things(key, tmp_path):
    """A report, where it can be done without, or one line that names the file."""
    case = shutil.copytree(CASE, tmp_path / "case")
    described = json.loads((case / "golden.json").read_text())
    for value in (..., *JUNK):
        kept = {k: x for k, x in described.items() if k != key}
        odd = kept if value is ... else {**kept, key: value}
        (case / "golden.json").write_text(json.dumps(odd))
        for arguments in (("trace", case), ("verify", case, "--dtype", "float64")):
            done = CliRunner().invoke(app, [str(x) for x in arguments])
            assert isinstance(done.exception, SystemExit | None), (value, done.exception)
            if done.exit_code == 2:
                said = done.stderr if arguments[0] == "trace" else done.stdout + done.stderr
                assert "golden" in said or "architecture" in said, (value, said)
                assert "object is not" not in said, (value, said)


@pytest.mark.parametrize("flags", JUNK)
def test_switches_that_are_none_are_left_out(flags, tmp_path):
    good = read_dump(CASE)
    assert replace(good, about={"flags": flags}).flags == {}
    export_dump(replace(good, about={**good.about, "flags": flags}), tmp_path / "x.npz", "npz")
    done = CliRunner().invoke(app, ["compare", str(CASE), str(tmp_path / "x.npz")])
    assert done.exit_code == 0, done.stderr


def test_switches_of_a_call():
    told = {"output_attentions": True, "use_cache": 1}
    assert Dump({"x": numpy.ones(1)}, about={"flags": told}).flags == {"output_attentions": True}
