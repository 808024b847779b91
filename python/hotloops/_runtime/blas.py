"""The BLAS that SciPy carries, for the matrix products of the native code.

Nothing is linked: the addresses of ``sgemm`` and ``dgemm`` are those that SciPy exports for Cython,
and they are fetched when the first network runs. The products run on one thread each, inside the
tiles that our own pool hands out, so that results don't depend on the number of threads.
"""

from __future__ import annotations

import ctypes
import re
import threading
from types import ModuleType, TracebackType
from typing import Any

from hotloops._runtime import dispatch

__all__ = ["core_with_blas", "single_threaded"]

# What Cython says of the function: 32-bit integers, everything by pointer.
_PLAIN = re.compile(r"void \(char \*, char \*, int \*, int \*, int \*, ")
_PRODUCTS = ("sgemm", "dgemm")

_lock = threading.RLock()
_handed_over = False


def core_with_blas() -> ModuleType:
    """Return the native module, which knows SciPy's matrix products from now on.

    Where SciPy's BLAS counts in 64-bit integers, or doesn't export its functions, the native
    module's own products do all the work.
    """
    global _handed_over
    core: ModuleType = dispatch.core()
    if not _handed_over:
        with _lock:
            core.set_blas(*_addresses())
            _handed_over = True
    return core


def _addresses() -> tuple[int, ...]:
    """Return the addresses of the products, zeros where they can't be used."""
    try:
        from scipy.linalg import cython_blas

        capsules = [cython_blas.__pyx_capi__[name] for name in _PRODUCTS]
    except (ImportError, AttributeError, KeyError):
        return (0,) * len(_PRODUCTS)
    return tuple(_address(capsule) for capsule in capsules)


def _address(capsule: Any) -> int:
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name = name_of(capsule)
    if not _PLAIN.match(name.decode()):
        return 0
    return int(pointer_of(capsule, name))


class _SingleThreaded:
    """Holds every loaded BLAS at one thread while native code runs.

    Entering is counted, so that calls may nest and come from several threads: the first one in
    sets the limit and the last one out restores what was there.
    """

    def __init__(self) -> None:
        self._inside = 0
        self._libraries: list[Any] | None = None
        self._before: list[int] = []

    def __enter__(self) -> None:
        with _lock:
            self._inside += 1
            if self._inside == 1:
                libraries = self._find()
                self._before = [int(library.get_num_threads()) for library in libraries]
                for library, before in zip(libraries, self._before, strict=True):
                    if before != 1:
                        _set_num_threads(library, 1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _lock:
            self._inside -= 1
            if self._inside == 0:
                for library, before in zip(self._find(), self._before, strict=True):
                    if before != 1:
                        _set_num_threads(library, before)

    def _find(self) -> list[Any]:
        """Look through the loaded libraries once: it takes milliseconds."""
        if self._libraries is None:
            import scipy.linalg  # noqa: F401 - what isn't loaded yet isn't found
            from threadpoolctl import ThreadpoolController

            found = ThreadpoolController().select(user_api="blas").lib_controllers
            self._libraries = [library for library in found if _is_scipys(library)]
        return self._libraries


def _set_num_threads(library: Any, count: int) -> None:
    """Set the number, from any thread: threadpoolctl 3.7 and later let only one thread at a time do
    so, and keep silent to the others."""
    getattr(library, "_real_set_num_threads", library.set_num_threads)(count)


def _is_scipys(library: Any) -> bool:
    """Whether SciPy's products may run in it; where that isn't clear, all are held."""
    return "numpy.libs" not in str(library.filepath)


single_threaded = _SingleThreaded()
