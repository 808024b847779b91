"""Richardson-Romberg weights and the combination of averages."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate

__all__ = ["check_step_sizes", "combine", "extrapolate", "richardson_romberg_weights"]

# Beyond this sum of absolute weights, rounding and noise grow more than the bias shrinks.
MAX_AMPLIFICATION = 100.0


def check_step_sizes(
    function: str, step_sizes: Any, *, per_chain: bool = False
) -> npt.NDArray[np.float64]:
    """Return the step sizes as float64, positive and distinct: (J,), or (C, J) where allowed."""
    host, _ = arrays.import_array(function, "step_sizes", step_sizes)
    if hasattr(host, "get"):
        host = host.get()
    host = np.atleast_1d(host)
    if per_chain and host.ndim > 2:
        expectation = "have shape (J,) or (C, J)"
        validate.fail(ValueError, function, "step_sizes", expectation, str(host.shape))
    steps: npt.NDArray[np.float64] = validate.array(
        function,
        "step_sizes",
        host,
        shape=("C", "J") if per_chain and host.ndim == 2 else ("J",),
        dtype=np.float64,
        positive=True,
        copy=True,
    )
    ordered = np.sort(steps, axis=-1)
    twice = ordered[..., 1:][ordered[..., 1:] == ordered[..., :-1]]
    if twice.size:
        expectation = "hold distinct step sizes"
        got = f"{float(twice[0])} more than once"
        validate.fail(ValueError, function, "step_sizes", expectation, got)
    return steps


def richardson_romberg_weights(step_sizes: Any) -> npt.NDArray[np.float64]:
    """Weights that cancel the first J - 1 orders of the bias.

    ``w_j = prod_{l != j} gamma_l / (gamma_l - gamma_j)``. They sum to one and satisfy
    ``sum_j w_j gamma_j^p = 0`` for ``p = 1, ..., J - 1``; for ``(gamma, 2 gamma)`` they are
    ``(2, -1)``, the extrapolation of the paper.

    Parameters
    ----------
    step_sizes : array_like, shape (J,)
        Positive and distinct.

    Returns
    -------
    ndarray, shape (J,), float64
        The weights, in the order of `step_sizes`.

    Raises
    ------
    TypeError, ValueError
        Step sizes that are not numbers, not positive or not distinct.

    Warns
    -----
    RuntimeWarning
        When ``sum |w_j|`` exceeds 100: the combination then amplifies noise by that much.

    Notes
    -----
    Cost O(J^2). Deterministic.

    Examples
    --------
    >>> from hotloops import sgd
    >>> sgd.richardson_romberg_weights([0.1, 0.2]).round(12)
    array([ 2., -1.])
    """
    steps = check_step_sizes("richardson_romberg_weights", step_sizes)
    return weights_of("richardson_romberg_weights", steps)


def weights_of(
    function: str, step_sizes: Any, *, stacklevel: int | None = 3
) -> npt.NDArray[np.float64]:
    """Compute the weights for a face that is called `function`; `stacklevel` None: no warning."""
    steps = check_step_sizes(function, step_sizes, per_chain=True)
    weights = np.ones_like(steps)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for other in range(steps.shape[-1]):
            factors = steps[..., other, None] / (steps[..., other, None] - steps)
            factors[..., other] = 1.0
            weights *= factors
        amplification = float(np.abs(weights).sum(axis=-1).max())
    if not np.isfinite(amplification):
        got = f"{steps.shape[-1]} step sizes whose weights overflow"
        validate.fail(ValueError, function, "step_sizes", "have finite weights", got)
    if stacklevel is not None and amplification > MAX_AMPLIFICATION:
        warnings.warn(
            f"{function}: these step sizes amplify noise {amplification:.0f} times "
            "(the sum of |weights|); choose step sizes further apart",
            RuntimeWarning,
            stacklevel=stacklevel,
        )
    return weights


def combine(means: Any, weights: Any) -> Any:
    """Return ``sum_j w_j means[..., j, :]``, added in the order of j.

    `weights` is a NumPy array (J,), or (C, J) of the library of `means` (..., C, J, d).
    """

    def term(j: int) -> Any:
        weight = float(weights[j]) if weights.ndim == 1 else weights[:, j, None]
        return means[..., j, :] * weight

    total = term(0)
    for j in range(1, weights.shape[-1]):
        total = total + term(j)
    return total


def extrapolate(means: Any, step_sizes: Any) -> Any:
    """Richardson-Romberg combination of anybody's averages.

    Parameters
    ----------
    means : array, shape (..., J, d)
        Averages for each step size, float32 or float64. NumPy, CuPy or anything with
        ``__dlpack__``.
    step_sizes : array_like, shape (J,)
        The step sizes that the averages belong to.

    Returns
    -------
    array, shape (..., d)
        ``sum_j w_j means[..., j, :]`` with the weights of `richardson_romberg_weights`, in the
        library and precision of `means`.

    Raises
    ------
    TypeError, ValueError
        Step sizes that are not positive and distinct, or a shape that does not fit them.

    Notes
    -----
    Cost O(size of `means`). Deterministic (class A).

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import sgd
    >>> sgd.extrapolate(np.array([[1.1], [1.2]]), [0.1, 0.2]).round(12)
    array([1.])
    """
    steps = check_step_sizes("extrapolate", step_sizes)
    weights = weights_of("extrapolate", steps)
    values, library = arrays.import_array("extrapolate", "means", means)
    if getattr(values, "ndim", 0) < 2 or values.shape[-2] != weights.size:
        expectation = f"have shape (..., J, d) with J = {weights.size} as in `step_sizes`"
        shape = str(tuple(getattr(values, "shape", ())))
        validate.fail(ValueError, "extrapolate", "means", expectation, shape)
    values = validate.array("extrapolate", "means", values)
    with arrays.stream_context(library):
        return arrays.export_array(combine(values, weights), library)
