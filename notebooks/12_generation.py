# %% [markdown]
# # 12 · Generation: greedy, beams, by lot, and the cache
#
# A language model does one thing: it says how probable each piece is as the next one. Text comes of
# it by asking again and again. *How one chooses* from its answers is no part of the model, and here
# it is a file of its own, `generation.py`, which knows no model at all. Three ways to choose, then:
# the best each time, the best few side by side, and by lot. Before that, the trick that makes
# asking cheap.
#
# XLM-R, XLM-R-XL and X-MOD are made to fill in blanks and were published so; as writers they serve
# those who train them further. XLM has two checkpoints that were trained to write. The arithmetic
# is the same whatever the weights, and ours are drawn by lot: pieces are numbers here.
#
# *Code: `refimpl/models/generation.py`, `refimpl/models/next_token.py`. Greedy and beam search are
# those of transformers 4.57.6, token for token (`tests/oracle/test_live_generation.py`).*

# %%
import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl import ops
from refimpl.checkpoints.registry import read_registry
from refimpl.models import generation
from refimpl.models.generation import Settings
from refimpl.models.next_token import CausalNext
from refimpl.parity.goldens import read_golden
from refimpl.taps import edit

pictures.begin()
numpy.set_printoptions(precision=3, suppress=True)


def open_case(name):
    """A golden, and its model in float64."""
    golden = read_golden(Path("../golden") / name)
    return golden, refimpl.load(golden.folder, dtype="float64", kernels="plain")


# %% [markdown]
# ## One piece after another
#
# A *causal* model looks back only, so the scores at a place depend on what stands up to there, and
# are trained to foretell the piece behind it. The last place foretells what is not there yet. Take
# the best, put it behind the text, ask again: that is greedy search.

# %%
golden, model = open_case("xlm_roberta/causal_lm")
prompt = numpy.array([[0, 21, 28]])
everywhere = numpy.ones_like(prompt, dtype=bool)

next_token = CausalNext(model, everywhere, use_cache=False, inputs={})
ids = prompt
for _ in range(3):
    scores = next_token(ids)  # (1, V)
    best = int(scores.argmax())
    print(ids[0], "->", best, f"({ops.softmax(scores)[0, best]:.2f})")
    ids = numpy.append(ids, [[best]], axis=1)
assert (ids == model.generate(prompt, max_new_tokens=3)).all()

# %% [markdown]
# `CausalNext` is the model as generation sees it: ids in, scores of the next piece out. One thing
# in it is worth knowing. A forward pass of XLM-R counts positions from 2 (notebook 04); generation
# in transformers 4.57 counts them from 0, so that a text that is being written stands two places
# further to the left than it did in training. We do as the original does, and call it by its name:

# %%
here = model(input_ids=prompt).logits[0, -1]
there = model(input_ids=prompt, position_ids=numpy.arange(3)[None]).logits[0, -1]
print("best piece, positions 2, 3, 4:", here.argmax(), " positions 0, 1, 2:", there.argmax())
assert numpy.allclose(there, CausalNext(model, everywhere, False, {})(prompt)[0])

# %% [markdown]
# (XLM-R-XL counts from 2 in both; see "Differences".)
#
# ## The cache
#
# Asking anew each time reads the whole text again, for one new piece. But the text so far has not
# changed, and no earlier place looks at the new one: so nothing that was computed for it changes
# either. Of all that, later pieces need two things only, the *keys* and *values* of every layer.
# Keep them, and a round computes the new piece alone.
#
# First in one call, then the last two pieces of the text in a second one, which is given what the
# first kept:

# %%
cached_golden, cached_model = open_case("xlm_roberta/causal_lm_cache")
text = cached_golden.inputs()["input_ids"]
probs = "roberta.encoder.layer.0.attention.self.probs"

with refimpl.record() as at_once:
    whole = cached_model(input_ids=text)
first = cached_model(input_ids=text[:, :3], use_cache=True)
with refimpl.record() as afterwards:
    rest = cached_model(
        input_ids=text[:, 3:],
        attention_mask=numpy.ones_like(text),
        past_key_values=first.past_key_values,
        use_cache=True,
    )
