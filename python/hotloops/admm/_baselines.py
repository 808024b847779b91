"""Averaging of local steps: what consensus ADMM is compared with, on the same kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops._runtime.progress import Progress
from hotloops.admm._baselines_loop import BaselineResult, Loop
from hotloops.admm._data import gather_clients
from hotloops.admm._losses import as_loss
from hotloops.admm._solve import MAX_ROUNDS

__all__ = ["BaselineResult", "fedavg", "fedprox", "local_sgd", "scaffold"]

_COMMON = """loss : str or object
        As in `solve`.
    X : array_like or CSR matrix, shape (n, p), or None
        As in `solve`.
    y : array_like, shape (n,), or None
        As in `solve`.
    clients : array_like of ids, shape (n,), list of index arrays, or list of (X, y)
        Whose row is whose.
    step_size : float or callable
        Length of the local gradient steps, positive; ``step_size(r)`` for round r.
    local_steps : int
        Steps of each client between two averages. Default 5.{more}
    sample_weight : array_like, shape (n,), or list of arrays, optional
        Weights of the rows.
    l2 : float
        Ridge penalty. Default 0.
    intercept : bool
        Add an unpenalised intercept to a linear model. Default False.
    batch_size : int, optional
        Rows that each client draws for a step. Default: all of them.
    sampling : {{"replacement", "epoch"}}
        How they are drawn. Default "replacement".
    participation : float
        Share of the clients that act in a round, in (0, 1]. Default 1.
    num_rounds : int
        Averages to take, at least 1.
    evaluate_every : int
        Evaluate the objective after each so many rounds. Default 0: only at the end.
    w0 : array_like, shape (d,), optional
        The start. Default: zeros for linear models; a network needs it.
    record_iterates : bool
        Keep every global point. Default False.
    seed : int
        Key of the random numbers. Default 0.
    backend : {{"cpp", "numba"}}, optional
        Default "cpp".
    num_threads : int, optional
        Default: `hotloops.get_num_threads`.
    progress : bool
        Show a progress bar. Default False.
    max_seconds : float, optional
        Stop after about this time.

    Returns
    -------
    BaselineResult

    Raises
    ------
    TypeError, ValueError, hotloops.BackendUnavailable
        As `solve`.
    hotloops.NumericalError
        The iterate left the finite numbers: `step_size` is too large."""

_NOTES = """Class A: the same bits for every number of threads, instruction set and backend. A
    round costs `local_steps` gradients of every client."""


def fedavg(
    loss: Any,
    X: Any,
    y: Any,
    *,
    clients: Any,
    step_size: float | Callable[[int], float],
    local_steps: int = 5,
    sample_weight: Any = None,
    l2: float = 0.0,
    intercept: bool = False,
    batch_size: int | None = None,
    sampling: str = "replacement",
    participation: float = 1.0,
    num_rounds: int,
    evaluate_every: int = 0,
    w0: Any = None,
    record_iterates: bool = False,
    seed: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    max_seconds: float | None = None,
) -> BaselineResult:
    return _run("fedavg", dict(locals()))


def fedprox(
    loss: Any,
    X: Any,
    y: Any,
    *,
    clients: Any,
    step_size: float | Callable[[int], float],
    local_steps: int = 5,
    mu: float = 0.1,
    sample_weight: Any = None,
    l2: float = 0.0,
    intercept: bool = False,
    batch_size: int | None = None,
    sampling: str = "replacement",
    participation: float = 1.0,
    num_rounds: int,
    evaluate_every: int = 0,
    w0: Any = None,
    record_iterates: bool = False,
    seed: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    max_seconds: float | None = None,
) -> BaselineResult:
    return _run("fedprox", dict(locals()))


def scaffold(
    loss: Any,
    X: Any,
    y: Any,
    *,
    clients: Any,
    step_size: float | Callable[[int], float],
    local_steps: int = 5,
    global_step_size: float = 1.0,
    sample_weight: Any = None,
    l2: float = 0.0,
    intercept: bool = False,
    batch_size: int | None = None,
    sampling: str = "replacement",
    participation: float = 1.0,
    num_rounds: int,
    evaluate_every: int = 0,
    w0: Any = None,
    record_iterates: bool = False,
    seed: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    max_seconds: float | None = None,
) -> BaselineResult:
    return _run("scaffold", dict(locals()))


def local_sgd(
    loss: Any,
    X: Any,
    y: Any,
    *,
    clients: Any,
    step_size: float | Callable[[int], float],
    local_steps: int = 5,
    sample_weight: Any = None,
    l2: float = 0.0,
    intercept: bool = False,
    batch_size: int | None = None,
    sampling: str = "replacement",
    participation: float = 1.0,
    num_rounds: int,
    evaluate_every: int = 0,
    w0: Any = None,
    record_iterates: bool = False,
    seed: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    max_seconds: float | None = None,
) -> BaselineResult:
    return _run("local_sgd", dict(locals()))


fedavg.__doc__ = f"""Average local gradient steps, weighted by the clients' rows.

    With ``local_steps=1`` and full batches it is gradient descent on the pooled data; with more,
    and clients whose data differ, it settles beside the optimum.

    Parameters
    ----------
    {_COMMON.format(more="")}

    Notes
    -----
    {_NOTES}

    References
    ----------
    B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Aguera y Arcas, "Communication-Efficient
    Learning of Deep Networks from Decentralized Data", AISTATS 2017, arXiv:1602.05629.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> X, y = np.array([[1.0], [3.0]]), np.array([1.0, 0.0])
    >>> fit = admm.fedavg("squares", X, y, clients=[0, 1], step_size=0.1, num_rounds=200)
    >>> fit.w.round(3).tolist()  # the pooled optimum is 0.1
    [0.291]
    """

fedprox.__doc__ = f"""Average local steps that a quadratic pulls back to the global point.

    Parameters
    ----------
    {
    _COMMON.format(
        more='''
    mu : float
        Weight of ``mu / 2 |w_i - w|^2`` in each client's objective, zero or positive. Default
        0.1.'''
    )
}

    Notes
    -----
    {_NOTES}

    References
    ----------
    T. Li, A. K. Sahu, M. Zaheer, M. Sanjabi, A. Talwalkar, V. Smith, "Federated Optimization in
    Heterogeneous Networks", MLSys 2020, arXiv:1812.06127.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> X, y = np.array([[1.0], [3.0]]), np.array([1.0, 0.0])
    >>> fit = admm.fedprox(
    ...     "squares", X, y, clients=[0, 1], step_size=0.1, mu=4.0, num_rounds=200
    ... )
    >>> fit.w.round(3).tolist()  # the pooled optimum is 0.1
    [0.218]
    """

scaffold.__doc__ = f"""Average local steps that control variates keep on course.

    Each client corrects its gradients by the difference of the mean control variate and its own
    (option II of the paper).

    Parameters
    ----------
    {
    _COMMON.format(
        more='''
    global_step_size : float
        What the mean of the clients' moves is multiplied by, positive. Default 1.'''
    )
}

    Notes
    -----
    {_NOTES}

    References
    ----------
    S. P. Karimireddy, S. Kale, M. Mohri, S. J. Reddi, S. U. Stich, A. T. Suresh, "SCAFFOLD:
    Stochastic Controlled Averaging for Federated Learning", ICML 2020, arXiv:1910.06378.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> X, y = np.array([[1.0], [3.0]]), np.array([1.0, 0.0])
    >>> fit = admm.scaffold("squares", X, y, clients=[0, 1], step_size=0.02, num_rounds=200)
    >>> fit.w.round(3).tolist()
    [0.1]
    """

local_sgd.__doc__ = f"""Average local steps with equal weights for all clients.

    Parameters
    ----------
    {_COMMON.format(more="")}

    Notes
    -----
    {_NOTES}

    References
    ----------
    S. U. Stich, "Local SGD Converges Fast and Communicates Little", ICLR 2019, arXiv:1805.09767.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> X, y = np.ones((4, 1)), np.array([0.0, 1.0, 2.0, 3.0])
    >>> fit = admm.local_sgd(
    ...     "squares", X, y, clients=[0, 0, 1, 1], step_size=0.5, num_rounds=50
    ... )
    >>> fit.w.round(3).tolist()
    [1.5]
    """


def _run(function: str, given: dict[str, Any]) -> BaselineResult:
    data = gather_clients(
        function,
        as_loss(function, given["loss"]),
        given["X"],
        given["y"],
        given["clients"],
        sample_weight=given["sample_weight"],
        intercept=validate.boolean(function, "intercept", given["intercept"]),
    )
    num_rounds = validate.integer(function, "num_rounds", given["num_rounds"], low=1)
    shown = validate.boolean(function, "progress", given["progress"])
    if given["max_seconds"] is not None:
        validate.real(function, "max_seconds", given["max_seconds"], low=0.0)
    loop = Loop(function, data, given)
    if num_rounds * loop.local_steps > MAX_ROUNDS:
        got = f"{num_rounds} rounds of {loop.local_steps} steps"
        validate.fail(OverflowError, function, "num_rounds", "stay below 2**48 steps", got)
    validate.sizes(function, num_rounds, loop.local_steps, max(loop.batch.size, 1))
    with Progress(
        num_rounds,
        enabled=shown,
        description=function,
        unit="round",
        max_seconds=given["max_seconds"],
    ) as bar:
        while bar.done < num_rounds and not bar.out_of_time():
            with np.errstate(over="ignore", invalid="ignore"):  # the loop looks for it itself
                loop.advance()
            bar.update()
        return loop.result(complete=bar.done == num_rounds)
