"""Constant-step SGD as a Markov chain: ensembles, averaging and Richardson-Romberg extrapolation.

Constant-step SGD forgets its start geometrically but settles around a point that is off the
minimiser by a term proportional to the step size. Running several step sizes on the same noise and
combining their Polyak-Ruppert averages removes the leading terms of that bias at almost no cost in
variance.

References
----------
M. Sheshukova, D. Belomestny, A. Durmus, E. Moulines, A. Naumov, S. Samsonov, "Nonasymptotic
Analysis of SGD with the Richardson-Romberg Extrapolation", ICLR 2025, arXiv:2410.05106.

A. Dieuleveut, A. Durmus, F. Bach, "Bridging the gap between constant step size SGD and Markov
chains", Annals of Statistics 48 (2020), arXiv:1707.06386.
"""

from typing import Any

from hotloops._runtime import optional
from hotloops.sgd._coupling import CouplingResult, coupling_diagnostic
from hotloops.sgd._custom import Custom
from hotloops.sgd._extrapolation import extrapolate, richardson_romberg_weights
from hotloops.sgd._losses import Huber, Poisson, SoftplusHinge, SquaredHinge
from hotloops.sgd._markov import MarkovLSA
from hotloops.sgd._noise import StudentT
from hotloops.sgd._oracles import lsa_exact_mean, lsa_exact_second_moment
from hotloops.sgd._problem import Problem
from hotloops.sgd._quadratic import Cosine, Quadratic
from hotloops.sgd._replay import replay
from hotloops.sgd._result import SGDResult
from hotloops.sgd._rows import LeastSquares, Logistic
from hotloops.sgd._rules import Ball, Box, PiecewiseConstant, PolynomialDecay
from hotloops.sgd._run import run
from hotloops.sgd._state import SGDState
from hotloops.sgd._streaming import StreamingLeastSquares, StreamingLogistic

__all__ = [
    "Ball",
    "Box",
    "Cosine",
    "CouplingResult",
    "Custom",
    "Huber",
    "LeastSquares",
    "Logistic",
    "MarkovLSA",
    "PiecewiseConstant",
    "Poisson",
    "PolynomialDecay",
    "Problem",
    "Quadratic",
    "SGDResult",
    "SGDState",
    "SoftplusHinge",
    "SquaredHinge",
    "StreamingLeastSquares",
    "StreamingLogistic",
    "StudentT",
    "coupling_diagnostic",
    "extrapolate",
    "lsa_exact_mean",
    "lsa_exact_second_moment",
    "replay",
    "richardson_romberg_weights",
    "run",
]

_ESTIMATORS = ("RRSGDClassifier", "RRSGDRegressor")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ESTIMATORS})


def __getattr__(name: str) -> Any:
    """Import the estimators when they are asked for: they need scikit-learn."""
    return optional.estimator(__name__, _ESTIMATORS, "_estimators", name)
