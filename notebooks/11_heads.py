# %% [markdown]
# # 11 · The heads: what one asks of an encoder
#
# An encoder turns S pieces into S vectors, and that answers no question yet. A *head* does: is this
# review kind? Which words are names? Which of the four endings fits? Where in the text is the
# answer? It is small beside the encoder, often a single matrix, and it is
# where most of fine-tuning starts from nothing.
#
# For each head we ask the same three things: which vectors does it look at, what does it make of
# them, and how is it told that it was wrong. At the end stands the one head of this family that
# searches: XLM's, for spans.
#
# *Devlin et al. 2019, sections 4 and 5.3, for the first four; Yang et al. 2019 (XLNet) for the
# last. Code: `refimpl/models/heads.py`, `refimpl/models/xlm_heads.py`, `refimpl/ops/losses.py`.*

# %%
import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl import ops
from refimpl.checkpoints.registry import read_registry
from refimpl.models import heads, xlm_heads
from refimpl.models.inputs import IGNORE_INDEX
from refimpl.parity.goldens import read_golden
from refimpl.taps import edit

pictures.begin()
numpy.set_printoptions(precision=3, suppress=True)


def open_case(name):
    """A golden, and its model in float64."""
    golden = read_golden(Path("../golden") / name)
    return golden, refimpl.load(golden.folder, dtype="float64", kernels="plain")


# %% [markdown]
# ## What each looks at
#
# We need not believe any description: nudge the encoder's last vector at one place and see which
# answers move. A row is an answer, a column the place that was nudged; a text of five pieces.


# %%
def moved_by(model, inputs, last, answer):
    """(answers, places): 1 where a nudge of the last hidden state at a place moves an answer."""
    before = getattr(model(**inputs), answer)[0]
    columns = []
    for place in range(inputs["input_ids"].shape[-1]):

        def nudge(name, x, place=place):
            if name != last:
                return x
            x = x.copy()
            x[0, place] += numpy.linspace(-0.1, 0.1, x.shape[-1])
            return x

        with edit(nudge):
            after = getattr(model(**inputs), answer)[0]
        columns.append((abs(after - before).reshape(len(before), -1) > 1e-9).any(axis=1))
    return numpy.array(columns).T.astype(float)


last = "roberta.encoder.layer.0.output.LayerNorm"
cases = {
    "classification": ("logits", "class"),
    "token_classification": ("logits", "tag"),
    "question_answering": ("start_logits", "start"),
}
figure, axes = plt.subplots(1, 3, figsize=(7.4, 2.2))
for ax, (name, (answer, word)) in zip(axes, cases.items(), strict=True):
    golden, model = open_case(f"xlm_roberta/{name}")
    moves = moved_by(model, golden.inputs(), last, answer)
    rows = [f"{word} {i}" for i in range(len(moves))]
    title = name.replace("_", " ")
    pictures.grid(ax, moves, rows=rows, columns="01234", title=title, signed=True)
    ax.set_xlabel("place nudged")
pictures.show(figure)

# %% [markdown]
# The classifier looks at the first place only, where `<s>` stands: whatever the text is to say
# about itself, the encoder must have brought there. Taggers and span finders look at every place
# for itself. (`<s>` means nothing at birth; it comes to mean "the whole text" because this head
# asks it to.)
#
# ## Classification
#
# `heads.classification_head`: of the first vector a linear map, tanh, and a second linear map to N
# scores, W₂ tanh(W₁ h₀ + b₁) + b₂.

# %%
golden, model = open_case("xlm_roberta/classification")
inputs, w = golden.inputs(), model.weights
with refimpl.record() as taps:
    out = model(**inputs)

hidden = taps[last]
first = hidden[:, 0]
middle = ops.tanh(ops.linear(first, **w["classifier.dense"]))
scores = ops.linear(middle, **w["classifier.out_proj"])
assert (heads.classification_head(w["classifier"], hidden) == scores).all()
print("hidden", hidden.shape, "first", first.shape, "scores", scores.shape)
print(scores)

