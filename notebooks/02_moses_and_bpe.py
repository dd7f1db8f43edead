# %% [markdown]
# # 02 · From text to ids: Moses and BPE, merge by merge
#
# A model reads numbers, each the name of a *piece* of text. What should the pieces be? Whole words
# are too many, and the next text brings new ones. Characters are few, but a text of them is long,
# and attention pays for length with its square. *Byte-pair encoding* takes the middle: begin with
# characters, and glue together what often stands together.
#
# XLM cuts in two stages: into words by rules (Moses), then each word into pieces by merges that
# were learnt from text (BPE). Both are here, step by step, with a vocabulary of 524 pieces small
# enough to look into. (XLM-R does neither: notebook 03.)
#
# *Sennrich et al. 2016 for BPE; Koehn et al. 2007 for Moses; Lample & Conneau 2019, section 3.1.
# Code: `refimpl/tokenizers/xlm/`, where `steps.py` has the order, `moses.py` the words, `bpe.py`
# the merges.*

# %%
from collections import Counter
from itertools import pairwise, zip_longest
from pathlib import Path

import matplotlib.pyplot as plt
import pictures

import refimpl
from refimpl.tokenizers.xlm import moses
from refimpl.tokenizers.xlm.bpe import bpe, join_pair, merges_of, symbols_of
from refimpl.tokenizers.xlm.files import read_merges
from refimpl.tokenizers.xlm.steps import steps_for
from refimpl.tokenizers.xlm.text import lowercase_and_remove_accents

pictures.begin()

folder = Path("../golden/tokenizers/xlm")
tokenizer = refimpl.load_tokenizer(folder)
print(len(tokenizer), "pieces;", "languages", *tokenizer.lang2id)

# %% [markdown]
# ## The whole way, once
#
# `explain` tells what every step did to a text. First the steps up to words; `*` marks those that
# changed something:

# %%
text = "The President’s letters  (2,000): “Brücken… Fluß”"
explained = tokenizer.explain(text, lang="en")
for stage in explained.stages:
    print("*" if stage.changed else " ", f"{stage.name:20}", stage.text)

# %% [markdown]
# Curly quotes became straight ones, two spaces one, three dots in one character three characters,
# and the accents went: all that would make two spellings of what is one word to a reader. And words
# were parted from the signs that stick to them.
#
# `refimpl tokenize CHECKPOINT "..." --lang en --explain` prints the same in a shell.
#
# ## Words, and the dot at their end
#
# Cutting at spaces is not enough: "letters", "letters," and "(letters" would be three words. But a
# sign is not always to be cut off. The comma in "2,000" belongs to the number; a full stop ends a
# sentence, or an abbreviation, or is part of "U.S.":

# %%
for sentence in ("Mr. Rivers paid 2,000 dollars.", "The U.S. won. No. 5 lost, said Mr. Rivers."):
    print(*moses.tokenize(sentence, "en"), sep=" | ")

# %% [markdown]
# The rules are a ladder: each sees what the one before it left. For the full stop they come down to
# four questions (`moses.ends_sentence`): is there another full stop and a letter inside the word?
# Is it in the list of abbreviations? Does the next word begin in lower case? Is it "No." or its
# like, before a number? One yes, and the dot stays.

# %%
known = moses.language("en")
for word, following in (
    ("dog.", "It"),
    ("U.S.", "The"),
    ("Mr.", "It"),
    ("dog.", "it"),
    ("No.", "5"),
):
    verdict = "a word of its own" if moses.ends_sentence(word, following, known) else "stays"
    print(f"{word + ' ' + following:10} the dot: {verdict}")

# %% [markdown]
# Abbreviations and apostrophes differ from language to language, so Moses must be told which one it
# reads. An English apostrophe goes with what follows ("it 's"), a French one with what stands
# before:

# %%
for lang in ("fr", "en", "de"):
    print(lang, *moses.tokenize("L'eau est là.", lang), sep=" | ")

# %% [markdown]
# A port that leaves the language out gets other words, hence other ids, and no error. The original
# does it itself: `XLMTokenizer.tokenize`, `encode` and a call of it in transformers 4.57.6 take
# `lang=` and do not hand it on; only their `_tokenize` heeds it. Here it always counts.
#
# ## Lower case, twice
#
# Most published XLMs know no capitals and no accents. A letter with a mark is taken apart (Unicode
# calls it NFD), and the marks are dropped:

