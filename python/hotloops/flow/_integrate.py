"""Integration of velocities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime.arrays import Library
from hotloops._runtime.errors import NumericalError
from hotloops._runtime.progress import Progress
from hotloops.flow._branches import make_branches
from hotloops.flow._evaluate import make_evaluator
from hotloops.flow._guidance import GuidedVelocity
from hotloops.flow._network_inputs import dense_inputs
from hotloops.flow._plan import make_plan
from hotloops.flow._result import IntegrationResult
from hotloops.flow._run import Job, run, units
from hotloops.flow._velocities import Velocity, classify

__all__ = ["integrate"]


def integrate(
    velocity: Any,
    x0: Any,
    *,
    method: str = "dopri5",
    steps: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    t0: float = 0.0,
    t1: float = 1.0,
    t_eval: Any = None,
    step_control: str | None = None,
    max_steps: int = 10000,
    labels: Any = None,
    weights: Any = None,
    log_size: Any = None,
    inputs: Any = None,
    data: Any = None,
    full_output: bool = False,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    max_seconds: float | None = None,
) -> Any:
    """Integrate ``dz/dt = v(z, t)`` from `t0` to `t1` for many rows at once.

    Parameters
    ----------
    velocity : network, `guided_velocity`, ``@cfunc``, int, ctypes function, \
            `scipy.LowLevelCallable`, ``@njit`` or callable
        - A `VelocityNetwork`, or any `hotloops.nn.Network` whose first two inputs are z and t,
          runs whole integrations of tiles of rows in the cache.
        - Compiled functions have the signature ``void v(int64 n, int64 d, const T* z, const T* t,
          const int64* labels, T* out, void* data)`` with z, out (n, d), t (n,) and labels
          (n, attributes), and must not need the GIL.
        - An ``@njit`` function is compiled into the loop of the Numba driver. It takes
          ``(z, t)`` and returns the slopes, or ``(z, t, labels, data, out)`` and writes them.
        - Any other callable ``v(z, t)``, or ``v(z, t, labels)`` where there are labels, returns the
          slopes of all rows. This is the slow path: one call for each evaluation.
    x0 : array_like, shape (n, d)
        States at `t0`. Their precision is that of all the arithmetic. On a GPU networks are
        integrated there; labels, weights, sizes and inputs may be in host memory then.
    method : {"dopri5", "rk4", "heun", "midpoint", "euler"}
        Default "dopri5", the pair of Dormand and Prince of orders 5 and 4.
    steps : int, optional
        Number of equal steps. Default None: steps whose size adapts to the error, for "dopri5"
        only.
    rtol, atol : float, optional
        Tolerances of adaptive steps. The error of a step divided by ``atol + rtol max(|z|)``,
        coordinate by coordinate, has at most a root mean square of 1. Default 1e-5 each, the
        setting of the paper.
    t0, t1 : float
        Times of start and end. With ``t1 < t0`` it runs backwards. Default 0 and 1.
    t_eval : array_like, shape (m,), optional
        Times between `t0` and `t1`, in the order of the integration, at which the states are
        returned. Adaptive steps don't change by it: they are interpolated to fourth order. Fixed
        steps are cut at times that aren't on their grid.
    step_control : {"row", "batch"}, optional
        Adaptive steps: each row has its own (default), so that row i of a batch is row i alone; or
        all rows share them, by the error of the whole batch.
    max_steps : int
        Adaptive steps that a row may take, also rejected ones. Default 10000.
    labels, weights : optional
        Conditions of the velocity, by attribute; see `guided_velocity`. Without `weights` the
        velocity sees all labels at once.
    log_size : array_like, shape (n,) or (n, modalities), optional
        For a `VelocityNetwork` that embeds them: the natural logarithms of the size factors.
    inputs : list of array_like, each of shape (n, width), optional
        For any other network: its dense inputs after z and t.
    data : ndarray, optional
        Handed to compiled functions (its address) and to ``@njit`` functions (the array).
    full_output : bool
        Return an `IntegrationResult` with the counts. Default False.
    out : array, shape (n, d), or (m, n, d) with `t_eval`, optional
        Memory for the answer.
    backend : {"cpp", "cuda", "numba"}, optional
        Default: "cuda" for arrays on a GPU, which only networks take, else "cpp"; ``@njit``
        functions always run in Numba.
    num_threads : int, optional
        Default `hotloops.get_num_threads`.
    progress : bool
        Show a progress bar. Default False.
    max_seconds : float, optional
        Stop after about this time; needs `full_output`, whose ``complete`` and ``t`` tell how far
        it came. Rows that were not begun are still at `t0`.

    Returns
    -------
    array, shape (n, d), or (m, n, d) with `t_eval`, or IntegrationResult
        In the library of `x0`.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type, precision or shape; labels out of range; weights for attributes
        that aren't conditioned on; `steps` missing where the method can't adapt, or together with
        settings of adaptive steps.
    hotloops.NumericalError
        States or slopes that aren't finite, or more than `max_steps` steps, with the row.
    hotloops.BackendUnavailable
        The backend cannot run here.

    Notes
    -----
    Class A as far as the velocity is, over rows, threads and tiles; networks say for themselves
    (see `VelocityNetwork`). Fixed steps cost `steps` times 1, 2, 2, 4 or 6 evaluations ("euler",
    "midpoint", "heun", "rk4", "dopri5"), adaptive ones 2 and 6 a step.

    E. Hairer, S. P. Norsett, G. Wanner, "Solving Ordinary Differential Equations I", 2nd ed.,
    sections II.4 (start step, control), II.5 (the pair), II.6 (interpolation).

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import flow
    >>> x = flow.integrate(lambda z, t: -z, np.ones((2, 3)))
    >>> bool(np.allclose(x, np.exp(-1.0), atol=1e-4))
    True
    """
    where = "integrate"
    asked, given_labels, given_weights = _unpack(where, velocity, labels, weights)
    found = classify(where, asked)
    start, library = _check_start(where, x0, found)
    plan = make_plan(
        where,
        method=method,
        steps=steps,
        rtol=rtol,
        atol=atol,
        t0=t0,
        t1=t1,
        t_eval=t_eval,
        step_control=step_control,
        max_steps=max_steps,
    )
    n = start.shape[0]
    known = getattr(asked, "attributes", None) if found.kind == "network" else None
    branches = make_branches(where, given_labels, given_weights, known, n)
    extra = dense_inputs(where, found, log_size, inputs, start)
    validate.boolean(where, "full_output", full_output)
    shown = validate.boolean(where, "progress", progress)
    if max_seconds is not None:
        validate.real(where, "max_seconds", max_seconds, low=0.0)
        if not full_output:
            expectation = "be None unless `full_output` is True"
            validate.fail(ValueError, where, "max_seconds", expectation, repr(max_seconds))
    job = Job(
        where,
        found,
        plan,
        branches,
        extra,
        _check_data(where, data, found),
        _resolve(where, backend, library, found),
        threads.resolve_num_threads(where, num_threads),
    )
    num_times = plan.kept_times.size if t_eval is not None else None
    target = _check_out(where, out, num_times, start, library)
    _try(job, start)
    total, unit = units(job, n)
    with (
        arrays.stream_context(library),
        Progress(
            total, enabled=shown, description=where, unit=unit, max_seconds=max_seconds
        ) as bar,
    ):
        shape = plan.kept_times.size, *start.shape
        z, kept = start.copy(), library.xp.full(shape, np.nan, start.dtype)
        counts, reached = run(job, z, kept, bar)
        answer = z if t_eval is None else kept
        if target is not None:
            target[...] = answer
    if not full_output:
        return arrays.export_array(answer, library) if target is None else out
    return IntegrationResult(
        arrays.export_array(z, library),
        reached,
        plan.kept_times,
        arrays.export_array(kept, library),
        counts.evaluations,
        counts.accepted,
        counts.rejected,
        bool(np.all(reached == plan.grid[-1])),
    )


def _unpack(where: str, velocity: Any, labels: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Return velocity, labels and weights, which a guided velocity brings along."""
    if not isinstance(velocity, GuidedVelocity):
        if labels is None and weights is not None:
            expectation = "be None where nothing is conditioned on"
            validate.fail(ValueError, where, "weights", expectation, validate.describe(weights))
        return velocity, labels, weights
    for name, value in (("labels", labels), ("weights", weights)):
        if value is not None:
            expectation = "be None with a guided velocity, which has its own"
            validate.fail(ValueError, where, name, expectation, validate.describe(value))
    return velocity.velocity, velocity.labels, velocity.weights