# %% [markdown]
# What the scores *mean* is decided by the loss that they are trained with. There are three, and a
# config's `problem_type` names one (where it names none, the labels tell: one score is a number,
# integers are classes, reals are independent answers).
#
# **One of N classes.** Softmax makes the scores probabilities that sum to 1; the loss is minus the
# logarithm of what the true class got, the mean over the texts.

# %%
probabilities = ops.softmax(scores)
labels = inputs["labels"]
print("labels       ", labels)
print("probabilities", *probabilities)
by_hand = -numpy.log(probabilities[[0, 1], labels]).mean()
print(f"loss {out.loss:.4f}, by hand {by_hand:.4f}")
assert numpy.isclose(out.loss, by_hand)

# %% [markdown]
# **N questions of yes or no**, several of which may be true: each score goes through a sigmoid of
# its own, σ(x) = 1 / (1 + exp(-x)), and nothing sums to 1. The loss is the mean of
# -(t log σ(x) + (1 - t) log(1 - σ(x))); the operation is written so that no exp overflows.

# %%
golden, model = open_case("xlm_roberta/classification_multi")
inputs, out = golden.inputs(), model(**golden.inputs())
yes = 1 / (1 + numpy.exp(-out.logits))
t = inputs["labels"]
print("true ", *t)
print("yes  ", *yes)
by_hand = -(t * numpy.log(yes) + (1 - t) * numpy.log(1 - yes)).mean()
print(f"loss {out.loss:.4f}, by hand {by_hand:.4f}")
sure = numpy.array([-1000.0]), numpy.array([1.0])
print("of a score of -1000, where the truth is yes:", ops.binary_cross_entropy_with_logits(*sure))
assert numpy.isclose(out.loss, by_hand)

# %% [markdown]
# **A number**: one score, taken as it is; the loss is the mean of its squared distance.

# %%
golden, model = open_case("xlm_roberta/regression")
inputs, out = golden.inputs(), model(**golden.inputs())
print("true ", inputs["labels"], " said ", out.logits[:, 0])
print(f"loss {out.loss:.4f}, by hand {((out.logits[:, 0] - inputs['labels']) ** 2).mean():.4f}")

# %% [markdown]
# ## Tagging, and -100
#
# Names, parts of speech: one linear map, the same at every place. But words are cut into pieces,
# and one wants one tag a word. So the first piece of a word carries the word's tag, and all others,
# `<s>`, `</s>` and padding too, carry -100, the number that means "do not count me". (Any number
# that is no class would do. This one is the default of PyTorch's `CrossEntropyLoss`.)

# %%
golden, model = open_case("xlm_roberta/token_classification")
inputs, out = golden.inputs(), model(**golden.inputs())
labels = inputs["labels"]
surprise = -ops.log_softmax(out.logits)

figure, axes = plt.subplots(1, 2, figsize=(7.4, 2.4))
for row, ax in enumerate(axes):
    pictures.grid(ax, surprise[row], rows=[str(i) for i in inputs["input_ids"][row]],
                  columns=["tag 0", "tag 1", "tag 2", "tag 3"], numbers=".1f",
                  title=f"text {row}: -log p(tag)")  # fmt: skip
    for place, label in enumerate(labels[row]):
        if label != IGNORE_INDEX:
            frame = plt.Rectangle((label - 0.47, place - 0.47), 0.94, 0.94)
            frame.set(fill=False, edgecolor=pictures.ORANGE, linewidth=2)
            ax.add_patch(frame)
axes[0].set_ylabel("piece")
pictures.show(figure)

# %% [markdown]
# The frames are the labels; the places without one carry -100. The loss is the mean of the framed
# numbers:

# %%
counted = labels != IGNORE_INDEX
framed = numpy.take_along_axis(surprise[counted], labels[counted][:, None], axis=1)[:, 0]
print("framed", framed)
print(f"mean {framed.mean():.4f}, loss {out.loss:.4f}")
print("loss without a label:", heads.label_loss(out.logits, numpy.full_like(labels, IGNORE_INDEX)))
assert numpy.isclose(framed.mean(), out.loss)

