"""From facts to measures: values by their dimensions, with the interval over seeds. Imports no torch."""

from dataclasses import dataclass, field
from typing import Any

from genzoo.errors import UserError, suggestion
from genzoo.evaluation.protocol import differences
from genzoo.study.intervals import Interval, of_mean, of_rate
from genzoo.study.study import OF_SCORES, Filter, label

BEST = "best"  # a generator: of a run's samplers, the one with the best mean


@dataclass(frozen=True)
class Record:
    """One number of one run. dims: of its cell, and of the score where it is one; entry: the score's, else empty.

    lower: whether lower is better, where one end is.
    """

    dims: dict[str, str]
    value: float | str
    entry: dict = field(default_factory=dict)
    lower: bool | None = None


@dataclass
class Measure:
    """What several seeds gave. share: whether it is a rate; chosen: of `best`, which sampler that is."""

    interval: Interval
    share: bool
    records: list[Record]
    chosen: str = ""
    bold: bool = False
    unlike: tuple[str, ...] = ()  # what differs in the protocols that it would have been compared by


Key = tuple[str, ...]


def own(facts: dict) -> dict[str, str]:
    """What a run can be chosen by: its dimensions, and its numbers as words."""
    return {**{key: label(value) for key, value in facts["numbers"].items()}, **facts["dims"]}


def chosen(facts: list[dict], where: Filter) -> list[dict]:
    """The runs that pass the filter, whatever it says of scores. UserError for a number that no run has."""
    wanted = {dim: values for dim, values in _wanted(where).items() if dim not in OF_SCORES}
    known = dict.fromkeys(key for one in facts for key in own(one))
    if known and (unknown := next((dim for dim in wanted if dim not in known), None)):
        raise UserError(f"no run has {unknown}{suggestion(unknown, known)} (they have: {', '.join(known)})")
    return [one for one in facts if all(own(one).get(dim) in values for dim, values in wanted.items())]


def records(facts: list[dict], where: Filter) -> list[Record]:
    """Every number and score that passes the filter.

    A filter on a dimension passes records that lack it: `generator: prior` keeps the runs' numbers, which have none.
    """
    wanted = {dim: values for dim, values in _wanted(where).items() if dim in OF_SCORES}
    found = []
    for one in chosen(facts, where):
        found += [Record({**one["dims"], "metric": key}, value) for key, value in one["numbers"].items()]
        found += [
            Record(
                {**one["dims"], **{dim: entry[dim] for dim in OF_SCORES}},
                entry["value"],
                entry,
                one["lower"].get(entry["metric"]),
            )
            for entry in one["scores"]
            if entry["value"] is not None
        ]
    return [one for one in found if all(one.dims[dim] in wanted[dim] for dim in wanted.keys() & one.dims.keys())]


def _wanted(where: Filter) -> dict[str, set[str]]:
    found = {dim: {label(one) for one in (given if isinstance(given, list) else [given])}
             for dim, given in where.items()}  # fmt: skip
    if BEST in found.get("generator", ()):
        found["generator"] = Samplers(found["generator"])
    return found


class Samplers(set):
    """Generators by name, and every sampler: `best` has to look at all."""

    def __contains__(self, name: object) -> bool:
        return name != "reconstruction" or super().__contains__(name)


def pivot(found: list[Record], dims: list[str], where: Filter, title: str) -> dict[Key, Measure]:
    """dims' values -> what the seeds gave there. Words become rates: `branches.kind` a rate for each kind.

    UserError where runs that differ in more than their seed would be averaged.
    """
    generators = where.get("generator", [])
    generators = generators if isinstance(generators, list) else [generators]
    bins: dict[Key, list[Record]] = {}
    for record in found:
        bins.setdefault(tuple(record.dims.get(dim, "") for dim in dims), []).append(record)
    made: dict[Key, Measure] = {}
    for key, inside in bins.items():
        _only_seeds_differ(inside, dims, title)
        if isinstance(inside[0].value, str):
            metric, place = inside[0].dims["metric"], dims.index("metric") if "metric" in dims else None
            for value in sorted({record.value for record in found if record.dims["metric"] == metric}):
                named = key if place is None else (*key[:place], f"{key[place]} = {value}", *key[place + 1 :])
                hits = sum(record.value == value for record in inside)
                made[named] = Measure(of_rate(hits, len(inside)), True, inside)
        else:
            made[key] = Measure(of_mean([float(record.value) for record in inside]), False, inside)
    if BEST in generators and "generator" in dims:
        made = _with_best(made, dims.index("generator"), generators)
    return made


def _with_best(made: dict[Key, Measure], place: int, generators: list[str]) -> dict[Key, Measure]:
    """The sampler of the best mean, as a generator of its own; samplers that were not asked for go."""
    kept = {key: measure for key, measure in made.items() if key[place] in ("", *generators)}
    candidates: dict[Key, list[tuple[str, Measure]]] = {}
    for key, measure in made.items():
        if measure.records[0].lower is not None and key[place] not in ("", "reconstruction"):
            candidates.setdefault((*key[:place], BEST, *key[place + 1 :]), []).append((key[place], measure))
    for key, named in candidates.items():
        sign = 1 if named[0][1].records[0].lower else -1
        name, best = min(named, key=lambda pair: sign * pair[1].interval.center)
        kept[key] = Measure(best.interval, best.share, best.records, chosen=name)
    return kept


def _only_seeds_differ(inside: list[Record], dims: list[str], title: str) -> None:
    for dim in dict.fromkeys(dim for record in inside for dim in record.dims):
        if dim == "seed" or dim in dims:
            continue
        values = dict.fromkeys(record.dims.get(dim, "nothing") for record in inside)
        if len(values) > 1:
            raise UserError(
                f"'{title}': runs that differ in {dim} ({', '.join(values)}) would be averaged: name {dim} among its "
                "dimensions, or choose one in `where`"
            )


def mark(made: dict[Key, Measure], dims: list[str], compare: list[str]) -> None:
    """Make the best of each comparison bold, where its interval lies apart from all others and protocols are equal.

    Measures compete that differ in the dimensions `compare` alone.
    """
    groups: dict[tuple, list[Measure]] = {}
    for key, measure in made.items():
        if measure.records[0].lower is not None:
            rest = tuple(value for dim, value in zip(dims, key, strict=True) if dim not in compare)
            groups.setdefault((measure.records[0].dims["metric"], rest), []).append(measure)
    for rivals in groups.values():
        unlike = unequal([record.entry for measure in rivals for record in measure.records])
        for measure in rivals:
            measure.unlike = unlike
        sign = 1 if rivals[0].records[0].lower else -1
        best = min(rivals, key=lambda measure: sign * measure.interval.center)
        others = [measure for measure in rivals if measure is not best]
        best.bold = bool(others) and not unlike and all(best.interval.apart(other.interval) for other in others)


def unequal(entries: list[dict[str, Any]]) -> tuple[str, ...]:
    """Fields of the scores' protocols that are not the same in all of them."""
    return tuple(dict.fromkeys(key for entry in entries[1:] for key in differences(entries[0], entry)))
