"""The progress bar and the clock."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hotloops._runtime import progress
from hotloops._runtime.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(progress, "time", fake)
    return fake


def test_counting_without_a_bar(capfd: pytest.CaptureFixture[str]) -> None:
    with Progress(10, enabled=False, description="sgd") as counter:
        counter.update(4)
        counter.update()
    assert counter.done == 5
    assert capfd.readouterr() == ("", "")


def test_bar(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    with Progress(2000, enabled=True, description="sgd.run", unit="update") as counter:
        counter.update(1000)
        time.sleep(0.15)  # tqdm redraws every 0.1 s
        counter.update(1000)
    out, err = capfd.readouterr()
    assert out == ""
    assert "sgd.run: 100%" in err
    assert "2.00k/2.00k" in err
    assert "update/s" in err


def test_bar_is_closed_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Bar:
        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(progress, "_bar", lambda *args: Bar())
    with pytest.raises(KeyboardInterrupt), Progress(1, enabled=True, description="f"):
        raise KeyboardInterrupt
    assert closed == [True]


def test_time(clock: Clock) -> None:
    endless = Progress(1, enabled=False, description="f")
    counter = Progress(1, enabled=False, description="f", max_seconds=2.0)
    assert not counter.out_of_time()
    clock.now += 1.5
    assert not counter.out_of_time()
    assert counter.elapsed == 1.5
    clock.now += 0.5
    assert counter.out_of_time()
    clock.now += 1e9
    assert not endless.out_of_time()


def test_no_time_at_all(clock: Clock) -> None:
    assert Progress(1, enabled=False, description="f", max_seconds=0.0).out_of_time()


def test_missing_tqdm_costs_the_bar_only(run_python: Any) -> None:
    code = """
        import warnings
        from hotloops._runtime.progress import Progress
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with Progress(2, enabled=True, description="f") as counter:
                counter.update(2)
        print(counter.done, *(f"{w.category.__name__}: {w.message}" for w in caught))
    """
    expected = (
        "2 RuntimeWarning: progress=True shows nothing, since tqdm cannot be imported "
        "(tqdm.auto is blocked by the test)\n"
    )
    # The parent package is found first, so blocking it alone names it; blocking both is the same.
    assert run_python(code, blocked=["tqdm"]).replace("(tqdm is", "(tqdm.auto is") == expected


def test_tqdm_is_imported_for_a_bar_only(run_python: Any) -> None:
    code = """
        import sys
        from hotloops._runtime.progress import Progress
        with Progress(2, enabled=False, description="f") as counter:
            counter.update(2)
        print("tqdm" in sys.modules)
    """
    assert run_python(code) == "False\n"
