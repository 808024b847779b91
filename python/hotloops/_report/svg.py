"""Small charts as SVG text: lines, points with error bars, bars, reference lines.

A picture carries its own colours for light and for dark screens and needs no script, no font file
and no plotting library. Series differ by marker and dash as well as by colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from hotloops._report.axes import Axis

_LIGHT = ("#0067a5", "#c2410c", "#0a7a55", "#8a3fa0", "#6b7280")
_DARK = ("#5cb8f5", "#ff9d5c", "#4fd1a5", "#d79bea", "#a3abb8")
_MARKERS = ("circle", "square", "diamond", "triangle", "circle")
_DASHES = ("", "7 4", "2 4", "9 3 2 3", "4 4")
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif"
_CHARACTER = 6.6  # mean width of a character at 12 px
_TOP, _RIGHT, _BOTTOM = 58.0, 22.0, 46.0


def _style() -> str:
    def scheme(ink: str, faint: str, grid: str, paper: str, colours: Sequence[str]) -> str:
        series = "".join(f"--c{i}:{colour};" for i, colour in enumerate(colours))
        return f"--ink:{ink};--faint:{faint};--grid:{grid};--paper:{paper};{series}"

    light = scheme("#1f2733", "#5b6675", "#e3e7ec", "#ffffff", _LIGHT)
    dark = scheme("#e6eaf0", "#9aa5b4", "#303947", "#171c24", _DARK)
    return (
        f".hl-chart{{{light}}}"
        f"@media(prefers-color-scheme:dark){{.hl-chart{{{dark}}}}}"
        f".hl-chart text{{{_FONT};font-size:12px;fill:var(--faint)}}"
        ".hl-chart .title{font-size:14px;font-weight:600;fill:var(--ink)}"
        ".hl-chart .key{fill:var(--ink)}"
    )


@dataclass
class _Series:
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    name: str
    colour: int
    error: Sequence[float] = ()
    fill: bool = False
    open_points: Sequence[bool] = ()
    notes: Sequence[str] = ()


@dataclass
class Chart:
    """A picture that series are added to and that is then drawn.

    Attributes
    ----------
    title : str
        Headline.
    x, y : Axis
        The axes.
    width, height : float
        Size in pixels of the whole picture; it scales with the page.
    """

    title: str
    x: Axis
    y: Axis
    width: float = 560.0
    height: float = 360.0
    _series: list[_Series] = field(default_factory=list, repr=False)

    def line(
        self,
        x: Sequence[float],
        y: Sequence[float],
        name: str = "",
        colour: int = 0,
        *,
        fill: bool = False,
    ) -> None:
        """Add a line through points, with the area under it if ``fill``."""
        self._add(_Series("line", x, y, name, colour, fill=fill))

    def points(
        self,
        x: Sequence[float],
        y: Sequence[float],
        name: str = "",
        colour: int = 0,
        *,
        error: Sequence[float] = (),
        open_points: Sequence[bool] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Add markers; ``error`` draws vertical bars, an open point is an upper bound."""
        self._add(_Series("points", x, y, name, colour, error, False, open_points, notes))

    def spans(
        self,
        low: Sequence[float],
        high: Sequence[float],
        at: Sequence[float],
        name: str = "",
        colour: int = 0,
        *,
        notes: Sequence[str] = (),
    ) -> None:
        """Add horizontal intervals ``at`` categories of the y axis, a marker in their middle."""
        middle = [(left + right) / 2.0 for left, right in zip(low, high, strict=True)]
        half = [(right - left) / 2.0 for left, right in zip(low, high, strict=True)]
        self.x.stretch([*low, *high])
        self._series.append(_Series("spans", middle, at, name, colour, half, notes=notes))

    def bars(
        self,
        lengths: Sequence[float],
        name: str = "",
        colour: int = 0,
        *,
        at: Sequence[float],
        labels: Sequence[str],
    ) -> None:
        """Add horizontal bars from zero, ``at`` categories of the y axis, with a label each."""
        self._add(_Series("bars", lengths, at, name, colour, notes=labels))

    def rule(self, x: float, name: str = "", colour: int = 4) -> None:
        """Add a vertical reference line."""
        self.x.stretch([x])
        self._series.append(_Series("rule", [x], [], name, colour))

    def _add(self, series: _Series) -> None:
        self.x.stretch(series.x)
        self.y.stretch(series.y)
        for value, error in zip(series.y, series.error, strict=False):
            self.y.stretch([value - error, value + error])
        self._series.append(series)

    def svg(self) -> str:
        """Draw it: an ``<svg>`` element that is a complete file as well."""
        parts = [*self._frame(), *self._legend()]
        for series in self._series:
            parts += getattr(self, f"_draw_{series.kind}")(series)
        label = escape(self.title, quote=True)
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" class="hl-chart" role="img" '
            f'aria-label="{label}" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'width="{self.width:g}"><style>{_style()}</style>'
            f'<rect width="100%" height="100%" fill="var(--paper)"/>{"".join(parts)}</svg>\n'
        )

    @property
    def _left(self) -> float:
        longest = max((len(text) for _, text in self.y.ticks()), default=1)
        return 16.0 + _CHARACTER * longest

    def _at(self, x: float, y: float) -> tuple[float, float]:
        across = self.width - self._left - _RIGHT
        down = self.height - _TOP - _BOTTOM
        up = self.y.place(y)
        y_place = up if self.y.names else 1.0 - up  # categories are read from the top
        return self._left + across * self.x.place(x), _TOP + down * y_place

    def _seen(self, series: _Series) -> list[tuple[int, float, float]]:
        return [
            (i, *self._at(x, y))
            for i, (x, y) in enumerate(zip(series.x, series.y, strict=False))
            if self.x.usable(x) and self.y.usable(y)
        ]

    def _frame(self) -> list[str]:
        left, right = self._left, self.width - _RIGHT
        bottom = self.height - _BOTTOM
        parts = [
            _text(16, 22, self.title, css="title"),
            _text(left, bottom + 36, self.x.label),
        ]
        if self.y.label:
            parts.append(_text(right, 22, self.y.label, anchor="end"))
        for value, text in self.x.ticks(about=max(3, int((right - left) / 75))):
            x = self._at(value, self.y.ticks()[0][0])[0]
            parts.append(_stroke(x, _TOP, x, bottom, "var(--grid)"))
            parts.append(_text(x, bottom + 18, text, anchor="middle"))
        for value, text in self.y.ticks():
            y = self._at(self.x.ticks()[0][0], value)[1]
            if not self.y.names:
                parts.append(_stroke(left, y, right, y, "var(--grid)"))
            parts.append(_text(left - 8, y + 4, text, anchor="end"))
        parts.append(_stroke(left, bottom, right, bottom, "var(--faint)"))
        return parts

    def _legend(self) -> list[str]:
        parts, x = [], 16.0
        for series in self._series:
            if not series.name:
                continue
            if series.kind in ("points", "spans"):
                parts.append(_marker(x + 6, 40, series.colour))
            elif series.kind == "bars":
                parts.append(_box(x, 35, 12, 10, series.colour))
            else:
                dash = _DASHES[series.colour]
                parts.append(_stroke(x - 2, 40, x + 14, 40, f"var(--c{series.colour})", 2.2, dash))
            parts.append(_text(x + 19, 44, series.name, css="key"))
            x += 34.0 + _CHARACTER * len(series.name)
        return parts

    def _draw_line(self, series: _Series) -> list[str]:
        spots = self._seen(series)
        if not spots:
            return []
        path = " ".join(f"{x:.1f},{y:.1f}" for _, x, y in spots)
        parts = []
        if series.fill:
            base = self.height - _BOTTOM
            area = f"{spots[0][1]:.1f},{base:.1f} {path} {spots[-1][1]:.1f},{base:.1f}"
            parts.append(
                f'<polygon points="{area}" fill="var(--c{series.colour})" opacity="0.13"/>'
            )
        dash = f' stroke-dasharray="{_DASHES[series.colour]}"' if _DASHES[series.colour] else ""
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="var(--c{series.colour})" '
            f'stroke-width="2" stroke-linejoin="round"{dash}/>'
        )
        return parts

    def _draw_points(self, series: _Series) -> list[str]:
        parts = []
        low_end = self.height - _BOTTOM
        for i, x, y in self._seen(series):
            hollow = bool(series.open_points) and series.open_points[i]
            colour = f"var(--c{series.colour})"
            if hollow:
                parts.append(_stroke(x, y, x, min(y + 22, low_end), colour, 1.5))
                parts.append(_arrow(x, min(y + 22, low_end), colour))
            elif series.error:
                low, high = series.y[i] - series.error[i], series.y[i] + series.error[i]
                bottom = self._at(series.x[i], low)[1] if self.y.usable(low) else low_end
                top = self._at(series.x[i], high)[1]
                parts.append(_stroke(x, bottom, x, top, colour, 1.5))
            note = series.notes[i] if series.notes else ""
            parts.append(_marker(x, y, series.colour, hollow=hollow, note=note))
        return parts

    def _draw_spans(self, series: _Series) -> list[str]:
        parts = []
        for i, x, y in self._seen(series):
            half = series.error[i]
            left, right = (self._at(series.x[i] + side * half, series.y[i])[0] for side in (-1, 1))
            parts.append(_stroke(left, y, right, y, f"var(--c{series.colour})", 2.0))
            note = series.notes[i] if series.notes else ""
            parts.append(_marker(x, y, series.colour, note=note))
        return parts

    def _draw_bars(self, series: _Series) -> list[str]:
        step = (self.height - _TOP - _BOTTOM) / max(1, len(self.y.names))
        parts = []
        for i, x, y in self._seen(series):
            start = self._at(0.0, series.y[i])[0]
            parts.append(
                _box(start, y - 0.34 * step, max(1.0, x - start), 0.68 * step, series.colour)
            )
            parts.append(_text(x + 6, y + 4, series.notes[i]))
        return parts

    def _draw_rule(self, series: _Series) -> list[str]:
        x = self._at(series.x[0], self.y.ticks()[0][0])[0]
        colour, dash = f"var(--c{series.colour})", _DASHES[series.colour]
        return [_stroke(x, _TOP, x, self.height - _BOTTOM, colour, 1.8, dash)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", css: str = "") -> str:
    style = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'


def _stroke(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0, dash: str = ""
) -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width:g}"{dashes}/>'
    )


def _arrow(x: float, y: float, colour: str) -> str:
    path = f"M{x - 4:.1f} {y - 5:.1f}L{x:.1f} {y:.1f}L{x + 4:.1f} {y - 5:.1f}"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _box(x: float, y: float, width: float, height: float, colour: int) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" '
        f'fill="var(--c{colour})"/>'
    )


def _marker(x: float, y: float, colour: int, *, hollow: bool = False, note: str = "") -> str:
    shape = _MARKERS[colour]
    fill = "var(--paper)" if hollow else f"var(--c{colour})"
    look = f'fill="{fill}" stroke="var(--c{colour})" stroke-width="1.8"'
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" {look}>{_hover(note)}</circle>'
    corners = {
        "square": ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        "diamond": ((0, -5.4), (5.4, 0), (0, 5.4), (-5.4, 0)),
        "triangle": ((0, -5), (5, 4), (-5, 4)),
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" {look}>{_hover(note)}</polygon>'


def _hover(note: str) -> str:
    return f"<title>{escape(note)}</title>" if note else ""
