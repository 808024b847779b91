"""Laws of additive noise: against NumPy, their moments and tails, what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from hotloops import random, sgd
from tests.random.reference import words
from tests.sgd import reference

Float64 = npt.NDArray[np.float64]

TABLE = np.array([-3.0, -0.5, 0.25, 1.25, 2.0])
LAWS: dict[str, Any] = {
    "gaussian": "gaussian",
    "uniform": "uniform",
    "rademacher": "rademacher",
    "laplace": "laplace",
    "student_t 5": sgd.StudentT(5.0),
    "student_t 40": sgd.StudentT(40),
    "none": "none",
    "table": TABLE,
}


def uniform(word: npt.NDArray[np.uint64]) -> Float64:
    return (2.0 * word.astype(np.float64) + 1.0) * 2.0**-33


def draw(name: str, seed: int, step: int, chains: Any, dim: int) -> Float64:
    """Noise of one step, (chains, dim), written from the definitions."""
    coordinate = np.arange(dim)
    chain = np.asarray(chains)[:, None]

    def of(stream: int) -> npt.NDArray[np.uint64]:
        block = words(seed, step, chain, coordinate // 4, stream)
        index = np.broadcast_to(coordinate % 4, block.shape[:2])[..., None]
        return np.take_along_axis(block, index, axis=2)[..., 0]

    word = of(0)
    top = (word >> np.uint64(31)).astype(bool)
    if name == "gaussian":
        normals: Float64 = random.normals(seed, [step], chains, dim)[0]
        return normals
    if name == "uniform":
        return (2 * uniform(word) - 1) * np.sqrt(3)
    if name == "rademacher":
        return np.where(top, -1.0, 1.0)
    if name == "laplace":
        size = -np.log(uniform((word << np.uint64(1)) & np.uint64(2**32 - 1))) / np.sqrt(2)
        return np.where(top, -size, size)
    if name == "none":
        return np.zeros(word.shape)
    if name == "table":
        return TABLE[(word * np.uint64(TABLE.size)) >> np.uint64(32)]
    df = float(name.split()[1])
    radius = np.sqrt(df * (uniform(word) ** (-2 / df) - 1))
    turn = np.cos(2 * np.pi * of(2).astype(np.float64) * 2.0**-32)
    return np.sqrt((df - 2) / df) * radius * turn


@pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")
@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("kind", ["quadratic", "full", "cosine"])
@pytest.mark.parametrize("name", list(LAWS))
def test_kernel_against_the_loop(name: str, kind: str, backend: str) -> None:
    dim, num_chains, seed, chain_offset, step_offset = 6, 19, 2**40 + 9, 2**31 + 5, 2**32 - 3
    chains = np.arange(num_chains) + chain_offset
    rng = np.random.default_rng(2)
    scale, center = rng.uniform(0.5, 2, dim), rng.normal(size=dim)
    factor = np.tril(rng.normal(size=(dim, dim)))
    curvature = rng.uniform(0.5, 2, dim)
    problem: sgd.Problem
    if kind == "quadratic":
        problem = sgd.Quadratic(curvature, center, scale, noise=LAWS[name])
        inner = reference.quadratic(curvature, center, scale)
    elif kind == "full":
        problem = sgd.Quadratic(curvature, center, cholesky=factor, noise=LAWS[name])
        inner = reference.quadratic_full(np.diag(curvature), center, factor)
    else:
        problem = sgd.Cosine(0.75, 1.25, dim, noise=LAWS[name])
        inner = reference.cosine(0.75, 1.25)

    def gradient(theta: Float64, step: int, noise: Float64) -> Float64:
        return inner(theta, step, draw(name, seed, step, chains, dim))

    theta0 = rng.normal(size=(num_chains, 3, dim))
    common: dict[str, Any] = {
        "num_steps": 8,
        "burn_in": 2,
        "seed": seed,
        "chain_offset": chain_offset,
        "step_offset": step_offset,
    }
    steps = [0.05, 0.02, 0.11]
    mean, last = reference.simulate(gradient, steps, theta0, **common)
    common |= {"num_chains": num_chains, "backend": backend, "statistics": ["mean"]}
    run = sgd.run(problem, steps, theta0=theta0, **common)
    np.testing.assert_allclose(run.last, last, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(run.mean, mean, rtol=1e-12, atol=1e-12)


def sample(name: str, dtype: str, count: int = 250_000) -> Float64:
    """Noise as a chain sees it: one step of size 1 from the minimiser."""
    problem = sgd.Quadratic(np.full(4, 0.5), 0.0, noise=LAWS[name])
    run = sgd.run(problem, 1.0, 1, burn_in=0, num_chains=count, seed=99, dtype=dtype)
    values: Float64 = -run.last.astype(np.float64)[:, 0].ravel()
    return values


FOURTH = {"uniform": 1.8, "rademacher": 1.0, "laplace": 6.0, "student_t 40": 3 + 6 / 36}
DISTRIBUTIONS: dict[str, Callable[[Float64], Float64]] = {
    "gaussian": stats.norm.cdf,
    "uniform": stats.uniform(-np.sqrt(3), 2 * np.sqrt(3)).cdf,
    "laplace": stats.laplace(scale=np.sqrt(0.5)).cdf,
    "student_t 5": stats.t(5, scale=np.sqrt(3 / 5)).cdf,
    "student_t 40": stats.t(40, scale=np.sqrt(38 / 40)).cdf,
}


@pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(LAWS))
def test_moments_and_tails(name: str, dtype: str) -> None:
    """A million draws: mean 0 and variance within 4.5 standard errors, the law by its cdf."""
    values = sample(name, dtype)
    n = values.size
    if name == "none":
        assert not values.any()
        return
    variance = (TABLE**2).mean() if name == "table" else 1.0
    assert abs(values.mean()) < 4.5 * np.sqrt(variance / n)
    assert abs((values**2).mean() - variance) <= 4.5 * (values**2).std() / np.sqrt(n) + 1e-6
    if name in FOURTH:
        error = (values**4).std() / np.sqrt(n)
        assert abs((values**4).mean() - FOURTH[name]) <= 4.5 * error + 1e-6
    if name in DISTRIBUTIONS:
        assert stats.kstest(values, DISTRIBUTIONS[name]).pvalue > 1e-4
    if name == "rademacher":
        np.testing.assert_array_equal(np.unique(values), [-1.0, 1.0])
    if name == "table":
        found, counts = np.unique(values, return_counts=True)
        np.testing.assert_array_equal(found, TABLE)
        assert np.abs(counts - n / 5).max() < 4.5 * np.sqrt(n * 0.2 * 0.8)
    # Coordinates of one chain are uncorrelated, in sign and in size.
    of_chain = values.reshape(-1, 4)
    for moments in (of_chain, of_chain**2 - variance):
        if moments.any():
            correlations = np.corrcoef(moments.T)[np.triu_indices(4, 1)]
            assert np.abs(correlations[np.isfinite(correlations)]).max() < 4.5 / np.sqrt(n / 4)


@pytest.mark.parametrize("name", ["student_t 5", "laplace"])
def test_far_tails(name: str) -> None:
    """What makes a law heavy: the share beyond four and six standard deviations."""
    law = {
        "student_t 5": stats.t(5, scale=np.sqrt(3 / 5)),
        "laplace": stats.laplace(scale=0.5**0.5),
    }
    problem = sgd.Quadratic(np.full(4, 0.5), 0.0, noise=LAWS[name])
    with pytest.warns(RuntimeWarning, match="burn_in"):
        run = sgd.run(problem, 1.0, 1, burn_in=0, num_chains=250_000, seed=5)
    values = np.abs(run.last)
    for edge in (4.0, 6.0):
        share = 2 * float(law[name].sf(edge))
        assert abs((values > edge).sum() - share * 1e6) < 4.5 * np.sqrt(share * 1e6)


def test_covariances_follow_the_law() -> None:
    factor = np.array([[1.0, 0.0], [0.3, 0.7]])
    for noise in LAWS.values():
        variance = 1.0
        if isinstance(noise, np.ndarray):
            variance = float((TABLE**2).mean())
        elif noise == "none":
            variance = 0.0
        diagonal = sgd.Quadratic([1.0, 2.0], 0.0, [0.5, 2.0], noise=noise)
        full = sgd.Quadratic([1.0, 2.0], 0.0, cholesky=factor, noise=noise)
        cosine = sgd.Cosine(0.0, 0.5, 2, noise=noise)
        for problem, expected in (
            (diagonal, np.diag([0.25, 4.0])),
            (full, factor @ factor.T),
            (cosine, np.eye(2) / 4),
        ):
            np.testing.assert_allclose(problem.noise_covariance(), variance * expected, rtol=1e-15)


def test_gaussian_is_the_default() -> None:
    problem = sgd.Quadratic([1.0, 2.0], 0.0)
    named = sgd.Quadratic([1.0, 2.0], 0.0, noise="gaussian")
    runs = [sgd.run(p, [0.1, 0.2], 50, num_chains=5, seed=4) for p in (problem, named)]
    np.testing.assert_array_equal(runs[0].last, runs[1].last)


def test_without_noise_the_chain_is_gradient_descent() -> None:
    problem = sgd.Quadratic([1.0, 2.0], 0.25, noise="none")
    run = sgd.run(problem, 0.1, 60, burn_in=60, theta0=[1.0, 1.0])
    expected = 0.25 + 0.75 * (1 - 0.1 * np.array([1.0, 2.0])) ** 120
    np.testing.assert_allclose(run.last[0, 0], expected, rtol=1e-12)


def test_repr_names_the_law() -> None:
    texts = [repr(sgd.Cosine(noise=noise)) for noise in ("laplace", sgd.StudentT(6), TABLE)]
    assert [text.rpartition("noise=")[2] for text in texts] == [
        "'laplace')",
        "StudentT(6))",
        "a table of 5)",
    ]
    assert sgd.StudentT(6) == sgd.StudentT(6.0)


def test_a_table_is_copied() -> None:
    table = TABLE.copy()
    problem = sgd.Quadratic([1.0], 0.0, noise=table)
    table[...] = np.nan
    np.testing.assert_allclose(problem.noise_covariance(), [[(TABLE**2).mean()]])


WORDS = (
    "be one of 'gaussian', 'uniform', 'rademacher', 'laplace', 'none', a StudentT or a table of "
    "values, got"
)
REAL = "be an array of real numbers, got"
CENTRED = "have mean zero to 1e-06 of its root mean square, got a mean of"
BAD: list[tuple[Any, type[Exception], str]] = [
    ("normal", ValueError, f"{WORDS} 'normal'"),
    ("table", ValueError, f"{WORDS} 'table'"),
    ("student_t", ValueError, f"{WORDS} 'student_t'"),
    ("", ValueError, f"{WORDS} ''"),
    (None, TypeError, f"{REAL} None"),
    (True, TypeError, f"{REAL} dtype bool"),
    ({}, TypeError, f"{REAL} a dict of length 0"),
    (["a", "b"], TypeError, f"{REAL} dtype <U1"),
    (1.0, ValueError, "have shape (m,), got ()"),
    ([[1.0, -1.0]], ValueError, "have shape (m,), got (1, 2)"),
    ([], ValueError, "not be empty, got shape (0,)"),
    ([0.0], ValueError, "have 2 to 1048576 values, got 1"),
    (np.zeros(2**20 + 1), ValueError, "have 2 to 1048576 values, got 1048577"),
    ([1.0, -1.0, np.nan], ValueError, "be finite, got nan at index (2,)"),
    ([np.inf, -1.0], ValueError, "be finite, got inf at index (0,)"),
    ([1.0, 2.0], ValueError, f"{CENTRED} 1.5 where the root mean square is 1.58114"),
    ([1.0, -1.00001], ValueError, f"{CENTRED} -5e-06 where the root mean square is 1.00001"),
]


@pytest.mark.parametrize("make", [lambda n: sgd.Quadratic([1.0], 0.0, noise=n), None])
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: str(bad[0])[:12])
def test_bad_laws(bad: tuple[Any, type[Exception], str], make: Any) -> None:
    noise, kind, text = bad
    name = "Cosine" if make is None else "Quadratic"
    with pytest.raises(kind, match="^" + re.escape(f"{name}: `noise` must {text}") + "$"):
        (make or (lambda n: sgd.Cosine(noise=n)))(noise)


DF = "be a finite number in (4.0, 1000.0], got"


@pytest.mark.parametrize(
    ("df", "kind", "text"),
    [
        (4, ValueError, f"{DF} 4"),
        (3.0, ValueError, f"{DF} 3.0"),
        (-5.0, ValueError, f"{DF} -5.0"),
        (1001.0, ValueError, f"{DF} 1001.0"),
        (np.inf, ValueError, f"{DF} inf"),
        (np.nan, ValueError, f"{DF} nan"),
        ("5", TypeError, f"{DF} '5'"),
        (None, TypeError, f"{DF} None"),
        (True, TypeError, f"{DF} True"),
    ],
)
def test_bad_degrees_of_freedom(df: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match="^" + re.escape(f"StudentT: `df` must {text}") + "$"):
        sgd.StudentT(df)


def test_table_beyond_the_precision_of_the_run() -> None:
    problem = sgd.Quadratic([1.0], 0.0, noise=[-1e300, 1e300])
    with pytest.raises(ValueError, match=r"^Quadratic: `noise` must be finite in float32, got -1e"):
        sgd.run(problem, 0.1, 100, dtype="float32")
