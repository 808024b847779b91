"""Simulated cells, of which the law is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops._runtime import validate
from hotloops.datasets._cells import make_anndata

Array = npt.NDArray[np.float64]

# The law of the simulator. Names of steps keep the draws of different quantities apart.
_NUM_FACTORS = 3
_SHARE_OF_MARKERS = 0.1
_PEAKS_PER_GENE = 3
_STREAM = 1  # features
_COUNT_BLOCK = 0xC0C0
_BASE, _TYPES, _MARKERS, _BATCHES, _LOADINGS, _SCORES, _SIZES, _SHIFTS, _THETA = range(9)
_PEAKS, _SHARES, _CHOICES = range(9, 12)
_ACCESSIBILITY = 2  # a stream of its own: labels and other uniforms
_CHUNK = 1024  # rows whose dense means are held at a time


@dataclass(frozen=True, eq=False)
class SimulatedCells:
    """Counts drawn from a known law.

    Attributes
    ----------
    counts : scipy.sparse.csr_array
        Shape (n, genes), int32: negative binomial with mean ``exp(log_sizes) rho`` and inverse
        dispersion `theta`.
    peaks : scipy.sparse.csr_array or None
        Open chromatin, shape (n, 3 genes), int32, entries 1; peak 3 g + k belongs to gene g.
    cell_types, batches : numpy.ndarray
        Of str, shape (n,).
    genes, peak_names : tuple of str
        Names of the columns.
    log_sizes : numpy.ndarray
        ``ln L``, shape (n,).
    theta : numpy.ndarray
        Inverse dispersion of each gene, shape (genes,).
    proportions : numpy.ndarray
        Probability of each cell type, shape (types,).
    base, type_effects, batch_effects, loadings : numpy.ndarray
        Parts of the log-mean, shapes (genes,), (types, genes), (batches, genes), (3, genes).
    scores : numpy.ndarray
        Of the cells on the latent programs, shape (n, 3).
    type_codes, batch_codes : numpy.ndarray
        Rows of the effects, shape (n,), int64.
    peak_offsets : numpy.ndarray or None
        Logit of each peak for a cell in which its gene is average, shape (3 genes,).
    """

    counts: Any
    peaks: Any
    cell_types: npt.NDArray[np.str_]
    batches: npt.NDArray[np.str_]
    genes: tuple[str, ...]
    peak_names: tuple[str, ...]
    log_sizes: Array
    theta: Array
    proportions: Array
    base: Array
    type_effects: Array
    batch_effects: Array
    loadings: Array
    scores: Array
    type_codes: npt.NDArray[np.int64]
    batch_codes: npt.NDArray[np.int64]
    peak_offsets: Array | None

    def __repr__(self) -> str:
        n, d = self.counts.shape
        peaks = "" if self.peaks is None else f", {self.peaks.shape[1]} peaks"
        return (
            f"SimulatedCells({n} cells, {d} genes{peaks}, {len(self.type_effects)} types, "
            f"{len(self.batch_effects)} batches, {self.counts.nnz} nonzeros)"
        )

    def rho(self, rows: Any = None) -> Array:
        """Return the true share of each gene in a cell's mean.

        Parameters
        ----------
        rows : slice or array_like of int, optional
            Which cells. Default: all.

        Returns
        -------
        numpy.ndarray, shape (rows, genes)
            Each row sums to one.
        """
        return _softmax(self._log_means(slice(None) if rows is None else rows))

    def means(self, rows: Any = None) -> Array:
        """Return the true mean counts, ``exp(log_sizes) rho``.

        Parameters
        ----------
        rows : slice or array_like of int, optional
            Which cells. Default: all.

        Returns
        -------
        numpy.ndarray, shape (rows, genes)
        """
        which = slice(None) if rows is None else rows
        return np.exp(self.log_sizes[which])[:, None] * self.rho(which)

    def to_anndata(self) -> Any:
        """Return counts, types and batches as an `anndata.AnnData`.

        Returns
        -------
        anndata.AnnData
            ``obs`` has the columns ``cell_type`` and ``batch``.

        Raises
        ------
        ImportError
            anndata is not installed (``pip install "hotloops[cells]"``).
        """
        return make_anndata(self.counts, self._columns(), self._names(), self.genes, {})

    def to_mudata(self) -> Any:
        """Return counts and peaks as a `mudata.MuData` with the modalities ``rna`` and ``atac``.

        Returns
        -------
        mudata.MuData
            Both modalities and the whole have the columns ``cell_type`` and ``batch``.

        Raises
        ------
        ImportError
            mudata is not installed (``pip install "hotloops[cells]"``).
        ValueError
            There are no peaks.
        """
        if self.peaks is None:
            raise ValueError("to_mudata: `atac` must have been True in simulate_cells, got False")
        try:
            from mudata import MuData
        except ImportError as error:
            raise ImportError(
                f'to_mudata: mudata must be installed (pip install "hotloops[cells]"): {error}'
            ) from error
        peaks = make_anndata(self.peaks, self._columns(), self._names(), self.peak_names, {})
        together = MuData({"rna": self.to_anndata(), "atac": peaks})
        for name in self._columns():
            together.obs[name] = together.mod["rna"].obs[name]
        return together

    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        return {"cell_type": self.cell_types, "batch": self.batches}

    def _names(self) -> tuple[str, ...]:
        return tuple(f"cell {number}" for number in range(len(self.cell_types)))

    def _log_means(self, rows: Any) -> Array:
        logs: Array = (
            self.base
            + self.type_effects[self.type_codes[rows]]
            + self.batch_effects[self.batch_codes[rows]]
            + self.scores[rows] @ self.loadings
        )
        return logs


def simulate_cells(
    n: int = 1000,
    genes: int = 500,
    types: int = 4,
    batches: int = 2,
    *,
    seed: int,
    atac: bool = False,
    rare_share: float | None = None,
    mean_total: float = 3000.0,
) -> SimulatedCells:
    """Draw cells of several types and batches from a law that is given with them.

    The log-mean of a gene is a base level, N(-2.5, 1.6^2); plus, for a tenth of the genes of each
    type, N(0, 1.2^2); plus N(0, .3^2) for each batch; plus three latent programs with scores N(0,
    1) and loadings N(0, .3^2). A softmax over the genes gives `rho`, ``ln L`` is N(ln `mean_total`
    + shift of the type N(0, .2^2), .35^2), ``ln theta`` is N(0, 1), and the count is negative
    binomial with mean ``L rho``. Types have Dirichlet(1) proportions, batches equal ones.

    Parameters
    ----------
    n : int
        Cells. Default 1000.
    genes : int
        Default 500.
    types, batches : int
        Numbers of cell types and of batches. Defaults 4 and 2.
    seed : int
        0 to 2**64 - 1. Cell i is the same for every `n`.
    atac : bool
        Draw three peaks for each gene as well: Bernoulli with logit -3 + N(0, .5^2), fixed for the
        peak, + twice the gene's log-mean, standardised over the cells. Default False.
    rare_share : float, optional
        Probability of the last type, for tests of augmentation; the others share the rest in their
        proportions. Default: as drawn.
    mean_total : float
        Centre of the cells' totals. Default 3000.

    Returns
    -------
    SimulatedCells

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or range.

    Notes
    -----
    Takes about 1 s for 10,000 cells of 500 genes; dense means are held for 1,024 cells at a time.

    Examples
    --------
    >>> from hotloops import datasets
    >>> cells = datasets.simulate_cells(200, 100, types=3, batches=2, seed=1)
    >>> cells.counts.shape, sorted(set(cells.batches.tolist()))
    ((200, 100), ['0', '1'])
    """
    function = "simulate_cells"
    n = validate.integer(function, "n", n, low=1)
    genes = validate.integer(function, "genes", genes, low=2)
    types = validate.integer(function, "types", types, low=1)
    batches = validate.integer(function, "batches", batches, low=1)
    seed = validate.integer(function, "seed", seed, low=0, high=2**64 - 1)
    with_peaks = validate.boolean(function, "atac", atac)
    total = validate.real(function, "mean_total", mean_total, low=0.0, open_low=True)
    proportions = _proportions(function, seed, types, rare_share)
    choices = random.uniforms(seed, [_CHOICES], n, 2, _STREAM)[0]
    kinds = np.minimum(np.searchsorted(np.cumsum(proportions), choices[:, 0]), types - 1)
    batch = np.minimum((choices[:, 1] * batches).astype(np.int64), batches - 1)
    shifts = 0.2 * _normals(seed, _SHIFTS, 1, types)[0]
    markers = random.uniforms(seed, [_MARKERS], types, genes, _STREAM)[0] < _SHARE_OF_MARKERS
    offsets = None
    if with_peaks:
        offsets = -3.0 + 0.5 * _normals(seed, _PEAKS, 1, _PEAKS_PER_GENE * genes)[0]
    law = SimulatedCells(
        counts=None,
        peaks=None,
        cell_types=np.array([f"type {k}" for k in range(types)])[kinds],
        batches=np.array([str(k) for k in range(batches)])[batch],
        genes=tuple(f"gene {g}" for g in range(genes)),
        peak_names=_peak_names(genes) if with_peaks else (),
        log_sizes=np.log(total) + shifts[kinds] + 0.35 * _normals(seed, _SIZES, n, 1)[:, 0],
        theta=np.exp(_normals(seed, _THETA, 1, genes)[0]),
        proportions=proportions,
        base=-2.5 + 1.6 * _normals(seed, _BASE, 1, genes)[0],
        type_effects=np.where(markers, 1.2 * _normals(seed, _TYPES, types, genes), 0.0),
        batch_effects=0.3 * _normals(seed, _BATCHES, batches, genes),
        loadings=0.3 * _normals(seed, _LOADINGS, _NUM_FACTORS, genes),
        scores=_normals(seed, _SCORES, n, _NUM_FACTORS),
        type_codes=kinds,
        batch_codes=batch,
        peak_offsets=offsets,
    )
    return _draw(law, seed)


def _proportions(function: str, seed: int, types: int, rare_share: float | None) -> Array:
    gamma = -np.log(random.uniforms(seed, [_SHARES], 1, types, _STREAM)[0, 0])
    shares: Array = gamma / gamma.sum()
    if rare_share is None:
        return shares
    rare = validate.real(function, "rare_share", rare_share, low=0.0, high=1.0, open_low=True)
    if types < 2:
        validate.fail(ValueError, function, "types", "be at least 2 with `rare_share`", str(types))
    shares[:-1] *= (1.0 - rare) / shares[:-1].sum()
    shares[-1] = rare
    return shares


def _draw(law: SimulatedCells, seed: int) -> SimulatedCells:
    from dataclasses import replace

    from scipy.sparse import csr_array, vstack

    from hotloops.flow import negative_binomial

    words = random.philox(
        np.array([0, 0, 0, _COUNT_BLOCK], np.uint32),
        np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32),
    )
    count_seed = int(words[0]) | int(words[1]) << 32
    counts = []
    for rows in _chunks(len(law.cell_types)):
        means = law.means(rows)
        counts.append(
            csr_array(negative_binomial(means, law.theta, seed=count_seed, rows=rows.start))
        )
    return replace(law, counts=vstack(counts, format="csr"), peaks=_peaks(law, seed))


def _peaks(law: SimulatedCells, seed: int) -> Any:
    """Draw peaks; a gene's log-mean is standardised over the cells in two passes."""
    if law.peak_offsets is None:
        return None
    from scipy.sparse import csr_array, vstack

    n, width = len(law.cell_types), len(law.peak_offsets)
    first, second = np.zeros(len(law.base)), np.zeros(len(law.base))
    for rows in _chunks(n):
        logs = np.log(law.rho(rows))
        first += logs.sum(axis=0)
        second += (logs * logs).sum(axis=0)
    mean = first / n
    deviation = np.sqrt(np.maximum(second / n - mean * mean, 1e-12))
    peaks = []
    for rows in _chunks(n):
        standardised = (np.log(law.rho(rows)) - mean) / deviation
        logits = law.peak_offsets + 2.0 * np.repeat(standardised, _PEAKS_PER_GENE, axis=1)
        chains = np.arange(rows.start, rows.stop)
        uniforms = random.uniforms(seed, [_PEAKS], chains, width, _ACCESSIBILITY)[0]
        peaks.append(csr_array((uniforms < 1.0 / (1.0 + np.exp(-logits))).astype(np.int32)))
    return vstack(peaks, format="csr")


def _chunks(n: int) -> Iterator[slice]:
    for begin in range(0, n, _CHUNK):
        yield slice(begin, min(begin + _CHUNK, n))


def _peak_names(genes: int) -> tuple[str, ...]:
    return tuple(f"peak {g}.{k}" for g in range(genes) for k in range(_PEAKS_PER_GENE))


def _normals(seed: int, quantity: int, rows: int, columns: int) -> Array:
    drawn: Array = random.normals(seed, [quantity], rows, columns, _STREAM)[0]
    return drawn


def _softmax(logs: Array) -> Array:
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
