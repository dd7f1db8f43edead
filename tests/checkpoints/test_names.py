"""What tensors may be called, which may be absent or beside the point, and how the rest is told."""

import numpy
import pytest

from refimpl.errors import CheckpointError
from refimpl.models.model import load
from tests.compare import assert_same

IDS = [[0, 17, 5, 23, 2]]
WORDS = "roberta.embeddings.word_embeddings.weight"
DECODER = "lm_head.decoder.weight"
BASE, MASKED_LM = "XLMRobertaModel", "XLMRobertaForMaskedLM"


def renamed(old, new):
    """Return a change of tensors: ``old`` becomes ``new`` wherever it stands in a name."""
    return lambda tensors: {name.replace(old, new): x for name, x in tensors.items()}


def without(*names):
    return lambda tensors: {name: x for name, x in tensors.items() if name not in names}


def along_with(**more):
    return lambda tensors: tensors | more


def logits(folder, **options):
    return load(folder, dtype="float64", kernels="plain", **options)(input_ids=IDS).logits


def hidden(folder, **options):
    return load(folder, dtype="float64", kernels="plain", **options)(
        input_ids=IDS
    ).last_hidden_state


def complaint(folder, **options):
    """Return what ``load`` has against a folder, less its path."""
    with pytest.raises(CheckpointError) as caught:
        load(folder, **options)
    text = str(caught.value)
    assert text.startswith(f"{folder}: ")
    return text.removeprefix(f"{folder}: ")


# --- what does not match --------------------------------------------------------------------------


def test_everything_wrong_is_told_at_once(checkpoint):
    def change(tensors):
        del tensors["pooler.dense.bias"]
        del tensors["encoder.layer.1.output.dense.weight"]
        tensors["encoder.layer.2.output.dense.bias"] = numpy.zeros(12, "f4")
        tensors["classifier.weight"] = numpy.zeros((2, 12), "f4")
        tensors["embeddings.LayerNorm.weight"] = numpy.zeros(13, "f4")
        tensors["pooler.dense.weight"] = numpy.zeros((), "f4")
        return tensors

    assert complaint(checkpoint("model", tensors=change)) == (
        "XLMRobertaModel: tensors do not match the config: "
        "missing (2): encoder.layer.1.output.dense.weight (12, 11), pooler.dense.bias (12,); "
        "unexpected (2): classifier.weight, encoder.layer.2.output.dense.bias; "
        "misshapen (2): embeddings.LayerNorm.weight: expected (12,), got (13,), "
        "pooler.dense.weight: expected (12, 12), got ()"
    )


def test_a_transposed_matrix_is_misshapen(checkpoint):
    name = "encoder.layer.0.intermediate.dense.weight"
    folder = checkpoint("model", tensors=lambda t: t | {name: t[name].T})
    assert complaint(folder).endswith(f"misshapen (1): {name}: expected (11, 12), got (12, 11)")


def test_a_layer_that_the_config_does_not_have_is_unexpected(checkpoint):
    told = complaint(checkpoint("model", config={"num_hidden_layers": 1}))
    assert "unexpected (16): encoder.layer.1.attention.output.LayerNorm.bias, " in told
    assert "missing" not in told


def test_a_layer_that_the_file_does_not_have_is_missing(checkpoint):
    told = complaint(checkpoint("model", config={"num_hidden_layers": 3}))
    assert "missing (16): encoder.layer.2.attention.self.query.weight (12, 12), " in told
    assert "unexpected" not in told


def test_a_head_is_not_made_up_where_the_file_has_another(checkpoint):
    told = complaint(checkpoint("masked_lm"), architecture="XLMRobertaForQuestionAnswering")
    assert "missing (2): qa_outputs.weight (2, 12), qa_outputs.bias (2,); unexpected (5)" in told


def test_a_head_is_not_made_up_where_the_file_has_none(checkpoint):
    told = complaint(checkpoint("model"), architecture=MASKED_LM)
    assert "lm_head.dense.weight (12, 12)" in told


def test_the_model_and_the_model_with_a_head_are_told_apart_by_prefix(checkpoint):
    folder = checkpoint("model", tensors=renamed("encoder.", "roberta.encoder."))
    told = complaint(folder)
    assert "missing" in told
    assert "embeddings.word_embeddings.weight (29, 12)" in told


# --- old names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["masked_lm", "masked_lm_untied"])
@pytest.mark.parametrize("norm", ["LayerNorm", "layer_norm"])  # the encoder's, the head's
def test_gamma_and_beta_of_a_layer_norm(checkpoint, case, norm):
    def old(tensors):
        words = {f"{norm}.weight": f"{norm}.gamma", f"{norm}.bias": f"{norm}.beta"}
        for new, word in words.items():
            tensors = renamed(new, word)(tensors)
        return tensors

    assert_same(logits(checkpoint(case, tensors=old)), logits(checkpoint(case)))


def test_gamma_and_beta_elsewhere_are_unexpected(checkpoint):
    told = complaint(checkpoint("model", tensors=renamed("pooler.dense.bias", "pooler.dense.beta")))
    assert "missing (1): pooler.dense.bias (12,); unexpected (1): pooler.dense.beta" in told


