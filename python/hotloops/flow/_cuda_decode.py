"""The CUDA backend of decoding: from hidden activations to counts, on CuPy's current stream.

The products are those of CuPy, which calls cuBLAS, for 1024 rows at a time. The memory is that of
their logits and, for a CSR matrix, of their counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hotloops._runtime import dispatch
from hotloops._runtime.device import LaunchQueue, Place, place_of

__all__ = ["decode"]

_BLOCK = 1024  # rows of a product


def decode(
    output: str,
    head: int,
    hidden: Any,
    weight: Any,
    bias: Any,
    sizes: Any,
    theta: Any,
    theta_of: Any,
    seed: int,
    step: int,
    first_row: int,
    num_threads: int,
) -> Any:
    """Return counts or means as CuPy arrays, or counts as SciPy's CSR, of checked arrays."""
    import cupy

    with place_of(hidden) as place:
        tables = [
            None if table is None else cupy.asarray(table)
            for table in (bias, sizes, theta, theta_of)
        ]
        logits = _Logits(hidden, None if weight is None else cupy.asarray(weight))
        job = _Decoding(place, output, head, logits, tables, (seed, step, first_row))
        return job.run()


class _Logits:
    """Logits block by block.

    Blocks begin at multiples of their length of the cell's number, and short ones are filled up, so
    that a cell meets the same product in any batch.
    """

    def __init__(self, hidden: Any, weight: Any) -> None:
        import cupy

        self.rows = int(hidden.shape[0])
        self.columns = int(hidden.shape[1] if weight is None else weight.shape[0])
        self.dtype = hidden.dtype
        self._hidden, self._weight = hidden, weight
        self._padded: Any = None
        self._product: Any = None
        if weight is not None:
            self._padded = cupy.zeros((_BLOCK, hidden.shape[1]), hidden.dtype)
            self._product = cupy.empty((_BLOCK, self.columns), hidden.dtype)

    def blocks(self, first_row: int) -> Iterator[tuple[int, int, Any]]:
        """Yield the first and the last row of each block, and its logits."""
        import cupy

        before = first_row % _BLOCK
        for start in range(-before, self.rows, _BLOCK):
            begin, end = max(start, 0), min(start + _BLOCK, self.rows)
            if self._weight is None:
                yield begin, end, self._hidden[begin:end]
                continue
            self._padded[begin - start : end - start] = self._hidden[begin:end]
            cupy.matmul(self._padded, self._weight.T, out=self._product)
            yield begin, end, self._product[begin - start : end - start]


class _Decoding:
    """One call: where its answer goes, and what each block adds to it."""

    def __init__(
        self,
        place: Place,
        output: str,
        head: int,
        logits: _Logits,
        tables: list[Any],
        address: tuple[int, int, int],
    ) -> None:
        import cupy

        self._place, self._output, self._head, self._logits = place, output, head, logits
        self._bias, self._sizes, self._theta, self._theta_of = tables
        self._seed, self._step, self._first_row = address
        self._kernel = getattr(dispatch.cuda(), f"flow_decode_{logits.dtype}")
        self._nonzeros = cupy.empty(logits.rows, "int64")
        shape = (min(logits.rows, _BLOCK) if output == "csr" else logits.rows, logits.columns)
        self._target = cupy.empty(shape, logits.dtype if output == "mean" else "int32")

    def run(self) -> Any:
        """Decode all rows."""
        parts: list[tuple[Any, Any]] = []
        queue = LaunchQueue()
        for begin, end, logits in self._logits.blocks(self._first_row):
            if self._output == "csr":
                self._decode(begin, end, logits, self._target[: end - begin])
                self._check(begin, end)
                parts.append(_nonzeros_of(self._target[: end - begin]))
            else:
                self._decode(begin, end, logits, self._target[begin:end])
            queue.launched()
        self._check(0, self._logits.rows)
        return self._target if self._output != "csr" else self._matrix(parts)

    def _decode(self, begin: int, end: int, logits: Any, out: Any) -> None:
        rows, columns = end - begin, self._logits.columns
        is_mean = self._output == "mean"
        address = self._place.address
        where = address("decode_counts", "out", out, (rows, columns), out.dtype)
        self._kernel(
            self._head,
            rows,
            columns,
            address("decode_counts", "logits", logits, (rows, columns), logits.dtype),
            _address(self._bias),
            _address(_rows_of(self._sizes, begin, end)),
            _address(self._theta),
            _address(_rows_of(self._theta_of, begin, end)),
            self._seed,
            self._step,
            self._first_row + begin,
            0 if is_mean else where,
            where if is_mean else 0,
            _address(self._nonzeros[begin:end]),
            self._place.device,
            self._place.stream,
        )

    def _check(self, begin: int, end: int) -> None:
        """Wait for the rows, and raise where their logits were not finite."""
        wrong = self._nonzeros[begin:end] < 0
        if bool(wrong.any()):
            row = begin + int(wrong.argmax())
            raise ValueError(f"count_decode: the logits are not finite at index {row}")

    def _matrix(self, parts: list[tuple[Any, Any]]) -> Any:
        from scipy.sparse import csr_array

        pointers = np.zeros(self._logits.rows + 1, np.int64)
        np.cumsum(self._nonzeros.get(), out=pointers[1:])
        values, columns = (
            np.concatenate([np.zeros(0, np.int32), *(part[k] for part in parts)]) for k in (0, 1)
        )
        return csr_array(
            (values, columns, pointers), shape=(self._logits.rows, self._logits.columns)
        )


def _nonzeros_of(counts: Any) -> tuple[Any, Any]:
    """Return the values and the columns of the nonzeros, row by row, in host memory."""
    import cupy

    flat = counts.reshape(-1)
    places = cupy.flatnonzero(flat)
    return flat[places].get(), (places % counts.shape[1]).astype("int32").get()


def _rows_of(table: Any, begin: int, end: int) -> Any:
    return None if table is None else table[begin:end]


def _address(array: Any) -> int:
    return 0 if array is None else int(array.data.ptr)
