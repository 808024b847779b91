"""Consensus training in the contract: steps on foreign gradients, and whole runs of the solver.

Data, weights and targets are fractions of small integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from hotloops import admm
from tests.contract.sgd_problems import Argument, Array, fractions

CLIENTS, SIZES = 3, (37, 4_099, 40_003)  # within a pack, a block, beyond a task
STEP = {"sigma": (0.75, 1.0, 1.5), "rho": (2.0, 4.0, 1.0), "alpha": (0.25, 0.25, 0.5)}

PLAIN = (
    Argument("w", "state", ("d",)),
    Argument("G", "data", ("m", "d")),
    Argument("PI", "state", ("m", "d")),
)
MOMENTS = (*PLAIN, Argument("V", "state", ("m", "d")))
DIAGONAL = (*PLAIN, Argument("V", "data", ("m", "d")))
COPIED = (*MOMENTS, Argument("copy_to", "out", ("d",), "float16"))
HALF = (PLAIN[0], Argument("G", "data", ("m", "d"), "float16"), *MOMENTS[2:])

# name: (arguments, keywords of the step)
STEPS: dict[str, tuple[tuple[Argument, ...], dict[str, Any]]] = {
    "identity": (PLAIN, {"scheme": "identity"}),
    "diag": (DIAGONAL, {"scheme": "diag", "lam": 0.125}),
    "softsign": (PLAIN, {"scheme": "softsign", "weight_decay": 0.25}),
    "adam": (MOMENTS, {"scheme": "adam", "lam": 0.125, "eta": 1.5}),
    "rmsprop": (MOMENTS, {"scheme": "rmsprop", "weight_decay": 0.25, "decoupled": False}),
    "adagrad": (MOMENTS, {"scheme": "adagrad", "grad_scale": 0.5}),
    "gradients of float16": (HALF, {"scheme": "adam"}),
    "copy in float16": (COPIED, {"scheme": "adam"}),
}

# name: (loss, settings of the run)
RUNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "squares": ("squares", {"scheme": "rmsprop", "l2": 0.0625}),
    "logistic": ("logistic", {"scheme": "adam", "batch_size": 50, "sampling": "replacement"}),
    "logistic, sparse": ("logistic", {"scheme": "adagrad", "participation": 0.625}),
    "squared_hinge, sparse": ("squared_hinge", {"scheme": "identity", "relaxation": 1.5}),
    "softmax": ("softmax", {"scheme": "diag", "batch_size": 64, "sampling": "epoch"}),
    "network": (admm.MLP((8,), "tanh"), {"scheme": "adam", "batch_size": 50}),
}


def state(size: int, dtype: str, arguments: tuple[Argument, ...]) -> dict[str, Array]:
    """Return what the arguments of a step hold at its start."""
    made = {}
    for seed, argument in enumerate(arguments):
        shape = (size,) if argument.shape == ("d",) else (CLIENTS, size)
        kind = dtype if argument.dtype == "T" else argument.dtype
        made[argument.name] = fractions(shape, seed).astype(kind)
    if "V" in made:
        np.abs(made["V"], out=made["V"])
    return made


def make_step(name: str) -> Callable[[str], Any]:
    arguments, settings = STEPS[name]
    return lambda dtype: ([state(size, dtype, arguments) for size in SIZES], settings)


def step(made: Any, **options: Any) -> list[Array]:
    """Return the state of every tensor after three steps."""
    states, settings = made
    for arrays in states:
        for t in (1, 2, 3):
            admm.sisa_step(**arrays, t=t, **STEP, **settings, **options)
    return [array for arrays in states for array in arrays.values()]


def make_run(name: str) -> Callable[[str], Any]:
    rows, columns = 1600, 37  # two tasks a client

    def made(dtype: str) -> Any:
        dense = fractions((rows, columns), 11, np.dtype(dtype).type)
        kept = fractions((rows, columns), 12) > 1.25
        X = scipy.sparse.csr_array(np.where(kept, dense, 0)) if "sparse" in name else dense
        reals = fractions((rows,), 13)
        labels = (np.abs(reals) * 32).astype(np.int64) % 5
        y = reals if name == "squares" else labels
        if RUNS[name][0] in ("logistic", "squared_hinge"):
            y = np.where(reals > 0.25, 1.0, -1.0)
        return X, y, np.arange(rows) % 7 % CLIENTS, RUNS[name]

    return made


def run(made: Any, **options: Any) -> list[Array]:
    """Return the state and the history of a run."""
    X, y, clients, (loss, settings) = made
    given: dict[str, Any] = {"sigma": 8.0, "rho": 2.0, "num_rounds": 6, "seed": 5, **settings}
    if not isinstance(loss, str):
        given["w0"] = (fractions((37 * 8 + 8 + 8 * 5 + 5,), 14) / 4).astype(X.dtype)
    fit = admm.solve(loss, X, y, clients=clients, evaluate_every=1, **given, **options)
    return [np.asarray(array) for array in (*fit.state.arrays().values(), *fit.history.values())]
