"""The files of an XLM tokenizer: vocab.json, merges.txt and the settings beside them, checked.

Whatever is wrong is said once, with the file and, where there is one, the line.

Source: transformers 4.57.6 ``XLMTokenizer.__init__``, ``PreTrainedTokenizerBase._from_pretrained``.
Differs: the original reads on where a special token is missing (and invents an id that the model
has no embedding for), where ids are given twice or left out, and where a merge can never happen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from refimpl.errors import CheckpointError
from refimpl.tokenizers.settings import expect, max_length, padding_side, read_settings
from refimpl.tokenizers.xlm.bpe import END

VOCABULARY_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
SETTINGS_FILE = "tokenizer_config.json"

ROLES = {
    "bos_token": "<s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "</s>",
    "mask_token": "<special1>",
}
ADDITIONAL = tuple(f"<special{i}>" for i in range(10))
FIXED = {  # settings that change ids, with the one value that is served
    "split_special_tokens": False,
    "truncation_side": "right",
    "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
}


class SpecialTokens(NamedTuple):
    """The tokens that are found in a text before it is cut, and kept whole."""

    roles: Mapping[str, str] = ROLES
    additional: tuple[str, ...] = ADDITIONAL
    added: Mapping[str, int] = {}  # with their ids, beside the vocabulary
    cased: tuple[str, ...] = ()  # those added tokens that are looked for before lower-casing

    @property
    def special(self) -> list[str]:
        """The special tokens, each once, in the order in which they list them."""
        return list(dict.fromkeys([*self.roles.values(), *self.additional]))


class Files(NamedTuple):
    """What the files of a tokenizer hold."""

    vocabulary: dict[str, int]
    ranks: dict[tuple[str, str], int]
    tokens: SpecialTokens
    lower: bool
    lang2id: dict[str, int]
    model_max_length: int | None
    padding_side: str


def read_files(folder: Path) -> Files:
    """Read the tokenizer of a checkpoint folder; ``CheckpointError`` where something is wrong."""
    vocabulary = read_vocabulary(folder / VOCABULARY_FILE)
    ranks = read_merges(folder / MERGES_FILE)
    file = folder / SETTINGS_FILE
    settings = read_settings(file)
    given = settings.get("tokenizer_class")
    if given is not None:
        expect(file, "tokenizer_class", "XLMTokenizer", given)
    for key, value in FIXED.items():
        expect(file, key, value, settings.get(key, value))
    lower = settings.get("do_lowercase_and_remove_accent", True)
    if not isinstance(lower, bool):
        raise CheckpointError(
            f"{file}: do_lowercase_and_remove_accent: expected true or false, got {lower!r}"
        )
    tokens = read_special_tokens(folder, settings)
    check_ids(folder, vocabulary, tokens)
    return Files(
        vocabulary,
        ranks,
        tokens,
        lower,
        read_languages(file, settings),
        max_length(file, settings),
        padding_side(file, settings),
    )


# vocab.json


def read_text(file: Path) -> str:
    """Return the text of a file; ``CheckpointError`` for none, an empty one, one not in UTF-8."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    if not data.strip():
        raise CheckpointError(f"{file}: expected a tokenizer's file, found an empty one")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CheckpointError(
            f"{file}: line {line}: expected UTF-8, got the byte 0x{data[error.start]:02x}"
        ) from None


def read_vocabulary(file: Path) -> dict[str, int]:
    """Return the ids of vocab.json by token, each id there once.

    Raises ``CheckpointError``, with the line, for anything else.
    """
    text = read_text(file)
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{file}: line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise CheckpointError(f"{file}: expected one JSON object, got objects in objects") from None
    if not isinstance(pairs, list) or not all(isinstance(one, tuple) for one in pairs):
        raise CheckpointError(f"{file}: expected a JSON object of tokens and ids")
    vocabulary: dict[str, int] = {}
    owners: dict[int, str] = {}
    for token, i in pairs:
        fault = ""
        if isinstance(i, bool) or not isinstance(i, int) or i < 0:
            fault = f"expected an id from 0, got {i!r:.40}"
        elif token in vocabulary:
            fault = "expected each token once, got it twice"
        elif i in owners:
            fault = f"expected an id of its own, got {i}, the id of {owners[i]!r}"
        if fault:
            raise CheckpointError(f"{file}{line_of(text, token)}: {token!r}: {fault}")
        vocabulary[token] = i
        owners[i] = token
    return vocabulary


def line_of(text: str, token: str) -> str:
    r"""Say in which line of a JSON file a key stands (for the last time), where it can be found.

    >>> line_of('{"a": 0,\n "b": 1}', "b")
    ': line 2'
    """
    at = max(text.rfind(json.dumps(token, ensure_ascii=plain)) for plain in (True, False))
    return "" if at < 0 else f": line {text.count(chr(10), 0, at) + 1}"


# merges.txt


def read_merges(file: Path) -> dict[tuple[str, str], int]:
    """Return the ranks of merges.txt: pairs of symbols, their line (from 0).

    What stands behind the two symbols of a line, as a count, is passed over. A symbol of more than
    one character must be made by a merge before, as in every list that was learnt.
    Raises ``CheckpointError``, with the line, for anything else.
    """
    text = read_text(file).replace("\r\n", "\n").replace("\r", "\n")
    *lines, rest = text.split("\n")
    if rest:  # which the original would not read
        raise CheckpointError(f"{file}: line {len(lines) + 1}: expected a line end behind {rest!r}")
    made: set[str] = set()
    ranks: dict[tuple[str, str], int] = {}
    for rank, line in enumerate(lines):
        symbols = line.split(" ")[:2]
        if len(symbols) < 2 or not all(symbols):
            raise CheckpointError(
                f"{file}: line {rank + 1}: expected two symbols with a space between, got {line!r}"
            )
        for symbol in symbols:
            if len(symbol.removesuffix(END)) > 1 and symbol not in made:
                raise CheckpointError(
                    f"{file}: line {rank + 1}: expected symbols that a line before makes, got "
                    f"{symbol!r}"
                )
        made.add("".join(symbols))
        first, second, *_ = [*line.split(), "", ""]  # as they read it: a no-break space parts too
        ranks[first, second] = rank
    return ranks


