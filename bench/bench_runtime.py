"""What importing hotloops costs."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable

import pytest

PROGRAMS = {
    "Python, import numpy": "import numpy",
    "hotloops, import numpy and hotloops": "import numpy, hotloops",
}
TIMED = """
import numpy, time
began = time.perf_counter()
import hotloops
print(time.perf_counter() - began)
"""


def run(program: str) -> str:
    """Run a program in a new interpreter and return what it printed."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.benchmark(group="runtime: start of a process")
@pytest.mark.parametrize("name", PROGRAMS)
def test_import(measure: Callable[..., None], name: str) -> None:
    def check(printed: str) -> None:
        assert printed == ""

    beyond = {}
    if name.startswith("hotloops"):
        seconds = [float(run(TIMED)) for _ in range(5)]
        beyond = {"seconds_beyond_numpy": statistics.median(seconds)}
    measure(
        name,
        lambda: run(PROGRAMS[name]),
        check,
        elements=1,
        unit="imports",
        bytes_moved=0,
        threads=1,
        **beyond,
    )
