# %% [markdown]
# # 15 · On a GPU: the same code on CuPy
#
# A GPU is made for multiplying matrices, and everything else about it is awkward: it has a memory
# of its own, it works on its own time, it says little when something is wrong, and it rounds in
# its own ways. This notebook is about the awkward part, and about how the same source runs there
# unchanged.
#
# It was run on a machine *without* a GPU. So nothing here is a measurement of one: no speed is
# claimed, and where an error is shown it is computed on the processor, and says so. Where a GPU is
# found, the cells use it, and should print the same; where none is, array-api-strict plays its part
# (notebook 01), a namespace with made-up devices that forbids what goes wrong on a GPU.
#
# *Code: `refimpl/backend.py`; CuPy (Okuta et al. 2017); the Python array API standard. Notebook 13
# is about rounding as such.*

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl import ops
from refimpl.backend import get_backend, namespace
from refimpl.checkpoints.registry import read_registry
from refimpl.parity import rounding
from refimpl.parity.faults import CATALOGUE
from refimpl.parity.goldens import read_golden
from refimpl.parity.reference import run_reference

pictures.begin()
numpy.set_printoptions(precision=3, suppress=True)

try:
    get_backend("cupy")
    HERE = "cupy"
except (ImportError, RuntimeError):  # CuPy is not installed, or finds no GPU
    HERE = "strict:device1"

# %% [markdown]
# ## One word
#
# The backend is an argument of `load`, and the only thing that changes. (On your own machine, with
# `pip install 'refimpl[gpu]'`, it is `backend="cupy"`, or `"cupy:1"` for the second GPU.)

# %%
golden = read_golden(Path("../golden/xlm_roberta/from_text"))
tokenizer = refimpl.load_tokenizer(golden.folder)
at_home = refimpl.load(golden.folder, dtype="float64", kernels="plain")
away = refimpl.load(golden.folder, dtype="float64", kernels="plain", backend=HERE)

ids = tokenizer.encode("The lamp <mask>")
place = ids.index(tokenizer.mask_token_id)
for name, model in (("numpy", at_home), ("away ", away)):
    logits = refimpl.to_numpy(model(input_ids=[ids]).logits)[0, place]
    p = ops.softmax(logits)
    best = numpy.argsort(-p)[:3].tolist()
    print(name, [f"{tokenizer.convert_ids_to_tokens(i)} {p[i]:.3f}" for i in best])

# %% [markdown]
# ## Two memories
#
# What the model returns lives where it was computed, and stays there until someone asks for it:
# `refimpl.to_numpy` brings an array of any backend home. What goes in may be lists or NumPy arrays.
# The weights travel once, each when it is first used.

# %%
out = away(input_ids=[ids])
print("on the model's device:", out.logits.device == away.backend.device)
print("of NumPy:             ", isinstance(out.logits, numpy.ndarray))
print("brought home:         ", type(refimpl.to_numpy(out.logits)).__name__)

# %% [markdown]
# Between the two memories lies a narrow road, and what one sends over it is the first thing to
# think of. Ids are small. The scores of a masked language model are not: V numbers for every piece,
# 250,002 of them, though one wants to know about one blank. So choose *there*, and bring home what
# was chosen:

# %%
xp = namespace(out.logits)
chosen = xp.argmax(out.logits[0, place, :])
i = int(refimpl.to_numpy(chosen))
print("one number came home:", i, tokenizer.convert_ids_to_tokens(i))

B, S = 8, 512
V, D = (read_registry().find("FacebookAI/xlm-roberta-base").config[name]
        for name in ("vocab_size", "hidden_size"))  # fmt: skip
sent = {
    "ids, to the GPU": B * S * 8,
    "all scores": B * S * V * 4,
    "all vectors": B * S * D * 4,
    "the scores of a blank": B * V * 4,
    "the best piece of a blank": B * 8,
}
figure, ax = plt.subplots(figsize=(7.0, 2.4))
bars = ax.barh(list(sent), list(sent.values()), color=pictures.BLUE)
units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes"))
sizes = [next(f"{n / u:.3g} {name}" for u, name in units if n >= u) for n in sent.values()]
ax.bar_label(bars, sizes, padding=3)
ax.set(xscale="log", xlim=(10, 1e12), xlabel="bytes, for 8 texts of 512 pieces in float32")
ax.invert_yaxis()
ax.tick_params(axis="y", length=0)
pictures.show(figure)

# %% [markdown]
# (Sums of sizes, no measurement. The toy model's outputs confirm the formula:)

# %%
texts = numpy.array(golden.inputs()["input_ids"])
small = refimpl.load(golden.folder, dtype="float32", kernels="plain")
scores = small(input_ids=texts).logits
assert scores.nbytes == texts.size * small.config.vocab_size * 4
print(f"{texts.shape} ids, {texts.nbytes} bytes; scores {scores.shape}, {scores.nbytes} bytes")