print("kept in each of", len(first.past_key_values), "layers:",
      *(x.shape for x in first.past_key_values[0]))  # fmt: skip

pieces = [str(i) for i in text[0]]
figure, axes = plt.subplots(1, 2, figsize=(7.0, 2.7))
both = ((at_once[probs], pieces, "all at once"), (afterwards[probs], pieces[3:], "the second call"))
for ax, (values, rows, title) in zip(axes, both, strict=True):
    pictures.grid(ax, values[0, 0], rows=rows, columns=pieces, numbers=".2f", title=title)
    ax.set(xlabel="looks at", ylim=(len(rows) - 0.5, len(rows) - 5.5))
pictures.show(figure)

# %% [markdown]
# The second call has two queries and five keys: the last two rows of the triangle, and no other.
# Its scores are those of the whole:

# %%
# rounding: another processor shows other digits
apart = abs(rest.logits - whole.logits[:, 3:]).max()
print(f"cached and not: largest difference {apart:.1e}")
assert apart < 1e-12

# %% [markdown]
# What does it save? Count the places that go through the layers, for ten pieces behind a prompt
# of three. (`edit` lets us watch a tap in every round.)


# %%
def places_computed(use_cache):
    """How many places each round computes."""
    counts = []

    def watch(name, x):
        if name == "roberta.encoder.layer.0.attention.self.query":
            counts.append(x.shape[1])
        return x

    with edit(watch):
        written = model.generate(prompt, max_new_tokens=10, use_cache=use_cache)
    return counts, written


kept, anew = places_computed(True), places_computed(False)
assert (kept[1] == anew[1]).all()
figure, ax = plt.subplots(figsize=(6.4, 2.6))
rounds = numpy.arange(1, 11)
ax.bar(rounds - 0.2, anew[0], 0.4, label=f"all anew: {sum(anew[0])} places", color=pictures.ORANGE)
ax.bar(rounds + 0.2, kept[0], 0.4, label=f"with the cache: {sum(kept[0])}", color=pictures.BLUE)
ax.set(xlabel="round", ylabel="places computed", xticks=rounds)
ax.legend()
pictures.show(figure)

# %% [markdown]
# Without it the sum grows with the square of the length, with it in proportion. The price is
# memory: keys and values, D numbers each, for every piece, in every layer, of every text and beam:
# 2 L D numbers a piece.

# %%
held = sum(x.size for layer in first.past_key_values for x in layer)
c = cached_model.config
assert held == 2 * c.num_hidden_layers * c.hidden_size * text[:, :3].size

for name in ("FacebookAI/xlm-roberta-base", "facebook/xlm-roberta-xl"):
    config = read_registry().find(name).config
    numbers = 2 * config["num_hidden_layers"] * config["hidden_size"]
    print(f"{name:28} a text of 512 pieces: {512 * numbers * 4 / 1e6:.0f} MB in float32")

# %% [markdown]
# A model that looks both ways cannot do this. There every new piece is seen by all earlier ones, so
# all that was computed for them is out of date:

# %%
both_ways = dataclasses.replace(model, config=dataclasses.replace(model.config, is_decoder=False))
for title, reader in (("looking back", model), ("both ways", both_ways)):
    short, long = (reader(input_ids=[ids]).logits[0, 1] for ids in ([0, 21, 28], [0, 21, 28, 3]))
    print(f"{title:13} the second piece's scores stay: {numpy.allclose(short, long)}")

# %% [markdown]
# ## Beams
#
# The probability of a text is the product of the probabilities of its pieces; as these get small
# one adds up logarithms. Greedy search takes the best piece each time, and may go by a good text
# whose first piece is second best. *Beam search* keeps the N best beginnings, continues each by
# every piece, and keeps the N best of all these.
#
# We put a witness between the search and the model, which notes what is asked and answered:


# %%
class Witness:
    """A model as generation sees it, and a record of every round."""

    def __init__(self, inner):
        self.inner, self.rounds = inner, []

    def __call__(self, ids):
        """Ask the model, and note the round."""
        scores = self.inner(ids)
        self.rounds.append((ids.copy(), ops.log_softmax(scores)))
        return scores

    def reorder(self, rows):
        """Let row i go on from row ``rows[i]``."""
        self.inner.reorder(rows)


