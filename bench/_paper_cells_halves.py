"""One half of the cells against what is generated from the other half, type by type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from _paper_cells import NEIGHBOURS, Array, Space, log_normalised
from _paper_report import Comparison, Report
from scipy import sparse

from hotloops import datasets, flow
from hotloops.flow import metrics

FLOOR, CENTRE, LAW, MODEL = "other half (real)", "centre of the type", "NB by type", "CFGen"
METHODS = (FLOOR, CENTRE, LAW, MODEL)
_BY_TYPE = ("W2", "MMD²", "MMD² wide", "spread")
_MEASURES = (*_BY_TYPE, "kNN F1", "zeros", "correlations")
_FEWEST, _MOST = 4, 1000  # cells of a type in each half
_GENES = 50  # whose correlations are compared
_AUTOENCODER = {"hidden": (64,), "batch_size": 128, "theta_init": "moments"}
_FLOW = {"learning_rate": 1e-3, "batch_size": 128, "ema": 0.999}


@dataclass(frozen=True)
class Halves:
    """Cells to learn from and as many held out, of each type.

    Attributes
    ----------
    train, test : scipy.sparse.csr_array
        Row i of both is a cell of type ``types[i]``.
    types : ndarray of str
    """

    train: Any
    test: Any
    types: Array

    @classmethod
    def of(cls, counts: Any, types: Array, seed: int) -> Halves:
        """Cut the cells of each type in two at random."""
        rng = np.random.default_rng(seed)
        rows: list[tuple[Array, Array]] = []
        for kind in np.unique(types):
            own = rng.permutation(np.flatnonzero(types == kind))
            half = min(own.size // 2, _MOST)
            if half >= _FEWEST:
                rows.append((own[:half], own[half : 2 * half]))
        train, test = (np.concatenate(part) for part in zip(*rows, strict=True))
        return cls(counts[train], counts[test], types[test])

    @property
    def totals(self) -> Array:
        """Counts of the held-out cells, which generated cells are given too."""
        return np.asarray(self.test.sum(axis=1), float).ravel()

    def fill(self, draw: Callable[[Any, Array], Any]) -> Any:
        """Return draw(training cells, totals) of each type, in the order of the cells."""
        kinds = np.unique(self.types)
        rows = [np.flatnonzero(self.types == kind) for kind in kinds]
        made = sparse.vstack(
            [sparse.csr_array(draw(self.train[own], self.totals[own])) for own in rows]
        )
        order = np.argsort(np.concatenate(rows), kind="stable")
        return sparse.csr_array(made)[order]


def law_by_type(halves: Halves) -> Any:
    """Draw every gene by itself from the negative binomial law of its type."""
    return halves.fill(
        lambda cells, totals: flow.negative_binomial(
            totals[:, None] * shares(cells),
            np.broadcast_to(dispersion(cells), (totals.size, cells.shape[1])),
            seed=3,
        )
    )


def shares(cells: Any) -> Array:
    """Return the share of each gene in the counts."""
    sums = np.asarray(cells.sum(axis=0), float).ravel()
    return np.asarray(sums / sums.sum())


def dispersion(cells: Any) -> Array:
    """theta by moments: mean^2 / (variance - mean) of counts at equal totals."""
    dense = cells.toarray().astype(float)
    totals = dense.sum(axis=1, keepdims=True)
    mean, variance = metrics.mean_variance(dense * totals.mean() / totals)
    return np.asarray(np.clip(mean**2 / np.maximum(variance - mean, 1e-3), 0.1, 100.0))


def generate(halves: Halves, quick: bool, epochs: int, steps: int, width: int) -> Any:
    """Train on one half, and make the cells of the other."""
    model = flow.CFGen(
        "type",
        width,
        autoencoder={**_AUTOENCODER, "epochs": 5 if quick else epochs, "early_stopping": True},
        flow={**_FLOW, "num_steps": 100 if quick else steps},
    ).fit(halves.train, {"type": halves.types})
    return model.sample(
        *(halves.types.size, {"type": halves.types}),
        size_factor=halves.totals,
        seed=1,
        steps=40,
        output="csr",
    )


def measure(space: Space, halves: Halves, made: Any) -> dict[str, dict[str, float]]:
    """Return the measures by type, and those of all cells under the key ``""``.

    Without cells, `made` is None, all stand at the centre of the training cells of their type.
    """
    real = space.place(halves.test)
    kinds = np.unique(halves.types)
    if made is None:
        other = np.empty_like(real)
        for kind in kinds:
            own = halves.types == kind
            other[own] = space.place(halves.train[own]).mean(axis=0)
    else:
        other = space.place(made)
    found = {kind: _distances(real, other, halves.types == kind) for kind in kinds}
    mean = {name: float(np.mean([values[name] for values in found.values()])) for name in _BY_TYPE}
    found[""] = mean | {"kNN F1": metrics.classifier_f1(real, other, k=NEIGHBOURS)}
    if made is not None:
        largest = halves.types == max(kinds, key=lambda kind: int((halves.types == kind).sum()))
        zeros = np.abs(metrics.zero_fraction(halves.test) - metrics.zero_fraction(made))
        found[""] |= {
            "zeros": float(zeros.mean()),
            "correlations": _difference(halves.test[largest], made[largest]),
        }
    return found


def _distances(real: Array, other: Array, own: Array) -> dict[str, float]:
    """Return the distances of the cells of one type, and the ratio of their variances."""
    a, b = real[own], other[own]
    squares = metrics.pairwise_distances(a)[np.triu_indices(len(a), 1)]
    width = float(np.sqrt(np.median(squares)))
    return {
        "W2": metrics.wasserstein(a, b),
        "MMD²": metrics.mmd(a, b),
        "MMD² wide": metrics.mmd(a, b, sigmas=[width]),
        "spread": float(b.var(axis=0).sum() / a.var(axis=0).sum()),
    }


def _difference(real: Any, made: Any) -> float:
    """Root mean square difference of the correlations of the most variable genes."""
    x, y = log_normalised(real), log_normalised(made)
    genes = np.argsort(x.var(axis=0))[-_GENES:]
    upper = np.triu_indices(_GENES, 1)
    with np.errstate(invalid="ignore"):
        a, b = (np.nan_to_num(np.corrcoef(z[:, genes].T))[upper] for z in (x, y))
    return float(np.sqrt(np.mean((a - b) ** 2)))


def run_halves(quick: bool) -> Report:
    """Cut the 700 blood cells in two, several times."""
    cells = datasets.load_pbmc68k_reduced()
    splits = [Halves.of(cells.counts, cells.cell_types, seed) for seed in range(1 if quick else 5)]
    space = Space.of(cells.counts)
    made = [_all_methods(halves, quick, 400, 3000, 5) for halves in splits]
    return _report(
        "halves",
        "blood cells of each type: one half, and what is generated from the other",
        space,
        splits,
        made,
        quick,
    )


def run_simulated(quick: bool) -> Report:
    """Cut 10,000 cells of a known law in two."""
    cells = datasets.simulate_cells(
        1000 if quick else 10_000, 200, types=4, batches=1, seed=3, rare_share=None
    )
    halves = Halves.of(cells.counts, cells.cell_types, 0)
    made = [_all_methods(halves, quick, 100, 8000, 10)]
    return _report(
        "simulated",
        "simulated cells of each type: one half, and what is generated from the other",
        Space.of(cells.counts),
        [halves],
        made,
        quick,
    )


def _all_methods(halves: Halves, quick: bool, *sizes: int) -> dict[str, Any]:
    return {
        FLOOR: halves.train,
        LAW: law_by_type(halves),
        CENTRE: None,
        MODEL: generate(halves, quick, *sizes),
    }


def _report(
    name: str,
    title: str,
    space: Space,
    splits: list[Halves],
    made: list[dict[str, Any]],
    quick: bool,
) -> Report:
    found = {
        method: [
            measure(space, halves, cells[method])
            for halves, cells in zip(splits, made, strict=True)
        ]
        for method in METHODS
    }
    return Report(
        name,
        title,
        notes=[
            f"Half against half, {splits[0].types.size} cells each, means over types"
            + (
                f" and {len(splits)} cuts, ± standard error over the cuts"
                if len(splits) > 1
                else ""
            )
            + "; 30 components of all real cells, with the totals of the held-out half. The first "
            "row is the floor: what real cells reach.",
            "Less is better but for `spread`, the variance within a type against that of real "
            "cells, which should be 1. In the second row all cells stand at one point, the centre "
            "of their type: where few cells have thirty dimensions, that is nearer by W2 than real "
            "cells are, and W2 rewards too little variance.",
            "`MMD²` sums five widths; `MMD² wide` has one, the median distance of real cells. kNN "
            "F1 is 0.5 where real and generated cells cannot be told apart. `zeros` is the mean "
            "error of a gene's share of zeros, `correlations` the root mean square error of the "
            "correlations of the 50 most variable genes in the most frequent type.",
        ],
        tables=[("All types", _summary(found)), ("By type", _by_type(found, splits[0]))],
        comparisons=[] if quick else _verdicts(found),
        draw=lambda figure: _draw(figure, space, splits[0], made[0][MODEL]),
        family="flow",
        size=(10.5, 4.4),
    )


def _summary(found: dict[str, list[dict[str, dict[str, float]]]]) -> list[list[str]]:
    rows = [["", *_MEASURES]]
    for method, cuts in found.items():
        row = [method]
        for name in _MEASURES:
            if name not in cuts[0][""]:
                row.append("")
                continue
            values = np.array([cut[""][name] for cut in cuts])
            digits = 2 if name == "W2" else 3
            cell = f"{values.mean():.{digits}f}"
            if values.size > 1:
                cell += f" ±{values.std(ddof=1) / np.sqrt(values.size):.{digits}f}"
            row.append(cell)
        rows.append(row)
    return rows


def _by_type(
    found: dict[str, list[dict[str, dict[str, float]]]], halves: Halves
) -> list[list[str]]:
    shown = (FLOOR, LAW, MODEL)
    names = ("W2", "MMD² wide")
    rows = [["", "cells", *(f"{name}, {method}" for name in names for method in shown)]]
    for kind in np.unique(halves.types):
        row = [str(kind), str(int((halves.types == kind).sum()))]
        for name in names:
            for method in shown:
                value = np.mean([cut[kind][name] for cut in found[method]])
                row.append(f"{value:.2f}" if name == "W2" else f"{value:.3f}")
        rows.append(row)
    return rows


def _verdicts(found: dict[str, list[dict[str, dict[str, float]]]]) -> list[Comparison]:
    """What is claimed of the model, the law by type and W2, as ratios."""

    def mean(method: str, name: str) -> float:
        return float(np.mean([cut[""][name] for cut in found[method]]))

    def ratio(name: str, method: str, other: str) -> float:
        return mean(method, name) / mean(other, name)

    few = len(found[MODEL]) > 1  # cuts of the blood cells
    return [
        Comparison(
            "W2, centre / floor", 0.94 if few else 1.03, ratio("W2", CENTRE, FLOOR), 0, 0.03
        ),
        Comparison("W2, CFGen / floor", 1.0, ratio("W2", MODEL, FLOOR), 0.0, 0.1),
        Comparison("MMD², CFGen / NB: below 1", 0.8, ratio("MMD²", MODEL, LAW), 0.0, 0.2),
        Comparison(
            "correlations, CFGen / NB: below 1",
            *(0.6, ratio("correlations", MODEL, LAW), 0.0, 0.4),
        ),
        Comparison("spread, CFGen", 0.5 if few else 1.0, mean(MODEL, "spread"), 0.0, 0.1),
    ]


def _draw(figure: Any, space: Space, halves: Halves, made: Any) -> None:
    from matplotlib import colormaps

    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, cells, title in ((left, halves.test, "held out"), (right, made, "generated")):
        place = space.place(cells)
        for number, kind in enumerate(np.unique(halves.types)):
            own = place[halves.types == kind]
            colour = colormaps["tab10"](number % 10)
            axes.scatter(*own[:, :2].T, s=9, color=colour, label=kind, linewidths=0, alpha=0.8)
        axes.set(title=title, xlabel="component 1")
    left.set_ylabel("component 2")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=9, markerscale=1.6)
