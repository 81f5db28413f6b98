"""Several runs on one page: what differs in their recipes, their scores, pictures of the same images, their curves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from jinja2 import UndefinedError
from markupsafe import Markup

from genzoo.config import leaves
from genzoo.errors import UserError
from genzoo.evaluation.better import directions
from genzoo.evaluation.ranking import Row, entries, rank
from genzoo.reports import page
from genzoo.reports.charts import number, points
from genzoo.reports.curves import curves
from genzoo.reports.facts import Facts, status
from genzoo.reports.pictures import Wall

NOT_COMPARED = ("name", "seed", "plugins", "report", "evaluation.seed")  # of recipes that are one setting, over seeds
ABSENT = "-"


@dataclass
class Setting:
    """Runs whose recipes differ in the seed alone."""

    runs: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)


def comparison(runs: Mapping[str, Facts], walls: Callable[[], tuple[list[Wall], list[str]]], path: Path) -> None:
    """Write the page. runs: by the name that stands for each; walls: draws them beside each other, with notes."""
    drawn, notes = walls()
    colors = {name: k for k, name in enumerate(runs)}
    charts, constant = curves({name: facts.lines for name, facts in runs.items()})
    try:
        rows = rank({name: entries(facts.metrics) for name, facts in runs.items()})
        made, note = page.walls_of(drawn)
        page.write(
            path,
            "comparison.html",
            runs=runs,
            colors=colors,
            notes=[*notes, *(f"{name}: {text}" for name, facts in runs.items() for text in facts.notes)],
            overview=[(name, _overview(facts)) for name, facts in runs.items()],
            recipes=_different({name: facts.recipe.model_dump(mode="json") if facts.recipe else {}
                                for name, facts in runs.items()}),
            locks=_different({name: {key: facts.lock.get(key) for key in ("versions", "plugins", "data", "device")}
                              for name, facts in runs.items()}),
            curves=charts,
            constant={name: number(value) for name, value in constant.items()},
            all_walls=made,
            pictures_note=note,
            rows=[_row(row, list(runs)) for row in rows],
            spread=_spread(runs, rows),
            plane=_plane(rows, colors),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, UndefinedError) as error:
        raise UserError(
            f"a metrics.json of these runs is not one that this genzoo wrote ({type(error).__name__}: {error}): "
            "`genzoo eval RUN` writes it anew"
        ) from error


def _overview(facts: Facts) -> tuple[str, ...]:
    """State, parameters, steps, time, MSE, KL, active variables, kind."""
    train, latent, split = (facts.metrics.get(key) or {} for key in ("train", "latent", "split"))

    def said(key: str, form: str) -> str:
        return format(train[key], form) if isinstance(train.get(key), int | float) else ABSENT

    active = ABSENT
    if latent.get("inactive_by_mean_variance") is not None:
        active = f"{latent['num_latents'] - latent['inactive_by_mean_variance']} of {latent['num_latents']}"
    return (status(facts)[0], said("num_parameters", ","), f"{facts.step:,}", said("seconds", ",.0f"),
            said("reconstruction_mse", ".4f"), said("kl", ".1f"), active, split.get("kind", ABSENT))  # fmt: skip


def _different(trees: dict[str, dict]) -> list[tuple[str, list[str]]]:
    """place -> its value in every run, of the places where they are not all equal."""
    flat = {name: dict(leaves(tree)) for name, tree in trees.items()}
    places = dict.fromkeys(place for fields in flat.values() for place in fields if place)
    rows = [
        (place, [_words(fields[place]) if place in fields else ABSENT for fields in flat.values()]) for place in places
    ]
    return [(place, values) for place, values in rows if len(set(values)) > 1]


def _words(value: object) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"{text[:12]}…" if len(text) == 64 else text  # a sha256


def _row(row: Row, names: list[str]) -> dict[str, object]:
    """A score of every run; its bar is drawn to the row's own scale."""
    values = {name: entry["value"] for name, entry in row.entries.items()}
    top = max(map(abs, values.values()), default=0) or 1
    cells = [
        None if name not in values else
        {"text": f"{values[name]:.4g}", "size": abs(values[name]) / top, "best": row.ranks.get(name) == 1}
        for name in names
    ]  # fmt: skip
    differs = [(key, "; ".join(f"{name} {_words(value)}" for name, value in by_run.items()))
               for key, by_run in row.differs.items()]  # fmt: skip
    few = any("few" in entry for entry in row.entries.values())
    direction = {True: "↓", False: "↑"}.get(directions({row.metric}).get(row.metric), "")
    return {"row": row, "cells": cells, "differs": differs, "direction": direction, "few": few}


def _plane(rows: list[Row], colors: Mapping[str, int]) -> Markup | None:
    """Rate against distortion, a point a run that has both; None for fewer than two runs, or other protocols."""
    rate, distortion = (next((row for row in rows if row.metric == name), None) for name in ("rate", "distortion"))
    if not rate or not distortion or rate.differs or distortion.differs:
        return None
    made = [(name, entry["value"], distortion.entries[name]["value"], colors[name])
            for name, entry in rate.entries.items() if name in distortion.entries]  # fmt: skip
    if len(made) < 2:
        return None
    alt = "Rate against distortion. " + " ".join(
        f"{name}: {number(y)} at {number(x)} nats per image." for name, x, y, _ in made
    )
    return points(made, alt=alt, x_label="rate, nats per image")


def _spread(runs: Mapping[str, Facts], rows: list[Row]) -> dict[str, object] | None:
    """Means over the runs of each setting, of scores that were all made alike; None where every setting is one run."""
    settings = _settings(runs)
    if all(len(setting.runs) < 2 for setting in settings):
        return None
    made = []
    for row in rows:
        if row.differs:
            continue
        values = {name: entry["value"] for name, entry in row.entries.items()}
        low, high = min(values.values()), max(values.values())
        cells = []
        for setting in settings:
            mine = [values[name] for name in setting.runs if name in values]
            if not mine:
                cells.append(None)
                continue
            places = [100 * (value - low) / (high - low) if high > low else 50 for value in mine]
            error = stdev(mine) if len(mine) > 1 else None
            cells.append({
                "mean": f"{fmean(mine):.4g}", "sd": "" if error is None else f"{error:.2g}", "n": len(mine),
                "range": f"{min(mine):.4g} to {max(mine):.4g}", "places": [f"{place:.1f}" for place in places],
                "error": "" if error is None else f"{error / sqrt(len(mine)):.2g}",
            })  # fmt: skip
        made.append({"row": row, "cells": cells, "range": f"{low:.4g} to {high:.4g}"})
    return {"settings": settings, "rows": made}


def _settings(runs: Mapping[str, Facts]) -> list[Setting]:
    """The runs, grouped by everything in their recipes but the seed."""
    groups: dict[object, Setting] = {}
    for name, facts in runs.items():
        fields = leaves(facts.recipe.model_dump(mode="json")) if facts.recipe else [("run", name)]
        key = frozenset((place, repr(value)) for place, value in fields if place.partition(".0")[0] not in NOT_COMPARED)
        setting = groups.setdefault(key, Setting())
        setting.runs.append(name)
        setting.seeds += [facts.recipe.seed] if facts.recipe else []
    return list(groups.values())
