"""Parameters by name: reading them from state dicts of torch, archives and dictionaries."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate
from hotloops._runtime.validate import describe, fail
from hotloops.nn._layout import Program

__all__ = ["open_state", "read_state", "views", "write_state"]

_IGNORED = "num_batches_tracked"  # torch counts the batches of a norm; nothing here needs it


def views(program: Program, values: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return a view of every parameter in the flat array, as stored."""
    return {
        name: values[entry.offset : entry.offset + entry.size].reshape(entry.shape)
        for name, entry in program.parameters.items()
    }


def read_state(
    program: Program, parameters: npt.NDArray[Any], buffers: npt.NDArray[Any]
) -> dict[str, npt.NDArray[Any]]:
    """Return copies of all parameters and running statistics in torch's layout."""
    state = {
        name: np.ascontiguousarray(view.T if program.parameters[name].transposed else view.copy())
        for name, view in views(program, parameters).items()
    }
    for name, entry in program.buffers.items():
        state[name] = buffers[entry.offset : entry.offset + entry.size].copy()
    return state


def write_state(
    function: str,
    program: Program,
    source: Any,
    prefix: str,
    strict: bool,
    parameters: npt.NDArray[Any],
    buffers: npt.NDArray[Any],
) -> None:
    """Copy parameters and running statistics in; nothing is written unless everything fits."""
    state = open_state(function, source)
    given = {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if name.startswith(prefix) and not name.endswith(_IGNORED)
    }
    expected = {name: entry.torch_shape for name, entry in program.parameters.items()}
    expected |= {name: (entry.size,) for name, entry in program.buffers.items()}
    _check_names(function, expected, given, strict)
    found = {
        name: _value(function, f"{prefix}{name}", given[name], shape, parameters.dtype)
        for name, shape in expected.items()
        if name in given
    }
    for name, value in found.items():
        if name in program.parameters:
            entry = program.parameters[name]
            flat = (value.T if entry.transposed else value).reshape(-1)
            parameters[entry.offset : entry.offset + entry.size] = flat
        else:
            running = program.buffers[name]
            buffers[running.offset : running.offset + running.size] = value


def _check_names(
    function: str, expected: Mapping[str, Any], given: Mapping[str, Any], strict: bool
) -> None:
    missing = [name for name in expected if name not in given]
    unknown = [name for name in given if name not in expected]
    if strict and missing:
        fail(ValueError, function, "state", f"hold {_names(list(expected))}", _lack(missing))
    if strict and unknown:
        got = f"{_names(unknown)} too"
        fail(ValueError, function, "state", "hold nothing but the network's parameters", got)
    if not strict and len(missing) == len(expected):
        got = _names(unknown) if unknown else "nothing"
        fail(ValueError, function, "state", f"hold some of {_names(list(expected))}", got)


def _names(names: list[str], most: int = 4) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _lack(missing: list[str]) -> str:
    return f"nothing for {_names(missing)}"


def _value(
    function: str, name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    detach = getattr(value, "detach", None)
    native, library = arrays.import_array(function, name, detach() if detach else value)
    host = native if library.device == "cpu" else native.get()
    checked: npt.NDArray[Any] = validate.array(function, name, host, shape=shape, dtype=dtype)
    return checked


def open_state(function: str, source: Any) -> Mapping[str, Any]:
    """Return a mapping of names to arrays, whatever holds them."""
    if isinstance(source, Mapping):
        for name in source:
            if not isinstance(name, str):
                fail(TypeError, function, "state", "have names as keys", describe(name))
        return source
    if hasattr(source, "state_dict"):
        return open_state(function, source.state_dict())
    if not isinstance(source, str | os.PathLike):
        expectation = "be a dictionary of arrays, a module of torch, or a path"
        fail(TypeError, function, "state", expectation, describe(source))
    suffix = os.path.splitext(os.fspath(source))[1]
    if suffix not in (".safetensors", ".npz"):
        expectation = "be the path of a .safetensors or .npz file"
        fail(ValueError, function, "state", expectation, repr(os.fspath(source)))
    if suffix == ".safetensors":
        return _open_safetensors(function, source)
    with np.load(source, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _open_safetensors(function: str, path: Any) -> Mapping[str, Any]:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ImportError(
            f"{function}: reading .safetensors files needs the package safetensors ({error})"
        ) from error
    return dict(load_file(path))
