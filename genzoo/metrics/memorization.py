"""Samples that are copies of training images."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from genzoo.config import Config
from genzoo.extractors import EXTRACTOR, Extractor
from genzoo.neighbors import nearest
from genzoo.parts import Side


class Memorization:
    """Share of samples that are copies of training images, and of those that are not closer than training images."""

    class Config(Config):
        features: Extractor = EXTRACTOR
        split: str = Field("train", description="the split that the model was trained on")
        num_train: int | None = Field(None, ge=3, description="training images at most: copies of others go unseen")
        ratio: float = Field(
            1 / 3, gt=0, lt=1, description="a copy is nearer than so much of the second nearest's distance"
        )

    needs: ClassVar[str] = "features"
    lower: ClassVar[dict[str, bool | None]] = {"memorization": True, "authenticity": None}  # noise is "authentic"

    def __init__(self, config: Config):
        self.ratio = config.ratio
        self.against = config.split, config.num_train

    def score(self, real: Side, fake: Side, seed: int) -> dict[str, dict]:
        values = memorization(fake.features, real.features, self.ratio)
        return {name: {"value": value, "ratio": self.ratio} for name, value in zip(self.lower, values, strict=True)}


def memorization(x: Tensor, training: Tensor, ratio: float) -> tuple[float, float]:
    """(memorisation rate, authenticity) of samples x (n dim), given all training images (m dim, m > 1).

    A sample is memorised when its nearest training image is within `ratio` times the distance of its second nearest:
    Yoon et al., "Diffusion probabilistic models generalize when they fail to memorize" (ICML workshop 2023), and Gu et
    al., "On memorization in diffusion models" (arXiv 2310.02664), with ratio 1/3 on pixels; here on features. A sample
    is authentic when it is farther from its nearest training image than that one is from the nearest of the others:
    Alaa et al., "How faithful is your synthetic data?" (arXiv 2102.08921), section 3.3. Neither is 1 or 0 for a perfect
    model: held-out images say what to compare with.
    """
    distances, indices = nearest(x, training, 2)
    memorized = distances[:, 0] <= ratio * distances[:, 1]  # two equal training images hide no copy of them
    near, position = indices[:, 0].unique(return_inverse=True)
    gaps = nearest(training[near], training, 2)[0][:, 1]  # the nearest of all is the image itself
    authentic = distances[:, 0] > gaps[position]
    return float(memorized.double().mean()), float(authentic.double().mean())
