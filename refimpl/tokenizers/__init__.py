"""Text -> ids -> text: the tokenizers of the family, and how a checkpoint folder becomes one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from refimpl.checkpoints.folder import find_folder

if TYPE_CHECKING:
    from refimpl.tokenizers.xlm_roberta import XLMRobertaTokenizer

__all__ = ["load_tokenizer"]

ENGINES = ("library",)


def load_tokenizer(path: str | os.PathLike[str], engine: str | None = None) -> XLMRobertaTokenizer:
    """Read the tokenizer of a checkpoint folder in Hugging Face layout.

    Arguments: ``path``, a folder that holds ``sentencepiece.bpe.model``, or a hub id; ``engine``,
    what cuts text into pieces: "library" (the sentencepiece library) or None, which takes it.

    ``tokenizer_config.json``, ``special_tokens_map.json`` and ``added_tokens.json`` may lie beside
    it. ``model_max_length`` and ``padding_side`` are taken over; settings that would change ids
    must have their published values. ``clean_up_tokenization_spaces`` is passed over: ``decode``
    never tidies. ``tokenizer.json``, the Rust tokenizer's copy of it all, is not read.

    Raises ``CheckpointError``, naming the file, for one that is missing or broken and for a
    setting that is not served; ``ValueError`` for an unknown engine; ``TypeError`` for a ``path``
    that is no path.

    Source: transformers 4.57.6 ``PreTrainedTokenizerBase._from_pretrained``.
    """
    from refimpl.tokenizers import settings
    from refimpl.tokenizers import xlm_roberta as xlmr
    from refimpl.tokenizers.sentencepiece_model import SentencePieceLibrary

    if engine is not None and engine not in ENGINES:
        names = ", ".join(map(repr, ENGINES))
        raise ValueError(f"engine: expected None or one of {names}, got {engine!r}")
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: expected a str or a path, got {path!r} ({type(path).__name__})")
    folder = find_folder(path)
    file = folder / "tokenizer_config.json"
    config = settings.read_settings(file)
    settings.check_settings(file, config)
    pieces = SentencePieceLibrary(folder / xlmr.MODEL_FILE)
    special = xlmr.special_token_ids(len(pieces))
    if config.get("added_tokens_decoder"):  # then the original passes the two older files over
        settings.check_added_tokens(file, config["added_tokens_decoder"], special)
    else:
        settings.check_older_files(folder, special)
    return xlmr.XLMRobertaTokenizer(
        pieces,
        model_max_length=settings.max_length(file, config),
        padding_side=settings.padding_side(file, config),
    )
