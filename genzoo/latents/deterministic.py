"""Latent without spread: that of a plain autoencoder."""

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.config import Config
from genzoo.layers import FromFeatures
from genzoo.parts import Shape


@dataclass
class Point:
    """All of q(z|x) in one point, which may be charged for its norm."""

    mean: Tensor  # b *latent
    norm_weight: float

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.mean)

    def sample(self, generator: Generator | None = None) -> Tensor:
        return self.mean

    def penalties(self) -> dict[str, Tensor]:
        """b: weight * |z|^2 / 2."""
        return {"norm": 0.5 * self.norm_weight * self.mean.square().flatten(1).sum(1)} if self.norm_weight else {}


class DeterministicLatent(nn.Module):
    """z = f(x), with neither KL nor prior: autoencoders, and RAE by its norm of z (Ghosh et al., arXiv 1903.12436).

    Samplers that learn a density of the codes after training (gmm, flow) draw from it.
    """

    prior = None

    class Config(Config):
        dim: int = Field(32, ge=1, le=65536, description="number of latent variables, or channels of a map")
        out: Literal["vector", "map"] = Field("vector", description="a vector, or a map as the encoder's")
        norm: float = Field(1.0, ge=0, description="weight of |z|^2 / 2, summed over the image's latent; 0: none")

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        self.norm_weight = config.norm
        if config.out == "map":
            self.shape, self.out_shape = (config.dim, *(in_shape[1:] or (1, 1))), in_shape
            self.code, self.embed = FromFeatures(in_shape, self.shape), FromFeatures(self.shape, in_shape)
        else:
            self.shape, self.out_shape = (config.dim,), (in_shape[0],)
            self.code = nn.Sequential(nn.Flatten(), nn.Linear(prod(in_shape), config.dim))
            self.embed = nn.Linear(config.dim, in_shape[0])

    def forward(self, features: Tensor) -> Point:
        return Point(self.code(features).float(), self.norm_weight)

    def expand(self, z: Tensor) -> Tensor:
        return self.embed(z)
