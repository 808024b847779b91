"""Invariants of integrate: rows, threads, kinds of velocities, times, precision, results."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from scipy import LowLevelCallable

from hotloops import flow
from tests.flow.fields import gaussian, mixture

METHODS = ("euler", "midpoint", "heun", "rk4", "dopri5")
SETTINGS: tuple[dict[str, Any], ...] = (
    {"method": "rk4", "steps": 7},
    {},
    {"rtol": 1e-7, "atol": 1e-8},
)


@numba.njit  # type: ignore[untyped-decorator]
def swirl(z: Any, t: Any, labels: Any, data: Any, out: Any) -> None:
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            other = z[i, (j + 1) % z.shape[1]]
            out[i, j] = -z[i, j] * t[i] + np.sin(3.0 * other) + data[j]


@numba.cfunc(  # type: ignore[untyped-decorator]
    "void(int64, int64, CPointer(float64), CPointer(float64), CPointer(int64), CPointer(float64), "
    "voidptr)"
)
def swirl_c(n: int, d: int, z: Any, t: Any, labels: Any, out: Any, data: Any) -> None:
    shift = numba.carray(data, d, np.float64)
    for i in range(n):
        for j in range(d):
            out[i * d + j] = -z[i * d + j] * t[i] + np.sin(3.0 * z[i * d + (j + 1) % d]) + shift[j]


SHIFT = np.array([0.1, -0.2, 0.3])


def swirl_python(z: Any, t: Any) -> Any:
    out = np.empty_like(z)
    swirl.py_func(z, t, None, SHIFT, out)
    return out


@pytest.fixture
def start() -> Any:
    return np.random.default_rng(3).normal(size=(150, 3))


def compiled(x0: Any, **options: Any) -> Any:
    return flow.integrate(swirl, x0, data=SHIFT, **options)


# --- rows, threads, kinds ------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_row_alone_is_that_row_of_the_batch(start: Any, settings: dict[str, Any]) -> None:
    whole = compiled(start, full_output=True, **settings)
    for row in (0, 63, 64, 149):
        alone = compiled(start[row : row + 1], full_output=True, **settings)
        assert np.array_equal(alone.x[0], whole.x[row])
        assert alone.evaluations[0] == whole.evaluations[row]


@pytest.mark.parametrize("settings", SETTINGS)
def test_threads_change_nothing(start: Any, settings: dict[str, Any], threads: int) -> None:
    one = compiled(start, num_threads=1, **settings)
    assert np.array_equal(compiled(start, num_threads=threads, **settings), one)


@pytest.mark.parametrize("settings", [*SETTINGS, {"step_control": "batch"}])
def test_callables_and_njit_have_the_same_bits(start: Any, settings: dict[str, Any]) -> None:
    few = start[:70]
    slow = flow.integrate(swirl_python, few, full_output=True, **settings)
    fast = compiled(few, full_output=True, **settings)
    assert np.allclose(slow.x, fast.x, rtol=0, atol=1e-13)  # NumPy's sine is not LLVM's
    assert np.array_equal(slow.evaluations, fast.evaluations)


def test_njit_functions_may_return(start: Any) -> None:
    @numba.njit  # type: ignore[untyped-decorator]
    def decay(z: Any, t: Any) -> Any:
        return -z * t.reshape(-1, 1)

    def plain(z: Any, t: Any) -> Any:
        return -z * t.reshape(-1, 1)

    for settings in ({"method": "heun", "steps": 5}, {}):
        expected = flow.integrate(plain, start, **settings)
        assert np.array_equal(flow.integrate(decay, start, **settings), expected)


def test_compiled_functions(start: Any, backend: str) -> None:
    expected = compiled(start)
    signature = "void (int64_t, int64_t, double *, double *, int64_t *, double *, void *)"
    double, integer = ctypes.POINTER(ctypes.c_double), ctypes.POINTER(ctypes.c_int64)
    typed = ctypes.CFUNCTYPE(
        None, ctypes.c_int64, ctypes.c_int64, double, double, integer, double, ctypes.c_void_p
    )(swirl_c.address)
    for velocity in (
        swirl_c,
        swirl_c.address,
        typed,
        LowLevelCallable(swirl_c.ctypes, signature=signature),
    ):
        got = flow.integrate(velocity, start, data=SHIFT, backend=backend)
        assert np.array_equal(got, expected)


def test_labels_reach_every_kind(start: Any) -> None:
    codes = np.arange(150) % 3

    def pulled(z: Any, t: Any, labels: Any) -> Any:
        return labels[:, :1] - z

    @numba.njit  # type: ignore[untyped-decorator]
    def pulled_fast(z: Any, t: Any, labels: Any, data: Any, out: Any) -> None:
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                out[i, j] = labels[i, 0] - z[i, j]

    expected = flow.integrate(pulled, start, labels=codes)
    assert np.allclose(expected, codes[:, None] + (start - codes[:, None]) / np.e, atol=1e-4)
    assert np.array_equal(flow.integrate(pulled_fast, start, labels={"pull": codes}), expected)
    weights = np.linspace(0.0, 3.0, 150)
    guided = flow.integrate(pulled, start, labels=codes, weights=weights)
    assert np.array_equal(flow.integrate(pulled_fast, start, labels=codes, weights=weights), guided)
    aim = -1.0 + weights * (codes + 1.0)  # the unconditional one aims at -1
    assert np.allclose(guided, aim[:, None] + (start - aim[:, None]) / np.e, atol=1e-4)


# --- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_two_halves_make_a_whole(start: Any, method: str) -> None:
    whole = compiled(start, method=method, steps=10)
    half = compiled(start, method=method, steps=5, t1=0.5)
    assert np.allclose(compiled(half, method=method, steps=5, t0=0.5), whole, rtol=0, atol=1e-14)


def test_there_and_back(start: Any) -> None:
    settings: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}
    there = compiled(start, **settings)
    back = compiled(there, t0=1.0, t1=0.0, **settings)
    assert np.abs(back - start).max() < 1e-7


@pytest.mark.parametrize("method", METHODS)
def test_fixed_steps_stop_at_the_times_of_their_grid(start: Any, method: str) -> None:
    path = compiled(start, method=method, steps=4, t_eval=[0.0, 0.25, 0.75, 1.0])
    assert path.shape == (4, 150, 3)
    assert np.array_equal(path[0], start)
    assert np.array_equal(path[-1], compiled(start, method=method, steps=4))
    one = compiled(start, method=method, steps=1, t1=0.25)
    assert np.allclose(path[1], one, rtol=0, atol=1e-15)


def test_fixed_steps_are_cut_at_other_times(start: Any) -> None:
    result = compiled(start, method="euler", steps=2, t_eval=[0.3], full_output=True)
    assert result.accepted.tolist() == [3] * 150
    assert np.array_equal(result.trajectory[0], compiled(start, method="euler", steps=1, t1=0.3))
    near = compiled(start, method="euler", steps=10, t_eval=[0.1 + 0.2], full_output=True)
    assert near.accepted.tolist() == [10] * 150


@pytest.mark.parametrize("control", ["row", "batch"])
@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.0)])
def test_adaptive_steps_are_interpolated(start: Any, control: str, t0: float, t1: float) -> None:
    times = np.linspace(t0, t1, 23)
    settings: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-8, "step_control": control}
    plain = compiled(start, t0=t0, t1=t1, full_output=True, **settings)
    path = compiled(start, t0=t0, t1=t1, t_eval=times, full_output=True, **settings)
    assert np.array_equal(path.x, plain.x)
    assert np.array_equal(path.evaluations, plain.evaluations)
    assert np.array_equal(path.trajectory[0], start)
    assert np.array_equal(path.trajectory[-1], plain.x)
    exact = compiled(start, t0=t0, t1=t1, t_eval=times, method="dopri5", steps=220)
    assert np.abs(path.trajectory - exact).max() < 1e-6


def test_start_and_end_may_be_anything() -> None:
    got = flow.integrate(lambda z, t: np.cos(t)[:, None], [[0.5]], t0=-2.0, t1=5.0)
    assert got[0, 0] == pytest.approx(0.5 + np.sin(5.0) - np.sin(-2.0), abs=1e-4)


# --- precision, libraries, results ---------------------------------------------------------------


@pytest.mark.parametrize("settings", [*SETTINGS[:2], {"step_control": "batch"}])
def test_single_precision(settings: dict[str, Any]) -> None:
    x0 = np.random.default_rng(0).normal(size=(20, 1))
    velocity = mixture((-2.0, 2.0), (0.3, 0.7), 0.5)

    def single(z: Any, t: Any) -> Any:
        assert z.dtype == t.dtype == np.float32
        return velocity(z.astype(np.float64), t.astype(np.float64)).astype(np.float32)

    got = flow.integrate(single, x0.astype(np.float32), **settings)
    assert got.dtype == np.float32
    assert np.allclose(got, flow.integrate(velocity, x0, **settings), atol=2e-4)


def test_zero_error_lets_steps_grow() -> None:
    result = flow.integrate(lambda z, t: np.zeros_like(z), [[0.0, 1.0]], full_output=True)
    assert result.x.tolist() == [[0.0, 1.0]]
    assert result.rejected.tolist() == [0]
    assert result.accepted[0] < 10


def test_no_rows() -> None:
    assert flow.integrate(gaussian(1.0, 1.0), np.zeros((0, 2))).shape == (0, 2)
    assert flow.integrate(swirl, np.zeros((0, 3)), data=SHIFT, t_eval=[0.5]).shape == (1, 0, 3)


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch")
    x0 = torch.ones((2, 1), dtype=torch.float64)
    got = flow.integrate(lambda z, t: -z, x0)
    assert isinstance(got, torch.Tensor)
    assert float(got[0, 0]) == pytest.approx(np.exp(-1.0), abs=1e-5)


def test_out(start: Any) -> None:
    out = np.zeros_like(start)
    assert compiled(start, out=out) is out
    assert np.array_equal(out, compiled(start))
    path = np.zeros((2, 150, 3))
    assert compiled(start, t_eval=[0.5, 1.0], out=path) is path
    assert np.array_equal(path[1], out)


def test_nothing_the_user_passed_changes(start: Any) -> None:
    before = start.copy()
    compiled(start)
    assert np.array_equal(start, before)


def test_the_whole_result(start: Any, tmp_path: Path) -> None:
    result = compiled(start, t_eval=[0.5], full_output=True)
    assert result.complete
    assert np.all(result.t == 1.0)
    assert np.array_equal(result.evaluations, 2 + 6 * (result.accepted + result.rejected))
    assert "150 rows of 3" in repr(result)
    result.save(tmp_path / "path.npz")
    again = flow.IntegrationResult.load(tmp_path / "path.npz")
    for name, value in result.to_dict().items():
        assert np.array_equal(value, again.to_dict()[name])
    with pytest.raises(ValueError, match="not a hotloops checkpoint"):
        flow.IntegrationResult.load(__file__)


@pytest.mark.parametrize("d", [1, 2])
def test_plot(d: int) -> None:
    pytest.importorskip("matplotlib")
    result = flow.integrate(
        lambda z, t: -z, np.ones((3, d)), t_eval=np.linspace(0, 1, 5), full_output=True
    )
    lines = result.plot().axes[0].lines
    assert len(lines) == 4
    assert lines[0].get_xydata().shape == (5, 2)


@pytest.mark.parametrize("settings", [*SETTINGS, {"step_control": "batch"}])
def test_a_watched_run_has_the_same_bits(start: Any, settings: dict[str, Any]) -> None:
    times = [0.0, 0.25, 0.5, 1.0]
    whole = compiled(start, t_eval=times, full_output=True, **settings)
    parts = compiled(start, t_eval=times, full_output=True, max_seconds=1e6, **settings)
    for name, value in whole.to_dict().items():
        assert np.array_equal(value, parts.to_dict()[name]), name


def test_out_of_time(start: Any) -> None:
    fixed = compiled(start, method="euler", steps=10, max_seconds=0.0, full_output=True)
    assert not fixed.complete
    assert np.all(fixed.t == 0.0)
    assert np.array_equal(fixed.x, start)
    rows = compiled(start, max_seconds=0.0, full_output=True, t_eval=[1.0])
    assert not rows.complete
    assert np.isnan(rows.trajectory).all()


def test_progress(start: Any, capsys: pytest.CaptureFixture[str]) -> None:
    compiled(start, progress=True)
    assert "150" in capsys.readouterr().err


def test_torchdiffeq_agrees() -> None:
    """The official code's solver controls the batch as one; it steps beyond the end and comes back
    by interpolation, we cut the last step."""
    torch = pytest.importorskip("torch")
    torchdiffeq = pytest.importorskip("torchdiffeq")
    velocity = gaussian(2.0, 0.5)
    x0 = np.random.default_rng(1).normal(size=(40, 3))
    calls = []

    def theirs(t: Any, z: Any) -> Any:
        calls.append(float(t))
        return torch.from_numpy(velocity(z.numpy(), np.full(len(z), float(t))))

    expected = torchdiffeq.odeint(
        theirs, torch.from_numpy(x0), torch.tensor([0.0, 1.0]), rtol=1e-5, atol=1e-5
    )[-1].numpy()
    ours = flow.integrate(velocity, x0, step_control="batch", full_output=True)
    assert np.allclose(ours.x, expected, rtol=0, atol=5e-5)
    assert abs(int(ours.evaluations[0]) - len(calls)) <= 6
