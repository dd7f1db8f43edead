"""docs/names.md says what the maps say."""

import re
from pathlib import Path

from refimpl.parity.goldens import bundled, read_golden
from refimpl.parity.names import LAYOUTS, SOURCES, foreign_names

PAGE = (Path(__file__).parents[3] / "docs" / "names.md").read_text(encoding="utf-8")
CASES = (
    "xlm_roberta/masked_lm",
    "xlm_roberta/classification",
    "xlm_roberta_xl/masked_lm",
    "xmod/masked_lm",
    "xmod/adapter_layer_norm",
)
SHORT = {
    "transformers": "roberta.",
    "fairseq": "encoder.sentence_encoder.",
    "transformer_lens": "",
    "onnx": "/roberta/",
}


def short(name, prefix):
    """A name as the page shows it: without what stands above its table, and for any layer."""
    name = re.sub(r"\b(layers?|blocks|attentions|ffns|layer_norm[12])([./])0\b", r"\1\2i", name)
    return re.sub(r"\b(layer)\.0", r"\1.i", name).removeprefix(prefix)


def rows(cases, sources, base):
    """The rows of a table: a tap, and what each source calls it."""
    found = {}
    for case in cases:
        taps = [t for t in read_golden(bundled() / case).description["taps"] if ".1." not in t]
        theirs = {source: foreign_names(taps, source) for source in sources}
        for tap in taps:
            if "de_DE" not in tap and not tap.endswith("layer_norm1.1"):
                names = [short(theirs[s].get(tap, ""), p) for s, p in sources.items()]
                found.setdefault(short(tap, base), [f"`{n}`" if n else "–" for n in names])
    return [f"| `{tap}` | {' | '.join(names)} |" for tap, names in found.items()]


def test_the_table_of_the_robertas_is_that_of_the_maps():
    for row in rows(CASES, SHORT, "roberta."):
        assert row in PAGE, row


def test_the_table_of_xlm_is_that_of_the_maps():
    for row in rows(["xlm/lm"], {"transformers": "transformer.", "xlm": ""}, "transformer."):
        assert row in PAGE, row


def test_sources_and_layouts_are_told():
    for name in (*SOURCES, *(n for n in LAYOUTS if not n.startswith("part"))):
        assert f"`{name}`" in PAGE, name
