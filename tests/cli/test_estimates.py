"""The norm of a mean and its standard error, against laws whose mean is known."""

import numpy as np
import pytest

from hotloops._report.estimates import Uncertain, density, fixed, norm_of_mean

DIM = 6
SCALES = np.array([1.0, 1.0, 0.5, 0.5, 0.2, 3.0])


def ensembles(mean, count, repetitions, seed):
    noise = np.random.default_rng(seed).standard_normal((repetitions, count, DIM))
    return mean + noise * SCALES


def test_norm_and_its_error_agree_with_repetitions():
    mean = np.array([0.4, -0.3, 0.0, 0.2, 0.0, 0.5])
    estimates = [norm_of_mean(rows) for rows in ensembles(mean, 400, 1000, seed=1)]
    assert not any(estimate.bound for estimate in estimates)
    values = np.array([estimate.value for estimate in estimates])
    errors = np.array([estimate.error for estimate in estimates])
    # 1000 repetitions know their mean to 0.03 and their spread to 2 per cent of the spread.
    assert abs(values.mean() - np.linalg.norm(mean)) < 0.15 * values.std()
    assert abs(errors.mean() / values.std() - 1.0) < 0.09


def test_the_norm_of_the_average_itself_would_be_too_large():
    mean = np.full(DIM, 0.05)
    plain, corrected = [], []
    for rows in ensembles(mean, 100, 600, seed=2):
        plain.append(np.linalg.norm(rows.mean(axis=0)))
        covariance = np.cov(rows.T)
        corrected.append(rows.mean(axis=0) @ rows.mean(axis=0) - np.trace(covariance) / 100)
    assert np.mean(plain) > 2.0 * np.linalg.norm(mean)
    assert np.mean(corrected) == pytest.approx(mean @ mean, abs=4 * np.std(corrected) / 600**0.5)


def test_zero_mean_gives_a_bound_that_holds():
    estimates = [norm_of_mean(rows) for rows in ensembles(np.zeros(DIM), 200, 500, seed=3)]
    bounds = [estimate for estimate in estimates if estimate.bound]
    assert len(bounds) > 0.9 * len(estimates)
    assert all(bound.error == 0.0 and bound.value > 0.0 for bound in bounds)


def test_bound_covers_a_small_mean():
    mean = np.zeros(DIM)
    mean[2] = 0.05
    estimates = [norm_of_mean(rows) for rows in ensembles(mean, 200, 500, seed=4)]
    covered = [estimate.value >= 0.05 for estimate in estimates if estimate.bound]
    assert np.mean(covered) > 0.95


def test_known_answer_for_two_rows():
    # b = (3, 4) and (3, 4): no spread, the norm is exactly 5.
    assert norm_of_mean(np.array([[3.0, 4.0], [3.0, 4.0]])) == Uncertain(5.0, 0.0)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Uncertain(0.023112, 0.002049), "0.0231 ± 0.0020"),
        (Uncertain(12.3456, 0.31), "12.35 ± 0.31"),
        (Uncertain(1234.5, 56.7), "1,234 ± 57"),
        (Uncertain(2.35859), "2.359"),
        (Uncertain(0.00334, bound=True), "< 0.0033"),
        (Uncertain(0.0, 0.0), "0.0000"),
        (Uncertain(float("nan"), 0.1), "nan ± 0.10"),
    ],
)
def test_text(number, text):
    assert str(number) == text


@pytest.mark.parametrize("error", [1e-30, 1e-9, 0.5, 1e3, float("inf")])
def test_fixed_never_fails(error):
    assert fixed(3.25, error).lstrip("-")[0] == "3"


def test_density_integrates_to_one_and_peaks_at_the_centre():
    samples = np.random.default_rng(5).normal(2.0, 0.5, 4000)
    places = np.linspace(-1.0, 5.0, 601)
    height = density(samples, places)
    assert height.sum() * (places[1] - places[0]) == pytest.approx(1.0, abs=1e-3)
    assert places[height.argmax()] == pytest.approx(2.0, abs=0.15)
    assert height.max() == pytest.approx(1.0 / (0.5 * np.sqrt(2 * np.pi)), rel=0.06)


def test_density_of_equal_samples_is_finite():
    assert np.isfinite(density(np.ones(10), np.array([0.0, 2.0]))).all()
