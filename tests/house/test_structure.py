"""The plan of the house, read from the source: who imports whom, and how large things may grow."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def trees(folder):
    """Return the syntax tree of every Python file below a folder, by its path from there."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return {
        str(f.relative_to(ROOT / folder).as_posix()): ast.parse(f.read_text(encoding="utf-8"))
        for f in files
    }


SOURCES = trees("refimpl")


@cache
def every_node(tree):
    return list(ast.walk(tree))


def nodes(tree, *kinds):
    return [node for node in every_node(tree) if isinstance(node, kinds)]


def imports(tree):
    """Return the dotted names that a file imports, those of ``from a import b`` as "a.b"."""
    names = [alias.name for node in nodes(tree, ast.Import) for alias in node.names]
    for node in nodes(tree, ast.ImportFrom):
        assert node.level == 0, "expected absolute imports"
        names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def starts_with(name, package):
    return name == package or name.startswith(package + ".")


# --- the floors -----------------------------------------------------------------------------------

FLOORS = [
    {"errors", "backend", "taps", "replacing"},
    {"ops"},
    {"checkpoints"},
    {"models"},
    {"tokenizers"},
    {"bench", "fill_mask", "inspection", "validate"},
    {"parity"},
    {"adapters", "testing"},
    {"cli", "__main__"},
]
FRONT_DOOR = "__init__.py"  # leads to every floor


def floor(name):
    """Return the number of the floor on which "ops", "ops/erf.py" or "ops.erf" stands."""
    first = name.removesuffix(".py").replace("/", ".").partition(".")[0]
    found = [i for i, names in enumerate(FLOORS) if first in names]
    assert found, f"{name} stands on no floor"
    return found[0]


def test_imports_go_down_never_up():
    wrong = [
        f"{file} imports {name}"
        for file, tree in SOURCES.items()
        for name in imports(tree)
        if file != FRONT_DOOR
        and starts_with(name, "refimpl")
        and floor(name.removeprefix("refimpl.")) > floor(file)
    ]
    assert wrong == []


def architectures():
    """Return the files of models/ that tell an architecture: those that define a config."""
    return [
        file
        for file, tree in SOURCES.items()
        if file.startswith("models/")
        and any(node.name.endswith("Config") for node in nodes(tree, ast.ClassDef))
    ]


def test_there_are_four_architectures():
    names = ("xlm", "xlm_roberta", "xlm_roberta_xl", "xmod")
    assert architectures() == [f"models/{name}.py" for name in names]


def test_only_the_table_of_models_imports_an_architecture():
    modules = ["refimpl." + f.removesuffix(".py").replace("/", ".") for f in architectures()]
    importers = {
        file
        for file, tree in SOURCES.items()
        if file.startswith("models/")
        and any(starts_with(name, module) for name in imports(tree) for module in modules)
    }
    assert importers == {"models/model.py"}


# --- arrays ---------------------------------------------------------------------------------------

NUMPY_ALLOWED = {
    "backend.py": "the only file that knows the namespaces",
    "checkpoints/": "files are read on the host",
    "ops/fused/": "twins that are written for one backend",
    "models/inputs.py": "what a call holds is checked on the host, before it goes to the device",
    "models/model.py": "hands those checked arrays on",
    "models/architecture.py": "the type of those checked arrays",
    "models/roberta.py": "the same, in an annotation of check_inputs",
    "models/packing.py": "where a batch's tokens stand is found on the host",
    "models/lanes.py": "so is which texts are computed side by side",
    "models/xlm.py": "the type of a mask on the host, in an annotation",
    "models/xlm_inputs.py": "the type of checked arrays, in an annotation of check_inputs",
    "models/xmod.py": "the type of the languages, in annotations",
    "models/xmod_languages.py": "whose adapter a text goes through is decided on the host",
    "models/generation.py": "the search for the next token runs on the host",
    "models/next_token.py": "stands between the search and the device",
    "fill_mask.py": "candidates are sorted on the host",
    "inspection.py": "files are looked through on the host",
    "bench/": "random weights and ids are made on the host, for PyTorch too",
    "validate/": "answers are chosen and counted on the host",
    "parity/": "results are compared on the host, in float64",
    "adapters/": "what others computed is brought to the host",
}


def importers(package):
    """Return the files that import a package."""
    return [
        file
        for file, tree in SOURCES.items()
        if any(starts_with(name, package) for name in imports(tree))
    ]


def test_numpy_and_cupy_are_imported_where_arrays_are_on_the_host():
    assert set(importers("cupy")) <= {"backend.py", "ops/fused/cupy.py"}
    assert [f for f in importers("numpy") if not f.startswith(tuple(NUMPY_ALLOWED))] == []


@pytest.mark.parametrize("place", NUMPY_ALLOWED)
def test_numpy_is_allowed_nowhere_that_does_without(place):
    assert any(file.startswith(place) for file in importers("numpy"))


def test_an_architecture_names_numpy_in_annotations_only():
    for file in (*architectures(), "models/roberta.py"):
        tree = SOURCES[file]
        annotations = [a.annotation for a in nodes(tree, ast.arg) if a.annotation]
        annotations += [a.annotation for a in nodes(tree, ast.AnnAssign)]
        annotations += [f.returns for f in nodes(tree, ast.FunctionDef) if f.returns]
        noted = [n for a in annotations for n in nodes(a, ast.Name) if n.id == "numpy"]
        assert [n for n in nodes(tree, ast.Name) if n.id == "numpy" and n not in noted] == []


