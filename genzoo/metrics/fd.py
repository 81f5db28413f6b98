"""Frechet distance, with an error bar where one is asked for."""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from genzoo.config import Config
from genzoo.extractors import EXTRACTOR, Extractor
from genzoo.frechet import Statistics, frechet_distance
from genzoo.parts import Side

BOOTSTRAP = Field(
    None, ge=2, le=10**5, description="resamplings of the samples for an error bar, such as 20; null: none"
)


def too_few(dim: int, num_real: int, num_fake: int) -> str:
    """Why these numbers of images make the distance a biased one, or ""."""
    side, n = ("sample", num_fake) if num_fake < num_real else ("reference", num_real)
    if n <= dim:
        return f"{n} {side} images for {dim} feature dimensions: a singular covariance and a biased distance"
    return ""


class FD:
    """Frechet distance on any features."""

    class Config(Config):
        features: Extractor = EXTRACTOR
        bootstrap: int | None = BOOTSTRAP

    needs: ClassVar[str] = "features"
    lower: ClassVar[dict[str, bool]] = {"fd": True}
    few = staticmethod(too_few)

    def __init__(self, config: Config):
        self.bootstrap = config.bootstrap
        self.by_statistics = ("real",) if config.bootstrap else ("real", "fake")

    def score(self, real: Side, fake: Side, seed: int) -> dict[str, dict]:
        return {"fd": distance(real, fake, self.bootstrap, seed)}


def distance(real: Side, fake: Side, bootstrap: int | None, seed: int) -> dict:
    """ "value", and with `bootstrap` also "bootstrap_error"."""
    made = {"value": frechet_distance(real.statistics, fake.statistics)}
    if bootstrap:
        error = bootstrap_error(real.statistics, fake.features, bootstrap, seed)
        made |= {"bootstrap_error": error, "bootstrap": bootstrap}
    return made


def bootstrap_error(reference: Statistics, samples: Tensor, num_resamples: int, seed: int) -> float:
    """Standard error of the Frechet distance under resampling of the samples; the reference stays as it is.

    Efron, "Bootstrap methods" (Ann. Statist. 1979): the standard deviation over sets of n drawn with replacement from
    the n samples (n dim). It says nothing of the bias that few samples give.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = (torch.randint(len(samples), (len(samples),), generator=generator) for _ in range(num_resamples))
    return float(np.std([frechet_distance(reference, Statistics.of(samples[draw])) for draw in draws], ddof=1))
