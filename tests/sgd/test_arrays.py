"""Arrays of other libraries in and out, `out=`, and which precision a run takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import random, sgd

FIELDS = (
    "mean",
    "extrapolated",
    "last",
    "flags",
    "diverged_at",
    "checkpoint_mean",
    "checkpoint_last",
)

generator = np.random.default_rng(12)
FEATURES = generator.normal(size=(30, 3))
TARGETS = generator.normal(size=30)

pytestmark = pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")


def run(problem: sgd.Problem, **options: Any) -> sgd.SGDResult:
    return sgd.run(problem, [0.01, 0.03], 20, num_chains=5, checkpoints=[3], seed=1, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    features, targets = FEATURES.astype(dtype), TARGETS.astype(dtype)
    expected = run(sgd.LeastSquares(features, targets, 0.1))
    tensor = torch.from_numpy(features.copy())
    problem = sgd.LeastSquares(tensor, torch.from_numpy(targets), 0.1)
    assert np.shares_memory(problem.parameters(np.dtype(dtype), np)[0], tensor.numpy())
    found = run(problem)
    for name in FIELDS:
        value = getattr(found, name)
        assert isinstance(value, torch.Tensor), name
        np.testing.assert_array_equal(value.numpy(), getattr(expected, name), err_msg=name)
    assert isinstance(found.weights, np.ndarray)
    assert isinstance(found.valid, np.ndarray)
    assert np.shares_memory(found.last.numpy(), found.state.arrays.theta)
    for method in ("minimizer", "hessian", "noise_covariance", "optimal_covariance"):
        value = getattr(problem, method)()
        assert isinstance(value, torch.Tensor)
        assert value.dtype == torch.float64
        host = getattr(sgd.LeastSquares(features, targets, 0.1), method)()
        np.testing.assert_array_equal(value.numpy(), host)
    again = sgd.run(problem, [0.01, 0.03], 5, state=found.state)
    assert isinstance(again.mean, torch.Tensor)


def test_torch_start_and_out(tmp_path: Any) -> None:
    torch = pytest.importorskip("torch")
    problem = sgd.Quadratic([1.0, 2.0, 0.5], 0.1)
    theta0 = torch.full((3,), 0.5, dtype=torch.float64)
    out = torch.zeros((5, 2, 3), dtype=torch.float64)
    found = run(problem, theta0=theta0, out=out)
    assert found.mean is out
    assert isinstance(found.last, torch.Tensor)
    expected = run(problem, theta0=np.full(3, 0.5))
    np.testing.assert_array_equal(out.numpy(), expected.mean)
    assert (theta0 == 0.5).all()
    only_out = run(problem, theta0=np.full(3, 0.5), out=torch.zeros_like(out))
    assert isinstance(only_out.extrapolated, torch.Tensor)
    found.save(tmp_path / "run.npz")
    loaded = sgd.SGDResult.load(tmp_path / "run.npz")
    np.testing.assert_array_equal(loaded.mean, expected.mean)
    combined = sgd.extrapolate(out, [0.01, 0.03])
    assert isinstance(combined, torch.Tensor)
    np.testing.assert_array_equal(combined.numpy(), expected.extrapolated)


def test_torch_that_cannot_be_used() -> None:
    torch = pytest.importorskip("torch")
    problem = sgd.Quadratic([1.0, 2.0, 0.5], 0.1)
    with pytest.raises(TypeError, match=r"^run: `out` must have dtype float64, got float32$"):
        run(problem, out=torch.zeros((5, 2, 3)))
    with pytest.raises(ValueError, match=r"^run: `out` must have shape \(5, 2, 3\), got \(5, 6\)$"):
        run(problem, out=torch.zeros((5, 6), dtype=torch.float64))
    with pytest.raises(ValueError, match=r"^run: `out` must be C-contiguous and aligned, got"):
        run(problem, out=torch.zeros((3, 2, 5), dtype=torch.float64).permute(2, 1, 0))
    with pytest.raises(TypeError, match=r"^run: `theta0` must not require a gradient"):
        run(problem, theta0=torch.zeros(3, requires_grad=True))
    with pytest.raises(TypeError, match=r"^run: `theta0` must have dtype float32 or float64, got"):
        run(problem, theta0=torch.zeros(3, dtype=torch.bfloat16))
    with pytest.raises(TypeError, match=r"^Quadratic: `a_or_A` must be an array of real numbers"):
        sgd.Quadratic(torch.ones(3, dtype=torch.complex64), 0.0)
    memory = torch.zeros((5, 2, 3), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^run: `out` must not overlap `theta0` in memory"):
        run(problem, theta0=memory, out=memory)


def test_jax() -> None:
    """JAX arrays are read-only and, by its default, of 32 bits."""
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    features, targets = FEATURES.astype(np.float32), TARGETS.astype(np.float32)
    problem = sgd.LeastSquares(jnp.asarray(features), jnp.asarray(targets), 0.1)
    assert problem.dtype == np.float32
    expected = run(sgd.LeastSquares(features, targets, 0.1))
    found = run(problem)
    for name in ("mean", "last", "extrapolated"):
        value = getattr(found, name)
        assert isinstance(value, jax.Array), name
        np.testing.assert_allclose(np.asarray(value), getattr(expected, name), rtol=1e-6)
    assert found.last.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(found.last), expected.last)
    with jax.enable_x64(True):
        out = jnp.zeros((5, 2, 3), dtype="float64")
    with pytest.raises(ValueError, match=r"^run: `out` must be writable, got a read-only array$"):
        run(problem, out=out)


def test_mixed_host_libraries() -> None:
    """NumPy and torch may be mixed; the first that is not NumPy's is the answer's."""
    torch = pytest.importorskip("torch")
    problem = sgd.LeastSquares(FEATURES, torch.from_numpy(TARGETS), 0.1)
    assert isinstance(run(problem).mean, torch.Tensor)
    plain = sgd.LeastSquares(FEATURES, TARGETS, 0.1)
    assert isinstance(run(plain, theta0=torch.zeros(3, dtype=torch.float64)).mean, torch.Tensor)
    assert isinstance(run(plain, theta0=np.zeros(3)).mean, np.ndarray)


def test_subclasses_and_other_carriers(tmp_path: Any) -> None:
    """Matrices, memory maps and anything with ``__array__`` count as NumPy arrays."""
    expected = run(sgd.LeastSquares(FEATURES, TARGETS, 0.1))
    path = tmp_path / "features.npy"
    np.save(path, FEATURES)

    class Carrier:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return FEATURES

    for features in (np.load(path, mmap_mode="r"), FEATURES.view(np.matrix), Carrier()):
        found = run(sgd.LeastSquares(features, TARGETS, 0.1))
        assert type(found.mean) is np.ndarray
        np.testing.assert_array_equal(found.mean, expected.mean)


PRECISIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "float64"),
    ({"dtype": "float32"}, "float32"),
    ({"dtype": np.float32}, "float32"),
    ({"dtype": "f8"}, "float64"),
    ({"theta0": [0.0, 0.0]}, "float64"),
    ({"theta0": np.zeros(2, np.float32)}, "float32"),
    ({"theta0": np.zeros(2, np.int64)}, "float64"),
    ({"theta0": [0, 1], "dtype": "float32"}, "float32"),
    ({"theta0": np.zeros(2, np.int8), "dtype": "float32"}, "float32"),
]


@pytest.mark.parametrize(("options", "expected"), PRECISIONS)
def test_precision_of_a_run(options: dict[str, Any], expected: str) -> None:
    """That of `dtype`, else of `theta0`, else of the problem's arrays, else float64."""
    result = run(sgd.Quadratic([1.0, 2.0], 0.0), **options)
    assert result.last.dtype == expected
    assert result.mean.dtype == np.float64
    assert result.checkpoint_mean.dtype == np.float64
    assert result.checkpoint_last.dtype == expected
    assert result.extrapolated.dtype == np.float64


