"""Gradients of the user's, in every form that `Custom` takes."""

from __future__ import annotations

import ctypes
import pickle
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent import futures
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from numba import types
from scipy import LowLevelCallable

from hotloops import random, sgd

DIM = 3
CURVATURE = np.array([1.0, 2.0, 0.5])
MINIMIZER = np.array([0.5, -1.0, 2.0])
SCALE = np.array([1.0, 0.3, 2.0])
STEPS = [0.1, 0.2]


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


def parameters(dtype: Any) -> npt.NDArray[Any]:
    return np.stack([CURVATURE, MINIMIZER, SCALE]).astype(dtype)


def signature(dtype: Any) -> Any:
    real = numba.from_dtype(np.dtype(dtype))
    pointer = types.CPointer(real)
    return types.int32(pointer, pointer, types.int64, types.voidptr, pointer)


def compiled(dtype: Any) -> Any:
    """A @cfunc with the order of operations of the built-in quadratic."""
    kind = np.dtype(dtype)

    @numba.cfunc(signature(dtype))  # type: ignore[untyped-decorator]
    def grad(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
        p = numba.carray(data, (3, 3), kind)
        for i in range(3):
            out[i] = p[0, i] * (theta[i] - p[1, i]) + p[2, i] * noise[i]
        return 0

    return grad


@numba.njit  # type: ignore[untyped-decorator]
def jitted(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
    for i in range(theta.size):
        out[i] = data[0, i] * (theta[i] - data[1, i]) + data[2, i] * noise[i]


def writing(theta: Any, noise: Any, step: int, data: Any, out: Any) -> None:
    out[...] = data[0] * (theta - data[1]) + data[2] * noise


def returning(theta: Any, noise: Any, step: int, data: Any, out: Any) -> Any:
    return data[0] * (theta - data[1]) + data[2] * noise


C_SOURCE = """
#include <stdint.h>
int32_t grad(const T* theta, const T* noise, int64_t step, const void* data, T* out) {
    const T* p = (const T*)data;
    for (int i = 0; i < 3; ++i) out[i] = p[i] * (theta[i] - p[3 + i]) + p[6 + i] * noise[i];
    return 0;
}
"""


@pytest.fixture(scope="session")
def from_c(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Any]:
    """Functions of a shared library that a C compiler made."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("gradient")

    def build(dtype: Any) -> Any:
        real = {"float32": "float", "float64": "double"}[np.dtype(dtype).name]
        source, library = folder / f"{real}.c", folder / f"{real}.so"
        if not library.exists():
            source.write_text(f"#define T {real}\n{C_SOURCE}")
            flags = ["-O2", "-ffp-contract=off", "-shared", "-fPIC"]
            subprocess.run([compiler, *flags, "-o", library, source], check=True)
        function = ctypes.CDLL(str(library)).grad
        pointer = ctypes.POINTER({"float": ctypes.c_float, "double": ctypes.c_double}[real])
        function.argtypes = [pointer, pointer, ctypes.c_int64, ctypes.c_void_p, pointer]
        function.restype = ctypes.c_int32
        return function

    return build


def run(problem: sgd.Problem, dtype: Any, **options: Any) -> sgd.SGDResult:
    options = {"num_chains": 21, "seed": 5, "burn_in": 100, "chain_offset": 3, **options}
    return sgd.run(problem, STEPS, 70, dtype=dtype, checkpoints=[1, 33], **options)


def assert_same(found: sgd.SGDResult, expected: sgd.SGDResult) -> None:
    for name in ("mean", "last", "flags", "diverged_at", "checkpoint_mean", "checkpoint_last"):
        left, right = getattr(found, name), getattr(expected, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right, err_msg=name)


FORMS = ["cfunc", "address", "ctypes", "lowlevel", "c", "c lowlevel", "njit", "out", "return"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_bits_of_the_built_in(
    form: str, dtype: str, from_c: Callable[[Any], Any]
) -> None:
    forms: dict[str, Callable[[], Any]] = {
        "cfunc": lambda: compiled(dtype),
        "address": lambda: compiled(dtype).address,
        "ctypes": lambda: compiled(dtype).ctypes,
        "lowlevel": lambda: LowLevelCallable(compiled(dtype).ctypes),
        "c": lambda: from_c(dtype),
        "c lowlevel": lambda: LowLevelCallable(from_c(dtype)),
        "njit": lambda: jitted,
        "out": lambda: writing,
        "return": lambda: returning,
    }
    known = dtype if form == "address" else None  # a number does not tell its precision
    problem = sgd.Custom(forms[form](), DIM, parameters(dtype), dtype=known)
    built_in = sgd.Quadratic(CURVATURE, MINIMIZER, SCALE)
    if form not in ("njit", "out", "return"):
        assert problem.dtype == dtype
        assert problem.kind == "address"
    assert_same(run(problem, dtype), run(built_in, dtype))


@pytest.mark.parametrize("form", ["cfunc", "njit", "out"])
def test_threads_chunks_and_resuming(form: str) -> None:
    grad = {"cfunc": lambda: compiled("float64"), "njit": lambda: jitted, "out": lambda: writing}
    problem = sgd.Custom(grad[form](), DIM, parameters("float64"))
    expected = run(problem, "float64", num_threads=1)
    for threads in (2, 5):
        assert_same(run(problem, "float64", num_threads=threads), expected)
    state = sgd.run(problem, STEPS, 30, num_chains=21, seed=5, burn_in=100, chain_offset=3).state
    again = sgd.run(problem, STEPS, 40, state=state)
    np.testing.assert_array_equal(again.mean, expected.mean)
    np.testing.assert_array_equal(again.last, expected.last)


@numba.njit  # type: ignore[untyped-decorator]
def weighted_noise(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(noise.size):
        total += (i + 1) * noise[i]
    out[0] = -total
    out[1] = -np.float64(step)


@numba.cfunc(signature("float64"))  # type: ignore[untyped-decorator]
def native_weighted_noise(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(numba.carray(data, (1,), np.int64)[0]):
        total += (i + 1) * noise[i]
    out[0] = -total
    out[1] = -np.float64(step)
    return 0


@pytest.mark.parametrize("form", ["cfunc", "njit", "callable"])
@pytest.mark.parametrize(("normals", "uniforms"), [(0, 0), (0, 5), (3, 0), (6, 2), (1, 9)])
def test_noise(form: str, normals: int, uniforms: int) -> None:
    """Normals, then uniforms, each from its own stream; sums of powers tell them apart."""
    width = normals + uniforms
    shapes = []

    def plain(theta: Any, noise: Any, step: int, data: Any, out: Any) -> None:
        shapes.append((theta.shape, noise.shape, out.shape))
        out[:, 0] = 0.0
        for i in range(noise.shape[1]):
            out[:, 0] -= (i + 1) * noise[:, i]
        out[:, 1] = -step

    grad = {"cfunc": native_weighted_noise, "njit": weighted_noise, "callable": plain}[form]
    data = np.array([width])
    problem = sgd.Custom(grad, 2, data, num_normals=normals, num_uniforms=uniforms)
    found = sgd.run(
        problem, 1.0, 3, burn_in=2, num_chains=7, chain_offset=9, step_offset=4, seed=31
    )
    chains, steps = range(9, 16), range(4, 9)
    drawn = np.zeros((5, 7, 0))
    if normals:
        drawn = random.normals(31, steps, chains, normals)
    if uniforms:
        more = random.uniforms(31, steps, chains, uniforms, 2)
        drawn = np.concatenate([drawn, more], axis=2)
    expected = (drawn * np.arange(1, width + 1)).sum(axis=(0, 2))
    np.testing.assert_allclose(found.last[:, 0, 0], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found.last[:, 0, 1], sum(steps))
    if form == "callable":
        assert set(shapes) == {((7, 2), (7, width), (7, 2))}


def test_returned_status_stops_the_run() -> None:
    """The message names status and chain; the caller's arrays are as before."""

    @numba.cfunc(signature("float64"))  # type: ignore[untyped-decorator]
    def failing(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
        out[0] = 0.0
        return 42 if theta[0] > 6.5 and step >= 3 else 0

    problem = sgd.Custom(failing, 1)
    theta0, out = np.arange(10.0)[:, None], np.full((10, 1, 1), 3.0)
    before = theta0.tobytes(), out.tobytes()
    for threads in (1, 2):
        with pytest.raises(RuntimeError, match="returned 42 at index 7"):
            sgd.run(problem, 0.1, 50, num_chains=10, theta0=theta0, out=out, num_threads=threads)
    assert (theta0.tobytes(), out.tobytes()) == before
    fine = sgd.run(problem, 0.1, 1, burn_in=2, num_chains=10, theta0=theta0)
    np.testing.assert_array_equal(fine.last[:, 0], theta0)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_exception_in_a_callable(kind: type[BaseException]) -> None:
    calls = []

    def failing(theta: Any, noise: Any, step: int, data: Any, out: Any) -> None:
        calls.append(step)
        out[...] = theta
        if step == 5:
            raise kind("from the gradient")

    problem = sgd.Custom(failing, 2)
    first = sgd.run(sgd.Custom(writing, 2, np.ones((3, 2))), 0.1, 2, num_chains=4)
    theta0, out = np.ones((4, 2)), np.full((4, 1, 2), 3.0)
    held = (theta0, out, first.last, first.mean)
    before = [array.tobytes() for array in held]
    with pytest.raises(kind, match="from the gradient"):
        sgd.run(problem, 0.1, 50, num_chains=4, theta0=theta0, out=out)
    assert max(calls) == 5
    assert first.state.next_step < 5
    with pytest.raises(kind, match="from the gradient"):
        sgd.run(problem, 0.1, 50, state=first.state, out=out)
    assert [array.tobytes() for array in held] == before


def test_callable_cannot_change_the_state() -> None:
    def rude(theta: Any, noise: Any, step: int, data: Any, out: Any) -> None:
        out[...] = theta
        theta[...] = np.nan

    found = sgd.run(sgd.Custom(rude, 2), 0.5, 2, burn_in=0, theta0=[1.0, 2.0])
    np.testing.assert_array_equal(found.last[0, 0], [0.25, 0.5])


@pytest.mark.parametrize("bad", [np.zeros(2), np.zeros((4, 3)), 0.0, np.zeros((2, 4))])
def test_callable_that_returns_another_shape(bad: Any) -> None:
    shape = np.shape(bad)
    text = (
        f"Custom: `grad` must return None or gradients of shape (chains, dim) = (4, 2), got {shape}"
    )
    with raises(ValueError, text):
        sgd.run(sgd.Custom(lambda *_: bad, 2), 0.1, 3, num_chains=4)


@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
def test_callable_that_writes_nothing_diverges_at_once() -> None:
    found = sgd.run(sgd.Custom(lambda *_: None, 2), 0.1, 3, num_chains=4, theta0=[1.0, 2.0])
    assert found.flags.all()
    assert (found.diverged_at == 0).all()
    np.testing.assert_array_equal(found.last, np.broadcast_to([1.0, 2.0], (4, 1, 2)))


def test_data_is_handed_over_as_it_is() -> None:
    given: list[Any] = []

    def looking(theta: Any, noise: Any, step: int, data: Any, out: Any) -> None:
        given.append(data)
        out[...] = 0.0

    data = np.arange(6, dtype=np.int16)
    sgd.run(sgd.Custom(looking, 1, data), 0.1, 1)
    assert given[0] is data
    sgd.run(sgd.Custom(looking, 1), 0.1, 1)
    assert given[-1] is None
    record = np.zeros(3, [("a", "f8"), ("b", "i4")])
    sgd.run(sgd.Custom(looking, 1, record), 0.1, 1)
    assert given[-1].dtype == record.dtype


@pytest.mark.parametrize("threads", [1, 3])
def test_diverging_gradient(threads: int) -> None:
    """Flags, steps and frozen iterates of the compiled and the slow path agree with the rule."""

    @numba.cfunc(signature("float64"))  # type: ignore[untyped-decorator]
    def native(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
        out[0] = -9.0 * theta[0]
        return 0

    theta0 = 10.0 ** np.arange(-8, 4)[:, None]
    expected_steps = [int(np.ceil(6 - k - 1e-9)) for k in range(-8, 4)]
    for grad in (native, lambda theta, noise, step, data, out: -9.0 * theta):
        problem = sgd.Custom(grad, 1)
        with pytest.warns(Warning, match="12 of 12 chains diverged"):
            found = sgd.run(
                problem, 1.0, 20, burn_in=0, num_chains=12, theta0=theta0, num_threads=threads
            )
        assert found.diverged_at[:, 0].tolist() == pytest.approx(expected_steps, abs=1)
        assert (np.abs(found.last) <= 1e6).all()
        assert (np.abs(found.last) * 10 > 1e6 * 0.999).all()


@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
@pytest.mark.parametrize("form", ["cfunc", "njit", "callable"])
def test_frozen_chain_stays_frozen(form: str) -> None:
    """One bad step of some chains; all later steps would be in range again."""

    @numba.cfunc(signature("float64"))  # type: ignore[untyped-decorator]
    def native(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
        out[0] = 1e9 if step == 3 and theta[0] > 4.5 else 1.0
        return 0

    @numba.njit  # type: ignore[untyped-decorator]
    def jitted(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
        out[0] = 1e9 if step == 3 and theta[0] > 4.5 else 1.0

    def plain(theta: Any, noise: Any, step: int, data: Any, out: Any) -> None:
        out[...] = np.where((step == 3) & (theta > 4.5), 1e9, 1.0)

    grad = {"cfunc": native, "njit": jitted, "callable": plain}[form]
    theta0 = np.arange(12.0)[:, None]
    found = sgd.run(
        sgd.Custom(grad, 1, divergence_limit=100.0),
        0.25,
        8,
        burn_in=2,
        num_chains=12,
        theta0=theta0,
    )
    thrown = theta0[:, 0] - 0.75 > 4.5
    np.testing.assert_array_equal(found.flags[:, 0], thrown)
    np.testing.assert_array_equal(found.diverged_at[:, 0], np.where(thrown, 3, -1))
    expected = theta0[:, 0] - np.where(thrown, 0.75, 2.5)
    np.testing.assert_array_equal(found.last[:, 0, 0], expected)


def test_compiled_gradient_cannot_travel() -> None:
    problem = sgd.Custom(compiled("float64"), DIM, parameters("float64"))
    with raises(
        TypeError,
        "Custom: a compiled `grad` cannot be sent to another process, where its address means "
        "something else; use an @njit function or a module-level callable",
    ):
        pickle.dumps(problem)
    with futures.ThreadPoolExecutor(2) as pool:
        spread = run(problem, "float64", executor=pool)
    assert_same(spread, run(problem, "float64"))


def test_njit_gradient_calls_helpers() -> None:
    """An @njit gradient may call other functions and close over arrays."""
    table = np.array([1.0, 2.0])

    @numba.njit  # type: ignore[untyped-decorator]
    def helper(x):  # type: ignore[no-untyped-def]
        return x * 0.5

    @numba.njit  # type: ignore[untyped-decorator]
    def grad(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
        for i in range(2):
            out[i] = helper(theta[i]) - table[i] + noise[i]

    found = sgd.run(sgd.Custom(grad, 2), 0.1, 50, num_chains=6, seed=1)
    expected = sgd.run(
        sgd.Custom(lambda t, n, s, d, o: t * 0.5 - table + n, 2), 0.1, 50, num_chains=6, seed=1
    )
    np.testing.assert_array_equal(found.last, expected.last)
