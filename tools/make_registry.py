"""Writes the registry of published checkpoints: ``python tools/make_registry.py FOLDER``.

FOLDER (or the one that REFIMPL_PUBLISHED names) holds ``checkpoints.json`` and ``goldens.json``,
the facts and the numbers that were gathered from public sources, each with its source and with how
far it can be trusted. What they say in words ("last_hidden_state[:,:,-1]") stands here in the form
that ``refimpl/parity/published.py`` recomputes; nothing else is added.

Tensors are counted from the lists of names in ``checkpoints.json``, not with refimpl: a test
compares the two.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
from safetensors.numpy import save

HOME = Path(__file__).resolve().parents[1] / "refimpl" / "checkpoints"

SOURCES = {
    "S_DINO": "copies of the hub's config.json files in hlky/dinoml_v2 @6b8c0ac, "
    "agents/plans/transformers; of XLM-R a table, of XL and XXL an excerpt",
    "S_TOK": "transformers 3.1.0, tokenization_xlm.py, PRETRAINED_INIT_CONFIGURATION",
    "S_PADDLE": "PaddlePaddle/PaddleNLP, paddlenlp/transformers/xlm/configuration.py (a port)",
    "S_RST": "huggingface/transformers @02ef825, docs/source/pretrained_models.rst",
    "S_XLM": "facebookresearch/XLM @cd281d3, README.md and xlm/",
    "S_FS": "facebookresearch/fairseq @3d262bb2, examples/xlmr, examples/xmod, fairseq/models",
    "S_CONV": "conversion scripts of transformers 4.57.6",
    "S_MAP": "archive maps in configuration_xlm_roberta.py and configuration_xmod.py of older "
    "releases of transformers",
    "S_MS": "agreeing copies of the config in a modelscope README and in logs of users",
    "S_CLASS": "class default in transformers 4.57.6, where the file was not seen",
    "S_COMP": "counted on the classes of transformers 4.57.6, tied parameters once",
    "S_ISS2214": "https://github.com/huggingface/transformers/issues/2214",
    "S_ISS1277": "https://github.com/huggingface/transformers/issues/1277",
    "S_BF": "microsoft/BlingFire @18e9a19, ldbsrc/xlm_roberta_base/pos.dict.utf8.zip",
}

BASE, LARGE = "FacebookAI/xlm-roberta-base", "FacebookAI/xlm-roberta-large"
XL, XXL = "facebook/xlm-roberta-xl", "facebook/xlm-roberta-xxl"
XMOD, XMOD_LARGE = "facebook/xmod-base", "facebook/xmod-large-prenorm"
GERMAN = "FacebookAI/xlm-roberta-large-finetuned-conll03-german"
ENGLISH = "FacebookAI/xlm-roberta-large-finetuned-conll03-english"
XLM_EN, XLM_100 = "FacebookAI/xlm-mlm-en-2048", "FacebookAI/xlm-mlm-100-1280"
TINY = "bumblebee-testing/tiny-random-XLMRobertaModel"
VOCABULARY, PADDED = "vocabulary of XLM-R", "position ids from padding"

LAST, LOGITS = "last_hidden_state", "logits"
LAST_COLUMN = [":", ":", -1]


def hidden(of: str, shape: list[int], take: Any = None, reduce: Any = None, output: str = LAST):
    """A number read from hidden states: which output, its whole shape, what of it is printed."""
    value = {"of": output, "shape": shape, "take": take, "reduce": reduce}
    return {"of": of, "value": {key: x for key, x in value.items() if x is not None}}


def left_out(of: str | None, reason: str):
    """A number that cannot be recomputed from a published checkpoint, and why."""
    return {"of": of, "not_recomputed": reason}


TOY = "of a toy vocabulary in that project's tests"
DERIVED = "of a model that others trained further"
SUMS = [1, 12, 768]
NUMBERS: dict[str, dict[str, Any]] = {
    "xlm_generate_the_president": {"of": XLM_EN},
    "xlm_embed_notebook": left_out(XLM_100, "two of its six texts are not recorded"),
    "xlm_toy_bpe": left_out(None, TOY),
    "xlm_special_tokens": {"of": XLM_EN},
    "xlmr_base_en": hidden(BASE, SUMS, LAST_COLUMN),
    "xlmr_large_en": hidden(LARGE, [1, 12, 1024], LAST_COLUMN),
    "xlmr_base_tf": hidden(BASE, [1, 6, 768], [":", "0:3", "0:3"]),
    "torchtext_xlmr_base": hidden(BASE, [1, 8, 768]),
    "torchtext_xlmr_large": hidden(LARGE, [1, 8, 1024]),
    "torchtext_docs_shape": {"of": BASE},
    "torchtext_padding_invariance": {"of": BASE},
    "keras_base": hidden(BASE, [1, 4, 768], [0, 0, "0:5"]),
    "syntaxdot_embed_sum": hidden(BASE, SUMS, [0], "sum", output="embeddings"),
    "syntaxdot_last_sum": hidden(BASE, SUMS, [0], "sum"),
    "sticker_last_mean": hidden(BASE, SUMS, [0], "mean"),
    "sticker_last_max": hidden(BASE, SUMS, [0], "max"),
    "bumblebee_old_hidden": hidden(BASE, [1, 10, 768], [":", "0:3", "0:3"]),
    "bumblebee_old_logits": hidden(BASE, [1, 10, 250002], [":", "0:3", "0:3"], output=LOGITS),
    "bumblebee_tiny": hidden(TINY, [1, 10, 32], [":", "1:4", "1:4"]),
    "xl_en": hidden(XL, [1, 12, 2560], LAST_COLUMN),
    "xxl_en": hidden(XXL, [1, 12, 4096], LAST_COLUMN),
    "xl_pr12082_logits": hidden(
        XL, [1, 10, 250880], [0, [0, 1, 2, 7, 8, 9], [0, 1, 2, -3, -2, -1]], output=LOGITS
    ),
    "xmod_base_en": hidden(XMOD, SUMS, LAST_COLUMN),
    "xmod_base_de": hidden(XMOD, [1, 16, 768], LAST_COLUMN),
    "xmod_large_en": hidden(XMOD_LARGE, [1, 12, 1024], LAST_COLUMN),
    "xmod_large_de": hidden(XMOD_LARGE, [1, 16, 1024], LAST_COLUMN),
    "xmod_base_mixed_batch": hidden(XMOD, [4, 12, 768], LAST_COLUMN),
    "xmod_fill_1": {"of": XMOD},
    "xmod_fill_2": {"of": XMOD},
    "xmod_readme_nli": left_out(None, "the fine-tuned weights are not published"),
    "position_ids_regression": {"of": PADDED},
    "position_ids_inputs_embeds": {"of": PADDED},
    "tok_hello": {"of": VOCABULARY},
    "tok_hard": {"of": VOCABULARY},
    "tok_integration": {"of": VOCABULARY},
    "tok_v5_integration": {"of": VOCABULARY, "bare": True},
    "tok_toy_1000": left_out(None, TOY),
    "tok_toy_dict_v5": left_out(None, TOY),
    **{f"fairseq_readme_{i}": {"of": VOCABULARY} for i in range(5)},
    "fairseq_readme_features": {"of": LARGE},
    "spm_offset": {"of": VOCABULARY, "bare": True},
    "spm_offset_2": {"of": VOCABULARY, "bare": True},
    "keras_tok": {"of": VOCABULARY, "bare": True},
    "blingfire_49": {"of": VOCABULARY, "bare": True},
    "syntaxdot_unk": left_out(VOCABULARY, "documents a fault of that project, corrected later"),
    "curated_toy": left_out(None, TOY),
    "rustbert_ner_1": {"of": GERMAN},
    "rustbert_ner_2": {"of": GERMAN},
    "card_conll03_english": {"of": ENGLISH},
    "card_fill_base": {"of": BASE},
    "card_fill_xl": {"of": XL},
    "candle_fill": {"of": BASE},
    "candle_reranker": left_out(None, DERIVED),
    "candle_formality": left_out(None, DERIVED),
    "gluon_tolerance": left_out(BASE, "a distance between two implementations"),
    "xl_conversion_tolerance": left_out(XL, "a distance between two implementations"),
}

SAME = {  # what the facts abbreviate
    "same files": "syntaxdot-transformers/src/models/roberta/mod.rs; src/models/roberta/mod.rs",
    "same tests": "tests/models/xlm_roberta_xl and xmod (and roberta) modeling tests",
}

# Where a source prints numbers and says nothing of how far another run may be off, and where it
# says so in words.
SCORES = {"atol": 1e-4, "rtol": 0.0, "note": "none published; that of rust-bert's tests of scores"}
TORCH = {"atol": 1e-5, "rtol": 1.3e-6, "note": "torch.testing.assert_close, float32"}
TOLERANCES: dict[str, dict[str, Any]] = {
    "card_conll03_english": SCORES,
    "card_fill_base": SCORES,
    "card_fill_xl": SCORES,
    "torchtext_padding_invariance": TORCH,
    "xl_pr12082_logits": {
        "atol": 2.2e-4, "rtol": 5e-5,
        "note": "the largest difference to fairseq that the thread reports; 5 digits are printed",
    },
    "bumblebee_tiny": {
        "atol": 1e-4, "rtol": 1e-4,
        "note": "default of assert_all_close in that project's test/support/test_helpers.ex",
    },
}  # fmt: skip


# --- checkpoints ----------------------------------------------------------------------------------

FINE_TUNED = "XLMRobertaForTokenClassification"  # where no config was seen that names the class


def checkpoint_entry(facts: Mapping[str, Any], patterns: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the registry says of one checkpoint."""
    remarks = ("architectures", "num_languages")  # the class has a line of its own
    values = {
        key: x for key, x in facts["config"].items() if "(derived" not in key and key not in remarks
    }
    unseen = [key for key in facts["unconfirmed_fields"] if key in values]
    known = facts["config"]["vocab_size"] is not None
    shapes = expand(patterns, facts["family"], values) if known else None
    parameters = facts["parameters"]
    if shapes and sum(map(math.prod, shapes.values())) != parameters["computed_lm_tied"]:
        raise ValueError(f"{facts['id']}: the tensors do not add up to the parameters")
    notes = list(facts["notes"])
    if "expected_from_base" in facts:
        notes.append(f"sizes of {facts['expected_from_base']} expected, not confirmed")
    original = facts["original"]
    return {
        "id": facts["id"],
        "aliases": facts["aliases"],
        "family": facts["family"],
        "class": facts["config"].get("architectures", [FINE_TUNED])[0],
        "original": original and {key: original[key] for key in ("file", "url")},
        "config": {key: x for key, x in values.items() if key not in unseen},
        "inferred": {key: values[key] for key in unseen} if known else {},
        "unknown": [] if known else unseen,
        "tensors": shapes and len(shapes),
        "parameters": parameters["computed_lm_tied"],
        "claimed": parameters["published_claim"],
        "tokenizer": tokenizer_entry(facts.get("tokenizer")),
        "sources": facts["field_sources"],
        "notes": notes,
    }


