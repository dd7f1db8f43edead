"""Models for tests: the toy one, the published one, small ones made up, and rules as a trie."""

import os
import struct
from pathlib import Path

import pytest

from refimpl.tokenizers.xlm_roberta.model_file import (
    Kind,
    SentencePieceModel,
    model_bytes,
    read_model,
)

TOY = Path(__file__).parents[3] / "golden/tokenizers/xlm_roberta/sentencepiece.bpe.model"
NORMAL, CONTROL = Kind.NORMAL, Kind.CONTROL


def published():
    """Return the path of the published model file, or skip the test."""
    folder = os.environ.get("REFIMPL_PUBLISHED")
    file = Path(folder or "", "xlm-roberta", "sentencepiece.bpe.model")
    if not folder or not file.is_file():
        pytest.skip("REFIMPL_PUBLISHED names no folder with xlm-roberta/sentencepiece.bpe.model")
    return file


def make_model(pieces, charsmap=b"", **switches):
    """Return a model of XLM-R's first three pieces and others, {piece: score or (score, kind)}."""
    rows = [("<unk>", 0.0, Kind.UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    for piece, value in pieces.items():
        rows.append((piece, *(value if isinstance(value, tuple) else (value, NORMAL))))
    names, scores, kinds = map(list, zip(*rows, strict=True))
    scores = [struct.unpack("<f", struct.pack("<f", score))[0] for score in scores]
    return SentencePieceModel(names, scores, kinds, charsmap, **switches)


def library(model):
    """Return the sentencepiece library with a model, to ask it itself."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    data = model_bytes(model) if isinstance(model, SentencePieceModel) else model.read_bytes()
    processor.LoadFromSerializedProto(data)
    return processor


def make_charsmap(rules):
    """Return rules, {left-hand side: right-hand side}, as a model file holds them.

    The double array is the roomiest there is: every node's children have a block of 256 units.
    Those that are no child have a label that no byte leads to.
    """
    strings, places = b"", {}
    for new in rules.values():
        places.setdefault(new, len(strings))
        strings += new.encode() + b"\0" if places[new] == len(strings) else b""
    nodes = {b""}
    for old in rules:
        nodes |= {old.encode()[: i + 1] for i in range(len(old.encode()))}
    block = {node: 256 * (i + 1) for i, node in enumerate(sorted(nodes))}
    at = {node: block[node[:-1]] + node[-1] if node else 0 for node in nodes}
    units = [(i + 1) % 256 for i in range(256 * (len(nodes) + 1))]
    for node in nodes:
        offset = at[node] ^ block[node]
        ends = node.decode(errors="replace") in rules
        units[at[node]] = offset << 10 | ends << 8 | (node[-1] if node else 0)
        if ends:
            units[block[node]] = 1 << 31 | places[rules[node.decode()]]
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + (strings or b"\0")


def toy_model():
    """Return the toy model."""
    return read_model(TOY)
