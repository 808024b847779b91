"""Every operator with a kernel, as a function of the length of a row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hotloops import prox


def labels(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1 + n // 9, n)


def _divisor(n: int) -> int:
    """Return the largest divisor of n up to 12: 77 has 7, 200 has 10."""
    return max(d for d in range(1, 13) if n % d == 0)


OPERATORS: dict[str, Callable[[int], prox.Prox]] = {
    "l1": lambda n: prox.L1(0.7),
    "l1 by column": lambda n: prox.L1(np.linspace(0.0, 2.0, n)),
    "elastic net": lambda n: prox.ElasticNet(0.3, 0.7),
    "elastic net by column": lambda n: prox.ElasticNet(np.linspace(0.0, 1.0, n), 0.7),
    "squared l2": lambda n: prox.SquaredL2(0.4),
    "box": lambda n: prox.Box(-0.5, 0.3),
    "box by column": lambda n: prox.Box(np.linspace(-1.0, 0.0, n), np.inf),
    "nonnegative": lambda n: prox.NonNegative(),
    "l0": lambda n: prox.L0(0.8),
    "mcp": lambda n: prox.MCP(0.9, 1.5),
    "scad": lambda n: prox.SCAD(0.5, 2.5),
    "capped l1": lambda n: prox.CappedL1(0.9, 0.7),
    "huber": lambda n: prox.Huber(0.6, 1.2),
    "hinge": lambda n: prox.Hinge(0.8),
    "logistic": lambda n: prox.Logistic(1.3),
    "log sum": lambda n: prox.LogSum(0.9, 0.2),
    "l inf": lambda n: prox.LInf(3.0),
    "simplex": lambda n: prox.Simplex(2.0),
    "l1 ball": lambda n: prox.L1Ball(3.0),
    "l2 ball": lambda n: prox.L2Ball(3.0),
    "second-order cone": lambda n: prox.SecondOrderCone(),
    "l2": lambda n: prox.L2(0.9),
    "groups apart": lambda n: prox.GroupLasso(labels(n), 0.5),
    "groups side by side": lambda n: prox.GroupLasso(np.sort(labels(n)), 0.5),
    "groups of one size": lambda n: prox.SparseGroupLasso(np.arange(n) // _divisor(n), 0.2, 0.5),
    "sparse groups": lambda n: prox.SparseGroupLasso(labels(n), 0.3, 0.5),
    "top k": lambda n: prox.TopK(max(1, n // 8)),
    "total variation": lambda n: prox.TotalVariation(0.8),
    "fused lasso": lambda n: prox.FusedLasso(0.5, 0.2),
}
NOT_CONVEX = ("l0", "mcp", "scad", "capped l1", "log sum", "top k")
CONVEX = tuple(name for name in OPERATORS if name not in NOT_CONVEX)
# Whose r is an indicator: the operator is a projection.
PROJECTIONS = (
    *("box", "box by column", "nonnegative", "simplex", "l1 ball", "l2 ball"),
    *("second-order cone", "top k"),
)
