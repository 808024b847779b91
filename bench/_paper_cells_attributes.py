"""Guidance, batch correction, augmentation and two modalities, on simulated cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from _paper_cells import Array, Space, log_normalised
from _paper_report import COLOURS, Comparison, Report

from hotloops import datasets, flow

_AUTOENCODER = {"hidden": (128,), "theta_init": "moments", "batch_size": 256}
_FLOW = {"hidden": 64, "embed": 32, "blocks": 3, "batch_size": 256, "learning_rate": 1e-3}
_NEVER, _SEEN = {"type": "type 1", "batch": "1"}, {"type": "type 1", "batch": "0"}
_WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


def _model(conditions: list[str], quick: bool, width: int = 20, **options: Any) -> flow.CFGen:
    autoencoder = {**_AUTOENCODER, "epochs": 3 if quick else 60, **options}
    settings = {**_FLOW, "num_steps": 200 if quick else 8000}
    return flow.CFGen(conditions, width, autoencoder=autoencoder, flow=settings, seed=1)


def _labels(cells: Any) -> dict[str, Array]:
    return {"type": cells.cell_types, "batch": cells.batches}


# --- guidance ------------------------------------------------------------------------------------


def run_guidance(quick: bool) -> Report:
    """Leave one combination of type and batch out; ask for it, and for another, by weight."""
    cells = datasets.simulate_cells(800 if quick else 4000, 200, types=4, batches=3, seed=3)
    all_labels = _labels(cells)
    left_out = np.all([all_labels[name] == value for name, value in _NEVER.items()], axis=0)
    labels = {name: value[~left_out] for name, value in all_labels.items()}
    model = _model(["type", "batch"], quick).fit(cells.counts[~left_out], labels)
    space = Space.of(cells.counts)
    judge = _judge(space.place(cells.counts[~left_out]), labels)
    found, real = {}, {}
    for key, asked in (("never seen", _NEVER), ("seen", _SEEN)):
        own = np.all([all_labels[name] == value for name, value in asked.items()], axis=0)
        real[key] = judge(space.place(cells.counts[own]), asked)
        found[key] = [
            judge(space.place(_guided(model, asked, weight)), asked) for weight in _WEIGHTS
        ]
    return Report(
        "guidance",
        "a combination of type and batch that was seen in training, and one that never was",
        notes=[
            "A linear discriminant (the nearest centroid in the metric of the variance within "
            "groups), fitted to the cells of the training, says of each cell whether it is of the "
            "asked type and of the asked batch; the last row is that of real cells of the "
            "combination, of which there is no more to reach. The product of the laws given the "
            "type and given the batch hardly holds what neither of them has seen.",
        ],
        tables=[("Generated cells by weight of guidance", _guidance_table(found, real))],
        comparisons=[] if quick else _guidance_verdicts(found, real),
        draw=lambda figure: _draw_guidance(figure, found, real),
        family="flow",
        size=(8.0, 4.0),
    )


_Judged = tuple[float, float, float]  # share of the asked type, of the asked batch; variance


def _guided(model: flow.CFGen, asked: dict[str, str], weight: float) -> Any:
    return model.sample(400, asked, guidance=weight, seed=7, output="csr")


def _judge(seen: Array, labels: dict[str, Array]) -> Callable[[Array, dict[str, str]], _Judged]:
    """Return what tells the shares of an asked type and batch among points, and their variance."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rules = {}
    for name, values in labels.items():
        count = len(np.unique(values))
        rules[name] = LinearDiscriminantAnalysis(priors=np.full(count, 1 / count))
        rules[name].fit(seen, values)

    def judge(points: Array, asked: dict[str, str]) -> _Judged:
        kind, batch = (
            float((rules[name].predict(points) == value).mean()) for name, value in asked.items()
        )
        return kind, batch, float(points.var(axis=0).sum())

    return judge


def _guidance_table(found: dict[str, list[_Judged]], real: dict[str, _Judged]) -> list[list[str]]:
    heads = ("asked type", "asked batch", "variance")
    rows = [["weight", *(f"{head}, {key}" for key in found for head in heads)]]
    names = [*(f"{weight:g}" for weight in _WEIGHTS), "real"]
    for place, name in enumerate(names):
        row = [name]
        for key, values in found.items():
            kind, batch, variance = [*values, real[key]][place]
            row += [f"{kind:.3f}", f"{batch:.3f}", f"{variance:.1f}"]
        rows.append(row)
    return rows


def _guidance_verdicts(
    found: dict[str, list[_Judged]], real: dict[str, _Judged]
) -> list[Comparison]:
    """Shares rise from weight 0 to 2; of a seen combination they are then those of real cells."""
    comparisons = []
    for key, values in found.items():
        first, last = values[0], values[_WEIGHTS.index(2.0)]
        expected = 0.25 if key == "never seen" else 0.6
        for place, name in enumerate(("type", "batch")):
            gain = last[place] - first[place]
            label = f"{key}: gain of the asked {name}, weight 0 to 2"
            comparisons.append(Comparison(label, expected, gain, 0.0, 0.2))
    last = found["seen"][_WEIGHTS.index(2.0)]
    for place, name in enumerate(("type", "batch")):
        label = f"seen: asked {name} at weight 2, against real cells"
        comparisons.append(Comparison(label, real["seen"][place], last[place], 0.0, 0.15))
    ratio = last[2] / found["seen"][0][2]
    return [*comparisons, Comparison("seen: variance, weight 2 against 0", 0.9, ratio, 0.0, 0.09)]


