"""The pickle machine: what picklers write comes out, and nothing in a pickle ever runs."""

import argparse
import collections
import enum
import pickle
import pickletools
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.checkpoints.pytorch import pickled as values
from refimpl.checkpoints.pytorch import unpickler
from refimpl.checkpoints.pytorch.pickled import Global, Record, describe
from refimpl.checkpoints.pytorch.unpickler import Vocabulary, unpickle
from refimpl.errors import CheckpointError
from tests.checkpoints.torch_bytes import Opcodes, call, name, pickled, value

WORDS = Vocabulary(
    functions={"ours.join": lambda args: "+".join(map(str, args))},
    constants=("ours.constant",),
    records=("argparse.Namespace", "ours.Colour"),
    persistent=lambda args: ("stands for", args),
)


def read(program, words=WORDS):
    made, end, _ = unpickle(memoryview(program), 0, words)
    assert end == len(program)
    return made


def refuse(program, match, words=WORDS):
    with pytest.raises(CheckpointError, match=match) as caught:
        unpickle(memoryview(program), 0, words)
    assert str(caught.value).startswith("pickle, byte ")
    assert len(str(caught.value)) < 400


# --- values ---------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**127), 2**127 - 1), st.floats(allow_nan=False),
    st.text(), st.binary(),
)  # fmt: skip
keys = st.one_of(
    st.none(), st.booleans(), st.integers(1 - 2**60, 2**60 - 1), st.text(), st.binary(),
    st.tuples(st.text(), st.none()),
)  # fmt: skip
trees = st.recursive(
    scalars | st.sets(keys),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner),
    max_leaves=20,
)


def same(made, tree):
    """Equal, and of the same types: True is no 1, and a list no tuple."""
    if type(made) is not type(tree) or made != tree:
        return False
    if isinstance(tree, dict):
        return same([*made.items()], [*tree.items()])
    return not isinstance(tree, list | tuple) or all(map(same, made, tree))


@given(tree=trees, protocol=st.integers(2, 5))
def test_what_a_pickler_writes_comes_out(tree, protocol):
    made = read(pickle.dumps(tree, protocol))
    assert same(made, tree)


@given(tree=trees, protocol=st.integers(2, 5))
def test_also_when_the_pickler_is_pythons(tree, protocol):
    assert same(read(pickle._dumps(tree, protocol)), tree)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_the_same_object_twice_is_one(protocol):
    shared = ["x"]
    a, b = read(pickle.dumps([shared, {"y": shared}], protocol))
    assert a is b["y"]


@pytest.mark.parametrize("protocol", range(2, 6))
def test_values_in_a_circle(protocol):
    ring = []
    ring.append((ring, {"ring": ring}))
    made = read(pickle.dumps(ring, protocol))
    assert made[0][0] is made
    assert made[0][1]["ring"] is made


@pytest.mark.parametrize("protocol", range(2, 6))
def test_an_ordered_dict_is_a_dict_without_its_attributes(protocol):
    state = collections.OrderedDict(b=1, a=2)
    state._metadata = {"": {"version": 1}}
    made = read(pickle.dumps(state, protocol))
    assert type(made) is dict
    assert list(made.items()) == [("b", 1), ("a", 2)]


def test_an_ordered_dict_of_python_2():
    pairs = Opcodes(value([["b", 1], ["a", [2]]]))
    made = read(pickled(call(name("collections", "OrderedDict"), pairs)))
    assert list(made.items()) == [("b", 1), ("a", [2])]


def test_a_default_dict_is_a_dict():
    factory = name("ours", "constant")
    made = call(name("collections", "defaultdict"), factory) + b"(X\1\0\0\0aK\1u"
    assert read(pickled(Opcodes(made))) == {"a": 1}


def test_strings_of_python_2():
    assert read(b"\x80\x02U\x03abcT\x03\0\0\0\xc3\xa4c\x86.") == ("abc", "äc")


def test_a_part_of_a_file_is_read_and_its_end_told():
    program = b"before" + pickle.dumps([1]) + b"after"
    assert unpickle(memoryview(program), 6, WORDS)[:2] == ([1], len(program) - 5)


# --- names ----------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 3


@pytest.mark.parametrize("protocol", range(2, 6))
def test_an_object_becomes_a_record(protocol):
    made = read(pickle.dumps(argparse.Namespace(layers=3, names=["a"]), protocol))
    assert made == Record("argparse.Namespace", (), {"layers": 3, "names": ["a"]})
    assert not isinstance(made, argparse.Namespace)