def test_precision_of_problems() -> None:
    single = np.float32
    assert sgd.Quadratic(np.ones(2, single), 0.0).dtype == np.float32
    assert sgd.Quadratic(np.ones(2, single), np.zeros(2)).dtype == np.float64
    assert sgd.Quadratic([1.0, 2.0], [0.0, 0.0]).dtype is None
    assert sgd.Cosine().dtype is None
    assert sgd.LeastSquares(FEATURES.astype(single), TARGETS).dtype == np.float32
    assert sgd.LeastSquares(FEATURES.tolist(), TARGETS).dtype == np.float64
    problem = sgd.LeastSquares(FEATURES.astype(single), TARGETS.astype(single), 0.1)
    assert run(problem).last.dtype == np.float32
    assert run(problem, dtype="float64").last.dtype == np.float64


def test_averages_of_float32_are_exact() -> None:
    """Means are sums in float64 of float32 iterates, not float32 sums that lose digits."""
    problem = sgd.Quadratic([1.0], 1000.0, 0.001)
    count = 20_000
    result = sgd.run(
        problem,
        0.1,
        count,
        burn_in=200,
        theta0=[1000.0],
        dtype="float32",
        seed=3,
        checkpoints=range(1, count + 1),
    )
    path = result.checkpoint_last[:, 0, 0, 0]
    assert path.dtype == np.float32
    exact = path.astype(np.float64).sum() / count
    assert result.mean[0, 0, 0] == pytest.approx(exact, rel=1e-14)
    careless = float(np.cumsum(path, dtype=np.float32)[-1]) / count
    assert abs(careless - exact) > 1e-6, "float32 sums would be seen"


def test_out_is_reused() -> None:
    problem = sgd.Cosine(1.0, 1.0, 3)
    out = np.full((5, 2, 3), np.nan)
    first = run(problem, out=out)
    assert first.mean is out
    expected = run(problem)
    np.testing.assert_array_equal(out, expected.mean)
    np.testing.assert_array_equal(first.extrapolated, expected.extrapolated)
    second = sgd.run(problem, [0.01, 0.03], 20, state=first.state, out=out)
    assert second.mean is out
    whole = sgd.run(problem, [0.01, 0.03], 40, burn_in=20, num_chains=5, seed=1)
    np.testing.assert_array_equal(out, whole.mean)


def test_answers_own_their_memory() -> None:
    """What a user does to a result reaches neither the problem nor other results."""
    theta0 = np.zeros(3)
    problem = sgd.LeastSquares(FEATURES, TARGETS, 0.1)
    first, second = run(problem, theta0=theta0), run(problem, theta0=theta0)
    for name in FIELDS:
        assert not np.shares_memory(getattr(first, name), getattr(second, name))
        assert not np.shares_memory(getattr(first, name), theta0)
        getattr(first, name)[...] = 0
    np.testing.assert_array_equal(second.mean, run(problem).mean)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_numbers_into_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    out = torch.zeros((2, 3, 4), dtype=getattr(torch, dtype))
    assert random.normals(7, 2, 3, 4, dtype=dtype, out=out) is out
    np.testing.assert_array_equal(out.numpy(), random.normals(7, 2, 3, 4, dtype=dtype))
    words = random.philox(torch.arange(4), torch.arange(2))
    assert isinstance(words, torch.Tensor)
    np.testing.assert_array_equal(words.numpy(), random.philox([0, 1, 2, 3], [0, 1]))