# %% [markdown]
# ## What the strict namespace forbids
#
# Three habits work on NumPy and break on a GPU, or run there and cost. The namespace that plays the
# GPU refuses the first two on any machine, and the tests of this package run all goldens on it. The
# third we shall have to forbid ourselves.
#
# *Mixing memories.* An array that was made here and one that was made there:

# %%
strict, other = get_backend("strict:device1"), get_backend("strict:device2")
x = numpy.array([[1.0, 2.0]])


def attempt(name, do):
    """Do something, and print what becomes of it."""
    try:
        do()
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        print(f"{name}: {type(error).__name__}\n  {error}")
    else:
        print(f"{name}: fine")


attempt("two devices", lambda: strict.asarray(x) + other.asarray(x))
attempt("weights left at home", lambda: ops.linear(strict.asarray(x), numpy.eye(2)))

# %% [markdown]
# *Leaning on NumPy.* `numpy.exp(x)` of a GPU's array, or a method that only NumPy's arrays have.
# Every operation asks its array for the right namespace instead, and uses names of the standard
# only (`xp = namespace(x)`, then `xp.exp(x)`):

# %%
attempt("numpy.exp", lambda: numpy.exp(strict.asarray(x)))
attempt("x.mean()", lambda: strict.asarray(x).mean())
attempt("einsum", lambda: strict.xp.einsum)
attempt("xp.exp", lambda: strict.xp.exp(strict.asarray(x)))
attempt("ops.softmax", lambda: ops.softmax(strict.asarray(x)))

# %% [markdown]
# *Asking for a value in between.* A GPU works behind a queue: Python puts work in and goes on
# without waiting. `if x.max() > 0:` needs the value *now*, so everything waits until the queue is
# empty. One such line in a layer, and the GPU stands idle between layers. We close every way by
# which a value gets from an array to Python, and run the model:


# %%
def refuse(self, *_):
    """What a closed way says."""
    raise RuntimeError("a value was asked for")


ways = [name for name in ("__bool__", "__float__", "__int__", "__index__", "__array__")
        if hasattr(strict.array_type, name)]  # fmt: skip
played = refimpl.load(golden.folder, dtype="float64", kernels="plain", backend="strict:device1")
played(input_ids=texts)  # the weights travel in the first call

kept = {name: getattr(strict.array_type, name) for name in ways}
for name in ways:
    setattr(strict.array_type, name, refuse)
try:
    attempt("a value", lambda: float(strict.asarray(x)[0, 0]))
    attempt("the model", lambda: played(input_ids=texts))
finally:
    for name, way in kept.items():
        setattr(strict.array_type, name, way)

# %% [markdown]
# ## Why the ids are checked at home
#
# An id that is no row of the word table is a mistake that everybody makes once: a tokenizer of
# another checkpoint, or an added token. NumPy raises an error. A GPU has nobody to raise one in the
# middle of a kernel, so CuPy *wraps around*: row 302 of a table of 302 rows is row 0 (its
# documentation, "Differences between CuPy and NumPy"). The answer looks like any other. Here is
# what it would be, and what this package does instead: inputs are checked on the host, before
# anything is sent.

# %%
V = at_home.config.vocab_size
wrong = [0, 400, 115, 2]
answer = at_home(input_ids=[[i % V for i in wrong]]).logits[0, 1].argmax()
print(f"wrapped around, silently: {tokenizer.convert_ids_to_tokens(int(answer))!r}")
attempt("checked", lambda: away(input_ids=[wrong]))

# %% [markdown]
# So give a call lists or NumPy arrays. Ids that lie on the GPU already must come home for the
# check, and the queue is waited for.
#
# ## What it rounds
#
# In float64 and in float32 a GPU computes what a processor does, but adds in another order, and
# its exp and tanh may differ in the last bits: honest differences, and the tolerances are four
# times those that honest implementations showed (notebook 13). Three other things are choices:
#
# - **TF32**: matrix units that take float32 but round each *factor* to 11 bits before it is
#   multiplied. Some frameworks have it on by default for some of their products. CuPy wants to be
#   asked: `CUPY_TF32=1` in the environment.
# - **float16**: `dtype="float16"`; 11 bits, up to 65504.
# - **bfloat16**: 8 bits, float32's range. NumPy has no such dtype.
#
# We can see on a processor what they cost, by rounding where they would round. (Emulated: every
# result, or every factor, rounded to fewer bits; a GPU of yours may keep more in between.)

# %%
# rounding: another processor shows other digits
truth = golden.part("output")["logits"]
single = refimpl.load(golden.folder, dtype="float32", kernels="plain")
runs = {
    "float32": [],
    "TF32 in products": [CATALOGUE["tf32_products"]],
    "float16 results": [CATALOGUE["results_in_float16"]],
    "bfloat16 results": [CATALOGUE["results_in_bfloat16"]],
}
errors = {}
for name, changes in runs.items():
    dump = run_reference(single, golden.inputs(), changes)
    errors[name] = abs(dump.outputs["logits"] - truth).max() / abs(truth).max()

