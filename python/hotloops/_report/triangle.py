"""A picture on the triangle of three weights that sum to one, with level lines of a function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
import numpy.typing as npt

from hotloops._report.axes import Axis
from hotloops._report.svg import Chart

__all__ = ["Triangle", "triangle"]

Array = npt.NDArray[np.float64]

_CELLS = 64  # along an edge, for level lines
_HEIGHT = math.sqrt(0.75)
_TOP, _BOTTOM, _SIDE = 76.0, 34.0, 40.0


def triangle(title: str, corners: tuple[str, str, str]) -> Triangle:
    """Return an empty picture; the corners are named from the left over the right to the top."""
    return Triangle(title, Axis(""), Axis(""), height=480.0, corners=corners)


@dataclass
class Triangle(Chart):
    """A chart whose plane is the triangle; `path` and `cloud` take weights of shape (n, 3).

    Attributes
    ----------
    corners : tuple of str
        Names of the three weights.
    """

    corners: tuple[str, str, str] = ("", "", "")
    _levels: list[str] = field(default_factory=list, repr=False)

    def path(self, weights: Array, name: str = "", colour: int = 0) -> None:
        """Add a line through points."""
        x, y = _plane(weights)
        self.line(x.tolist(), y.tolist(), name, colour)

    def cloud(
        self, weights: Array, name: str = "", colour: int = 0, *, notes: Sequence[str] = ()
    ) -> None:
        """Add markers."""
        x, y = _plane(weights)
        self.points(x.tolist(), y.tolist(), name, colour, notes=notes)

    def contours(self, function: Callable[[Array], Array], levels: Sequence[float]) -> None:
        """Add level lines of a function of weights (n, 3)."""
        corners = _small_triangles()
        values = np.asarray(function(corners.reshape(-1, 3)), np.float64).reshape(-1, 3)
        for level in levels:
            drawn = []
            for start, end in _crossings(corners, values, level):
                ends = [self._at(*(float(c) for c in _plane(point))) for point in (start, end)]
                drawn.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in ends))
            if drawn:
                self._levels.append(
                    f'<path d="{"".join(drawn)}" fill="none" stroke="var(--faint)" '
                    'stroke-width="0.7" opacity="0.7"/>'
                )

    def _at(self, x: float, y: float) -> tuple[float, float]:
        side = min(self.width - 2 * _SIDE, (self.height - _TOP - _BOTTOM) / _HEIGHT)
        left = (self.width - side) / 2.0
        return left + side * x, _TOP + side * (_HEIGHT - y)

    def _frame(self) -> list[str]:
        left, right, top = (self._at(*spot) for spot in ((0.0, 0.0), (1.0, 0.0), (0.5, _HEIGHT)))
        outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in (left, right, top))
        names = [
            (*left, 0.0, 20.0, "middle"),
            (*right, 0.0, 20.0, "middle"),
            (*top, 0.0, -8.0, "middle"),
        ]
        labels = [
            f'<text x="{x + dx:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}">{escape(name)}</text>'
            for (x, y, dx, dy, anchor), name in zip(names, self.corners, strict=True)
        ]
        title = f'<text x="16" y="22" class="title">{escape(self.title)}</text>'
        edge = f'<polygon points="{outline}" fill="none" stroke="var(--faint)"/>'
        return [title, *self._levels, edge, *labels]


def _plane(weights: Array) -> tuple[Array, Array]:
    """Return places in a triangle with sides of one."""
    return weights[..., 1] + weights[..., 2] / 2.0, _HEIGHT * weights[..., 2]


def _small_triangles() -> Array:
    """Cut the triangle into cells; return the corners of each, (cells, 3, 3)."""
    n = _CELLS
    pairs = [(i, j) for i in range(n) for j in range(n - i)]
    upward = [((i, j), (i + 1, j), (i, j + 1)) for i, j in pairs]
    downward = [((i + 1, j), (i + 1, j + 1), (i, j + 1)) for i, j in pairs if i + j < n - 1]
    grid = np.array(upward + downward, np.float64) / n
    return np.concatenate([1.0 - grid.sum(axis=2, keepdims=True), grid], axis=2)


def _crossings(corners: Array, values: Array, level: float) -> Array:
    """Return the piece of a level line in each cell that it crosses, (pieces, 2, 3)."""
    above = values > level
    crossed = above.any(axis=1) & ~above.all(axis=1)
    corners, values, above = corners[crossed], values[crossed], above[crossed]
    alone = np.where(above.sum(axis=1) == 1, above.argmax(axis=1), (~above).argmax(axis=1))
    rows = np.arange(len(corners))
    ends = []
    for other in ((alone + 1) % 3, (alone + 2) % 3):
        start, stop = values[rows, alone], values[rows, other]
        share = ((level - start) / (stop - start))[:, None]
        ends.append(corners[rows, alone] * (1.0 - share) + corners[rows, other] * share)
    return np.stack(ends, axis=1)
