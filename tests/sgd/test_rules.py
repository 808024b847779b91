"""Clipping, weight decay, projections and schedules against a plain loop, and their bad input."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hotloops import random, sgd
from hotloops.sgd._rules import NO_RULES, Rules

Array = npt.NDArray[Any]
ToHost = Callable[[Any], Array]

CURVATURE, CENTER, SCALE = np.linspace(0.5, 2.0, 6), 0.3, 0.8
STEPS = [0.1, 0.3]
CHAINS, BURN_IN, NUM_STEPS, SEED = 5, 20, 150, 11

pytestmark = pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")


def problem() -> sgd.Quadratic:
    return sgd.Quadratic(CURVATURE, CENTER, SCALE)


def slow_problem() -> sgd.Custom:
    return sgd.Custom(lambda t, noise, step, data, out: CURVATURE * (t - CENTER) + SCALE * noise, 6)


RULES: dict[str, dict[str, Any]] = {
    "clip": {"clip_norm": 1.0},
    "clip never": {"clip_norm": 1e9},
    "decay": {"weight_decay": 0.25},
    "box": {"projection": sgd.Box(-0.2, 0.4)},
    "open box": {"projection": sgd.Box(-np.inf, np.linspace(0.1, 0.6, 6))},
    "ball": {"projection": sgd.Ball(0.5)},
    "ball elsewhere": {"projection": sgd.Ball(0.7, center=np.linspace(-0.2, 0.5, 6))},
    "polynomial": {"schedule": sgd.PolynomialDecay(0.6, offset=3.5)},
    "pieces": {"schedule": sgd.PiecewiseConstant([20, 100], [1.0, 0.5, 0.1])},
    "all": {
        "clip_norm": 1.5,
        "weight_decay": 0.1,
        "projection": sgd.Ball(0.6, center=0.1),
        "schedule": sgd.PolynomialDecay(0.3, offset=1.0),
    },
}


def factor(schedule: Any, k: int) -> float:
    if schedule is None:
        return 1.0
    if isinstance(schedule, sgd.PolynomialDecay):
        return float((k + schedule.offset) ** -schedule.exponent)
    return schedule.factors[sum(stop < k for stop in schedule.boundaries)]  # type: ignore[no-any-return]


def plain_loop(
    steps: Any,
    *,
    clip_norm: float = np.inf,
    weight_decay: float = 0.0,
    projection: Any = None,
    schedule: Any = None,
    dtype: str = "float64",
) -> tuple[Array, Array]:
    """Return averages and last iterates (C, J, d): chain by chain, in NumPy's own functions."""
    table = np.broadcast_to(steps, (CHAINS, len(np.atleast_2d(steps)[0])))
    theta = np.zeros((CHAINS, table.shape[1], 6))
    total = np.zeros_like(theta)
    for step in range(BURN_IN + NUM_STEPS):
        noise = random.normals(SEED, [step], CHAINS, 6, dtype=dtype)[0].astype(float)
        for c, j in np.ndindex(table.shape):
            gradient = CURVATURE * (theta[c, j] - CENTER) + SCALE * noise[c]
            norm = np.linalg.norm(gradient)
            if norm > clip_norm:
                gradient = gradient * (clip_norm / norm)
            gradient = gradient + weight_decay * theta[c, j]
            moved = theta[c, j] - table[c, j] * factor(schedule, step + 1) * gradient
            if isinstance(projection, sgd.Box):
                moved = np.clip(moved, projection.low, projection.high)
            elif isinstance(projection, sgd.Ball):
                away = moved - projection.center
                if np.linalg.norm(away) > projection.radius:
                    moved = projection.center + away * projection.radius / np.linalg.norm(away)
            theta[c, j] = moved
        if step >= BURN_IN:
            total += theta
    return total / NUM_STEPS, theta


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rules(backend: str, name: str, dtype: str, to_host: ToHost) -> None:
    run = sgd.run(
        problem(),
        STEPS,
        NUM_STEPS,
        burn_in=BURN_IN,
        num_chains=CHAINS,
        seed=SEED,
        dtype=dtype,
        backend=backend,
        statistics=["mean"],
        **RULES[name],
    )
    mean, last = plain_loop(STEPS, dtype=dtype, **RULES[name])
    tolerance = 2e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(to_host(run.mean), mean, rtol=tolerance, atol=tolerance / 10)
    np.testing.assert_allclose(to_host(run.last), last, rtol=tolerance, atol=tolerance)
    assert not to_host(run.flags).any()


