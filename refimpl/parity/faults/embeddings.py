"""Embeddings: the sum of words, token types and positions, and its norm; XLM's languages."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy

from refimpl import ops
from refimpl.backend import Array, namespace
from refimpl.parity.faults import needs
from refimpl.parity.faults.changes import (
    at,
    ones,
    skipped,
    weights_of,
    with_input,
    without_input,
    zeros,
)
from refimpl.parity.faults.fault import Fault, Need, threads
from refimpl.parity.faults.run import ROBERTAS, Run, place_of

NORM = ("embedding_norm",)
BEHIND_SUM = ("embedding_norm", "attention_norm")  # XL has no norm of the embeddings


def plain_norm(run: Run, x: Array) -> Array:
    """(B, S, D) -> (B, S, D): the layer norm that nobody trained: weight 1, bias 0."""
    row = x[0, 0, :]
    return ops.layer_norm(x, ones(row), zeros(row), eps=run.config.layer_norm_eps)


def _scaled(run: Run, name: str, x: Array) -> Array:
    return x * math.sqrt(run.width)


def _normalise_sum(run: Run, name: str, x: Array) -> Array:
    """Let the embeddings' norm go on in the place of their sum, whose last summand this is."""
    absolute = needs.ABSOLUTE.holds(run)
    if place_of(name) != ("positions" if absolute else "token_types"):
        return x
    words = run.onward.get(run.latest("words"))
    if words is None:
        vectors = run.inputs["inputs_embeds"].reshape(-1, *x.shape[1:])
        words = run.model.backend.asarray(vectors, x.dtype)
    rest = words + run.onward[run.latest("token_types")] if absolute else words
    return plain_norm(run, rest + x) - rest


Become = Callable[[Run, str, Array], Array]


def _norm_without(place: str) -> Become:
    """The embeddings' norm of the sum without one summand."""
    return lambda run, name, x: run.norm(name, run.into[name] - run.onward[run.latest(place)])


def _add_behind(place: str) -> Become:
    return lambda run, name, x: x + run.onward[run.latest(place)]


def _without_padding(run: Run, name: str, x: Array) -> Array:
    tokens = run.inputs["input_ids"].reshape(-1, run.inputs["input_ids"].shape[-1]) != run.padding
    mask = run.model.backend.asarray(tokens)
    return x * namespace(x).astype(mask, x.dtype)[:, :, None]


def _with_type(run: Run, name: str, x: Array) -> Array:
    """Words with the row of token type 0, or that row taken away again."""
    table = run.weights[run.base + "embeddings.token_type_embeddings.weight"]
    return x + table[0, :] if place_of(name) == "words" else zeros(x)


def _types_of_one(run: Run) -> numpy.ndarray:
    return numpy.full(needs.places(run), int(run.parameters["row"]))


def _of_first_place(run: Run) -> numpy.ndarray:
    langs = run.inputs["langs"]
    return numpy.broadcast_to(langs[..., :1], langs.shape)


_TWO_TYPES = Need("two token types", lambda run: getattr(run.config, "type_vocab_size", 0) > 1)
_ONE_TYPE_GIVEN = Need(
    "texts of token type 0 only", lambda run: not numpy.any(run.inputs.get("token_type_ids", 0))
)
_LANGUAGES = (
    needs.given("langs"),
    Need("language embeddings", lambda run: run.config.has_languages),
)

