"""Losses over rows: the kernels against the NumPy loop, minimisers, labels, curvature."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize, special

from hotloops import sgd
from tests.sgd import reference

Float64 = npt.NDArray[np.float64]
Residual = Callable[[Float64, Float64], Float64]

generator = np.random.default_rng(31)
FEATURES = generator.normal(size=(60, 4)) * [1.0, 0.5, 1.5, 1.0]
REAL = FEATURES @ [1.0, -1.0, 0.5, 0.0] + generator.standard_t(2, size=60)
SIGNS = np.where(FEATURES[:, 0] + generator.normal(size=60) > 0, 1.0, -1.0)
COUNTS = generator.poisson(np.exp(0.5 * FEATURES[:, 0])).astype(float)

DELTA, BETA = 0.6, 3.0


def huber(margin: Float64, target: Float64) -> Float64:
    return np.clip(margin - target, -DELTA, DELTA)


def squared_hinge(margin: Float64, target: Float64) -> Float64:
    return np.where(target * margin < 1, -2 * target * (1 - target * margin), 0.0)


def softplus_hinge(margin: Float64, target: Float64) -> Float64:
    slopes: Float64 = -target / (1 + np.exp(-BETA * (1 - target * margin)))
    return slopes


def poisson(margin: Float64, target: Float64) -> Float64:
    return np.exp(margin) - target


def build(name: str, l2: float, dtype: Any = np.float64, **options: Any) -> sgd.Problem:
    x = FEATURES.astype(dtype)
    if name == "huber":
        return sgd.Huber(x, REAL.astype(dtype), DELTA, l2, **options)
    if name == "squared_hinge":
        return sgd.SquaredHinge(x, SIGNS.astype(dtype), l2, **options)
    if name == "softplus_hinge":
        return sgd.SoftplusHinge(x, SIGNS.astype(dtype), BETA, l2, **options)
    return sgd.Poisson(x, COUNTS.astype(dtype), l2, **options)


RESIDUALS: dict[str, tuple[Residual, Float64]] = {
    "huber": (huber, REAL),
    "squared_hinge": (squared_hinge, SIGNS),
    "softplus_hinge": (softplus_hinge, SIGNS),
    "poisson": (poisson, COUNTS),
}
NAMES = list(RESIDUALS)
CLASSES = {
    "huber": sgd.Huber,
    "squared_hinge": sgd.SquaredHinge,
    "softplus_hinge": sgd.SoftplusHinge,
    "poisson": sgd.Poisson,
}


@pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")
@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_kernel_against_the_loop(name: str, batch_size: int, dtype: str, backend: str) -> None:
    residual, targets = RESIDUALS[name]
    problem = build(name, 0.0625, dtype, batch_size=batch_size)
    num_chains, seed, chain_offset, step_offset = 19, 2**35 + 3, 2**31 + 5, 2**32 - 3
    step_sizes = [0.02, 0.01, 0.04]  # with which Poisson does not run away
    theta0 = np.random.default_rng(3).normal(size=(num_chains, 3, 4)).astype(dtype) / 8
    gradient = reference.rows_gradient(
        residual,
        FEATURES.astype(dtype).astype(float),
        targets.astype(dtype).astype(float),
        0.0625,
        lambda step: reference.iid_rows(
            seed, step, np.arange(num_chains) + chain_offset, 60, batch_size
        ),
    )
    common: dict[str, Any] = {
        "num_steps": 20,
        "burn_in": 3,
        "seed": seed,
        "chain_offset": chain_offset,
        "step_offset": step_offset,
    }
    steps = np.array(step_sizes, dtype).astype(float)
    mean, last = reference.simulate(gradient, list(steps), theta0, dtype=dtype, **common)
    common |= {"num_chains": num_chains, "backend": backend, "statistics": ["mean"]}
    run = sgd.run(problem, step_sizes, theta0=theta0, **common)
    bound = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(run.last, last, rtol=bound, atol=bound)
    np.testing.assert_allclose(run.mean, mean, rtol=bound, atol=bound)
    assert not run.flags.any()


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("name", NAMES)
def test_minimizer_is_a_root_of_the_gradient(name: str, l2: float) -> None:
    residual, targets = RESIDUALS[name]
    problem = build(name, l2)
    at = problem.minimizer()
    gradients = residual(FEATURES @ at, targets)[:, None] * FEATURES + l2 * at
    assert np.abs(gradients.mean(axis=0)).max() < 1e-14
    covariance = np.cov(gradients.T, bias=True)
    np.testing.assert_allclose(problem.noise_covariance(), covariance, atol=1e-13)
    batched = build(name, l2, batch_size=4).noise_covariance()
    np.testing.assert_allclose(batched, covariance / 4, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_minimizer_against_scipy(name: str) -> None:
    """BFGS on the gradient, from another start."""
    residual, targets = RESIDUALS[name]

    def gradient(t: Float64) -> Float64:
        total: Float64 = FEATURES.T @ residual(FEATURES @ t, targets) / 60 + 0.05 * t
        return total

    found = optimize.root(gradient, np.full(4, 0.1), method="hybr", tol=1e-13)
    np.testing.assert_allclose(build(name, 0.05).minimizer(), found.x, rtol=0, atol=1e-10)


def test_minimizers_against_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    alpha = 0.05
    model = linear_model.PoissonRegressor(
        alpha=alpha, fit_intercept=False, tol=1e-12, max_iter=10_000, solver="newton-cholesky"
    ).fit(FEATURES, COUNTS)
    np.testing.assert_allclose(build("poisson", alpha).minimizer(), model.coef_, atol=1e-9)
    svm = pytest.importorskip("sklearn.svm")
    # C sum hinge^2 + |t|^2 / 2 is N C times ours with l2 = 1 / (N C).
    machine = svm.LinearSVC(
        C=1 / (60 * alpha), loss="squared_hinge", fit_intercept=False, tol=1e-13, max_iter=10**6,
        dual=False,
    ).fit(FEATURES, SIGNS)  # fmt: skip
    np.testing.assert_allclose(
        build("squared_hinge", alpha).minimizer(), machine.coef_[0], atol=1e-6
    )


@pytest.mark.parametrize("delta", [1e-4, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_huber_from_nearly_absolute_to_nearly_square(delta: float, scale: float) -> None:
    problem = sgd.Huber(FEATURES * [1, scale, 1, 1 / scale], REAL, delta)
    at = problem.minimizer()
    residual = np.clip((FEATURES * [1, scale, 1, 1 / scale]) @ at - REAL, -delta, delta)
    gradient = (FEATURES * [1, scale, 1, 1 / scale]).T @ residual / 60
    assert np.abs(np.linalg.solve(problem.hessian(), gradient)).max() <= 1e-11 * np.abs(at).max()
    if delta == 100.0 and scale == 1.0:
        np.testing.assert_allclose(at, sgd.LeastSquares(FEATURES, REAL).minimizer(), rtol=1e-12)


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 50.0, 2000.0])
def test_softplus_hinge_from_flat_to_sharp(sharpness: float) -> None:
    problem = sgd.SoftplusHinge(FEATURES, SIGNS, sharpness, 0.01)
    at = problem.minimizer()
    slopes = -SIGNS * special.expit(sharpness * (1 - SIGNS * (FEATURES @ at)))
    assert np.abs(FEATURES.T @ slopes / 60 + 0.01 * at).max() < 1e-13


def test_softplus_hinge_at_sharpness_one_is_a_shifted_logistic_loss() -> None:
    ones = sgd.SoftplusHinge(np.ones((4, 1)), [1, 1, 1, 0], 1.0)
    # 3 sigmoid(1 - t) = sigmoid(1 + t)
    (t,) = ones.minimizer()
    assert abs(3 * special.expit(1 - t) - special.expit(1 + t)) < 1e-15


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: sgd.Huber(np.ones((5, 2)), np.arange(5.0)), "the Hessian is singular"),
        (
            lambda: sgd.Huber([[1.0], [1.0]], [0.0, 10.0], 0.1),
            "too few rows lie within delta of the fit",
        ),
        (lambda: sgd.SquaredHinge([[1.0], [-1.0]], [1, 0]), "the classes may be separable"),
        (lambda: sgd.SoftplusHinge([[1.0], [-1.0]], [1, 0]), "the classes may be separable"),
        (lambda: sgd.Poisson(np.ones((3, 1)), [0, 0, 0]), "may only meet zeros"),
        (lambda: sgd.Poisson(np.eye(3)[[0, 0, 1, 2]], [1, 2, 3, 0]), "may only meet zeros"),
        (
            lambda: sgd.Logistic(np.c_[np.ones(6), [1, 1, 0, 0, 0, 0]], [1, 1, 1, 0, 0, 1]),
            "the classes may be separable",
        ),
    ],
    ids=["huber", "huber between", "squared hinge", "softplus", "zeros", "column", "quasi"],
)
def test_no_unique_minimizer(make: Callable[[], sgd.Problem], why: str) -> None:
    problem = make()
    text = f"^{type(problem).__name__}: there is no unique minimiser: .*{why}; use l2 > 0$"
    for method in ("minimizer", "hessian", "noise_covariance", "optimal_covariance"):
        with pytest.raises(ValueError, match=text):
            getattr(problem, method)()


def test_bounds_of_curvature() -> None:
    gram = np.linalg.eigvalsh(FEATURES.T @ FEATURES / 60)
    for name, factor in (("huber", 1.0), ("squared_hinge", 2.0), ("softplus_hinge", BETA / 4)):
        low, high = build(name, 0.25).curvature_bounds()
        assert low == 0.25
        assert high == pytest.approx(factor * gram[-1] + 0.25, rel=1e-12)
        assert build(name, 0.0).curvature_bounds()[0] is None
        values = np.linalg.eigvalsh(build(name, 0.25).hessian())
        assert low <= values[0] * (1 + 1e-12)
        assert values[-1] <= high
    assert build("poisson", 0.25).curvature_bounds() == (0.25, None)
    assert build("poisson", 0.0).curvature_bounds() == (None, None)


@pytest.mark.parametrize("name", ["squared_hinge", "softplus_hinge"])
def test_labels_of_both_kinds_mean_the_same(name: str) -> None:
    kind = CLASSES[name]
    one, other = kind(FEATURES, SIGNS, l2=0.1), kind(FEATURES, (SIGNS > 0).astype(int), l2=0.1)
    np.testing.assert_array_equal(one.minimizer(), other.minimizer())


def test_large_margins_do_not_overflow() -> None:
    """exp(x^T t) is bounded in the kernel: a chain thrown far is flagged, not NaN."""
    problem = sgd.Poisson([[30.0]], [1.0], divergence_limit=1e8)
    with pytest.warns(RuntimeWarning, match=r"diverged"):
        run = sgd.run(problem, 1e-3, 5, burn_in=0, theta0=[1e6])
    assert run.flags.all()
    assert np.isfinite(run.last).all()


POSITIVE = "be a finite number > 0.0, got"
Bad = tuple[str, str, Any, type[Exception], str]
BAD: list[Bad] = [
    ("huber", "delta", 0, ValueError, f"{POSITIVE} 0"),
    ("huber", "delta", -1.0, ValueError, f"{POSITIVE} -1.0"),
    ("huber", "delta", np.inf, ValueError, f"{POSITIVE} inf"),
    ("huber", "delta", "1", TypeError, f"{POSITIVE} '1'"),
    ("huber", "delta", None, TypeError, f"{POSITIVE} None"),
    ("softplus_hinge", "sharpness", 0.0, ValueError, f"{POSITIVE} 0.0"),
    ("softplus_hinge", "sharpness", np.nan, ValueError, f"{POSITIVE} nan"),
    ("softplus_hinge", "sharpness", True, TypeError, f"{POSITIVE} True"),
    ("poisson", "y", [1.0, -2.0, 0.0], ValueError, "not be negative, got -2"),
    ("poisson", "y", [1.0, np.inf, 0.0], ValueError, "be finite, got inf at index (1,)"),
    *[
        (name, "y", labels, ValueError, f"hold labels in {{0, 1}} or in {{-1, 1}}, got {got}")
        for name in ("squared_hinge", "softplus_hinge")
        for labels, got in (([0, 1, 2], "2"), ([-1, 0, 1], "labels -1 and 0 together"))
    ],
    *[
        bad
        for name in NAMES
        for bad in (
            (name, "X", np.ones(3), ValueError, "have shape (n, d), got (3,)"),
            (name, "y", [1.0], ValueError, "have shape (n,) with n = 3 as in `X`, got (1,)"),
            (name, "l2", -1.0, ValueError, "be a finite number >= 0.0, got -1.0"),
            (name, "batch_size", 0, ValueError, f"be an integer in [1, {2**24}], got 0"),
            (
                name,
                "sampling",
                "all",
                ValueError,
                "be one of 'iid', 'reshuffle', 'sequential', got 'all'",
            ),
        )
    ],
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad[0]}-{bad[1]}")
def test_bad_arguments(bad: Bad) -> None:
    name, argument, value, kind, text = bad
    given: dict[str, Any] = {"X": np.ones((3, 1)), "y": [0.0, 1.0, 1.0], argument: value}
    message = f"{CLASSES[name].__name__}: `{argument}` must {text}"
    with pytest.raises(kind, match="^" + re.escape(message) + "$"):
        CLASSES[name](**given)


@pytest.mark.filterwarnings("ignore:run:RuntimeWarning")
def test_shapes_beyond_the_precision_of_the_run() -> None:
    for problem, name in (
        (sgd.Huber([[1.0]], [1.0], 1e300), "Huber: `delta`"),
        (sgd.SoftplusHinge([[1.0]], [1.0], 1e300), "SoftplusHinge: `sharpness`"),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be finite in float32, got 1e\\+300"):
            sgd.run(problem, 1e-3, 10, dtype="float32")
