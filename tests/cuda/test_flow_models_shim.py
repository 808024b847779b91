"""Flow matching and the generator of cells on a GPU, over the shim, against the C++ backend."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from hotloops import flow
from hotloops.flow import metrics
from tests.cuda.test_nn_shim import TOLERANCE, both_types, close

HAS_ANNDATA = importlib.util.find_spec("anndata") is not None
if HAS_ANNDATA:
    import anndata  # before the stand-in for CuPy is there, of which it would want more

ROWS, DIM = 24, 3
RNG = np.random.default_rng(3)
Z = RNG.normal(size=(ROWS, DIM)) * 2.0 + 1.0
LABELS = {"type": RNG.integers(-1, 3, ROWS), "batch": RNG.integers(0, 2, ROWS)}
LOG_SIZE = RNG.normal(5.0, 0.5, ROWS)
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "standardized": {"standardize": True, "ema": 0.9},
    "optimal": {"coupling": "ot", "sigma": 0.1},
    "batch": {"drop": "batch", "times": "uniform", "conditioning": "all"},
}


def matching(dtype: str = "float64", **settings: Any) -> flow.ConditionalFlowMatching:
    return flow.ConditionalFlowMatching(
        DIM, 8, 8, 2, {"type": 3, "batch": 2}, dtype=dtype, seed=5, **settings
    )


def fitted(dtype: str = "float64", **settings: Any) -> flow.ConditionalFlowMatching:
    """Return a model whose time embedding makes little of the last bits."""
    model = matching(dtype, **settings)
    model.fit(Z, LABELS, LOG_SIZE, num_steps=3, batch_size=8, learning_rate=1e-2)
    model.network_.parameters["time_embedder.0.weight"][...] *= 1e-4
    return model


@both_types
@pytest.mark.parametrize("name", SETTINGS)
def test_fit(cuda: Any, name: str, dtype: str) -> None:
    models = [matching(dtype, **SETTINGS[name]) for _ in range(2)]
    options: dict[str, Any] = {"num_steps": 5, "batch_size": 8, "learning_rate": 1e-3}
    models[0].fit(Z, LABELS, LOG_SIZE, **options)
    labels = {key: cuda.asarray(codes) for key, codes in LABELS.items()}
    models[1].fit(cuda.asarray(Z), labels, cuda.asarray(LOG_SIZE), **options)
    close(models[1].losses_, models[0].losses_, dtype)
    assert not isinstance(models[1].network_.flat_parameters, cuda.ndarray)
    found, expected = (model.state_.parameters for model in models)
    np.testing.assert_allclose(found, expected, atol=100 * TOLERANCE[dtype])
    np.testing.assert_allclose(models[1].mean_, models[0].mean_, rtol=1e-12)


def test_fit_without_labels_goes_on(cuda: Any) -> None:
    options: dict[str, Any] = {"batch_size": 8, "learning_rate": 1e-3}
    models = [flow.ConditionalFlowMatching(DIM, 8, 8, 2, dtype="float64") for _ in range(2)]
    models[0].fit(cuda.asarray(Z), num_steps=5, **options)
    models[1].fit(cuda.asarray(Z), num_steps=2, **options)
    models[1].fit(cuda.asarray(Z), num_steps=3, state=models[1].state_, **options)
    np.testing.assert_array_equal(models[1].losses_, models[0].losses_)
    a, b = (model.network_.flat_parameters for model in models)
    np.testing.assert_array_equal(a, b)


@both_types
@pytest.mark.parametrize("method", ["midpoint", "dopri5"])
def test_sample(cuda: Any, dtype: str, method: str) -> None:
    model = fitted(dtype, standardize=True)
    options: dict[str, Any] = {"weights": {"type": 2.0}, "log_size": LOG_SIZE, "method": method}
    expected = model.sample(ROWS, LABELS, **options)
    found = model.sample(ROWS, LABELS, backend="cuda", **options)
    assert isinstance(found, cuda.ndarray)
    assert found.dtype == dtype
    atol = 2e-4 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(found.get(), expected, atol=atol)
    options["log_size"] = LOG_SIZE[10:]
    part = model.sample(
        ROWS - 10, {k: v[10:] for k, v in LABELS.items()}, first=10, backend="cuda", **options
    )
    np.testing.assert_allclose(part.get(), found.get()[10:], atol=atol)
    none = model.sample(0, log_size=LOG_SIZE[:0], backend="cuda")
    assert isinstance(none, cuda.ndarray)
    assert none.shape == (0, DIM)


def test_given_data_stay_on_the_device(cuda: Any) -> None:
    model = fitted(standardize=True)
    there, options = cuda.asarray(Z), {"log_size": LOG_SIZE}
    calls = {
        "velocity": lambda z: model.velocity(z, 0.3, LABELS, **options),
        "invert": lambda z: model.invert(z, LABELS, **options),
        "transfer": lambda z: model.transfer(z, LABELS, {"batch": 1}, **options),
    }
    for call in calls.values():
        found = call(there)
        assert isinstance(found, cuda.ndarray)
        np.testing.assert_allclose(found.get(), call(Z), atol=1e-9)


def generator(**autoencoder: Any) -> tuple[flow.CFGen, Any]:
    counts = sparse.csr_array(RNG.poisson(2.0, size=(40, 30)) + 1)
    kinds = np.array(["a", "b"])[np.arange(40) % 2]
    model = flow.CFGen(
        "kind",
        4,
        autoencoder={"hidden": (6,), "epochs": 2, "batch_size": 16, **autoencoder},
        flow={"num_steps": 3, "batch_size": 16},
        dtype="float64",
        backend="cpp",
    )
    model.fit(counts, {"kind": kinds})
    model.flow_.network_.parameters["time_embedder.0.weight"][...] *= 1e-4
    return model, counts


@pytest.mark.parametrize("hidden", [(6,), ()])
def test_cells(cuda: Any, hidden: tuple[int, ...]) -> None:
    model, _ = generator(hidden=hidden)
    asked = {"kind": "a"}
    latent = model.sample(12, asked, seed=3, output="latent", backend="cuda")
    assert isinstance(latent, cuda.ndarray)
    np.testing.assert_allclose(latent.get(), model.sample(12, asked, seed=3, output="latent"))
    mean = model.sample(12, asked, seed=3, output="mean", backend="cuda")
    assert isinstance(mean, cuda.ndarray)
    np.testing.assert_allclose(mean.get(), model.sample(12, asked, seed=3, output="mean"))
    expected = model.sample(12, asked, seed=3, guidance=2.0).toarray()
    found = model.sample(12, asked, seed=3, guidance=2.0, backend="cuda")
    assert isinstance(found, sparse.csr_array)
    np.testing.assert_array_equal(found.toarray(), expected)
    dense = model.sample(12, asked, seed=3, guidance=2.0, output="dense", backend="cuda")
    assert isinstance(dense, cuda.ndarray)
    np.testing.assert_array_equal(dense.get(), expected)


@pytest.mark.parametrize("hidden", [(6,), ()])
def test_cells_of_two_modalities(cuda: Any, hidden: tuple[int, ...]) -> None:
    counts = {"rna": RNG.poisson(2.0, (30, 20)) + 1, "atac": RNG.integers(0, 2, (30, 25))}
    model = flow.CFGen(
        (),
        4,
        autoencoder={
            "epochs": 1,
            "batch_size": 16,
            "modalities": {"rna": {}, "atac": {"likelihood": "bernoulli"}},
            "hidden": hidden,
        },
        flow={"num_steps": 2, "batch_size": 16},
        dtype="float64",
    )
    model.fit(counts)
    expected, found = (model.sample(5, seed=1, output="dense", backend=b) for b in ("cpp", "cuda"))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name].get(), value)


@pytest.mark.skipif(not HAS_ANNDATA, reason="needs anndata")
def test_anndata_and_files(cuda: Any, tmp_path: Any) -> None:
    model, _ = generator()
    cells = model.sample(7, {"kind": "b"}, seed=2, output="anndata", backend="cuda")
    expected = model.sample(7, {"kind": "b"}, seed=2)
    np.testing.assert_array_equal(cells.X.toarray(), expected.toarray())
    path = tmp_path / "cells.h5ad"
    model.generate_to(path, 7, {"kind": "b"}, seed=2, chunk=3, backend="cuda")
    np.testing.assert_array_equal(anndata.read_h5ad(path).X.toarray(), expected.toarray())


def test_errors(cuda: Any) -> None:
    model, counts = generator()
    flow_, there = model.flow_, cuda.asarray(np.ones((2, 4)))
    with pytest.raises(
        TypeError, match=r"log_density: `z` must live in host memory, as densities have no CUDA b"
    ):
        flow_.log_density(there, log_size=np.ones(2))
    with pytest.raises(TypeError, match=r"fit: `backend` must be 'cuda' for CUDA arrays, got 'cp"):
        matching().fit(cuda.asarray(Z), batch_size=8, backend="cpp")
    with pytest.raises(TypeError, match=r"fit: `backend` must be 'cpp' or 'numba' for arrays in"):
        matching().fit(Z, batch_size=8, backend="cuda")
    with pytest.raises(TypeError, match="`backend` must be 'cpp' or 'numba' for arrays in host"):
        flow.CountAutoencoder(4, (6,), backend="cuda").fit(counts)
    for value in (there, cuda.asarray(counts.toarray())):
        with pytest.raises(TypeError, match="must live in host memory, as counts are read there"):
            model.encode(value)
        with pytest.raises(TypeError, match="`x` must live in host memory, as metrics have no CUD"):
            metrics.mmd(value, value)
        with pytest.raises(TypeError, match="`counts` must live in host memory, as metrics have"):
            metrics.zero_fraction(value)


def test_decoded_latents_stay_on_the_device(cuda: Any) -> None:
    model, counts = generator()
    z = model.encode(counts)
    for output in ("mean", "dense"):
        expected = model.decode(z, 50.0, seed=1, output=output)
        found = model.decode(cuda.asarray(z), 50.0, seed=1, output=output)
        assert isinstance(found, cuda.ndarray)
        np.testing.assert_allclose(found.get(), expected)
