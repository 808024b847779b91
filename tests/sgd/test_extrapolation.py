"""Richardson-Romberg weights and the combination of averages."""

from __future__ import annotations

import re
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from hotloops import sgd

# Step sizes, weights, amplification.
TABLE = [
    ([1, 2], [2, -1], 3),
    ([1, 2, 4], [8 / 3, -2, 1 / 3], 5),
    ([1, 2, 3], [3, -3, 1], 7),
    ([1, 2, 3, 4], [4, -6, 4, -1], 15),
    ([1, 10], [10 / 9, -1 / 9], 11 / 9),
    ([0.2, 0.02], [-1 / 9, 10 / 9], 11 / 9),
]


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


@pytest.mark.parametrize(("steps", "weights", "amplification"), TABLE)
@pytest.mark.parametrize("gamma", [1e-9, 0.05, 3.0])
def test_table(
    steps: list[float], weights: list[float], amplification: float, gamma: float
) -> None:
    found = sgd.richardson_romberg_weights(gamma * np.array(steps))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, weights, rtol=1e-14)
    assert np.abs(found).sum() == pytest.approx(amplification, rel=1e-14)


@pytest.mark.parametrize("steps", [[0.1], [0.3, 0.1, 0.2], [0.5, 0.01, 0.1, 0.03, 0.9]])
def test_conditions(steps: list[float]) -> None:
    """They sum to one, cancel the powers 1 to J - 1, and follow the order of the step sizes."""
    weights = sgd.richardson_romberg_weights(steps)
    assert weights.sum() == pytest.approx(1.0, rel=1e-13)
    for power in range(1, len(steps)):
        assert (weights * np.array(steps) ** power).sum() == pytest.approx(0.0, abs=1e-13)
    order = np.argsort(steps)
    np.testing.assert_allclose(
        sgd.richardson_romberg_weights(np.array(steps)[order]), weights[order], rtol=1e-14
    )


def test_exact_weights() -> None:
    """Against rational arithmetic, for step sizes that binary fractions hold exactly."""
    steps = [Fraction(1, 64), Fraction(3, 32), Fraction(1, 4), Fraction(5, 8)]
    exact = []
    for j, own in enumerate(steps):
        weight = Fraction(1)
        for other in steps[:j] + steps[j + 1 :]:
            weight *= other / (other - own)
        exact.append(float(weight))
    found = sgd.richardson_romberg_weights([float(step) for step in steps])
    np.testing.assert_allclose(found, exact, rtol=1e-15)


def test_amplification_warning() -> None:
    text = (
        "these step sizes amplify noise 201 times (the sum of |weights|); "
        "choose step sizes further apart"
    )
    with pytest.warns(RuntimeWarning, match=re.escape(text)) as caught:
        weights = sgd.richardson_romberg_weights([0.1, 0.101])
    assert caught[0].filename == __file__
    np.testing.assert_allclose(weights, [101.0, -100.0], rtol=1e-12)
    problem = sgd.Quadratic([1.0], 0.0)
    with pytest.warns(RuntimeWarning, match="^run: " + re.escape(text)) as caught:
        sgd.run(problem, [0.1, 0.101], 100)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sgd.richardson_romberg_weights([0.1, 0.1021])


def test_extrapolate() -> None:
    generator = np.random.default_rng(2)
    means = generator.normal(size=(5, 4, 3, 2))
    weights = sgd.richardson_romberg_weights([0.1, 0.2, 0.4])
    found = sgd.extrapolate(means, [0.1, 0.2, 0.4])
    assert found.shape == (5, 4, 2)
    np.testing.assert_allclose(found, np.einsum("abjd,j->abd", means, weights), rtol=1e-12)
    single = sgd.extrapolate(means.astype(np.float32), [0.1, 0.2, 0.4])
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, found, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(sgd.extrapolate([[1.5, 2.5]], [0.3]), [1.5, 2.5])
    np.testing.assert_allclose(sgd.extrapolate([[1], [3]], [0.1, 0.2]), [-1.0], rtol=1e-15)


def test_extrapolating_a_run_again() -> None:
    run = sgd.run(sgd.Cosine(1.0, 1.0, 2), [0.05, 0.1, 0.2], 200, num_chains=9, seed=2)
    np.testing.assert_array_equal(sgd.extrapolate(run.mean, run.step_sizes), run.extrapolated)
    np.testing.assert_array_equal(run.weights, sgd.richardson_romberg_weights(run.step_sizes))


