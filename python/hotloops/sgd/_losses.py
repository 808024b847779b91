"""More losses over the rows of a data matrix: robust, for margins, and for counts."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops.sgd._problem import DIVERGENCE_LIMIT, Float64, in_precision, sigmoid
from hotloops.sgd._rows import PARAMETERS, Rows, signs_of

__all__ = ["Huber", "Poisson", "SoftplusHinge", "SquaredHinge"]

_MAX_WIDTHS = 50
_LABELS = "Labels, in {0, 1} or in {-1, 1}."
_DELTA = """
    delta : float
        Where the loss turns linear. Default 1.35, which for Gaussian errors of variance 1 costs
        five per cent of the efficiency of least squares; scale it with the errors."""
_SHARPNESS = """
    sharpness : float
        ``beta``, four times the second derivative at the corner. Default 1, with which the loss is
        the logistic one of a shifted margin."""


class Huber(Rows):
    __doc__ = f"""Regression with Huber's loss on the rows of a matrix.

    The objective is ``mean h(x^T t - y) + l2 |t|^2 / 2`` with ``h(r) = r^2 / 2`` for
    ``|r| <= delta`` and ``delta (|r| - delta / 2)`` beyond: no outlier pulls harder than `delta`.

    Parameters
    ----------
    {PARAMETERS.format(target="Real targets.", more=_DELTA)}

    Raises
    ------
    TypeError, ValueError
        Sparse or non-numeric data, wrong shapes, NaN or infinities, wrong options.

    Notes
    -----
    A step costs O(batch_size d) times the number of step sizes, plus the reading of the rows.
    Class A. The minimiser comes from a semismooth Newton method; the Hessian counts the rows with
    ``|r| <= delta``.

    References
    ----------
    P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35
    (1964).

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import sgd
    >>> problem = sgd.Huber(np.ones((5, 1)), y=[0.0, 0.1, 0.2, 0.3, 100.0], delta=1.0)
    >>> problem.minimizer().round(6)
    array([0.4])
    """
    _name = "Huber"
    kernel = "huber"
    _why_not = "too few rows lie within delta of the fit"

    def __init__(
        self,
        X: Any,
        y: Any,
        delta: float = 1.35,
        l2: float = 0.0,
        *,
        batch_size: int = 1,
        sampling: str = "iid",
        divergence_limit: float = DIVERGENCE_LIMIT,
    ) -> None:
        self._shape = self.delta = validate.real("Huber", "delta", delta, low=0.0, open_low=True)
        super().__init__(
            X,
            y,
            l2,
            batch_size=batch_size,
            sampling=sampling,
            divergence_limit=divergence_limit,
        )

    def parameters(self, dtype: np.dtype[Any], xp: Any) -> tuple[Any, ...]:
        in_precision("Huber", "delta", self.delta, dtype, np)
        return super().parameters(dtype, xp)

    def _curvature_range(self) -> tuple[float, float]:
        return 0.0, 1.0

    def _row_losses(self, margins: Float64, targets: Float64) -> Float64:
        size = np.abs(margins - targets)
        inner = np.minimum(size, self.delta)
        losses: Float64 = inner * (size - 0.5 * inner)
        return losses

    def _slopes(self, margins: Float64, targets: Float64) -> Float64:
        return np.clip(margins - targets, -self.delta, self.delta)

    def _curvatures(self, margins: Float64, targets: Float64) -> Float64:
        return (np.abs(margins - targets) < self.delta).astype(np.float64)

    def _majorants(self, margins: Float64, targets: Float64) -> Float64:
        return self.delta / np.maximum(np.abs(margins - targets), self.delta)

    def _descend(self, theta: Float64) -> tuple[Float64, float]:
        """Come down from losses that are quadratic for all rows, four times narrower each time.

        A narrow loss alone leaves Newton's method without curvature far from the minimiser.
        """
        _, targets = self._host_rows()
        largest = float(np.abs(targets).max())
        wider = copy.copy(self)
        count = math.ceil(math.log(max(largest / self.delta, 1.0), 4))
        for power in range(min(count, _MAX_WIDTHS), 0, -1):
            wider.delta = self.delta * 4.0**power
            theta, _ = super(Huber, wider)._descend(theta)
        return super()._descend(theta)


class _Hinge(Rows):
    """Losses of the signed margin ``y x^T t`` with labels -1 and 1."""

    def _check_targets(self, targets: Any) -> Any:
        return signs_of(self._name, targets)


class SquaredHinge(_Hinge):
    __doc__ = f"""Squared hinge loss on the rows of a matrix: a smooth support vector machine.

    The objective is ``mean max(0, 1 - y x^T t)^2 + l2 |t|^2 / 2``, y in {{-1, 1}}. There is no
    intercept of its own: add a column of ones.

    Parameters
    ----------
    {PARAMETERS.format(target=_LABELS, more="")}

    Raises
    ------
    TypeError, ValueError
        Sparse or non-numeric data, wrong shapes, NaN or infinities, labels of another kind, wrong
        options.

    Notes
    -----
    A step costs O(batch_size d) times the number of step sizes, plus the reading of the rows.
    Class A. The minimiser comes from a semismooth Newton method; the Hessian counts the rows with
    ``y x^T t < 1``. Without a ridge there is no unique minimiser when the classes are separable.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import sgd
    >>> problem = sgd.SquaredHinge(np.array([[1.0], [2.0], [-0.5]]), y=[1, 0, 1], l2=0.1)
    >>> problem.minimizer().round(6)
    array([-0.277778])
    """
    _name = "SquaredHinge"
    kernel = "squared_hinge"
    _why_not = "the classes may be separable"

    def _curvature_range(self) -> tuple[float, float]:
        return 0.0, 2.0

    def _row_losses(self, margins: Float64, targets: Float64) -> Float64:
        losses: Float64 = np.maximum(0.0, 1.0 - targets * margins) ** 2
        return losses

    def _slopes(self, margins: Float64, targets: Float64) -> Float64:
        slopes: Float64 = -2.0 * targets * np.maximum(0.0, 1.0 - targets * margins)
        return slopes

    def _curvatures(self, margins: Float64, targets: Float64) -> Float64:
        return np.where(1.0 - targets * margins > 0, 2.0, 0.0)


class SoftplusHinge(_Hinge):
    __doc__ = f"""Hinge loss with its corner rounded off, on the rows of a matrix.

    The objective is ``mean log(1 + exp(beta (1 - y x^T t))) / beta + l2 |t|^2 / 2`` with y in
    {{-1, 1}} and beta the `sharpness`: smooth, and the hinge loss as beta grows. There is no
    intercept of its own: add a column of ones.

    Parameters
    ----------
    {PARAMETERS.format(target=_LABELS, more=_SHARPNESS)}

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
    >>> import numpy as np
    >>> from hotloops import sgd
    >>> X = np.array([[1.0], [2.0], [-0.5]])
    >>> problem = sgd.SoftplusHinge(X, y=[1, 0, 1], sharpness=4.0, l2=0.1)
    >>> run = sgd.run(problem, [0.05, 0.1], num_steps=2_000, num_chains=8, seed=7)
    >>> run.extrapolated.shape
    (8, 1)
    """
    _name = "SoftplusHinge"
    kernel = "softplus_hinge"
    _why_not = "Newton's method does not converge, the classes may be separable"

    def __init__(
        self,
        X: Any,
        y: Any,
        sharpness: float = 1.0,
        l2: float = 0.0,
        *,
        batch_size: int = 1,
        sampling: str = "iid",
        divergence_limit: float = DIVERGENCE_LIMIT,
    ) -> None:
        name = "SoftplusHinge"
        self.sharpness = validate.real(name, "sharpness", sharpness, low=0.0, open_low=True)
        self._shape = self.sharpness
        super().__init__(
            X,
            y,
            l2,
            batch_size=batch_size,
            sampling=sampling,
            divergence_limit=divergence_limit,
        )

    def parameters(self, dtype: np.dtype[Any], xp: Any) -> tuple[Any, ...]:
        in_precision("SoftplusHinge", "sharpness", self.sharpness, dtype, np)
        return super().parameters(dtype, xp)

    def _curvature_range(self) -> tuple[float, float]:
        return 0.0, self.sharpness / 4

    def _row_losses(self, margins: Float64, targets: Float64) -> Float64:
        excess = self.sharpness * (1.0 - targets * margins)
        losses: Float64 = np.logaddexp(0.0, excess) / self.sharpness
        return losses

    def _slopes(self, margins: Float64, targets: Float64) -> Float64:
        slopes: Float64 = -targets * sigmoid(self.sharpness * (1.0 - targets * margins))
        return slopes

    def _curvatures(self, margins: Float64, targets: Float64) -> Float64:
        decay = np.exp(-np.abs(self.sharpness * (1.0 - targets * margins)))
        curvatures: Float64 = self.sharpness * decay / (1.0 + decay) ** 2
        return curvatures


class Poisson(Rows):
    __doc__ = f"""Poisson regression with a log link on the rows of a matrix.

    The objective is ``mean exp(x^T t) - y x^T t + l2 |t|^2 / 2``. There is no intercept of its own:
    add a column of ones.

    Parameters
    ----------
    {PARAMETERS.format(target="Counts, or other numbers that are not negative.", more="")}

    Raises
    ------
    TypeError, ValueError
        Sparse or non-numeric data, wrong shapes, NaN or infinities, negative targets, wrong
        options.

    Notes
    -----
    A step costs O(batch_size d) times the number of step sizes, plus the reading of the rows.
    Class A. The gradient is not Lipschitz, so no step size is safe everywhere: keep margins of
    order 1, steps small and starts moderate, and look at the flags. `curvature_bounds` knows no L.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import sgd
    >>> problem = sgd.Poisson(np.ones((3, 1)), y=[1, 2, 3])
    >>> float(np.exp(problem.minimizer()[0]).round(12))
    2.0
    """
    _name = "Poisson"
    kernel = "poisson"
    _why_not = "Newton's method does not converge, a combination of columns may only meet zeros"

    def _curvature_range(self) -> tuple[float, float]:
        return 0.0, math.inf

    def _check_targets(self, targets: Any) -> Any:
        smallest = float(targets.min())
        if smallest < 0:
            validate.fail(ValueError, "Poisson", "y", "not be negative", f"{smallest:g}")
        return targets

    def _row_losses(self, margins: Float64, targets: Float64) -> Float64:
        losses: Float64 = np.exp(margins) - targets * margins
        return losses

    def _slopes(self, margins: Float64, targets: Float64) -> Float64:
        slopes: Float64 = np.exp(margins) - targets
        return slopes

    def _curvatures(self, margins: Float64, targets: Float64) -> Float64:
        return np.exp(margins)

    def _majorants(self, margins: Float64, targets: Float64) -> Float64:
        return self._curvatures(margins, targets)