def _check_start(where: str, x0: Any, velocity: Velocity) -> tuple[Any, Library]:
    host, library = arrays.import_array(where, "x0", x0)
    if library.device != "cpu" and velocity.kind != "network":
        expectation = "live in host memory"
        validate.fail(TypeError, where, "x0", expectation, f"an array on {library.place}")
    start = validate.array(where, "x0", host, ndim=2, finite=False, empty=True)
    if start.shape[1] == 0:
        validate.fail(ValueError, where, "x0", "have at least one column", str(start.shape))
    if velocity.dtype is not None and start.dtype != velocity.dtype:
        expectation = f"have dtype {velocity.dtype} like `velocity`"
        validate.fail(TypeError, where, "x0", expectation, str(start.dtype))
    wrong = library.xp.flatnonzero(~library.xp.isfinite(start).all(axis=1))
    if wrong.size:
        row = int(wrong[0])
        raise NumericalError(
            f"{where}: `x0` must be finite, got {start[row]} in row {row}", row=row
        )
    return start, library


def _check_data(where: str, data: Any, velocity: Velocity) -> Any:
    if data is None:
        return None
    if velocity.kind not in ("address", "njit"):
        expectation = "be None unless `velocity` is a compiled function"
        validate.fail(ValueError, where, "data", expectation, validate.describe(data))
    host, library = arrays.import_array(where, "data", data)
    if library.device != "cpu":
        validate.fail(TypeError, where, "data", "live in host memory", library.place)
    if host.dtype.hasobject:
        validate.fail(TypeError, where, "data", "hold numbers", f"dtype {host.dtype}")
    if not host.flags.c_contiguous:
        validate.fail(ValueError, where, "data", "be C-contiguous", f"{host.strides=}")
    return host


