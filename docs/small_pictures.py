"""Small pictures of the catalogue: sheets of images, and SVG of networks, points, curves and bars."""

from collections.abc import Sequence
from math import log2

import numpy as np
from PIL import Image
from torch import Tensor

STYLE = (  # colours that are seen on light pages and on dark ones
    "rect,circle{fill:#4a7dbd;fill-opacity:.8}text{font:10px sans-serif;fill:#888}.end{text-anchor:end}"
    ".axis{stroke:#999;fill:none}.curve{stroke:#d0602f;stroke-width:2;fill:none}"
    ".data,.drawn{stroke-width:3.2;stroke-linecap:round;fill:none}"
    ".data{stroke:#9a9a9a;stroke-opacity:.55}.drawn{stroke:#d0602f;stroke-opacity:.8}"
)


def sheet(rows: Sequence[Tensor], gap: int = 2) -> Image.Image:
    """Each b c h w in [0, 1]; grey images beside coloured ones stay grey."""
    channels = max(row.shape[1] for row in rows)
    size = rows[0].shape[-1] + gap
    page = np.full((len(rows) * size - gap, len(rows[0]) * size - gap, channels), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate((255 * row.float().clamp(0, 1)).round().byte().permute(0, 2, 3, 1).numpy()):
            page[r * size : r * size + size - gap, c * size : c * size + size - gap] = image
    return Image.fromarray(page[..., 0] if channels == 1 else page)


def boxes(stages: list[tuple[int, ...]]) -> str:
    """A map c h w is a box h high and as wide as its channels; tokens n c and vectors are lines."""
    tallest = max((stage[-1] for stage in stages if len(stage) == 3), default=32)
    x, drawn = 10.0, []
    for stage in stages:
        high = {3: 12 + 78 * stage[-1] / tallest, 2: 90, 1: 60}[len(stage)]
        wide = 3 + 2.2 * log2({3: stage[0], 2: 1 + stage[0], 1: 1}[len(stage)])
        middle = x + wide / 2
        turned = f'transform="rotate(40 {middle:.1f} 112)"'
        drawn += [rect(x, 55 - high / 2, wide, high), text(middle, 118, "×".join(map(str, stage)), turned)]
        x += wide + 14
    return svg(x + 40, 160, drawn)


def clouds(data: np.ndarray, made: np.ndarray) -> str:
    """Points n 2 of the data, and beside them, over the data's, those that were made."""
    layers = [("data", data, 0), ("data", data, 170), ("drawn", made, 170)]
    return svg(330, 160, [f'<path class="{name}" d="{_dots(points, left)}"/>' for name, points, left in layers])


def _dots(points: np.ndarray, left: float) -> str:
    inside = points[(np.abs(points) < 2.6).all(1)]
    return "".join(f"M{left + 80 + 30 * x:.1f} {80 - 30 * y:.1f}h0" for x, y in inside)


def tables(shares: Sequence[np.ndarray]) -> str:
    """Squares k k of shares, side by side, each share a circle of its area."""
    drawn = [
        f'<circle cx="{32 + 170 * n + 22 * column}" cy="{24 + 22 * row}" r="{32 * share**0.5:.1f}"/>'
        for n, table in enumerate(shares)
        for (row, column), share in np.ndenumerate(table)
    ]
    return svg(340, 160, drawn)


def curves(x: list[float], series: dict[str, list[float]], label: str) -> str:
    """A small axis for each of the series."""
    drawn = [text(60, 146, label)]
    for n, (name, y) in enumerate(series.items()):
        left, low, high = 60 + 210 * n, min(*y, 0), max(*y, 1e-9)
        across = [left + 130 * (value - x[0]) / (x[-1] - x[0]) for value in x]
        up = [110 - 85 * (value - low) / (high - low) for value in y]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, up, strict=True))
        drawn += [
            f'<path class="axis" d="M{left} 20V112H{left + 138}"/>',
            f'<polyline class="curve" points="{points}"/>',
        ]
        drawn += [text(left, 13, name), text(left - 5, 28, f"{high:.3g}", END), text(left - 5, 112, f"{low:.3g}", END)]
        drawn += [text(left, 126, f"{x[0]:g}"), text(left + 130, 126, f"{x[-1]:g}", END)]
    return svg(max(60 + 210 * len(series), 300), 156, drawn)


def bars(values: dict[str, float], label: str) -> str:
    low, high = min(*values.values(), 0), max(*values.values(), 0)
    place = {name: 110 + 200 * (value - low) / (high - low) for name, value in values.items()}
    zero, drawn = 110 + 200 * -low / (high - low), [text(110, 13, label)]
    for n, (name, value) in enumerate(values.items()):
        y = 24 + 18 * n
        drawn.append(rect(min(zero, place[name]), y, max(abs(place[name] - zero), 1), 11))
        drawn += [text(100, y + 9, name, END), text(320, y + 9, f"{value:.4g}")]
    return svg(380, 36 + 18 * len(values), [*drawn, f'<path class="axis" d="M{zero:.1f} 20V{24 + 18 * len(values)}"/>'])


def scattered(x: dict[str, float], y: dict[str, float], labels: list[str]) -> str:
    """A point for each name."""
    (a, b), (c, d) = ((min(one.values()), max(one.values())) for one in (x, y))
    drawn = ['<path class="axis" d="M50 14V130H340"/>', text(50, 148, labels[0]), text(4, 10, labels[1])]
    for name in x:
        px, py = 60 + 230 * (x[name] - a) / (b - a), 120 - 100 * (y[name] - c) / (d - c)
        drawn += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4"/>', text(px + 7, py + 3, name)]
    return svg(360, 155, drawn)


END = 'class="end"'


def text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{words}</text>'


def rect(x: float, y: float, wide: float, high: float) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" rx="1.5"/>'


def svg(width: float, height: float, drawn: Sequence[str]) -> str:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{"".join(drawn)}</svg>\n'
