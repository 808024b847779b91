"""Rows that need a process of their own: another instruction set, or a clean count of memory."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Worker:
    """A process that makes a callable once and then calls it on request.

    It waits in a pipe between calls and takes no processor time, so that rows of one group can
    live in several processes and still be timed one after the other.
    """

    def __init__(self, make: Callable[..., Callable[[], Any]], *args: Any, **env: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, remote = context.Pipe()
        self._process = context.Process(target=_serve, args=(remote, make, args), daemon=True)
        with _environment(env):
            self._process.start()
        remote.close()
        self._receive()

    def call(self) -> None:
        """Call and wait for the end."""
        self._pipe.send("call")
        self._receive()

    def result(self) -> Any:
        """Call and return what it returned."""
        self._pipe.send("result")
        return self._receive()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()

    def _receive(self) -> Any:
        failure, answer = self._pipe.recv()
        if failure is not None:
            raise RuntimeError(failure)
        return answer


def _serve(pipe: Any, make: Callable[..., Callable[[], Any]], args: tuple[Any, ...]) -> None:
    try:
        call = make(*args)
        pipe.send((None, None))
        while True:
            wanted = pipe.recv()
            answer = call()
            pipe.send((None, answer if wanted == "result" else None))
    except EOFError:
        return
    except Exception as error:
        pipe.send((f"{type(error).__name__}: {error}", None))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = os.environ.copy()
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
