"""How the Numba twins are compiled and called."""

from __future__ import annotations

import functools
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.extending import overload as _numba_overload

from hotloops._runtime import threads

F = TypeVar("F", bound=Callable[..., Any])
Memory = TypeVar("Memory")

_njit: Any = numba.njit
_overload: Any = _numba_overload

_OPTIONS = {"nogil": True, "error_model": "numpy"}
_HELPER_OPTIONS = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_INLINE_OPTIONS = {**_HELPER_OPTIONS, "forceinline": True}

_SLICE_SECONDS = 0.02
_ALIGNMENT = 64


def inline(function: F) -> F:
    """Compile a function into those that call it."""
    return cast(F, _njit(**_INLINE_OPTIONS)(function))


def outline(function: F) -> F:
    """Compile a function that is called so seldom that it should stay out of the way."""
    options = {**_HELPER_OPTIONS, "forceinline": False}  # not that of the caller
    return cast(F, _njit(**options)(function))


def plain(function: F) -> F:
    """Compile a function as Numba does, without keeping the result."""
    return cast(F, _njit(**_OPTIONS)(function))


def kernel(function: F) -> F:
    """Compile a function that Python calls, and keep the result on disk where that is possible.

    Numba's cache looks only at the file of the function itself. The name that the cache goes by is
    therefore given a checksum of all sources that are compiled into it.
    """
    own_folder = Path(function.__code__.co_filename).parent
    sources = {*own_folder.glob("_numba*.py"), *Path(__file__).parent.glob("_numba*.py")}
    checksum = functools.reduce(
        lambda value, path: zlib.crc32(path.read_bytes(), value), sorted(sources), 0
    )
    function.__qualname__ += f"_{checksum:08x}"
    try:
        return cast(F, _njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # there is no folder that the cache could write to
        return cast(F, _njit(**_OPTIONS)(function))


def variants(table: Mapping[type, Callable[..., Any]]) -> Callable[[F], F]:
    """Replace a function by the entry of `table` for the kind of its first argument.

    The kind is the class of a named tuple. The body of the function never runs: it carries the name
    and says what the entries have in common.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def reference(*args: Any) -> Any:
            return table[type(args[0])](*args)

        @functools.wraps(function)
        def compiled(*args: Any) -> Any:
            entry = table.get(args[0].instance_class)
            return getattr(entry, "py_func", entry)

        _overload(reference, jit_options=_INLINE_OPTIONS)(compiled)
        return cast(F, reference)

    return decorate


def aligned(count: int, dtype: Any) -> Any:
    """Return uninitialised memory that begins with a cache line."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.empty(count * itemsize + _ALIGNMENT, np.uint8)
    begin = -raw.ctypes.data % _ALIGNMENT
    return raw[begin : begin + count * itemsize].view(dtype)


class _Pace:
    """Cuts work into calls of about 20 ms: Ctrl-C is seen only between them."""

    def __init__(self) -> None:
        self._amount = 1

    def cut(self, begin: int, end: int, num_steps: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (first tile, last tile, first step, last step): all steps of some tiles, or some
        steps of one tile. The time between two is what the call took."""
        while begin < end:
            num_tiles = max(1, min(end - begin, self._amount // num_steps))
            step = 0
            while step < num_steps:
                until = num_steps if num_tiles > 1 else min(num_steps, step + self._amount)
                started = time.perf_counter()
                yield begin, begin + num_tiles, step, until
                self._adapt(num_tiles * (until - step), time.perf_counter() - started)
                step = until
            begin += num_tiles

    def _adapt(self, amount: int, seconds: float) -> None:
        wanted = int(amount * _SLICE_SECONDS / max(seconds, 1e-9))
        self._amount = max(1, min(wanted, 8 * self._amount))


def map_slices(
    allocate: Callable[[], Memory],
    call: Callable[[Memory, int, int, int, int], object],
    num_tiles: int,
    num_steps: int,
    num_threads: int,
) -> None:
    """Call ``call(memory, first tile, last tile, first step, last step)`` over tiles and steps.

    The steps of a tile are made in order and with the same memory.
    """
    if num_steps == 0:
        return
    pace = _Pace()
    stopped = threading.Event()

    def task(begin: int, end: int) -> None:
        memory = allocate()
        try:
            for part in pace.cut(begin, end, num_steps):
                if stopped.is_set():
                    return
                call(memory, *part)
        except BaseException:
            stopped.set()
            raise

    threads.map_tiles(task, num_tiles, num_threads)
