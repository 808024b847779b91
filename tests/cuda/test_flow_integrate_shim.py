"""Integration of networks with arrays of a GPU, over the shim, against the C++ backend."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops import flow, nn
from hotloops.flow import _cuda_integrate
from tests.cuda.test_nn_shim import both_types

ROWS, DIM = 21, 4
TOLERANCE = {"float32": 2e-5, "float64": 1e-11}


def network(dtype: str = "float64", sizes: bool = False) -> flow.VelocityNetwork:
    """Return a network whose attributes and sizes matter."""
    made = flow.VelocityNetwork(
        DIM,
        hidden=9,
        embed=8,
        blocks=2,
        attributes={"type": 3, "batch": 2},
        size_range=[(0.0, 4.0)] if sizes else None,
        dtype=dtype,
        seed=4,
    )
    rng = np.random.default_rng(5)
    made.flat_parameters[:] = 0.4 * rng.normal(size=made.num_parameters)
    # Step sizes over its thousand radians would make much of the last bits, as tight ones do.
    made.parameters["time_embedder.0.weight"][...] *= 1e-4
    return made


def start(dtype: str = "float64", rows: int = ROWS) -> Any:
    return np.random.default_rng(6).normal(size=(rows, DIM)).astype(dtype)


def labels() -> dict[str, Any]:
    rng = np.random.default_rng(7)
    return {"type": rng.integers(-1, 3, ROWS), "batch": 1}


def compare(cuda: Any, velocity: Any, dtype: str = "float64", **options: Any) -> None:
    """Check states, kept states and counts against the C++ backend."""
    x0 = start(dtype)
    expected = flow.integrate(velocity, x0, full_output=True, backend="cpp", **options)
    found = flow.integrate(velocity, cuda.asarray(x0), full_output=True, **options)
    assert isinstance(found.x, cuda.ndarray)
    assert isinstance(found.trajectory, cuda.ndarray)
    for name in ("x", "trajectory"):
        a, b = getattr(found, name), getattr(expected, name)
        tolerance = TOLERANCE[dtype] * (1 if "steps" in options else 100)
        np.testing.assert_allclose(np.asarray(a), b, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(found.times, expected.times)
    np.testing.assert_array_equal(found.t, expected.t)
    if dtype == "float64" or "steps" in options:
        for name in ("evaluations", "accepted", "rejected"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


GUIDED: dict[str, Any] = {
    "plain": {},
    "labels": {"labels": labels()},
    "one weight": {"labels": labels(), "weights": 2.5},
    "weights": {"labels": labels(), "weights": {"type": 2.0, "batch": np.linspace(0, 2, ROWS)}},
}


@both_types
@pytest.mark.parametrize("guidance", sorted(GUIDED))
@pytest.mark.parametrize("method", ["euler", "midpoint", "heun", "rk4", "dopri5"])
def test_fixed_steps(cuda: Any, dtype: str, method: str, guidance: str) -> None:
    compare(cuda, network(dtype), dtype, method=method, steps=5, **GUIDED[guidance])


@pytest.mark.parametrize("guidance", sorted(GUIDED))
@pytest.mark.parametrize("control", ["row", "batch"])
def test_adaptive_steps(cuda: Any, control: str, guidance: str) -> None:
    compare(cuda, network(), step_control=control, **GUIDED[guidance])


def test_adaptive_steps_in_single_precision(cuda: Any) -> None:
    compare(cuda, network("float32"), "float32", rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("options", [{"steps": 4, "method": "rk4"}, {}, {"step_control": "batch"}])
def test_kept_times(cuda: Any, options: dict[str, Any], backwards: bool) -> None:
    times = np.array([0.0, 0.1, 0.5, 0.77, 1.0])
    ends = {"t0": 1.0, "t1": 0.0} if backwards else {}
    compare(cuda, network(), t_eval=times[::-1] if backwards else times, **ends, **options)


def test_sizes_and_inputs(cuda: Any) -> None:
    sizes = np.linspace(1.0, 3.0, ROWS)
    compare(cuda, network(sizes=True), steps=3, log_size=sizes, **GUIDED["weights"])
    x0 = cuda.asarray(start())
    options = {"steps": 3, "method": "rk4"}
    here = flow.integrate(network(sizes=True), x0, log_size=sizes, **options)
    there = flow.integrate(network(sizes=True), x0, log_size=cuda.asarray(sizes), **options)
    np.testing.assert_array_equal(here, there)
    b = nn.ProgramBuilder()
    z, t, more = b.input(DIM), b.input(1), b.input(2)
    h = b.dense(more, 6, addend=b.dense(t, 6, addend=b.dense(z, 6, name="z"), name="t"), name="m")
    plain = nn.Network(b.finish([b.dense(h, DIM, name="last")]), dtype="float64", seed=1)
    extra = np.random.default_rng(8).normal(size=(ROWS, 2))
    expected = flow.integrate(plain, start(), inputs=[extra], **options)
    for value in (extra, cuda.asarray(extra)):
        found = flow.integrate(plain, x0, inputs=[value], **options)
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-12)


def test_blocks_of_rows(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cuda_integrate, "_MOST_ROWS", 12)
    for options in ({"steps": 3}, {}, {"step_control": "batch"}):
        compare(cuda, network(), **options, **GUIDED["weights"])


def test_watched_runs_and_out(cuda: Any) -> None:
    velocity, x0 = network(), cuda.asarray(start())
    for options in ({"steps": 7, "method": "heun"}, {}):
        expected = flow.integrate(velocity, x0, **options)
        watched = flow.integrate(velocity, x0, full_output=True, max_seconds=1e9, **options)
        assert watched.complete
        np.testing.assert_array_equal(watched.x, expected)
        out = cuda.empty(x0.shape)
        assert flow.integrate(velocity, x0, out=out, **options) is out
        np.testing.assert_array_equal(out, expected)
    assert flow.integrate(velocity, cuda.empty((0, DIM)), steps=2).shape == (0, DIM)


def test_one_evaluation(cuda: Any) -> None:
    velocity, z = network(), start()
    for t in (0.3, np.linspace(0, 1, ROWS)):
        for options in GUIDED.values():
            expected = velocity.velocity(z, t, **options)
            found = velocity.velocity(cuda.asarray(z), t, **options)
            assert isinstance(found, cuda.ndarray)
            np.testing.assert_allclose(np.asarray(found), expected, atol=1e-12)


def capturing_stream(cuda: Any, fails: bool) -> Any:
    """Return a class of streams that capture; nothing of what the stand-in runs is undone."""

    class Stream(cuda.cuda.Stream):
        captured, launched = 0, 0

        def __init__(self, ptr: int = 7, non_blocking: bool = False) -> None:
            super().__init__(ptr)

        def synchronize(self) -> None:
            pass

        def begin_capture(self) -> None:
            Stream.captured += 1

        def end_capture(self) -> Any:
            if fails:
                raise RuntimeError("cudaErrorStreamCaptureUnsupported")
            return types.SimpleNamespace(launch=Stream.launch)

        @staticmethod
        def launch() -> None:
            Stream.launched += 1

    return Stream


@pytest.mark.parametrize("fails", [False, True])
def test_capture(cuda: Any, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    velocity, x0 = network(), cuda.asarray(start())
    stream = capturing_stream(cuda, fails)
    made: list[int] = []
    make = _cuda_integrate._Step.make

    def recorded(step: Any, place: Any) -> None:
        made.append(place.stream)
        if place.stream != 7:  # a capture runs nothing
            make(step, place)

    expected = flow.integrate(velocity, x0, steps=6)
    monkeypatch.setattr(_cuda_integrate._Step, "make", recorded)
    monkeypatch.setattr(cuda.cuda, "Stream", stream)
    monkeypatch.setattr(cuda.cuda, "get_current_stream", lambda: stream(cuda.cuda.Stream.current))
    found = flow.integrate(velocity, x0, steps=6)
    assert stream.captured == 1
    assert made.count(7) == 1
    if fails:
        assert len(made) == 7
        np.testing.assert_array_equal(found, expected)
    else:
        assert len(made) == 2
        assert stream.launched == 5


def test_errors(cuda: Any) -> None:
    velocity, x0 = network(), cuda.asarray(start())
    with pytest.raises(
        TypeError, match=r"^integrate: `backend` must be 'cuda' for CUDA arrays, got 'cpp'$"
    ):
        flow.integrate(velocity, x0, backend="cpp")
    with pytest.raises(TypeError, match=r"^integrate: `x0` must live in host memory, got an array"):
        flow.integrate(lambda z, t: -z, x0)
    with pytest.raises(TypeError, match=r"^integrate: `out` must live on cuda:0 like `x0`, got an"):
        flow.integrate(velocity, x0, out=np.empty((ROWS, DIM)))
    with pytest.raises(TypeError, match=r"^integrate: `out` must live on cpu like `x0`, got an"):
        flow.integrate(velocity, start(), out=cuda.empty((ROWS, DIM)))
    with pytest.raises(TypeError, match=r"`x0` must have dtype float64 like `velocity`, got float"):
        flow.integrate(velocity, x0.astype("float32"))
    with pytest.raises(ValueError, match=r"^integrate: `labels\['type'\]` must be codes from 0 to"):
        flow.integrate(velocity, x0, labels={"type": cuda.asarray(np.full(ROWS, 3))})
    bad = start()
    bad[5, 1] = np.nan
    with pytest.raises(hotloops.NumericalError, match=r"`x0` must be finite, got .* in row 5"):
        flow.integrate(velocity, cuda.asarray(bad))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_failures(cuda: Any) -> None:
    velocity, x0 = network(), cuda.asarray(start())
    for control in ("row", "batch"):
        with pytest.raises(hotloops.NumericalError, match="needs more than 2 steps"):
            flow.integrate(velocity, x0, max_steps=2, rtol=1e-9, atol=1e-9, step_control=control)
    velocity.flat_parameters[:] = 1e200
    for options in ({"steps": 2}, {}, {"step_control": "batch"}):
        with pytest.raises(hotloops.NumericalError, match=r"row \d+ left the finite numbers"):
            flow.integrate(velocity, x0, **options)
