# %% [markdown]
# # 07 · XLM whole: CLM, MLM, TLM and what the language embedding does
#
# XLM (Lample & Conneau 2019) is the first of the family: one transformer for many languages, with
# one vocabulary, and with three ways to train it. It can say what comes next (CLM), what stands at
# a blank (MLM), or what stands at a blank when a translation is at hand (TLM). It is the same
# network each time; what differs is who may look at whom, and what lies in a text.
#
# We run it function by function, as `refimpl/models/xlm.py` has it; then the three tasks, and then
# the vector that tells the model which language it reads.
#
# *Lample & Conneau 2019, section 3. Code: `refimpl/models/xlm.py`, `refimpl/models/xlm_heads.py`;
# the authors' own program is facebookresearch/XLM.*

# %%
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl import ops
from refimpl.models import xlm, xlm_heads
from refimpl.models.inputs import IGNORE_INDEX
from refimpl.parity.goldens import read_golden

pictures.begin()
numpy.set_printoptions(precision=3, suppress=True)

golden = read_golden(Path("../golden/xlm/lm"))
model = refimpl.load(golden.folder, dtype="float64", kernels="plain")
config, w = model.config, model.weights["transformer"]

# %% [markdown]
# ## What is in the file
#
# The arrays of our small model beside those of the published one that was trained with MLM and
# TLM, `xlm-mlm-tlm-xnli15-1024`. They lie by kind, then by layer ("layer_norm1.0"), not layer
# by layer as in the other three families:

# %%
published = xlm.XLMConfig(vocab_size=95_000, emb_dim=1024, n_layers=12, n_heads=8, n_langs=15)
ours, theirs = (xlm.encoder_parameters(c) for c in (config, published))
for name, shape in ours.items():
    if ".1." not in name and not name.endswith("bias"):
        print(f"{name:30} {shape!s:9} {theirs[name]}")

count = sum(int(numpy.prod(shape)) for shape in theirs.values())
print(f"\nxlm-mlm-tlm-xnli15-1024: {len(theirs)} arrays, {count / 1e6:.0f} million numbers")

# %% [markdown]
# A third table stands beside words and positions, with a row for each language. And heads are wide:
# 8 of 128 features here, where xlm-roberta-base has 12 of 64.
#
# ## From ids to hidden states
#
# Word, position and language vectors are added and normalised. Positions begin at 0. Two texts, the
# second one shorter; each token has its language:

# %%
inputs = golden.inputs()
for name in ("input_ids", "attention_mask", "langs"):
    print(name, *inputs[name].tolist())

ids, langs = inputs["input_ids"], inputs["langs"]
positions = numpy.arange(ids.shape[1])[None]
mask = xlm.masks(config, ids, inputs["attention_mask"], None, done=0)
hidden = xlm.embeddings(w, config, ids, None, positions, langs, None)
hidden = xlm.zero_padding(hidden, mask.tokens)
print("zero at padding:", (hidden[~inputs["attention_mask"].astype(bool)] == 0).all())

# %% [markdown]
# That is the second thing that XLM has for itself: what stands at padding becomes zero, here and
# behind every layer. In an MLM it changes no token's result, since nobody looks at padding, but it
# is what the original hands out, and a port must do it.
#
# A layer is attention and a feed-forward network, each added to its input and normalised:

# %%
states = [hidden]
for i in range(config.n_layers):
    hidden, attended = xlm.layer(w, config, i, hidden, mask, None, None)
    states.append(hidden)
print("states", [x.shape for x in states], " attention", attended.probs.shape)

# %% [markdown]
# The head is one linear map, and its matrix is the word table again. (XLM-R has a second linear
# map, a GELU and a norm before it: notebook 08.)

# %%
logits = xlm_heads.pred_layer(model.weights["pred_layer"], config, hidden)
print("logits", logits.shape)
assert (model.weights["pred_layer.proj.weight"] == w["embeddings.weight"]).all()

