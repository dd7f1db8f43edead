# %% [markdown]
# # 05 · Attention, by hand and then in tiles
#
# A token becomes what it means by looking at the other tokens. *Attention* is how it looks: it
# asks a question (its **query**), every token offers a label (its **key**) and some content (its
# **value**); the better a key answers the query, the more of that value flows in.
#
# We do it once with numbers small enough to follow by eye, then with the very functions that the
# models of this package run, then in the form that needs no matrix of all pairs.
#
# *Vaswani et al. 2017, section 3.2. Code: `refimpl/ops/attention.py`. Letters of shapes:
# B texts, S queries, T keys, D features, H heads, K features of one head.*

# %%
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl import ops
from refimpl.parity.goldens import read_golden

pictures.begin()
numpy.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## A dictionary that answers softly
#
# A Python dictionary compares your key with its keys and returns the one value whose key is equal.
# Attention compares by dot product and returns a *mixture* of all values. Three tokens, keys of two
# numbers, values of one:

# %%
keys = numpy.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # "right", "up", "left"
values = numpy.array([[10.0], [20.0], [30.0]])
query = numpy.array([[2.0, 1.0]])  # much right, some up

products = query @ keys.T
print("products", products)

# %% [markdown]
# Products are not yet shares: they can be negative, and they do not sum to 1. *Softmax* makes
# shares of them, exp(x) / Σ exp(x). It is the one place where tokens compete: one token's gain is
# the others' loss.

# %%
shares = ops.softmax(products)
print("shares  ", shares, " sum", shares.sum())
print("answer  ", shares @ values)

# %% [markdown]
# The answer lies near 10, the value of "right", pulled up a little by "up". Multiply the query by
# 10 and the soft dictionary becomes a hard one; multiply it by 0 and it returns the plain mean:

# %%
for sharpness in (0.0, 1.0, 10.0):
    shares = ops.softmax(sharpness * products)
    print(f"query x {sharpness:4}: shares {shares[0]}, answer {(shares @ values)[0, 0]:.3f}")

# %% [markdown]
# ## Why the scores are divided by √K
#
# A dot product of K independent numbers of variance 1 has variance K: the more features, the
# larger the scores, and the harder the softmax, until nearly all weight sits on one token and the
# others are not heard. Dividing by √K brings the variance back to 1, whatever K is.

# %%
random = numpy.random.default_rng(0)
sizes = [4, 16, 64, 256, 1024]
spread, top_raw, top_scaled = [], [], []
for size in sizes:
    q, k = random.standard_normal((2, 500, 32, size))  # 500 queries, 32 keys each
    scores = (q[:, :1] * k).sum(axis=-1)
    spread.append(scores.std())
    top_raw.append(ops.softmax(scores).max(axis=-1).mean())
    top_scaled.append(ops.softmax(scores / math.sqrt(size)).max(axis=-1).mean())

figure, (left, right) = plt.subplots(1, 2)
left.loglog(sizes, spread, "o-", base=2)
left.loglog(sizes, numpy.sqrt(sizes), "--", color=pictures.GREY, base=2)
left.set(title="spread of q · k (dashed: √K)", xlabel="K")
right.semilogx(sizes, top_raw, "o-", base=2, label="not scaled")
right.semilogx(sizes, top_scaled, "o-", base=2, label="divided by √K")
right.set(title="share of the best of 32 keys", xlabel="K", ylim=(0, 1))
right.legend()
pictures.show(figure)

# %% [markdown]
# Forgetting the scale, or taking √D for √K, is a mistake that ports do make; `refimpl diagnose`
# knows both by name.
#
# ## A head
#
# `ops.scaled_dot_product_attention` is the formula, softmax(mask(Q Kᵀ scale)) V, for a batch of
# texts and several heads at once. It returns every stage, latest first. Our example, in its axes
# (B, H, S, K):

# %%
result = ops.scaled_dot_product_attention(
    query[None, None],
    keys[None, None],
    values[None, None],
    mask=numpy.array([[[[True, True, True]]]]),
    scale=1.0,
)
for name in ("scores", "probs", "context"):
    print(f"{name:8}", getattr(result, name)[0, 0])

# %% [markdown]
# ## What may not be looked at
#
# Texts of a batch have different lengths; the shorter ones are filled up with padding, which must
# not be looked at. A mask says where to look (True), and scores elsewhere are replaced, *before*
# the softmax, by a number so low that exp makes it exactly 0. Masking after the softmax would be
# wrong: the shares that are left would no longer sum to 1.

