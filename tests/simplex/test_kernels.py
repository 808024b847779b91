"""The kernels behind the objectives and forms: bits, sums over rows, chains that fail."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from hotloops._runtime import dispatch
from hotloops.simplex._state import ChainArrays
from tests.simplex import driver, reference

DIM, ROWS = 13, 301  # neither fills the blocks of the two products


@cache
def returns() -> Any:
    shape = (ROWS, DIM)
    return np.random.default_rng(5).standard_t(4, shape) + 0.1 * np.arange(DIM)


class Rows(simplex.Objective):
    """A sum of ridge functions as the kernel takes it."""

    kernel = "ridge_sum"

    def __init__(self, profile: int, coefficients: Any, batch: int = 0, scale: float = 1.0) -> None:
        self._set_size("Rows", (DIM,))
        rng = np.random.default_rng(6)
        self.rows = returns() * scale
        self.weights = rng.random(ROWS) / ROWS
        self.center = self.weights @ self.rows
        self.linear = rng.normal(size=DIM)
        self.profile, self.coefficients, self.batch = profile, np.array(coefficients), batch

    def parameters(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        vectors = (self.rows, self.weights, self.center, self.linear)
        kept = tuple(np.ascontiguousarray(array, dtype) for array in vectors)
        return (*kept, self.profile, self.coefficients.astype(dtype), self.batch)

    def _q(self, y: Any) -> Any:
        a = self.coefficients
        if self.profile == 0:
            return np.polynomial.polynomial.polyval(y, a)
        if self.profile == 1:
            return sum(a[:, k] * y**k for k in range(a.shape[1]))
        if self.profile == 2:
            return (1 - (1 + y) ** (1 - a[0])) / (1 - a[0])
        return -np.log(1 + y) if self.profile == 3 else np.exp(-a[0] * (1 + y)) / a[0]

    def value(self, x: Any) -> float:
        y = (self.rows - self.center) @ x
        if self.profile == 5:
            m2, m3, m4 = (float(self.weights @ y**k) for k in (2, 3, 4))
            a = self.coefficients
            return float(self.linear @ x + a[0] * m2 + a[1] * m3 / m2**1.5 + a[2] * m4 / m2**2)
        return float(self.linear @ x + self.weights @ self._q(y))

    def _own_value_and_grad(self, x: Any) -> Any:
        """Value, and gradient by central differences."""
        width = 1e-6
        slopes = [
            (self.value(x + shift) - self.value(x - shift)) / (2 * width)
            for shift in width * np.eye(DIM)
        ]
        return self.value(x), np.array(slopes)


PROFILES: dict[str, tuple[Any, ...]] = {
    "polynomial": (0, [0.5, -1.0, 0.25, -0.125, 0.0625]),
    "constant": (0, [1.5]),
    "degree 8": (0, [0.5, -1.0, 0.25, -0.125, 0.5, 0.25, -0.5, 0.125, 0.0625], 0, 0.1),
    "row_polynomials": (1, np.random.default_rng(1).normal(size=(ROWS, 4))),
    "power": (2, [3.5], 0, 0.01),
    "log": (3, [0.0], 0, 0.01),
    "exponential": (4, [2.5], 0, 0.01),
    "standardised": (5, [0.5, -0.75, 0.25]),
}


@pytest.mark.parametrize("name", list(PROFILES))
@pytest.mark.parametrize("points", [1, 21])
def test_sums_over_rows(name: str, points: int, precision: str) -> None:
    objective = Rows(*PROFILES[name])
    x = reference.uniform_points(points, DIM).astype(precision)
    value, gradient = objective.value_and_grad(x)
    single = precision == "float32"
    precise = [objective.precise_value_and_grad(row.astype(float)) for row in x]
    np.testing.assert_allclose(
        value,
        [one[0] for one in precise],
        rtol=2e-6 if single else 1e-13,
        atol=2e-6 if single else 1e-14,
    )
    slack = 1e-5 if single else 1e-8
    np.testing.assert_allclose(gradient, [one[1] for one in precise], rtol=slack, atol=slack)


def test_the_gradient_of_a_minibatch_is_that_of_its_rows() -> None:
    """Rows are words of stream 5, as in the loops over rows of data."""
    from hotloops import random

    batch, first_step, chain = 21, 3, 4
    objective = Rows(0, [0.0, -1.0, 0.25, -0.125], batch)
    x = reference.uniform_points(1, DIM)
    words = random.philox(
        [[first_step, 5 << 16, chain, block] for block in range(-(-batch // 4))],
        [[driver.SEED & 0xFFFFFFFF, driver.SEED >> 32]],
    )
    rows = (words.reshape(-1)[:batch].astype(np.uint64) * np.uint64(ROWS)) >> np.uint64(32)
    y = (objective.rows[rows] - objective.center) @ x[0]
    slope = -1.0 + 0.5 * y - 0.375 * y**2
    weight = objective.weights[rows] * slope * ROWS / batch
    gradient = objective.linear + weight @ (objective.rows[rows] - objective.center)
    moved = driver.advance(
        objective, x, steps=(1,), step_size=0.05, first_step=first_step, chain_offset=chain
    )
    expected = reference.entropic(x[0], gradient, np.zeros(DIM), 0.05, np.inf)
    np.testing.assert_allclose(moved.x[0], expected, rtol=1e-12)
    np.testing.assert_allclose(moved.value[0], objective.value(moved.x[0]), rtol=1e-12)


# What is compiled for Numba, each once: (objective, form, precision, settings).
RUNS: dict[str, tuple[Any, str, str, dict[str, Any]]] = {
    "polynomial of rows": (PROFILES["polynomial"], "entropic", "float32", {}),
    "polynomial of rows, double": (PROFILES["polynomial"], "entropic", "float64", {}),
    "own polynomials of rows": (PROFILES["row_polynomials"], "sphere", "float32", {}),
    "power": (PROFILES["power"], "entropic", "float64", {}),
    "log": (PROFILES["log"], "entropic", "float64", {}),
    "exponential": (PROFILES["exponential"], "entropic", "float64", {}),
    "standardised": (PROFILES["standardised"], "entropic", "float32", {}),
    "minibatch": ((0, [0.0, -1.0, 0.25], 150), "entropic", "float64", {}),
    "metropolis": (None, "metropolis", "float64", {"base_measure": 1.25}),
    "accelerated": (None, "accelerated", "float32", {"acceleration": 0.3, "sizes": (2, 3)}),
}


def run(name: str, backend: str = "cpp", num_threads: int = 2, **more: Any) -> ChainArrays:
    given, form, precision, settings = RUNS[name]
    objective: simplex.Objective = reference.wells(5) if given is None else Rows(*given)
    x = reference.uniform_points(37, objective.dim).astype(precision)
    if form == "accelerated":
        x = np.concatenate(
            [reference.uniform_points(37, n, n) for n in (2, 3)], 1, dtype=np.float32
        )
    else:
        settings = {"inverse_temperature": [30.0 + k for k in range(37)], **settings}
    settings = {"covariance": True, "bins": 7, **settings, **more}
    return driver.advance(objective, x, form, backend=backend, num_threads=num_threads, **settings)


def assert_same(found: ChainArrays, expected: ChainArrays) -> None:
    for name, array in found.to_dict().items():
        np.testing.assert_array_equal(array, expected.to_dict()[name], err_msg=name)


@pytest.mark.parametrize("name", list(RUNS))
def test_bits_of_threads_and_calls(name: str) -> None:
    first = run(name)
    assert np.unique(first.x, axis=0).shape[0] == 37
    assert not first.flags.any()
    assert (first.accepted > 0).all() == (RUNS[name][1] == "metropolis")
    assert_same(run(name, num_threads=1), first)
    assert_same(run(name, steps=(1, 13, 36)), first)


@pytest.mark.parametrize("name", list(RUNS))
def test_bits_of_numba(name: str) -> None:
    if RUNS[name][0] is not None and dispatch.core().isa() == "base":
        pytest.skip("sums over rows are of class B: base has no multiply-add")
    assert_same(run(name, "numba"), run(name))


def digest(name: str) -> str:
    state = hashlib.sha256()
    for array in run(name).to_dict().values():
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def test_instruction_sets(isa: Any) -> None:
    """Sums over rows have the same bits on all levels that have multiply-add (class B)."""
    root = str(Path(__file__).parents[2])
    code = (
        f"import sys, json\nsys.path.insert(0, {root!r})\n"
        "from tests.simplex import test_kernels as t\n"
        "print(json.dumps({name: t.digest(name) for name in t.RUNS}))\n"
    )
    answers = {level: json.loads(text) for level, text in isa.run_all(code).items()}
    for name, (given, *_) in RUNS.items():
        found = {a[name] for level, a in answers.items() if level != "base" or given is None}
        assert len(found) == 1, name


def test_moments_and_histograms() -> None:
    objective = reference.double_well()
    x = reference.uniform_points(5, 3)
    found = driver.advance(
        objective, x, steps=(1,) * 20, inverse_temperature=20.0, covariance=True, bins=4
    )
    points = [
        driver.advance(objective, x, steps=(count,), inverse_temperature=20.0).x
        for count in range(1, 21)
    ]
    trace = np.array(points)
    products = np.einsum("kci,kcj->cij", trace, trace)
    np.testing.assert_allclose(found.products, products, rtol=1e-13)
    np.testing.assert_allclose(
        found.squares, np.diagonal(found.products, axis1=1, axis2=2), rtol=1e-13
    )
    for chain in range(5):
        for s in range(3):
            counts, _ = np.histogram(trace[:, chain, s], bins=4, range=(0, 1))
            np.testing.assert_array_equal(found.histogram[chain, s], counts)


def test_best_points_of_minibatches_are_points_of_the_objective() -> None:
    batch = 100  # an epoch is four steps
    objective = Rows(0, [0.0, -1.0, 0.25], batch)
    x = reference.uniform_points(3, DIM)
    found = driver.advance(objective, x, steps=(9,), step_size=0.3, first_step=8)
    met = [
        driver.advance(objective, x, steps=(k,), step_size=0.3, first_step=8).x for k in (0, 4, 8)
    ]
    values = np.array([[objective.value(row) for row in points] for points in met])
    np.testing.assert_allclose(found.best_value, values.min(axis=0), rtol=1e-12)
    best = np.array(met)[values.argmin(axis=0), np.arange(3)]
    np.testing.assert_array_equal(found.best_x, best)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_the_adjusted_form_has_no_bias(alpha: float) -> None:
    """E x_s^2 = (alpha + 1) / (3 (3 alpha + 1)) for flat f, whatever the step."""
    flat = simplex.Polynomial([(0.0, [])], 3)
    start = np.random.default_rng(2).dirichlet([alpha] * 3, 1000)
    steps = 1500
    found = driver.advance(
        flat,
        np.maximum(start, 1e-12),
        "metropolis",
        step_size=0.4,
        inverse_temperature=1.0,
        base_measure=alpha,
        steps=(steps,),
    )
    squares = (found.squares / steps).mean(axis=1)
    error = squares.std() / np.sqrt(squares.size)
    assert error < 5e-4
    assert abs(squares.mean() - (alpha + 1) / (3 * (3 * alpha + 1))) < 4 * error
    assert (alpha == 0.5) == (found.accepted == steps).all()


def test_accelerated_weights_on_the_double_well() -> None:
    """Reference runs: the same local minimum as without, and a slower approach to the global."""
    near, far = np.array([[0.7, 0.2, 0.1]]), np.array([[0.3, 0.3, 0.4]])
    objective = reference.double_well()
    ended = driver.advance(
        objective, near, "accelerated", step_size=0.5, acceleration=0.1, steps=(2000,)
    )
    np.testing.assert_allclose(ended.value, 0.007977559358, atol=1e-12)
    begun = driver.advance(
        objective, far, "accelerated", step_size=0.5, acceleration=0.3, steps=(51,)
    )
    np.testing.assert_allclose(begun.value, 1.93e-6, rtol=5e-3)


@pytest.mark.parametrize(
    ("form", "backend"),
    [("entropic", "cpp"), ("entropic", "numba"), ("metropolis", "cpp"), ("accelerated", "cpp")],
)
def test_a_chain_that_fails_is_frozen(form: str, backend: str) -> None:
    """Log utility beyond ruin: infinite costs stop their chain at once and no other one."""
    objective = Rows(3, [0.0], 0, 0.01)
    objective.rows = objective.rows.copy()
    objective.rows[7, 0] = -300.0  # ruin for those who hold much of the first asset
    objective.center = np.zeros(DIM)
    x = np.full((2, DIM), 1e-9)
    x[0, 0] = x[1, 1] = 1.0
    x /= x.sum(axis=1, keepdims=True)
    found = driver.advance(
        objective,
        x,
        form,
        step_size=1e-6,
        inverse_temperature=np.inf if form == "accelerated" else 1e9,
        acceleration=0.1,
        backend=backend,
    )
    assert found.flags.tolist() == [1, 0]
    assert found.failed_at.tolist() == [2**32 - 20, -1]
    np.testing.assert_array_equal(found.x[0], x[0])
    assert np.isfinite(found.x).all()


def test_memory_is_checked_by_the_binding() -> None:
    objective = Rows(*PROFILES["polynomial"])
    good = objective.parameters(np.dtype("float64"))
    x = reference.uniform_points(2, DIM)
    for place, wrong in (
        (0, good[0][:, 1:].copy()),
        (1, good[1][1:]),
        (2, good[2][1:]),
        (3, good[3][1:]),
        (4, 6),
        (5, np.zeros(10)),
        (6, -1),
    ):
        parameters = [*good[:place], wrong, *good[place + 1 :]]
        objective.parameters = lambda dtype, given=parameters: tuple(given)  # type: ignore[method-assign, misc, assignment]
        with pytest.raises(ValueError, match="simplex_ridge_sum"):
            driver.advance(objective, x)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("parents", lambda a: a + 4, "parents before them"),
        ("factors", lambda a: a * 0, "factors up to dim"),
        ("factors", lambda a: a[1:], "parents before them"),
        ("heights", lambda a: a * 0 + 3, "take up all rows"),
        ("widths", lambda a: -a, "take up all rows"),
        ("rows", lambda a: a[1:], "take up all rows"),
        ("columns", lambda a: a[1:], "take up all rows"),
        ("coefficients", lambda a: a[1:], "take up all rows"),
        ("rows", lambda a: a + 100, "lie in the list"),
        ("columns", lambda a: a - 100, "lie in the list"),
    ],
)
def test_blocks_are_checked_by_the_binding(
    name: str, change: Callable[[Any], Any], words: str
) -> None:
    polynomial = reference.double_well()
    names = ("parents", "factors", "heights", "widths", "rows", "columns", "coefficients")
    blocks = dict(zip(names, polynomial.parameters(np.dtype("float64")), strict=True))
    blocks[name] = np.ascontiguousarray(change(blocks[name]))
    polynomial.parameters = lambda dtype: tuple(blocks.values())  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=f"simplex_polynomial: .*{words}"):
        driver.advance(polynomial, reference.uniform_points(2, 3))
