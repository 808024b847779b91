"""The twin of ``csrc/admm/step_{losses,layers,local}.hpp``."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import lanes_of, load, store
from hotloops._runtime._numba_jit import inline
from hotloops._runtime._numba_math import exp_bounded, log_positive, sigmoid
from hotloops._runtime._numba_packs import is_single, traced, where

SQUARES, LOGISTIC, SQUARED_HINGE, HUBER_HINGE, HUBER, POISSON, QUANTILE, SOFTMAX = range(8)
IDENTITY, DIAG, ADAGRAD, RMSPROP, ADAM = range(5)
RELU, TANH, GELU = range(3)


def _clamp(x: Any, low: Any, high: Any) -> Any:
    x = where(x > high, high, x)
    return where(x < low, low, x)


@traced
def exp_clamped(x: Any) -> Any:
    """Return exp(x), x clamped to where `exp_bounded` holds."""
    limit = 80.0 if is_single(x) else 700.0
    return exp_bounded(_clamp(x, -limit, limit))


def _softplus(t: Any) -> Any:
    negative = t < 0.0
    size = where(negative, -t, t)
    above = where(negative, 0.0, t)
    return above + log_positive(1.0 + exp_clamped(-size))


def _gap(z: Any, y: Any) -> Any:
    g = 1.0 - y * z
    return where(g < 0.0, 0.0, g)


# Each returns what multiplies x in the gradient, and the loss.


@traced
def _squares(z: Any, y: Any, weight: Any) -> Any:
    r = z - y
    return r * weight, 0.5 * r * r * weight


@traced
def _logistic(z: Any, y: Any, weight: Any) -> Any:
    t = -(y * z)
    return -(y * sigmoid(t)) * weight, _softplus(t) * weight


@traced
def _squared_hinge(z: Any, y: Any, weight: Any) -> Any:
    g = _gap(z, y)
    return -(y * g) * weight, 0.5 * g * g * weight


@traced
def _huber_hinge(z: Any, y: Any, weight: Any, delta: Any) -> Any:
    g = _gap(z, y)
    inner = where(g > delta, delta, g)
    slope = -(y * _clamp(g / delta, 0.0, 1.0))
    return slope * weight, inner * (g - 0.5 * inner) / delta * weight


@traced
def _huber(z: Any, y: Any, weight: Any, delta: Any) -> Any:
    r = z - y
    inner = _clamp(r, -delta, delta)
    return inner * weight, inner * (r - 0.5 * inner) * weight


@traced
def _poisson(z: Any, y: Any, weight: Any) -> Any:
    e = exp_clamped(z)
    return (e - y) * weight, (e - y * z) * weight


@traced
def _quantile(z: Any, y: Any, weight: Any, q: Any, width: Any) -> Any:
    gap = y - z
    pull = _clamp(gap / width, q - 1.0, q)
    return -pull * weight, pull * (gap - 0.5 * width * pull) * weight


@inline
def evaluate(loss: int, shape: Any, memory: Any, chunk_rows: int) -> None:
    """Turn the predictions of a chunk into slopes and losses, both weighted."""
    for k in range(chunk_rows // lanes_of(memory.z)):
        z, y, weight = load(memory.z, k), load(memory.y, k), load(memory.weight, k)
        if loss == SQUARES:
            slope, value = _squares(z, y, weight)
        elif loss == LOGISTIC:
            slope, value = _logistic(z, y, weight)
        elif loss == SQUARED_HINGE:
            slope, value = _squared_hinge(z, y, weight)
        elif loss == HUBER_HINGE:
            slope, value = _huber_hinge(z, y, weight, shape[0])
        elif loss == HUBER:
            slope, value = _huber(z, y, weight, shape[0])
        elif loss == POISSON:
            slope, value = _poisson(z, y, weight)
        else:
            slope, value = _quantile(z, y, weight, shape[0], shape[1])
        store(memory.slope, k, slope)
        store(memory.value, k, value)


# --- hidden units --------------------------------------------------------------------------------


def _tanh(x: Any) -> Any:
    near = 0.1 if is_single(x) else 0.01
    negative = x < 0.0
    size = where(negative, -x, x)
    e = exp_clamped(-2.0 * size)
    far = (1.0 - e) / (1.0 + e)
    x2 = size * size
    tail = x2 * (1.0 / 3.0 - x2 * (2.0 / 15.0 - x2 * (17.0 / 315.0)))
    h = where(size < near, size - size * tail, far)
    return where(negative, -h, h)


@traced
def relu(x: Any) -> Any:
    """Return the value of a rectified unit and its slope."""
    one = where(x > 0.0, 1.0, x - x)
    return where(x < 0.0, 0.0, x), where(x > 0.0, one, 0.0 * one)


@traced
def tanh(x: Any) -> Any:
    """Return tanh(x) and its slope."""
    h = _tanh(x)
    return h, 1.0 - h * h


@traced
def gelu(x: Any) -> Any:
    """Return the Gaussian error linear unit, in the form with tanh, and its slope."""
    c, a, three_a = 0.79788456080286535588, 0.044715, 0.134145
    x2 = x * x
    t = _tanh(c * (x + a * x * x2))
    inner = c * (1.0 + three_a * x2)
    slope = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner
    return 0.5 * x * (1.0 + t), slope


@traced
def log_of(x: Any) -> Any:
    """Return log(x) of one positive number."""
    return log_positive(x)


# --- the local step ------------------------------------------------------------------------------


@traced
def moment(scheme_is_adagrad: Any, second: Any, u: Any, beta: Any, fresh: Any) -> Any:
    """Return the second moment with u^2 in it."""
    square = u * u
    return where(scheme_is_adagrad, second + square, beta * second + fresh * square)
