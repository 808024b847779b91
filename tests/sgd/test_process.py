"""What a run does to its process: signals, forks, threads, memory, floating-point environment."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures
from typing import Any

import numpy as np
import pytest

from hotloops import sgd

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def digest(*arrays: Any) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def work(seed: int = 1, num_threads: int | None = None) -> str:
    """Some work for several threads, as a hash."""
    problem = sgd.Quadratic(np.linspace(0.5, 2.0, 9), 0.25)
    run = sgd.run(problem, [0.05, 0.1], 400, num_chains=300, seed=seed, num_threads=num_threads)
    return digest(run.mean, run.last)


# What is made before the signal can come, and what is interrupted.
LONG_RUNS = {
    "quadratic": ("sgd.Quadratic([1.0, 2.0], 0.0)", "[0.1, 0.2], 10**11, num_chains=64"),
    "one chain": ("sgd.Cosine(1.0)", "0.1, 10**12"),
    "many chains": ("sgd.Cosine(1.0, 1.0, 8)", "0.1, 10**11, num_chains=400_000"),
    "matrix": ("sgd.Quadratic(np.eye(300), 0.0)", "0.1, 10**9, num_chains=64"),
    "large batches": (
        "sgd.LeastSquares(np.ones((50, 40)), np.ones(50), 1.0, batch_size=2**22)",
        "1e-3, 10**9, num_chains=64",
    ),
    "callable": ("sgd.Custom(lambda t, n, s, d, o: t + n, 2)", "0.1, 10**11, num_chains=4"),
    "executor": ("sgd.Cosine(1.0)", "0.1, 10**12, num_chains=64, executor=pool"),
    "numba": ("sgd.Cosine(1.0)", "0.1, 10**12, num_chains=64, backend='numba'"),
}

INTERRUPTED = """
import os, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from hotloops import random, sgd

pool = ThreadPoolExecutor(2)
problem = {problem}
problem.curvature_bounds()
sgd.run(sgd.Cosine(1.0), 0.1, 100, num_chains=64, backend={backend!r})
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", time.monotonic(), flush=True)
run = sgd.run(sgd.Cosine(1.0), 0.1, 100, num_chains=64)
print("alive", np.isfinite(run.mean).all(), flush=True)
os._exit(0)  # an executor would wait for its parts, which run on
"""


def interrupt(problem: str, call: str, backend: str = "cpp") -> float:
    """Run the call in a process of its own and return how long it took to see the signal."""
    code = INTERRUPTED.format(problem=problem, call=call, backend=backend)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.7)
        assert process.poll() is None
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        answer, seen = process.stdout.readline().split()
        assert answer == "interrupted"
        assert process.stdout.readline() == "alive True\n"
        assert process.wait(20) == 0
        return float(seen) - sent
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@posix
@pytest.mark.parametrize("name", LONG_RUNS)
def test_ctrl_c(name: str) -> None:
    """Seen within 0.1 s on an idle machine, also inside one long native call."""
    problem, arguments = LONG_RUNS[name]
    backend = "numba" if name == "numba" else "cpp"
    assert interrupt(problem, f"sgd.run(problem, {arguments})", backend) < 0.5


@posix
def test_ctrl_c_while_drawing() -> None:
    assert (
        interrupt("sgd.Cosine()", "[random.normals(1, 10**4, 10**3, 64) for _ in range(99)]") < 0.5
    )


@posix
def test_interrupted_run_changes_nothing() -> None:
    """An exception of a signal handler leaves `out`, `theta0` and `state` as they were."""
    problem = sgd.Cosine(1.0, 1.0, 3)
    first = sgd.run(problem, 0.1, 100, num_chains=50)
    out = np.full((50, 1, 3), 7.0)
    theta0 = np.full((50, 3), 0.5)
    held = [out, theta0, first.last, first.mean, first.state.arrays.sums]
    before = digest(*held)

    def alarm(*_: Any) -> None:
        raise TimeoutError("from the handler")

    previous = signal.signal(signal.SIGALRM, alarm)
    try:
        for options in ({"theta0": theta0, "num_chains": 50}, {"state": first.state}):
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            began = time.monotonic()
            with pytest.raises(TimeoutError, match="from the handler"):
                sgd.run(problem, 0.1, 10**12, out=out, **options)  # type: ignore[arg-type]
            assert time.monotonic() - began < 0.8
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert digest(*held) == before


@linux
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_fork() -> None:
    """The pool works in the parent, in its children and in theirs, before and after the fork."""
    expected = work(num_threads=3)

    def child(queue: Any, depth: int) -> None:
        queue.put(work(num_threads=3))
        if depth:
            process = context.Process(target=child, args=(queue, depth - 1))
            process.start()
            queue.put(work(num_threads=2))
            process.join(30)

    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=child, args=(queue, 1)) for _ in range(3)]
    for process in children:
        process.start()
    assert work(num_threads=3) == expected
    results = [queue.get(timeout=60) for _ in range(9)]
    for process in children:
        process.join(30)
        assert process.exitcode == 0
    assert set(results) == {expected}
    assert work(num_threads=3) == expected


def test_sixteen_threads_at_once() -> None:
    """Callers that meet in the pool get the results that they get alone."""
    expected = [work(seed) for seed in range(16)]
    start = threading.Barrier(16)

    def caller(seed: int) -> list[str]:
        start.wait()
        return [work(seed, num_threads=1 + (seed + k) % 4) for k in range(6)]

    with futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(caller, range(16)))
    assert found == [[value] * 6 for value in expected]


def test_one_problem_and_one_state_in_many_threads() -> None:
    generator = np.random.default_rng(2)
    problem = sgd.Logistic(generator.normal(size=(50, 4)), generator.integers(0, 2, 50), 0.1)
    state = sgd.run(problem, 0.1, 600, num_chains=33).state

    def caller(_: int) -> str:
        result = sgd.run(problem, 0.1, 200, state=state)
        return digest(result.mean, result.last, problem.minimizer(), problem.hessian())

    with futures.ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(caller, range(32)))) == 1


def test_other_python_threads_go_on() -> None:
    """The GIL is free while a run computes."""
    ticks, stop = 0, threading.Event()

    def count() -> None:
        nonlocal ticks
        while not stop.is_set():
            ticks += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        result = sgd.run(sgd.Cosine(1.0), 0.1, 10**12, burn_in=50, max_seconds=0.5, num_threads=1)
    finally:
        stop.set()
        thread.join()
    assert not result.complete
    assert ticks > 50


LIMITED = """
import resource
import numpy as np
from hotloops import random, sgd

