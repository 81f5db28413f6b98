"""Scores of several runs side by side, ranked only where they were made alike."""

from dataclasses import dataclass, field

from genzoo.evaluation.record import differences

# A score that is in neither has no better end: noise is perfectly "authentic".
LOWER = frozenset(("fd", "fid", "fd_infinity", "kid", "memorization"))
HIGHER = frozenset(("precision", "recall", "density", "coverage"))


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


def rank(runs: dict[str, list[dict]], across: bool = False) -> list[Row]:
    """A row for each score (metric, features, generator, part), in the order in which they are met.

    runs: name -> the "scores" of its metrics.json. Where protocols differ there are no ranks, unless `across` is set.
    Scores that were skipped count as absent.
    """
    rows: dict[tuple[str, ...], Row] = {}
    for run, scores in runs.items():
        for entry in scores:
            if entry["value"] is not None:
                place = tuple(entry[key] for key in ("metric", "features", "generator", "part"))
                rows.setdefault(place, Row(*place, {})).entries[run] = entry
    for row in rows.values():
        (first, entry), *others = row.entries.items()
        for run, other in others:
            for name, (value, theirs) in differences(entry, other).items():
                row.differs.setdefault(name, {first: value})[run] = theirs
        if others and (across or not row.differs) and row.metric in LOWER | HIGHER:
            sign = 1 if row.metric in LOWER else -1
            values = sorted(sign * entry["value"] for entry in row.entries.values())
            row.ranks = {run: 1 + values.index(sign * entry["value"]) for run, entry in row.entries.items()}
    return list(rows.values())
