"""``refimpl verify -- PROGRAM``: a program is run on goldens, and what it leaves is judged."""

import json
import os
import sys
import textwrap
import time

import pytest
import typer
from typer.testing import CliRunner

from refimpl.cli.program import WithProgram
from refimpl.cli.verify import verify
from refimpl.parity.foreign import ForeignReport, find_dump, run_cases, run_program
from refimpl.parity.goldens import bundled

CASE = bundled() / "xlm_roberta" / "single_token_alone"
OTHER = bundled() / "xlm_roberta" / "pad_token_id"

# A port that is right: it dumps what the golden says, in float32.
RIGHT = """
import os, sys, numpy
from pathlib import Path
from safetensors.numpy import load_file, save_file

def port(case, out):
    truth = load_file(Path(case) / "golden.safetensors")
    found = {name: x.astype("float32") if x.dtype == "float64" else x for name, x in truth.items()}
    save_file(found, str(out))
"""


@pytest.fixture
def program(tmp_path):
    """A function that writes a program and returns how to call it."""

    def write(text, *arguments):
        path = tmp_path / "port.py"
        path.write_text(textwrap.dedent(RIGHT) + textwrap.dedent(text), encoding="utf-8")
        return [sys.executable, str(path), *arguments]

    return write


def only(command, **options):
    (run,) = run_cases(command, [CASE], **{"runs": 1, **options})
    return run


# --- what a program is told, and what it leaves ---------------------------------------------------


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("port(sys.argv[1], sys.argv[2] + '.safetensors')", ["{case}", "{out}"]),
        ("port(os.environ['REFIMPL_CASE'], os.environ['REFIMPL_OUT'])", []),
        ("port(*(x.partition('=')[2] for x in sys.argv[1:]))", ["case={case}", "--out={out}"]),
    ],
)
def test_a_right_port_holds(program, text, arguments):
    run = only(program(text, *arguments))
    assert (run.status, run.error) == ("held", "")
    assert run.name == "xlm_roberta/single_token_alone"
    assert run.report.arithmetic == "float32"


def test_an_archive_of_numpy_will_do(program):
    run = only(program("numpy.savez(sys.argv[1], **{'logits.x': numpy.zeros(2)})", "{out}"))
    assert run.status == "error"  # read, and nothing in it is known
    assert run.sentence.startswith("nothing was compared")


WRONG = """
def wrong(case, out):
    truth = load_file(Path(case) / "golden.safetensors")
    found = {name: x.astype("float32") if x.dtype == "float64" else x for name, x in truth.items()}
    name = next(name for name in found if name.endswith("LayerNorm"))
    found[name] = found[name] * numpy.float32(1.01)
    save_file(found, str(out))
wrong(sys.argv[1], sys.argv[2])
"""


def test_a_wrong_port_parts(program):
    run = only(program(WRONG, "{case}", "{out}"))
    assert run.status == "DIFF"
    assert ForeignReport((run,)).exit_code == 1
    assert run.report.first.name.endswith("embeddings.LayerNorm")
    assert "first parts at" in run.sentence


def test_other_tokens_are_noticed_before_numbers(program):
    run = only(
        program(
            """
            truth = load_file(Path(sys.argv[1]) / "golden.safetensors")
            truth["input.input_ids"] = truth["input.input_ids"] + 1
            save_file(truth, sys.argv[2])
            """,
            "{case}",
            "{out}",
        )
    )
    assert run.status == "DIFF"
    assert run.sentence.startswith("the inputs part at input_ids")


