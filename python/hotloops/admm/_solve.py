"""Consensus ADMM: one inexact, preconditioned step of every client a round."""

from __future__ import annotations

import importlib
import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime.progress import Progress
from hotloops.admm._data import ClientData, gather_clients
from hotloops.admm._dense_hessian import Hessians
from hotloops.admm._engine import (
    HISTORY,
    Job,
    Outcome,
    Penalty,
    Round,
    objective_at,
    run_rounds,
)
from hotloops.admm._losses import as_loss
from hotloops.admm._result import AdmmResult
from hotloops.admm._schedules import as_schedule
from hotloops.admm._start import start_state
from hotloops.admm._state import AdmmState
from hotloops.admm._work import SCHEMES, Batch, Engine, Work

__all__ = [
    "MAX_ROUNDS",
    "driver_factory",
    "make_batch",
    "make_penalty",
    "solve",
    "solve_clients",
]

_CHOICES = (*SCHEMES, "hessian", "majorant", "exact")
MAX_ROUNDS = 2**48


def solve(
    loss: Any,
    X: Any,
    y: Any,
    *,
    clients: Any,
    sample_weight: Any = None,
    regularizer: Any = None,
    l2: float = 0.0,
    intercept: bool = False,
    scheme: str = "adam",
    preconditioner: Any = None,
    sigma: Any = "auto",
    rho: Any,
    beta: float = 0.999,
    eps: float = 1e-8,
    eta: float = math.inf,
    schedule: Any = None,
    relaxation: float = 1.0,
    batch_size: int | None = None,
    sampling: str = "replacement",
    participation: float = 1.0,
    num_rounds: int,
    tol: float | tuple[float, float] | None = None,
    gradient_tol: float | None = None,
    evaluate_every: int = 0,
    w0: Any = None,
    record_iterates: bool = False,
    callback: Callable[[Round], Any] | None = None,
    seed: int = 0,
    state: AdmmState | None = None,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    max_seconds: float | None = None,
) -> AdmmResult:
    """Fit one model to the data of many clients by preconditioned inexact ADMM.

    It minimises ``sum_i alpha_i F_i(w) + l2/2 |w|^2 + r(w)``, where ``F_i`` is the mean loss of
    client i and ``alpha_i`` its share of the rows. In a round every client takes one gradient at
    the global point w, moves its own point by ``-(sigma I + rho Q)^{-1} (g + pi)`` and its
    multiplier pi by sigma times that; the global point is then a proximal step from the average of
    ``sigma w_i + pi_i``. The multipliers cancel the drift that clients with different data have:
    the only fixed point is the pooled optimum.

    Parameters
    ----------
    loss : str or object
        "squares", "logistic", "softmax", "squared_hinge", "huber_hinge", "huber", "poisson" or
        "quantile"; `HuberHinge`, `Huber` and `Quantile` carry parameters; `MLP` is a network.
    X : array_like or CSR matrix, shape (n, p), float32 or float64, or None
        Its precision is that of the state. A CSR matrix whose entries are all 1 is used by its
        pattern alone. None when `clients` carries the data.
    y : array_like, shape (n,), or None
        -1 and 1, or 0 and 1, for "logistic" and hinges; classes 0, 1, ... for "softmax"; counts for
        "poisson"; else reals.
    clients : array_like of ids, shape (n,), list of index arrays, or list of (X, y)
        Whose row is whose. Index arrays name rows of X, which is not copied.
    sample_weight : array_like, shape (n,), or list of arrays, optional
        Weights of the rows, in means and in ``alpha``.
    regularizer : object, optional
        The function r, with ``r(v, step, out=None)`` and ``r.value(v)``, such as those of
        `hotloops.prox`. It meets the coefficients as (p,) or (p, K), without intercepts, and all of
        a network.
    l2 : float
        Ridge penalty, on what the regularizer meets. Default 0. In scikit-learn's terms
        ``C = 1 / (n l2)``.
    intercept : bool
        Add an unpenalised intercept to a linear model. Default False. Networks have theirs.
    scheme : str
        Q: "adam" (default), "rmsprop" and "adagrad" take the root of second moments of ``g + pi``;
        "identity"; "diag", a fixed diagonal; "hessian", that of the client at w; "majorant", the
        largest curvature of the loss times the second moments of the client's rows. "exact", for
        "squares", is the majorant with rho = 1: classical consensus ADMM.
    preconditioner : array_like, shape (d,) or (m, d), optional
        The diagonal of "diag". Default: the bound of the losses' curvature times the columns' mean
        squares.
    sigma : "auto", float or array_like, shape (m,)
        Penalties, positive; 1 / sigma is the length of slow steps. "auto" (default) is 1.5 times
        the largest Lipschitz constant of a client, by 20 power iterations: the limit of stability.
        Hessians and majorants, which have no such limit, take 0.03 times that constant.
    rho : float or array_like, shape (m,)
        Weights of the preconditioner, zero or positive. "exact" has 1 in any case.
    beta : float
        Decay of second moments, in [0, 1). Default 0.999.
    eps : float
        Added to Q. Default 1e-8.
    eta : float
        Upper bound of the adaptive Q, positive. Default infinity, as in the authors' code.
    schedule : Geometric, Power, LearningRate or Balancing, optional
        How sigma and rho change. Default: they do not.
    relaxation : float
        Over-relaxation, in [1, 1.8]. Default 1.
    batch_size : int, optional
        Rows that each client draws in a round. Default: all of them.
    sampling : {"replacement", "epoch"}
        How they are drawn: independently, or by a new permutation for each pass. Default
        "replacement".
    participation : float
        Share of the clients that act in a round, drawn anew each time, in (0, 1]. The others keep
        their points and multipliers. Default 1.
    num_rounds : int
        Rounds to make, at least 1.
    tol : float or (float, float), optional
        Stop when the primal residual is at most ``a sqrt(d) + b |w|`` and the dual one at most
        ``a sqrt(d) + b |sum alpha pi|``; one number stands for both a and b.
    gradient_tol : float, optional
        Stop when the norm of the pooled gradient is at most this. For full batches of smooth
        problems.
    evaluate_every : int
        Evaluate the objective after each so many rounds, for `history`; it costs half a round.
        Default 0: only at the end.
    w0 : array_like, shape (d,), optional
        Where all clients start. Default: zeros for linear models; a network needs it.
    record_iterates : bool
        Keep every global point. Default False.
    callback : callable, optional
        Called with a `Round` after each round; returning True stops.
    seed : int
        Key of the random numbers, 0 to 2**64 - 1. Default 0.
    state : AdmmState, optional
        ``result.state`` of an earlier run with the same data and options, to go on from.
    out : ndarray, shape (d,), optional
        Memory for `w`.
    backend : {"cpp", "numba", "cuda"}, optional
        Default "cpp", and "cuda" where X is a CuPy array or a CSR matrix of CuPy: linear models
        with one output.
    num_threads : int, optional
        Default: `hotloops.get_num_threads`.
    progress : bool
        Show a progress bar. Default False.
    max_seconds : float, optional
        Stop after about this time; the result has ``complete=False`` and can be gone on from.

    Returns
    -------
    AdmmResult

    Raises
    ------
    TypeError
        Arguments of the wrong type or precision.
    ValueError
        Shapes, ranges, labels, broken CSR indices, clients without rows, or a `state` that does
        not fit.
    OverflowError
        More than 2**48 rounds, or 2**31 columns.
    hotloops.NumericalError
        The iterate left the finite numbers: sigma is too small for the loss.
    hotloops.BackendUnavailable
        The backend cannot run here.

    Warns
    -----
    RuntimeWarning
        A geometric schedule whose path is too short to reach a minimiser.

    Notes
    -----
    Class A: the same bits for every number of threads, instruction set and backend; "hessian",
    "majorant" and "exact" call LAPACK and are class B. A round costs a gradient of every client,
    that is four operations for each entry of the batch, and some twenty bytes of traffic for each
    parameter and client; mini-batches of CSR rows without preconditioner and penalties cost their
    entries only. With equal curvature h of all clients a round contracts when
    ``h < (2/3) (sigma + 2 rho q)``; near the optimum q of the adaptive schemes goes to zero, which
    leaves ``sigma >= 1.5 h``.

    References
    ----------
    S. Zhou, O. Wang, Z. Luo, Y. Zhu, G. Y. Li, "Preconditioned Inexact Stochastic ADMM for Deep
    Models", Nature Machine Intelligence 2026, arXiv:2502.10784.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> X = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    >>> y = np.array([1.0, 3.0, 5.0, 7.0])
    >>> fit = admm.solve("squares", X, y, clients=[0, 0, 1, 1], scheme="exact",
    ...                  sigma=1.0, rho=1.0, num_rounds=500, tol=1e-9)
    >>> fit.w.round(6).tolist(), fit.converged
    ([1.0, 2.0], True)
    """
    given = dict(locals())
    rows = tuple(given.pop(name) for name in ("X", "y", "clients", "sample_weight"))
    return solve_clients("solve", given.pop("loss"), (*rows, None), given)


