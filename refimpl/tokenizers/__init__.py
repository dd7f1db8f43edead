"""Text -> ids -> text: the tokenizers of the family, and how a checkpoint folder becomes one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from refimpl.checkpoints.folder import find_folder
from refimpl.errors import CheckpointError

if TYPE_CHECKING:
    from refimpl.tokenizers.tokenizer import Tokenizer
    from refimpl.tokenizers.xlm_roberta.tokenizer import Engine, Numbering, XLMRobertaTokenizer

__all__ = ["load_tokenizer"]

ENGINES = ("library", "explicit")


def load_tokenizer(path: str | os.PathLike[str], engine: str | None = None) -> Tokenizer:
    """Read the tokenizer of a checkpoint folder.

    Arguments: ``path``, a folder or a hub id; ``engine``, what cuts the text of XLM-R into pieces:
    "library" (the sentencepiece library, which None takes) or "explicit" (our own code, in which
    each step can be read). XLM's tokenizer has one engine, which is explicit.

    Which files make which tokenizer is told in families.py. A folder in Hugging Face layout may
    have ``tokenizer_config.json``, ``special_tokens_map.json`` and ``added_tokens.json`` beside
    them: ``model_max_length`` and ``padding_side`` are taken over; settings that would change ids
    must have their published values. ``clean_up_tokenization_spaces`` is passed over: it is an
    argument of ``decode``. ``tokenizer.json`` is read where there is no
    ``sentencepiece.bpe.model``. Where fairseq's ``dict.txt`` lies beside that, ids are its own.

    Raises ``CheckpointError``, naming the file, for one that is missing or broken, for a setting
    that is not served, and for files and names of two families; ``ValueError`` for an unknown
    engine; ``TypeError`` for a ``path`` that is no path.

    Source: transformers 4.57.6 ``PreTrainedTokenizerBase._from_pretrained``; fairseq
    fairseq/models/roberta/hub_interface.py.
    """
    from refimpl.tokenizers.families import XLM, find_family

    if engine is not None and engine not in ENGINES:
        names = ", ".join(map(repr, ENGINES))
        raise ValueError(f"engine: expected None or one of {names}, got {engine!r}")
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: expected a str or a path, got {path!r} ({type(path).__name__})")
    folder = find_folder(path)
    if find_family(folder) is not XLM:
        return _load_xlm_roberta(folder, engine)
    if engine == "library":
        raise ValueError("engine: expected None or 'explicit' for an XLM tokenizer, got 'library'")
    from refimpl.tokenizers.xlm.tokenizer import XLMTokenizer

    return XLMTokenizer.from_folder(folder)


def _load_xlm_roberta(folder: Path, engine: str | None) -> XLMRobertaTokenizer:
    from refimpl.tokenizers import settings
    from refimpl.tokenizers.families import DICTIONARY_FILE
    from refimpl.tokenizers.xlm_roberta.tokenizer import XLMRobertaTokenizer, fairseq_numbering

    file = folder / "tokenizer_config.json"
    config = settings.read_settings(file)
    settings.check_settings(file, config)
    pieces = _make_engine(folder, engine)
    dictionary = folder / DICTIONARY_FILE
    if dictionary.is_file():
        numbering = _dictionary_numbering(dictionary, pieces)
    else:
        numbering = fairseq_numbering(len(pieces))
    if config.get("added_tokens_decoder"):  # then the original passes the two older files over
        settings.check_added_tokens(file, config["added_tokens_decoder"], numbering.special)
    else:
        settings.check_older_files(folder, numbering.special)
    length, side = settings.max_length(file, config), settings.padding_side(file, config)
    return XLMRobertaTokenizer(pieces, length, side, numbering)


def _make_engine(folder: Path, engine: str | None) -> Engine:
    from refimpl.tokenizers.families import FAST_FILE, MODEL_FILE
    from refimpl.tokenizers.xlm_roberta.library import LibraryEngine
    from refimpl.tokenizers.xlm_roberta.tokenizer_json import read_tokenizer_json
    from refimpl.tokenizers.xlm_roberta.unigram import ExplicitEngine

    file = folder / MODEL_FILE
    model = file if file.is_file() else read_tokenizer_json(folder / FAST_FILE)
    return ExplicitEngine(model) if engine == "explicit" else LibraryEngine(model)


def _dictionary_numbering(file: Path, engine: Engine) -> Numbering:
    """Return the ids that a fairseq dictionary gives to the pieces of a model."""
    from refimpl.tokenizers.xlm_roberta.fairseq_dict import ids_by_place, read_dict
    from refimpl.tokenizers.xlm_roberta.tokenizer import FAIRSEQ_IDS, MASK, Numbering

    entries = read_dict(file)
    try:
        ids = ids_by_place([engine.id_to_piece(i) for i in range(len(engine))], entries)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from None
    names = dict(enumerate(entries, len(FAIRSEQ_IDS)))
    unused = {i: names[i] for i in names.keys() - set(ids)}
    return Numbering({**FAIRSEQ_IDS, MASK: len(entries) + len(FAIRSEQ_IDS)}, ids, unused)
