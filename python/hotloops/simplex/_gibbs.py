"""Gibbs laws on small simplices by quadrature: what chains are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops.simplex._functions import check_sizes
from hotloops.simplex._objective import Float64, Objective, host_array
from hotloops.simplex._polytope import cuts_of

__all__ = ["gibbs_quadrature"]

_MAX_NODES = 20_000_000


def gibbs_quadrature(
    objective: Objective,
    inverse_temperature: float,
    *,
    base_measure: Any = 1.0,
    sizes: Any = None,
    num_nodes: int | None = None,
) -> tuple[Float64, Float64]:
    """Return points and weights that stand for the Gibbs law of an objective.

    The law has the density ``exp(-beta f(x)) prod_s x_s^(alpha_s - 1)`` with respect to Lebesgue
    measure on the simplex. Expectations are sums: ``weights @ h(points)``.

    Parameters
    ----------
    objective : Objective
        The function f.
    inverse_temperature : float
        The number beta, positive.
    base_measure : float or array_like, shape (d,)
        Alpha. Default 1.
    sizes : sequence of int, optional
        Entries of each simplex; together at most three dimensions, such as one simplex with two to
        four weights. Default: those of the objective.
    num_nodes : int, optional
        Nodes along each dimension. Default: 400, 300, 60 for one, two, three dimensions.

    Returns
    -------
    points : ndarray, shape (M, d), float64
    weights : ndarray, shape (M,), float64
        Not negative, with sum 1.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or range; more than three dimensions.

    Notes
    -----
    Gauss-Jacobi rules in the coordinates of stick breaking, which take up the powers of x; for
    smooth f the error falls exponentially in the number of nodes, once the width ``beta^(-1/2)`` of
    the law spans several of them.

    Examples
    --------
    >>> from hotloops import simplex
    >>> flat = simplex.Polynomial([], dim=3)
    >>> points, weights = simplex.gibbs_quadrature(flat, 1.0, base_measure=0.5)
    >>> round(float(weights @ points[:, 0] ** 2), 12)
    0.2
    """
    name = "gibbs_quadrature"
    if not isinstance(objective, Objective):
        expectation = "be an objective such as simplex.QuadraticProgram(Q)"
        validate.fail(TypeError, name, "objective", expectation, validate.describe(objective))
    beta = validate.real(name, "inverse_temperature", inverse_temperature, low=0.0, open_low=True)
    parts = objective.sizes if sizes is None else check_sizes(name, sizes, objective.dim)
    dimensions = objective.dim - len(parts)
    if not 1 <= dimensions <= 3:
        expectation = "have one to three dimensions in all"
        validate.fail(ValueError, name, "sizes", expectation, f"{list(parts)}")
    if np.ndim(base_measure) == 0:
        number = validate.real(name, "base_measure", base_measure, low=0.0, open_low=True)
        alpha = np.full(objective.dim, number)
    else:
        alpha, _ = host_array(
            name,
            "base_measure",
            base_measure,
            shape=(objective.dim,),
            dtype=np.float64,
            positive=True,
        )
    count = num_nodes if num_nodes is not None else (400, 300, 60)[dimensions - 1]
    count = validate.integer(name, "num_nodes", count, low=2, high=5000)
    if count**dimensions > _MAX_NODES:
        expectation = f"make at most {_MAX_NODES:,} points in {dimensions} dimensions"
        validate.fail(ValueError, name, "num_nodes", expectation, str(count))
    points, logarithms = np.zeros((1, 0)), np.zeros(1)
    for cut in cuts_of(parts):
        own, more = _dirichlet_rule(alpha[cut], count)
        points = np.concatenate(
            [np.repeat(points, len(own), axis=0), np.tile(own, (len(points), 1))], axis=1
        )
        logarithms = np.add.outer(logarithms, more).ravel()
    values = objective.value_and_grad(points)[0]
    logarithms = logarithms - beta * (values - values.min())
    weights = np.exp(logarithms - logarithms.max())
    return points, weights / weights.sum()


def _dirichlet_rule(alpha: Float64, count: int) -> tuple[Float64, Float64]:
    """Return nodes and log weights for a Dirichlet measure: pieces of a stick, of which each takes
    a Beta share of what is left."""
    from scipy import special

    points, logarithms, left = np.zeros((1, 0)), np.zeros(1), np.ones(1)
    for s in range(alpha.size - 1):
        rest = float(alpha[s + 1 :].sum())
        nodes, weights = special.roots_jacobi(count, rest - 1.0, float(alpha[s]) - 1.0)
        share = (1.0 + nodes) / 2.0
        points = np.concatenate(
            [np.repeat(points, count, axis=0), np.outer(left, share).reshape(-1, 1)], axis=1
        )
        with np.errstate(divide="ignore"):
            logarithms = np.add.outer(logarithms, np.log(weights)).ravel()
        left = np.outer(left, 1.0 - share).ravel()
    return np.concatenate([points, left[:, None]], axis=1), logarithms