small = sgd.run(sgd.Cosine(1.0), 0.1, 100, num_chains=64)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)

def refused(call):
    try:
        call()
    except MemoryError:
        return True
    return False

print(refused(lambda: sgd.run(sgd.Cosine(dim=100), 0.1, 100, num_chains=10**6)))
print(refused(lambda: sgd.run(sgd.Cosine(), [0.1, 0.2], 10, num_chains=10**7)))
print(refused(lambda: random.normals(1, 1000, 1000, 100)))
print(refused(lambda: random.philox(np.zeros((1, 4), np.uint32), np.zeros((10**8, 2), np.uint32))))
# Scratch memory of the native code: the noise of one pack of chains.
many = sgd.Custom(grad.address, 1, num_normals=10**8)
print(refused(lambda: sgd.run(many, 0.1, 10, burn_in=0)))
wide = sgd.Cosine(dim=6 * 10**6)
print(refused(lambda: sgd.run(wide, 0.1, 10, burn_in=0, num_threads=2)))
again = sgd.run(sgd.Cosine(1.0), 0.1, 100, num_chains=64)
print(np.array_equal(small.mean, again.mean))
"""

GRADIENT = """
import numba
from numba import types
real = types.CPointer(types.float64)

@numba.cfunc(types.int32(real, real, types.int64, types.voidptr, real))
def grad(theta, noise, step, data, out):
    out[0] = 0.0
    return 0
"""


@linux
def test_too_little_memory(run_python: Any) -> None:
    """MemoryError, from Python's and from native allocations, and the process lives."""
    output = run_python(GRADIENT + LIMITED, flags=["-W", "ignore"])
    assert output.split() == ["True"] * 7


