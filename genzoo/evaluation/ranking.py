"""Scores of several runs side by side, ranked only where they were made alike."""

from dataclasses import dataclass, field

from genzoo.evaluation.better import directions
from genzoo.evaluation.protocol import OPTIONS, differences, is_score


@dataclass
class Row:
    """One score of every run that has it. differs: field -> run -> value, of what makes them incomparable."""

    metric: str
    features: str
    generator: str
    part: str
    entries: dict[str, dict]
    differs: dict[str, dict] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)  # run -> 1, 2, ...; empty where there is no ranking


def entries(metrics: dict) -> list[dict]:
    """The scores of a metrics.json, those of a sampler with its options, as far as it says them."""
    protocol = metrics.get("protocol")
    known = protocol.get("samplers") if isinstance(protocol, dict) else None
    options = {name: {OPTIONS: values} for name, values in (known if isinstance(known, dict) else {}).items()}
    found = [entry for entry in metrics.get("scores", []) if is_score(entry)]
    return [{**entry, **options.get(entry["generator"], {})} for entry in found]


def rank(runs: dict[str, list[dict]], across: bool = False) -> list[Row]:
    """A row for each score (metric, features, generator, part), in the order in which they are met.

    runs: name -> its `entries`. Where protocols differ there are no ranks, unless `across` is set.
    Scores that were skipped count as absent.
    """
    rows: dict[tuple[str, ...], Row] = {}
    for run, scores in runs.items():
        for entry in scores:
            if entry["value"] is not None:
                place = tuple(entry[key] for key in ("metric", "features", "generator", "part"))
                rows.setdefault(place, Row(*place, {})).entries[run] = entry
    lower = directions({row.metric for row in rows.values()})
    for row in rows.values():
        (first, entry), *others = row.entries.items()
        for run, other in others:
            for name, (value, theirs) in differences(entry, other).items():
                row.differs.setdefault(name, {first: value})[run] = theirs
        if others and (across or not row.differs) and row.metric in lower:
            sign = 1 if lower[row.metric] else -1
            values = sorted(sign * entry["value"] for entry in row.entries.values())
            row.ranks = {run: 1 + values.index(sign * entry["value"]) for run, entry in row.entries.items()}
    return list(rows.values())
