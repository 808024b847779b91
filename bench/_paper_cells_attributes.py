"""Guidance, batch correction, augmentation and two modalities, on simulated cells."""

from __future__ import annotations

from typing import Any

import numpy as np
from _paper_cells import Array, Space, classes_of, log_normalised
from _paper_report import COLOURS, Comparison, Report

from hotloops import datasets, flow

_AUTOENCODER = {"hidden": (128,), "theta_init": "moments", "batch_size": 256}
_FLOW = {"hidden": 64, "embed": 32, "blocks": 3, "batch_size": 256, "learning_rate": 1e-3}
_WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


def _model(conditions: list[str], quick: bool, width: int = 20, **options: Any) -> flow.CFGen:
    autoencoder = {**_AUTOENCODER, "epochs": 3 if quick else 60, **options}
    settings = {**_FLOW, "num_steps": 200 if quick else 8000}
    return flow.CFGen(conditions, width, autoencoder=autoencoder, flow=settings, seed=1)


def _labels(cells: Any) -> dict[str, Array]:
    return {"type": cells.cell_types, "batch": cells.batches}


# --- guidance ------------------------------------------------------------------------------------


def run_guidance(quick: bool) -> Report:
    """Leave one combination of type and batch out, and ask for it with growing weights."""
    cells = datasets.simulate_cells(800 if quick else 4000, 200, types=4, batches=3, seed=3)
    left_out = (cells.cell_types == "type 0") & (cells.batches == "0")
    kept = ~left_out
    labels = {name: value[kept] for name, value in _labels(cells).items()}
    model = _model(["type", "batch"], quick).fit(cells.counts[kept], labels)
    space = Space.of(cells.counts)
    real = space.place(cells.counts)
    centred = real - _centre_by(real, cells.cell_types)
    rows = [["weight", "asked type", "asked batch", "variance within"]]
    found = []
    asked = {"type": "type 0", "batch": "0"}
    for weight in _WEIGHTS:
        made = model.sample(400, asked, guidance=weight, seed=7, output="csr")
        place = space.place(made)
        kind = classes_of(real, cells.cell_types, place) == "type 0"
        own = place - real[cells.cell_types == "type 0"].mean(axis=0)
        batch = classes_of(centred, cells.batches, own) == "0"
        spread = float(place.var(axis=0).sum())
        found.append((kind.mean(), batch.mean(), spread))
        rows.append([f"{weight:g}", *(f"{value:.3f}" for value in found[-1][:2]), f"{spread:.1f}"])
    comparisons = [] if quick else _guidance_verdicts(found)
    return Report(
        "guidance",
        "a combination of type and batch that was never seen, by weight",
        notes=["Cells are given the type and the batch of the nearest centroid of all real cells."],
        tables=[("Generated cells by weight of guidance", rows)],
        comparisons=comparisons,
        draw=lambda figure: _draw_guidance(figure, found),
        family="flow",
        size=(8.0, 4.0),
    )


def _centre_by(points: Array, labels: Array) -> Array:
    centres = np.empty_like(points)
    for name in np.unique(labels):
        centres[labels == name] = points[labels == name].mean(axis=0)
    return centres


def _guidance_verdicts(found: list[tuple[float, float, float]]) -> list[Comparison]:
    """Shares rise and the variance falls from weight 0 to 2."""
    kinds, batches, spreads = (np.array(column) for column in zip(*found, strict=True))
    return [
        Comparison("asked type, weight 2", 1.0, float(kinds[4]), 0.0, 0.05),
        Comparison(
            "gain of the asked batch, weight 0 to 2", 1.0, float(batches[4] - batches[0]), 0.0, 0.9
        ),
        Comparison("variance, weight 2 against 0", 0.0, float(spreads[4] / spreads[0]), 0.0, 0.9),
    ]


