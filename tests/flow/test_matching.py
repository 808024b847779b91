"""Conditional flow matching: draws, training, samples, densities, files."""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.spatial.distance import cdist

import hotloops
from hotloops import flow
from hotloops._runtime import dispatch
from hotloops.flow._matching_batch import (
    MatchingData,
    MatchingRule,
    draw_batch,
    epoch_order,
    pair_rows,
)
from tests.flow.fields import sides

SIZE = 37


def rule(**changes: Any) -> MatchingRule:
    given = {
        "sigma": 0.0,
        "optimal": False,
        "p_cond": 0.8,
        "per_batch": False,
        "together": False,
        "antithetic": True,
        "seed": 2**40 + 7,
    }
    return MatchingRule(**(given | changes))


def training_set(d: int, attributes: int, modalities: int, dtype: Any = "float64") -> MatchingData:
    rng = np.random.default_rng(d)
    return MatchingData(
        rng.normal(size=(50, d)).astype(dtype),
        rng.random((modalities, 50)).astype(dtype),
        rng.integers(-1, 3, (attributes, 50)).astype(np.int32),
    )


def draw(
    how: MatchingRule, data: MatchingData, rows: Any, step: int, size: int = SIZE
) -> tuple[list[Any], list[Any]]:
    """Return the tables of a batch: dense ones (z, t, sizes, target) and labels."""
    d, kind = data.z.shape[1], data.z.dtype
    widths = [d, 1, *[1] * len(data.sizes), d]
    dense = [np.full((size, width), np.nan, kind) for width in widths]
    labels = [np.full(size, -9, np.int32) for _ in data.labels]
    draw_batch(how, data, rows, step, dense, labels, "numba")
    return dense, labels


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimal", [False, True])
def test_points_lie_on_paths(optimal: bool) -> None:
    how, data = rule(optimal=optimal, sigma=0.0), training_set(6, 1, 2)
    rows = np.arange(SIZE)
    (z, t, first, second, u), _ = draw(how, data, rows, 5)
    # With sigma 0 both paths are straight lines, which end in the data.
    assert np.allclose(z + (1.0 - t) * u, data.z[rows], rtol=0, atol=1e-14)
    noise = z - t * u
    assert abs(noise.mean()) < 4.0 / np.sqrt(noise.size)
    assert np.array_equal(first[:, 0], data.sizes[0, rows])
    assert np.array_equal(second[:, 0], data.sizes[1, rows])


def test_the_width_of_the_paths() -> None:
    data, rows = training_set(6, 0, 0), np.arange(SIZE)
    (z, t, u), _ = draw(rule(sigma=0.3), data, rows, 2)
    noise = (data.z[rows] - u) / 0.7
    assert np.allclose(z, t * data.z[rows] + (1.0 - 0.7 * t) * noise, rtol=0, atol=1e-14)
    (plain, _, straight), _ = draw(rule(optimal=True), data, rows, 2)
    (blurred, _, same), _ = draw(rule(optimal=True, sigma=0.1), data, rows, 2)
    blur = (blurred - plain) / 0.1
    assert np.array_equal(straight, same)
    assert abs(blur.mean()) < 4.0 / np.sqrt(blur.size)
    assert blur.std() == pytest.approx(1.0, abs=4.0 / np.sqrt(2.0 * blur.size))


@pytest.mark.parametrize("size", [1, 7, 49, 256])
def test_antithetic_times(size: int) -> None:
    """A batch has `size` times whatever its size is, one in each part of the unit interval."""
    data = training_set(2, 0, 0)
    for step in range(5):
        (_, t, _), _ = draw(rule(), data, np.zeros(size, np.int64), step, size)
        assert np.array_equal(np.floor(t[:, 0] * size + 1e-9), np.arange(size))
        assert np.allclose(np.diff(t[:, 0]), 1.0 / size)


def test_uniform_times() -> None:
    data = training_set(1, 0, 0)
    rows = np.zeros(4000, np.int64)
    (_, t, _), _ = draw(rule(antithetic=False), data, rows, 0, 4000)
    assert t.mean() == pytest.approx(0.5, abs=4.5 / np.sqrt(12.0 * 4000))
    assert t.std() == pytest.approx(np.sqrt(1.0 / 12.0), abs=0.02)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("per_batch", [False, True])
