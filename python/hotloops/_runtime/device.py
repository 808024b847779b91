"""What the CUDA backends of all families share: addresses of checked arrays, a short queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LaunchQueue", "Place", "place_of"]

_MOST_IN_FLIGHT = 3


@dataclass(frozen=True)
class Place:
    """The device whose arrays a call works on, and the stream that is current there.

    Attributes
    ----------
    device : int
        Number of the device.
    stream : int
        Pointer of the CUDA stream.
    """

    device: int
    stream: int

    def address(
        self, function: str, name: str, array: Any, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> int:
        """Return where an array begins, after checking that a kernel may rely on its layout."""
        wanted = np.dtype(dtype)
        layout = f"{wanted} array of shape {shape} on cuda:{self.device}, C-contiguous"
        device = getattr(getattr(array, "device", None), "id", None)
        if device != self.device or not hasattr(array, "data"):
            raise TypeError(f"{function}: `{name}` must be a {layout}, got {type(array).__name__}")
        if array.dtype != wanted or tuple(array.shape) != shape or not array.flags.c_contiguous:
            got = f"{array.dtype} of shape {tuple(array.shape)} with strides {array.strides}"
            raise ValueError(f"{function}: `{name}` must be a {layout}, got {got}")
        return int(array.data.ptr)


@contextmanager
def place_of(array: Any) -> Iterator[Place]:
    """Make the device of a CuPy array current; what CuPy does inside is queued on its stream."""
    import cupy

    with array.device:
        yield Place(int(array.device.id), int(cupy.cuda.get_current_stream().ptr))


class LaunchQueue:
    """Holds the caller back when more than a few of its launches wait on the current stream.

    Kernels are queued without waiting for them. Ctrl-C is seen between launches, so the queue must
    not run far ahead; but the device must not run dry either.
    """

    def __init__(self) -> None:
        self._events: deque[Any] = deque()

    def launched(self) -> None:
        """Mark a launch, and wait until one of the earlier ones is done if there are too many."""
        import cupy

        event = cupy.cuda.Event(block=True, disable_timing=True)
        event.record()
        self._events.append(event)
        if len(self._events) > _MOST_IN_FLIGHT:
            self._events.popleft().synchronize()
