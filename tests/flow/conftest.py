"""Cells and small models that the tests of generation share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import datasets
from hotloops.flow import CountAutoencoder


@pytest.fixture(scope="session")
def simulated() -> Any:
    """Cells of three types in two batches, with chromatin."""
    return datasets.simulate_cells(
        240, 30, types=3, batches=2, seed=11, atac=True, mean_total=300.0
    )


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    """Arguments of an autoencoder that trains in a moment."""
    return {"n_latent": 3, "hidden": (12, 8), "epochs": 4, "batch_size": 32, "seed": 5}


@pytest.fixture(scope="session")
def trained(simulated: Any, small: dict[str, Any]) -> CountAutoencoder:
    """An autoencoder of counts. Don't fit it again."""
    return CountAutoencoder(**small).fit(simulated.counts)


def mixed(simulated: Any, **more: Any) -> dict[str, np.ndarray]:
    """Both modalities as a dictionary."""
    return {"rna": simulated.counts, "atac": simulated.peaks, **more}
