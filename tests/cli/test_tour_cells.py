"""The tour's cells: what is compared with what, and what the page says of it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest

from hotloops import datasets
from hotloops._report import tour_cells


@pytest.fixture(scope="module")
def found() -> Any:
    return tour_cells.run(True, num_threads=None, backend=None)


def test_generated_cells_are_near_to_held_out_ones(found: Any) -> None:
    """The references are those of an independent implementation, longer trained."""
    assert found.wasserstein["training cells"] == pytest.approx(22.3, abs=0.6)
    assert found.discrepancy["training cells"] == pytest.approx(1.55, abs=0.06)
    assert found.wasserstein["Poisson at means"] == pytest.approx(22.55, abs=0.6)
    assert found.wasserstein["generated"] < 25.0
    assert found.discrepancy["generated"] < 1.6
    assert found.zeros["held out"] == pytest.approx(0.676, abs=0.02)
    assert abs(found.zeros["generated"] - found.zeros["held out"]) < 0.06


def test_projection_is_that_of_principal_components() -> None:
    counts = datasets.load_pbmc68k_reduced().counts[:100]
    project = tour_cells._projection(counts)
    cloud = project(counts)
    assert cloud.shape == (100, 30)
    np.testing.assert_allclose(cloud.mean(axis=0), 0.0, atol=1e-9)
    covariance = np.cov(cloud.T)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0.0, atol=1e-9)
    assert (np.diff(np.diag(covariance)) <= 1e-9).all()
    np.testing.assert_allclose(project(counts.toarray()[:7]), cloud[:7], atol=1e-9)


def test_groups_of_one_are_left_out() -> None:
    groups = tour_cells._groups(np.array(["a", "b", "a", "c", "b"]))
    assert [group.tolist() for group in groups] == [[0, 2], [1, 4]]


def test_table_section_and_pictures(found: Any) -> None:
    cells = tour_cells.table(found)
    assert cells[0][1:] == ["generated", "training cells", "Poisson at means"]
    assert all(len(row) == 4 for row in cells)
    title, html = tour_cells.section(found)
    assert title == "Blood cells that never lived"
    assert "nan" not in html.lower()
    for svg, _ in tour_cells.pictures(found):
        ElementTree.fromstring(svg)


def test_code_on_the_page_runs(found: Any, capsys: pytest.CaptureFixture[str]) -> None:
    exec(tour_cells.code(found), {})
    assert "(1000, 765) int32" in capsys.readouterr().out
