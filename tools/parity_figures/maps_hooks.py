"""Original implementations under plain forward hooks: what a porter's dump of them looks like.

    python -m tools.parity_figures.maps_hooks SOURCE OUT.npz CASE [CASE ...]

Names are the paths of modules in the original, ``.0`` and ``.1`` the items of a tuple, ``.input``
the first argument, ``#2`` the second call; the variables of an attention are called as its source
calls them. No map of names is read here. SOURCE is "transformers", "fairseq", "xlm" or
"transformer_lens"; whichever stands on the path is used. fairseq and TransformerLens import far
more than their models need: what is not installed of that is replaced by empty modules.

OUT holds a dump for each case, "CASE/NAME", in float64.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from refimpl.checkpoints.safetensors_file import SafetensorsFile
from refimpl.parity.goldens import Golden, bundled, read_golden

# The attention's class -> {function called in it first: the name of the variable that it makes}.
VARIABLES = {
    "MultiheadAttention": {"bmm": "attn_weights", "softmax": "attn_probs"},  # fairseq
    "MultiHeadAttention": {"matmul": "scores", "softmax": "weights"},  # XLM
}
Seen = dict[str, numpy.ndarray]


# --- hooks ----------------------------------------------------------------------------------------


class _Variables(TorchFunctionMode):
    def __init__(self, keep: Callable[[str, Any], None]) -> None:
        super().__init__()
        self.inside: list[tuple[str, dict[str, str]]] = []
        self._keep = keep

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.inside:
            path, wanted = self.inside[-1]
            word = wanted.pop(getattr(func, "__name__", ""), None)
            if word:
                self._keep(f"{path}.{word}", result)
        return result


@contextmanager
def hooked(model: nn.Module, rows: int = 0) -> Iterator[Seen]:
    """Keep what every module is given and returns in the block, by the path of the module.

    An adapter runs for one group of texts after another: its calls are joined, along ``rows``.
    """
    calls: dict[str, list[numpy.ndarray]] = {}
    seen: Seen = {}

    def keep(name: str, x: Any) -> None:
        if isinstance(x, torch.Tensor):
            calls.setdefault(name, []).append(x.detach().clone().numpy())

    variables = _Variables(keep)

    def hook(path: str) -> Callable[..., None]:
        def after(module: nn.Module, args: Any, out: Any) -> None:
            keep(f"{path}.input", args[0] if args else None)
            items = out if isinstance(out, tuple) else ()
            keep(path, out)
            for i, item in enumerate(items):
                keep(f"{path}.{i}", item)

        return after

    with ExitStack() as stack:
        stack.enter_context(variables)
        for path, module in model.named_modules():
            wanted = VARIABLES.get(type(module).__name__)
            if wanted:
                enter = lambda m, a, entry=(path, wanted): variables.inside.append(  # noqa: E731
                    (entry[0], dict(entry[1]))
                )
                stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(hook(path)).remove)
            if wanted:
                leave = lambda m, a, out: variables.inside.pop() and None  # noqa: E731
                stack.callback(module.register_forward_hook(leave).remove)
        with torch.no_grad(), float64_stays():
            yield seen
    for name, arrays in calls.items():
        if ".adapter_modules." in name:
            arrays = [numpy.concatenate(arrays, rows)]
        numbered = len(arrays) > 1
        for i, array in enumerate(arrays, start=1):
            seen[f"{name}#{i}" if numbered else name] = array


@contextmanager
def float64_stays() -> Iterator[None]:
    """Make a cast to float32 a no-op on float64: some originals cast before a softmax."""
    cast = torch.Tensor.float
    with mock.patch.object(
        torch.Tensor, "float", lambda x: x if x.dtype == torch.float64 else cast(x)
    ):
        yield


# --- transformers ---------------------------------------------------------------------------------


def of_transformers(golden: Golden) -> Seen:
    """Transformers 4.57 or 5: whichever is on the path."""
    import transformers

    config = json.loads((golden.folder / "config.json").read_text(encoding="utf-8"))
    untied = {"tie_word_embeddings": False} if config.get("asm") else {}
    kind = getattr(transformers, golden.description["architecture"])
    model = kind.from_pretrained(
        golden.folder, dtype="float64", attn_implementation="eager", **untied
    ).eval()
    from refimpl.adapters.torch_watch import as_call, flatten

    asked = {"output_attentions": True} if config["model_type"] == "xlm" else {}
    with hooked(model) as seen:
        outputs = model(**as_call(model, {**golden.inputs(), **asked}))
    given = {name: x.numpy() for name, x in flatten(outputs).items()}
    return {**{name: x for name, x in seen.items() if name}, **given}


# --- fairseq --------------------------------------------------------------------------------------


class _Empty(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for each name that begins so."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.startswith(self._names):
            return importlib.util.spec_from_loader(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Any:
        return _Empty(spec.name)

    def exec_module(self, module: Any) -> None:
        """There is nothing to run."""


def import_fairseq() -> None:
    """Import fairseq's models on a Python that it is too old for, without its tasks."""
    parts = ("tasks", "criterions", "benchmark", "optim", "model_parallel", "scoring", "search",
             "sequence_generator")  # fmt: skip
    others = ("sklearn", "sacrebleu", "bitarray", "torchaudio", "soundfile", "tensorboardX")
    sys.meta_path.insert(0, _Absent(*(f"fairseq.{part}" for part in parts), *others))
    make = dataclasses.dataclass

    def hashable(cls: Any = None, **options: Any) -> Any:  # a default that is a config must be
        if cls is None:
            return lambda found: hashable(found, **options)
        if cls.__module__.startswith(("fairseq", "hydra")):
            options.setdefault("unsafe_hash", True)
        return make(cls, **options)

    with mock.patch.object(dataclasses, "dataclass", hashable):
        importlib.import_module("fairseq.models.xmod.model")


