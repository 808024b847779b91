"""The experiments with generated cells: their parts."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module", autouse=True)
def modules():
    """Let the modules of bench import each other."""
    if not (BENCH / "paper_flow.py").exists():
        pytest.skip("bench is not beside tests")
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


def load(name):
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def data():
    return load("_paper_cells").split()


def test_split_is_that_of_the_reference(data):
    assert data.train.shape == (560, 765)
    assert data.test.shape == (140, 765)
    assert data.test_totals.min() > 0


def test_cells_are_nearest_to_themselves(data):
    cells = load("_paper_cells")
    space = cells.Space.of(data.test)
    same = cells.score(space, data, data.test)
    assert same.wasserstein == pytest.approx(0.0, abs=1e-6)
    assert same.mmd == pytest.approx(0.0, abs=1e-12)
    shuffled = data.test[np.random.default_rng(0).permutation(140)]
    assert cells.score(space, data, shuffled).wasserstein > 10.0


def test_cells_by_type_come_in_the_order_of_the_test_cells(data):
    cells = load("_paper_cells")
    numbers = {kind: i + 1 for i, kind in enumerate(np.unique(data.test_types))}
    made = cells.by_type(
        data, lambda kind, _, n: sparse.csr_array(np.full((n, 1), float(numbers[kind])))
    )
    expected = [numbers[kind] for kind in data.test_types]
    np.testing.assert_array_equal(made.toarray()[:, 0], expected)


def test_moments_find_the_dispersion():
    quality = load("_paper_cells_quality")
    from hotloops import flow

    drawn = flow.negative_binomial(np.full((20_000, 4), 20.0), np.full((20_000, 4), 3.0), seed=1)
    found = quality._dispersion(sparse.csr_array(drawn))
    assert np.all((found > 2.0) & (found < 5.0))


@pytest.mark.slow
def test_solvers_run_quickly_too():
    report = load("_paper_cells_solvers").run(quick=True)
    assert len(report.tables[0][1]) > 15