def test_labels_that_are_seen(per_batch: bool, together: bool) -> None:
    how = rule(per_batch=per_batch, together=together)
    data = MatchingData(np.zeros((1, 1)), np.zeros((0, 1)), np.array([[0], [1], [2]], np.int32))
    size, steps = (20, 1500) if per_batch else (3000, 10)
    rows, shown = np.zeros(size, np.int64), []
    for step in range(steps):
        _, labels = draw(how, data, rows, step, size)
        table = np.array(labels)
        if per_batch:
            assert np.all(table == table[:, :1])
            table = table[:, :1]
        shown.append(table)
    table = np.concatenate(shown, axis=1) >= 0
    trials, share = table.shape[1], 0.8 if together else 0.8 / 3.0
    bound = 4.5 * np.sqrt(share * (1.0 - share) / trials)
    assert np.allclose(table.mean(axis=1), share, rtol=0, atol=bound)
    assert set(table.sum(axis=0)) == ({0, 3} if together else {0, 1})


def test_native_batches_have_the_same_bits() -> None:
    core = dispatch.core()
    rows = np.random.default_rng(0).integers(0, 50, (3, SIZE))
    first = 2**33
    call = ctypes.CFUNCTYPE(
        ctypes.c_int32, ctypes.c_void_p, *[ctypes.c_int64] * 3, *[ctypes.c_void_p] * 2
    )
    flags = itertools.product(
        ("float32", "float64"), *[(False, True)] * 4, (0.0, 0.1), ((1, 0, 2), (6, 2, 0))
    )
    for dtype, optimal, per_batch, together, antithetic, sigma, sizes in flags:
        data = training_set(*sizes, dtype)
        how = rule(
            sigma=sigma,
            optimal=optimal,
            per_batch=per_batch,
            together=together,
            antithetic=antithetic,
        )
        expected = draw(how, data, rows[1], first + 1)
        got = [[np.full_like(table, -7) for table in tables] for tables in expected]
        make = getattr(core, f"FlowMatching{dtype.capitalize()}")
        native = make(
            data.z,
            data.sizes,
            data.labels,
            rows,
            first,
            sigma,
            0.8,
            optimal,
            per_batch,
            together,
            antithetic,
            how.seed,
        )
        pointers = [np.array([t.ctypes.data for t in tables], np.uint64) for tables in got]
        for begin, end in ((0, 20), (20, SIZE)):
            tables = pointers[0].ctypes.data, pointers[1].ctypes.data
            prepare = call(native.address)
            assert prepare(native.context, first + 1, begin, end, *tables) == 0
            assert prepare(native.context, first + 3, begin, end, *tables) == 1  # no such step
        for ours, theirs in zip(got[0] + got[1], expected[0] + expected[1], strict=True):
            assert np.array_equal(ours, theirs), (dtype, optimal, per_batch, together, antithetic)


def test_pairs_are_nearest_among_equal_labels() -> None:
    drawn = training_set(3, 2, 0)
    data = MatchingData(drawn.z, drawn.sizes, np.abs(drawn.labels))  # all are known
    rows = np.random.default_rng(1).permutation(50)[:SIZE]
    how = rule(optimal=True)
    paired = pair_rows(how, data, rows, 9, "numba")
    assert np.array_equal(np.sort(paired), np.sort(rows))
    before, after = draw(how, data, rows, 9), draw(how, data, paired, 9)
    for a, b in zip(before[1], after[1], strict=True):
        assert np.array_equal(a, b)
    noise = before[0][0] - before[0][1] * before[0][2]
    cost = cdist(noise, data.z[paired], "sqeuclidean")
    labels = np.array(before[1])
    current = np.diag(cost)
    swapped = current[:, None] + current - cost - cost.T  # what a swap of two would gain
    same = np.all(labels[:, :, None] == labels[:, None, :], axis=0)
    assert swapped[same].max() < 1e-9
    assert current.sum() < cdist(noise, data.z[rows], "sqeuclidean").trace()


def test_an_epoch_sees_every_row_once() -> None:
    orders = [epoch_order(3, epoch, 1000, "numba") for epoch in range(3)]
    for order in orders:
        assert np.array_equal(np.sort(order), np.arange(1000))
    assert not np.array_equal(orders[0], orders[1])
    assert abs(np.corrcoef(orders[0], orders[2])[0, 1]) < 4.5 / np.sqrt(1000)


# --- training ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> flow.ConditionalFlowMatching:
    """Trained on the two sides."""
    z, side = sides(20000)
    flow_model = flow.ConditionalFlowMatching(2, attributes={"side": 2}, seed=1)
    return flow_model.fit(z, {"side": side}, num_steps=3000, learning_rate=1e-3)


def test_training_learns_both_sides(model: flow.ConditionalFlowMatching) -> None:
    from scipy.optimize import linear_sum_assignment

    for side, centre in ((0, -2.0), (1, 2.0)):
        drawn = model.sample(1000, {"side": side}, steps=40, seed=5)
        assert np.allclose(drawn.mean(axis=0), [centre, 0.0], atol=0.15)
        assert np.allclose(drawn.std(axis=0), 0.5, atol=0.1)
        fresh = 0.5 * np.random.default_rng(9).normal(size=(1000, 2)) + [centre, 0.0]
        cost = cdist(drawn, fresh, "sqeuclidean")
        assert np.sqrt(cost[linear_sum_assignment(cost)].mean()) < 0.25
    everything = model.sample(2000, steps=40, seed=5)
    assert 0.4 < (everything[:, 0] > 0.0).mean() < 0.6