_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(solve).parameters.items()
    if parameter.default is not inspect.Parameter.empty
}


def solve_clients(
    function: str, loss: Any, rows: tuple[Any, ...], given: dict[str, Any]
) -> AdmmResult:
    """Do what `solve` does, in another's name.

    Parameters
    ----------
    function : str
        For messages.
    loss : str or Loss
    rows : tuple
        X, y, clients, sample_weight, and the number of classes or None.
    given : dict
        The other arguments of `solve`; those that are missing have their defaults.
    """
    X, y, clients, sample_weight, num_classes = rows
    given = _DEFAULTS | given
    data = gather_clients(
        function,
        as_loss(function, loss),
        X,
        y,
        clients,
        sample_weight=sample_weight,
        intercept=validate.boolean(function, "intercept", given["intercept"]),
        num_classes=num_classes,
    )
    return _solve(function, data, given)


def _solve(function: str, data: ClientData, given: dict[str, Any]) -> AdmmResult:
    """Check the options, run, and wrap up."""
    num_rounds = validate.integer(function, "num_rounds", given["num_rounds"], low=1)
    shown = validate.boolean(function, "progress", given["progress"])
    recorded = validate.boolean(function, "record_iterates", given["record_iterates"])
    if given["max_seconds"] is not None:
        validate.real(function, "max_seconds", given["max_seconds"], low=0.0)
    make_driver = driver_factory(function, data, given["backend"], given["num_threads"])
    scheme = validate.choice(function, "scheme", given["scheme"], _CHOICES)
    batch = make_batch(function, data, given)
    schedule, warning = as_schedule(function, given["schedule"])
    share = validate.real(
        function, "participation", given["participation"], low=0.0, high=1.0, open_low=True
    )
    penalty = make_penalty(function, data, given["regularizer"], given["l2"])
    hessians = None
    if scheme not in SCHEMES:
        hessians = Hessians(function, data, scheme)
    job = Job(
        function=function,
        data=data,
        driver=make_driver(data),
        penalty=penalty,
        schedule=schedule,
        scheme=SCHEMES.index(scheme) if scheme in SCHEMES else 0,
        hessians=hessians,
        beta=_below_one(function, "beta", given["beta"]),
        eps=validate.real(function, "eps", given["eps"], low=0.0),
        cap=_cap(function, given["eta"]),
        relaxation=validate.real(function, "relaxation", given["relaxation"], low=1.0, high=1.8),
        batch=batch,
        participants=max(1, round(share * data.num_clients)),
        tol=_tolerances(function, given["tol"]),
        gradient_tol=_optional(function, "gradient_tol", given["gradient_tol"]),
        evaluate_every=validate.integer(function, "evaluate_every", given["evaluate_every"], low=0),
        record=recorded,
        callback=_callback(function, given["callback"]),
    )
    start = start_state(function, job, scheme, make_driver, given)
    if start.round + num_rounds > MAX_ROUNDS:
        got = f"{start.round} + {num_rounds}"
        validate.fail(OverflowError, function, "num_rounds", "stay below 2**48 in all", got)
    validate.sizes(function, start.round + num_rounds, max(batch.size, 1))
    target = given["out"]
    if target is not None:
        target, _ = arrays.import_array(function, "out", target)
        target = validate.output(function, "out", target, shape=(data.dim,), dtype=data.dtype)
    if warning is not None:
        warnings.warn(warning, RuntimeWarning, stacklevel=3)
    with Progress(
        num_rounds,
        enabled=shown,
        description=function,
        unit="round",
        max_seconds=given["max_seconds"],
    ) as bar:
        outcome = run_rounds(job, start, num_rounds, bar)
    complete = outcome.state.round - start.round == num_rounds or not _timed_out(bar, outcome)
    return _result(job, outcome, target, complete=complete)


