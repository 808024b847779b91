"""What the loop sums beside the iterates, against plain NumPy on a stored trace."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hotloops import sgd
from hotloops.sgd import _setup_statistics
from hotloops.sgd._statistics import CHAIN_ARRAYS

Array = npt.NDArray[Any]
ToHost = Callable[[Any], Array]

EVERYTHING = ("batch_means", "random_scaling", "variance")
STEPS = {1: [0.1], 2: [0.05, 0.1], 3: [0.2, 0.05, 0.1]}
NUM_STEPS, BURN_IN, CHAINS = 300, 13, 5

pytestmark = pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")


def problem(dim: int = 3) -> sgd.Problem:
    return sgd.Quadratic(np.linspace(0.5, 2.0, dim), 0.3, np.linspace(1.0, 0.5, dim))


def slow_gradient(theta: Array, noise: Array, step: int, data: Any, out: Array) -> None:
    """The gradient of `problem` as a Python callable, in the same order of operations."""
    real, dim = theta.dtype, theta.shape[1]
    curvature, scale = np.linspace(0.5, 2.0, dim), np.linspace(1.0, 0.5, dim)
    out[...] = curvature.astype(real) * (theta - real.type(0.3)) + scale.astype(real) * noise


def trace_of(of: sgd.Problem, steps: Any, to_host: ToHost, **options: Any) -> tuple[Array, Array]:
    """Return the iterates before averaging (C, J, d) and after each averaged step, in float64."""
    options = {"num_chains": CHAINS, "seed": 5, **options}
    before = sgd.run(of, steps, BURN_IN, burn_in=0, **options)
    every = sgd.run(
        of, steps, NUM_STEPS, burn_in=BURN_IN, checkpoints=range(1, NUM_STEPS + 1), **options
    )
    return to_host(before.last).astype(float), to_host(every.checkpoint_last).astype(float)


def with_combined(values: Array, weights: Array) -> Array:
    """Append the extrapolated path to paths (..., J, d), unless it is the only one."""
    if values.shape[-2] == 1:
        return values
    combined = weights[..., 0, None] * values[..., 0, :]
    for j in range(1, values.shape[-2]):
        combined = combined + weights[..., j, None] * values[..., j, :]
    return np.concatenate([values, combined[..., None, :]], axis=-2)


def reference(
    start: Array, trace: Array, weights: Array, stride: int, covariance: bool = False
) -> dict[str, Array]:
    """Sum step by step as the definitions say: additions in the order of the steps."""
    sums = np.zeros_like(start)
    squares = np.zeros_like(with_combined(start, weights))
    products, path = np.zeros_like(start), []
    rows, columns = np.tril_indices(start.shape[2])
    second = np.zeros((*squares.shape[:2], len(rows))) if covariance else np.zeros_like(squares)
    for s, iterate in enumerate(trace, 1):
        sums = sums + iterate
        drift = sums - s * start
        squares += with_combined(drift, weights) ** 2
        products += s * drift
        y = with_combined(iterate - start, weights)
        second += y[..., rows] * y[..., columns] if covariance else y * y
        if s % stride == 0:
            path.append(sums)
    return {
        "shift": start,
        "path": np.stack(path, axis=1),
        "squares": squares,
        "products": products,
        "second": second,
    }


def sums_of(run: sgd.SGDResult, to_host: ToHost) -> dict[str, Array]:
    statistics = run.state.statistics
    assert statistics is not None
    values = {name: getattr(statistics, name) for name in CHAIN_ARRAYS}
    return {name: to_host(value) for name, value in values.items() if value is not None}


def assert_same_bits(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].dtype == np.float64
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("full", [False, True])
def test_sums_of_a_trace(
    backend: str, dtype: str, copies: int, full: bool, to_host: ToHost
) -> None:
    """300 averaged steps: stride 4, so the path was thinned twice."""
    steps = STEPS[copies]
    options: dict[str, Any] = {"backend": backend, "dtype": dtype}
    start, trace = trace_of(problem(), steps, to_host, **options)
    names = (*EVERYTHING, "covariance") if full else EVERYTHING
    run = sgd.run(
        problem(),
        steps,
        NUM_STEPS,
        burn_in=BURN_IN,
        num_chains=CHAINS,
        seed=5,
        statistics=names,
        **options,
    )
    expected = reference(start, trace, run.weights, 4, full)
    assert expected["path"].shape[1] == 75
    assert_same_bits(sums_of(run, to_host), expected)
    assert run.state.statistics is not None
    assert run.state.statistics.count == NUM_STEPS


@pytest.mark.parametrize("length", [1, 7, 300])
def test_batches_of_a_chosen_length(backend: str, length: int, to_host: ToHost) -> None:
    start, trace = trace_of(problem(), STEPS[2], to_host, backend=backend)
    run = sgd.run(
        problem(),
        STEPS[2],
        NUM_STEPS,
        burn_in=BURN_IN,
        num_chains=CHAINS,
        seed=5,
        batch_length=length,
        statistics=["batch_means"],
        backend=backend,
    )
    expected = reference(start, trace, run.weights, length)
    found = sums_of(run, to_host)
    assert set(found) == {"shift", "path"}
    assert found["path"].shape == (CHAINS, NUM_STEPS // length, 2, 3)
    np.testing.assert_array_equal(found["path"], expected["path"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slow_path_sums_the_same(dtype: str, to_host: ToHost) -> None:
    options: dict[str, Any] = {
        "burn_in": BURN_IN,
        "num_chains": CHAINS,
        "seed": 5,
        "statistics": (*EVERYTHING, "covariance"),
        "dtype": dtype,
    }
    fast = sgd.run(problem(), STEPS[3], NUM_STEPS, **options)
    slow = sgd.run(sgd.Custom(slow_gradient, 3), STEPS[3], NUM_STEPS, **options)
    assert_same_bits(sums_of(slow, to_host), sums_of(fast, to_host))


def test_step_sizes_of_each_chain(backend: str, to_host: ToHost) -> None:
    """Chain c with its own step sizes has the bits of a run of these step sizes."""
    table = np.array([[0.05, 0.1], [0.2, 0.1], [0.03, 0.3], [0.05, 0.1]])
    options: dict[str, Any] = {
        "burn_in": BURN_IN,
        "seed": 5,
        "statistics": EVERYTHING,
        "backend": backend,
    }
    together = sgd.run(problem(), table, NUM_STEPS, **options)
    np.testing.assert_array_equal(together.step_sizes, table)
    assert to_host(together.mean).shape == (4, 2, 3)
    found = sums_of(together, to_host)
    for chain, steps in enumerate(table):
        alone = sgd.run(problem(), steps, NUM_STEPS, chain_offset=chain, **options)
        for name in ("mean", "extrapolated", "last", "flags"):
            one, other = (to_host(getattr(run, name)) for run in (together, alone))
            np.testing.assert_array_equal(one[chain], other[0], err_msg=name)
        np.testing.assert_array_equal(together.weights[chain], alone.weights)
        for name, values in sums_of(alone, to_host).items():
            np.testing.assert_array_equal(found[name][chain], values[0], err_msg=name)


def test_more_step_sizes_beside_it_change_nothing(to_host: ToHost) -> None:
    options: dict[str, Any] = {"num_chains": CHAINS, "statistics": EVERYTHING, "seed": 5}
    pair = sums_of(sgd.run(problem(), STEPS[2], NUM_STEPS, **options), to_host)
    triple = sums_of(sgd.run(problem(), [*STEPS[2], 0.2], NUM_STEPS, **options), to_host)
    for name in ("shift", "products", "squares", "second"):
        np.testing.assert_array_equal(triple[name][:, :2], pair[name][:, :2], err_msg=name)
    np.testing.assert_array_equal(triple["path"][:, :, :2], pair["path"])


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("length", [None, 16])
@pytest.mark.parametrize("cuts", [[1], [127, 129], [100, 200, 250], [3, 290]])
def test_pieces_equal_one_run(
    backend: str, cuts: list[int], length: int | None, slow: bool, tmp_path: Path, to_host: ToHost
) -> None:
    """run(n) = run(k), save, load, run(n - k), with every statistic, bit for bit."""
    if slow and backend != "cpp":
        pytest.skip("the slow path has no backend")
    of = sgd.Custom(slow_gradient, 3) if slow else problem()
    options: dict[str, Any] = {} if slow else {"backend": backend}
    fresh: dict[str, Any] = {
        "num_chains": CHAINS,
        "burn_in": BURN_IN,
        "seed": 5,
        "step_offset": 2**32 - 100,
        "statistics": (*EVERYTHING, "covariance"),
        "batch_length": length,
        **options,
    }
    whole = sgd.run(of, STEPS[2], NUM_STEPS, **fresh)
    result = sgd.run(of, STEPS[2], cuts[0], **fresh)
    done = cuts[0]
    for number, stop in enumerate([*cuts[1:], NUM_STEPS]):
        state = result.state
        if backend != "cuda":  # files come back as NumPy arrays
            path = tmp_path / f"{number}.npz"
            result.save(path)
            state = sgd.SGDResult.load(path).state
        result = sgd.run(of, STEPS[2], stop - done, state=state, **options)
        done = stop
    assert_same_bits(sums_of(result, to_host), sums_of(whole, to_host))
    assert result.state.statistics is not None
    assert whole.state.statistics is not None
    assert result.state.statistics.stride == whole.state.statistics.stride == (length or 4)
    for one, other in zip(
        result.confidence_interval(method="random_scaling"),
        whole.confidence_interval(method="random_scaling"),
        strict=True,
    ):
        np.testing.assert_array_equal(to_host(one), to_host(other))


def test_state_is_not_touched_by_the_run_that_uses_it(to_host: ToHost) -> None:
    first = sgd.run(problem(), STEPS[2], 200, statistics=EVERYTHING)
    held = {name: values.copy() for name, values in sums_of(first, to_host).items()}
    sgd.run(problem(), STEPS[2], 200, state=first.state)
    assert_same_bits(sums_of(first, to_host), held)


def test_threads_and_executors_change_nothing(threads: int, to_host: ToHost) -> None:
    options: dict[str, Any] = {"num_chains": 41, "seed": 3, "statistics": EVERYTHING}
    table = np.stack([np.linspace(0.02, 0.1, 41), np.linspace(0.3, 0.2, 41)], axis=1)
    expected = sums_of(sgd.run(problem(), table, NUM_STEPS, num_threads=1, **options), to_host)
    threaded = sgd.run(problem(), table, NUM_STEPS, num_threads=threads, **options)
    assert_same_bits(sums_of(threaded, to_host), expected)
    with ThreadPoolExecutor(threads) as executor:
        parts = sgd.run(problem(), table, NUM_STEPS, executor=executor, **options)
    assert_same_bits(sums_of(parts, to_host), expected)
    assert parts.state.statistics is not None
    assert parts.state.statistics.stride == 4


def test_runs_that_stop_early_go_on_with_the_same_batches(to_host: ToHost) -> None:
    """However far they came: the stride depends on the number of averaged steps alone."""
    of = sgd.Custom(slow_gradient, 3)
    options: dict[str, Any] = {"num_chains": CHAINS, "statistics": EVERYTHING, "burn_in": 5}
    stopped = sgd.run(of, STEPS[2], 10**6, max_seconds=0.2, **options)
    count = stopped.num_steps
    assert 0 < count < 10**6
    assert stopped.state.statistics is not None
    stride = stopped.state.statistics.stride
    assert stride == 1 or count > 64 * stride
    assert count <= 128 * stride
    assert stopped.state.statistics.path.shape[1] == count // stride
    went_on = sgd.run(of, STEPS[2], 17, state=stopped.state)
    at_once = sgd.run(of, STEPS[2], count + 17, **options)
    assert_same_bits(sums_of(went_on, to_host), sums_of(at_once, to_host))


@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
def test_frozen_copies_go_on_being_summed(backend: str, to_host: ToHost) -> None:
    """One copy leaves its range, and its sums are those of an iterate that stays where it is."""
    of = sgd.Quadratic([1.0], 0.0, 1.0, divergence_limit=0.65)
    run = sgd.run(
        of,
        STEPS[2],
        200,
        burn_in=0,
        num_chains=40,
        seed=1,
        statistics=EVERYTHING,
        backend=backend,
        batch_length=1,
    )
    flags = to_host(run.flags) != 0
    assert flags.any(axis=1).any()
    assert not flags.any(axis=1).all()
    sums = sums_of(run, to_host)
    trace = np.diff(sums["path"], axis=1, prepend=0.0)
    last = to_host(run.last)
    at = to_host(run.diverged_at)
    for chain, j in zip(*np.nonzero(flags), strict=True):
        rest = trace[chain, at[chain, j] :, j]
        np.testing.assert_allclose(rest, np.broadcast_to(last[chain, j], rest.shape), atol=1e-12)
    second = (with_combined(trace, run.weights) ** 2).sum(axis=1)
    np.testing.assert_allclose(sums["second"], second, rtol=1e-9)


def test_default_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ("mean", "batch_means", "random_scaling")
    assert sgd.run(problem(), 0.1, 200).state.statistics_names == both
    size = 8 * 4 * 2 * 3 * 128
    monkeypatch.setattr(_setup_statistics, "_DEFAULT_PATH_BYTES", size)
    run = sgd.run(problem(), STEPS[2], 128, num_chains=4)
    assert run.state.statistics_names == both
    run = sgd.run(problem(), STEPS[2], 128, num_chains=5)
    assert run.state.statistics_names == ("mean", "random_scaling")
    run = sgd.run(problem(), STEPS[2], 128, num_chains=5, batch_length=1)
    assert run.state.statistics_names == both
    run = sgd.run(problem(), STEPS[2], 128, statistics=["mean"])
    assert run.state.statistics_names == ("mean",)
    assert run.state.statistics is None


def test_statistics_do_not_change_the_run(backend: str, to_host: ToHost) -> None:
    options: dict[str, Any] = {"num_chains": 33, "seed": 2, "backend": backend}
    bare = sgd.run(problem(), STEPS[2], NUM_STEPS, statistics=["mean"], **options)
    full = sgd.run(
        problem(), STEPS[2], NUM_STEPS, statistics=(*EVERYTHING, "covariance"), **options
    )
    for name in ("mean", "extrapolated", "last"):
        one, other = (to_host(getattr(run, name)) for run in (bare, full))
        np.testing.assert_array_equal(one, other)
