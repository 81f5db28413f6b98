"""Density and coverage.

A side's manifold is the union of balls about its points, each reaching to the point's k-th nearest neighbour.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from genzoo.config import Config
from genzoo.extractors import EXTRACTOR, Extractor
from genzoo.neighbors import BLOCK, radii
from genzoo.parts import Side


class DensityCoverage:
    """Precision and recall made robust against outliers."""

    class Config(Config):
        features: Extractor = EXTRACTOR
        k: int = Field(5, ge=1, description="neighbours that a ball reaches to")

    needs: ClassVar[str] = "features"
    lower: ClassVar[dict[str, bool]] = {"density": False, "coverage": False}

    def __init__(self, config: Config):
        self.k, self.least = config.k, config.k + 1

    def score(self, real: Side, fake: Side, seed: int) -> dict[str, dict]:
        reach = real.once(radii, self.k)
        values = density_coverage(real.features, fake.features, reach, self.k)
        return {name: {"value": value, "k": self.k} for name, value in zip(self.lower, values, strict=True)}


def density_coverage(real: Tensor, fake: Tensor, real_radii: Tensor, k: int) -> tuple[float, float]:
    """How many real balls a fake point lies in, over k; and the share of real balls with a fake point in them.

    Naeem et al., "Reliable fidelity and diversity metrics for generative models" (arXiv 2002.09797), eqs. 5 and 6.
    """
    pairs, covered = 0, 0
    for rows, reach in zip(real.split(BLOCK), real_radii.split(BLOCK), strict=True):
        inside = torch.cdist(rows, fake) <= reach[:, None]
        pairs += int(inside.sum())
        covered += int(inside.any(dim=1).sum())
    return pairs / (k * len(fake)), covered / len(real)