class _Words:
    def __init__(self, count: int, padding: int) -> None:
        self.count, self.padding = count, padding

    def __len__(self) -> int:
        return self.count

    def pad(self) -> int:
        """The id of the padding."""
        return self.padding


def of_fairseq(golden: Golden) -> Seen:
    """fairseq, with the case's weights but token types, which it does not have."""
    import_fairseq()
    from fairseq import utils
    from fairseq.models.roberta.model import (
        RobertaClassificationHead,
        RobertaEncoder,
        base_architecture,
    )
    from fairseq.models.xmod.model import XMODEncoder

    from tests.oracle.original_files import fairseq_options, fairseq_tensors

    config = json.loads((golden.folder / "config.json").read_text(encoding="utf-8"))
    options = argparse.Namespace(**fairseq_options(config))
    base_architecture(options)
    words = _Words(config["vocab_size"], config["pad_token_id"])
    model = nn.Module()
    is_xmod = config["model_type"] == "xmod"
    model.encoder = (XMODEncoder if is_xmod else RobertaEncoder)(options, words)
    base = "" if any(n.startswith("roberta.") for n in _tensors(golden)) else "roberta."
    tensors = fairseq_tensors({base + name: x for name, x in _tensors(golden).items()})
    heads = {n.split(".")[1] for n in tensors if n.startswith("classification_heads.")}
    width, labels = config["hidden_size"], len(config.get("id2label", "12"))
    model.classification_heads = nn.ModuleDict(
        {h: RobertaClassificationHead(width, width, labels, "tanh", 0.0) for h in heads}
    )
    model = model.double().eval()
    report = model.load_state_dict(
        {n: torch.from_numpy(x).double() for n, x in tensors.items()}, strict=False
    )
    assert not report.unexpected_keys, report
    for layer in model.encoder.sentence_encoder.layers:
        layer.self_attn.prepare_for_onnx_export_()  # so that it calls its linear maps
    inputs = golden.inputs()
    spoken = [config["languages"][i] for i in inputs.get("lang_ids", ())]
    spoken = spoken or [config.get("default_language")] * len(inputs["input_ids"])
    others = {"lang_id": spoken} if is_xmod else {}
    positions: list[Any] = []
    make = utils.make_positions

    def noted(*args: Any, **kwargs: Any) -> Any:
        positions.append(make(*args, **kwargs))
        return positions[-1]

    with mock.patch.object(utils, "make_positions", noted), hooked(model, 1) as seen:
        ids = torch.from_numpy(inputs["input_ids"]).long()
        features = model.encoder(ids, features_only=bool(heads), **others)[0]
        for head in model.classification_heads.values():
            head(features)
    name = "encoder.sentence_encoder.embed_positions.positions"
    return {**{n: x for n, x in seen.items() if n}, name: positions[-1].numpy()}


def _tensors(golden: Golden) -> Seen:
    file = SafetensorsFile(golden.folder / "model.safetensors")
    return {name: numpy.array(file[name]) for name in file}


