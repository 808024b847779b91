"""Independent rows spread over any `concurrent.futures.Executor`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hotloops._runtime.validate import describe, fail

if TYPE_CHECKING:  # imported where they are used: few calls need them, every import would pay
    from concurrent import futures

__all__ = ["check_executor", "map_rows", "split_rows", "worker_count"]

Result = TypeVar("Result")


def check_executor(function: str, executor: object) -> futures.Executor:
    """Check the ``executor=`` argument."""
    from concurrent import futures

    if not isinstance(executor, futures.Executor):
        expectation = "be a concurrent.futures.Executor"
        if hasattr(executor, "get_executor"):
            expectation += " (pass `.get_executor()` of a dask client)"
        fail(TypeError, function, "executor", expectation, describe(executor))
    return executor


def worker_count(executor: futures.Executor) -> int:
    """Return how many calls an executor can run at once, as far as it tells."""
    client = getattr(executor, "_client", None)
    if client is not None and hasattr(client, "ncores"):  # dask.distributed
        return max(1, int(sum(client.ncores().values())))
    for name in ("_max_workers", "num_workers"):  # the standard library and loky; mpi4py
        count = getattr(executor, name, None)
        if isinstance(count, int) and count > 0:
            return count
    return os.cpu_count() or 1


def split_rows(num_rows: int, granularity: int, parts: int) -> list[tuple[int, int]]:
    """Cut the rows into at most `parts` ranges that begin at multiples of `granularity`."""
    blocks = -(-num_rows // granularity)
    parts = max(1, min(parts, blocks))
    cuts = [min(num_rows, blocks * part // parts * granularity) for part in range(parts + 1)]
    return [(begin, end) for begin, end in itertools.pairwise(cuts) if begin < end]


def map_rows(
    function: str,
    executor: futures.Executor,
    num_rows: int,
    granularity: int,
    call: Callable[..., Result],
    arguments: Callable[[int, int], tuple[Any, ...]],
    on_done: Callable[[int], object] | None = None,
) -> list[Result]:
    """Run ``call(*arguments(begin, end))`` on ranges of rows and return the results in order.

    Parameters
    ----------
    function : str
        For messages.
    executor : concurrent.futures.Executor
        Runs the parts, one per worker.
    num_rows, granularity : int
        Parts begin at multiples of the granularity.
    call : callable
        Must be picklable where the executor uses other processes.
    arguments : callable
        Makes the arguments of one part here, so that each worker gets its own rows only.
    on_done : callable, optional
        Called with the number of rows of each part that is finished.

    Raises
    ------
    Exception
        What the first failing part raised; parts that have not begun are cancelled.
    """
    check_executor(function, executor)
    ranges = split_rows(num_rows, granularity, worker_count(executor))
    submitted: list[futures.Future[Result]] = []
    try:
        for begin, end in ranges:
            submitted.append(executor.submit(call, *arguments(begin, end)))
        _wait(submitted, [end - begin for begin, end in ranges], on_done)
        return [future.result() for future in submitted]
    except BaseException:
        for future in submitted:
            future.cancel()
        raise


def _wait(
    submitted: Sequence[futures.Future[Any]],
    num_rows: Sequence[int],
    on_done: Callable[[int], object] | None,
) -> None:
    """Wait for all parts; raise the failure of the first part among those that failed first."""
    from concurrent import futures

    waiting = set(submitted)
    while waiting:
        done, waiting = futures.wait(waiting, return_when=futures.FIRST_COMPLETED)
        for future, count in zip(submitted, num_rows, strict=True):
            if future in done:
                future.result()
                if on_done is not None:
                    on_done(count)
