"""A1 and A2: Adult over four clients under every partition, convex and with a network.

S. Zhou et al., "Preconditioned Inexact Stochastic ADMM for Deep Models", arXiv:2502.10784, the
Adult row of the table on heterogeneity. Every method takes the same number of rounds. In A1 a round
of the averaging methods costs five full gradients of every client, one of the others costs one; in
A2 every round is one pass over the rows, which the averaging methods spend on batches of 64.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from _paper_report import COLOURS, Comparison, Report

from hotloops import admm, datasets

_CLIENTS = 4
_L2 = 1e-3
_OPTIMUM = 0.333340752069  # logistic, l2 = 1e-3, no intercept
_LOCAL = 5
_EPOCH = 128  # batches of 64 rows that make one pass over the rows of an average client
_HIDDEN = (32, 16, 8)
_QUICK = ("iid", "one label")

Methods = dict[str, Callable[[Any, Any, Any, int], Any]]


def partitions(y: Any, dtype: Any) -> dict[str, tuple[Any, Any]]:
    """Return the table and the clients of each kind of heterogeneity."""
    table = datasets.load_a9a(sparse=True, dtype=dtype).X
    dense = datasets.load_a9a(dtype=dtype).X
    noisy, parts = admm.partition.feature_noise(dense, _CLIENTS, 0.1, seed=1)
    return {
        "iid": (table, admm.partition.iid(y, _CLIENTS, seed=1)),
        "one label": (table, admm.partition.label_k(y, _CLIENTS, 1, seed=1)),
        "Dirichlet 0.5": (table, admm.partition.dirichlet(y, _CLIENTS, 0.5, seed=1)),
        "quantity 0.5": (table, admm.partition.quantity(y, _CLIENTS, 0.5, seed=1)),
        "feature noise": (noisy, parts),
    }


# --- A1 ------------------------------------------------------------------------------------------


def _averaging(name: str, **options: Any) -> Callable[[Any, Any, Any, int], Any]:
    def run(X: Any, y: Any, parts: Any, rounds: int) -> Any:
        return getattr(admm, name)(
            "logistic",
            X,
            y,
            clients=parts,
            l2=_L2,
            step_size=0.5,
            local_steps=_LOCAL,
            num_rounds=rounds,
            evaluate_every=max(rounds // 60, 1),
            **options,
        )

    return run


def _consensus(**options: Any) -> Callable[[Any, Any, Any, int], Any]:
    def run(X: Any, y: Any, parts: Any, rounds: int) -> Any:
        return admm.solve(
            "logistic",
            X,
            y,
            clients=parts,
            l2=_L2,
            num_rounds=rounds,
            evaluate_every=max(rounds // 60, 1),
            **options,
        )

    return run


def _descent(X: Any, y: Any, parts: Any, rounds: int) -> Any:
    return admm.fedavg(
        "logistic",
        X,
        y,
        clients=[np.arange(y.size)],
        l2=_L2,
        step_size=0.6,
        local_steps=1,
        num_rounds=rounds,
        evaluate_every=max(rounds // 60, 1),
    )


CONVEX: Methods = {
    "SISA": _consensus(scheme="adam", sigma=1.0, rho=10.0),
    "PISA, majorant": _consensus(scheme="majorant", rho=1.0),
    "FedAvg": _averaging("fedavg"),
    "FedProx": _averaging("fedprox", mu=0.5),
    "SCAFFOLD": _averaging("scaffold"),
    "pooled gradient": _descent,
}


def run_a1(quick: bool) -> Report:
    """Logistic regression: how far the objective is from the pooled optimum."""
    rounds = 30 if quick else 300
    y = datasets.load_a9a(sparse=True).y
    report = Report("A1", "Logistic regression on Adult, four clients", family="admm")
    report.notes = [f"Objective less the pooled optimum after {rounds} rounds, l2 = {_L2:g}."]
    rows = [["", *CONVEX]]
    curves: dict[str, dict[str, tuple[Any, Any]]] = {}
    kinds = partitions(y, np.float64)
    for kind in _QUICK if quick else kinds:
        X, parts = kinds[kind]
        optimum = _OPTIMUM if kind != "feature noise" else _noisy_optimum(X, y)
        curves[kind] = {}
        for name, run in CONVEX.items():
            history = run(X, y, parts, rounds).history
            seen = np.isfinite(history["objective"])
            curves[kind][name] = history["round"][seen], history["objective"][seen] - optimum
        rows.append([kind, *(f"{gaps[-1]:.2e}" for _, gaps in curves[kind].values())])
    report.tables.append(("Gap", rows))
    by_label = curves["one label"]
    expected = {"FedAvg": 2.5e-2, "pooled gradient": 2.1e-3, "SISA": 7.6e-4}
    if not quick:
        # Which rows of a label are whose is drawn, which the expected figures did not have.
        report.comparisons = [
            Comparison(f"one label, {name}", value, by_label[name][1][-1], 0.0, 0.05 * value)
            for name, value in expected.items()
        ]
    report.draw = lambda figure: _draw_gaps(figure, curves)
    report.size = (15.0, 3.6)
    return report


def _noisy_optimum(X: Any, y: Any) -> float:
    fit = admm.solve(
        "logistic",
        X,
        y,
        clients=[np.arange(y.size)],
        l2=_L2,
        scheme="hessian",
        sigma=0.003,
        rho=1.0,
        num_rounds=30,
        tol=1e-9,
    )
    return fit.objective


def _draw_gaps(figure: Any, curves: Any) -> None:
    axes = figure.subplots(1, len(curves), sharey=True)
    colours = (*COLOURS, "#111827")
    for ax, (kind, lines) in zip(axes, curves.items(), strict=True):
        for colour, (name, (rounds, gaps)) in zip(colours, lines.items(), strict=True):
            ax.semilogy(rounds, np.maximum(gaps, 1e-9), label=name, color=colour)
        ax.set_title(kind)
        ax.set_xlabel("round")
        ax.set_ylim(1e-7, 1.0)
    axes[0].set_ylabel("objective less the pooled optimum")
    _legend_below(figure, axes[0])


def _legend_below(figure: Any, ax: Any) -> None:
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=6)


# --- A2 ------------------------------------------------------------------------------------------


def _first_weights(columns: int) -> Any:
    """Return the first weights, uniform within one over the root of the inputs."""
    rng = np.random.default_rng(0)
    widths = [columns, *_HIDDEN, 2]
    parts = []
    for inputs, outputs in itertools.pairwise(widths):
        bound = inputs**-0.5
        parts.append(rng.uniform(-bound, bound, (inputs + 1) * outputs))
    return np.concatenate(parts).astype(np.float32)


def accuracy(w: Any, X: Any, y: Any) -> float:
    """Return the share of rows that the network with parameters w gets right."""
    widths = [X.shape[1], *_HIDDEN, 2]
    h, at = X, 0
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        W = w[at : at + inputs * outputs].reshape(inputs, outputs)
        at += inputs * outputs
        h = np.asarray(h @ W) + w[at : at + outputs]
        at += outputs
        if layer + 2 < len(widths):
            h = np.maximum(h, 0.0)
    return float((h.argmax(axis=1) == y).mean())


class _Best:
    """The best test accuracy after any round."""

    def __init__(self) -> None:
        table = datasets.load_a9a("test", sparse=True, dtype=np.float32)
        self.X, self.y = table.X, (table.y > 0).astype(np.int64)
        self.curve: list[float] = []

    def __call__(self, entry: Any) -> None:
        if entry.round % 5 == 0:
            self.curve.append(accuracy(entry.w, self.X, self.y))


def summed_gradients(parts: Any, sigma: float, l2: float) -> dict[str, Any]:
    """Return options of `solve` that stand for gradients summed over batches of 64 rows.

    The authors' script adds up the c_i means of a local epoch. With duals divided by c_i that is
    the same as weighing client i by c_i, and dividing its sigma by c_i and the penalty by the mean
    of c. rho stays, since the roots of the second moments shrink along.
    """
    counts = np.array([-(-part.size // 64) for part in parts], np.float64)
    sizes = np.array([part.size for part in parts])
    weights = np.empty(int(sizes.sum()), np.float32)
    for part, count in zip(parts, counts, strict=True):
        weights[part] = count
    return {
        "sample_weight": weights,
        "sigma": sigma / counts,
        "l2": l2 / float(sizes @ counts / sizes.sum()),
    }


def _official(X: Any, y: Any, parts: Any, rounds: int, best: _Best) -> None:
    preset = summed_gradients(parts, 1e3, 5e-2)
    schedule = admm.Geometric(0.997, every=10)
    _network(X, y, parts, rounds, best, rho=100.0, schedule=schedule, **preset)


def _better(X: Any, y: Any, parts: Any, rounds: int, best: _Best) -> None:
    _network(X, y, parts, rounds, best, sigma=5.0, rho=100.0, l2=2.5e-4)


def _network(X: Any, y: Any, parts: Any, rounds: int, best: _Best, **options: Any) -> None:
    admm.solve(
        admm.MLP(_HIDDEN),
        X,
        y,
        clients=parts,
        num_rounds=rounds,
        w0=_first_weights(X.shape[1]),
        callback=best,
        **options,
    )


def _averaged(name: str, **more: Any) -> Callable[..., None]:
    def run(X: Any, y: Any, parts: Any, rounds: int, best: _Best) -> None:
        fit = getattr(admm, name)(
            admm.MLP(_HIDDEN),
            X,
            y,
            clients=parts,
            l2=2.5e-4,
            step_size=0.05,
            local_steps=_EPOCH,
            batch_size=64,
            num_rounds=rounds,
            w0=_first_weights(X.shape[1]),
            record_iterates=True,
            **more,
        )
        best.curve = [accuracy(w, best.X, best.y) for w in fit.iterates[5::5]]

    return run


NETWORKS: dict[str, Callable[..., None]] = {
    "SISA, authors' preset": _official,
    "SISA, sigma = 5": _better,
    "FedAvg": _averaged("fedavg"),
    "FedProx": _averaged("fedprox", mu=0.1),
    "SCAFFOLD": _averaged("scaffold"),
}


def run_a2(quick: bool) -> Report:
    """A network: the best test accuracy, with as many passes over the rows for every method."""
    rounds = 20 if quick else 500
    y = (datasets.load_a9a(sparse=True).y > 0).astype(np.int64)
    report = Report("A2", "A network 123-32-16-8-2 on Adult, four clients", family="admm")
    report.notes = [
        f"Best test accuracy within {rounds} rounds of one pass over the rows, float32."
    ]
    rows = [["", *NETWORKS]]
    curves: dict[str, dict[str, list[float]]] = {}
    kinds = partitions(y, np.float32)
    for kind in _QUICK if quick else kinds:
        curves[kind] = {}
        for name, run in NETWORKS.items():
            best = _Best()
            run(*kinds[kind][:1], y, kinds[kind][1], rounds, best)
            curves[kind][name] = best.curve
        rows.append([kind, *(f"{max(curve):.4f}" for curve in curves[kind].values())])
    report.tables.append(("Accuracy", rows))
    if not quick:
        report.comparisons = [
            Comparison(f"{kind}, {name}", value, max(curves[kind][name]), 0.0, 0.01)
            for kind, name, value in (
                ("one label", "SISA, authors' preset", 0.83),
                ("iid", "SISA, authors' preset", 0.849),
                ("one label", "SISA, sigma = 5", 0.850),
            )
        ]
    report.draw = lambda figure: _draw_accuracies(figure, curves, rounds)
    report.size = (3.0 * len(curves) + 1.0, 3.6)
    return report


def _draw_accuracies(figure: Any, curves: Any, rounds: int) -> None:
    axes = np.atleast_1d(figure.subplots(1, len(curves), sharey=True))
    for ax, (kind, lines) in zip(axes, curves.items(), strict=True):
        for colour, (name, curve) in zip(COLOURS, lines.items(), strict=True):
            x = np.linspace(0, rounds, len(curve) + 1)[1:]
            ax.plot(x, curve, label=name, color=colour)
        ax.set_title(kind)
        ax.set_xlabel("round")
        ax.set_ylim(0.74, 0.86)
    axes[0].set_ylabel("test accuracy")
    _legend_below(figure, axes[0])