# --- XLM ------------------------------------------------------------------------------------------


def of_xlm(golden: Golden) -> Seen:
    """The XLM authors' model, with the case's weights."""
    from xlm.model.transformer import TransformerModel

    from tests.oracle.original_files import xlm_params, xlm_tensors

    config = json.loads((golden.folder / "config.json").read_text(encoding="utf-8"))
    languages = [f"l{i}" for i in range(config["n_langs"])]
    options = argparse.Namespace(**{"asm": False, **xlm_params(config, languages)})
    model = TransformerModel(options, range(config["vocab_size"]), True, True).double().eval()
    tensors = {n: torch.from_numpy(x).double() for n, x in xlm_tensors(_tensors(golden)).items()}
    places = tensors["position_embeddings.weight"]  # theirs has 512, whatever the options
    table = model.position_embeddings.weight.detach().clone()
    table[: len(places)] = places
    report = model.load_state_dict({**tensors, "position_embeddings.weight": table}, strict=False)
    assert not report.unexpected_keys, report
    inputs = golden.inputs()
    ids = torch.from_numpy(inputs["input_ids"]).long()
    lengths = torch.from_numpy(inputs["attention_mask"]).sum(1) if "attention_mask" in inputs \
        else torch.full((len(ids),), ids.shape[1])  # fmt: skip
    langs = torch.from_numpy(inputs["langs"]).long().T if "langs" in inputs else None
    with hooked(model) as seen:
        hidden = model("fwd", x=ids.T, lengths=lengths.long(), causal=False, langs=langs)
        model.pred_layer.proj(hidden.reshape(-1, hidden.shape[-1]))
    return {name: x for name, x in seen.items() if name}


# --- TransformerLens ------------------------------------------------------------------------------


def of_transformer_lens(golden: Golden) -> Seen:
    """TransformerLens' bridge for BERT, told where RoBERTa's modules are, around an XLM-R."""
    others = ("datasets", "wandb", "pandas", "accelerate", "transformers_stream_generator")
    sys.meta_path.insert(0, _Absent(*others))
    import transformers
    from transformer_lens.factories.architecture_adapter_factory import (
        ArchitectureAdapterFactory as Factory,
    )
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
    from transformer_lens.model_bridge.supported_architectures.bert import (
        BertArchitectureAdapter,
    )

    def adapter(config: Any) -> Any:
        made = BertArchitectureAdapter(config)
        for part in made.component_mapping.values():
            part.name = part.name.replace("bert.", "roberta.", 1)
        for part, place in (("mlm_head", "dense"), ("unembed", "decoder"),
                            ("ln_final", "layer_norm")):  # fmt: skip
            made.component_mapping[part].name = f"lm_head.{place}"
        return made

    Factory._adapters["XLMRobertaForMaskedLM"] = adapter
    model = transformers.XLMRobertaForMaskedLM.from_pretrained(
        golden.folder, dtype="float64", attn_implementation="eager"
    ).eval()
    bridge = build_bridge_from_module(model, "XLMRobertaForMaskedLM", hf_config=model.config)
    seen: Seen = {}

    def keep(x: Any, hook: Any) -> None:
        if isinstance(x, torch.Tensor):
            seen[hook.name] = x.detach().clone().numpy()

    asked = ("hook_result", "split_qkv_input", "_q_input", "_k_input", "_v_input", "_attn_in",
             "hook_mlp_in")  # fmt: skip
    hooks = [(name, keep) for name in bridge.hook_dict if not name.endswith(asked)]
    inputs = golden.inputs()
    with torch.no_grad(), bridge.hooks(fwd_hooks=hooks):
        bridge(
            torch.from_numpy(inputs["input_ids"]),
            attention_mask=torch.from_numpy(inputs["attention_mask"]),
            return_type="logits",
        )
    return seen


ORIGINALS = {
    "transformers": of_transformers,
    "fairseq": of_fairseq,
    "xlm": of_xlm,
    "transformer_lens": of_transformer_lens,
}


def main() -> int:
    """Write the dumps; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", choices=ORIGINALS)
    parser.add_argument("out", type=Path)
    parser.add_argument("cases", nargs="+")
    arguments = parser.parse_args()
    dumps = {}
    for case in arguments.cases:
        seen = ORIGINALS[arguments.source](read_golden(bundled() / case))
        dumps |= {f"{case}/{name}": x for name, x in seen.items()}
    numpy.savez(arguments.out, **dumps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
