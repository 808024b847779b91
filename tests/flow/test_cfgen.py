"""The generator as a whole: what comes out, what it is addressed by, going on, files, errors."""

from __future__ import annotations

import numpy as np
import pytest

from hotloops.flow import CFGen, CountAutoencoder, SizeFactorModel

SMALL = {"hidden": [12], "epochs": 3, "batch_size": 64, "theta_init": "moments"}
FLOW = {"num_steps": 30, "batch_size": 64, "hidden": 8, "embed": 8, "blocks": 1}


@pytest.fixture(scope="module")
def labels(simulated):
    return {"cell_type": simulated.cell_types, "batch": simulated.batches}


@pytest.fixture(scope="module")
def model(simulated, labels):
    """A model of both attributes, trained on arrays. Don't fit it again."""
    model = CFGen(["cell_type", "batch"], 3, autoencoder=SMALL, flow=FLOW, seed=4)
    return model.fit(simulated.counts, labels)


@pytest.fixture(scope="module")
def adata(simulated):
    pytest.importorskip("anndata")
    return simulated.to_anndata()


@pytest.fixture(scope="module")
def with_anndata(adata):
    return CFGen(["cell_type", "batch"], 3, autoencoder=SMALL, flow=FLOW, seed=4).fit(adata)


def same(first, second):
    return (first != second).nnz == 0


# --- sampling ------------------------------------------------------------------------------------


def test_what_comes_out(model):
    asked = {"cell_type": "type 0", "batch": "1"}
    counts = model.sample(20, asked, seed=1)
    assert counts.shape == (20, 30)
    assert counts.dtype == np.int32
    assert counts.format == "csr"
    dense = model.sample(20, asked, seed=1, output="dense")
    np.testing.assert_array_equal(counts.toarray(), dense)
    mean = model.sample(20, asked, seed=1, output="mean")
    z = model.sample(20, asked, seed=1, output="latent")
    assert z.shape == (20, 3)
    sizes = model.size_factors_.sample(20, "type 0", seed=1)
    np.testing.assert_allclose(mean.sum(axis=1), sizes, rtol=1e-5)
    np.testing.assert_array_equal(model.decode(z, sizes, output="mean"), mean)
    assert same(model.decode(z, sizes, seed=1), counts)
    assert model.categories_ == {"cell_type": ("type 0", "type 1", "type 2"), "batch": ("0", "1")}


def test_cells_are_addressed_by_their_number(model):
    asked = {"cell_type": ["type 0", "type 2"] * 10}
    whole = model.sample(20, asked, seed=3)
    part = model.sample(5, {"cell_type": asked["cell_type"][7:12]}, seed=3, first_row=7)
    assert same(whole[7:12], part)
    assert not same(whole, model.sample(20, asked, seed=4))


def test_names_codes_and_order_of_attributes(model):
    expected = model.sample(6, {"cell_type": "type 1", "batch": "0"}, seed=2)
    assert same(expected, model.sample(6, {"batch": 0, "cell_type": 1}, seed=2))


def test_guidance_of_zero_is_unconditional(model):
    plain = model.sample(8, size_factor=200.0, seed=5, output="latent")
    zero = model.sample(
        8, {"cell_type": 1}, guidance=0.0, size_factor=200.0, seed=5, output="latent"
    )
    np.testing.assert_array_equal(plain, zero)
    one = model.sample(8, {"cell_type": 1}, size_factor=200.0, seed=5, output="latent")
    two = model.sample(
        8, {"cell_type": 1}, guidance={"cell_type": 2.0}, size_factor=200.0, seed=5, output="latent"
    )
    assert np.abs(one - plain).max() > 1e-4
    assert np.abs(two - one).max() > 1e-4


