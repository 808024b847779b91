"""What the two estimators share: parameters, fits, covariances, intervals."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from hotloops import random
from hotloops._runtime import threads, validate
from hotloops._runtime.errors import NumericalError
from hotloops.sgd._estimators_covariance import (
    Moments,
    Objective,
    distance_left,
    free_intercept,
    sandwich,
)
from hotloops.sgd._estimators_loop import (
    Plan,
    Walk,
    mean_estimates,
    quiet_divergence,
    walk_chains,
)
from hotloops.sgd._estimators_rows import (
    Float64,
    RowSource,
    Table,
    canonical_order,
    norm_ratio,
    repeats,
)
from hotloops.sgd._extrapolation import check_step_sizes
from hotloops.sgd._rows import SAMPLING

__all__ = ["RRSGD"]

Sums: TypeAlias = npt.NDArray[np.int64]

COVARIANCES = ("sandwich", "batch_means")

# The default length of a fit: the noise of the draws then adds a tenth to the variance, and even
# small data leave the start behind.
_PASSES = 10
_MIN_DRAWS = 50_000
_STREAM_BURN_IN = 2000  # steps, of partial_fit

# The larger step size times h R^2. For least squares on Gaussian rows the limit is 2: there R^2 =
# d + 2, and the second moments explode from gamma = 2 / (d + 2) on.
_STEP_FRACTION = 0.5
# From here on the steps for other losses shrink with the square root of the number of steps, as the
# theory asks: what extrapolation leaves of the bias is of order gamma^2. Least squares have none.
_LONG_STEPS = 10_000
_MAX_DISTANCE = 1.0  # standard errors, without a warning
_BATCHES = 20  # of batch means
_MAX_RETRIES = 6  # with a step a quarter as long, when the automatic one diverges


class RRSGD(BaseEstimator):  # type: ignore[misc]
    """Averaged SGD at two step sizes on the same rows, extrapolated."""

    _losses: ClassVar[tuple[str, ...]]

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # Arguments.

    def _shape_of_loss(self) -> dict[str, float]:
        raise AssertionError("defined by the estimators")

    def _check_parameters(self) -> None:
        name = self._name
        validate.choice(name, "loss", self.loss, self._losses)
        self._shape_of_loss()
        validate.real(name, "alpha", self.alpha, low=0.0)
        validate.boolean(name, "fit_intercept", self.fit_intercept)
        validate.boolean(name, "extrapolate", self.extrapolate)
        if not isinstance(self.step_size, str) or self.step_size != "auto":
            self._number_or_auto("step_size")
        validate.real(name, "step_ratio", self.step_ratio, low=1.0, open_low=True)
        if self.step_sizes is not None:
            check_step_sizes(name, self.step_sizes)
        if not isinstance(self.n_passes, str) or self.n_passes != "auto":
            if isinstance(self.n_passes, str):
                got = validate.describe(self.n_passes)
                validate.fail(ValueError, name, "n_passes", "be 'auto' or an integer >= 1", got)
            validate.integer(name, "n_passes", self.n_passes, low=1)
        if self.burn_in is not None:
            validate.integer(name, "burn_in", self.burn_in, low=0)
        validate.integer(name, "batch_size", self.batch_size, low=1, high=2**24)
        validate.choice(name, "sampling", self.sampling, SAMPLING)
        validate.integer(name, "num_chains", self.num_chains, low=1, high=2**32)
        if self.covariance is not None:
            validate.choice(name, "covariance", self.covariance, COVARIANCES)

    def _number_or_auto(self, argument: str) -> None:
        value = getattr(self, argument)
        if isinstance(value, str):
            got = validate.describe(value)
            expectation = "be 'auto' or a positive number"
            validate.fail(ValueError, self._name, argument, expectation, got)
        validate.real(self._name, argument, value, low=0.0, open_low=True)

    def _weights(self, sample_weight: Any, num_rows: int) -> Float64:
        if sample_weight is None:
            return np.ones(num_rows)
        name = self._name
        weights: Float64 = validate.array(
            name,
            "sample_weight",
            sample_weight,
            shape=("n",),
            symbols={"n": num_rows},
            dtype=np.float64,
        )
        if (weights < 0).any():
            got = f"{weights.min():g}"
            validate.fail(ValueError, name, "sample_weight", "hold no negative weights", got)
        if not (weights > 0).any():
            expectation = "hold a positive weight"
            validate.fail(ValueError, name, "sample_weight", expectation, "only zero weights")
        return weights

    def _seed_from(self) -> int:
        low, high = check_random_state(self.random_state).randint(0, 2**32, 2, dtype=np.uint64)
        return int(low) | int(high) << 32

    def _plan(self, table: Table, weights: Float64, num_steps: int, shrink: float = 1.0) -> Plan:
        shape = self._shape_of_loss()
        return Plan(
            loss=self.loss,
            shape=shape,
            alpha=float(self.alpha),
            step_sizes=self._choose_steps(table, weights, num_steps, shape) * shrink,
            batch_size=int(self.batch_size),
            statistics=("mean", "batch_means") if self.covariance == "batch_means" else ("mean",),
            backend=self.backend,
        )

    def _choose_steps(
        self, table: Table, weights: Float64, num_steps: int, shape: dict[str, float]
    ) -> Float64:
        if self.step_sizes is not None:
            return check_step_sizes(self._name, self.step_sizes)
        ratios = [1.0, float(self.step_ratio)] if self.extrapolate else [1.0]
        if self.step_size != "auto":
            return float(self.step_size) * np.array(ratios)
        plan = Plan(self.loss, shape, 0.0, np.ones(1), 1, (), None)
        loss = plan.problem(np.zeros((1, table.dim)), table.targets[0, :1])
        curvature = loss._curvature_range()[1] * norm_ratio(table, weights) + float(self.alpha)
        largest = _STEP_FRACTION / curvature
        if self.loss != "squared_error":
            largest *= min(1.0, (_LONG_STEPS / num_steps) ** 0.5)
        return largest * np.array(ratios) / ratios[-1]

    # One fit.

    def _fit_table(self, table: Table, weights: Float64) -> None:
        """Run the chains over a table and set what they found."""
        if self.covariance == "batch_means" and self.sampling != "iid":
            expectation = f"be 'sandwich' or None with sampling={self.sampling!r}"
            validate.fail(ValueError, self._name, "covariance", expectation, "'batch_means'")
        num_threads = threads.resolve_num_threads(self._name, self.num_threads)
        rows = np.flatnonzero(weights > 0)
        if self.sampling == "iid":
            rows = canonical_order(table, rows)
        seed = self._seed_from()
        source = RowSource(table, weights, self.sampling, seed, rows)
        num_steps = self._num_steps(rows.size)
        burn_in = num_steps if self.burn_in is None else int(self.burn_in)
        plan = self._plan(table, weights, num_steps)
        for attempt in range(_MAX_RETRIES + 1):
            walks, uses = walk_chains(
                plan,
                table,
                source,
                num_chains=int(self.num_chains),
                burn_in=burn_in,
                num_steps=num_steps,
                num_threads=num_threads,
            )
            if not any(walk.diverged for walk in walks):
                break
            chosen = self.step_sizes is not None or self.step_size != "auto"
            if chosen or attempt == _MAX_RETRIES:
                self._raise_divergence(plan)
            plan = self._plan(table, weights, num_steps, 0.25 ** (attempt + 1))
        self._set_stream(walks, plan, seed)
        self.t_ = walks[0].num_steps
        self.n_iter_ = -(-walks[0].num_steps * plan.batch_size // rows.size)
        self._conclude_fit(table, weights, uses, rows.size)

    def _raise_divergence(self, plan: Plan) -> NoReturn:
        raise NumericalError(
            f"{self._name}: the iterates diverged with step sizes "
            f"{[float(f'{step:.4g}') for step in plan.step_sizes]}; choose smaller ones, or scale "
            "the features"
        )

    def _num_steps(self, num_rows: int) -> int:
        """Return the averaged steps of a fit."""
        if self.n_passes != "auto":
            draws = int(self.n_passes) * num_rows
        elif self.sampling == "iid":
            draws = max(_PASSES * num_rows, _MIN_DRAWS)
        else:
            draws = max(_PASSES, -(-_MIN_DRAWS // num_rows)) * num_rows
        return -(-draws // int(self.batch_size))

    def _set_stream(self, walks: list[Walk], plan: Plan, seed: int) -> None:
        """Keep what partial_fit goes on from."""
        self._walks, self._row_plan = walks, plan
        self._with_intercept = bool(self.fit_intercept)
        self._burn_in_left = 0
        self.step_sizes_ = plan.step_sizes
        # Rows are used as often as their weights say, rounded up or down at random.
        self._carry = float(random.uniforms(seed, 1, 1, [8], 5)[0, 0, 0])

    def _conclude_fit(self, table: Table, weights: Float64, uses: Sums, num_rows: int) -> None:
        plan, alpha = self._row_plan, float(self.alpha)
        theta = mean_estimates(self._walks)
        shares = weights / weights.sum()
        total = float(uses.sum())
        objective = Objective(plan, table)
        self._moments, self._num_rows = Moments(total), num_rows
        shrunk = bool(self.fit_intercept) and alpha > 0
        if shrunk:
            theta = free_intercept(objective, shares, theta, alpha)
        if shrunk or self.covariance == "sandwich":
            self._moments.hessian = objective.expand(shares, theta)[1] * total
        coef_cov = noise_cov = None
        if self.covariance == "sandwich":
            counts = uses.astype(np.float64)
            squares = [counts**2, (counts - total * shares) ** 2]
            gradient, (self._moments.outer, noise) = objective.scores(counts, squares, theta)
            coef_cov = self._moments.covariance() * self._small_sample(num_rows, table.dim)
            hessian = self._moments.mean_hessian()
            noise_cov = sandwich(hessian, noise / total**2)
            # Where the model fits all rows there are no errors to compare with.
            floor = np.diag(np.full(table.dim, (1e-3 * np.abs(theta).max()) ** 2))
            self._warn_of_distance(distance_left(hessian, gradient / total, coef_cov + floor))
        elif self.covariance == "batch_means":
            long_run = self._long_run()
            noise_cov = long_run / total
            coef_cov = long_run * (1 / total + float((shares**2).sum()))
        self._publish(theta, coef_cov, noise_cov)

    def _warn_of_distance(self, distance: float) -> None:
        if distance > _MAX_DISTANCE:
            warnings.warn(
                f"{self._name}: a coefficient is {distance:.2g} standard errors off the solution "
                "of its equation: the start is not forgotten, or the steps are too long; "
                "standardise the features, raise `alpha` or `n_passes`, or choose `step_size`",
                ConvergenceWarning,
                stacklevel=5,
            )

    @staticmethod
    def _small_sample(num_rows: int, dim: int) -> float:
        """Return n / (n - p), the correction HC1 of the sandwich."""
        return num_rows / (num_rows - dim) if num_rows > dim else 1.0

    def _long_run(self) -> Float64:
        """Return the mean over chains of the batch-means covariance per row, (K, dim, dim)."""
        found = [
            [walk.long_run_covariance(k, _BATCHES) for walk in self._walks]
            for k in range(len(self._walks[0].results))
        ]
        long_run: Float64 = np.mean(found, axis=1) * self._row_plan.batch_size
        if not (self.fit_intercept and self.alpha > 0):
            return long_run
        # The noise of an intercept under the ridge, carried over to that of a free one.
        hessian = self._moments.mean_hessian()
        shrunk = hessian.copy()
        shrunk[:, -1, -1] += float(self.alpha)
        change = np.linalg.pinv(hessian, hermitian=True) @ shrunk
        carried: Float64 = change @ long_run @ change.swapaxes(-1, -2)
        return carried

    def _publish(self, theta: Float64, coef_cov: Any, noise_cov: Any) -> None:
        """Set the attributes of a fitted estimator; theta is (K, dim)."""
        self._theta = theta
        single = theta.shape[0] == 1
        self.coef_cov_ = None if coef_cov is None else coef_cov[0] if single else coef_cov
        self.optimization_cov_ = (
            None if noise_cov is None else noise_cov[0] if single else noise_cov
        )
        intercepts = theta[:, -1] if self.fit_intercept else np.zeros(theta.shape[0])
        coefficients = theta[:, :-1] if self.fit_intercept else theta
        self._set_coefficients(coefficients.copy(), intercepts.copy())

    def _set_coefficients(self, coefficients: Float64, intercepts: Float64) -> None:
        raise AssertionError("defined by the estimators")

    # A stream.

    @property
    def _begun(self) -> bool:
        return hasattr(self, "_walks")

    def _partial_fit_table(self, table: Table, weights: Float64) -> None:
        """Make one step for each row (or minibatch), in the order given."""
        if not self._begun:
            self._begin_stream(table, weights)
        plan = self._row_plan
        for name, known in (("loss", plan.loss), ("fit_intercept", self._with_intercept)):
            if getattr(self, name) != known:
                expectation = f"be {known!r} as in the first call"
                validate.fail(ValueError, self._name, name, expectation, repr(getattr(self, name)))
        rows = self._rows_of_stream(weights)
        first = self._burn_in_left * plan.batch_size
        walks = [walk.copy() for walk in self._walks]  # an error leaves the stream where it was
        with quiet_divergence():
            for average, part in ((False, rows[:first]), (True, rows[first:])):
                self._advance_all(walks, table, part, average)
        self._walks = walks
        self._burn_in_left -= min(self._burn_in_left, -(-rows.size // plan.batch_size))
        self.t_ = self._walks[0].num_steps
        self.n_iter_ = 1
        self._conclude_stream(table, rows[first:])

    def _begin_stream(self, table: Table, weights: Float64) -> None:
        plan = self._plan(table, weights, _MIN_DRAWS)
        self._set_stream([Walk([None] * table.targets.shape[0])], plan, self._seed_from())
        self._moments, self._num_rows = Moments(), 0
        self._burn_in_left = _STREAM_BURN_IN if self.burn_in is None else int(self.burn_in)

    def _rows_of_stream(self, weights: Float64) -> Sums:
        if (weights == 1).all():
            return np.arange(weights.size)
        cumulated = np.cumsum(weights)
        uses = repeats(cumulated, self._carry)
        self._carry = float((self._carry + cumulated[-1]) % 1.0)
        return np.repeat(np.arange(weights.size), uses)

    def _advance_all(self, walks: list[Walk], table: Table, rows: Sums, average: bool) -> None:
        plan = self._row_plan
        size = table.block_rows(plan.batch_size)
        for begin in range(0, rows.size, size):
            part = rows[begin : begin + size]
            features, targets = table.read(part), table.targets[:, part]
            for walk in walks:
                walk.advance(plan, features, targets, average=average)
                if walk.diverged:
                    self._raise_divergence(plan)

    def _conclude_stream(self, table: Table, rows: Sums) -> None:
        if self._walks[0].num_steps == 0:
            return self._publish(np.zeros((table.targets.shape[0], table.dim)), None, None)
        theta = mean_estimates(self._walks)
        alpha = float(self.alpha)
        shrunk = bool(self.fit_intercept) and alpha > 0
        moments = self._moments
        if rows.size and (shrunk or self.covariance == "sandwich"):
            counts = np.bincount(rows, minlength=table.num_rows)
            uses = (counts * len(self._walks)).astype(np.float64)
            objective = Objective(self._row_plan, table)
            moments.hessian = moments.hessian + objective.expand(uses, theta)[1]
            if self.covariance == "sandwich":
                moments.outer = moments.outer + objective.scores(uses, [uses**2], theta)[1][0]
        moments.steps += rows.size * len(self._walks)
        self._num_rows += rows.size
        if moments.steps == 0:
            return self._publish(theta, None, None)
        if shrunk:
            inverse = np.linalg.pinv(moments.mean_hessian(), hermitian=True)
            theta = theta + alpha * theta[:, -1:] * inverse[:, :, -1]
        return self._publish(theta, self._stream_covariance(table.dim), None)

    def _stream_covariance(self, dim: int) -> Float64 | None:
        if self.covariance == "sandwich":
            return self._moments.covariance() * self._small_sample(self._num_rows, dim)
        if self.covariance is None or self._walks[0].num_averaged < 2 * _BATCHES:
            return None
        return self._long_run() / self._num_rows

    # Answers.

    def _margins(self, X: Any) -> Float64:
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        num_features = self.n_features_in_
        margins: Float64 = X @ self._theta[:, :num_features].T
        if self.fit_intercept:
            margins = margins + self._theta[:, -1]
        return margins

    def conf_int(self, level: float = 0.95, about: str = "population") -> Float64:
        """Return confidence intervals of coefficients and intercept.

        Parameters
        ----------
        level : float
            Coverage, above 0 and below 1. Default 0.95.
        about : {"population", "minimizer"}
            What is covered: the parameter of the population that the rows were drawn from, by
            `coef_cov_` (the default, what other packages report), or the minimiser of the objective
            on these rows, by `optimization_cov_`, which tells whether to run longer.

        Returns
        -------
        ndarray, shape (n_features + 1, 2), or (n_classes, n_features + 1, 2)
            Lower and upper ends; the intercept comes last. Without an intercept there are
            n_features rows. The quantiles are normal ones, for batch means those of Student's t.

        Raises
        ------
        TypeError, ValueError
            Arguments out of range, or a fit without covariance.
        """
        check_is_fitted(self)
        name = f"{self._name}.conf_int"
        level = validate.real(name, "level", level, low=0.0, high=1.0, open_low=True)
        if level == 1.0:
            validate.fail(ValueError, name, "level", "lie below 1", "1.0")
        validate.choice(name, "about", about, ("population", "minimizer"))
        chosen = "coef_cov_" if about == "population" else "optimization_cov_"
        covariance = getattr(self, chosen)
        if covariance is None:
            raise ValueError(
                f"{name}: there is no `{chosen}`: it needs a fit with covariance={COVARIANCES}"
                + (", after the burn-in" if about == "population" else ", not partial_fit")
            )
        variances = np.diagonal(covariance, axis1=-2, axis2=-1).reshape(self._theta.shape)
        tail = (1 + level) / 2
        if self.covariance == "batch_means":
            quantile = special.stdtrit((_BATCHES - 1) * len(self._walks), tail)
        else:
            quantile = special.ndtri(tail)
        half = quantile * np.sqrt(variances)
        ends = np.stack([self._theta - half, self._theta + half], axis=-1)
        return ends[0] if ends.shape[0] == 1 else ends
