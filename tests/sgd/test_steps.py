"""Every problem against the NumPy loop, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hotloops import sgd
from tests.sgd import reference

STEP_SIZES = [0.05, 0.02, 0.11]
NUM_CHAINS = 19  # fills no pack of any instruction set
# Chains and steps begin where the counter's words carry over.
OFFSETS = [{}, {"chain_offset": 2**31 + 5, "step_offset": 2**32 - 3}]

generator = np.random.default_rng(11)


def spd(dim: int) -> np.ndarray[Any, Any]:
    factor = generator.normal(size=(dim, dim))
    return factor @ factor.T / dim + np.eye(dim)


def run_both(
    problem: sgd.Problem,
    gradient: reference.Gradient,
    dtype: str,
    backend: str,
    offsets: dict[str, int],
    *,
    num_steps: int = 6,
    burn_in: int = 3,
    tolerance: float = 1e-13,
) -> None:
    shape = (NUM_CHAINS, len(STEP_SIZES), problem.dim)
    theta0 = np.random.default_rng(3).normal(size=shape).astype(dtype)
    steps = np.array(STEP_SIZES, dtype).astype(np.float64)
    common = {"num_steps": num_steps, "burn_in": burn_in, "seed": 2**40 + 9, **offsets}
    mean, last = reference.simulate(gradient, steps, theta0, dtype=dtype, **common)  # type: ignore[arg-type]
    result = sgd.run(
        problem,
        STEP_SIZES,
        num_chains=NUM_CHAINS,
        theta0=theta0,
        dtype=dtype,
        backend=backend,
        statistics=["mean"],
        **common,  # type: ignore[arg-type]
    )
    assert result.last.dtype == dtype
    assert result.mean.dtype == np.float64
    bound = tolerance if dtype == "float64" else 2e-6
    np.testing.assert_allclose(result.last, last, rtol=bound, atol=bound)
    np.testing.assert_allclose(result.mean, mean, rtol=bound, atol=bound)
    weights = sgd.richardson_romberg_weights(STEP_SIZES)
    np.testing.assert_allclose(
        result.extrapolated,
        np.einsum("cjd,j->cd", result.mean, weights),
        rtol=1e-12,
        atol=1e-12,
    )
    assert result.flags.dtype == np.uint8
    assert not result.flags.any()
    assert (result.diverged_at == -1).all()


# Burn-ins of a few steps are too short on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning"),
    pytest.mark.parametrize("dtype", ["float32", "float64"]),
    pytest.mark.parametrize("offsets", OFFSETS, ids=["origin", "far"]),
]


@pytest.fixture(params=["cpp", "numba"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 8, 17])
def test_quadratic(backend: str, dtype: str, offsets: dict[str, int], dim: int) -> None:
    curvature = np.linspace(0.5, 2.0, dim)
    minimizer, scale = generator.normal(size=dim), np.linspace(0.0, 1.5, dim)
    problem = sgd.Quadratic(curvature, minimizer, scale)
    assert problem.kernel == "quadratic"
    run_both(problem, reference.quadratic(curvature, minimizer, scale), dtype, backend, offsets)


@pytest.mark.parametrize("dim", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("form", ["both", "matrix", "cholesky"])
def test_quadratic_full(
    backend: str, dtype: str, offsets: dict[str, int], dim: int, form: str
) -> None:
    matrix = np.diag(np.linspace(0.5, 2.0, dim)) if form == "cholesky" else spd(dim)
    factor = np.tril(generator.normal(size=(dim, dim)))
    minimizer = generator.normal(size=dim)
    curvature = np.diag(matrix).copy() if form == "cholesky" else matrix
    if form == "matrix":
        scale = np.linspace(0.2, 1.0, dim)
        problem = sgd.Quadratic(curvature, minimizer, scale)
        factor = np.diag(scale)
    else:
        problem = sgd.Quadratic(curvature, minimizer, cholesky=factor)
    assert problem.kernel == "quadratic_full"
    gradient = reference.quadratic_full(matrix, minimizer, factor)
    run_both(problem, gradient, dtype, backend, offsets)


@pytest.mark.parametrize(("phi", "sigma", "dim"), [(0.0, 1.0, 1), (1.0, 0.5, 3), (-700.5, 2.0, 6)])
def test_cosine(
    backend: str, dtype: str, offsets: dict[str, int], phi: float, sigma: float, dim: int
) -> None:
    if dtype == "float32":
        phi = phi % 7  # theta + phi itself is rounded to 3e-5 where phi is in the hundreds
    run_both(sgd.Cosine(phi, sigma, dim), reference.cosine(phi, sigma), dtype, backend, offsets)


LOSSES: list[tuple[Any, Any]] = [
    (sgd.LeastSquares, reference.least_squares_residual),
    (sgd.Logistic, reference.logistic_residual),
]


@pytest.mark.parametrize(("loss", "residual"), LOSSES, ids=["least_squares", "logistic"])
@pytest.mark.parametrize("sampling", ["iid", "sequential"])
@pytest.mark.parametrize(
    ("num_rows", "dim", "batch_size", "l2"),
    [(1, 1, 1, 0.0), (7, 3, 1, 0.1), (50, 4, 2, 0.0), (50, 9, 5, 0.01), (3, 6, 8, 0.5)],
)
def test_losses(
    backend: str,
    dtype: str,
    offsets: dict[str, int],
    loss: Any,
    residual: Any,
    sampling: str,
    num_rows: int,
    dim: int,
    batch_size: int,
    l2: float,
) -> None:
    features = generator.normal(size=(num_rows, dim)).astype(dtype) / np.sqrt(dim, dtype=dtype)
    targets = (generator.uniform(size=num_rows) < 0.5).astype(dtype)
    if loss is sgd.LeastSquares:
        targets = generator.normal(size=num_rows).astype(dtype)
    problem = loss(features, targets, l2, batch_size=batch_size, sampling=sampling)
    first = offsets.get("chain_offset", 0)
    chains = np.arange(first, first + NUM_CHAINS)

    def rows(step: int) -> reference.Rows:
        if sampling == "iid":
            return reference.iid_rows(2**40 + 9, step, chains, num_rows, batch_size)
        return reference.sequential_rows(step, NUM_CHAINS, num_rows, batch_size)

    gradient = reference.rows_gradient(
        residual,
        features.astype(np.float64),
        targets.astype(np.float64),
        float(np.dtype(dtype).type(l2)),
        rows,
    )
    run_both(problem, gradient, dtype, backend, offsets)


@pytest.mark.parametrize("sampling", ["iid", "sequential"])
@pytest.mark.parametrize("batch_size", [1023, 1024, 1025, 3000])
def test_large_batches(
    backend: str, dtype: str, offsets: dict[str, int], sampling: str, batch_size: int
) -> None:
    """Drivers draw the rows of a large batch in parts."""
    features = generator.normal(size=(700, 2)).astype(dtype)
    targets = generator.normal(size=700).astype(dtype)
    problem = sgd.LeastSquares(features, targets, batch_size=batch_size, sampling=sampling)
    first = offsets.get("chain_offset", 0)

    def rows(step: int) -> reference.Rows:
        if sampling == "iid":
            chains = np.arange(first, first + NUM_CHAINS)
            return reference.iid_rows(2**40 + 9, step, chains, 700, batch_size)
        return reference.sequential_rows(step, NUM_CHAINS, 700, batch_size)

    gradient = reference.rows_gradient(
        reference.least_squares_residual,
        features.astype(np.float64),
        targets.astype(np.float64),
        0.0,
        rows,
    )
    run_both(problem, gradient, dtype, backend, offsets, num_steps=3, burn_in=1)


def test_labels_of_both_kinds(backend: str, dtype: str, offsets: dict[str, int]) -> None:
    features = generator.normal(size=(30, 4)).astype(dtype)
    labels = generator.integers(0, 2, 30)

    def last(y: Any) -> Any:
        problem = sgd.Logistic(features, y, 0.1)
        options: dict[str, Any] = {"num_chains": 5, "statistics": ["mean"], **offsets}
        return sgd.run(problem, 0.1, 20, backend=backend, **options).last

    expected = last(labels)
    for kind in (np.float32, np.float64, np.int8):
        np.testing.assert_array_equal(last(labels.astype(kind)), expected)
        np.testing.assert_array_equal(last((2 * labels - 1).astype(kind)), expected)
    np.testing.assert_array_equal(last(labels.tolist()), expected)


def test_shapes_of_theta0(backend: str, dtype: str, offsets: dict[str, int]) -> None:
    problem = sgd.Quadratic([1.0, 2.0, 0.5], 0.25)
    starts = np.random.default_rng(8).normal(size=(6, 2, 3)).astype(dtype)
    starts[:, 1] = starts[:, 0]

    def last(theta0: Any, **options: Any) -> Any:
        return sgd.run(
            problem,
            [0.1, 0.2],
            7,
            num_chains=6,
            theta0=theta0,
            backend=backend,
            statistics=["mean"],
            **offsets,
            **options,
        ).last

    expected = last(starts)
    assert expected.dtype == dtype
    np.testing.assert_array_equal(last(starts[:, 0]), expected)
    listed = last(starts[:, 0].tolist(), dtype=dtype)
    np.testing.assert_array_equal(listed, expected)
    same = np.broadcast_to(starts[:1, :1], starts.shape)
    np.testing.assert_array_equal(last(starts[0, 0]), last(same))
    zero = last(None, dtype=dtype)
    np.testing.assert_array_equal(zero, last(np.zeros(3, dtype)))


Build = Callable[[], sgd.Problem]


@pytest.mark.parametrize(
    "build",
    [
        lambda: sgd.Quadratic([1.0, 2.0], 0.5),
        lambda: sgd.Cosine(1.0, 1.0, 2),
        lambda: sgd.LeastSquares(np.eye(2), [1.0, 2.0]),
    ],
)
def test_checkpoints(backend: str, dtype: str, offsets: dict[str, int], build: Build) -> None:
    """Copies at some steps equal the results of shorter runs."""
    options: dict[str, Any] = {
        "burn_in": 5,
        "num_chains": 3,
        "seed": 4,
        "dtype": dtype,
        "backend": backend,
        "statistics": ["mean"],
        **offsets,
    }
    whole = sgd.run(build(), [0.1, 0.2], 20, checkpoints=[1, 2, 7, 20], **options)
    assert whole.checkpoints == (1, 2, 7, 20)
    assert whole.checkpoint_mean.shape == (4, 3, 2, 2)
    for k, stop in enumerate(whole.checkpoints):
        short = sgd.run(build(), [0.1, 0.2], stop, **options)
        np.testing.assert_array_equal(whole.checkpoint_mean[k], short.mean)
        np.testing.assert_array_equal(whole.checkpoint_last[k], short.last)
    np.testing.assert_array_equal(whole.checkpoint_mean[-1], whole.mean)
    plain = sgd.run(build(), [0.1, 0.2], 20, **options)
    np.testing.assert_array_equal(plain.mean, whole.mean)
    assert plain.checkpoint_mean.shape == (0, 3, 2, 2)
