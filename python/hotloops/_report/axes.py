"""Axes of a picture: where a value lies on the paper, where the ticks are, and what they say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_MANY_DECADES = 1.8


@dataclass
class Axis:
    """One axis.

    Attributes
    ----------
    label : str
        What it shows, with the unit.
    log : bool
        Logarithmic; values that are not positive are then left out.
    names : sequence of str
        Categories; their places are 0, 1, 2...
    include : sequence of float
        Values that the range must hold, for instance 0 for bars.
    """

    label: str
    log: bool = False
    names: Sequence[str] = ()
    include: Sequence[float] = ()
    _low: float = field(default=math.inf, repr=False)
    _high: float = field(default=-math.inf, repr=False)

    def usable(self, value: float) -> bool:
        """Say whether a value has a place on this axis."""
        return math.isfinite(value) and (value > 0.0 or not self.log)

    def stretch(self, values: Iterable[float]) -> None:
        """Make the range hold these values."""
        for value in values:
            if self.usable(value):
                self._low = min(self._low, value)
                self._high = max(self._high, value)

    def limits(self) -> tuple[float, float]:
        """Return the range with a margin, on the logarithmic scale if the axis is one."""
        self.stretch(self.include)
        if self.names:
            return -0.6, len(self.names) - 0.4
        low, high = (self._low, self._high) if self._low <= self._high else (1.0, 2.0)
        if self.log:
            low, high = math.log10(low), math.log10(high)
        margin = 0.06 * (high - low) if high > low else 0.5 * (abs(low) if low else 1.0)
        return (
            low if low in self.include else low - margin,
            high if high in self.include else high + margin,
        )

    def place(self, value: float) -> float:
        """Return where a value lies on the range: 0 at its low end, 1 at its high end."""
        low, high = self.limits()
        return ((math.log10(value) if self.log else value) - low) / (high - low)

    def ticks(self, about: int = 6) -> list[tuple[float, str]]:
        """Return values to mark, with their texts."""
        if self.names:
            return [(float(place), name) for place, name in enumerate(self.names)]
        low, high = self.limits()
        return _log_ticks(low, high, about) if self.log else _linear_ticks(low, high, about)


def _linear_ticks(low: float, high: float, about: int) -> list[tuple[float, str]]:
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = min((unit, 2 * unit, 5 * unit, 10 * unit), key=lambda size: abs(math.log(size / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(k * step, _tidy(k * step, decimals)) for k in range(first, last + 1)]


def _log_ticks(low: float, high: float, about: int) -> list[tuple[float, str]]:
    factors = (1,) if high - low > _MANY_DECADES else (1, 2, 5)
    stride = max(1, math.ceil((high - low) / about)) if factors == (1,) else 1
    exponents = range(max(math.floor(low), -307), min(math.ceil(high), 307) + 1)
    ticks = [
        (factor * 10.0**exponent, factor, exponent)
        for exponent in exponents
        if exponent % stride == 0
        for factor in factors
        if low <= math.log10(factor) + exponent <= high
    ]
    return [(value, _power(factor, exponent)) for value, factor, exponent in ticks]


def _power(factor: int, exponent: int) -> str:
    if -4 <= exponent <= 4:
        return _tidy(factor * 10.0**exponent, max(0, -exponent))
    power = "10" + str(exponent).translate(_SUPERSCRIPT)
    return power if factor == 1 else f"{factor}·{power}"


def _tidy(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) != 0.0 else text.lstrip("-")