def is_namespace(node):
    """Tell whether an expression is ``xp`` or ``namespace(...)``."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "namespace"
    return isinstance(node, ast.Name) and node.id == "xp"


def array_names():
    found = {}
    for file, tree in SOURCES.items():
        for node in nodes(tree, ast.Attribute):
            if is_namespace(node.value):
                found.setdefault(node.attr, file)
    return found


@pytest.mark.parametrize("package", ["numpy", "array_api_strict", "cupy"])
def test_every_array_function_in_use_is_there(package):
    if package == "cupy":
        pytest.importorskip("cupy")
    xp = importlib.import_module(package)
    used = array_names()
    assert {"matmul", "tanh", "float16"} <= set(used)  # xp.matmul, namespace(x).tanh
    if package == "array_api_strict":
        assert used.pop("float16") == "ops/erf.py"  # which asks first: it is not in the standard
    assert {name: file for name, file in used.items() if not hasattr(xp, name)} == {}


# --- classes, sizes -------------------------------------------------------------------------------


def allowed_bases(file):
    """Return what the classes of a file may inherit from."""
    allowed = {"NamedTuple", "Protocol", "Exception", "ImportError", "IntEnum"}
    # What users call is one class for all tokenizers; a family fills in its steps, one level deep.
    allowed |= {"tokenizers/tokenizer.py": {"ABC"}}.get(file, set())
    # NumPy lets nobody else round what its arithmetic gives.
    allowed |= {"parity/floors/narrow.py": {"numpy.ndarray"}}.get(file, set())
    # Others ask that their classes be filled in: click's command, torch's look at its functions.
    allowed |= {"cli/program.py": {"TyperCommand"}}.get(file, set())
    allowed |= {"adapters/torch_watch.py": {"TorchFunctionMode"}}.get(file, set())
    if re.fullmatch(r"tokenizers/(xlm|xlm_roberta)/tokenizer\.py", file):
        allowed |= {"Tokenizer"}
    return allowed


def test_no_class_inherits_from_another_of_ours():
    wrong = [
        f"{file}: {node.name}({base})"
        for file, tree in SOURCES.items()
        for node in nodes(tree, ast.ClassDef)
        for base in map(ast.unparse, node.bases)
        if base not in allowed_bases(file) and not base.startswith("Mapping[")
    ]
    assert wrong == []


def lines_without_docstring(node):
    first = node.body[0]
    length = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        length -= first.end_lineno - first.lineno + 1
    return length


def test_no_function_is_longer_than_45_lines():
    lengths = {
        f"{file}: {node.name}": lines_without_docstring(node)
        for file, tree in SOURCES.items()
        for node in nodes(tree, ast.FunctionDef, ast.AsyncFunctionDef)
    }
    assert {name: n for name, n in lengths.items() if n > 45} == {}


def test_no_file_is_longer_than_450_lines():
    texts = {file: (ROOT / "refimpl" / file).read_text(encoding="utf-8") for file in SOURCES}
    lengths = {file: len(text.splitlines()) for file, text in texts.items()}
    assert {file: n for file, n in lengths.items() if n > 450} == {}


# --- outside refimpl ------------------------------------------------------------------------------


def test_goldens_are_made_without_us():
    makers = trees("golden")
    assert makers
    for file, tree in makers.items():
        assert not any(starts_with(name, "refimpl") for name in imports(tree)), file


def names_of_tolerances(tree):
    keywords = [k.arg for k in nodes(tree, ast.keyword)]
    names = [n.id for n in nodes(tree, ast.Name)] + [n.attr for n in nodes(tree, ast.Attribute)]
    names += [alias.name for n in nodes(tree, ast.ImportFrom) for alias in n.names]
    forbidden = {"allclose", "assert_allclose", "isclose", "assert_almost_equal", "approx"}
    bounds = {
        f"< {ast.unparse(bound)}" for node in nodes(tree, ast.Compare) for bound in small(node)
    }
    return {"rtol", "atol"} & set(keywords) | forbidden & set(names) | bounds


SMALL = 0.001


def small(comparison):
    """Return the small numbers that a comparison demands something to be below."""
    sides = [comparison.left, *comparison.comparators]
    found = []
    for left, sign, right in zip(sides, comparison.ops, sides[1:], strict=False):
        upper = {ast.Lt: right, ast.LtE: right, ast.Gt: left, ast.GtE: left}.get(type(sign))
        factors = nodes(upper, ast.Constant) if upper is not None else []
        found += [c for c in factors if isinstance(c.value, float) and 0 < c.value < SMALL]
    return found


def test_no_test_states_a_tolerance():
    found = {file: names_of_tolerances(tree) for file, tree in trees("tests").items()}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "numpy.allclose(a, b)",
        "f(a, rtol=1e-5)",
        "a == pytest.approx(b)",
        "from math import isclose",
        "assert abs(a - b).max() < 1e-12",
        "assert 1e-5 >= error",
        "assert error <= 1e-6 * abs(b).max()",
    ],
)
def test_a_tolerance_is_found(line):
    assert names_of_tolerances(ast.parse(line))