def _draw_guidance(figure: Any, found: list[tuple[float, float, float]]) -> None:
    left, right = figure.subplots(1, 2)
    kinds, batches, spreads = zip(*found, strict=True)
    left.plot(_WEIGHTS, kinds, marker="o", c=COLOURS[0], label="asked type")
    left.plot(_WEIGHTS, batches, marker="o", c=COLOURS[1], label="asked batch")
    left.set(xlabel="weight", ylabel="share of generated cells", ylim=(0, 1.05))
    left.legend()
    right.plot(_WEIGHTS, spreads, marker="o", c=COLOURS[2])
    right.set(xlabel="weight", ylabel="variance within the group", ylim=(0, None))


# --- batch correction ----------------------------------------------------------------------------


def run_batches(quick: bool) -> Report:
    """Carry all cells to one batch through the noise, and look at batches and types after."""
    from sklearn.metrics import silhouette_score

    cells = datasets.simulate_cells(800 if quick else 3000, 200, types=4, batches=3, seed=5)
    labels = _labels(cells)
    model = _model(["type", "batch"], quick).fit(cells.counts, labels)
    before = model.encode(cells.counts)
    after = model.translate(cells.counts, {"batch": "0"}, labels, output="latent")
    back = model.translate(cells.counts, {"batch": labels["batch"]}, labels, output="latent")
    scores = {
        name: [float(silhouette_score(z, labels[name])) for z in (before, after)]
        for name in ("batch", "type")
    }
    error = float(np.abs(back - before).max() / before.std())
    rows = [["silhouette", "before", "after"]]
    rows += [[name, *(f"{value:.3f}" for value in pair)] for name, pair in scores.items()]
    comparisons = [Comparison("round trip, in standard deviations", 0.0, error, 0.0, 1e-2)]
    if not quick:
        gain = scores["batch"][1] - scores["batch"][0]
        kept = scores["type"][1] - scores["type"][0]
        comparisons += [
            Comparison("silhouette of the batches, after less before", -0.1, gain, 0.0, 0.1),
            Comparison("silhouette of the types, after less before", 0.05, kept, 0.0, 0.1),
        ]
    places = [np.asarray(z)[:, :2] for z in (_principal(before, before), _principal(before, after))]
    return Report(
        "batches",
        "all cells carried to one batch",
        notes=["Latents, before and after; a round trip to the own labels gives the cells back."],
        tables=[("Separation of batches and of types", rows)],
        comparisons=comparisons,
        draw=lambda figure: _draw_batches(figure, places, labels["batch"]),
        family="flow",
        size=(8.0, 4.0),
    )


def _principal(reference: Array, points: Array) -> Array:
    centre = reference.mean(axis=0)
    _, _, directions = np.linalg.svd(reference - centre, full_matrices=False)
    return np.asarray((points - centre) @ directions.T)


def _draw_batches(figure: Any, places: list[Array], batches: Array) -> None:
    for axes, place, title in zip(
        figure.subplots(1, 2), places, ("before", "carried to batch 0"), strict=True
    ):
        for name, colour in zip(np.unique(batches), COLOURS, strict=False):
            own = place[batches == name]
            axes.scatter(*own.T, s=6, c=colour, label=f"batch {name}", linewidths=0, alpha=0.6)
        axes.set(title=title, xlabel="component 1", ylabel="component 2")
        axes.legend()


# --- augmentation --------------------------------------------------------------------------------


def run_augmentation(quick: bool) -> Report:
    """Add generated cells of a rare type to the training cells of a classifier."""
    seeds = range(1 if quick else 5)
    found = np.array([_recalls(seed, quick) for seed in seeds])
    before, after = found.mean(axis=0)
    gain = found[:, 1] - found[:, 0]
    error = float(gain.std(ddof=1) / np.sqrt(gain.size)) if gain.size > 1 else 0.0
    rows = [["seed", "before", "after"]]
    rows += [[str(seed), *(f"{value:.3f}" for value in pair)] for seed, pair in enumerate(found)]
    rows.append(["mean", f"{before:.3f}", f"{after:.3f}"])
    comparisons = (
        [] if quick else [Comparison("change of the recall", 0.25, float(gain.mean()), error, 0.25)]
    )
    return Report(
        "augmentation",
        "recall of a type that is one cell in 200, with generated cells and without",
        notes=[
            "Five neighbours vote among the training cells in the space of their components; the "
            "recall is that of held-out cells. Generated cells add no knowledge, they shift the "
            "balance: weights of the classes would do so too."
        ],
        tables=[("Recall of the rare type", rows)],
        comparisons=comparisons,
        draw=lambda figure: _draw_recalls(figure, found),
        family="flow",
        size=(5.0, 4.0),
    )