def test_sizes_that_are_not_asked_for_follow_the_frequencies(model):
    n = 4096
    mean = model.sample(n, seed=6, output="mean", method="euler", steps=1)
    codes = model.size_factors_.draw_categories(n, seed=6)
    np.testing.assert_allclose(
        mean.sum(axis=1), model.size_factors_.sample(n, codes, seed=6), rtol=1e-4
    )
    given = model.sample(4, size_factor=[10.0, 20.0, 30.0, 40.0], seed=6, output="mean")
    np.testing.assert_allclose(given.sum(axis=1), [10.0, 20.0, 30.0, 40.0], rtol=1e-5)


@pytest.mark.parametrize("solver", [{"method": "dopri5"}, {"method": "rk4", "steps": 12}])
def test_solvers_agree(model, solver):
    asked = {"cell_type": "type 0"}
    fine = model.sample(10, asked, seed=1, output="latent", method="rk4", steps=200)
    found = model.sample(10, asked, seed=1, output="latent", **solver)
    np.testing.assert_allclose(found, fine, atol=2e-2)


# --- AnnData -------------------------------------------------------------------------------------


def test_anndata_in_and_out(with_anndata, model, adata):
    cells = with_anndata.sample(10, {"cell_type": "type 2"}, guidance=1.5, seed=1)
    assert cells.shape == (10, 30)
    assert cells.var_names.tolist() == adata.var_names.tolist()
    assert cells.obs["cell_type"].tolist() == ["type 2"] * 10
    assert list(cells.obs) == ["cell_type", "size_factor"]
    assert cells.X.dtype == np.int32
    assert cells.uns["hotloops"]["guidance"] == {"cell_type": 1.5}
    assert same(cells.X, model.sample(10, {"cell_type": "type 2"}, guidance=1.5, seed=1))


def test_translation_keeps_cells_and_changes_labels(with_anndata, adata):
    part = adata[:30].copy()
    moved = with_anndata.translate(part, {"batch": "1"}, seed=2)
    assert moved.obs_names.tolist() == part.obs_names.tolist()
    assert set(moved.obs["batch"]) == {"1"}
    assert moved.obs["cell_type"].tolist() == part.obs["cell_type"].tolist()
    totals = np.asarray(part.X.sum(axis=1)).ravel()
    np.testing.assert_allclose(moved.obs["size_factor"], totals)
    means = with_anndata.translate(part, {"batch": "1"}, output="mean")
    np.testing.assert_allclose(means.sum(axis=1), totals, rtol=1e-4)


