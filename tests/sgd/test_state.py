"""Going on from a result, results on disk, and runs that stop early."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloops import sgd
from hotloops._runtime import checkpoints as files

ARRAYS = ("mean", "extrapolated", "last", "weights", "flags", "diverged_at", "step_sizes")
KEPT = ("checkpoint_mean", "checkpoint_last")
STEPS = [0.02, 0.05, 0.1]

pytestmark = pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")


def problems() -> list[Any]:
    generator = np.random.default_rng(1)
    features = generator.normal(size=(23, 5)) / 2
    targets = generator.normal(size=23)
    reshuffled = sgd.LeastSquares(features, targets, 0.1, batch_size=4, sampling="reshuffle")
    return [
        pytest.param(sgd.Quadratic([0.5, 1.0, 2.0], 0.1), id="quadratic"),
        pytest.param(sgd.Quadratic([[1.0, 0.1], [0.1, 2.0]], 0.1), id="quadratic_full"),
        pytest.param(sgd.Cosine(1.0, 0.5, 2), id="cosine"),
        pytest.param(sgd.Logistic(features, (targets > 0).astype(float), 0.1), id="logistic"),
        pytest.param(reshuffled, id="reshuffle"),
        pytest.param(sgd.Custom(lambda t, n, s, d, o: t + n, 2), id="callable"),
    ]


def assert_same(found: sgd.SGDResult, expected: sgd.SGDResult, names: tuple[str, ...]) -> None:
    for name in names:
        left, right = np.asarray(getattr(found, name)), np.asarray(getattr(expected, name))
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes(), name


@pytest.mark.parametrize("problem", problems())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pieces_equal_one_run(problem: sgd.Problem, dtype: str, tmp_path: Path) -> None:
    """run(n) = run(k), save, load, run(n - k), and in any number of pieces, bit for bit."""
    options: dict[str, Any] = {
        "num_chains": 7,
        "seed": 2**63 + 1,
        "chain_offset": 3,
        "step_offset": 2**32 - 40,
        "dtype": dtype,
    }
    whole = sgd.run(problem, STEPS, 60, burn_in=17, **options)
    for cuts in ([1], [30], [59], [1, 2, 3], [10, 20, 30, 40, 50]):
        result, done = None, 0
        for number, stop in enumerate([*cuts, 60]):
            if result is None:
                result = sgd.run(problem, STEPS, stop, burn_in=17, **options)
            else:
                result = sgd.run(problem, STEPS, stop - done, state=result.state)
            done = stop
            path = tmp_path / f"{number}.npz"
            result.save(path)
            result = sgd.SGDResult.load(path)
        assert result is not None
        assert_same(result, whole, ARRAYS)
        assert result.num_steps == whole.num_steps == 60
        assert result.state.next_step == whole.state.next_step == 2**32 - 40 + 77


def test_state_is_not_touched_by_the_run_that_uses_it() -> None:
    problem = sgd.Cosine(1.0, 1.0, 2)
    first = sgd.run(problem, STEPS, 50, num_chains=3)
    held = [getattr(first, name).tobytes() for name in ("mean", "last", "flags", "diverged_at")]
    second = sgd.run(problem, STEPS, 50, state=first.state)
    third = sgd.run(problem, STEPS, 50, state=first.state)
    assert_same(second, third, ARRAYS)
    assert held == [
        getattr(first, name).tobytes() for name in ("mean", "last", "flags", "diverged_at")
    ]
    assert not np.shares_memory(first.last, second.last)


def test_checkpoints_go_on() -> None:
    problem = sgd.Cosine(1.0, 1.0)
    whole = sgd.run(problem, STEPS, 50, num_chains=3, checkpoints=[5, 30, 50])
    first = sgd.run(problem, STEPS, 20, burn_in=50, num_chains=3, checkpoints=[5])
    second = sgd.run(problem, STEPS, 30, state=first.state, checkpoints=range(30, 51, 20))
    np.testing.assert_array_equal(first.checkpoint_mean[0], whole.checkpoint_mean[0])
    np.testing.assert_array_equal(second.checkpoint_mean, whole.checkpoint_mean[1:])
    np.testing.assert_array_equal(second.checkpoint_last, whole.checkpoint_last[1:])
    assert second.checkpoints == (30, 50)


def test_saved_result_is_whole(tmp_path: Path) -> None:
    result = sgd.run(
        sgd.Cosine(1.0, 1.0, 2), STEPS, 50, num_chains=4, seed=9, checkpoints=[1, 7, 50]
    )
    path = tmp_path / "run.npz"
    result.save(path)
    loaded = sgd.SGDResult.load(os.fspath(path))
    assert_same(loaded, result, ARRAYS + KEPT)
    assert loaded.checkpoints == result.checkpoints
    assert loaded.complete
    assert repr(loaded) == repr(result)
    for name in ("kernel", "seed", "chain_offset", "next_step", "burn_in_left", "num_averaged"):
        assert getattr(loaded.state, name) == getattr(result.state, name)
    with zipfile.ZipFile(path) as archive:
        assert all(not name.endswith((".pkl", ".pickle")) for name in archive.namelist())
    with np.load(path, allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["theta"], result.last)


@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
def test_saved_divergence(tmp_path: Path) -> None:
    problem = sgd.Quadratic([1.0], 0.0, 10.0, divergence_limit=9.0)
    result = sgd.run(problem, [0.1, 0.9], 50, num_chains=20)
    assert 0 < result.flags.sum() < 40
    result.save(tmp_path / "run.npz")
    loaded = sgd.SGDResult.load(tmp_path / "run.npz")
    assert_same(loaded, result, ARRAYS)
    np.testing.assert_array_equal(loaded.valid, result.valid)


def test_broken_files(tmp_path: Path) -> None:
    """Every cut and every changed byte is a ValueError that names the file."""
    path, other = tmp_path / "run.npz", tmp_path / "broken.npz"
    sgd.run(sgd.Cosine(1.0, 1.0), [0.1], 50, checkpoints=[9]).save(path)
    whole = path.read_bytes()
    with pytest.raises(FileNotFoundError):
        sgd.SGDResult.load(tmp_path / "missing.npz")
    for length in [0, 1, 10, *range(64, len(whole), 97), len(whole) - 1]:
        other.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"broken\.npz"):
            sgd.SGDResult.load(other)
    generator = np.random.default_rng(0)
    for position in generator.integers(0, len(whole), 60):
        changed = bytearray(whole)
        changed[position] ^= 1 << int(generator.integers(8))
        other.write_bytes(changed)
        with pytest.raises(ValueError, match=r"broken\.npz"):
            sgd.SGDResult.load(other)
    np.savez(other, theta=np.zeros(3))
    with pytest.raises(ValueError, match=r"broken\.npz: not a hotloops checkpoint"):
        sgd.SGDResult.load(other)
    other.write_text("theta")
    with pytest.raises(ValueError, match=r"broken\.npz: not a hotloops checkpoint"):
        sgd.SGDResult.load(other)


LACKING: list[tuple[str, Any]] = [
    ("theta", None),
    ("sums", None),
    ("step_sizes", None),
    ("checkpoint_mean", None),
    ("theta", np.zeros((2, 2))),
    ("theta", np.full((1, 1, 1), np.nan)),
    ("theta", np.array([[["a"]]])),
    ("sums", np.zeros((1, 1, 2))),
    ("sums", np.zeros((1, 1, 1), np.float32)),
    ("flags", np.zeros((1, 1))),
    ("diverged_at", np.zeros((2, 1), np.int64)),
    ("step_sizes", np.array([0.1, 0.2])),
    ("step_sizes", np.array([-0.1])),
    ("checkpoint_mean", np.zeros((3, 1, 1, 1))),
    ("auxiliary", np.zeros((2, 0))),
    ("statistics_weights", None),
    ("statistics_shift", None),
    ("statistics_shift", np.zeros((2, 1, 1))),
    ("statistics_path", np.zeros((1, 3, 1, 1))),
    ("statistics_path", np.zeros((1, 50, 1, 1), np.float32)),
    ("statistics_squares", np.full((1, 1, 1), np.nan)),
]
HEADERS: list[tuple[str, Any]] = [
    ("seed", None),
    ("seed", -1),
    ("seed", "x"),
    ("next_step", -1),
    ("num_averaged", [1]),
    ("burn_in_left", -3),
    ("checkpoints", 7),
    ("checkpoints", [1, 2, 3]),
    ("kernel", None),
    ("rules", {}),
    ("running", {"count": 50}),
    ("running", {"count": 49, "stride": 1, "doubling": True}),
    ("running", {"count": 50, "stride": 0, "doubling": True}),
    ("statistics", 7),
    ("batch_length", 0),
    ("curvature", "x"),
    ("plug_in", [1]),
]


@pytest.mark.parametrize(("name", "value"), LACKING + HEADERS)
def test_files_with_parts_that_do_not_fit(name: str, value: Any, tmp_path: Path) -> None:
    """Sealed files of the right kind, but without a part or with another one."""
    path = tmp_path / "run.npz"
    sgd.run(sgd.Cosine(1.0, 1.0), [0.1], 50, checkpoints=[9]).save(path)
    header, arrays = files.load_npz(path, "sgd.run", 2)
    part: dict[str, Any] = header if name in header else arrays
    if value is None:
        del part[name]
    else:
        part[name] = value
    files.save_npz(path, "sgd.run", 2, header, arrays)
    with pytest.raises(ValueError, match=r"run\.npz: the file lacks parts of a result"):
        sgd.SGDResult.load(path)
    files.save_npz(path, "sgd.run", 3, header, arrays)
    with pytest.raises(ValueError, match=r"version 3"):
        sgd.SGDResult.load(path)
    files.save_npz(path, "simplex.run", 2, header, arrays)
    with pytest.raises(ValueError, match=r"holds 'simplex\.run'"):
        sgd.SGDResult.load(path)


def test_files_of_version_1(tmp_path: Path) -> None:
    """They have neither rules nor statistics; a run goes on from them with the same averages."""
    problem, path = sgd.Cosine(1.0, 1.0), tmp_path / "run.npz"
    expected = sgd.run(problem, STEPS, 90, burn_in=20, num_chains=3)
    sgd.run(problem, STEPS, 50, burn_in=20, num_chains=3).save(path)
    header, arrays = files.load_npz(path, "sgd.run", 2)
    for name in ("rules", "running", "statistics", "batch_length", "curvature", "plug_in"):
        del header[name]
    old = {name: a for name, a in arrays.items() if not name.startswith(("statistics", "aux"))}
    files.save_npz(path, "sgd.run", 1, header, old)
    result = sgd.SGDResult.load(path)
    assert result.state.statistics is None
    assert result.state.statistics_names == ("mean",)
    assert_same(sgd.run(problem, STEPS, 40, state=result.state), expected, ARRAYS)
    with pytest.raises(ValueError, match=r"`statistics` must be \('mean',\) as in `state`"):
        sgd.run(problem, STEPS, 40, state=result.state, statistics=["variance"])


def test_saving_where_it_cannot_be_saved(tmp_path: Path) -> None:
    result = sgd.run(sgd.Cosine(1.0, 1.0), [0.1], 50)
    with pytest.raises(FileNotFoundError):
        result.save(tmp_path / "no" / "run.npz")
    with pytest.raises((IsADirectoryError, PermissionError)):
        result.save(tmp_path)
    with pytest.raises(TypeError):
        result.save(None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_time_limit() -> None:
    """Stops soon after the limit, says so, and the rest can still be run: the same bits."""
    problem = sgd.Cosine(1.0, 1.0, 4)
    steps = 20_000_000
    began = time.monotonic()
    result = sgd.run(problem, 0.1, steps, burn_in=100, num_chains=64, max_seconds=0.3)
    elapsed = time.monotonic() - began
    assert 0.3 <= elapsed < 2.0
    assert not result.complete
    assert 0 < result.num_steps < steps
    assert "complete=False" in repr(result)
    assert result.state.next_step == result.num_steps + 100
    assert np.isfinite(result.mean).all()
    expected = sgd.run(problem, 0.1, result.num_steps, burn_in=100, num_chains=64)
    assert_same(result, expected, ARRAYS)
    assert expected.complete
    again = sgd.run(problem, 0.1, 10, state=result.state)
    whole = sgd.run(problem, 0.1, result.num_steps + 10, burn_in=100, num_chains=64)
    assert_same(again, whole, ARRAYS)


def test_time_limit_keeps_the_checkpoints_that_were_reached() -> None:
    problem = sgd.Cosine(1.0, 1.0, 4)
    result = sgd.run(problem, 0.1, 10**9, burn_in=100, checkpoints=[1, 10, 10**9], max_seconds=0.2)
    assert result.checkpoints == (1, 10)
    assert result.checkpoint_mean.shape == (2, 1, 1, 4)


def test_time_limit_within_the_burn_in(tmp_path: Path) -> None:
    problem = sgd.Cosine(1.0, 1.0, 4)
    text = "run: time was up during the burn-in: there are no averages yet; go on from `state`"
    with pytest.warns(RuntimeWarning, match=f"^{text}$") as caught:
        result = sgd.run(problem, 0.1, 5, burn_in=10**9, num_chains=8, max_seconds=0.1)
    assert caught[0].filename == __file__
    assert result.num_steps == 0
    assert np.isnan(result.mean).all()
    assert np.isfinite(result.last).all()
    left = result.state.burn_in_left
    assert left == 10**9 - result.state.next_step > 0
    result.save(tmp_path / "run.npz")
    loaded = sgd.SGDResult.load(tmp_path / "run.npz")
    assert loaded.state.burn_in_left == left
    assert np.isnan(loaded.mean).all()


def test_going_on_within_the_burn_in() -> None:
    problem = sgd.Cosine(1.0, 1.0, 2)
    with pytest.warns(RuntimeWarning, match="time was up during the burn-in"):
        first = sgd.run(problem, 0.1, 30, burn_in=70, num_chains=3, max_seconds=0.0)
    assert first.state.burn_in_left == 70
    second = sgd.run(problem, 0.1, 30, state=first.state)
    expected = sgd.run(problem, 0.1, 30, burn_in=70, num_chains=3)
    assert_same(second, expected, ARRAYS)


def test_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    problem = sgd.Cosine(1.0, 1.0, 2)
    quiet = sgd.run(problem, 0.1, 3000, num_chains=9)
    assert capsys.readouterr() == ("", "")
    shown = sgd.run(problem, 0.1, 3000, num_chains=9, progress=True)
    output = capsys.readouterr()
    assert output.out == ""
    assert "sgd cosine" in output.err
    assert "6.00k/6.00k" in output.err
    assert "100%" in output.err
    assert_same(shown, quiet, ARRAYS)
