"""Langevin multiplicative weights on products of simplices.

Chains of multiplicative weights with the noise of the Shahshahani metric: they minimise non-convex
functions of portfolio weights, mixed strategies or mixture weights, where plain multiplicative
weights stop at the nearest local minimum, and they sample Gibbs laws on simplices.

References
----------
Y. Feng, X. Wang, T. Xie, "Langevin Multiplicative Weights Update with Applications in Polynomial
Portfolio Management", AAAI 2025, arXiv:2502.19210.

Y. Feng, I. Panageas, X. Wang, "Accelerated Multiplicative Weights Update Avoids Saddle Points
Almost Always", IJCAI 2022, arXiv:2204.11407.
"""

from typing import Any

from hotloops._runtime import optional
from hotloops.simplex._custom import Custom
from hotloops.simplex._functions import kkt_residual, lmwu_step, project
from hotloops.simplex._games import Congestion, Polymatrix, PotentialGame, nash_gap
from hotloops.simplex._gibbs import gibbs_quadrature
from hotloops.simplex._objective import Objective
from hotloops.simplex._polish import Point, polish
from hotloops.simplex._polynomial import Polynomial, QuadraticProgram
from hotloops.simplex._portfolio import ExpectedUtility, PortfolioMoments, crra_preferences
from hotloops.simplex._result import SimplexResult
from hotloops.simplex._run import accelerated_mwu, lmwu, mwu, projected_langevin
from hotloops.simplex._schedules import (
    GeometricCooling,
    LinearCooling,
    LogarithmicCooling,
    PolynomialDecay,
)
from hotloops.simplex._state import SimplexState

__all__ = [
    "Congestion",
    "Custom",
    "ExpectedUtility",
    "GeometricCooling",
    "LinearCooling",
    "LogarithmicCooling",
    "Objective",
    "Point",
    "Polymatrix",
    "Polynomial",
    "PolynomialDecay",
    "PortfolioMoments",
    "PotentialGame",
    "QuadraticProgram",
    "SimplexResult",
    "SimplexState",
    "accelerated_mwu",
    "crra_preferences",
    "gibbs_quadrature",
    "kkt_residual",
    "lmwu",
    "lmwu_step",
    "mwu",
    "nash_gap",
    "polish",
    "project",
    "projected_langevin",
]

_ESTIMATORS = ("LMWUPortfolio",)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ESTIMATORS})


def __getattr__(name: str) -> Any:
    """Import the estimator when it is asked for: it needs scikit-learn."""
    return optional.estimator(__name__, _ESTIMATORS, "_estimator", name)