def _timed_out(bar: Progress, outcome: Outcome) -> bool:
    return bar.out_of_time() and not outcome.converged


def driver_factory(
    function: str, data: ClientData, backend: str | None, num_threads: int | None
) -> Callable[[ClientData], Engine]:
    """Return what binds data to the backend that a call runs on."""
    chosen = dispatch.resolve_backend(function, backend, data.library.device)
    count = threads.resolve_num_threads(function, num_threads)
    module = importlib.import_module(f"hotloops.admm._{chosen}")
    return lambda data: module.Driver(data, count)


def make_batch(function: str, data: ClientData, given: dict[str, Any]) -> Batch:
    """Return which rows the gradients of a call take."""
    seed = validate.integer(function, "seed", given["seed"], low=0, high=2**64 - 1)
    names = ("replacement", "epoch")
    kind = validate.choice(function, "sampling", given["sampling"], names)
    if given["batch_size"] is None:
        return Batch(seed=seed)
    size = validate.integer(function, "batch_size", given["batch_size"], low=1, high=2**34)
    if int(data.counts.max()) >= 2**32:
        validate.fail(OverflowError, function, "X", "have fewer than 2**32 rows", "more")
    return Batch(sampling=1 + names.index(kind), size=size, seed=seed)


def make_penalty(function: str, data: ClientData, regularizer: Any, l2: Any) -> Penalty:
    """Check a regularizer and an l2 penalty."""
    ridge = validate.real(function, "l2", l2, low=0.0)
    if regularizer is not None and not (callable(regularizer) and hasattr(regularizer, "value")):
        expectation = "be an object with __call__(v, step) and value(v), as in hotloops.prox"
        got = validate.describe(regularizer)
        validate.fail(TypeError, function, "regularizer", expectation, got)
    return Penalty(ridge, regularizer, data.penalised, data.coefficient_shape)


