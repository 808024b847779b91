"""What problems know about themselves: minimisers, Hessians, covariances, bounds of curvature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special

from hotloops import datasets, sgd
from tests.sgd import reference

Float64 = npt.NDArray[np.float64]

generator = np.random.default_rng(21)
FEATURES = generator.normal(size=(60, 4)) * [1.0, 0.5, 2.0, 1.0]
TARGETS = FEATURES @ [1.0, -1.0, 0.5, 0.0] + generator.normal(size=60)
LABELS = (generator.uniform(size=60) < 1 / (1 + np.exp(-FEATURES[:, 0]))).astype(float)
COUNTS = generator.poisson(np.exp(0.3 * FEATURES[:, 0])).astype(float)
SIGNS = 2 * LABELS - 1
TABLE = np.array([-1.5, 0.25, 0.25, 1.0])
MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])
FACTOR = np.array([[1.0, 0.0], [0.3, 0.7]])


def objective_of_rows(problem: sgd.Problem, l2: float) -> Callable[[Float64], float]:
    def least_squares(t: Float64) -> float:
        return float(((FEATURES @ t - TARGETS) ** 2).mean() / 2 + l2 * t @ t / 2)

    def logistic(t: Float64) -> float:
        margins = FEATURES @ t
        losses = np.logaddexp(0, margins) - LABELS * margins
        return float(losses.mean() + l2 * t @ t / 2)

    return least_squares if isinstance(problem, sgd.LeastSquares) else logistic


def mean_of_rows(loss: Callable[[Float64], Float64], l2: float) -> Callable[[Float64], float]:
    """Objective from the losses at the margins of all rows."""
    return lambda t: float(loss(FEATURES @ t).mean() + l2 * t @ t / 2)


def mean_of_stream(logistic: bool, l2: float) -> Callable[[Float64], float]:
    """Objective over Gaussian features, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    z = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    w = np.outer(weights, weights).ravel() / weights.sum() ** 2
    x = z @ FACTOR.T
    margins = x @ TRUTH

    def objective(t: Float64) -> float:
        m = x @ t
        loss = (
            np.logaddexp(0, m) - special.expit(margins) * m if logistic else (m - margins) ** 2 / 2
        )
        return float(w @ loss + l2 * t @ t / 2)

    return objective


TRUTH = np.array([1.0, -0.5])


def more_cases() -> list[Any]:
    """Noise laws, losses and streams."""

    def diagonal(t: Float64) -> float:
        return float(([0.5, 2.0, 1.0] * t**2).sum() / 2)

    made: list[tuple[str, sgd.Problem, Callable[[Float64], float]]] = [
        (
            str(noise)[:9],
            sgd.Quadratic([0.5, 2.0, 1.0], 0.0, [0.1, 1.0, 2.0], noise=noise),
            diagonal,
        )
        for noise in ("uniform", "rademacher", "laplace", "none", sgd.StudentT(9), TABLE)
    ]
    made += [
        (
            "huber",
            sgd.Huber(FEATURES, TARGETS, 0.8, 0.1),
            mean_of_rows(lambda m: special.huber(0.8, m - TARGETS), 0.1),
        ),
        (
            "squared_hinge",
            sgd.SquaredHinge(FEATURES, LABELS, 0.1, batch_size=2),
            mean_of_rows(lambda m: np.maximum(0, 1 - SIGNS * m) ** 2, 0.1),
        ),
        (
            "softplus_hinge",
            sgd.SoftplusHinge(FEATURES, SIGNS, 4.0, 0.1),
            mean_of_rows(lambda m: np.logaddexp(0, 4 * (1 - SIGNS * m)) / 4, 0.1),
        ),
        (
            "poisson",
            sgd.Poisson(FEATURES / 2, COUNTS, 0.1),
            mean_of_rows(lambda m: np.exp(m / 2) - COUNTS * m / 2, 0.1),
        ),
    ]
    for kind, logistic in ((sgd.StreamingLeastSquares, False), (sgd.StreamingLogistic, True)):
        for l2 in (0.0, 0.2):
            problem = kind(TRUTH, cholesky=FACTOR, l2=l2)
            made.append((f"{kind.__name__} {l2}", problem, mean_of_stream(logistic, l2)))
    return [pytest.param(*case[1:], id=case[0]) for case in made]


