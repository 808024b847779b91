"""Proximal operators in the contract: every kernel and operation, rows alone and in a batch.

Data are fractions of small integers, so that neither a logarithm nor the order of a sum in NumPy
enters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hotloops import prox
from tests.contract.sgd_problems import Argument, Array, fractions

ROWS, COLUMNS, STEP = 5, 77, 0.40625  # fills no pack of any instruction set
LONG = 70_003  # a row that is cut into tasks

ELEMENTS = (
    Argument("v", "data", ("R", "n")),
    Argument("out", "out", ("R", "n")),
    Argument("constants", "data", ("k", "1 or R", "1 or n")),
)
OF_ROWS = (
    Argument("v", "data", ("R", "n")),
    Argument("out", "out", ("R", "n")),
    Argument("numbers", "data", ("1 or R",), "float64"),
)
GROUPS = (
    Argument("v", "data", ("R", "n")),
    Argument("out", "out", ("R", "n")),
    Argument("offsets", "data", ("G+1",), "int64"),
    Argument("weights", "data", ("G",), "float64"),
    Argument("soft", "data", ("1 or R",), "float64"),
    Argument("shrink", "data", ("1 or R",), "float64"),
)
SCATTERED = (*GROUPS[:3], Argument("indices", "data", ("n",), "int64"), *GROUPS[3:])
TOP = OF_ROWS[:2]


def weights(n: int) -> Array:
    return np.abs(fractions((n,), 7))


def labels(n: int) -> Array:
    """Nine groups whose elements lie apart."""
    return (np.arange(n) * 5) % 9


# name: (kernel, arguments, the operator for rows of a length)
CASES: dict[str, tuple[str, tuple[Argument, ...], Callable[[int], prox.Prox]]] = {
    "soft": ("elements", ELEMENTS, lambda n: prox.L1(0.75)),
    "soft by column": ("elements", ELEMENTS, lambda n: prox.L1(weights(n))),
    "elastic": ("elements", ELEMENTS, lambda n: prox.ElasticNet(0.375, 0.75)),
    "scale": ("elements", ELEMENTS, lambda n: prox.SquaredL2(0.375)),
    "clip": ("elements", ELEMENTS, lambda n: prox.Box(-0.5, weights(n))),
    "firm, of l0": ("elements", ELEMENTS, lambda n: prox.L0(0.75)),
    "firm, of MCP": ("elements", ELEMENTS, lambda n: prox.MCP(0.875, 1.5)),
    "firm, of SCAD": ("elements", ELEMENTS, lambda n: prox.SCAD(0.5, 2.5)),
    "firm, of capped l1": ("elements", ELEMENTS, lambda n: prox.CappedL1(0.875, 0.75)),
    "huber": ("elements", ELEMENTS, lambda n: prox.Huber(0.625, 1.25)),
    "hinge": ("elements", ELEMENTS, lambda n: prox.Hinge(0.875)),
    "logistic": ("elements", ELEMENTS, lambda n: prox.Logistic(1.25)),
    "log_sum": ("elements", ELEMENTS, lambda n: prox.LogSum(0.875, 0.25)),
    "l_inf": ("rows", OF_ROWS, lambda n: prox.LInf(3.0)),
    "simplex": ("rows", OF_ROWS, lambda n: prox.Simplex(2.0)),
    "l1_ball": ("rows", OF_ROWS, lambda n: prox.L1Ball(3.0)),
    "l2_ball": ("rows", OF_ROWS, lambda n: prox.L2Ball(3.0)),
    "cone": ("rows", OF_ROWS, lambda n: prox.SecondOrderCone()),
    "l2": ("groups", GROUPS, lambda n: prox.L2(0.875)),
    "groups side by side": ("groups", GROUPS, lambda n: prox.GroupLasso(np.sort(labels(n)))),
    "groups of one size": (
        "groups",
        GROUPS,
        lambda n: prox.SparseGroupLasso(np.arange(n) // 7, 0.25, 0.5),
    ),
    "groups apart": ("groups", SCATTERED, lambda n: prox.SparseGroupLasso(labels(n), 0.25, 0.5)),
    "top": ("top", TOP, lambda n: prox.TopK(n // 8)),
    "variation": ("variation", OF_ROWS, lambda n: prox.TotalVariation(0.75)),
}
STEPS = (STEP, STEP * (1.0 + np.arange(ROWS)))


def batch(dtype: str) -> Array:
    v = fractions((ROWS, COLUMNS), 3, np.dtype(dtype).type)
    v[1] /= 64
    v[2] = 0
    return v


def make(operator: Callable[[int], prox.Prox]) -> Callable[[str], Any]:
    def made(dtype: str) -> Any:
        return operator, batch(dtype), fractions((1, LONG), 4, np.dtype(dtype).type)

    return made


def run(made: Any, **options: Any) -> list[Array]:
    """Return the operator of all rows with one step and with a step each, and of a long row."""
    operator, v, long = made
    answers = [operator(COLUMNS)(v, step, **options) for step in STEPS]
    return [*answers, operator(LONG)(long, STEP, **options)]
