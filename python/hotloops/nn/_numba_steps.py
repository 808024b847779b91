"""The twin of ``csrc/nn/step_activations.hpp``: what is done to single elements."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_jit import kernel
from hotloops._runtime._numba_math import exp_bounded, sigmoid
from hotloops._runtime._numba_packs import constant, is_single, traced, where
from hotloops._runtime._numba_special import (
    clamp,
    exp_bound,
    expm1_bounded,
    hyperbolic_tangent,
    normal_law,
    softplus,
)

__all__ = ["activate", "finish", "multiply_slope"]

IDENTITY, RELU, ELU, SILU, GELU, TANH, SIGMOID, SOFTPLUS = range(8)


# --- activations and their slopes ----------------------------------------------------------------


@traced
def _relu(x: Any) -> Any:
    return where(x < 0.0, constant(0.0, x), x)


@traced
def _elu(x: Any) -> Any:
    negative = where(x > 0.0, constant(0.0, x), x)
    curve = expm1_bounded(where(negative < -exp_bound(x), -exp_bound(x), negative))
    return where(x > 0.0, x, curve)


@traced
def _silu(x: Any) -> Any:
    e = exp_bounded(-clamp(x, exp_bound(x)))
    return where(x < -exp_bound(x), -0.0, x / (1.0 + e))


def _gelu_bound(x: Any) -> float:
    return 12.5 if is_single(x) else 37.0


@traced
def _gelu(x: Any) -> Any:
    _, distribution = normal_law(x)
    return where(x < -_gelu_bound(x), -0.0, x * distribution)


@traced
def _relu_slope(y: Any) -> Any:
    return where(y > 0.0, constant(1.0, y), constant(0.0, y))


@traced
def _elu_slope(y: Any) -> Any:
    return where(y > 0.0, constant(1.0, y), y + 1.0)


@traced
def _silu_slope(x: Any) -> Any:
    e = exp_bounded(-clamp(x, exp_bound(x)))
    s = 1.0 / (1.0 + e)
    return where(x < -exp_bound(x), -0.0, s * (1.0 + x * (1.0 - s)))


@traced
def _gelu_slope(x: Any) -> Any:
    density, distribution = normal_law(x)
    inside = distribution + clamp(x, _gelu_bound(x)) * density
    return where(x < -_gelu_bound(x), -0.0, inside)


@traced
def _tanh_slope(y: Any) -> Any:
    return 1.0 - y * y


@traced
def _sigmoid_slope(y: Any) -> Any:
    return y * (1.0 - y)


@traced
def _softplus_slope(y: Any) -> Any:
    return -expm1_bounded(-clamp(y, exp_bound(y)))


@kernel
def activate(code: int, x: Any, first: int, y: Any, target: int, width: int) -> None:
    """Write f of some columns of x to some columns of y; they may be the same."""
    for r in range(x.shape[0]):
        if code == IDENTITY:
            for j in range(width):
                y[r, target + j] = x[r, first + j]
        elif code == RELU:
            for j in range(width):
                y[r, target + j] = _relu(x[r, first + j])
        elif code == ELU:
            for j in range(width):
                y[r, target + j] = _elu(x[r, first + j])
        elif code == SILU:
            for j in range(width):
                y[r, target + j] = _silu(x[r, first + j])
        elif code == GELU:
            for j in range(width):
                y[r, target + j] = _gelu(x[r, first + j])
        elif code == TANH:
            for j in range(width):
                y[r, target + j] = hyperbolic_tangent(x[r, first + j])
        elif code == SIGMOID:
            for j in range(width):
                y[r, target + j] = sigmoid(x[r, first + j])
        else:
            for j in range(width):
                y[r, target + j] = softplus(x[r, first + j])


@kernel
def multiply_slope(code: int, of: Any, first: int, g: Any, target: int, width: int) -> None:
    """Multiply some columns of g by the slope of f: a function of its argument for silu and gelu,
    else of its value, which `of` holds."""
    for r in range(g.shape[0]):
        if code == RELU:
            for j in range(width):
                g[r, target + j] *= _relu_slope(of[r, first + j])
        elif code == ELU:
            for j in range(width):
                g[r, target + j] *= _elu_slope(of[r, first + j])
        elif code == SILU:
            for j in range(width):
                g[r, target + j] *= _silu_slope(of[r, first + j])
        elif code == GELU:
            for j in range(width):
                g[r, target + j] *= _gelu_slope(of[r, first + j])
        elif code == TANH:
            for j in range(width):
                g[r, target + j] *= _tanh_slope(of[r, first + j])
        elif code == SIGMOID:
            for j in range(width):
                g[r, target + j] *= _sigmoid_slope(of[r, first + j])
        elif code == SOFTPLUS:
            for j in range(width):
                g[r, target + j] *= _softplus_slope(of[r, first + j])


@kernel
def finish(
    y: Any, target: int, width: int, bias: Any, addend: Any, first: int, has_addend: bool
) -> None:
    """Add the bias (of length 0 for none) and the addend to a product."""
    for r in range(y.shape[0]):
        if bias.size:
            for j in range(width):
                y[r, target + j] += bias[j]
        if has_addend:
            for j in range(width):
                y[r, target + j] += addend[r, first + j]
