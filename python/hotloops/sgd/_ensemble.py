"""What the chains of a result say together, and the spread of the iterates of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hotloops._runtime import arrays as array_layer
from hotloops._runtime import validate
from hotloops.sgd import _intervals as estimates
from hotloops.sgd._inference import OF, Inference
from hotloops.sgd._problem import to_host

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Ensemble"]


class Ensemble(Inference):
    """Statistics over chains, and of the invariant law that the iterates follow."""

    checkpoints: tuple[int, ...]
    checkpoint_mean: Any
    valid: Any

    @property
    def variance(self) -> Any:
        """Variances of the averaged iterates, shape (C, P, d), float64.

        P = J + 1 paths when J > 1: one for each step size, then the extrapolated one
        ``sum_j w_j t_j``; P = 1 when J = 1. The sum of squares is divided by the number of
        averaged steps. Needs "variance" or "covariance" among the `statistics` of the run.
        """
        function = "variance"
        self._check_averages(function)
        statistics = self._needed(function, "variance", "second")
        dim = int(statistics.shift.shape[2])
        with array_layer.stream_context(self.library):
            second = statistics.second
            if second.shape[2] != dim:
                diagonal = np.arange(1, dim + 1).cumsum() - 1
                second = second[:, :, diagonal]
            drift = self._drift(statistics)
            return self._export((second / float(self.num_steps) - drift * drift).clip(0.0))

    @property
    def covariance(self) -> Any:
        """Covariance matrices of the averaged iterates, shape (C, P, d, d), float64.

        Paths and divisor as those of `variance`. Needs "covariance" among the `statistics` of the
        run.
        """
        function = "covariance"
        self._check_averages(function)
        statistics = self._needed(function, "covariance", "second")
        if "covariance" not in self.state.statistics_names:
            raise ValueError(
                f"{function}: 'covariance' must be among the `statistics` of run, got "
                f"{self.state.statistics_names}"
            )
        dim = int(statistics.shift.shape[2])
        with array_layer.stream_context(self.library):
            full = estimates.triangle_to_full(statistics.second, dim, self._xp)
            drift = self._drift(statistics)
            return self._export(
                full / float(self.num_steps) - drift[..., :, None] * drift[..., None, :]
            )

    def autocorrelation_time(
        self, num_batches: int | None = None, *, of: str = "extrapolated"
    ) -> Any:
        """Return the integrated autocorrelation time ``Sigma_jj / (2 Var_jj)``, in steps.

        Parameters
        ----------
        num_batches, of
            As in `confidence_interval`; Sigma is the estimate of the batch means.

        Returns
        -------
        array, shape (C, d), or (C, J, d) for ``of="mean"``
            1/2 for independent iterates; NaN for chains that diverged.

        Raises
        ------
        ValueError
            "batch_means" or "variance" were not asked for.

        Examples
        --------
        >>> from hotloops import sgd
        >>> run = sgd.run(
        ...     sgd.Quadratic([1.0], 0.0), 0.1, 20_000, statistics=("batch_means", "variance")
        ... )
        >>> run.autocorrelation_time().shape
        (1, 1)
        """
        function = "autocorrelation_time"
        self._check_averages(function)
        validate.choice(function, "of", of, OF)
        self._needed(function, "variance", "second")
        with array_layer.stream_context(self.library):
            sigma, _, length = self._covariance(
                function, "batch_means", num_batches, None, of, False, full=False
            )
            self._warn_of_short(function, length)
            variance, _ = array_layer.import_array(function, "variance", self.variance)
            copies = int(self.state.arrays.theta.shape[1])
            variance = variance[:, -1] if of == "extrapolated" else variance[:, :copies]
            with np.errstate(divide="ignore", invalid="ignore"):
                return self._give(sigma / (2.0 * variance), of)

    def r_hat(self, *, of: str = "extrapolated") -> npt.NDArray[np.float64]:
        """Return the potential scale reduction of Gelman and Rubin over the chains.

        Where batch means were stored, every chain is split into halves, and the means of its
        stored batches are the draws; else the variances of the iterates of whole chains enter.

        Parameters
        ----------
        of : {"extrapolated", "mean"}
            The extrapolated path, or that of every step size.

        Returns
        -------
        ndarray, shape (d,), or (J, d) for ``of="mean"``
            Near 1 when the chains agree. Chains that diverged are left out.

        Raises
        ------
        ValueError
            Fewer than two chains (one, where halves are compared) or stored batches are left, or
            neither "batch_means" nor "variance" was asked for.

        Notes
        -----
        ``sqrt(((n - 1) / n W + B / n) / W)`` with the mean W of the variances within chains of n
        draws and n times the variance between their means, B; A. Gelman, D. Rubin, "Inference from
        iterative simulation using multiple sequences", Statistical Science 7 (1992). Batch means
        are nearly independent, unlike iterates, so that W is not too small. Class B.

        Examples
        --------
        >>> from hotloops import sgd
        >>> run = sgd.run(sgd.Quadratic([1.0], 0.0), 0.1, 20_000, num_chains=8, seed=1)
        >>> bool(run.r_hat()[0] < 1.1)
        True
        """
        function = "r_hat"
        self._check_averages(function)
        validate.choice(function, "of", of, OF)
        valid = self.valid
        statistics = self.state.statistics
        with array_layer.stream_context(self.library):
            if statistics is not None and statistics.num_batches >= 4:
                running, stride = self._running(function, of)
                means = to_host(estimates.batch_means(running, stride, 1, running.shape[0]))
                half = means.shape[0] // 2
                draws = np.concatenate([means[:half], means[-half:]], axis=1)
                draws = draws[:, np.concatenate([valid, valid])]
                within, centers, count = draws.var(axis=0, ddof=1), draws.mean(axis=0), half
            else:
                self._needed(function, "variance", "second")
                within, centers = self._moments(of, valid)
                count = self.num_steps
        if centers.shape[0] < 2:
            expectation = "be at least 2 chains that did not diverge"
            validate.fail(ValueError, function, "num_chains", expectation, str(centers.shape[0]))
        mean_within = within.mean(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            pooled = (count - 1) / count * mean_within + centers.var(axis=0, ddof=1)
            ratio: npt.NDArray[np.float64] = np.sqrt(pooled / mean_within)
        return ratio

    def quantiles(
        self, q: Any, *, of: str = "extrapolated", checkpoints: bool = False
    ) -> npt.NDArray[np.float64]:
        """Return quantiles of the averages over the chains that did not diverge.

        Parameters
        ----------
        q : float or array_like, shape (Q,)
            In [0, 1].
        of : {"extrapolated", "mean"}
        checkpoints : bool
            At every checkpoint instead of at the end. Default False.

        Returns
        -------
        ndarray, shape (Q, [K,] d), or (Q, [K,] J, d) for ``of="mean"``
            Without the first axis when q is a number; K is the number of checkpoints.

        Raises
        ------
        ValueError
            Every chain diverged, or q is out of range.

        Examples
        --------
        >>> from hotloops import sgd
        >>> run = sgd.run(sgd.Cosine(), [0.05, 0.1], 1000, num_chains=64, seed=1)
        >>> run.quantiles([0.1, 0.5, 0.9]).shape
        (3, 1)
        """
        levels = validate.array("quantiles", "q", q, ndim=(0, 1), dtype=np.float64)
        if levels.min() < 0 or levels.max() > 1:
            validate.fail(ValueError, "quantiles", "q", "lie in [0, 1]", str(levels.tolist()))
        values = self._averages("quantiles", of, checkpoints)
        answer: npt.NDArray[np.float64] = np.quantile(values, levels, axis=-2 - (of == "mean"))
        return answer

    def ensemble_mean(
        self, *, of: str = "extrapolated", checkpoints: bool = False
    ) -> npt.NDArray[np.float64]:
        """Return the mean of the averages over the chains that did not diverge.

        Parameters
        ----------
        of, checkpoints
            As in `quantiles`.

        Returns
        -------
        ndarray, shape ([K,] d), or ([K,] J, d) for ``of="mean"``

        Raises
        ------
        ValueError
            Every chain diverged.

        Examples
        --------
        >>> from hotloops import sgd
        >>> run = sgd.run(sgd.Cosine(), [0.05, 0.1], 1000, num_chains=64, seed=1)
        >>> run.ensemble_mean().shape
        (1,)
        """
        values = self._averages("ensemble_mean", of, checkpoints)
        answer: npt.NDArray[np.float64] = values.mean(axis=-2 - (of == "mean"))
        return answer

    def ensemble_covariance(
        self, *, of: str = "extrapolated", checkpoints: bool = False
    ) -> npt.NDArray[np.float64]:
        """Return the covariance of the averages over the chains that did not diverge.

        Parameters
        ----------
        of, checkpoints
            As in `quantiles`.

        Returns
        -------
        ndarray, shape ([K,] d, d), or ([K,] J, d, d) for ``of="mean"``
            With divisor C - 1; times the number of averaged steps it estimates the long-run
            covariance without any batches.

        Raises
        ------
        ValueError
            Fewer than two chains are left.

        Examples
        --------
        >>> from hotloops import sgd
        >>> run = sgd.run(sgd.Cosine(), [0.05, 0.1], 1000, num_chains=64, seed=1)
        >>> run.ensemble_covariance().shape
        (1, 1)
        """
        values = self._averages("ensemble_covariance", of, checkpoints)
        values = np.moveaxis(values, -2 - (of == "mean"), 0)
        if values.shape[0] < 2:
            expectation = "be at least 2 chains that did not diverge"
            got = str(values.shape[0])
            validate.fail(ValueError, "ensemble_covariance", "num_chains", expectation, got)
        centered = values - values.mean(axis=0)
        answer: npt.NDArray[np.float64] = np.einsum("c...d,c...e->...de", centered, centered)
        answer /= values.shape[0] - 1
        return answer

    def _averages(self, function: str, of: str, checkpoints: bool) -> npt.NDArray[np.float64]:
        """Return the averages of the valid chains, ([K,] C, [J,] d), on the host."""
        self._check_averages(function)
        validate.choice(function, "of", of, OF)
        validate.boolean(function, "checkpoints", checkpoints)
        if not self.valid.any():
            raise ValueError(f"{function}: every chain diverged")
        means = self.state.arrays.sums / float(self.num_steps)
        if checkpoints:
            means, _ = array_layer.import_array(function, "checkpoint_mean", self.checkpoint_mean)
        with array_layer.stream_context(self.library):
            values = to_host(means if of == "mean" else self._combine(means))
        chosen: npt.NDArray[np.float64] = values.compress(self.valid, axis=-2 - (of == "mean"))
        return chosen

    def _drift(self, statistics: Any) -> Any:
        """Return how far the averages of all paths are from the shift, (C, P, d)."""
        drift = self.state.arrays.sums / float(self.num_steps) - statistics.shift
        if drift.shape[1] == 1:
            return drift
        return self._xp.concatenate([drift, self._combine(drift)[:, None]], axis=1)

    def _moments(self, of: str, valid: Any) -> tuple[Any, Any]:
        """Return the variances of the iterates and their means, of valid chains, on the host."""
        native, _ = array_layer.import_array("r_hat", "variance", self.variance)
        variance, copies = to_host(native), int(self.state.arrays.theta.shape[1])
        within = variance[:, -1] if of == "extrapolated" else variance[:, :copies]
        return within[valid], to_host(self._estimate(of))[valid]
