# %% [markdown]
# # 13 · Floating point: truth, rounding, and how to tell a mistake from noise
#
# Two correct programs never give the same digits: they add in another order, on another machine,
# in another format. A port with a small mistake does not give the same digits either. Which is
# which? This notebook looks at where rounding comes from, how it travels through a model, and how
# one measures how much of it is honest.
#
# *Goldberg 1991, What every computer scientist should know about floating-point arithmetic;
# Higham 2002, Accuracy and stability of numerical algorithms, chapter 4.
# Code: `refimpl/parity/rounding.py`, `refimpl/parity/floors/`.*

# %%
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl import ops
from refimpl.parity import rounding
from refimpl.parity.faults import CATALOGUE
from refimpl.parity.floors import MULTIPLIER, measure_errors, read_floors
from refimpl.parity.goldens import read_golden
from refimpl.parity.reference import run_reference

pictures.begin()

# %% [markdown]
# ## A ruler whose marks grow apart
#
# A floating-point number has a sign, a power of two, and a *significand* of a few bits. So its
# neighbours are not at a fixed distance, but at a fixed share of its size: the format's *unit*.
#
# | format | bits of the significand | unit, 2^-bits | largest number |
# |---|---|---|---|
# | float64 | 53 | 1.1e-16 | 1.8e308 |
# | float32 | 24 | 6.0e-8 | 3.4e38 |
# | float16 | 11 | 4.9e-4 | 65,504 |
# | bfloat16 | 8 | 3.9e-3 | 3.4e38 |
# | TF32 (inside some GPUs' products) | 11 | 4.9e-4 | 3.4e38 |
#
# π as each of them keeps it (the narrow ones as the package emulates them, by rounding):

# %%
pi = numpy.asarray([math.pi])
print(f"float64  {pi[0]:.17f}")
print(f"float32  {float(numpy.float32(math.pi)):.17f}")
print(f"float16  {rounding.float16(pi)[0]:.17f}")
print(f"bfloat16 {rounding.bfloat16(pi)[0]:.17f}")
assert rounding.float16(pi)[0] == numpy.float16(math.pi)

# %% [markdown]
# Small numbers are finer than large ones, in every format but at the ends of its range: float16
# steps evenly below 6e-5, and knows nothing beyond 65,504. Its narrow *range* is the reason why
# some of the operations widen to float32 inside, and why bfloat16, with even fewer digits, often
# does better.

# %%
x = numpy.logspace(-9, 6, 400)
figure, ax = plt.subplots(figsize=(6.4, 3.0))
for name, dtype in (("float16", numpy.float16), ("float32", numpy.float32)):
    inside = x[x < numpy.finfo(dtype).max]
    ax.loglog(inside, numpy.spacing(inside.astype(dtype)).astype(float), label=name)
ax.loglog(x, 2.0 ** (numpy.floor(numpy.log2(x)) - 7), label="bfloat16")
ax.set(xlabel="number", ylabel="distance to the next")
ax.legend()
pictures.show(figure)

# %% [markdown]
# ## The order of a sum
#
# (a + b) + c is not a + (b + c). A dot product over 768 features is a sum of 768 terms, and no two
# matrix libraries add them in the same order. One number after another, in float32, the error
# grows with the number of terms; in pairs (as NumPy's `sum` does) much more slowly; with a float64
# account hardly at all.

# %%
# rounding: another processor shows other digits
big, small = numpy.float32(1e8), numpy.float32(1.0)
print("(1e8 + 1) - 1e8 =", (big + small) - big)
print("(1e8 - 1e8) + 1 =", (big - big) + small)

random = numpy.random.default_rng(0)
lengths = [2**k for k in range(4, 17, 2)]
ways = {"one after another": [], "in pairs": [], "float64 account": []}
for n in lengths:
    terms = random.random((50, n)).astype(numpy.float32)
    truth = numpy.array([math.fsum(row) for row in terms])
    sums = {
        "one after another": numpy.cumsum(terms, axis=1, dtype=numpy.float32)[:, -1],
        "in pairs": terms.sum(axis=1),
        "float64 account": terms.sum(axis=1, dtype=numpy.float64).astype(numpy.float32),
    }
    for way, found in sums.items():
        ways[way].append(float(numpy.abs(found / truth - 1).mean()))

