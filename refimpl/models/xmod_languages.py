"""X-MOD's languages: who speaks which, and rows sent through the adapter of their own.

Which language a text is in is chosen on the host, where the call and the config say it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from refimpl.backend import Array, ids_beside, namespace, to_numpy
from refimpl.models import roberta
from refimpl.models.config import require
from refimpl.models.inputs import Input, Inputs


def check_config(config: Any) -> None:
    """Raise ``ValueError`` for languages and adapters that no model can have."""
    require(len(config.languages) > 0, "languages", "at least one", config.languages)
    require(config.default_language in (None, *config.languages), "default_language",
            f"null or one of {', '.join(config.languages)}", config.default_language)  # fmt: skip
    width = config.hidden_size
    require(0 < config.adapter_reduction_factor <= width, "adapter_reduction_factor",
            f"a number above 0, up to hidden_size ({width})",
            config.adapter_reduction_factor)  # fmt: skip


def inputs(config: Any) -> Inputs:
    """The arguments of a call: those of the RoBERTa kind, and the languages."""
    languages = Input("ids", ("B", "B S"), below=len(config.languages), on_host=True)
    return {**roberta.inputs(config), "lang_ids": (languages,)}


def choose_languages(config: Any, lang_ids: Array | None, batch: int) -> numpy.ndarray:
    """Return the language of each text (B) or token (B, S), on the host.

    Raises ``ValueError`` where neither the call nor the config names one.
    """
    if lang_ids is not None:
        return to_numpy(lang_ids)
    if config.default_language is None:
        raise ValueError(
            "lang_ids: expected the language of each text (a place in config.languages), or a "
            "default: model.set_default_language(...); got neither"
        )
    return numpy.full(batch, list(config.languages).index(config.default_language))


def by_language(x: Array, languages: numpy.ndarray, run: Callable[[int, Array], Array]) -> Array:
    """(B, S, D) -> (B, S, D)

    Apply ``run(language, rows)`` to the texts (or tokens) of each language together, and put the
    results where the rows came from.
    """
    xp = namespace(x)
    rows = xp.reshape(x, (-1, x.shape[2])) if languages.ndim == 2 else x  # tokens, or texts
    of_row = languages.reshape(-1)
    spoken = dict.fromkeys(of_row.tolist())
    if len(spoken) == 1:
        return xp.reshape(run(of_row[0].item(), rows), x.shape)
    parts, places = [], []
    for language in spoken:
        own = numpy.flatnonzero(of_row == language)
        parts.append(run(language, xp.take(rows, ids_beside(own, x), axis=0)))
        places.append(own)
    back = numpy.argsort(numpy.concatenate(places))
    return xp.reshape(xp.take(xp.concat(parts, axis=0), ids_beside(back, x), axis=0), x.shape)


def is_frozen_for_fine_tuning(name: str) -> bool:
    """Say whether the paper leaves a tensor as it is when it trains on a task.

    Source: ``freeze_embeddings_and_language_adapters``.
    """
    parts = ("embeddings", "adapter_modules", "adapter_layer_norm")
    return any(part in name.split(".") for part in parts)