def test_a_record_of_what_it_would_be_called_with():
    made = read(pickled([call(name("ours", "Colour"), 3), name("ours", "Colour")]))
    assert made == [Record("ours.Colour", (3,), None), Global("ours.Colour")]


def test_a_function_of_the_vocabulary_is_called_with_the_files_arguments():
    assert read(pickled(call(name("ours", "join"), 1, "x"))) == "1+x"


def test_an_id_that_leads_out_of_the_pickle():
    assert read(b"\x80\x02K\x07Q.") == ("stands for", 7)


def test_a_constant_stays_a_name():
    assert read(pickled({"dtype": name("ours", "constant")})) == {"dtype": Global("ours.constant")}


def test_a_constant_cannot_be_called():
    refuse(pickled(call(name("ours", "constant"))), "ours.constant: expected a function")


FORBIDDEN = [
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("builtins", "eval"),
    ("builtins", "exec"), ("builtins", "getattr"), ("__builtin__", "eval"), ("builtins", "open"),
    ("subprocess", "Popen"), ("importlib", "import_module"), ("torch", "load"),
    ("torch._utils", "_rebuild_tensor_v2"), ("ours", "join.__globals__"), ("ours.join", "__call__"),
    ("", ""), ("ours", ""), ("OURS", "join"), ("ours", "join "),
]  # fmt: skip


@pytest.mark.parametrize(("module", "attribute"), FORBIDDEN)
def test_any_other_name_is_refused_by_its_name(module, attribute):
    full = f"{module.replace('__builtin__', 'builtins')}.{attribute}"
    program = pickled(call(name(module, attribute), "touch x"))
    refuse(program, f"byte 2: refused {full!r}")
    stacked = Opcodes(value(module) + value(attribute) + b"\x93")
    refuse(pickled(call(stacked, "touch x"), 4), f"refused {full!r}")


@pytest.mark.parametrize("module", [3, None, ["os"], b"os"])
def test_a_stacked_name_is_of_strings(module):
    program = b"\x80\x04" + pickle.dumps(module, 4)[2:-1] + b"\x8c\x06system\x93."
    refuse(program, "expected the name of a module and of a class")


def test_a_long_name_is_not_repeated():
    refuse(pickled(name("a" * 300, "b" * 300)), "refused 'aaa")
    refuse(pickled(name("a" * 900, "b" * 900)), "expected the name|up to 1000")


@pytest.mark.parametrize("function", [b"N", b"K\x03", b"}", b"]", b"X\x03\0\0\0abc", b")"])
def test_only_names_are_called(function):
    refuse(b"\x80\x02" + function + b")R.", "expected a name and a tuple, got")


@pytest.mark.parametrize("args", [b"N", b"]", b"}", b"K\x03"])
def test_only_with_a_tuple(args):
    refuse(b"\x80\x02cours\njoin\n" + args + b"R.", "expected a name and a tuple, got ours.join")


@pytest.mark.parametrize(
    ("target", "state"), [(b"]", b"}"), (b"N", b"}"), (b"}", b"N"), (b"cours\njoin\n", b"}")]
)
def test_only_records_and_dictionaries_have_a_state(target, state):
    refuse(b"\x80\x02" + target + state + b"b.", "has no state")


# --- opcodes --------------------------------------------------------------------------------------

ALLOWED = {
    "PROTO", "FRAME", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT",
    "LONG1", "LONG4", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_LIST", "EMPTY_DICT",
    "EMPTY_TUPLE", "EMPTY_SET", "MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS",
    "SETITEM", "SETITEMS", "ADDITEMS", "POP", "POP_MARK", "DUP", "BINPUT", "LONG_BINPUT", "MEMOIZE",
    "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID",
    "STOP",
}  # fmt: skip


@pytest.mark.parametrize(
    "opcode", [op for op in pickletools.opcodes if op.name not in ALLOWED], ids=lambda op: op.name
)
def test_every_other_opcode_is_refused_by_its_name(opcode):
    refuse(b"\x80\x02" + opcode.code.encode("latin1") + b"1\nx\n.", f"{opcode.name} is not allowed")


def test_bytes_that_are_no_opcode():
    refuse(b"\x80\x02\xff.", "0xff is not allowed")