# The settings


def read_languages(file: Path, settings: Mapping[str, Any]) -> dict[str, int]:
    """Return ``lang2id``, empty where there is none; ``id2lang`` must say the same.

    Raises ``CheckpointError`` where they do not, or hold no ids.
    """
    lang2id = settings.get("lang2id") or {}
    id2lang = settings.get("id2lang")
    if not isinstance(lang2id, dict) or not all(type(i) is int for i in lang2id.values()):
        raise CheckpointError(f"{file}: lang2id: expected names and ids, got {lang2id!r:.60}")
    if id2lang is not None:
        expect(file, "id2lang", {str(i): name for name, i in lang2id.items()}, id2lang)
    return lang2id


def read_special_tokens(folder: Path, settings: Mapping[str, Any]) -> SpecialTokens:
    """Return the special and added tokens that the settings name, and those that go unsaid.

    Newer files have them in tokenizer_config.json, with ``added_tokens_decoder``; older ones in
    special_tokens_map.json and added_tokens.json too, which count only where that is missing.
    Raises ``CheckpointError`` where they hold no tokens.
    """
    file = folder / SETTINGS_FILE
    roles, additional = _roles(file, settings, ROLES), _additional(file, settings)
    decoder = settings.get("added_tokens_decoder")
    if decoder is None:
        map_file = folder / "special_tokens_map.json"
        more = read_settings(map_file)
        roles = _roles(map_file, more, roles)
        if "additional_special_tokens" in more:
            additional = (*(additional or ()), *(_additional(map_file, more) or ()))
    named = ADDITIONAL if additional is None else tuple(dict.fromkeys(additional))
    if decoder is None:
        return _with_older_added_tokens(folder / "added_tokens.json", roles, named)
    if not isinstance(decoder, dict) or not all(isinstance(x, dict) for x in decoder.values()):
        raise CheckpointError(
            f"{file}: added_tokens_decoder: expected ids and tokens, got {decoder!r:.80}"
        )
    added = {token_text(file, f"added_tokens_decoder[{i}]", one): i for i, one in decoder.items()}
    cased = [
        token
        for token, one in zip(added, decoder.values(), strict=True)
        if not one.get("special", False) and one.get("normalized", True)
    ]
    return SpecialTokens(roles, named, _ids(file, added), tuple(cased))


def _roles(file: Path, values: Mapping[str, Any], before: Mapping[str, str]) -> dict[str, str]:
    return {role: token_text(file, role, values.get(role, before[role])) for role in before}


def _additional(file: Path, values: Mapping[str, Any]) -> tuple[str, ...] | None:
    named = values.get("additional_special_tokens")
    if named is not None and not isinstance(named, list):
        raise CheckpointError(f"{file}: additional_special_tokens: expected a list, got {named!r}")
    if named is None:
        return None
    return tuple(token_text(file, "additional_special_tokens", one) for one in named)


def _with_older_added_tokens(
    file: Path, roles: Mapping[str, str], additional: tuple[str, ...]
) -> SpecialTokens:
    added = _ids(file, read_settings(file))
    special = {*roles.values(), *additional}
    cased = tuple(token for token in added if token not in special)
    return SpecialTokens(roles, additional, added, cased)


def _ids(file: Path, tokens: Mapping[str, Any]) -> dict[str, int]:
    try:
        return {token: int(i) for token, i in tokens.items()}
    except (TypeError, ValueError):
        raise CheckpointError(f"{file}: expected tokens and ids, got {tokens!r:.80}") from None


def token_text(file: Path, key: str, token: Any) -> str:
    """Return the text of a token, written as a text or as an object.

    The object says too whether the token takes white space along or stands for whole words only:
    no published one does, and one that does is refused.
    Raises ``CheckpointError`` for it, and for what is no token.
    """
    if isinstance(token, dict):
        for switch in ("lstrip", "rstrip", "single_word"):
            expect(file, f"{key}.{switch}", False, token.get(switch, False))
        token = token.get("content")
    if not isinstance(token, str) or not token:
        raise CheckpointError(f"{file}: {key}: expected a token, got {token!r}")
    return token


def check_ids(folder: Path, vocabulary: Mapping[str, int], tokens: SpecialTokens) -> None:
    """Raise ``CheckpointError`` for special tokens without an id, contradictions, and holes.

    An added token contradicts vocab.json where that has another id for it.
    """
    for token, i in tokens.added.items():
        expect(folder, f"id of the added token {token!r}", vocabulary.get(token, i), i)
    known = {**vocabulary, **tokens.added}
    for token in tokens.special:
        if token not in known:
            raise CheckpointError(
                f"{folder / VOCABULARY_FILE}: expected the special token {token!r}, found no such "
                "token there or among the added ones"
            )
    _check_every_id_is_there(folder / VOCABULARY_FILE, known.values())


def _check_every_id_is_there(file: Path, ids: Iterable[int]) -> None:
    for place, i in enumerate(sorted(ids)):
        if i > place:
            raise CheckpointError(
                f"{file}: expected every id from 0 on, found no token for {place}"
            )
        if i < place:
            raise CheckpointError(f"{file}: expected every id once, found two tokens for {i}")