N, NEW = 3, 3
settings = Settings(num_beams=N, num_return_sequences=N, max_length=3 + NEW, pad_token_id=1)
witness = Witness(CausalNext(model, numpy.repeat(everywhere, N, axis=0), True, {}))
found = generation.beam_search(witness, prompt, settings)
greedy = tuple(model.generate(prompt, max_new_tokens=NEW)[0].tolist())
for sequence, score in zip(found.sequences.tolist(), found.sequences_scores, strict=True):
    print(sequence[3:], f"{score:.3f} a piece, {NEW * score:.3f} in all")
print(list(greedy[3:]), "greedy")

# %% [markdown]
# The tree that it searched. A number is the logarithm of the probability up to there; grey is what
# was looked at and dropped (of each beam the three best continuations are drawn, of 29); orange is
# the text that it found, green where greedy search goes.

# %%
START = tuple(prompt[0].tolist())
total = {START: 0.0}  # text -> log-probability
kept = [{START}, *({tuple(row) for row in ids.tolist()} for ids, _ in witness.rounds[1:])]
kept.append({tuple(row) for row in found.sequences.tolist()})
winner = tuple(found.sequences[0].tolist())

columns = [[START]]
for depth, (rows, logs) in enumerate(witness.rounds):
    row_of = {tuple(row): i for i, row in reversed(list(enumerate(rows.tolist())))}
    column = []
    for parent in (text for text in columns[-1] if text in kept[depth]):
        log = logs[row_of[parent]]
        for piece in numpy.argsort(-log)[:3].tolist():
            total[(*parent, piece)] = total[parent] + log[piece]
            column.append((*parent, piece))
    columns.append(column)

figure, ax = plt.subplots(figsize=(7.4, 4.6))
height = {START: 4.0}
for depth, column in enumerate(columns[1:], 1):
    places = numpy.linspace(8, 0, len(column)) if len(column) > 3 else [6.5, 4.0, 1.5]
    for text, y in zip(column, places, strict=True):
        height[text], parent = y, text[:-1]
        colour = pictures.BLUE if text in kept[depth] else "#bbbbbb"
        colour = pictures.GREEN if text == greedy[: len(text)] else colour
        colour = pictures.ORANGE if text == winner[: len(text)] else colour
        ax.plot([depth - 0.55, depth - 0.02], [height[parent], y], color=colour,
                linewidth=2.0 if text in kept[depth] else 0.8)  # fmt: skip
        ax.text(depth, y, f"{text[-1]}   {total[text]:.2f}", va="center", color=colour,
                weight="bold" if text in kept[depth] else "normal")  # fmt: skip
ax.text(0.42, 4.0, "prompt", ha="right", va="center")
ax.set(xlim=(0.1, 3.6), ylim=(-0.5, 8.5))
ax.set_axis_off()
pictures.show(figure)

# %% [markdown]
# Piece 28 is the best first step, but the best that follows it is far worse than the best that
# follows 11. The beam kept 11 long enough to see that.
#
# When beams are reordered, their keys and values must go with them: that is `reorder`, and a port
# that forgets it writes texts that no model ever read (exercise 3).
#
# ## Where a text ends
#
# A text ends with an end token (`eos_token_id`) or at `max_length`. Now texts of several lengths
# compete, and every piece that is added makes a text *less* probable, so the short would win. The
# score is therefore divided by the length to the power of `length_penalty` (which rewards length,
# in spite of its name): 0 compares whole texts, 1 their mean per piece. Let piece 3 be the end:

# %%
for penalty in (0.0, 1.0, 2.0):
    out = model.generate(
        prompt,
        max_new_tokens=6,
        num_beams=3,
        eos_token_id=3,
        length_penalty=penalty,
        return_dict_in_generate=True,
    )
    written = [i for i in out.sequences[0, 3:].tolist() if i != 1]
    logs = out.sequences_scores[0] * len(written) ** penalty
    print(f"penalty {penalty}: {written!s:12} log-probability {logs:.3f}, "
          f"score {out.sequences_scores[0]:.3f}")  # fmt: skip

