"""The documentation is executed and counted: its code, its outputs, its links, its tables.

- A ```python block runs, all of a page in one namespace, from the repository's root. What it prints
  stands in the ```text block directly behind it; ``...`` there stands for anything. A page shows
  the title "Output" above it. ``<!-- no-run -->`` above a block keeps it from being run.
- A ```console block holds ``$ refimpl ...`` lines, each followed by what the command prints. They
  are run too. Other commands (pip, python -m golden.make) stand in ```sh blocks and are not.
- A column headed "Case" or "Cases" names goldens; they exist.
"""

import ast
import contextlib
import doctest
import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

import refimpl
from refimpl import ops
from refimpl.cli import app
from refimpl.parity.goldens import case_name, find_goldens
from refimpl.tokenizers import xlm_roberta

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
GOLDENS = {
    case_name(folder): json.loads((folder / "golden.json").read_text("utf-8"))
    for folder in find_goldens(ROOT / "golden")
}


class Block(NamedTuple):
    """A fenced block of a page."""

    line: int  # of its first line of content, from 1
    info: str  # what stands behind the opening ```
    text: str
    skipped: bool  # "<!-- no-run -->" stands above it
    output: str  # the text block directly behind it


FENCE = r"^```(?P<info>.*)\n(?P<text>(?:.*\n)*?)```$"
BLOCK = re.compile(rf"(?P<skipped>^<!-- no-run -->\n+)?{FENCE}", re.MULTILINE)
OUTPUT = re.compile(rf"\n+(?=```text){FENCE}", re.MULTILINE)


def read(path):
    if not path.exists():
        pytest.skip(f"{path.name} is not there yet")
    return path.read_text(encoding="utf-8")


def blocks(text):
    found = []
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start("text")) + 1
        output = OUTPUT.match(text, block.end())
        shown = output["text"] if output else ""
        found.append(Block(line, block["info"], block["text"], bool(block["skipped"]), shown))
    assert text.count("\n```") == 2 * len(found), "a block is not closed"
    return found


def prose(text):
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def tables(text):
    """The tables of a page, each a list of rows, each a dictionary by heading."""
    for lines in re.findall(r"(?:^\|.*\|$\n?)+", prose(text), flags=re.MULTILINE):
        head, _, *rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in lines.splitlines()
        ]
        assert all(len(row) == len(head) for row in rows), f"uneven table: {head}"
        yield [dict(zip(head, row, strict=True)) for row in rows]


def table(page, *headings):
    """The rows of the one table of a page that has these headings."""
    found = [t for t in tables(read(DOCS / page)) if t and set(headings) <= set(t[0])]
    assert len(found) == 1, f"{page}: expected one table with {headings}, found {len(found)}"
    return found[0]


