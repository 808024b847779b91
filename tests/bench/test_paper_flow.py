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
    halves = load("_paper_cells_halves")
    from hotloops import flow

    drawn = flow.negative_binomial(np.full((20_000, 4), 20.0), np.full((20_000, 4), 3.0), seed=1)
    found = halves.dispersion(sparse.csr_array(drawn))
    assert np.all((found > 2.0) & (found < 5.0))


@pytest.fixture(scope="module")
def cut():
    halves = load("_paper_cells_halves")
    rng = np.random.default_rng(0)
    types = np.repeat(["a", "b", "c"], [41, 20, 5])[rng.permutation(66)]
    counts = sparse.csr_array(rng.poisson(3.0, (66, 90)))
    return halves, counts, types, halves.Halves.of(counts, types, 1)


def test_halves_are_of_equal_types_and_share_no_cell(cut):
    _, counts, types, found = cut
    assert dict(zip(*np.unique(found.types, return_counts=True), strict=True)) == {"a": 20, "b": 10}
    rows = {tuple(row) for row in counts.toarray()[types != "c"].tolist()}
    train, test = ({tuple(row) for row in x.toarray().tolist()} for x in (found.train, found.test))
    assert not train & test
    assert len(train) == len(test) == 30
    assert train | test <= rows


def test_cells_made_by_type_come_in_the_order_of_the_halves(cut):
    *_, found = cut
    again = found.fill(lambda cells, totals: cells)
    assert abs(again - found.train).sum() == 0
    totals = found.fill(lambda cells, totals: totals[:, None])
    np.testing.assert_array_equal(totals.toarray()[:, 0], found.totals)


def test_measures_of_the_cells_themselves_and_of_a_point(cut):
    halves, counts, _, found = cut
    space = load("_paper_cells").Space.of(counts)
    same = halves.measure(space, found, found.test)
    assert same[""]["W2"] == pytest.approx(0.0, abs=1e-6)
    assert same[""]["spread"] == pytest.approx(1.0)
    assert same[""]["zeros"] == same[""]["correlations"] == 0.0
    point = halves.measure(space, found, None)
    assert point["a"]["spread"] == pytest.approx(0.0, abs=1e-20)
    assert "zeros" not in point[""]


@pytest.mark.slow
def test_solvers_run_quickly_too():
    report = load("_paper_cells_solvers").run(quick=True)
    assert len(report.tables[0][1]) > 15
