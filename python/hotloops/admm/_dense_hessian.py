"""Local steps with the client's own curvature: ``(sigma I + rho H)^{-1} (g + pi)``.

The majorant, the largest curvature of the loss times the second moments of the rows, does not
change, so that one eigendecomposition serves every round and every sigma. For least squares it is
the Hessian, and with rho = 1 the step is the exact minimiser of the client's problem. The Hessians
of other losses are factored anew in every round.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.special

from hotloops._runtime import validate
from hotloops.admm._data import ClientData
from hotloops.admm._losses import Loss
from hotloops.admm._work import RoundState

__all__ = ["MAX_DIM", "Hessians", "curvatures"]

Float64 = npt.NDArray[np.float64]

MAX_DIM = 4096


def curvatures(loss: Loss, z: Float64, y: Float64) -> Float64:
    """Return the second derivatives of a loss in its prediction."""
    first, second = loss.shape
    kernel = loss.kernel
    if kernel == "squares":
        return np.ones_like(z)
    if kernel == "logistic":
        s = np.asarray(scipy.special.expit(z))
        return s * (1.0 - s)
    if kernel == "squared_hinge":
        return (y * z < 1.0).astype(np.float64)
    if kernel == "huber_hinge":
        gap = 1.0 - y * z
        return ((gap > 0.0) & (gap < first)) / first
    if kernel == "huber":
        return (np.abs(z - y) < first).astype(np.float64)
    if kernel == "poisson":
        return np.exp(np.clip(z, -700.0, 700.0))
    pull = (y - z) / second
    return ((pull > first - 1.0) & (pull < first)) / second


class Hessians:
    """The Hessians, or their majorants, of all clients of a linear model.

    Parameters
    ----------
    function : str
        For messages.
    data : ClientData
    scheme : {"hessian", "majorant", "exact"}
    """

    def __init__(self, function: str, data: ClientData, scheme: str) -> None:
        if data.is_network:
            expectation = "be another one for a network, whose Hessian may be indefinite"
            validate.fail(ValueError, function, "scheme", expectation, repr(scheme))
        if data.library.device != "cpu":
            expectation = "be another one for arrays on a GPU"
            validate.fail(ValueError, function, "scheme", expectation, repr(scheme))
        kernel = data.loss.kernel
        if scheme == "exact" and kernel != "squares":
            expectation = "be another one: 'exact' is for the loss 'squares'"
            validate.fail(ValueError, function, "scheme", expectation, repr(kernel))
        curvature = data.loss.curvature
        if scheme == "majorant" and curvature is None:
            expectation = f"be another one for the loss {kernel!r}, whose curvature is unbounded"
            validate.fail(ValueError, function, "scheme", expectation, "'majorant'")
        fixed = scheme != "hessian" or kernel == "squares"
        size = data.dim // int(data.layers[1]) if fixed else data.dim
        if size > MAX_DIM:
            expectation = f"be another one for more than {MAX_DIM} parameters"
            validate.fail(ValueError, function, "scheme", expectation, f"{size} parameters")
        self._data = data
        self._rows = [self._gather(client) for client in range(data.num_clients)]
        self._spectra: list[tuple[Float64, Float64]] = []
        if fixed:
            self._spectra = [
                scipy.linalg.eigh((curvature or 1.0) * self._outer(X, weights / weights.sum()))
                for X, _, weights in self._rows
            ]

    def directions(self, state: RoundState, gradients: npt.NDArray[Any]) -> Float64:
        """Return ``(sigma I + rho (H + eps))^{-1} (g + pi)`` for each client, shape (m, d)."""
        u = gradients.astype(np.float64) + state.dual
        result = np.empty_like(u)
        for client, own in enumerate(u):
            sigma, rho = float(state.sigma[client]), float(state.rho[client])
            if self._spectra:
                values, vectors = self._spectra[client]
                outputs = own.reshape(values.size, -1)
                scaled = (vectors.T @ outputs) / (sigma + rho * (values + state.eps))[:, None]
                result[client] = (vectors @ scaled).reshape(-1)
                continue
            matrix: Float64 = rho * self._hessian(client, state.w.astype(np.float64))
            matrix[np.diag_indices_from(matrix)] += sigma + rho * state.eps
            factor = scipy.linalg.cho_factor(matrix, overwrite_a=True, check_finite=False)
            result[client] = scipy.linalg.cho_solve(factor, own, check_finite=False)
        return np.asarray(result)

    def _gather(self, client: int) -> tuple[Any, Any, Float64]:
        """Copy the rows of a client, their targets and their weights."""
        matrix, rows = self._data.members[client]
        one = self._data.matrices[matrix]
        X: Any = one.on_host().astype(np.float64)
        y = one.labels if one.targets is None else one.targets.astype(np.float64)
        weights = np.ones(one.num_rows) if one.weights is None else one.weights.astype(np.float64)
        assert y is not None
        if rows is None:
            return X, y, weights
        return X[rows], y[rows], weights[rows]

    def _hessian(self, client: int, w: Float64) -> Float64:
        X, y, weights = self._rows[client]
        columns, outputs = (int(size) for size in self._data.layers)
        coefficients = w[: columns * outputs].reshape(columns, outputs)
        z = np.asarray(X @ coefficients)
        if self._data.intercept:
            z = z + w[columns * outputs :]
        weights = weights / weights.sum()
        if outputs == 1:
            second = curvatures(self._data.loss, z[:, 0], y) * weights
            return self._outer(X, second)
        p = scipy.special.softmax(z, axis=1)
        size = self._data.dim // outputs
        blocks = np.empty((size, outputs, size, outputs))
        for a in range(outputs):
            for b in range(outputs):
                second = p[:, a] * ((a == b) - p[:, b]) * weights
                blocks[:, a, :, b] = self._outer(X, second)
        return blocks.reshape(self._data.dim, self._data.dim)

    def _outer(self, X: Any, second: Float64) -> Float64:
        """Return ``sum second_j x_j x_j^T``, with the intercept behind the columns."""
        scaled = X * second[:, None] if isinstance(X, np.ndarray) else X.multiply(second[:, None])
        inner = X.T @ scaled
        inner = inner if isinstance(inner, np.ndarray) else inner.toarray()
        if not self._data.intercept:
            return np.asarray(inner)
        sums = np.asarray(X.T @ second).ravel()
        return np.block([[inner, sums[:, None]], [sums[None, :], np.array([[second.sum()]])]])
