"""Simulated cells: the law that is promised, the counts that come of it, bad arguments."""

from __future__ import annotations

import numpy as np
import pytest

from hotloops import datasets


@pytest.fixture(scope="module")
def cells():
    return datasets.simulate_cells(3000, 40, types=3, batches=2, seed=5, atac=True)


def test_shapes(cells):
    assert cells.counts.shape == (3000, 40)
    assert cells.counts.dtype == np.int32
    assert cells.peaks.shape == (3000, 120)
    assert set(cells.peaks.data) == {1}
    assert len(cells.genes) == 40
    assert cells.peak_names[3 * 7 + 2] == "peak 7.2"
    assert set(cells.cell_types) == {"type 0", "type 1", "type 2"}
    assert set(cells.batches) == {"0", "1"}
    assert "3000 cells, 40 genes, 120 peaks, 3 types, 2 batches" in repr(cells)


def test_law(cells):
    np.testing.assert_allclose(cells.rho().sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(
        cells.means(range(9)), np.exp(cells.log_sizes[:9, None]) * cells.rho(range(9))
    )
    logs = (
        cells.base
        + cells.type_effects[cells.type_codes]
        + cells.batch_effects[cells.batch_codes]
        + cells.scores @ cells.loadings
    )
    expected = np.exp(logs[17]) / np.exp(logs[17]).sum()
    np.testing.assert_allclose(cells.rho([17])[0], expected, rtol=1e-12)


def test_parameters_have_their_distributions():
    """Bounds of 4.5 standard errors."""
    law = datasets.simulate_cells(500, 4000, types=6, batches=3, seed=3)

    def close(values, mean, sd):
        n = values.size
        assert abs(values.mean() - mean) < 4.5 * sd / np.sqrt(n)
        assert abs(values.std() - sd) < 4.5 * sd / np.sqrt(2 * n)

    close(law.base, -2.5, 1.6)
    close(law.batch_effects.ravel(), 0.0, 0.3)
    close(law.loadings.ravel(), 0.0, 0.3)
    close(law.scores.ravel(), 0.0, 1.0)
    close(np.log(law.theta), 0.0, 1.0)
    marked = law.type_effects != 0.0
    assert abs(marked.mean() - 0.1) < 4.5 * 0.3 / np.sqrt(marked.size)
    close(law.type_effects[marked], 0.0, 1.2)
    assert law.proportions.sum() == pytest.approx(1.0)


def test_counts_have_the_moments(cells):
    """Each gene's standardised residuals have mean 0 and variance 1, to 4.5 standard errors."""
    mean = cells.means()
    variance = mean + mean**2 / cells.theta
    residual = (cells.counts.toarray() - mean) / np.sqrt(variance)
    assert (np.abs(residual.mean(axis=0)) < 4.5 / np.sqrt(3000)).all()
    excess = (6.0 / cells.theta + 1.0 / variance).mean(axis=0)
    assert (np.abs(residual.var(axis=0) - 1.0) < 4.5 * np.sqrt((excess + 2.0) / 3000)).all()


def test_peaks_follow_their_genes(cells):
    logs = np.log(cells.rho())
    standardised = (logs - logs.mean(axis=0)) / logs.std(axis=0)
    logits = cells.peak_offsets + 2.0 * np.repeat(standardised, 3, axis=1)
    open_share = 1.0 / (1.0 + np.exp(-logits))
    found = cells.peaks.toarray()
    sd = np.sqrt((open_share * (1.0 - open_share)).sum(axis=0))
    assert (np.abs(found.sum(axis=0) - open_share.sum(axis=0)) < 4.5 * sd).all()
    np.testing.assert_allclose(cells.peak_offsets.mean(), -3.0, atol=0.3)


def test_a_cell_is_the_same_for_every_n(cells):
    fewer = datasets.simulate_cells(100, 40, types=3, batches=2, seed=5)
    assert (fewer.counts != cells.counts[:100]).nnz == 0
    np.testing.assert_array_equal(fewer.cell_types, cells.cell_types[:100])
    assert fewer.peaks is None
    other = datasets.simulate_cells(100, 40, types=3, batches=2, seed=6)
    assert (fewer.counts != other.counts).nnz > 0


def test_rare_type():
    cells = datasets.simulate_cells(2000, 10, types=4, seed=1, rare_share=0.005)
    assert cells.proportions[-1] == 0.005
    assert cells.proportions.sum() == pytest.approx(1.0)
    plain = datasets.simulate_cells(10, 10, types=4, seed=1)
    kept = plain.proportions[:-1] / plain.proportions[:-1].sum()
    np.testing.assert_allclose(cells.proportions[:-1], 0.995 * kept)


@pytest.mark.filterwarnings("ignore")
def test_containers(cells):
    pytest.importorskip("anndata")
    adata = cells.to_anndata()
    assert adata.obs["batch"].tolist() == cells.batches.tolist()
    pytest.importorskip("mudata")
    both = cells.to_mudata()
    assert list(both.mod) == ["rna", "atac"]
    assert both.obs["cell_type"].tolist() == cells.cell_types.tolist()
    plain = datasets.simulate_cells(5, 5, seed=0)
    with pytest.raises(ValueError, match="`atac` must have been True in simulate_cells"):
        plain.to_mudata()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "simulate_cells: `n` must be an integer >= 1, got 0"),
        ({"genes": 1}, ValueError, "`genes` must be an integer >= 2, got 1"),
        ({"types": 0}, ValueError, "`types` must be an integer >= 1, got 0"),
        ({"batches": 1.5}, TypeError, "`batches` must be an integer"),
        ({"seed": -1}, ValueError, "`seed` must be an integer in"),
        ({"atac": 1}, TypeError, "`atac` must be True or False, got 1"),
        (
            {"rare_share": 2.0},
            ValueError,
            "`rare_share` must be a finite number in (0.0, 1.0], got",
        ),
        (
            {"rare_share": 0.1, "types": 1},
            ValueError,
            "`types` must be at least 2 with `rare_share`",
        ),
        ({"mean_total": 0.0}, ValueError, "`mean_total` must be a finite number > 0.0, got 0.0"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error) as caught:
        datasets.simulate_cells(**{"seed": 0, **arguments})
    assert message in str(caught.value)
