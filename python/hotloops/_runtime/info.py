"""What this installation is and what it found on this machine."""

from __future__ import annotations

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
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
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
    facts, reason = dispatch.cuda_state()
    try:
        dispatch.cuda()
    except BackendUnavailable as error:
        return str(error)
    version = facts["driver_version"]
    text = f"{facts['devices']} device(s), driver for CUDA {version // 1000}.{version % 1000 // 10}"
    return text if reason is None else f"{text}; {reason}"


def _blas() -> str:
    try:
        from scipy import __config__  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        return f"none (scipy cannot be imported: {error})"
    blas = getattr(__config__, "CONFIG", {}).get("Build Dependencies", {}).get("blas", {})
    name, version = blas.get("name", "unknown"), blas.get("version", "")
    return f"{name} {version} (from scipy)".replace("  ", " ")
