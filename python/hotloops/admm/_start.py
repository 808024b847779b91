"""Where the rounds of consensus ADMM begin: points, penalties, preconditioners, given states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.admm._data import ClientData
from hotloops.admm._engine import Job
from hotloops.admm._power import largest_eigenvalues
from hotloops.admm._state import AdmmState, check_state
from hotloops.admm._work import in_order

__all__ = ["start_state", "starting_point"]

Float64 = npt.NDArray[np.float64]

_SAFETY = 1.5  # the stability limit is sigma = 1.5 L
_NEWTON = 0.03  # of L: measured on a9a and scikit-learn's small tables, it takes the fewest rounds


def starting_point(function: str, data: ClientData, w0: Any) -> npt.NDArray[Any]:
    """Return a copy of w0, or zeros."""
    if w0 is None:
        if data.is_network:
            expectation = "be given for a network, whose zeros are a saddle point"
            validate.fail(ValueError, function, "w0", expectation, "None")
        return np.zeros(data.dim, data.dtype)
    point = validate.array(function, "w0", w0, shape=(data.dim,), dtype=data.dtype, copy=True)
    return np.asarray(point)


def start_state(
    function: str, job: Job, scheme: str, make_driver: Any, given: dict[str, Any]
) -> AdmmState:
    """Return the state that the rounds begin with: a new one, or a copy of the user's."""
    data = job.data
    if given["state"] is not None:
        return _on_device(_resume(function, job, scheme, given), data)
    shape = (data.num_clients, data.dim)
    w = starting_point(function, data, given["w0"])
    sigma, rho, lipschitz = _penalties(function, job, make_driver, given)
    second = None
    if scheme == "diag":
        second = _diagonal(function, data, given["preconditioner"])
    elif given["preconditioner"] is not None:
        expectation = "be None unless `scheme` is 'diag'"
        got = validate.describe(given["preconditioner"])
        validate.fail(ValueError, function, "preconditioner", expectation, got)
    elif scheme in ("adagrad", "rmsprop", "adam"):
        second = np.zeros(shape, data.dtype)
    remembered = job.relaxation != 1.0 or job.participants < data.num_clients
    local = np.tile(w, (data.num_clients, 1)) if remembered else None
    # The first global step, from w_i = w0 and pi_i = 0.
    weight = in_order(data.alpha * sigma)
    shrunk = w[: data.penalised]
    shrunk *= data.dtype.type(weight / (weight + job.penalty.l2))
    job.penalty.apply(w, weight)
    start = AdmmState(
        w=w,
        dual=np.zeros(shape, data.dtype),
        second=second,
        local=local,
        sigma=sigma,
        rho=rho,
        balance=1.0,
        lipschitz=lipschitz,
        round=0,
        seed=job.batch.seed,
        loss=data.loss.kernel,
        scheme=scheme,
    )
    return _on_device(start, data)


def _per_client(function: str, name: str, value: Any, num_clients: int, low: str) -> Float64:
    """Return a number, or one for each client, as an array."""
    if np.ndim(value) == 0:
        number = validate.real(function, name, value, low=0.0, open_low=low == "positive")
        return np.full(num_clients, number)
    array = validate.array(function, name, value, shape=(num_clients,), dtype=np.float64, copy=True)
    if (array < 0.0).any() or (low == "positive" and (array == 0.0).any()):
        validate.fail(ValueError, function, name, f"be {low}", f"{array.min().item()}")
    return np.asarray(array)


def _penalties(
    function: str, job: Job, make_driver: Any, given: dict[str, Any]
) -> tuple[Float64, Float64, Float64]:
    """Return sigma, rho and the Lipschitz constants of the clients."""
    data = job.data
    asked = 1.0 if given["scheme"] == "exact" else given["rho"]
    rho = _per_client(function, "rho", asked, data.num_clients, "zero or positive")
    sigma = given["sigma"]
    if not isinstance(sigma, str):
        unknown = np.full(data.num_clients, np.nan)
        return _per_client(function, "sigma", sigma, data.num_clients, "positive"), rho, unknown
    validate.choice(function, "sigma", sigma, ("auto",))
    curvature = data.loss.curvature
    if curvature is None:
        expectation = f"be a number for the loss {data.loss.kernel!r}, whose curvature is unbounded"
        validate.fail(ValueError, function, "sigma", expectation, "'auto'")
    lipschitz = curvature * largest_eigenvalues(make_driver, data)
    penalty = (_SAFETY if job.hessians is None else _NEWTON) * float(lipschitz.max())
    if not penalty > 0.0:
        validate.fail(ValueError, function, "X", "have an entry that is not zero", "zeros")
    return np.full(data.num_clients, penalty), rho, lipschitz


