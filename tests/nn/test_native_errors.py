"""What a program, its tables and its losses may not say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.nn.native import (
    CROSS_ENTROPY,
    MEAN_SQUARED,
    NEGATIVE_BINOMIAL,
    NOTHING,
    Losses,
    Optimizer,
    Run,
    State,
    Tables,
    Writer,
    csr,
    losses,
    problem,
    train,
)

Array = npt.NDArray[Any]

Change = Callable[[list[Any]], None]


def set_field(row: int, field: int, value: int) -> Change:
    def change(arrays: list[Any]) -> None:
        arrays[0][row, field] = value

    return change


def set_argument(place: int, value: Any) -> Change:
    def change(arrays: list[Any]) -> None:
        arrays[place] = value

    return change


BAD_PROGRAMS = {
    "unknown operation": (set_field(0, 0, 8), "unknown operation"),
    "no such slot": (set_field(0, 1, 99), "an operand is outside its slot"),
    "negative slot": (set_field(0, 1, -1), "an operand is outside its slot"),
    "begin": (set_field(0, 2, -1), "an operand is outside its slot"),
    "wide": (set_field(0, 3, 5), "an operand is outside its slot"),
    "no width": (set_field(0, 3, 0), "an operand is outside its slot"),
    "huge": (set_field(0, 3, 2**62), "an operand is outside its slot"),
    "huge begin": (set_field(0, 2, 2**63 - 1), "an operand is outside its slot"),
    "unwritten": (set_field(0, 1, 2), "read before it is written"),
    "writes input": (set_field(0, 4, 0), "an output is outside its slot"),
    "writes an input": (
        lambda arrays: arrays[0].__setitem__((0, slice(4, 7)), (0, 0, 4)),
        "written twice, or belong to an input",
    ),
    "writes twice": (set_field(1, 4, 1), "written twice"),
    "output wide": (set_field(0, 6, 7), "an output is outside its slot"),
    "addend": (set_field(1, 7, 0), "this operation has no addend"),
    "pre": (set_field(0, 10, -7), "an output is outside its slot"),
    "weight": (set_field(0, 13, 10**9), "parameters are outside"),
    "no weight": (set_field(0, 13, -1), "parameters are outside"),
    "bias": (set_field(0, 14, -2), "parameters are outside"),
    "activation": (set_field(0, 15, 8), "unknown activation"),
    "statistics": (set_field(1, 16, 1), "running statistics are outside the buffers"),
    "width of a slot": (set_argument(2, np.array([4, 0, 6, 6])), "bad width of a slot"),
    "inputs": (set_argument(3, 9), "too many inputs"),
    "parameters": (set_argument(4, 3), "parameters are outside"),
    "buffers": (set_argument(5, 3), "running statistics are outside the buffers"),
}


@pytest.mark.parametrize("name", BAD_PROGRAMS)
def test_bad_programs(name: str) -> None:
    from hotloops._runtime.blas import core_with_blas

    change, message = BAD_PROGRAMS[name]
    w = Writer()
    w.batch_norm(w.dense(w.input(4), 6, activation="silu"))
    arrays = list(w.arrays())
    core_with_blas().NnProgram(*arrays)
    # Pre-activation of the dense layer is slot 2, the norm's output slot 3.
    change(arrays)
    with pytest.raises(ValueError, match=message):
        core_with_blas().NnProgram(*arrays)


def test_parameters_may_be_shared_but_not_overlap() -> None:
    w = Writer()
    x = w.input(3)
    weight = w.parameters(10)
    y = w.add(0, x, 3, weight=weight)
    z = w.add(0, x, 3, weight=weight + 1)
    with pytest.raises(ValueError, match="parameters overlap in part"):
        Run(w, Tables([np.ones((2, 3))]), 2, [y, z])


BAD_TABLES: dict[str, tuple[Callable[[Tables], Tables], str]] = {
    "no dense": (lambda t: t._replace(dense=[]), "too few dense tables"),
    "width": (lambda t: t._replace(dense=[np.ones((4, 2))]), "another width than its slot"),
    "rows": (lambda t: t._replace(dense=[np.ones((5, 3))]), "the same number of rows"),
    "no sparse": (lambda t: t._replace(sparse=[]), "too few CSR tables"),
    "columns": (lambda t: t._replace(sparse=[csr(np.eye(4, 6), "float64")]), "number of columns"),
    "no indices": (lambda t: t._replace(indices=[]), "too few index tables"),
    "index": (lambda t: t._replace(indices=[np.full(4, 2, np.int32)]), "out of range"),
    "low index": (lambda t: t._replace(indices=[np.full(4, -2, np.int32)]), "out of range"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables(name: str) -> None:
    change, message = BAD_TABLES[name]
    w = Writer()
    y = w.sparse_dense(0, 5, 3, addend=w.embedding(0, 2, 3, addend=w.input(3)))
    good = Tables([np.ones((4, 3))], [csr(np.eye(4, 5), "float64")], [np.zeros(4, np.int32)])
    Run(w, good, 4, [y]).forward()
    with pytest.raises(ValueError, match=message):
        Run(w, change(good), 4, [y]).forward()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, np.array([1, 1, 2, 3, 5]), "bad ends of indptr"),
        (0, np.array([0, 3, 2, 3, 4]), "indptr must not fall"),
        (1, np.array([0, 1, 2, 5], np.int32), "must ascend below its width"),
        (1, np.array([0, 1, 2, -1], np.int32), "must ascend below its width"),
        (0, np.array([0, 2, 2, 3, 4]), "must ascend below its width"),
        (1, np.zeros(3, np.int32), "bad shapes of a CSR table"),
        (4, 5, "unknown transform"),
        (5, np.zeros(3), "totals must have one number for each row"),
    ],
)
def test_bad_csr(place: int, value: Any, message: str) -> None:
    w = Writer()
    y = w.sparse_dense(0, 5, 3)
    table = list(csr(np.eye(4, 5)[[1, 0, 2, 3]], "float64"))
    table[place] = value
    with pytest.raises(ValueError, match=message):
        Run(w, Tables(sparse=[tuple(table)]), 4, [y]).forward()


def test_bad_rows_and_gradients() -> None:
    w = Writer()
    y = w.dense(w.input(3), 2)
    run = Run(w, Tables([np.ones((4, 3))]), 3, [y])
    with pytest.raises(ValueError, match="bad number of rows"):
        run.forward()
    with pytest.raises(ValueError, match="there was no forward pass"):
        run.backward([np.ones((3, 2))])
    for rows in ([0, 4], [-1, 0]):
        with pytest.raises(ValueError, match="a number of a row is out of range"):
            run.forward(rows=np.array(rows))
    run.forward(rows=np.array([0, 1]))
    with pytest.raises(ValueError, match="gradients must have shape"):
        run.backward([np.ones((3, 2))])
    with pytest.raises(ValueError, match="a gradient for each"):
        run.backward([])
    run.parameters = run.parameters[:-1]
    with pytest.raises(ValueError, match="parameters must have the program's length"):
        run.forward(rows=np.array([0, 1]))


def test_slopes_that_need_their_argument() -> None:
    w = Writer()
    y = w.dense(w.input(3), 2, activation="silu")
    w.rows[0][10:13] = NOTHING
    run = Run(w, Tables([np.ones((4, 3))]), 4, [y])
    run.forward()
    with pytest.raises(ValueError, match="needs `pre`"):
        run.backward([np.ones((4, 2))])


def bad_losses(run: Run) -> dict[str, tuple[Losses, str]]:
    logits, z, classes = run.seeds

    def with_first(*row: Any) -> Losses:
        return losses(
            row,
            (MEAN_SQUARED, z, 1, 0, -1, -1, 0.0, 0.5),
            (CROSS_ENTROPY, classes, 0, 0, -1, -1, 0.0, 0.25),
        )

    nb = NEGATIVE_BINOMIAL
    return {
        "seeds": (with_first(nb, z, 0, 1, 0, -1, 0.0, 1.0), "losses' logits as seeds"),
        "dense counts": (with_first(nb, logits, 0, 0, 0, -1, 0.0, 1.0), "needs a CSR target"),
        "table": (with_first(nb, logits, 1, 1, 0, -1, 0.0, 1.0), "the width of the logits"),
        "theta": (with_first(nb, logits, 0, 1, -1, -1, 0.0, 1.0), "log theta is outside"),
        "theta end": (with_first(nb, logits, 0, 1, 10**6, -1, 0.0, 1.0), "log theta is outside"),
        "group": (with_first(nb, logits, 0, 1, 0, 1, 0.0, 1.0), "no such index table"),
        "an input": (with_first(MEAN_SQUARED, logits, 0, 0, -1, -1, 0.0, 1.0), "follow the inputs"),
        "labels": (with_first(CROSS_ENTROPY, logits, 4, 0, -1, -1, 0.0, 1.0), "no such index"),
        "kind": (with_first(7, logits, 0, 0, -1, -1, 0.0, 1.0), "unknown loss"),
    }


@pytest.mark.parametrize("name", list(bad_losses(problem()[0])))
def test_bad_losses(name: str) -> None:
    run, _ = problem()
    of, message = bad_losses(run)[name]
    with pytest.raises(ValueError, match=message):
        train(run, State(run), of, Optimizer(), 1)
