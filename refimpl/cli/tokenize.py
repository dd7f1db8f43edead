"""``refimpl tokenize``: text to ids or tokens, one text or a file of any size, line by line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, NamedTuple

import typer

from refimpl.cli.options import Json, errors_are_one_line, spinner

if TYPE_CHECKING:
    from refimpl.tokenizers.tokenizer import Tokenizer

CHUNK = 1 << 16  # bytes; the lines that end within one go through the tokenizer together


class Form(NamedTuple):
    """How a text is printed."""

    ids: bool
    tokens: bool
    offsets: bool
    as_json: bool


class Row(NamedTuple):
    """What one line of input holds."""

    text: str
    pair: str | None


def tokenize(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint folder, or a hub id.")],
    text: Annotated[
        str | None, typer.Argument(help="A text; else each line of --file or of standard input.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file of texts, one on each line.")] = None,
    pair: Annotated[
        bool, typer.Option("--pair", help="Each text is two, with a tab between them.")
    ] = False,
    lang: Annotated[str | None, typer.Option(help="The language of all texts.")] = None,
    engine: Annotated[str | None, typer.Option(help="library or explicit.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell step by step how each text becomes ids.")
    ] = False,
    offsets: Annotated[
        bool,
        typer.Option(
            "--offsets", help="A line for each token: id, token, text (0, 1), start and end."
        ),
    ] = False,
    ids: Annotated[
        bool | None, typer.Option("--ids/--tokens", help="Ids (the default), or tokens.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the ids or tokens of a text, or of each line of a file, special tokens included."""
    with quiet_when_the_reader_leaves(), errors_are_one_line():
        form = check_options(text, file, pair, explain, offsets, ids, as_json)
        with spinner("reading the tokenizer"):
            from refimpl.tokenizers import load_tokenizer

            tok = load_tokenizer(checkpoint, engine=engine)
        given = None if text is None else [[parse("text", os.fsencode(text), pair)]]
        for rows in given or rows_of(file, pair):
            write(explained(tok, rows, lang) if explain else tokenized(tok, rows, lang, form))


def check_options(
    text: str | None,
    file: Path | None,
    pair: bool,
    explain: bool,
    offsets: bool,
    ids: bool | None,
    as_json: bool,
) -> Form:
    """Return the form of the output; ``ValueError`` for options that contradict each other."""
    if text is not None and file is not None:
        raise ValueError("file: expected a text or --file, got both")
    if explain and (pair or offsets or as_json or ids is not None):
        raise ValueError("explain: expected none of --pair, --offsets, --ids, --tokens, --json")
    if offsets and ids is not None and not as_json:
        raise ValueError("offsets: expected neither --ids nor --tokens, as both are printed")
    if as_json:
        return Form(ids is not False, ids is not True, offsets, as_json)
    return Form(ids is not False, ids is False, offsets, as_json)


# bytes -> lines -> rows


def rows_of(file: Path | None, pair: bool) -> Iterator[list[Row]]:
    """Give the lines of a file (or of standard input), those of a chunk at a time.

    A line that is no text is a ``ValueError`` that names it, after the lines before it were given.
    """
    name, number = "standard input" if file is None else str(file), 0
    with opened(file) as stream, byte_progress(stream) as advance:
        for lines in lines_of(stream):
            rows: list[Row] = []
            for line in lines:
                number += 1
                try:
                    rows.append(parse(f"{name}: line {number}", line, pair))
                except ValueError:
                    yield rows
                    raise
            yield rows
            advance(sum(map(len, lines)) + len(lines))


@contextmanager
def opened(file: Path | None) -> Iterator[BinaryIO]:
    """Open a file, or standard input; ``ValueError`` where it cannot be read."""
    if file is None:
        yield sys.stdin.buffer
        return
    try:
        with file.open("rb") as stream:
            yield stream
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror})") from None


