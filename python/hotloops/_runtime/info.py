"""What this installation is and what it found on this machine."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from typing import Any

from hotloops._runtime import dispatch
from hotloops._runtime.errors import BackendUnavailable

__all__ = ["runtime_info", "show_runtime"]

_PACKAGES: dict[str, tuple[str, ...]] = {
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "numba": ("numba",),
    "cupy": ("cupy", "cupy-cuda12x", "cupy-cuda13x"),
    "torch": ("torch",),
}


def runtime_info() -> dict[str, Any]:
    """Return versions, instruction sets, threads, CUDA, compiler and BLAS as a dictionary.

    Optional packages are not imported for it: their versions come from their metadata.
    """
    return {
        "hotloops": sys.modules["hotloops"].__version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        **{name: _version(name, names) for name, names in _PACKAGES.items()},
        **_core_info(),
        "threads": _threads(),
        "cuda": _cuda(),
        "blas": _blas(),
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith("HOTLOOPS_")
        },
    }


def show_runtime() -> None:
    """Print versions, instruction sets, threads, CUDA, compiler, BLAS and environment overrides.

    Examples
    --------
    >>> import hotloops
    >>> hotloops.show_runtime()  # doctest: +ELLIPSIS
    hotloops     ...
    """
    for name, value in runtime_info().items():
        if isinstance(value, dict):
            value = ", ".join(f"{key}={item}" for key, item in value.items()) or "no overrides"
        print(f"{name:<12} {value}")


def _version(module: str, distributions: tuple[str, ...]) -> str:
    from importlib import metadata

    loaded = getattr(sys.modules.get(module), "__version__", None)
    if loaded is not None:
        return str(loaded)
    for name in distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return "not installed"


def _core_info() -> dict[str, Any]:
    try:
        core = dispatch.core()
    except BackendUnavailable as error:
        return {"core": str(error), "isa": "none", "compiler": "none"}
    isa, detected = core.isa(), core.detected_isa()
    return {
        "core": "available",
        "isa": f"{isa} (this processor has {detected})",
        "compiler": core.compiler(),
    }


def _threads() -> int | str:
    from hotloops._runtime.threads import get_num_threads

    try:
        return get_num_threads()
    except ValueError as error:
        return str(error)


def _cuda() -> str:
    try:
        state = dispatch.cuda().driver_state()
    except BackendUnavailable as error:
        return str(error)
    driver, runtime = (
        f"{state[key] // 1000}.{state[key] % 1000 // 10}"
        for key in ("driver_version", "runtime_version")
    )
    return f"{state['device_count']} device(s), driver for CUDA {driver}, built with CUDA {runtime}"


def _blas() -> str:
    try:
        from scipy import __config__
    except ImportError as error:
        return f"none (scipy cannot be imported: {error})"
    blas = getattr(__config__, "CONFIG", {}).get("Build Dependencies", {}).get("blas", {})
    name, version = blas.get("name", "unknown"), blas.get("version", "")
    return f"{name} {version} (from scipy)".replace("  ", " ")
