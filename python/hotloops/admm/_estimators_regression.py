"""Regressions for scikit-learn whose rows belong to clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from hotloops import prox
from hotloops._runtime import validate
from hotloops.admm._estimators_base import REAL, Consensus
from hotloops.admm._estimators_text import ATTRIBUTES, LINEAR, NOTES, SHARED, in_docstring

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ConsensusElasticNet", "ConsensusLasso", "ConsensusRidge"]


class _Linear(Consensus, ABC):
    """Regression on ``X coef + intercept``."""

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        scheme: str = "auto",
        sigma: Any = "auto",
        rho: float | None = None,
        max_iter: int = 1000,
        tol: float = 1e-5,
        warm_start: bool = False,
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.scheme = scheme
        self.sigma = sigma
        self.rho = rho
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.backend = backend
        self.num_threads = num_threads

    @abstractmethod
    def _penalties(self, mass: float) -> tuple[float, Any]:
        """Return the ridge penalty and the regularizer beside the mean loss of `mass` rows."""

    @in_docstring
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None) -> Self:
        """Fit to the rows of all clients.

        __FIT__
        """
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=REAL, y_numeric=True, ensure_min_samples=2
        )
        rows = self._check_rows(X, sample_weight, groups)
        l2, regularizer = self._penalties(rows.mass)
        result = self._solve_whole(rows, "squares", y, l2=l2, regularizer=regularizer)
        self.coef_ = result.coef.copy()
        self.intercept_ = float(result.intercept[0])
        return self

    def predict(self, X: Any) -> Any:
        """Return the prediction of each row.

        Parameters
        ----------
        X : {array_like, CSR matrix}, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples,)
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=REAL, reset=False)
        return np.asarray(X @ self.coef_) + self.intercept_


class ConsensusRidge(RegressorMixin, _Linear):  # type: ignore[misc]
    __doc__ = f"""Ridge regression over clients.

    It minimises ``|y - X coef - intercept|^2 + alpha |coef|^2``, scikit-learn's objective.

    Parameters
    ----------
    alpha : float
        Weight of the penalty, zero or positive. Default 1.
    {LINEAR}
    {SHARED.format()}

    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
    intercept_ : float
    {ATTRIBUTES}

    Notes
    -----
    {NOTES}

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([1.0, 3.0, 5.0, 7.0])
    >>> model = admm.ConsensusRidge(alpha=0.0).fit(X, y, groups=[0, 0, 1, 1])
    >>> model.coef_.round(3).tolist(), round(model.intercept_, 3)
    ([2.0], 1.0)
    """

    def _penalties(self, mass: float) -> tuple[float, Any]:
        return validate.real(self._name, "alpha", self.alpha, low=0.0) / mass, None


class ConsensusElasticNet(RegressorMixin, _Linear):  # type: ignore[misc]
    __doc__ = f"""Linear regression with l1 and l2 penalties over clients.

    It minimises ``|y - X coef - intercept|^2 / (2 n) + alpha l1_ratio |coef|_1 + alpha (1 -
    l1_ratio) |coef|^2 / 2``, scikit-learn's objective; the zeros are exact.

    Parameters
    ----------
    alpha : float
        Weight of both penalties, zero or positive. Default 1.
    l1_ratio : float
        Share of the l1 penalty, in [0, 1]. Default 0.5.
    {LINEAR}
    {SHARED.format()}

    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
    intercept_ : float
    {ATTRIBUTES}

    Notes
    -----
    {NOTES} The proximal step is that of `hotloops.prox.L1`.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> X = np.array([[0.0, 1.0], [1.0, -1.0], [2.0, -1.0], [3.0, 1.0]])
    >>> model = admm.ConsensusElasticNet(0.1, l1_ratio=0.5)
    >>> model.fit(X, X[:, 0], groups=[0, 0, 1, 1]).coef_.round(3).tolist()
    [0.923, 0.0]
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        l1_ratio: float = 0.5,
        fit_intercept: bool = True,
        scheme: str = "auto",
        sigma: Any = "auto",
        rho: float | None = None,
        max_iter: int = 1000,
        tol: float = 1e-5,
        warm_start: bool = False,
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> None:
        super().__init__(
            alpha,
            fit_intercept=fit_intercept,
            scheme=scheme,
            sigma=sigma,
            rho=rho,
            max_iter=max_iter,
            tol=tol,
            warm_start=warm_start,
            backend=backend,
            num_threads=num_threads,
        )
        self.l1_ratio = l1_ratio

    def _penalties(self, mass: float) -> tuple[float, Any]:
        alpha = validate.real(self._name, "alpha", self.alpha, low=0.0)
        ratio = validate.real(self._name, "l1_ratio", self.l1_ratio, low=0.0, high=1.0)
        l1 = alpha * ratio
        return alpha * (1.0 - ratio), prox.L1(l1) if l1 > 0.0 else None


class ConsensusLasso(RegressorMixin, _Linear):  # type: ignore[misc]
    __doc__ = f"""Linear regression with an l1 penalty over clients.

    It minimises ``|y - X coef - intercept|^2 / (2 n) + alpha |coef|_1``, scikit-learn's objective;
    the zeros are exact.

    Parameters
    ----------
    alpha : float
        Weight of the penalty, zero or positive. Default 1.
    {LINEAR}
    {SHARED.format()}

    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
    intercept_ : float
    {ATTRIBUTES}

    Notes
    -----
    {NOTES} The proximal step is that of `hotloops.prox.L1`.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> X = np.array([[0.0, 1.0], [1.0, -1.0], [2.0, -1.0], [3.0, 1.0]])
    >>> model = admm.ConsensusLasso(0.1).fit(X, X[:, 0], groups=[0, 0, 1, 1])
    >>> model.coef_.round(3).tolist()
    [0.92, 0.0]
    """

    def _penalties(self, mass: float) -> tuple[float, Any]:
        alpha = validate.real(self._name, "alpha", self.alpha, low=0.0)
        return 0.0, prox.L1(alpha) if alpha > 0.0 else None