def lines_of(stream: BinaryIO) -> Iterator[list[bytes]]:
    r"""Give the lines that end in each chunk, as soon as it is there, without their ends.

    >>> import io
    >>> list(lines_of(io.BytesIO(b"one\r\n\ntwo")))
    [[b'one', b''], [b'two']]
    """
    begun: list[bytes] = []  # the parts of a line that has not ended
    while chunk := stream.read1(CHUNK):  # type: ignore[attr-defined]  # binary files have it
        *ended, last = chunk.split(b"\n")
        if ended:
            ended[0] = b"".join([*begun, ended[0]])
            begun = []
            yield [line.removesuffix(b"\r") for line in ended]
        begun.append(last)
    if any(begun):
        yield [b"".join(begun)]


def parse(where: str, line: bytes, pair: bool) -> Row:
    r"""Return a line as a text, or as two with a tab between them.

    >>> parse("line 1", b"Who?\tMe.", pair=True)
    Row(text='Who?', pair='Me.')

    Raises ``ValueError`` for bytes that are not UTF-8, and for a pair that is none.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: expected UTF-8, got 0x{line[error.start]:02x} at byte {error.start}"
        ) from None
    if not pair:
        return Row(text, None)
    texts = text.split("\t")
    if len(texts) != 2:
        raise ValueError(f"{where}: expected two texts with a tab between them, got {len(texts)}")
    return Row(*texts)


# rows -> lines to print


def tokenized(tok: Tokenizer, rows: list[Row], lang: str | None, form: Form) -> Iterator[str]:
    """Give what is printed for each row: a line or, with offsets, a line for each token."""
    if not rows:
        return
    pairs = None if rows[0].pair is None else [str(row.pair) for row in rows]
    enc = tok([row.text for row in rows], pairs, lang, return_offsets_mapping=form.offsets)
    for i, ids in enumerate(enc["input_ids"]):
        fields: dict[str, list[object]] = {"input_ids": ids} if form.ids else {}
        if form.tokens or form.offsets:
            fields["tokens"] = list(tok.convert_ids_to_tokens(ids))
        if form.offsets:
            fields["sequence_ids"] = list(enc.sequence_ids(i))
            fields["offset_mapping"] = enc["offset_mapping"][i]
        if form.as_json:
            yield json.dumps(fields, ensure_ascii=False)
        elif form.offsets:
            yield "".join(map(token_line, *fields.values()))
        else:
            (shown,) = fields.values()
            yield " ".join(map(str, shown))


def token_line(i: int, token: str, sequence: int | None, offsets: tuple[int, int]) -> str:
    r"""Return the line of one token.

    >>> token_line(55, "▁The", 0, (0, 3)), token_line(2, "</s>", None, (0, 0))
    ('55\t▁The\t0\t0\t3\n', '2\t</s>\t-\t0\t0\n')
    """
    text = "-" if sequence is None else sequence
    return f"{i}\t{token}\t{text}\t{offsets[0]}\t{offsets[1]}\n"


def explained(tok: Tokenizer, rows: list[Row], lang: str | None) -> Iterator[str]:
    """Give the steps from each text to its ids."""
    return (str(tok.explain(row.text, lang)) for row in rows)


def write(lines: Iterable[str]) -> None:
    """Print lines as UTF-8 and push them out, so that a reader has what is done."""
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode())
    sys.stdout.buffer.flush()


# the shell around


@contextmanager
def quiet_when_the_reader_leaves() -> Iterator[None]:
    """End without a word when standard output is closed, as by ``| head``."""
    try:
        yield
    except BrokenPipeError:
        # The interpreter flushes standard output once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


@contextmanager
def byte_progress(stream: BinaryIO) -> Iterator[Callable[[int], None]]:
    """Show how much of a file is done, where that disturbs no output; nothing on a pipe."""
    disturbs = sys.stdout.isatty() or not sys.stderr.isatty()
    size = 0 if disturbs or not stream.seekable() else os.fstat(stream.fileno()).st_size
    if not size:
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("tokenizing", total=size)
        yield lambda n: progress.advance(task, n)