def test_guidance_sharpens(model: flow.ConditionalFlowMatching) -> None:
    spreads = [
        model.sample(500, {"side": 1}, weights=w, seed=2)[:, 0].mean() for w in (0.0, 1.0, 2.0)
    ]
    assert spreads[0] < 1.0 < spreads[1] < spreads[2]


def test_inversion_and_transfer(model: flow.ConditionalFlowMatching) -> None:
    z, side = sides(300, seed=4)
    labels = {"side": side}
    noise = model.invert(z, labels)
    assert np.allclose(noise.std(axis=0), 1.0, atol=0.2)
    # The time enters by waves of up to 1000 radians, which the error of a step sees only in part.
    assert np.abs(model.transfer(z, labels, labels) - z).max() < 2e-2
    fine: dict[str, Any] = {"method": "rk4", "steps": 400}
    assert np.abs(model.transfer(z, labels, labels, **fine) - z).max() < 1e-4
    moved = model.transfer(z, labels, {"side": 1}, **fine)
    assert np.abs(moved[side == 1] - z[side == 1]).max() < 1e-4
    assert moved[side == 0].mean(axis=0) == pytest.approx([2.0, 0.0], abs=0.25)


def test_samples_are_the_same_cell_by_cell(model: flow.ConditionalFlowMatching) -> None:
    codes = np.arange(100) % 2
    whole = model.sample(labels={"side": codes}, seed=3)
    parts = [
        model.sample(labels={"side": codes[a:b]}, seed=3, first=a)
        for a, b in ((0, 1), (1, 70), (70, 100))
    ]
    assert np.array_equal(np.concatenate(parts), whole)
    noise = hotloops.random.normals(3, [0], 100, 2, 4, dtype=np.float32)[0]
    start = flow.integrate(
        model.network_,
        noise,
        method="midpoint",
        steps=20,
        labels={"side": codes},
        weights=1.0,
    )
    assert np.array_equal(start, whole)


def test_velocity_of_the_model(model: flow.ConditionalFlowMatching) -> None:
    z, _ = sides(20)
    inside = model.network_.velocity(z.astype(np.float32), 0.3, {"side": 1})
    assert np.array_equal(model.velocity(z, 0.3, {"side": 1}), inside)


# --- settings ------------------------------------------------------------------------------------

SETTINGS: list[dict[str, Any]] = [
    {},
    {"coupling": "ot", "sigma": 0.05},
    {"drop": "batch", "times": "uniform"},
    {"conditioning": "all"},
    {"ema": 0.9},
    {"standardize": True},
    {"normalization": "layer"},
    {"normalization": "batch"},
    {"dropout": 0.2},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_going_on_has_the_same_bits(settings: dict[str, Any], tmp_path: Path) -> None:
    z, side = sides(600)
    labels, log_size = {"side": side, "odd": np.arange(600) % 3}, np.linspace(6.0, 8.0, 600)

    def fit(model: Any, steps: int, **options: Any) -> Any:
        return model.fit(z, labels, log_size, num_steps=steps, batch_size=64, **options)

    whole = fit(flow.ConditionalFlowMatching(2, 16, 6, 2, dtype="float64", **settings), 25)
    half = fit(flow.ConditionalFlowMatching(2, 16, 6, 2, dtype="float64", **settings), 11)
    half.save(tmp_path / "half.npz")
    again = flow.ConditionalFlowMatching.load(tmp_path / "half.npz")
    assert again.get_params() == half.get_params()
    fit(again, 14, state=again.state_)
    assert again.num_steps_ == 25
    assert np.array_equal(again.losses_, whole.losses_)
    assert np.array_equal(again.network_.flat_parameters, whole.network_.flat_parameters)
    drawn = again.sample(5, {"side": 1}, log_size=7.0)
    assert np.array_equal(drawn, whole.sample(5, {"side": 1}, log_size=7.0))


def test_watching_threads_and_backends() -> None:
    z, side = sides(600)

    def fit(**options: Any) -> Any:
        model = flow.ConditionalFlowMatching(2, 16, 6, 2, dtype="float64")
        return model.fit(z, {"side": side}, num_steps=20, batch_size=64, **options)

    native = fit(num_threads=1)
    for options in ({"num_threads": 3}, {"max_seconds": 1e6}):
        again = fit(**options)
        assert again.complete_
        assert np.array_equal(again.network_.flat_parameters, native.network_.flat_parameters)
    twin = fit(backend="numba")
    assert np.allclose(twin.losses_, native.losses_, rtol=0, atol=1e-9)
    stopped = fit(max_seconds=0.0)
    assert not stopped.complete_
    assert stopped.num_steps_ == 0


def test_the_average_is_what_samples_are_drawn_with() -> None:
    z, side = sides(600)
    model = flow.ConditionalFlowMatching(2, ema=0.9, dtype="float64")
    model.fit(z, {"side": side}, num_steps=10, batch_size=64)
    assert np.array_equal(model.network_.flat_parameters, model.state_.average)
    assert not np.array_equal(model.state_.parameters, model.state_.average)


def test_standardized_data() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 2)) * [30.0, 0.01] + [500.0, -3.0]
    model = flow.ConditionalFlowMatching(2, standardize=True).fit(
        z, num_steps=300, learning_rate=3e-3
    )
    drawn = model.sample(1000, seed=1)
    assert drawn.mean(axis=0) == pytest.approx([500.0, -3.0], rel=0.02)
    assert drawn.std(axis=0) == pytest.approx([30.0, 0.01], rel=0.3)
    back = model.transfer(z[:50], {}, {}, method="rk4", steps=400)
    assert np.abs((back - z[:50]) / [30.0, 0.01]).max() < 1e-3


