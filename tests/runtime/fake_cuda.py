"""Stand-ins for CuPy and for torch on a GPU, for machines without one.

They fake where memory lives and which stream is current, and record what they are asked for. Their
"device" memory is host memory of NumPy, nothing runs asynchronously, and no kernel can use them:
they test routing, streams and errors, and say nothing about real devices.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np

CUDA = 2


class DeviceArray:
    """A ``cupy.ndarray`` of some host memory."""

    def __init__(self, memory: np.ndarray[Any, Any], device_id: int, stream: int) -> None:
        self.memory = memory
        self.device_id = device_id
        self.stream = stream  # current when the array was made
        self.shape, self.dtype = memory.shape, memory.dtype

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return dict(self.memory.__array_interface__)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.device_id

    def __dlpack__(self, *, stream: int | None = None) -> DeviceArray:
        return self

    def __array__(self, *args: object, **kwargs: object) -> None:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")


DeviceArray.__module__ = "cupy"
DeviceArray.__qualname__ = DeviceArray.__name__ = "ndarray"


class Current:
    """What CuPy keeps per thread: the device and the stream in use."""

    def __init__(self) -> None:
        self.device, self.stream = 0, 0


def fake_cupy() -> Any:
    """Return a new ``cupy`` with device 0 and the null stream current."""
    cupy: Any = types.ModuleType("cupy")
    current = Current()

    class Device:
        def __init__(self, number: int) -> None:
            self.number = number

        def __enter__(self) -> None:
            self.before, current.device = current.device, self.number

        def __exit__(self, *_: object) -> None:
            current.device = self.before

    class Stream:
        def __init__(self, ptr: int) -> None:
            self.ptr = ptr

        def __enter__(self) -> None:
            self.before, current.stream = current.stream, self.ptr

        def __exit__(self, *_: object) -> None:
            current.stream = self.before

    def empty(shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        return DeviceArray(np.empty(shape, dtype), current.device, current.stream)

    def from_dlpack(value: Any) -> DeviceArray:
        capsule = value.__dlpack__(stream=current.stream)
        return DeviceArray(capsule.memory, current.device, current.stream)

    cupy.ndarray, cupy.empty, cupy.from_dlpack = DeviceArray, empty, from_dlpack
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        ExternalStream=Stream,
        Stream=types.SimpleNamespace(null=Stream(0)),
        get_current_stream=lambda: Stream(current.stream),
        use=lambda ptr: setattr(current, "stream", ptr),
    )
    cupy.current = current
    return cupy


class Tensor:
    """A ``torch.Tensor`` in the memory of a GPU that torch works on with stream `streams[id]`."""

    requires_grad = False

    def __init__(self, memory: np.ndarray[Any, Any], device_id: int = 0) -> None:
        self.memory = memory
        self.device_id = device_id
        self.shape, self.dtype = memory.shape, f"torch.{memory.dtype}"
        self.asked: list[int | None] = []  # the streams that importers named

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.device_id

    def __dlpack__(self, *, stream: int | None = None) -> Tensor:
        self.asked.append(stream)
        return self


Tensor.__module__ = "torch"


def fake_torch(streams: dict[int, int], cupy: Any) -> Any:
    """Return a ``torch`` whose current streams are given, one per device."""
    torch: Any = types.ModuleType("torch")

    def from_dlpack(value: Any) -> Tensor:
        tensor = Tensor(value.memory, value.device_id)
        tensor.asked.append(cupy.current.stream)
        return tensor

    torch.Tensor, torch.from_dlpack = Tensor, from_dlpack
    torch.cuda = types.SimpleNamespace(
        current_stream=lambda device: types.SimpleNamespace(cuda_stream=streams[device])
    )
    return torch
