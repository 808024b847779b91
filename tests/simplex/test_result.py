"""Results: what they say, how they are kept, and what a failed chain does to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hotloops
from hotloops import simplex
from tests.simplex import reference


def run(**settings: object) -> simplex.SimplexResult:
    given: dict[str, object] = {
        "step_size": 0.1,
        "inverse_temperature": 50.0,
        "num_steps": 20,
        "num_chains": 3,
        "trace_every": 5,
        "covariance": True,
        "num_bins": 4,
    }
    return simplex.lmwu(reference.double_well(), **(given | settings))  # type: ignore[arg-type]


def test_every_array_has_named_axes() -> None:
    found = run().to_dict()
    for name, axes in simplex.SimplexResult.axes.items():
        assert np.ndim(found[name]) == len(axes), name
    assert {"value", "kkt_residual", "num_steps", "complete"} <= set(found)


def test_a_file_holds_everything(tmp_path: Path) -> None:
    result = run()
    result.save(tmp_path / "run.npz")
    loaded = simplex.SimplexResult.load(tmp_path / "run.npz")
    for name, value in result.to_dict().items():
        np.testing.assert_array_equal(getattr(loaded, name), value, err_msg=name)
    assert repr(loaded) == repr(result)
    assert "chains=3, dim=3, num_steps=20" in repr(result)


def test_names_of_assets_stay_with_the_result(tmp_path: Path) -> None:
    returns = np.random.default_rng(0).normal(size=(20, 2))
    objective = simplex.PortfolioMoments(returns, [0.0, 1.0], names=["a", "b"])
    result = simplex.mwu(objective, step_size=0.1, num_steps=2)
    result.save(tmp_path / "run.npz")
    assert result.names == simplex.SimplexResult.load(tmp_path / "run.npz").names == ("a", "b")
    assert run().names is None


def test_foreign_and_cut_files_are_refused(tmp_path: Path) -> None:
    result = run()
    result.save(tmp_path / "run.npz")
    whole = (tmp_path / "run.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    for name in ("cut.npz", "foreign.npz"):
        with pytest.raises(ValueError, match=name):
            simplex.SimplexResult.load(tmp_path / name)


def test_chains_that_fail_are_reported() -> None:
    def wild(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gradient = np.zeros_like(x)
        gradient[1:2, 0] = np.inf
        return x[:, 0], gradient

    with pytest.warns(RuntimeWarning, match="the steps of 1 of 3 chains were not finite"):
        result = simplex.mwu(simplex.Custom(wild, 2), step_size=0.1, num_steps=4, num_chains=3)
    assert result.flags.tolist() == [0, 1, 0]
    assert result.failed_at.tolist() == [-1, 0, -1]
    with pytest.raises(hotloops.NumericalError, match="the step of chain 1 was not finite") as at:
        result.check()
    assert (at.value.step, at.value.row) == (0, 1)
    assert run().check() is not None
