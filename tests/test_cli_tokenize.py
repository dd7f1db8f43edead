"""``refimpl tokenize``: what is printed, files of any size, and what is said when things fail."""

import doctest
import importlib
import json
import os
import re
import selectors
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from refimpl.cli import app
from refimpl.cli.tokenize import CHUNK, lines_of
from refimpl.tokenizers import load_tokenizer

module = importlib.import_module("refimpl.cli.tokenize")  # a function has that name too
TOY = Path(__file__).parents[1] / "golden" / "tokenizers" / "xlm_roberta"
COMMAND = [sys.executable, "-m", "refimpl", "tokenize", str(TOY)]


def run(*arguments, text=None, folder=TOY):
    """Run the command in this process, which saves a second each time."""
    done = CliRunner().invoke(app, ["tokenize", str(folder), *map(str, arguments)], input=text)
    return SimpleNamespace(stdout=done.stdout, stderr=done.stderr, returncode=done.exit_code)


@pytest.fixture(scope="module")
def tok():
    return load_tokenizer(TOY)


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(module)
    assert (failed, tried) == (0, 4)


# one text


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ([], "0 55 301 167 5 2"),
        (["--ids"], "0 55 301 167 5 2"),
        (["--tokens"], "<s> ▁The <mask> ▁river . </s>"),
        (["--engine", "explicit"], "0 55 301 167 5 2"),
        (["--lang", "sw"], "0 55 301 167 5 2"),
    ],
)
def test_one_text(options, printed):
    done = run("The <mask> river.", *options)
    assert (done.stdout, done.stderr, done.returncode) == (f"{printed}\n", "", 0)


def test_offsets_have_a_line_for_each_token():
    done = run("The lamp", "--offsets")
    assert (
        done.stdout
        == "0\t<s>\t-\t0\t0\n55\t▁The\t0\t0\t3\n115\t▁lamp\t0\t3\t8\n2\t</s>\t-\t0\t0\n\n"
    )


def test_a_pair():
    assert run("the\ta lamp", "--pair").stdout == "0 15 2 2 4 6 115 2\n"


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ([], {"input_ids": [0, 15, 2], "tokens": ["<s>", "▁the", "</s>"]}),
        (["--ids"], {"input_ids": [0, 15, 2]}),
        (["--tokens"], {"tokens": ["<s>", "▁the", "</s>"]}),
        (
            ["--ids", "--offsets"],
            {
                "input_ids": [0, 15, 2],
                "tokens": ["<s>", "▁the", "</s>"],
                "sequence_ids": [None, 0, None],
                "offset_mapping": [[0, 0], [0, 3], [0, 0]],
            },
        ),
    ],
)
def test_json(options, fields):
    assert json.loads(run("the", "--json", *options).stdout) == fields


def test_explain(tok):
    done = run("the <mask>", "--explain", "--engine", "explicit")
    assert done.stdout == f"{tok.explain('the <mask>')}\n"


def test_an_empty_text():
    assert run("").stdout == "0 2\n"


# lines

LINES = ["the river", "", "  ", "a\tb", "山 ﬁsh 🙂", "The <mask>."]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


def ids_of(stdout):
    return [[int(i) for i in line.split()] for line in stdout.removesuffix("\n").split("\n")]


def test_every_line_has_its_line(tok, file):
    expected = tok(LINES).input_ids
    assert ids_of(run("--file", file).stdout) == expected
    assert ids_of(run(text="\n".join(LINES)).stdout) == expected
    assert ids_of(run(text="\n".join(LINES) + "\n").stdout) == expected
    assert ids_of(run(text="\r\n".join(LINES) + "\r\n").stdout) == expected


def test_json_lines(tok, file):
    rows = [json.loads(line) for line in run("--file", file, "--json").stdout.splitlines()]
    assert [row["input_ids"] for row in rows] == tok(LINES).input_ids
    assert [row["tokens"] for row in rows] == [
        tok.convert_ids_to_tokens(ids) for ids in tok(LINES).input_ids
    ]


def test_pairs(tok):
    done = run("--pair", text="the\ta\n\t\nb\t\n")
    assert ids_of(done.stdout) == tok(["the", "", "b"], ["a", "", ""]).input_ids


def test_offsets_are_parted_by_empty_lines():
    blocks = run("--offsets", text="the\n\na\n").stdout.split("\n\n")
    assert [block.count("\n") + 1 for block in blocks[:-1]] == [3, 2, 4]
    assert blocks[-1] == ""


def test_no_lines():
    done = run(text="")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_lines_longer_than_a_chunk(tmp_path, size):
    path = tmp_path / "long.txt"
    path.write_bytes(b"x" * size + b"\nthe\n" + b"y" * size)
    with path.open("rb") as stream:
        lines = [line for ended in lines_of(stream) for line in ended]
    assert lines == [b"x" * size, b"the", b"y" * size]


def test_no_chunk_changes_a_line(tmp_path):
    path = tmp_path / "many.txt"
    lines = [f"{i:05} {'é山🙂' * (i % 50)}" for i in range(3000)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert path.stat().st_size > 4 * CHUNK
    with path.open("rb") as stream:
        read = [line.decode() for ended in lines_of(stream) for line in ended]
    assert read == lines


# what goes wrong


def one_line(done):
    assert done.returncode == 2
    assert done.stderr.startswith("refimpl: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "--file", "b"], "file: expected a text or --file, got both"),
        (["--file", "nowhere"], "nowhere: cannot be read (No such file or directory)"),
        (["--file", TOY], "cannot be read (Is a directory)"),
        (["a", "--engine", "fast"], "engine: expected None or one of 'library', 'explicit', got"),
        (["a", "--explain", "--json"], "explain: expected none of --pair, --offsets, --ids"),
        (["a", "--explain", "--tokens"], "explain: expected none of"),
        (["a", "--offsets", "--ids"], "offsets: expected neither --ids nor --tokens"),
        (["a", "--pair"], "text: expected two texts with a tab between them, got 1"),
        (["a\tb\tc", "--pair"], "text: expected two texts with a tab between them, got 3"),
    ],
)
def test_bad_options(arguments, said):
    done = run(*arguments)
    assert said in one_line(done)
    assert done.stdout == ""


