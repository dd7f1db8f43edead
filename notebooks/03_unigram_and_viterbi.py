# %% [markdown]
# # 03 · From text to ids: unigram, the lattice and Viterbi
#
# XLM's tokenizer wants to know the language, cuts words by rules and merges by rank (notebook 02).
# XLM-R wanted a hundred languages and no rules. Its tokenizer, SentencePiece, takes the text as it
# comes, spaces and all; every piece of its vocabulary has a *probability*, and of all the ways to
# cut a text it takes the most probable one.
#
# There are very many ways, and finding the best of them without looking at each is the beautiful
# part. We do it on a vocabulary of 300 pieces, which the original library trained on 186 lines of
# prose; the published one has 250,000 and goes the same way.
#
# *Kudo 2018 for the unigram model; Kudo & Richardson 2018 for SentencePiece; Conneau et al. 2020,
# section 3 for XLM-R's use. Code: `refimpl/tokenizers/xlm_roberta/`: `normaliser.py`,
# `unigram.py`, `tokenizer.py`; `lattice.py` draws.*

# %%
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures
from IPython.display import display

import refimpl
from refimpl.parity.goldens import read_golden
from refimpl.tokenizers.xlm_roberta.lattice import explain_lattice
from refimpl.tokenizers.xlm_roberta.model_file import (
    Kind,
    SentencePieceModel,
    byte_piece,
    read_model,
)
from refimpl.tokenizers.xlm_roberta.normaliser import Normaliser
from refimpl.tokenizers.xlm_roberta.tokenizer import fairseq_numbering
from refimpl.tokenizers.xlm_roberta.unigram import ExplicitEngine, best_path, best_ways, float32

pictures.begin()

folder = Path("../golden/tokenizers/xlm_roberta")
model = read_model(folder / "sentencepiece.bpe.model")
print(len(model.pieces), "pieces")
for place in (0, 1, 2, 3, 4, 5, 6, 14, 54, 114):
    print(
        f"{place:4}  {model.pieces[place]:8} {model.scores[place]:7.3f}  {model.kinds[place].name}"
    )

# %% [markdown]
# (The file is called `sentencepiece.bpe.model`, and there is no BPE in it: the name is history, the
# file says "unigram".)
#
# The score is the natural logarithm of the probability, so it is never positive; the nearer to 0,
# the more frequent the piece. Frequent pieces come first. The probabilities sum to a little less
# than 1: at the end of training the library drops the rarest pieces and leaves the scores of the
# others as they are (`Trainer::FinalizeSentencePieces` in its `unigram_model_trainer.cc`). For
# comparing cuts that does not matter.

# %%
normal = [place for place, kind in enumerate(model.kinds) if kind == Kind.NORMAL]
probabilities = numpy.exp([model.scores[place] for place in normal])
print("sum of probabilities", round(float(probabilities.sum()), 3))

figure, ax = plt.subplots(figsize=(6.6, 3.0))
lengths = numpy.array([len(model.pieces[place]) for place in normal])
for length, color in ((1, pictures.BLUE), (2, pictures.ORANGE), (3, pictures.GREEN)):
    chosen = lengths == length if length < 3 else lengths >= length
    name = {1: "one character", 2: "two", 3: "three and more"}[length]
    ax.semilogy(numpy.flatnonzero(chosen), probabilities[chosen], ".", color=color, label=name)
ax.set(xlabel="place in the file", ylabel="probability")
ax.legend()
pictures.show(figure)

# %% [markdown]
# ## A space is a character
#
# Before the cut the text is *normalised*. A table of rules rewrites characters that look or mean
# the same: full-width letters, ligatures, signs such as ™, a letter with an accent written as two
# characters. Then the spaces: none at the ends, one where there are several, one in front (so that
# a word is the same piece wherever it stands), and each is made visible as `▁`.

# %%
normaliser = Normaliser(model)
text = "Old  ﬁsh™ … "
prepared = normaliser(text)
print(f"{text!r} becomes {prepared.text!r}")

