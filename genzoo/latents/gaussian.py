"""Diagonal Gaussian latent."""

from math import prod

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.densities import DiagonalGaussian, StandardNormal
from genzoo.parts import Shape


class GaussianLatent(nn.Module):
    """Flat latent with a diagonal Gaussian posterior; features of any shape are flattened first."""

    class Config(Config):
        dim: int = Field(32, ge=1, le=65536, description="number of latent variables")
        embed_dim: int | None = Field(
            None,
            ge=1,
            le=65536,
            description="features handed to the head; null: as many as the encoder has (channels of a map)",
        )

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        self.shape = (config.dim,)
        self.prior = StandardNormal(self.shape)
        self.out_shape = (config.embed_dim or in_shape[0],)
        self.mean = nn.Linear(prod(in_shape), config.dim)
        self.logvar = nn.Linear(prod(in_shape), config.dim)
        self.embed = nn.Linear(config.dim, *self.out_shape)

    def forward(self, features: Tensor) -> DiagonalGaussian:
        features = features.flatten(1)
        # float32: half precision is too coarse for exp() and for the sum over dimensions
        return DiagonalGaussian(self.mean(features).float(), self.logvar(features).float())

    def expand(self, z: Tensor) -> Tensor:
        return self.embed(z)
