"""The CUDA backend on a real GPU: the bits of the C++ drivers, through the faces and below them.

Tests whose names begin with ``test_small`` are small enough for compute-sanitizer.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import numpy as np
import pytest

from hotloops import DivergenceWarning, random, sgd
from hotloops._runtime import dispatch
from hotloops._runtime.arrays import Library
from hotloops._runtime.errors import BackendUnavailable
from hotloops.random import _cpp as random_cpp
from hotloops.random import _cuda as random_cuda
from hotloops.sgd import _cuda
from tests.contract import cases as contract
from tests.contract.test_determinism import PINNED
from tests.cuda.cases import (
    KERNELS,
    LAYOUTS,
    ROWS,
    RULES,
    Case,
    Run,
    assert_same_bits,
    covering,
    on_device,
    run_cpp,
    run_cuda,
    to_host,
)

pytestmark = pytest.mark.gpu

RESULTS = ("mean", "extrapolated", "last", "flags", "diverged_at")


@pytest.fixture(scope="module")
def cupy() -> Any:
    try:
        dispatch.cuda()
    except BackendUnavailable as missing:
        pytest.skip(str(missing))
    return pytest.importorskip("cupy", reason="needs CuPy")


@pytest.fixture(scope="module")
def torch(cupy: Any) -> Any:
    module = pytest.importorskip("torch", reason="needs torch")
    if not module.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    return module


def compare(cupy: Any, case: Case, parts: tuple[int, ...], burn_in: int = 1) -> Any:
    expected = run_cpp(case, parts, burn_in)
    assert_same_bits(run_cuda(cupy, case, parts, burn_in), expected)
    return expected.chains


def half_diverge(case: Case, num_steps: int) -> Case:
    """Return the case with a limit that about half of the copies leave."""
    free = run_cpp(case, (num_steps,))
    limit = float(np.median(np.abs(free.chains.theta).max(axis=2)))
    return case.with_(divergence_limit=limit)


@pytest.mark.parametrize("dim", [1, 4, 6, 17, 33, 130])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", LAYOUTS)
def test_small_runs(cupy: Any, kernel: str, dtype: str, dim: int) -> None:
    case = Case(kernel, dtype, dim, num_chains=37, copies=1 + dim % 5, spread=0.01)
    compare(cupy, half_diverge(case, 9), (3, 6))


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for case in covering()])
def test_small_general(cupy: Any, case: Case) -> None:
    """Laws, rules, statistics, streams and Markov chains."""
    compare(cupy, case, (4, 3, 6))


@pytest.mark.parametrize("dim", [1, 7, 30])
@pytest.mark.parametrize("copies", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", ["quadratic", "cosine", "logistic"])
def test_small_statistics(cupy: Any, kernel: str, copies: int, dim: int) -> None:
    """The kernels that keep them in registers."""
    case = Case(kernel, "float32", dim, 41, copies, spread=0.01, statistics="default")
    compare(cupy, half_diverge(case, 13), (4, 3, 6))


@pytest.mark.parametrize("kernel", ROWS)
def test_small_plug_in(cupy: Any, kernel: str) -> None:
    compare(cupy, Case(kernel, "float64", 5, 70, full=True, statistics="plug_in"), (4, 3, 6))


@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_small_sampling(cupy: Any, sampling: int) -> None:
    for batch_size, num_rows in ((1, 50), (3, 7), (6, 2)):
        case = Case(
            "logistic", "float32", 5, num_chains=33, batch_size=batch_size, num_rows=num_rows,
            sampling=sampling,
        )  # fmt: skip
        compare(cupy, case, (5, 13), 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("law", ["normals", "uniforms"])
def test_small_random(cupy: Any, law: str, dtype: str) -> None:
    steps, chains = np.arange(2**40, 2**40 + 3), np.arange(2**32 - 65, 2**32)
    for count, first in ((8, 0), (8, 4), (7, 3), (1, 2)):
        expected = np.empty((3, 65, count), dtype)
        random_cpp.fill(expected, law, 5, 2, steps, chains, first, 1)
        got = cupy.empty(expected.shape, dtype)
        random_cuda.fill(got, law, 5, 2, cupy.asarray(steps), cupy.asarray(chains), first, 1)
        assert got.get().tobytes() == expected.tobytes()


@pytest.mark.parametrize("dim", [3, 20, 128, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", LAYOUTS)
def test_grids_that_fill_the_device(cupy: Any, kernel: str, dtype: str, dim: int) -> None:
    num_chains = 60_000 // dim if kernel == "quadratic_full" and dim > 100 else 600_000 // dim
    case = Case(kernel, dtype, dim, num_chains, copies=2, spread=0.01)
    num_steps = 4 if kernel == "quadratic_full" else 24
    compare(cupy, half_diverge(case, num_steps), (num_steps // 4, num_steps - num_steps // 4))


@pytest.mark.parametrize("dim", [3, 40])
@pytest.mark.parametrize("kernel", KERNELS)
def test_general_grids_that_fill_the_device(cupy: Any, kernel: str, dim: int) -> None:
    """With statistics; of the short chains there are more than the workspace has room for."""
    case = Case(kernel, "float32", dim, 3_000_000 // dim**2, statistics="default", full=True)
    compare(cupy, case, (2, 4))


@pytest.mark.parametrize("statistics", ["none", "default"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_many_launches(cupy: Any, kernel: str, statistics: str) -> None:
    case = Case(kernel, "float32", 2, 64, first_step=2**32 - 20_000, statistics=statistics)
    compare(cupy, case, (45_000, 5_000) if statistics == "none" else (15_000, 10_000))


@pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:run. the step size:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, id=f"{case}-{dtype}")
        for case, dtype in contract.instances()
        if case in contract.SGD
    ],
)
def test_contract(
    cupy: Any, case: contract.Case, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From `sgd.run` down: the hashes that the other backends are held to."""
    start, result_arrays = contract.start, contract.result_arrays
    monkeypatch.setattr(contract, "start", lambda *sizes: cupy.asarray(start(*sizes)))
    monkeypatch.setattr(contract, "result_arrays", lambda run: result_arrays(on_host(run)))
    problem, _ = case.make(dtype)
    problem.library = Library("cupy", "cuda")  # as if it had been made of arrays on the device
    found = case.call((problem, dtype), backend="cuda", **case.options)
    assert contract.digest(found) == PINNED[f"{case}/{dtype}"]