figure, ax = plt.subplots(figsize=(7.0, 2.2))
bars = ax.barh(list(errors), list(errors.values()), color=pictures.BLUE)
ax.bar_label(bars, [f"{error:.0e}" for error in errors.values()], padding=3)
ax.set(xscale="log", xlim=(1e-8, 1), xlabel="relative error of the scores, emulated")
ax.invert_yaxis()
ax.tick_params(axis="y", length=0)
pictures.show(figure)
assert errors["float32"] < errors["TF32 in products"] < errors["bfloat16 results"]

# %% [markdown]
# The trap is the second bar: a run that says float32 on every line and is a thousand times less
# exact than float32. `refimpl diagnose` knows it by name, `tf32_products`. If a port on a GPU is
# off by 1e-4 everywhere, ask this first.
#
# What TF32 does to a number, digit by digit:

# %%
for number in (1.0, 1.0 + 2.0**-10, 1.0 + 2.0**-11, 1.0 + 2.0**-12, 1 / 3):
    kept = float(rounding.tf32(numpy.float32([number]))[0])
    print(f"{number:.10f} -> {kept:.10f}")

# %% [markdown]
# ## A kernel for each line
#
# The operations in `refimpl/ops` are written to be read: `softmax` is a maximum, a difference, an
# exp, a sum, a quotient. On a GPU each of these is a program of its own that reads the array from
# memory and writes it back. `kernels="fused"`, the default of `load`, is there for twins that do
# all of it in one go; `kernels="plain"` runs what stands in the file, and is what all notebooks
# use. Whichever runs, the goldens judge it. How much faster the one is than the other depends on
# your GPU and sizes: measure.
#
# ## The check
#
# One case of each family, all taps and outputs, on whatever this notebook runs on:

# %%
for family in ("xlm", "xlm_roberta", "xlm_roberta_xl", "xmod"):
    case = Path("../golden") / family / "model"
    report = refimpl.verify(case, backend=HERE, dtype="float64", kernels="plain")
    print(f"{family:15} held: {report.held}")
    assert report.held

# %% [markdown]
# On a machine with a GPU, `refimpl verify --backend cupy` does that with all goldens in float64 and
# float32. Do it once on every new machine, before you believe anything else it says.
#
# ## Exercises
#
# 1. Write a function that gives each text the mean of its vectors, padding left out, and that runs
#    on any backend. Does it give the same on NumPy and here?
# 2. 64 texts of 128 pieces, one blank in each, XLM-R-base in float32. How many bytes come home if
#    all scores do? How many, if the five best pieces of each blank do, with their probabilities?
# 3. TF32 keeps 11 bits of each factor. Find two float32 numbers whose product is exact in float32
#    and wrong in TF32.
# 4. Why does a run in float16 not simply have twice the error of one in TF32, though both have 11
#    bits?
#
# ## Solutions


# %%
# 1. Everything comes from the arrays' own namespace.
def mean_of_tokens(hidden, mask):
    """(B, S, D), mask (B, S) -> (B, D)"""
    xp = namespace(hidden, mask)
    weights = xp.astype(mask, hidden.dtype)[:, :, None]
    return xp.sum(hidden * weights, axis=1) / xp.sum(weights, axis=1)


hidden = numpy.random.default_rng(0).standard_normal((2, 5, 12))
mask = numpy.array(golden.inputs()["attention_mask"], dtype=bool)
home = mean_of_tokens(hidden, mask)
there = mean_of_tokens(away.backend.asarray(hidden), away.backend.asarray(mask))
assert numpy.allclose(refimpl.to_numpy(there), home)
assert numpy.allclose(home[1], hidden[1, :4].mean(axis=0))

# %%
# 2. 8.2 GB, or 64 times five ids of eight bytes and five probabilities of four.
everything, chosen = 64 * 128 * 250_002 * 4, 64 * 5 * (8 + 4)
print(f"{everything / 1e9:.1f} GB, {chosen} bytes")
assert (everything, chosen) == (8_192_065_536, 3840)

# %%
# 3. 4097 has 13 bits. Times 1 it is 4097; TF32 makes it 4096 first.
one, number = numpy.float32([1.0]), numpy.float32([4097.0])
assert (one * number)[0] == 4097.0
assert (rounding.tf32(one) * rounding.tf32(number))[0] == 4096.0

# %%
# 4. TF32 rounds the factors of products; sums, and all that is not a product, keep float32. In
#    float16 every result is rounded, norms and residuals too, and each layer adds its own.
assert errors["TF32 in products"] < errors["float16 results"]