@pytest.mark.parametrize("name", RULES)
def test_rules_on_the_slow_path(name: str) -> None:
    """The same bits as in C++."""
    options: dict[str, Any] = {
        "burn_in": BURN_IN,
        "num_chains": CHAINS,
        "seed": SEED,
        **RULES[name],
    }
    fast = sgd.run(problem(), STEPS, NUM_STEPS, **options)
    slow = sgd.run(slow_problem(), STEPS, NUM_STEPS, **options)
    np.testing.assert_array_equal(slow.mean, fast.mean)
    np.testing.assert_array_equal(slow.last, fast.last)


@pytest.mark.parametrize("name", ["all", "pieces", "box"])
def test_rules_with_step_sizes_of_each_chain(backend: str, name: str, to_host: ToHost) -> None:
    table = np.linspace(0.02, 0.4, 2 * CHAINS).reshape(CHAINS, 2)
    options = {"burn_in": BURN_IN, "seed": SEED, "statistics": ["mean"], **RULES[name]}
    run = sgd.run(problem(), table, NUM_STEPS, backend=backend, **options)
    mean, last = plain_loop(table, **RULES[name])
    np.testing.assert_allclose(to_host(run.mean), mean, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(to_host(run.last), last, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["all", "pieces", "open box", "ball elsewhere", "decay"])
@pytest.mark.parametrize("slow", [False, True])
def test_pieces_equal_one_run(name: str, slow: bool, tmp_path: Path) -> None:
    """The rules are in the state, and schedules go on where they were."""
    of = slow_problem() if slow else problem()
    fresh: dict[str, Any] = {
        "burn_in": BURN_IN,
        "num_chains": CHAINS,
        "seed": SEED,
        "step_offset": 1000,
        **RULES[name],
    }
    whole = sgd.run(of, STEPS, NUM_STEPS, **fresh)
    sgd.run(of, STEPS, 40, **fresh).save(tmp_path / "run.npz")
    state = sgd.SGDResult.load(tmp_path / "run.npz").state
    assert state.rules == whole.state.rules
    for again in ({}, RULES[name]):
        rest = sgd.run(of, STEPS, NUM_STEPS - 40, state=state, **again)
        np.testing.assert_array_equal(rest.mean, whole.mean)
        np.testing.assert_array_equal(rest.last, whole.last)


def test_schedules_count_from_the_first_step_of_the_chains() -> None:
    """Not from `step_offset`, which only says where in the stream of random numbers they begin."""
    of = sgd.Quadratic([1.0], 0.0, 0.0)
    options: dict[str, Any] = {"burn_in": 0, "theta0": [1.0], "schedule": sgd.PolynomialDecay(1.0)}
    run = sgd.run(of, 0.5, 3, **options)
    shifted = sgd.run(of, 0.5, 3, step_offset=77, **options)
    np.testing.assert_allclose(run.last, [[[0.5 * 0.75 * (1 - 0.5 / 3)]]], rtol=1e-14)
    np.testing.assert_array_equal(shifted.last, run.last)


@pytest.mark.parametrize(("exponent", "offset"), [(0.5, 0.0), (2 / 3, 10.0), (1.0, 0.5), (10.0, 1)])
def test_polynomial_decay(exponent: float, offset: float) -> None:
    schedule = sgd.PolynomialDecay(exponent, offset)
    for first in (1, 1000, 2**32, 2**48 - 50):
        k = np.arange(first, first + 50, dtype=float) + offset
        rounding = 4e-16 * (4 + exponent * np.log(k[-1]))  # of the logarithm, in the exponent
        np.testing.assert_allclose(schedule.evaluate(first, 50), k**-exponent, rtol=rounding)
    assert schedule.largest == pytest.approx((1 + offset) ** -exponent)


def test_piecewise_constant() -> None:
    schedule = sgd.PiecewiseConstant(np.array([2, 5]), (1.0, 0.5, 2.0))
    np.testing.assert_array_equal(schedule.evaluate(1, 7), [1, 1, 0.5, 0.5, 0.5, 2, 2])
    np.testing.assert_array_equal(schedule.evaluate(5, 2), [0.5, 2])
    assert schedule.largest == 2.0
    assert repr(schedule) == "PiecewiseConstant([2, 5], [1.0, 0.5, 2.0])"


def test_rules_that_do_nothing() -> None:
    assert Rules().trivial
    assert NO_RULES.trivial
    for options in RULES.values():
        assert not Rules(**options).trivial
    plain = sgd.run(problem(), STEPS, 100, statistics=["mean"])
    idle = sgd.run(
        problem(), STEPS, 100, statistics=["mean"], clip_norm=1e9, projection=sgd.Box(-1e9, 1e9)
    )
    np.testing.assert_array_equal(idle.mean, plain.mean)


@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
@pytest.mark.parametrize("projection", [None, sgd.Box(-1e8, 1e8), sgd.Ball(1e8)])
def test_nan_passes_through_rules(projection: Any) -> None:
    """A gradient that is not a number flags the chain, whatever the rules."""

    def grad(theta: Array, noise: Array, step: int, data: Any, out: Array) -> None:
        out[...] = np.where(np.arange(len(out))[:, None] == step - 3, np.nan, theta)

    run = sgd.run(
        sgd.Custom(grad, 2), 0.1, 10, burn_in=0, num_chains=4, clip_norm=1.0, projection=projection
    )
    np.testing.assert_array_equal(run.diverged_at[:, 0], [3, 4, 5, 6])


def test_equality_of_projections() -> None:
    assert sgd.Box(0.0, 1.0) == sgd.Box(0, 1)
    assert sgd.Box([0.0], [1.0]) != sgd.Box(0.0, 1.0)
    assert sgd.Ball(1.0) == sgd.Ball(1.0, 0.0)
    assert sgd.Ball(1.0) != sgd.Ball(2.0)
    assert sgd.Ball(1.0) != sgd.Box(0, 1)
    assert len({sgd.Ball(1.0), sgd.Ball(1.0), sgd.Box(0, 1), sgd.Box(0, 1)}) == 2
    low = np.zeros(3)
    box = sgd.Box(low, 1.0)
    low[0] = 5.0  # the user's array is not ours
    assert box == sgd.Box(np.zeros(3), 1.0)
    assert repr(box) == "Box(low=[0.0, 0.0, 0.0], high=1.0)"


def test_steps_beyond_the_limit_are_fine_where_something_holds_them() -> None:
    """2 / L is the limit of constant, free steps; clipped or projected ones stay where they are."""
    with pytest.raises(ValueError, match="stay below 2 / L = 1, where the chain diverges"):
        sgd.run(sgd.Quadratic([2.0], 0.0), 1.5, 10)
    with pytest.raises(ValueError, match=r"stay below 2 / L = 0\.8, where the chain diverges"):
        sgd.run(sgd.Quadratic([2.0], 0.0), 0.9, 10, weight_decay=0.5)
    schedule = sgd.PiecewiseConstant([10], [1.0, 0.1])
    for options in ({"projection": sgd.Ball(3.0)}, {"clip_norm": 1.0}, {"schedule": schedule}):
        with pytest.warns(RuntimeWarning, match=r"is not below 1 / L"):
            run = sgd.run(sgd.Quadratic([2.0], 0.0), 1.5, 20, **options)
        assert run.valid.all()


# --- dumb input ----------------------------------------------------------------------------------

MADE: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: sgd.PolynomialDecay(0.0),
        ValueError,
        "PolynomialDecay: `exponent` must be a finite number in (0.0, 10.0], got 0.0",
    ),
    (lambda: sgd.PolynomialDecay(11.0), ValueError, "PolynomialDecay: `exponent` must be a finit"),
    (lambda: sgd.PolynomialDecay("1"), TypeError, "PolynomialDecay: `exponent` must be a finite"),  # type: ignore[arg-type]
    (lambda: sgd.PolynomialDecay(1, -1), ValueError, "PolynomialDecay: `offset` must be a finite"),
    (
        lambda: sgd.PiecewiseConstant(np.zeros(0, int), [1.0]),
        ValueError,
        "PiecewiseConstant: `boundaries` must not be empty, got shape (0,)",
    ),
    (
        lambda: sgd.PiecewiseConstant([0], [1.0, 2.0]),
        ValueError,
        "PiecewiseConstant: `boundaries` must be positive, got 0 at index (0,)",
    ),
    (
        lambda: sgd.PiecewiseConstant([1.5], [1.0, 2.0]),
        TypeError,
        "PiecewiseConstant: `boundaries` must be an array of integers, got dtype float64",
    ),
    (
        lambda: sgd.PiecewiseConstant([3, 3], [1.0, 2.0, 3.0]),
        ValueError,
        "PiecewiseConstant: `boundaries` must increase strictly, got [3, 3]",
    ),
    (
        lambda: sgd.PiecewiseConstant([3], [1.0]),
        ValueError,
        "PiecewiseConstant: `factors` must have shape (n + 1,) with n = 1 as in `boundaries`, got",
    ),
    (
        lambda: sgd.PiecewiseConstant([3], [1.0, 0.0]),
        ValueError,
        "PiecewiseConstant: `factors` must be positive, got 0.0 at index (1,)",
    ),
    (lambda: sgd.Box(1.0, 0.0), ValueError, "Box: `low` must stay below `high`, got low = 1.0, "),
    (lambda: sgd.Box(np.nan, 0.0), ValueError, "Box: `low` must not hold NaN, got NaN"),
    (lambda: sgd.Box(np.inf, np.inf), ValueError, "Box: `low` must stay below `high`, got low ="),
    (
        lambda: sgd.Box([0.0, 0.0], [1.0, 1.0, 1.0]),
        ValueError,
        "Box: `high` must have shape (2,) as `low`, got (3,)",
    ),
    (lambda: sgd.Box(None, 1.0), TypeError, "Box: `low` must be an array of real numbers, got N"),
    (lambda: sgd.Box([[0.0]], 1.0), ValueError, "Box: `low` must have 0 or 1 dimensions, got (1, "),
    (
        lambda: sgd.Ball(0.0),
        ValueError,
        "Ball: `radius` must be a finite number > 0.0, got 0.0",
    ),
    (lambda: sgd.Ball(1.0, np.inf), ValueError, "Ball: `center` must be finite, got inf"),
    (lambda: sgd.Ball("1"), TypeError, "Ball: `radius` must be a finite number > 0.0, got '1'"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "kind", "text"), MADE)
