"""What every notebook holds to, read from its files. `python -m tools.notebooks --check` runs them.

A notebook is text (``.py``) and, beside it, the same with its output (``.ipynb``). It calls the
package and defines none of its operations; it ends with a check, exercises, and solutions that are
run.
"""

import ast
import json
import re
from pathlib import Path

import pytest

from refimpl import ops

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
CELL = re.compile(r"^# %%(?: \[(markdown)\])?\n", re.MULTILINE)


def cells_of(notebook):
    """(kind, text) of every cell of the text form."""
    _, *parts = CELL.split(notebook.read_text("utf-8"))
    kinds, texts = parts[::2], parts[1::2]
    for kind, text in zip(kinds, texts, strict=True):
        text = text.strip("\n")
        yield (
            ("markdown", re.sub(r"^# ?", "", text, flags=re.MULTILINE)) if kind else ("code", text)
        )


def code_of(notebook):
    return [text for kind, text in cells_of(notebook) if kind == "code"]


def prose_of(notebook):
    return "\n\n".join(text for kind, text in cells_of(notebook) if kind == "markdown")


def calls_in(notebook, name):
    """The calls of ``refimpl.name(...)``."""
    for node in ast.walk(ast.parse("\n".join(code_of(notebook)))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"refimpl.{name}":
            yield node


each = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def test_they_are_numbered_without_a_gap():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{i:02}" for i in range(16)]


@each
def test_the_stored_output_is_that_of_this_text(notebook):
    stored = json.loads(notebook.with_suffix(".ipynb").read_text("utf-8"))["cells"]
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in stored]
    assert found == list(cells_of(notebook))
    code = [cell for cell in stored if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert not [output for output in outputs if output.get("name") == "stderr"], "a raw warning"


@each
def test_it_defines_nothing_that_the_package_has(notebook):
    tree = ast.parse("\n".join(code_of(notebook)))
    defined = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))
    }
    assert not defined & {*ops.__all__, "attention", "gelu", "feed_forward", "layer", "encoder"}


@each
def test_it_runs_the_operations_as_they_are_written(notebook):
    for call in calls_in(notebook, "load"):
        kernels = [word.value for word in call.keywords if word.arg == "kernels"]
        assert [ast.literal_eval(value) for value in kernels] == ["plain"], ast.unparse(call)


@each
def test_it_ends_with_a_check_exercises_and_solutions(notebook):
    headings = re.findall(r"^## (.+)$", prose_of(notebook), re.MULTILINE)
    assert headings[-3:] == ["The check", "Exercises", "Solutions"]
    exercises = prose_of(notebook).split("## Exercises")[1]
    asked = re.findall(r"^(\d)\. ", exercises, re.MULTILINE)
    assert asked == [str(i + 1) for i in range(len(asked))]
    assert 3 <= len(asked) <= 5
    code = code_of(notebook)
    solved = [text[2] for text in code if re.match(r"# \d\. ", text)]
    assert solved == asked
    assert "assert " in code[-1]
    check = code[len(code) - len(solved) - 1]
    assert "assert " in check
    assert "golden" in check or "truth" in check


@each
def test_it_stands_in_the_site(notebook):
    title = prose_of(notebook).splitlines()[0]
    assert re.fullmatch(r"# \d\d · .+", title)
    assert f"notebooks/{notebook.stem}.md" in (ROOT / "mkdocs.yml").read_text("utf-8")
    assert f"(notebooks/{notebook.stem}.md)" in (ROOT / "docs/notebooks.md").read_text("utf-8")