def test_translation_to_the_own_labels_comes_back(with_anndata, adata):
    z = with_anndata.encode(adata)
    there = with_anndata.translate(adata, {}, output="latent", rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(there, z, atol=1e-2)
    own = with_anndata.translate(adata, {"batch": adata.obs["batch"].tolist()}, output="latent")
    assert np.abs(own - z).max() < 0.1


def test_augmentation(with_anndata, adata):
    before = adata.obs["cell_type"].value_counts()
    rare = before.index[-1]
    both = with_anndata.augment(adata, "cell_type", rare=rare, n=7, seed=1)
    new = both.obs[both.obs["generated"]]
    assert new["cell_type"].tolist() == [rare] * 7
    assert both.n_obs == adata.n_obs + 7
    np.testing.assert_array_equal(both.X[: adata.n_obs].toarray(), adata.X.toarray())
    target = int(before.max())
    even = with_anndata.augment(adata, "cell_type", target=target, seed=1)
    assert set(even.obs["cell_type"].value_counts()) == {target}


def test_generation_into_a_file(with_anndata, tmp_path):
    anndata = pytest.importorskip("anndata")
    asked = {"cell_type": ["type 0", "type 1"] * 15}
    whole = with_anndata.sample(30, asked, seed=9)
    for chunk in (7, 30):
        path = tmp_path / f"{chunk}.h5ad"
        with_anndata.generate_to(path, 30, asked, seed=9, chunk=chunk)
        stored = anndata.read_h5ad(path)
        assert abs(stored.X - whole.X).sum() == 0
        assert stored.X.dtype == np.int32
        assert stored.obs["cell_type"].tolist() == whole.obs["cell_type"].tolist()
        np.testing.assert_array_equal(stored.obs["size_factor"], whole.obs["size_factor"])
        assert stored.var_names.tolist() == whole.var_names.tolist()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["30.h5ad", "7.h5ad"]


def test_a_backed_file_trains_the_same_model(with_anndata, adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    model = CFGen(["cell_type", "batch"], 3, autoencoder=SMALL, flow=FLOW, seed=4)
    model.fit(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(model.encode(adata), with_anndata.encode(adata))


@pytest.mark.filterwarnings("ignore")
def test_two_modalities(simulated):
    pytest.importorskip("mudata")
    both = simulated.to_mudata()
    autoencoder = {
        **SMALL,
        "modalities": {"rna": {"n_latent": 3}, "atac": {"likelihood": "bernoulli", "n_latent": 2}},
    }
    model = CFGen("cell_type", autoencoder=autoencoder, flow=FLOW).fit(both)
    cells = model.sample(6, {"cell_type": "type 0"}, seed=1)
    assert list(cells.mod) == ["rna", "atac"]
    assert cells.mod["atac"].shape == (6, 90)
    assert set(np.unique(cells.mod["atac"].X.toarray())) <= {0, 1}
    assert "size_factor" in cells.mod["rna"].obs
    assert "size_factor" not in cells.mod["atac"].obs
    arrays = {"rna": simulated.counts, "atac": simulated.peaks}
    again = CFGen("cell_type", autoencoder=autoencoder, flow=FLOW)
    again.fit(arrays, {"cell_type": simulated.cell_types})
    found = again.sample(6, {"cell_type": "type 0"}, seed=1)
    assert same(found["rna"], cells.mod["rna"].X)
    assert same(found["atac"], cells.mod["atac"].X)
    assert model.encode(both).shape == (240, 5)
    moved = model.translate(both, {"cell_type": "type 1"}, seed=1)
    assert moved.mod["rna"].obs_names.tolist() == both.obs_names.tolist()
    with pytest.raises(
        ValueError, match=r"`path` must belong to a model of one modality, got 'rna'"
    ):
        model.generate_to("cells.h5ad", 3, seed=1)


# --- training and files --------------------------------------------------------------------------


def test_theta_by_a_covariate(simulated, labels):
    model = CFGen("cell_type", 3, autoencoder=SMALL, flow=FLOW, theta_covariate="batch")
    model.fit(simulated.counts, labels)
    assert model.autoencoder_.theta_["rna"].shape == (2, 30)
    asked = {"cell_type": "type 0", "batch": "1"}
    counts = model.sample(30, asked, seed=1)
    z = model.sample(30, asked, seed=1, output="latent")
    sizes = model.size_factors_.sample(30, "type 0", seed=1)
    assert same(counts, model.decode(z, sizes, theta="1", seed=1))
    assert model.sample(30, {"cell_type": "type 0"}, seed=1).shape == (30, 30)
    assert model.log_likelihood(simulated.counts, labels=labels).shape == (240,)


def test_a_trained_autoencoder_is_used_as_it_is(simulated, labels, trained):
    model = CFGen("cell_type", autoencoder=trained, flow=FLOW).fit(simulated.counts, labels)
    assert model.autoencoder_ is trained
    np.testing.assert_array_equal(model.encode(simulated.counts), trained.encode(simulated.counts))


@pytest.mark.parametrize("training", [True, False])
def test_save_and_load(with_anndata, tmp_path, training):
    with_anndata.save(tmp_path / "model.npz", training=training)
    again = CFGen.load(tmp_path / "model.npz")
    asked = {"cell_type": "type 1", "batch": "0"}
    first, second = (m.sample(9, asked, guidance=1.2, seed=3) for m in (with_anndata, again))
    assert same(first.X, second.X)
    assert first.obs.equals(second.obs)
    assert repr(again) == repr(with_anndata)
    assert again.get_params()["flow"] == FLOW
    with pytest.raises(ValueError, match=r"holds 'flow.cfgen', expected 'flow.autoencoder'"):
        CountAutoencoder.load(tmp_path / "model.npz")


def test_a_cut_file(model, tmp_path):
    path = tmp_path / "model.npz"
    model.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut or damaged"):
        CFGen.load(path)


def test_going_on_after_the_clock(model, simulated, labels, tmp_path):
    stopped = CFGen(["cell_type", "batch"], 3, autoencoder=SMALL, flow=FLOW, seed=4)
    stopped.fit(simulated.counts, labels, max_seconds=0.0)
    assert not stopped.complete_
    stopped.save(tmp_path / "model.npz")
    stopped = CFGen.load(tmp_path / "model.npz")
    stopped.fit(simulated.counts, labels, resume=True)
    assert stopped.complete_
    asked = {"cell_type": "type 0"}
    assert same(stopped.sample(9, asked, seed=1), model.sample(9, asked, seed=1))


def test_parameters():
    model = CFGen("a", 7)
    assert model.get_params()["n_latent"] == 7
    assert model.set_params(seed=3).seed == 3
    assert repr(model) == "CFGen(conditions='a', n_latent=7, seed=3)"
    with pytest.raises(ValueError, match=r"CFGen\.set_params: `size` must be one of"):
        model.set_params(size=3)


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "CFGen.sample: `n` must be an integer >= 1, got 0"),
        ({"seed": None}, TypeError, "CFGen.sample: `seed` must be an integer"),
        ({"attributes": "a"}, TypeError, "`attributes` must be a dictionary of categories by attr"),
        ({"attributes": {"x": 1}}, ValueError, "attributes of the model as keys ('cell_type', 'ba"),
        ({"attributes": {"batch": "7"}}, ValueError, "`batch` must be a category of the training"),
        ({"attributes": {"batch": ["1"]}}, ValueError, "one label for each of 4 cells, got 1 lab"),
        (
            {"attributes": {"batch": 1}, "guidance": {"cell_type": 2.0}},
            ValueError,
            "`guidance` must name attributes that are conditioned on here ('batch'), got 'cell_typ",
        ),
        ({"guidance": 2.0}, ValueError, "`guidance` must be given with attributes to condition on"),
        (
            {"attributes": {"batch": 1}, "guidance": {"batch": np.nan}},
            ValueError,
            "`guidance['batch']` must be a finite number, got nan",
        ),
        ({"size_factor": -1.0}, ValueError, "`size_factor` must be a finite number > 0.0, got -1"),
        ({"size_factor": [1.0, 2.0]}, ValueError, "`size_factor` must have shape (4,), got (2,)"),
        ({"categories": "all"}, ValueError, "`categories` must be one of 'frequency', 'uniform'"),
        ({"output": "sparse"}, ValueError, "`output` must be one of 'anndata', 'csr', 'dense'"),
        ({"method": "adams"}, ValueError, "`method` must be one of"),
        ({"size_factor": 1e9}, OverflowError, "`size_factor` must be at most 1e+08"),
    ],
)
def test_bad_arguments_of_sample(model, arguments, error, message):
    with pytest.raises(error) as caught:
        model.sample(**{"n": 4, "seed": 0, **arguments})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "labels_given", "error", "message"),
    [
        (
            {},
            {},
            ValueError,
            "CFGen.fit: `labels` must have a column 'cell_type', got the columns n",
        ),
        (
            {"conditions": ["a", "a"]},
            None,
            ValueError,
            "`conditions` must name each attribute once",
        ),
        ({"conditions": [1]}, None, TypeError, "`conditions` must be names of attributes, got 1"),
        ({"flow": {"size": 3}}, None, ValueError, "`flow` must have no keys but hidden, embed, bl"),
        ({"flow": 3}, None, TypeError, "`flow` must be a dictionary of arguments, got 3"),
        ({"autoencoder": 3}, None, TypeError, "`autoencoder` must be a dictionary of arguments or"),
        (
            {"theta_covariate": "x"},
            None,
            ValueError,
            "`labels` must have a column 'x', got the col",
        ),
    ],
)
def test_bad_arguments_of_fit(simulated, labels, change, labels_given, error, message):
    arguments = {"conditions": "cell_type", "autoencoder": SMALL, "flow": FLOW, **change}
    with pytest.raises(error) as caught:
        CFGen(**arguments).fit(simulated.counts, labels if labels_given is None else labels_given)
    assert message in str(caught.value)