# %% [markdown]
# ## One switch: who may look at whom
#
# `causal` in the config is the whole difference between a model that fills in and one that goes on
# writing. It chooses the mask of attention, and nothing else. The same ids, the same weights:

# %%
causal = replace(config, causal=True)
one = ids[:1]
names = [f"t{i}" for i in range(one.shape[1])]
figure, axes = plt.subplots(1, 2, figsize=(6.6, 2.8), sharey=True)
for ax, kind, title in zip(axes, (config, causal), ("MLM", "CLM"), strict=True):
    allowed = xlm.masks(kind, one, None, None, done=0)
    embedded = xlm.embeddings(w, kind, one, None, positions, langs[:1], None)
    _, attended = xlm.layer(w, kind, 0, embedded, allowed, None, None)
    shares = attended.probs[0, 0]
    pictures.grid(ax, shares, rows=names, columns=names, numbers=".2f", title=f"{title}, head 0")
axes[0].set_ylabel("looks at")
pictures.show(figure)

# %% [markdown]
# What that means for the results: change one token, and see whose hidden states move. In an MLM
# everyone's; in a CLM those of the token and of all behind it.


# %%
def moved(kind, changed):
    """By how much each token's last state moves when another word stands at one place."""
    other = one.copy()
    other[0, changed] = 9
    before, after = (
        xlm.xlm(w, kind, input_ids=x, langs=langs[:1]).last_hidden_state for x in (one, other)
    )
    return numpy.linalg.norm(after - before, axis=-1)[0]


figure, axes = plt.subplots(1, 2, figsize=(6.6, 2.8), sharey=True)
for ax, kind, title in zip(axes, (config, causal), ("MLM", "CLM"), strict=True):
    influence = numpy.stack([moved(kind, place) for place in range(5)], axis=1)
    pictures.grid(ax, influence, rows=names, columns=names, numbers=".1f", title=title)
    ax.set_xlabel("changed")
axes[0].set_ylabel("moved")
pictures.show(figure)
assert not numpy.triu(influence, 1).any()

# %% [markdown]
# One more thing hangs on the switch. A causal XLM looks back at *everything*, padding too: its
# attention ignores the padding mask (`get_masks` in the original). With padding on the right
# nothing is lost, as nobody looks ahead; with padding on the left the answers change.

# %%
allowed = xlm.masks(causal, ids, inputs["attention_mask"], None, done=0)
print("attention of the second text, whose last two tokens are padding")
print(allowed.attention[-1, 0].astype(int))

# %% [markdown]
# And a trap: the published `xlm-clm-enfr-1024` was trained looking back only, and its `config.json`
# says `"causal": false`. Run as published, it looks ahead, which it never learnt. Load it with the
# switch put right.
#
# ## CLM: what comes next
#
# At each place the model gives a score to every word as the *next* one. Training wants the next
# word's probability high. The surprise: given `labels`, an XLM compares each place with the label
# of the *same* place, causal or not; whoever trains a causal one must move the labels by one
# before. (XLM-R moves them, if it is a decoder.)

# %%
clm_golden = read_golden(Path("../golden/xlm/lm_causal"))
clm = refimpl.load(clm_golden.folder, dtype="float64", kernels="plain")
text, languages = numpy.array([[0, 17, 9, 23, 1]]), numpy.full((1, 5), 3)

shifted = numpy.full_like(text, IGNORE_INDEX)
shifted[:, :-1] = text[:, 1:]
out = clm(input_ids=text, langs=languages, labels=shifted)
logs = ops.log_softmax(out.logits[0])
by_hand = -logs[numpy.arange(4), text[0, 1:]].mean()
print("text  ", text[0])
print("labels", shifted[0])
print(f"loss {out.loss:.4f}, by hand {by_hand:.4f}; an even guess: {numpy.log(29):.4f}")
assert numpy.isclose(out.loss, by_hand)

