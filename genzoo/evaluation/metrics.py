"""From two sets of features to the scores that one configured metric makes of them."""

from __future__ import annotations

from torch import Tensor

from genzoo.config import Config
from genzoo.evaluation.frechet import Statistics, frechet_distance
from genzoo.evaluation.kernel import kernel_distance
from genzoo.evaluation.manifold import density_coverage, precision_recall, radii


class Side:
    """The features of one side, n dim float32, and what several metrics need of them, made once.

    With statistics alone it serves the Frechet distance alone.
    """

    def __init__(self, features: Tensor | None = None, statistics: Statistics | None = None):
        self.features = features
        self._statistics = statistics
        self._radii: dict[int, Tensor] = {}

    @property
    def statistics(self) -> Statistics:
        if self._statistics is None:
            self._statistics = Statistics.of(self.features)
        return self._statistics

    def radii(self, k: int) -> Tensor:
        """n: distance of every image to its k-th nearest neighbour."""
        if k not in self._radii:
            self._radii[k] = radii(self.features, k)
        return self._radii[k]


def score(metric: Config, real: Side, fake: Side, seed: int) -> dict[str, dict]:
    """name of the score -> {"value": float, ...what else it has to state}."""
    match metric.name:
        case "fd" | "fid":
            return {metric.name: {"value": frechet_distance(real.statistics, fake.statistics)}}
        case "kid":
            return {"kid": kernel_distance(real.features, fake.features, metric.num_subsets, metric.subset_size, seed)}
        case "precision_recall":
            sides = (real.features, fake.features, real.radii(metric.k), fake.radii(metric.k))
            values = dict(zip(("precision", "recall"), precision_recall(*sides), strict=True))
        case "density_coverage":
            values = density_coverage(real.features, fake.features, real.radii(metric.k), metric.k)
            values = dict(zip(("density", "coverage"), values, strict=True))
    return {name: {"value": value, "k": metric.k} for name, value in values.items()}


def too_few(metric: Config, dim: int, num_samples: int, num_reference: int) -> str:
    """Why these numbers of images make the metric a biased one, or ""."""
    side, n = ("sample", num_samples) if num_samples < num_reference else ("reference", num_reference)
    if metric.name in ("fd", "fid") and n <= dim:
        return f"{n} {side} images for {dim} feature dimensions: a singular covariance and a biased distance"
    return ""


def impossible(metric: Config, num_samples: int, num_reference: int) -> str:
    """Why these numbers of images cannot give the metric at all, or ""."""
    n, least = min(num_samples, num_reference), getattr(metric, "k", 1) + 1
    return f"{metric.name} needs {least} images on each side, there are {n}" if n < least else ""
