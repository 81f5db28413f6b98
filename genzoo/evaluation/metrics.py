"""From two sets of features to the scores that one configured metric makes of them."""

from __future__ import annotations

from torch import Tensor

from genzoo.config import Config
from genzoo.evaluation.frechet import Statistics, frechet_distance


class Side:
    """The features of one side, n dim, and what several metrics need of them."""

    def __init__(self, features: Tensor):
        self.features = features
        self._statistics: Statistics | None = None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def statistics(self) -> Statistics:
        if self._statistics is None:
            self._statistics = Statistics.of(self.features)
        return self._statistics


def score(metric: Config, reference: Side, samples: Side, seed: int) -> dict[str, dict]:
    """name of the score -> {"value": float, ...what else it has to state}."""
    return {metric.name: {"value": frechet_distance(reference.statistics, samples.statistics)}}


def too_few(metric: Config, dim: int, num_samples: int, num_reference: int) -> str:
    """Why these numbers of images cannot carry the metric, or ""."""
    side, n = ("samples", num_samples) if num_samples < num_reference else ("reference", num_reference)
    if metric.name in ("fd", "fid") and n <= dim:
        return f"{n} {side} images for {dim} feature dimensions: a singular covariance and a biased distance"
    return ""
