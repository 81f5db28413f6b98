"""The scores of a run as tables, each with its protocol beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from genzoo.config import leaves
from genzoo.evaluation.better import directions
from genzoo.evaluation.protocol import OWN, caveat, differences

SAID = OWN | {"num_samples", "num_reference", "protocol", "few", "fit_split", "note", "reference_sha256"}


@dataclass
class Cell:
    text: str
    size: float = 0.0  # of its bar, 0 to 1
    best: bool = False


@dataclass
class Line:
    """A generator's scores. unlike: what of its protocol differs from the table's, in words."""

    name: str
    cells: list[Cell | None] = field(default_factory=list)
    note: str = ""
    reason: str = ""
    unlike: str = ""


@dataclass
class Table:
    """One metric on one extractor."""

    metric: str
    features: str
    direction: str
    parts: list[str]
    lines: list[Line]
    others: list[Line]  # the floor, and a twin's
    said: str
    few: str
    protocol: dict[str, object]
    alt: str = ""


def tables(scores: list[dict], floor: Sequence[dict] = (), twin: tuple[str, list[dict]] | None = None) -> list[Table]:
    """floor: scores of real images; twin: another run's name and scores. Both only stand beside equal protocols."""
    made = []
    for metric, features in dict.fromkeys((entry["metric"], entry["features"]) for entry in scores):
        entries = [entry for entry in scores if (entry["metric"], entry["features"]) == (metric, features)]
        scored = [entry for entry in entries if entry["value"] is not None]
        parts = list(dict.fromkeys(entry["part"] for entry in scored))
        beside = [entry for entry in floor if (entry["metric"], entry["features"]) == (metric, features)]
        theirs = [e for e in twin[1] if (e["metric"], e["features"]) == (metric, features)] if twin else []
        values = [abs(entry["value"]) for entry in (*scored, *beside, *theirs) if entry["value"] is not None]
        top, digits = max(values, default=0) or 1, 2 if max(values, default=0) >= 1 else 4
        lines = [
            _line(generator, [e for e in entries if e["generator"] == generator], parts, top, digits)
            for generator in dict.fromkeys(entry["generator"] for entry in entries)
        ]
        _mark_best(metric, lines, scored, parts)
        others = []
        for entry in beside:
            line = _line(f"floor: {entry['generator']}", [{**entry, "part": "y"}], parts, top, digits)
            others.append(_unlike(line, entry, scored))
        for generator in dict.fromkeys(entry["generator"] for entry in theirs):
            mine = [entry for entry in theirs if entry["generator"] == generator and entry["value"] is not None]
            if mine:
                line = _line(f"{twin[0]}: {generator}", mine, parts, top, digits)
                others.append(_unlike(line, mine[0], [e for e in scored if e["generator"] == generator] or scored))
        few = next((entry["few"] for entry in entries if "few" in entry), "")
        made.append(
            Table(metric, features, _direction(metric), parts, lines, others, _said(entries[0]), few, _protocol(scored))
        )
    return made


def _line(name: str, entries: list[dict], parts: list[str], top: float, digits: int) -> Line:
    reason = next((entry["skipped"] for entry in entries if entry.get("skipped")), "")
    found = {entry["part"]: entry for entry in entries if entry["value"] is not None}
    if not found:
        return Line(name, reason=reason)
    cells = []
    for part in parts:
        if part not in found:
            cells.append(None)
            continue
        value = found[part]["value"]
        error = found[part].get("bootstrap_error", found[part].get("standard_error"))
        text = f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if isinstance(error, int | float) else "")
        cells.append(Cell(text, abs(value) / top))
    first = next(iter(found.values()))
    fitted = f"fitted on {first['fit_split']}" if first.get("fit_split") else ""
    return Line(name, cells, "; ".join(filter(None, [fitted, first.get("note", ""), caveat(first)])))


def _mark_best(metric: str, lines: list[Line], scored: list[dict], parts: list[str]) -> None:
    """Of each part, the best of the samplers: reconstructions are no samples."""
    lower = directions({metric}).get(metric)
    if lower is None:
        return
    for column, part in enumerate(parts):
        mine = {entry["generator"]: entry["value"] for entry in scored
                if entry["part"] == part and entry["generator"] != "reconstruction"}  # fmt: skip
        if len(mine) > 1:
            best = (min if lower else max)(mine, key=mine.__getitem__)
            next(line for line in lines if line.name == best).cells[column].best = True


def _unlike(line: Line, entry: dict, scored: list[dict]) -> Line:
    """Mark what else than the images differs between this entry and the run's."""
    found = differences(scored[0], entry) if scored else {}
    found = {key: values for key, values in found.items() if key not in ("fit_split", "note", "few")}
    if found:
        both = (f"{key} {ours} here, {its} there" for key, (ours, its) in found.items())
        line.unlike = "not comparable: " + "; ".join(both)
    return line


def _direction(metric: str) -> str:
    return {True: "lower is better", False: "higher is better"}.get(directions({metric}).get(metric), "")


def _said(entry: dict) -> str:
    """How these numbers were made, in one line."""
    if not entry["features"]:
        return f"{entry['num_reference']:,} images of {entry.get('reference')} · {entry.get('estimator', '')}"
    network = entry.get("protocol", {}).get("network", entry["features"])
    n, m = (f"{entry[key]:,}" if isinstance(entry.get(key), int) else "?" for key in ("num_samples", "num_reference"))
    resize = f", resized: {entry['resize']}" if entry.get("resize") else ""
    return f"{n} images against {m} of {entry.get('reference')} · {network}{resize}"


def _protocol(entries: list[dict]) -> dict[str, object]:
    """What all entries of a table state alike, but for their values."""
    kept = [{k: v for k, v in e.items() if k not in ("value", "part", "generator", "metric")} for e in entries]
    fields = [dict(leaves(entry)) for entry in kept]
    return {key: value for key, value in (fields[0] if fields else {}).items()
            if all(other.get(key) == value for other in fields)}  # fmt: skip
