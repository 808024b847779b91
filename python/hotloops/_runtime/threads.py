"""How many threads work, and plain threads for the Numba twins."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

from hotloops._runtime import dispatch, validate
from hotloops._runtime.errors import BackendUnavailable

__all__ = [
    "get_num_threads",
    "map_tiles",
    "num_threads_for",
    "resolve_num_threads",
    "set_num_threads",
]

ENVIRONMENT = "HOTLOOPS_NUM_THREADS"
MAX_THREADS = 1024

_TILES_PER_THREAD = 4  # enough that a thread which is late does not hold up the others for long
_without_core: int | None = None


def get_num_threads() -> int:
    """Return the number of threads that calls use which do not say ``num_threads=``.

    It is what `set_num_threads` set, else ``HOTLOOPS_NUM_THREADS``, else the number of processors
    that this process may run on.

    Examples
    --------
    >>> import hotloops
    >>> hotloops.get_num_threads() >= 1
    True
    """
    try:
        return int(dispatch.core().get_num_threads())
    except BackendUnavailable:
        return _without_core or _default_num_threads()


def set_num_threads(n: int) -> None:
    """Set the number of threads for the calls of this process that do not say ``num_threads=``.

    Results never depend on it.

    Parameters
    ----------
    n : int
        From 1 to 1024.
    """
    global _without_core
    count = validate.integer("set_num_threads", "n", n, low=1, high=MAX_THREADS)
    _without_core = count
    try:
        dispatch.core().set_num_threads(count)
    except BackendUnavailable:
        return


def resolve_num_threads(function: str, num_threads: int | None) -> int:
    """Return the number of threads for one call."""
    if num_threads is None:
        return get_num_threads()
    return validate.integer(function, "num_threads", num_threads, low=1, high=MAX_THREADS)


def num_threads_for(backend: str, function: str, num_threads: int | None) -> int:
    """Return the number of threads for one call of a kernel of `backend`.

    For "cpp" it may be 0: the pool then looks by itself, and only where there is work to share.
    """
    if num_threads is None and backend == "cpp":
        return 0
    return resolve_num_threads(function, num_threads)


def map_tiles(task: Callable[[int, int], object], count: int, num_threads: int) -> None:
    """Call ``task(begin, end)`` until the ranges cover 0 to `count`, on several threads.

    The task must release the GIL for its work (Numba's ``nogil=True``), and its results must not
    depend on where the ranges are cut. Ranges are handed out as threads become free. The first
    failure, in order of rows, is raised when all threads have stopped.
    """
    num_threads = min(num_threads, count, MAX_THREADS)
    if num_threads <= 1:
        if count > 0:
            task(0, count)
        return
    _Job(task, count, num_threads).run()


class _Job:
    """One call of `map_tiles`."""

    def __init__(self, task: Callable[[int, int], object], count: int, num_threads: int) -> None:
        self._task = task
        self._count = count
        self._length = -(-count // (num_threads * _TILES_PER_THREAD))
        self._next = 0
        self._busy_helpers = 0
        self._changed = threading.Condition()
        self._failures: dict[int, BaseException] = {}
        self._helpers = [
            threading.Thread(target=self._help, name=f"hotloops-{i}", daemon=True)
            for i in range(1, num_threads)
        ]

    def run(self) -> None:
        try:
            with contextlib.suppress(RuntimeError):  # the system gives no more: fewer will do
                for helper in self._helpers:
                    helper.start()
            self._work()
        finally:
            # Also after Ctrl-C: nobody may still be writing when the caller sees its arrays again.
            self._stop()
            self._wait()
        if self._failures:
            raise self._failures[min(self._failures)]

    def _help(self) -> None:
        with self._changed:
            self._busy_helpers += 1
        self._work()
        with self._changed:
            self._busy_helpers -= 1
            self._changed.notify()

    def _work(self) -> None:
        while True:
            begin = self._take()
            if begin >= self._count:
                return
            try:
                self._task(begin, min(begin + self._length, self._count))
            except BaseException as error:
                with self._changed:
                    self._failures[begin] = error
                self._stop()
                return

    def _take(self) -> int:
        with self._changed:
            begin = self._next
            self._next += self._length
            return begin

    def _stop(self) -> None:
        """Hand out nothing more; a helper that only begins now finds nothing to do."""
        with self._changed:
            self._next = self._count

    def _wait(self) -> None:
        """Wait for the helpers that are at work; Ctrl-C is raised when they have ended.

        Joining is for tidiness only: Ctrl-C inside `Thread.start` leaves threads that run, but
        cannot be joined yet.
        """
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._busy_helpers == 0)
            for helper in self._helpers:
                with contextlib.suppress(RuntimeError):
                    helper.join()
        except KeyboardInterrupt:
            self._wait()
            raise


def _default_num_threads() -> int:
    named = os.environ.get(ENVIRONMENT)
    if named:
        count = int(named) if named.isascii() and named.isdigit() else 0
        if count < 1:
            raise ValueError(f"{ENVIRONMENT} must be a positive integer, got {named!r}")
        return count
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