def test_no_tokenizer(tmp_path):
    assert f"{tmp_path}: expected a tokenizer" in one_line(run("a", folder=tmp_path))


@pytest.mark.parametrize("before", [0, 1, 5000])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_line_that_is_not_utf8(tmp_path, before, form):
    path = tmp_path / "texts.txt"
    path.write_bytes("the river 山\n".encode() * before + b"a \xff\nthe\n")
    done = run("--file", path, *form)
    assert f"{path}: line {before + 1}: expected UTF-8, got 0xff at byte 2" in one_line(done)
    assert done.stdout.count("\n") == before
    for line in done.stdout.splitlines()[-3:]:
        assert (json.loads(line)["input_ids"] if form else ids_of(line)[0])[:3] == [0, 15, 167]
    assert done.stdout == "" or done.stdout.endswith("\n")


def test_a_pair_that_is_none():
    done = run("--pair", text="the\ta\nthe\n")
    assert "standard input: line 2: expected two texts with a tab" in one_line(done)
    assert ids_of(done.stdout) == [[0, 15, 2, 2, 4, 6, 2]]


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are UTF-16 there")
def test_a_text_that_is_not_utf8():
    done = subprocess.run([*COMMAND, b"a\xff"], capture_output=True, encoding="utf-8", timeout=120)
    assert "text: expected UTF-8, got 0xff at byte 1" in one_line(done)


# pipes


def start(*arguments):
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen([*COMMAND, *arguments], **streams, env=buffered)


def test_on_a_pipe_nothing_but_the_ids(file, tok):
    done = subprocess.run([*COMMAND, "--file", file], capture_output=True, timeout=120)
    assert (done.stderr, done.returncode) == (b"", 0)
    assert ids_of(done.stdout.decode()) == tok(LINES).input_ids


def answers_within(process, seconds):
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return bool(selector.select(seconds))


@pytest.mark.skipif(sys.platform == "win32", reason="selectors know no pipes there")
def test_each_line_is_answered_before_the_next_is_asked_for():
    with start() as process:
        for text, ids in (("the", b"0 15 2\n"), ("", b"0 2\n"), ("the", b"0 15 2\n")):
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()
            ready = answers_within(process, 60)
            if not ready:
                process.kill()
            assert ready
            assert process.stdout.readline() == ids
        process.stdin.close()
        assert process.stdout.read() == b""
        assert (process.wait(60), process.stderr.read()) == (0, b"")


def test_a_reader_that_leaves(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("the river\n" * 200_000)
    with start("--file", str(path)) as process:
        assert process.stdout.readline() == b"0 15 167 2\n"
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, b"")


pty = pytest.importorskip("pty") if sys.platform != "win32" else None


@pytest.mark.skipif(pty is None, reason="there are no pseudo-terminals")
@pytest.mark.parametrize(("to_file", "shown"), [(True, True), (False, False)])
def test_progress_is_shown_where_it_disturbs_nothing(tmp_path, to_file, shown):
    """On a terminal, while the ids go into a file; not between ids on the same terminal."""
    path, out = tmp_path / "texts.txt", tmp_path / "ids.txt"
    path.write_text("the river\n" * 20_000)
    master, slave = pty.openpty()
    with out.open("wb") as sink:
        process = subprocess.Popen(
            [*COMMAND, "--file", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=sink if to_file else slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        )
        os.close(slave)
        said = read_terminal(master)
        assert process.wait(60) == 0
    assert (b"tokenizing" in said) == shown
    if to_file:
        assert out.read_text() == "0 15 167 2\n" * 20_000
    else:
        assert re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\r", b"", said).count(b"0 15 167 2\n") == 20_000


def read_terminal(master):
    said = b""
    while True:
        try:
            part = os.read(master, 1 << 16)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        said += part
    os.close(master)
    return said


# memory


def peak_memory(path):
    """Return the greatest memory, in KiB, of a run over a file."""
    code = (
        "import resource, subprocess, sys; "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, *COMMAND, "--file", str(path)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=550)
    return int(done.stdout) // (1 if sys.platform == "linux" else 1024)


def write_lines(path, size):
    line = "The river is the table a e s o 山在水上\n".encode()
    path.write_bytes(line * (size // len(line)))
    return path


def growth(tmp_path, small, large):
    """Return how much more memory, in KiB, a run over the larger file needs."""
    less = peak_memory(write_lines(tmp_path / "small.txt", small))
    return peak_memory(write_lines(tmp_path / "large.txt", large)) - less


# A file held whole would take its size, and its ids some ten times that.


def test_memory_does_not_grow_with_the_file(tmp_path):
    assert growth(tmp_path, 1 << 20, 7 << 20) < 6 << 10


@pytest.mark.large
def test_memory_does_not_grow_with_a_large_file(tmp_path):
    assert growth(tmp_path, 1 << 20, 50 << 20) < 8 << 10