def _draw_guidance(figure: Any, found: dict[str, list[_Judged]], real: dict[str, _Judged]) -> None:
    for axes, (key, values) in zip(figure.subplots(1, 2, sharey=True), found.items(), strict=True):
        for place, name in enumerate(("asked type", "asked batch")):
            shares = [value[place] for value in values]
            axes.plot(_WEIGHTS, shares, marker="o", c=COLOURS[place], label=name)
            axes.axhline(real[key][place], c=COLOURS[place], lw=1.2, ls=":")
        axes.plot([], [], c=COLOURS[4], lw=1.2, ls=":", label="real cells")
        axes.set(title=f"combination {key}", xlabel="weight of guidance", ylim=(0, 1.05))
        axes.set_ylabel("share of cells" if key == "never seen" else "")
    axes.legend(loc="lower right")


# --- batch correction ----------------------------------------------------------------------------


def run_batches(quick: bool) -> Report:
    """Carry all cells to one batch through the noise, and look at batches and types after."""
    from sklearn.metrics import silhouette_score

    cells = datasets.simulate_cells(800 if quick else 3000, 200, types=4, batches=3, seed=5)
    labels = _labels(cells)
    model = _model(["type", "batch"], quick).fit(cells.counts, labels)
    before = model.encode(cells.counts)
    solver = {"method": "rk4", "steps": 100, "output": "latent"}
    after = model.translate(cells.counts, {"batch": "0"}, labels, **solver)
    back = model.translate(cells.counts, {"batch": labels["batch"]}, labels, **solver)
    scores = {
        name: [float(silhouette_score(z, labels[name])) for z in (before, after)]
        for name in ("batch", "type")
    }
    error = float(np.abs(back - before).max() / before.std())
    rows = [["silhouette", "before", "after"]]
    rows += [[name, *(f"{value:.3f}" for value in pair)] for name, pair in scores.items()]
    comparisons = [Comparison("round trip, in standard deviations", 0.0, error, 0.0, 1e-4)]
    if not quick:
        gain = scores["batch"][1] - scores["batch"][0]
        kept = scores["type"][1] - scores["type"][0]
        comparisons += [
            Comparison("silhouette of the batches, after less before", -0.1, gain, 0.0, 0.1),
            Comparison("silhouette of the types, after less before", 0.05, kept, 0.0, 0.1),
        ]
    places = _discriminants(before, labels["batch"], (before, after))
    return Report(
        "batches",
        "all cells carried to one batch",
        notes=[
            "Latents, before and after, by 100 steps of rk4 each way; a round trip to the own "
            "labels gives the cells back. The picture shows the two directions in which the "
            "batches differ most before."
        ],
        tables=[("Separation of batches and of types", rows)],
        comparisons=comparisons,
        draw=lambda figure: _draw_batches(figure, places, labels["batch"]),
        family="flow",
        size=(8.0, 4.0),
    )


def _discriminants(seen: Array, batches: Array, clouds: tuple[Array, Array]) -> list[Array]:
    """Return clouds in the plane that separates the batches of the cells that were seen."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    plane = LinearDiscriminantAnalysis(n_components=2).fit(seen, batches)
    return [np.asarray(plane.transform(cloud)) for cloud in clouds]


def _draw_batches(figure: Any, places: list[Array], batches: Array) -> None:
    both = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, place, title in zip(both, places, ("before", "carried to batch 0"), strict=True):
        for name, colour in zip(np.unique(batches), COLOURS, strict=False):
            own = place[batches == name]
            axes.scatter(*own.T, s=6, c=colour, label=f"batch {name}", linewidths=0, alpha=0.6)
            axes.scatter(*own.mean(axis=0), s=90, c=colour, edgecolors="white", marker="X")
        axes.set(title=title, xlabel="discriminant 1")
    both[0].set_ylabel("discriminant 2")
    both[0].legend(markerscale=2.5, loc="lower left")


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
    for number, pair in enumerate(found):
        label = "each data set" if number == 0 else None
        axes.plot(["without", "with"], pair, c=COLOURS[4], marker=".", lw=1, label=label)
    axes.plot(["without", "with"], found.mean(axis=0), c=COLOURS[0], marker="o", lw=2, label="mean")
    axes.set(ylabel="recall of the rare type", xlabel="generated cells", ylim=(-0.02, 1.05))
    axes.legend()


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
    slope = float(np.polyfit(pairs[0], pairs[1], 1)[0])
    comparisons = [] if quick else [Comparison("agreement", 1.0, agreement, 0.0, 0.15)]
    return Report(
        "modalities",
        "correlation of genes with their peaks over cells, real and generated",
        notes=[
            f"Correlation of the two over the genes: {agreement:.3f}; slope of generated on real: "
            f"{slope:.2f}. Below 1 the modalities go together less than in real cells."
        ],
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
    axes.scatter(*pairs, s=14, c=COLOURS[0], linewidths=0, alpha=0.7)
    ends = [min(pair.min() for pair in pairs) - 0.03, max(pair.max() for pair in pairs) + 0.03]
    axes.plot(ends, ends, c=COLOURS[4], lw=1)
    axes.set(xlabel="real cells", ylabel="generated cells", xlim=ends, ylim=ends, aspect="equal")
    axes.set_title("correlation of a gene with its peaks")
