"""The experiments with Langevin multiplicative weights: their parts, and the quick runs."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module", autouse=True)
def modules():
    """Let the modules of bench import each other."""
    if not (BENCH / "paper_lmwu.py").exists():
        pytest.skip("bench is not beside tests")
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


def load(name):
    return importlib.import_module(name)


def test_exhaustive_search_finds_the_better_well():
    portfolio = load("_paper_lmwu_portfolio")
    assert portfolio.exhaustive(portfolio.trio(), 50) == pytest.approx(1.995946, abs=1e-6)


def test_shares_of_bins_are_those_of_the_distribution():
    wells = load("_paper_lmwu_wells")
    nodes = np.linspace(0, 1, 2001)
    shares = wells.bin_shares(nodes, 2 * nodes / (2 * nodes).sum())
    edges = np.linspace(0, 1, shares.size + 1)
    np.testing.assert_allclose(shares, np.diff(edges**2), atol=1e-3)


def test_places_between_the_wells():
    wells = load("_paper_lmwu_wells")
    np.testing.assert_allclose(wells.place(np.stack([wells.FAR, wells.NEAR])), [0, 1], atol=1e-15)
    value, slope = wells.double_well().value_and_grad(
        wells.FAR + wells._SADDLE * (wells.NEAR - wells.FAR)
    )
    assert float(value) == pytest.approx(0.01334744, abs=1e-8)
    np.testing.assert_allclose(slope - slope.mean(), 0.0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["X1", "X2", "X3", "X4", "X5"])
def test_quick_experiments_agree(name, tmp_path):
    pytest.importorskip("matplotlib")
    assert load("paper_lmwu").main([name, "--quick", "--out", str(tmp_path)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {f"lmwu-{name}.svg", f"lmwu-{name}.png"}
