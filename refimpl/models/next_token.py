"""The language models of the family as generation sees them: from ids so far to the next scores.

With a cache a round computes the new tokens only; the scores are the same.

Source: ``prepare_inputs_for_generation`` of transformers 4.57.6, for each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from refimpl.backend import ids_beside, namespace, to_numpy
from refimpl.models.config import fits
from refimpl.models.generation import GenerateOutput, Ids, NextToken, Scores, Settings, generate
from refimpl.models.inputs import Input, check_inputs

PER_TEXT = ("lang_ids", "encoder_hidden_states", "encoder_attention_mask")


def generate_with(
    model: Any,
    input_ids: Any,
    attention_mask: Any = None,
    max_new_tokens: int | None = None,
    use_cache: bool = True,
    return_dict_in_generate: bool = False,
    **options: Any,
) -> GenerateOutput | Ids:
    """Generate with a model: see ``Model.generate``.

    Raises ``ValueError`` for a class that does not generate.
    """
    is_xlm = model.architecture == "XLMWithLMHeadModel"
    if not is_xlm and not model.architecture.endswith("ForCausalLM"):
        raise ValueError(
            f"generate: expected a class that generates (...ForCausalLM, XLMWithLMHeadModel), "
            f"got {model.architecture}"
        )
    given = {"input_ids": input_ids}
    if attention_mask is not None:
        given["attention_mask"] = attention_mask
    words = Input("ids", ("B S",), below=model.config.vocab_size)
    texts = check_inputs(given, {"input_ids": (words,), "attention_mask": (MASK,)}, {})
    prompt = texts["input_ids"]
    options = {name: x for name, x in options.items() if x is not None}
    settings = _settings(model.config, prompt.shape[1], max_new_tokens, options)
    copies = max(settings.num_beams, settings.num_return_sequences)
    inputs = _per_text(model.architecture, options, () if is_xlm else PER_TEXT, len(prompt), copies)
    next_token: NextToken
    if is_xlm:
        next_token = XLMNext(model, use_cache)
    else:
        mask = texts.get("attention_mask", _tokens(prompt, settings))
        next_token = CausalNext(model, numpy.repeat(mask, copies, axis=0), use_cache, inputs)
    out = generate(next_token, prompt, settings)
    return out if return_dict_in_generate else out.sequences


MASK = Input("mask", ("B S",))


def _tokens(prompt: Ids, settings: Settings) -> Any:
    """Where a prompt's tokens are, as booleans. A padding id that also ends texts is a token."""
    pads = prompt == settings.pad_token_id
    return ~pads if settings.pad_token_id not in settings.eos_token_id else numpy.ones_like(pads)


def _per_text(
    architecture: str, options: Mapping[str, Any], known: tuple[str, ...], batch: int, copies: int
) -> dict[str, numpy.ndarray]:
    """Return the further inputs of the model, with the row of each text ``copies`` times."""
    inputs = {}
    for name, x in options.items():
        if name in Settings.__annotations__:
            continue
        if name not in known:
            takes = ", ".join(["attention_mask", *known, "max_new_tokens", "use_cache",
                               "return_dict_in_generate", *Settings.__annotations__])  # fmt: skip
            raise TypeError(f"generate: {architecture} takes no {name!r}; it takes {takes}")
        rows = numpy.atleast_1d(to_numpy(x))
        if len(rows) != batch:
            raise ValueError(f"{name}: expected a row for each of {batch} texts, got {len(rows)}")
        inputs[name] = numpy.repeat(rows, copies, axis=0)
    return inputs


def _settings(
    config: Any, start: int, max_new_tokens: int | None, options: Mapping[str, Any]
) -> Settings:
    given = {name: x for name, x in options.items() if name in Settings.__annotations__}
    if max_new_tokens is not None:
        if not fits(max_new_tokens, int) or max_new_tokens < 1:
            raise ValueError(f"max_new_tokens: expected at least 1, got {max_new_tokens!r}")
        given["max_length"] = start + max_new_tokens
    eos = given.pop("eos_token_id", config.eos_token_id)
    ends = () if eos is None else tuple(numpy.atleast_1d(to_numpy(eos)).tolist())
    pad = given.pop("pad_token_id", config.pad_token_id)
    if pad is None:
        pad = ends[0] if ends else 0
    last = config.vocab_size - 1
    for name, ids in (("eos_token_id", ends), ("pad_token_id", (pad,))):
        for i in ids:
            if not fits(i, int) or not 0 <= i <= last:
                raise ValueError(f"{name}: expected ids from 0 to {last}, got {i!r}")
    return Settings(**given, eos_token_id=ends, pad_token_id=pad)


