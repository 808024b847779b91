"""Sums of functions of products of rows with the weights: what portfolios are made of."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.simplex._objective import Float64, Objective, host_array

__all__ = [
    "PROFILES",
    "RidgeSum",
    "check_batch",
    "check_names",
    "check_returns",
    "check_time_weights",
]

PROFILES = (
    "polynomial",
    "row_polynomials",
    "power_utility",
    "log_utility",
    "exponential_utility",
    "standardised",
)  # by number, as in kernels.hpp


_FEW_COLUMNS, _ELEMENTS = 64, 8192
_LARGE_BLOCK = 2048  # rows
_MAX_BATCHED_ROWS = 1 << 20  # of an index that is drawn


class RidgeSum(Objective):
    """``c . x + sum_t w_t q(y_t)`` with ``y_t = (r_t - m) . x``, or a function of moments of y."""

    kernel = "ridge_sum"
    profile: str

    def _set_rows(
        self,
        rows: npt.NDArray[Any],
        row_weights: Float64,
        center: Float64,
        linear: Float64,
        coefficients: Sequence[float],
        batch_size: int | None,
    ) -> None:
        self._rows = rows
        self._row_weights = row_weights
        self._center = center
        self._linear = linear
        self._coefficients = np.array(coefficients, np.float64)
        self._batch_size = batch_size or 0

    def parameters(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return rows, their weights, centre, linear part, profile, coefficients and batch size."""
        return (
            np.ascontiguousarray(self._rows, dtype),
            self._row_weights.astype(dtype),
            self._center.astype(dtype),
            self._linear.astype(dtype),
            PROFILES.index(self.profile),
            self._coefficients.astype(dtype),
            self._batch_size,
        )

    @abstractmethod
    def _profile(self, y: Float64, order: int) -> Float64:
        """Return the derivative of q of this order, 0 to 2, at each y."""

    def _blocks(self) -> list[slice]:
        """Cut the rows into blocks that BLAS takes with one thread when there are few columns: the
        polish makes many small products, and waking threads costs more than they save."""
        count, dim = self._rows.shape
        size = _LARGE_BLOCK if dim > _FEW_COLUMNS else max(1, _ELEMENTS // dim)
        return [slice(begin, begin + size) for begin in range(0, count, size)]

    def _margins(self, x: Float64) -> Float64:
        products = [self._rows[block] @ x for block in self._blocks()]
        return np.asarray(np.concatenate(products) - self._center @ x)

    def _pulled(self, weights: Float64) -> Float64:
        """Return ``sum_t weights_t (r_t - m)`` without a centred copy of the rows."""
        total = -weights.sum() * self._center
        for block in self._blocks():
            total = total + weights[block] @ self._rows[block]
        return np.asarray(total)

    def _crossed(self, weights: Float64) -> Float64:
        """Return ``sum_t weights_t (r_t - m) (r_t - m)^T``."""
        total = np.zeros((self.dim, self.dim))
        for block in self._blocks():
            centred = self._rows[block] - self._center
            total += (centred * weights[block, None]).T @ centred
        return total

    def _own_value_and_grad(self, x: Float64) -> tuple[float, Float64]:
        y = self._margins(x)
        w = self._row_weights
        value = float(self._linear @ x + w @ self._profile(y, 0))
        return value, self._linear + self._pulled(w * self._profile(y, 1))

    def _own_hessian(self, x: Float64) -> Float64:
        return self._crossed(self._row_weights * self._profile(self._margins(x), 2))


def check_returns(
    function: str, returns: Any
) -> tuple[npt.NDArray[Any], tuple[str, ...] | None, Any]:
    """Return a table of returns (T, d), the names of its columns, and the library it came from."""
    columns = getattr(returns, "columns", None)
    names = None
    if columns is not None and all(isinstance(name, str) for name in columns):
        names = tuple(columns)
    if hasattr(returns, "to_numpy") and not hasattr(returns, "__dlpack__"):
        returns = returns.to_numpy()
    rows, library = host_array(function, "returns", returns, ndim=2)
    if rows.shape[0] < 2:
        expectation = "have at least two rows, one for each period"
        validate.fail(ValueError, function, "returns", expectation, str(rows.shape))
    return rows, names, library


def check_time_weights(function: str, value: Any, num_rows: int) -> Float64:
    """Return the weight of each period, with sum 1."""
    if value is None:
        return np.full(num_rows, 1.0 / num_rows)
    weights, _ = host_array(function, "time_weights", value, shape=(num_rows,), dtype=np.float64)
    if weights.min() < 0.0:
        validate.fail(ValueError, function, "time_weights", "not be negative", f"{weights.min():g}")
    if np.count_nonzero(weights) < 2:
        expectation = "have at least two entries that are not zero"
        validate.fail(
            ValueError, function, "time_weights", expectation, str(np.count_nonzero(weights))
        )
    return np.asarray(weights / weights.sum())


def check_batch(function: str, batch_size: Any, num_rows: int) -> int | None:
    """Return the number of rows of a minibatch; None for all."""
    if batch_size is None:
        return None
    if num_rows > _MAX_BATCHED_ROWS:
        expectation = f"be None with more than {_MAX_BATCHED_ROWS:,} rows"
        validate.fail(ValueError, function, "batch_size", expectation, str(batch_size))
    return validate.integer(function, "batch_size", batch_size, low=1, high=num_rows)


def check_names(function: str, names: Any, found: Any, dim: int) -> tuple[str, ...] | None:
    """Return the names of the assets: those given, or those of the table's columns."""
    if names is None:
        return found if found is None else tuple(found)
    if isinstance(names, str) or not isinstance(names, Sequence | np.ndarray):
        expectation = "be a sequence of strings"
        validate.fail(TypeError, function, "names", expectation, validate.describe(names))
    listed = tuple(str(name) for name in names)
    if len(listed) != dim or len(set(listed)) != dim:
        expectation = f"hold {dim} different names, one for each column"
        validate.fail(ValueError, function, "names", expectation, f"{len(set(listed))}")
    return listed
