"""The tour's cells: a generator trained on the packaged blood cells, against cells it never saw."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import datasets
from hotloops._report import page
from hotloops._report.axes import Axis
from hotloops._report.svg import Chart
from hotloops._report.text import duration

__all__ = ["Cells", "code", "pictures", "run", "section", "table"]

Array = npt.NDArray[np.float64]

HELD_OUT = 140
COMPONENTS = 30
GENERATED, RESAMPLED, AVERAGES = "generated", "training cells", "Poisson at means"
_REAL, _MADE = 1, 0  # colours
_AUTOENCODER = {
    "hidden": (64,),
    "theta_init": "moments",
    "batch_size": 128,
    "early_stopping": True,
}
_FLOW = {"batch_size": 128, "learning_rate": 1e-3}


@dataclass(frozen=True)
class Cells:
    """What came out.

    Attributes
    ----------
    quick : bool
    epochs : int
        Of the autoencoder; the best of them was kept.
    num_steps : int
        Of the flow.
    nll : tuple of float
        Negative log-likelihood per cell: training cells, held-out cells.
    training_seconds, sampling_seconds : float
    wasserstein, discrepancy : dict of float
        W2 and MMD^2 of each source of cells to the held-out ones, averaged over the types.
    zeros : dict of float
        Share of zero counts, by source, and "held out".
    points : dict of ndarray, shape (cells, 2)
        First principal components of the held-out cells and of the generated ones.
    genes : dict of tuple of ndarray
        Mean, variance and share of zeros by gene, of the held-out cells and of the generated ones.
    """

    quick: bool
    epochs: int
    num_steps: int
    nll: tuple[float, float]
    training_seconds: float
    sampling_seconds: float
    wasserstein: dict[str, float]
    discrepancy: dict[str, float]
    zeros: dict[str, float]
    points: dict[str, Array]
    genes: dict[str, tuple[Array, Array, Array]]


def run(quick: bool, *, num_threads: int | None, backend: str | None, seed: int = 7) -> Cells:
    """Train on 560 cells with progress bars, and compare with the 140 others."""
    from hotloops.flow import CFGen, metrics

    cells = datasets.load_pbmc68k_reduced()
    order = np.random.RandomState(0).permutation(cells.counts.shape[0])
    test, train = np.sort(order[:HELD_OUT]), np.sort(order[HELD_OUT:])
    epochs, steps = (60, 1_000) if quick else (200, 6_000)
    model = CFGen(
        "cell_type",
        n_latent=10,
        autoencoder={**_AUTOENCODER, "epochs": epochs},
        flow={**_FLOW, "num_steps": steps},
        seed=seed,
        backend=None if backend == "cuda" else backend,  # the flow has no kernels there
        num_threads=num_threads,
    )
    real, kinds = cells.counts[test], cells.cell_types[test]
    began = time.perf_counter()
    model.fit(cells.counts[train], {"cell_type": cells.cell_types[train]}, progress=True)
    middle = time.perf_counter()
    totals = np.asarray(real.sum(axis=1)).ravel()
    made = model.sample(HELD_OUT, {"cell_type": kinds}, size_factor=totals, seed=seed)
    end = time.perf_counter()
    sources = {GENERATED: made, **_baselines(cells, train, kinds, totals, seed)}
    project = _projection(real)
    cloud = project(real)
    distances: dict[str, dict[str, float]] = {"w": {}, "m": {}}
    for name, counts in sources.items():
        pairs = [(cloud[rows], project(counts)[rows]) for rows in _groups(kinds)]
        distances["w"][name] = float(np.mean([metrics.wasserstein(*pair) for pair in pairs]))
        distances["m"][name] = float(np.mean([metrics.mmd(*pair) for pair in pairs]))
    shown = {"held out": real, GENERATED: made}
    return Cells(
        quick=quick,
        epochs=epochs,
        num_steps=steps,
        nll=(model.autoencoder_.nll(cells.counts[train]), model.autoencoder_.nll(real)),
        training_seconds=middle - began,
        sampling_seconds=end - middle,
        wasserstein=distances["w"],
        discrepancy=distances["m"],
        zeros={
            name: float(metrics.zero_fraction(counts).mean())
            for name, counts in {"held out": real, **sources}.items()
        },
        points={name: project(counts)[:, :2] for name, counts in shown.items()},
        genes={
            name: (*metrics.mean_variance(counts), metrics.zero_fraction(counts))
            for name, counts in shown.items()
        },
    )


def _baselines(
    cells: Any, train: npt.NDArray[Any], kinds: npt.NDArray[Any], totals: Array, seed: int
) -> dict[str, Any]:
    """Return training cells drawn again, and Poisson counts at the mean of the type."""
    from hotloops import flow, random

    counts, labels = cells.counts[train], cells.cell_types[train]
    u = random.uniforms(seed, [0], len(kinds), 1, 16)[0, :, 0]
    picked = []
    for row, kind in enumerate(kinds):
        same = np.flatnonzero(labels == kind)
        picked.append(int(same[int(u[row] * len(same))]))
    shares = {}
    for kind in np.unique(kinds):
        total = np.asarray(counts[np.flatnonzero(labels == kind)].sum(axis=0)).ravel()
        shares[kind] = total / total.sum()
    means = totals[:, None] * np.stack([shares[kind] for kind in kinds])
    return {RESAMPLED: counts[picked], AVERAGES: flow.poisson(means, seed=seed)}


def _groups(kinds: npt.NDArray[Any]) -> list[npt.NDArray[np.int64]]:
    """Return the rows of each type with more than one cell."""
    groups = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    return [rows for rows in groups if rows.size > 1]


def _projection(real: Any) -> Any:
    """Return the map to the principal components of real cells, centred at their means."""
    logs = _normalised(real)
    centre = logs.mean(axis=0)
    loadings = np.linalg.svd(logs - centre, full_matrices=False)[2][:COMPONENTS].T
    return lambda counts: (_normalised(counts) - centre) @ loadings


def _normalised(counts: Any) -> Array:
    dense = np.asarray(counts.toarray() if hasattr(counts, "toarray") else counts, np.float64)
    return np.asarray(np.log1p(1e4 * dense / np.maximum(dense.sum(axis=1, keepdims=True), 1.0)))


def table(found: Cells) -> list[list[str]]:
    """Return the cells of the table: quantities down, sources of cells across."""
    names = list(found.wasserstein)
    return [
        ["140 held-out cells against", *names],
        ["Wasserstein distance, by type", *(f"{found.wasserstein[n]:.2f}" for n in names)],
        ["kernel discrepancy MMD², by type", *(f"{found.discrepancy[n]:.3f}" for n in names)],
        [
            f"zero counts (held out: {100 * found.zeros['held out']:.1f} %)",
            *(f"{100 * found.zeros[n]:.1f} %" for n in names),
        ],
    ]


def facts(found: Cells) -> list[list[str]]:
    """Return what the training took and reached."""
    return [
        ["", ""],
        ["epochs of the autoencoder, steps of the flow", f"{found.epochs}, {found.num_steps:,}"],
        ["training", duration(found.training_seconds)],
        ["generating 140 cells of 765 genes", duration(found.sampling_seconds)],
        ["minus log-likelihood per training cell", f"{found.nll[0]:.1f}"],
        ["minus log-likelihood per held-out cell", f"{found.nll[1]:.1f}"],
    ]


def section(found: Cells) -> tuple[str, str]:
    """Return heading and HTML of the page's section."""
    html = (
        _EXPLANATION
        + page.table(table(found))
        + _READING
        + page.table(facts(found))
        + page.figures(pictures(found))
        + f"<pre>{escape(code(found))}</pre>"
        + _METHOD
    )
    return "Blood cells that never lived", html