def _below_one(function: str, name: str, value: Any) -> float:
    number = validate.real(function, name, value, low=0.0, high=1.0)
    if number == 1.0:
        validate.fail(ValueError, function, name, "lie in [0, 1)", "1.0")
    return number


def _cap(function: str, eta: Any) -> float:
    if isinstance(eta, float) and eta == math.inf:
        return eta
    return validate.real(function, "eta", eta, low=0.0, open_low=True)


def _optional(function: str, name: str, value: Any) -> float | None:
    return None if value is None else validate.real(function, name, value, low=0.0)


def _tolerances(function: str, tol: Any) -> tuple[float, float] | None:
    if tol is None:
        return None
    if isinstance(tol, tuple | list):
        if len(tol) != 2:
            expectation = "be a number or a pair of them"
            validate.fail(ValueError, function, "tol", expectation, validate.describe(tol))
        absolute, relative = tol
        return (
            validate.real(function, "tol", absolute, low=0.0),
            validate.real(function, "tol", relative, low=0.0),
        )
    number = validate.real(function, "tol", tol, low=0.0)
    return number, number


def _callback(function: str, callback: Any) -> Callable[[Round], Any] | None:
    if callback is not None and not callable(callback):
        validate.fail(TypeError, function, "callback", "be callable", validate.describe(callback))
    return callback  # type: ignore[no-any-return]


def _result(job: Job, outcome: Outcome, target: Any, *, complete: bool) -> AdmmResult:
    state = outcome.state
    if target is not None:
        target[...] = state.w
        state = replace(state, w=target)
    passes = Work.prepare(job.data, None, gradients=False)
    columns = np.array(outcome.history, np.float64).reshape(-1, len(HISTORY)).T
    history = dict(zip(HISTORY, columns, strict=True))
    history["round"] = history["round"].astype(np.int64)
    last = outcome.history[-1] if outcome.history else (float("nan"),) * len(HISTORY)
    known = last[1]
    return AdmmResult(
        w=arrays.export_array(state.w, job.data.library),
        objective=objective_at(job, passes, state.w) if math.isnan(known) else known,
        primal_residual=last[2],
        dual_residual=last[3],
        gradient_norm=last[4],
        history=history,
        iterates=np.stack(outcome.iterates) if job.record else None,
        lipschitz=state.lipschitz,
        layers=tuple(int(width) for width in job.data.layers),
        num_rounds=state.round,
        converged=outcome.converged,
        complete=complete,
        state=state,
    )