def cases() -> list[Any]:
    quadratic = sgd.Quadratic([0.5, 2.0, 1.0], [1.0, -1.0, 0.25], [0.1, 1.0, 2.0])
    full = sgd.Quadratic(MATRIX, [0.5, -2.0], cholesky=FACTOR)
    cosine = sgd.Cosine(1.0, 0.7, 2)
    least = sgd.LeastSquares(FEATURES, TARGETS)
    ridge = sgd.LeastSquares(FEATURES, TARGETS, 0.3, batch_size=4)
    logistic = sgd.Logistic(FEATURES, LABELS, 0.05)
    objectives: list[tuple[sgd.Problem, Callable[[Float64], float]]] = [
        (
            quadratic,
            lambda t: float(([0.5, 2.0, 1.0] * (t - [1.0, -1.0, 0.25]) ** 2).sum() / 2),
        ),
        (full, lambda t: float((t - [0.5, -2.0]) @ MATRIX @ (t - [0.5, -2.0]) / 2)),
        (cosine, lambda t: float((t**2 + np.cos(t + 1.0)).sum())),
        (least, objective_of_rows(least, 0.0)),
        (ridge, objective_of_rows(ridge, 0.3)),
        (logistic, objective_of_rows(logistic, 0.05)),
    ]
    names = ["quadratic", "quadratic_full", "cosine", "least_squares", "ridge", "logistic"]
    return [pytest.param(*case, id=name) for case, name in zip(objectives, names, strict=True)]


def differences(objective: Callable[[Float64], float], at: Float64) -> tuple[Float64, Float64]:
    """Gradient and Hessian by central differences."""
    step = 1e-3
    unit = np.eye(at.size) * step
    gradient = np.array([(objective(at + e) - objective(at - e)) / (2 * step) for e in unit])
    hessian = np.array(
        [
            [
                (
                    objective(at + e + f)
                    - objective(at + e - f)
                    - objective(at - e + f)
                    + objective(at - e - f)
                )
                / (4 * step**2)
                for f in unit
            ]
            for e in unit
        ]
    )
    return gradient, hessian


@pytest.mark.parametrize(("problem", "objective"), [*cases(), *more_cases()])
def test_minimizer_and_hessian(problem: sgd.Problem, objective: Callable[[Float64], float]) -> None:
    at = problem.minimizer()
    assert at.dtype == np.float64
    assert at.shape == (problem.dim,)
    gradient, hessian = differences(objective, at)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    np.testing.assert_allclose(problem.hessian(), hessian, atol=1e-5)
    np.testing.assert_array_equal(problem.hessian(), problem.hessian().T)
    inverse = np.linalg.inv(problem.hessian())
    np.testing.assert_allclose(
        problem.optimal_covariance(), inverse @ problem.noise_covariance() @ inverse, rtol=1e-12
    )
    for matrix in (problem.noise_covariance(), problem.optimal_covariance()):
        np.testing.assert_array_equal(matrix, matrix.T)


@pytest.mark.parametrize(("problem", "objective"), [*cases(), *more_cases()])
def test_answers_are_copies(problem: sgd.Problem, objective: Callable[[Float64], float]) -> None:
    before = problem.minimizer().tobytes(), problem.hessian().tobytes()
    problem.minimizer()[...] = np.nan
    problem.hessian()[...] = np.nan
    problem.noise_covariance()[...] = np.nan
    assert (problem.minimizer().tobytes(), problem.hessian().tobytes()) == before
    assert np.isfinite(problem.noise_covariance()).all()


@pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")
@pytest.mark.parametrize(("problem", "objective"), [*cases(), *more_cases()])
def test_one_step_is_a_gradient_step(
    problem: sgd.Problem, objective: Callable[[Float64], float]
) -> None:
    """The mean of many stochastic gradients is the gradient, their covariance S, at t*.

    Means and covariances are within 4.5 standard errors; a right gradient would miss for one seed
    in 150000 for each of the at most 20 numbers.
    """
    at = problem.minimizer()
    step_size, count = 1e-3, 200_000
    run = sgd.run(problem, step_size, 1, burn_in=0, num_chains=count, theta0=at, seed=77)
    gradients = (at - run.last[:, 0]) / step_size
    covariance = problem.noise_covariance()
    scale = np.sqrt(np.diag(covariance) / count)
    assert (np.abs(gradients.mean(axis=0)) <= 4.5 * scale + 1e-9).all()
    products = gradients[:, :, None] * gradients[:, None, :]
    error = products.std(axis=0) / np.sqrt(count)
    assert (np.abs(products.mean(axis=0) - covariance) <= 4.5 * error + 1e-9).all()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_noise_covariance_by_enumeration(batch_size: int) -> None:
    for problem, residual, targets in (
        (
            sgd.LeastSquares(FEATURES, TARGETS, 0.3, batch_size=batch_size),
            reference.least_squares_residual,
            TARGETS,
        ),
        (
            sgd.Logistic(FEATURES, LABELS, 0.3, batch_size=batch_size),
            reference.logistic_residual,
            LABELS,
        ),
    ):
        at = problem.minimizer()
        gradients = np.array(
            [residual(x @ at, y) * x + 0.3 * at for x, y in zip(FEATURES, targets, strict=True)]
        )
        np.testing.assert_allclose(gradients.mean(axis=0), 0, atol=1e-14)
        expected = np.cov(gradients.T, bias=True) / batch_size
        np.testing.assert_allclose(problem.noise_covariance(), expected, atol=1e-14)


def test_noise_of_other_samplings_is_refused() -> None:
    for sampling in ("reshuffle", "sequential"):
        problem = sgd.LeastSquares(FEATURES, TARGETS, sampling=sampling)
        with pytest.raises(ValueError, match=r"^LeastSquares: noise_covariance is defined for"):
            problem.noise_covariance()
        with pytest.raises(ValueError, match=r"^LeastSquares: noise_covariance is defined for"):
            problem.optimal_covariance()
        np.testing.assert_allclose(
            problem.minimizer(), np.linalg.lstsq(FEATURES, TARGETS)[0], rtol=1e-12
        )


