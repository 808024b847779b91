"""What every step keeps, and what must not change it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import random, simplex
from tests.simplex import reference

FORMS = ["entropic", "sphere", "projected"]


@pytest.mark.parametrize("form", FORMS)
def test_weights_stay_on_the_simplices(form: str, engine: str, precision: str) -> None:
    sizes = (3, 1, 9)
    rng = np.random.default_rng(0)
    program = simplex.QuadraticProgram(rng.normal(size=(13, 13)))
    result = simplex.lmwu(
        program,
        sizes=sizes,
        step_size=0.05,
        inverse_temperature=10.0,
        retraction=form,
        num_steps=500,
        num_chains=21,
        trace_every=1,
        dtype=precision,
        polish_steps=0,
        backend=engine,
        seed=3,
    )
    x = result.trace.astype(np.float64)
    if form == "projected":
        assert x.min() == 0.0
    else:
        assert x.min() > 0.0
        assert result.smallest.min() == result.trace.min()
    begin = 0
    for n in sizes:
        error = abs(x[..., begin : begin + n].sum(axis=-1) - 1.0).max()
        assert error <= (1e-15 * n if precision == "float64" else 4 * 2.0**-24 * max(n, 2))
        begin += n


@pytest.mark.parametrize("form", ["entropic", "sphere"])
def test_a_shift_of_the_gradient_changes_nothing(form: str) -> None:
    rng = np.random.default_rng(1)
    sizes = (4, 5)
    x = np.concatenate([rng.dirichlet(np.ones(n), 30) for n in sizes], axis=1)
    g = rng.normal(size=x.shape)
    shift = np.repeat([[3.0, -70.0]], [4, 5], axis=1)
    settings: dict[str, Any] = {
        "step_size": 0.1,
        "inverse_temperature": 50.0,
        "retraction": form,
        "sizes": sizes,
        "seed": 3,
    }
    plain = simplex.lmwu_step(x, g, **settings)
    moved = simplex.lmwu_step(x, g + shift, **settings)
    np.testing.assert_allclose(moved, plain, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_permuted_weights_make_permuted_steps(form: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.dirichlet(np.ones(11), 17)
    g, z = rng.normal(size=(2, 17, 11))
    order = rng.permutation(11)
    settings: dict[str, Any] = {
        "step_size": 0.1,
        "inverse_temperature": 50.0,
        "retraction": form,
    }
    plain = simplex.lmwu_step(x, g, noise=z, **settings)
    permuted = simplex.lmwu_step(x[:, order], g[:, order], noise=z[:, order], **settings)
    np.testing.assert_allclose(permuted, plain[:, order], rtol=1e-11, atol=1e-15)


def test_infinite_inverse_temperature_is_plain_multiplicative_weights(engine: str) -> None:
    settings: dict[str, Any] = {"step_size": 0.3, "num_steps": 40, "backend": engine}
    x0 = [0.7, 0.2, 0.1]
    plain = simplex.mwu(reference.double_well(), x0=x0, **settings)
    cold = simplex.lmwu(
        reference.double_well(), x0=x0, inverse_temperature=np.inf, seed=7, **settings
    )
    np.testing.assert_array_equal(plain.chains_x, cold.chains_x)
    # A cold chain is not disturbed by warm ones beside it.
    mixed = simplex.lmwu(
        reference.double_well(),
        x0=x0,
        num_chains=4,
        inverse_temperature=[np.inf, 10.0],
        **settings,
    )
    np.testing.assert_array_equal(mixed.chains_x[::2], np.repeat(plain.chains_x, 2, axis=0))
    assert not np.array_equal(mixed.chains_x[1], plain.chains_x[0])


@pytest.mark.parametrize("form", FORMS)
def test_a_product_of_simplices_is_its_parts(form: str, engine: str) -> None:
    """With a separable objective and the same noise coordinates each part runs alone."""
    rng = np.random.default_rng(3)
    blocks = [rng.normal(size=(4, 4)), rng.normal(size=(3, 3))]
    whole = np.zeros((7, 7))
    whole[:4, :4], whole[4:, 4:] = blocks
    settings: dict[str, Any] = {
        "step_size": 0.05,
        "inverse_temperature": 30.0,
        "retraction": form,
    }
    x = np.full((5, 7), 1.0)
    x[:, :4] /= 4
    x[:, 4:] /= 3
    for step in range(20):
        noise = random.normals(9, [step], range(5), 7)[0]
        left, right = (
            simplex.lmwu_step(
                x[:, cut],
                simplex.QuadraticProgram(block).value_and_grad(x[:, cut])[1],
                noise=noise[:, cut],
                **settings,
            )
            for cut, block in ((np.s_[:4], blocks[0]), (np.s_[4:], blocks[1]))
        )
        x = np.concatenate([left, right], axis=1)
    result = simplex.lmwu(
        simplex.QuadraticProgram(whole),
        sizes=(4, 3),
        num_steps=20,
        num_chains=5,
        seed=9,
        polish_steps=0,
        backend=engine,
        **settings,
    )
    np.testing.assert_allclose(result.chains_x, x, rtol=1e-11, atol=1e-14)


def test_noise_is_that_of_the_streams(engine: str, precision: str) -> None:
    """lmwu_step with the normals of `hotloops.random` is lmwu."""
    objective = reference.double_well()
    result = simplex.lmwu(
        objective,
        step_size=0.2,
        inverse_temperature=40.0,
        num_steps=3,
        num_chains=6,
        seed=5,
        step_offset=11,
        dtype=precision,
        backend=engine,
    )
    x = np.full((6, 3), 1 / 3, precision)
    for step in range(3):
        noise = random.normals(5, [11 + step], range(6), 3, dtype=precision)[0]
        gradient = objective.value_and_grad(x)[1]
        drawn = simplex.lmwu_step(
            x, gradient, step_size=0.2, inverse_temperature=40.0, seed=5, step=11 + step
        )
        x = simplex.lmwu_step(x, gradient, noise=noise, step_size=0.2, inverse_temperature=40.0)
        np.testing.assert_array_equal(x, drawn)
    np.testing.assert_array_equal(result.chains_x, x)


def test_best_points_are_the_best_of_the_trace() -> None:
    result = simplex.lmwu(
        reference.double_well(),
        step_size=0.2,
        inverse_temperature=50.0,
        num_steps=200,
        num_chains=9,
        trace_every=1,
        polish_steps=0,
        seed=2,
    )
    values = reference.double_well().value_and_grad(result.trace.reshape(-1, 3))[0]
    values = values.reshape(200, 9)
    start = reference.double_well().value_and_grad(np.full(3, 1 / 3))[0]
    np.testing.assert_array_equal(result.best_value, np.minimum(values.min(axis=0), start))
    np.testing.assert_array_equal(result.chains_value, values[-1])
    chain = int(result.best_value.argmin())
    np.testing.assert_allclose(result.x, result.best_x[chain], rtol=1e-15)
    np.testing.assert_allclose(result.mean, result.trace.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.variance, result.trace.var(axis=0), rtol=1e-8, atol=1e-16)


def test_a_schedule_scales_the_steps() -> None:
    factors = [1.0, 0.5, 0.25]
    x0 = np.array([0.5, 0.375, 0.125])  # whose sum is exactly 1
    listed = simplex.mwu(
        reference.double_well(), x0=x0, step_size=0.4, schedule=factors, num_steps=5
    )
    x = x0
    for k in range(5):
        gradient = reference.double_well().value_and_grad(x)[1]
        x = simplex.lmwu_step(x, gradient, step_size=0.4 * factors[min(k, 2)])
    np.testing.assert_array_equal(listed.chains_x[0], x)
    decay = simplex.PolynomialDecay(0.5)
    np.testing.assert_allclose(decay.factors(3, 2), [0.5, 5**-0.5])
    assert simplex.GeometricCooling(2.0, cap=100.0).factors(5, 3).tolist() == [32.0, 64.0, 100.0]
    np.testing.assert_allclose(simplex.LogarithmicCooling().factor(0), 1.0)


def test_steps_that_are_not_finite_freeze_their_chain(engine: str) -> None:
    x = np.full((3, 4), 0.25)
    gradient = np.zeros((3, 4))
    gradient[1, 2] = np.nan
    gradient[2] = [1.0, 0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="lmwu_step: `gradient` must be finite"):
        simplex.lmwu_step(x, gradient, step_size=0.1, backend=engine)


def test_stopping_early_and_going_on() -> None:
    settings: dict[str, Any] = {
        "step_size": 0.1,
        "inverse_temperature": 50.0,
        "num_chains": 8,
        "polish_steps": 0,
    }
    early = simplex.lmwu(reference.double_well(), num_steps=10**6, max_seconds=0.05, **settings)
    assert not early.complete
    assert "complete=False" in repr(early)
    assert 0 < early.num_steps < 10**6
    whole = simplex.lmwu(reference.double_well(), num_steps=early.num_steps + 100, **settings)
    rest = simplex.lmwu(reference.double_well(), num_steps=100, state=early.state, **settings)
    np.testing.assert_array_equal(rest.chains_x, whole.chains_x)
    np.testing.assert_array_equal(rest.mean, whole.mean)


def test_memory_for_the_answer_and_arrays_of_other_libraries() -> None:
    out = np.empty((4, 3))
    settings: dict[str, Any] = {"step_size": 0.1, "num_steps": 10, "num_chains": 4}
    result = simplex.mwu(reference.double_well(), out=out, **settings)
    assert result.chains_x is out
    np.testing.assert_array_equal(out, simplex.mwu(reference.double_well(), **settings).chains_x)
    torch = pytest.importorskip("torch")
    x = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    moved = simplex.lmwu_step(x, torch.tensor([1.0, -1.0, 0.5]).double(), step_size=0.1)
    assert isinstance(moved, torch.Tensor)
    np.testing.assert_allclose(moved.numpy()[0], 0.18314072831955305, rtol=1e-12)
    run = simplex.mwu(reference.double_well(), x0=x, **settings)
    assert isinstance(run.chains_x, torch.Tensor)
    assert isinstance(simplex.project(x), torch.Tensor)


def test_picture() -> None:
    pytest.importorskip("matplotlib")
    result = simplex.mwu(reference.double_well(), step_size=0.1, num_steps=10)
    assert len(result.plot(names=["a", "b", "c"]).axes) == 2
    with pytest.raises(ValueError, match="plot: `names` must hold one name for each of 3 weights"):
        result.plot(names=["a"])