WORDS = (
    Fault(
        name="words_scaled",
        title="Word embeddings are multiplied by the root of the width",
        area="embeddings",
        explanation="The port takes over the factor of Vaswani et al. (and of fairseq's "
        "translation models). No model of this family has it.",
        effect="Words drown out positions. The taps of the table are right; all behind them is "
        "not.",
        mend="Look the rows up and add them as they are.",
        first_taps=BEHIND_SUM,
        needs=(needs.IDS,),
        onward=at("words", become=_scaled),
    ),
    Fault(
        name="padding_vector_zeroed",
        title="The word vector of padding is set to zero",
        area="embeddings",
        families=ROBERTAS,
        explanation="The port treats `padding_idx` as a rule for the forward pass, as fairseq "
        "does, or zeroes the row when it loads. In transformers the row is looked up like any "
        "other; the published one is not zero.",
        effect="Rows of padding differ; tokens do only where padding is looked at. Compare real "
        "tokens first.",
        mend="Look padding up too, and leave it to the mask.",
        first_taps=BEHIND_SUM,
        sources=threads("pytorch/text#1799", "huggingface/transformers#2796"),
        known=(30,),
        needs=(needs.IDS, needs.PADDING),
        onward=at("words", become=_without_padding),
    ),
    Fault(
        name="token_types_missing",
        title="No token type embedding is added",
        area="embeddings",
        families=ROBERTAS,
        explanation="The published models have one token type, so the port leaves the table out. "
        "Its one row is not zero, and it is added to every token.",
        effect="One vector is missing everywhere, before the norm.",
        mend="Add row 0 where no token types are given.",
        first_taps=("token_types",),
        weights=weights_of(("token_types",), "weight", zeros),
    ),
    Fault(
        name="token_type_one",
        title="Token type 1 where none is given",
        area="embeddings",
        families=ROBERTAS,
        explanation="The port numbers token types from 1, or marks the second text of a pair as "
        "BERT's tokenizer does.",
        effect="Another row of the table everywhere. The published models have no such row: there "
        "it fails, or reads what lies behind the table.",
        mend="Token type 0 where none is given.",
        first_taps=("token_types",),
        needs=(needs.not_given("token_type_ids"), _TWO_TYPES),
        parameters={"row": 1},
        alternatives={"row": (2, 3)},
        inputs=with_input("token_type_ids", _types_of_one),
    ),
    Fault(
        name="token_types_ignored",
        title="The token_type_ids of a call are ignored",
        area="embeddings",
        explanation="The port takes them and adds row 0 all the same (in XLM: adds nothing).",
        effect="Nothing where all are 0; pairs differ where they are not.",
        mend="Look the given types up.",
        first_taps=("token_types",),
        needs=(needs.given("token_type_ids"),),
        inputs=without_input("token_type_ids"),
    ),
    Fault(
        name="token_type_folded_into_words",
        title="The row of token type 0 is added to the word vectors beforehand",
        area="embeddings",
        families=ROBERTAS,
        explanation="Some converters add the only row of the token types to every row of the word "
        "table and drop the types. (Where the output matrix is tied, it must keep the old table.)",
        effect="Taps of words and types differ, and their sum does not.",
        mend="Nothing: compare behind the sum.",
        first_taps=("words",),
        equivalent="The same three vectors are added, in the same order.",
        needs=(needs.IDS, _ONE_TYPE_GIVEN),
        taps=at("words", "token_types", become=_with_type),
    ),
    Fault(
        name="embedding_norm_missing",
        title="The embeddings are not normalised",
        area="embeddings",
        families=("xlm", "xlm_roberta", "xmod"),
        explanation="The port leaves the norm out, because XL has none, or takes pre-norm layers "
        "to mean that there is none: X-MOD's large model has both.",
        effect="The first layer is given a sum of another size; everything differs.",
        mend="Normalise the sum, in all families but XLM-R-XL.",
        first_taps=NORM,
        known=(18,),
        taps=at("embedding_norm", become=skipped),
    ),
    Fault(
        name="embedding_norm_added",
        title="XL's embeddings are normalised",
        area="embeddings",
        families=("xlm_roberta_xl",),
        explanation="The port keeps XLM-R's embedding norm for XL, whose checkpoint has none: its "
        "weight is then 1 and its bias 0.",
        effect="With the order of the norms it made logits differ by 59 in the first attempt at a "
        "conversion.",
        mend="XL's embeddings go into the first layer as they are.",
        first_taps=("attention_norm",),
        sources=threads("huggingface/transformers#12082", "facebookresearch/fairseq#3600"),
        known=(14,),
        onward=_normalise_sum,
    ),
    Fault(
        name="positions_behind_embedding_norm",
        title="Positions are added behind the norm of the embeddings",
        area="embeddings",
        families=("xlm", "xlm_roberta", "xmod"),
        explanation="The port normalises words and types and adds the positions then.",
        effect="All hidden states differ.",
        mend="Add all embeddings first, then normalise the sum.",
        first_taps=NORM,
        needs=(needs.ABSOLUTE,),
        taps=at("embedding_norm", become=_norm_without("positions")),
        onward=at("embedding_norm", become=_add_behind("positions")),
    ),
)

