"""Arrays of any library in, arrays of that library out, without a copy.

Host arrays are worked on as NumPy arrays, CUDA arrays as CuPy arrays; everything else comes and
goes by DLPack. No array library but NumPy is imported here unless an array of it came in; CuPy is
imported when the first CUDA array of another library arrives.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops._runtime.errors import BackendUnavailable
from hotloops._runtime.validate import describe, fail

__all__ = [
    "NUMPY",
    "Library",
    "common_library",
    "current_stream",
    "empty",
    "export_array",
    "import_array",
    "library_of",
    "stream_context",
]

_DLPACK_DEVICES = {
    1: "cpu",
    2: "cuda",
    3: "cpu",  # pinned host memory
    4: "opencl",
    7: "vulkan",
    8: "metal",
    10: "rocm",
    11: "rocm",
    13: "cuda",  # managed memory
    14: "oneapi",
}
_ALIGNMENT = 64
_SMALL = 1 << 20  # bytes: below, asking where memory starts costs more than lines that are split
_NO_CONTEXT = contextlib.nullcontext()
_SMALL_FLOATS = ("bfloat16", "float16", "float8", "float4")


@dataclass(frozen=True)
class Library:
    """Where an array came from, and so where the answer goes.

    Attributes
    ----------
    name : str
        Package of the array's type: ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"`` or another one
        that speaks DLPack.
    device : str
        ``"cpu"``, ``"cuda"``, or the name of a device that hotloops has no kernels for.
    device_id : int
        Number of the device; 0 on the host.
    """

    name: str
    device: str
    device_id: int = 0

    @property
    def place(self) -> str:
        """The device in words, such as ``"cuda:1"``."""
        return self.device if self.device == "cpu" else f"{self.device}:{self.device_id}"

    @property
    def xp(self) -> Any:
        """NumPy or CuPy: the namespace that the kernels' arrays of this device belong to."""
        return np if self.device == "cpu" else _cupy()


NUMPY = Library("numpy", "cpu")


def library_of(value: object) -> Library | None:
    """Return the library of an array; lists and scalars count as NumPy, None is no array."""
    if type(value) is np.ndarray:
        return NUMPY
    if value is None or isinstance(value, str | bytes | dict | set):
        return None
    if isinstance(value, np.ndarray | np.generic | list | tuple | bool | int | float | complex):
        return NUMPY
    if hasattr(value, "__dlpack__"):
        return Library(_package(value), *_device(value))
    if hasattr(type(value), "__cuda_array_interface__"):  # its __array__ would copy to the host
        return Library(_package(value), "cuda")
    return NUMPY if hasattr(value, "__array__") else None


def common_library(function: str, values: Mapping[str, object]) -> Library:
    """Return the library that a call with these arguments answers in.

    The first library that is not NumPy wins. Arguments that are None or no arrays are passed over.

    Raises
    ------
    TypeError
        Two arguments live on different devices.
    """
    for value in values.values():
        if value is not None and type(value) is not np.ndarray:
            break
    else:
        return NUMPY
    first: tuple[str, Library] | None = None
    common: Library | None = None
    for name, value in values.items():
        library = library_of(value)
        if library is None:
            continue
        if first is None:
            first = (name, library)
        elif library.place != first[1].place:
            raise TypeError(
                f"{function}: `{first[0]}` and `{name}` must live on the same device, "
                f"got {first[1].place} and {library.place}"
            )
        if common is None or common.name == "numpy":
            common = library
    return NUMPY if common is None else common


def import_array(
    function: str, argument: str, value: Any, *, dtype: Any = None
) -> tuple[Any, Library]:
    """Return a NumPy or CuPy array over the memory of `value`, and the library of `value`.

    Parameters
    ----------
    function, argument : str
        For the message.
    value : array_like or object with ``__dlpack__``
        Arrays are not copied; lists and scalars become new NumPy arrays.
    dtype : dtype, optional
        Type for lists and scalars, which have none of their own.
    """
    if type(value) is np.ndarray:
        return value, NUMPY
    library = library_of(value)
    if library is None:
        fail(TypeError, function, argument, "be an array of real numbers", describe(value))
    if library.name in ("numpy", "cupy"):
        return _own(function, argument, value, dtype), library
    _check_importable(function, argument, value, library)
    try:
        if library.device == "cpu":
            return _from_host(value), library
        with stream_context(library):
            return _cupy().from_dlpack(value), library
    except (BackendUnavailable, MemoryError):
        raise
    except Exception as error:
        raise TypeError(
            f"{function}: `{argument}` must be an array that DLPack can pass on, "
            f"got {describe(value)} ({error})"
        ) from error


def export_array(array: Any, library: Library) -> Any:
    """Return a NumPy or CuPy array as an array of `library`, over the same memory.

    JAX copies memory that does not start at a multiple of 64 bytes (that of `empty` does), and
    without ``jax_enable_x64`` it turns 64-bit types into 32-bit copies, as it does with any array.
    A library without a ``from_dlpack`` gets the NumPy or CuPy array itself.
    """
    if library.name in ("numpy", "cupy"):
        return array
    from_dlpack = _from_dlpack(library.name)
    if from_dlpack is None:
        return array
    if library.device == "cpu":
        return from_dlpack(array)
    with stream_context(library):
        return from_dlpack(array)


