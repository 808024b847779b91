"""Proximal operators: of norms, losses, constraints and penalties, for batches of rows.

Every class here is a function r; calling it with `v` and a step t returns the minimiser of
``r(x) + ||x - v||^2 / (2 t)`` for every row (or matrix) of `v`, and ``.value(v)`` returns r itself.

References
----------
N. Parikh and S. Boyd, "Proximal algorithms", Foundations and Trends in Optimization 1, 2014.
"""

from hotloops.prox._affine import Affine, HalfSpace
from hotloops.prox._base import Prox
from hotloops.prox._composite import Blocks, Masked
from hotloops.prox._elements import (
    L1,
    Box,
    ElasticNet,
    Hinge,
    Huber,
    Logistic,
    NonNegative,
    SquaredL2,
    Zero,
)
from hotloops.prox._matrices import Nuclear, PSDCone, SpectralBall
from hotloops.prox._penalties import L0, MCP, SCAD, CappedL1, LogSum
from hotloops.prox._rows import (
    L2,
    FusedLasso,
    GroupLasso,
    L1Ball,
    L2Ball,
    LInf,
    SecondOrderCone,
    Simplex,
    SparseGroupLasso,
    TopK,
    TotalVariation,
)

__all__ = [
    "L0",
    "L1",
    "L2",
    "MCP",
    "SCAD",
    "Affine",
    "Blocks",
    "Box",
    "CappedL1",
    "ElasticNet",
    "FusedLasso",
    "GroupLasso",
    "HalfSpace",
    "Hinge",
    "Huber",
    "L1Ball",
    "L2Ball",
    "LInf",
    "LogSum",
    "Logistic",
    "Masked",
    "NonNegative",
    "Nuclear",
    "PSDCone",
    "Prox",
    "SecondOrderCone",
    "Simplex",
    "SparseGroupLasso",
    "SpectralBall",
    "SquaredL2",
    "TopK",
    "TotalVariation",
    "Zero",
]