# %%
for word in ("Président", "Brücken", "Ærø", "Fluß", "schön", "schon"):
    print(f"{word:10} {lowercase_and_remove_accents(word)}")

# %% [markdown]
# What has no mark to drop stays: æ, ø, ß. And information is lost: schön (beautiful) and schon
# (already) are one word now.
#
# The surprise is the *order*. transformers lower-cases the text before anything else, and each word
# again with its accents. But Moses recognises a new sentence by its capital letter, and now there
# is none: the dot stays at its word wherever another sentence follows.

# %%
sentence = "The dog won. It left. They said so."
print("as it is     ", *moses.tokenize(sentence, "en"), sep=" | ")
print("in lower case", *moses.tokenize(sentence.lower(), "en"), sep=" | ")

# %% [markdown]
# Nobody meant it so, but whoever computes other ids than the original runs another model. The
# steps of each language, for a model without capitals:

# %%
columns = []
for lang, segmenter in (("en", None), ("ro", None), ("zh", list)):
    steps = steps_for(lang, lower=True, segmenter=segmenter)
    columns.append([lang, *(step.name for step in steps.before), steps.cut.name, steps.after.name])
for row in zip_longest(*columns, fillvalue=""):
    print("".join(f"{name:24}" for name in row))

# %% [markdown]
# Chinese puts no spaces between words; a dictionary cuts it (the library jieba) before Moses' rules
# for punctuation see it.
#
# ## Learning merges
#
# Now each word is cut on its own. Sennrich et al. 2016 show it on four words, with how often each
# stands in a text. Take every word as characters; count the pairs of neighbours; glue the most
# frequent pair together, everywhere; and again.
#
# The last character carries a mark, `</w>`, that the word ends there. Without it nobody could put
# words together again: "the" in "the" and in "then" would be one piece.


# %%
def count_pairs(cut, counts):
    """How often each two symbols stand side by side."""
    pairs = Counter()
    for word, symbols in cut.items():
        for pair in pairwise(symbols):
            pairs[pair] += counts[word]
    return pairs


def learn(counts, steps):
    """The merges of a text, in order, each with its count; of equal ones the last by alphabet."""
    cut = {word: symbols_of(word) for word in counts}
    for _ in range(steps):
        pairs = count_pairs(cut, counts)
        if not pairs:
            return
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        cut = {word: join_pair(symbols, best) for word, symbols in cut.items()}
        yield best, pairs[best], cut


counts = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
for pair, count, cut in learn(counts, steps=8):
    shown = "   ".join(" ".join(symbols) for symbols in cut.values())
    print(f"{' + '.join(pair):14} {count}   {shown}")

# %% [markdown]
# After six merges "newest" is one piece; `est</w>` came up on the way, because two words share it.
# A frequent word becomes one piece, a rare one stays in parts, and the parts are often those that
# a linguist would choose, and often not.
#
# The list of merges is all that was learnt. XLM's file `merges.txt` has them in this order (with
# their counts, which nobody reads). The place in the list is called the *rank* of a pair. XLM
# learns one list on texts of all its languages, put together so that small languages are heard
# (section 3.1 of the paper), and so languages share pieces. The first twenty here:

# %%
ranks = read_merges(folder / "merges.txt")
print(*("".join(pair) for pair in [*ranks][:20]))

# %% [markdown]
# ## Using merges
#
# A new word is cut into characters, and of all pairs in it the one of the *lowest rank* is joined,
# everywhere in the word; then again, until no pair is in the list. So the merges happen in the
# order in which they were learnt.

# %%
for word in ("president", "residents"):
    print(f"\n{word:21}", *symbols_of(word))
    for merge in merges_of(word, ranks):
        print(f"{merge.rank:4}  {' + '.join(merge.pair):15}", *merge.symbols)

# %% [markdown]
# As trees: the number at a joint is the rank, and a joint is the higher the later it is made. A
# pair must have been made before it can be joined to something, so the ranks rise along every
# branch here.


