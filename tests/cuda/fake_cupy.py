"""A ``cupy`` whose device memory is host memory, for kernels that run in the CPU shim.

Arrays are NumPy's with the attributes of CuPy's; nothing is asynchronous. It counts the events that
it is asked to wait for and remembers the stream of each.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np

from hotloops._runtime.arrays import Library

STREAM = 0x5EED


class ndarray(np.ndarray):  # type: ignore[type-arg]
    """Host memory that poses as memory of `device`."""

    number = 0

    def __array_finalize__(self, base: Any) -> None:
        self.number = getattr(base, "number", 0)

    @property
    def data(self) -> Any:  # type: ignore[override]
        return types.SimpleNamespace(ptr=self.ctypes.data)

    @property
    def device(self) -> Any:
        return Device(self.number)

    def get(self) -> np.ndarray[Any, Any]:
        return np.array(self, subok=False)

    def set(self, host: np.ndarray[Any, Any]) -> None:
        self[...] = host


ndarray.__module__ = "cupy"


class Device:
    """The device that is current inside a ``with`` block."""

    current = 0
    compute_capability = "90"

    def __init__(self, number: int) -> None:
        self.id = number

    def __enter__(self) -> None:
        self.before, Device.current = Device.current, self.id

    def __exit__(self, *_: object) -> None:
        Device.current = self.before


class Event:
    """Remembers on which stream it was recorded."""

    recorded: list[int] = []  # noqa: RUF012
    waited = 0

    def __init__(self, block: bool = False, disable_timing: bool = False) -> None:
        assert block
        assert disable_timing

    def record(self) -> None:
        Event.recorded.append(Stream.current)

    def synchronize(self) -> None:
        Event.waited += 1


class Stream:
    """The stream that is current inside a ``with`` block."""

    current = STREAM

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr

    def __enter__(self) -> None:
        self.before, Stream.current = Stream.current, self.ptr

    def __exit__(self, *_: object) -> None:
        Stream.current = self.before


def array(value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    """Return a copy on the current device."""
    made = np.array(value, dtype=dtype, order="C").view(ndarray)
    made.number = Device.current
    return made


def asarray(value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    """Return an array of this module as it is, unless it has to change; copy anything else."""
    if not isinstance(value, ndarray) or not value.flags.c_contiguous:
        return array(value, dtype)
    # Not `in (None, ...)`: to NumPy float64 equals None.
    return value if dtype is None or dtype == value.dtype else array(value, dtype)


def empty(shape: Any, dtype: Any = float) -> ndarray:
    """Return memory that holds NaN, as far as it holds numbers: nobody may read it."""
    made = array(np.empty(shape, dtype))
    made.view(np.uint8)[...] = 0xFF
    return made


def on_device(function: Any) -> Any:
    """Return a function of NumPy whose answers live on the current device."""

    def call(*arguments: Any, **options: Any) -> Any:
        answer = function(*arguments, **options)
        return array(answer) if isinstance(answer, np.ndarray) else answer

    return call


class Module(types.ModuleType):
    """All functions of NumPy; types and constants are NumPy's own, as they are CuPy's."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        return on_device(found) if callable(found) and not isinstance(found, type) else found


def library_of(value: object) -> Library | None:
    """Return the library of an array of this module, None for anything else."""
    return Library("cupy", "cuda", value.number) if isinstance(value, ndarray) else None


def make() -> Any:
    """Return a module to put into ``sys.modules["cupy"]``."""
    Device.current, Stream.current = 0, STREAM
    Event.recorded, Event.waited = [], 0
    cupy: Any = Module("cupy")
    cupy.ndarray, cupy.asarray, cupy.array, cupy.empty = ndarray, asarray, array, empty
    cupy.ascontiguousarray = asarray
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        Event=Event,
        Stream=Stream,
        ExternalStream=Stream,
        get_current_stream=lambda: Stream(Stream.current),
    )
    return cupy
