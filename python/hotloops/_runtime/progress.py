"""A progress bar and a clock for loops that are worked off in chunks."""

from __future__ import annotations

import time
import warnings
from types import TracebackType
from typing import Any, final

__all__ = ["Progress"]


@final
class Progress:
    """Counts finished units of work, shows them if asked to, and watches the time.

    Parameters
    ----------
    total : int
        Units of work.
    enabled : bool
        Show a tqdm bar on standard error.
    description : str
        Text before the bar.
    unit : str
        Name of one unit.
    max_seconds : float, optional
        Time after which `out_of_time` is true.
    """

    def __init__(
        self,
        total: int,
        *,
        enabled: bool,
        description: str,
        unit: str = "step",
        max_seconds: float | None = None,
    ) -> None:
        self.total = total
        self.done = 0
        self._max_seconds = max_seconds
        self._start = time.monotonic()
        self._bar = _bar(total, description, unit) if enabled else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def watched(self) -> bool:
        """Whether anybody looks at the bar or the clock between chunks."""
        return self._bar is not None or self._max_seconds is not None

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def update(self, n: int = 1) -> None:
        """Count `n` more units as done."""
        self.done += n
        if self._bar is not None:
            self._bar.update(n)

    def out_of_time(self) -> bool:
        """Say whether `max_seconds` are over."""
        return self._max_seconds is not None and self.elapsed >= self._max_seconds


def _bar(total: int, description: str, unit: str) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        message = f"progress=True shows nothing, since tqdm cannot be imported ({error})"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
        return None
    return tqdm(total=total, desc=description, unit=unit, unit_scale=True)
