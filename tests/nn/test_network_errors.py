"""What networks say to wrong arguments; they stay as they were."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from hotloops import nn
from tests.nn.networks import (
    X,
    Y,
    everything,
    sparse_counts,
    two_outputs,
)


def _backward(gradient: Any) -> Callable[[], Any]:
    def run() -> None:
        network = two_outputs()
        network(X, Y)
        network.backward(gradient)

    return run


def _load(state: Any, **options: Any) -> Callable[[], Any]:
    return lambda: nn.MLP([2, 3, 1]).load_state_dict(state, **options)


STATE = nn.MLP([2, 3, 1]).state_dict()
READ_ONLY = np.empty((5, 1), np.float32)
READ_ONLY.flags.writeable = False
COUNTS = nn.Network(
    (lambda b: b.finish([b.sparse_dense(0, columns=3, width=2, transform="log1p")]))(
        nn.ProgramBuilder()
    )
)

ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: nn.Network("program"),  # type: ignore[arg-type]
        TypeError,
        "Network: `program` must be what `ProgramBuilder.finish` returned, got 'program'",
    ),
    (
        lambda: nn.MLP([2, 1], dtype="float16"),
        TypeError,
        "MLP: `dtype` must be float32 or float64, got float16",
    ),
    (lambda: nn.MLP([2, 1], seed=-1), ValueError, "MLP: `seed` must be an integer in [0, "),
    (lambda: nn.MLP(3), TypeError, "MLP: `widths` must be a sequence of integers, got 3"),
    (lambda: nn.MLP([3]), ValueError, "MLP: `widths` must have at least two elements, got 1"),
    (lambda: nn.MLP([3, 0]), ValueError, "MLP: `widths[1]` must be an integer >= 1, got 0"),
    (lambda: nn.MLP([3, 1], "relu6"), ValueError, "MLP: `activation` must be one of 'identity'"),
    (
        lambda: nn.MLP([3, 1], norm="group"),
        ValueError,
        "MLP: `norm` must be one of 'batch', 'layer', got 'group'",
    ),
    (
        lambda: nn.MLP([3, 1], dropout=1.0),
        ValueError,
        "MLP: `dropout` must be a number in [0, 1), got 1.0",
    ),
    (
        lambda: nn.ResidualMLP(3, 0, 1),
        ValueError,
        "ResidualMLP: `hidden` must be an integer >= 1, got 0",
    ),
    (
        lambda: nn.ResidualMLP(3, 4, 1, num_blocks=-1),
        ValueError,
        "ResidualMLP: `num_blocks` must be an integer >= 0, got -1",
    ),
    (
        lambda: nn.Embedding(0, 3),
        ValueError,
        "Embedding: `num_rows` must be an integer >= 1, got 0",
    ),
    (lambda: nn.TimeEmbedding(7), ValueError, "TimeEmbedding: `width` must be even, got 7"),
    (
        lambda: nn.TimeEmbedding(8, scale=np.inf),
        ValueError,
        "TimeEmbedding: `scale` must be a finite number, got inf",
    ),
    (
        lambda: two_outputs()(X),
        TypeError,
        "Network.forward: `inputs` must be 2 dense arrays, got 1 arrays",
    ),
    (
        lambda: everything()(X),
        TypeError,
        "`inputs` must be 2 dense arrays and 1 CSR array and 1 index array, got 1 arrays",
    ),
    (
        lambda: two_outputs()(X, None),
        TypeError,
        "Network.forward: `inputs[1]` must be an array of real numbers, got None",
    ),
    (
        lambda: two_outputs()(X[:, :2], Y),
        ValueError,
        "Network.forward: `inputs[0]` must have shape (rows, 3), got (5, 2)",
    ),
    (
        lambda: two_outputs()(X, Y[:4]),
        ValueError,
        "`inputs[1]` must have shape (rows, 2) with rows = 5 as in `inputs[0]`, got (4, 2)",
    ),
    (
        lambda: two_outputs()(X[:0], Y[:0]),
        ValueError,
        "Network.forward: `inputs[0]` must not be empty, got shape (0, 3)",
    ),
    (
        lambda: two_outputs()(X / 0.0, Y),
        ValueError,
        "Network.forward: `inputs[0]` must be finite in float32, got -inf at index (0, 0)",
    ),
    (
        lambda: nn.Embedding(4, 2)([0, 4]),
        ValueError,
        "Embedding.forward: `inputs[0]` must hold integers in [-1, 3], got 4 at index (1,)",
    ),
    (
        lambda: nn.Embedding(4, 2)([0.0, 1.0]),
        TypeError,
        "Embedding.forward: `inputs[0]` must be an array of integers, got dtype float64",
    ),
    (
        lambda: COUNTS(sparse_counts(3, 4)),
        ValueError,
        "Network.forward: `inputs[0]` must have shape (3, 3), got (3, 4)",
    ),
    (
        lambda: COUNTS(scipy.sparse.csr_array(-np.ones((2, 3)))),
        ValueError,
        "Network.forward: `inputs[0].data` must not be negative, got -1.0 at index (0,)",
    ),
    (
        lambda: nn.MLP([3, 2, 1], norm="batch")(X[:1], training=True),
        ValueError,
        "`inputs` must have at least two rows where a batch norm is trained, got 1",
    ),
    (
        lambda: nn.MLP([3, 1])(X, training=1),
        TypeError,
        "MLP.forward: `training` must be True or False, got 1",
    ),
    (
        lambda: nn.MLP([3, 1])(X, step=-1),
        ValueError,
        "MLP.forward: `step` must be an integer in [0, ",
    ),
    (
        lambda: nn.MLP([3, 1])(X, out=[[0.0]] * 5),
        TypeError,
        "MLP.forward: `out` must be an array, got a list of length 5",
    ),
    (
        lambda: nn.MLP([3, 1])(X, out=np.empty((5, 1))),
        TypeError,
        "MLP.forward: `out` must have dtype float32, got float64",
    ),
    (
        lambda: nn.MLP([3, 1])(X, out=READ_ONLY),
        ValueError,
        "MLP.forward: `out` must be writable, got a read-only array",
    ),
    (
        lambda: (lambda x: nn.MLP([3, 3])(x, out=x))(X.astype("f")),
        ValueError,
        "MLP.forward: `out` must not overlap `inputs[0]` in memory",
    ),
    (
        lambda: two_outputs()(X, Y, out=np.empty((5, 2), np.float32)),
        TypeError,
        "Network.forward: `out` must be 2 arrays, got a",
    ),
    (
        lambda: nn.MLP([3, 1])(X, backend="cuda"),
        TypeError,
        "MLP.forward: `backend` must be 'cpp' or 'numba' for arrays in host memory, got 'cuda'",
    ),
    (
        lambda: nn.MLP([3, 1]).predict(X, block_size=0),
        ValueError,
        "MLP.predict: `block_size` must be an integer >= 1, got 0",
    ),
    (
        lambda: nn.MLP([3, 1]).backward(np.ones((5, 1))),
        ValueError,
        "MLP.backward: `forward` must come before",
    ),
    (
        _backward(np.ones((5, 2))),
        TypeError,
        "Network.backward: `gradient` must be 2 arrays, got a",
    ),
    (
        _backward((np.ones((5, 2)), np.ones((4, 3)))),
        ValueError,
        "Network.backward: `gradient[1]` must have shape (5, 3), got (4, 3)",
    ),
    (
        _load(3),
        TypeError,
        "MLP.load_state_dict: `state` must be a dictionary of arrays, a module of torch, or a path",
    ),
    (_load({1: 2}), TypeError, "MLP.load_state_dict: `state` must have names as keys, got 1"),
    (
        _load("state.pt"),
        ValueError,
        "`state` must be the path of a .safetensors or .npz file, got 'state.pt'",
    ),
    (
        _load({}),
        ValueError,
        "`state` must hold '0.weight', '0.bias', '2.weight', '2.bias', got nothing for '0.weight'",
    ),
    (
        _load({**STATE, "3.bias": np.ones(2)}),
        ValueError,
        "`state` must hold nothing but the network's parameters, got '3.bias' too",
    ),
    (
        _load({"a": np.ones(2)}, strict=False),
        ValueError,
        "`state` must hold some of '0.weight', '0.bias', '2.weight', '2.bias', got 'a'",
    ),
    (
        _load({**STATE, "2.weight": np.ones((3, 1))}),
        ValueError,
        "MLP.load_state_dict: `2.weight` must have shape (1, 3), got (3, 1)",
    ),
    (
        _load({**STATE, "2.bias": [np.nan]}),
        ValueError,
        "MLP.load_state_dict: `2.bias` must be finite in float32, got nan at index (0,)",
    ),
    (_load(STATE, prefix=2), TypeError, "MLP.load_state_dict: `prefix` must be a word, got 2"),
    (
        _load(STATE, strict=0),
        TypeError,
        "MLP.load_state_dict: `strict` must be True or False, got 0",
    ),
]


@pytest.mark.parametrize(
    ("call", "kind", "message"), ERRORS, ids=[f"{i:02d}" for i in range(len(ERRORS))]
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    network = nn.MLP([2, 3, 1])
    before = network.flat_parameters.copy()
    wrong = {name: value + 1 for name, value in STATE.items()}
    wrong["2.bias"] = np.ones(2, np.float32)
    with pytest.raises(ValueError, match=re.escape("2.bias")):
        network.load_state_dict(wrong)
    np.testing.assert_array_equal(network.flat_parameters, before)
