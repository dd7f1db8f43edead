"""The shape line that opens every operation's docstring is true: read, run, compared.

    (B, S, D), (D) -> (B, S, D)        real arrays in, an arrow, what comes out
    ids (...), mask (B, T) -> ()       integers, booleans; any leading axes; a single number

The letters are those of docs/notation.md. Each stands for a prime of its own, D for H times K.
"""

import ast
import inspect
import operator
import re
from pathlib import Path

import numpy
import pytest

from refimpl import ops

ROOT = Path(__file__).parents[2]
NOTATION = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8")
LEGEND = NOTATION.partition("## The letters")[2].partition("##")[0]
LETTERS = re.findall(r"^\| `(\w)` \|", LEGEND, re.MULTILINE)

PRIMES = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71]
SIZES = dict(zip(LETTERS, PRIMES, strict=False))
SIZES["D"] = SIZES["H"] * SIZES["K"]
SIZES["V"] = SIZES["C"] - 2 + 31 + 31  # 89, a prime: adaptive softmax with two clusters of 31 words

KINDS = {"": "f", "ids ": "i", "mask ": "b"}  # what stands before a parenthesis -> dtype.kind
ARRAY = re.compile(r"(ids |mask |)\(([^()]*)\)")

SEGMENTS = ops.Segments(  # one text of N tokens, as far as shapes go
    (SIZES["B"], SIZES["S"]),
    ((1, SIZES["N"]),),
    numpy.zeros(SIZES["N"], int),
    numpy.zeros(SIZES["B"] * SIZES["S"], int),
)

# What an operation must be given besides the arrays of its line.
OPTIONS = {
    "adaptive_log_softmax": {
        "tails": [(numpy.ones((n, SIZES["D"])), numpy.ones((31, n))) for n in (5, 3)]
    },
    "attention_by_segments": {
        "segments": SEGMENTS,
        "attend": ops.multi_head_attention,
        "head_size": SIZES["A"],
        "mask": numpy.ones((1, 1, 1, SIZES["N"]), bool),
    },
    "attention_mask_for": {"past": SIZES["T"] - SIZES["S"], "causal": True},
    "causal_mask": {"queries": SIZES["S"], "keys": SIZES["T"], "like": numpy.zeros(1)},
    "cross_entropy": {"ignore_index": -100},
    "layer_norm": {"eps": 1e-5},
    "length_mask": {"places": SIZES["S"]},
    "multi_head_attention": {
        "head_size": SIZES["A"],
        "mask": numpy.ones((SIZES["B"], 1, 1, SIZES["T"]), bool),
    },
    "negative_log_likelihood": {"ignore_index": -100},
    "pack": {"segments": SEGMENTS},
    "position_ids_from_padding": {"padding_idx": 1},
    "position_ids_in_order": {"padding_idx": 1},
    "relative_position_scores": {"of_key": True},
    "scaled_dot_product_attention": {
        "mask": numpy.ones((SIZES["B"], 1, 1, SIZES["T"]), bool),
        "scale": 0.5,
    },
    "sinusoidal_positions": {"width": SIZES["D"]},
    "split_heads": {"size": SIZES["K"]},
    "tiled_attention": {
        "mask": numpy.ones((SIZES["B"], 1, 1, SIZES["T"]), bool),
        "scale": 0.5,
        "tile": 10,
    },
    "unpack": {"segments": SEGMENTS},
}


def parse(line):
    """Return what goes in and what comes out: for each array its kind and its axes."""
    sides = re.split(" ?-> ", line)  # nothing stands before the arrow where no array goes in
    assert len(sides) == 2, f"expected one arrow: {line}"
    for side in filter(None, sides):
        assert re.fullmatch(rf"{ARRAY.pattern}(, {ARRAY.pattern})*", side), f"cannot read: {side}"
    return [[(KINDS[k], a.split(", ") if a else []) for k, a in ARRAY.findall(s)] for s in sides]