# %% [markdown]
# ## By lot
#
# What is most probable is not what people write: they surprise each other. So one draws the next
# piece, by its probability. As it stands the distribution has a long tail of pieces that make no
# sense each, and are many together; three settings cut or bend it, in this order.
#
# **Temperature** T: the scores are divided by it before the softmax. Below 1 the probable becomes
# more so; above 1 all become more alike.

# %%
scores = CausalNext(model, everywhere, False, {})(prompt)
order = numpy.argsort(-scores[0])[:8]
names = [str(i) for i in order]

figure, axes = plt.subplots(1, 3, figsize=(7.4, 2.4), sharey=True)
for ax, T in zip(axes, (0.25, 1.0, 2.0), strict=True):
    ax.bar(names, ops.softmax(scores / T)[0, order], color=pictures.BLUE)
    ax.set(title=f"temperature {T}", xlabel="piece")
axes[0].set_ylabel("probability")
pictures.show(figure)

# %% [markdown]
# **Top-k** keeps the k best pieces and no other (Fan et al. 2018). **Top-p** keeps the best ones,
# as many as are needed for a probability of p together (Holtzman et al. 2020, section 3.1): few
# where the model is sure, many where it is not. What is left is made to sum to 1 again.

# %%
cuts = {
    "all": scores,
    "top-k, k = 3": generation.keep_top_k(scores, 3),
    "top-p, p = 0.9": generation.keep_top_p(scores, 0.9),
}
figure, axes = plt.subplots(1, 3, figsize=(7.4, 2.4), sharey=True)
for ax, (title, left) in zip(axes, cuts.items(), strict=True):
    ax.bar(names, ops.softmax(left)[0, order], color=pictures.BLUE)
    ax.set(title=title, xlabel="piece")
axes[0].set_ylabel("probability")
pictures.show(figure)

running = numpy.cumsum(ops.softmax(scores)[0, order])
print("summed up", running)
print("kept by p", [int(i) for i in order if numpy.isfinite(cuts["top-p, p = 0.9"][0, i])])

# %% [markdown]
# `draw` does all of it for a batch. Twenty thousand draws, beside the probabilities that were
# meant:

# %%
lot = Settings(do_sample=True, temperature=1.5, top_k=5)
rows = numpy.repeat(scores, 20_000, axis=0)
drawn = generation.draw(rows, lot, numpy.random.default_rng(0))
seen = numpy.bincount(drawn, minlength=scores.shape[1]) / len(drawn)
meant = ops.softmax(generation.keep_top_k(scores / 1.5, 5))[0]
print("piece", *(f"{i:6}" for i in order[:6]))
print("meant", *(f"{meant[i]:6.3f}" for i in order[:6]))
print("seen ", *(f"{seen[i]:6.3f}" for i in order[:6]))
assert abs(seen - meant).max() < 0.01

# %% [markdown]
# With `seed` the lot falls the same each time, so a text that was sampled can be had again. (The
# numbers are NumPy's, not PyTorch's: the probabilities are the original's, the texts are not.)

# %%
options = {"do_sample": True, "temperature": 1.5, "max_new_tokens": 6}
for seed in (1, 1, 2):
    print("seed", seed, model.generate(prompt, seed=seed, **options)[0, 3:])

# %% [markdown]
# ## XLM is asked by a blank
#
# Most of XLM's checkpoints were trained to fill in blanks, so transformers asks them in that way:
# it puts a mask token behind the text, and reads what the model would put there. Our `generate`
# does the same.

# %%
_, xlm = open_case("xlm/lm")
text = numpy.array([[0, 17, 5]])
asked = numpy.append(text, [[xlm.config.mask_token_id]], axis=1)
out = xlm(input_ids=asked, langs=numpy.full_like(asked, xlm.config.lang_id))
print("asked ", asked[0], "  answer", out.logits[0, -1].argmax())
print("writes", xlm.generate(text, max_new_tokens=4)[0])

