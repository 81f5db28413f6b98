"""Training curves of one run or several, from the lines of train.jsonl."""

from dataclasses import dataclass
from math import isfinite

from markupsafe import Markup

from genzoo.reports.charts import Series, lines, number

TITLES = {
    "loss": ("loss", "what is minimised"),
    "rec": ("reconstruction", "nats per image, or the objective's own unit"),
    "kl": ("KL", "nats per image"),
    "mse": ("MSE", "per pixel, images in [0, 1]"),
    "gamma": ("gamma", "scale of the reconstruction's noise"),
    "beta": ("beta", "weight of the KL"),
    "grad_norm": ("gradient norm", "before clipping"),
    "lr": ("learning rate", ""),
    "images_per_s": ("speed", "images per second"),
}
NOT_DRAWN = {"step", "images", "epoch", "seconds"}


@dataclass
class Curve:
    """A chart with its title. constant: said instead of drawn, where nothing changes."""

    title: str
    unit: str
    svg: Markup


def curves(runs: dict[str, list[dict]]) -> tuple[list[Curve], dict[str, float]]:
    """A chart for each value that was logged, the runs over each other; and the values that never change."""
    names = dict.fromkeys(key for run in runs.values() for line in run for key in line if key not in NOT_DRAWN)
    drawn, constant = [], {}
    for name in sorted(names, key=lambda key: [*TITLES, key].index(key)):
        series = []
        for color, (run, logged) in enumerate(runs.items()):
            points = [(line["step"], line[name]) for line in logged if _is_number(line.get(name))]
            if points:
                series.append(Series(run, *zip(*points, strict=True), color))
        if not series:
            continue
        values = [value for one in series for value in one.y]
        if len(set(values)) == 1:
            constant[name] = values[0]
            continue
        title, unit = TITLES.get(name, (name, ""))
        log = name != "lr" and min(values) > 0 and max(values) / min(values) > 30
        alt = f"{title} over training steps. " + " ".join(_said(one, len(runs) > 1) for one in series)
        unit = ", ".join(filter(None, [unit, "log scale" if log else ""]))
        drawn.append(Curve(title, unit, lines(series, alt=alt, x_label="step", log=log)))
    return drawn, constant


def _said(series: Series, named: bool) -> str:
    """What is seen of a line, in words."""
    first, last = series.y[0], series.y[-1]
    way = "rises" if last > first else "falls" if last < first else "is again"
    low, high = min(series.y), max(series.y)
    return (
        f"{series.name + ': ' if named else ''}from {number(first)} at step {number(series.x[0])} it {way} to "
        f"{number(last)} at step {number(series.x[-1])}; lowest {number(low)}, highest {number(high)}."
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
