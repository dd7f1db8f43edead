"""``refimpl trace``: one call of a checkpoint, every value of it by name and in order, as a dump.

``refimpl export`` writes a dump, or a golden, in another format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refimpl.cli.options import Backend, Json, errors_are_one_line, spinner

if TYPE_CHECKING:
    from refimpl.models.model import Model
    from refimpl.parity.dumps import Dump

Format = Annotated[
    str, typer.Option("--export", help="safetensors, npz, npy, onnx, raw or polygraphy.")
]


def trace(
    checkpoint: Annotated[
        str, typer.Argument(help="A checkpoint folder, a hub id, or a golden case.")
    ],
    text: Annotated[
        list[str] | None, typer.Option(help="A text to tokenize; once for each of a batch.")
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option(help="Ids such as 0,5,6,2; once for each of a batch.")
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(help="A dump of any format: take the inputs that are in it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The dump to write; else only the list.")
    ] = None,
    lang: Annotated[
        list[str] | None, typer.Option(help="The language of all texts, or of each.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="The class to run it as; else the config's.")
    ] = None,
    backend: Backend = "numpy",
    dtype: Annotated[str, typer.Option(help="float64, float32 or float16.")] = "float64",
    kernels: Annotated[str, typer.Option(help="plain (as written) or fused (faster)")] = "plain",
    export: Format = "safetensors",
    as_json: Json = False,
) -> None:
    """Run a checkpoint once and write all it computes: inputs, every tap, outputs.

    A golden case brings its own inputs. The position ids that are expected are
    among the taps. Beside DUMP.safetensors stands DUMP.json: the list of all
    tensors in order, with shapes and dtypes.
    """
    with errors_are_one_line():
        from refimpl.checkpoints.folder import find_folder
        from refimpl.models.model import load
        from refimpl.parity.reference import run_reference

        _check(output, export)
        folder = find_folder(checkpoint)
        with spinner("computing"):
            model = load(folder, architecture, dtype, backend, kernels)
            dump = run_reference(model, read_call(model, folder, text, ids, inputs, lang))
        # With it the dump can be a reference: floors need the model.
        dump = replace(dump, about={**dump.about, "checkpoint": str(folder.resolve())})
        _write(dump, output, export, as_json)


def export(
    dump: Annotated[str, typer.Argument(help="A dump of any format, or a golden case.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file or folder to write.")],
    form: Annotated[
        str, typer.Option("--to", help="safetensors, npz, npy, onnx, raw or polygraphy.")
    ],
    as_json: Json = False,
) -> None:
    """Write a dump, or a golden case's own numbers, in another format."""
    with errors_are_one_line():
        from refimpl.parity.dumps import read_dump

        _check(output, form)
        _write(read_dump(dump), output, form, as_json)


def _check(output: Path | None, form: str) -> None:
    """Raise ``ValueError`` for what would fail at the end, before anything is computed."""
    from refimpl.parity.dumps import FORMATS

    if form not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {form!r}")
    if output is not None and not output.absolute().parent.is_dir():
        raise ValueError(f"output: there is no folder {output.parent}")


def _write(dump: Dump, output: Path | None, form: str, as_json: bool) -> None:
    """Write a dump where one is asked for, and print what is in it."""
    from refimpl.parity.dumps import export_dump

    if output is not None:
        with spinner("writing"):
            export_dump(dump, output, form)
    _print(dump, output, as_json)


# --- the inputs -----------------------------------------------------------------------------------


def read_call(
    model: Model,
    folder: Path,
    texts: list[str] | None,
    ids: list[str] | None,
    inputs: Path | None,
    lang: list[str] | None,
) -> dict[str, Any]:
    """Return the arguments of the call, from wherever they come."""
    ways = {"text": texts, "ids": ids, "inputs": inputs}
    given = [name for name, value in ways.items() if value]
    if len(given) > 1:
        raise ValueError(f"expected one of --text, --ids and --inputs, got --{', --'.join(given)}")
    if texts:
        return _of_texts(model, folder, texts, lang)
    if ids:
        rows = [_parse_ids(i, row) for i, row in enumerate(ids)]
        return {**_of_rows(model, rows), **_languages(model, folder, lang, rows)}
    if lang:
        raise ValueError("lang: expected --text or --ids beside it")
    if inputs is None and not (folder / "golden.json").exists():
        raise ValueError("expected one of --text, --ids and --inputs")
    return _of_dump(folder if inputs is None else inputs)


