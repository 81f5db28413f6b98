"""Small charts as inline SVG. Colours, type and the dark scheme come from the page's style sheet, by class.

A chart is drawn at the width that a column of the page has, so that its text is as large as the page's own. Every chart
says in words what is seen (`alt`), and its marks carry their values as tooltips.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from markupsafe import Markup, escape

LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34  # margins around the axes, in units of the view box
MAX_POINTS, MAX_HITS = 600, 40  # of a line; of a line that answer to the pointer
NUM_COLORS = 8


@dataclass
class Series:
    """A line of a chart; color: which of the page's colours, 0 to 7."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int = 0


@dataclass
class Bar:
    """A bar of stacked heights; kind: a class of the style sheet for the whole bar."""

    title: str
    heights: Sequence[float]
    kind: str = ""
    fill: str = ""  # a colour of its own


def lines(
    series: Sequence[Series], *, alt: str, x_label: str, log: bool = False, width: int = 360, height: int = 190
) -> Markup:
    """Lines over one pair of axes. log: the vertical axis is logarithmic, for positive values."""
    drawn = [Series(one.name, *thinned(one.x, one.y), one.color) for one in series]
    xs, ys = ([value for one in drawn for value in getattr(one, axis)] for axis in ("x", "y"))
    across, up = Axis(min(xs), max(xs), LEFT, width - RIGHT), Axis(min(ys), max(ys), height - BOTTOM, TOP, log)
    marks = []
    for one in drawn:
        points = [(across(x), up(y)) for x, y in zip(one.x, one.y, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        marks.append(f'<polyline class="line c{one.color % NUM_COLORS}" points="{path}"/>')
        for k in range(0, len(points), max(1, ceil(len(points) / MAX_HITS))):
            said = f"{one.name}: {number(one.y[k])} at {x_label} {number(one.x[k])}"
            x, y = points[k]
            marks.append(f'<circle class="hit c{one.color % NUM_COLORS}" cx="{x:.1f}" cy="{y:.1f}" r="7">'
                         f"<title>{escape(said)}</title></circle>")  # fmt: skip
    return _svg(alt, width, height, [*_axes(across, up, width, height, x_label), *marks])


def points(
    named: Sequence[tuple[str, float, float, int]], *, alt: str, x_label: str, width: int = 360, height: int = 190
) -> Markup:
    """A point for each (name, x, y, color), over one pair of axes."""
    xs, ys = [x for _, x, _, _ in named], [y for _, _, y, _ in named]
    across, up = Axis(min(xs), max(xs), LEFT, width - RIGHT), Axis(min(ys), max(ys), height - BOTTOM, TOP)
    marks = [
        f'<circle class="point c{color % NUM_COLORS}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="5">'
        f"<title>{escape(f'{name}: {number(y)} at {x_label} {number(x)}')}</title></circle>"
        for name, x, y, color in named
    ]
    return _svg(alt, width, height, [*_axes(across, up, width, height, x_label), *marks])


def bars(
    columns: Sequence[Bar],
    *,
    alt: str,
    x_label: str,
    x_range: tuple[float, float],
    rule: tuple[float, str] | None = None,
    top: float | None = None,
    ticks_of_x: bool = True,
    width: int = 360,
    height: int = 190,
) -> Markup:
    """Stacked bars side by side over x_range. rule: a height with a line across it, and its name."""
    highest = max([sum(bar.heights) for bar in columns], default=0)
    across = Axis(*x_range, LEFT, width - RIGHT, tight=True)
    up = Axis(0, top or max(highest, rule[0] * 1.15 if rule else 0) or 1, height - BOTTOM, TOP)
    step = (width - RIGHT - LEFT) / max(1, len(columns))
    gap = min(2.0, step * 0.2)
    marks = []
    for k, bar in enumerate(columns):
        base = 0.0
        marks.append(f'<g class="bar {bar.kind}"><title>{escape(bar.title)}</title>')
        for n, part in enumerate(bar.heights):
            y, bottom = up(base + part), up(base)
            fill = f' style="fill:{escape(bar.fill)}"' if bar.fill else ""
            marks.append(f'<rect class="b{n}" x="{LEFT + k * step + gap / 2:.2f}" y="{y:.2f}" '
                         f'width="{step - gap:.2f}" height="{max(0.0, bottom - y):.2f}"{fill}/>')  # fmt: skip
            base += part
        marks.append("</g>")
    if rule:
        y = up(rule[0])
        marks.append(f'<line class="rule" x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        marks.append(
            f'<text class="note" x="{width - RIGHT}" y="{y - 4:.1f}" text-anchor="end">{escape(rule[1])}</text>'
        )
    return _svg(alt, width, height, [*_axes(across, up, width, height, x_label, ticks_of_x), *marks])


class Axis:
    """Values -> places from `start` to `end`. Without tight, the range ends on its ticks."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool = False, tight: bool = False):
        self.log = log
        if log:
            self.ticks = _decades(low, high)
        else:
            if high <= low:
                pad = abs(low) * 0.05 or 0.5
                low, high = low - pad, high + pad
            self.ticks = nice(low, high)
        inside = [value for value in self.ticks if low <= value <= high]
        self.low, self.high = (low, high) if tight else (min(low, self.ticks[0]), max(high, self.ticks[-1]))
        self.ticks = inside if tight else self.ticks
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        low, high, value = (log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def nice(low: float, high: float, num: int = 4) -> list[float]:
    """About `num` round steps (1, 2 or 5 times a power of ten) that cover low to high."""
    rough = (high - low) / num
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    slack = 1e-6 * (high - low)
    while first * step > low + slack:  # products are rounded, which shows where numbers are large beside their range
        first -= 1
    while last * step < high - slack:
        last += 1
    return [k * step for k in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    exponents = range(floor(log10(low) + 1e-9), max(ceil(log10(high) - 1e-9), floor(log10(low) + 1e-9) + 1) + 1)
    return [10.0**exponent for exponent in exponents]


def thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most MAX_POINTS points: the lowest and the highest of equal stretches. Values that are not finite go."""
    points = [(a, b) for a, b in zip(x, y, strict=True) if isfinite(a) and isfinite(b)]
    if len(points) > MAX_POINTS:
        size = ceil(2 * len(points) / MAX_POINTS)
        kept = []
        for start in range(0, len(points), size):
            stretch = points[start : start + size]
            kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
        points = kept
    return [a for a, _ in points], [b for _, b in points]


def number(value: float) -> str:
    """As a person would write it: 1,157,859; 0.0026; 66.5; 1e-06."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _short(value: float) -> str:
    """For a tick: 160k, 2.5M."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= factor:
            return f"{value / (1e3 if unit == 'k' else factor):g}{unit}"
    return f"{value:,.0f}" if value == round(value) and abs(value) >= 1000 else f"{value:.4g}"


def _axes(across: Axis, up: Axis, width: int, height: int, x_label: str, ticks_of_x: bool = True) -> list[str]:
    made = ['<g class="axis" aria-hidden="true">']
    for value in up.ticks:
        y = up(value)
        made.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        made.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    for value in across.ticks if ticks_of_x else ():
        x = across(value)
        anchor = "end" if x > width - RIGHT - 8 else "middle"
        made.append(f'<text x="{x:.1f}" y="{height - BOTTOM + 15}" text-anchor="{anchor}">{_short(value)}</text>')
    made.append(f'<text class="label" x="{(LEFT + width - RIGHT) / 2}" y="{height - 4}" text-anchor="middle">'
                f"{escape(x_label)}</text></g>")  # fmt: skip
    return made


def _svg(alt: str, width: int, height: int, marks: Sequence[str]) -> Markup:
    opened = f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alt)}">'
    return Markup(opened + "".join(marks) + "</svg>")