# %% [markdown]
# What becomes of it may be longer or shorter than the text. So each character keeps the *span* of
# the original that it stands for, and a piece can say where it stood, which is what a tagger of
# names or a finder of answers needs:

# %%
for char, (start, end) in zip(prepared.text, prepared.spans, strict=True):
    print(f"{char}  {start:2} to {end:2}  {text[start:end]!r}")

# %% [markdown]
# The f and the i share the ligature, T and M the trademark sign, three full stops their one
# character, and the `▁` in front shares the first letter, as there is no space that it could stand
# for.
#
# Nothing depends on a language: XLM-R needs no Moses, no dictionary for Chinese, and no `lang`
# anywhere. And with the `▁` the pieces can be put together again: glue them, and make every `▁` a
# space.

# %%
pieces = ExplicitEngine(model).tokenize("The lamp is on the table.")
print(*pieces)
print("".join(pieces).replace("▁", " "))

# %% [markdown]
# ## The lattice
#
# All ways to cut a text, together, are a *lattice*: the places between characters are its points,
# and every piece that fits is an edge from where it begins to where it ends. A way from the left
# end to the right end is a cut.

# %%
explained = explain_lattice(model, "The lamp")
figure = explained.figure()
figure.set_layout_engine("none")  # it places everything itself
display(figure)

# %% [markdown]
# Each arc is a piece with its score above. In blue the way that was taken, in orange the next best.
# The same as text, with the candidates of each place in the order in which they were looked at:

# %%
print(explained)

# %% [markdown]
# ## Scores add up
#
# The model supposes that pieces are drawn independently of each other (hence *uni*gram), so the
# probability of a cut is the product of those of its pieces. Logarithms make the product a sum,
# which does not vanish for long texts. Here are all eight ways, by probability:


# %%
def all_ways(engine, text, start=0):
    """Every way to cut a prepared text from a place on: lists of (piece, score)."""
    if start == len(text):
        yield []
        return
    for end, _, score in engine.vocabulary.edges(text, start):
        for rest in all_ways(engine, text, end):
            yield [(text[start:end], score), *rest]


engine = ExplicitEngine(model)
ways = sorted(all_ways(engine, "▁The▁lamp"), key=lambda way: -sum(score for _, score in way))
everything = sum(math.exp(sum(score for _, score in way)) for way in ways)
for way in ways:
    total = sum(score for _, score in way)
    print(f"{total:8.2f}  {math.exp(total) / everything:10.6f}  ", *(piece for piece, _ in way))

# %% [markdown]
# Two pieces, each rather rare, beat nine frequent characters: every further piece costs. The model
# cares nothing for what a word is; it looks for the cheapest way to say the text.
#
# ## Viterbi
#
# Eight ways can be listed. The number grows exponentially:

# %%
for words in (2, 4, 8, 16):
    longer = explain_lattice(engine, " ".join(["The lamp is on the table"] * words))
    print(
        f"{len(longer.normalised):4} characters, {len(longer.nodes):4} edges,",
        f"{longer.ways:.0e} ways",
    )

# %% [markdown]
# But there are few edges, and one pass over them is enough. If the best way to the end goes through
# some place, then its part up to there is the best way *to that place*: otherwise one could put a
# better one in. So keep for each place the score of the best way to it and that way's last piece;
# every piece from there on is tried once. The score at place j is
#
# best(j) = max over pieces from i to j of (best(i) + score of the piece)
#
# `best_ways` is this pass (Viterbi 1967), with the scores in float32 as in the library, because
# ties are decided by rounding:

# %%
prepared = engine.normaliser("The lamp").text
lattice = best_ways(engine.vocabulary, prepared)
print("place  best so far  the last piece of it")
for place, (score, edge) in enumerate(zip(lattice.scores, lattice.last, strict=True)):
    piece = "" if edge is None else prepared[edge.start : edge.end]
    print(f"{place:5}  {score:11.3f}  {piece}")