# %%
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}


def draw_merges(ax, word):
    """Draw how the characters of a word are joined, from below to above."""
    nodes = [(float(i), 0.0, symbol) for i, symbol in enumerate(symbols_of(word))]
    for step, merge in enumerate(merges_of(word, ranks), 1):
        for i in range(len(nodes) - 2, -1, -1):
            (x, low, left), (y, high, right) = nodes[i], nodes[i + 1]
            if (left, right) != merge.pair:
                continue
            ax.plot([x, x, y, y], [low, step, step, high], color=pictures.BLUE)
            ax.text((x + y) / 2, step, merge.rank, ha="center", va="center", fontsize=8, bbox=PAPER)
            nodes[i : i + 2] = [((x + y) / 2, float(step), left + right)]
    for i, char in enumerate(word):
        ax.text(i, -0.7, char, ha="center", fontsize=12)
    for x, top, symbol in nodes:
        ax.text(x, top + 0.75, symbol, ha="center", color=pictures.ORANGE, weight="bold")
    ax.set(xlim=(-0.7, len(word) - 0.3), ylim=(-1.0, 9.6))
    ax.axis("off")


figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.6))
for ax, word in zip(axes, ("president", "residents"), strict=True):
    draw_merges(ax, word)
pictures.show(figure)

# %% [markdown]
# "residen" is found in both, `president</w>` was frequent enough to be one piece, and the plural s,
# which this text never had behind it, stays alone.
#
# And here is the price of the mark `</w>`. The text had "river", so there is a piece `river</w>`.
# It is of no use to "rivers": the r inside a word and the `r</w>` at its end are two symbols, and
# the merges that were learnt with one say nothing about the other.

# %%
for word in ("river", "rivers", "riviere"):
    print(f"{word:8}", *bpe(word, ranks))

# %% [markdown]
# ## What a longer list buys
#
# The same sentences, with the first n merges only: from characters to words. The fewer pieces, the
# shorter the text that the model reads, and the larger the table of vectors that it must learn
# (notebook 04). All languages profit, each from merges of its own.

# %%
sentences = {
    "English": "the president said , the river is the longest",
    "German": "der fluss ist der langste , die brucken sind die altesten",
    "French": "l' eau de la riviere est l' eau de la ville",
    "Russian": "президент сказал , что река самая длинная",
    "Greek": "ο ποταμος ειναι ο μεγαλυτερος",
}
sizes = [*range(0, len(ranks) + 1, 8)]
figure, ax = plt.subplots(figsize=(6.6, 3.2))
for name, sentence in sentences.items():
    words = sentence.split()
    lengths = []
    for size in sizes:
        first = {pair: rank for pair, rank in ranks.items() if rank < size}
        lengths.append(sum(len(bpe(word, first)) for word in words) / len(words))
    ax.plot(sizes, lengths, label=name)
ax.axhline(1, color=pictures.GREY, linestyle="--")
ax.set(xlabel="merges", ylabel="pieces for each word", ylim=(0, None))
ax.legend()
pictures.show(figure)

# %% [markdown]
# ## Ids
#
# A dictionary gives each piece its id. A character that the text never had is not in it, and
# becomes `<unk>`: the ß of "Fluß" here, but not the rest of the word.

# %%
for token, i in zip(explained.tokens[-9:], explained.ids[-9:], strict=True):
    print(f"{i:4}  {token}{'   unknown' if i == tokenizer.unk_token_id else ''}")

# %% [markdown]
# For the model `<s>` and `</s>` are put around, and with the ids goes the language of each token,
# its number in `lang2id` (notebook 07 says what for). Where each token stood in the text can be had
# too; the original cannot tell.

# %%
encoded = tokenizer("L'eau de là", lang="fr", return_offsets_mapping=True)
for name, row in encoded.items():
    print(f"{name:16}", row)

# %% [markdown]
# Back from ids: glue everything together, and `</w>` is a space. Capitals, accents, and the spaces
# that there were before Moses do not come back.

# %%
print(tokenizer.decode(explained.ids))

