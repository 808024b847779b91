"""Which implementation runs: argument, then context, then environment, then the arrays."""

from __future__ import annotations

import contextvars
import importlib
import os
import warnings
from types import ModuleType, TracebackType
from typing import Any, Literal, cast

from hotloops._runtime import validate
from hotloops._runtime.errors import BackendUnavailable

__all__ = [
    "BACKENDS",
    "Backend",
    "asked_backend",
    "core",
    "cuda",
    "numba",
    "resolve_backend",
    "use_backend",
]

Backend = Literal["cpp", "cuda", "numba"]
BACKENDS = ("cpp", "cuda", "numba")
ENVIRONMENT = "HOTLOOPS_BACKEND"

_context: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "hotloops_backend", default=None
)
_modules: dict[str, ModuleType | str] = {}
_cuda_ready = False
_warned_fallback = False


class use_backend:
    """Choose the backend for the calls that follow.

    Parameters
    ----------
    name : {"cpp", "cuda", "numba"} or None
        Backend for every call that has no ``backend=`` of its own. None goes back to
        ``HOTLOOPS_BACKEND`` or, without it, to the choice by the arrays.

    Notes
    -----
    The choice holds from the call on. Used as ``with hotloops.use_backend("numba"):`` the choice
    that held before comes back at the end of the block; called on its own it stays. It belongs to
    the current context (`contextvars`): other threads and already running tasks do not see it.

    Examples
    --------
    >>> import hotloops
    >>> with hotloops.use_backend("numba"):
    ...     pass  # calls here run the Numba twins
    """

    def __init__(self, name: Backend | None) -> None:
        if name is not None:
            validate.choice("use_backend", "name", name, BACKENDS)
        self._name = name
        self._previous = _context.get()
        _context.set(name)

    def __enter__(self) -> None:
        _context.set(self._name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _context.set(self._previous)


def resolve_backend(function: str, backend: str | None, device: str) -> Backend:
    """Return the backend that runs a call whose arrays live on `device` ("cpu" or "cuda").

    Raises
    ------
    TypeError
        The backend asked for cannot take arrays of this device.
    BackendUnavailable
        The backend cannot run here.
    """
    asked, source = _asked(function, backend)
    if device == "cuda":
        if asked not in (None, "cuda"):
            validate.fail(TypeError, function, source, "be 'cuda' for CUDA arrays", repr(asked))
        cuda()
        return "cuda"
    if asked == "cuda":
        expectation = "be 'cpp' or 'numba' for arrays in host memory"
        validate.fail(TypeError, function, source, expectation, "'cuda'")
    if asked == "cpp":
        core()
    elif asked == "numba":
        numba()
    else:
        asked = _default_on_cpu()
    return cast(Backend, asked)


def asked_backend(function: str, backend: str | None) -> str | None:
    """Return the backend that the argument, the context or the environment asks for."""
    return _asked(function, backend)[0]


def core() -> Any:
    """Return the native module, or raise `BackendUnavailable` with the reason."""
    return _load("cpp", "hotloops._core")


def numba() -> Any:
    """Return the numba module, or raise `BackendUnavailable` with the reason."""
    return _load("numba", "numba")


def cuda() -> Any:
    """Return the CUDA module once a driver and a device are there, or say what is missing."""
    global _cuda_ready
    module = _load("cuda", "hotloops._cuda")
    if not _cuda_ready:
        state = module.driver_state()
        if not state["available"]:
            raise BackendUnavailable(f"backend 'cuda' is not available: {state['reason']}")
        _cuda_ready = True
    return module


def _asked(function: str, backend: str | None) -> tuple[str | None, str]:
    """Return what was asked for and the name under which it was asked."""
    if backend is not None:
        return validate.choice(function, "backend", backend, BACKENDS), "backend"
    chosen = _context.get()
    if chosen is not None:
        return chosen, "use_backend"
    named = os.environ.get(ENVIRONMENT)
    if named:
        return validate.choice(function, ENVIRONMENT, named, BACKENDS), ENVIRONMENT
    return None, ""


def _load(backend: Backend, module: str) -> Any:
    """Import a module once; a failure is remembered, since retrying costs time in every call."""
    found = _modules.get(module)
    if found is None:
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            found = _reason(module, error)
        _modules[module] = found
    if isinstance(found, str):
        raise BackendUnavailable(f"backend '{backend}' is not available: {found}")
    return found


def _reason(module: str, error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        if module == "numba":
            return "numba is not installed"
        return f"{module} is not built into this installation"
    return f"{module} cannot be imported: {error}"


def _default_on_cpu() -> Backend:
    global _warned_fallback
    try:
        core()
        return "cpp"
    except BackendUnavailable as missing:
        if "HOTLOOPS_" in str(missing):  # a wish that cannot be met is not a missing module
            raise
        try:
            numba()
        except BackendUnavailable as also_missing:
            raise BackendUnavailable(f"{missing}; {also_missing}") from None
        if not _warned_fallback:
            _warned_fallback = True
            message = f"{missing}; hotloops runs its slower Numba twins instead"
            warnings.warn(message, RuntimeWarning, stacklevel=4)
        return "numba"
