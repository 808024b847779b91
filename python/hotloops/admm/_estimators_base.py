"""What the estimators share: data, clients, warm starts, one call of the solver."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from hotloops._runtime import validate
from hotloops.admm._losses import Loss, as_loss
from hotloops.admm._result import AdmmResult
from hotloops.admm._schedules import Balancing
from hotloops.admm._solve import solve_clients

__all__ = ["REAL", "Classifier", "Consensus", "Rows"]

_MOST_FOR_MAJORANTS = 2048
REAL = [np.float64, np.float32]

# Newton-like steps are stable for every sigma, so that residuals alone may choose it.
_FREE_BALANCING = Balancing(every=5, lowest=1e-6)


class Rows:
    """The checked rows of a fit: data, weights of the rows, and whose they are."""

    def __init__(self, X: Any, weights: Any, groups: Any) -> None:
        self.X = X
        self.weights = weights
        self.clients = groups

    @property
    def mass(self) -> float:
        """What plays the role of the number of rows in penalties."""
        return float(self.X.shape[0] if self.weights is None else self.weights.sum())


class Consensus(BaseEstimator):  # type: ignore[misc]
    """Fit over clients by consensus ADMM."""

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check_rows(self, X: Any, weights: Any, groups: Any) -> Rows:
        if weights is not None:
            if not (np.asarray(weights, np.float64) > 0).any():
                expectation = "hold a positive weight"
                got = "none above zero"
                validate.fail(ValueError, self._name, "sample_weight", expectation, got)
            weights = _check_sample_weight(weights, X, dtype=X.dtype, ensure_non_negative=True)
        if groups is not None:
            groups = np.asarray(groups)
            if groups.shape != (X.shape[0],):
                expectation = f"have shape ({X.shape[0]},)"
                got = f"shape {groups.shape}"
                validate.fail(ValueError, self._name, "groups", expectation, got)
        return Rows(X, weights, groups)

    def _solve(
        self,
        rows: Rows,
        loss: Loss | str,
        y: Any,
        *,
        l2: float,
        regularizer: Any = None,
        num_classes: int | None = None,
        previous: AdmmResult | None = None,
        options: dict[str, Any] | None = None,
    ) -> AdmmResult:
        """Run the solver, from where `previous` ended if it fits."""
        loss = as_loss(self._name, loss)
        validate.integer(self._name, "max_iter", self.max_iter, low=1)
        given = {
            "l2": l2,
            "regularizer": regularizer,
            "intercept": bool(getattr(self, "fit_intercept", True)),
            "num_rounds": self.max_iter,
            "tol": validate.real(self._name, "tol", self.tol, low=0.0),
            "backend": self.backend,
            "num_threads": self.num_threads,
            **self._scheme(loss, rows),
            **(options or {}),
        }
        clients = [np.arange(rows.X.shape[0])] if rows.clients is None else rows.clients
        data = (rows.X, y, clients, rows.weights, num_classes)
        state = self._reusable(previous, data, loss, given)
        if state is not None:
            given["state"] = state
            given.pop("w0", None)
        result = solve_clients(self._name, loss, data, given)
        if not result.converged:
            warnings.warn(
                f"{self._name}: {result.history['round'].size} rounds did not reach tol; "
                "raise max_iter, or scale the columns of X",
                ConvergenceWarning,
                stacklevel=4,
            )
        return result

    def _solve_whole(self, rows: Rows, loss: Loss | str, y: Any, **given: Any) -> AdmmResult:
        """Run the solver from the last fit on, and keep what it returns."""
        result = self._solve(rows, loss, y, previous=getattr(self, "result_", None), **given)
        self.result_ = result
        self.n_iter_ = int(result.history["round"].size)
        return result

    def _scheme(self, loss: Loss, rows: Rows) -> dict[str, Any]:
        """Return scheme, sigma, rho and schedule."""
        scheme = self.scheme
        if scheme == "auto":
            small = rows.X.shape[1] < _MOST_FOR_MAJORANTS and not loss.hidden
            scheme = "majorant" if small else "identity"
        newton = scheme in ("hessian", "majorant", "exact")
        default = 1.0 if newton else {"identity": 0.0}.get(scheme, 10.0)
        rho = default if self.rho is None else self.rho
        return {
            "scheme": scheme,
            "sigma": self.sigma,
            "rho": rho,
            "schedule": _FREE_BALANCING if newton else None,
        }

    def _reusable(
        self, previous: AdmmResult | None, data: Any, loss: Loss, given: dict[str, Any]
    ) -> Any:
        """Return the state of the last fit when a warm start can use it."""
        if previous is None or not self.warm_start:
            return None
        X, _, clients, _, num_classes = data
        count = len(clients) if isinstance(clients, list) else np.unique(clients).size
        outputs = num_classes or 1
        state = previous.state
        wanted = (X.shape[1], *loss.hidden, outputs)
        same = (
            previous.layers == wanted
            and state.dual.shape[0] == count
            and state.scheme == given["scheme"]
            and state.loss == loss.kernel
            and state.w.dtype == X.dtype
        )
        return replace(state, seed=given.get("seed", 0)) if same else None


class Classifier(ClassifierMixin, Consensus):  # type: ignore[misc]
    """Labels, weights of classes, and predictions by the largest score."""

    def _encode(self, X: Any, y: Any) -> tuple[Any, npt.NDArray[np.int64]]:
        """Check the data and set `classes_`; return X and the numbers of the labels."""
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=REAL)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if self.classes_.size < 2:
            raise ValueError(
                f"{self._name}: `y` must hold at least two classes, got one class: "
                f"{self.classes_[0]!r}"
            )
        return X, numbers.astype(np.int64)

    def _class_weights(self, X: Any, numbers: Any, weights: Any) -> Any:
        """Return the weights of the rows with those of their classes."""
        if getattr(self, "class_weight", None) is None:
            return weights
        y = self.classes_[numbers]
        if isinstance(self.class_weight, str) and weights is not None:
            validate.choice(self._name, "class_weight", self.class_weight, ("balanced",))
            own = _check_sample_weight(weights, X, dtype=np.float64)
            mass = np.bincount(numbers, own, minlength=self.classes_.size)
            factors = own.sum() / (self.classes_.size * np.where(mass > 0, mass, 1.0))
        else:
            factors = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        per_row = np.asarray(factors)[numbers]
        return per_row if weights is None else per_row * np.asarray(weights, np.float64)

    def decision_function(self, X: Any) -> Any:
        """Return the scores: one for two classes, the second's; else one for each class.

        Parameters
        ----------
        X : {array_like, CSR matrix}, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples,) or (n_samples, n_classes)
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=REAL, reset=False)
        scores = np.asarray(X @ self.coef_.T) + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> Any:
        """Return the most likely class of each row.

        Parameters
        ----------
        X : {array_like, CSR matrix}, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples,)
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return self.classes_[(scores > 0).astype(np.int64)]
        return self.classes_[scores.argmax(axis=1)]
