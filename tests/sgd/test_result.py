"""The result object: axes, text, dictionary, pictures."""

from __future__ import annotations

import builtins
import dataclasses
import io
import pickle
import re
from typing import Any

import numpy as np
import pytest

from hotloops import sgd

pytestmark = pytest.mark.filterwarnings("ignore:confidence_interval. batches of:RuntimeWarning")


@pytest.fixture(scope="module")
def result() -> sgd.SGDResult:
    problem = sgd.Cosine(1.0, 1.0, 3)
    return sgd.run(problem, [0.05, 0.1], 200, num_chains=12, seed=4, checkpoints=[10, 50, 200])


def test_axes_name_every_array(result: sgd.SGDResult) -> None:
    lengths = {"chain": 12, "step_size": 2, "coordinate": 3, "checkpoint": 3}
    for name, axes in result.axes.items():
        assert getattr(result, name).shape == tuple(lengths[axis] for axis in axes), name
    arrays = {
        field.name
        for field in dataclasses.fields(result)
        if isinstance(getattr(result, field.name), np.ndarray)
    }
    assert arrays == set(result.axes)


def test_frozen(result: sgd.SGDResult) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.mean = None  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.state.seed = 1  # type: ignore[misc]


def test_repr(result: sgd.SGDResult) -> None:
    expected = "SGDResult(chains=12, step_sizes=[0.05, 0.1], dim=3, num_steps=200, diverged=0)"
    assert repr(result) == expected
    for problem, text in (
        (sgd.Quadratic([1.0], 0.0), "Quadratic(dim=1, kernel='quadratic', noise='gaussian')"),
        (
            sgd.Quadratic([[1.0]], 0.0),
            "Quadratic(dim=1, kernel='quadratic_full', noise='gaussian')",
        ),
        (sgd.Cosine(1.0, 2.0, 3), "Cosine(phi=1.0, sigma=2.0, dim=3, noise='gaussian')"),
        (
            sgd.Logistic(np.eye(2), [0, 1], 0.5, batch_size=2, sampling="reshuffle"),
            "Logistic(rows=2, dim=2, l2=0.5, batch_size=2, sampling='reshuffle')",
        ),
    ):
        assert repr(problem) == text


def test_to_dict(result: sgd.SGDResult) -> None:
    found = result.to_dict()
    assert set(found) == {*result.axes, "num_steps", "complete", "checkpoints"}
    assert found["mean"] is result.mean
    assert found["checkpoints"] == (10, 50, 200)


def test_pickle(result: sgd.SGDResult) -> None:
    copy = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(copy.mean, result.mean)
    problem = sgd.Cosine(1.0, 1.0, 3)
    left = sgd.run(problem, [0.05, 0.1], 10, state=copy.state)
    right = sgd.run(problem, [0.05, 0.1], 10, state=result.state)
    np.testing.assert_array_equal(left.mean, right.mean)


def test_problems_travel() -> None:
    """Problems can be pickled, except compiled gradients."""
    for problem in (
        sgd.Quadratic([1.0, 2.0], 0.5),
        sgd.Quadratic([[1.0, 0.1], [0.1, 1.0]], 0.5, cholesky=np.eye(2)),
        sgd.Cosine(0.5, 1.0, 2),
        sgd.LeastSquares(np.eye(2), [1.0, 2.0], 0.1, sampling="sequential"),
        sgd.Logistic(np.eye(2), [0, 1], 0.1, batch_size=2),
    ):
        copy = pickle.loads(pickle.dumps(problem))
        assert repr(copy) == repr(problem)
        left, right = (sgd.run(p, [0.05, 0.1], 2000, num_chains=2).mean for p in (problem, copy))
        np.testing.assert_array_equal(left, right)


def png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=40)
    return stream.getvalue()


