"""Dumps drawn by hypothesis: any names, dtypes and shapes; and their comparison bit for bit."""

import numpy
from hypothesis import strategies as st

from refimpl.parity.dumps import Dump

DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", "bfloat16")
names = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("./\\#:~ \x00'"), max_size=24
) | st.sampled_from(
    ["input_ids", "logits", "con", "CON", "..", "tap.x", "a" * 300, "0001", "x.json"]
)
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
bits = st.binary(max_size=40)


@st.composite
def arrays(draw):
    """An array of any bits, and whether it is of bfloat16 numbers."""
    dtype, shape, content = draw(st.sampled_from(DTYPES)), draw(shapes), draw(bits)
    form = numpy.dtype({"bfloat16": "u2"}.get(dtype, dtype))
    count = int(numpy.prod(shape, dtype=int))
    size = count * form.itemsize
    raw = (content * (size // max(len(content), 1) + 1) + bytes(size))[:size]
    if dtype == "?":
        raw = bytes(byte & 1 for byte in raw)
    array = numpy.frombuffer(raw, form, count).reshape(shape)
    if dtype == "bfloat16":
        array = (array.astype("u4") << 16).reshape(shape).view("f4")
    return array, dtype == "bfloat16"


@st.composite
def dumps(draw):
    """A dump of any content."""
    parts = [draw(st.dictionaries(names, arrays(), max_size=4)) for _ in range(3)]
    narrow = [
        f"{kind}.{name}"
        for kind, part in zip(("input", "tap", "output"), parts, strict=True)
        for name, (_, is_narrow) in part.items()
        if is_narrow
    ]
    inputs, taps, outputs = ({name: x for name, (x, _) in part.items()} for part in parts)
    about = {"made_by": draw(names), "flags": {"output_attentions": True}}
    return Dump(taps, outputs, inputs, about | ({"bfloat16": narrow} if narrow else {}))


def assert_equal(actual, expected):
    """Two dumps hold the same bits under the same names in the same order."""
    assert actual.about == expected.about
    for part in ("inputs", "taps", "outputs"):
        found, wanted = getattr(actual, part), getattr(expected, part)
        assert list(found) == list(wanted)
        for name, x in wanted.items():
            assert (found[name].dtype, found[name].shape) == (x.dtype, x.shape), name
            assert found[name].tobytes() == x.tobytes(), name