figure, ax = plt.subplots(figsize=(6.4, 3.0))
for way, errors in ways.items():
    ax.loglog(lengths, errors, "o-", base=2, label=way)
ax.axhline(2.0**-24, color=pictures.GREY, linestyle="--")
ax.set(xlabel="terms", ylabel="relative error")
ax.legend()
pictures.show(figure)

# %% [markdown]
# (Dashed: the unit of float32.)
#
# ## The same formula, written otherwise
#
# The variance of a row is the mean of (x - mean)², and also the mean of x² less mean². On paper.
# With a mean of 3000 and a spread of 1, x² has used up all its digits before the subtraction, and
# nothing is left of the answer. `ops.layer_norm` takes the first form.

# %%
# rounding: another processor shows other digits
row = (3000 + random.standard_normal(768)).astype(numpy.float32)
truth = row.astype(numpy.float64).var()
centred = row - row.mean()
print(f"truth               {truth:.6f}")
print(f"mean of (x - mean)² {float((centred * centred).mean()):.6f}")
print(f"mean of x² - mean²  {float((row * row).mean() - row.mean() ** 2):.6f}")

# %% [markdown]
# ## Widen and cast back
#
# In float16 a square overflows from 256 on, and an eps of 1e-12 is 0. So the layer norm of a
# float16 array is computed in float32 and cast back, as PyTorch does:

# %%
x = numpy.array([300, -300, 0], numpy.float16)
one, zero = numpy.ones(3, numpy.float16), numpy.zeros(3, numpy.float16)
with numpy.errstate(over="ignore"):
    print("x * x      ", x * x)
print("eps        ", numpy.float16(1e-12))
print("layer norm ", ops.layer_norm(x, one, zero, eps=1e-12))

# %% [markdown]
# ## How an error travels
#
# A model of eleven layers, whose every intermediate the original computed in float64: the *truth*.
# We run it in float32 and float16, and look at the hidden states after each layer.

# %%
# rounding: another processor shows other digits
golden = read_golden(Path("../golden/xlm_roberta/eleven_layers"))
truth, inputs = golden.part("tap"), golden.inputs()


def run(dtype):
    """Return all taps of the model in a dtype."""
    model = refimpl.load(golden.folder, dtype=dtype, kernels="plain")
    with refimpl.record() as taps:
        model(**inputs)
    return taps


ends = [name for name in truth if name.endswith("output.LayerNorm") and "attention" not in name]
figure, ax = plt.subplots(figsize=(6.4, 3.0))
for dtype in ("float16", "float32", "float64"):
    taps = run(dtype)
    errors = [measure_errors(taps[name], truth[name]).rms for name in ends]
    ax.semilogy(range(1, len(ends) + 1), errors, "o-", label=dtype)
ax.set(xlabel="after layer", ylabel="error (RMS)", ylim=(1e-17, 1))
ax.legend(loc="center right", bbox_to_anchor=(1.0, 0.3))
pictures.show(figure)

# %% [markdown]
# Three lines, a dozen orders of magnitude apart, each nearly flat: the layer norms keep the size of
# the states, and with it the share of the error. This is why float64 can be the truth for float32:
# its own error is a hundred million times smaller. And it is why a difference of 1e-6 *in float64*
# is never rounding.
#
# ## What is honest?
#
# How far off may a float32 run be, at *this* tap, of *this* model, for *this* input? Rules of thumb
# (`atol=1e-5`) are wrong in both directions. So it is measured: an ensemble of correct
# implementations, which sum in other orders, split their products, take other forms of softmax and
# layer norm, runs in float32, and their largest error at each tap is its **floor**. For the bundled
# goldens the floors lie beside the truth.

