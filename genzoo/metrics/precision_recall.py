"""Precision and recall.

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


class PrecisionRecall:
    """Share of samples near the reference images, and of reference images near the samples."""

    class Config(Config):
        features: Extractor = EXTRACTOR
        k: int = Field(3, ge=1, description="neighbours that a ball reaches to")

    needs: ClassVar[str] = "features"
    lower: ClassVar[dict[str, bool]] = {"precision": False, "recall": False}

    def __init__(self, config: Config):
        self.k, self.least = config.k, config.k + 1

    def score(self, real: Side, fake: Side, seed: int) -> dict[str, dict]:
        reach = real.once(radii, self.k), fake.once(radii, self.k)
        values = precision_recall(real.features, fake.features, *reach)
        return {name: {"value": value, "k": self.k} for name, value in zip(self.lower, values, strict=True)}


def precision_recall(real: Tensor, fake: Tensor, real_radii: Tensor, fake_radii: Tensor) -> tuple[float, float]:
    """The shares of fake points inside the real manifold, and of real points inside the fake one.

    Kynkaanniemi et al., "Improved precision and recall metric" (arXiv 1904.06991), eqs. 1 and 2. real: n dim, fake:
    m dim.
    """
    inside_real = torch.zeros(len(fake), dtype=torch.bool)
    inside_fake = []
    for rows, reach in zip(real.split(BLOCK), real_radii.split(BLOCK), strict=True):
        distance = torch.cdist(rows, fake)
        inside_real |= (distance <= reach[:, None]).any(dim=0)
        inside_fake.append((distance <= fake_radii).any(dim=1))
    return float(inside_real.double().mean()), float(torch.cat(inside_fake).double().mean())