def test_polynomials_are_extrapolated_exactly() -> None:
    steps = np.array([0.1, 0.2, 0.3])
    means = np.stack([7.0 + 2.0 * steps - 5.0 * steps**2, 1.0 - steps], axis=1)
    np.testing.assert_allclose(sgd.extrapolate(means, steps), [7.0, 1.0], rtol=1e-13)


STEP_SIZES: list[tuple[Any, type[Exception], str]] = [
    (None, TypeError, "be an array of real numbers, got None"),
    ("0.1", TypeError, "be an array of real numbers, got '0.1'"),
    (True, TypeError, "be an array of real numbers, got dtype bool"),
    ([0.1, 1j], TypeError, "be an array of real numbers, got dtype complex128"),
    (["a"], TypeError, "be an array of real numbers, got dtype <U1"),
    ({0.1}, TypeError, "be an array of real numbers, got a set of length 1"),
    (np.array([0.1], np.float16), TypeError, "have dtype float32 or float64, got dtype float16"),
    ([], ValueError, "not be empty, got shape (0,)"),
    (
        [[0.1], [0.1, 0.2]],
        ValueError,
        "be a rectangular array of real numbers, got a list of length 2 with ragged rows",
    ),
    ([0.1, np.nan], ValueError, "be finite, got nan at index (1,)"),
    ([np.inf], ValueError, "be finite, got inf at index (0,)"),
    ([0.0, 0.1], ValueError, "be positive, got 0.0 at index (0,)"),
    (-0.5, ValueError, "be positive, got -0.5 at index (0,)"),
    ([0.1, 0.2, 0.1], ValueError, "hold distinct step sizes, got 0.1 more than once"),
    (
        np.linspace(0.01, 0.1, 2000),
        ValueError,
        "have finite weights, got 2000 step sizes whose weights overflow",
    ),
]


@pytest.mark.parametrize(("value", "kind", "text"), STEP_SIZES)
def test_wrong_step_sizes(value: Any, kind: type[Exception], text: str) -> None:
    means = np.ones((3, 2, 4))
    problem = sgd.Cosine()
    with raises(kind, f"richardson_romberg_weights: `step_sizes` must {text}"):
        sgd.richardson_romberg_weights(value)
    with raises(kind, f"extrapolate: `step_sizes` must {text}"):
        sgd.extrapolate(means, value)
    with raises(kind, f"run: `step_sizes` must {text}"):
        sgd.run(problem, value, 10)


def test_step_sizes_of_too_many_axes() -> None:
    """Only `run` takes step sizes for each chain."""
    with raises(
        ValueError, "richardson_romberg_weights: `step_sizes` must have shape (J,), got (1, 2)"
    ):
        sgd.richardson_romberg_weights([[0.1, 0.2]])
    with raises(ValueError, "extrapolate: `step_sizes` must have shape (J,), got (1, 2)"):
        sgd.extrapolate(np.ones((2, 1)), [[0.1, 0.2]])
    with raises(ValueError, "run: `step_sizes` must have shape (J,) or (C, J), got (1, 1, 1)"):
        sgd.run(sgd.Cosine(), [[[0.1]]], 10)


SHAPE = "have shape (..., J, d) with J = 2 as in `step_sizes`"
MEANS: list[tuple[Any, type[Exception], str]] = [
    (None, TypeError, "be an array of real numbers, got None"),
    ("ab", TypeError, "be an array of real numbers, got 'ab'"),
    (1.0, ValueError, f"{SHAPE}, got ()"),
    ([1.0, 2.0], ValueError, f"{SHAPE}, got (2,)"),
    (np.ones((3, 2)), ValueError, f"{SHAPE}, got (3, 2)"),
    (np.ones((2, 0)), ValueError, "not be empty, got shape (2, 0)"),
    ([[1.0], [np.nan]], ValueError, "be finite, got nan at index (1, 0)"),
    (np.ones((2, 1), complex), TypeError, "be an array of real numbers, got dtype complex128"),
    (np.ones((2, 1), bool), TypeError, "be an array of real numbers, got dtype bool"),
    (
        [[1.0], [1.0, 2.0]],
        ValueError,
        "be a rectangular array of real numbers, got a list of length 2 with ragged rows",
    ),
]


@pytest.mark.parametrize(("value", "kind", "text"), MEANS)
def test_wrong_means(value: Any, kind: type[Exception], text: str) -> None:
    with raises(kind, f"extrapolate: `means` must {text}"):
        sgd.extrapolate(value, [0.1, 0.2])
