"""Weights on simplices in the contract: objectives, forms, reports.

Starting points and data are fractions of small integers, whose sums are exact: neither a logarithm
nor the order of a sum in NumPy or BLAS enters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hotloops import simplex
from tests.contract.sgd_problems import Argument, Array, fractions

Make = Callable[[str], Any]

NUM_CHAINS, NUM_STEPS, BURN_IN = 37, 40, 9

CHAINS = (
    Argument("x", "state", ("C", "d")),
    Argument("best_x", "state", ("C", "d")),
    Argument("sums", "state", ("C", "d"), "float64"),
    Argument("squares", "state", ("C", "d"), "float64"),
    Argument("flags", "state", ("C",), "uint8"),
    Argument("failed_at", "state", ("C",), "int64"),
    Argument("step_sizes", "data", ("C",)),
    Argument("temperatures", "data", ("C",)),
    Argument("alpha", "data", ("d",)),
    Argument("offsets", "data", ("N+1",), "int32"),
)
POLYNOMIAL = (
    *CHAINS,
    Argument("parents", "data", ("P",), "int32"),
    Argument("factors", "data", ("P",), "int32"),
    Argument("heights", "data", ("B",), "int32"),
    Argument("widths", "data", ("B",), "int32"),
    Argument("rows", "data", ("R",), "int32"),
    Argument("columns", "data", ("Q",), "int32"),
    Argument("coefficients", "data", ("M",)),
)
QUADRATIC = (
    *CHAINS,
    Argument("matrix", "data", ("d", "d")),
    Argument("linear", "data", ("d",)),
)
RIDGE_SUM = (
    *CHAINS,
    Argument("rows", "data", ("T", "d")),
    Argument("weights", "data", ("T",)),
    Argument("center", "data", ("d",)),
    Argument("linear", "data", ("d",)),
    Argument("coefficients", "data", ("K",)),
)


def polynomial(dtype: str) -> Any:
    distance = simplex.Polynomial.squared_distance
    near, far = [0.5, 0.25, 0.125, 0.125, 0.0], [0.125, 0.125, 0.25, 0.25, 0.25]
    return distance(far) * (distance(near) + 0.03125), dtype


def tensors(dtype: str) -> Any:
    """Dense tensors, whose blocks are of every height."""
    orders = [fractions((5,) * order, order) for order in (1, 2, 3, 4)]
    return simplex.Polynomial(tensors=orders), dtype


def quadratic(dtype: str) -> Any:
    return simplex.QuadraticProgram(fractions((7, 7), 1), fractions((7,), 2)), dtype


def terms(dtype: str) -> Any:
    objective, _ = quadratic(dtype)
    anchored = {"turnover": 0.125, "anchor": [0.125] * 6 + [0.25], "smoothing": 0.0625}
    costs = {"ridge": 0.5, "entropy": 0.0625, **anchored}
    return objective.with_terms(**costs, upper=0.5, groups=[([0, 2, 3], 0.5)]), dtype


def returns(dim: int, scale: float = 1.0) -> Array:
    """A power of two of rows: their weights and means are exact."""
    return fractions((256, dim), 4) * scale


def moments(dim: int, **options: Any) -> Make:
    def make(dtype: str) -> Any:
        preferences = (1.0, 0.5, 0.25, 0.125)
        return simplex.PortfolioMoments(returns(dim), preferences=preferences, **options), dtype

    return make


def utility(name: str, **options: Any) -> Make:
    def make(dtype: str) -> Any:
        return simplex.ExpectedUtility(returns(5, 0.03125), name, **options), dtype

    return make


def run(made: Any, settings: dict[str, Any], **options: Any) -> list[Array]:
    """Return all that a run leaves behind."""
    objective, dtype = made
    betas = 2.0 ** (3 + np.arange(NUM_CHAINS) % 5)
    given = {
        "step_size": 0.0625,
        "inverse_temperature": betas,
        "num_steps": NUM_STEPS,
        "num_chains": NUM_CHAINS,
        "burn_in": BURN_IN,
        "trace_every": 13,
        "polish_steps": 0,
        "seed": 0x0123456789ABCDEF,
        "chain_offset": 2**31 - 7,
        "step_offset": 2**32 - 20,
        "dtype": dtype,
        **settings,
    }
    result = simplex.lmwu(objective, **{**given, **options})
    return [*result.state.arrays.to_dict().values(), result.trace]


# name: (kernel, arguments, make, settings of the run, class of determinism)
CASES: dict[str, tuple[str, tuple[Argument, ...], Make, dict[str, Any], str]] = {
    "polynomial": ("polynomial", POLYNOMIAL, polynomial, {}, "A"),
    "polynomial on the sphere": (
        "polynomial",
        POLYNOMIAL,
        polynomial,
        {"retraction": "sphere", "base_measure": 1.25, "sizes": (2, 3)},
        "A",
    ),
    "polynomial projected": (
        "polynomial",
        POLYNOMIAL,
        polynomial,
        {"retraction": "projected", "temperature_schedule": simplex.LinearCooling(0.125)},
        "A",
    ),
    "polynomial adjusted": (
        "polynomial",
        POLYNOMIAL,
        polynomial,
        {"retraction": "metropolis", "base_measure": 1.5},
        "A",
    ),
    "polynomial of tensors": ("polynomial", POLYNOMIAL, tensors, {}, "A"),
    "quadratic": ("quadratic", QUADRATIC, quadratic, {"sizes": (3, 4)}, "A"),
    "quadratic with terms": ("quadratic", QUADRATIC, terms, {"base_measure": 1.5}, "A"),
    "moments": ("ridge_sum", RIDGE_SUM, moments(5), {}, "B"),
    "moments d=33": ("ridge_sum", RIDGE_SUM, moments(33), {}, "B"),
    "moments standardised": ("ridge_sum", RIDGE_SUM, moments(5, standardised=True), {}, "B"),
    "moments by minibatches": ("ridge_sum", RIDGE_SUM, moments(5, batch_size=150), {}, "B"),
    "crra": ("ridge_sum", RIDGE_SUM, utility("crra", risk_aversion=4.0), {}, "B"),
    "log": ("ridge_sum", RIDGE_SUM, utility("log"), {}, "B"),
    "cara": ("ridge_sum", RIDGE_SUM, utility("cara", risk_aversion=3.0), {}, "B"),
}