# %% [markdown]
# The mean is over *labels*, not over texts: a text with three of them weighs three times as much as
# a text with one. And a batch without any has a mean of nothing, which is NaN here as in PyTorch.
# (XLM-R-XL's tagger, alone in the family, also drops the labels that stand at padding, whatever
# they say; see `for_token_classification` in `xlm_roberta_xl.py`.)
#
# ## Choice
#
# A question and C endings make C texts, each run for itself: `input_ids` is (B, C, S), and
# `merge_inputs` lays the first two axes into one. Each text gets one score, and the C scores of a
# question compete in a softmax. So here the classes have no weights of their own: the same head
# judges every ending, and it makes no difference which comes first.

# %%
golden, model = open_case("xlm_roberta/multiple_choice")
inputs = golden.inputs()
with refimpl.record() as taps:
    out = model(**inputs)
print("asked  ", inputs["input_ids"].shape, " run ", taps["roberta.pooler"].shape)
print("logits\n", out.logits)

pooler, hidden = model.weights["roberta.pooler.dense"], taps[last]
pooled = ops.tanh(ops.linear(hidden[:, 0], **pooler))
by_hand = ops.linear(pooled, **model.weights["classifier"]).reshape(2, 3)
assert numpy.allclose(by_hand, out.logits)

turned = {name: x[:, ::-1] for name, x in inputs.items() if name != "labels"}
assert numpy.allclose(model(**turned).logits, out.logits[:, ::-1])

# %% [markdown]
# There is a surprise in what it looks through. Classification has two layers of its own; choice
# takes the *pooler*, tanh(W h₀ + b), a part of the encoder that BERT trained to tell whether one
# sentence follows another. RoBERTa dropped that task (Liu et al. 2019, section 4.2), and the
# published XLM-R files have no trained pooler: this head rests on a matrix that knows nothing yet.
#
# ## Spans
#
# The answer to a question is a piece of the text: its first and its last place. A linear map to
# *two* numbers, and each of the two columns is a softmax over the places.

# %%
golden, model = open_case("xlm_roberta/question_answering")
inputs, out = golden.inputs(), model(**golden.inputs())
start, end = ops.softmax(out.start_logits), ops.softmax(out.end_logits)
print("start", start[0])
print("end  ", end[0])

# %% [markdown]
# The two know nothing of each other: what a pair gets is the product, p(start) p(end), and nothing
# in the head forbids an end before its start. The search for the best pair that makes sense is left
# to the caller. (Whoever takes the two maxima on their own may get an answer of length minus two.)

# %%
pairs = start[0][:, None] * end[0][None, :]
figure, axes = plt.subplots(1, 2, figsize=(7.4, 2.7))
titles = ("p(start) p(end)", "where the end is not before the start")
for ax, values, title in zip(axes, (pairs, numpy.triu(pairs)), titles, strict=True):
    pictures.grid(ax, values, rows="01234", columns="01234", numbers=".2f", title=title)
    ax.set(xlabel="end", ylabel="start")
pictures.show(figure)

best = numpy.unravel_index(numpy.triu(pairs).argmax(), pairs.shape)
print("best span:", *map(int, best))

# %% [markdown]
# The loss is the mean of the two cross entropies. Long texts are cut into windows, and then the
# answer may lie outside of the one at hand: a place behind the text is not counted. In the golden
# the second text's answer ends at place 9 of 5:

# %%
print("start_positions", inputs["start_positions"], " end_positions", inputs["end_positions"])
of_start = -numpy.log(start[[0, 1], inputs["start_positions"]]).mean()
of_end = -numpy.log(end[0, inputs["end_positions"][0]])  # the second does not count
print(f"loss {out.loss:.4f}, by hand {(of_start + of_end) / 2:.4f}")
assert numpy.isclose(out.loss, (of_start + of_end) / 2)

