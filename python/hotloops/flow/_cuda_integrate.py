"""The CUDA driver of integrations of networks: CuPy arrays, on CuPy's current stream.

The branches of a guided velocity are one batch of the network. Fixed steps read nothing back until
the end: a step is captured into a CUDA graph, where the stream can, and replayed with its times in
device memory. Adaptive steps go on in lockstep, and one flag is read every few steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime.device import LaunchQueue, Place, place_of
from hotloops.flow._branches import Branches
from hotloops.flow._plan import Counts, Plan
from hotloops.flow._tableaus import TABLEAUS
from hotloops.flow._velocities import Velocity
from hotloops.nn._cuda import _columns, _Memory
from hotloops.nn._tables import Batch

__all__ = ["Field", "combine", "evaluate", "integrate"]

_MOST_ROWS = 1 << 16  # of all branches, whose activations are in memory at a time


class Field:
    """A network with labels, inputs and guidance, at points that lie on the device.

    Attributes
    ----------
    rows, width : int
        Of the points.
    dtype : dtype
    xp : module
        CuPy.
    """

    def __init__(
        self, velocity: Velocity, branches: Branches, inputs: Sequence[Any], shape: tuple[int, int]
    ) -> None:
        import cupy

        network = velocity.function
        self.xp, self.dtype = cupy, np.dtype(network.dtype)
        self.rows, self.width = shape
        self._count = branches.count
        stacked = self._count * self.rows
        self._points = cupy.empty((stacked, self.width), self.dtype)
        self._times = cupy.empty((stacked, 1), self.dtype)
        labels = np.moveaxis(branches.labels, 1, 0).reshape(-1, stacked)
        tables = Batch(
            [
                self._points,
                self._times,
                *(cupy.tile(cupy.asarray(value), (self._count, 1)) for value in inputs),
            ],
            [],
            [cupy.asarray(np.ascontiguousarray(column, np.int32)) for column in labels],
            stacked,
        )
        program = network.program
        self._tables, self._operand = tables, program.outputs[0]
        self._parameters = cupy.asarray(network.flat_parameters)
        self._buffers = cupy.asarray(network.flat_buffers)
        self._memory = _Memory(program, tables, stacked, self.dtype)
        weights = branches.weights.astype(self.dtype)
        self._weights = [cupy.asarray(weight.reshape(-1, 1)) for weight in weights]
        self._change = cupy.empty(shape, self.dtype)

    def evaluate(self, place: Place, points: Any, times: Any, out: Any) -> None:
        """Write the velocity at points (rows, width) to `out`; `times` is (1,) or (rows, 1)."""
        shape = self._count, self.rows, -1
        self._points.reshape(shape)[...] = points
        self._times.reshape(shape)[...] = times
        memory = self._parameters, self._buffers
        self._memory.forward(place, *memory, self._tables, None, False, 0, 0)
        found = _columns(self._memory.values, self._operand)
        start = found[: self.rows]
        out[...] = start
        for branch, weight in enumerate(self._weights, 1):
            part = found[branch * self.rows : (branch + 1) * self.rows]
            self.xp.subtract(part, start, out=self._change)
            self.xp.multiply(self._change, weight, out=self._change)
            self.xp.add(out, self._change, out=out)


def evaluate(
    velocity: Velocity, branches: Branches, inputs: Sequence[Any], z: Any, times: Any, out: Any
) -> None:
    """Write the velocity at z (n, d) to `out`; `times` is (n,) or one number."""
    with place_of(z) as place:
        for begin, end in _blocks(z.shape[0], branches.count):
            part = branches.rows(begin, end), [value[begin:end] for value in inputs]
            field = Field(velocity, *part, (end - begin, z.shape[1]))
            t = times.reshape(-1, 1)[begin:end] if times.ndim else times.reshape(1)
            field.evaluate(place, z[begin:end], field.xp.asarray(t), out[begin:end])


def integrate(
    plan: Plan,
    velocity: Velocity,
    branches: Branches,
    inputs: Sequence[Any],
    z: Any,
    kept: Any,
    counts: Counts,
) -> tuple[int, int]:
    """Integrate `z` (n, d) in place; return why and in which row it failed, or 0."""
    from hotloops.flow._cuda_adaptive import advance_adaptively

    advance = advance_adaptively if plan.adaptive else _advance_fixed
    n, d = z.shape
    with place_of(z) as place:
        for begin, end in [(0, n)] if plan.shared and n else _blocks(n, branches.count):
            part = branches.rows(begin, end), [value[begin:end] for value in inputs]
            field = Field(velocity, *part, (end - begin, d))
            rows = z[begin:end], kept[:, begin:end], counts.rows(begin, end)
            reason, row = advance(plan, field, place, *rows)
            if reason:
                return reason, begin + row
    return 0, -1


def combine(xp: Any, coefficients: Sequence[float], slopes: Any, out: Any, scratch: Any) -> None:
    """out = sum of coefficients[j] slopes[j], in memory that is there already."""
    first = True
    for factor, slope in zip(coefficients, slopes, strict=False):
        if factor == 0.0:
            continue
        if first:
            xp.multiply(slope, factor, out=out)
        else:
            xp.multiply(slope, factor, out=scratch)
            xp.add(out, scratch, out=out)
        first = False


def _blocks(n: int, branches: int) -> list[tuple[int, int]]:
    size = max(1, _MOST_ROWS // branches)
    return [(begin, min(begin + size, n)) for begin in range(0, n, size)]


# --- fixed steps ---------------------------------------------------------------------------------


class _Step:
    """One fixed step, whose times and length lie in device memory."""

    def __init__(self, method: str, field: Field, z: Any) -> None:
        self._tableau, self._field, self._z = TABLEAUS[method], field, z
        xp, stages = field.xp, len(self._tableau.nodes)
        self._slopes = xp.empty((stages, *z.shape), field.dtype)
        self._argument, self._scratch = xp.empty(z.shape, z.dtype), xp.empty(z.shape, z.dtype)
        self.now = xp.empty(stages + 1, field.dtype)  # times of the stages, then the length

    def make(self, place: Place) -> None:
        """Queue the step; nothing is allocated, so that it can be captured."""
        field = self._field
        for stage, row in enumerate(self._tableau.matrix):
            point = self._advance(row) if stage else self._z
            field.evaluate(place, point, self.now[stage : stage + 1], self._slopes[stage])
        self._z[...] = self._advance(self._tableau.weights)

    def _advance(self, coefficients: Sequence[float]) -> Any:
        xp, argument = self._field.xp, self._argument
        combine(xp, coefficients, self._slopes, argument, self._scratch)
        xp.multiply(argument, self.now[-1:], out=argument)
        xp.add(argument, self._z, out=argument)
        return argument


def _advance_fixed(
    plan: Plan, field: Field, place: Place, z: Any, kept: Any, counts: Counts
) -> tuple[int, int]:
    step = _Step(plan.method, field, z)
    nodes = np.array(TABLEAUS[plan.method].nodes)
    begins, lengths = plan.grid[:-1, None], np.diff(plan.grid)[:, None]
    host = np.hstack([begins + nodes * lengths, lengths]).astype(field.dtype)
    schedule = field.xp.asarray(host)
    places = _places(plan)

    def keep(number: int) -> None:
        if number in places:
            kept[places[number]] = z

    keep(0)
    queue = LaunchQueue()
    launch: Callable[[], object] = lambda: step.make(place)  # noqa: E731
    for number in range(plan.num_steps):
        if number == 1:  # the first step has compiled and loaded all that a capture may not
            launch = _captured(step, place) or launch
        step.now[...] = schedule[number]
        launch()
        keep(number + 1)
        queue.launched()
    counts.evaluations[...] += plan.num_steps * nodes.size
    counts.accepted[...] += plan.num_steps
    wrong = ~field.xp.isfinite(z).all(axis=1)
    return (1, int(wrong.argmax())) if bool(wrong.any()) else (0, -1)


def _places(plan: Plan) -> dict[int, int]:
    """Return the place in the kept states of each time of the grid that is kept."""
    sign = 1.0 if plan.grid[-1] > plan.grid[0] else -1.0
    found: npt.NDArray[np.int64] = np.searchsorted(sign * plan.grid, sign * plan.kept_times)
    return {int(number): place for place, number in enumerate(found)}


def _captured(step: _Step, place: Place) -> Callable[[], object] | None:
    """Return what launches the step as a CUDA graph, or None where it cannot be captured."""
    import cupy

    if not hasattr(cupy.cuda.Stream, "begin_capture"):
        return None
    cupy.cuda.get_current_stream().synchronize()
    side = cupy.cuda.Stream(non_blocking=True)  # the default stream cannot be captured
    try:
        with side:
            side.begin_capture()
            try:
                step.make(Place(place.device, int(side.ptr)))
            finally:
                graph = side.end_capture()
    except RuntimeError:  # CuPy's errors are of this kind too
        return None
    return graph.launch  # type: ignore[no-any-return]