def _of_dump(path: Path) -> dict[str, Any]:
    """Return the inputs of a dump, and the flags of the call where they are known."""
    from refimpl.parity.dumps import read_dump
    from refimpl.parity.goldens import join

    dump = read_dump(path)
    if not dump.inputs:
        raise ValueError(f"{path}: holds no inputs: they are called input.NAME, or input_ids")
    return {**join(dump.inputs), **dump.flags}


def _of_texts(
    model: Model, folder: Path, texts: list[str], lang: list[str] | None
) -> dict[str, Any]:
    """Return what the checkpoint's tokenizer makes of texts, as one padded batch."""
    from refimpl.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(folder)
    spoken = _each(lang, len(texts)) if lang and tokenizer.lang2id else None
    encoded = tokenizer(texts, lang=spoken, padding=True, return_attention_mask=True)
    call = {name: encoded[name] for name in encoded if name in _arguments(model)}
    if "langs" not in call:
        call |= _languages(model, folder, lang, encoded["input_ids"])
    return call


def _arguments(model: Model) -> list[str]:
    """Return the names of the arrays that a model takes."""
    from refimpl.models.model import ARCHITECTURES

    return list(ARCHITECTURES[model.architecture].inputs(model.config))


def _parse_ids(i: int, row: str) -> list[int]:
    words = row.replace(",", " ").split()
    if not words or any(len(word) > 18 or not word.isdecimal() for word in words):
        raise ValueError(f"ids[{i}]: expected numbers such as 0,5,6,2, got {row[:60]!r}")
    return [int(word) for word in words]


def _of_rows(model: Model, rows: list[list[int]]) -> dict[str, Any]:
    """Return rows of ids as one batch, padded on the right, with the mask that says so."""
    config = model.config
    pad = config.pad_index if hasattr(config, "pad_index") else config.pad_token_id
    longest = max(map(len, rows))
    return {
        "input_ids": [row + [pad] * (longest - len(row)) for row in rows],
        "attention_mask": [[1] * len(row) + [0] * (longest - len(row)) for row in rows],
    }


def _languages(
    model: Model, folder: Path, lang: list[str] | None, rows: list[list[int]]
) -> dict[str, Any]:
    """Return the argument that tells a model the language of each text: X-MOD's, or XLM's."""
    from refimpl.checkpoints.folder import read_json

    if not lang:
        return {}
    names = _each(lang, len(rows))
    if hasattr(model.config, "languages"):
        known = {name: i for i, name in enumerate(model.config.languages)}
        return {"lang_ids": [_language(name, known) for name in names]}
    if "langs" not in _arguments(model):
        raise ValueError(f"lang: {model.architecture} is not told a language")
    known = read_json(folder / "config.json").get("lang2id") or {}
    longest = max(map(len, rows))
    return {"langs": [[_language(name, known)] * longest for name in names]}


def _language(name: str, known: Mapping[str, int]) -> int:
    """Return a language's number; one may also be given by its number."""
    if name in known:
        return known[name]
    if name.isdecimal() and len(name) < 10:
        return int(name)
    raise ValueError(f"lang: expected one of {', '.join(known) or 'the numbers'}, got {name!r}")


def _each(lang: list[str], count: int) -> list[str]:
    if len(lang) not in (1, count):
        raise ValueError(f"lang: expected one language, or {count} as there are texts")
    return lang * count if len(lang) == 1 else lang


# --- what is printed ------------------------------------------------------------------------------


def _print(dump: Dump, output: Path | None, as_json: bool) -> None:
    """Print the list of tensors as JSON, or as lines, or in one line where it was written."""
    from refimpl.parity.dumps import list_dump

    listed = list_dump(dump)
    if as_json:
        print(json.dumps(listed, ensure_ascii=False))
    elif output is None:
        for x in listed["tensors"]:
            print(f"{x['kind']:6} {x['name']}  {x['dtype']} {tuple(x['shape'])}")
    else:
        counts = (f"{len(x)} {n}" for n, x in _parts(dump).items())
        print(f"{output}: {', '.join(counts)}")


def _parts(dump: Dump) -> dict[str, Mapping[str, Any]]:
    return {"inputs": dump.inputs, "taps": dump.taps, "outputs": dump.outputs}
