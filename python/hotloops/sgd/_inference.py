"""Intervals and covariances of a result, from the statistics that the loop stored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hotloops import random
from hotloops._runtime import arrays as array_layer
from hotloops._runtime import validate
from hotloops.sgd import _intervals as estimates
from hotloops.sgd._problem import to_host
from hotloops.sgd._stored import Stored

__all__ = ["METHODS", "Inference"]

METHODS = ("batch_means", "obm", "random_scaling", "plug_in", "bootstrap")
OF = ("extrapolated", "mean")

_WEIGHT_STREAM = 6
_WEIGHT_BYTES = 1 << 26  # of the bootstrap's weights that are drawn at once


class Inference(Stored):
    """What a result says about the precision of its averages."""

    def confidence_interval(
        self,
        level: float = 0.95,
        method: str | None = None,
        num_batches: int | None = None,
        window: int | None = None,
        *,
        of: str = "extrapolated",
        normal: bool = False,
        gap: int = 0,
        num_samples: int = 1000,
    ) -> tuple[Any, Any]:
        """Return confidence intervals of the averages, coordinate by coordinate, for each chain.

        Parameters
        ----------
        level : float
            Nominal coverage in (0, 1). Default 0.95. Random scaling has tabulated quantiles for
            0.8, 0.9, 0.95 and 0.98.
        method : {"batch_means", "obm", "random_scaling", "plug_in", "bootstrap"}, optional
            Batch means; overlapping batch means; random scaling, which needs no tuning and is
            about a third wider; the plug-in estimate ``H^-1 S H^-1``; the multiplier bootstrap of
            overlapping batch means. Default: batch means where they were stored, else random
            scaling.
        num_batches : int, optional
            Batches K of the batch means, made of whole stored ones; what is left over is dropped
            at the beginning. Default: at most 50, and as many as keep ``gamma mu m >= 20`` for
            batches of m steps where the strong convexity mu of the problem is known, but not fewer
            than 5.
        window : int, optional
            Steps m of an overlapping batch, rounded up to whole stored batches. Default
            ``ceil(n^(2/3))``.
        of : {"extrapolated", "mean"}
            The extrapolated estimate (the mean when J = 1), or the mean of every step size.
        normal : bool
            Divide by K and take the normal quantile, as in the literature, instead of K - 1 and
            Student's t with K - 1 degrees of freedom (1.5 (n/m - 1) for overlapping batches).
        gap : int
            Steps left out at the beginning of every batch of the batch means, rounded up to whole
            stored batches, so that the batches depend less on each other. Default 0.
        num_samples : int
            Samples of the bootstrap. Default 1000.

        Returns
        -------
        low, high : array, shape (C, d), or (C, J, d) for ``of="mean"``
            NaN for chains that diverged, and where a plug-in Hessian is singular.

        Raises
        ------
        ValueError
            The method needs statistics that were not asked for, a level without quantile, fewer
            than two batches, or there are no averages yet.

        Warns
        -----
        RuntimeWarning
            ``gamma mu m < 20``: batches this short see too little of the correlation, and the
            intervals cover less than they say.

        Notes
        -----
        The intervals are those of constant steps: they measure the spread of the average around
        its own mean, of which extrapolation removes the bias. With a schedule mu gamma is that of
        the last step. Overlapping batches start at every stored batch, which is a subset of all
        starts; ``batch_length=1`` stores all of them. Cost O(C batches J d). Class B.

        Random scaling: Lee, Liao, Seo, Shin, AAAI 2022, arXiv:2106.03156. Batch means at constant
        steps: Huo, Chen, Xie, 2023.

        Examples
        --------
        >>> from hotloops import sgd
        >>> problem = sgd.Cosine(phi=1.0)
        >>> run = sgd.run(problem, [0.05, 0.1], 20_000, num_chains=4, seed=3)
        >>> low, high = run.confidence_interval()
        >>> low.shape, bool((low < high).all())
        ((4, 1), True)
        """
        function = "confidence_interval"
        chosen = self._check_method(function, method, METHODS)
        coverage = _check_level(function, level)
        validate.boolean(function, "normal", normal)
        validate.choice(function, "of", of, OF)
        self._check_gap(function, chosen, gap)
        if chosen == "bootstrap":
            draws, steps = self._draws(function, num_samples, window, of, self.state.seed)
            self._warn_of_short(function, steps)
            return self._bootstrap_interval(draws, coverage, of)
        with array_layer.stream_context(self.library):
            half, length = self._half_width(
                function, chosen, coverage, num_batches, window, of, normal, gap
            )
            self._warn_of_short(function, length)
            center = self._estimate(of)
            return self._give(center - half, of), self._give(center + half, of)

    def long_run_covariance(
        self,
        method: str | None = None,
        num_batches: int | None = None,
        window: int | None = None,
        *,
        of: str = "extrapolated",
        normal: bool = False,
        gap: int = 0,
    ) -> Any:
        """Return Sigma-hat: the covariance of the averages times the number of averaged steps.

        Parameters
        ----------
        method : {"batch_means", "obm", "plug_in"}, optional
            Default "batch_means".
        num_batches, window, of, normal, gap
            As in `confidence_interval`.

        Returns
        -------
        array, shape (C, d, d), or (C, J, d, d) for ``of="mean"``
            NaN for chains that diverged.

        Raises
        ------
        ValueError
            As in `confidence_interval`.

        Notes
        -----
        ``m / (K - 1) sum_k (mean_k - mean)(.)^T`` over K batches of m steps;
        ``m / N sum_s (window_s - mean)(.)^T`` over N overlapping ones. Cost O(C batches d^2).
        Class B.

        Examples
        --------
        >>> from hotloops import sgd
        >>> run = sgd.run(sgd.Quadratic([1.0, 2.0], 0.0), 0.1, 50_000, seed=1)
        >>> run.long_run_covariance().shape
        (1, 2, 2)
        """
        function = "long_run_covariance"
        allowed = ("batch_means", "obm", "plug_in")
        chosen = self._check_method(function, method or "batch_means", allowed)
        validate.choice(function, "of", of, OF)
        validate.boolean(function, "normal", normal)
        self._check_gap(function, chosen, gap)
        with array_layer.stream_context(self.library):
            covariance, _, length = self._covariance(
                function, chosen, num_batches, window, of, normal, gap, full=True
            )
            self._warn_of_short(function, length)
            return self._give(covariance, of, matrices=True)

    def batch_means(
        self, num_batches: int | None = None, *, of: str = "extrapolated", gap: int = 0
    ) -> Any:
        """Return the means of consecutive batches of equal length.

        Parameters
        ----------
        num_batches, of, gap
            As in `confidence_interval`.

        Returns
        -------
        array, shape (C, K, d), or (C, K, J, d) for ``of="mean"``

        Raises
        ------
        ValueError
            Batch means were not asked for, or fewer than K are stored.

        Notes
        -----
        Extrapolation with other weights than those of the run: `hotloops.sgd.extrapolate` of the
        batch means of the step sizes. Class B.

        Examples
        --------
        >>> from hotloops import sgd
        >>> run = sgd.run(sgd.Cosine(), [0.05, 0.1], 6400, seed=1)
        >>> run.batch_means(10).shape
        (1, 10, 1)
        """
        function = "batch_means"
        self._check_averages(function)
        validate.choice(function, "of", of, OF)
        self._check_gap(function, function, gap)
        with array_layer.stream_context(self.library):
            running, stride = self._running(function, of)
            means, _ = self._batches(function, running, stride, num_batches, gap)
            return self._export(self._xp.ascontiguousarray(means.swapaxes(0, 1)))

    def bootstrap(
        self,
        num_samples: int = 1000,
        *,
        window: int | None = None,
        of: str = "extrapolated",
        seed: int | None = None,
    ) -> Any:
        """Draw from the multiplier subsample bootstrap of the averages.

        Sample b is ``mean + (m / (N n))^(1/2) sum_s w_bs (window_s - mean)`` over the N
        overlapping batches of m steps, with standard normal weights w.

        Parameters
        ----------
        num_samples : int
            Samples B of each chain. Default 1000.
        window, of
            As in `confidence_interval`.
        seed : int, optional
            Key of the weights, which are stream 6 of `hotloops.random`, at step b of the chain.
            Default: that of the run.

        Returns
        -------
        array, shape (C, B, d), or (C, B, J, d) for ``of="mean"``

        Raises
        ------
        ValueError
            Batch means were not asked for, or the window is too long.

        Notes
        -----
        Its standard deviation over samples is that of overlapping batch means up to the bootstrap's
        own error. Cost O(C B N d). Class B.

        Examples
        --------
        >>> from hotloops import sgd
        >>> run = sgd.run(sgd.Cosine(), [0.05, 0.1], 6400, seed=1)
        >>> run.bootstrap(200).shape
        (1, 200, 1)
        """
        function = "bootstrap"
        key = self.state.seed
        if seed is not None:
            key = validate.integer(function, "seed", seed, low=0, high=2**64 - 1)
        validate.choice(function, "of", of, OF)
        draws, length = self._draws(function, num_samples, window, of, key)
        self._warn_of_short(function, length)
        with array_layer.stream_context(self.library):
            return self._give(draws, of, samples=True)

    # --- estimates ---------------------------------------------------------------------------

    def _half_width(
        self,
        function: str,
        method: str,
        level: float,
        num_batches: int | None,
        window: int | None,
        of: str,
        normal: bool,
        gap: int,
    ) -> tuple[Any, int | None]:
        """Return half the width of the intervals, and the steps of a batch."""
        if method == "random_scaling":
            quantile = estimates.scaling_quantile(function, level)
            variance = self._scaling(function, of)
            return quantile * self._xp.sqrt(variance / float(self.num_steps)), None
        variance, degrees, length = self._covariance(
            function, method, num_batches, window, of, normal, gap, full=False
        )
        if normal or degrees is None:
            quantile = estimates.normal_quantile(level)
        else:
            quantile = estimates.t_quantile(level, degrees)
        return quantile * self._xp.sqrt(variance / float(self.num_steps)), length

    def _covariance(
        self,
        function: str,
        method: str,
        num_batches: int | None,
        window: int | None,
        of: str,
        normal: bool,
        gap: int = 0,
        *,
        full: bool,
    ) -> tuple[Any, float | None, int | None]:
        """Return Sigma-hat or its diagonal, its degrees of freedom, and the steps of a batch."""
        if method == "plug_in":
            covariance = self._plug_in(function, of)
            if not full:
                covariance = np.einsum("...ii->...i", covariance)
            return self._xp.asarray(covariance), None, None
        running, stride = self._running(function, of)
        if method == "obm":
            stored = int(running.shape[0])
            width = self._window(function, stored, stride, window)
            deviations = estimates.overlapping_means(running, stride, width)
            scale = float(width * stride) / deviations.shape[0]
            return (
                estimates.spread(deviations, scale, self._xp, full=full),
                max(1.0, 1.5 * (stored / width - 1.0)),
                width * stride,
            )
        means, length = self._batches(function, running, stride, num_batches, gap)
        count = int(means.shape[0])
        scale = float(length) / (count if normal else count - 1)
        deviations = means - means.mean(axis=0)
        variance = estimates.spread(deviations, scale, self._xp, full=full)
        return variance, float(count - 1), length

    def _scaling(self, function: str, of: str) -> Any:
        statistics = self._needed(function, "random_scaling", "squares")
        sums = self.state.arrays.sums - float(self.num_steps) * statistics.shift
        products, squares = statistics.products, statistics.squares
        if of == "extrapolated":
            sums, products = self._combine(sums), self._combine(products)
            squares = squares[:, -1]
        else:
            squares = squares[:, : sums.shape[1]]
        return estimates.scaling_variance(self.num_steps, sums, squares, products)

    def _plug_in(self, function: str, of: str) -> Any:
        if of != "extrapolated":
            expectation = "be 'extrapolated' for 'plug_in', which follows the extrapolated mean"
            validate.fail(ValueError, function, "of", expectation, repr(of))
        statistics = self._needed(function, "plug_in", "plug_hessian")
        batch_size, ridge = self.state.plug_in or (1, 0.0)
        points = self.num_steps - 1  # the first averaged step has no mean before it
        if points < 1:
            expectation = "have at least 2 averaged steps"
            validate.fail(ValueError, function, "num_steps", expectation, str(self.num_steps))
        dim = int(self.state.arrays.theta.shape[2])
        hessian, outer = (
            estimates.triangle_to_full(to_host(triangle), dim, np)
            for triangle in (statistics.plug_hessian, statistics.plug_outer)
        )
        hessian = hessian / float(points * batch_size) + ridge * np.eye(dim)
        return estimates.plug_in_covariance(hessian, outer / float(points))

    def _draws(
        self, function: str, num_samples: int, window: int | None, of: str, seed: int
    ) -> tuple[Any, int]:
        """Return samples (C, B, ...) of the bootstrap, and the steps of a window."""
        count = validate.integer(function, "num_samples", num_samples, low=2, high=2**31)
        self._check_averages(function)
        with array_layer.stream_context(self.library):
            running, stride = self._running(function, of)
            width = self._window(function, int(running.shape[0]), stride, window)
            deviations = estimates.overlapping_means(running, stride, width)
            num_windows, num_chains = (int(n) for n in deviations.shape[:2])
            scale = math.sqrt(width * stride / (num_windows * float(self.num_steps)))
            center = self._estimate(of)
            draws = self._xp.empty((num_chains, count, *deviations.shape[2:]), np.float64)
            block = max(1, _WEIGHT_BYTES // (8 * count * num_windows))
            for begin in range(0, num_chains, block):
                cut = slice(begin, min(begin + block, num_chains))
                first = self.state.chain_offset
                chains = range(first + cut.start, first + cut.stop)
                weights = random.normals(seed, count, chains, num_windows, _WEIGHT_STREAM)
                moves = self._xp.einsum(
                    "bcs,sc...->cb...", self._xp.asarray(weights), deviations[:, cut]
                )
                draws[cut] = center[cut, None] + scale * moves
        return draws, width * stride

    def _bootstrap_interval(self, draws: Any, level: float, of: str) -> tuple[Any, Any]:
        with array_layer.stream_context(self.library):
            ends = self._xp.asarray([(1 - level) / 2, (1 + level) / 2])
            low, high = self._xp.quantile(draws, ends, axis=1)
            return self._give(low, of), self._give(high, of)


def _check_level(function: str, level: Any) -> float:
    checked = validate.real(function, "level", level, low=0.0, high=1.0, open_low=True)
    if checked == 1.0:
        validate.fail(ValueError, function, "level", "be below 1", str(level))
    return checked