@pytest.mark.parametrize("case", ["model", "masked_lm"])
def test_buffers_are_no_weights(checkpoint, case):
    prefix = "" if case == "model" else "roberta."
    buffers = {
        f"{prefix}embeddings.position_ids": numpy.arange(16)[None],
        f"{prefix}embeddings.token_type_ids": numpy.zeros((1, 16), int),
    }
    folder = checkpoint(case, tensors=along_with(**buffers))
    assert_same(hidden(folder, architecture=BASE), hidden(checkpoint(case), architecture=BASE))
    assert not set(buffers) & set(load(folder).weights)
    assert "unexpected (1)" in complaint(
        checkpoint(case, tensors=along_with(**{f"{prefix}position_ids": numpy.arange(16)}))
    )


# --- the masked-LM head ---------------------------------------------------------------------------


def test_the_bias_of_the_head_under_its_other_name(checkpoint):
    folder = checkpoint("masked_lm", tensors=renamed("lm_head.bias", "lm_head.decoder.bias"))
    assert_same(logits(folder), logits(checkpoint("masked_lm")))


@pytest.mark.parametrize("dtype", ["float32", "float64"])  # the wider stands first in the file
def test_of_both_names_of_the_bias_the_decoders_counts(checkpoint, dtype):
    def both(tensors):
        bias = tensors["lm_head.bias"]
        return tensors | {"lm_head.bias": bias * 0, "lm_head.decoder.bias": bias.astype(dtype)}

    assert_same(logits(checkpoint("masked_lm", tensors=both)), logits(checkpoint("masked_lm")))


def test_without_either_name_the_bias_is_missing(checkpoint):
    told = complaint(checkpoint("masked_lm", tensors=without("lm_head.bias")))
    assert told.endswith("missing (1): lm_head.bias (29,)")


def test_a_tied_decoder_may_stand_in_the_file_and_is_not_read(checkpoint):
    other = numpy.zeros((29, 12), "f4")
    folder = checkpoint("masked_lm", tensors=along_with(**{DECODER: other}))
    assert_same(logits(folder), logits(checkpoint("masked_lm")))


@pytest.mark.parametrize("name", [DECODER, "lm_head.weight"])
def test_an_untied_decoder_is_read_under_either_name(checkpoint, name):
    folder = checkpoint("masked_lm_untied", tensors=renamed(DECODER, name))
    expected = logits(checkpoint("masked_lm_untied"))
    assert_same(logits(folder), expected)
    tied = checkpoint("masked_lm_untied", config={"tie_word_embeddings": True})
    assert not numpy.array_equal(logits(tied), expected)


def test_an_untied_decoder_must_be_there(checkpoint):
    told = complaint(checkpoint("masked_lm_untied", tensors=without(DECODER)))
    assert told.endswith(f"missing (1): {DECODER} (29, 12)")


def test_tied_tensors_are_one_array(checkpoint):
    weights = load(checkpoint("masked_lm"), dtype="float64").weights
    assert weights[WORDS] is weights[DECODER]


def test_untied_tensors_are_two(checkpoint):
    weights = load(checkpoint("masked_lm_untied"), dtype="float64").weights
    assert not numpy.array_equal(weights[WORDS], weights[DECODER])


# --- the pooler, and the encoder out of a checkpoint with a head ----------------------------------

POOLER = {
    "roberta.pooler.dense.weight": numpy.eye(12, dtype="f4"),
    "roberta.pooler.dense.bias": numpy.zeros(12, "f4"),
}


def test_a_pooler_in_a_masked_lm_file_is_not_read(checkpoint):
    folder = checkpoint("masked_lm", tensors=along_with(**POOLER))
    assert_same(logits(folder), logits(checkpoint("masked_lm")))
    assert "pooler" not in load(folder).weights["roberta"]


def test_the_encoder_out_of_a_checkpoint_with_a_head(checkpoint, model):
    of_head = model("masked_lm")(input_ids=IDS, output_hidden_states=True)
    encoder = load(checkpoint("masked_lm"), BASE, dtype="float64", kernels="plain")
    outputs = encoder(input_ids=IDS, output_hidden_states=True)
    assert_same(outputs.last_hidden_state, of_head.hidden_states[-1])
    assert outputs.pooler_output is None


def test_the_encoder_and_its_pooler_out_of_a_checkpoint_with_a_head(checkpoint):
    folder = checkpoint("masked_lm", tensors=along_with(**POOLER))
    outputs = load(folder, BASE, dtype="float64", kernels="plain")(input_ids=IDS)
    assert outputs.pooler_output.shape == (1, 12)
    assert_same(hidden(folder, architecture=BASE), outputs.last_hidden_state)


def test_an_encoder_saved_without_a_pooler(checkpoint, model):
    folder = checkpoint("model", tensors=without("pooler.dense.weight", "pooler.dense.bias"))
    outputs = load(folder, dtype="float64", kernels="plain")(input_ids=IDS)
    assert outputs.pooler_output is None
    assert_same(outputs.last_hidden_state, model("model")(input_ids=IDS).last_hidden_state)


@pytest.mark.parametrize(
    ("case", "half"), [("model", "pooler.dense.bias"), ("multiple_choice", "roberta.pooler")]
)
def test_half_a_pooler_is_an_error(checkpoint, case, half):
    def drop(tensors):
        return {n: x for n, x in tensors.items() if not n.startswith(half) or "weight" in n}

    assert "missing (1): " in complaint(checkpoint(case, tensors=drop))


def test_multiple_choice_needs_its_pooler(checkpoint):
    folder = checkpoint("multiple_choice", tensors=without(*POOLER))
    expected = "missing (2): roberta.pooler.dense.weight (12, 12), roberta.pooler.dense.bias (12,)"
    assert complaint(folder).endswith(expected)