def shape_of(axes, leading):
    """Return the sizes that the axes stand for. "T-S" is a difference, "B*C" two laid into one."""
    return sum((leading if axis == "..." else (size_of(axis),) for axis in axes), ())


def size_of(axis):
    """Return the size of one axis."""
    for sign, of in (("*", operator.mul), ("-", operator.sub)):
        if sign in axis:
            return of(*map(size_of, axis.split(sign)))
    assert axis in SIZES or axis.isdecimal(), f"{axis} is not in docs/notation.md"
    return SIZES.get(axis) or int(axis)


def make(kind, shape):
    """Return halves, zeros (an id in any table) or True."""
    value, dtype = {"f": (0.5, float), "i": (0, int), "b": (True, bool)}[kind]
    return numpy.full(shape, value, dtype)


def check(function, options):
    """Run ``function`` on the shapes of its first line and compare what comes out."""
    line = function.__doc__.splitlines()[0]
    inputs, outputs = parse(line)
    for leading in [(), (73,), (73, 79)] if "..." in line else [()]:
        arguments = [make(kind, shape_of(axes, leading)) for kind, axes in inputs]
        result = function(*arguments, **options)
        # Of a named tuple the line gives the first field.
        results = result[:1] if isinstance(result, tuple) else (result,)
        expected = [(kind, shape_of(axes, leading)) for kind, axes in outputs]
        assert [(x.dtype.kind, x.shape) for x in results] == expected


OPS = [name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))]


@pytest.mark.parametrize("name", OPS)
def test_the_shape_line_of_an_operation_is_true(name):
    check(getattr(ops, name), OPTIONS.get(name, {}))


def test_every_public_function_in_ops_is_among_the_operations():
    for path in (ROOT / "refimpl" / "ops").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert node.name in ops.__all__, f"{path.name}: {node.name}"


def test_the_legend_has_every_letter_once_and_every_size_is_another():
    assert "".join(sorted(LETTERS)) == "ABCDEFGHIKLNOPQSTV"
    assert len(set(SIZES.values())) == len(LETTERS)


# The files of models/ whose functions take arrays: how many shape lines they have at least.
MODELS = {
    "generation.py": 9,
    "heads.py": 12,
    "next_token.py": 3,
    "packing.py": 1,
    "xlm.py": 7,
    "xlm_heads.py": 14,
    "xlm_roberta.py": 6,
    "xlm_roberta_xl.py": 8,
    "xmod.py": 10,
    "xmod_languages.py": 1,
}


def shape_lines(file):
    tree = ast.parse((ROOT / "refimpl" / "models" / file).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    lines = [(ast.get_docstring(node) or "").split("\n")[0] for node in functions]
    return [line for line in lines if ARRAY.match(line)]


@pytest.mark.parametrize("file", MODELS)
def test_shape_lines_of_models_use_the_legend(file):
    lines = shape_lines(file)
    assert len(lines) >= MODELS[file]
    for line in lines:
        for side in parse(line):
            for axis in (axis for _, axes in side for axis in axes):
                shape_of([axis], ())


# --- and a line that is wrong is found ------------------------------------------------------------


def swapped(x):
    """(B, S) -> (S, B)"""
    return x


def one_axis_too_few(x):
    """(..., D) -> (...)"""
    return x


def not_integers(x):
    """(B, S) -> ids (B, S)"""
    return x


def unknown_letter(x):
    """(B, X) -> (B, X)"""
    return x


def no_arrow(x):
    """(B, S), (B, S)"""
    return x


def a_sentence_first(x):
    """Return x.

    (B, S) -> (B, S)
    """
    return x


def another_difference(x):
    """(B, T) -> (B, T-S)"""
    return x[:, 1:]


@pytest.mark.parametrize(
    "function",
    [
        another_difference,
        swapped,
        one_axis_too_few,
        not_integers,
        unknown_letter,
        no_arrow,
        a_sentence_first,
    ],
)
def test_a_wrong_line_is_found(function):
    with pytest.raises(AssertionError):
        check(function, {})
