"""Every argument of `sgd.run` wrong in every way: what is raised, and that nothing changed."""

from __future__ import annotations

import re
from concurrent import futures
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops import sgd

Bad = tuple[str, Any, type[Exception], str]


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


class Device:
    """An array on a GPU (2) or on a kind of device that nothing here works on (8)."""

    dtype, shape = np.dtype(np.float64), (4, 2, 3)

    def __init__(self, code: int) -> None:
        self.code = code

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.code, 0

    def __dlpack__(self, **kwargs: Any) -> Any:
        raise AssertionError("nothing may be imported from it")


def frozen(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.flags.writeable = False
    return array


REAL = "be an array of real numbers, got"
RAGGED = "be a rectangular array of real numbers, got a list of length 2 with ragged rows"
PROBLEM = "be a problem such as sgd.Logistic(X, y), got"
SIZE = "be an integer >= 1"
NATURAL = "be an integer >= 0"
SEED = f"be an integer in [0, {2**64 - 1}]"
THREADS = "be an integer in [1, 1024]"
THETA0 = "have shape (d,), (C, d) or (C, J, d) with C = 4, J = 2, d = 3"
LAYOUT = "be C-contiguous and aligned, got an array"
METAL = "live in host memory or on a CUDA device, got an array on metal:0"
SECONDS = "be a finite number >= 0.0"

CASES: list[Bad] = [
    ("problem", None, TypeError, f"{PROBLEM} None"),
    ("problem", sgd.Quadratic, TypeError, f"{PROBLEM} an abc.ABCMeta"),
    (
        "problem",
        np.ones(3),
        TypeError,
        f"{PROBLEM} a numpy.ndarray of shape (3,) and dtype float64",
    ),
    ("num_steps", 0, ValueError, f"{SIZE}, got 0"),
    ("num_steps", -1, ValueError, f"{SIZE}, got -1"),
    ("num_steps", 10.0, TypeError, f"{SIZE}, got 10.0"),
    ("num_steps", True, TypeError, f"{SIZE}, got True"),
    ("num_steps", None, TypeError, f"{SIZE}, got None"),
    ("num_steps", "10", TypeError, f"{SIZE}, got '10'"),
    ("num_steps", [10], TypeError, f"{SIZE}, got a list of length 1"),
    ("num_steps", np.nan, TypeError, f"{SIZE}, got nan"),
    ("num_steps", 2**70, OverflowError, f"{SIZE} of at most 64 bits, got {2**70}"),
    ("burn_in", -1, ValueError, f"{NATURAL}, got -1"),
    ("burn_in", 1.5, TypeError, f"{NATURAL}, got 1.5"),
    ("burn_in", "0", TypeError, f"{NATURAL}, got '0'"),
    ("num_chains", 0, ValueError, f"{SIZE}, got 0"),
    ("num_chains", -4, ValueError, f"{SIZE}, got -4"),
    ("num_chains", 4.0, TypeError, f"{SIZE}, got 4.0"),
    ("num_chains", None, TypeError, f"{SIZE}, got None"),
    ("seed", -1, ValueError, f"{SEED}, got -1"),
    ("seed", 2**64, OverflowError, f"{SEED}, got {2**64}"),
    ("seed", 0.0, TypeError, f"{SEED}, got 0.0"),
    ("seed", None, TypeError, f"{SEED}, got None"),
    ("seed", np.random.default_rng(0), TypeError, f"{SEED}, got a numpy.Generator"),
    ("chain_offset", -1, ValueError, f"{NATURAL}, got -1"),
    ("chain_offset", 0.5, TypeError, f"{NATURAL}, got 0.5"),
    ("step_offset", -1, ValueError, f"{NATURAL}, got -1"),
    ("step_offset", "1", TypeError, f"{NATURAL}, got '1'"),
    ("dtype", "float16", TypeError, "be float32 or float64, got float16"),
    ("dtype", int, TypeError, "be float32 or float64, got int64"),
    ("dtype", "double malt", TypeError, "be float32 or float64, got 'double malt'"),
    ("dtype", 32, TypeError, "be float32 or float64, got 32"),
    ("theta0", "x", TypeError, f"{REAL} 'x'"),
    ("theta0", 1.0, ValueError, f"{THETA0}, got ()"),
    ("theta0", np.zeros(2), ValueError, f"{THETA0}, got (2,)"),
    ("theta0", np.zeros((3, 3)), ValueError, f"{THETA0}, got (3, 3)"),
    ("theta0", np.zeros((2, 4, 3)), ValueError, f"{THETA0}, got (2, 4, 3)"),
    ("theta0", [], ValueError, "not be empty, got shape (0,)"),
    ("theta0", [[1.0], [1.0, 2.0]], ValueError, RAGGED),
    ("theta0", [1.0, np.nan, 0.0], ValueError, "be finite, got nan at index (1,)"),
    ("theta0", [np.inf, 0.0, 0.0], ValueError, "be finite, got inf at index (0,)"),
    ("theta0", [0.0, -2e6, 0.0], ValueError, "stay within the divergence limit 1e+06, got 2e+06"),
    ("theta0", np.zeros(3, complex), TypeError, f"{REAL} dtype complex128"),
    ("theta0", np.zeros(3, bool), TypeError, f"{REAL} dtype bool"),
    (
        "theta0",
        np.zeros(3, np.float16),
        TypeError,
        "have dtype float32 or float64, got dtype float16",
    ),
    (
        "theta0",
        np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]),
        TypeError,
        f"{REAL} a numpy.MaskedArray of shape (3,) and dtype float64",
    ),
    ("checkpoints", 5, ValueError, "have shape (k,), got ()"),
    ("checkpoints", [], TypeError, "be an array of integers, got dtype float64"),
    ("checkpoints", np.zeros(0, int), ValueError, "not be empty, got shape (0,)"),
    ("checkpoints", [[1, 2]], ValueError, "have shape (k,), got (1, 2)"),
    ("checkpoints", [1.0, 2.0], TypeError, "be an array of integers, got dtype float64"),
    ("checkpoints", "12", TypeError, f"{REAL} '12'"),
    ("checkpoints", [0, 5], ValueError, "be positive, got 0 at index (0,)"),
    ("checkpoints", [5, -1], ValueError, "be positive, got -1 at index (1,)"),
    ("checkpoints", [5, 5], ValueError, "increase strictly, got [5, 5]"),
    ("checkpoints", [7, 5], ValueError, "increase strictly, got [7, 5]"),
    ("checkpoints", [5, 121], ValueError, "lie in [1, 120], got [5, 121]"),
    ("checkpoints", Device(8), TypeError, METAL),
    ("state", 3, TypeError, "be the `state` of a result of run, got 3"),
    ("state", "run.npz", TypeError, "be the `state` of a result of run, got 'run.npz'"),
    ("out", [[[0.0] * 3] * 2] * 4, TypeError, "be an array, got a list of length 4"),
    ("out", "here", TypeError, "be an array, got 'here'"),
    ("out", np.zeros((4, 3)), ValueError, "have shape (4, 2, 3), got (4, 3)"),
    ("out", np.zeros((4, 2, 3), np.float32), TypeError, "have dtype float64, got float32"),
    ("out", np.zeros((4, 2, 3), int), TypeError, "have dtype float64, got int64"),
    ("out", np.zeros((4, 2, 3), ">f8"), TypeError, "have dtype float64, got >f8"),
    ("out", frozen(np.zeros((4, 2, 3))), ValueError, "be writable, got a read-only array"),
    ("out", np.zeros((8, 2, 3))[::2], ValueError, f"{LAYOUT} with strides (96, 24, 8)"),
    (
        "out",
        np.asfortranarray(np.zeros((4, 2, 3))),
        ValueError,
        f"{LAYOUT} with strides (8, 32, 64)",
    ),
    (
        "out",
        np.zeros(24 * 8 + 1, np.uint8)[1:].view(float).reshape(4, 2, 3),
        ValueError,
        f"{LAYOUT} that is not aligned",
    ),
    ("backend", "jax", ValueError, "be one of 'cpp', 'cuda', 'numba', got 'jax'"),
    ("backend", 1, TypeError, "be one of 'cpp', 'cuda', 'numba', got 1"),
    ("num_threads", 0, ValueError, f"{THREADS}, got 0"),
    ("num_threads", -1, ValueError, f"{THREADS}, got -1"),
    ("num_threads", 4096, ValueError, f"{THREADS}, got 4096"),
    ("num_threads", 2.0, TypeError, f"{THREADS}, got 2.0"),
    ("progress", 1, TypeError, "be True or False, got 1"),
    ("progress", "yes", TypeError, "be True or False, got 'yes'"),
    ("progress", None, TypeError, "be True or False, got None"),
    ("max_seconds", -1.0, ValueError, f"{SECONDS}, got -1.0"),
    ("max_seconds", np.nan, ValueError, f"{SECONDS}, got nan"),
    ("max_seconds", np.inf, ValueError, f"{SECONDS}, got inf"),
    ("max_seconds", "1", TypeError, f"{SECONDS}, got '1'"),
    ("executor", 4, TypeError, "be a concurrent.futures.Executor, got 4"),
    ("executor", futures, TypeError, "be a concurrent.futures.Executor, got a module"),
    (
        "executor",
        futures.ThreadPoolExecutor,
        TypeError,
        "be a concurrent.futures.Executor, got a type",
    ),
]


