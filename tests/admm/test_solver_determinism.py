"""Class A: the same bits over backends, threads, instruction sets, splits of a run, and files.

``python -m tests.admm.test_solver_determinism`` writes the hashes that are compared with. Only a
change of the stream, of the mathematics or of the cases may change them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from hotloops import admm

PINNED = Path(__file__).parents[1] / "data" / "admm_solve.json"
SCHEMES = ("adam", "rmsprop", "adagrad", "identity", "diag")
LOSSES: list[tuple[Any, str]] = [
    ("squares", "reals"),
    ("logistic", "signs"),
    ("squared_hinge", "signs"),
    ("huber_hinge", "signs"),
    ("huber", "reals"),
    ("poisson", "counts"),
    ("quantile", "reals"),
    ("softmax", "labels"),
    (admm.MLP((9, 6), "relu"), "labels"),
    (admm.MLP((8,), "tanh"), "labels"),
    (admm.MLP((8,), "gelu", head="squares"), "pairs"),
]


def tables(dtype: str) -> tuple[Any, Any, dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows, columns = 1600, 37  # enough for two tasks a client
    dense = rng.standard_normal((rows, columns)).astype(dtype)
    sparse = scipy.sparse.csr_array(np.where(rng.random((rows, columns)) < 0.2, dense, 0))
    pattern = sparse.copy()
    pattern.data[:] = 1
    reals = rng.standard_normal(rows)
    targets = {
        "reals": reals,
        "signs": np.where(rng.random(rows) < 0.4, 1.0, -1.0),
        "counts": rng.poisson(2.0, rows),
        "labels": rng.integers(0, 5, rows),
        "pairs": np.stack([reals, reals**2], axis=1),
        "weights": rng.uniform(0.5, 2.0, rows).astype(dtype),
    }
    return (dense, sparse, pattern), rng.integers(0, 3, rows), targets


def runs(dtype: str, backend: str, num_threads: int) -> dict[str, str]:
    """Hash what comes out of every loss and every form of data, under changing options."""
    matrices, ids, targets = tables(dtype)
    found = {}
    number = 0
    for loss, kind in LOSSES:
        for X in matrices:
            number += 1
            options: dict[str, Any] = {}
            if number % 3:
                options = {"batch_size": 50, "sampling": ("replacement", "epoch")[number % 2]}
            if number % 4 == 0:
                options["participation"] = 0.6
            if number % 5 == 0:
                options["relaxation"] = 1.5
            scheme = SCHEMES[number % 5]
            if not isinstance(loss, str):
                widths = [37, *loss.hidden, 5 if kind == "labels" else 2]
                size = sum((a + 1) * b for a, b in itertools.pairwise(widths))
                options["w0"] = 0.3 * np.sin(np.arange(size))
                options["w0"] = options["w0"].astype(dtype)
                scheme = "adam" if scheme == "diag" else scheme
            fit = admm.solve(
                loss,
                X,
                targets[kind],
                clients=ids,
                sample_weight=targets["weights"] if number % 2 else None,
                intercept=number % 2 == 0,
                scheme=scheme,
                sigma=8.0,
                rho=2.0,
                l2=0.01,
                num_rounds=6,
                evaluate_every=1,
                seed=5,
                backend=backend,
                num_threads=num_threads,
                **options,
            )
            found[f"{number} {fit.state.loss} {scheme}"] = digest(fit)
    return found


def digest(fit: admm.AdmmResult) -> str:
    state = hashlib.sha256()
    for array in (*fit.state.arrays().values(), *fit.history.values()):
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:16]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_twin_and_threads(dtype: str) -> None:
    expected = json.loads(PINNED.read_text(encoding="utf-8"))[dtype]
    assert len(set(expected.values())) == len(expected)
    assert runs(dtype, "cpp", 1) == expected
    assert runs(dtype, "cpp", 3) == expected
    assert runs(dtype, "numba", 2) == expected


def test_instruction_sets(isa: Any) -> None:
    root = str(Path(__file__).parents[2])
    code = f"""
        import sys
        sys.path.insert(0, {root!r})
        from tests.admm.test_solver_determinism import runs
        print(runs("float32", "cpp", 2), runs("float64", "cpp", 2))
    """
    assert len(set(isa.run_all(code).values())) == 1
    assert "hotloops" in sys.modules


OPTIONS: list[dict[str, Any]] = [
    {"scheme": "adam"},
    {"scheme": "identity", "participation": 0.6, "relaxation": 1.3},
    {"scheme": "rmsprop", "batch_size": 20, "sampling": "epoch"},
    {"scheme": "adagrad", "schedule": admm.Power(0.5), "batch_size": 7},
    {"scheme": "diag", "schedule": admm.Balancing(every=2, ratio=1.5)},
    {"scheme": "majorant"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options["scheme"])
def test_going_on_is_as_if_it_had_never_stopped(options: dict[str, Any], tmp_path: Path) -> None:
    (X, _, _), ids, targets = tables("float64")
    common = {"clients": ids, "rho": 1.0, "l2": 0.01, "seed": 3, **options}
    whole = admm.solve("logistic", X, targets["signs"], num_rounds=17, **common)
    first = admm.solve("logistic", X, targets["signs"], num_rounds=6, **common)
    first.save(tmp_path / "run.npz")
    loaded = admm.AdmmResult.load(tmp_path / "run.npz")
    before = digest(first)
    second = admm.solve(
        "logistic", X, targets["signs"], num_rounds=11, state=loaded.state, **common
    )
    for name, array in whole.state.arrays().items():
        np.testing.assert_array_equal(second.state.arrays()[name], array, err_msg=name)
    assert second.num_rounds == 17
    assert digest(loaded) == digest(first) == before


def test_files(tmp_path: Path) -> None:
    (X, _, _), ids, targets = tables("float64")
    fit = admm.solve(
        "logistic",
        X,
        targets["signs"],
        clients=ids,
        rho=1.0,
        num_rounds=3,
        record_iterates=True,
    )
    path = tmp_path / "fit.npz"
    fit.save(path)
    loaded = admm.AdmmResult.load(path)
    assert fit.to_dict().keys() == loaded.to_dict().keys()
    np.testing.assert_array_equal(loaded.iterates, fit.iterates)
    np.testing.assert_array_equal(loaded.coef, fit.coef)
    assert loaded.objective == fit.objective
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="cut or damaged"):
        admm.AdmmResult.load(path)


def test_a_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (X, _, _), ids, targets = tables("float64")
    fit = admm.solve(
        "logistic", X, targets["signs"], clients=ids, rho=1.0, num_rounds=9, evaluate_every=2
    )
    left, right = fit.plot().axes
    assert len(left.lines) == 3
    assert len(right.lines[0].get_xdata()) == 4


if __name__ == "__main__":
    pinned = {dtype: runs(dtype, "cpp", 1) for dtype in ("float32", "float64")}
    PINNED.write_text(json.dumps(pinned, indent=2) + "\n", encoding="utf-8")