def _on_device(state: AdmmState, data: ClientData) -> AdmmState:
    """Put what is as long as the parameters on the device of the data."""
    if data.library.device == "cpu":
        return state
    names = ("w", "dual", "second", "local")
    with data.library_device():
        moved = {
            name: data.xp.asarray(getattr(state, name))
            for name in names
            if getattr(state, name) is not None
        }
    return replace(state, **moved)


def _diagonal(function: str, data: ClientData, given: Any) -> npt.NDArray[Any]:
    shape = (data.num_clients, data.dim)
    if given is not None:
        rows = validate.array(function, "preconditioner", given, ndim=(1, 2), dtype=data.dtype)
        if rows.shape not in (shape, shape[1:]):
            expectation = f"have shape ({shape[1]},) or {shape}"
            got = f"shape {rows.shape}"
            validate.fail(ValueError, function, "preconditioner", expectation, got)
        if (rows < 0).any():
            got = f"{rows.min().item()}"
            validate.fail(ValueError, function, "preconditioner", "be zero or positive", got)
        return np.array(np.broadcast_to(rows, shape), order="C")
    if data.is_network:
        validate.fail(ValueError, function, "preconditioner", "be given for a network", "None")
    rows = np.empty(shape, data.dtype)
    for client, (k, members) in enumerate(data.members):
        rows[client] = _mean_squares(data, client, k, members)
    return rows


def _mean_squares(data: ClientData, client: int, k: int, members: Any) -> Float64:
    """Return the bound of a client's diagonal Hessian."""
    one = data.matrices[k]
    rows = np.arange(one.num_rows) if members is None else members
    weights = np.ones(rows.size) if one.weights is None else one.weights[rows].astype(np.float64)
    curvature = data.loss.curvature
    if curvature is None:  # Poisson: the curvature is the mean, which the counts estimate
        assert one.targets is not None
        weights, curvature = weights * one.targets[rows], 1.0
    squares = _weighted_sum(weights, one.on_host()[rows].astype(np.float64) ** 2)
    outputs = int(data.layers[1])
    parts = [np.repeat(squares, outputs)]
    if data.intercept:
        parts.append(np.full(outputs, weights.sum()))
    return np.asarray(np.concatenate(parts) * curvature / data.totals[client])


def _weighted_sum(weights: Float64, rows: Any) -> Float64:
    """Return the sum of weighted rows, added in their order: BLAS has one for every processor."""
    if isinstance(rows, np.ndarray):
        return np.asarray(np.add.reduce(weights[:, None] * rows, axis=0))
    return np.asarray(weights @ rows)


def _resume(function: str, job: Job, scheme: str, given: dict[str, Any]) -> AdmmState:
    """Check that a state fits the call, and return a copy of it."""
    state, data = given["state"], job.data
    if not isinstance(state, AdmmState):
        expectation = "be the `state` of a result of solve"
        validate.fail(TypeError, function, "state", expectation, validate.describe(state))
    check_state(function, state)
    if given["w0"] is not None:
        got = validate.describe(given["w0"])
        validate.fail(ValueError, function, "w0", "be None when `state` is given", got)
    for name, known, asked in (
        ("loss", state.loss, data.loss.kernel),
        ("scheme", state.scheme, scheme),
        ("seed", state.seed, job.batch.seed),
    ):
        if asked != known:
            validate.fail(ValueError, function, name, f"be {known!r} as in `state`", repr(asked))
    if state.w.dtype != data.dtype:
        got = f"a state of {state.w.dtype} and data of {data.dtype}"
        validate.fail(TypeError, function, "state", "have the precision of `X`", got)
    if state.dual.shape != (data.num_clients, data.dim):
        expectation = f"belong to {data.num_clients} clients and {data.dim} parameters"
        got = f"one of {state.dual.shape[0]} and {state.dual.shape[1]}"
        validate.fail(ValueError, function, "state", expectation, got)
    remembered = job.relaxation != 1.0 or job.participants < data.num_clients
    if remembered and state.local is None:
        expectation = "hold the clients' points: it was made with other options"
        validate.fail(ValueError, function, "state", expectation, "none")
    return state.copy()