def arguments() -> dict[str, Any]:
    return {
        "problem": sgd.Quadratic(np.array([1.0, 2.0, 0.5]), np.zeros(3)),
        "step_sizes": np.array([0.1, 0.2]),
        "num_steps": 120,
        "num_chains": 4,
        "theta0": np.full((4, 2, 3), 0.5),
        "out": np.full((4, 2, 3), 7.0),
    }


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad[0])
def test_wrong_argument(bad: Bad) -> None:
    argument, value, kind, text = bad
    given = arguments()
    if argument in ("dtype", "state"):
        del given["theta0"]
    given[argument] = value
    arrays = [array for array in given.values() if type(array) is np.ndarray]
    before = [array.tobytes() for array in arrays]
    with raises(kind, f"run: `{argument}` must {text}"):
        sgd.run(**given)
    assert [array.tobytes() for array in arrays] == before


def test_good_arguments_are_good() -> None:
    """The calls above fail for the one argument that is wrong."""
    given = arguments()
    result = sgd.run(**given)
    assert result.mean is given["out"]
    np.testing.assert_array_equal(given["theta0"], 0.5)


def test_unknown_and_missing_arguments() -> None:
    with pytest.raises(TypeError, match="missing"):
        sgd.run(sgd.Cosine(), 0.1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'steps'"):
        sgd.run(sgd.Cosine(), 0.1, 10, steps=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_precision_of_theta0_is_not_changed_silently(precision: Any) -> None:
    other = np.float64 if precision is np.float32 else np.float32
    names = np.dtype(precision).name, np.dtype(other).name
    with raises(TypeError, f"run: `theta0` must have dtype {names[1]}, got {names[0]}"):
        sgd.run(sgd.Cosine(), 0.1, 100, theta0=np.zeros(1, precision), dtype=other)


def test_overlaps_of_out() -> None:
    text = "run: `out` must not overlap `{}` in memory, got arrays that share memory"
    memory = np.zeros(64)
    out, shifted = memory[:24].reshape(4, 2, 3), memory[8:32].reshape(4, 2, 3)
    given = {**arguments(), "out": out, "theta0": shifted}
    with raises(ValueError, text.format("theta0")):
        sgd.run(**given)
    rows = np.ones((8, 3))
    problem = sgd.LeastSquares(rows, np.ones(8), 0.1)
    with raises(ValueError, text.format("X")):
        sgd.run(problem, [0.01, 0.02], 600, num_chains=4, out=rows.reshape(4, 2, 3))
    targets = np.ones(24)
    problem = sgd.LeastSquares(np.ones((24, 3)), targets, 0.1)
    with raises(ValueError, text.format("y")):
        sgd.run(problem, [0.01, 0.02], 600, num_chains=4, out=targets.reshape(4, 2, 3))
    data = np.zeros((4, 2, 3))
    custom = sgd.Custom(lambda *_: None, 3, data)
    with raises(ValueError, text.format("data")):
        sgd.run(custom, [0.01, 0.02], 6, num_chains=4, out=data)
    state = sgd.run(**arguments()).state
    for name in ("sums", "theta"):
        with raises(ValueError, text.format(f"state.arrays.{name}")):
            sgd.run(
                arguments()["problem"], [0.1, 0.2], 9, state=state, out=getattr(state.arrays, name)
            )
    assert not memory.any()
    assert (rows == 1).all()


def test_arrays_on_unknown_devices() -> None:
    given = arguments()
    for name in ("theta0", "out"):
        with raises(TypeError, f"run: `{name}` must {METAL}"):
            sgd.run(given["problem"], 0.1, 60, **{name: Device(8)})  # type: ignore[arg-type]
    with raises(
        TypeError, "run: `theta0` and `out` must live on the same device, got metal:0 and cpu"
    ):
        sgd.run(**{**given, "theta0": Device(8)})


def test_arrays_on_different_devices() -> None:
    with raises(
        TypeError, "run: `theta0` and `out` must live on the same device, got cpu and cuda:0"
    ):
        sgd.run(**{**arguments(), "out": Device(2)})
    problem = sgd.LeastSquares(np.ones((5, 3)), np.ones(5), 0.1)
    for name in ("theta0", "out"):
        with raises(
            TypeError,
            f"run: `problem` and `{name}` must live on the same device, got cpu and cuda:0",
        ):
            sgd.run(problem, 0.1, 60, **{name: Device(2)})  # type: ignore[arg-type]
    with raises(TypeError, "run: `backend` must be 'cuda' for CUDA arrays, got 'cpp'"):
        sgd.run(sgd.Cosine(dim=3), 0.1, 60, out=Device(2), backend="cpp")
    with raises(
        TypeError, "run: `backend` must be 'cpp' or 'numba' for arrays in host memory, got 'cuda'"
    ):
        sgd.run(problem, 0.1, 60, backend="cuda")


def test_backend_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from hotloops._runtime import dispatch

    monkeypatch.setitem(dispatch._modules, "hotloops._core", "blocked by the test")
    with raises(hotloops.BackendUnavailable, "backend 'cpp' is not available: blocked by the test"):
        sgd.run(sgd.Cosine(), 0.1, 100, backend="cpp")
    monkeypatch.setitem(dispatch._modules, "numba", "blocked too")
    with raises(hotloops.BackendUnavailable, "backend 'numba' is not available: blocked too"):
        sgd.run(sgd.Cosine(), 0.1, 100, backend="numba")
    text = (
        "backend 'cpp' is not available: blocked by the test; "
        "backend 'numba' is not available: blocked too"
    )
    with raises(hotloops.BackendUnavailable, text):
        sgd.run(sgd.Cosine(), 0.1, 100)


def test_options_that_executors_exclude() -> None:
    with (
        futures.ThreadPoolExecutor(1) as pool,
        raises(
            ValueError,
            "run: `max_seconds` must be None when `executor` is given (its parts would stop at "
            "different steps), got 1.0",
        ),
    ):
        sgd.run(sgd.Cosine(), 0.1, 100, executor=pool, max_seconds=1.0)

    class Client:
        def get_executor(self) -> None: ...

    with pytest.raises(TypeError, match=r"\(pass `\.get_executor\(\)` of a dask client\), got"):
        sgd.run(sgd.Cosine(), 0.1, 100, executor=Client())  # type: ignore[arg-type]