def tokenizer_entry(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Keep what a tokenizer computes with; leave out remarks on files."""
    kept = ("special_tokens", "do_lowercase_and_remove_accent", "lang2id")
    return facts and {key: facts[key] for key in kept if key in facts}


def expand(
    patterns: Mapping[str, Any], family: str, config: Mapping[str, Any]
) -> dict[str, list[int]]:
    """Name and shape of every tensor of the language model, what is tied once."""
    letters = letters_of(config)
    tied = {name for name, _ in patterns[family]["tied"]}
    layers = range(config.get("n_layers") or config["num_hidden_layers"])
    shapes = {}
    for pattern in patterns[family]["hf_with_lm_head"]:
        if pattern["name"] in tied or not exists(pattern.get("note", ""), config):
            continue
        shape = [size(letter, letters) for letter in pattern["shape"]]
        for i in layers if "{i}" in pattern["name"] else [0]:
            name = pattern["name"].replace("{i}", str(i))
            for lang in config["languages"] if "{lang}" in name else [""]:
                shapes[name.replace("{lang}", lang)] = shape
    return shapes


def letters_of(config: Mapping[str, Any]) -> dict[str, int]:
    """The sizes that the letters in the patterns stand for."""
    names = {
        "V": "vocab_size", "D": "emb_dim", "H": "hidden_size", "I": "intermediate_size",
        "P": "max_position_embeddings", "L": "n_langs", "T": "type_vocab_size",
    }  # fmt: skip
    letters = {letter: config[key] for letter, key in names.items() if key in config}
    if "adapter_reduction_factor" in config:
        letters["B"] = config["hidden_size"] // config["adapter_reduction_factor"]
    return letters


def size(axis: str, letters: Mapping[str, int]) -> int:
    """The length of an axis: "D", or "4D"."""
    return int(axis[:-1] or 1) * letters[axis[-1]]


def exists(note: str, config: Mapping[str, Any]) -> bool:
    """Say whether a tensor is there at all, which the patterns note in words."""
    if "exists only if n_langs>1" in note:
        return config["n_langs"] > 1 and config["use_lang_emb"]
    if note.startswith("only if adapter_layer_norm"):
        return config["adapter_layer_norm"]
    if note.startswith("only if pre_norm"):
        return config["pre_norm"]
    return True


def tiny_entry(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The one random checkpoint of which a number is published."""
    return {
        "id": facts["id"], "aliases": [], "family": "xlm_roberta", "class": "XLMRobertaModel",
        "original": None, "config": facts["config"], "inferred": {},
        "unknown": ["vocab_size", "num_hidden_layers"], "tensors": None, "parameters": None,
        "claimed": None, "tokenizer": None, "sources": {"*": "elixir-nx/bumblebee @99bf3f1"},
        "notes": ["random weights; of its config only the width is known"],
    }  # fmt: skip


# --- numbers --------------------------------------------------------------------------------------


def number_entry(golden: Mapping[str, Any]) -> dict[str, Any]:
    """Return one published number in the form in which it is recomputed."""
    name, spec = golden["name"], NUMBERS[golden["name"]]
    entry = {"name": name, "of": spec["of"], "kind": golden["kind"]}
    if "not_recomputed" in spec:
        entry |= {"not_recomputed": spec["not_recomputed"], "published": golden["expected"]}
    else:
        form = FORMS[golden["kind"]]
        entry |= form(golden, spec)
        entry["tolerance"] = tolerance(golden)
    return entry | {
        "source": source_of(golden),
        "trust": golden["confidence"],
        "note": "; ".join(filter(None, [golden.get("note"), ids_note(golden["inputs"])])),
    }


def source_of(golden: Mapping[str, Any]) -> str:
    """Repository and file, or address."""
    source = golden["source"]
    if source.get("url") == "model card":
        return f"model card of {golden['checkpoint']}"
    parts = [source[key] for key in ("repo", "path", "url") if key in source]
    return ", ".join(SAME.get(part, part) for part in parts)


def ids_note(inputs: Mapping[str, Any]) -> str:
    """Say so where only the text was published."""
    derived = "input_ids_source" in inputs or "input_ids_derived" in inputs
    return "the text is published, its ids were derived from the piece list" if derived else ""


def tolerance(golden: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return atol and rtol, |actual - expected| <= atol + rtol |expected|; None is exact."""
    if golden["name"] in TOLERANCES:
        return TOLERANCES[golden["name"]]
    published = golden["tolerance"]
    if published == "exact":
        return None
    atol = published.get("atol", published.get("abs"))
    found = {"atol": atol, "rtol": published.get("rtol", 0.0)}
    return found | {key: published[key] for key in ("note",) if key in published}


def hidden_form(golden: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Hidden states and logits: ids in, an array out."""
    given = golden["inputs"]
    inputs = {key: given[key] for key in ("text", "input_ids", "lang_ids") if key in given}
    if "input_ids_derived" in given:
        inputs["input_ids"] = given["input_ids_derived"]
    if isinstance(given.get("attention_mask"), list):
        inputs["attention_mask"] = given["attention_mask"]
    expected = golden["expected"]
    if isinstance(expected, dict) and "float32_le_base64" in expected:
        expected = {"array": golden["name"], "sha256": expected["array_sha256"]}
    elif isinstance(expected, dict):
        expected = [[x for x in row if x != "..."] for row in expected.values()]
    return {"inputs": inputs, "value": spec["value"], "expected": expected}


def tokenizer_form(golden: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Texts in, ids out. A text that is not recorded (null) is read off its ids."""
    given, expected = golden["inputs"], golden["expected"]
    if golden["name"] == "xlm_special_tokens":
        text, pair = given["texts"]
        return {
            "inputs": {"text": text, "text_pair": pair},
            "expected": {"single": [0, "text", 1], "pair": [0, "text", 1, "text_pair", 1]},
        }
    texts = given["text"] if isinstance(given["text"], list) else [given["text"]]
    texts = [None if text.startswith(("(1)", "(2)", "the default")) else text for text in texts]
    if isinstance(expected, dict):
        expected = expected.get("fairseq/HF") or expected.get("HF") or list(expected.values())
    rows = expected if isinstance(expected[0], list) else [expected]
    rows = [[i for i in row if isinstance(i, int)] for row in rows]  # the rest is a remark
    inputs = {"texts": texts, "add_special_tokens": not spec.get("bare", False)}
    return {"inputs": inputs, "expected": rows}


def fill_mask_form(golden: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Texts in, for each the best pieces; in which form, the sources differ."""
    given, expected = golden["inputs"], golden["expected"]
    texts = given["text"] if isinstance(given["text"], list) else [given["text"]]
    if golden["name"].startswith("xmod"):
        rows = [[{"text": expected}]]
    elif golden["name"] == "candle_fill":
        rows = [[{"piece": f"▁{word}"}] for word in expected]
    else:
        rows = [[{"id": i, "piece": piece, "probability": p} for i, piece, p in expected]]
    inputs = {"texts": texts}
    if "default_language" in given:
        inputs["language"] = given["default_language"]
    return {"inputs": inputs, "expected": rows}


def token_classification_form(golden: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """A text in; its entities, as words (all of them) or as tokens (those that are printed)."""
    expected = golden["expected"]
    if isinstance(expected, dict):
        entity = {"index": expected["index"], "piece": expected["word"]}
        rows = [entity | {"label": expected["entity"], "score": expected["score"]}]
    else:
        rows = [{"word": w.strip(), "label": label, "score": s} for w, label, s in expected]
    return {"inputs": {"text": golden["inputs"]["text"]}, "expected": rows}


def generation_form(golden: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Ids in, ids out: greedy, to the length of what is printed."""
    expected = golden["expected"]
    inputs = {"input_ids": golden["inputs"]["input_ids"], "max_length": len(expected)}
    return {"inputs": inputs, "expected": [expected]}


def shape_form(golden: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Ids in, the shape of the last hidden states out, and how many there are."""
    given, expected = golden["inputs"], golden["expected"]
    inputs = {"input_ids": given.get("input_ids") or given["input_ids_derived"]}
    if isinstance(expected, dict):
        return {
            "inputs": inputs,
            "expected": {LAST: expected["shape"], "hidden_states": expected["hidden_states"]},
        }
    return {"inputs": inputs, "expected": {LAST: expected}}


def invariance_form(golden: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """A text alone and padded: the same hidden states where the text is."""
    return {"inputs": {"input_ids": golden["inputs"]["input_ids"]}, "expected": "equal"}


def position_ids_form(golden: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Ids (or vectors) in, position ids out; ``padding_idx`` is 1 in every published file."""
    ids = {f"padding_idx+{i}": 1 + i for i in range(1, 5)} | {"padding_idx": 1}
    expected = [[ids[word] for word in row] for row in golden["expected"]]
    if "inputs_embeds" in golden["inputs"]:
        return {"inputs": {"inputs_embeds": [2, 4]}, "expected": expected}
    rows = [[ids.get(i, i) for i in row] for row in golden["inputs"]["input_ids"]]
    return {"inputs": {"input_ids": rows}, "expected": expected}


FORMS = {
    "hidden": hidden_form,
    "mlm_logits": hidden_form,
    "tokenizer": tokenizer_form,
    "fill_mask": fill_mask_form,
    "token_classification": token_classification_form,
    "generation": generation_form,
    "shape": shape_form,
    "invariance": invariance_form,
    "position_ids": position_ids_form,
}


def arrays(goldens: list[dict[str, Any]]) -> dict[str, numpy.ndarray]:
    """The complete outputs, by the names of their numbers; their digests are checked."""
    found = {}
    for golden in goldens:
        expected = golden["expected"]
        if isinstance(expected, dict) and "float32_le_base64" in expected:
            raw = base64.b64decode(expected["float32_le_base64"])
            if hashlib.sha256(raw).hexdigest() != expected["array_sha256"]:
                raise ValueError(f"{golden['name']}: not the array that its digest describes")
            shape = NUMBERS[golden["name"]]["value"]["shape"]
            found[golden["name"]] = numpy.frombuffer(raw, "<f4").reshape(shape).copy()
    return found


# --- the files ------------------------------------------------------------------------------------


def make(folder: Path) -> tuple[str, bytes]:
    """Return the text of registry.json and the bytes of registry.safetensors."""
    facts = json.loads((folder / "checkpoints.json").read_text("utf-8"))
    goldens = json.loads((folder / "goldens.json").read_text("utf-8"))["goldens"]
    checkpoints = [checkpoint_entry(x, facts["tensor_names"]) for x in facts["checkpoints"]]
    checkpoints += [tiny_entry(x) for x in facts["tiny_checkpoints"] if x["id"] == TINY]
    xlm_r = [x for x in checkpoints if x["family"] != "xlm" and x["id"] != TINY]
    groups = {
        VOCABULARY: [x["id"] for x in xlm_r if x["tokenizer"]],
        PADDED: [x["id"] for x in xlm_r],
    }
    if set(NUMBERS) != {golden["name"] for golden in goldens}:
        raise ValueError("goldens.json has other numbers than NUMBERS")
    registry = {
        "format": 1,
        "about": "Published checkpoints of XLM, XLM-R, XLM-R-XL/XXL and X-MOD, and the numbers "
        "published for them, with sources. config: values seen in a published config.json; "
        "inferred: values that were not seen there but follow from other sources; unknown: "
        "values that no source gives. Made by tools/make_registry.py.",
        "sources": SOURCES,
        "groups": groups,
        "checkpoints": checkpoints,
        "numbers": [number_entry(golden) for golden in goldens],
    }
    return dump(registry), save(arrays(goldens))


def dump(registry: Mapping[str, Any]) -> str:
    """JSON that people can read: a line for each fact, not for each element of a list."""

    def block(value: Any, depth: int) -> str:
        indent = "  " * depth
        if isinstance(value, dict) and depth < 3:
            rows = [f"{indent}  {one(key)}: {block(x, depth + 1)}" for key, x in value.items()]
            return "{\n" + ",\n".join(rows) + f"\n{indent}}}" if rows else "{}"
        if isinstance(value, list) and depth == 1 and value and isinstance(value[0], dict):
            rows = [f"{indent}  {block(x, depth + 1)}" for x in value]
            return "[\n" + ",\n".join(rows) + f"\n{indent}]"
        return one(value)

    def one(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    return block(registry, 0) + "\n"


def main() -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", default=os.environ.get("REFIMPL_PUBLISHED"))
    folder = parser.parse_args().folder
    if folder is None:
        parser.error("expected the folder of checkpoints.json and goldens.json")
    text, tensors = make(Path(folder))
    (HOME / "registry.json").write_text(text, encoding="utf-8")
    (HOME / "registry.safetensors").write_bytes(tensors)


if __name__ == "__main__":
    main()
