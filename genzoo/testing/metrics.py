"""Checks of metrics."""

import json
import math
from typing import Any

import torch

from genzoo.evaluation.scorer import Side, make_metric
from genzoo.testing.subject import Mismatch, Subject

DIM, NUM = 6, 40


class Few(Side):
    """A side of which nothing but mean and covariance is known."""

    def __init__(self, whole: Side):
        super().__init__(statistics=whole.statistics)

    @property
    def features(self) -> torch.Tensor:
        raise Mismatch("`statistics` alone of the sides in `by_statistics`", "its `features` are asked for")

    @features.setter
    def features(self, value: None) -> None:
        pass


def states_itself(subject: Subject) -> None:
    """needs, lower: what it is given, and of each of its scores whether lower is better"""
    metric = make_metric(subject.config)
    lower = metric.lower
    if not isinstance(lower, dict) or not lower or not all(value in (True, False, None) for value in lower.values()):
        raise Mismatch("`lower`, a dict of name -> True, False or None", f"{lower!r}")
    against = getattr(metric, "against", ("test", None))
    if not (isinstance(against, tuple) and len(against) == 2 and isinstance(against[0], str)):
        raise Mismatch("`against`, a split and how many of its images at most", f"{against!r}")
    for num in (2, 10**6):
        few = metric.few(DIM, num, num) if hasattr(metric, "few") else ""
        if not isinstance(few, str):
            raise Mismatch('`few` to say why so few images make a biased number, or ""', f"{few!r}")


def _sides(num: int) -> tuple[Side, Side]:
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, num, DIM, generator=generator)
    return Side(real), Side(1.2 * fake + 0.3)


def _num(metric: Any) -> int:
    return max(NUM, 2 * getattr(metric, "least", 2))


def scores(subject: Subject) -> None:
    """score: a finite number under each name in `lower`, with what else is stated of it, in JSON's types"""
    metric = make_metric(subject.config)
    for num in (_num(metric), getattr(metric, "least", 2)):
        made = metric.score(*_sides(num), 0)
        if not isinstance(made, dict) or made.keys() != metric.lower.keys():
            raise Mismatch(f"the scores that `lower` names: {', '.join(metric.lower)}", f"{made!r}")
        for name, entry in made.items():
            if not isinstance(entry.get("value"), int | float) or not math.isfinite(entry["value"]):
                raise Mismatch(f'{name}: a finite number as its "value", of {num} images on each side', f"{entry!r}")
            json.dumps(entry)


def repeats(subject: Subject) -> None:
    """score: the same each time with one seed, whatever else is random, and it changes no features"""
    metric = make_metric(subject.config)
    sides = _sides(_num(metric))
    before = [side.features.clone() for side in sides]
    first = metric.score(*sides, 3)
    torch.manual_seed(17)
    if (again := metric.score(*_sides(_num(metric)), 3)) != first:
        raise Mismatch(f"{first}: chance comes from the seed alone", f"{again}")
    if not all(torch.equal(side.features, features) for side, features in zip(sides, before, strict=True)):
        raise Mismatch("features as they were: other metrics are given the same ones", "changed ones")


def by_statistics(subject: Subject) -> None:
    """by_statistics (optional): of these sides the statistics are enough, and the score is the same"""
    metric = make_metric(subject.config)
    enough = getattr(metric, "by_statistics", ())
    if not isinstance(enough, tuple) or not set(enough) <= {"real", "fake"}:
        raise Mismatch('`by_statistics`, a tuple of "real" and "fake"', f"{enough!r}")
    real, fake = _sides(_num(metric))
    known = metric.score(Few(real) if "real" in enough else real, Few(fake) if "fake" in enough else fake, 0)
    if known != (whole := metric.score(real, fake, 0)):
        raise Mismatch(f"{whole}, as of the features", f"{known}")


METRICS = (states_itself, scores, repeats, by_statistics)
