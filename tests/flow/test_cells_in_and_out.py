"""AnnData and MuData taken apart and put together; labels and their errors."""

from __future__ import annotations

import numpy as np
import pytest

from hotloops.flow._cells import build_cells, column, join_cells, read_cells
from hotloops.flow._labels import Labels, code_labels, find_codes, read_labels

COUNTS = np.array([[1, 0], [0, 2], [3, 4]])


@pytest.fixture
def cells():
    anndata = pytest.importorskip("anndata")
    pandas = pytest.importorskip("pandas")
    obs = pandas.DataFrame({"kind": ["b", "a", "b"]}, index=["x", "y", "z"])
    var = pandas.DataFrame(index=["g1", "g2"])
    return anndata.AnnData(COUNTS.astype(np.float32), obs=obs, var=var, layers={"raw": 2 * COUNTS})


def test_anndata_is_taken_apart(cells):
    found = read_cells("fit", cells, None, None, ["rna"])
    np.testing.assert_array_equal(found.matrices["rna"], COUNTS)
    assert list(column("fit", found, "kind")) == ["b", "a", "b"]
    assert found.names == {"rna": ("g1", "g2")}
    assert found.kind == "anndata"


def test_layers(cells):
    found = read_cells("fit", cells, None, "raw", ["rna"])
    np.testing.assert_array_equal(found.matrices["rna"], 2 * COUNTS)
    with pytest.raises(ValueError, match="fit: `layer` must be a layer of the data, got the lay"):
        read_cells("fit", cells, None, "other", ["rna"])
    cells.X = None
    with pytest.raises(ValueError, match=r"must have counts in X .or name a `layer`., got 'raw'"):
        read_cells("fit", cells, None, None, ["rna"])


def test_labels_come_before_the_columns_of_obs(cells):
    found = read_cells("fit", cells, {"kind": [1, 2, 3]}, None, ["rna"])
    assert list(column("fit", found, "kind")) == [1, 2, 3]


def test_missing_columns(cells):
    found = read_cells("fit", cells, None, None, ["rna"])
    with pytest.raises(
        ValueError, match="fit: `obs` must have a column 'batch', got the columns '"
    ):
        column("fit", found, "batch")
    found = read_cells("fit", COUNTS, None, None, ["rna"])
    with pytest.raises(ValueError, match="fit: `labels` must have a column 'b', got the columns n"):
        column("fit", found, "b")


def test_files(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    found = read_cells("fit", tmp_path / "cells.h5ad", None, None, ["rna"])
    assert found.container.isbacked
    np.testing.assert_array_equal(found.matrices["rna"][:], COUNTS)
    found.container.file.close()
    with pytest.raises(ValueError, match=r"`data` must be a file that ends in \.h5ad or \.h5mu"):
        read_cells("fit", "cells.csv", None, None, ["rna"])


@pytest.mark.filterwarnings("ignore")
def test_mudata_is_taken_apart_and_put_together(cells):
    mudata = pytest.importorskip("mudata")
    peaks = cells.copy()
    peaks.var_names = ["p1", "p2"]
    both = mudata.MuData({"rna": cells, "atac": peaks, "other": cells.copy()})
    found = read_cells("fit", both, None, None, ["atac", "rna"])
    assert list(found.matrices) == ["atac", "rna"]
    assert found.names == {"atac": ("p1", "p2"), "rna": ("g1", "g2")}
    assert list(column("fit", found, "kind")) == ["b", "a", "b"]
    assert found.kind == "mudata"
    with pytest.raises(ValueError, match="`data` must have the modality 'protein', got 'rna', 'at"):
        read_cells("fit", both, None, None, ["rna", "protein"])
    with pytest.raises(TypeError, match="be a MuData or a dictionary with 'rna', 'atac', got an A"):
        read_cells("fit", cells, None, None, ["rna", "atac"])


def test_generated_cells(cells):
    kind = (Labels("kind", ("a", "b")), np.array([1, 1, 0], np.int32))
    sizes = {"rna": np.array([1.0, 2.0, 3.0])}
    names = {"rna": ("g1", "g2")}
    made = build_cells(
        {"rna": COUNTS}, {"kind": kind}, sizes, names, ["c0", "c1", "c2"], {"seed": 1}
    )
    assert made.obs["kind"].tolist() == ["b", "b", "a"]
    assert made.obs["kind"].cat.categories.tolist() == ["a", "b"]
    assert made.obs["size_factor"].tolist() == [1.0, 2.0, 3.0]
    assert made.obs_names.tolist() == ["c0", "c1", "c2"]
    assert made.uns["hotloops"] == {"seed": 1}
    both = join_cells(cells, made)
    assert both.n_obs == 6
    assert both.obs["generated"].tolist() == [False] * 3 + [True] * 3
    np.testing.assert_array_equal(np.asarray(both.X), np.vstack([COUNTS, COUNTS]))


@pytest.mark.parametrize(
    "values",
    [
        ["b", "a", "b"],
        np.array(["b", "a", "b"]),
        np.array(["b", "a", "b"], object),
        ("b", "a", "b"),
    ],
    ids=["list", "array", "objects", "tuple"],
)
def test_labels(values):
    labels, codes = read_labels("fit", "kind", values, 3)
    assert labels == Labels("kind", ("a", "b"))
    assert codes.tolist() == [1, 0, 1]
    assert codes.dtype == np.int32
    assert code_labels("encode", labels, values, 3).tolist() == [1, 0, 1]


def test_labels_of_pandas():
    pandas = pytest.importorskip("pandas")
    series = pandas.Series(pandas.Categorical(["b", "a"], categories=["c", "b", "a"]))
    labels, codes = read_labels("fit", "kind", series, 2)
    assert (labels.categories, codes.tolist()) == (("a", "b"), [1, 0])
    for missing in (None, np.nan, pandas.NA, pandas.NaT):
        with pytest.raises(
            ValueError, match=r"fit: `kind` must have no missing labels, got .* row 1"
        ):
            read_labels("fit", "kind", pandas.Series(["a", missing], dtype=object), 2)


def test_numbers_as_labels():
    labels, codes = read_labels("fit", "batch", [10, 9, np.int64(10)], 3)
    assert labels.categories == ("10", "9")
    assert codes.tolist() == [0, 1, 0]


@pytest.mark.parametrize("values", [[1, "1"], [1, 1.0, "1.0"], ["True", True]])
def test_categories_that_look_alike(values):
    with pytest.raises(ValueError, match="fit: `x` must have categories with different names, got"):
        read_labels("fit", "x", values, len(values))


def test_unseen_labels():
    labels = Labels("kind", tuple("abcdefghijkl"))
    with pytest.raises(ValueError, match="encode: `kind` must be a category of the training cells"):
        code_labels("encode", labels, ["a", "z"], 2)
    with pytest.raises(ValueError, match=r"one of 'a', .*'j' and 2 more, got 'z'"):
        find_codes("sample", labels, "z", 2)