# %% [markdown]
# ## XLM: four ways to sum up a text
#
# XLM's heads are older. `sequence_summary` makes one vector of the text in a way that the config
# names: the first place, the last, the mean, or a place that the caller points to. The same nudges:

# %%
figure, axes = plt.subplots(1, 4, figsize=(7.6, 1.9), sharey=True)
for ax, kind in zip(axes, ("first", "last", "mean", "cls_index"), strict=True):
    golden, model = open_case(f"xlm/summary_{kind}")
    moves = moved_by(model, golden.inputs(), "transformer.layer_norm2.0", "logits")
    rows = [f"class {i}" for i in range(len(moves))]
    pictures.grid(ax, moves, rows=rows, columns="01234", title=kind, signed=True)
    ax.set_xlabel("place nudged")
pictures.show(figure)

# %% [markdown]
# `cls_index` looks at the last place where no place is given, and the classification model has no
# argument to give it: so it is `last` under another name.
#
# "Last" means the last *place*. The second text of the golden is shorter than the batch, its last
# place is padding, and XLM sets the vectors of padding to zero. A linear map of zero is its bias:

# %%
golden, model = open_case("xlm/summary_last")
inputs = golden.inputs()
print("mask  ", inputs["attention_mask"][1])
print("logits", model(**inputs).logits[1])
print("bias  ", model.weights["sequence_summary.summary.bias"])

# %% [markdown]
# The text is not read at all. Nor is this our mistake: the golden is the original's. The mean is
# taken over all places, zeros included, so a text's answer depends on how far it was padded. What
# the published XLM files say, as far as the registry knows them:

# %%
published = [c for c in read_registry().checkpoints if c.family == "xlm"]
print(len(published), "files:", {(c.config | c.inferred)["summary_type"] for c in published})

# %% [markdown]
# The first place is the one of the four that padding on the right leaves alone.
#
# ## The head that searches
#
# XLM's second span head, which transformers modelled on XLNet's, asks for the end *given* the
# start: the vector of the start stands beside the vector of every place, and a small network
# (linear, tanh, layer norm, linear) scores the two together. So p(end | start) is another
# distribution for every start, and p(start) p(end | start) is the probability of a span.
#
# All starts with all ends would be S² runs of that network. It follows the P best starts only
# (`start_n_top`), and keeps the Q best ends of each (`end_n_top`): a *beam search* of two steps.

# %%
golden, model = open_case("xlm/question_answering")
inputs, out = golden.inputs(), model(**golden.inputs())
P, Q = model.config.start_n_top, model.config.end_n_top
print("P, Q           ", P, Q)
for name in ("start_top_log_probs", "start_top_index", "end_top_log_probs", "end_top_index"):
    print(f"{name:20}", getattr(out, name)[0])

# %% [markdown]
# Two traps for a port are in these four arrays. They are called `log_probs` and hold probabilities.
# And the ends are in order of *rank*: first the best end of every start, then the second best of
# every start, (Q, P) and not (P, Q), whichever way one would write the product of the two.
#
# The search as a tree, for the first text: lines are as thick as they are probable.

# %%
starts, p_start = out.start_top_index[0], out.start_top_log_probs[0]
ends = out.end_top_index[0].reshape(Q, P).T
p_end = out.end_top_log_probs[0].reshape(Q, P).T


