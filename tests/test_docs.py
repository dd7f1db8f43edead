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
import dataclasses
import doctest
import importlib
import io
import json
import math
import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors.numpy import load_file

import refimpl
from refimpl import ops
from refimpl.cli import app
from refimpl.models.model import ARCHITECTURES
from refimpl.parity.goldens import case_name, find_goldens
from refimpl.tokenizers.xlm_roberta import tokenizer as xlm_roberta

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
GOLDENS = {
    case_name(folder): json.loads((folder / "golden.json").read_text("utf-8"))
    for folder in find_goldens(ROOT / "golden")
}


class Family(NamedTuple):
    """How the pages call a family."""

    title: str  # the heading of its tables
    prefix: str  # of its classes
    base: str  # of its encoder's tensors, in a class with a head


FAMILIES = {
    "xlm": Family("XLM", "XLM", "transformer"),
    "xlm_roberta": Family("XLM-RoBERTa", "XLMRoberta", "roberta"),
    "xlm_roberta_xl": Family("XLM-RoBERTa-XL", "XLMRobertaXL", "roberta"),
    "xmod": Family("X-MOD", "Xmod", "roberta"),
}


def of_family(family):
    """The goldens of a family, by name."""
    return {name: x for name, x in GOLDENS.items() if name.partition("/")[0] == family}


def config_of(case):
    return json.loads(read(ROOT / "golden" / case / "config.json"))


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


