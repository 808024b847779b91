"""The Numba twin against the C++ driver: the same bits, whatever is asked of it."""

from __future__ import annotations

import hashlib
import itertools
import os
import textwrap
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import pytest

from hotloops import sgd
from hotloops._runtime import _numba_jit
from hotloops.sgd import _cpp, _numba
from hotloops.sgd._state import ChainArrays
from tests.contract import sgd_problems as made
from tests.random import reference

if TYPE_CHECKING:
    from conftest import RunPython

DTYPES = ("float32", "float64")

# For new interpreters, which import this file.
ROOT = str(Path(__file__).parents[2])
SEARCH = {"PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])}
SHAPES = [(1, 1, 1), (37, 2, 6), (16, 3, 4), (33, 1, 19)]  # (chains, copies, dim)
IID, RESHUFFLE, SEQUENTIAL = 0, 1, 2

MAKERS: dict[str, Callable[[int], Callable[[str], Any]]] = {
    "quadratic": made.quadratic,
    "quadratic_full": made.quadratic_full,
    "cosine": lambda dim: lambda dtype: (sgd.Cosine(0.75, 1.25, dim), dtype),
    "least_squares": lambda dim: made.rows(sgd.LeastSquares, 57, dim, batch_size=3),
    "logistic": lambda dim: made.rows(sgd.Logistic, 57, dim, batch_size=3),
    "huber": lambda dim: made.rows(sgd.Huber, 57, dim, delta=0.5),
    "squared_hinge": lambda dim: made.rows(sgd.SquaredHinge, 57, dim),
    "softplus_hinge": lambda dim: made.rows(sgd.SoftplusHinge, 57, dim, batch_size=2),
    "poisson": lambda dim: made.rows(sgd.Poisson, 57, dim),
    "streaming_least_squares": lambda dim: made.streaming(
        sgd.StreamingLeastSquares, dim, rho=0.5, full=True
    ),
    "streaming_logistic": lambda dim: made.streaming(sgd.StreamingLogistic, dim),
    "markov_lsa": lambda dim: made.markov(5, dim),
}
KERNELS = tuple(MAKERS)


def make_chains(shape: tuple[int, int, int], dtype: str, seed: int = 0) -> ChainArrays:
    chains, copies, dim = shape
    generator = np.random.default_rng(seed)
    theta = np.repeat(generator.normal(size=(chains, 1, dim)), copies, axis=1)
    return ChainArrays(
        theta.astype(dtype),
        generator.normal(size=shape),
        np.zeros((chains, copies), np.uint8),
        np.full((chains, copies), -1, np.int64),
        np.linspace(0.05, 0.2, copies).astype(dtype),
    )


def make_rows(
    num_rows: int, dim: int, dtype: str, batch_size: int = 1, sampling: int = IID
) -> tuple[Any, ...]:
    generator = np.random.default_rng(1)
    features = generator.normal(size=(num_rows, dim)).astype(dtype)
    targets = generator.integers(0, 2, num_rows).astype(dtype)
    return features, targets, batch_size, sampling, 0.01, 0.0


def make_parameters(kernel: str, dim: int, dtype: str) -> tuple[Any, ...]:
    problem, _ = MAKERS[kernel](dim)(dtype)
    parameters: tuple[Any, ...] = problem.parameters(np.dtype(dtype), np)
    return parameters


def make_case(
    kernel: str, shape: tuple[int, int, int], dtype: str
) -> tuple[ChainArrays, tuple[Any, ...]]:
    """Chains, with what the problem carries from step to step, and parameters."""
    problem, _ = MAKERS[kernel](shape[2])(dtype)
    arrays = make_chains(shape, dtype)
    kind = np.dtype(dtype)
    arrays.auxiliary = problem.initial_auxiliary(7, 3, shape[0], 5, kind, np)
    return arrays, problem.parameters(kind, np)


def advance(backend: Any, arrays: ChainArrays, kernel: str, parameters: Any, **given: Any) -> None:
    options = {
        "seed": 0xFEDCBA9876543210,
        "chain_offset": 3,
        "first_step": 5,
        "num_steps": 40,
        "accumulate": True,
        "divergence_limit": 1e6,
        "num_threads": 2,
    }
    backend.advance(arrays, kernel, parameters, **{**options, **given})


def assert_same(found: ChainArrays, expected: ChainArrays) -> None:
    for name in ("theta", "sums", "flags", "diverged_at", "auxiliary"):
        value, wanted = getattr(found, name), getattr(expected, name)
        bits = f"u{wanted.itemsize}"
        np.testing.assert_array_equal(value.view(bits), wanted.view(bits), name)


def compare(arrays: ChainArrays, kernel: str, parameters: Any, **given: Any) -> ChainArrays:
    """Advance two copies by the two backends and return what both came to."""
    found, expected = arrays.copy(), arrays.copy()
    advance(_numba, found, kernel, parameters, **given)
    advance(_cpp, expected, kernel, parameters, **{**given, "num_threads": 1})
    assert_same(found, expected)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels(kernel: str, dtype: str) -> None:
    for shape in SHAPES:
        arrays, parameters = make_case(kernel, shape, dtype)
        first = compare(arrays, kernel, parameters)
        assert (first.theta != arrays.theta).any()
        # On from there, over the step where the low word of the counter wraps.
        after = compare(first, kernel, parameters, first_step=2**32 - 7, accumulate=False)
        assert (after.sums == first.sums).all()


# Step sizes and a limit at which the first copy stays in range and the others leave it, one by one.
THROWING: dict[str, tuple[list[float], float]] = {
    "logistic": ([2.0, 40.0, 50.0], 1e4),
    "huber": ([2.0, 40.0, 50.0], 1e4),
    "softplus_hinge": ([2.0, 40.0, 50.0], 1e4),
    "poisson": ([0.001, 0.1, 0.3], 11.0),
    "streaming_logistic": ([0.02, 1.0, 4.0], 5.0),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_divergence(kernel: str, dtype: str) -> None:
    """Some copies diverge, at different steps; one is frozen and one is broken from the start."""
    arrays, parameters = make_case(kernel, (37, 3, 5), dtype)
    step_sizes, limit = THROWING.get(kernel, ([0.02, 1.0, 4.0], 11.0))
    arrays.step_sizes[:] = step_sizes
    arrays.flags[4, 0] = 1
    arrays.theta[5, 0, 3] = np.nan
    arrays.theta[36, 0, 0] = np.inf
    result = compare(arrays, kernel, parameters, divergence_limit=limit, num_steps=60)
    assert (result.flags[[4, 5, 36], 0] == 1).all()
    assert (result.diverged_at[[4, 5, 36], 0] == [-1, 5, 5]).all()
    np.testing.assert_array_equal(result.theta[4, 0], arrays.theta[4, 0])
    others = np.delete(result.flags, [4, 5, 36], axis=0)
    assert not others[:, 0].any()
    assert others[:, 1:].any(axis=0).all()
    assert len(np.unique(result.diverged_at[:, 1:])) > 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sampling", [IID, RESHUFFLE, SEQUENTIAL])
def test_sampling(sampling: int, dtype: str) -> None:
    """Batches around a block of words and around what is drawn at once, epochs that end inside."""
    for num_rows, batch_size in itertools.product([1, 2, 57, 64, 65], [1, 3, 4, 5, 64, 130]):
        arrays = make_chains((19, 2, 3), dtype)
        parameters = make_rows(num_rows, 3, dtype, batch_size, sampling)
        for first_step in (0, 2**32 - 3):
            compare(arrays, "least_squares", parameters, first_step=first_step, num_steps=7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rejected_rows(dtype: str) -> None:
    """Above 2^20 rows some words are drawn again; these chains meet such words."""
    num_rows, chains, steps, seed = 1_500_000, 500, 120, 99
    words = reference.words(seed, np.arange(steps)[:, None], np.arange(chains), 0, 5)[..., 0]
    low = (words * np.uint64(num_rows)) & np.uint64(0xFFFFFFFF)
    assert (low < (2**32 - num_rows) % num_rows).sum() > 2
    arrays = make_chains((chains, 1, 1), dtype)
    parameters = make_rows(num_rows, 1, dtype, batch_size=2)
    options = {"seed": seed, "chain_offset": 0, "first_step": 0, "num_steps": steps}
    compare(arrays, "least_squares", parameters, **options)


@pytest.mark.parametrize("kernel", KERNELS)
def test_cuts(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and the length of one call into compiled code change nothing."""
    arrays, parameters = make_case(kernel, (150, 2, 6), "float32")
    if kernel == "logistic":
        parameters = make_rows(57, 6, "float32", batch_size=150)
    arrays.step_sizes[1] = 3.0
    options = {"num_steps": 50, "divergence_limit": 50.0}
    expected = compare(arrays, kernel, parameters, **options)
    monkeypatch.setattr(_numba_jit, "_SLICE_SECONDS", 1e-12)
    for num_threads in (1, 2, 5):
        found = arrays.copy()
        advance(_numba, found, kernel, parameters, num_threads=num_threads, **options)
        assert_same(found, expected)


def test_no_steps() -> None:
    arrays = make_chains((5, 1, 3), "float32")
    parameters = make_parameters("quadratic", 3, "float32")
    assert_same(compare(arrays, "quadratic", parameters, num_steps=0), arrays)


def test_read_only_parameters() -> None:
    parameters = make_parameters("logistic", 4, "float64")
    for array in parameters[:2]:
        array.setflags(write=False)
    compare(make_chains((9, 2, 4), "float64"), "logistic", parameters)


def test_many_callers() -> None:
    """Sixteen threads that call at once, each with threads of its own."""
    parameters = make_parameters("cosine", 5, "float32")
    arrays = make_chains((40, 2, 5), "float32")
    expected = [compare(arrays, "cosine", parameters, seed=seed) for seed in range(16)]

    def call(seed: int) -> ChainArrays:
        found = arrays.copy()
        advance(_numba, found, "cosine", parameters, seed=seed, num_threads=1 + seed % 3)
        return found

    with futures.ThreadPoolExecutor(16) as pool:
        for found, wanted in zip(pool.map(call, range(16)), expected, strict=True):
            assert_same(found, wanted)


# --- gradients of the user's ----------------------------------------------------------------------


def signature(real: Any) -> Any:
    types = numba.types
    pointer = types.CPointer(real)
    return types.int32(pointer, pointer, types.int64, types.CPointer(types.float64), pointer)


@pytest.mark.parametrize("dtype", DTYPES)
def test_custom(dtype: str) -> None:
    real = np.dtype(dtype).type

    def formula(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
        for i in range(3):
            out[i] = theta[i] - real(data[i]) + real(step) * real(0.001)
            for k in range(int(data[3])):
                out[i] += noise[k] * real(0.1)
        return 0

    address = numba.cfunc(signature(numba.from_dtype(np.dtype(dtype))))(formula).address
    compiled = numba.njit(formula)
    for counts, shape in itertools.product(
        [(3, 2), (8, 0), (0, 5), (0, 0)], [(1, 1, 3), (37, 2, 3)]
    ):
        data = np.array([1.5, 0.5, -0.25, sum(counts)])
        arrays = make_chains(shape, dtype)
        arrays.step_sizes[-1] = 2.5
        options = {"num_steps": 50, "divergence_limit": 20.0}
        expected = arrays.copy()
        advance(_cpp, expected, "custom", (address, data.ctypes.data, *counts), **options)
        assert expected.flags.any()
        for num_threads in (1, 3):
            found = arrays.copy()
            options["num_threads"] = num_threads
            advance(_numba, found, "custom", (compiled, data, *counts), **options)
            assert_same(found, expected)


def test_custom_status() -> None:
    """A gradient that returns something else than 0 stops the run as in C++."""

    @numba.njit  # type: ignore[untyped-decorator]
    def stops(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
        out[:] = 0
        return 7 if step == 9 and theta[0] == 2 else 0

    arrays = make_chains((5, 1, 2), "float64")
    arrays.theta[3] = 2.0
    message = r"sgd_custom: the user's function returned 7 at index 3 \(status 4\)"
    with pytest.raises(RuntimeError, match=message):
        advance(_numba, arrays, "custom", (stops, None, 2, 0), num_threads=1)


def test_custom_failures() -> None:
    @numba.njit  # type: ignore[untyped-decorator]
    def raises(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
        raise ValueError("of the user's")

    @numba.njit  # type: ignore[untyped-decorator]
    def returns(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
        return theta + noise

    arrays = make_chains((40, 1, 2), "float64")
    with pytest.raises(ValueError, match="of the user's"):
        advance(_numba, arrays, "custom", (raises, None, 2, 0))
    message = "Custom: `grad` cannot be compiled(.|\n)*write to `out` and return None or a status"
    with pytest.raises(TypeError, match=message):
        advance(_numba, arrays, "custom", (returns, None, 2, 0))


# --- other ways to run the twin -------------------------------------------------------------------

REFERENCE = """
    from tests.sgd import test_twin as t
    print(t.small_hash())
"""


def gradient(theta: Any, noise: Any, step: int, data: Any, out: Any) -> None:
    out[:] = theta + noise


def small_hash() -> str:
    """Every kernel on a tiny case, some with rules and statistics, as one hash."""
    found = hashlib.sha256()
    parameters: tuple[Any, ...]
    for kernel in (*KERNELS, "custom"):
        arrays, parameters = make_chains((9, 2, 3), "float32"), (numba.njit(gradient), None, 3, 0)
        if kernel != "custom":
            arrays, parameters = make_case(kernel, (9, 2, 3), "float32")
        arrays.step_sizes[1] = 4.0
        advance(_numba, arrays, kernel, parameters, num_steps=6, divergence_limit=30.0)
        advance(_numba, arrays, kernel, parameters, num_steps=6, first_step=2**32 - 3)
        for array in (arrays.theta, arrays.sums, arrays.flags, arrays.diverged_at):
            found.update(array.tobytes())
    for sampling in (IID, RESHUFFLE, SEQUENTIAL):
        arrays = make_chains((9, 1, 3), "float32")
        advance(_numba, arrays, "logistic", make_rows(11, 3, "float32", 5, sampling), num_steps=5)
        found.update(arrays.theta.tobytes())
    problem = sgd.Logistic(np.eye(3), [0, 1, 1], 2.0)
    options: dict[str, Any] = {"clip_norm": 0.5, "projection": sgd.Ball(1.0), "backend": "numba"}
    run = sgd.run(problem, [0.4, 0.2], 5, burn_in=13, num_chains=2, seed=1, **options)
    found.update(run.last.tobytes() + run.state.statistics.squares.tobytes())
    return found.hexdigest()


def test_without_compiler(run_python: RunPython) -> None:
    """With the compiler off the twin is its own reference in NumPy: slow, with the same bits."""
    code = REFERENCE
    environment = {**SEARCH, "NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "error"}
    assert run_python(code, env=environment).strip() == small_hash()


CACHED = """
    import numpy as np
    from hotloops.sgd import _numba
    from tests.sgd import test_twin as t
    arrays = t.make_chains((5, 1, 3), "float32")
    t.advance(_numba, arrays, "quadratic", t.make_parameters("quadratic", 3, "float32"))
    print(sum(_numba._run.stats.cache_hits.values()), _numba._run.py_func.__qualname__)
"""


def test_cache(run_python: RunPython, tmp_path: Path) -> None:
    """Compiled once for all processes, and again when any of the sources is another one."""
    environment = {**SEARCH, "NUMBA_CACHE_DIR": str(tmp_path)}
    hits, name = run_python(CACHED, env=environment).split()
    assert hits == "0"
    assert run_python(CACHED, env=environment).split() == ["1", name]
    stored = [path.name for path in tmp_path.rglob("*.nbi")]
    assert len(stored) == 1
    assert name in stored[0]


def test_without_cache(run_python: RunPython) -> None:
    """No folder that can be written to: the twin compiles for this process only."""
    code = "import numba.core.caching as c; c.CacheImpl._locator_classes = []\n"
    assert run_python(code + textwrap.dedent(CACHED), env=SEARCH).split()[0] == "0"
