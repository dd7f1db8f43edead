"""Known mistakes that are no change of the computation, and why each is not in the catalogue."""

from __future__ import annotations

from typing import NamedTuple

from refimpl.parity.faults.fault import threads


class LeftOut(NamedTuple):
    """A known mistake, by its number in the list, and why no fault makes it."""

    number: int
    mistake: str
    why: str
    sources: tuple[str, ...] = ()


KNOWN = 88  # mistakes in the list: those here, and those that the faults name

FAILS = "It fails: an error, no numbers."
OTHER_IDS = "Other ids: the tokenizer's matter."
USE = "A way to use the model, not to compute it."
CHECKING = "A way to check a port, not to compute."

LEFT_OUT = (
    LeftOut(
        4,
        "514 positions taken for 514 tokens; 512 fit",
        FAILS,
        threads(
            "huggingface/transformers#1363",
            "huggingface/transformers#9116",
            "facebookresearch/fairseq#1187",
        ),
    ),
    LeftOut(
        24,
        "a flat `classifier.weight` expected for sequence classification",
        "It fails, or the head is random and no number can be compared.",
        threads("waybarrios/vllm-mlx#545"),
    ),
    LeftOut(
        25,
        "`pooler_output` used as a sentence vector, though nobody trained the pooler",
        USE,
        threads("OpenNMT/CTranslate2#1342", "pyg-team/pytorch_geometric#363"),
    ),
    LeftOut(
        37,
        "results of different batch sizes expected to be equal to the bit",
        CHECKING,
        threads("facebookresearch/fairseq#1605"),
    ),
    LeftOut(
        43,
        "embeddings resized without `padding_idx`, or without the tied bias",
        "Training, or an error of shapes.",
        threads("huggingface/transformers#3940"),
    ),
    LeftOut(
        44, "the buffer `position_ids` taken for a weight", FAILS, threads("explosion/spaCy#12982")
    ),
    LeftOut(
        45,
        "the old key `n_words` not read as `vocab_size`",
        FAILS,
        threads("huggingface/transformers#2214"),
    ),
    LeftOut(
        46,
        "language embeddings expected of XLM's models of 17 and 100 languages, which have none",
        "It fails, or a random table is added and no number can be compared.",
        threads("huggingface/transformers#1277"),
    ),
    LeftOut(
        47,
        "a conversion accepted at a tolerance of 1e-3",
        CHECKING,
        threads("dmlc/gluon-nlp#1183", "huggingface/transformers#3581"),
    ),
    LeftOut(
        53,
        "`mask_token_id` 0 of XLM's configs, where the tokenizer's mask is 5",
        OTHER_IDS,
        threads("huggingface/transformers#2289"),
    ),
    LeftOut(
        54,
        "XLM's texts begin with `</s>` in training and with `<s>` in transformers",
        OTHER_IDS,
        threads(
            "facebookresearch/XLM#130",
            "facebookresearch/XLM#338",
            "huggingface/transformers#2481",
            "huggingface/transformers#3788",
            "huggingface/transformers#3791",
            "huggingface/transformers#12814",
        ),
    ),
    LeftOut(57, "the width of XLM's feed-forward network sought in the config: it is 4 D", FAILS),
    LeftOut(58, "lower case and no accents for XLM's models of 17 and 100 languages", OTHER_IDS),
    LeftOut(
        59,
        "accents stripped before Moses' tokenizer, or sacremoses taken for it",
        OTHER_IDS,
        threads("hplt-project/sacremoses#42"),
    ),
    LeftOut(
        60,
        "Romanian preprocessing in the model of 100 languages",
        OTHER_IDS,
        threads("huggingface/transformers#1092"),
    ),
    LeftOut(61, "other word segmenters for Chinese, Japanese and Thai", OTHER_IDS),
    LeftOut(62, "BPE files with `@@` read for a vocabulary with `</w>`", OTHER_IDS),
    LeftOut(67, "X-MOD's `lang_ids` for each token, which transformers 4.57.6 refuses", FAILS),
    LeftOut(
        68,
        "a language out of range: -1 is the last one, or no adapter runs",
        "A wrong call; here it is a `ValueError`.",
    ),
    LeftOut(69, "X-MOD's multiple choice with a language for each text", FAILS),
    LeftOut(
        70,
        "`_rom` and `_zaw` of fairseq's language names not stripped",
        "A name that X-MOD does not have: it fails.",
    ),
    LeftOut(71, "a reduction factor of 2 for X-MOD's large models, which have 4", FAILS),
    LeftOut(
        72,
        "XL's 250880 scores beside a tokenizer of 250002 pieces",
        USE,
        threads("huggingface/transformers#13727", "huggingface/transformers#12082"),
    ),
    LeftOut(
        73,
        "XL put into the classes of RoBERTa, whose own results changed with it",
        "What changed there is in the catalogue: `norm_first`, `final_norm_added`, "
        "`embedding_norm_missing`.",
        threads("huggingface/transformers#12082"),
    ),
    LeftOut(
        75,
        "the offset of 1 between SentencePiece's ids and fairseq's forgotten",
        OTHER_IDS,
        threads("facebookresearch/fairseq#2094", "google/sentencepiece#1042"),
    ),
    LeftOut(
        76,
        "unknown pieces become padding: 0 + 1 is 1, and should be 3",
        OTHER_IDS,
        threads("tensordot/syntaxdot#215", "huggingface/transformers#2795"),
    ),
    LeftOut(
        77,
        "`<mask>` at 250004, or 4; it is 250001",
        OTHER_IDS,
        threads(
            "huggingface/transformers#2508",
            "huggingface/transformers#2509",
            "huggingface/transformers#2976",
            "huggingface/transformers#3198",
            "keras-team/keras-hub#756",
            "keras-team/keras-hub#950",
        ),
    ),
    LeftOut(
        78,
        "`<mask>` that does not take the space in front of it",
        OTHER_IDS,
        threads(
            "huggingface/transformers#11415",
            "huggingface/tokenizers#575",
            "facebookresearch/fairseq#1306",
        ),
    ),
    LeftOut(
        79,
        "no normaliser, or plain NFKC in place of the vocabulary's own",
        OTHER_IDS,
        threads("huggingface/transformers#8517", "huggingface/transformers#44255"),
    ),
    LeftOut(
        80,
        "pairs joined by one `</s>`; there are two",
        OTHER_IDS,
        threads("huggingface/tokenizers#983", "elastic/elasticsearch#96807"),
    ),
    LeftOut(
        81,
        "token type 1 for the second text, where the table has one row",
        "It fails. Where the table has two rows: `token_type_one`.",
        threads("huggingface/transformers#2445", "huggingface/transformers#2727"),
    ),
    LeftOut(82, "a literal `<unk>` in a text, which fairseq spells out", OTHER_IDS),
    LeftOut(
        83,
        "slow and fast tokenizers taken to be equal",
        OTHER_IDS,
        threads(
            "huggingface/transformers#9535",
            "huggingface/tokenizers#663",
            "huggingface/transformers#9744",
            "huggingface/transformers#11095",
        ),
    ),
    LeftOut(
        84,
        "an upgrade to transformers 5 without a look at the ids",
        OTHER_IDS,
        threads("huggingface/transformers#45701", "huggingface/transformers#44255"),
    ),
    LeftOut(
        85,
        "texts cut at 514 tokens; 512 fit",
        FAILS,
        threads("huggingface/transformers#9116"),
    ),
    LeftOut(87, "the digits printed on model cards taken for goldens", CHECKING),
    LeftOut(
        88, "the original run in training mode, with dropout", "Random numbers, others each time."
    ),
)