def test_plot(result: sgd.SGDResult) -> None:
    pytest.importorskip("matplotlib")
    figure = result.plot()
    assert len(figure.axes) == 3
    estimates, intervals, convergence = figure.axes
    assert intervals.get_title() == "95 % intervals, coordinate 0"
    low, high = result.confidence_interval(method="batch_means")
    (lines,) = intervals.collections
    ends = np.array(lines.get_segments())
    np.testing.assert_allclose(ends[:, 0], np.stack([np.arange(12), low[:, 0]], axis=1))
    np.testing.assert_allclose(ends[:, 1, 1], high[:, 0])
    assert estimates.get_xlabel() == "coordinate"
    labels = [text.get_text() for text in estimates.get_legend().get_texts()]
    assert labels == ["step 0.05", "step 0.1", "extrapolated"]
    drawn = estimates.containers[0].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, result.mean[:, 0].mean(axis=0), rtol=1e-12)
    curve = convergence.lines[0].get_xydata()
    np.testing.assert_array_equal(curve[:, 0], [10, 50, 200])
    spread = np.sqrt(result.checkpoint_mean[:, :, 0].var(axis=1).sum(axis=1))
    np.testing.assert_allclose(curve[:, 1], spread, rtol=1e-12)
    assert png(figure).startswith(b"\x89PNG")


def test_plot_with_a_reference(result: sgd.SGDResult) -> None:
    pytest.importorskip("matplotlib")
    at = sgd.Cosine(1.0, 1.0, 3).minimizer()
    figure = result.plot(at, coordinates=[2, 0])
    drawn = figure.axes[0].containers[2].lines[0].get_ydata()
    np.testing.assert_allclose(
        drawn, (result.extrapolated - at).mean(axis=0)[[2, 0]], rtol=1e-9, atol=1e-12
    )
    low, high = result.confidence_interval()
    covers = int(((low <= at) & (at <= high))[:, 2].sum())
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels[0] == f"covers ({covers})"
    assert labels[1:] == ([f"misses ({12 - covers})"] if covers < 12 else [])
    errors = figure.axes[2].lines[0].get_ydata()
    expected = ((result.checkpoint_mean[:, :, 0] - at) ** 2).sum(axis=2).mean(axis=1) ** 0.5
    np.testing.assert_allclose(errors, expected, rtol=1e-12)
    assert png(figure).startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
def test_plot_of_small_and_broken_results() -> None:
    """One chain, one step size, no checkpoints; every chain diverged."""
    pytest.importorskip("matplotlib")
    single = sgd.run(sgd.Cosine(1.0, 1.0, 40), 0.1, 100)
    figure = single.plot()
    assert len(figure.axes) == 2
    assert len(figure.axes[0].containers[0].lines[0].get_ydata()) == 30
    assert figure.axes[1].get_title() == "95 % intervals, chain 0"
    bare = sgd.run(sgd.Cosine(1.0, 1.0, 40), 0.1, 100, statistics=["mean"])
    assert len(bare.plot().axes) == 1
    assert png(figure).startswith(b"\x89PNG")
    gone = sgd.run(
        sgd.Quadratic([1.0], 0.0, 9.0, divergence_limit=0.1),
        [0.1, 0.2],
        60,
        num_chains=3,
        checkpoints=[5, 60],
    )
    assert not gone.valid.any()
    text = "^plot: there is nothing to draw, since every chain diverged$"
    with pytest.raises(ValueError, match=text):
        gone.plot()


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"reference": [1.0]}, ValueError, "`reference` must have shape (3,), got (1,)"),
    ({"reference": "t"}, TypeError, "`reference` must be an array of real numbers, got 't'"),
    ({"reference": [np.nan] * 3}, ValueError, "`reference` must be finite, got nan at index (0,)"),
    ({"coordinates": [3]}, ValueError, "`coordinates` must lie in [0, 2], got [3]"),
    ({"coordinates": [-1]}, ValueError, "`coordinates` must lie in [0, 2], got [-1]"),
    ({"coordinates": []}, TypeError, "`coordinates` must be an array of integers, got"),
    ({"coordinates": [0.5]}, TypeError, "`coordinates` must be an array of integers, got"),
    ({"coordinates": 1}, ValueError, "`coordinates` must have 1 dimension, got ()"),
]


@pytest.mark.parametrize(("options", "kind", "text"), WRONG)
def test_wrong_arguments_of_plot(
    result: sgd.SGDResult, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(kind, match="^" + re.escape(f"plot: {text}")):
        result.plot(**options)


def test_plot_without_matplotlib(result: sgd.SGDResult, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def blocked(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(f"No module named {name!r}")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(
        ImportError, match=r"^plot: pictures need matplotlib: pip install 'hotloops"
    ):
        result.plot()