# %% [markdown]
# ## MLM: what stands at the blank
#
# As in BERT, 15 % of the tokens are chosen; 80 % of these become the mask, 10 % another word, 10 %
# stay (notebook 08 shows it). XLM chooses frequent words less often, and trains on streams of text
# of 256 tokens instead of pairs of sentences (section 3.3 of the paper).
#
# The mask is the word `<special1>`, id 5. Do not take it from the config's `mask_token_id`: there
# stands 0 in the published files, which is `<s>`. The key that is right is called `mask_index`.

# %%
labels = inputs["labels"]
out = model(**inputs)
rows, places = numpy.nonzero(labels != IGNORE_INDEX)
by_hand = -ops.log_softmax(out.logits)[rows, places, labels[rows, places]].mean()
print("labels", *labels.tolist())
print(f"loss {out.loss:.4f}, by hand {by_hand:.4f}")
print("mask_token_id in the config:", config.mask_token_id)
assert numpy.isclose(out.loss, by_hand)

# %% [markdown]
# ## TLM: the translation stands beside it
#
# An MLM learns each language from texts of that language. Why should "dog" and "chien" get vectors
# that are alike? TLM gives a reason. A sentence and its translation stand side by side as one
# text, with blanks in both; to fill in a blank, the model may look at the other language.
#
# Two things are done to make it easy (section 3.4; `concat_batches` in the authors' program). The
# *positions* of the second text begin at 0 again, so that words of one translation stand at about
# the same places as those of the other. And each half has its *language*.

# %%
MASK = 5
english, french = [1, 14, 15, 16, 1], [1, 21, 22, 23, 24, 1]  # </s> before and behind, as theirs
ids = numpy.array([english + french])
ids[0, [2, 8]] = MASK
positions = numpy.array([[*range(len(english)), *range(len(french))]])
langs = numpy.array([[1] * len(english) + [3] * len(french)])

figure, ax = plt.subplots(figsize=(7.4, 1.9))
table = numpy.concatenate([ids, positions, langs])
shades = numpy.concatenate([0 * ids, positions, 2 * langs])
pictures.grid(ax, shades, rows=["id", "position", "language"])
ax.images[0].set_clim(0, 12)  # pale, so that the numbers can be read
for (i, j), value in numpy.ndenumerate(table):
    shown = "mask" if i == 0 and value == MASK else value
    ax.text(j, i, shown, ha="center", va="center", fontsize=9)
ax.axvline(len(english) - 0.5, color=pictures.RED)
pictures.show(figure)

# %% [markdown]
# Nothing in the network knows of two texts. They are one row of ids; the ids, positions and
# languages above are the arguments of an ordinary call:

# %%
tlm = {"input_ids": ids, "position_ids": positions, "langs": langs}
with refimpl.record() as taps:
    out = model(**tlm)

words = ["</s>", "e1", "mask", "e3", "</s>", "</s>", "f1", "f2", "mask", "f4", "</s>"]
figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.5), sharey=True)
for ax, kind in zip(axes, ("position_embeddings", "lang_embeddings"), strict=True):
    vectors = taps[f"transformer.{kind}"][0]
    unit = vectors / numpy.linalg.norm(vectors, axis=-1, keepdims=True)
    title = kind.removesuffix("_embeddings").replace("lang", "language")
    pictures.grid(ax, unit @ unit.T, rows=words, columns=words, title=f"{title} vectors: alike?",
                  signed=True)  # fmt: skip
pictures.show(figure)

# %% [markdown]
# Left, the dark red diagonals beside the main one: place i of one language and place i of the other
# have the very same vector, which is an open invitation to look there. Right, the two halves: what
# the model can tell them apart by.
#
# And the blank in English does hear from the French half. Change one French word, then the same
# without the French half in sight:

# %%
other = ids.copy()
other[0, 7] = 12
heard = abs(model(**{**tlm, "input_ids": other}).logits - out.logits)[0, 2].max()
half = {name: x[:, : len(english)] for name, x in tlm.items()}
alone = model(**half).logits[0, 2]
print(f"a French word changed: scores of the English blank move by up to {heard:.2f}")
gone = abs(alone - out.logits[0, 2]).max()
print(f"no French half at all: by up to {gone:.2f}")
assert heard > 0