def _recalls(seed: int, quick: bool) -> tuple[float, float]:
    from scipy import sparse
    from sklearn.neighbors import KNeighborsClassifier

    cells = datasets.simulate_cells(
        1600 if quick else 6000, 200, types=4, batches=1, seed=20 + seed, rare_share=0.005
    )
    half = cells.counts.shape[0] // 2
    train, kinds, rare = cells.counts[:half], cells.cell_types[:half], "type 3"
    model = _model(["type"], quick).fit(train, {"type": kinds})
    made = model.sample(half // 8, {"type": rare}, seed=1, output="csr")
    space = Space.of(train)
    test = space.place(cells.counts[half:][cells.cell_types[half:] == rare])

    def recall(counts: Any, labels: Array) -> float:
        votes = KNeighborsClassifier(5).fit(space.place(counts), labels)
        return float((votes.predict(test) == rare).mean())

    more = sparse.vstack([train, made], format="csr"), np.append(kinds, [rare] * made.shape[0])
    return recall(train, kinds), recall(*more)


def _draw_recalls(figure: Any, found: Array) -> None:
    axes = figure.subplots()
    axes.plot(["before", "after"], found.T, c=COLOURS[4], lw=1)
    axes.plot(["before", "after"], found.mean(axis=0), c=COLOURS[0], marker="o", lw=2)
    axes.set(ylabel="recall of the rare type", ylim=(0, 1.05))


# --- two modalities ------------------------------------------------------------------------------


def run_modalities(quick: bool) -> Report:
    """Generate genes and peaks from one latent; compare how linked pairs go together."""
    cells = datasets.simulate_cells(
        800 if quick else 3000, 100, types=4, batches=1, seed=9, atac=True
    )
    matrices = {"rna": cells.counts, "atac": cells.peaks}
    both = {"rna": {}, "atac": {"likelihood": "bernoulli", "hidden": (128,), "n_latent": 10}}
    model = _model(["type"], quick, 10, modalities=both).fit(matrices, {"type": cells.cell_types})
    made = model.sample(cells.counts.shape[0], {"type": cells.cell_types}, seed=2, output="csr")
    pairs = [_linked(m["rna"], m["atac"], cells.counts.shape[1]) for m in (matrices, made)]
    agreement = float(np.corrcoef(pairs[0], pairs[1])[0, 1])
    comparisons = [] if quick else [Comparison("agreement", 1.0, agreement, 0.0, 0.3)]
    return Report(
        "modalities",
        "correlation of genes with their peaks over cells, real and generated",
        notes=[f"Correlation of the two over the genes: {agreement:.3f}."],
        comparisons=comparisons,
        draw=lambda figure: _draw_pairs(figure, pairs),
        family="flow",
        size=(4.6, 4.2),
    )


def _linked(rna: Any, atac: Any, genes: int) -> Array:
    """Correlation of each gene with the mean of its three peaks."""
    x = log_normalised(rna)
    peaks = np.asarray(atac.toarray(), float).reshape(x.shape[0], genes, 3).mean(axis=2)
    x, peaks = x - x.mean(axis=0), peaks - peaks.mean(axis=0)
    norm = np.sqrt((x**2).sum(axis=0) * (peaks**2).sum(axis=0))
    return np.asarray((x * peaks).sum(axis=0) / np.maximum(norm, 1e-12))


def _draw_pairs(figure: Any, pairs: list[Array]) -> None:
    axes = figure.subplots()
    axes.scatter(*pairs, s=10, c=COLOURS[0], linewidths=0, alpha=0.7)
    low = float(min(pair.min() for pair in pairs))
    axes.plot([low, 1], [low, 1], c=COLOURS[4], lw=1)
    axes.set(xlabel="real", ylabel="generated", title="gene and its peaks")