@pytest.mark.parametrize("l2", [1e-3, 0.1, 10.0])
def test_minimizer_against_scikit_learn(l2: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    n = len(TARGETS)
    ridge = linear_model.Ridge(alpha=l2 * n, fit_intercept=False, tol=1e-14)
    expected = ridge.fit(FEATURES, TARGETS).coef_
    problem = sgd.LeastSquares(FEATURES, TARGETS, l2)
    np.testing.assert_allclose(problem.minimizer(), expected, rtol=1e-10, atol=1e-12)
    model = linear_model.LogisticRegression(
        C=1 / (l2 * n), fit_intercept=False, tol=1e-12, solver="newton-cholesky", max_iter=1000
    )
    expected = model.fit(FEATURES, LABELS).coef_[0]
    logistic = sgd.Logistic(FEATURES, LABELS, l2)
    np.testing.assert_allclose(logistic.minimizer(), expected, rtol=1e-7, atol=1e-9)


def test_minimizer_of_the_breast_cancer_table() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    data = datasets.load_breast_cancer()
    features = (data.X - data.X.mean(0)) / data.X.std(0)
    problem = sgd.Logistic(features, data.y, 1e-2)
    model = linear_model.LogisticRegression(
        C=1 / (1e-2 * len(data.y)),
        fit_intercept=False,
        tol=1e-12,
        solver="newton-cholesky",
        max_iter=1000,
    ).fit(features, data.y)
    np.testing.assert_allclose(problem.minimizer(), model.coef_[0], rtol=1e-7, atol=1e-9)
    at = problem.minimizer()
    margin = features @ at
    gradient = features.T @ (1 / (1 + np.exp(-margin)) - (data.y > 0)) / len(margin) + 1e-2 * at
    assert np.abs(gradient).max() < 1e-15


def test_minimizer_of_cosine() -> None:
    """Phase 1 breaks the symmetry."""
    problem = sgd.Cosine(1.0, 1.0, 3)
    np.testing.assert_allclose(problem.minimizer(), 0.498701133517848, rtol=0, atol=1e-15)
    np.testing.assert_allclose(problem.hessian(), np.eye(3) * 1.927967245561, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(sgd.Cosine(0.0, 1.0).minimizer(), [0.0])
    for phi in (-1000.0, -2.0, 3.1, 999.5):
        (t,) = sgd.Cosine(phi, 1.0).minimizer()
        assert abs(2 * t - np.sin(t + phi)) < 1e-15


@pytest.mark.parametrize(
    ("problem", "why"),
    [
        (sgd.LeastSquares(np.ones((5, 2)), np.arange(5.0)), "span 1 of 2 dimensions"),
        (sgd.LeastSquares(np.ones((1, 2)), [1.0]), "span 1 of 2 dimensions"),
        (sgd.Logistic(np.ones((5, 2)), [0, 1, 0, 1, 1]), "the Hessian is singular"),
        (sgd.Logistic([[1.0], [-1.0]], [1, 0]), "the classes may be separable"),
        (sgd.Logistic(np.abs(FEATURES), np.ones(60)), "the classes may be separable"),
    ],
    ids=["columns", "rows", "logistic columns", "separable", "one class"],
)
def test_no_unique_minimizer(problem: sgd.Problem, why: str) -> None:
    for method in ("minimizer", "hessian", "noise_covariance", "optimal_covariance"):
        with pytest.raises(ValueError, match=f"no unique minimiser: .*{why}.*; use l2 > 0$"):
            getattr(problem, method)()


def test_hard_logistic_problems_are_solved() -> None:
    """Badly scaled, nearly separable, far from zero: Newton's method with a line search."""
    for scale in (1e-3, 1.0, 1e3):
        for l2 in (1e-8, 1e-3, 1.0):
            features = FEATURES * scale
            labels = (FEATURES[:, 0] > 0).astype(float)
            problem = sgd.Logistic(features, labels, l2)
            at = problem.minimizer()
            signs = 2 * labels - 1
            residual = -signs * special.expit(-signs * (features @ at))
            gradient = features.T @ residual / 60 + l2 * at
            error = np.linalg.solve(problem.hessian(), gradient)
            assert np.abs(error).max() <= 1e-13 * np.abs(at).max(), (scale, l2)


def test_bounds_of_curvature() -> None:
    assert sgd.Quadratic([0.5, 3.0], 0.0).curvature_bounds() == (0.5, 3.0)
    low, high = sgd.Quadratic(MATRIX, 0.0).curvature_bounds()
    np.testing.assert_allclose([low, high], np.linalg.eigvalsh(MATRIX), rtol=1e-14)
    assert sgd.Cosine(0.3).curvature_bounds() == (1.0, 3.0)
    least = sgd.LeastSquares(FEATURES, TARGETS, 0.25)
    values = np.linalg.eigvalsh(least.hessian())
    np.testing.assert_allclose(least.curvature_bounds(), [values[0], values[-1]], rtol=1e-12)
    logistic = sgd.Logistic(FEATURES, LABELS, 0.25)
    low, high = logistic.curvature_bounds()
    assert low == 0.25
    for at in (np.zeros(4), logistic.minimizer(), generator.normal(size=4) * 5):
        p = 1 / (1 + np.exp(-FEATURES @ at))
        hessian = (FEATURES * (p * (1 - p))[:, None]).T @ FEATURES / 60 + 0.25 * np.eye(4)
        values = np.linalg.eigvalsh(hessian)
        assert values[0] >= low - 1e-12
        assert values[-1] <= high + 1e-12
    assert sgd.Logistic(FEATURES, LABELS).curvature_bounds()[0] is None
    assert sgd.Custom(print, 2).curvature_bounds() == (None, None)


def test_known_answers_of_custom() -> None:
    problem = sgd.Custom(
        print, 2, minimizer=[1.0, 2.0], hessian=MATRIX, noise_covariance=FACTOR @ FACTOR.T
    )
    np.testing.assert_array_equal(problem.minimizer(), [1.0, 2.0])
    inverse = np.linalg.inv(MATRIX)
    np.testing.assert_allclose(
        problem.optimal_covariance(), inverse @ FACTOR @ FACTOR.T @ inverse, rtol=1e-12
    )
    unknown = sgd.Custom(print, 2)
    for name in ("minimizer", "hessian", "noise_covariance"):
        text = f"^Custom: `{name}` is not known; pass {name}= to Custom$"
        with pytest.raises(ValueError, match=text):
            getattr(unknown, name)()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_data_is_used_in_place(dtype: Any) -> None:
    features = FEATURES.astype(dtype)
    problem = sgd.LeastSquares(features, TARGETS.astype(dtype))
    assert problem.dtype == dtype
    parameters = problem.parameters(np.dtype(dtype), np)
    assert np.shares_memory(parameters[0], features)
