"""Finds cuBLAS for the CUDA kernels that multiply matrices."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

from hotloops._runtime import dispatch
from hotloops._runtime.errors import BackendUnavailable

__all__ = ["load"]

# CuPy and torch load the library under its own name, so that the first guess finds what they use.
_NAMES = {13: "libcublas.so.13", 12: "libcublas.so.12"}
# Where the wheels of NVIDIA keep it.
_PACKAGES = {13: "nvidia.cu13.lib", 12: "nvidia.cublas.lib"}


def load() -> Any:
    """Return the CUDA module with cuBLAS loaded.

    Raises
    ------
    BackendUnavailable
        There is no CUDA, or no cuBLAS of the major version that the module was built for.
    """
    module = dispatch.cuda()
    major = int(module.driver_state()["runtime_version"]) // 1000
    reasons = []
    for path in _candidates(major):
        reason = module.load_cublas(path)
        if not reason:
            return module
        reasons.append(f"{path}: {reason}")
    raise BackendUnavailable(
        f"backend 'cuda' needs cuBLAS {major} for this: {'; '.join(reasons)} "
        f"(pip install nvidia-cublas{'-cu12' if major == 12 else ''})"
    )


def _candidates(major: int) -> Iterator[str]:
    name = _NAMES.get(major, f"libcublas.so.{major}")
    yield name
    with contextlib.suppress(ImportError):  # of a parent that isn't there
        spec = importlib.util.find_spec(_PACKAGES.get(major, "nvidia"))
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            yield os.path.join(folder, name)