def empty(shape: tuple[int, ...], dtype: Any, library: Library = NUMPY) -> Any:
    """Allocate a C-contiguous array for an answer.

    On the host it starts a cache line, unless it is a small one that stays with NumPy.
    """
    if library.device != "cpu":
        with stream_context(library):
            return library.xp.empty(shape, dtype=dtype)
    kind = dtype if isinstance(dtype, np.dtype) else np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size <= _SMALL and library is NUMPY:
        return np.empty(shape, kind)
    memory = np.empty(size + _ALIGNMENT, dtype=np.uint8)
    return np.ndarray(shape, kind, memory, -memory.ctypes.data % _ALIGNMENT)


def current_stream(library: Library) -> int:
    """Return the pointer of the CUDA stream that the caller's library is working on."""
    if library.device != "cuda":
        return 0
    if library.name == "torch":
        torch = sys.modules["torch"]
        return int(torch.cuda.current_stream(library.device_id).cuda_stream)
    cupy = _cupy()
    with cupy.cuda.Device(library.device_id):
        return int(cupy.cuda.get_current_stream().ptr)


@contextlib.contextmanager
def _on_stream(library: Library) -> Iterator[None]:
    cupy = _cupy()
    with cupy.cuda.Device(library.device_id):
        if library.name != "torch":
            yield
            return
        pointer = current_stream(library)
        stream = cupy.cuda.ExternalStream(pointer) if pointer else cupy.cuda.Stream.null
        with stream:
            yield


def stream_context(library: Library) -> AbstractContextManager[None]:
    """Make CuPy allocate and work on the caller's device and stream inside a ``with`` block."""
    return _on_stream(library) if library.device == "cuda" else _NO_CONTEXT


def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise BackendUnavailable(
            "backend 'cuda' is not available: CUDA arrays need CuPy, which cannot be imported "
            f"({error})"
        ) from error
    return cupy


def _package(value: object) -> str:
    """Name the library, through base classes too, so that a subclass of a tensor is a tensor."""
    names = [base.__module__.partition(".")[0] for base in type(value).__mro__]
    for known, alias in (("cupy", "cupy"), ("torch", "torch"), ("jaxlib", "jax"), ("jax", "jax")):
        if known in names:
            return alias
    return type(value).__module__


def _device(value: Any) -> tuple[str, int]:
    try:
        code, number = value.__dlpack_device__()
    except Exception:  # sharded, meta and traced arrays have no one device
        return "unknown", 0
    name = _DLPACK_DEVICES.get(int(code), f"dlpack{int(code)}")
    return name, 0 if name == "cpu" else int(number)


def _own(function: str, argument: str, value: Any, dtype: Any) -> Any:
    if isinstance(value, np.ndarray) or _package(value) == "cupy":
        return value
    if dtype is None or hasattr(value, "dtype"):
        return validate.as_array(function, argument, value)
    return validate.array(function, argument, value, dtype=dtype, finite=False, empty=True)


def _check_importable(function: str, argument: str, value: Any, library: Library) -> None:
    if not hasattr(value, "__dlpack__"):
        expectation = "offer `__dlpack__`, as the arrays of CuPy and torch do"
        fail(TypeError, function, argument, expectation, describe(value))
    if library.device == "unknown":
        expectation = "be an array in the memory of one device"
        fail(TypeError, function, argument, expectation, describe(value))
    if library.device not in ("cpu", "cuda"):
        expectation = "live in host memory or on a CUDA device"
        fail(TypeError, function, argument, expectation, f"an array on {library.place}")
    dtype = str(getattr(value, "dtype", ""))
    if any(name in dtype for name in _SMALL_FLOATS):
        fail(TypeError, function, argument, "have dtype float32 or float64", dtype)
    if getattr(value, "requires_grad", False):
        expectation = "not require a gradient (pass `.detach()` of it)"
        fail(TypeError, function, argument, expectation, "a tensor with requires_grad=True")


def _from_host(value: Any) -> Any:
    ready = getattr(value, "block_until_ready", None)
    if ready is not None:
        ready()
    array = np.from_dlpack(value)
    if array.dtype == np.float16:
        raise TypeError("its dtype is float16")
    if not array.flags.writeable and _package(value) == "torch":
        # Before DLPack 1.0 NumPy took every import as read-only; torch's own view is not.
        array = value.numpy()
    return array


def _from_dlpack(package: str) -> Any:
    """Find ``from_dlpack`` in the array's module or in the packages around it."""
    if package == "jax":
        return sys.modules["jax"].numpy.from_dlpack
    while package:
        found = getattr(sys.modules.get(package), "from_dlpack", None)
        if found is not None:
            return found
        package = package.rpartition(".")[0]
    return None
