"""What the loop stored of a result, in the forms that intervals are made of."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from hotloops._runtime import arrays as array_layer
from hotloops._runtime import validate
from hotloops.sgd import _intervals as estimates
from hotloops.sgd._extrapolation import combine

if TYPE_CHECKING:
    from hotloops._runtime.arrays import Library
    from hotloops.sgd._state import SGDState
    from hotloops.sgd._statistics import StatisticsArrays

__all__ = ["Stored"]


class Stored:
    """Batches, sums and averages of a state, and what is handed out of them."""

    state: SGDState
    library: Library
    weights: Any
    num_steps: int

    @property
    def _xp(self) -> Any:
        return self.library.xp

    def _check_method(self, function: str, method: Any, allowed: tuple[str, ...]) -> str:
        self._check_averages(function)
        if method is not None:
            return validate.choice(function, "method", method, allowed)
        stored = self.state.statistics is not None and self.state.statistics.num_batches > 1
        return "batch_means" if stored else "random_scaling"

    def _check_averages(self, function: str) -> None:
        if self.num_steps == 0:
            raise ValueError(f"{function}: there are no averages yet; go on from `state`")

    def _needed(self, function: str, name: str, array: str) -> StatisticsArrays:
        statistics = self.state.statistics
        if statistics is None or getattr(statistics, array) is None:
            raise ValueError(
                f"{function}: '{name}' must be among the `statistics` of run, "
                f"got {self.state.statistics_names}"
            )
        return statistics

    def _running(self, function: str, of: str) -> tuple[Any, int]:
        """Return the sums after every stored batch, time first, and the length of a batch."""
        statistics = self._needed(function, "batch_means", "path")
        running = statistics.path[:, : statistics.num_batches].swapaxes(0, 1)
        return (self._combine(running) if of == "extrapolated" else running), statistics.stride

    def _batches(
        self, function: str, running: Any, stride: int, num_batches: int | None, gap: int
    ) -> tuple[Any, int]:
        """Return the means of the batches, the batches first, and how many steps each is of."""
        stored = int(running.shape[0])
        if stored < 2:
            expectation = f"be at least 2 batches of {stride} steps"
            validate.fail(ValueError, function, "num_steps", expectation, str(self.num_steps))
        if num_batches is None:
            group = estimates.batch_length_of(stored, stride, self._relaxation())
            count = stored // group
        else:
            count = validate.integer(function, "num_batches", num_batches, low=2)
            if count > stored:
                expectation = f"be at most the {stored} stored batches of {stride} steps"
                validate.fail(ValueError, function, "num_batches", expectation, str(count))
            group = stored // count
        skipped = -(-gap // stride)
        if skipped >= group:
            expectation = f"be shorter than the batches of {group * stride} steps"
            validate.fail(ValueError, function, "gap", expectation, str(gap))
        means = estimates.batch_means(running, stride, group, count, skipped)
        return means, (group - skipped) * stride

    def _check_gap(self, function: str, method: str, gap: Any) -> None:
        checked = validate.integer(function, "gap", gap, low=0)
        if checked and method != "batch_means":
            expectation = f"be 0 for {method!r}, which has no batches of its own"
            validate.fail(ValueError, function, "gap", expectation, str(checked))

    def _window(self, function: str, stored: int, stride: int, window: int | None) -> int:
        """Return the stored batches of an overlapping one."""
        steps = math.ceil(self.num_steps ** (2 / 3) - 1e-9)
        if window is not None:
            steps = validate.integer(function, "window", window, low=1)
        width: int = -(-steps // stride)
        if width >= stored:
            expectation = f"be shorter than the {stored} stored batches of {stride} steps"
            validate.fail(ValueError, function, "window", expectation, str(steps))
        return width

    def _warn_of_short(self, function: str, length: int | None) -> None:
        """Tell the caller of a public method when batches see too little of the correlation."""
        relaxation = self._relaxation()
        if length is None or relaxation is None:
            return
        if relaxation * length >= estimates.MIN_RELAXATIONS:
            return
        warnings.warn(
            f"{function}: batches of {length} steps are short for gamma mu = {relaxation:.3g}: the "
            f"estimated variance is low by a share of about {1 / (relaxation * length):.2g}; take "
            "fewer and longer ones, or more steps",
            RuntimeWarning,
            stacklevel=3,
        )

    def _relaxation(self) -> float | None:
        """Return the smallest ``gamma mu``, that of the last step where there is a schedule."""
        state = self.state
        if state.curvature is None:
            return None
        smallest = float(state.step_sizes.min())
        if state.rules.schedule is not None:
            last = max(1, state.next_step - state.rules.origin)
            smallest *= float(state.rules.schedule.evaluate(last, 1)[0])
        return smallest * state.curvature

    def _combine(self, values: Any) -> Any:
        weights = self.weights
        if weights.ndim == 2:
            weights = self._xp.asarray(weights)
        return combine(values, weights)

    def _estimate(self, of: str) -> Any:
        means = self.state.arrays.sums / float(self.num_steps)
        return means if of == "mean" else self._combine(means)

    def _give(self, values: Any, of: str, *, matrices: bool = False, samples: bool = False) -> Any:
        """Return an answer in the caller's library, with NaN for what diverged."""
        flags = self.state.arrays.flags != 0
        bad = flags if of == "mean" else flags.any(axis=1)
        if samples:
            bad = bad[:, None]
        extra = (1,) * (2 if matrices else 1)
        bad = bad.reshape(*bad.shape, *extra)
        return self._export(self._xp.where(bad, np.nan, values))

    def _export(self, values: Any) -> Any:
        return array_layer.export_array(self._xp.ascontiguousarray(values), self.library)
