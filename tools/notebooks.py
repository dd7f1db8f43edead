"""Run the notebooks, and keep what they show.

    python -m tools.notebooks [NAME ...]     run, and write notebooks/NAME.ipynb
    python -m tools.notebooks --check        run, and compare with the .ipynb that are there

A notebook is written as text, ``notebooks/NAME.py`` (jupytext's percent format), which is what one
reviews and edits; beside it lies the executed ``.ipynb``, which is what one reads. Each runs in a
fresh kernel, in the folder ``notebooks/``, a cell for at most a minute. ``--check`` exits with 1
where a notebook fails or shows something else than what is stored: other code, other text, or a
figure whose shapes stand elsewhere. Of a cell that says ``# rounding:`` in its first line, digits
do not count: it shows errors of rounding, and another processor has others.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
SECONDS = 60  # for one cell
ROUNDING = "# rounding:"
NUMBER = re.compile(r"-?\d+\.\d+")
KEPT = ("image/svg+xml", "text/html", "text/plain")  # of an output in many forms, the first there


def run(text: Path) -> nbformat.NotebookNode:
    """Run a notebook in a fresh kernel, and return it with its output.

    Raises ``CellExecutionError`` where a cell does.
    """
    notebook = jupytext.read(text)
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"  # not drawn by lot: the file is to be the same every time
        cell.metadata = {}
    client = NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": FOLDER}})
    client.extra_arguments = ["--log-level=ERROR"]
    client.coalesce_streams = True  # what a cell prints is one text, however it came
    client.execute()
    for cell in notebook.cells:
        cell.metadata = {}  # the times of execution
        if cell.cell_type == "code":
            cell.outputs = [tidy(output) for output in cell.outputs]
    return notebook


def tidy(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Keep one form of an output, and only what is the same in every run."""
    if "data" in output:
        form = next(form for form in KEPT if form in output.data)
        output.data = {form: output.data[form]}
        output.metadata = {}
    return output


def differences(stored: nbformat.NotebookNode, fresh: nbformat.NotebookNode) -> Iterator[str]:
    """Say where a fresh run differs from what is stored."""
    if len(stored.cells) != len(fresh.cells):
        yield f"{len(stored.cells)} cells are stored, the text has {len(fresh.cells)}"
        return
    for i, (old, new) in enumerate(zip(stored.cells, fresh.cells, strict=True)):
        if (old.cell_type, old.source) != (new.cell_type, new.source):
            yield f"cell {i}: the text is another"
        elif old.cell_type == "code" and not same_outputs(old, new):
            yield f"cell {i}: shows something else: {new.source.splitlines()[-1]}"


def same_outputs(old: Any, new: Any) -> bool:
    """Whether two runs of a cell show the same; of rounding, whether they show as much."""
    alike = same_form if new.source.startswith(ROUNDING) else same_output
    return len(old.outputs) == len(new.outputs) and all(map(alike, old.outputs, new.outputs))


def same_form(old: Any, new: Any) -> bool:
    """Whether two outputs are of one kind."""
    return bool(old.output_type == new.output_type) and [*old.get("data", ())] == [
        *new.get("data", ())
    ]


def same_output(old: Any, new: Any) -> bool:
    """Whether two outputs are the same: text to the letter, drawings to a tenth of a point."""
    if "data" not in old or "data" not in new or "image/svg+xml" not in old.data:
        return bool(old == new)
    return same_drawing(old.data["image/svg+xml"], new.data.get("image/svg+xml", ""))


def same_drawing(old: str, new: str) -> bool:
    """Whether two SVG files draw the same: the same elements, at the same places.

    Another processor's last bits may move a point by less than can be seen.
    """
    apart = zip(NUMBER.findall(old), NUMBER.findall(new), strict=False)
    return NUMBER.sub("#", old) == NUMBER.sub("#", new) and all(
        abs(float(a) - float(b)) <= 0.1 for a, b in apart
    )


def handle(text: Path, check: bool) -> list[str]:
    """Run one notebook; write it, or return how it differs from what is stored."""
    try:
        fresh = run(text)
    except CellExecutionError as error:
        return [f"failed:\n{error}"]
    file = text.with_suffix(".ipynb")
    if not check:
        nbformat.write(fresh, file)
        return []
    if not file.exists():
        return ["was never run: no .ipynb"]
    return list(differences(nbformat.read(file, as_version=4), fresh))


def main() -> int:
    """Run the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="the start of a file's name: 05")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    given = parser.parse_args()
    texts = [
        text
        for text in sorted(FOLDER.glob("[0-9][0-9]_*.py"))
        if not given.names or any(text.name.startswith(name) for name in given.names)
    ]
    if not texts:
        parser.error(f"NAME: no notebook begins with {' or '.join(given.names)}")
    failed = False
    for text in texts:
        begun = time.monotonic()
        problems = handle(text, given.check)
        print(f"{text.stem}: {time.monotonic() - begun:.0f} s", *problems, sep="\n  ", flush=True)
        failed = failed or bool(problems)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
