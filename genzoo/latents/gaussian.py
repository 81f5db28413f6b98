"""Diagonal Gaussian latent."""

from dataclasses import dataclass
from math import prod

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.config import Config
from genzoo.parts import Shape


@dataclass
class GaussianPosterior:
    """q(z|x) = N(mean, exp(logvar)), against the prior N(0, I)."""

    mean: Tensor  # b d
    logvar: Tensor  # b d

    @property
    def variance(self) -> Tensor:
        return self.logvar.exp()

    def sample(self, generator: Generator | None = None) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + (0.5 * self.logvar).exp() * noise

    def kl(self) -> Tensor:
        """KL in nats of every dimension, b d (Kingma & Welling, arXiv 1312.6114, appendix B)."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar)


class GaussianLatent(nn.Module):
    """Flat latent with a diagonal Gaussian posterior; features of any shape are flattened first."""

    class Config(Config):
        dim: int = Field(32, ge=1, description="number of latent variables")
        embed_dim: int | None = Field(
            None, ge=1, description="features handed to the head; null: as many as the encoder has (channels of a map)"
        )

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        self.shape = (config.dim,)
        self.out_shape = (config.embed_dim or in_shape[0],)
        self.mean = nn.Linear(prod(in_shape), config.dim)
        self.logvar = nn.Linear(prod(in_shape), config.dim)
        self.embed = nn.Linear(config.dim, *self.out_shape)

    def forward(self, features: Tensor) -> GaussianPosterior:
        features = features.flatten(1)
        # float32: half precision is too coarse for exp() and for the sum over dimensions
        return GaussianPosterior(self.mean(features).float(), self.logvar(features).float())

    def expand(self, z: Tensor) -> Tensor:
        return self.embed(z)