LANGUAGES = (
    Fault(
        name="xlm_langs_missing",
        title="No language embeddings are added",
        area="languages",
        families=("xlm",),
        explanation="The port, or its caller, leaves `langs` out. transformers adds nothing then "
        "and says nothing; the code of XLM's authors always gives them.",
        effect="Differences of the order of the hidden states themselves.",
        mend="Give `langs`, a language for each token, wherever the model has a table of them.",
        first_taps=("languages",),
        sources=threads("huggingface/transformers#1034", "huggingface/transformers#1243"),
        known=(51,),
        needs=_LANGUAGES,
        inputs=without_input("langs"),
    ),
    Fault(
        name="xlm_language_of_first_token",
        title="All tokens of a text have the language of the first",
        area="languages",
        families=("xlm",),
        explanation="The port takes one language for each text. XLM takes one for each token: in "
        "a translation pair the second half has another.",
        effect="Texts in one language are right, pairs are not.",
        mend="Look up a row for every token.",
        first_taps=("languages",),
        needs=_LANGUAGES,
        inputs=with_input("langs", _of_first_place),
    ),
    Fault(
        name="xlm_one_language_for_all",
        title="All texts have language 0",
        area="languages",
        families=("xlm",),
        explanation="The port gives zeros for `langs`, as for token types.",
        effect="Right for the first language of the checkpoint's list, wrong for the others.",
        mend="Look the language up in `lang2id` of the config.",
        first_taps=("languages",),
        needs=_LANGUAGES,
        parameters={"language": 0},
        alternatives={"language": (1, 2, 3)},
        inputs=with_input(
            "langs", lambda run: numpy.full_like(run.inputs["langs"], run.parameters["language"])
        ),
    ),
    Fault(
        name="xlm_languages_shifted",
        title="Language ids are one off",
        area="languages",
        families=("xlm",),
        explanation="The port numbers the languages by another list: from 1, or in alphabetical "
        "order.",
        effect="Every token gets the vector of another language.",
        mend="Use the ids of the checkpoint's `lang2id`.",
        first_taps=("languages",),
        needs=_LANGUAGES,
        parameters={"shift": 1},
        alternatives={"shift": (-1, 2, -2)},
        inputs=with_input(
            "langs",
            lambda run: (run.inputs["langs"] + run.parameters["shift"]) % run.config.n_langs,
        ),
    ),
    Fault(
        name="xlm_languages_behind_norm",
        title="Language embeddings are added behind the norm",
        area="languages",
        families=("xlm",),
        explanation="The port normalises words and positions and adds the languages then.",
        effect="All hidden states differ.",
        mend="Add all embeddings first, then normalise the sum.",
        first_taps=NORM,
        needs=_LANGUAGES,
        taps=at("embedding_norm", become=_norm_without("languages")),
        onward=at("embedding_norm", become=_add_behind("languages")),
    ),
    Fault(
        name="xlm_token_types_given",
        title="XLM is given token types of 0",
        area="languages",
        families=("xlm",),
        explanation="The port passes `token_type_ids` to every model, as BERT wants. XLM looks "
        "them up in its table of words: type 0 adds the vector of word 0, `<s>`, to every token.",
        effect="One word vector too many everywhere.",
        mend="Give XLM no token types.",
        first_taps=NORM,
        known=(52,),
        needs=(needs.IDS, needs.not_given("token_type_ids")),
        inputs=with_input("token_type_ids", lambda run: numpy.zeros_like(run.inputs["input_ids"])),
    ),
)

FAULTS = (*WORDS, *LANGUAGES)