def line(ax, begin, finish, p, text):
    """A branch of the tree, and what it leads to."""
    ax.plot(*zip(begin, finish, strict=True), color=pictures.BLUE, linewidth=14 * p, alpha=0.5,
            solid_capstyle="butt")  # fmt: skip
    ax.text(*finish, text, ha="left", va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip


figure, ax = plt.subplots(figsize=(7.0, 3.4))
leaves = numpy.arange(P * Q)[::-1].reshape(P, Q) + 0.5 * numpy.arange(P)[::-1, None]
ax.text(-0.03, leaves.mean(), "text", ha="right", va="center")
for i in range(P):
    knot = (1.0, leaves[i].mean())
    line(ax, (0, leaves.mean()), knot, p_start[i], f" start {starts[i]}: {p_start[i]:.2f}")
    for j in range(Q):
        span = p_start[i] * p_end[i, j]
        legal = ends[i, j] >= starts[i]
        mark = f"   span {starts[i]}-{ends[i, j]}: {span:.3f}" if legal else "   before its start"
        line(ax, (1.45, knot[1]), (2.2, leaves[i, j]), p_end[i, j],
             f" end {ends[i, j]}: {p_end[i, j]:.2f}{mark}")  # fmt: skip
ax.set(xlim=(-0.2, 3.6), ylim=(-0.6, leaves.max() + 0.6))
ax.set_axis_off()
pictures.show(figure)

# %% [markdown]
# (The weights are drawn by lot, so the best start is the last place, and everything that follows
# it lies before it.) Nothing forbids an end before its start here either. The caller drops those,
# and this is what the beam is good for: with P = 1 there would be no answer here; with P = 2 there
# are two.
#
# How much of the whole does the beam see? With P = Q = S it sees everything, and we can lay the
# two heads side by side: a product of two distributions, whose rows are all alike, and a
# conditional one, whose rows are not.

# %%
S = inputs["input_ids"].shape[1]
wide = dataclasses.replace(
    model, config=dataclasses.replace(model.config, start_n_top=S, end_n_top=S)
)
everything = wide(**inputs)
conditional = numpy.zeros((S, S))  # p(end | start)
rows = everything.start_top_index[0]
columns = everything.end_top_index[0].reshape(S, S).T
conditional[rows[:, None], columns] = everything.end_top_log_probs[0].reshape(S, S).T

independent = numpy.broadcast_to(end[0], (S, S))
figure, axes = plt.subplots(1, 2, figsize=(7.4, 2.7))
titles = ("p(end): the simple head", "p(end | start): the one that searches")
for ax, values, title in zip(axes, (independent, conditional), titles, strict=True):
    pictures.grid(ax, values, rows="01234", columns="01234", numbers=".2f", title=title)
    ax.set(xlabel="end", ylabel="start")
pictures.show(figure)

# %% [markdown]
# (Two models with weights of their own: compare the pattern, not the numbers.)
#
# ## No answer, and places that cannot be one
#
# SQuAD 2.0 has questions without an answer (Rajpurkar et al. 2018). The head gives one more score
# for that, `cls_logits`, from the vector of the classification token and one that stands for the
# start. In training that is the vector of the true start; when it answers, the true start is not
# known, and it takes the mean of all vectors, weighted by p(start). (A port that takes the best
# start's vector runs well, and is wrong.)

# %%
with refimpl.record() as taps:
    model(**inputs)
hidden = taps["transformer.layer_norm2.0"]
qa = model.weights["qa_outputs"]
p_starts = ops.softmax(xlm_heads.start_logits(qa["start_logits"], hidden, None))
expected = (p_starts[:, :, None] * hidden).sum(axis=1)
score = xlm_heads.answer_class(qa["answer_class"], hidden, expected, None)
print("cls_logits", out.cls_logits, " by hand", score)
assert numpy.allclose(score, out.cls_logits)

# %% [markdown]
# An answer cannot lie in the question, nor in padding. `p_mask` names such places with 1, and they
# get a score so low that nothing is left of them after the softmax:

# %%
masked_golden, masked_model = open_case("xlm/question_answering_p_mask")
masked_inputs = masked_golden.inputs()
with refimpl.record() as taps:
    masked_model(**masked_inputs)
of_starts = taps["qa_outputs.start_logits.dense"][:, :, 0]
print("p_mask ", *masked_inputs["p_mask"])
print("without", *ops.softmax(of_starts))
print("with   ", *ops.softmax(xlm_heads.rule_out(of_starts, masked_inputs["p_mask"])))

# %% [markdown]
# ## The check
#
# All heads of this notebook, outputs and losses, against the originals:

# %%
# rounding: another processor shows other digits
names = [
    *(f"xlm_roberta/{case}" for case in (
        "classification", "classification_multi", "regression", "token_classification",
        "multiple_choice", "question_answering")),
    *(f"xlm/{case}" for case in (
        "summary_first", "summary_last", "summary_mean", "summary_cls_index",
        "question_answering", "question_answering_p_mask", "question_answering_loss",
        "question_answering_impossible")),
]  # fmt: skip
for name in names:
    golden, model = open_case(name)
    out, truth = model(**golden.inputs()), golden.part("output")
    error = max(abs(getattr(out, part) - x).max() / abs(x).max() for part, x in truth.items())
    print(f"{name:38} {', '.join(truth)[:32]:33} {error:.0e}")
    assert error < 1e-12

# %% [markdown]
# ## Exercises
#
# 1. A batch has two texts, one with three tags and one with one. Is its loss the mean of the two
#    texts' losses? What if they are run one by one, as training on several machines does?
# 2. Pad the texts of `xlm/summary_first` and `xlm/summary_mean` by two more places. Which answers
#    stay?
# 3. Add the same number to all start scores of a text. What happens to its probabilities, what to
#    the best span, and what if one adds it to the scores of one *class* of a tagger?
# 4. What is the beam's best legal span of the *second* text? Is it the best of all legal spans?
#    What must P and Q be to be sure of that?
#
# ## Solutions

# %%
# 1. No: the mean is over four labels, so the first text counts three times. One by one, both count
#    the same, and the mean of the two losses is another number.
golden, model = open_case("xlm_roberta/token_classification")
inputs = golden.inputs()
together = model(**inputs).loss
alone = [model(**{name: x[i : i + 1] for name, x in inputs.items()}).loss for i in (0, 1)]
print(f"together {together:.3f}, alone {alone[0]:.3f} and {alone[1]:.3f}")
assert numpy.isclose(together, (3 * alone[0] + alone[1]) / 4)
assert not numpy.isclose(together, (alone[0] + alone[1]) / 2)

# %%
# 2. Those of "first"; the mean is divided by seven now, though nothing was added to the sum.
for kind, stays in (("first", True), ("mean", False)):
    golden, model = open_case(f"xlm/summary_{kind}")
    inputs = {name: x for name, x in golden.inputs().items() if name != "labels"}
    padding = {"input_ids": 2, "attention_mask": 0, "langs": 0}
    padded = {
        name: numpy.pad(x, ((0, 0), (0, 2)), constant_values=padding[name])
        for name, x in inputs.items()
    }
    assert numpy.allclose(model(**inputs).logits, model(**padded).logits) == stays

# %%
# 3. Nothing, so nothing: the softmax is over the places, and the number cancels. In a tagger the
#    softmax is over the classes, so one class becomes more probable everywhere.
assert numpy.allclose(ops.softmax(of_starts), ops.softmax(of_starts + 3.0))
golden, model = open_case("xlm_roberta/token_classification")
logits = model(**golden.inputs()).logits
raised = ops.softmax(logits + numpy.array([3.0, 0.0, 0.0, 0.0]))
assert (raised[..., 0] > ops.softmax(logits)[..., 0]).all()

# %%
# 4. It is (3, 3), with half the probability of (4, 4): 4 is the most probable start, but 4 is only
#    the fourth best end for it, and Q is 3. Only P = Q = S is sure of everything.
golden, model = open_case("xlm/question_answering")


def best_legal(spans):
    """The most probable span of the second text, of those that a search has found."""
    end = spans.end_top_index[1]
    times = len(end) // len(spans.start_top_index[1])
    begin = numpy.tile(spans.start_top_index[1], times)
    p = numpy.tile(spans.start_top_log_probs[1], times) * spans.end_top_log_probs[1]
    i = numpy.where(end >= begin, p, 0).argmax()
    return int(begin[i]), int(end[i]), p[i]


beam = model(**golden.inputs())
for name, spans in (("beam", beam), ("all", everything)):
    print("{:5} {}-{}: {:.3f}".format(name, *best_legal(spans)))
assert best_legal(beam)[:2] == (3, 3)
assert best_legal(everything)[:2] == (4, 4)