@pytest.mark.parametrize(
    ("text", "error", "printed"),
    [
        ("sys.exit(3)", "the program: exit code 3", ""),
        ("print('so far'); raise ValueError('no such layer')", "the program: exit code 1",
         "ValueError: no such layer"),
        ("print('nothing to do')",
         "the program left no dump at {out}: expected one, got nothing", "nothing to do"),
        ("Path(sys.argv[1]).write_bytes(b'hello, this is no dump')",
         "dump: expected a dump (safetensors,", ""),
        ("Path(sys.argv[1] + '.safetensors').write_bytes(b'x' * 100)", "dump.safetensors: ", ""),
        ("Path(sys.argv[1] + '.a').touch(); Path(sys.argv[1] + '.b').touch()",
         "the program left no dump at {out}: expected one, got dump.a, dump.b", ""),
        ("os.kill(os.getpid(), 9)", "the program: exit code -9", ""),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_told(program, text, error, printed):
    run = only(program(text, "{out}"))
    assert run.status == "error"
    assert run.error.startswith(error)
    assert printed in run.printed
    assert "Traceback" not in run.error


def test_a_program_that_hangs_is_stopped_and_so_is_what_it_started(tmp_path):
    beats = tmp_path / "beats"
    child = f"""
import time
while True:
    with open({str(beats)!r}, "a") as file:
        file.write(".")
    time.sleep(0.02)
"""
    parent = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-S", "-c", {child!r}])
print("waiting", flush=True)
time.sleep(600)
"""
    run = only([sys.executable, "-S", "-c", parent], timeout=3.0)
    assert (run.status, run.error) == ("error", "the program was stopped, it took too long")
    assert run.printed == "waiting"
    size = beats.stat().st_size
    time.sleep(0.3)
    assert beats.stat().st_size == size


def test_only_the_end_of_much_output_is_kept(program):
    run = only(program("print('x' * 100_000); print('the end'); sys.exit(1)"))
    assert len(run.printed) <= 4000
    assert run.printed.endswith("the end")


def test_no_shell_is_involved(program, tmp_path):
    text = "import json; print(json.dumps(sys.argv[1:])); sys.exit(1)"
    run = only(program(text, "$HOME", "a b", f"; touch {tmp_path}/x", "*"))
    assert json.loads(run.printed) == ["$HOME", "a b", f"; touch {tmp_path}/x", "*"]
    assert not (tmp_path / "x").exists()


def test_a_program_that_does_not_exist():
    with pytest.raises(ValueError, match=r"^no-such-program: cannot be started: No such file"):
        only(["no-such-program"])


def test_no_program_and_no_time():
    with pytest.raises(ValueError, match=r"^expected a program behind --$"):
        list(run_cases([], [CASE]))
    with pytest.raises(ValueError, match=r"^timeout: expected more than 0 seconds, got 0$"):
        only(["true"], timeout=0)


def test_once_for_all(program):
    command = program(
        """
        for case in Path(sys.argv[1]).read_text().split():
            family, name = Path(case).parts[-2:]
            if name != "pad_token_id":
                port(case, Path(sys.argv[2]) / family / f"{name}.safetensors")
        """,
        "{cases}",
        "{out}",
    )
    first, second = run_cases(command, [CASE, OTHER], once=True, runs=1)
    assert (first.name, first.status) == ("xlm_roberta/single_token_alone", "held")
    assert (second.name, second.status) == ("xlm_roberta/pad_token_id", "error")
    assert "left no dump" in second.error


def test_a_folder_is_a_dump_too(tmp_path):
    (tmp_path / "dump").mkdir()
    assert find_dump(tmp_path / "dump") == tmp_path / "dump"


def test_the_environment_is_handed_on(tmp_path):
    code = "import os; print(os.environ['PATH'] + os.environ['REFIMPL_CASE'])"
    done = run_program([sys.executable, "-c", code], {"case": tmp_path}, 30.0)
    assert done.printed == os.environ["PATH"] + str(tmp_path)


# --- the command ----------------------------------------------------------------------------------


def verify_with(*words):
    app = typer.Typer()
    app.command("verify", cls=WithProgram)(verify)
    return CliRunner().invoke(app, list(map(str, words)))


def test_exit_codes_and_what_is_printed(program):
    right = program("port(sys.argv[1], sys.argv[2])", "{case}", "{out}")
    done = verify_with(CASE, "--", *right)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("held  xlm_roberta/single_token_alone")
    assert "1 cases: 1 held" in done.output

    done = verify_with(CASE, "--", *program("raise ValueError('no such layer')"))
    assert done.exit_code == 2
    assert "| ValueError: no such layer" in done.output


def test_json(program):
    command = program("port(sys.argv[1], sys.argv[2])", "{case}", "{out}")
    done = verify_with("--family", "xmod", "--limit", 1, "--json", "--", *command)
    found = json.loads(done.output)
    assert found["exit_code"] == 0
    (case,) = found["cases"]
    assert case["name"].startswith("xmod/")
    assert case["report"]["exit_code"] == 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--family", "bert", "--", "true"],
         "family: expected one of xlm, xlm_roberta, xlm_roberta_xl, xmod, got 'bert'"),
        (["--limit", "0", "--", "true"], "limit: expected 1 or more, got 0"),
        (["--family", "xmod"], "--family: expected a program behind -- beside it"),
        (["--timeout", "3"], "--timeout: expected a program behind -- beside it"),
        (["--", ], "expected a program behind --"),
        (["--ops", "x", "--", "true"], "expected --ops or a program, got both"),
        (["--checkpoint", "x", "--", "true"], "expected --checkpoint or a program, got both"),
        ([CASE, "--ops", "x"], "expected goldens or --ops, got both"),
        (["--", "no-such-program"],
         "no-such-program: cannot be started: No such file or directory"),
    ],
)  # fmt: skip
def test_errors_are_one_line(words, error):
    done = verify_with(*words)
    assert done.exit_code == 2
    assert done.output.splitlines() == [f"refimpl: {error}"]
