"""The twin of ``csrc/sgd/step_losses.hpp``: losses of a row x with margin x^T t and a target.

The residual is what multiplies x in the gradient, the curvature what multiplies x x^T in the
Hessian.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hotloops._runtime._numba_jit import inline, variants
from hotloops._runtime._numba_math import exp_bounded, sigmoid
from hotloops._runtime._numba_packs import constant, is_single, traced, where

__all__ = ["Basic", "Shaped", "curvature", "make_loss", "residual"]

HUBER, SQUARED_HINGE, SOFTPLUS_HINGE, POISSON = range(4)

_SHAPED = {
    "huber": HUBER,
    "squared_hinge": SQUARED_HINGE,
    "softplus_hinge": SOFTPLUS_HINGE,
    "poisson": POISSON,
}


class Basic(NamedTuple):
    """One of the two usual losses, which share one compiled function: compilation takes longer than
    a branch ever will."""

    logistic: bool  # log(1 + exp(x^T t)) - y x^T t, else (x^T t - y)^2 / 2


class Shaped(NamedTuple):
    """One of the others."""

    kind: int
    shape: Any


def make_loss(real: Any, kernel: str, shape: float) -> Basic | Shaped:
    """Return the loss that a kernel is named after."""
    if kernel in _SHAPED:
        return Shaped(_SHAPED[kernel], real(shape))
    return Basic(kernel.endswith("logistic"))


# --- residuals -----------------------------------------------------------------------------------


@traced
def _linear_residual(margin: Any, target: Any) -> Any:
    return margin - target


@traced
def _logistic_residual(margin: Any, target: Any) -> Any:
    return sigmoid(margin) - target


@traced
def _huber_residual(margin: Any, target: Any, shape: Any) -> Any:
    r = margin - target
    r = where(r > shape, shape, r)
    return where(r < -shape, -shape, r)


@traced
def _squared_hinge_residual(margin: Any, target: Any) -> Any:
    gap = 1.0 - target * margin
    return where(gap > 0.0, (-2.0 * target) * gap, constant(0.0, gap))


@traced
def _softplus_hinge_residual(margin: Any, target: Any, shape: Any) -> Any:
    return -target * sigmoid(shape * (1.0 - target * margin))


def _exp_clamped(x: Any) -> Any:
    """Return exp(x), x clamped to where `exp_bounded` holds."""
    limit = 80.0 if is_single(x) else 700.0
    x = where(x > limit, limit, x)
    x = where(x < -limit, -limit, x)
    return exp_bounded(x)


@traced
def _poisson_residual(margin: Any, target: Any) -> Any:
    return _exp_clamped(margin) - target


@inline
def _basic_residual(loss: Any, margin: Any, target: Any) -> Any:
    if loss.logistic:
        value = _logistic_residual(margin, target)
    else:
        value = _linear_residual(margin, target)
    return value


@inline
def _shaped_residual(loss: Any, margin: Any, target: Any) -> Any:
    if loss.kind == HUBER:
        return _huber_residual(margin, target, loss.shape)
    if loss.kind == SQUARED_HINGE:
        return _squared_hinge_residual(margin, target)
    if loss.kind == SOFTPLUS_HINGE:
        return _softplus_hinge_residual(margin, target, loss.shape)
    return _poisson_residual(margin, target)


@variants({Basic: _basic_residual, Shaped: _shaped_residual})
def residual(loss: Any, margin: Any, target: Any) -> Any:
    """Return the residual."""


# --- curvatures ----------------------------------------------------------------------------------


@traced
def _linear_curvature(margin: Any) -> Any:
    return constant(1.0, margin)


@traced
def _logistic_curvature(margin: Any) -> Any:
    s = sigmoid(margin)
    return s * (1.0 - s)


@traced
def _huber_curvature(margin: Any, target: Any, shape: Any) -> Any:
    r = margin - target
    nothing = constant(0.0, r)
    return where(r >= -shape, where(r <= shape, 1.0, nothing), nothing)


@traced
def _squared_hinge_curvature(margin: Any, target: Any) -> Any:
    gap = 1.0 - target * margin
    return where(gap > 0.0, 2.0, constant(0.0, gap))


@traced
def _softplus_hinge_curvature(margin: Any, target: Any, shape: Any) -> Any:
    s = sigmoid(shape * (1.0 - target * margin))
    return shape * (s * (1.0 - s))


@traced
def _poisson_curvature(margin: Any) -> Any:
    return _exp_clamped(margin)


@inline
def _basic_curvature(loss: Any, margin: Any, target: Any) -> Any:
    if loss.logistic:
        return _logistic_curvature(margin)
    return _linear_curvature(margin)


@inline
def _shaped_curvature(loss: Any, margin: Any, target: Any) -> Any:
    if loss.kind == HUBER:
        return _huber_curvature(margin, target, loss.shape)
    if loss.kind == SQUARED_HINGE:
        return _squared_hinge_curvature(margin, target)
    if loss.kind == SOFTPLUS_HINGE:
        return _softplus_hinge_curvature(margin, target, loss.shape)
    return _poisson_curvature(margin)


@variants({Basic: _basic_curvature, Shaped: _shaped_curvature})
def curvature(loss: Any, margin: Any, target: Any) -> Any:
    """Return the curvature."""
