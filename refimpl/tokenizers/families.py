"""Whose tokenizer a checkpoint folder holds: told by its files, and by the names in its settings.

vocab.json, merges.txt                    XLM
sentencepiece.bpe.model or tokenizer.json XLM-R, XLM-R-XL, XLM-R-XXL, X-MOD
sentencepiece.bpe.model, dict.txt         the same, as fairseq published them
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from refimpl.errors import CheckpointError
from refimpl.tokenizers.settings import read_settings

MODEL_FILE = "sentencepiece.bpe.model"  # the published name; the model is a unigram one
FAST_FILE = "tokenizer.json"
DICTIONARY_FILE = "dict.txt"


class Family(NamedTuple):
    """The files and names by which the tokenizers of a family are known."""

    name: str
    files: tuple[str, ...]
    classes: tuple[str, ...]  # tokenizer_class
    model_types: tuple[str, ...]  # model_type


XLM = Family("XLM", ("vocab.json", "merges.txt"), ("XLMTokenizer",), ("xlm",))
XLM_ROBERTA = Family(
    "XLM-RoBERTa",
    (MODEL_FILE, FAST_FILE),
    ("XLMRobertaTokenizer", "XLMRobertaTokenizerFast"),
    ("xlm-roberta", "xlm-roberta-xl", "xmod"),
)


def find_family(folder: Path) -> Family:
    """Return the family of a folder's files.

    Raises ``CheckpointError`` for a folder that holds no tokenizer or files of two, and for
    settings that name another family's class or model.
    """
    present = [name for name in (*XLM.files, *XLM_ROBERTA.files) if (folder / name).is_file()]
    families = [one for one in (XLM, XLM_ROBERTA) if set(present) & set(one.files)]
    if not families:
        raise CheckpointError(
            f"{folder}: expected a tokenizer, {' and '.join(XLM.files)} or {MODEL_FILE} or "
            f"{FAST_FILE}, found none of them"
        )
    if len(families) > 1:
        raise CheckpointError(
            f"{folder}: expected the files of one tokenizer, found {', '.join(present)}"
        )
    for file in ("tokenizer_config.json", "config.json"):
        check_names(folder / file, families[0], present)
    return families[0]


def check_names(file: Path, family: Family, present: list[str]) -> None:
    """Raise ``CheckpointError`` for settings that name a class or a model of another family."""
    settings = read_settings(file)
    for key, expected in (("tokenizer_class", family.classes), ("model_type", family.model_types)):
        value = settings.get(key)
        if value is not None and value not in expected:
            raise CheckpointError(
                f"{file}: {key}: expected {' or '.join(expected)} beside {present[0]}, "
                f"got {value!r}"
            )