def code(cell):
    """What stands between backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def section(page, heading):
    """The part of a page under a heading, up to the next one of that level."""
    level = "#" * (len(heading) - len(heading.lstrip("#")))
    parts = re.split(rf"^(?={level} )", read(DOCS / page), flags=re.MULTILINE)
    return next(part for part in parts if part.startswith(heading + "\n"))


def assert_printed(page, line, printed, shown):
    printed = "".join(f"{x.rstrip()}\n" for x in printed.splitlines())
    held = doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS)
    assert held, f"{page.name}, line {line}: shows\n{shown}but prints\n{printed}"


# --- code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_runs_and_prints_what_the_page_shows(page, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = {"__name__": "__page__"}
    for block in blocks(read(page)):
        if block.info == "python" and not block.skipped:
            source = "\n" * (block.line - 1) + block.text  # tracebacks show the page's lines
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(source, str(page), "exec"), names)
            assert_printed(page, block.line, out.getvalue(), block.output)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_print_what_the_page_shows(page):
    for block in blocks(read(page)):
        if block.info == "console":
            for part in re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE)[1:]:
                line, _, shown = part.partition("\n")
                program, *arguments = shlex.split(line.removeprefix("$ "))
                assert program == "refimpl", f"{page.name}: {line}"
                done = subprocess.run(
                    [sys.executable, "-m", "refimpl", *arguments],
                    cwd=ROOT,
                    env={**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    encoding="utf-8",
                    timeout=120,
                )
                assert_printed(page, block.line, done.stdout, shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_of_a_known_kind(page):
    text = read(page)
    kinds = {"python", "console", "sh", "text", 'text title="Output"', ""}
    assert {block.info for block in blocks(text)} <= kinds
    claimed = text.count('```text title="Output"')
    assert claimed <= sum(bool(b.output) for b in blocks(text) if b.info == "python")


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_no_block_is_wider_than_the_page(page):
    lines = [line for block in blocks(read(page)) for line in block.text.splitlines()]
    assert [line for line in lines if len(line) > 84] == []


# --- names ----------------------------------------------------------------------------------------


def slug(heading):
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(read(page))):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            other = page.parent / file if file else page
            assert other.exists(), f"{page.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", prose(read(other)), flags=re.MULTILINE)
                assert anchor in map(slug, headings), f"{page.name}: {target}"


def test_every_page_is_in_the_navigation():
    navigation = read(ROOT / "mkdocs.yml")
    assert [p.name for p in DOCS.glob("*.md") if f" {p.name}\n" not in navigation] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_extras_exist(page):
    text = read(page)
    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    assert set(re.findall(r"`refimpl ([a-z][a-z-]*)", text)) <= commands
    extras = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    named = re.findall(r"(?:\.|refimpl)\[([a-z,]+)\]", text)
    assert {extra for names in named for extra in names.split(",")} <= set(extras)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_the_text_exist(page):
    paths = re.findall(r"`((?:refimpl|golden|tests|tools|docs)/[\w./-]*)`", prose(read(page)))
    assert [p for p in paths if not (ROOT / p).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_functions_named_in_tables_exist(page):
    names = [
        n for rows in tables(read(page)) for row in rows for n in code(row.get("Function", ""))
    ]
    assert [name for name in names if not hasattr(xlm_roberta, name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_cases_named_in_tables_exist(page):
    for rows in tables(read(page)):
        for row in rows:
            for name in code(row.get("Case", "") + row.get("Cases", "")):
                assert f"xlm_roberta/{name}" in GOLDENS, f"{page.name}: {name}"


def test_every_golden_is_in_both_tables():
    for page, heading in (("goldens.md", "Case"), ("coverage.md", "Cases")):
        rows = [row for rows in tables(read(DOCS / page)) for row in rows]
        named = {f"xlm_roberta/{name}" for row in rows for name in code(row.get(heading, ""))}
        assert named == set(GOLDENS), page


def test_the_api_page_has_every_public_name():
    text = read(DOCS / "api.md")
    for module, names in (("refimpl", refimpl.__all__), ("refimpl.ops", ops.__all__)):
        for name in names:
            thing = getattr(importlib.import_module(module), name)
            home = getattr(
                thing, "__module__", "refimpl.ops.activations"
            )  # of a table: ACTIVATIONS
            assert re.search(rf"^::: {home}(\.{name})?$", text, re.MULTILINE), name


# --- the house ------------------------------------------------------------------------------------


def tree(text):
    """The paths of an indented listing, two spaces for each folder."""
    folders, paths = [], []
    for line in text.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders[depth:] = [name.rstrip("/")]
        paths.append("/".join(folders) + ("/" if name.endswith("/") else ""))
    return paths


def is_only_a_docstring(path):
    return path.name == "__init__.py" and len(ast.parse(path.read_text("utf-8")).body) == 1


def test_the_tree_of_files_is_the_tree_of_files():
    listing = next(
        b for b in blocks(read(DOCS / "architecture.md")) if b.text.startswith("refimpl/")
    )
    paths = tree(listing.text)
    assert [p for p in paths if not (ROOT / p).exists()] == []
    package = [p for p in (ROOT / "refimpl").rglob("*.py") if not is_only_a_docstring(p)]
    assert [p for p in package if p.relative_to(ROOT).as_posix() not in paths] == []


def test_imports_go_down_the_floors():
    floor_of = {
        name.rstrip("/").removesuffix(".py"): number
        for number, row in enumerate(table("architecture.md", "Floor", "Imports"))
        for name in code(row["Floor"])
    }
    for path in (ROOT / "refimpl").rglob("*.py"):
        parts = path.relative_to(ROOT / "refimpl").with_suffix("").parts
        if parts == ("__init__",):
            continue  # the front door names what lies on other floors
        imports = [
            f"{node.module}.{alias.name}".removeprefix("refimpl.").partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("refimpl")
            for alias in node.names
        ]
        higher = [name for name in imports if floor_of[name] < floor_of[parts[0]]]
        assert higher == [], f"{path}: {higher} stands above it"


# --- goldens --------------------------------------------------------------------------------------


def test_the_table_of_cases_says_what_the_goldens_say():
    rows = table("goldens.md", "Case", "What it is for")
    shown = {f"xlm_roberta/{code(row['Case'])[0]}": row["What it is for"] for row in rows}
    assert shown == {name: golden["what"] for name, golden in GOLDENS.items()}


def test_the_table_of_golden_json_has_its_keys():
    rows = table("goldens.md", "Key", "Meaning")
    shown = {name for row in rows for name in code(row["Key"])}
    assert shown == {key for golden in GOLDENS.values() for key in golden}
    always = {name for row in rows for name in code(row["Key"]) if "may be missing" not in str(row)}
    assert always == set.intersection(*(set(golden) for golden in GOLDENS.values()))


def sizes_of(kind, golden, config):
    """What the letters of the tables stand for in a case."""
    ids = golden["inputs"].get("input_ids") or golden["inputs"]["inputs_embeds"]
    batch, *places = ids["shape"]
    labels = {"ForMultipleChoice": 1, "ForQuestionAnswering": 2}
    return {
        "B": batch * places[0] if kind == "ForMultipleChoice" else batch,
        "S": places[1] if kind == "ForMultipleChoice" else places[0],
        "D": config["hidden_size"],
        "F": config["intermediate_size"],
        "H": config["num_attention_heads"],
        "V": config["vocab_size"],
        "N": labels.get(kind, len(config.get("id2label", ()))),
    }


def taps_in_the_tables(golden, config):
    """The taps that goldens.md tells for a case, in order: (name, shape)."""
    kind = golden["architecture"].removeprefix("XLMRoberta")
    sizes = sizes_of(kind, golden, config)

    def rows(heading):
        for row in next(tables(section("goldens.md", heading))):
            shape = [sizes[letter] for letter in re.findall(r"\w", row["Shape"])]
            yield code(row["Tap"])[0], shape, row

    encoder = [
        ("" if kind == "Model" else "roberta.", name, shape)
        for name, shape, row in rows("### The encoder")
        if "input_ids" in golden["inputs"] or "only with input_ids" not in row["Value"]
    ]
    embeddings = [(prefix + name, shape) for prefix, name, shape in encoder if "{i}" not in name]
    layers = [
        (prefix + name.replace("{i}", str(i)), shape)
        for i in range(config["num_hidden_layers"])
        for prefix, name, shape in encoder
        if "{i}" in name
    ]
    head = [(name, shape) for name, shape, row in rows("### The heads") if row["Class"] == kind]
    return embeddings + layers + head


@pytest.mark.parametrize("name", GOLDENS)
def test_the_tables_of_taps_have_the_names_shapes_and_order_of_every_case(name):
    golden = GOLDENS[name]
    config = json.loads(read(ROOT / "golden" / name / "config.json"))
    taps = [(tap, x["shape"]) for tap, x in golden["taps"].items()]
    assert taps_in_the_tables(golden, config) == taps
