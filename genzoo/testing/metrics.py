"""Checks of metrics."""

import json
import math
from typing import Any

import numpy as np
import torch

from genzoo.config import build
from genzoo.errors import UserError
from genzoo.evaluation.extraction import Side
from genzoo.evaluation.generate import encode
from genzoo.evaluation.images import Spread
from genzoo.evaluation.of_model import Trained
from genzoo.evaluation.scorer import make_metric
from genzoo.evaluation.work import Work
from genzoo.parts import Metric
from genzoo.registry import OBJECTIVES
from genzoo.testing.partners import small_model
from genzoo.testing.subject import DoesNotApply, Mismatch, Subject

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


MODELS = [  # what metrics of a model are shown, the first that they can score
    {"head": {"name": "logistic", "num_components": 1, "decoder": {"name": "mlp", "hidden_dims": [8]},
              "head": {"name": "single", "decoder": {"name": "mlp", "hidden_dims": [8]}}}},
    {"latent": {"name": "vq", "num_codes": 8, "dim": 3, "num_positions": 2}},
    {"latent": {"name": "deterministic", "dim": 4}},
]  # fmt: skip


def _trained(options: dict, batch_size: int) -> Trained:
    model = small_model(**options).eval()
    shape = model.image_shape
    name, reconstruction = ("elbo", "likelihood") if "head" in options else ("ae", "mse")
    config = OBJECTIVES.get(name).Config(name=name, reconstruction=reconstruction)
    objective = build(OBJECTIVES, config, image_shape=shape)
    images = np.random.RandomState(0).randint(0, 256, (NUM, *shape[1:], shape[0]), np.uint8)
    work = Work(batch_size=batch_size)
    return Trained(model, objective.eval(), Spread(images, None), *encode(model, images, work), work)


def _of_a_model(metric: Metric, seed: int, batch_size: int = 24) -> dict:
    """Its scores of the first of MODELS that has them; DoesNotApply where none has."""
    reasons = []
    for options in MODELS:
        try:
            with torch.no_grad():
                return metric.score(_trained(options, batch_size), seed)
        except UserError as error:
            reasons.append(str(error))
    raise DoesNotApply(f"no small model has it: {'; '.join(reasons)}")


def _valued(made: dict, of: str) -> None:
    for name, entry in made.items():
        if not isinstance(entry.get("value"), int | float) or not math.isfinite(entry["value"]):
            raise Mismatch(f'{name}: a finite number as its "value", of {of}', f"{entry!r}")
        json.dumps(entry)


def scores(subject: Subject) -> None:
    """score: a finite number under each name in `lower`, with what else is stated of it, in JSON's types"""
    metric = make_metric(subject.config)
    if metric.needs == "model":
        made = _of_a_model(metric, 0)
        if not made or not made.keys() <= metric.lower.keys():
            raise Mismatch(f"scores that `lower` names: {', '.join(metric.lower)}", f"{made!r}")
        return _valued(made, f"{NUM} images")
    for num in (_num(metric), getattr(metric, "least", 2)):
        made = metric.score(*_sides(num), 0)
        if not isinstance(made, dict) or made.keys() != metric.lower.keys():
            raise Mismatch(f"the scores that `lower` names: {', '.join(metric.lower)}", f"{made!r}")
        _valued(made, f"{num} images on each side")


def repeats(subject: Subject) -> None:
    """score: the same each time with one seed, whatever else is random, and it changes no features"""
    metric = make_metric(subject.config)
    if metric.needs == "model":
        first = _of_a_model(metric, 3)
        torch.manual_seed(17)
        if (again := _of_a_model(metric, 3)) != first:
            raise Mismatch(f"{first}: chance comes from the batches' generators alone", f"{again}")
        for name, entry in _of_a_model(metric, 3, batch_size=7).items():
            value = first[name]["value"]
            if not math.isclose(entry["value"], value, rel_tol=1e-4):
                raise Mismatch(f"{name} {value}, however many may be decoded at once", f"{entry['value']}")
        return
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
    if metric.needs == "model":
        raise DoesNotApply("it is given the model, and no sides")
    enough = getattr(metric, "by_statistics", ())
    if not isinstance(enough, tuple) or not set(enough) <= {"real", "fake"}:
        raise Mismatch('`by_statistics`, a tuple of "real" and "fake"', f"{enough!r}")
    real, fake = _sides(_num(metric))
    known = metric.score(Few(real) if "real" in enough else real, Few(fake) if "fake" in enough else fake, 0)
    if known != (whole := metric.score(real, fake, 0)):
        raise Mismatch(f"{whole}, as of the features", f"{known}")


METRICS = (states_itself, scores, repeats, by_statistics)
