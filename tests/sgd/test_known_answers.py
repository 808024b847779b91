"""Numbers that are known exactly, by algebra or by two independent numerical methods.

Seeds are fixed, so these tests either always pass or never. Each statistical comparison is within
four standard errors, estimated from the sample: a right program would miss one for one seed in
16000.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hotloops import random, sgd

Float64 = npt.NDArray[np.float64]

NUM_CHAINS = 20_000


def assert_mean(samples: Float64, expected: Any, standard_errors: float = 4.0) -> None:
    """Compare the mean over axis 0 with what is known."""
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    distance = np.abs(samples.mean(axis=0) - expected) / error
    assert (distance < standard_errors).all(), f"{samples.mean(axis=0)}, {distance} errors away"


class AR1:
    """Exact second moments of t_{k+1} = (1 - g) t_k - g xi for two step sizes in closed form.

    a = s = 1, t_0 - t* = 1, averages over n iterates after n.
    """

    def __init__(self, n: int) -> None:
        self.n, self.gammas = n, (n**-0.5, 2 * n**-0.5)

    def moment(self, i: int, k: int, first: Float64, second: Float64) -> Float64:
        """E[t^i_j t^k_l] for steps j and l."""
        ri, rk = 1 - self.gammas[i], 1 - self.gammas[k]
        limit = self.gammas[i] * self.gammas[k] / (1 - ri * rk)
        j, m = np.meshgrid(first, second, indexing="ij")
        earlier = np.minimum(j, m)
        decay = np.where(j < m, rk ** np.maximum(m - j, 0), ri ** np.maximum(j - m, 0))
        return limit * (1 - (ri * rk) ** earlier) * decay + ri**j * rk**m

    def of_average(self, weights: tuple[float, float]) -> float:
        """n E[(sum_i w_i A_i)^2]."""
        window = np.arange(self.n + 1, 2 * self.n + 1, dtype=np.float64)
        pairs = [(i, k) for i in range(2) for k in range(2) if weights[i] * weights[k]]
        total = sum(
            weights[i] * weights[k] * self.moment(i, k, window, window).mean() for i, k in pairs
        )
        return float(self.n * total)

    def of_remainder(self, weights: tuple[float, float]) -> float:
        """n^{3/2} E[(sum_i w_i (t^i_{n+1} - t^i_{2n+1}) / (g_i n))^2]."""
        ends = np.array([self.n + 1.0, 2 * self.n + 1.0])
        sign = np.array([1.0, -1.0])
        total = 0.0
        for i in range(2):
            for k in range(2):
                scale = weights[i] * weights[k] / (self.gammas[i] * self.gammas[k] * self.n**2)
                total += scale * float(sign @ self.moment(i, k, ends, ends) @ sign)
        return self.n**1.5 * total


PLAIN, COMBINED = (1.0, 0.0), (2.0, -1.0)

# n, n MSE(A), n MSE(RR).
MSE = [
    (100, 0.9052656748, 0.8908971389),
    (400, 0.9512820513, 0.9435129602),
    pytest.param(6400, 0.9875786164, 0.9855301340, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("n", "plain", "combined"), MSE[:2])
def test_algebra_gives_the_table(n: int, plain: float, combined: float) -> None:
    assert AR1(n).of_average(PLAIN) == pytest.approx(plain, rel=1e-9)
    assert AR1(n).of_average(COMBINED) == pytest.approx(combined, rel=1e-9)


@pytest.mark.parametrize(("n", "plain", "combined"), MSE)
def test_mean_squared_errors(n: int, plain: float, combined: float) -> None:
    """An index that is off by one, or step sizes on different noise, change these numbers."""
    gamma = n**-0.5
    problem = sgd.Quadratic([1.0], 0.0)
    run = sgd.run(problem, [gamma, 2 * gamma], n, num_chains=NUM_CHAINS, theta0=[1.0], seed=61)
    assert_mean(n * run.mean[:, 0] ** 2, plain)
    assert_mean(n * run.extrapolated**2, combined)


def test_float32_reaches_the_same_errors() -> None:
    problem = sgd.Quadratic(np.ones(1, np.float32), np.zeros(1, np.float32))
    run = sgd.run(
        problem, [0.05, 0.1], 400, num_chains=NUM_CHAINS, theta0=np.ones(1, np.float32), seed=62
    )
    assert run.last.dtype == np.float32
    assert_mean(400 * run.mean[:, 0] ** 2, 0.9512820513)
    assert_mean(400 * run.extrapolated**2, 0.9435129602)


def test_independent_noise_would_show() -> None:
    """Step sizes on noise of their own: n MSE tends to 5, five times that of shared noise."""
    n, gamma = 400, 0.05
    problem = sgd.Quadratic([1.0], 0.0)
    means = [
        sgd.run(problem, step, n, num_chains=NUM_CHAINS, theta0=[1.0], seed=seed).mean[:, 0]
        for seed, step in enumerate([gamma, 2 * gamma])
    ]
    exact = AR1(n)
    expected = 4 * exact.of_average(PLAIN) + exact.of_average((0.0, 1.0))
    assert_mean(n * (2 * means[0] - means[1]) ** 2, expected)
    assert 4.5 < expected < 5.0


def leading_term(seed: int, first_step: int, n: int, num_chains: int) -> Float64:
    """L_n = (1 / n) sum of the noise of steps first_step, ..., first_step + n - 1."""
    total = np.zeros(num_chains)
    for begin in range(first_step, first_step + n, 100):
        steps = range(begin, min(begin + 100, first_step + n))
        total += random.normals(seed, steps, num_chains, 1)[:, :, 0].sum(axis=0)
    return total / n


def test_decomposition_holds_path_by_path() -> None:
    """H (A - t*) + L_n = (t_{n0+1} - t_{n0+n+1}) / (g n) on a quadratic, for every chain."""
    n, burn_in, gamma, chains = 100, 37, 0.13, 500
    problem = sgd.Quadratic([0.8], 0.25)
    steps = [gamma, 2 * gamma]
    options: dict[str, Any] = {"num_chains": chains, "theta0": [1.5], "seed": 63}
    with pytest.warns(RuntimeWarning, match="burn_in = 37 is short"):
        run = sgd.run(problem, steps, n + 1, burn_in=burn_in, checkpoints=[1, n, n + 1], **options)
    first, _, last = run.checkpoint_last[:, :, :, 0]
    average = run.checkpoint_mean[1, :, :, 0]
    noise = leading_term(63, burn_in + 1, n, chains)
    left = 0.8 * (average - 0.25) + noise[:, None]
    np.testing.assert_allclose(left, (first - last) / (np.array(steps) * n), rtol=0, atol=1e-13)


def test_remainders() -> None:
    """What is left when the leading term is added back; the limits are 1 and 11/6."""
    n = 1600
    gamma = n**-0.5
    exact = AR1(n)
    assert exact.of_remainder(PLAIN) == pytest.approx(1.0, abs=0.05)
    assert exact.of_remainder(COMBINED) == pytest.approx(11 / 6, abs=0.1)
    problem = sgd.Quadratic([1.0], 0.0)
    run = sgd.run(problem, [gamma, 2 * gamma], n, num_chains=NUM_CHAINS, theta0=[1.0], seed=64)
    noise = leading_term(64, n + 1, n, NUM_CHAINS)
    assert_mean(n**1.5 * (run.mean[:, 0, 0] + noise) ** 2, exact.of_remainder(PLAIN))
    assert_mean(n**1.5 * (run.extrapolated[:, 0] + noise) ** 2, exact.of_remainder(COMBINED))


# A, the factor of S = [[1, .3], [.3, .5]], and what follows for gamma = 0.1.
MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])
FACTOR = np.linalg.cholesky(np.array([[1.0, 0.3], [0.3, 0.5]]))
INVARIANT = [[0.027341609197103, 0.002755579641856], [0.002755579641856, 0.025370272922241]]
OPTIMAL = [[0.269387755102041, -0.106122448979592], [-0.106122448979592, 0.538775510204082]]
AVERAGED = [[0.267722450700891, -0.104138888986927], [-0.104138888986927, 0.532568045181862]]


def test_vector_autoregression() -> None:
    problem = sgd.Quadratic(MATRIX, [0.0, 0.0], cholesky=FACTOR)
    np.testing.assert_allclose(problem.optimal_covariance(), OPTIMAL, rtol=1e-13)
    run = sgd.run(problem, 0.1, 1000, num_chains=NUM_CHAINS, theta0=[1.0, -1.0], seed=65)
    last, mean = run.last[:, 0], run.mean[:, 0]
    assert_mean(last[:, :, None] * last[:, None, :], INVARIANT)
    assert_mean(1000 * mean[:, :, None] * mean[:, None, :], AVERAGED)


# gamma, bias of the mean, variance, bias of RR(g, 2g), bias of RR(g, 2g, 4g).
BIAS = [
    (0.1, -7.422395917e-3, 0.028873339120, 1.7276862e-3, -9.7134e-4),
    (0.05, -3.524641314e-3, 0.013666215165, 3.731133e-4, -7.8411e-5),
]


@pytest.mark.parametrize(("gamma", "plain", "variance", "combined", "third"), BIAS)
def test_bias_of_the_cosine(
    gamma: float, plain: float, variance: float, combined: float, third: float
) -> None:
    problem = sgd.Cosine(1.0, 1.0)
    at = problem.minimizer()
    np.testing.assert_allclose(at, 0.498701133517848, rtol=0, atol=1e-15)
    steps = [gamma, 2 * gamma, 4 * gamma]
    unstable = pytest.warns(RuntimeWarning, match="is not below 1 / L")
    with unstable if 12 * gamma >= 1 else contextlib.nullcontext():
        run = sgd.run(problem, steps, 2000, burn_in=400, num_chains=NUM_CHAINS, theta0=at, seed=66)
    error = run.mean[:, :, 0] - at
    assert_mean(error[:, 0], plain)
    assert_mean(2 * error[:, 0] - error[:, 1], combined)
    assert_mean(run.extrapolated[:, 0] - at[0], third)
    # The average itself resolves the bias: it is 40 or more standard errors away from zero.
    plain_error = error[:, 0].std() / np.sqrt(NUM_CHAINS)
    assert abs(error[:, 0].mean()) > 40 * plain_error
    assert abs((2 * error[:, 0] - error[:, 1]).mean()) < abs(error[:, 0].mean()) / 3
    assert_mean((run.last[:, 0, 0] - at - plain) ** 2, variance)


def test_symmetric_cosine_has_no_bias() -> None:
    """With phase 0 the law is symmetric, so averages are unbiased at every step size."""
    problem = sgd.Cosine(0.0, 1.0)
    run = sgd.run(problem, [0.1, 0.2], 2000, burn_in=400, num_chains=NUM_CHAINS, seed=67)
    assert_mean(run.mean[:, 0, 0], 0.0)
    assert_mean(run.mean[:, 1, 0], 0.0)


@pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")
@pytest.mark.parametrize("full", [False, True])
def test_coupled_quadratics_contract_exactly(full: bool) -> None:
    """|t_k - t'_k| = |(I - gamma A)^k (t_0 - t'_0)|, whatever the noise."""
    problem = sgd.Quadratic(MATRIX if full else [2.0, 0.7], 0.5)
    matrix = problem.hessian()
    starts = np.random.default_rng(4).normal(size=(2, 7, 2))
    stops = [1, 2, 5, 20, 60]
    runs = [
        sgd.run(
            problem,
            [0.1, 0.3],
            60,
            burn_in=0,
            num_chains=7,
            theta0=theta0,
            seed=68,
            checkpoints=stops,
        )
        for theta0 in starts
    ]
    for k, stop in enumerate(stops):
        found = runs[0].checkpoint_last[k] - runs[1].checkpoint_last[k]
        for j, gamma in enumerate([0.1, 0.3]):
            power = np.linalg.matrix_power(np.eye(2) - gamma * matrix, stop)
            expected = (starts[0] - starts[1]) @ power.T
            np.testing.assert_allclose(found[:, j], expected, rtol=0, atol=1e-12)


def test_least_squares_on_rows() -> None:
    """Rows make A = x x^T random: mean t*, and exact covariances by enumeration of the rows."""
    generator = np.random.default_rng(9)
    features = generator.normal(size=(30, 2)) @ np.array([[1.0, 0.4], [0.0, 0.8]])
    targets = features @ [1.0, -0.5] + generator.normal(size=30)
    problem = sgd.LeastSquares(features, targets)
    at, n, gammas = problem.minimizer(), 500, (0.04, 0.08)
    run = sgd.run(problem, gammas, n, burn_in=1000, num_chains=NUM_CHAINS, theta0=at, seed=69)
    outer = features[:, :, None] * features[:, None, :]
    noise = (outer * ((features @ at - targets) ** 2)[:, None, None]).mean(axis=0)
    identity = np.eye(2)

    def invariant(first: float, second: float) -> Float64:
        """C = E[(I - g x x^T) C (I - g' x x^T)] + g g' E[eps eps^T]."""
        moved = [np.kron(identity - first * x, identity - second * x) for x in outer]
        flat = np.linalg.solve(np.eye(4) - np.mean(moved, axis=0), first * second * noise.ravel())
        return flat.reshape(2, 2)

    def averaged(first: float, second: float) -> Float64:
        """n E[A A'^T] from E[d_j d'_k^T] = C (I - g' H)^{k - j} for j <= k, and the mirror."""
        covariance, total = invariant(first, second), np.zeros((2, 2))
        left, right = (identity - gamma * problem.hessian() for gamma in (first, second))
        for lag in range(n):
            forward = covariance @ np.linalg.matrix_power(right, lag)
            backward = np.linalg.matrix_power(left, lag) @ covariance
            total += (n - lag) * (forward if lag == 0 else forward + backward)
        return total / n

    error, last = run.mean - at, run.last - at
    for j, gamma in enumerate(gammas):
        assert_mean(error[:, j], 0.0)
        assert_mean(last[:, j, :, None] * last[:, j, None, :], invariant(gamma, gamma))
        assert_mean(n * error[:, j, :, None] * error[:, j, None, :], averaged(gamma, gamma))
    g, h = gammas
    cross = averaged(g, h)
    combined = 4 * averaged(g, g) - 2 * (cross + cross.T) + averaged(h, h)
    extrapolated = run.extrapolated - at
    assert_mean(n * extrapolated[:, :, None] * extrapolated[:, None, :], combined)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_bias_of_logistic_regression_on_rows(batch_size: int) -> None:
    """The invariant mean by iterating u(t) -> E u(t - g grad(t)) on Chebyshev nodes."""
    x, y, l2 = np.array([2.0, -1.0, 0.5, 1.5]), np.array([1.0, 1.0, 0.0, 1.0]), 0.5
    problem = sgd.Logistic(x[:, None], y, l2, batch_size=batch_size)
    (at,) = problem.minimizer()
    bound = np.abs(x).max() / l2  # no step leaves it
    nodes = np.polynomial.chebyshev.chebpts1(80)
    theta = bound * nodes
    gradients = np.array(
        [(1 / (1 + np.exp(-a * theta)) - b) * a for a, b in zip(x, y, strict=True)]
    )
    if batch_size == 2:
        gradients = ((gradients[:, None] + gradients[None, :]) / 2).reshape(-1, nodes.size)

    def invariant_mean(gamma: float) -> float:
        moved = (theta - gamma * (gradients + l2 * theta)) / bound
        values = theta
        for _ in range(600):
            coefficients = np.polynomial.chebyshev.chebfit(nodes, values, nodes.size - 1)
            values = np.polynomial.chebyshev.chebval(moved, coefficients).mean(axis=0)
        assert np.ptp(values) < 1e-11
        return float(values.mean())

    gammas = (0.2, 0.4)
    biases = [invariant_mean(gamma) - at for gamma in gammas]
    assert abs(2 * biases[0] - biases[1]) < abs(biases[0]) / 2
    run = sgd.run(problem, gammas, 2000, burn_in=300, num_chains=NUM_CHAINS, seed=70)
    error = run.mean[:, :, 0] - at
    for j, bias in enumerate(biases):
        assert_mean(error[:, j], bias)
        assert abs(bias) > 10 * error[:, j].std() / np.sqrt(NUM_CHAINS), "the bias is resolved"
    assert_mean(run.extrapolated[:, 0] - at, 2 * biases[0] - biases[1])
