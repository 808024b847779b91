"""The papers' experiments: the parts against plain computations, and the command itself."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from hotloops import datasets, random, sgd

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module", autouse=True)
def modules():
    """Let the modules of bench import each other."""
    if not (BENCH / "paper_sgd.py").exists():
        pytest.skip("bench is not beside tests")
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


def load(name):
    return importlib.import_module(name)


def test_leading_term_is_the_mean_of_the_noise():
    cosine = load("_paper_cosine")
    found = cosine.leading_term(seed=3, first=41, n=200, num_chains=5, dim=4)
    noise = random.normals(3, range(41, 241), 5, 4)
    np.testing.assert_allclose(found, noise.mean(axis=0), rtol=0, atol=1e-15)


def test_leading_term_is_that_of_the_chains_of_an_experiment():
    """On a quadratic H (A - t*) + L telescopes; an index that is off by one would show."""
    cosine = load("_paper_cosine")
    n, gamma = 400, 0.05
    problem = sgd.Quadratic(np.ones(4), 0.0)
    run = sgd.run(problem, gamma, n + 1, burn_in=n, num_chains=8, seed=3, checkpoints=[1, n, n + 1])
    first, last = run.checkpoint_last[0, :, 0], run.checkpoint_last[2, :, 0]
    left = run.checkpoint_mean[1, :, 0] + cosine.leading_term(3, n + 1, n, 8, 4)
    np.testing.assert_allclose(left, (first - last) / (gamma * n), rtol=0, atol=1e-14)


@pytest.mark.parametrize("gamma", [0.025, 0.05, 0.1])
def test_invariant_law_gives_the_known_biases(gamma):
    cosine = load("_paper_cosine")
    one, two, four = (cosine.invariant_bias(2**j * gamma) for j in range(3))
    expected = cosine._BIAS[gamma]
    assert one == pytest.approx(expected[0], abs=1e-12)
    assert 2 * one - two == pytest.approx(expected[1], abs=1e-9)
    assert 8 / 3 * one - 2 * two + four / 3 == pytest.approx(
        expected[2], abs=5e-9
    )  # its printed digits
    assert cosine.invariant_bias(gamma, phi=0.0) == pytest.approx(0.0, abs=1e-13)


def test_first_order_bias_is_the_slope_at_zero():
    """In one dimension the bias is -f''' s / (4 f''^2), and half of it at half the variance."""
    data = load("_paper_data")
    x = np.array([[2.0], [-1.0], [0.5], [1.5]])
    problem = sgd.Logistic(x, [1.0, 1.0, 0.0, 1.0], 0.5)
    at, curvature = float(problem.minimizer()[0]), float(problem.hessian()[0, 0])
    share = 1 / (1 + np.exp(-x[:, 0] * at))
    third = np.mean(share * (1 - share) * (1 - 2 * share) * x[:, 0] ** 3)
    noise = float(problem.noise_covariance()[0, 0])
    expected = -third * noise / (4 * curvature**2)
    assert data.first_order_bias(problem, x) == pytest.approx([expected], rel=1e-12)


def test_linear_error_is_that_of_the_recursion():
    data = load("_paper_data")
    table = datasets.load_breast_cancer()
    problem = sgd.Logistic(datasets.standardize(table.X)[:, :3], table.y, l2=0.1)
    gamma, burn_in, n = 0.05, 30, 50
    hessian, noise = problem.hessian(), problem.noise_covariance()
    identity = np.eye(3)
    total = np.zeros((3, 3))
    for m in range(1, burn_in + n + 1):  # what one unit of noise at step m adds to the estimate
        weight = np.zeros((3, 3))
        for factor, step in ((2.0, gamma), (-1.0, 2 * gamma)):
            for k in range(max(m, burn_in + 1), burn_in + n + 1):
                power = np.linalg.matrix_power(identity - step * hessian, k - m)
                weight -= factor * step / n * power
        total += weight @ noise @ weight.T
    assert data.linear_error(problem, gamma, burn_in, n) == pytest.approx(n * np.trace(total))


def test_verdicts_are_four_standard_errors_and_the_slack():
    report = load("_paper_report")
    assert report.Comparison("", 1.0, 1.039, 0.01).agrees
    assert not report.Comparison("", 1.0, 1.041, 0.01).agrees
    assert report.Comparison("", 1.0, 1.041, 0.01, slack=0.002).agrees
    assert not report.Comparison("", 1.0, float("nan"), 0.01).agrees
    cells = report.Comparison("x", 0.95, 0.9512, 0.0031).cells()
    assert cells == ["x", "0.9500", "0.9512", "0.0031", "", "agrees"]
    assert report.Comparison("x", -8.2073e-6, -7.9e-6, 1e-6).cells()[1:3] == [
        "-8.2e-06",
        "-7.9e-06",
    ]


def test_error_of_a_share_is_that_of_independent_rows():
    report = load("_paper_report")
    same = np.repeat(np.arange(100) < 90, 5).reshape(100, 5)  # five copies of one coordinate
    share, error = report.fraction_and_error(same)
    assert share == pytest.approx(0.9)
    assert error == pytest.approx(np.sqrt(0.9 * 0.1 / 99))
    assert report.fraction_and_error(np.ones((100, 2), bool))[1] > 0.0


def test_command_says_what_differs(tmp_path, capsys, monkeypatch):
    paper, report = load("paper_sgd"), load("_paper_report")

    def wrong(quick):
        assert quick
        comparison = report.Comparison("pi", 3.0, np.pi, 0.01)
        return report.Report("E1", "wrong", comparisons=[comparison])

    monkeypatch.setitem(paper.EXPERIMENTS, "E1", wrong)
    assert paper.main(["E1", "--quick", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "DIFFERS" in printed
    assert "Figures that differ: E1" in printed
    with pytest.raises(SystemExit) as stopped:
        paper.main(["E9"])
    assert stopped.value.code == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["E1", "E1b", "E2", "E3", "E4", "E5"])
def test_quick_experiments_agree(name, tmp_path):
    pytest.importorskip("matplotlib")
    assert load("paper_sgd").main([name, "--quick", "--out", str(tmp_path)]) == 0
    assert {file.suffix for file in tmp_path.iterdir()} == {".svg", ".png"}
