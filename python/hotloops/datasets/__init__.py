"""Small real data sets that ship inside the wheel.

Each loader reads one ``.npz`` file that lies beside this module, without a network and without
pickle. Where a table comes from, and under which licence, is in the returned object and, for all of
them together, in ``DATA_LICENSES.md`` in this folder.
"""

from hotloops.datasets._a9a import load_a9a
from hotloops.datasets._breast_cancer import load_breast_cancer
from hotloops.datasets._dataset import Dataset, standardize

__all__ = ["Dataset", "load_a9a", "load_breast_cancer", "standardize"]
