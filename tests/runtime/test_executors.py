"""Rows spread over executors: what is cut, in which order it returns, and how it fails."""

from __future__ import annotations

import os
import re
import threading
from concurrent import futures
from typing import Any

import pytest

from hotloops._runtime import executors
from hotloops._runtime.executors import check_executor, map_rows, split_rows, worker_count


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


class Recorder(futures.Executor):
    """Runs nothing until it is told to, so that tests choose the order of events."""

    _max_workers = 4

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.futures: list[futures.Future[Any]] = []

    def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        self.calls.append((call, *args))
        self.futures.append(futures.Future())
        return self.futures[-1]


def rows(begin: int, end: int) -> tuple[int, int]:
    return begin, end


@pytest.mark.parametrize("num_rows", [1, 2, 15, 16, 17, 100, 1024])
@pytest.mark.parametrize("granularity", [1, 16, 1000])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_ranges(num_rows: int, granularity: int, parts: int) -> None:
    ranges = split_rows(num_rows, granularity, parts)
    rows = [row for begin, end in ranges for row in range(begin, end)]
    assert rows == list(range(num_rows))
    assert 1 <= len(ranges) <= parts
    assert all(begin < end and begin % granularity == 0 for begin, end in ranges)
    blocks = [-(-(end - begin) // granularity) for begin, end in ranges]
    assert max(blocks) - min(blocks) <= 1, "the parts are of one size, as far as blocks allow"


def test_no_rows() -> None:
    assert split_rows(0, 16, 4) == []
    assert map_rows("f", Recorder(), 0, 16, print, rows) == []


def test_results_in_order() -> None:
    executor = Recorder()
    finished: list[int] = []

    def finish() -> None:
        while len(executor.futures) < 4:
            pass
        for index in (2, 0, 3, 1):
            executor.futures[index].set_result(f"part {index}")

    thread = threading.Thread(target=finish)
    thread.start()
    results = map_rows("f", executor, 64, 16, print, lambda b, e: (b, e, "x", 3), finished.append)
    thread.join()
    assert results == [f"part {index}" for index in range(4)]
    expected = [(print, begin, begin + 16, "x", 3) for begin in range(0, 64, 16)]
    assert executor.calls == expected
    assert finished == [16] * 4


def test_failure_cancels_the_rest() -> None:
    executor = Recorder()
    error = ArithmeticError("part 2")

    def finish() -> None:
        while len(executor.futures) < 4:
            pass
        executor.futures[1].set_result("part 1")
        executor.futures[2].set_exception(error)

    thread = threading.Thread(target=finish)
    thread.start()
    with pytest.raises(ArithmeticError) as raised:
        map_rows("f", executor, 64, 16, print, rows)
    thread.join()
    assert raised.value is error
    assert [future.cancelled() for future in executor.futures] == [True, False, False, True]


def test_failing_submit_cancels_what_was_submitted() -> None:
    class Full(Recorder):
        def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
            if len(self.futures) == 2:
                raise RuntimeError("no more")
            return super().submit(call, *args)

    executor = Full()
    with pytest.raises(RuntimeError, match="no more"):
        map_rows("f", executor, 64, 16, print, rows)
    assert all(future.cancelled() for future in executor.futures)


def square_sum(begin: int, end: int, shift: int) -> tuple[int, int]:
    return sum((row + shift) ** 2 for row in range(begin, end)), os.getpid()


def fail_late(begin: int, end: int) -> int:
    if begin > 0:
        raise ValueError(f"rows {begin} to {end}")
    return end


def test_threads() -> None:
    with futures.ThreadPoolExecutor(3) as executor:
        parts = map_rows("f", executor, 100, 8, square_sum, lambda b, e: (b, e, 1))
    assert sum(total for total, _ in parts) == sum(row**2 for row in range(1, 101))
    assert len(parts) == 3


def test_processes(run_python: Any, tmp_path: Any) -> None:
    """In an interpreter of its own, since the pool forks or imports the main module."""
    script = tmp_path / "rows.py"
    script.write_text(
        "import os, runpy, sys\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from hotloops import NumericalError\n"
        "from hotloops._runtime.executors import map_rows\n"
        "def count(begin, end, shift):\n"
        "    return end - begin + shift, os.getpid() != PARENT\n"
        "def diverge(begin, end):\n"
        "    raise NumericalError('run: diverged', step=3, row=begin)\n"
        "PARENT = int(os.environ.setdefault('PARENT_PID', str(os.getpid())))\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(2) as executor:\n"
        "        print(map_rows('f', executor, 10, 4, count, lambda b, e: (b, e, 100)))\n"
        "        try:\n"
        "            map_rows('f', executor, 10, 4, diverge, lambda b, e: (b, e))\n"
        "        except NumericalError as error:\n"
        "            print(error, error.step, error.row in (0, 4))\n"
    )
    code = f"""
        import os, subprocess, sys
        print(subprocess.check_output([sys.executable, {str(script)!r}], text=True))
    """
    printed = run_python(code).split("\n")
    assert printed[0] == "[(104, True), (106, True)]"
    assert printed[1] == "run: diverged 3 True"


@pytest.mark.slow
def test_dask(run_python: Any, tmp_path: Any) -> None:
    pytest.importorskip("distributed")
    script = tmp_path / "cluster.py"
    script.write_text(
        "from hotloops._runtime.executors import check_executor, map_rows, worker_count\n"
        "def count(begin, end, shift):\n"
        "    return end - begin + shift\n"
        "def fail(begin, end):\n"
        "    raise ValueError(f'rows {begin}')\n"
        "if __name__ == '__main__':\n"
        "    from distributed import Client, LocalCluster\n"
        "    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as c:\n"
        "        with Client(c) as client:\n"
        "            executor = client.get_executor()\n"
        "            parts = map_rows('f', executor, 10, 4, count, lambda b, e: (b, e, 100))\n"
        "            print(worker_count(executor), parts)\n"
        "            try:\n"
        "                map_rows('f', executor, 4, 4, fail, lambda b, e: (b, e))\n"
        "            except ValueError as error:\n"
        "                print(error)\n"
        "            try:\n"
        "                check_executor('run', client)\n"
        "            except TypeError as error:\n"
        "                print(error)\n"
    )
    code = f"""
        import subprocess, sys
        print(subprocess.check_output([sys.executable, {str(script)!r}], text=True))
    """
    lines = run_python(code).strip().split("\n")
    assert lines == [
        "2 [104, 106]",
        "rows 0",
        "run: `executor` must be a concurrent.futures.Executor (pass `.get_executor()` of a dask "
        "client), got a distributed.Client",
    ]


@pytest.mark.parametrize(
    ("value", "got"), [(None, "None"), (4, "4"), (threading.Thread(), "a threading.Thread")]
)
def test_what_is_no_executor(value: object, got: str) -> None:
    message = f"run: `executor` must be a concurrent.futures.Executor, got {got}"
    with raises(TypeError, message):
        check_executor("run", value)
    with raises(TypeError, message):
        map_rows("run", value, 10, 1, print, rows)  # type: ignore[arg-type]


def test_worker_counts() -> None:
    class Mpi(Recorder):
        _max_workers = None  # type: ignore[assignment]
        num_workers = 6

    class Silent(Recorder):
        _max_workers = None  # type: ignore[assignment]

    with futures.ThreadPoolExecutor(3) as executor:
        assert worker_count(executor) == 3
    assert worker_count(Recorder()) == 4
    assert worker_count(Mpi()) == 6
    assert worker_count(Silent()) == (os.cpu_count() or 1)


def test_public_names() -> None:
    assert all(hasattr(executors, name) for name in executors.__all__)
