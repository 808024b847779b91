"""The CUDA kernels of simplex, thread by thread on a CPU, return the bits of the C++ drivers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from hotloops.simplex import _cuda
from hotloops.simplex._state import ChainArrays, Steps
from tests.simplex import driver, reference
from tests.simplex.test_kernels import PROFILES, Rows


@pytest.fixture
def device(cuda: Any) -> Any:
    """The module of the CUDA backend over the shim."""
    return cuda.shim


FORMS: dict[str, dict[str, Any]] = {
    "entropic": {"base_measure": 1.5},
    "sphere": {"base_measure": 1.25},
    "projected": {},
    "linear": {"inverse_temperature": np.inf},
    "metropolis": {"base_measure": 1.25},
    "accelerated": {"inverse_temperature": np.inf, "acceleration": 0.3},
}
CHAINS = 70  # more than a block has


def assert_same(found: ChainArrays, expected: ChainArrays) -> None:
    for name, array in found.to_dict().items():
        other = expected.to_dict()[name]
        assert array.dtype == other.dtype
        np.testing.assert_array_equal(array, other, err_msg=name)


def both(objective: Any, x: Any, form: str = "entropic", **options: Any) -> list[ChainArrays]:
    options = {"steps": (1, 7), "inverse_temperature": 50.0, **options}
    return [
        driver.advance(objective, x, form, backend=backend, **options)
        for backend in ("cuda", "cpp")
    ]


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("name", ["polynomial", "tensors", "quadratic"])
def test_forms(device: Any, name: str, form: str, precision: str) -> None:
    rng = np.random.default_rng(3)
    objective: Any = reference.wells(7)
    if name == "quadratic":
        objective = simplex.QuadraticProgram(rng.normal(size=(7, 7)) / 4, rng.normal(size=7) / 4)
    elif name == "tensors":
        tensors = [rng.normal(size=(7,) * order) / 4 for order in (1, 2, 3, 4)]
        objective = simplex.Polynomial(tensors=tensors)
    x = np.concatenate([rng.dirichlet(np.ones(n), CHAINS) for n in (3, 4)], 1).astype(precision)
    options = {"sizes": (3, 4), "covariance": True, "bins": 5, **FORMS[form]}
    assert_same(*both(objective, x, form, **options))
    device.set_max_blocks(1)
    device.set_backwards(True)
    assert_same(*both(objective, x, form, **options))


@pytest.fixture(params=["float32", "float64"])
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("name", [*PROFILES, "minibatch", "large minibatch"])
def test_sums_over_rows(device: Any, name: str, precision: str) -> None:
    given = PROFILES.get(name, (0, [0.0, -1.0, 0.25], 150 if name.startswith("large") else 21))
    objective = Rows(*given)
    x = reference.uniform_points(CHAINS, objective.dim).astype(precision)
    for blocks in (2**31 - 1, 1):
        device.set_max_blocks(blocks)
        assert_same(*both(objective, x, steps=(2, 1), step_size=0.02))


@pytest.mark.parametrize("dim", [1, 63, 65, 150])
def test_wide_rows(device: Any, dim: int, precision: str) -> None:
    """Tiles of columns, and sums that do not fit in shared memory."""
    rng = np.random.default_rng(dim)
    objective = Rows(0, [0.0, -1.0, 0.25])
    objective._set_size("Rows", (dim,))
    objective.rows = rng.normal(size=(267, dim))
    objective.weights = np.full(267, 1 / 267)
    objective.center, objective.linear = objective.rows.mean(axis=0), rng.normal(size=dim)
    x = reference.uniform_points(33, dim).astype(precision)
    assert_same(*both(objective, x, steps=(2,), step_size=0.02))


def test_terms_schedules_and_given_arrays(device: Any) -> None:
    objective = simplex.QuadraticProgram(np.eye(5)).with_terms(
        ridge=0.5, entropy=0.1, turnover=0.2, anchor=0.2, upper=0.3, groups=[([0, 3], 0.4)]
    )
    x = reference.uniform_points(5, 5)
    assert_same(*both(objective, x))
    points = [objective.value_and_grad(x)]
    state, gradient = ChainArrays.start(x.copy()), np.empty_like(x)
    _cuda.advance(
        state,
        objective.kernel,
        objective.parameters(x.dtype),
        objective._evaluation_options(x),
        Steps(
            seed=0,
            chain_offset=0,
            first_step=0,
            num_steps=0,
            accumulate=False,
            num_threads=1,
            gradient=gradient,
        ),
    )
    np.testing.assert_array_equal(state.value, points[0][0])
    np.testing.assert_array_equal(gradient, points[0][1])


def test_launches_are_cut(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = device.simplex_launch_steps
    assert steps(0, 10**9, 1, 100.0) == 10_000
    assert steps(0, 7, 1, 100.0) == 7
    assert steps(2**32 - 3, 100, 1, 1.0) == 3
    assert steps(0, 10**9, 1, 1e9) == 4
    before = device.launches()
    objective = reference.double_well()
    x = reference.uniform_points(3, 3)
    assert_same(*both(objective, x, steps=(40,), first_step=2**32 - 20))
    assert device.launches() - before == 2


@pytest.mark.parametrize(("rows", "dim"), [(1, 1), (70, 13), (200, 3)])
def test_projection(device: Any, rows: int, dim: int, precision: str) -> None:
    v = np.random.default_rng(4).normal(size=(rows, dim)).astype(precision)
    found = v.copy()
    for blocks in (2**31 - 1, 1):
        device.set_max_blocks(blocks)
        found[...] = v
        _cuda.project(found, 1)
        np.testing.assert_array_equal(found, simplex.project(v))


def test_errors_of_the_device_reach_the_caller(device: Any) -> None:
    device.fail_next_launch(35)
    with pytest.raises(RuntimeError, match="simplex_polynomial"):
        driver.advance(reference.double_well(), reference.uniform_points(3, 3), backend="cuda")
    import cupy

    x = cupy.asarray(reference.uniform_points(3, 3))
    arrays = ChainArrays(**{k: cupy.asarray(v) for k, v in ChainArrays.start(x).to_dict().items()})
    arrays.best_x = arrays.best_x[:, :2]
    objective = reference.double_well()
    with pytest.raises(ValueError, match="simplex: `best_x` must be a float64 array"):
        _cuda.advance(
            arrays,
            objective.kernel,
            objective.parameters(np.dtype("float64")),
            objective._evaluation_options(np.asarray(x)),
            Steps(
                seed=0,
                chain_offset=0,
                first_step=0,
                num_steps=1,
                accumulate=False,
                num_threads=1,
            ),
        )
