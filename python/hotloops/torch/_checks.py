"""What the optimizers refuse: parameters, groups and saved states that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hotloops._runtime import validate
from hotloops._runtime.validate import fail
from hotloops.torch._buckets import is_dense

__all__ = [
    "FLOATS",
    "check_float",
    "check_parameter",
    "check_state",
    "check_state_dtype",
    "gradient_of",
]

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_float(function: str, argument: str, dtype: Any) -> None:
    """Check that an argument is a floating dtype of torch, or None."""
    if dtype is not None and dtype not in FLOATS:
        fail(TypeError, function, argument, "be a floating dtype", validate.describe(dtype))


def check_state_dtype(function: str, dtype: Any) -> None:
    """Check the type that duals and second moments are stored in."""
    if dtype is not None and dtype is not torch.bfloat16:
        got = str(dtype) if isinstance(dtype, torch.dtype) else validate.describe(dtype)
        fail(TypeError, function, "state_dtype", "be torch.bfloat16 or None", got)


def check_parameter(function: str, parameter: torch.Tensor, low_state: bool) -> None:
    """Check that the kernels can take a parameter."""
    if parameter.dtype not in FLOATS:
        expectation = "hold floating-point tensors"
        fail(TypeError, function, "params", expectation, str(parameter.dtype))
    if low_state and parameter.dtype == torch.float64:
        expectation = "not hold float64 where the state is bfloat16"
        fail(TypeError, function, "params", expectation, str(parameter.dtype))
    if parameter.device.type not in ("cpu", "cuda"):
        expectation = "live in host memory or on a CUDA device"
        fail(TypeError, function, "params", expectation, str(parameter.device))
    if not is_dense(parameter):
        got = f"strides {parameter.stride()}"
        fail(ValueError, function, "params", "hold dense tensors without gaps", got)


def gradient_of(function: str, parameter: torch.Tensor, fill: bool) -> torch.Tensor | None:
    """Return a dense gradient; where one is missing, zeros or None."""
    gradient = parameter.grad
    if gradient is None:
        return torch.zeros_like(parameter) if fill else None
    if gradient.is_sparse:
        fail(TypeError, function, "params", "have dense gradients", "a sparse one")
    return gradient


def check_state(
    function: str,
    state_dict: Any,
    own_groups: Sequence[dict[str, Any]],
    clients: int,
    low_state: bool,
) -> None:
    """Check that a saved state is one of an optimizer with these groups."""
    groups = state_dict.get("param_groups") if isinstance(state_dict, dict) else None
    if not isinstance(groups, list) or "state" not in state_dict:
        got = validate.describe(state_dict)
        fail(ValueError, function, "state_dict", "hold `state` and `param_groups`", got)
    if len(groups) != len(own_groups):
        expectation = f"have {len(own_groups)} groups"
        fail(ValueError, function, "state_dict", expectation, str(len(groups)))
    for saved, own in zip(groups, own_groups, strict=True):
        if len(saved["params"]) != len(own["params"]):
            expectation = f"have {len(own['params'])} parameters in the group"
            fail(ValueError, function, "state_dict", expectation, str(len(saved["params"])))
        for index, parameter in zip(saved["params"], own["params"], strict=True):
            shape = (clients, parameter.numel())
            _check_tensors(function, state_dict["state"].get(index, {}), shape, low_state)
        missing = sorted(own.keys() - saved.keys() - {"initial_lr"})
        if missing:
            expectation = f"come from {function}"
            fail(ValueError, function, "state_dict", expectation, f"groups without {missing}")


def _check_tensors(
    function: str, state: dict[str, Any], shape: tuple[int, int], low_state: bool
) -> None:
    for key in ("PI", "V", "B"):
        if key in state and tuple(state[key].shape) != shape:
            expectation = f"have `{key}` of shape {shape}"
            fail(ValueError, function, "state_dict", expectation, str(state[key].shape))
    for key in ("PI", "V"):
        if key in state and (state[key].dtype is torch.bfloat16) != low_state:
            expectation = f"have `{key}` {'in' if low_state else 'not in'} torch.bfloat16"
            fail(ValueError, function, "state_dict", expectation, str(state[key].dtype))
