"""What conditional flow matching says to wrong arguments, data and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops import flow
from tests.flow.fields import sides

Z = np.zeros((10, 2))

BAD: list[tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = [
    ({"dim": 0}, {}, ValueError, "`dim` must be an integer >= 1"),
    ({"sigma": -1.0}, {}, ValueError, "`sigma` must be a finite number >= 0"),
    ({"sigma": 1.0}, {}, ValueError, "`sigma` must be below 1"),
    ({"coupling": "sinkhorn"}, {}, ValueError, "`coupling` must be one of 'independent', 'ot'"),
    ({"p_cond": 1.2}, {}, ValueError, "`p_cond` must be a finite number in"),
    ({"drop": "cell"}, {}, ValueError, "`drop` must be one of 'row', 'batch'"),
    ({"conditioning": "some"}, {}, ValueError, "`conditioning` must be one of 'one', 'all'"),
    ({"times": "even"}, {}, ValueError, "`times` must be one of 'antithetic', 'uniform'"),
    ({"ema": 1.0}, {}, ValueError, r"`ema` must be a number in \(0, 1\)"),
    ({"standardize": 1}, {}, TypeError, "`standardize` must be True or False"),
    ({"dtype": "int8"}, {}, TypeError, "`dtype` must be float32 or float64"),
    ({"seed": -1}, {}, ValueError, "`seed` must be an integer"),
    ({}, {"z": np.zeros((10, 3))}, ValueError, r"`z` must have shape \(\?, 2\)"),
    ({}, {"z": np.zeros((0, 2))}, ValueError, "`z` must not be empty"),
    ({}, {"batch_size": 11}, ValueError, "`batch_size` must be at most the 10 rows"),
    ({}, {"batch_size": 0}, ValueError, "`batch_size` must be an integer >= 1"),
    ({}, {"num_epochs": 1}, ValueError, "`num_steps` must be None where `num_epochs` is given"),
    ({}, {"num_steps": -1}, ValueError, "`num_steps` must be an integer >= 0"),
    ({}, {"labels": {"b": np.zeros(10, int)}}, ValueError, "`labels` must name attributes"),
    ({}, {"labels": {"a": np.full(10, 2)}}, ValueError, "must be codes from 0 to 1, or -1"),
    ({}, {"labels": {"a": np.zeros(9, int)}}, ValueError, r"have shape \(10,\)"),
    ({}, {"log_size": np.zeros(9)}, ValueError, "`log_size` must have 10 rows like `z`"),
    ({}, {"log_size": np.full(10, np.inf)}, ValueError, "`log_size` must be finite"),
    ({}, {"progress": 1}, TypeError, "`progress` must be True or False"),
    ({}, {"max_seconds": -1.0}, ValueError, "`max_seconds` must be a finite number"),
    ({}, {"backend": "cuda"}, TypeError, "`backend` must be 'cpp' or 'numba'"),
    ({}, {"state": 3}, ValueError, "the model must be fitted"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_wrong_training(case: int) -> None:
    settings, arguments, error, message = BAD[case]
    model = flow.ConditionalFlowMatching(**({"dim": 2, "attributes": {"a": 2}} | settings))
    given = {"z": Z, "num_steps": 1, "batch_size": 5} | arguments
    with pytest.raises(error, match=f"^ConditionalFlowMatching.fit: .*{message}"):
        model.fit(**given)
    assert not hasattr(model, "network_")


def test_data_that_are_not_finite() -> None:
    z = Z.copy()
    z[7, 1] = np.nan
    with pytest.raises(hotloops.NumericalError, match=r"`z` must be finite.*in row 7") as caught:
        flow.ConditionalFlowMatching(2).fit(z, num_steps=1, batch_size=5)
    assert caught.value.row == 7


def test_methods_of_a_model_that_is_not_fitted() -> None:
    model = flow.ConditionalFlowMatching(2)
    for call in (
        lambda: model.sample(3),
        lambda: model.invert(Z),
        lambda: model.transfer(Z, {}, {}),
        lambda: model.log_density(Z),
        lambda: model.velocity(Z, 0.0),
        lambda: model.save("never.npz"),
    ):
        with pytest.raises(ValueError, match=r"must be fitted \(or loaded\) first"):
            call()


def test_wrong_questions() -> None:
    z, side = sides(100)
    model = flow.ConditionalFlowMatching(2, conditioning="all")
    model.fit(z, {"side": side}, num_steps=1, batch_size=50)
    with pytest.raises(ValueError, match="`weights` must be None for a model of conditioning"):
        model.sample(3, {"side": 1}, weights=2.0)
    with pytest.raises(TypeError, match="`n` must be given where no labels tell it"):
        model.sample()
    with pytest.raises(ValueError, match="`seed` must be an integer"):
        model.sample(3, seed=-1)
    with pytest.raises(ValueError, match="`first` must be an integer"):
        model.sample(3, first=-1)
    with pytest.raises(TypeError, match="`source` must be a dict of labels"):
        model.transfer(z, 1, {})
    with pytest.raises(ValueError, match="`divergence` must be one of"):
        model.log_density(z, divergence="trace")
    with pytest.raises(TypeError, match="unexpected argument `t_eval`"):
        model.log_density(z, t_eval=[0.5])
    assert model.sample(0).shape == (0, 2)


def test_files_of_another_kind(tmp_path: Path) -> None:
    flow.VelocityNetwork(2).save(tmp_path / "network.npz")
    with pytest.raises(ValueError, match=r"expected .flow\.matching."):
        flow.ConditionalFlowMatching.load(tmp_path / "network.npz")


def test_cut_and_foreign_files(tmp_path: Path) -> None:
    z, side = sides(100)
    model = flow.ConditionalFlowMatching(2, 8, 6, 1)
    model.fit(z, {"side": side}, num_steps=2, batch_size=50)
    path = tmp_path / "model.npz"
    model.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.npz"]
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-200], b"", b"no archive"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.npz"):
            flow.ConditionalFlowMatching.load(path)
    np.savez(path, z=z)
    with pytest.raises(ValueError, match=r"model\.npz"):
        flow.ConditionalFlowMatching.load(path)