def test_bad_counts_name_the_data(simulated, labels):
    counts = simulated.counts.astype(float)
    counts.data[0] = 0.5
    with pytest.raises(ValueError, match=r"CFGen\.fit: `data` must hold whole numbers .* got 0\.5"):
        CFGen("batch", autoencoder=SMALL, flow=FLOW).fit(counts, labels)


def test_other_features(with_anndata, adata):
    other = adata[:, ::-1].copy()
    with pytest.raises(
        ValueError, match=r"must have the 30 features .* the same features in another"
    ):
        with_anndata.encode(other)
    fewer = adata[:, :29].copy()
    with pytest.raises(ValueError, match=r"must have the 30 features .* got 29 features"):
        with_anndata.encode(fewer)


def test_bad_arguments_of_augment(with_anndata, model, adata, simulated):
    with pytest.raises(TypeError, match="either `n` or `target` must be given, got neither"):
        with_anndata.augment(adata, "cell_type", rare="type 0", seed=1)
    with pytest.raises(TypeError, match="either `n` or `target` must be given, got both"):
        with_anndata.augment(adata, "cell_type", n=1, target=2, seed=1)
    with pytest.raises(TypeError, match="`rare` must name categories with `n`, got None"):
        with_anndata.augment(adata, "cell_type", n=1, seed=1)
    with pytest.raises(ValueError, match="`target` must leave something to add, got 1 where all"):
        with_anndata.augment(adata, "cell_type", target=1, seed=1)
    with pytest.raises(ValueError, match=r"`attribute` must be a condition of the model \('cell_t"):
        with_anndata.augment(adata, "other", n=1, rare=0, seed=1)
    with pytest.raises(TypeError, match="`data` must be an AnnData or a MuData, got a"):
        model.augment(simulated.counts, "cell_type", n=1, rare=0, seed=1)