class CausalNext:
    """XLM-R, XLM-R-XL and X-MOD as causal language models: the next token follows the last.

    Positions: the original's ``generate`` counts a text's tokens from 0 for XLM-R and X-MOD,
    though their forward pass counts from ``pad_token_id + 1``; for XLM-R-XL it counts as the
    forward pass does. So does this.
    """

    def __init__(self, model: Any, mask: numpy.ndarray, use_cache: bool, inputs: Mapping[str, Any]):
        self._model, self._inputs = model, inputs
        self._use_cache = use_cache and model.config.is_decoder
        self._mask, self._past = mask, None

    def __call__(self, ids: Ids) -> Scores:
        """(B, T) -> (B, V)"""
        grown = ids.shape[1] - self._mask.shape[1]
        mask = numpy.pad(self._mask, ((0, 0), (0, grown)), constant_values=True)
        done = 0 if self._past is None else self._past[0][0].shape[2]
        positions = self._positions(ids, mask)
        check_room(self._model.config, positions.max(), ids.shape[1])
        out = self._model(
            input_ids=ids[:, done:],
            attention_mask=mask,
            position_ids=positions[:, done:],
            past_key_values=self._past,
            use_cache=self._use_cache,
            **self._inputs,
        )
        self._past = out.past_key_values
        return of_last_place(out.logits)

    def _positions(self, ids: Ids, mask: numpy.ndarray) -> Ids:
        if self._model.architecture.startswith("XLMRobertaXL"):
            pad = self._model.config.pad_token_id
            token = ids != pad
            return token.cumsum(axis=1) * token + pad
        return numpy.where(mask, mask.cumsum(axis=1) - 1, 1)

    def reorder(self, rows: numpy.ndarray) -> None:
        """Let row i go on from row ``rows[i]``."""
        self._past = reorder_cache(self._past, rows)


class XLMNext:
    """XLM: a mask token is put behind the text, in the text's language, and scored.

    The mask token is the config's ``mask_token_id``, which is 0 in the published files and no
    mask at all; the language is its ``lang_id``. A causal model may keep what stands before the
    mask token; one that looks both ways reads the whole text anew each time. Padding is counted
    from the ids: an attention mask is passed over, as in the original.
    """

    def __init__(self, model: Any, use_cache: bool) -> None:
        self._model = model
        self._use_cache = use_cache and model.config.causal
        self._past: Any = None

    def __call__(self, ids: Ids) -> Scores:
        """(B, T) -> (B, V)"""
        config = self._model.config
        check_room(config, ids.shape[1], ids.shape[1])
        ids = numpy.pad(ids, ((0, 0), (0, 1)), constant_values=config.mask_token_id)
        langs = None if config.lang_id is None else numpy.full_like(ids, config.lang_id)
        out = self._model(input_ids=ids, langs=langs, cache=self._past, use_cache=self._use_cache)
        if self._use_cache:  # all but the mask token
            self._past = tuple(tuple(x[:, :, :-1, :] for x in layer) for layer in out.cache)
        return of_last_place(out.logits)

    def reorder(self, rows: numpy.ndarray) -> None:
        """Let row i go on from row ``rows[i]``."""
        self._past = reorder_cache(self._past, rows)


def check_room(config: Any, position: int, length: int) -> None:
    """Raise ``ValueError`` where the next token needs a position that the model does not have."""
    if position >= config.max_position_embeddings:
        raise ValueError(
            f"max_length: expected an end before the positions do (max_position_embeddings "
            f"{config.max_position_embeddings}), got no end after {length} tokens"
        )


def of_last_place(logits: Any) -> Scores:
    """(B, S, V) -> (B, V)

    On the host, and in float32 at least: what follows adds up probabilities.
    """
    scores = to_numpy(logits[:, -1, :])
    return scores.astype(numpy.promote_types(scores.dtype, numpy.float32))


def reorder_cache(kept: Any, rows: numpy.ndarray) -> Any:
    """Take other rows of the keys and values that a call kept."""
    if kept is None:
        return None
    first = kept[0][0]
    xp, order = namespace(first), ids_beside(rows, first)
    return tuple(tuple(xp.take(x, order, axis=0) for x in layer) for layer in kept)
