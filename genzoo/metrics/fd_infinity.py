"""Frechet distance of infinitely many samples."""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from genzoo.config import Config
from genzoo.extractors import EXTRACTOR, Extractor
from genzoo.frechet import Statistics, frechet_distance
from genzoo.metrics.fd import too_few
from genzoo.parts import Side


class FDInfinity:
    """Frechet distance extrapolated to infinitely many samples."""

    class Config(Config):
        features: Extractor = EXTRACTOR
        num_points: int = Field(15, ge=2, le=1000, description="numbers of samples that it is measured at")
        min_samples: int = Field(5000, ge=2, description="the smallest of them, at most half of the samples")

    needs: ClassVar[str] = "features"
    lower: ClassVar[dict[str, bool]] = {"fd_infinity": True}
    least: ClassVar[int] = 4
    by_statistics: ClassVar[tuple[str, ...]] = ("real",)

    def __init__(self, config: Config):
        self.config = config

    def few(self, dim: int, num_real: int, num_fake: int) -> str:
        return too_few(dim, num_real, self._first_size(num_fake))

    def score(self, real: Side, fake: Side, seed: int) -> dict[str, dict]:
        least = self._first_size(len(fake.features))
        made = frechet_infinity(real.statistics, fake.features, self.config.num_points, least, seed)
        return {"fd_infinity": made}

    def _first_size(self, num_fake: int) -> int:
        """The smallest number of samples that is measured."""
        return min(self.config.min_samples, num_fake // 2)


def frechet_infinity(
    reference: Statistics, samples: Tensor, num_points: int, min_samples: int, seed: int
) -> dict[str, float | int]:
    """The Frechet distance extrapolated to infinitely many samples.

    Chong & Forsyth, "Effectively unbiased FID and Inception score and where to find them" (arXiv 1911.07023), section
    3: with N samples it is, to first order, linear in 1/N. It is measured on random subsets of `num_points` sizes,
    evenly spaced from `min_samples` to all, and the line fitted by least squares is read off at 1/N = 0. The bias of
    the reference stays: only samples can be drawn without end. samples: n dim. Returns "value", "slope" (of 1/N),
    "num_points" and "min_samples". ValueError unless 2 <= min_samples < n.
    """
    if not 2 <= min_samples < len(samples):
        raise ValueError(f"sizes from {min_samples} to {len(samples)} samples give no line")
    generator = torch.Generator().manual_seed(seed)
    sizes = np.linspace(min_samples, len(samples), num_points).round().astype(int)
    values = [
        frechet_distance(reference, Statistics.of(samples[torch.randperm(len(samples), generator=generator)[:size]]))
        for size in sizes
    ]
    slope, limit = np.polyfit(1 / sizes, values, 1)
    return {"value": float(limit), "slope": float(slope), "num_points": num_points, "min_samples": min_samples}
