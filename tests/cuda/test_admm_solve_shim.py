"""The CUDA kernels of the solver, run on a CPU, return the bits of the C++ drivers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from hotloops import admm, prox

SCHEMES = ("adam", "rmsprop", "adagrad", "identity", "diag")
LOSSES = {
    "squares": "reals",
    "logistic": "signs",
    "squared_hinge": "signs",
    "huber_hinge": "signs",
    "huber": "reals",
    "poisson": "counts",
    "quantile": "reals",
}


class Sparse:
    """A CSR matrix of CuPy."""

    format = "csr"

    def __init__(self, cupy: Any, table: Any) -> None:
        self.data, self.indices = cupy.asarray(table.data), cupy.asarray(table.indices)
        self.indptr, self.shape, self.nnz = cupy.asarray(table.indptr), table.shape, table.nnz

    def tocsr(self) -> Sparse:
        return self


def tables(dtype: str) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows, columns = 1100, 37  # enough for two tasks a client
    dense = rng.standard_normal((rows, columns)).astype(dtype)
    sparse = scipy.sparse.csr_array(np.where(rng.random((rows, columns)) < 0.2, dense, 0))
    pattern = sparse.copy()
    pattern.data[:] = 1
    targets = {
        "reals": rng.standard_normal(rows),
        "signs": np.where(rng.random(rows) < 0.4, 1.0, -1.0),
        "counts": rng.poisson(2.0, rows),
        "weights": rng.uniform(0.5, 2.0, rows).astype(dtype),
    }
    matrices = {"dense": dense, "sparse": sparse, "pattern": pattern}
    return matrices, rng.integers(0, 2, rows), targets


def upload(cupy: Any, table: Any) -> Any:
    return cupy.asarray(table) if isinstance(table, np.ndarray) else Sparse(cupy, table)


def assert_same(host: admm.AdmmResult, device: admm.AdmmResult) -> None:
    assert type(device.w).__module__ == "cupy"
    for name, array in host.state.arrays().items():
        other = device.state.arrays()[name]
        assert np.asarray(getattr(other, "get", lambda o=other: o)()).tobytes() == array.tobytes()
    for name, array in host.history.items():
        assert device.history[name].tobytes() == array.tobytes(), name
    assert device.objective == host.objective


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "pattern"])
def test_same_bits(cuda: Any, kind: str, dtype: str) -> None:
    matrices, ids, targets = tables(dtype)
    there = upload(cuda, matrices[kind])
    for number, (loss, target) in enumerate(LOSSES.items()):
        options: dict[str, Any] = {}
        if number % 3:
            options = {"batch_size": 50, "sampling": ("replacement", "epoch")[number % 2]}
        if number % 4 == 0:
            options |= {"participation": 0.6, "relaxation": 1.5}
        options |= {
            "clients": ids,
            "sample_weight": targets["weights"] if number % 2 else None,
            "intercept": number % 2 == 0,
            "scheme": SCHEMES[number % 5],
            "sigma": 8.0,
            "rho": 2.0,
            "l2": 0.01,
            "num_rounds": 2,
            "evaluate_every": 1,
            "seed": 5,
        }
        host = admm.solve(loss, matrices[kind], targets[target], **options)
        assert_same(host, admm.solve(loss, there, targets[target], **options))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pattern", [False, True])
def test_optimistic_rounds_have_the_same_bits(cuda: Any, pattern: bool, dtype: str) -> None:
    """On a CPU they move only what a batch of sparse rows reaches."""
    rng = np.random.default_rng(0)
    X = scipy.sparse.random_array((40, 9000), density=1e-3, rng=rng, format="csr", dtype=dtype)
    if pattern:
        X.data[:] = 1
    options: dict[str, Any] = {"scheme": "identity", "sigma": 8.0, "rho": 0.0, "batch_size": 3}
    options |= {"clients": np.arange(40) % 2, "num_rounds": 5, "intercept": True, "seed": 2}
    y = np.where(rng.random(40) < 0.4, 1.0, -1.0)
    host = admm.solve("logistic", X, y, **options)
    assert 0 < np.count_nonzero(host.w) < 1000
    assert_same(host, admm.solve("logistic", upload(cuda, X), y, **options))


@pytest.mark.parametrize("backwards", [False, True])
def test_grid_that_is_cut_does_the_same(cuda: Any, backwards: bool) -> None:
    cuda.shim.set_max_blocks(2)
    cuda.shim.set_backwards(backwards)
    matrices, ids, targets = tables("float64")
    for kind in ("dense", "sparse"):
        options: dict[str, Any] = {"clients": ids, "rho": 1.0, "num_rounds": 2, "intercept": True}
        host = admm.solve("logistic", matrices[kind], targets["signs"], **options)
        there = upload(cuda, matrices[kind])
        assert_same(host, admm.solve("logistic", there, targets["signs"], **options))


def test_more_parameters_than_a_slice(cuda: Any) -> None:
    X = np.random.default_rng(1).standard_normal((6, 4500)).astype(np.float32)
    options: dict[str, Any] = {"clients": [0, 0, 1, 1, 2, 2], "sigma": 99.0, "rho": 1.0}
    y = np.arange(6.0)
    host = admm.solve("squares", X, y, num_rounds=2, **options)
    assert_same(host, admm.solve("squares", cuda.asarray(X), y, num_rounds=2, **options))


def test_regularizers_files_and_going_on(cuda: Any, tmp_path: Path) -> None:
    matrices, ids, targets = tables("float64")
    y = targets["signs"]
    there = cuda.asarray(matrices["dense"])
    options: dict[str, Any] = {"clients": ids, "rho": 1.0, "regularizer": prox.L1(0.01)}
    host = admm.solve("logistic", matrices["dense"], y, num_rounds=5, **options)
    first = admm.solve("logistic", there, y, num_rounds=2, **options)
    first.save(tmp_path / "run.npz")
    state = admm.AdmmResult.load(tmp_path / "run.npz").state
    second = admm.solve("logistic", there, y, num_rounds=3, state=state, **options)
    assert second.w.get().tobytes() == host.w.tobytes()
    again = admm.solve("logistic", there, y, num_rounds=3, state=first.state, **options)
    assert again.w.get().tobytes() == host.w.tobytes()


def test_baselines(cuda: Any) -> None:
    matrices, ids, targets = tables("float64")
    for name in ("fedavg", "scaffold"):
        options: dict[str, Any] = {"clients": ids, "step_size": 0.1, "num_rounds": 2}
        run = getattr(admm, name)
        host = run("logistic", matrices["dense"], targets["signs"], **options)
        there = run("logistic", cuda.asarray(matrices["dense"]), targets["signs"], **options)
        assert there.w.tobytes() == host.w.tobytes()
        assert there.objective == host.objective


def test_what_the_device_cannot_do(cuda: Any) -> None:
    X, y = cuda.asarray(np.eye(6)), np.arange(6) % 3
    options: dict[str, Any] = {"clients": y, "rho": 1.0, "num_rounds": 1, "sigma": 1.0}
    with pytest.raises(ValueError, match="`loss` must be one with a single output"):
        admm.solve("softmax", X, y, **options)
    with pytest.raises(ValueError, match="`scheme` must be another one for arrays on a GPU"):
        admm.solve("squares", X, y, scheme="majorant", **options)
    table = scipy.sparse.csr_array(np.eye(6))
    table.indices = np.zeros(6, np.int32)
    table.indptr = np.array([0, 2, 2, 3, 4, 5, 6], np.int32)
    with pytest.raises(ValueError, match="sorted rows without duplicates on a GPU"):
        admm.solve("squares", Sparse(cuda, table), y, **options)
    with pytest.raises(TypeError, match="`backend` must be 'cuda' for CUDA arrays"):
        admm.solve("squares", X, y, backend="cpp", **options)


def test_failed_launch_is_an_error(cuda: Any) -> None:
    cuda.shim.fail_next_launch(9)
    with pytest.raises(RuntimeError, match="admm_gradient: CUDA error 9"):
        admm.solve(
            "squares",
            cuda.asarray(np.eye(2)),
            [0.0, 1.0],
            clients=[0, 1],
            rho=1.0,
            sigma=1.0,
            num_rounds=1,
        )
