"""Figures as SVG text: dots with their intervals, and points in the plane of two measures."""

from collections.abc import Sequence
from html import escape
from math import floor, log10

from genzoo.study.intervals import Interval

INK, FAINT, LINES = "#24292f", "#d0d7de", ("#0969da", "#cf222e", "#1a7f37", "#8250df", "#9a6700", "#57606a")
WIDTH, LINE = 760, 18  # in units of the view box; height of a line of text


def dots(panels: Sequence[tuple[str, Sequence[tuple[str, Interval]]]], alt: str) -> str:
    """A panel a measure: a line of text for each value, its dot, and its interval."""
    marks, top = [], 8
    left = 24 + 6.2 * max(len(label) for _, rows in panels for label, _ in rows)
    for title, rows in panels:
        ends = [end for _, one in rows for end in (one.center, one.low, one.high) if end is not None]
        across = _Axis(min(ends), max(ends), left, WIDTH - 24)
        bottom = top + LINE * (len(rows) + 1) + 4
        marks.append(_text(left, top + 12, title, weight="bold"))
        for tick in across.ticks():
            x = across(tick)
            marks.append(f'<path d="M{x:.1f} {top + LINE}V{bottom}" stroke="{FAINT}"/>')
            marks.append(_text(x, bottom + 14, f"{tick:g}", anchor="middle"))
        for n, (label, one) in enumerate(rows):
            y = top + LINE * (n + 1.5)
            marks.append(_text(left - 8, y + 4, label, anchor="end"))
            marks += _cross(across(one.center), y, LINES[0], label, one, low=_maybe(across, one.low),
                            high=_maybe(across, one.high))  # fmt: skip
        top = bottom + 34
    return _svg(marks, top, alt)


def scatter(points: Sequence[tuple[str, Interval, Interval]], x_label: str, y_label: str, alt: str) -> str:
    """(name, x, y): a point with both of its intervals and its name beside it."""
    height, left, bottom = 460, 70, 410
    spans = []
    for k in (1, 2):
        ends = [end for point in points for end in (point[k].center, point[k].low, point[k].high) if end is not None]
        spans.append((min(ends), max(ends)))
    across, up = _Axis(*spans[0], left, WIDTH - 110), _Axis(*spans[1], bottom, 20)
    marks = []
    for tick in across.ticks():
        marks.append(f'<path d="M{across(tick):.1f} 20V{bottom}" stroke="{FAINT}"/>')
        marks.append(_text(across(tick), bottom + 16, f"{tick:g}", anchor="middle"))
    for tick in up.ticks():
        marks.append(f'<path d="M{left} {up(tick):.1f}H{WIDTH - 110}" stroke="{FAINT}"/>')
        marks.append(_text(left - 6, up(tick) + 4, f"{tick:g}", anchor="end"))
    marks.append(_text((left + WIDTH - 110) / 2, bottom + 36, x_label, anchor="middle"))
    marks.append(_text(left - 56, 12, y_label))
    for n, (name, x, y) in enumerate(points):
        color, at = LINES[n % len(LINES)], (across(x.center), up(y.center))
        marks += _cross(*at, color, f"{name}, {x_label}", x, low=_maybe(across, x.low), high=_maybe(across, x.high))
        if y.low is not None:
            marks.append(f'<path d="M{at[0]:.1f} {up(y.low):.1f}V{up(y.high):.1f}" stroke="{color}" stroke-width="2"/>')
        marks.append(_text(at[0] + 7, at[1] - 6, name, fill=color))
    return _svg(marks, height, alt)


class _Axis:
    """Values to places, with a margin, and round numbers to write at it."""

    def __init__(self, low: float, high: float, start: float, end: float):
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        self.low, self.high, self.start, self.end = low - margin, high + margin, start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        rough = (self.high - self.low) / 5
        unit = 10 ** floor(log10(rough))
        step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= rough)
        first = floor(self.low / step) + 1
        return [k * step for k in range(first, first + 12) if k * step <= self.high]


def _maybe(axis: _Axis, value: float | None) -> float | None:
    return None if value is None else axis(value)


def _cross(x: float, y: float, color: str, label: str, one: Interval, *, low: float | None, high: float | None) -> list:
    said = f"{label}: {one.center:.4g}" + (f" ({one.low:.4g} to {one.high:.4g})" if one.low is not None else "")
    line = [] if low is None else [f'<path d="M{low:.1f} {y:.1f}H{high:.1f}" stroke="{color}" stroke-width="2"/>']
    return [*line, f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"><title>{escape(said)}</title></circle>']


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", fill: str = INK) -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="{fill}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _svg(marks: Sequence[str], height: float, alt: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img"'
    font = 'font-family="system-ui, sans-serif" font-size="12"'
    ground = f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>'
    return "\n".join([f"{head} {font}>", f"<title>{escape(alt)}</title>", ground, *marks, "</svg>", ""])