def pictures(found: Cells) -> list[tuple[str, str]]:
    """Return every picture with its caption."""
    drawn = (
        (components(found.points), _CAPTION_COMPONENTS),
        (zeros(found.genes), _CAPTION_ZEROS),
        (spread(found.genes), _CAPTION_SPREAD),
    )
    return [(chart.svg(), caption) for chart, caption in drawn]


def components(points: Mapping[str, Array]) -> Chart:
    """Draw real and generated cells on two principal components."""
    chart = Chart("Cells on two principal components", Axis("component 1"), Axis("component 2"))
    for (name, cloud), colour in zip(points.items(), (_REAL, _MADE), strict=True):
        chart.points(cloud[:, 0].tolist(), cloud[:, 1].tolist(), name, colour)
    return chart


def zeros(genes: Mapping[str, tuple[Array, Array, Array]]) -> Chart:
    """Draw the share of zeros of each gene, generated against real."""
    chart = Chart("Share of zeros of each gene", Axis("held out"), Axis("generated"))
    real, made = (genes[name][2] for name in ("held out", GENERATED))
    chart.points(real.tolist(), made.tolist(), "a gene", _MADE)
    chart.line([0.0, 1.0], [0.0, 1.0], "equal", 4)
    return chart


def spread(genes: Mapping[str, tuple[Array, Array, Array]]) -> Chart:
    """Draw the variance of each gene against its mean."""
    axes = Axis("mean of a gene", log=True), Axis("variance", log=True)
    chart = Chart("Mean and variance of each gene", *axes)
    for (name, (mean, variance, _)), colour in zip(genes.items(), (_REAL, _MADE), strict=True):
        chart.points(mean.tolist(), variance.tolist(), name, colour)
    low = min(float(mean[mean > 0.0].min()) for mean, _, _ in genes.values())
    high = max(float(mean.max()) for mean, _, _ in genes.values())
    chart.line([low, high], [low, high], "Poisson", 4)
    return chart