# %%
scores = numpy.array([[2.0, 1.0, -2.0]])
mask = numpy.array([[True, True, False]])
before = ops.softmax(ops.mask_scores(scores, mask))
after = ops.softmax(scores) * mask
print("masked before the softmax", before, " sum", before.sum())
print("masked after it          ", after, " sum", round(after.sum(), 3))

# %% [markdown]
# A decoder may not look ahead either: its mask is a triangle. This is all that makes a causal
# language model causal.

# %%
triangle = ops.causal_mask(5, 5, like=scores)
shares = ops.softmax(ops.mask_scores(numpy.zeros((5, 5)), triangle))

figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.6))
names = [f"t{i}" for i in range(5)]
pictures.grid(axes[0], triangle.astype(float), rows=names, columns=names, title="the mask")
pictures.grid(axes[1], shares, rows=names, columns=names, numbers=".2f", title="the shares")
pictures.show(figure)

# %% [markdown]
# ## Several heads
#
# One softmax can point at one place. A token may need its verb *and* its article, so the D features
# are cut into H heads of K = D / H features each, which look around independently. No arithmetic
# happens in the cutting: `split_heads` renames axes, `merge_heads` undoes it.

# %%
x = numpy.arange(2 * 6.0).reshape(1, 2, 6)  # one text, two tokens, six features
heads = ops.split_heads(x, size=2)
print("(B, S, D)   ", x.shape, "\n", x[0])
print("(B, H, S, K)", heads.shape, "\n", heads[0])
assert (ops.merge_heads(heads) == x).all()

# %% [markdown]
# The order of the cut matters: features 0 and 1 are head 0, features 2 and 3 head 1. A port that
# reshapes (B, S, K, H) instead gets arrays of the right shape with the wrong numbers.
#
# ## In a model
#
# Now the real thing: a small XLM-RoBERTa whose numbers the original implementation computed for us
# (a *golden*), one layer, three heads. `refimpl.record()` keeps every intermediate by its name.

# %%
golden = read_golden(Path("../golden/xlm_roberta/from_text"))
model = refimpl.load(golden.folder, dtype="float64", kernels="plain")
tokenizer = refimpl.load_tokenizer(golden.folder)
inputs = golden.inputs()

with refimpl.record() as taps:
    model(**inputs)

here = "roberta.encoder.layer.0.attention.self"
for part in ("query", "key", "value", "scores", "probs", "context"):
    print(f"{part:8}", taps[f"{here}.{part}"].shape)

# %%
row = 0
tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][row].tolist())
probs = taps[f"{here}.probs"][row]

figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.9), sharey=True)
for head, ax in enumerate(axes):
    pictures.grid(ax, probs[head], rows=tokens, columns=tokens, numbers=".2f", title=f"head {head}")
axes[0].set_ylabel("looks at")
pictures.show(figure)

# %% [markdown]
# Each row is one token's view and sums to 1. (The weights are random, so do not look for meaning;
# do look for how the three heads differ.)
#
# We can follow the model by hand from its own queries, keys and values to the context that it hands
# on. Nothing is hidden between these two:

# %%
# rounding: another processor shows other digits
by_hand = ops.multi_head_attention(
    taps[f"{here}.query"],
    taps[f"{here}.key"],
    taps[f"{here}.value"],
    head_size=model.config.head_size,
    mask=ops.broadcast_mask(inputs["attention_mask"]),
)
print("largest difference:", abs(by_hand.context - taps[f"{here}.context"]).max())

# %% [markdown]
# ## Attention knows no order
#
# Shuffle the tokens and the results are shuffled with them, nothing else changes: no score depends
# on *where* a token stands. That is why the embeddings must carry positions (notebook 04).

# %%
# rounding: another processor shows other digits
shuffled = [3, 0, 4, 2, 1]
q, k, v = (taps[f"{here}.{part}"][:, shuffled] for part in ("query", "key", "value"))
mask = ops.broadcast_mask(inputs["attention_mask"][:, shuffled])
context = ops.multi_head_attention(q, k, v, head_size=4, mask=mask).context
print("largest difference:", abs(context - by_hand.context[:, shuffled]).max())

# %% [markdown]
# ## In tiles
#
# The matrix of all pairs, S x T for every head, grows with the square of the length: for 8 texts of
# 512 tokens, 12 heads and 4 bytes a number it is 100 MB, per layer. It is not needed. Softmax needs
# a row's maximum and its sum, and both can be had from a running account: take the keys a *tile* at
# a time, keep for each query the largest score so far (m), the sum of exp(score - m) so far, and
# the mixture of values so far. When a tile brings a larger score, what was summed under the old m
# is too large by exp(new m - old m), for all terms alike: one multiplication puts it right.
#
# *Milakov & Gimelshein 2018 for the running softmax; Rabe & Staats 2021, Dao et al. 2022 for
# attention. Code: `ops.tiled_attention`.*
#
# The account of one query over eight scores, in tiles of two:

