# %% [markdown]
# # 01 · Arrays, shapes, and where they live
#
# Everything in this package is an array and a function from arrays to an array. There is no layer
# object, no graph, no gradient; a model is a list of functions applied in order. This notebook has
# the few habits that make such code readable: letters for axes, one line for the shapes,
# broadcasting, names for intermediate values, and one way to run the same line on a CPU and on a
# GPU.
#
# *Harris et al. 2020 (NumPy); the Python array API standard. Code: `refimpl/backend.py`,
# `refimpl/taps.py`, `refimpl/replacing.py`. The letters: `docs/notation.md`.*

# %%
import inspect
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl import ops
from refimpl.backend import get_backend, namespace
from refimpl.parity.goldens import read_golden
from refimpl.replacing import plain, replace

pictures.begin()
numpy.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## Letters for axes
#
# An array of hidden states has three axes: texts, places, features. We write (B, S, D). The first
# line of every operation says which shapes go in and which comes out:

# %%
for operation in (ops.linear, ops.split_heads, ops.softmax, ops.embedding):
    print(f"{operation.__name__:12} {inspect.getdoc(operation).splitlines()[0]}")

# %% [markdown]
# The same letter is the same size throughout the line, `...` is any number of axes in front. So
# `(..., I), (O, I), (O) -> (..., O)` says that a linear map changes the last axis only, and that
# its weight has a row for each output. A test reads these lines and runs each operation on arrays
# of such shapes.

# %%
random = numpy.random.default_rng(0)
x = random.standard_normal((2, 5, 12))  # B = 2, S = 5, D = 12
weight, bias = random.standard_normal((7, 12)), random.standard_normal(7)
print(x.shape, "->", ops.linear(x, weight, bias).shape)

# %% [markdown]
# ## Broadcasting
#
# Where an axis has length 1, or is missing in front, its one value serves for all. A bias (D) is
# added to every token of (B, S, D); a mask (B, 1, 1, T) serves all heads and all queries. What is
# broadcast is not copied.

# %%
lengths = numpy.array([5, 3])
mask = ops.length_mask(lengths, places=5)  # (B, S): one row for each text
scores = numpy.zeros((2, 3, 5, 5))  # (B, H, S, T)
shares = ops.softmax(ops.mask_scores(scores, ops.broadcast_mask(mask)))

figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.4))
for text, ax in enumerate(axes):
    pictures.grid(ax, shares[text, 0], numbers=".2f", title=f"text {text}, any head")
    ax.set(xlabel="looked at", ylabel="looks")
pictures.show(figure)

# %% [markdown]
# ## Moving axes costs nothing, mostly
#
# `split_heads` turns (B, S, D) into (B, H, S, K). It is a *view*: the numbers stay where they are,
# and only the description changes of how far one has to step for the next element of each axis
# (the *strides*).

# %%
heads = ops.split_heads(x, size=4)
print("strides of x    ", x.strides)
print("strides of heads", heads.strides)
print("same memory:", numpy.shares_memory(x, heads))

# %% [markdown]
# ## A model is a function
#
# What goes in are lists or arrays, what comes out is a tuple of arrays with names. Nothing is
# remembered between calls. The weights are a mapping, *name in the published file → array*; a part
# of the model takes the sub-mapping under its own prefix, and its operation takes the arrays by
# their names:

# %%
golden = read_golden(Path("../golden/xlm_roberta/from_text"))
model = refimpl.load(golden.folder, dtype="float64", kernels="plain")
layer = model.weights["roberta.encoder.layer.0"]
print("parts   ", list(layer))
print("query   ", {name: array.shape for name, array in layer["attention.self.query"].items()})

hidden = random.standard_normal((1, 5, 12))
query = ops.linear(hidden, **layer["attention.self.query"])
print("computed", query.shape)

# %% [markdown]
# ## Looking in, and changing something
#
# Every intermediate value passes through `tap(name, x)`. While `refimpl.record()` is open, it is
# kept. And every operation can be replaced for the length of a block, by its name, wherever it is
# called: here is the model with the other GELU, without touching its code.

# %%
inputs = golden.inputs()
with refimpl.record() as taps:
    right = model(**inputs).logits
with replace(gelu_erf=ops.gelu_tanh):
    other = model(**inputs).logits

print(
    len(taps), "taps;", f"the other GELU moves the logits by up to {abs(other - right).max():.1e}"
)

# %% [markdown]
# ## The same line on another machine
#
# No operation names NumPy. Each asks its arrays where they live (`xp = namespace(x)`) and uses the
# functions of the Python array API standard, which NumPy, CuPy and others have in common. So the
# same source runs on a GPU: `refimpl.load(path, backend="cupy")` (notebook 15).
#
# Whether code really keeps to the standard is easy to get wrong on a machine without a GPU. There
# is a third namespace for that, array-api-strict: it has the standard's functions and *nothing
# else*, and made-up devices that refuse to be mixed. It is slow and merciless.

# %%
strict = get_backend("strict:device1")
row = strict.asarray(numpy.array([[1.0, 2.0, 3.0]]))
print("device   ", row.device)
print("namespace", namespace(row).__name__)
print("softmax  ", refimpl.to_numpy(ops.softmax(row)))

elsewhere = get_backend("strict:device2").asarray(numpy.array([[1.0, 2.0, 3.0]]))
try:
    row + elsewhere
except Exception as error:
    print(type(error).__name__, "-", error)

# %% [markdown]
# ## The check
#
# The same source, on NumPy and on the strict namespace, against what the original computed:

# %%
# rounding: another processor shows other digits
truth = golden.part("output")["logits"]
for backend in ("numpy", "strict:device1"):
    model = refimpl.load(golden.folder, dtype="float64", backend=backend, kernels="plain")
    logits = refimpl.to_numpy(model(**inputs).logits)
    error = abs(logits - truth).max() / abs(truth).max()
    print(f"{backend:15} relative error {error:.0e}")
    assert error < 1e-12

# %% [markdown]
# ## Exercises
#
# 1. `ops.linear` is called with `x` (5, 12) and a weight (12, 7). What is wrong, and what would
#    TensorFlow say to the same weight?
# 2. Which axes does `ops.merge_heads(ops.split_heads(x, size=4))` leave in memory as they were? Is
#    the result a view of `x`?
# 3. Count how often a forward pass of the model calls `linear`, without reading its source.
#
# ## Solutions

# %%
# 1. The weight lies as published, (O, I): one row for each output. TensorFlow and JAX keep the
#    transposed kernel, (I, O), and would take it as it is.
kernel = random.standard_normal((12, 7))
assert ops.linear(random.standard_normal((5, 12)), kernel.T).shape == (5, 7)

# %%
# 2. The heads of one token lie side by side again, where they always were; NumPy can tell here, and
#    makes a view. After attention has computed something new for each head, it must copy.
assert numpy.shares_memory(ops.merge_heads(ops.split_heads(x, size=4)), x)

# %%
# 3. Put a function that counts in its place.


calls = []


def counted(x, weight, bias=None):
    """Count, and do what linear does."""
    calls.append(weight.shape)
    return plain("linear")(x, weight, bias)


model = refimpl.load(golden.folder, dtype="float64", kernels="plain")
with replace(linear=counted):
    model(**inputs)
print(len(calls), "calls:", calls)
assert len(calls) == 6 + 2  # query, key, value, output, two of the feed-forward; two of the head
