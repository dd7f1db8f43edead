"""The adapter for torch gives the taps of the originals: all of them, in order, as they are."""

import json

import numpy
import pytest

from refimpl.parity.compare import NORM, compare_floats
from refimpl.parity.goldens import bundled, find_goldens, read_golden

pytestmark = pytest.mark.oracle

SMALL = {"num_hidden_layers": 2, "hidden_size": 12, "num_attention_heads": 3,
         "intermediate_size": 11, "vocab_size": 29, "max_position_embeddings": 15}  # fmt: skip
IDS = [[0, 7, 8, 2, 1], [0, 9, 10, 11, 2]]
MASK = [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


@pytest.fixture(name="adapter")
def adapter_of_torch():
    pytest.importorskip("transformers")
    from refimpl.adapters import torch as adapter

    return adapter


def model_of(golden, dtype="float64", attention="eager"):
    import transformers

    kind = getattr(transformers, golden.description["architecture"])
    loaded = kind.from_pretrained(golden.folder, dtype=dtype, attn_implementation=attention)
    return loaded.eval()


@pytest.mark.parametrize("folder", find_goldens(), ids=lambda f: f"{f.parent.name}-{f.name}")
def test_a_dump_is_what_the_makers_of_the_goldens_record(adapter, folder):
    from golden.make import record
    from tests.oracle.originals import adaptive_softmax_of_places, as_tensors

    golden = read_golden(folder)
    model, inputs = model_of(golden), inputs_of(golden)
    with record._float64_stays(), adaptive_softmax_of_places():
        dump = adapter.dump(model, **inputs)
        taps, outputs = record.run(model, tensors_of(inputs, as_tensors))
    assert list(dump.taps) == list(golden.description["taps"])
    for name, truth in {**as_the_golden_has(taps, golden), **outputs}.items():
        assert numpy.array_equal(dump.values[name], truth.numpy()), name
    assert set(dump.outputs) == set(outputs)


def tensors_of(inputs, as_tensors):
    kept = inputs.get("past_key_values", ())
    layers = tuple(tuple(as_tensors(dict(enumerate(layer))).values()) for layer in kept)
    return {**as_tensors(inputs), **({"past_key_values": layers} if kept else {})}


def as_the_golden_has(taps, golden):
    """With word embeddings given, XLM's table of words is looked up for token types alone."""
    if "inputs_embeds" not in golden.description["inputs"] or "xlm/" not in golden.name:
        return taps
    table = ("embeddings", "transformer.embeddings")
    return {f"{n}.token_types" if n in table else n: x for n, x in taps.items()}


def inputs_of(golden):
    """The inputs of a case; keys and values that were kept, as tuples of layers."""
    inputs = golden.inputs()
    kept = [name for name in inputs if name.startswith("past_key_values.")]
    layers = {}
    for name in kept:
        layers.setdefault(name.split(".")[1], []).append(inputs.pop(name))
    return {**inputs, "past_key_values": tuple(layers.values())} if kept else inputs


XLM_R = bundled() / "xlm_roberta" / "masked_lm"
FAMILIES = ("xlm/lm", "xlm_roberta/masked_lm", "xlm_roberta_xl/masked_lm", "xmod/masked_lm")


@pytest.mark.parametrize("case", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_arrays_are_as_computed_and_bfloat16_is_noted(adapter, case, dtype):
    golden = read_golden(bundled() / case)
    model = model_of(golden, dtype)
    dump = adapter.dump(model, **golden.inputs())
    held = {"bfloat16": "float32"}.get(dtype, dtype)
    query = next(name for name in dump.taps if name.endswith(("query", "q_lin")))
    assert dump.taps[query].dtype == held
    assert (f"tap.{query}" in dump.about.get("bfloat16", ())) is (dtype == "bfloat16")
    assert dump.about["dtype"] == dtype
    assert dump.about["architecture"] == golden.description["architecture"]
    assert list(dump.taps) == list(golden.description["taps"])


def test_what_sdpa_does_not_make_is_missing(adapter):
    golden = read_golden(XLM_R)
    dump = adapter.dump(model_of(golden, attention="sdpa"), **golden.inputs())
    gone = {name for name in golden.description["taps"] if name.endswith((".scores", ".probs"))}
    assert list(dump.taps) == [n for n in golden.description["taps"] if n not in gone]
    for name, x in dump.taps.items():
        truth = golden.part("tap")[name]
        if truth.dtype.kind == "f":
            assert compare_floats(name, x, truth, NORM, "float64").ok, name


def test_record_gives_names_of_the_model_that_is_recorded(adapter):
    import torch

    golden = read_golden(XLM_R)
    model = model_of(golden)
    with torch.no_grad(), adapter.record(model.roberta) as taps:
        model.roberta(torch.tensor(golden.part("input")["input_ids"]))
    assert next(iter(taps)) == "embeddings.word_embeddings"
    assert "encoder.layer.0.attention.self.scores" in taps


def test_recording_changes_nothing_and_leaves_nothing_behind(adapter):
    import torch

    golden = read_golden(XLM_R)
    model = model_of(golden)
    ids = torch.tensor(golden.part("input")["input_ids"])
    before = model(ids).logits
    with adapter.record(model):
        during = model(ids).logits
    with adapter.record(model):
        pass
    assert torch.equal(before, during)
    assert torch.equal(before, model(ids).logits)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_arrays_are_copies(adapter):
    """XLM writes zeros into the result of a layer norm, a mask into its scores."""
    golden = read_golden(bundled() / "xlm" / "padding_right")
    dump = adapter.dump(model_of(golden), **golden.inputs())
    padded = golden.part("input")["attention_mask"] == 0
    assert (dump.taps["layer_norm2.0"][padded] != 0).all()
    assert numpy.isfinite(dump.taps["attentions.0.scores"]).all()
    assert abs(dump.taps["attentions.0.scores"]).max() < 1e6


def test_a_call_may_be_of_lists(adapter):
    dump = adapter.dump(
        model_of(read_golden(XLM_R)), input_ids=IDS, attention_mask=MASK, output_attentions=True
    )
    assert dump.inputs["input_ids"].tolist() == IDS
    assert dump.about["flags"] == {"output_attentions": True}
    assert "attentions.0" in dump.outputs


# --- refused --------------------------------------------------------------------------------------


def test_training_mode_is_refused(adapter):
    model = model_of(read_golden(XLM_R)).train()
    with pytest.raises(ValueError, match=r"model: expected it in evaluation mode"):
        adapter.dump(model, input_ids=IDS)
    model.eval().roberta.encoder.layer[1].train()
    with (
        pytest.raises(ValueError, match=r"model: expected it in evaluation mode"),
        adapter.record(model),
    ):
        pass


def test_another_model_is_refused(adapter):
    import torch
    import transformers

    small = transformers.BertConfig(**SMALL)
    for model in (transformers.BertModel(small).eval(), torch.nn.Linear(1, 1), "no model"):
        with (
            pytest.raises(ValueError, match="model: expected a transformers model of XLM"),
            adapter.record(model),
        ):
            pass


def test_a_second_pass_is_refused(adapter):
    import torch

    model = model_of(read_golden(XLM_R))
    with adapter.record(model):
        model(torch.tensor(IDS))
        with pytest.raises(ValueError, match="record one forward pass at a time"):
            model(torch.tensor(IDS))


def test_a_pass_in_chunks_is_refused(adapter):
    import transformers

    config = json.loads((XLM_R / "config.json").read_text(encoding="utf-8"))
    config = transformers.XLMRobertaConfig(**{**config, "chunk_size_feed_forward": 2})
    with pytest.raises(ValueError, match="chunk_size_feed_forward: expected 0"):
        adapter.dump(transformers.XLMRobertaModel(config).eval(), input_ids=IDS)
