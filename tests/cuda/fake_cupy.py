"""A ``cupy`` whose device memory is host memory, for kernels that run in the CPU shim.

Arrays are NumPy's with the attributes of CuPy's; nothing is asynchronous. It counts the events that
it is asked to wait for and remembers the stream of each.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np

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


def asarray(value: Any, dtype: Any = None) -> ndarray:
    """Return an array on the current device."""
    array = np.array(value, dtype=dtype, order="C", ndmin=0).view(ndarray)
    array.number = Device.current
    return array


def make() -> Any:
    """Return a module to put into ``sys.modules["cupy"]``."""
    Device.current, Stream.current = 0, STREAM
    Event.recorded, Event.waited = [], 0
    cupy: Any = types.ModuleType("cupy")
    cupy.ndarray, cupy.asarray, cupy.array = ndarray, asarray, asarray
    for name in ("empty", "zeros", "ones", "full", "stack"):
        function = getattr(np, name)
        setattr(cupy, name, lambda *args, f=function, **kwargs: asarray(f(*args, **kwargs)))
    cupy.ascontiguousarray = lambda value, dtype=None: asarray(np.ascontiguousarray(value, dtype))
    cupy.broadcast_to = lambda value, shape: asarray(np.broadcast_to(value, shape))
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        Event=Event,
        Stream=Stream,
        ExternalStream=Stream,
        get_current_stream=lambda: Stream(Stream.current),
    )
    return cupy
