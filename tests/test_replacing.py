"""Another function under an operation's name: wherever it is called, and only inside the block."""

import inspect
from contextlib import suppress

import numpy
import pytest

from refimpl import ops
from refimpl.replacing import operation, plain, replace
from tests.compare import assert_same

X = numpy.asarray([[-1.0, 0.5, 2.0], [3.0, 0.0, -2.0]])


def test_every_operation_can_be_replaced():
    for name in ops.__all__:
        if inspect.isfunction(getattr(ops, name)):
            with replace(**{name: lambda *arguments, **options: "replaced"}):
                assert getattr(ops, name)() == "replaced"


def test_a_replacement_runs_inside_the_block_only():
    before = ops.gelu_erf(X)
    with replace(gelu_erf=ops.relu):
        assert_same(ops.gelu_erf(X), numpy.maximum(X, 0))
        assert_same(ops.ACTIVATIONS["gelu"](X), numpy.maximum(X, 0))
    assert_same(ops.gelu_erf(X), before)


def test_an_operation_inside_another_is_replaced_too():
    def twice(x):
        return 2 * plain("softmax")(x)

    arguments = (X[None, None], X[None, None], X[None, None])
    options = {"mask": numpy.ones((1, 1, 2, 2), bool), "scale": 1.0}
    before = ops.scaled_dot_product_attention(*arguments, **options)
    with replace(softmax=twice):
        after = ops.scaled_dot_product_attention(*arguments, **options)
    assert_same(after.probs, 2 * before.probs)


def test_blocks_add_up_and_the_innermost_wins():
    with replace(relu=abs, silu=abs):
        with replace(relu=ops.tanh):
            assert_same(ops.relu(X), numpy.tanh(X))
            assert_same(ops.silu(X), abs(X))
        assert_same(ops.relu(X), abs(X))


def test_nothing_is_replaced_after_an_error():
    with suppress(RuntimeError), replace(relu=abs):
        raise RuntimeError
    assert_same(ops.relu(X), numpy.maximum(X, 0))


@pytest.mark.parametrize("name", ["attention", "Attention", "ACTIVATIONS", ""])
def test_a_name_that_no_operation_has(name):
    with pytest.raises(ValueError, match=f"^expected the name of an operation, got '{name}'$"):
        plain(name)
    with pytest.raises(ValueError, match=r"^expected the name of an operation"):
        replace(**{name: abs}).__enter__()


def test_an_operation_is_still_the_function_it_was():
    assert operation(abs).__doc__ == abs.__doc__
    assert str(inspect.signature(ops.layer_norm)) == str(inspect.signature(plain("layer_norm")))