@pytest.mark.parametrize(
    ("program", "match"),
    [
        (b"", "expected a pickle"),
        (b"(dp0\n.", "expected a pickle of protocol 2 to 5"),
        (b"\x80\x01N.", "got 1"),
        (b"\x80\x06N.", "got 6"),
        (b"\x80", "cut short"),
        (b"\x80\x02", "cut short"),
        (b"\x80\x02.", "expected a value on the stack"),
        (b"\x80\x02NN.", "found more on the stack"),
        (b"\x80\x02(N.", "found more on the stack"),
        (b"\x80\x02t.", "expected a mark"),
        (b"\x80\x02e.", "expected a mark"),
        (b"\x80\x02u.", "expected a mark"),
        (b"\x80\x02\x90.", "expected a mark"),
        (b"\x80\x02N(.", "expected a value on the stack"),
        (b"\x80\x02N\x86.", "expected 2 values"),
        (b"\x80\x02NN\x87.", "expected 3 values"),
        (b"\x80\x02\x85.", "expected 1 values"),
        (b"\x80\x020.", "expected a value"),
        (b"\x80\x022.", "expected a value"),
        (b"\x80\x02NNa.", "expected a list to fill, got None"),
        (b"\x80\x02)Na.", "expected a list to fill, got a tuple"),
        (b"\x80\x02](NNu.", "expected a dict to fill, got a list"),
        (b"\x80\x02]NNs.", "expected a dict to fill, got a list"),
        (b"\x80\x02}(NNNu.", "expected a value for every key"),
        (b"\x80\x02}(N\x90.", "expected a set to fill"),
        (b"\x80\x02h\x05.", "place 5 of the memo"),
        (b"\x80\x02j\xff\xff\xff\xff.", "place 4294967295 of the memo"),
        (b"\x80\x02q\x05.", "expected a value on the stack"),
        (b"\x80\x02R.", "expected a value on the stack"),
        (b"\x80\x02b.", "expected a value on the stack"),
        (b"\x80\x02Q.", "expected a value on the stack"),
        (b"\x80\x02X\x01\0\0\0\xff.", "UTF-8"),
        (b"\x80\x02X\x03\0\0\0\xed\xa0\x80.", "UTF-8"),  # half of a surrogate pair
        (b"\x80\x02cos\xff\nsystem\n)R.", "UTF-8"),
        (b"\x80\x02cos", "expected the name"),
        (b"\x80\x02cos\nsystem", "expected the name"),
        (b"\x80\x02cos" + b"x" * 5000 + b"\nsystem\n.", "expected the name"),
        (b"\x80\x02ccollections\nOrderedDict\nN\x85R.", "OrderedDict: expected nothing"),
        (b"\x80\x02ccollections\nOrderedDict\n))\x86R.", "OrderedDict: expected nothing"),
        (b"\x80\x02ccollections\nOrderedDict\n](N\x85e\x85R.", "OrderedDict: expected a pair"),
        (b"\x80\x02ccollections\ndefaultdict\nNN\x86R.", "defaultdict: expected a factory"),
        (b"\x80\x02cbuiltins\nset\n)R.", "set: expected a list"),
        (b"\x80\x02cbuiltins\nset\n)\x85R.", "set: expected a list"),
        (b"\x80\x02c_codecs\nencode\nNN\x86R.", "encode: expected a string"),
        (b"\x80\x02c_codecs\nencode\nX\1\0\0\0aX\4\0\0\0zlib\x86R.", "encode: expected a string"),
        (b"\x80\x02c_codecs\nencode\nX\3\0\0\0\xe2\x82\xacX\6\0\0\0latin1\x86R.", "of latin1"),
    ],
)  # fmt: skip
def test_programs_that_cannot_run(program, match):
    refuse(program, match)


@given(tree=trees, cut=st.floats(0, 1, exclude_max=True))
def test_cut_anywhere(tree, cut):
    program = pickle.dumps(tree, 4)
    refuse(program[: int(cut * len(program))], "cut short|expected a pickle|a frame|the name")


# --- lengths that lie, and bombs ------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("opcode", [b"X", b"T", b"B"])
def test_lengths_that_lie(opcode, length):
    refuse(b"\x80\x02" + opcode + struct.pack("<I", length), "cut short: expected .* found 0")


@pytest.mark.parametrize("length", [2, 2**31, 2**60, 2**63, 2**64 - 1])
@pytest.mark.parametrize("opcode", [b"\x8d", b"\x8e", b"\x95"])
def test_long_lengths_that_lie(opcode, length):
    refuse(b"\x80\x04" + opcode + struct.pack("<Q", length), "cut short")


