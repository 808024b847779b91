"""The twins' elementary functions: compiled, as NumPy, and against extended precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pytest

from hotloops._runtime import _numba_buffers as buffers
from hotloops._runtime import _numba_math as twin
from hotloops._runtime import _numba_packs as packs
from hotloops._runtime import dispatch

if TYPE_CHECKING:
    from conftest import RunPython

Array = npt.NDArray[Any]

DTYPES = ("float32", "float64")
COUNT = 1 << 17

extended = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="longdouble is no more than float64 here"
)


def sample(dtype: str) -> dict[str, Array]:
    """Arguments from the whole domain of each function."""
    generator = np.random.default_rng(5)
    single = dtype == "float32"
    words = generator.integers(0, 2**32, COUNT, dtype=np.uint64)
    words[:8] = [0, 1, 2**29, 2**30 - 1, 2**31 - 1, 2**31, 3 * 2**30, 2**32 - 1]
    widest = 80.0 if single else 700.0
    wide = generator.uniform(-widest, widest, COUNT)
    wide[: COUNT // 4] = generator.uniform(-1, 1, COUNT // 4)
    positive = np.exp(generator.uniform(-widest, widest, COUNT))
    positive[: COUNT // 4] = generator.uniform(0.6, 1.5, COUNT // 4)
    turns = generator.uniform(-0.5, 0.5, COUNT)
    turns[:3] = [-0.5, 0.0, 0.5]
    angles = generator.uniform(-100, 100, COUNT) * (1 if single else 10**4)
    angles[: COUNT // 4] = generator.uniform(-4, 4, COUNT // 4)
    reals = {"wide": wide, "positive": positive, "turns": turns, "angles": angles}
    return {
        "words": words.astype("uint32" if single else "uint64"),
        **{name: values.astype(dtype) for name, values in reals.items()},
    }


@numba.njit  # type: ignore[untyped-decorator]
def compiled(pool, out):  # type: ignore[no-untyped-def]
    """Evaluate every function on arrays, pack by pack, into the rows of `out`."""
    data, results = buffers.buffers(pool), buffers.buffers(out)
    for i in range(COUNT // buffers.lanes_of(data.wide)):
        buffers.store(results.log, i, twin.log_positive(buffers.load(data.positive, i)))
        buffers.store(results.exp, i, twin.exp_bounded(buffers.load(data.wide, i)))
        buffers.store(results.sigmoid, i, twin.sigmoid(buffers.load(data.wide, i)))
        buffers.store(results.sine, i, twin.sine(buffers.load(data.angles, i)))
        sine, cosine = twin.sincos_quarter(buffers.load(data.turns, i))
        buffers.store(results.sin_quarter, i, sine)
        buffers.store(results.cos_quarter, i, cosine)
        words = buffers.load(data.words, i)
        radius = buffers.load(data.positive, i)
        along, across = twin.polar_turns(radius, words)
        buffers.store(results.along, i, along)
        buffers.store(results.across, i, across)
        buffers.store(results.uniform, i, twin.uniform(words))
        buffers.store(results.magnitude, i, twin.magnitude(buffers.load(data.wide, i)))


def plain(data: dict[str, Array]) -> dict[str, Array]:
    """The same functions as NumPy sees them."""
    sin_quarter, cos_quarter = twin.sincos_quarter(data["turns"])
    along, across = twin.polar_turns(data["positive"], data["words"])
    return {
        "log": twin.log_positive(data["positive"]),
        "exp": twin.exp_bounded(data["wide"]),
        "sigmoid": twin.sigmoid(data["wide"]),
        "sine": twin.sine(data["angles"]),
        "sin_quarter": sin_quarter,
        "cos_quarter": cos_quarter,
        "along": along,
        "across": across,
        "uniform": twin.uniform(data["words"]),
        "magnitude": twin.magnitude(data["wide"]),
    }


def named(name: str, values: dict[str, Array]) -> Any:
    return NamedTuple(name, [(field, Any) for field in values])(**values)  # type: ignore[misc]


@pytest.fixture(scope="module", params=DTYPES)
def evaluated(request: pytest.FixtureRequest) -> tuple[dict[str, Array], dict[str, Array]]:
    """Arguments, and what the compiled functions make of them."""
    data = sample(request.param)
    results = {name: np.full_like(value, np.nan) for name, value in plain(data).items()}
    compiled(named("Arguments", data), named("Results", results))
    return data, results


def test_compiled_is_numpy(evaluated: tuple[dict[str, Array], dict[str, Array]]) -> None:
    """Not a bit is lost to fused operations or to another order of them."""
    data, results = evaluated
    for name, expected in plain(data).items():
        bits = f"u{expected.itemsize}"
        np.testing.assert_array_equal(results[name].view(bits), expected.view(bits), name)


def ulps(found: Array, exact: npt.NDArray[np.longdouble]) -> float:
    spacing = np.spacing(np.abs(exact).astype(found.dtype)).astype(np.longdouble)
    return float((np.abs(found.astype(np.longdouble) - exact) / spacing).max())


@extended
def test_errors(evaluated: tuple[dict[str, Array], dict[str, Array]]) -> None:
    """In units of the last place; absolute errors in those of 1."""
    data, results = evaluated
    x = {name: value.astype(np.longdouble) for name, value in data.items()}
    quarter = np.longdouble("1.5707963267948966192313216916397514")
    assert ulps(results["log"], np.log(x["positive"])) < 1.1
    assert ulps(results["exp"], np.exp(x["wide"])) < 1.1
    assert ulps(results["sin_quarter"], np.sin(x["turns"] * quarter)) < 1.7
    assert ulps(results["cos_quarter"], np.cos(x["turns"] * quarter)) < 1.3

    limit = 40 if data["wide"].dtype == np.float32 else 700
    clamped = np.clip(x["wide"], -limit, limit)
    assert ulps(results["sigmoid"], 1 / (1 + np.exp(-clamped))) < 2.6

    unit = np.finfo(data["wide"].dtype).eps
    assert np.abs(results["sine"] - np.sin(x["angles"])).max() < 1.2 * unit

    angle = x["words"] * (4 * quarter / np.longdouble(2) ** 32)
    for name, exact in (("along", np.cos(angle)), ("across", np.sin(angle))):
        relative = np.abs(results[name].astype(np.longdouble) / x["positive"] - exact)
        assert relative.max() < 1.5 * unit


def test_uniforms_are_exact(evaluated: tuple[dict[str, Array], dict[str, Array]]) -> None:
    data, results = evaluated
    words = data["words"].astype(np.longdouble)
    if data["words"].itemsize == 4:
        expected = (np.floor(words / 512) + 0.5) / 2**23
    else:
        expected = (words + 0.5) / 2**32
    assert (results["uniform"] == expected).all()
    assert results["uniform"].min() > 0
    assert results["uniform"].max() < 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(dtype: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, -0.0], dtype)
    assert np.isnan(twin.sigmoid(x)[0])
    below, above = twin.sigmoid(np.array([-1e30, 1e30], dtype))
    assert 0 < below < 1e-17
    assert above == 1
    np.testing.assert_array_equal(twin.magnitude(x), [np.nan, np.inf, np.inf, 0.0])
    assert not np.signbit(twin.magnitude(x)[3])


# --- what packs are made of -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_and_columns(dtype: str) -> None:
    """Gathering columns of rows and writing rows of columns, against plain indexing."""
    generator = np.random.default_rng(3)
    lanes = packs.PACK_BYTES // np.dtype(dtype).itemsize
    matrix = generator.normal(size=(50, 7)).astype(dtype)
    pool = {
        "matrix": matrix.ravel(),
        "index": generator.integers(0, 50, 3 * lanes),
        "out": np.zeros(4 * lanes + 6 * lanes + lanes, dtype),
    }

    def move(arrays, first, column):  # type: ignore[no-untyped-def]
        memory = buffers.buffers(arrays)
        four = buffers.load_columns(memory.matrix, memory.index, first, column, 7)
        one = buffers.load_column(memory.matrix, memory.index, first, column, 7)
        width = buffers.lanes_of(memory.out)
        for k in range(4):
            buffers.store(memory.out, k, four[k])
        buffers.store_rows(memory.out, 4 * width, 6, four)
        buffers.store(memory.out, 10, one)

    arguments = named("Arguments", pool)
    numba.njit(move)(arguments, lanes + 1, 2)
    found, rows = pool["out"].copy(), matrix[pool["index"][lanes + 1 : 2 * lanes + 1]]
    np.testing.assert_array_equal(found[: 4 * lanes].reshape(4, lanes), rows[:, 2:6].T)
    spaced = found[4 * lanes : 10 * lanes].reshape(lanes, 6)
    np.testing.assert_array_equal(spaced[:, :4], rows[:, 2:6])
    assert (spaced[:, 4:] == 0).all()
    np.testing.assert_array_equal(found[10 * lanes :], rows[:, 2])
    pool["out"][:] = 0
    move(arguments, lanes + 1, 2)
    np.testing.assert_array_equal(pool["out"], found)


@packs.traced
def _mixed(x: Any, y: Any) -> Any:
    return x + y


@pytest.mark.parametrize(("left", "right"), [("float32", "float64"), ("float64", "float32")])
def test_precisions_do_not_mix(left: str, right: str) -> None:
    """A silent conversion would change bits; tracing refuses it."""

    @numba.njit  # type: ignore[untyped-decorator]
    def add(arrays, scalar):  # type: ignore[no-untyped-def]
        memory = buffers.buffers(arrays).memory
        buffers.store(memory, 0, _mixed(buffers.load(memory, 0), scalar))

    arrays = named("Arguments", {"memory": np.zeros(16, left)})
    refused = (TypeError, numba.TypingError)
    with pytest.raises(refused, match=f"operands of types {left} and {right}"):
        add(arrays, np.dtype(right).type(1))
    add(arrays, np.dtype(left).type(1))
    lanes = packs.PACK_BYTES // np.dtype(left).itemsize
    assert (arrays.memory[:lanes] == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_machine_code(dtype: str) -> None:
    """Whole registers, the widening multiply, and nothing fused."""
    if not dispatch.core().detected_isa().startswith("v"):
        pytest.skip("the processor has no AVX2")

    def draw(arrays, steps):  # type: ignore[no-untyped-def]
        memory = buffers.buffers(arrays).memory
        rows = twin.prepare_rows(buffers.zeros(memory), 0, 0, 0, np.uint64(1), np.uint64(2))
        for step in range(steps):
            values = twin.draw_normals(rows, step, 0, np.uint64(1), np.uint64(2))
            for k in range(4):
                buffers.store(memory, 4 * step + k, values[k])

    function = numba.njit(draw)
    function(named("Arguments", {"memory": np.zeros(64, dtype)}), 1)
    code = next(iter(function.inspect_asm().values()))
    assert code.count("vpmuludq") >= 15
    assert code.count("ymm") + code.count("zmm") > 500
    assert "vfmadd" not in code
    assert "vfnmadd" not in code
    assert "vfmsub" not in code


@pytest.mark.parametrize("module", ["hotloops.sgd._numba", "hotloops.random._numba"])
def test_import_compiles_nothing(module: str, run_python: RunPython) -> None:
    code = f"""
        import importlib
        from numba.core import event
        with event.install_recorder("numba:compile") as recorder:
            importlib.import_module({module!r})
        print(len(recorder.buffer))
    """
    assert run_python(code).strip() == "0"
