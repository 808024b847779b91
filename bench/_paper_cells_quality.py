"""Real against generated blood cells, by type, beside baselines."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from _paper_cells import HEAD, Scores, Space, Split, by_type, scatter, score, split
from _paper_cells_halves import dispersion, shares
from _paper_report import COLOURS, Comparison, Report

from hotloops import flow
from hotloops.flow import metrics

_FLOW = {"learning_rate": 1e-3, "batch_size": 128, "hidden": 32, "embed": 20, "blocks": 3}
_STEPS = 40
_SEEDS = (1, 2, 3)  # of the samples, whose scores are averaged
# The two settings: arguments of the autoencoder, and what an independent implementation found.
_SETTINGS: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "default": (
        {"hidden": (512, 256), "epochs": 100, "batch_size": 128, "validation_share": 0.0},
        {"train": 525, "test": 705, "W2": 24.2, "MMD²": 1.505, "none": 29.2, "zeros": 0.78},
    ),
    "small": (
        {
            "hidden": (64,),
            "epochs": 400,
            "batch_size": 128,
            "theta_init": "moments",
            "early_stopping": True,
        },
        {"train": 620, "test": 654, "W2": 23.2, "MMD²": 1.455, "none": 30.3, "zeros": 0.70},
    ),
}
# Without the type, W2 of trainings from other seeds has a standard deviation of 0.7: 30.9, 29.6 and
# 29.8 with the default autoencoder. The reference's figure is that of one training, as is ours.
_SLACK = {"W2": 0.6, "none": 2.0, "MMD²": 0.06, "zeros": 0.02}


def run(quick: bool) -> Report:
    """Train both settings on 560 cells and compare what they generate with the other 140."""
    data = split()
    space = Space.of(data.test)
    rows = [HEAD, *(_baselines(data, space))]
    comparisons: list[Comparison] = []
    made: dict[str, Any] = {}
    for name, (options, expected) in _SETTINGS.items():
        model, found = _train(data, options, quick, 50 if name == "default" else 16)
        made[name] = _generate(model, data, True, _SEEDS[0])
        asked, free = (
            [score(space, data, _generate(model, data, which, seed)) for seed in _SEEDS]
            for which in (True, False)
        )
        rows += [
            _mean(asked).cells(f"CFGen, {name}"),
            _mean(free).cells(f"CFGen, {name}, no type"),
        ]
        found |= {
            "W2": [scores.wasserstein for scores in asked],
            "MMD²": [scores.mmd for scores in asked],
            "none": [scores.wasserstein for scores in free],
            "zeros": [scores.zeros for scores in asked],
        }
        if not quick:
            comparisons += _compare(name, expected, found)
    return Report(
        "quality",
        "blood cells of each type, 560 for training and 140 held out",
        notes=[
            "W2 and MMD² in 30 components, means over 9 types, with the held-out cells' totals. "
            "With 4 to 48 cells of a type they are ruled by the number of cells: drawing training "
            "cells again is the floor, and no model here beats the law of the type's means by W2, "
            "which varies too little (see `halves`).",
            "MMD² is the sum over five widths, which saturates: look at all columns together. The "
            "flow does not see the totals here; if it does, W2 without the type is about 28, since "
            "totals tell types apart.",
            *_missing(),
        ],
        tables=[("Generated against held-out cells", rows)],
        comparisons=comparisons,
        draw=lambda figure: _draw(figure, data, space, made["small"]),
        family="flow",
        size=(13.0, 4.2),
    )


def _train(
    data: Split, options: dict[str, Any], quick: bool, width: int
) -> tuple[flow.CFGen, dict[str, list[float]]]:
    rounds = {"epochs": 10} if quick else {}
    settings = {**_FLOW, "num_steps": 200 if quick else 6000}
    model = flow.CFGen(
        *("cell_type", width),
        autoencoder={**options, **rounds},
        flow=settings,
        embed_size_factor=False,  # as in the reference; the totals would tell types apart
    )
    model.fit(data.train, {"cell_type": data.train_types})
    autoencoder = model.autoencoder_
    return model, {"train": [autoencoder.nll(data.train)], "test": [autoencoder.nll(data.test)]}


def _mean(samples: list[Scores]) -> Scores:
    return Scores(*np.mean([list(vars(scores).values()) for scores in samples], axis=0))


def _generate(model: flow.CFGen, data: Split, conditional: bool, seed: int) -> Any:
    asked = {"cell_type": data.test_types} if conditional else None
    options = {"seed": seed, "steps": _STEPS, "output": "csr", "size_factor": data.test_totals}
    return model.sample(len(data.test_types), asked, **options)


def _compare(
    name: str, expected: dict[str, float], found: dict[str, list[float]]
) -> list[Comparison]:
    words = {
        "train": "-log likelihood, training cells",
        "test": "-log likelihood, held-out cells",
        "none": "W2 without the type",
        "zeros": "share of zeros",
    }
    return [
        Comparison(
            f"{name}: {words.get(key, key)}",
            value,
            float(np.mean(found[key])),
            float(np.std(found[key], ddof=1) / len(found[key]) ** 0.5) if found[key][1:] else 0.0,
            _SLACK.get(key, 0.05 * value),
        )
        for key, value in expected.items()
    ]


def _baselines(data: Split, space: Space) -> list[list[str]]:
    rng = np.random.default_rng(0)

    def again(_: str, cells: Any, count: int) -> Any:
        return cells[rng.integers(0, cells.shape[0], count)]

    found = {
        "training cells again": by_type(data, again),
        "Poisson at the type's means": by_type(data, lambda _, c, n: _from_law(c, n, None)),
        "negative binomial by type": by_type(data, lambda _, c, n: _from_law(c, n, dispersion(c))),
    }
    rows = [score(space, data, made).cells(name) for name, made in found.items()]
    return [*rows, *_scvi(data, space)]


def _from_law(cells: Any, count: int, theta: Any) -> Any:
    totals = np.asarray(cells.sum(axis=1), float).ravel()
    mean = np.random.default_rng(1).choice(totals, count)[:, None] * shares(cells)
    if theta is None:
        return flow.poisson(mean, seed=3)
    return flow.negative_binomial(mean, np.broadcast_to(theta, mean.shape), seed=3)


def _missing() -> list[str]:
    if importlib.util.find_spec("scvi") is None:
        return ["scVI is not installed, so it has no row."]
    return []


def _scvi(data: Split, space: Space) -> list[list[str]]:
    """scVI with the type as a covariate: draws given training cells of the types of the test."""
    if importlib.util.find_spec("scvi") is None:
        return []
    import anndata
    import scvi
    from scipy import sparse

    def annotate(cells: Any, kinds: Any) -> Any:  # scVI wants matrices, not sparse arrays
        return anndata.AnnData(sparse.csr_matrix(cells.astype(np.float32)), {"cell_type": kinds})

    scvi.settings.seed = 0
    table = annotate(data.train, data.train_types)
    scvi.model.SCVI.setup_anndata(table, labels_key="cell_type", batch_key="cell_type")
    model = scvi.model.SCVI(table, gene_likelihood="nb")
    model.train(max_epochs=400, accelerator="cpu", enable_progress_bar=False)

    def draw(kind: str, cells: Any, count: int) -> Any:
        rows = np.random.default_rng(2).integers(0, cells.shape[0], count)
        own = annotate(cells[rows], np.full(count, kind))
        return np.asarray(model.posterior_predictive_sample(own).todense())

    return [score(space, data, by_type(data, draw)).cells("scVI, posterior of training cells")]


def _draw(figure: Any, data: Split, space: Space, made: Any) -> None:
    left, middle, right = figure.subplots(1, 3)
    scatter(left, space.place(data.test), space.place(made), "held-out and generated cells")
    zeros = metrics.zero_fraction(data.test), metrics.zero_fraction(made)
    middle.scatter(*zeros, s=6, c=COLOURS[0], linewidths=0, alpha=0.6)
    middle.plot([0, 1], [0, 1], c=COLOURS[4], lw=1)
    middle.set(title="share of zeros of each gene", xlabel="real", ylabel="generated")
    for counts, colour, label in ((data.test, "#9aa3ad", "real"), (made, COLOURS[1], "generated")):
        mean, variance = metrics.mean_variance(counts)
        right.scatter(mean, variance, s=6, c=colour, label=label, linewidths=0, alpha=0.6)
    right.set(xscale="log", yscale="log", title="variance against mean", xlabel="mean")
    right.set_ylabel("variance")
    right.legend()
