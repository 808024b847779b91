"""Thread counts, plain threads for the twins, and threadpoolctl."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops._runtime import dispatch, threads
from hotloops._runtime.errors import BackendUnavailable
from hotloops._runtime.threads import map_tiles, resolve_num_threads


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


class FakeCore:
    def __init__(self) -> None:
        self.count = 3

    def get_num_threads(self) -> int:
        return self.count

    def set_num_threads(self, count: int) -> None:
        self.count = count


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> FakeCore:
    fake = FakeCore()
    monkeypatch.setattr(dispatch, "core", lambda: fake)
    monkeypatch.setattr(threads, "_without_core", None)
    return fake


@pytest.fixture
def no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise BackendUnavailable("blocked")

    monkeypatch.setattr(dispatch, "core", missing)
    monkeypatch.setattr(threads, "_without_core", None)
    monkeypatch.delenv("HOTLOOPS_NUM_THREADS", raising=False)


def test_the_core_holds_the_count(core: FakeCore) -> None:
    assert hotloops.get_num_threads() == 3
    hotloops.set_num_threads(5)
    assert core.count == 5
    assert hotloops.get_num_threads() == 5
    core.count = 2  # as threadpoolctl does it
    assert hotloops.get_num_threads() == 2
    assert resolve_num_threads("f", None) == 2
    assert resolve_num_threads("f", 7) == 7


@pytest.mark.usefixtures("no_core")
def test_without_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert hotloops.get_num_threads() == available
    monkeypatch.setenv("HOTLOOPS_NUM_THREADS", "9")
    assert hotloops.get_num_threads() == 9
    assert resolve_num_threads("f", None) == 9
    hotloops.set_num_threads(4)
    assert hotloops.get_num_threads() == 4


@pytest.mark.usefixtures("no_core")
@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "\u00b2"])
def test_bad_variable_without_the_core(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HOTLOOPS_NUM_THREADS", text)
    with raises(ValueError, f"HOTLOOPS_NUM_THREADS must be a positive integer, got {text!r}"):
        hotloops.get_num_threads()


@pytest.mark.parametrize(
    ("value", "kind"),
    [(0, ValueError), (-3, ValueError), (1025, ValueError), (2**70, OverflowError)],
)
def test_counts_out_of_range(core: FakeCore, value: int, kind: type[Exception]) -> None:
    with raises(kind, f"set_num_threads: `n` must be an integer in [1, 1024], got {value}"):
        hotloops.set_num_threads(value)
    with raises(kind, f"run: `num_threads` must be an integer in [1, 1024], got {value}"):
        resolve_num_threads("run", value)
    assert core.count == 3


@pytest.mark.parametrize("value", [None, True, 2.0, "2"])
def test_counts_of_other_types(core: FakeCore, value: Any) -> None:
    expected = f"set_num_threads: `n` must be an integer in [1, 1024], got {value!r}"
    with raises(TypeError, expected):
        hotloops.set_num_threads(value)
    if value is not None:
        with pytest.raises(TypeError, match="`num_threads` must be an integer"):
            resolve_num_threads("run", value)
    assert core.count == 3


# Plain threads


@pytest.mark.parametrize("count", [0, 1, 2, 7, 64, 1000])
def test_tiles_cover_every_row_once(count: int, threads: int) -> None:
    visits = np.zeros(count, np.int64)
    ranges = []

    def task(begin: int, end: int) -> None:
        assert 0 <= begin < end <= count
        ranges.append((begin, end))
        visits[begin:end] += 1

    map_tiles(task, count, threads)
    assert (visits == 1).all()
    assert len(ranges) <= max(1, 4 * threads)


def test_tiles_run_side_by_side() -> None:
    """Two tasks meet at a barrier, which one thread alone would never pass."""
    barrier = threading.Barrier(2)
    met = []

    def task(begin: int, end: int) -> None:
        if begin < 2:
            barrier.wait(timeout=30)
            met.append(begin)

    map_tiles(task, 8, 2)
    assert sorted(met) == [0, 1]


def test_one_thread_is_the_caller() -> None:
    names = []
    map_tiles(lambda begin, end: names.append((threading.get_ident(), begin, end)), 100, 1)
    assert names == [(threading.get_ident(), 0, 100)]


def test_first_failure_is_raised_and_stops_the_rest() -> None:
    both_in = threading.Barrier(2)
    calls = []

    def task(begin: int, end: int) -> None:
        calls.append(begin)
        if begin < 2:
            both_in.wait(timeout=30)
            raise ValueError(f"row {begin}")

    before = threading.active_count()
    with raises(ValueError, "row 0"):
        map_tiles(task, 8, 2)
    assert sorted(calls) == [0, 1]
    assert threading.active_count() == before


def test_no_thread_writes_after_a_failure() -> None:
    """The caller gets its arrays back only when every thread has stopped."""
    finished = []
    both_in = threading.Barrier(2)

    def task(begin: int, end: int) -> None:
        both_in.wait(timeout=30)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.2)
        finished.append(begin)

    with pytest.raises(KeyboardInterrupt):
        map_tiles(task, 2, 2)
    assert len(finished) == 1


def test_no_thread_writes_after_control_c() -> None:
    """The same when the caller is only waiting for the others."""
    finished = []

    def task(begin: int, end: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            finished.append(begin)
        else:
            both_in.wait(timeout=30)

    both_in = threading.Event()
    threading.Timer(0.05, both_in.set).start()
    with pytest.raises(KeyboardInterrupt):
        map_tiles(task, 2, 2)
    assert len(finished) == 1


def test_fewer_threads_than_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        original(thread)

    original = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    rows = np.zeros(100)

    def task(begin: int, end: int) -> None:
        rows[begin:end] += 1

    map_tiles(task, 100, 5)
    assert (rows == 1).all()
    assert len(started) == 1


# threadpoolctl

LIMIT = """
hotloops.set_num_threads(3)
with threadpoolctl.threadpool_limits(1, user_api="hotloops"):
    inside = hotloops.get_num_threads()
found = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "hotloops"]
print(inside, hotloops.get_num_threads(), len(found), found[0]["num_threads"], found[0]["version"])
"""


@pytest.mark.parametrize(
    "imports",
    ["import hotloops, threadpoolctl", "import threadpoolctl, hotloops"],
    ids=["hotloops first", "threadpoolctl first"],
)
def test_threadpoolctl_governs_us(run_python: Any, imports: str) -> None:
    pytest.importorskip("threadpoolctl")
    assert run_python(f"{imports}\n{LIMIT}").split() == ["1", "3", "1", "3", hotloops.__version__]


@pytest.mark.parametrize("imports", ["hotloops, threadpoolctl", "threadpoolctl, hotloops"])
def test_threadpoolctl_without_the_core(run_python: Any, imports: str) -> None:
    pytest.importorskip("threadpoolctl")
    code = f"""
        import {imports}
        with threadpoolctl.threadpool_limits(1, user_api="hotloops"):
            print(hotloops.get_num_threads() >= 1)
    """
    assert run_python(code, blocked=["hotloops._core"]).strip() == "True"


def test_the_watcher_leaves_no_trace(run_python: Any) -> None:
    pytest.importorskip("threadpoolctl")
    code = """
        import sys
        before = list(sys.meta_path)
        import hotloops
        assert len(sys.meta_path) == len(before) + 1
        import threadpoolctl
        assert sys.meta_path == before
        print(threadpoolctl.__spec__.name, type(threadpoolctl.__loader__).__name__)
    """
    assert run_python(code).split() == ["threadpoolctl", "SourceFileLoader"]


def test_threadpoolctl_that_is_missing_stays_missing(run_python: Any) -> None:
    code = """
        import hotloops
        for _ in range(2):
            try:
                import threadpoolctl
            except ImportError as error:
                print(error)
    """
    expected = "threadpoolctl is blocked by the test\n" * 2
    assert run_python(code, blocked=["threadpoolctl"]) == expected


def test_a_strange_threadpoolctl_does_no_harm(run_python: Any) -> None:
    code = """
        import sys, types
        sys.modules["threadpoolctl"] = types.ModuleType("threadpoolctl")
        import hotloops
        print(hotloops.__version__)
    """
    assert run_python(code).strip() == hotloops.__version__
