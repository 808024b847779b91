"""Losses as functions: their value, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime.validate import fail
from hotloops.nn._jobs import LOSSES, LossJob, mean_of_rows
from hotloops.nn._layout import SparseTable
from hotloops.nn._network import kernels_of
from hotloops.nn._tables import Csr, read_indices, read_sparse

__all__ = [
    "binary_cross_entropy",
    "cross_entropy",
    "huber",
    "mean_squared_error",
    "negative_binomial_nll",
    "poisson_nll",
]

F = TypeVar("F", bound=Callable[..., Any])

_COMMON = """backend : {"cpp", "numba"}, optional
        Default "cpp".
    num_threads : int, optional
        Default `hotloops.get_num_threads`; never changes the result.

    Returns
    -------
    value : float
    gradient : array, shape (rows, columns)
        By {argument}, in its library.{more}

    Raises
    ------
    TypeError, ValueError
        Arrays of the wrong type, shape or range, or not finite."""


def _describe(argument: str, more: str = "") -> Callable[[F], F]:
    """Fill in what the docstrings share."""

    def decorate(function: F) -> F:
        common = _COMMON.replace("{argument}", f"`{argument}`").replace("{more}", more)
        function.__doc__ = (function.__doc__ or "").replace("{common}", common)
        return function

    return decorate


@_describe("prediction")
def mean_squared_error(
    prediction: Any, target: Any, *, backend: str | None = None, num_threads: int | None = None
) -> tuple[float, Any]:
    """Mean over rows and columns of ``(prediction - target)^2``.

    Parameters
    ----------
    prediction : array of float32 or float64, shape (rows, columns)
    target : array, shape (rows, columns)
    {common}

    Notes
    -----
    Class A.

    Examples
    --------
    >>> from hotloops import nn
    >>> nn.mean_squared_error([[1.0, 2.0]], [[0.0, 2.0]])
    (0.5, array([[1., 0.]]))
    """
    call = _Call("mean_squared_error", "prediction", prediction, backend, num_threads)
    return call.run("mean_squared_error", dense=call.dense("target", target))


@_describe("prediction")
def huber(
    prediction: Any,
    target: Any,
    delta: float = 1.0,
    *,
    backend: str | None = None,
    num_threads: int | None = None,
) -> tuple[float, Any]:
    """Mean of ``d^2 / 2`` within delta and ``delta (|d| - delta / 2)`` beyond, d the difference.

    Parameters
    ----------
    prediction : array of float32 or float64, shape (rows, columns)
    target : array, shape (rows, columns)
    delta : float
        Above zero; default 1.
    {common}

    Notes
    -----
    Class A.

    Examples
    --------
    >>> from hotloops import nn
    >>> nn.huber([[3.0, 0.5]], [[0.0, 0.0]])
    (1.3125, array([[0.5 , 0.25]]))
    """
    call = _Call("huber", "prediction", prediction, backend, num_threads)
    size = validate.real("huber", "delta", delta, low=0.0, open_low=True)
    return call.run("huber", dense=call.dense("target", target), delta=size)


@_describe("logits")
def cross_entropy(
    logits: Any, labels: Any, *, backend: str | None = None, num_threads: int | None = None
) -> tuple[float, Any]:
    """Mean over rows of ``-log softmax(logits)[label]``.

    Parameters
    ----------
    logits : array of float32 or float64, shape (rows, classes)
    labels : array of int, shape (rows,)
        In [0, classes).
    {common}

    Notes
    -----
    Class A. The row's largest logit is taken off first: nothing overflows.

    Examples
    --------
    >>> from hotloops import nn
    >>> value, gradient = nn.cross_entropy([[0.0, 0.0]], [1])
    >>> round(value, 6), gradient
    (0.693147, array([[ 0.5, -0.5]]))
    """
    call = _Call("cross_entropy", "logits", logits, backend, num_threads)
    classes = call.logits.shape[1]
    chosen = read_indices("cross_entropy", "labels", labels, classes, call.symbols, low=0)
    return call.run("cross_entropy", labels=chosen)


@_describe("logits")
def binary_cross_entropy(
    logits: Any, target: Any, *, backend: str | None = None, num_threads: int | None = None
) -> tuple[float, Any]:
    """Mean over rows of the sum over columns of ``softplus(logits) - target logits``.

    Parameters
    ----------
    logits : array of float32 or float64, shape (rows, columns)
    target : array or CSR matrix of SciPy, shape (rows, columns)
        In [0, 1].
    {common}

    Notes
    -----
    Class A. Minus the log likelihood of a row of independent Bernoulli variables; divide by the
    columns for the mean over all elements that other libraries take.

    Examples
    --------
    >>> from hotloops import nn
    >>> value, gradient = nn.binary_cross_entropy([[0.0, 0.0]], [[1.0, 0.0]])
    >>> round(value, 6), gradient
    (1.386294, array([[-0.5,  0.5]]))
    """
    name = "binary_cross_entropy"
    call = _Call(name, "logits", logits, backend, num_threads)
    if _is_sparse(target):
        table = call.counts("target", target)
        if table.values.size and table.values.max() > 1:
            at = int(table.values.argmax())
            got = f"{table.values[at]} at index ({at},)"
            fail(ValueError, name, "target.data", "hold numbers in [0, 1]", got)
        return call.run(name, counts=table)
    values = call.dense("target", target)
    wrong = (values < 0) | (values > 1)
    if wrong.any():
        row, column = np.unravel_index(int(wrong.argmax()), wrong.shape)
        got = f"{values[row, column]} at index ({row}, {column})"
        fail(ValueError, name, "target", "hold numbers in [0, 1]", got)
    return call.run(name, dense=values)


@_describe(
    "logits",
    """
    log_theta_gradient : array, shape of `log_theta`""",
)
def negative_binomial_nll(
    logits: Any,
    counts: Any,
    log_theta: Any,
    groups: Any = None,
    *,
    backend: str | None = None,
    num_threads: int | None = None,
) -> tuple[float, Any, Any]:
    """Minus the log likelihood of counts with means ``L softmax(logits)``, mean over rows.

    Parameters
    ----------
    logits : array of float32 or float64, shape (rows, columns)
    counts : array or CSR matrix of SciPy, shape (rows, columns)
        Not negative; L, the sum of a row, is above zero. Numbers that are not whole give a
        pseudo-likelihood.
    log_theta : array, shape (columns,) or (number of groups, columns)
        Logarithms of the inverse dispersions; the variance is ``mu + mu^2 / theta``. They act as if
        kept within [-10, 15], with the gradient of what they are.
    groups : array of int, shape (rows,), optional
        Row of `log_theta` for each row.
    {common}

    Notes
    -----
    Class A. No division by a mean and no logarithm of a softmax anywhere: rows where the softmax
    underflows have finite gradients. Gamma functions are evaluated for counts above zero only, by
    products up to 16.

    References
    ----------
    R. Lopez, J. Regier, M. B. Cole, M. I. Jordan, N. Yosef, "Deep generative modeling for
    single-cell transcriptomics", Nature Methods 15, 2018, equation of p(x | z, l).

    Examples
    --------
    >>> from hotloops import nn
    >>> value, gradient, slope = nn.negative_binomial_nll(
    ...     [[0.5, -1.0, 2.0, 0.0]], [[3.0, 0.0, 8.0, 1.0]], [0.1, -0.3, 0.7, 0.0]
    ... )
    >>> round(value, 9)
    6.828745073
    """
    name = "negative_binomial_nll"
    call = _Call(name, "logits", logits, backend, num_threads)
    table = call.counts("counts", counts, totals=True)
    theta, shape = call.dispersion(log_theta, groups)
    chosen = np.empty(0, np.int32)
    if groups is not None:
        chosen = read_indices(name, "groups", groups, theta.shape[0], call.symbols, low=0)
    slope = np.zeros_like(theta)
    value, gradient = call.run(
        "negative_binomial", counts=table, log_theta=theta, groups=chosen, theta_gradient=slope
    )
    return value, gradient, arrays.export_array(slope.reshape(shape), call.library)


@_describe("logits")
def poisson_nll(
    logits: Any, counts: Any, *, backend: str | None = None, num_threads: int | None = None
) -> tuple[float, Any]:
    """Minus the log likelihood of Poisson counts with rates ``L softmax(logits)``, mean over rows.

    Parameters
    ----------
    logits : array of float32 or float64, shape (rows, columns)
    counts : array or CSR matrix of SciPy, shape (rows, columns)
        Not negative; L, the sum of a row, is above zero.
    {common}

    Notes
    -----
    Class A.

    Examples
    --------
    >>> from hotloops import nn
    >>> value, gradient = nn.poisson_nll([[0.0, 0.0]], [[1.0, 3.0]])
    >>> round(value, 6), gradient
    (3.019171, array([[ 1., -1.]]))
    """
    call = _Call("poisson_nll", "logits", logits, backend, num_threads)
    return call.run("poisson", counts=call.counts("counts", counts, totals=True))


def _is_sparse(value: Any) -> bool:
    import scipy.sparse

    return bool(scipy.sparse.issparse(value))


class _Call:
    """One checked call of a loss."""

    def __init__(
        self, name: str, argument: str, logits: Any, backend: str | None, num_threads: int | None
    ) -> None:
        native, self.library = arrays.import_array(name, argument, logits)
        if self.library.device != "cpu":
            got = f"an array on {self.library.place}"
            fail(TypeError, name, argument, "live in host memory", got)
        self.name, self.symbols = name, dict[str, int]()
        shape = ("rows", "columns")
        self.logits: npt.NDArray[Any] = validate.array(
            name, argument, native, shape=shape, symbols=self.symbols
        )
        self._num_threads = threads.resolve_num_threads(name, num_threads)
        self._kernels = kernels_of(dispatch.resolve_backend(name, backend, "cpu"))

    def dense(self, argument: str, value: Any) -> npt.NDArray[Any]:
        """Check a dense target."""
        dtype = self.logits.dtype
        native, _ = arrays.import_array(self.name, argument, value, dtype=dtype)
        checked: npt.NDArray[Any] = validate.array(
            self.name, argument, native, shape=self.logits.shape, dtype=dtype
        )
        return checked

    def counts(self, argument: str, value: Any, totals: bool = False) -> Csr:
        """Check a CSR target, whose rows must not be empty where their totals count."""
        wanted = SparseTable(self.logits.shape[1], "none")
        symbols = {"rows": self.logits.shape[0]}
        table = read_sparse(
            self.name, argument, value, wanted, self.logits.dtype, symbols, counts=True
        )
        if totals and table.totals.min() <= 0:
            at = int(table.totals.argmin())
            fail(ValueError, self.name, argument, "have rows with a sum above zero", f"row {at}")
        return table

    def dispersion(self, log_theta: Any, groups: Any) -> tuple[npt.NDArray[Any], Any]:
        """Check log theta; return it with two axes, and its shape."""
        dtype = self.logits.dtype
        native, _ = arrays.import_array(self.name, "log_theta", log_theta, dtype=dtype)
        shape = ("columns",) if groups is None else ("groups", "columns")
        symbols = {"columns": self.logits.shape[1]}
        checked = validate.array(
            self.name, "log_theta", native, shape=shape, symbols=symbols, dtype=dtype
        )
        return checked.reshape(-1, checked.shape[-1]), checked.shape

    def run(
        self,
        kind: str,
        *,
        dense: npt.NDArray[Any] | None = None,
        counts: Csr | None = None,
        labels: npt.NDArray[np.int32] | None = None,
        log_theta: npt.NDArray[Any] | None = None,
        groups: npt.NDArray[np.int32] | None = None,
        theta_gradient: npt.NDArray[Any] | None = None,
        delta: float = 1.0,
    ) -> tuple[float, Any]:
        """Evaluate the loss."""
        rows, columns = self.logits.shape
        none = np.empty((0, columns), self.logits.dtype)
        gradient = np.zeros_like(self.logits)
        job = LossJob(
            LOSSES.index(kind),
            self.logits,
            0,
            columns,
            np.arange(rows, dtype=np.int64),
            dense,
            counts,
            labels,
            none if log_theta is None else log_theta,
            np.empty(0, np.int32) if groups is None else groups,
            delta,
            1.0,
            gradient,
            none if theta_gradient is None else theta_gradient,
        )
        value = mean_of_rows(self._kernels.evaluate_loss(job, self._num_threads))
        return value, arrays.export_array(gradient, self.library)