def test_wrong_rules(make: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match="^" + re.escape(text)):
        make()


GIVEN: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"clip_norm": 0.0}, ValueError, "`clip_norm` must be a finite number > 0.0, got 0.0"),
    ({"clip_norm": -1}, ValueError, "`clip_norm` must be a finite number > 0.0, got -1"),
    ({"clip_norm": np.inf}, ValueError, "`clip_norm` must be a finite number > 0.0, got inf"),
    ({"clip_norm": "1"}, TypeError, "`clip_norm` must be a finite number > 0.0, got '1'"),
    ({"weight_decay": -0.1}, ValueError, "`weight_decay` must be a finite number >= 0.0, got -0.1"),
    ({"weight_decay": None}, TypeError, "`weight_decay` must be a finite number >= 0.0, got None"),
    (
        {"projection": 3.0},
        TypeError,
        "`projection` must be sgd.Box(low, high), sgd.Ball(radius) or None, got 3.0",
    ),
    (
        {"projection": sgd.Box([0.0, 0.0], 1.0)},
        ValueError,
        "`projection` must have a `low` of shape (d,) with d = 6 as in `problem`, got (2,)",
    ),
    (
        {"projection": sgd.Ball(1.0, [0.0, 0.0])},
        ValueError,
        "`projection` must have a `center` of shape (d,) with d = 6 as in `problem`, got (2,)",
    ),
    (
        {"schedule": 0.5},
        TypeError,
        "`schedule` must be sgd.PolynomialDecay(exponent), sgd.PiecewiseConstant(...) or None",
    ),
]


