"""Results as ArviZ's data, and the error where ArviZ is not installed."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from hotloops import sgd

STEPS = [0.05, 0.1]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_posterior_of_batch_means() -> None:
    arviz = pytest.importorskip("arviz", reason="ArviZ is an optional extra")
    problem = sgd.Quadratic([1.0, 2.0], 0.3)
    run = sgd.run(problem, STEPS, 6400, num_chains=6, chain_offset=10, seed=1)
    data = run.to_inferencedata(num_batches=40)
    posterior = data["posterior"]
    assert dict(posterior.sizes) == {"chain": 6, "draw": 40, "step_size": 2, "coordinate": 2}
    np.testing.assert_array_equal(posterior["extrapolated"].values, run.batch_means(40))
    np.testing.assert_array_equal(posterior["mean"].values, run.batch_means(40, of="mean"))
    np.testing.assert_array_equal(posterior["chain"].values, np.arange(10, 16))
    np.testing.assert_array_equal(posterior["step_size"].values, STEPS)
    assert posterior.attrs["num_steps"] == 6400
    # All 100 stored batches are used by 50: the mean over draws is the estimate itself.
    whole = run.to_inferencedata(50)["posterior"]["extrapolated"].mean("draw").values
    np.testing.assert_allclose(whole, run.extrapolated, rtol=1e-10)
    summary = arviz.rhat(data)
    assert float(summary["extrapolated"].max()) < 1.1


@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
@pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_diverged_chains_are_left_out() -> None:
    pytest.importorskip("arviz", reason="ArviZ is an optional extra")
    of = sgd.Quadratic([1.0], 0.0, 1.0, divergence_limit=0.65)
    run = sgd.run(of, STEPS, 200, burn_in=0, num_chains=40, seed=1)
    posterior = run.to_inferencedata()["posterior"]
    np.testing.assert_array_equal(posterior["chain"].values, np.flatnonzero(run.valid))
    assert posterior.attrs["num_diverged"] == 40 - run.valid.sum()
    free = sgd.Quadratic([1.0], 0.0)
    table = sgd.run(free, [[0.05, 0.1], [0.02, 0.1]], 200, burn_in=0, seed=1)
    posterior = table.to_inferencedata()["posterior"]
    np.testing.assert_array_equal(posterior["step_size"].values, [0, 1])
    gone = sgd.run(sgd.Quadratic([1.0], 0.0, 9.0, divergence_limit=0.1), STEPS, 60)
    text = "^to_inferencedata: there is nothing to hand over, since every chain diverged$"
    with pytest.raises(ValueError, match=text):
        gone.to_inferencedata()


def test_without_arviz(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def blocked(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("arviz"):
            raise ImportError(f"{name} is blocked by the test", name=name)
        return original(name, *rest, **options)

    run = sgd.run(sgd.Quadratic([1.0], 0.0), 0.1, 100)
    monkeypatch.setattr(builtins, "__import__", blocked)
    text = r"^to_inferencedata: it needs ArviZ: pip install 'hotloops\[arviz\]' \(arviz is block"
    with pytest.raises(ImportError, match=text):
        run.to_inferencedata()
