"""Losses over the rows of a data matrix."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from hotloops._runtime import arrays, validate
from hotloops.sgd._problem import DIVERGENCE_LIMIT, Float64, Problem, in_precision, to_host

__all__ = ["PARAMETERS", "SAMPLING", "LeastSquares", "Logistic", "Rows", "signs_of"]

SAMPLING = ("iid", "reshuffle", "sequential")

_MAX_ROWS = 2**32 - 1
_MAX_BATCH = 2**24
# Up to this many multiplications the Gram matrix takes some tens of milliseconds.
_CHEAP_GRAM = 10**9
_MAX_NEWTON_STEPS = 100

PARAMETERS = """X : array, shape (N, d)
        Rows of features, float32 or float64; NumPy, CuPy or anything with ``__dlpack__``. It is
        used in place, without a copy, when its precision is that of the run.
    y : array, shape (N,)
        {target}{more}
    l2 : float
        Weight of the ridge ``l2 |t|^2 / 2``. Default 0.
    batch_size : int
        Rows averaged in each step. Default 1, the setting of the theory.
    sampling : {{"iid", "reshuffle", "sequential"}}
        Rows drawn with replacement (the default, the setting of the theory), by a new pseudo-random
        permutation per chain and epoch, or in the order of the data.
    divergence_limit : float
        A chain with a coordinate beyond it is flagged and frozen. Default 1e6."""


class Rows(Problem):
    """Mean loss over rows, with a ridge. A loss is a function of the margin ``x^T t``."""

    _name: ClassVar[str]
    # What the loss has beside the ridge, for the kernel: a width, a sharpness.
    _shape = 0.0

    def __init__(
        self,
        X: Any,
        y: Any,
        l2: float = 0.0,
        *,
        batch_size: int = 1,
        sampling: str = "iid",
        divergence_limit: float = DIVERGENCE_LIMIT,
    ) -> None:
        name = self._name
        if hasattr(X, "tocsr"):
            validate.fail(TypeError, name, "X", "be a dense array", validate.describe(X))
        self.library = arrays.common_library(name, {"X": X, "y": y})
        symbols: dict[str, int] = {}
        features, _ = arrays.import_array(name, "X", X)
        targets, _ = arrays.import_array(name, "y", y)
        self._features = validate.array(name, "X", features, shape=("n", "d"), symbols=symbols)
        self.dtype = np.dtype(str(self._features.dtype))
        if symbols["n"] > _MAX_ROWS:
            raise OverflowError(f"{name}: `X` must have less than 2**32 rows, got {symbols['n']}")
        self._targets = self._check_targets(
            validate.array(name, "y", targets, shape=("n",), symbols=symbols)
        )
        self.l2 = validate.real(name, "l2", l2, low=0.0)
        self.batch_size = validate.integer(name, "batch_size", batch_size, low=1, high=_MAX_BATCH)
        self.sampling = validate.choice(name, "sampling", sampling, SAMPLING)
        self.num_rows = symbols["n"]
        self._set_size(name, symbols["d"], divergence_limit)
        self._bounds: tuple[float | None, float | None] | None = None

    def __repr__(self) -> str:
        return (
            f"{self._name}(rows={self.num_rows}, dim={self.dim}, l2={self.l2}, "
            f"batch_size={self.batch_size}, sampling={self.sampling!r})"
        )

    def parameters(self, dtype: np.dtype[Any], xp: Any) -> tuple[Any, ...]:
        features = in_precision(self._name, "X", self._features, dtype, xp)
        targets = in_precision(self._name, "y", self._targets, dtype, xp)
        in_precision(self._name, "l2", self.l2, dtype, np)
        sampling = SAMPLING.index(self.sampling)
        return features, targets, self.batch_size, sampling, self.l2, self._shape

    def inputs(self) -> dict[str, Any]:
        return {"X": self._features, "y": self._targets}

    def curvature_bounds(self) -> tuple[float | None, float | None]:
        if self._bounds is None:
            self._bounds = self._compute_bounds()
        return self._bounds

    def _compute_bounds(self) -> tuple[float | None, float | None]:
        low, high = self._curvature_range()
        if self.num_rows * self.dim**2 > _CHEAP_GRAM or (low == 0.0 and math.isinf(high)):
            return (self.l2 or None), None
        with np.errstate(over="ignore", invalid="ignore"):
            gram = self._weighted_gram(np.ones(self.num_rows))
        if not np.isfinite(gram).all():
            return (self.l2 or None), math.inf
        values = np.linalg.eigvalsh(gram)
        mu = max(float(values[0]), 0.0) * low + self.l2
        return (mu or None), float(values[-1]) * high + self.l2

    def _check_targets(self, targets: Any) -> Any:
        return targets

    # The loss of a row with margin m and target y, and its derivatives in m.

    @abstractmethod
    def _curvature_range(self) -> tuple[float, float]:
        """Bounds of the second derivative."""

    @abstractmethod
    def _row_losses(self, margins: Float64, targets: Float64) -> Float64: ...

    @abstractmethod
    def _slopes(self, margins: Float64, targets: Float64) -> Float64: ...

    @abstractmethod
    def _curvatures(self, margins: Float64, targets: Float64) -> Float64: ...

    def _majorants(self, margins: Float64, targets: Float64) -> Float64:
        """Curvatures of parabolas above the losses, for where `_curvatures` are too many zeros."""
        return np.full(margins.shape, self._curvature_range()[1])

    def _host_rows(self) -> tuple[Float64, Float64]:
        features = to_host(self._features).astype(np.float64, copy=False)
        return features, to_host(self._targets).astype(np.float64, copy=False)

    def _weighted_gram(self, weights: Float64) -> Float64:
        features, _ = self._host_rows()
        scaled = features * np.sqrt(weights)[:, None]
        gram: Float64 = scaled.T @ scaled / self.num_rows  # symmetric to the last bit
        return gram

    def _residuals(self, theta: Float64) -> Float64:
        features, targets = self._host_rows()
        return self._slopes(features @ theta, targets)

    def _matrix(self, curvatures: Callable[[Float64, Float64], Float64], at: Float64) -> Float64:
        features, targets = self._host_rows()
        weights = curvatures(features @ at, targets)
        return self._weighted_gram(weights) + self.l2 * np.eye(self.dim)

    def _hessian(self) -> Float64:
        return self._matrix(self._curvatures, self._host_minimizer)

    def _loss(self, theta: Float64) -> float:
        features, targets = self._host_rows()
        losses = self._row_losses(features @ theta, targets)
        return float(losses.mean() + 0.5 * self.l2 * (theta @ theta))

    def _gradient(self, theta: Float64) -> Float64:
        features, _ = self._host_rows()
        gradient: Float64 = features.T @ self._residuals(theta) / self.num_rows + self.l2 * theta
        return gradient

    def _noise_covariance(self) -> Float64:
        if self.sampling != "iid":
            raise ValueError(
                f"{self._name}: noise_covariance is defined for sampling='iid' only, since the "
                f"noise of sampling={self.sampling!r} depends on the steps before"
            )
        features, _ = self._host_rows()
        theta = self._host_minimizer
        noise = features * self._residuals(theta)[:, None] + self.l2 * theta
        covariance: Float64 = noise.T @ noise / (self.num_rows * self.batch_size)
        return covariance

    def _minimizer(self) -> Float64:
        theta, size = self._descend(np.zeros(self.dim))
        # Rounding may keep the last steps above 1e-14; a minimiser at infinity keeps them large.
        if size > 1e-9 or float(np.abs(theta).max()) > 1e8:
            raise self._not_unique(self._why_not)
        if _solve(self._matrix(self._curvatures, theta), theta) is None:
            raise self._not_unique(f"the Hessian is singular, {self._why_not}")
        return theta

    def _descend(self, theta: Float64) -> tuple[Float64, float]:
        """Newton's method with a line search, semismooth where the curvature jumps.

        Return where it ends and the relative size of its last step.
        """
        loss, size = self._loss(theta), math.inf
        for _ in range(_MAX_NEWTON_STEPS):
            gradient = self._gradient(theta)
            step = _solve(self._matrix(self._curvatures, theta), gradient)
            if step is None:
                step = _solve(self._matrix(self._majorants, theta), gradient)
            if step is None:
                raise self._not_unique("the Hessian is singular")
            theta, loss = self._search(theta, loss, step, float(gradient @ step))
            size = float(np.abs(step).max()) / max(1.0, float(np.abs(theta).max()))
            if size <= 1e-14 or float(np.abs(theta).max()) > 1e8:
                break
        return theta, size

    def _search(
        self, theta: Float64, loss: float, step: Float64, decrement: float
    ) -> tuple[Float64, float]:
        """Halve the step until the loss falls as it should."""
        scale = 1.0
        while True:
            moved = theta - scale * step
            with np.errstate(over="ignore"):
                moved_loss = self._loss(moved)
            expected = loss - 0.25 * scale * decrement + 1e-15 * abs(loss)
            if moved_loss <= expected or scale <= 1e-10:
                return moved, moved_loss
            scale /= 2

    _why_not: ClassVar[str] = "Newton's method does not converge"

    def _not_unique(self, why: str) -> ValueError:
        return ValueError(f"{self._name}: there is no unique minimiser: {why}; use l2 > 0")


def _solve(matrix: Float64, right: Float64) -> Float64 | None:
    """Solve a symmetric system, scaled to a unit diagonal; None when it is singular."""
    diagonal = np.diag(matrix)
    if diagonal.min() <= 0:
        return None
    scale = 1.0 / np.sqrt(diagonal)
    values, vectors = np.linalg.eigh(matrix * scale * scale[:, None])
    if values[0] <= len(values) * np.finfo(np.float64).eps * values[-1]:
        return None
    solution: Float64 = scale * (vectors @ ((vectors.T @ (scale * right)) / values))
    return solution


class LeastSquares(Rows):
    __doc__ = f"""Least squares on the rows of a matrix: ``mean (x^T t - y)^2 / 2 + l2 |t|^2 / 2``.

    Parameters
    ----------
    {PARAMETERS.format(target="Real targets.", more="")}

    Raises
    ------
    TypeError, ValueError
        Sparse or non-numeric data, wrong shapes, NaN or infinities, wrong options.

    Notes
    -----
    A step costs O(batch_size d) times the number of step sizes, plus the reading of the rows.
    Class A.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import sgd
    >>> X = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    >>> problem = sgd.LeastSquares(X, y=[1.0, 2.0, 2.0])
    >>> problem.minimizer().round(12)
    array([1., 1.])
    """
    _name = "LeastSquares"
    kernel = "least_squares"

    def _curvature_range(self) -> tuple[float, float]:
        return 1.0, 1.0

    def _row_losses(self, margins: Float64, targets: Float64) -> Float64:
        losses: Float64 = 0.5 * (margins - targets) ** 2
        return losses

    def _slopes(self, margins: Float64, targets: Float64) -> Float64:
        return margins - targets

    def _curvatures(self, margins: Float64, targets: Float64) -> Float64:
        return np.ones(margins.shape)

    def _minimizer(self) -> Float64:
        features, targets = self._host_rows()
        ridge = np.sqrt(self.l2 * self.num_rows) * np.eye(self.dim)
        stacked = np.vstack([features, ridge]) if self.l2 > 0 else features
        right = np.concatenate([targets, np.zeros(stacked.shape[0] - targets.size)])
        solution, _, rank, _ = np.linalg.lstsq(stacked, right, rcond=None)
        if rank < self.dim:
            raise self._not_unique(f"the rows of `X` span {rank} of {self.dim} dimensions")
        minimizer: Float64 = solution
        return minimizer


class Logistic(Rows):
    __doc__ = f"""Logistic regression on the rows of a matrix.

    The objective is ``mean log(1 + exp(x^T t)) - y x^T t + l2 |t|^2 / 2``. There is no intercept of
    its own: add a column of ones.

    Parameters
    ----------
    {PARAMETERS.format(target="Labels, in {0, 1} or in {-1, 1}.", more="")}

    Raises
    ------
    TypeError, ValueError
        Sparse or non-numeric data, wrong shapes, NaN or infinities, labels of another kind, wrong
        options.

    Notes
    -----
    A step costs O(batch_size d) times the number of step sizes, plus the reading of the rows.
    Class A.

    Examples
    --------
    >>> from hotloops import datasets, sgd
    >>> data = datasets.load_breast_cancer()
    >>> X = (data.X - data.X.mean(0)) / data.X.std(0)
    >>> problem = sgd.Logistic(X, data.y, l2=1e-2)
    >>> run = sgd.run(problem, step_sizes=[0.05, 0.1], num_steps=10_000, num_chains=16, seed=7)
    >>> run.extrapolated.shape
    (16, 30)
    """
    _name = "Logistic"
    kernel = "logistic"
    _why_not = "Newton's method does not converge, the classes may be separable"

    # The second derivative vanishes for large margins: only the ridge bounds it from below.
    def _curvature_range(self) -> tuple[float, float]:
        return 0.0, 0.25

    def _check_targets(self, targets: Any) -> Any:
        return (signs_of(self._name, targets) > 0).astype(targets.dtype)

    def _row_losses(self, margins: Float64, targets: Float64) -> Float64:
        return np.logaddexp(0.0, -_signed(margins, targets))

    # In terms of s m with s = 2 y - 1 nothing cancels where p is near y.
    def _slopes(self, margins: Float64, targets: Float64) -> Float64:
        signed = _signed(margins, targets)
        decay = np.exp(-np.abs(signed))
        slopes: Float64 = (1.0 - 2.0 * targets) * np.where(signed >= 0, decay, 1.0) / (1.0 + decay)
        return slopes

    def _curvatures(self, margins: Float64, targets: Float64) -> Float64:
        decay = np.exp(-np.abs(margins))
        curvatures: Float64 = decay / (1.0 + decay) ** 2
        return curvatures


def _signed(margins: Float64, targets: Float64) -> Float64:
    return (2.0 * targets - 1.0) * margins


def signs_of(function: str, targets: Any) -> Any:
    """Check the labels of two classes and return them as -1 and 1."""
    values = np.unique(to_host(targets))
    allowed = (np.array([0.0, 1.0]), np.array([-1.0, 1.0]))
    if not any(np.isin(values, kind).all() for kind in allowed):
        strange = [value for value in values if value not in (-1.0, 0.0, 1.0)]
        got = f"{strange[0]:g}" if strange else "labels -1 and 0 together"
        expectation = "hold labels in {0, 1} or in {-1, 1}"
        validate.fail(ValueError, function, "y", expectation, got)
    return 2 * (targets > 0).astype(targets.dtype) - 1