# %%
scores = numpy.array([0.5, 1.0, 3.0, -1.0, 2.0, 4.0, 0.0, 1.5])
largest, total = -math.inf, 0.0
print("tile          m     sum of exp(score - m)")
for tile in scores.reshape(-1, 2):
    raised = max(largest, tile.max())
    total = total * math.exp(largest - raised) + numpy.exp(tile - raised).sum()
    largest = raised
    print(f"{tile!s:12} {largest:4}  {total:9.4f}")
print("at once           ", round(numpy.exp(scores - scores.max()).sum(), 4))

# %% [markdown]
# And the function, on queries, keys and values cut into heads, gives what the matrix gives,
# whatever the tile:

# %%
# rounding: another processor shows other digits
q, k, v = (ops.split_heads(taps[f"{here}.{part}"], size=4) for part in ("query", "key", "value"))
mask = ops.broadcast_mask(inputs["attention_mask"])
whole = ops.scaled_dot_product_attention(q, k, v, mask=mask, scale=0.5).context
for tile in (1, 2, 5):
    tiled = ops.tiled_attention(q, k, v, mask=mask, scale=0.5, tile=tile)
    print(f"tiles of {tile} keys: largest difference {abs(tiled - whole).max():.1e}")
    assert abs(tiled - whole).max() < 1e-14

# %% [markdown]
# ## The check
#
# What we called "by hand" is what the original computed, transformers 4.57.6 on PyTorch in
# float64: every stage, to the last digits.

# %%
# rounding: another processor shows other digits
truth = golden.part("tap")
for part in ("scores", "probs", "context"):
    error = abs(getattr(by_hand, part) - truth[f"{here}.{part}"]).max()
    print(f"{part:8} {error:.0e}")
    assert error < 1e-13

# %% [markdown]
# ## Exercises
#
# 1. Without running it: what is the context of a query when all keys are equal? Check.
# 2. A query that may look at *nothing* (all its keys are masked): what does softmax make of it?
#    Find out, then read `ops.mask_scores` to see why it is no NaN.
# 3. Add the same number to all scores of a row. What changes? What if you add it to all *keys* in
#    one feature?
# 4. XLM-R's scores are divided by √64. A port multiplied the *query* by 1/8 before the product
#    instead. Is that a mistake? In float16, is it the same to the last bit?
#
# ## Solutions

# %%
# 1. All shares are equal: the context is the plain mean of the values.
same = numpy.ones((1, 1, 4, 2))
some = random.standard_normal((1, 1, 4, 2))
everywhere = numpy.ones((1, 1, 1, 4), bool)
result = ops.scaled_dot_product_attention(some, same, some, mask=everywhere, scale=1.0)
assert numpy.allclose(result.context, some.mean(axis=2, keepdims=True))

# %%
# 2. All scores become the same low number, so all keys get the same share, padding too.
nothing = numpy.zeros((1, 1, 1, 4), bool)
result = ops.scaled_dot_product_attention(some, some, some, mask=nothing, scale=1.0)
print(result.probs[0, 0, 0])
assert (result.probs == 0.25).all()

# %%
# 3. Nothing: exp(x + c) / Σ exp(x + c), and exp(c) cancels. A feature that is raised in all keys
#    adds q · c to every score of query q: the same for all its keys, so nothing again. (That is why
#    the bias of the key projection has no effect at all.)
raised = some + numpy.array([3.0, 0.0])
first = ops.scaled_dot_product_attention(some, some, some, mask=everywhere, scale=1.0)
second = ops.scaled_dot_product_attention(some, raised, some, mask=everywhere, scale=1.0)
assert numpy.allclose(first.probs, second.probs)

# %%
# 4. No mistake: (Q/8) Kᵀ = (Q Kᵀ)/8. And 1/8 is a power of two, so every product and every sum is
#    scaled exactly: equal to the last bit, while nothing falls below the smallest normal number.
q16, k16 = (10 * random.standard_normal((2, 6, 64))).astype(numpy.float16)
before, after = (q16 / numpy.float16(8)) @ k16.T, (q16 @ k16.T) / numpy.float16(8)
assert (before == after).all()
