"""``dict.txt``: which ids fairseq gave to the pieces of a SentencePiece model.

The published archive holds ``sentencepiece.bpe.model``, which cuts text into pieces, and
``dict.txt``, a line ``piece count`` for each piece that has an id:

    , 999               id 4, as ids 0 to 3 are <s> <pad> </s> <unk>
    . 999               id 5
    ...
                        and <mask> behind the last

XLM-R's has the pieces in the order of the model file, so an id is the place in the file and one
more. One that was pruned, or sorted by how often a piece occurs, gives other ids; a piece that it
does not have is unknown.

Source: facebookresearch/fairseq fairseq/data/dictionary.py (``Dictionary.add_from_file``),
fairseq/models/roberta/hub_interface.py (``encode``), tasks/multilingual_masked_lm.py (``<mask>``).
Differs: ``#fairseq:overwrite`` is refused; a line whose piece the model does not have, too.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from refimpl.errors import CheckpointError
from refimpl.tokenizers.xlm_roberta.model_file import FIRST_PIECES

LARGEST_FILE = 1 << 28  # bytes; the published file has 4.8 million
FAIRSEQ_IDS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
PADDING = re.compile(r"madeupword\d{4}")  # entries that make the dictionary's size a multiple of 8


def read_dict(path: str | os.PathLike[str]) -> list[str]:
    """Return the pieces of a ``dict.txt`` in their order; the first has id 4.

    Raises ``CheckpointError``, naming the file and the line, where it is missing or broken, or has
    a piece twice.
    """
    file = Path(path)
    first: dict[str, int] = {}
    for number, line in enumerate(read_lines(file), 1):
        piece, _, count = line.rstrip().rpartition(" ")
        if count.startswith("#"):
            raise CheckpointError(f"{file}: line {number}: {count} is not served")
        if not piece or not (count.isascii() and count.isdigit()):
            raise CheckpointError(
                f"{file}: line {number}: expected a piece, a space and a count, got {line[:60]!r}"
            )
        if piece in FAIRSEQ_IDS:
            raise CheckpointError(
                f"{file}: line {number}: {piece!r} has the id {FAIRSEQ_IDS[piece]}"
            )
        if first.setdefault(piece, number) != number:
            raise CheckpointError(
                f"{file}: line {number}: {piece!r} stands in line {first[piece]} too"
            )
    if not first:
        raise CheckpointError(f"{file}: expected lines of a piece and a count, found none")
    return list(first)


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text file, ``CheckpointError`` where there are none to be had."""
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise CheckpointError(f"{file}: expected at most {LARGEST_FILE} bytes, got more")
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: expected UTF-8 ({error})") from None
    return text.removesuffix("\n").split("\n") if text else []


def ids_by_place(pieces: list[str], dictionary: list[str]) -> list[int]:
    """Return the fairseq id of the piece at each place in a model file, 3 where it has none.

    >>> ids_by_place(["<unk>", "<s>", "</s>", ",", ".", "▁the"], ["▁the", ","])
    [3, 0, 2, 5, 3, 4]

    ``<mask>`` has the id ``len(dictionary) + 4``.
    Raises ``ValueError``, naming the line, for an entry that the model does not have.
    """
    places = {piece: place for place, piece in enumerate(pieces)}
    ids = [FAIRSEQ_IDS["<unk>"]] * len(pieces)
    for i, piece in enumerate(dictionary):
        if piece in places:
            ids[places[piece]] = i + len(FAIRSEQ_IDS)
        elif not PADDING.fullmatch(piece):
            raise ValueError(f"line {i + 1}: the model has no piece {piece!r}")
    for place, piece in enumerate(FIRST_PIECES):
        ids[place] = FAIRSEQ_IDS[piece]
    return ids