def _resolve(where: str, backend: str | None, library: Library, velocity: Velocity) -> str:
    """Return the driver: "cpp", "numba" or "python"."""
    if velocity.kind in ("njit", "callable"):
        if backend not in (None, "numba"):
            expectation = "be 'numba' or None for a velocity that isn't compiled to machine code"
            validate.choice(where, "backend", backend, dispatch.BACKENDS)
            validate.fail(TypeError, where, "backend", expectation, repr(backend))
        dispatch.numba()
        return "numba" if velocity.kind == "njit" else "python"
    resolved = dispatch.resolve_backend(where, backend, library.device)
    return "python" if resolved == "numba" else resolved


def _check_out(
    where: str, out: Any, num_times: int | None, start: npt.NDArray[Any], library: Library
) -> Any:
    """Return the NumPy or CuPy view of `out`, or None."""
    if out is None:
        return None
    if not hasattr(out, "dtype"):
        validate.fail(TypeError, where, "out", "be an array", validate.describe(out))
    native, own = arrays.import_array(where, "out", out)
    if own.place != library.place:
        expectation = f"live on {library.place} like `x0`"
        validate.fail(TypeError, where, "out", expectation, f"an array on {own.place}")
    shape = start.shape if num_times is None else (num_times, *start.shape)
    return validate.output(where, "out", native, shape=shape, dtype=start.dtype)


def _try(job: Job, start: npt.NDArray[Any]) -> None:
    """Look at what an ``@njit`` function returns before it is compiled into the loop."""
    velocity = job.velocity
    if velocity.kind != "njit" or velocity.writes or start.shape[0] == 0:
        return
    if job.branches.labels.shape[1]:
        expectation = "take (z, t, labels, data, out) where there are labels"
        validate.fail(TypeError, job.function, "velocity", expectation, "(z, t)")
    t = np.full(1, job.plan.grid[0], start.dtype)
    shape = 1, start.shape[1]
    evaluate = make_evaluator(
        job.function, velocity, job.branches.rows(0, 1), [], None, shape, start.dtype
    )
    evaluate(start[:1].copy(), t, np.empty(shape, start.dtype))
