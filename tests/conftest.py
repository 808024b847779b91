"""Fixtures shared by all tests: backends, thread counts, instruction sets, clean interpreters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pytest

from hotloops._runtime import dispatch
from hotloops._runtime.errors import BackendUnavailable

ISA_LEVELS = ("base", "v3", "v4")

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if any(name == blocked or name.startswith(blocked + ".") for blocked in {names!r}):
            raise ImportError(name + " is blocked by the test", name=name)
        return None

sys.meta_path.insert(0, Blocker())
"""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs a CUDA device; skipped elsewhere")
    # A shell lets background jobs ignore Ctrl-C, and so would every process that a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["cpp", "numba", pytest.param("cuda", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn. A missing GPU skips; a missing C++ core or Numba is an error."""
    name = str(request.param)
    if name == "cuda":
        try:
            dispatch.cuda()
        except BackendUnavailable as missing:
            pytest.skip(str(missing))
        pytest.importorskip("cupy", reason="the arrays of the CUDA tests are CuPy's")
    elif name == "cpp":
        dispatch.core()
    else:
        dispatch.numba()
    return name


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> int:
    """One thread, two, and more than there are processors on a small machine."""
    return int(request.param)


@pytest.fixture
def to_device(backend: str) -> Callable[[Any], Any]:
    """Put an array where the backend works on it."""
    if backend != "cuda":
        return np.asarray
    return sys.modules["cupy"].asarray  # type: ignore[no-any-return]


@pytest.fixture
def to_host() -> Callable[[Any], Any]:
    """Bring a NumPy or CuPy array back as a NumPy array."""
    return lambda array: array.get() if hasattr(array, "get") else np.asarray(array)


class RunPython(Protocol):
    """Run a snippet in a new interpreter and return what it printed; a failure fails the test."""

    def __call__(
        self,
        code: str,
        *,
        env: Mapping[str, str] | None = None,
        blocked: Sequence[str] = (),
        flags: Sequence[str] = (),
        timeout: float = 300.0,
    ) -> str: ...


def _run_python(
    code: str,
    *,
    env: Mapping[str, str] | None = None,
    blocked: Sequence[str] = (),
    flags: Sequence[str] = (),
    timeout: float = 300.0,
) -> str:
    clean = {name: text for name, text in os.environ.items() if not name.startswith("HOTLOOPS_")}
    code = (BLOCKER.format(names=tuple(blocked)) if blocked else "") + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        env={**clean, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def run_python() -> RunPython:
    """Run a snippet in a new interpreter without ``HOTLOOPS_*`` variables but those in `env`.

    Modules in `blocked` (and what is below them) raise ImportError there.
    """
    return _run_python


@dataclass(frozen=True)
class Isa:
    """The instruction sets that this processor has and this build was compiled for."""

    levels: tuple[str, ...]

    def run(self, code: str, level: str, *, env: Mapping[str, str] | None = None) -> str:
        """Run a snippet at one level and return what it printed."""
        return _run_python(code, env={**(env or {}), "HOTLOOPS_ISA": level})

    def run_all(self, code: str, *, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Run a snippet at every level."""
        return {level: self.run(code, level, env=env) for level in self.levels}


@pytest.fixture(scope="session")
def isa() -> Isa:
    """Snippets under every value of ``HOTLOOPS_ISA`` that works on this machine."""
    core = dispatch.core()
    reachable = ISA_LEVELS[: ISA_LEVELS.index(core.detected_isa()) + 1]
    built = core.build_info()["isa_levels"]
    return Isa(tuple(level for level in reachable if level in built))