# %% [markdown]
# ## The check
#
# Two things. The golden vocabulary was learnt as above, so `learn` on the text that it was made
# from must give the golden list of merges. And the ids must be those of the original: below is what
# `XLMTokenizer` of transformers 4.57.6, given the language, made of five texts in lower case with
# this vocabulary.

# %%
corpus = Path("../golden/make/xlm_corpus.txt").read_text("utf-8").split()
learnt = [pair for pair, _, _ in learn(Counter(corpus), steps=600)]
assert learnt == [*ranks]
print(len(learnt), "merges, as in the golden list")

# %%
truth = {
    ("The President’s letters, said Mr. Rivers.", "en"):
        [0, 253, 331, 523, 339, 29, 325, 76, 86, 33, 255, 94, 60, 86, 89, 33, 1],
    ("L'eau de la rivière, c'est 1,5 %.", "fr"):
        [0, 340, 343, 347, 261, 466, 29, 56, 23, 274, 36, 28, 41, 21, 33, 1],
    ("L'eau de la rivière, c'est 1,5 %.", "de"):
        [0, 75, 23, 343, 347, 261, 466, 29, 57, 23, 274, 36, 28, 41, 21, 33, 1],
    ("Él dijo: los ríos!", "es"): [0, 276, 504, 43, 337, 255, 272, 15, 1],
    ("Что сказал президент?", "ru"): [0, 293, 387, 399, 47, 1],
}  # fmt: skip
for (sentence, lang), ids in truth.items():
    assert tokenizer.encode(sentence, lang=lang) == ids
print(len(truth), "texts, the same ids")

# %% [markdown]
# ## Exercises
#
# 1. In `merges_of` the pair of lowest rank is joined *everywhere* in the word. What do the merges
#    (a, a), (aa, aa) make of "aaaaa"? Mind the end of the word.
# 2. Does BPE find the cut with the fewest pieces? Try "less" and "pane".
# 3. Some tokenizers cut from the left, the longest known piece first. Write it with the pieces of
#    this notebook. It cuts all words of the text that they were learnt from as BPE does (why?);
#    find a word that it cuts otherwise.
# 4. A port calls `text.lower()` where the original lower-cases character by character. In which
#    alphabet is it seen?
#
# ## Solutions

# %%
# 1. From the left: aa aa a</w>, then aaaa a</w>. The last a is another symbol, a</w>.
steps = [merge.symbols for merge in merges_of("aaaaa", {("a", "a"): 0, ("aa", "aa"): 1})]
print(steps)
assert steps == [["aa", "aa", "a</w>"], ["aaaa", "a</w>"]]

# %%
# 2. No. Two pieces would do, "le" and "ss</w>"; but e and s are joined first (rank 5), and then the
#    e is gone. The order of learning decides, and nothing else.
print(bpe("less", ranks), bpe("pane", ranks))
assert bpe("less", ranks) == ["l", "es", "s</w>"]
assert {("l", "e"), ("s", "s</w>"), ("p", "a"), ("n", "e</w>")} <= {*ranks}


# %%
# 3. After 272 merges nothing was left to join in that text: each of its words is one piece. A new
#    word shows the difference.
def longest_first(word):
    """The longest known piece, again and again."""
    symbols, pieces = symbols_of(word), []
    while symbols:
        n = next(n for n in range(len(symbols), 0, -1) if n == 1 or "".join(symbols[:n]) in known)
        pieces.append("".join(symbols[:n]))
        symbols = symbols[n:]
    return pieces


known = {"".join(pair) for pair in ranks}
assert all(longest_first(word) == bpe(word, ranks) for word in corpus)
for word in ("residents", "reader", "older", "less", "manana"):
    print(f"{word:10}", *bpe(word, ranks), "  |  ", *longest_first(word))
assert bpe("reader", ranks) == ["rea", "der</w>"]
assert longest_first("reader") == ["read", "er</w>"]

# %%
# 4. In Greek: a capital sigma at the end of a word becomes ς for str.lower, σ for a lone character.
assert "ΟΔΟΣ".lower() == "οδος"
one_by_one = "".join(char.lower() for char in "ΟΔΟΣ")
assert one_by_one == "οδοσ"
assert tokenizer.explain("ΟΔΟΣ").stages[1].text == one_by_one