@pytest.mark.parametrize("length", [-1, -(2**31), 17, 2**31 - 1])
def test_ints_of_a_length_that_no_file_needs(length):
    refuse(b"\x80\x02\x8b" + struct.pack("<i", length) + bytes(40) + b".", "an int of up to 16")


def test_a_long_int():
    refuse(b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".", "an int of up to 16 bytes, got 255")


def in_place(program, times):
    """A program that leaves a thing in the memo, and then ``times`` times more of it."""
    start, again = program
    return memoryview(b"\x80\x04" + start + again * times + b".")


BOMBS = {
    "lists": (b"", b"]"),
    "dictionaries": (b"", b"}"),
    "sets": (b"", b"\x8f"),
    "marks": (b"", b"("),
    "deep lists": (b"", b"]q\x01"),
    "deep tuples": (b")", b"\x85"),
    "references": (b"]q\x01", b"h\x01"),
    "memo": (b"N", b"\x94"),
    "records": (b"cours\nColour\nq\x01", b"h\x01)R"),
    "functions": (b"cours\njoin\nq\x01", b"h\x01)R"),
    "ids": (b"", b"NQ"),
    "containers": (b"ccollections\nOrderedDict\nq\x01", b"h\x01)R"),
    "encoded": (
        b"c_codecs\nencode\nq\x01X" + struct.pack("<I", 10**5) + b"a" * 10**5
        + b"X\x06\0\0\0latin1\x86q\x02",
        b"h\x01h\x02R",
    ),
    "sets of a list": (
        b"cbuiltins\nset\nq\x01](" + b"".join(b"M" + struct.pack("<H", i) for i in range(999))
        + b"e\x85q\x02",
        b"h\x01h\x02R",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_pickle_that_asks_for_all_memory(monkeypatch, bomb):
    monkeypatch.setattr(unpickler, "LIMIT", 2**22)
    program = in_place(BOMBS[bomb], 2**22 // values.STEP)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="asks for more than 4 MB of objects"):
        unpickle(program, 0, WORDS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * 2**22  # what is charged is what is taken, or more


def test_deep_nesting_is_no_recursion():
    deep = unpickle(in_place((b"N", b"\x85"), 200_000), 0, WORDS).value
    for _ in range(200_000):
        (deep,) = deep
    assert deep is None
    nested = in_place((b"cours\nColour\nq\x01N", b"h\x01)R2}X\1\0\0\0a"), 1)
    refuse(bytes(nested), "found more on the stack")


def test_a_deep_chain_of_records_is_let_go():
    link = b"q\x020h\x01)Rh\x02b"  # a record whose state is the one before
    made = unpickle(in_place((b"cours\nColour\nq\x01" + b"0N", link), 100_000), 0, WORDS).value
    assert made.name == "ours.Colour"
    del made


@pytest.mark.parametrize("key", [
    b"]", b"}", b"\x8f", b"G" + bytes(8), b"(K\x01t", b"(" + b"N" * 10 + b"t", b")\x85",
    b"\x8a\x09" + bytes(8) + b"\x01", b"\x8a\x08" + bytes(7) + b"\x10", b"cours\nconstant\n",
])  # fmt: skip
def test_keys_that_are_slow_or_not_to_be_looked_up(key):
    refuse(b"\x80\x04}" + key + b"Ns.", "key: expected a string, an int of 60 bits")
    refuse(b"\x80\x04\x8f(" + key + b"\x90.", "key: expected")
    refuse(b"\x80\x04cbuiltins\nset\n](" + key + b"e\x85R.", "key: expected")


def test_what_is_charged_is_told():
    small = unpickle(memoryview(pickle.dumps(["x"])), 0, WORDS).charged
    large = unpickle(memoryview(pickle.dumps(["x" * 1000])), 0, WORDS).charged
    assert 0 < small < 1000
    assert large == small + 999 * values.CHARACTER


# --- words on values ------------------------------------------------------------------------------


def test_describe_is_short_whatever_the_value_is():
    endless = []
    endless.append(endless)
    twice = "x"
    for _ in range(100):
        twice = [twice, twice]
    for one in (endless, twice, {"a": endless}, (twice,), "y" * 10**6, b"z" * 10**6):
        assert len(describe(one)) < 60