# %% [markdown]
# Look at the id of that mask: 0. It is what the published config.json files hold for
# `mask_token_id`, and it is no mask, it is `<s>`; the mask of their tokenizers is another id, which
# stands under `mask_index`. Transformers asks with `<s>`, so that is what its texts are made of,
# and ours equal them. Who wants the real mask says so in the config; and who wants a language says
# it there too, as `lang_id`, for `generate` has no argument for it:

# %%
for name in ("xlm-mlm-en-2048", "xlm-clm-enfr-1024"):
    config = read_registry().find(f"FacebookAI/{name}").config
    print(f"{name:18} mask_token_id {config['mask_token_id']}, mask_index {config['mask_index']}, "
          f"causal {config['causal']}")  # fmt: skip

for change in ({}, {"mask_token_id": 5}, {"lang_id": 2}):
    other = dataclasses.replace(xlm, config=dataclasses.replace(xlm.config, **change))
    print(f"{change!s:22}", other.generate(text, max_new_tokens=4)[0])

# %% [markdown]
# There is a second trap in that table. The checkpoint that was trained causally (*clm*) says
# `causal: false`: as published it looks both ways. A model that does is read anew each round; one
# with `causal: true` has a cache, of all but the mask token, which is never part of the text:

# %%
_, causal = open_case("xlm/lm_causal")
text = numpy.array([[0, 17, 24]])
with_cache, without = (causal.generate(text, max_new_tokens=3, use_cache=c) for c in (True, False))
print(with_cache[0])
assert (with_cache == without).all()

# %% [markdown]
# And a third: it was not trained with a mask at all. In the authors' code (`clm_step` in
# `src/trainer.py`) the scores at a place are for the word *behind* it, as in any causal model, and
# their own `generate` reads them at the last word. With a mask put there the model reads a word
# that it did not learn to expect, and answers for the place behind it. Since generation knows no
# model, we can ask as it was trained: all that it takes is a thing to call, and `reorder`.


# %%
class AsTrained:
    """A causal XLM, asked as its authors ask it: the scores at the last word."""

    def __init__(self, model):
        self.model = model

    def __call__(self, ids):
        """(B, T) -> (B, V)"""
        langs = numpy.full_like(ids, self.model.config.lang_id)
        return self.model(input_ids=ids, langs=langs).logits[:, -1]

    def reorder(self, rows):
        """Nothing is kept from round to round."""


as_trained = generation.generate(AsTrained(causal), text, Settings(max_length=6, pad_token_id=2))
print("by a mask ", with_cache[0])
print("as trained", as_trained.sequences[0])
assert (as_trained.sequences != with_cache).any()

# %% [markdown]
# Nor does XLM stop: its configs name no `eos_token_id`. `eos_token_id=1` (`</s>`) in the call does
# it.
#
# ## The check
#
# The original ran the five pieces of `causal_lm_cache` in one go. We run them as generation does,
# one by one, each on what the earlier ones kept; scores, keys and values must come out the same.
# Beside it a golden that starts from 257 kept keys, and XLM's causal one.

# %%
# rounding: another processor shows other digits
ids, truth = cached_golden.inputs()["input_ids"], cached_golden.part("output")
past, logits = None, []
for place in range(ids.shape[1]):
    out = cached_model(
        input_ids=ids[:, place : place + 1],
        attention_mask=numpy.ones_like(ids[:, : place + 1]),
        past_key_values=past,
        use_cache=True,
    )
    past = out.past_key_values
    logits.append(out.logits)
errors = {"scores, piece by piece": (numpy.concatenate(logits, axis=1), truth["logits"])}
for layer, kinds in enumerate(past):
    for kind, x in enumerate(kinds):
        name = f"layer {layer}, {('keys', 'values')[kind]}"
        errors[name] = (x, truth[f"past_key_values.{layer}.{kind}"])