@pytest.mark.parametrize(("options", "kind", "text"), GIVEN)
def test_wrong_arguments_of_run(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match="^" + re.escape(f"run: {text}")):
        sgd.run(problem(), STEPS, 10, **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"clip_norm": 2.0}, "`clip_norm` must be 1.5 as in `state`, got 2.0"),
        ({"weight_decay": 0.2}, "`weight_decay` must be 0.1 as in `state`, got 0.2"),
        (
            {"projection": sgd.Ball(0.6)},
            "`projection` must be Ball(radius=0.6, center=0.1) as in `state`, got Ball(radius=0.6,",
        ),
        (
            {"schedule": sgd.PolynomialDecay(0.3)},
            "`schedule` must be PolynomialDecay(exponent=0.3, offset=1.0) as in `state`, got Polyn",
        ),
    ],
)
def test_rules_cannot_change_on_the_way(options: dict[str, Any], text: str) -> None:
    state = sgd.run(problem(), STEPS, 10, **RULES["all"]).state
    with pytest.raises(ValueError, match="^" + re.escape(f"run: {text}")):
        sgd.run(problem(), STEPS, 10, state=state, **options)
    plain = sgd.run(problem(), STEPS, 10).state
    with pytest.raises(ValueError, match="as in `state`"):
        sgd.run(problem(), STEPS, 10, state=plain, **options)


