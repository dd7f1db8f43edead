"""What the docstrings of everything public say, and that their examples hold.

Public is what `refimpl`, `refimpl.ops` and the API page of the documentation name: of a module
there all functions, classes and methods whose names do not begin with an underscore.

- Each has a first line of its own, and more only behind an empty line.
- One that raises `ValueError`, `TypeError` or `CheckpointError` in its own lines names the error.
- An operation, and each function of an architecture that takes arrays, says where it is from.

That an operation opens with its shapes, and that they are true, is in `test_shapes.py`.
"""

import ast
import doctest
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

import refimpl
from refimpl import ops

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
ERRORS = {"ValueError", "TypeError", "CheckpointError"}
TOLD = ("xlm", "xlm_roberta", "xlm_roberta_xl", "xmod", "heads", "xlm_heads")  # the architectures
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def file_of(module):
    """The file of "refimpl.ops.norms", of a package, or of the module that "....load" stands in."""
    path = ROOT.joinpath(*module.split("."))
    found = [p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()]
    return found[0] if found else file_of(module.rpartition(".")[0])


@cache
def tree_of(file):
    return ast.parse(file.read_text(encoding="utf-8"))


def public(body, prefix=""):
    """(name, node) of the functions, classes and methods that others may use."""
    for node in body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


def definitions():
    """All that is public, by "file: name"."""
    modules = re.findall(r"^::: (\S+)", API, re.MULTILINE)
    for names, package in ((refimpl.__all__, refimpl), (ops.__all__, ops)):
        homes = [getattr(getattr(package, name), "__module__", None) for name in names]
        modules += [home for home in homes if home]  # a table has none
    return {
        f"{file.relative_to(ROOT).as_posix()}: {name}": node
        for file in sorted(set(map(file_of, modules)))
        for name, node in public(tree_of(file).body)
    }


PUBLIC = definitions()


def faults_of_first_line(docstring):
    first, *more = (docstring or "").split("\n")
    if not first.strip():
        return "has none"
    if more and more[0].strip():
        return "goes on in the second line"
    return None


def raised(node):
    """The errors that stand in a function's own lines, not in those of functions inside it."""
    found, todo = set(), list(node.body)
    while todo:
        inner = todo.pop()
        if isinstance(inner, (*FUNCTION, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call):
            found.add(ast.unparse(inner.exc.func))
        todo.extend(ast.iter_child_nodes(inner))
    return found & ERRORS


def untold(node):
    """The errors that a function raises and its docstring does not name."""
    return {x for x in raised(node) if f"``{x}``" not in (ast.get_docstring(node) or "")}


def opens_with_shapes(node):
    return "->" in (ast.get_docstring(node) or "").partition("\n")[0]


def sources():
    """What must say where it is from, by "file: name"."""
    places = tuple(f"refimpl/models/{name}.py: " for name in TOLD)
    return {
        name: node
        for name, node in PUBLIC.items()
        if isinstance(node, FUNCTION) and opens_with_shapes(node)
        if name.startswith(("refimpl/ops/", *places))
    }


def source_of(node):
    """The words behind "Source:", up to the end of their paragraph."""
    text = ast.get_docstring(node) or ""
    found = re.search(r"(?:^|(?<=[.)] ))Source: (.+?)(?=\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    return re.sub(r"\s+", " ", found[1]) if found else None


def test_everything_public_has_a_first_line():
    wrong = {n: faults_of_first_line(ast.get_docstring(node)) for n, node in PUBLIC.items()}
    assert {name: fault for name, fault in wrong.items() if fault} == {}


def test_every_error_is_told():
    functions = {n: node for n, node in PUBLIC.items() if isinstance(node, FUNCTION)}
    assert sum(bool(raised(node)) for node in functions.values()) > 50
    wrong = {name: untold(node) for name, node in functions.items()}
    assert {name: errors for name, errors in wrong.items() if errors} == {}


def test_every_operation_and_every_step_of_an_architecture_has_its_source():
    assert {name.partition(":")[0] for name in sources()} >= {
        f"refimpl/models/{name}.py" for name in TOLD
    }
    assert [name for name, node in sources().items() if not source_of(node)] == []


def test_every_operation_is_among_them():
    names = {name.rpartition(" ")[2] for name in sources() if name.startswith("refimpl/ops/")}
    functions = {name for name in ops.__all__ if callable(getattr(ops, name))}
    classes = {name for name in functions if isinstance(getattr(ops, name), type)}
    assert names == functions - classes


@pytest.mark.oracle
def test_the_sources_are_there_in_the_original():
    torch, cache_utils = pytest.importorskip("torch"), "transformers.cache_utils"
    families = TOLD[:4]
    places = [
        importlib.import_module(f"transformers.models.{name}.modeling_{name}") for name in families
    ]
    places += [importlib.import_module(cache_utils), places[0].PreTrainedModel]
    for name, node in sources().items():
        for cited in re.findall(r"``([\w.]+)``(?! of fairseq)", source_of(node)):
            if cited.startswith("torch."):
                assert attribute(torch, cited.removeprefix("torch.")), f"{name}: {cited}"
            elif re.match(r"[A-Z]\w*[a-z]", cited):
                assert any(attribute(place, cited) for place in places), f"{name}: {cited}"


def attribute(thing, dotted):
    for part in dotted.split("."):
        thing = getattr(thing, part, None)
    return thing


# --- examples -------------------------------------------------------------------------------------

EXAMPLES = [
    file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for file in sorted((ROOT / "refimpl").rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_hold(module, monkeypatch):
    monkeypatch.chdir(ROOT)
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert (failed, tried > 0) == (0, True)


def test_there_are_examples():
    assert len(EXAMPLES) > 80


# --- and what is left out is found ----------------------------------------------------------------


def definition(text):
    return ast.parse(text).body[0]


@pytest.mark.parametrize("docstring", [None, "", "\nLater.", "One line\nthat goes on."])
def test_a_bad_first_line_is_found(docstring):
    assert faults_of_first_line(docstring)


def test_an_untold_error_is_found():
    text = 'def f(x):\n    """{}"""\n    if x:\n        raise ValueError("x: no")'
    assert untold(definition(text.format("Return x."))) == {"ValueError"}
    assert untold(definition(text.format("Raise ``ValueError`` for x."))) == set()
    inside = 'def f(x):\n    def g():\n        raise TypeError("x")\n    return g'
    assert untold(definition(inside)) == set()


@pytest.mark.parametrize(
    ("docstring", "source"),
    [
        ("(B) -> (B)", None),
        ("(B) -> (B)\n\n    Open Source: no.", None),
        ("(B) -> (B)\n\n    The same. Source: ``f``.", "``f``."),
        ("(B) -> (B)\n\n    Source: ``f``,\n    ``g``.\n\n    More.", "``f``, ``g``."),
    ],
)
def test_a_source_is_found(docstring, source):
    assert source_of(definition(f'def f():\n    """{docstring}"""')) == source
