"""Small real data sets that ship inside the wheel, and simulated cells.

Each loader reads one ``.npz`` file that lies beside this module, without a network and without
pickle. Where a table comes from, and under which licence, is in the returned object and, for all of
them together, in ``DATA_LICENSES.md`` in this folder.
"""

from hotloops.datasets._a9a import load_a9a
from hotloops.datasets._breast_cancer import load_breast_cancer
from hotloops.datasets._cells import CellTable, load_pbmc68k_reduced
from hotloops.datasets._dataset import Dataset, standardize
from hotloops.datasets._simulate import SimulatedCells, simulate_cells
from hotloops.datasets._sp500 import PriceTable, load_sp500

__all__ = [
    "CellTable",
    "Dataset",
    "PriceTable",
    "SimulatedCells",
    "load_a9a",
    "load_breast_cancer",
    "load_pbmc68k_reduced",
    "load_sp500",
    "simulate_cells",
    "standardize",
]
