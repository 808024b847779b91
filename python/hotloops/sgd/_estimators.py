"""Linear models for scikit-learn, fitted by extrapolated averages of SGD, with intervals."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import special
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from hotloops._runtime import validate
from hotloops.sgd._estimators_base import RRSGD
from hotloops.sgd._estimators_rows import Float64, Table
from hotloops.sgd._estimators_text import ATTRIBUTES, NOTES, PARAMETERS

__all__ = ["RRSGDClassifier", "RRSGDRegressor"]


class RRSGDRegressor(RegressorMixin, RRSGD):  # type: ignore[misc]
    __doc__ = f"""Linear regression by extrapolated averages of SGD, with confidence intervals.

    It minimises ``mean loss(x^T coef + intercept - y) + alpha |coef|^2 / 2``. Constant-step SGD at
    two step sizes reads the same rows, and the Richardson-Romberg combination of the two averages
    removes the leading bias of the step size.

    Parameters
    ----------
    loss : {{"squared_error", "huber"}}
        ``r^2 / 2`` (the default), or the same up to ``|r| = epsilon`` and linear beyond.
    {PARAMETERS.format()}
    epsilon : float
        Where Huber's loss turns linear, in the units of y. Default 1.35.

    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
    intercept_ : float
    {ATTRIBUTES}

    Notes
    -----
    {NOTES}

    References
    ----------
    M. Sheshukova et al., "Nonasymptotic Analysis of Stochastic Gradient Descent with the
    Richardson-Romberg Extrapolation", ICLR 2025, arXiv:2410.05106.

    H. White, "Maximum likelihood estimation of misspecified models", Econometrica 50 (1982), for
    the sandwich.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import sgd
    >>> generator = np.random.default_rng(0)
    >>> X = generator.normal(size=(500, 2))
    >>> y = X @ [1.0, -2.0] + 3.0 + generator.normal(size=500)
    >>> model = sgd.RRSGDRegressor(random_state=0).fit(X, y)
    >>> model.conf_int().shape  # the intercept comes last
    (3, 2)
    """
    _losses: ClassVar[tuple[str, ...]] = ("squared_error", "huber")

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        alpha: float = 1e-4,
        fit_intercept: bool = True,
        step_size: Any = "auto",
        step_ratio: float = 2.0,
        step_sizes: Any = None,
        extrapolate: bool = True,
        n_passes: Any = "auto",
        burn_in: int | None = None,
        batch_size: int = 1,
        sampling: str = "iid",
        num_chains: int = 1,
        covariance: str | None = "sandwich",
        epsilon: float = 1.35,
        random_state: Any = None,
        num_threads: int | None = None,
        backend: str | None = None,
    ) -> None:
        self.loss = loss
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.step_size = step_size
        self.step_ratio = step_ratio
        self.step_sizes = step_sizes
        self.extrapolate = extrapolate
        self.n_passes = n_passes
        self.burn_in = burn_in
        self.batch_size = batch_size
        self.sampling = sampling
        self.num_chains = num_chains
        self.covariance = covariance
        self.epsilon = epsilon
        self.random_state = random_state
        self.num_threads = num_threads
        self.backend = backend

    def _shape_of_loss(self) -> dict[str, float]:
        epsilon = validate.real(self._name, "epsilon", self.epsilon, low=0.0, open_low=True)
        return {"delta": epsilon} if self.loss == "huber" else {}

    def _table(self, X: Any, y: Any, *, reset: bool) -> Table:
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=np.float64, y_numeric=True, reset=reset
        )
        targets = np.ascontiguousarray(y, np.float64)[None]
        return Table(X, targets, bool(self.fit_intercept))

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RRSGDRegressor:
        """Fit from the start.

        Parameters
        ----------
        X : {array_like, CSR matrix}, shape (n_samples, n_features)
        y : array_like, shape (n_samples,)
        sample_weight : array_like, shape (n_samples,), optional
            Not negative; only ratios count.

        Returns
        -------
        RRSGDRegressor
            The estimator itself.

        Raises
        ------
        TypeError, ValueError
            Parameters or data out of range.
        hotloops.NumericalError
            The step sizes given are too large: the iterates diverged.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            With ``covariance="sandwich"``: a coefficient is more than a standard error off the
            solution of its estimating equation.
        """
        table = self._table(X, y, reset=True)
        self._check_parameters()
        self._fit_table(table, self._weights(sample_weight, table.num_rows))
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> RRSGDRegressor:
        """Go on with more rows, each used once, in the order given.

        Step sizes and burn-in are those of the first call. See `fit` for types and errors.

        Parameters
        ----------
        X : {array_like, CSR matrix}, shape (n_samples, n_features)
        y : array_like, shape (n_samples,)
        sample_weight : array_like, shape (n_samples,), optional
            The expected number of times that each row is used.

        Returns
        -------
        RRSGDRegressor
            The estimator itself.
        """
        table = self._table(X, y, reset=not self._begun)
        self._check_parameters()
        self._partial_fit_table(table, self._weights(sample_weight, table.num_rows))
        return self

    def predict(self, X: Any) -> Float64:
        """Return predictions, shape (n_samples,), for rows X (n_samples, n_features)."""
        return self._margins(X)[:, 0]

    def _set_coefficients(self, coefficients: Float64, intercepts: Float64) -> None:
        self.coef_ = coefficients[0]
        self.intercept_ = float(intercepts[0])


class RRSGDClassifier(ClassifierMixin, RRSGD):  # type: ignore[misc]
    __doc__ = f"""Linear classification by extrapolated averages of SGD, with confidence intervals.

    It minimises ``mean loss(m) + alpha |coef|^2 / 2`` with the signed margin ``m = +-(x^T coef +
    intercept)``. With more than two classes each is set against all others; their problems read
    the same rows at the same time.

    Parameters
    ----------
    loss : {{"log_loss", "squared_hinge", "softplus_hinge"}}
        ``log(1 + exp(-m))`` (the default, logistic regression), ``max(0, 1 - m)^2``, or ``log(1 +
        exp(sharpness (1 - m))) / sharpness``, a smooth hinge.
    {PARAMETERS.format()}
    sharpness : float
        Of the softplus hinge. Default 1.
    class_weight : dict, "balanced" or None
        Factors of the weights of the rows of each class; "balanced" makes all classes weigh the
        same (not in `partial_fit`). Default None.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    coef_ : ndarray, shape (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray, shape (1,) or (n_classes,)
    {ATTRIBUTES}

    Notes
    -----
    {NOTES}

    References
    ----------
    M. Sheshukova et al., "Nonasymptotic Analysis of Stochastic Gradient Descent with the
    Richardson-Romberg Extrapolation", ICLR 2025, arXiv:2410.05106.

    Examples
    --------
    >>> from hotloops import datasets, sgd
    >>> data = datasets.load_breast_cancer()
    >>> X = (data.X - data.X.mean(0)) / data.X.std(0)
    >>> model = sgd.RRSGDClassifier(alpha=1e-2, random_state=0).fit(X, data.y)
    >>> model.coef_cov_.shape, model.predict_proba(X).shape
    ((31, 31), (569, 2))
    """
    _losses: ClassVar[tuple[str, ...]] = ("log_loss", "squared_hinge", "softplus_hinge")

    def __init__(
        self,
        loss: str = "log_loss",
        *,
        alpha: float = 1e-4,
        fit_intercept: bool = True,
        step_size: Any = "auto",
        step_ratio: float = 2.0,
        step_sizes: Any = None,
        extrapolate: bool = True,
        n_passes: Any = "auto",
        burn_in: int | None = None,
        batch_size: int = 1,
        sampling: str = "iid",
        num_chains: int = 1,
        covariance: str | None = "sandwich",
        sharpness: float = 1.0,
        class_weight: Any = None,
        random_state: Any = None,
        num_threads: int | None = None,
        backend: str | None = None,
    ) -> None:
        self.loss = loss
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.step_size = step_size
        self.step_ratio = step_ratio
        self.step_sizes = step_sizes
        self.extrapolate = extrapolate
        self.n_passes = n_passes
        self.burn_in = burn_in
        self.batch_size = batch_size
        self.sampling = sampling
        self.num_chains = num_chains
        self.covariance = covariance
        self.sharpness = sharpness
        self.class_weight = class_weight
        self.random_state = random_state
        self.num_threads = num_threads
        self.backend = backend

    def _shape_of_loss(self) -> dict[str, float]:
        sharpness = validate.real(self._name, "sharpness", self.sharpness, low=0.0, open_low=True)
        return {"sharpness": sharpness} if self.loss == "softplus_hinge" else {}

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RRSGDClassifier:
        """Fit from the start.

        Parameters
        ----------
        X : {array_like, CSR matrix}, shape (n_samples, n_features)
        y : array_like, shape (n_samples,)
            Labels of any kind, of at least two classes.
        sample_weight : array_like, shape (n_samples,), optional
            Not negative; only ratios count.

        Returns
        -------
        RRSGDClassifier
            The estimator itself.

        Raises
        ------
        TypeError, ValueError
            Parameters or data out of range, or fewer than two classes.
        hotloops.NumericalError
            The step sizes given are too large: the iterates diverged.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            With ``covariance="sandwich"``: a coefficient is more than a standard error off the
            solution of its estimating equation.
        """
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)
        self._check_parameters()
        check_classification_targets(y)
        weights = self._weights(sample_weight, y.shape[0])
        classes, codes = np.unique(y, return_inverse=True)
        present = np.unique(codes[weights > 0]).size
        if present < 2:
            got = "1 class" + ("" if classes.size < 2 else " of positive weight")
            validate.fail(ValueError, self._name, "y", "hold at least two classes", got)
        self.classes_ = classes
        weights = weights * self._class_factors(codes, weights)[codes]
        if np.unique(codes[weights > 0]).size < 2:
            expectation = "leave a positive weight to at least two classes"
            got = repr(self.class_weight)
            validate.fail(ValueError, self._name, "class_weight", expectation, got)
        table = Table(X, self._targets(codes), bool(self.fit_intercept))
        self._fit_table(table, weights)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> RRSGDClassifier:
        """Go on with more rows, each used once, in the order given.

        Parameters
        ----------
        X : {array_like, CSR matrix}, shape (n_samples, n_features)
        y : array_like, shape (n_samples,)
        classes : array_like, shape (n_classes,)
            All labels that will ever come. The first call needs it.
        sample_weight : array_like, shape (n_samples,), optional
            The expected number of times that each row is used.

        Returns
        -------
        RRSGDClassifier
            The estimator itself.
        """
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=np.float64, reset=not self._begun
        )
        self._check_parameters()
        known = self._check_classes(classes)
        codes = np.minimum(np.searchsorted(known, y), known.size - 1)
        if (known[codes] != y).any():
            stranger = y[known[codes] != y][0]
            expectation = "hold labels among `classes`"
            validate.fail(ValueError, self._name, "y", expectation, validate.describe(stranger))
        if isinstance(self.class_weight, str):
            expectation = "be a dict or None in partial_fit, which does not know all rows"
            validate.fail(
                ValueError, self._name, "class_weight", expectation, repr(self.class_weight)
            )
        self.classes_ = known
        weights = self._weights(sample_weight, y.shape[0])
        weights = weights * self._class_factors(codes, weights)[codes]
        table = Table(X, self._targets(codes), bool(self.fit_intercept))
        self._partial_fit_table(table, weights)
        return self

    def _check_classes(self, classes: Any) -> Any:
        given = None if classes is None else np.unique(np.asarray(classes))
        if self._begun:
            if given is not None and not np.array_equal(given, self.classes_):
                expectation = f"be {self.classes_.tolist()} as in the first call"
                validate.fail(ValueError, self._name, "classes", expectation, str(given.tolist()))
            return self.classes_
        if given is None:
            expectation = "be given in the first call of partial_fit"
            validate.fail(ValueError, self._name, "classes", expectation, "None")
        if given.size < 2:
            got = str(given.tolist())
            validate.fail(ValueError, self._name, "classes", "hold at least two classes", got)
        return given

    def _class_factors(self, codes: Any, weights: Float64) -> Float64:
        count = self.classes_.size
        if self.class_weight is None:
            return np.ones(count)
        if isinstance(self.class_weight, str):
            validate.choice(self._name, "class_weight", self.class_weight, ("balanced",))
            totals = np.bincount(codes, weights=weights, minlength=count)
            factors: Float64 = weights.sum() / (count * np.where(totals > 0, totals, 1.0))
            return factors
        if not isinstance(self.class_weight, dict):
            expectation = "be a dict, 'balanced' or None"
            got = validate.describe(self.class_weight)
            validate.fail(TypeError, self._name, "class_weight", expectation, got)
        factors = compute_class_weight(
            self.class_weight, classes=self.classes_, y=self.classes_
        ).astype(np.float64)
        if not (np.isfinite(factors) & (factors >= 0)).all():
            expectation = "hold finite weights that are not negative"
            validate.fail(
                ValueError, self._name, "class_weight", expectation, str(factors.tolist())
            )
        return factors

    def _targets(self, codes: Any) -> Float64:
        """Return the targets (K, N) of each class against the others: one row for two classes."""
        own = [1] if self.classes_.size == 2 else range(self.classes_.size)
        low = 0.0 if self.loss == "log_loss" else -1.0
        return np.stack([np.where(codes == k, 1.0, low) for k in own])

    def decision_function(self, X: Any) -> Float64:
        """Return margins, shape (n_samples,) for two classes, else (n_samples, n_classes)."""
        margins = self._margins(X)
        return margins[:, 0] if margins.shape[1] == 1 else margins

    def predict(self, X: Any) -> Any:
        """Return the labels, shape (n_samples,), of rows X (n_samples, n_features)."""
        margins = self._margins(X)
        if margins.shape[1] == 1:
            return self.classes_[(margins[:, 0] > 0).astype(np.intp)]
        return self.classes_[margins.argmax(axis=1)]

    def _has_probabilities(self) -> bool:
        if self.loss == "log_loss":
            return True
        raise AttributeError(f"probabilities need loss='log_loss', got {self.loss!r}")

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Float64:
        """Return probabilities, shape (n_samples, n_classes); with ``loss="log_loss"`` only.

        With more than two classes they are those of each class against the others, divided by
        their sum.
        """
        check_is_fitted(self)
        ones: Float64 = special.expit(self._margins(X))
        if ones.shape[1] == 1:
            return np.column_stack([1 - ones[:, 0], ones[:, 0]])
        totals = ones.sum(axis=1, keepdims=True)
        even = np.full_like(ones, 1 / ones.shape[1])
        shares: Float64 = np.divide(ones, totals, out=even, where=totals > 0)
        return shares

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Float64:
        """Return the logarithms of `predict_proba`."""
        with np.errstate(divide="ignore"):
            logarithms: Float64 = np.log(self.predict_proba(X))
            return logarithms

    def _set_coefficients(self, coefficients: Float64, intercepts: Float64) -> None:
        self.coef_ = coefficients
        self.intercept_ = intercepts