PEAK = """
import resource, sys
import numpy as np
from hotloops import sgd

def peak():
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["VmHWM"].split()[0]) * 1024

sgd.run(sgd.Quadratic(np.ones(4), 0.0), [0.1, 0.2], 100, num_chains=64)
base = peak()
chains, steps = {chains}, {steps}
run = sgd.run(sgd.Quadratic(np.ones(4), 0.0), [0.1, 0.2], steps, burn_in=50, num_chains=chains)
held = sum(a.nbytes for a in (run.mean, run.last, run.extrapolated, run.flags, run.diverged_at))
held += run.state.arrays.sums.nbytes
kept = run.state.statistics
held += sum(a.nbytes for a in (kept.shift, kept.path, kept.squares, kept.products) if a is not None)
print(base, peak(), held)
"""


@linux
@pytest.mark.parametrize(
    ("chains", "steps"), [(1_000_000, 10), pytest.param(1_000_000, 1000, marks=pytest.mark.slow)]
)
def test_memory_of_a_large_ensemble(run_python: Any, chains: int, steps: int) -> None:
    """State, statistics, results and 32 MB, however many steps: noise is never stored."""
    base, peak, held = map(int, run_python(PEAK.format(chains=chains, steps=steps)).split())
    assert peak < 1 << 30
    assert peak - base < 1.1 * held + (32 << 20)


@linux
def test_memory_does_not_grow_with_steps(run_python: Any) -> None:
    code = PEAK.replace("burn_in=50", "burn_in=50, seed=3")
    few = run_python(code.format(chains=1000, steps=500)).split()  # the path is full
    many = run_python(code.format(chains=1000, steps=50_000)).split()
    assert int(many[1]) - int(few[1]) < 4 << 20


def test_results_are_freed() -> None:
    """A thousand runs need the memory of one."""
    tracemalloc = pytest.importorskip("tracemalloc")
    problem = sgd.Cosine(1.0, 1.0, 50)

    def rounds(count: int) -> int:
        for seed in range(count):
            sgd.run(problem, 0.1, 60, num_chains=100, seed=seed)
        return int(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        before = rounds(20)
        assert rounds(200) < before + 100_000
    finally:
        tracemalloc.stop()


ENVIRONMENT = """
import ctypes, sys
import numpy as np
tiny = np.float64(5e-324)
single = np.float32(1e-45)
before = (tiny * 1.0, tiny / 2 * 2, single * np.float32(1), np.float64(0.1) + np.float64(0.2))
with np.errstate(all="raise"):
    from hotloops import random, sgd
    sgd.run(sgd.Quadratic([1.0, 1.0], 0.0), [0.1, 0.2], 100, num_chains=40)
    sgd.run(sgd.Cosine(1.0, 1.0, 3), [0.1, 0.2], 100, num_chains=40, dtype="float32")
    sgd.run(sgd.Logistic(np.eye(3) * 30, [0, 1, 0], 0.1), 0.001, 10**4, num_chains=40)
    random.normals(1, 10, 10, 10)
    sgd.run(sgd.Cosine(1.0), 0.1, 100, backend="numba")
after = (tiny * 1.0, tiny / 2 * 2, single * np.float32(1), np.float64(0.1) + np.float64(0.2))
print(before == after, tiny * 1.0 > 0, single * np.float32(1) > 0)
libm = ctypes.CDLL(None)
print(libm.fegetround())
"""


def test_floating_point_environment(run_python: Any) -> None:
    """Import and runs leave denormals and rounding alone, in the calling thread and its pool."""
    assert run_python(ENVIRONMENT, flags=["-W", "ignore"]).split() == ["True"] * 3 + ["0"]


@pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")
@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("threads", [1, 2])
def test_denormal_states_are_kept(backend: str, threads: int) -> None:
    """A chain that decays through the denormals does so exactly, in every thread."""
    for dtype, start, steps in ((np.float64, 1e-300, 80), (np.float32, 1e-35, 40)):
        problem = sgd.Quadratic(np.ones(1), 0.0, 0.0)
        expected = dtype(start)
        for _ in range(steps):
            expected = dtype(expected - dtype(0.5) * expected)
        assert 0 < expected < np.finfo(dtype).tiny
        result = sgd.run(
            problem,
            0.5,
            steps,
            burn_in=0,
            theta0=np.full(1, start, dtype),
            num_chains=70,
            backend=backend,
            num_threads=threads,
            statistics=["mean"],
        )
        assert (result.last == expected).all()
