"""Suggestions for names that no map knows: the words of other people's names mean ours."""

import pytest

from refimpl.parity.goldens import bundled, read_golden
from refimpl.parity.names.suggestions import nearest

LAYER = "roberta.encoder.layer.1."
TAPS = list(read_golden(bundled() / "xlm_roberta" / "masked_lm").description["taps"])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("blk.1.attn_q", LAYER + "attention.self.query"),
        ("layers.1.attention.wk", LAYER + "attention.self.key"),
        ("h.1.attn.v_proj", LAYER + "attention.self.value"),
        ("tok_emb", "roberta.embeddings.word_embeddings"),
        ("layer1.mlp.fc1", LAYER + "intermediate.dense"),
        ("blocks.1.attn.softmax", LAYER + "attention.self.probs"),
        ("pos_embed", "roberta.embeddings.position_embeddings"),
    ],
)
def test_what_a_name_means_is_the_first_suggestion(theirs, ours):
    assert nearest(theirs, TAPS)[0] == ours


def test_nothing_is_suggested_for_what_is_like_nothing():
    assert nearest("zzz", TAPS) == ()
    assert nearest("", TAPS) == ()
