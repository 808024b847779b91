"""The array layer on a real GPU, with CuPy and, where it is installed, torch."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from hotloops._runtime import validate
from hotloops._runtime.arrays import (
    Library,
    common_library,
    current_stream,
    empty,
    export_array,
    import_array,
    stream_context,
)

pytestmark = pytest.mark.gpu


@pytest.fixture
def cupy() -> Any:
    module = pytest.importorskip("cupy", reason="needs CuPy")
    try:
        count = module.cuda.runtime.getDeviceCount()
    except module.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"no CUDA device: {error}")
    if count == 0:
        pytest.skip("no CUDA device")
    return module


@pytest.fixture
def torch(cupy: Any) -> Any:
    module = pytest.importorskip("torch", reason="needs torch")
    if not module.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    return module


def test_cupy(cupy: Any) -> None:
    given = cupy.arange(6.0).reshape(2, 3)
    array, library = import_array("f", "x", given)
    assert array is given
    assert library == Library("cupy", "cuda", 0)
    assert export_array(array, library) is given
    with cupy.cuda.Stream(non_blocking=True) as stream:
        assert current_stream(library) == stream.ptr
        with stream_context(library):
            assert cupy.cuda.get_current_stream().ptr == stream.ptr
    assert isinstance(empty((2, 3), np.float32, library), cupy.ndarray)


def test_checks_work_on_the_device(cupy: Any) -> None:
    given = cupy.arange(12.0, dtype="f4").reshape(3, 4)
    assert validate.array("f", "x", given, shape=("n", 4)) is given
    result = validate.array("f", "x", given.T, dtype=np.float64)
    assert isinstance(result, cupy.ndarray)
    assert result.flags.c_contiguous
    assert cupy.array_equal(result, given.T)
    given[1, 2] = cupy.nan
    message = "f: `x` must be finite, got nan at index (1, 2)"
    with pytest.raises(ValueError, match=re.escape(message)):
        validate.array("f", "x", given)
    with pytest.raises(ValueError, match="must hold integers that float32 can hold, got 16777217"):
        validate.array("f", "x", cupy.array([2**24 + 1]), dtype=np.float32)
    with pytest.raises(TypeError, match="must have dtype float64, got float32"):
        validate.output("f", "out", given, shape=(3, 4), dtype=np.float64)
    with pytest.raises(ValueError, match="must be C-contiguous"):
        validate.output("f", "out", given.T, shape=(4, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="`out` must not overlap `x` in memory"):
        validate.no_overlap("f", {"out": given[1:]}, {"x": given})
    fresh = validate.array("f", "x", given, finite=False, copy=True)
    assert fresh.data.ptr != given.data.ptr


def test_mixed_with_the_host(cupy: Any) -> None:
    message = "f: `X` and `y` must live on the same device, got cuda:0 and cpu"
    with pytest.raises(TypeError, match=re.escape(message)):
        common_library("f", {"X": cupy.ones(2), "y": np.ones(2)})


def test_torch_shares_memory(torch: Any, cupy: Any) -> None:
    given = torch.arange(6, dtype=torch.float32, device="cuda").reshape(2, 3)
    array, library = import_array("f", "x", given)
    assert isinstance(array, cupy.ndarray)
    assert library == Library("torch", "cuda", 0)
    assert array.data.ptr == given.data_ptr()
    back = export_array(array, library)
    assert isinstance(back, torch.Tensor)
    assert back.data_ptr() == given.data_ptr()


def test_torch_stream_orders_the_work(torch: Any, cupy: Any) -> None:
    """Work queued by torch, then by CuPy on torch's stream, then by torch again is in order."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        library = Library("torch", "cuda", 0)
        assert current_stream(library) == stream.cuda_stream
        given = torch.zeros(1 << 22, device="cuda")
        for _ in range(200):
            given += 1
        array, _ = import_array("f", "x", given)
        with stream_context(library):
            assert cupy.cuda.get_current_stream().ptr == stream.cuda_stream
            answer = empty(array.shape, np.float32, library)
            cupy.multiply(array, 2, out=answer)
        back = export_array(answer, library) + 1
    stream.synchronize()
    assert bool((back == 401).all())


def test_torch_refusals(torch: Any) -> None:
    with pytest.raises(TypeError, match="must not require a gradient"):
        import_array("f", "x", torch.ones(2, device="cuda", requires_grad=True))
    with pytest.raises(TypeError, match=r"must have dtype float32 or float64, got torch\.bfloat16"):
        import_array("f", "x", torch.ones(2, device="cuda", dtype=torch.bfloat16))