many, many_model = open_case("xlm_roberta/kept_keys")
errors["257 keys kept before"] = (
    many_model(**many.inputs()).last_hidden_state, many.part("output")["last_hidden_state"],
)  # fmt: skip
xlm_golden, _ = open_case("xlm/lm_causal")
errors["XLM, causal"] = (
    causal(**xlm_golden.inputs()).logits, xlm_golden.part("output")["logits"],
)  # fmt: skip
for name, (ours, theirs) in errors.items():
    error = abs(ours - theirs).max() / abs(theirs).max()
    print(f"{name:24} {error:.0e}")
    assert error < 1e-12

# %% [markdown]
# ## Exercises
#
# 1. `max_new_tokens=20` with our prompt: does it work? Why not?
# 2. Beam search with N = 3 weighed 29 + 3 · 29 + 3 · 29 = 203 beginnings. There are 29³ = 24,389
#    texts of three pieces. Did it find the best of all? (One batch of 29² texts is enough to know.)
# 3. Forget `reorder`. Does greedy search notice? Does beam search?
# 4. Draw with `top_k=1`, with a temperature of 0.001, with `top_p=0.001`. What have they in common?
# 5. `repetition_penalty` divides the score of every piece that the text already holds. What does it
#    do to a negative score, and does it matter that a softmax knows no zero point?
#
# ## Solutions

# %%
# 1. No: the model has 16 positions. It is refused, in words, before anything is computed wrongly.
try:
    model.generate(prompt, max_new_tokens=20)
except ValueError as error:
    print(error)
else:
    raise AssertionError("expected a refusal")

# %%
# 2. It did. One run of all texts of two pieces gives the scores at three places.
pairs = numpy.stack(numpy.meshgrid(numpy.arange(29), numpy.arange(29), indexing="ij"), axis=-1)
texts = numpy.concatenate([numpy.repeat(prompt, 29**2, axis=0), pairs.reshape(-1, 2)], axis=1)
logs = ops.log_softmax(model(input_ids=texts, position_ids=numpy.arange(5)[None],
                             attention_mask=numpy.ones_like(texts)).logits)  # fmt: skip
one, two = (logs[numpy.arange(29**2), 2 + i, texts[:, 3 + i]] for i in (0, 1))
everything = one[:, None] + two[:, None] + logs[:, 4]
row, piece = numpy.unravel_index(everything.argmax(), everything.shape)
print("best of all:", [*texts[row, 3:].tolist(), int(piece)], f"{everything.max():.3f}")
assert (*texts[row].tolist(), int(piece)) == winner


# %%
# 3. Greedy search has no beams to mix up. Beam search goes on from other texts' keys and values.
class Forgetful(CausalNext):
    """A port that does not take the cache along."""

    def reorder(self, rows):
        """Do nothing."""


right, wrong = (
    generation.beam_search(kind(model, numpy.repeat(everywhere, N, axis=0), True, {}), prompt,
                           dataclasses.replace(settings, max_length=10))
    for kind in (CausalNext, Forgetful)
)  # fmt: skip
print("right", right.sequences[0, 3:], right.sequences_scores)
print("wrong", wrong.sequences[0, 3:], wrong.sequences_scores)
assert not numpy.allclose(right.sequences_scores, wrong.sequences_scores)
greedy_texts = (
    generation.one_by_one(kind(model, everywhere, True, {}), prompt, Settings(max_length=10))
    for kind in (CausalNext, Forgetful)
)
assert (next(greedy_texts).sequences == next(greedy_texts).sequences).all()

# %%
# 4. All are greedy search: one piece is left, or has all the probability.
best = model.generate(prompt, max_new_tokens=6)
for option in ({"top_k": 1}, {"temperature": 0.001}, {"top_p": 0.001}):
    assert (model.generate(prompt, max_new_tokens=6, do_sample=True, **option) == best).all()

# %%
# 5. It multiplies it, so that the piece becomes less probable in either case. But add 10 to all
#    scores, which is nothing to the softmax, and the penalty does something else.
scores, ids = numpy.array([[4.0, -4.0, 1.0]]), numpy.array([[0, 1]])
print(generation.penalize_repetition(scores, ids, 2.0)[0])
first, second = (
    ops.softmax(generation.penalize_repetition(scores + shift, ids, 2.0)) for shift in (0.0, 10.0)
)
print(first[0], second[0])
assert not numpy.allclose(first, second)