# %% [markdown]
# At the end, look back: the last piece of the best way says where the piece before it ended, and so
# on to the beginning.

# %%
path = best_path(lattice)
print(*(f"{edge.start}-{edge.end} {prepared[edge.start : edge.end]}" for edge in path), sep="   ")
best_of_all = max(sum(score for _, score in way) for way in ways)
assert math.isclose(sum(edge.score for edge in path), best_of_all, rel_tol=1e-6)

# %% [markdown]
# ## How sure is it?
#
# The difference of two scores is the logarithm of the odds. Where it is small, the cut hangs by a
# thread, and a neighbouring text may be cut otherwise: "letter" is 5.5 times more probable than the
# next best, "The lamp" nine thousand times.

# %%
explained = explain_lattice(engine, "letter")
print(*(node.piece for node in explained.best), f" {explained.score:.2f}")
print(
    *(node.piece for node in explained.runner_up), f" {explained.score - explained.difference:.2f}"
)
print(f"odds {math.exp(explained.difference):.1f} to 1")
figure = explained.figure()
figure.set_layout_engine("none")
display(figure)

# %% [markdown]
# ## What no piece covers
#
# A character that is no piece would be a hole in the lattice. So every such character has an edge
# too, the *unknown*, at a price of 10 below the rarest piece: passable, but dear. Neighbours that
# are unknown become one `<unk>`.

# %%
print(explain_lattice(engine, "Þórð"))
print("rarest piece", round(min(model.scores[place] for place in normal), 2))

# %% [markdown]
# The model then sees "something here", and no more. Other SentencePiece models have a piece for
# each of the 256 bytes, and spell what is unknown in UTF-8 (*byte fallback*): nothing is lost, but
# one such character is up to four pieces. XLM-R's file has the switch off. Turned on, with the
# pieces that it needs:

# %%
names = [byte_piece(byte) for byte in range(256)]
spelling = SentencePieceModel(
    [*model.pieces, *names],
    [*model.scores, *[0.0] * 256],
    [*model.kinds, *[Kind.BYTE] * 256],
    model.charsmap,
    byte_fallback=True,
)
print("without", engine.tokenize("Þórð"))
print("with   ", ExplicitEngine(spelling).tokenize("Þórð"))
assert not model.byte_fallback

# %% [markdown]
# ## Ids: one more than the place
#
# A last step, and the one that ports get wrong. SentencePiece's file begins with three pieces of
# its own, `<unk> <s> </s>`. fairseq, in which XLM-R was trained, has a dictionary that begins with
# *four*: `<s> <pad> </s> <unk>`. So the id of a piece is its place in the file plus one, the first
# three are renumbered, and `<mask>` comes after the last.

# %%
numbering = fairseq_numbering(len(model.pieces))
print("place   id  piece")
for place in (0, 1, 2, 3, 4, 5, 299):
    print(f"{place:5}  {numbering.pieces[place]:3}  {model.pieces[place]}")
print("special", *numbering.special.items())

# %% [markdown]
# The published file has 250,000 pieces, so `<mask>` is 250001 and the table of vectors has 250,002
# rows. Forget the plus one, and every word becomes its neighbour in the list:

# %%
tokenizer = refimpl.load_tokenizer(folder)
ids = tokenizer.encode("The lamp is on the table.")
print(ids)
print(tokenizer.convert_ids_to_tokens(ids))
print(tokenizer.convert_ids_to_tokens([i - 1 if i > 3 else i for i in ids]))

# %% [markdown]
# No error, and a model reads salad. (`<s>` and `</s>` are put around one text; between two texts
# stand two `</s>`.)
#
# And a surprise with blanks. Special tokens that are written in a text are cut out of it first, and
# the rest is tokenized in parts. `<mask>` takes the space before it along; but what *follows* it is
# a text of its own, which gets a `▁` in front like any text. So the full stop behind a blank is
# two pieces, ▁ and a full stop, and behind a word only one:

# %%
for sentence in ("The lamp.", "The <mask>."):
    print(f"{sentence:12}", *tokenizer.tokenize(sentence))

# %% [markdown]
# ## The check
#
# The golden `from_text` was made by the original, from text to logits. Its ids:

# %%
golden = read_golden(Path("../golden/xlm_roberta/from_text"))
truth = golden.inputs()["input_ids"]
encoded = tokenizer(golden.description["texts"], padding=True)
print(encoded["input_ids"])
assert encoded["input_ids"] == truth.tolist()

# %% [markdown]
# And the code that we read against the sentencepiece library, on every line that the golden
# vocabulary was trained on, pieces and places:

# %%
lines = Path("../golden/make/sentencepiece_corpus.txt").read_text("utf-8").splitlines()
library = refimpl.load_tokenizer(folder, engine="library").engine
for line in lines:
    assert engine.tokenize(line) == library.tokenize(line)
assert engine.encode(lines) == library.encode(lines)
print(len(lines), "lines, the same pieces as the golden vocabulary's own library")

# %% [markdown]
# ## Exercises
#
# 1. How probable is the *text* "▁The▁lamp", whichever way it is cut? Change one word of Viterbi's
#    formula.
# 2. Add the same number to all scores. Does the best cut of "und" stay? Try -20 and 5.
# 3. Two texts that are not equal can have the same ids. Find some.
# 4. "The lamp" is cut into as few pieces as possible. Is that always so? Search the words of the
#    corpus for one that is not.
#
# ## Solutions

# %%
# 1. Put the sum in place of the largest: the probability of a place is the sum over the pieces that
#    end there. (Kudo 2018 needs it for training, section 3.2, and for drawing cuts by lot.)
reach = [1.0] + [0.0] * len(prepared)
for start in range(len(prepared)):
    for end, _, score in engine.vocabulary.edges(prepared, start):
        reach[end] += reach[start] * math.exp(score)
print(f"log probability {math.log(reach[-1]):.4f}, of the best cut alone {lattice.scores[-1]:.4f}")
assert math.isclose(reach[-1], everything)


# %%
# 2. It stays only among cuts of equally many pieces: n pieces move by n times the number. With a
#    large negative one, fewer pieces always win; with a positive one, more.
def cut_with(shift, text):
    """The best cut where every score is moved."""
    moved = [score + shift if kind == Kind.NORMAL else score
             for score, kind in zip(model.scores, model.kinds, strict=True)]  # fmt: skip
    return ExplicitEngine(model._replace(scores=[*map(float32, moved)])).tokenize(text)


for shift in (-20.0, 0.0, 5.0):
    print(f"{shift:6}", *cut_with(shift, "und"))
assert cut_with(-20.0, "und") == ["▁un", "d"]
assert cut_with(5.0, "und") == ["▁", "u", "n", "d"]

# %%
# 3. Whatever the normaliser makes equal: spaces, ligatures, full-width letters, two spellings of é.
same = ["The lamp", "  The   lamp ", "\uff34\uff48\uff45 lamp", "The\tlamp", "The\u3000lamp"]
assert len({tuple(tokenizer.encode(text)) for text in same}) == 1
assert tokenizer.encode("caf\u00e9") == tokenizer.encode("cafe\u0301")

# %%
# 4. Nearly always, with one exception: ▁un and d, two pieces, lose to ▁, u and nd, three, by a
#    hair.
exceptions = []
for word in sorted({word for line in lines for word in line.split()}):
    possible = all_ways(engine, engine.normaliser(word).text)
    fewest = [piece for piece, _ in min(possible, key=len)]
    if len(fewest) < len(engine.tokenize(word)):
        exceptions.append(word)
        print(word, engine.tokenize(word), fewest)
assert exceptions == ["und"]
print(explain_lattice(engine, "und"))