# %%
# rounding: another processor shows other digits
floors = read_floors(golden, "float32")
print(f"{floors.runs} honest runs; a mistake is what is off by more than {MULTIPLIER:.0f} floors")

model = refimpl.load(golden.folder, dtype="float32", kernels="plain")
right = run_reference(model, inputs)
wrong = run_reference(model, inputs, [CATALOGUE["gelu_tanh"]])

names = [name for name in truth if name in floors.free and truth[name].dtype.kind == "f"]
names = [name for name in names if floors.free[name].worst > 0]  # not those that are looked up


def units(dump):
    """Return how far off a run is at each tap, in floors."""
    return [floors.units(name, measure_errors(dump.taps[name], truth[name])) for name in names]


figure, ax = plt.subplots(figsize=(6.8, 3.0))
ax.semilogy(units(right), label="ours")
ax.semilogy(units(wrong), label="the other GELU")
ax.axhline(1, color=pictures.GREY, linestyle=":")
ax.axhline(MULTIPLIER, color=pictures.RED, linestyle="--", label=f"{MULTIPLIER:.0f} floors")
ax.set(xlabel="tap, in the order of the computation", ylabel="error in floors")
ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
pictures.show(figure)

# %% [markdown]
# The two GELUs part by at most 5e-4 (notebook 06), and `allclose(rtol=1e-3)` would let the answer
# pass. In floors there is no doubt: a correct run stays around 1, and the other one is hundreds of
# floors up from the first activation on, at all but a few taps.
#
# ## The check
#
# In float64 we agree with the original to 1e-12 at every tap:

# %%
# rounding: another processor shows other digits
taps = run("float64")
worst = max(abs(taps[n] - x).max() / abs(x).max() for n, x in truth.items() if x.dtype.kind == "f")
print(f"worst of {len(truth)} taps: {worst:.0e}")
assert worst < 1e-12

# %% [markdown]
# ## Exercises
#
# 1. Which is the first integer that float16 cannot hold?
# 2. `ops.softmax` subtracts the row's maximum. What happens to [1000, 1001] in float32 without
#    that, and why is the result the same with it?
# 3. The dtype's lowest number is *added* to a masked score in the original; `ops.mask_scores`
#    puts a number there instead. Find a score in float16 for which the two differ.
# 4. Is our float32 run closer to the truth when its weights are float32 and all its arithmetic is
#    float64? What does that say about where the error comes from?
#
# ## Solutions

# %%
# 1. 2049: eleven bits hold all integers up to 2048; from there on every second one.
integers = numpy.arange(4096)
first = int(integers[integers.astype(numpy.float16) != integers][0])
assert first == 2049

# %%
# 2. exp(1000) is infinite, and infinity / infinity is not a number. exp(x - c) / Σ exp(x - c) is
#    the same for every c, because exp(-c) cancels.
x = numpy.array([1000, 1001], numpy.float32)
with numpy.errstate(over="ignore", invalid="ignore"):
    naive = numpy.exp(x) / numpy.exp(x).sum()
assert numpy.isnan(naive).all()
assert abs(ops.softmax(x) - [0.26894142, 0.73105858]).max() < 1e-7

# %%
# 3. Any score below about -16: the sum is rounded to minus infinity, and a row of such scores alone
#    makes NaN.
lowest = numpy.finfo(numpy.float16).min
scores = numpy.array([[-40.0, -50.0]], numpy.float16)
with numpy.errstate(over="ignore", invalid="ignore"):
    added = scores + lowest
    assert numpy.isinf(added).all()
    assert numpy.isnan(ops.softmax(added)).all()
nothing = numpy.array([[False, False]])
assert (ops.softmax(ops.mask_scores(scores, nothing)) == 0.5).all()

# %%
# 4. Much closer, though the weights are the same: they were float32 when the golden was made, so
#    nothing is lost in them. All of the error of a float32 run is that of its arithmetic.
last = ends[-1]
single = measure_errors(run("float32")[last], truth[last]).rms
double = measure_errors(run("float64")[last], truth[last]).rms
assert double < 1e-6 * single
