"""Linear classifiers for scikit-learn whose rows belong to clients."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from hotloops._runtime import validate
from hotloops.admm._estimators_base import Classifier
from hotloops.admm._estimators_text import ATTRIBUTES, LINEAR, NOTES, SHARED, in_docstring

__all__ = ["ConsensusLinearSVC", "ConsensusLogisticRegression"]


class _Linear(Classifier):
    """What the linear classifiers are made with."""

    def __init__(
        self,
        C: float = 1.0,
        *,
        class_weight: Any = None,
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
        self.C = C
        self.class_weight = class_weight
        self.fit_intercept = fit_intercept
        self.scheme = scheme
        self.sigma = sigma
        self.rho = rho
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.backend = backend
        self.num_threads = num_threads


class ConsensusLogisticRegression(_Linear):
    __doc__ = f"""Logistic regression over clients, softmax for three classes or more.

    It minimises ``C sum loss + |coef|^2 / 2``, scikit-learn's objective: ``l2 = 1 / (n C)`` beside
    the mean loss.

    Parameters
    ----------
    C : float
        Inverse weight of the penalty, positive. Default 1.
    class_weight : dict, "balanced" or None
        Default None: all classes weigh one.
    {LINEAR}
    {SHARED.format()}

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    coef_ : ndarray, shape (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray, shape (1,) or (n_classes,)
    {ATTRIBUTES}

    Notes
    -----
    {NOTES}

    Examples
    --------
    >>> from hotloops import admm, datasets
    >>> table = datasets.load_breast_cancer()
    >>> groups = table.y  # each client has seen one label only
    >>> model = admm.ConsensusLogisticRegression().fit(table.X, table.y, groups=groups)
    >>> model.score(table.X, table.y) > 0.98
    True
    """

    @in_docstring
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None
    ) -> ConsensusLogisticRegression:
        """Fit to the rows of all clients.

        __FIT__
        """
        C = validate.real(self._name, "C", self.C, low=0.0, open_low=True)
        X, numbers = self._encode(X, y)
        rows = self._check_rows(X, self._class_weights(X, numbers, sample_weight), groups)
        many = self.classes_.size > 2
        result = self._solve_whole(
            rows,
            "softmax" if many else "logistic",
            numbers,
            l2=1.0 / (C * rows.mass),
            num_classes=self.classes_.size if many else None,
        )
        self.coef_ = result.coef.T.copy() if many else result.coef[None].copy()
        self.intercept_ = result.intercept.copy()
        return self

    def predict_proba(self, X: Any) -> Any:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : {array_like, CSR matrix}, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            p = special.expit(scores)
            return np.stack([1.0 - p, p], axis=1)
        return special.softmax(scores, axis=1)


class ConsensusLinearSVC(_Linear):
    __doc__ = f"""Linear support vector classification with the squared hinge, over clients.

    It minimises ``C sum max(0, 1 - y z)^2 + |coef|^2 / 2``, and for three classes or more does so
    for each against the rest, as scikit-learn's `LinearSVC`; but the intercept is not penalised.

    Parameters
    ----------
    C : float
        Inverse weight of the penalty, positive. Default 1.
    class_weight : dict, "balanced" or None
        Default None: all classes weigh one.
    {LINEAR}
    {SHARED.format()}

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    coef_ : ndarray, shape (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray, shape (1,) or (n_classes,)
    {ATTRIBUTES} For three classes or more it is that of the last one.

    Notes
    -----
    {NOTES}

    Examples
    --------
    >>> from hotloops import admm, datasets
    >>> table = datasets.load_breast_cancer()
    >>> model = admm.ConsensusLinearSVC().fit(table.X, table.y, groups=table.y)
    >>> model.score(table.X, table.y) > 0.98
    True
    """

    @in_docstring
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None
    ) -> ConsensusLinearSVC:
        """Fit to the rows of all clients.

        __FIT__
        """
        C = validate.real(self._name, "C", self.C, low=0.0, open_low=True)
        X, numbers = self._encode(X, y)
        rows = self._check_rows(X, self._class_weights(X, numbers, sample_weight), groups)
        order = [1] if self.classes_.size == 2 else range(self.classes_.size)
        # The kernel's loss has a half in front, hence 2 C.
        results = [
            self._solve(
                rows,
                "squared_hinge",
                np.where(numbers == positive, 1, -1),
                l2=1.0 / (2.0 * C * rows.mass),
                previous=getattr(self, "_results", {}).get(positive),
            )
            for positive in order
        ]
        self._results = dict(zip(order, results, strict=True))
        self.result_ = results[-1]
        self.coef_ = np.stack([result.coef for result in results])
        self.intercept_ = np.concatenate([result.intercept for result in results])
        self.n_iter_ = max(int(result.history["round"].size) for result in results)
        return self
