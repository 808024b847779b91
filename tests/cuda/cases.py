"""States and parameters for every kernel of sgd, and the comparison of two runs bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops.sgd import _cpp, _cuda
from hotloops.sgd._state import ChainArrays

KERNELS = ("quadratic", "quadratic_full", "cosine", "least_squares", "logistic")
NAMES = tuple(field.name for field in fields(ChainArrays))
STEP_SIZES = (0.05, 0.1, 0.2, 0.02, 0.15, 0.3, 0.07, 0.25, 0.03)


@dataclass(frozen=True)
class Case:
    """Where some chains start and how they go on."""

    kernel: str
    dtype: str
    dim: int
    num_chains: int = 7
    copies: int = 2
    seed: int = 0x0123456789ABCDEF
    chain_offset: int = 5
    first_step: int = 11
    divergence_limit: float = 1e6
    num_rows: int = 50
    batch_size: int = 3
    sampling: int = 0
    spread: float = 0.3  # of where the chains start

    def chains(self) -> ChainArrays:
        random = np.random.default_rng((self.dim, self.num_chains, self.copies))
        shape = (self.num_chains, self.copies, self.dim)
        return ChainArrays(
            theta=(self.spread * random.standard_normal(shape)).astype(self.dtype),
            sums=random.standard_normal(shape),
            flags=np.zeros(shape[:2], np.uint8),
            diverged_at=np.full(shape[:2], -1, np.int64),
            step_sizes=np.array(STEP_SIZES[: self.copies], self.dtype),
        )

    def parameters(self) -> tuple[Any, ...]:
        random = np.random.default_rng(self.dim)
        d = self.dim

        def own(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.ascontiguousarray(values, self.dtype)

        if self.kernel == "cosine":
            return 1.0, 0.7
        center = own(random.standard_normal(d))
        if self.kernel == "quadratic":
            return own(random.uniform(0.5, 2, d)), center, own(random.uniform(0.5, 1, d))
        if self.kernel == "quadratic_full":
            root = random.standard_normal((d, d))
            # Not quite symmetric, to tell rows from columns.
            matrix = root @ root.T / d + np.eye(d) + 1e-3 * random.standard_normal((d, d))
            return own(matrix), center, own(np.tril(root))
        features = own(random.standard_normal((self.num_rows, d)) / np.sqrt(d))
        targets = own((random.random(self.num_rows) < 0.5).astype(float))
        return features, targets, self.batch_size, self.sampling, 0.01

    def with_(self, **changes: Any) -> Case:
        return replace(self, **changes)


def on_device(cupy: Any, value: Any) -> Any:
    """Return arrays, tuples and chains of NumPy as those of `cupy`."""
    if isinstance(value, ChainArrays):
        return ChainArrays(*(on_device(cupy, getattr(value, name)) for name in NAMES))
    if isinstance(value, tuple):
        return tuple(on_device(cupy, part) for part in value)
    return cupy.asarray(value) if isinstance(value, np.ndarray) else value


def run_cpp(
    case: Case, parts: tuple[int, ...], burn_in: int = 0, start: ChainArrays | None = None
) -> ChainArrays:
    """Advance by the CPU driver, in parts; the first `burn_in` of them do not accumulate."""
    return _run(_cpp, case, start or case.chains(), case.parameters(), parts, burn_in)


def run_cuda(cupy: Any, case: Case, parts: tuple[int, ...], burn_in: int = 0) -> ChainArrays:
    """The same on the device; `cupy` may be the stand-in."""
    chains, parameters = on_device(cupy, case.chains()), on_device(cupy, case.parameters())
    return _run(_cuda, case, chains, parameters, parts, burn_in)


def _run(
    backend: Any,
    case: Case,
    chains: ChainArrays,
    parameters: tuple[Any, ...],
    parts: tuple[int, ...],
    burn_in: int,
) -> ChainArrays:
    step = case.first_step
    for number, steps in enumerate(parts):
        backend.advance(
            chains,
            case.kernel,
            parameters,
            seed=case.seed,
            chain_offset=case.chain_offset,
            first_step=step,
            num_steps=steps,
            accumulate=number >= burn_in,
            divergence_limit=case.divergence_limit,
            num_threads=1,
        )
        step += steps
    return chains


def assert_same_bits(first: ChainArrays, second: ChainArrays) -> None:
    for name in NAMES:
        one, other = (to_host(getattr(chains, name)) for chains in (first, second))
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        different = np.flatnonzero(
            (one.reshape(-1, 1).view(np.uint8) != other.reshape(-1, 1).view(np.uint8)).any(axis=1)
        )
        place = np.unravel_index(different[0], one.shape) if different.size else ()
        assert different.size == 0, f"{name} differs in {different.size} places, first at {place}"


def to_host(array: Any) -> npt.NDArray[Any]:
    return array.get() if hasattr(array, "get") else np.asarray(array)
