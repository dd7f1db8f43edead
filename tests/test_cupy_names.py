"""What the code calls of CuPy is there, with these arguments: read from the source, without a GPU.

CuPy imports on any machine, though it makes no array there. A call of NumPy's that CuPy lacks, or
an argument that it does not take, is found here and not by the first user with a GPU.
"""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import pytest

cupy = pytest.importorskip("cupy", reason="needs CuPy (the gpu extra); no GPU")
ROOT = Path(__file__).parents[1] / "refimpl"

# What CuPy's module and modules of it are called, in files that know CuPy by name. In others an
# ``xp``, a ``....xp`` or a ``namespace(...)`` may be CuPy.
KNOWS_CUPY = ("backend.py", "ops/fused/cupy.py")
MODULES = {
    "cupy": "cupy",
    "self._cupy": "cupy",
    "cuda": "cupy.cuda",
    "runtime": "cupy.cuda.runtime",
    "cublas": "cupy.cuda.cublas",
    "linalg": "cupy._core._routines_linalg",
}


class Use(NamedTuple):
    """A name of CuPy's in the source, and how it is called, if it is."""

    file: str
    line: int
    name: str  # "cupy.take"
    positional: int | None = None  # None: not called, or nobody knows with how many
    keywords: tuple[str, ...] = ()


def dotted(node, file):
    """Return ``xp.cuda.Stream`` as "cupy.cuda.Stream"; None for what is no name of CuPy's."""
    text = ast.unparse(node)
    if text == "xp" or text.endswith(".xp"):
        return "cupy"
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "namespace":
        return "cupy"
    if file in KNOWS_CUPY and text in MODULES:
        return MODULES[text]
    if not isinstance(node, ast.Attribute):
        return None
    within = dotted(node.value, file)
    return within and f"{within}.{node.attr}"


def uses_of(tree, file):
    """Yield every name of CuPy's in a tree, a call with its arguments."""
    called = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            known = not any(isinstance(x, ast.Starred) for x in node.args)
            keywords = tuple(k.arg for k in node.keywords if k.arg)
            called[node.func] = (len(node.args) if known else None, keywords)
    for node in ast.walk(tree):
        name = dotted(node, file) if isinstance(node, ast.Attribute) else None
        if name not in (None, "cupy"):
            yield Use(file, node.lineno, name, *called.get(node, (None, ())))


def all_uses():
    for path in sorted(ROOT.rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        yield from uses_of(ast.parse(path.read_text(encoding="utf-8")), file)


USES = list(all_uses())
# In branches that another namespace takes, as the lines before them say.
NOT_FOR_CUPY = {
    ("backend.py", "cupy.asarray", ("dtype", "device")),
    ("backend.py", "cupy.asarray", ("device",)),
    ("backend.py", "cupy.arange", ("dtype", "device")),
    ("backend.py", "cupy.argsort", ("axis", "stable")),
    ("backend.py", "cupy.__name__", ()),
}


def found(name):
    """Return what a dotted name stands for. Skips where a library of CUDA is not installed."""
    thing = cupy
    for part in name.split(".")[1:]:
        try:
            thing = getattr(thing, part)
        except ImportError as error:  # cuBLAS is loaded when it is first asked for
            pytest.skip(f"needs a library of CUDA: {str(error).splitlines()[0]}")
    return thing


def complaint(use):
    """Return why CuPy would refuse a use; None where it would not."""
    try:
        thing = found(use.name)
    except AttributeError:
        return "there is no such name"
    if use.positional is None and not use.keywords:
        return None
    if isinstance(thing, cupy.ufunc):
        return complaint_of_ufunc(thing, use)
    try:
        signature = inspect.signature(thing)
    except ValueError:
        return complaint_of_compiled(thing, use)
    try:
        signature.bind_partial(*[None] * (use.positional or 0), **dict.fromkeys(use.keywords))
    except TypeError as error:
        return str(error)
    return None


def complaint_of_ufunc(ufunc, use):
    if use.positional is not None and not ufunc.nin <= use.positional <= ufunc.nargs:
        return f"takes {ufunc.nin} to {ufunc.nargs} arguments"
    unknown = set(use.keywords) - {"out", "dtype", "casting"}
    return f"takes no {', '.join(unknown)}" if unknown else None


def complaint_of_compiled(function, use):
    """The same for a function of Cython's: its documentation begins with its signature."""
    match = re.match(r"\w+\((.*)\)", function.__doc__ or "")
    if match is None:
        return None
    names = [re.split(r"[ =]", part.split("=")[0].strip())[-1] for part in match[1].split(",")]
    if use.positional is not None and use.positional > len(names):
        return f"takes {len(names)} arguments"
    unknown = set(use.keywords) - set(names)
    return f"takes no {', '.join(unknown)}" if unknown else None


def shown(use):
    return f"{use.file}:{use.line}:{use.name}"


IN_USE = [use for use in USES if (use.file, use.name, use.keywords) not in NOT_FOR_CUPY]
KERNELS = [use for use in IN_USE if "cublas" in use.name]
REST = [use for use in IN_USE if "cublas" not in use.name]


def test_the_source_was_read():
    names = {use.name for use in USES}
    assert {"cupy.matmul", "cupy.RawModule", "cupy.cuda.alloc_pinned_memory", "cupy.tanh"} <= names
    assert len(names) > 60
    assert {(u.file, u.name, u.keywords) for u in USES} >= NOT_FOR_CUPY


def test_every_name_is_there_and_takes_its_arguments():
    assert {shown(use): why for use in REST if (why := complaint(use))} == {}


def test_cublas_has_what_is_called():
    """23 arguments in a row, of which a wrong number is refused before anything runs."""
    assert {shown(use): why for use in KERNELS if (why := complaint(use))} == {}


def test_an_array_has_what_is_asked_of_it():
    asked = {"T", "astype", "copy", "data", "device", "dtype", "flags", "get", "ndim", "reshape"}
    asked |= {"set", "shape", "size", "strides"}
    assert asked <= set(dir(cupy.ndarray))


def test_float16_and_bfloat16_are_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    from cupy._core._scalar import get_typename

    assert get_typename("float16") == "float16"
    assert get_typename(ml_dtypes.bfloat16) == "bfloat16"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("xp.swirl(x)", "there is no such name"),
        ("namespace(x).vecdot(x, y)", "there is no such name"),
        ("xp.take(x, i, axes=0)", "got an unexpected keyword argument 'axes'"),
        ("xp.mean(x, 0, None, None, False, 1)", "too many positional arguments"),
        ("xp.tanh(x, where=m)", "takes no where"),
        ("xp.maximum(x)", "takes 2 to 3 arguments"),
        ("cupy.cuda.alloc_pinned_memory(1, 2)", "takes 1 arguments"),
    ],
)
def test_what_is_not_there_is_found(line, why):
    use, *_ = uses_of(ast.parse(line), "backend.py")
    assert complaint(use) == why


def test_importing_the_twins_needs_no_gpu():
    assert callable(importlib.import_module("refimpl.ops.fused.cupy").twins)