def test_bad_arguments_of_translate(with_anndata, adata):
    with pytest.raises(ValueError, match=r"translate: `to` must have attributes of the model as k"):
        with_anndata.translate(adata, {"tissue": "x"}, seed=1)
    with pytest.raises(TypeError, match=r"translate: `seed` must be an integer"):
        with_anndata.translate(adata, {"batch": "1"}, seed=None)
    part = adata.copy()
    del part.obs["batch"]
    with pytest.raises(
        ValueError, match="`obs` must have a column 'batch', got the columns 'cell_t"
    ):
        with_anndata.translate(part, {"batch": "1"}, seed=1)


def test_unfitted():
    for method, arguments in [("sample", (3,)), ("encode", ([[1]],)), ("save", ("x.npz",))]:
        options = {"seed": 1} if method == "sample" else {}
        with pytest.raises(ValueError, match=rf"CFGen\.{method}: the model must be fitted first"):
            getattr(CFGen(), method)(*arguments, **options)
    with pytest.raises(ValueError, match=r"CFGen\.fit: the model must be fitted first"):
        CFGen().fit([[1, 2]], resume=True)


def test_size_factors_of_another_kind(model):
    assert isinstance(model.size_factors_, SizeFactorModel)
    assert model.size_factors_.categories_ == ("type 0", "type 1", "type 2")