# --- densities -----------------------------------------------------------------------------------


QUICK: dict[str, Any] = {"method": "rk4", "steps": 25}


def rough_model(dim: int, **options: Any) -> flow.ConditionalFlowMatching:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, dim)) * 0.7 + 1.0
    model = flow.ConditionalFlowMatching(dim, 16, 6, 2, dtype="float64", **options)
    return model.fit(
        z, {"a": rng.integers(0, 3, 400)}, num_steps=100, batch_size=64, learning_rate=5e-3
    )


def test_densities_integrate_to_one(backend: str) -> None:
    model = rough_model(1, standardize=True)
    grid = np.linspace(-6.0, 8.0, 401)[:, None]
    for conditions in ({}, {"labels": {"a": 1}}, {"labels": {"a": 1}, "weights": 2.0}):
        density = np.exp(model.log_density(grid, backend=backend, **QUICK, **conditions))
        assert trapezoid(density, grid[:, 0]) == pytest.approx(1.0, abs=2e-3)


def test_the_density_is_that_of_the_samples() -> None:
    model = rough_model(1)
    drawn = model.sample(4000, method="rk4", steps=25, seed=1)[:, 0]
    edges = np.quantile(drawn, [0.1, 0.3, 0.5, 0.7, 0.9])
    for low, high in itertools.pairwise(edges):
        grid = np.linspace(low, high, 101)
        share = trapezoid(np.exp(model.log_density(grid[:, None], **QUICK)), grid)
        assert share == pytest.approx(0.2, abs=4.5 * np.sqrt(0.16 / 4000))


def test_divergence_by_probes() -> None:
    model = rough_model(3)
    z = np.random.default_rng(1).normal(size=(20, 3))
    exact = model.log_density(z, {"a": 2}, **QUICK)
    options: dict[str, Any] = {"divergence": "hutchinson", "num_probes": 400, **QUICK}
    estimates = model.log_density(z, {"a": 2}, **options)
    assert np.abs(estimates - exact).max() < 0.3
    options["num_probes"] = 1
    one = [model.log_density(z, {"a": 2}, seed=s, **options) for s in range(40)]
    error = np.std(one, axis=0) / np.sqrt(40)
    assert np.all(np.abs(np.mean(one, axis=0) - exact) < 5.0 * error + 1e-3)


# --- parameters and errors -----------------------------------------------------------------------


def test_parameters_as_in_scikit_learn() -> None:
    model = flow.ConditionalFlowMatching(3, hidden=8, ema=0.99)
    assert model.get_params()["hidden"] == 8
    assert model.set_params(hidden=16, sigma=0.1) is model
    assert repr(model) == "ConditionalFlowMatching(dim=3, hidden=16, sigma=0.1, ema=0.99)"
    with pytest.raises(ValueError, match="there is no parameter `width`"):
        model.set_params(width=3)


def test_clone() -> None:
    base = pytest.importorskip("sklearn.base")
    model = flow.ConditionalFlowMatching(3, attributes={"a": 2}, coupling="ot")
    assert base.clone(model).get_params() == model.get_params()


def test_attributes_come_from_the_labels() -> None:
    z, side = sides(100)
    model = flow.ConditionalFlowMatching(2).fit(z, {"side": side}, num_steps=1, batch_size=50)
    assert model.attributes_ == {"side": 2}
