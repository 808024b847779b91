"""The paper's experiments on Adult: the parts against plain computations, and the command."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from hotloops import admm
from tests.admm.consensus import logistic_gradient, naive_rounds, small_problem

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module", autouse=True)
def modules():
    """Let the modules of bench import each other."""
    if not (BENCH / "paper_admm.py").exists():
        pytest.skip("bench is not beside tests")
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


def load(name):
    return importlib.import_module(name)


def test_sums_over_an_epoch_are_weights():
    """Clients of 1, 3 and 2 batches, whose summed gradients the naive loop takes as they are."""
    X, y, _ = small_problem(rows=300)
    parts = [np.arange(60), np.arange(60, 220), np.arange(220, 300)]
    counts = [1, 3, 2]
    settings = {"rho": 1.5, "scheme": "adam", "beta": 0.9, "num_rounds": 12}
    expected = naive_rounds(
        lambda i, w: counts[i] * logistic_gradient(X[parts[i]], y[parts[i]], w),
        np.array([60, 160, 80]) / 300,
        np.zeros(X.shape[1]),
        sigma=4.0,
        l2=0.2,
        eps=0.0,
        **settings,
    )
    preset = load("_paper_adult").summed_gradients(parts, 4.0, 0.2)
    fit = admm.solve("logistic", X, y, clients=parts, eps=0.0, **preset, **settings)
    np.testing.assert_allclose(fit.w, expected[-1], rtol=0, atol=1e-12)


def test_accuracy_is_that_of_the_network():
    adult = load("_paper_adult")
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((50, 7)), rng.integers(0, 2, 50)
    w = adult._first_weights(7).astype(float)
    h, at = X, 0
    for inputs, outputs in ((7, 32), (32, 16), (16, 8), (8, 2)):
        W, b = w[at : at + inputs * outputs].reshape(inputs, outputs), w[at + inputs * outputs :]
        h = h @ W + b[:outputs]
        at += (inputs + 1) * outputs
        h = np.maximum(h, 0.0) if outputs > 2 else h
    assert at == w.size
    assert adult.accuracy(w, X, y) == (h.argmax(1) == y).mean()


def test_command_says_what_differs(tmp_path, capsys, monkeypatch):
    paper, report = load("paper_admm"), load("_paper_report")

    def wrong(quick):
        comparison = report.Comparison("pi", 3.0, np.pi, 0.01)
        return report.Report("A1", "wrong", comparisons=[comparison], family="admm")

    monkeypatch.setitem(paper.EXPERIMENTS, "A1", wrong)
    assert paper.main(["A1", "--quick", "--out", str(tmp_path)]) == 1
    assert "Figures that differ: A1" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["A1", "A2"])
def test_quick_experiments_agree(name, tmp_path):
    pytest.importorskip("matplotlib")
    assert load("paper_admm").main([name, "--quick", "--out", str(tmp_path)]) == 0
    assert {file.suffix for file in tmp_path.iterdir()} == {".svg", ".png"}
