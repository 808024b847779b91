"""The tour's part on clients: averaging drifts, SISA does not."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest

from hotloops import datasets
from hotloops._report import tour_consensus


@pytest.fixture(scope="module")
def outcome() -> Any:
    return tour_consensus.run_consensus(100)


def test_clients_hold_every_row_once_and_one_label_each() -> None:
    y = datasets.load_a9a(sparse=True).y
    parts = tour_consensus.clients_by_label(y)
    assert (np.sort(np.concatenate(parts)) == np.arange(y.size)).all()
    assert [np.unique(y[part]).size for part in parts] == [1, 1, 1, 1]


def test_averaging_drifts_and_sisa_does_not(outcome: Any) -> None:
    drift, steered = outcome.gaps["FedAvg"], outcome.gaps["SISA"]
    assert drift[-1] > 0.02
    assert steered[-1] < 0.3 * drift[-1]
    assert drift[-1] > 0.75 * drift[len(drift) // 2]
    assert steered[-1] < 0.5 * steered[len(steered) // 2]
    assert outcome.accuracies["SISA"] > 0.84


def test_table_and_section(outcome: Any) -> None:
    cells = tour_consensus.table(outcome)
    assert cells[0][1:] == ["FedAvg", "SISA"]
    assert all(len(row) == 3 for row in cells)
    title, html = tour_consensus.section(outcome)
    assert title == "Clients with one label each"
    ElementTree.fromstring(tour_consensus.picture(outcome).svg())
    assert "nan" not in html.lower()


def test_code_on_the_page_runs(outcome: Any, capsys: pytest.CaptureFixture[str]) -> None:
    exec(tour_consensus.code(outcome), {})
    assert "clients=2, parameters=123, num_rounds=100" in capsys.readouterr().out