# %% [markdown]
# ## What the language embedding does
#
# The same ids, in each of the four languages of this model; nothing differs but a vector added at
# every token. It is added *before* the first norm, and everything behind it sees it:

# %%
text = numpy.array([[0, 17, 5, 23, 1]])
answers = {}
for language in (None, 0, 1, 2, 3):
    given = {} if language is None else {"langs": numpy.full_like(text, language)}
    answers[language] = model(input_ids=text, **given).logits[0, 2]

figure, ax = plt.subplots(figsize=(7.4, 2.4))
rows = ["not given", *(f"language {i}" for i in range(4))]
chances = ops.softmax(numpy.stack([*answers.values()]))
pictures.grid(ax, chances, rows=rows, title="chances of each word at the blank")
ax.set_xlabel("word")
ax.set_xticks(range(0, 29, 4), [*range(0, 29, 4)])
pictures.show(figure)
for name, row in zip(rows, chances, strict=True):
    print(f"{name:11} best: word {row.argmax():2}, {row.max():.2f}")

# %% [markdown]
# In generation, this is how one says in which language to go on (`lang_id`, notebook 12).
#
# The first row is a trap. Where `langs` is not given, *nothing is added*: not language 0, not the
# mean. The model answers, in no language that it was trained on, and nobody is told.
#
# Does a model need it? The published XLM-17 and XLM-100 go without (`use_lang_emb` is false), and
# XLM-R dropped it, so as to read texts that mix languages (Conneau et al. 2020, section 3). In both
# XLMs `langs` is taken and changes nothing:

# %%
without = read_golden(Path("../golden/xlm/no_language_embeddings"))
no_table = refimpl.load(without.folder, dtype="float64", kernels="plain")
given = no_table(**without.inputs()).last_hidden_state
left_out = no_table(input_ids=without.inputs()["input_ids"]).last_hidden_state
assert (given == left_out).all()
print("has a table:", "lang_embeddings.weight" in xlm.encoder_parameters(no_table.config))

# %% [markdown]
# ## Token types that are words
#
# An oddity that bites: `token_type_ids`, where given, are looked up in the *word* table. And the
# tokenizer does return them, as zeros for one text: `model(**tokenizer(text))` adds the vector of
# word 0, `<s>`, to every token, in the original as here. No published model was trained so.

# %%
zeros = numpy.zeros_like(text)
plain_call = model(input_ids=text, langs=zeros).logits
with_types = model(input_ids=text, langs=zeros, token_type_ids=zeros).logits
print(f"scores move by up to {abs(with_types - plain_call).max():.1f}")
tokenizer = refimpl.load_tokenizer("../golden/tokenizers/xlm")
for name, row in tokenizer("the river", lang="en").items():
    print(f"{name:15}", row)

# %% [markdown]
# ## The adaptive softmax, briefly
#
# With 95,000 words the last matrix product costs more than seven layers. XLM can be built with an
# *adaptive softmax* (`asm`; Grave et al. 2017): the head scores the frequent words and, with one
# score each, whole *clusters* of rarer ones; the words of a cluster share its probability out, by a
# narrower matrix:
#
# log p(word) = log p(cluster) + log p(word | cluster)
#
# No published XLM that we know uses it. Our golden has 7 frequent words and clusters of 8 and 14:

# %%
D, V = 1024, 95_000
print(f"the last product is worth {D * V / (12 * D * D):.1f} layers")

adaptive_golden = read_golden(Path("../golden/xlm/lm_adaptive"))
adaptive = refimpl.load(adaptive_golden.folder, dtype="float64", kernels="plain")
for name, shape in xlm_heads.HEADS["WithLMHeadModel"].parameters(adaptive.config).items():
    print(f"{name:32} {shape}")

# %% [markdown]
# The head has 9 rows: 7 words and 2 clusters. What it gives to a cluster is what the words of the
# cluster sum up to:

# %%
given = adaptive_golden.inputs()
given.pop("labels")
with refimpl.record() as taps:
    log_p = adaptive(**given).logits[0, 1]
head = adaptive.weights["pred_layer.proj.head"]
first = ops.softmax(ops.linear(taps["transformer.layer_norm2.0"][0, 1], **head))

p = numpy.exp(log_p)
cuts = [0, *adaptive.config.asm_cutoffs, len(p)]
for low, high, share in zip(cuts[1:-1], cuts[2:], first[7:], strict=True):
    print(f"words {low:2} to {high - 1}: {p[low:high].sum():.4f}, the head's entry {share:.4f}")

figure, ax = plt.subplots(figsize=(6.6, 2.4))
colors = (pictures.BLUE, pictures.ORANGE, pictures.GREEN)
for low, high, color in zip(cuts[:-1], cuts[1:], colors, strict=True):
    ax.bar(range(low, high), p[low:high], color=color)
ax.set(xlabel="word", ylabel="probability", title=f"all together: {p.sum():.6f}")
pictures.show(figure)

# %% [markdown]
# ## The check
#
# The logits that we made function by function above are the original's, and so are those of the
# other models that we called:

# %%
# rounding: another processor shows other digits
truth = golden.part("output")["logits"]
error = abs(logits - truth).max() / abs(truth).max()
print(f"by hand                relative error {error:.0e}")
assert error < 1e-12

for case in ("lm", "lm_causal", "lm_adaptive", "model", "no_langs", "no_language_embeddings",
             "token_type_ids"):  # fmt: skip
    golden = read_golden(Path("../golden/xlm") / case)
    out = refimpl.load(golden.folder, dtype="float64", kernels="plain")(**golden.inputs())
    for name, truth in golden.part("output").items():
        error = abs(getattr(out, name) - truth).max() / abs(truth).max()
        print(f"{case:22} {name:18} relative error {error:.0e}")
        assert error < 1e-12

# %% [markdown]
# ## Exercises
#
# 1. A text is all in one language. Get the same answer without `langs`, from `inputs_embeds`.
# 2. Put padding on the *left* of a text and mask it. Do the answers of an MLM change? Those of a
#    CLM? (Give positions, so that only the padding differs.)
# 3. Change the language of the last token only. Whose answers move in an MLM, whose in a CLM?
# 4. In TLM, put the French half first, with its positions and languages. What becomes of the scores
#    of the English blank?
#
# ## Solutions

# %%
# 1. The vector of the language is added to every token like any other: add it yourself.
text = numpy.array([[0, 17, 5, 23, 1]])
vectors = ops.embedding(text, w["embeddings.weight"]) + w["lang_embeddings.weight"][3]
folded = model(inputs_embeds=vectors).logits
assert numpy.allclose(folded, model(input_ids=text, langs=numpy.full_like(text, 3)).logits)

# %%
# 2. The MLM's do not. The CLM's do: it looks back at the padding, mask or no mask.
padded = numpy.array([[2, 2, *text[0]]])
given = {"attention_mask": padded != 2, "position_ids": [[0, 0, 0, 1, 2, 3, 4]]}
for one_model, same in ((model, True), (clm, False)):
    alone = one_model(input_ids=text).logits
    behind = one_model(input_ids=padded, **given).logits[:, 2:]
    assert numpy.allclose(alone, behind) == same

# %%
# 3. In the MLM everyone's, in the CLM the last token's alone.
for one_model, expected in ((model, [True] * 5), (clm, [False] * 4 + [True])):
    a, b = (one_model(input_ids=text, langs=[[0, 0, 0, 0, last]]).logits for last in (0, 2))
    assert (abs(a - b).max(axis=-1)[0] > 1e-9).tolist() == expected

# %%
# 4. They stay: attention knows no order, and positions and languages went along with the ids.
swap = [*range(5, 11), *range(5)]
swapped = model(**{name: x[:, swap] for name, x in tlm.items()}).logits
assert numpy.allclose(swapped, model(**tlm).logits[:, swap])
