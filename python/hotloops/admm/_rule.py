"""The numbers of a step: what the schemes make of sigma, rho, beta and t."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops._runtime.validate import fail

__all__ = ["SCHEMES", "Rule", "make_rule", "per_client"]

SCHEMES = ("identity", "diag", "adagrad", "rmsprop", "adam", "softsign", "sigma_rho")
_CONSTANT, _DIAGONAL, _SECOND_MOMENT, _SOFTSIGN = range(4)
_KINDS = {
    "identity": _CONSTANT,
    "diag": _DIAGONAL,
    "adagrad": _SECOND_MOMENT,
    "rmsprop": _SECOND_MOMENT,
    "adam": _SECOND_MOMENT,
    "softsign": _SOFTSIGN,
    "sigma_rho": _CONSTANT,
}


@dataclass(frozen=True)
class Rule:
    """What the kernels take: see ``SisaScalars`` and ``SisaGlobal`` in ``csrc/admm/step.hpp``.

    Attributes
    ----------
    kind : int
        Which Q.
    clients : ndarray of float64, shape (clients, 11)
        The fields of ``SisaScalars``.
    scale, shrink : float
        The fields of ``SisaGlobal``.
    """

    kind: int
    clients: npt.NDArray[np.float64]
    scale: float
    shrink: float

    @property
    def needs_moments(self) -> bool:
        """Whether the scheme reads V, or the diagonal in its place."""
        return self.kind in (_DIAGONAL, _SECOND_MOMENT)


def per_client(
    function: str, argument: str, value: Any, num_clients: int, *, positive: bool
) -> npt.NDArray[np.float64]:
    """Return one number for each client from a number or an array."""
    if np.ndim(value) == 0:
        number = validate.real(function, argument, value, low=0.0, open_low=positive)
        return np.full(num_clients, number)
    numbers: npt.NDArray[np.float64] = validate.array(
        function, argument, value, shape=(num_clients,), dtype=np.float64, positive=positive
    )
    if (numbers < 0).any():
        index = int((numbers < 0).argmax())
        expectation = "not be negative"
        fail(ValueError, function, argument, expectation, f"{numbers[index]} at index {index}")
    return numbers


def make_rule(
    function: str,
    num_clients: int,
    *,
    alpha: Any,
    sigma: Any,
    rho: Any = 0.0,
    scheme: str = "adam",
    beta: float = 0.999,
    t: int = 1,
    eps: float = 1e-8,
    lam: float = 0.0,
    eta: float = math.inf,
    weight_decay: float = 0.0,
    decoupled: bool = True,
    grad_scale: float = 1.0,
    check_beta: str = "beta",
) -> Rule:
    """Check the numbers of a step and bring them into the kernels' form."""
    validate.choice(function, "scheme", scheme, SCHEMES)
    weights = 1.0 / num_clients if alpha is None else alpha
    alphas = per_client(function, "alpha", weights, num_clients, positive=True)
    sigmas = per_client(function, "sigma", sigma, num_clients, positive=True)
    rhos = per_client(function, "rho", rho, num_clients, positive=False)
    decay = validate.real(function, check_beta, beta, low=0.0, high=1.0)
    step = validate.integer(function, "t", t, low=1)
    small = validate.real(function, "eps", eps, low=0.0)
    ridge = validate.real(function, "lam", lam, low=0.0)
    if eta != math.inf:
        eta = validate.real(function, "eta", eta, low=0.0, open_low=True)
    wd = validate.real(function, "weight_decay", weight_decay, low=0.0)
    validate.boolean(function, "decoupled", decoupled)
    factor = validate.real(function, "grad_scale", grad_scale, low=0.0, open_low=True)
    keep, gain, correction = _moment_numbers(function, scheme, decay, step, check_beta)
    clients = np.empty((num_clients, 11))
    constant = 0.0 if scheme == "diag" else 1.0
    clients[:, 0], clients[:, 1], clients[:, 2] = alphas, sigmas, rhos
    clients[:, 3:] = (
        *(factor, 0.0 if decoupled else wd, constant),
        *(0.0 if scheme == "sigma_rho" else small, keep, gain, correction, eta * eta),
    )
    total = float(alphas @ sigmas)
    shrink = ridge
    if decoupled and wd > 0.0:
        rate = wd / float(alphas @ (sigmas + rhos)) * float(alphas.sum())
        if rate > 1.0:
            expectation = "not exceed the weighted mean of sigma + rho"
            fail(ValueError, function, "weight_decay", expectation, str(weight_decay))
        shrink += total * rate
    return Rule(_KINDS[scheme], clients, 1.0 / (total + ridge), shrink / (total + ridge))


def _moment_numbers(
    function: str, scheme: str, beta: float, t: int, name: str
) -> tuple[float, float, float]:
    """Return how much of V is kept, how much of u^2 is added, and the correction of the bias."""
    if scheme == "adagrad":
        return 1.0, 1.0, 1.0
    if scheme == "rmsprop":
        return beta, 1.0 - beta, 1.0
    if scheme == "adam" and beta >= 1.0:
        fail(ValueError, function, name, "be below 1 for the scheme 'adam'", str(beta))
    correction = -1.0 / math.expm1(t * math.log(beta)) if 0.0 < beta < 1.0 else 1.0
    return beta, 1.0 - beta, correction
