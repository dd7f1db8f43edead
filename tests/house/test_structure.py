"""The plan of the house, read from the source: who imports whom, and how large things may grow."""

import ast
import importlib
import re
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
every_source = pytest.mark.parametrize("file", SOURCES)


def nodes(tree, *kinds):
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


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


@every_source
def test_imports_go_down_never_up(file):
    if file == FRONT_DOOR:
        return
    for name in imports(SOURCES[file]):
        if starts_with(name, "refimpl"):
            assert floor(name.removeprefix("refimpl.")) <= floor(file), f"{file} imports {name}"


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


@pytest.mark.parametrize("file", [f for f in SOURCES if f.startswith("models/")])
def test_only_the_table_of_models_imports_an_architecture(file):
    if file == "models/model.py":
        return
    for architecture in architectures():
        module = "refimpl." + architecture.removesuffix(".py").replace("/", ".")
        assert not any(starts_with(name, module) for name in imports(SOURCES[file])), file


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


@every_source
def test_numpy_and_cupy_are_imported_where_arrays_are_on_the_host(file):
    packages = {name.partition(".")[0] for name in imports(SOURCES[file])}
    assert "cupy" not in packages or file in ("backend.py", "ops/fused/cupy.py")
    if not file.startswith(tuple(NUMPY_ALLOWED)):
        assert "numpy" not in packages


@pytest.mark.parametrize("place", NUMPY_ALLOWED)
def test_numpy_is_allowed_nowhere_that_does_without(place):
    found = [imports(tree) for file, tree in SOURCES.items() if file.startswith(place)]
    assert any("numpy" in names for names in found)


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


@every_source
def test_no_class_inherits_from_another_of_ours(file):
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
    for node in nodes(SOURCES[file], ast.ClassDef):
        for base in map(ast.unparse, node.bases):
            assert base in allowed or base.startswith("Mapping["), f"{node.name}({base})"


def lines_without_docstring(node):
    first = node.body[0]
    length = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        length -= first.end_lineno - first.lineno + 1
    return length


@every_source
def test_no_function_is_longer_than_45_lines(file):
    functions = nodes(SOURCES[file], ast.FunctionDef, ast.AsyncFunctionDef)
    lengths = {node.name: lines_without_docstring(node) for node in functions}
    assert {name: n for name, n in lengths.items() if n > 45} == {}


@every_source
def test_no_file_is_longer_than_450_lines(file):
    assert len((ROOT / "refimpl" / file).read_text(encoding="utf-8").splitlines()) <= 450


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
