"""Names of other implementations lead to taps, in the right layout, or nowhere."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.parity.goldens import bundled, find_goldens, read_golden
from refimpl.parity.names import SOURCES, foreign_name, foreign_names, make_map, resolve
from refimpl.parity.names.sources import first_names

B, S, H, K = 2, 5, 3, 4
D = H * K
QUERY, KEY, VALUE = (
    f"roberta.encoder.layer.0.attention.self.{w}" for w in ("query", "key", "value")
)
SCORES = "roberta.encoder.layer.0.attention.self.scores"
EXPECTED = {
    "roberta.embeddings.LayerNorm": (B, S, D),
    **dict.fromkeys((QUERY, KEY, VALUE), (B, S, D)),
    SCORES: (B, H, S, S),
    "roberta.encoder.layer.0.intermediate.dense": (B, S, 11),
    "roberta.encoder.layer.0.output.LayerNorm": (B, S, D),
    "lm_head.decoder": (B, S, 29),
    "logits": (B, S, 29),
}


def cases():
    """One golden of each head in each family, as names and shapes."""
    for folder in find_goldens():
        if folder.name in ("masked_lm", "classification", "question_answering", "lm", "model",
                           "cross_attention", "pre_norm", "token_type_ids"):  # fmt: skip
            description = read_golden(folder).description
            taps = {n: tuple(x["shape"]) for n, x in description["taps"].items()}
            outputs = {n: tuple(x["shape"]) for n, x in description["outputs"].items()}
            yield pytest.param(taps, {**taps, **outputs}, id=f"{folder.parent.name}-{folder.name}")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("taps", "expected"), list(cases()))
def test_every_name_of_a_source_leads_back(source, taps, expected):
    theirs = foreign_names(taps, source)
    beside = {one.beside: () for one in first_names(taps, source).values() if one.beside}
    dump = {name: taps[tap] for tap, name in theirs.items()}
    found = resolve({**beside, **dump}, expected, source)
    # XLM's table of words is looked up twice: one tensor for both is neither.
    twice = {n for n in taps if f"{n}.token_types" in taps and f"{n}.token_types" not in theirs}
    assert {t: g.name for t, g in found.named.items() if t in taps} == {
        tap: name for tap, name in theirs.items() if tap not in twice
    }


@pytest.mark.parametrize("source", ["transformers", "xlm"])
def test_a_source_with_our_names_has_all_taps(source):
    for folder in find_goldens(bundled() / "xlm"):
        taps = list(read_golden(folder).description["taps"])
        assert list(foreign_names(taps, source)) == taps


@pytest.mark.parametrize(
    "steps",
    [
        ["Sigmoid", "Mul"],
        ["Div", "Erf", "Add", "Mul", "Mul_1"],
        ["Mul", "Pow", "Mul_1", "Add", "Mul_2", "Tanh", "Add_1", "Mul_3"],
        ["Mul", "Mul_1", "Mul_2", "Add", "Mul_3", "Tanh", "Add_1", "Mul_4", "Mul_5"],
        ["Tanh"],
        ["Relu"],
        ["Gelu"],
    ],
)
def test_an_activation_of_a_graph_is_its_last_step(steps):
    module, tap = "/encoder/layer.0/intermediate", "encoder.layer.0.intermediate"
    names = [f"{module}/intermediate_act_fn/{step}_output_0" for step in steps]
    dump = {f"{module}/dense/Add_output_0": (B, S, 11), **dict.fromkeys(names, (B, S, 11))}
    found = resolve(dump, dict.fromkeys((f"{tap}.dense", tap), (B, S, 11)), "onnx")
    assert found.named[tap].name == names[-1]


def test_a_sum_of_vectors_in_a_graph_is_no_position():
    taps = {"embeddings.position_ids": (B, S), "embeddings.position_embeddings": (B, S, D)}
    vectors = {f"/embeddings/{n}_output_0": (B, S, D) for n in ("Add", "Add_1")}
    assert resolve(vectors, taps, "onnx").named == {}
    ids = {"/embeddings/Add_output_0": (B, S), "/embeddings/Add_2_output_0": (B, S, D)}
    assert list(resolve({**vectors, **ids}, taps, "onnx").named) == ["embeddings.position_ids"]


def test_a_piece_of_a_language_is_not_its_tap():
    module = "/encoder/layer.0/output/en_XX"
    tap = "encoder.layer.0.output.adapter_modules.en_XX"
    taps = {f"{tap}.dense1": (3, S, 4), f"{tap}.dense2": (3, S, D)}
    first = {f"{module}/dense1/Add_output_0": (3, S, 4), f"{module}/dense2/Add_output_0": (3, S, D)}
    assert list(resolve(first, taps, "onnx").named) == list(taps)
    again = {f"{module}/dense1_1/MatMul_output_0": (1, S, 4)}
    assert resolve({**first, **again}, taps, "onnx").named == {}


def test_our_own_names_are_known_whatever_the_source():
    for source in (None, *SOURCES):
        found = resolve(EXPECTED, EXPECTED, source)
        assert list(found.named) == list(EXPECTED)
        assert {g.layout for g in found.named.values()} == {"same"}
        assert (found.missing, found.unknown, found.also) == ((), {}, {})


def test_a_dump_of_the_encoder_alone_is_known():
    found = resolve({"encoder.layer.0.attention.self.query": (B, S, D)}, EXPECTED)
    assert found.named[QUERY].name == "encoder.layer.0.attention.self.query"


@pytest.mark.parametrize(
    "name",
    [
        "module.roberta.encoder.layer.0.attention.self.query",
        "roberta.encoder.layer.0.attention.self.query.output",
        "roberta.encoder.layer.0.attention.self.query.outputs[0]",
        "_orig_mod.roberta.encoder.layer.0.attention.self.query",
        "roberta_encoder_layer_0_attention_self_query",
        "/roberta/encoder/layer.0/attention/self/query/Add_output_0",
        "_roberta_encoder_layer.0_attention_self_query_Add_output_0",
        "roberta.encoder.layer.0.attention.self.query/linear",
        "encoder.sentence_encoder.layers.0.self_attn.q_proj",
        "blocks.0.attn.q.hook_out",
    ],
)
def test_spellings_of_one_name(name):
    assert resolve({name: (B, S, D)}, EXPECTED).named[QUERY].name == name


def test_fairseq_lays_time_first_and_the_map_says_so():
    x = numpy.arange(S * B * D).reshape(S, B, D)
    found = resolve({"decoder.sentence_encoder.layers.0.self_attn.k_proj": x.shape}, EXPECTED)
    assert found.source == "fairseq"
    assert numpy.array_equal(found.named[KEY].take(x), x.swapaxes(0, 1))


def test_the_stated_layout_counts_where_a_shape_could_be_either():
    square = {name: (S, S, *shape[2:]) for name, shape in EXPECTED.items()}
    found = resolve({"encoder.sentence_encoder.layers.0.fc1": (S, S, 11)}, square, "fairseq")
    assert next(iter(found.named.values())).layout == "time first"


def test_one_tensor_may_hold_queries_keys_and_values():
    x = numpy.arange(B * S * 3 * D).reshape(B, S, 3 * D)
    found = resolve({"sentence_encoder.layers.0.self_attn.in_proj": (S, B, 3 * D)}, EXPECTED)
    for i, tap in enumerate((QUERY, KEY, VALUE)):
        taken = found.named[tap].take(x.swapaxes(0, 1))
        assert numpy.array_equal(taken, x[..., i * D : (i + 1) * D])


def test_heads_are_merged_where_only_one_layout_fits():
    x = numpy.arange(B * S * D).reshape(B, S, H, K)
    found = resolve({QUERY: (B, H, S, K), KEY: (B, S, H, K), VALUE: (B * H, S, K)}, EXPECTED)
    assert [found.named[t].layout for t in (QUERY, KEY, VALUE)] == [
        "heads",
        "heads last",
        "heads in rows",
    ]
    merged = x.reshape(B, S, D)
    assert numpy.array_equal(found.named[QUERY].take(x.swapaxes(1, 2)), merged)
    assert numpy.array_equal(found.named[KEY].take(x), merged)
    rows = x.swapaxes(1, 2).reshape(B * H, S, K)
    assert numpy.array_equal(found.named[VALUE].take(rows), merged)


def test_a_known_name_of_another_shape_keeps_its_name_and_its_shape():
    given = resolve({QUERY: (B, S, D + 1)}, EXPECTED).named[QUERY]
    x = numpy.zeros((B, S, D + 1))
    assert not given.fits
    assert given.take(x) is x


def test_a_name_whose_shape_fits_goes_before_one_whose_shape_does_not():
    own = make_map({"encoder.layer.{i}.attention.self.query": ["a{i}", "b{i}"]})
    found = resolve({"a0": (B, S), "b0": (B, S, D)}, EXPECTED, extra=own)
    assert found.named[QUERY].name == "b0"


def test_an_output_is_a_tap_too():
    found = resolve({"logits": (B, S, 29), "hidden_states[1]": (B, S, D)}, EXPECTED)
    assert found.named["logits"].name == found.named["lm_head.decoder"].name == "logits"
    assert found.named["roberta.encoder.layer.0.output.LayerNorm"].name == "hidden_states[1]"


def test_the_first_of_two_names_for_a_value_counts():
    exact, other = "roberta.encoder.layer.0.output.LayerNorm", "roberta.encoder.layer.0"
    found = resolve({other: (B, S, D), exact: (B, S, D)}, EXPECTED)
    assert found.named[exact].name == exact
    assert found.also == {other: exact}


def test_unknown_names_stay_unknown_with_suggestions():
    found = resolve({"blk.0.attn_q": (B, S, D), "zzz": (1,)}, EXPECTED)
    assert found.named == {}
    assert found.unknown["blk.0.attn_q"][0] == QUERY
    assert found.unknown["zzz"] == ()
    assert found.missing == tuple(EXPECTED)


def test_suggestions_are_of_what_is_missing():
    found = resolve({QUERY: (B, S, D), "blk.0.attn_q": (B, S, D)}, EXPECTED)
    assert QUERY not in found.unknown["blk.0.attn_q"]


TWICE = {"embeddings": (B, S, D), "embeddings.token_types": (B, S, D), "layer_norm_emb": (B, S, D)}
NORMS = {
    f"encoder.layer.0.output.{name}": (B, S, D)
    for name in ("LayerNorm", "LayerNorm.before_adapter", "adapter_modules.en_XX.dense1")
}


def test_one_tensor_of_a_module_that_runs_twice_is_neither_call():
    assert "embeddings" in resolve({"embeddings": (B, S, D)}, TWICE).unknown
    last = resolve({"encoder.layer.0.output.LayerNorm": (B, S, D)}, NORMS)
    assert list(last.named) == ["encoder.layer.0.output.LayerNorm"]  # hooks keep the second
    first = {**NORMS, "encoder.LayerNorm": (B, S, D)}  # there the second is the one before
    assert resolve({"encoder.layer.0.output.LayerNorm": (B, S, D)}, first).named == {}


def test_calls_of_a_module_are_told_by_their_number():
    name = "encoder.layer.0.output.LayerNorm"
    for first in (name, f"{name}#1"):
        found = resolve({first: (B, S, D), f"{name}#2": (B, S, D)}, NORMS).named
        assert (found[f"{name}.before_adapter"].name, found[name].name) == (first, f"{name}#2")


# --- a map of one's own ---------------------------------------------------------------------------


def test_a_map_goes_before_the_built_in_ones():
    names = {QUERY: "k"}
    found = resolve({"k": (B, S, D), QUERY: (B, S, D)}, EXPECTED, extra=names)
    assert found.named[QUERY].name == "k"


def test_a_map_with_numbers_layouts_and_alternatives():
    own = make_map(
        {
            "encoder.layer.{i}.attention.self.query": ["a{i}.q", "b{i}.q"],
            "encoder.layer.{i}.attention.self.scores": {"name": "s{i+1}", "layout": "heads first"},
            "lm_head.decoder": "out.{any}",
        }
    )
    given = {"b0.q": (B, S, D), "s1": (H, B, S, S), "out.x": (B, S, 29)}
    found = resolve(given, EXPECTED, extra=own).named
    assert found[QUERY].name == "b0.q"
    assert found[SCORES].layout == "heads first"
    assert found["lm_head.decoder"].name == "out.x"


def test_a_map_the_wrong_way_round_is_an_error():
    with pytest.raises(ValueError, match="map: expected taps of this model on the left, got k"):
        resolve({"k": (B, S, D)}, EXPECTED, extra={"k": QUERY})


def test_an_unknown_source_is_an_error():
    with pytest.raises(ValueError, match=r"source: expected one of transformers, .*, got 'keras'"):
        resolve({}, EXPECTED, "keras")
    with pytest.raises(ValueError, match="source"):
        foreign_name(QUERY, "keras")


def test_a_tap_that_a_source_has_no_name_for():
    assert foreign_name("roberta.pooler", "fairseq") is None


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=30), st.lists(st.integers(0, 7), max_size=5).map(tuple)))
def test_any_names_and_shapes_are_sorted_without_an_error(given):
    found = resolve(given, EXPECTED)
    named = {one.name for one in found.named.values()}
    assert named | set(found.also) | set(found.unknown) == set(given)
    for one in found.named.values():
        array = numpy.zeros(given[one.name])
        assert one.take(array).shape == (one.expected if one.fits else array.shape)
