"""The iteration against its plain form, its fixed points, limits and invariants."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

from hotloops import NumericalError, admm, prox
from tests.admm.consensus import logistic_gradient, naive_rounds, small_problem

NAIVE = {"sigma": 1.7, "l2": 0.03, "num_rounds": 25}


def shares(ids: Any) -> Any:
    return np.bincount(ids) / ids.size


@pytest.mark.parametrize("scheme", ["identity", "adagrad", "rmsprop", "adam"])
@pytest.mark.parametrize("relaxation", [1.0, 1.6])
def test_equals_the_plain_form_with_stored_points(scheme: str, relaxation: float) -> None:
    X, y, ids = small_problem()
    w0 = np.linspace(-1.0, 1.0, X.shape[1])
    options: dict[str, Any] = {"scheme": scheme, "rho": 0.8, "beta": 0.9, **NAIVE}
    expected = naive_rounds(
        lambda i, w: logistic_gradient(X[ids == i], y[ids == i], w),
        shares(ids),
        w0,
        relaxation=relaxation,
        **options,
    )
    fit = admm.solve(
        "logistic",
        X,
        y,
        clients=ids,
        w0=w0,
        relaxation=relaxation,
        record_iterates=True,
        **options,
    )
    np.testing.assert_allclose(fit.iterates, expected, rtol=0, atol=1e-13)


def test_single_precision_stays_close() -> None:
    X, y, ids = small_problem()
    options: dict[str, Any] = {"clients": ids, "rho": 0.8, **NAIVE}
    wide = admm.solve("logistic", X, y, **options)
    narrow = admm.solve("logistic", X.astype(np.float32), y, **options)
    assert narrow.w.dtype == np.float32
    np.testing.assert_allclose(narrow.w, wide.w, atol=1e-5)


@pytest.mark.parametrize("scheme", ["identity", "adam", "majorant", "hessian", "diag"])
def test_fixed_point_is_the_pooled_optimum(scheme: str) -> None:
    X, y, ids = small_problem()
    l2 = 0.05

    def pooled(w: Any) -> Any:
        return logistic_gradient(X, y, w) + l2 * w

    best = scipy.optimize.root(pooled, np.zeros(X.shape[1]), tol=1e-14).x
    fit = admm.solve(
        "logistic",
        X,
        y,
        clients=ids,
        l2=l2,
        scheme=scheme,
        rho=1.0,
        num_rounds=6000,
        gradient_tol=1e-9,
    )
    assert fit.converged
    np.testing.assert_allclose(fit.w, best, atol=1e-7)
    dual = fit.state.dual
    np.testing.assert_allclose(shares(ids) @ dual, l2 * fit.w, atol=1e-6)
    for i, pi in enumerate(dual):
        np.testing.assert_allclose(
            pi, -logistic_gradient(X[ids == i], y[ids == i], best), atol=1e-6
        )


def test_exact_steps_are_consensus_admm() -> None:
    rng = np.random.default_rng(3)
    X, y, ids = rng.standard_normal((40, 4)), rng.standard_normal(40), np.arange(40) % 2
    fit = admm.solve(
        "squares", X, y, clients=ids, scheme="exact", sigma=0.7, rho=9.0, l2=0.1, num_rounds=15
    )
    w, local, dual = np.zeros(4), np.zeros((2, 4)), np.zeros((2, 4))
    for _ in range(15):
        for i in range(2):
            own, target = X[ids == i], y[ids == i]
            left = own.T @ own / 20 + 0.7 * np.eye(4)
            local[i] = np.linalg.solve(left, own.T @ target / 20 - dual[i] + 0.7 * w)
            dual[i] += 0.7 * (local[i] - w)
        w = (0.7 * local.mean(0) + dual.mean(0)) / (0.7 + 0.1)
    np.testing.assert_allclose(fit.w, w, atol=1e-12)
    np.testing.assert_allclose(fit.state.dual, dual, atol=1e-12)


def test_no_preconditioner_is_optimistic_gradient_descent() -> None:
    X, y, ids = small_problem()
    fit = admm.solve(
        "logistic",
        X,
        y,
        clients=ids,
        scheme="identity",
        sigma=2.0,
        rho=0.0,
        num_rounds=30,
        record_iterates=True,
    )
    assert fit.iterates is not None
    gradients = [logistic_gradient(X, y, w) for w in fit.iterates]
    for k in range(1, 30):
        step = fit.iterates[k] - (2 * gradients[k] - gradients[k - 1]) / 2.0
        np.testing.assert_allclose(fit.iterates[k + 1], step, atol=1e-14)


@pytest.mark.parametrize(("scheme", "rho"), [("identity", 0.0), ("adam", 5.0)])
def test_a_client_in_two_halves_changes_nothing(scheme: str, rho: float) -> None:
    X, y, ids = small_problem()
    rows = [np.flatnonzero(ids == i) for i in range(3)]
    options: dict[str, Any] = {"scheme": scheme, "rho": rho, **NAIVE}
    whole = admm.solve("logistic", X, y, clients=rows, **options)
    # The same rows in two clients, each with half the weight.
    half = np.full(y.size, 1.0)
    pairs = [(X[r], y[r]) for r in rows] + [(X[rows[0]], y[rows[0]])]
    weights = [half[r] for r in rows] + [half[rows[0]] / 2]
    weights[0] = weights[0] / 2
    split = admm.solve("logistic", None, None, clients=pairs, sample_weight=weights, **options)
    np.testing.assert_allclose(split.w, whole.w, atol=1e-13)


def test_order_of_clients_is_rounding_only() -> None:
    X, y, ids = small_problem()
    rows = [np.flatnonzero(ids == i) for i in range(3)]
    forth = admm.solve("logistic", X, y, clients=rows, rho=1.0, **NAIVE)
    back = admm.solve("logistic", X, y, clients=rows[::-1], rho=1.0, **NAIVE)
    np.testing.assert_allclose(forth.w, back.w, atol=1e-14)


@pytest.mark.parametrize(("factor", "stable"), [(0.99, True), (1.01, False)])
def test_stability_threshold(factor: float, stable: bool) -> None:
    sigma, rho = 1.0, 2.0
    h = factor * (2.0 / 3.0) * (sigma + 2.0 * rho)
    fit = admm.solve(
        "squares",
        np.full((2, 1), np.sqrt(h)),
        np.zeros(2),
        clients=[0, 1],
        scheme="identity",
        sigma=sigma,
        rho=rho,
        eps=0.0,
        w0=[1.0],
        num_rounds=2000,
    )
    assert (abs(fit.w[0]) < 1e-3) == stable
    assert (abs(fit.w[0]) > 1e3) == (not stable)


def test_divergence_is_an_error() -> None:
    with pytest.raises(NumericalError, match="not finite after round") as caught:
        admm.solve(
            "squares",
            np.ones((2, 1)),
            [0.0, 1.0],
            clients=[0, 1],
            scheme="identity",
            sigma=0.1,
            rho=0.0,
            num_rounds=2000,
        )
    assert caught.value.step is not None


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": admm.Power(0.5)},
        {"schedule": admm.Balancing()},
        {"schedule": admm.LearningRate(lambda r: 1.0 / (1.0 + r / 500))},
        {"relaxation": 1.5},
        {"participation": 0.5},
        {"eta": 0.5},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_option_finds_the_optimum(options: dict[str, Any]) -> None:
    X, y, ids = small_problem()
    target = admm.solve(
        "logistic", X, y, clients=ids, l2=0.1, scheme="majorant", rho=1.0, num_rounds=400
    )
    fit = admm.solve("logistic", X, y, clients=ids, l2=0.1, rho=1.0, num_rounds=3000, **options)
    np.testing.assert_allclose(fit.w, target.w, atol=2e-4)


def test_clients_that_do_not_take_part_keep_their_duals() -> None:
    X, y, ids = small_problem()
    seen: list[Any] = []
    fit = None
    for rounds in range(1, 7):
        fit = admm.solve(
            "logistic",
            X,
            y,
            clients=ids,
            rho=1.0,
            participation=1 / 3,
            num_rounds=1,
            state=None if fit is None else fit.state,
        )
        assert fit.num_rounds == rounds
        seen.append(fit.state.dual.copy())
    changed = [(a != b).any(axis=1).sum() for a, b in itertools.pairwise(seen)]
    assert changed == [1] * 5


def test_l1_matches_coordinate_descent() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(2)
    X = rng.standard_normal((80, 12))
    y = X[:, 0] - 2.0 * X[:, 5] + 0.1 * rng.standard_normal(80)
    reference = linear_model.Lasso(alpha=0.1, tol=1e-12).fit(X, y)
    fit = admm.solve(
        "squares",
        X,
        y,
        clients=np.arange(80) % 4,
        regularizer=prox.L1(0.1),
        intercept=True,
        scheme="exact",
        sigma=1.0,
        rho=1.0,
        num_rounds=400,
    )
    np.testing.assert_allclose(fit.coef, reference.coef_, atol=1e-9)
    assert fit.intercept[0] == pytest.approx(reference.intercept_, abs=1e-9)
    assert (fit.coef == 0).sum() == (reference.coef_ == 0).sum() > 5


def test_regularizer_of_a_matrix_meets_coefficients_only() -> None:
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((60, 4)), np.arange(60) % 3
    shapes = []

    class Recorder:
        def __call__(self, v: Any, step: float, out: Any = None) -> Any:
            shapes.append(v.shape)
            return v

        def value(self, v: Any) -> float:
            return 0.0

    fit = admm.solve(
        "softmax", X, y, clients=y, regularizer=Recorder(), intercept=True, rho=1.0, num_rounds=2
    )
    assert set(shapes) == {(4, 3)}
    assert fit.coef.shape == (4, 3)
    assert fit.intercept.shape == (3,)


def test_tolerance_stops_and_callback_stops() -> None:
    X, y, ids = small_problem()
    options: dict[str, Any] = {"clients": ids, "l2": 0.1, "scheme": "majorant", "rho": 1.0}
    fit = admm.solve("logistic", X, y, num_rounds=500, tol=1e-4, **options)
    assert fit.converged
    assert fit.num_rounds < 500
    seen: list[int] = []

    def stop(entry: admm.Round) -> bool:
        seen.append(entry.round)
        return entry.round == 3

    fit = admm.solve("logistic", X, y, num_rounds=500, callback=stop, **options)
    assert (fit.num_rounds, seen, fit.converged) == (3, [1, 2, 3], False)


def test_history_and_result() -> None:
    X, y, ids = small_problem()
    fit = admm.solve("logistic", X, y, clients=ids, l2=0.1, rho=1.0, num_rounds=7, evaluate_every=3)
    assert fit.history["round"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert np.flatnonzero(np.isfinite(fit.history["objective"])).tolist() == [2, 5]
    value = np.logaddexp(0.0, -y * (X @ fit.w)).mean() + 0.05 * (fit.w @ fit.w)
    assert fit.objective == pytest.approx(value, abs=1e-14)
    assert fit.primal_residual == fit.history["primal_residual"][-1]
    assert set(fit.to_dict()) >= {"w", "objective", "history"}
    assert "clients=3" in repr(fit)


def test_out_and_time() -> None:
    X, y, ids = small_problem()
    out = np.empty(X.shape[1])
    fit = admm.solve("logistic", X, y, clients=ids, rho=1.0, num_rounds=5, out=out)
    assert fit.w is out
    short = admm.solve("logistic", X, y, clients=ids, rho=1.0, num_rounds=10**6, max_seconds=0.05)
    assert not short.complete
    assert short.num_rounds < 10**6


def test_data_may_come_in_any_of_the_three_forms() -> None:
    X, y, ids = small_problem()
    rows = [np.flatnonzero(ids == i) for i in range(3)]
    options: dict[str, Any] = {"rho": 1.0, **NAIVE}
    by_id = admm.solve("logistic", X, y, clients=ids, **options)
    names = np.array(["a", "b", "c"])[ids]
    others = [
        admm.solve("logistic", X, y, clients=rows, **options),
        admm.solve("logistic", X, y > 0, clients=names, **options),
        admm.solve("logistic", None, None, clients=[(X[r], y[r]) for r in rows], **options),
    ]
    for other in others:
        np.testing.assert_array_equal(other.w, by_id.w)


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_sparse_equals_dense(index: Any) -> None:
    X, y, ids = small_problem(columns=9)
    X[np.abs(X) < 0.6] = 0.0
    options: dict[str, Any] = {"clients": ids, "rho": 1.0, "intercept": True, **NAIVE}
    dense = admm.solve("logistic", X, y, **options)
    table = scipy.sparse.csr_array(X)
    table.indices, table.indptr = table.indices.astype(index), table.indptr.astype(index)
    np.testing.assert_allclose(admm.solve("logistic", table, y, **options).w, dense.w, atol=1e-13)
    pattern = scipy.sparse.csr_array((X != 0).astype(float))
    ones = admm.solve("logistic", pattern, y, **options)
    plain = admm.solve("logistic", (X != 0).astype(float), y, **options)
    np.testing.assert_allclose(ones.w, plain.w, atol=1e-13)


def test_weights_are_repetitions() -> None:
    X, y, ids = small_problem()
    count = np.random.default_rng(1).integers(1, 4, y.size)
    options: dict[str, Any] = {"rho": 1.0, **NAIVE}
    weighted = admm.solve("logistic", X, y, clients=ids, sample_weight=count, **options)
    repeated = admm.solve(
        "logistic", X.repeat(count, 0), y.repeat(count), clients=ids.repeat(count), **options
    )
    np.testing.assert_allclose(weighted.w, repeated.w, atol=1e-13)
    assert weighted.objective == pytest.approx(repeated.objective, abs=1e-13)


def test_long_geometric_schedules_do_not_warn() -> None:
    X, y, ids = small_problem()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        admm.solve(
            "logistic",
            X,
            y,
            clients=ids,
            rho=1.0,
            schedule=admm.Geometric(0.997, every=10),
            num_rounds=2,
        )


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (admm.Geometric(0.5), [(2.0, 1.0), (4.0, 1.0), (8.0, 1.0)]),
        (admm.Geometric(0.5, every=2), [(2.0, 1.0), (2.0, 1.0), (4.0, 1.0)]),
        (admm.Power(1.0), [(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)]),
        (admm.LearningRate([2.0, 1.0]), [(1.0, 1.0), (2.0, 2.0), (2.0, 2.0)]),
    ],
)
def test_schedules(schedule: Any, factors: Any) -> None:
    np.testing.assert_allclose([schedule.factors(r) for r in range(3)], factors, rtol=1e-15)


def test_learning_rates_scale_sigma_and_rho() -> None:
    sigma, rho, rate = 0.5, 4.5, [0.2, 0.1]
    factor, other = admm.LearningRate(rate).factors(1)
    assert factor * sigma == pytest.approx(rate[0] / rate[1] * sigma)
    assert other * rho == pytest.approx(1 / 0.1 - factor * sigma)


def test_arrays_of_torch_come_back_as_such() -> None:
    torch = pytest.importorskip("torch")
    X, y, ids = small_problem()
    expected = admm.solve("logistic", X, y, clients=ids, rho=1.0, num_rounds=4)
    fit = admm.solve("logistic", torch.from_numpy(X), y, clients=ids, rho=1.0, num_rounds=4)
    assert isinstance(fit.w, torch.Tensor)
    np.testing.assert_array_equal(fit.w.numpy(), expected.w)
    np.testing.assert_array_equal(fit.coef.numpy(), expected.coef)


def test_the_twin_can_be_read_without_a_compiler(run_python: Any) -> None:
    code = """
        import numpy as np
        from hotloops import admm
        X, y = np.cos(np.arange(60.0)).reshape(12, 5), np.array([1.0, -1.0] * 6)
        options = dict(clients=np.arange(12) % 3, rho=1.0, sigma=2.0, num_rounds=2, intercept=True)
        for more in ({}, {"batch_size": 3}, {"batch_size": 3, "sampling": "epoch"}):
            plain, fast = (
                admm.solve("logistic", X, y, backend=backend, **options, **more)
                for backend in ("numba", "cpp")
            )
            assert plain.w.tobytes() == fast.w.tobytes()
    """
    run_python(code, env={"NUMBA_DISABLE_JIT": "1"})