def run_refimpl(arguments):
    return subprocess.run(
        [sys.executable, "-m", "refimpl", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_print_what_the_page_shows(page):
    for block in blocks(read(page)):
        if block.info == "console":
            for part in re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE)[1:]:
                line, _, shown = part.partition("\n")
                program, *arguments = shlex.split(line.removeprefix("$ "))
                assert program == "refimpl", f"{page.name}: {line}"
                assert_printed(page, block.line, run_refimpl(arguments).stdout, shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_of_a_known_kind(page):
    text = read(page)
    kinds = {"python", "console", "sh", "text", 'text title="Output"', "", "cpp", "rust", "js"}
    assert {block.info for block in blocks(text)} <= kinds
    claimed = text.count('```text title="Output"')
    assert claimed <= sum(bool(b.output) for b in blocks(text) if b.info == "python")


@pytest.mark.parametrize("page", PAGES[2:], ids=lambda page: page.name)
def test_no_block_is_wider_than_the_page(page):
    lines = [line for block in blocks(read(page)) for line in block.text.splitlines()]
    assert [line for line in lines if len(line) > 84] == []


# --- names ----------------------------------------------------------------------------------------


def slug(heading):
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def source_of(path):
    """The file that a page of the site is made of: a notebook's is the executed notebook."""
    if path.parent == DOCS / "notebooks":
        return ROOT / "notebooks" / path.with_suffix(".ipynb").name
    return path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(read(page))):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            other = source_of(page.parent / file) if file else page
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
    folders = "refimpl|golden|tests|tools|docs|notebooks"
    paths = re.findall(rf"`((?:{folders})/[\w./-]*)`", prose(read(page)))
    assert [p for p in paths if not (ROOT / p).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_functions_named_in_tables_exist(page):
    names = [
        n for rows in tables(read(page)) for row in rows for n in code(row.get("Function", ""))
    ]
    assert [name for name in names if not hasattr(xlm_roberta, name)] == []


def family_of(heading):
    """The family that a heading names; XLM-RoBERTa where it names none."""
    titles = {family.title: name for name, family in FAMILIES.items()}
    named = [title for title in titles if heading.endswith(title)]
    return titles[max(named, key=len)] if named else "xlm_roberta"


def cases_in_tables(text):
    """The goldens that stand in the columns "Case" and "Cases" of a page, with their families."""
    for part in re.split(r"^(?=##)", prose(text), flags=re.MULTILINE):
        family = family_of(part.partition("\n")[0])
        for rows in tables(part):
            for row in rows:
                for name in code(row.get("Case", "") + row.get("Cases", "")):
                    yield name if "/" in name else f"{family}/{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_cases_named_in_tables_exist(page):
    assert [case for case in cases_in_tables(read(page)) if case not in GOLDENS] == []


def test_every_golden_is_in_both_tables():
    for page in ("goldens.md", "coverage.md"):
        assert set(cases_in_tables(read(DOCS / page))) == set(GOLDENS), page


def test_the_api_page_has_every_public_name():
    text = read(DOCS / "api.md")
    for module, names in (("refimpl", refimpl.__all__), ("refimpl.ops", ops.__all__)):
        for name in names:
            thing = getattr(importlib.import_module(module), name)
            home = getattr(
                thing, "__module__", "refimpl.ops.activations"
            )  # of a table: ACTIVATIONS
            assert re.search(rf"^::: {home}(\.{name})?$", text, re.MULTILINE), name


# --- the first pages ------------------------------------------------------------------------------

STAND_INS = {"CHECKPOINT": "golden/xlm_roberta/from_text", "DUMP": None, "TEXTS.txt": None}
NOT_PUBLISHED = 2  # `refimpl verify --checkpoint` of a checkpoint that nobody published


def commands_of(text):
    """The `refimpl ...` commands that stand in the tables of a page."""
    cells = [cell for rows in tables(text) for row in rows for cell in row.values()]
    return [c for cell in cells for c in code(cell) if c.startswith("refimpl ")]


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory):
    """What the capital words of the commands stand for: a checkpoint, a port's dump, some texts."""
    folder = tmp_path_factory.mktemp("stand_ins")
    texts, dump = folder / "texts.txt", folder / "dump.safetensors"
    texts.write_text("The lamp is on.\n", encoding="utf-8")
    done = run_refimpl(["trace", "golden/xlm_roberta/padding_left", "-o", str(dump)])
    assert done.returncode == 0, done.stdout
    return {**STAND_INS, "DUMP": str(dump), "TEXTS.txt": str(texts)}


@pytest.mark.parametrize("command", commands_of(read(ROOT / "README.md")))
def test_the_commands_of_the_readme_run(command, stand_ins):
    words = [stand_ins.get(word, word) for word in shlex.split(command)[1:]]
    done = run_refimpl(words)
    if words[:2] == ["verify", "--checkpoint"]:
        assert (done.returncode, "in the registry" in done.stdout) == (NOT_PUBLISHED, True)
    else:
        assert done.returncode == 0, done.stdout


def test_the_readme_is_one_page_with_its_two_commands():
    text = read(ROOT / "README.md")
    assert len(text.splitlines()) <= 100
    shown = [block.text for block in blocks(text) if block.info == "sh"]
    for shell, said in zip(shown, ("refimpl verify", "bin/pytest"), strict=True):
        assert text.index(said) == text.index(shell) + shell.index(said), "CI looks for the first"
    jobs = [row["You are"] for rows in tables(text) for row in rows if "You are" in row]
    assert [re.match(r"\*\*a (\w+)", job)[1] for job in jobs] == ["learner", "porter", "validator"]


def test_the_readme_says_what_is_where():
    rows = [row for rows in tables(read(ROOT / "README.md")) for row in rows]
    named = {name.strip("/") for row in rows for name in code(row.get("Where", ""))}
    modules = [p for p in (ROOT / "refimpl").iterdir() if not p.name.startswith(("_", "."))]
    package = {
        f"refimpl/{path.name}"
        for path in modules
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    targets = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["hatch"]["build"]["targets"]
    folders = {name for name in targets["sdist"]["include"] if (ROOT / name).is_dir()}
    assert package | folders - {"refimpl"} <= named


def test_the_tables_of_packages_are_those_of_the_project():
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]

    def names(requirements):
        return [re.match(r"[\w.-]+", requirement)[0] for requirement in requirements]

    needed = [name for row in table("install.md", "Package") for name in code(row["Package"])]
    assert needed == names(project["dependencies"])
    extras = {code(row["Extra"])[0]: code(row["Packages"]) for row in table("install.md", "Extra")}
    assert extras == {k: names(v) for k, v in project["optional-dependencies"].items()}
    assert f"Python {project['requires-python'].removeprefix('>=')} or later" in read(
        DOCS / "install.md"
    )


def test_the_sources_are_packed_with_what_they_speak_of():
    packed = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["hatch"]["build"]["targets"]
    assert [name for name in packed["sdist"]["include"] if not (ROOT / name).exists()] == []
    linked = re.findall(r"\]\(([\w.]+)[/)]", read(ROOT / "README.md"))
    assert (
        {"docs", "CONTRIBUTING.md", "CITATION.cff"} <= set(linked) <= {*packed["sdist"]["include"]}
    )


def test_the_citation_is_of_this_version_and_of_the_papers():
    text = read(ROOT / "CITATION.cff")
    assert text.startswith("cff-version: 1.2.0\n")
    assert f"\nversion: {refimpl.__version__}\n" in text
    papers = re.findall(r"^    url: https://arxiv.org/abs/([\d.]+)$", text, re.MULTILINE)
    cited = [
        re.search(r"arxiv.org/abs/([\d.]+\d)", read(ROOT / "refimpl/models" / f"{name}.py"))[1]
        for name in FAMILIES
    ]
    assert papers == cited


def test_the_registry_is_as_large_as_told():
    registry = json.loads(read(ROOT / "refimpl" / "checkpoints" / "registry.json"))
    sizes = [str(len(registry[key])) for key in ("checkpoints", "numbers")]
    told = r"(\d+) published checkpoints\b.*?\b(\d+) (?:published )?numbers"
    for page in (DOCS / "checkpoints.md", ROOT / "CHANGELOG.md"):
        found = re.search(told, read(page), re.DOTALL)
        assert list(found.groups()) == sizes, page.name


# --- coverage -------------------------------------------------------------------------------------


def coverage(family, heading):
    """The rows of a family's table of coverage.md: what each names, and its cells."""
    part = section("coverage.md", f"## {FAMILIES[family].title}")
    return [
        (code(row[heading]), row) for rows in tables(part) if heading in rows[0] for row in rows
    ]


def cases_of(family, row):
    return {f"{family}/{name}": GOLDENS[f"{family}/{name}"] for name in code(row["Cases"])}


def architectures_of(family):
    prefix = FAMILIES[family].prefix
    longer = [f.prefix for f in FAMILIES.values() if len(f.prefix) > len(prefix)]
    return [
        name
        for name in ARCHITECTURES
        if name.startswith(prefix) and not name.startswith(tuple(longer))
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_coverage_has_every_class_with_its_cases(family):
    shown = [name for names, _ in coverage(family, "Class") for name in names]
    assert list(dict.fromkeys(shown)) == architectures_of(family)
    for (name,), row in coverage(family, "Class"):
        assert {golden["architecture"] for golden in cases_of(family, row).values()} == {name}


@pytest.mark.oracle
@pytest.mark.parametrize("family", FAMILIES)
def test_every_class_of_the_original_is_there(family):
    pytest.importorskip("transformers")
    names = importlib.import_module(f"transformers.models.{family}.modeling_{family}").__all__
    assert sorted(architectures_of(family)) == sorted(
        name for name in names if not name.endswith("PreTrainedModel")
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_coverage_has_every_argument_with_cases_that_give_it(family):
    taken = set()
    for entry in map(ARCHITECTURES.get, architectures_of(family)):
        config = entry.config()
        if family != "xlm":
            config = entry.config(is_decoder=True, add_cross_attention=True)
        taken |= {*entry.inputs(config), *entry.flags, entry.state}
    assert {name for names, _ in coverage(family, "Argument") for name in names} == taken
    for names, row in coverage(family, "Argument"):
        for case, golden in cases_of(family, row).items():
            given = {*golden["inputs"], *golden["flags"]}
            wanted = set() if row["Argument"].startswith("no ") else set(names)
            assert set(names) & given == wanted, case


@pytest.mark.parametrize("family", FAMILIES)
def test_coverage_has_every_setting_with_cases_that_set_it(family):
    kind = ARCHITECTURES[architectures_of(family)[0]].config
    fields = {f.name for f in dataclasses.fields(kind)}
    assert {name for names, _ in coverage(family, "Setting") for name in names} == fields
    values = {case: {**dataclasses.asdict(kind()), **config_of(case)} for case in of_family(family)}
    for names, row in coverage(family, "Setting"):
        for case in cases_of(family, row):
            assert any(values[case][name] != usual(name, values) for name in names), (case, names)


def usual(name, values):
    """The value that most cases of a family have."""
    counts = Counter(json.dumps(config[name]) for config in values.values())
    return json.loads(counts.most_common(1)[0][0])


@pytest.mark.parametrize("family", FAMILIES)
def test_what_coverage_leaves_to_tests_is_in_those_tests(family):
    files = {
        row["Tests"]: [ROOT / name for name in code(row["Files"])]
        for row in table("coverage.md", "Tests", "Files")
    }
    for heading in ("Argument", "Setting"):
        for names, row in coverage(family, heading):
            tests = row["Tests"].split(", ") if row["Tests"] else []
            assert tests or code(row["Cases"]), names
            for test in set(tests) - {"config"}:  # which goes through all fields by itself
                text = "".join(map(read, files[test]))
                assert any(name in text for name in names), (test, names)


def test_the_table_of_class_by_switch_is_what_its_tool_makes():
    tool = [sys.executable, "tools/coverage_table.py", "--check"]
    subprocess.run(tool, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


# --- differences ----------------------------------------------------------------------------------


def test_every_difference_has_its_test_and_every_test_its_difference():
    rows = [row for rows in tables(read(DOCS / "differences.md")) for row in rows if "Test" in row]
    named = [code(row["Test"]) for row in rows]
    assert all(len(names) == 1 for names in named)
    tree = ast.parse(read(ROOT / "tests" / "models" / "test_differences.py"))
    tests = {
        re.sub("_(in|of)_the_original$", "", node.name.removeprefix("test_"))
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert sorted(name for names in named for name in names) == sorted(tests)


# --- the site -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("See :func:<code>load</code>.", "See <code>load</code>."),
        (":class:<code>refimpl.Model</code>", "<code>Model</code>"),
        ("<p>(B, P<em>Q), (B, P</em>Q)</p>", "<p>(B, P*Q), (B, P*Q)</p>"),
        ("by <em>adding</em> it", "by <em>adding</em> it"),
        (
            "<blockquote>\n" * 3 + '<p>f("<mask>")\n1</p>\n' + "</blockquote>\n" * 3,
            '<pre><code>&gt;&gt;&gt; f("&lt;mask&gt;")\n1</code></pre>',
        ),
        ("<td><code>layer_norm.{i}</code></td>", "<td><code>layer_<wbr>norm.{i}</code></td>"),
        ("<p><code>layer_norm</code></p>", "<p><code>layer_norm</code></p>"),
    ],
)
def test_the_site_shows_what_is_meant(html, shown):
    hooks = runpy.run_path(str(DOCS / "hooks.py"))
    assert hooks["on_page_content"](html) == shown


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
    package += (ROOT / "tools").glob("*.py")
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


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_of_cases_says_what_the_goldens_say(family):
    rows = next(tables(section("goldens.md", f"### Cases of {FAMILIES[family].title}")))
    shown = {f"{family}/{code(row['Case'])[0]}": row["What it is for"] for row in rows}
    assert shown == {name: golden["what"] for name, golden in of_family(family).items()}


def test_the_table_of_golden_json_has_its_keys():
    rows = table("goldens.md", "Key", "Meaning")
    shown = {name for row in rows for name in code(row["Key"])}
    assert shown == {key for golden in GOLDENS.values() for key in golden}
    always = {name for row in rows for name in code(row["Key"]) if "may be missing" not in str(row)}
    assert always == set.intersection(*(set(golden) for golden in GOLDENS.values()))


def heads_left(config, layer):
    """The heads of a layer that were not pruned."""
    pruned = (config.get("pruned_heads") or {}).get(str(layer), ())
    return config.get("num_attention_heads", config.get("n_heads")) - len(pruned)


class Place(NamedTuple):
    """Where a row of a table of taps comes to stand."""

    case: str
    layer: int = 0
    language: str = ""


def sizes_of(place):
    """What the letters of the tables stand for."""
    family, golden, config = (
        place.case.partition("/")[0],
        GOLDENS[place.case],
        config_of(place.case),
    )
    kind = golden["architecture"].removeprefix(FAMILIES[family].prefix)
    ids = golden["inputs"].get("input_ids") or golden["inputs"]["inputs_embeds"]
    batch, *places = ids["shape"]
    choices = kind == "ForMultipleChoice"
    width = config.get("hidden_size", config.get("emb_dim"))
    labels = len(config.get("id2label", "12"))  # a config leaves two labels out
    if family == "xlm":
        projected = config["summary_use_proj"] and config["summary_proj_to_labels"]
        summary = kind in ("ForSequenceClassification", "ForMultipleChoice")
        labels = width if summary and not projected else labels
    elif choices:
        labels = 1
    length = places[1] if choices else places[0]
    kept = golden["inputs"].get("past_key_values.0.0", {"shape": (0, 0, 0)})["shape"][2]
    return {
        "1": 1,
        "B": batch * places[0] if choices else batch,
        "S": length,
        "T": kept + length,
        "E": golden["inputs"].get("encoder_hidden_states", {"shape": (0, 0)})["shape"][1],
        "D": width,
        "F": config.get("intermediate_size", 4 * width),
        "H": heads_left(config, place.layer),
        "K": width // heads_left({**config, "pruned_heads": None}, 0),
        "V": config["vocab_size"],
        "N": texts_of(place) if place.language else labels,
        "A": width // config.get("adapter_reduction_factor", 1),
        "P": config.get("start_n_top"),
    }


def languages_of(case):
    """The language of each text, in a case of X-MOD."""
    config, tensors = config_of(case), load_file(ROOT / "golden" / case / "golden.safetensors")
    if "input.lang_ids" in tensors:
        return [config["languages"][i] for i in tensors["input.lang_ids"]]
    ids = GOLDENS[case]["inputs"].get("input_ids") or GOLDENS[case]["inputs"]["inputs_embeds"]
    texts = ids["shape"][0] * (ids["shape"][1] if "MultipleChoice" in case_class(case) else 1)
    return [config["default_language"]] * texts


def texts_of(place):
    return languages_of(place.case).count(place.language)


def case_class(case):
    return GOLDENS[case]["architecture"]


def given(*names):
    return lambda config, inputs: all(name in inputs for name in names)


# What a column "When" may say, of a case's config and inputs.
WHEN = {
    "": lambda config, inputs: True,
    "input_ids": given("input_ids"),
    "token_type_ids": given("token_type_ids"),
    "encoder_hidden_states": given("encoder_hidden_states"),
    "absolute positions": lambda config, inputs: config["position_embedding_type"] == "absolute",
    "langs, and a table of languages": lambda config, inputs: (
        "langs" in inputs and config["n_langs"] > 1 and config["use_lang_emb"]
    ),
    "pre_norm": lambda config, inputs: config["pre_norm"],
    "no pre_norm": lambda config, inputs: not config["pre_norm"],
    "adapter_layer_norm": lambda config, inputs: config["adapter_layer_norm"],
    "adapter_reuse_layer_norm, no adapter_layer_norm": lambda config, inputs: (
        config["adapter_reuse_layer_norm"] and not config["adapter_layer_norm"]
    ),
    "no asm": lambda config, inputs: not config["asm"],
    "summary_use_proj": lambda config, inputs: config["summary_use_proj"],
    "true span": given("start_positions"),
    "no true span": lambda config, inputs: "start_positions" not in inputs,
    "no true span, or is_impossible": lambda config, inputs: (
        "start_positions" not in inputs or "is_impossible" in inputs
    ),
}


def shape_of(name, shape, place):
    """The sizes of "(B, S, H*K)"."""
    sizes = sizes_of(place)
    if name.startswith("position_") and "position_ids" in GOLDENS[place.case]["inputs"]:
        shape = shape.replace("1", "B")  # XLM's own are the same for all texts
    axes = shape.strip("()").split(", ")
    return [math.prod(sizes[letter] for letter in axis.split("*")) for axis in axes]


def tap_rows(heading, case, kind=None):
    """The rows of a table of taps that hold for a case, cross-attention written out."""
    config, inputs = config_of(case), GOLDENS[case]["inputs"]
    rows = []
    for row in next(tables(section("goldens.md", heading))):
        name, shape = code(row["Tap"])[0], row["Shape"]
        of_this_class = kind is None or kind in row["Class"].split(", ")
        if not of_this_class or not WHEN[row.get("When", "")](config, inputs):
            continue
        if not name.endswith("crossattention..."):
            rows.append((name, shape))
            continue
        rows += [
            (own.replace(".attention.", ".crossattention."), of_encoder(own, of))
            for own, of in rows
            if ".attention." in own
        ]
    return rows


def of_encoder(name, shape):
    """The shape of a place in cross-attention: keys and values are of the encoder's tokens."""
    return shape.replace("S" if name.endswith((".key", ".value")) else "T", "E")


def taps_in_the_tables(case):
    """The taps that goldens.md tells for a case, in order: (name, shape)."""
    family, config = FAMILIES[case.partition("/")[0]], config_of(case)
    kind = case_class(case).removeprefix(family.prefix)
    base = "" if kind == "Model" else f"{family.base}."
    rows = tap_rows(f"### {family.title}", case)
    of_layer = [i for i, (name, _) in enumerate(rows) if "{i}" in name]
    first, last = of_layer[0], of_layer[-1] + 1
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    encoder = [
        *((name, shape, Place(case)) for name, shape in rows[:first]),
        *in_layers(rows[first:last], case, layers),
        *((name, shape, Place(case)) for name, shape in rows[last:]),
    ]
    heads = "XLM" if family.base == "transformer" else "the three RoBERTas"
    head = tap_rows(f"### The heads of {heads}", case, kind)
    return [
        *((base + name, shape_of(name, shape, place)) for name, shape, place in encoder),
        *((name, shape_of(name, shape, Place(case))) for name, shape in head),
    ]


def in_layers(rows, case, layers):
    """Each layer's rows; those of adapters once for each language, in the batch's order."""
    adapters = [row for row in rows if "{language}" in row[0]]
    for i in range(layers):
        for name, shape in rows:
            if (name, shape) not in adapters:
                yield name.replace("{i}", str(i)), shape, Place(case, i)
            elif (name, shape) == adapters[0]:
                for language in dict.fromkeys(languages_of(case)):
                    for own, of in adapters:
                        filled = own.replace("{i}", str(i)).replace("{language}", language)
                        yield filled, of, Place(case, i, language)


@pytest.mark.parametrize("case", GOLDENS)
def test_the_tables_of_taps_have_the_names_shapes_and_order_of_every_case(case):
    taps = [(tap, x["shape"]) for tap, x in GOLDENS[case]["taps"].items()]
    assert taps_in_the_tables(case) == taps


def test_every_condition_of_the_tables_of_taps_is_known_and_used():
    used = {row.get("When", "") for rows in tables(read(DOCS / "goldens.md")) for row in rows}
    assert used == set(WHEN)