_EXPLANATION = """
<p>560 blood cells of ten types train a generator: an autoencoder turns the counts of 765 genes
into ten numbers and back into the law of the counts, negative binomial; a flow carries noise to
those numbers, given the type. Then 140 cells are generated with the types and totals of the 140
that were held out, and compared with them on thirty principal components of theirs. Beside stand
two simple ways: drawing training cells of the type again, and Poisson counts at the mean of the
type.</p>
"""
_READING = """
<p>Training cells that are drawn again are as good as 560 cells can be, so nothing new should be
much nearer. At this size the Wasserstein distance is mostly that of small samples, four to forty
cells a type in thirty dimensions, and the simple mean does about as well on it; the kernel
discrepancy and the zeros tell more. Few cells and few genes: an example, not a measurement of the
method.</p>
"""
_CAPTION_COMPONENTS = (
    "Held-out cells and generated ones of the same types. The components are those of the held-out "
    "cells; generated cells are centred and projected with their means and loadings."
)
_CAPTION_ZEROS = (
    "Each mark is a gene: in how many cells it has no count. Marks above the line say that "
    "generated cells have too many zeros."
)
_CAPTION_SPREAD = "Counts vary more than Poisson counts of the same mean, generated ones as well."
_METHOD = """
<p>A. Palma, T. Richter, H. Zhang, M. Lubetzki, A. Tong, A. Dittadi, F. J. Theis: <cite>Multi-Modal
and Multi-Attribute Generation of Single Cells with CFGen</cite>, ICLR 2025,
<a href="https://arxiv.org/abs/2407.11734">arXiv:2407.11734</a>. Cells: G. X. Y. Zheng et al.,
Nature Communications 8, 14049 (2017),
<a href="https://doi.org/10.1038/ncomms14049">doi 10.1038/ncomms14049</a>, data of 10x Genomics
(CC BY 4.0) by way of scanpy (BSD-3-Clause).</p>
"""


def code(found: Cells) -> str:
    """Return what a reader can run."""
    return f"""from hotloops import datasets
from hotloops.flow import CFGen

cells = datasets.load_pbmc68k_reduced()
small = dict(hidden=(64,), theta_init="moments", epochs={found.epochs}, batch_size=128,
             early_stopping=True)
flow = dict(num_steps={found.num_steps:_}, batch_size=128, learning_rate=1e-3)
model = CFGen("cell_type", n_latent=10, autoencoder=small, flow=flow)
model.fit(cells.counts, {{"cell_type": cells.cell_types}}, progress=True)

new = model.sample(1_000, {{"cell_type": "Dendritic"}}, guidance=1.5, seed=7)
print(new.shape, new.dtype)  # counts, as a sparse matrix; AnnData from AnnData"""
