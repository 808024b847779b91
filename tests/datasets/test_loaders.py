"""The packaged tables: their bytes, their shapes, their facts, and bad arguments."""

import hashlib
from importlib.resources import files

import numpy as np
import pytest

from hotloops import datasets

SHA256 = {
    "a9a.npz": "c351cdd43a04e6461eaa526135e8c657f3033875a403d712f83abbac730b4827",
    "breast_cancer.npz": "4f1c68a36aa26fd0dfc68e27529c257347101ac82b056c3dfc9c13338d17cadb",
    "pbmc68k_reduced.npz": "f4b9288dd85163cceaa39495a1e40d3ab943f4a53a7584a022a0821e6d0024ea",
    "sp500_20.npz": "bfded1ab74dfd39e4ee132ce719f4a14cd52adcdb9464601ed345874c48c8781",
}
A9A = {"train": (32561, 451592, 7841), "test": (16281, 225731, 3846)}


def packaged(*parts):
    return files("hotloops.datasets").joinpath(*parts)


@pytest.mark.parametrize("name", sorted(SHA256))
def test_file_is_the_recorded_one(name):
    assert hashlib.sha256(packaged("data", name).read_bytes()).hexdigest() == SHA256[name]


def test_licence_text_names_every_file_with_its_hash():
    text = packaged("DATA_LICENSES.md").read_text(encoding="utf-8")
    shipped = {item.name for item in packaged("data").iterdir() if item.name.endswith(".npz")}
    assert shipped == set(SHA256)
    for name, digest in SHA256.items():
        assert f"## data/{name}" in text
        assert digest in text


def test_breast_cancer_facts():
    table = datasets.load_breast_cancer()
    assert table.X.shape == (569, 30)
    assert table.X.dtype == np.float64
    assert table.X.flags.c_contiguous
    assert table.y.dtype == np.int64
    assert np.bincount(table.y).tolist() == [212, 357]
    assert table.feature_names[0] == "mean radius"
    assert len(set(table.feature_names)) == 30
    assert table.target_names == {0: "malignant", 1: "benign"}
    # The first record of the original file.
    assert table.X[0, :4].tolist() == [17.99, 10.38, 122.8, 1001.0]


def test_breast_cancer_is_scikit_learns_table():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    theirs = sklearn_datasets.load_breast_cancer()
    ours = datasets.load_breast_cancer()
    np.testing.assert_array_equal(ours.X, theirs.data)
    np.testing.assert_array_equal(ours.y, theirs.target)
    assert ours.feature_names == tuple(theirs.feature_names)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a9a_facts(split):
    rows, ones, positive = A9A[split]
    table = datasets.load_a9a(split)
    assert table.X.shape == (rows, 123)
    assert table.X.dtype == np.float64
    assert np.unique(table.X).tolist() == [0.0, 1.0]
    assert int(table.X.sum()) == ones
    per_row = table.X.sum(axis=1)
    assert (per_row.min(), per_row.max()) == (11, 14)
    assert sorted(set(table.y.tolist())) == [-1, 1]
    assert int((table.y == 1).sum()) == positive
    assert len(table.feature_names) == 123


def test_a9a_first_record_is_that_of_the_text_file():
    # "-1 3:1 11:1 14:1 19:1 39:1 42:1 55:1 64:1 67:1 73:1 75:1 76:1 80:1 83:1"
    table = datasets.load_a9a()
    expected = [3, 11, 14, 19, 39, 42, 55, 64, 67, 73, 75, 76, 80, 83]
    assert (np.flatnonzero(table.X[0]) + 1).tolist() == expected
    assert table.y[0] == -1


@pytest.mark.parametrize("split", ["train", "test"])
def test_a9a_sparse_is_the_dense_table(split):
    sparse = pytest.importorskip("scipy.sparse")
    compact = datasets.load_a9a(split, sparse=True, dtype="float32")
    dense = datasets.load_a9a(split, dtype=np.float32)
    assert isinstance(compact.X, sparse.csr_array)
    assert compact.X.dtype == np.float32
    assert dense.X.dtype == np.float32
    assert compact.X.has_sorted_indices
    np.testing.assert_array_equal(compact.X.toarray(), dense.X)
    np.testing.assert_array_equal(compact.y, dense.y)


@pytest.mark.parametrize("load", [datasets.load_breast_cancer, datasets.load_a9a])
def test_every_table_says_where_it_comes_from(load):
    table = load()
    for text in (table.source, table.licence, table.citation, table.description):
        assert len(text) > 5
    assert "10.24432" in table.source
    assert table.name in repr(table)
    assert str(len(table.y)) in repr(table)
    with pytest.raises(AttributeError):
        table.X = None


def test_loads_are_independent_copies():
    first = datasets.load_breast_cancer()
    first.X[:] = 0.0
    assert datasets.load_breast_cancer().X[0, 0] == 17.99


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"split": "validation"}, ValueError, ("load_a9a", "`split`", "validation")),
        ({"split": 1}, TypeError, ("load_a9a", "`split`")),
        ({"sparse": 1}, TypeError, ("load_a9a", "`sparse`")),
        ({"dtype": "int32"}, TypeError, ("load_a9a", "`dtype`", "int32")),
        ({"dtype": "no such type"}, TypeError, ("load_a9a", "`dtype`")),
    ],
)
def test_a9a_bad_arguments(arguments, error, words):
    with pytest.raises(error) as caught:
        datasets.load_a9a(**arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("bad", ["float16", complex, None, object()])
def test_breast_cancer_bad_dtype(bad):
    with pytest.raises(TypeError, match="load_breast_cancer: `dtype`"):
        datasets.load_breast_cancer(dtype=bad)
