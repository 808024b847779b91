"""Arrays of every library come in and go out over the same memory."""

from __future__ import annotations

import gc
import importlib.util
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloops._runtime import arrays
from hotloops._runtime.arrays import (
    NUMPY,
    Library,
    common_library,
    current_stream,
    empty,
    export_array,
    import_array,
    library_of,
    stream_context,
)
from hotloops._runtime.errors import BackendUnavailable


def load_fakes() -> Any:
    spec = importlib.util.spec_from_file_location(
        "fake_cuda", Path(__file__).with_name("fake_cuda.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fakes = load_fakes()


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


class Foreign:
    """The least that an array library on the CPU can offer: DLPack out, and a function for in."""

    def __init__(self, memory: np.ndarray[Any, Any], device: tuple[int, int] = (1, 0)) -> None:
        self.memory = memory
        self.dtype, self.shape = memory.dtype, memory.shape
        self.device = device

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.memory.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> type[Foreign]:
    """`Foreign` as a class of the module ``foreignlib.core``; ``foreignlib`` has from_dlpack."""
    library: Any = types.ModuleType("foreignlib")
    library.from_dlpack = lambda array: Foreign(np.from_dlpack(array))
    monkeypatch.setitem(sys.modules, "foreignlib", library)
    monkeypatch.setattr(Foreign, "__module__", "foreignlib.core")
    return Foreign


def address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


# NumPy


@pytest.mark.parametrize(
    "value",
    [np.ones(2), np.float32(1), [1, 2], (1.0,), 3, 2.5, True, [[1], [2]], np.ma.ones(2)],
    ids=lambda value: type(value).__name__,
)
def test_numpy_and_what_counts_as_numpy(value: object) -> None:
    assert library_of(value) == NUMPY
    array, library = import_array("f", "x", value)
    assert library == NUMPY
    assert isinstance(array, np.ndarray)
    assert np.array_equal(array, value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, "text", b"bytes", {}, {1.0}, object(), len])
def test_no_arrays(value: object) -> None:
    assert library_of(value) is None
    with pytest.raises(TypeError, match=r"^f: `x` must be an array of real numbers, got "):
        import_array("f", "x", value)


def test_numpy_arrays_pass_untouched() -> None:
    for given in (np.ones((2, 3)).T, np.ones(4)[::2], np.zeros(0), np.ones(2, dtype="f2")):
        given.flags.writeable = False
        array, library = import_array("f", "x", given)
        assert array is given
        assert export_array(array, library) is given


def test_lists_take_the_wanted_dtype() -> None:
    assert import_array("f", "x", [1, 2], dtype=np.float32)[0].dtype == np.float32
    assert import_array("f", "x", np.ones(2), dtype=np.float32)[0].dtype == np.float64
    assert import_array("f", "x", np.float64(2), dtype=np.float32)[0].dtype == np.float64


def test_lists_that_are_no_arrays() -> None:
    message = "f: `x` must be a rectangular array of real numbers, got a list of length 2"
    with raises(ValueError, f"{message} with ragged rows"):
        import_array("f", "x", [[1.0], [1.0, 2.0]])
    for dtype in (None, np.float64):
        with pytest.raises(ValueError, match="ragged rows"):
            import_array("f", "x", [[1.0], [1.0, 2.0]], dtype=dtype)
    for value, got in (([1.0, None], "a list of length 2"), (["1.5"], "dtype <U3")):
        with raises(TypeError, f"f: `x` must be an array of real numbers, got {got}"):
            import_array("f", "x", value, dtype=np.float64)
    with pytest.raises(ValueError, match="must hold integers that float32 can hold, got 16777217"):
        import_array("f", "x", [2**24 + 1], dtype=np.float32)


def test_pandas_like_objects_are_numpy() -> None:
    class Frame:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            return np.arange(4.0).reshape(2, 2)

    array, library = import_array("f", "x", Frame())
    assert library == NUMPY
    assert array.tolist() == [[0.0, 1.0], [2.0, 3.0]]


# Any library with DLPack


def test_foreign_arrays_share_memory(foreign: type[Foreign]) -> None:
    memory = np.arange(6.0).reshape(2, 3)
    array, library = import_array("f", "x", foreign(memory))
    assert library == Library("foreignlib.core", "cpu")
    assert address(array) == address(memory)
    memory[0, 0] = 7
    assert array[0, 0] == 7
    answer = empty((3,), np.float64, library)
    back = export_array(answer, library)
    assert type(back) is foreign
    assert address(back.memory) == address(answer)


def test_memory_outlives_its_owner(foreign: type[Foreign]) -> None:
    array, _ = import_array("f", "x", foreign(np.full(1000, 3.0)))
    gc.collect()
    np.full(1000, 4.0)
    assert (array == 3.0).all()


def test_library_without_from_dlpack_gets_numpy(
    foreign: type[Foreign], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys.modules["foreignlib"], "from_dlpack")
    array, library = import_array("f", "x", foreign(np.ones(2)))
    assert export_array(array, library) is array


def test_strides_survive(foreign: type[Foreign]) -> None:
    memory = np.arange(12.0).reshape(3, 4).T[::2]
    array, _ = import_array("f", "x", foreign(memory))
    assert array.strides == memory.strides
    assert np.array_equal(array, memory)


def test_half_is_refused(foreign: type[Foreign]) -> None:
    with raises(TypeError, "f: `x` must have dtype float32 or float64, got float16"):
        import_array("f", "x", foreign(np.ones(2, np.float16)))


def test_pinned_memory_is_host_memory(foreign: type[Foreign]) -> None:
    assert library_of(foreign(np.ones(2), (3, 0))) == Library("foreignlib.core", "cpu")


@pytest.mark.parametrize(
    ("code", "place"), [(8, "metal:0"), (10, "rocm:0"), (14, "oneapi:0"), (99, "dlpack99:0")]
)
def test_other_devices(foreign: type[Foreign], code: int, place: str) -> None:
    message = "live in host memory or on a CUDA device"
    with raises(TypeError, f"f: `x` must {message}, got an array on {place}"):
        import_array("f", "x", foreign(np.ones(2), (code, 0)))


def test_arrays_without_one_device(foreign: type[Foreign], monkeypatch: pytest.MonkeyPatch) -> None:
    def spread(self: object) -> tuple[int, int]:
        raise BufferError("the array is spread over two devices")

    monkeypatch.setattr(foreign, "__dlpack_device__", spread)
    with pytest.raises(TypeError, match=r"^f: `x` must be an array in the memory of one device"):
        import_array("f", "x", foreign(np.ones(2)))


def test_a_failing_export_names_the_argument(
    foreign: type[Foreign], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, **kwargs: object) -> None:
        raise BufferError("not today")

    monkeypatch.setattr(foreign, "__dlpack__", fail)
    message = r"^f: `x` must be an array that DLPack can pass on, got .*\(not today\)$"
    with pytest.raises(TypeError, match=message) as raised:
        import_array("f", "x", foreign(np.ones(2)))
    assert isinstance(raised.value.__cause__, BufferError)


def test_running_out_of_memory_stays_that(
    foreign: type[Foreign], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, **kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr(foreign, "__dlpack__", fail)
    with pytest.raises(MemoryError):
        import_array("f", "x", foreign(np.ones(2)))


# torch


def test_torch_shares_memory_both_ways() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.float64, torch.int64):
        given = torch.arange(6, dtype=dtype).reshape(2, 3)
        array, library = import_array("f", "x", given)
        assert library == Library("torch", "cpu")
        assert address(array) == given.data_ptr()
        assert array.flags.writeable
        back = export_array(array, library)
        assert isinstance(back, torch.Tensor)
        assert back.data_ptr() == given.data_ptr()
        assert back.dtype == dtype


def test_torch_subclasses_are_torch() -> None:
    torch = pytest.importorskip("torch")

    class Mine(torch.Tensor):  # type: ignore[misc,name-defined,unused-ignore]
        pass

    assert library_of(torch.ones(2).as_subclass(Mine)) == Library("torch", "cpu")
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    assert import_array("f", "x", parameter)[1] == Library("torch", "cpu")


def test_torch_gradients_are_refused() -> None:
    torch = pytest.importorskip("torch")
    leaf = torch.ones(2, requires_grad=True)
    message = "f: `x` must not require a gradient (pass `.detach()` of it)"
    for given in (leaf, leaf * 2):
        with raises(TypeError, f"{message}, got a tensor with requires_grad=True"):
            import_array("f", "x", given)
    assert import_array("f", "x", leaf.detach())[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float8_e5m2"])
def test_torch_small_floats_are_refused(name: str) -> None:
    torch = pytest.importorskip("torch")
    given = torch.ones(2).to(getattr(torch, name))
    with raises(TypeError, f"f: `x` must have dtype float32 or float64, got torch.{name}"):
        import_array("f", "x", given)


def test_torch_tensors_that_are_not_plain_memory() -> None:
    torch = pytest.importorskip("torch")
    for given in (torch.ones(2).to_sparse(), torch.ones(2, dtype=torch.complex64).conj()):
        with pytest.raises(TypeError, match=r"^f: `x` must be an array that DLPack can pass on"):
            import_array("f", "x", given)
    with pytest.raises(TypeError, match=r"^f: `x` must be an array in the memory of one device"):
        import_array("f", "x", torch.empty(2, device="meta"))


def test_torch_stays_writable_where_dlpack_says_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from_dlpack = np.from_dlpack

    def as_before_version_one(value: Any) -> np.ndarray[Any, Any]:
        array = from_dlpack(value)
        array.flags.writeable = False
        return array

    monkeypatch.setattr(np, "from_dlpack", as_before_version_one)
    given = torch.zeros(3)
    array, _ = import_array("f", "out", given)
    array[1] = 5
    assert given.tolist() == [0, 5, 0]


# JAX


def test_jax_in_is_read_only_and_shared() -> None:
    jax = pytest.importorskip("jax")
    given = jax.numpy.arange(6.0, dtype="float32").reshape(2, 3)
    array, library = import_array("f", "x", given)
    assert library == Library("jax", "cpu")
    assert not array.flags.writeable
    assert address(array) == given.unsafe_buffer_pointer()
    assert np.array_equal(array, np.asarray(given))


def test_jax_out() -> None:
    jax = pytest.importorskip("jax")
    library = Library("jax", "cpu")
    answer = empty((5, 3), np.float32, library)
    answer[:] = np.arange(15).reshape(5, 3)
    back = export_array(answer, library)
    assert isinstance(back, jax.Array)
    assert back.unsafe_buffer_pointer() == address(answer)
    assert np.array_equal(np.asarray(back), answer)


def test_jax_refuses() -> None:
    jax = pytest.importorskip("jax")
    given = jax.numpy.ones(2)
    with raises(TypeError, "f: `x` must have dtype float32 or float64, got bfloat16"):
        import_array("f", "x", given.astype("bfloat16"))
    with pytest.raises(TypeError, match="`x` must be an array in the memory of one device, got a"):
        jax.jit(lambda x: import_array("f", "x", x)[0])(given)


# Several arguments


def test_common_library_prefers_what_is_not_numpy(foreign: type[Foreign]) -> None:
    other = foreign(np.ones(2))
    host = np.ones(2)
    assert common_library("f", {}) == NUMPY
    assert common_library("f", {"theta0": None, "name": "text"}) == NUMPY
    assert common_library("f", {"x": host, "y": [1.0]}) == NUMPY
    library = Library("foreignlib.core", "cpu")
    assert common_library("f", {"x": host, "y": other, "z": 1.0}) == library
    assert common_library("f", {"x": other, "y": host}) == library


def test_first_of_two_libraries_wins(foreign: type[Foreign]) -> None:
    torch = pytest.importorskip("torch")
    other = foreign(np.ones(2))
    tensor = torch.ones(2)
    assert common_library("f", {"a": [1.0], "x": tensor, "y": other}).name == "torch"
    assert common_library("f", {"a": [1.0], "x": other, "y": tensor}).name == "foreignlib.core"


# CUDA, with stand-ins


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = fakes.fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.fixture
def torch_on_cuda(monkeypatch: pytest.MonkeyPatch, cupy: Any) -> Any:
    module = fakes.fake_torch({0: 0, 1: 0xABC}, cupy)
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


def device_array(device_id: int = 0) -> Any:
    return fakes.DeviceArray(np.arange(4.0), device_id, 0)


def test_cupy_passes_untouched(cupy: Any) -> None:
    given = device_array(1)
    assert library_of(given) == Library("cupy", "cuda", 1)
    array, library = import_array("f", "x", given)
    assert array is given
    assert library.xp is cupy
    assert export_array(array, library) is given


def test_device_arrays_without_dlpack_are_not_copied_to_the_host() -> None:
    class DeviceNDArray:  # as Numba has one
        __cuda_array_interface__: Any = {}  # noqa: RUF012

        def __array__(self, *args: object, **kwargs: object) -> Any:
            raise AssertionError("a silent copy")

    given = DeviceNDArray()
    library = library_of(given)
    assert library is not None
    assert library.device == "cuda"
    message = "^f: `x` must offer `__dlpack__`, as the arrays of CuPy and torch do, got a"
    with pytest.raises(TypeError, match=message):
        import_array("f", "x", given)


def test_mixed_devices(cupy: Any, foreign: type[Foreign]) -> None:
    message = "must live on the same device, got"
    with raises(TypeError, f"run: `X` and `y` {message} cuda:0 and cpu"):
        common_library("run", {"X": device_array(), "y": np.ones(2)})
    with raises(TypeError, f"run: `X` and `y` {message} cpu and cuda:1"):
        common_library("run", {"n": None, "X": foreign(np.ones(2)), "y": device_array(1)})
    with raises(TypeError, f"run: `X` and `out` {message} cuda:0 and cuda:1"):
        common_library("run", {"X": device_array(0), "y": device_array(0), "out": device_array(1)})
    assert common_library("run", {"X": device_array(1), "y": device_array(1)}).device_id == 1


def test_streams_of_cupy(cupy: Any) -> None:
    library = Library("cupy", "cuda", 1)
    assert current_stream(library) == 0
    cupy.cuda.use(0x77)
    assert current_stream(library) == 0x77
    with stream_context(library):
        assert (cupy.current.device, cupy.current.stream) == (1, 0x77)
        answer = empty((2, 3), np.float32, library)
    assert cupy.current.device == 0
    assert (answer.device_id, answer.stream, answer.shape) == (1, 0x77, (2, 3))


def test_streams_of_the_host() -> None:
    assert current_stream(NUMPY) == 0
    with stream_context(NUMPY):
        pass


@pytest.mark.parametrize(("device_id", "stream"), [(0, 0), (1, 0xABC)])
def test_torch_on_cuda(torch_on_cuda: Any, cupy: Any, device_id: int, stream: int) -> None:
    """Torch's current stream must be CuPy's when arrays change hands, or nothing orders them."""
    cupy.cuda.use(0x77)
    given = fakes.Tensor(np.arange(4.0), device_id)
    array, library = import_array("f", "x", given)
    assert library == Library("torch", "cuda", device_id)
    assert type(array) is cupy.ndarray
    assert array.memory is given.memory
    assert (array.device_id, array.stream, given.asked) == (device_id, stream, [stream])
    assert current_stream(library) == stream
    answer = empty((3,), np.float64, library)
    assert (answer.device_id, answer.stream) == (device_id, stream)
    back = export_array(answer, library)
    assert type(back) is torch_on_cuda.Tensor
    assert back.memory is answer.memory
    assert back.asked == [stream]
    assert (cupy.current.device, cupy.current.stream) == (0, 0x77)


def test_torch_on_cuda_without_cupy(torch_on_cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    message = "^backend 'cuda' is not available: CUDA arrays need CuPy, which cannot be imported"
    with pytest.raises(BackendUnavailable, match=message):
        import_array("f", "x", fakes.Tensor(np.arange(4.0)))


def test_torch_on_cuda_with_gradient(torch_on_cuda: Any) -> None:
    given = fakes.Tensor(np.arange(4.0))
    given.requires_grad = True
    with pytest.raises(TypeError, match=r"^f: `x` must not require a gradient"):
        import_array("f", "x", given)


def test_empty_on_the_host() -> None:
    for shape in ((), (0,), (3, 5), (1000,), (500, 600)):
        for dtype in (np.float32, np.float64, np.uint8):
            for library in (NUMPY, Library("jax", "cpu")):
                answer = empty(shape, dtype, library)
                assert answer.shape == shape
                assert answer.dtype == dtype
                assert answer.flags.c_contiguous
                assert answer.flags.writeable
                small = answer.nbytes <= 1 << 20 and library is NUMPY  # wherever NumPy puts it
                assert small or address(answer) % 64 == 0 or answer.size == 0


def test_only_numpy_is_imported(run_python: Any) -> None:
    code = """
        import sys
        import numpy as np
        from hotloops._runtime import arrays
        for value in (np.ones(2), [1.0], 2.5, None):
            arrays.library_of(value)
        arrays.import_array("f", "x", [1.0])
        print(sorted({"cupy", "torch", "jax", "numba", "scipy"} & set(sys.modules)))
    """
    assert run_python(code).strip() == "[]"


def test_public_names() -> None:
    assert all(hasattr(arrays, name) for name in arrays.__all__)