STATISTICS: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"statistics": "batch_means"},
        TypeError,
        "`statistics` must be None or a sequence of 'mean', 'batch_means', 'random_scaling', ",
    ),
    ({"statistics": 3}, TypeError, "`statistics` must be None or a sequence of 'mean', 'batch_mea"),
    ({"statistics": [3]}, TypeError, "`statistics` must be None or a sequence of 'mean', 'batch_"),
    (
        {"statistics": ["median"]},
        ValueError,
        "`statistics` must be None or a sequence of 'mean', 'batch_means', 'random_scaling', "
        "'variance', 'covariance', 'plug_in', got 'median'",
    ),
    (
        {"statistics": ["plug_in"]},
        ValueError,
        "`statistics` must hold 'plug_in' only for losses over rows or streams of features, got ",
    ),
    ({"batch_length": 0}, ValueError, "`batch_length` must be an integer >= 1, got 0"),
    ({"batch_length": 1.5}, TypeError, "`batch_length` must be an integer >= 1, got 1.5"),
    (
        {"batch_length": 5, "statistics": ["random_scaling"]},
        ValueError,
        "`batch_length` must be None without 'batch_means' in `statistics`, got 5",
    ),
    (
        {"num_chains": 3, "step_sizes": np.full((2, 1), 0.1)},
        ValueError,
        "`step_sizes` must have shape (J,) or (C, J) with C = 3 as in `num_chains`, got (2, 1)",
    ),
    (
        {"step_sizes": [[0.1, 0.2], [0.1, 0.1]]},
        ValueError,
        "`step_sizes` must hold distinct step sizes, got 0.1 more than once",
    ),
]


@pytest.mark.parametrize(("options", "kind", "text"), STATISTICS)
def test_wrong_statistics(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    steps = options.pop("step_sizes", STEPS)
    with pytest.raises(kind, match="^" + re.escape(f"run: {text}")):
        sgd.run(problem(), steps, 10, **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"statistics": ["mean"]},
            "`statistics` must be ('mean', 'batch_means', 'random_scaling') as in `state`, got ('m",
        ),
        ({"batch_length": 3}, "`batch_length` must be None as in `state`, got 3"),
        (
            {"step_sizes": [[0.1, 0.2]]},
            "`step_sizes` must be [0.1, 0.3] as in `state`, got [[0.1, 0.2]]",
        ),
    ],
)
def test_statistics_cannot_change_on_the_way(options: dict[str, Any], text: str) -> None:
    state = sgd.run(problem(), STEPS, 10).state
    steps = options.pop("step_sizes", STEPS)
    with pytest.raises(ValueError, match="^" + re.escape(f"run: {text}")):
        sgd.run(problem(), steps, 10, state=state, **options)


@pytest.mark.parametrize("options", [{"clip_norm": 1.0}, {"weight_decay": 0.1}])
def test_plug_in_takes_the_gradient_as_it_is(options: dict[str, Any]) -> None:
    generator = np.random.default_rng(0)
    of = sgd.LeastSquares(generator.normal(size=(20, 2)), generator.normal(size=20))
    text = "must hold 'plug_in' only without `clip_norm` and `weight_decay` (use `l2`), got it with"
    with pytest.raises(ValueError, match=re.escape(text)):
        sgd.run(of, 0.01, 10, statistics=["plug_in"], **options)
