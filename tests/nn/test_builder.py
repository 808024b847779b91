"""What the builder writes, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hotloops import nn
from hotloops.nn import ProgramBuilder


def test_fields_of_an_instruction() -> None:
    """In the order of ``NnInstruction`` in csrc/nn/program.hpp."""
    b = ProgramBuilder()
    x = b.input(5)
    h = b.dense(x[1:4], 7, activation="silu", name="a")
    y = b.dense(h, 2, addend=x[3:], bias=False, name="b")
    program = b.finish([y])
    nothing = [-1, 0, 0]
    first = [0, 0, 1, 3, 1, 0, 7, *nothing, 2, 0, 7, 0, 21, 3, -1]
    second = [0, 1, 0, 7, 3, 0, 2, 0, 3, 2, *nothing, 28, -1, 0, -1]
    np.testing.assert_array_equal(program.instructions, [first, second])
    np.testing.assert_array_equal(program.widths, [5, 7, 7, 2])
    assert program.instructions.dtype == np.int64
    assert (program.num_inputs, program.num_parameters, program.num_buffers) == (1, 42, 0)
    assert program.outputs == (nn.Operand(3, 0, 2),)


def test_constants_and_buffers() -> None:
    b = ProgramBuilder()
    x = b.input(3)
    y = b.batch_norm(x, eps=1e-3, momentum=0.25, name="n")
    y = b.layer_norm(y, eps=0.5, name="m")
    y = b.dropout(b.dropout(y, 0.25), 0.5)
    t = b.time_embedding(y[:1], 4, scale=7.0)
    program = b.finish([t])
    np.testing.assert_array_equal(
        program.constants, [[1e-3, 0.25], [0.5, 0], [0.25, 0], [0.5, 0], [7, 0]]
    )
    assert program.instructions[:, -1].tolist() == [0, -1, 0, 1, -1]
    assert {n: (e.offset, e.size, e.start) for n, e in program.buffers.items()} == {
        "n.running_mean": (0, 3, 0.0),
        "n.running_var": (3, 3, 1.0),
    }


def test_parameters_and_tables() -> None:
    b = ProgramBuilder()
    y = b.sparse_dense(1, columns=9, width=4, transform="log1p", name="s")
    y = b.sparse_dense(0, columns=3, addend=y, width=4, bias=False, name="r")
    y = b.embedding(0, num_rows=6, width=4, addend=y, name="e")
    theta = b.parameter("log_theta", (2, 4), init="normal")
    program = b.finish([y])
    shapes = {name: (e.shape, e.torch_shape, e.role) for name, e in program.parameters.items()}
    assert shapes == {
        "s.weight": ((9, 4), (4, 9), "weight"),
        "s.bias": ((4,), (4,), "bias"),
        "r.weight": ((3, 4), (4, 3), "weight"),
        "e.weight": ((6, 4), (6, 4), "embedding"),
        "log_theta": ((2, 4), (2, 4), "free"),
    }
    assert [t.columns for t in program.sparse_tables] == [3, 9]
    assert [t.transform for t in program.sparse_tables] == ["none", "log1p"]
    assert program.index_tables == (6,)
    assert theta == program.parameters["log_theta"]
    assert program.num_parameters == theta.offset + 8


def test_shared_parameters_and_default_names() -> None:
    b = ProgramBuilder()
    x = b.input(4)
    y = b.dense(x, 4)
    z = b.dense(y, 4, name="dense0", shared=True)
    program = b.finish([z])
    assert list(program.parameters) == ["dense0.weight", "dense0.bias"]
    assert program.instructions[0, 13] == program.instructions[1, 13] == 0


def test_a_program_cannot_be_changed() -> None:
    b = ProgramBuilder()
    program = b.finish([b.dense(b.input(2), 2)])
    with pytest.raises(ValueError, match="read-only"):
        program.instructions[0, 0] = 1
    with pytest.raises(AttributeError):
        program.num_inputs = 2  # type: ignore[misc]


def test_columns_of_an_operand() -> None:
    x = ProgramBuilder().input(10)
    assert (x[2:5], x[2:5][1:], x[:], x[-3:]) == (
        nn.Operand(0, 2, 3),
        nn.Operand(0, 3, 2),
        x,
        nn.Operand(0, 7, 3),
    )


def _with_input(call: Callable[[ProgramBuilder, Any], Any]) -> Callable[[], Any]:
    def run() -> None:
        b = ProgramBuilder()
        call(b, b.input(4))

    return run


def _finish(call: Callable[[ProgramBuilder], Any]) -> Callable[[], Any]:
    return lambda: call(ProgramBuilder())


def _gap(b: ProgramBuilder) -> None:
    y = b.embedding(1, num_rows=2, width=3)
    b.finish([y])


def _hole(b: ProgramBuilder) -> None:
    z = b.slot(4)
    b.embedding(0, num_rows=2, output=z[:2])
    b.finish([z[:2]])


def _twice(b: ProgramBuilder, x: Any) -> None:
    z = b.slot(4)
    b.dense(x, output=z[:3])
    b.dense(x, output=z[2:])


def _unwritten(b: ProgramBuilder, x: Any) -> None:
    z = b.slot(4)
    b.dense(x, output=z[:2])
    b.dense(z, 3)


def _other_rows(b: ProgramBuilder, x: Any) -> None:
    b.embedding(0, num_rows=2, width=3)
    b.embedding(0, num_rows=3, width=3)


def _other_transform(b: ProgramBuilder, x: Any) -> None:
    b.sparse_dense(0, columns=2, width=3)
    b.sparse_dense(0, columns=2, width=3, transform="log1p")


def _name_twice(b: ProgramBuilder, x: Any) -> None:
    b.dense(x, 3, name="a")
    b.dense(x, 3, name="a")


def _share_other_shape(b: ProgramBuilder, x: Any) -> None:
    b.dense(x, 3, name="a")
    b.dense(x[:2], 3, name="a", shared=True)


def _late_input(b: ProgramBuilder, x: Any) -> None:
    b.dense(x, 3)
    b.input(2)


def _many_dropouts(b: ProgramBuilder, x: Any) -> None:
    for _ in range(4097):
        x = b.dropout(x, 0.1)


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (_finish(lambda b: b.input(0)), ValueError, "input: `width` must be an integer >= 1, got 0"),
    (_finish(lambda b: b.input(1.5)), TypeError, "input: `width` must be an integer >= 1, got 1.5"),
    (_finish(lambda b: b.slot(0)), ValueError, "slot: `width` must be an integer >= 1, got 0"),
    (_with_input(_late_input), ValueError, "input: inputs must come before all layers and slots"),
    (_with_input(lambda b, x: b.dense(x, 0)), ValueError, "dense: `width` must be an integer >= 1"),
    (_with_input(lambda b, x: b.dense(x)), TypeError, "dense: `width` must be an integer >= 1"),
    (_with_input(lambda b, x: b.dense(3, 2)), TypeError, "`x` must be an operand of this builder"),
    (
        _with_input(lambda b, x: b.dense(nn.Operand(7, 0, 2), 2)),
        ValueError,
        "dense: `x` must be an operand of this builder, got Operand(slot=7",
    ),
    (
        _with_input(lambda b, x: b.dense(nn.Operand(0, 3, 2), 2)),
        ValueError,
        "dense: `x` must be an operand of this builder, got Operand(slot=0",
    ),
    (
        _with_input(lambda b, x: b.dense(x, 3, addend=x)),
        ValueError,
        "dense: `addend` must have 3 columns, got 4",
    ),
    (
        _with_input(lambda b, x: b.dense(x, 3, activation="sine")),
        ValueError,
        "dense: `activation` must be one of 'identity', 'relu', 'elu', 'silu', 'gelu', 'tanh', "
        "'sigmoid', 'softplus', got 'sine'",
    ),
    (
        _with_input(lambda b, x: b.dense(x, 3, init="ortho")),
        ValueError,
        "dense: `init` must be one of 'uniform', 'truncated', 'zeros', 'normal', 'ones', got",
    ),
    (
        _with_input(lambda b, x: b.dense(x, 3, bias=1)),
        TypeError,
        "dense: `bias` must be True or False, got 1",
    ),
    (
        _with_input(lambda b, x: b.dense(x, 3, name=4)),
        TypeError,
        "dense: `name` must be a word, got 4",
    ),
    (
        _with_input(_name_twice),
        ValueError,
        "dense: `name` must be new (or `shared`), got 'a.weight' again",
    ),
    (
        _with_input(_share_other_shape),
        ValueError,
        "dense: `name` must have shape (3, 4) to share `a.weight`, got (3, 2)",
    ),
    (
        _with_input(lambda b, x: b.dense(x, 3, output=x[:3])),
        ValueError,
        "dense: `output` must be free, got column 0 of slot 0 written before",
    ),
    (
        _with_input(lambda b, x: b.dense(x, 3, output=b.slot(4))),
        ValueError,
        "dense: `output` must have 3 columns, got 4",
    ),
    (
        _with_input(_twice),
        ValueError,
        "dense: `output` must be free, got column 2 of slot 1 written before",
    ),
    (
        _with_input(_unwritten),
        ValueError,
        "dense: `x` must be filled before it is read, got column 2 of slot 1 not yet written",
    ),
    (
        _with_input(lambda b, x: b.sparse_dense(-1, columns=3, width=2)),
        ValueError,
        "sparse_dense: `table` must be an integer >= 0, got -1",
    ),
    (
        _with_input(lambda b, x: b.sparse_dense(0, columns=0, width=2)),
        ValueError,
        "sparse_dense: `columns` must be an integer >= 1, got 0",
    ),
    (
        _with_input(lambda b, x: b.sparse_dense(0, columns=3, width=2, transform="sqrt")),
        ValueError,
        "`transform` must be one of 'none', 'log1p', 'proportions', 'log1p_scaled', 'binary', got",
    ),
    (
        _with_input(_other_transform),
        ValueError,
        "sparse_dense: `table` must be read as before, as SparseTable(columns=2, transform='none')",
    ),
    (
        _with_input(lambda b, x: b.batch_norm(x, eps=0.0)),
        ValueError,
        "batch_norm: `eps` must be a finite number > 0.0, got 0.0",
    ),
    (
        _with_input(lambda b, x: b.batch_norm(x, momentum=1.5)),
        ValueError,
        "batch_norm: `momentum` must be a finite number in [0.0, 1.0], got 1.5",
    ),
    (
        _with_input(lambda b, x: b.layer_norm(x, eps=-1)),
        ValueError,
        "layer_norm: `eps` must be a finite number > 0.0, got -1",
    ),
    (
        _with_input(lambda b, x: b.dropout(x, 1.0)),
        ValueError,
        "dropout: `p` must be a number in [0, 1), got 1.0",
    ),
    (
        _with_input(_many_dropouts),
        OverflowError,
        "dropout: at most 4096 layers of at most 4194304 columns",
    ),
    (
        _with_input(lambda b, x: b.embedding(0, num_rows=0, width=2)),
        ValueError,
        "embedding: `num_rows` must be an integer >= 1, got 0",
    ),
    (
        _with_input(_other_rows),
        ValueError,
        "embedding: `num_rows` must be 2 as before for table 0, got 3",
    ),
    (
        _with_input(lambda b, x: b.time_embedding(x, 4)),
        ValueError,
        "time_embedding: `x` must have one column, got 4",
    ),
    (
        _with_input(lambda b, x: b.time_embedding(x[:1], 5)),
        ValueError,
        "time_embedding: `width` must be even, got 5",
    ),
    (
        _with_input(lambda b, x: b.parameter("", (2,))),
        TypeError,
        "parameter: `name` must be a word, got ''",
    ),
    (
        _with_input(lambda b, x: b.parameter("p", (0,))),
        ValueError,
        "parameter: `shape` must be an integer >= 1, got 0",
    ),
    (
        _with_input(lambda b, x: b.finish([x])),
        ValueError,
        "finish: a program must have at least one layer",
    ),
    (
        _with_input(lambda b, x: b.finish(b.dense(x, 2))),
        TypeError,
        "finish: `outputs` must be a list of operands, got a hotloops.Operand",
    ),
    (
        _with_input(lambda b, x: (b.dense(x, 2), b.finish([]))),
        TypeError,
        "finish: `outputs` must be a list of operands, got a list of length 0",
    ),
    (_finish(_hole), ValueError, "finish: column 2 of slot 0 must be filled"),
    (_finish(_gap), ValueError, "finish: index tables must be numbered 0, 1, ..., got [1]"),
    (
        _with_input(lambda b, x: x[3:3]),
        ValueError,
        "Operand: `columns` must select at least one column, got 3:3 of 4",
    ),
    (
        _with_input(lambda b, x: x[2]),
        TypeError,
        "Operand: `columns` must be a slice without a step, got 2",
    ),
]


@pytest.mark.parametrize(
    ("call", "kind", "message"), ERRORS, ids=[f"{i:02d}" for i in range(len(ERRORS))]
)
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
