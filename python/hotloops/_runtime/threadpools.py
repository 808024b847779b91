"""Lets ``threadpoolctl.threadpool_limits`` govern our threads, without importing threadpoolctl.

threadpoolctl finds thread pools among the loaded shared libraries, so the native module is loaded
when threadpoolctl and hotloops have both been imported, whichever came first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from hotloops._runtime import dispatch
from hotloops._runtime.errors import BackendUnavailable

__all__ = ["install"]

_TARGET = "threadpoolctl"


def install() -> None:
    """Register with threadpoolctl now if it is loaded, else as soon as it is."""
    loaded = sys.modules.get(_TARGET)
    if loaded is not None:
        _register(loaded)
    else:
        sys.meta_path.insert(0, _Watcher())


class _Watcher:
    """A finder that finds nothing, but lets us know that threadpoolctl has been loaded."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _TARGET:
            return None
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register(module)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register(threadpoolctl: Any) -> None:
    """Add our controller; a threadpoolctl too old or too strange to take it is left alone."""
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        threadpoolctl.register(_controller(threadpoolctl.LibController))
    with contextlib.suppress(BackendUnavailable):
        dispatch.core()


def _controller(base: Any) -> Any:
    class HotloopsController(base):  # type: ignore[misc]
        """The pool of ``hotloops._core``."""

        user_api = "hotloops"
        internal_api = "hotloops"
        filename_prefixes = ("_core",)
        check_symbols = ("hotloops_get_num_threads",)

        def get_num_threads(self) -> int:
            return int(self.dynlib.hotloops_get_num_threads())

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.hotloops_set_num_threads(num_threads)

        def get_version(self) -> str | None:
            # Called before the symbols are checked, so for any library named _core.
            return getattr(sys.modules.get("hotloops"), "__version__", None)

    return HotloopsController
