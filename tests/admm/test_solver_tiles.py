"""Tiles of sparse matrices of ones: what they hold, when they are used, and that sums agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse

from hotloops import _core, admm
from hotloops.admm._data import gather_clients
from hotloops.admm._losses import as_loss
from hotloops.admm._tiles import TILE_ROWS, build_tiles, tiles_of_clients


def pattern(rows: int, columns: int, density: float) -> Any:
    rng = np.random.default_rng(3)
    return scipy.sparse.csr_array((rng.random((rows, columns)) < density).astype(float))


def parts(X: Any, rows: Any) -> tuple[Any, ...]:
    return X.indptr.astype(np.int64), X.indices.astype(np.int32), rows, X.shape[1]


def test_tiles_hold_every_entry_once() -> None:
    X = pattern(100, 30, 0.4)
    rows = np.random.default_rng(0).permutation(100)[:75].astype(np.int64)
    for build in (_core.admm_tiles, build_tiles):
        offsets, columns, masks = build(*parts(X, rows))
        assert offsets.size == -(-75 // TILE_ROWS) + 1
        found = np.zeros((75, 30))
        for tile in range(offsets.size - 1):
            own = columns[offsets[tile] : offsets[tile + 1]]
            assert (np.diff(own) > 0).all()
            for column, mask in zip(own, masks[offsets[tile] : offsets[tile + 1]], strict=True):
                for r in range(TILE_ROWS):
                    if mask >> r & 1:
                        found[tile * TILE_ROWS + r, column] += 1
        np.testing.assert_array_equal(found, X.toarray()[rows])


def test_both_builders_agree_on_types_too() -> None:
    X = pattern(333, 20, 0.3)
    rows = np.arange(333, dtype=np.int64)
    for one, other in zip(
        _core.admm_tiles(*parts(X, rows)), build_tiles(*parts(X, rows)), strict=True
    ):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("build", [_core.admm_tiles, build_tiles])
def test_no_tiles_where_they_do_not_pay_or_a_row_names_a_column_twice(build: Any) -> None:
    thin = pattern(200, 1000, 0.01)
    assert build(*parts(thin, np.arange(200, dtype=np.int64))) is None
    twice = (np.array([0, 2, 4], np.int64), np.array([1, 1, 0, 1], np.int32))
    assert build(*twice, np.arange(2, dtype=np.int64), 2) is None


def test_only_ones_with_one_output_have_tiles() -> None:
    X, y = pattern(64, 10, 0.5), np.arange(64) % 2
    clients = [np.arange(64)]

    def has_tiles(loss: str, table: Any) -> bool:
        data = gather_clients("solve", as_loss("solve", loss), table, y, clients)
        return tiles_of_clients(data)[0] is not None

    assert has_tiles("logistic", X)
    assert not has_tiles("softmax", X)
    assert not has_tiles("logistic", 2 * X)
    assert not has_tiles("logistic", X.toarray())


def test_results_are_those_of_the_dense_matrix(engine: str) -> None:
    X = pattern(1300, 25, 0.4)
    y = np.where(np.random.default_rng(1).random(1300) < 0.5, 1.0, -1.0)
    ids = np.random.default_rng(2).integers(0, 2, 1300)
    options: dict[str, Any] = {"clients": ids, "rho": 1.0, "intercept": True, "num_rounds": 20}
    tiled = admm.solve("logistic", X, y, backend=engine, **options)
    dense = admm.solve("logistic", X.toarray(), y, **options)
    np.testing.assert_allclose(tiled.w, dense.w, rtol=0, atol=1e-13)
    assert tiled.objective == pytest.approx(dense.objective, abs=1e-14)


def test_the_binding_checks_tiles() -> None:
    clients = _core.AdmmClientsFloat64(np.array([2, 1], np.int64), 1, 0, False, 0.0, 0.0)
    offsets, ones = np.array([0, 1], np.int64), np.ones(1, np.uint16)
    clients.add_dense(np.ones((3, 2)), np.ones(3), None, None)
    clients.add_client(0, None)
    with pytest.raises(ValueError, match="tiles must cut their columns"):
        clients.set_tiles(0, offsets, np.array([2], np.int32), ones)
    with pytest.raises(ValueError, match="tiles must cut their columns"):
        clients.set_tiles(0, np.array([0, 1, 1], np.int64), np.array([1], np.int32), ones)
    clients.set_tiles(0, offsets, np.array([1], np.int32), ones)
    tasks = np.array([[0, 1, 3]], np.int64)
    with pytest.raises(ValueError, match="begins within a tile"):
        clients.gradient(0, 0, 0, 0, tasks, None, np.zeros(2), False, np.zeros((1, 2)), None, 0, 1)