class on_host:
    """A result whose arrays, and those of all that it holds, come to the host when asked for."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if found is None:
            return None
        return found.get() if hasattr(found, "get") else on_host(found)


def run_both(xp: Any, options: dict[str, Any], dtype: str = "float32") -> list[Any]:
    """Run one problem of each face on the host and on the device; all results must agree."""
    generator = np.random.default_rng(5)
    features = (generator.standard_normal((200, 12)) / 4).astype(dtype)
    targets = (features[:, 0] > 0).astype(dtype)
    matrix = np.diag(np.arange(1.0, 7.0)) + 0.1
    makers = [
        lambda to: sgd.Logistic(to(features), to(targets), l2=0.1, batch_size=2),
        lambda to: sgd.LeastSquares(to(features), to(targets), l2=0.1, sampling="reshuffle"),
        lambda to: sgd.Quadratic(to(np.full(5, 0.8)), to(np.zeros(5))),
        lambda to: sgd.Quadratic(to(matrix), to(np.ones(6)), cholesky=to(np.eye(6))),
    ]
    runs = []
    for make in makers:
        on_gpu = sgd.run(make(xp), [0.05, 0.1], dtype=dtype, **options)
        on_cpu = sgd.run(make(np.asarray), [0.05, 0.1], dtype=dtype, **options)
        for name in RESULTS:
            got, expected = host(getattr(on_gpu, name)), getattr(on_cpu, name)
            assert got.tobytes() == expected.tobytes(), (make, name)
        runs.append(on_gpu)
    return runs


def host(array: Any) -> Any:
    return array.cpu().numpy() if hasattr(array, "cpu") else to_host(array)


OPTIONS: dict[str, Any] = {"num_steps": 500, "burn_in": 1_500, "num_chains": 70, "seed": 9}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_face_with_cupy(cupy: Any, dtype: str) -> None:
    for run in run_both(cupy.asarray, OPTIONS, dtype):
        assert isinstance(run.mean, cupy.ndarray)
        assert isinstance(run.last, cupy.ndarray)


def test_face_with_torch(torch: Any) -> None:
    runs = run_both(lambda array: torch.from_numpy(np.array(array)).cuda(), OPTIONS)
    for run in runs:
        assert isinstance(run.mean, torch.Tensor)
        assert run.mean.is_cuda


def test_problem_without_arrays(cupy: Any) -> None:
    problem = sgd.Cosine(phi=1.0, sigma=1.0, dim=3)
    on_gpu, on_cpu = (
        sgd.run(problem, [0.05, 0.1], backend=backend, **OPTIONS) for backend in ("cuda", "cpp")
    )
    assert isinstance(on_gpu.mean, cupy.ndarray)
    assert on_gpu.mean.get().tobytes() == on_cpu.mean.tobytes()


def test_going_on(cupy: Any) -> None:
    generator = np.random.default_rng(5)
    features = cupy.asarray(generator.standard_normal((100, 4)))
    problem = sgd.Logistic(features, (features[:, 0] > 0).astype(features.dtype), l2=0.1)
    whole = sgd.run(problem, [0.1, 0.2], num_steps=300, burn_in=700, num_chains=40, seed=3)
    first = sgd.run(problem, [0.1, 0.2], num_steps=123, burn_in=700, num_chains=40, seed=3)
    rest = sgd.run(problem, [0.1, 0.2], num_steps=177, state=first.state)
    for name in RESULTS:
        assert host(getattr(rest, name)).tobytes() == host(getattr(whole, name)).tobytes()


def test_divergence_through_the_face(cupy: Any) -> None:
    problem = sgd.Cosine(phi=1.0, sigma=2.0, dim=5, divergence_limit=1.3)
    with pytest.warns(DivergenceWarning):
        on_gpu, on_cpu = (
            sgd.run(problem, [0.05, 0.1], backend=backend, **OPTIONS) for backend in ("cuda", "cpp")
        )
    assert on_cpu.flags.any()
    for name in RESULTS:
        assert host(getattr(on_gpu, name)).tobytes() == getattr(on_cpu, name).tobytes()


def test_bulk_random_into_device_memory(cupy: Any) -> None:
    out = cupy.empty((3, 1000, 11), "float32")
    assert random.normals(7, 3, 1000, 11, dtype="float32", out=out) is out
    assert out.get().tobytes() == random.normals(7, 3, 1000, 11, dtype="float32").tobytes()


def test_waits_for_the_stream_of_cupy(cupy: Any) -> None:
    """The data are still being made, on a stream of its own, when the run is asked for."""
    with cupy.cuda.Stream(non_blocking=True) as stream:
        features = cupy.zeros((1 << 20, 4), "float32")
        for _ in range(100):
            features += cupy.float32(0.01)
        targets = features[:, 0] * 2
        run = sgd.run(
            sgd.LeastSquares(features, targets, l2=1.0),
            [0.05],
            num_steps=50,
            burn_in=500,
            num_chains=9,
        )
        mean = run.mean.get()
    stream.synchronize()
    data = features.get()
    expected = sgd.run(
        sgd.LeastSquares(data, data[:, 0] * 2, l2=1.0),
        [0.05],
        num_steps=50,
        burn_in=500,
        num_chains=9,
    )
    assert mean.tobytes() == expected.mean.tobytes()


def test_works_on_the_stream_of_torch(torch: Any) -> None:
    with torch.cuda.stream(torch.cuda.Stream()):
        features = torch.zeros((1 << 20, 4), device="cuda")
        for _ in range(100):
            features += 0.01
        targets = features[:, 0] * 2
        run = sgd.run(
            sgd.LeastSquares(features, targets, l2=1.0),
            [0.05],
            num_steps=50,
            burn_in=500,
            num_chains=9,
        )
        doubled = (run.mean * 2).cpu().numpy()
    data = features.cpu().numpy()
    expected = sgd.run(
        sgd.LeastSquares(data, data[:, 0] * 2, l2=1.0),
        [0.05],
        num_steps=50,
        burn_in=500,
        num_chains=9,
    )
    assert doubled.tobytes() == (expected.mean * 2).tobytes()


SOURCE = """
__device__ int pull(const {real}* theta, const {real}* noise, long long step, const void* data,
                    {real}* out) {{
    const {real}* p = static_cast<const {real}*>(data);
    for (int i = 0; i < {dim}; ++i)
        out[i] = p[i] * (theta[i] - p[{dim} + i]) + p[2 * {dim} + i] * noise[i];
    return {fails};
}}
"""


@pytest.mark.parametrize(("dim", "rules"), [(2, "none"), (9, "all"), (200, "none")])
@pytest.mark.parametrize(("dtype", "real"), [("float32", "float"), ("float64", "double")])
def test_custom_source_equals_the_built_in(
    cupy: Any, dtype: str, real: str, dim: int, rules: str
) -> None:
    case = half_diverge(Case("quadratic", dtype, dim, num_chains=300, spread=0.01), 50)
    case = case.with_(rules=rules)
    expected = run_cpp(case, (50,))
    data = cupy.asarray(np.concatenate(case.parameters()[:3]))
    chains = on_device(cupy, case.chains())
    source = SOURCE.format(real=real, dim=dim, fails=0)
    options: dict[str, Any] = {
        "seed": case.seed, "chain_offset": case.chain_offset, "first_step": case.first_step,
        "num_steps": 50, "accumulate": True, "divergence_limit": case.divergence_limit,
        "num_threads": 1, "rules": RULES[rules],
    }  # fmt: skip
    _cuda.advance(chains, "custom", (source, "pull", data, dim, 0), **options)
    assert_same_bits(Run(chains, None), expected)
    failing = SOURCE.format(real=real, dim=dim, fails="step == 20 ? 3 : 0")
    chains = on_device(cupy, case.with_(divergence_limit=1e6).chains())
    with pytest.raises(RuntimeError, match=r"the user's function returned 3 at index 0 "):
        _cuda.advance(
            chains, "custom", (failing, "pull", data, dim, 0),
            **{**options, "divergence_limit": 1e6},
        )  # fmt: skip
    with pytest.raises(ValueError, match="does not compile"):
        _cuda.advance(chains, "custom", ("int pull(", "pull", data, dim, 0), **options)


def test_custom_source_through_the_face(cupy: Any) -> None:
    """With the intervals that are on by default."""
    source = SOURCE.format(real="float", dim=3, fails=0).replace("pull", "gradient")
    center = np.array([1.0, -2.0, 0.5], "float32")
    data = np.concatenate([np.ones(3), center, np.ones(3)]).astype("float32")
    found = sgd.run(
        sgd.Custom(source, 3, cupy.asarray(data), dtype="float32"), [0.1, 0.2], **OPTIONS
    )
    expected = sgd.run(sgd.Quadratic(np.ones(3, "float32"), center), [0.1, 0.2], **OPTIONS)
    for name in RESULTS:
        assert host(getattr(found, name)).tobytes() == getattr(expected, name).tobytes(), name
    for got, wanted in zip(
        *(run.confidence_interval(method="random_scaling") for run in (found, expected)),
        strict=True,
    ):
        np.testing.assert_allclose(host(got), wanted, rtol=1e-12)


def test_interrupt(cupy: Any) -> None:
    """Ctrl-C ends a run of hours within a second or two."""
    code = """
        import cupy
        from hotloops import sgd
        cupy.zeros(1)
        print("ready", flush=True)
        sgd.run(sgd.Cosine(dim=4), [0.05], num_steps=10**11, num_chains=2**20, backend="cuda")
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert time.monotonic() - asked < 3
