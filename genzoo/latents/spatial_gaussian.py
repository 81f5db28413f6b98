"""Latent map with a diagonal Gaussian posterior."""

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.densities import DiagonalGaussian, StandardNormal
from genzoo.layers import FromFeatures
from genzoo.parts import Shape


class SpatialGaussianLatent(nn.Module):
    """A few channels at each pixel of the encoder's map: the KL autoencoder of latent diffusion (arXiv 2112.10752).

    Latents (channels, h, w) from and to features c h w by 1x1 convolutions; a vector of features is a map of one pixel.
    """

    class Config(Config):
        channels: int = Field(4, ge=1, le=4096, description="latent variables at each pixel of the map")

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        grid = in_shape[1:] or (1, 1)
        self.shape, self.out_shape = (config.channels, *grid), in_shape
        self.prior = StandardNormal(self.shape)
        self.mean = FromFeatures(in_shape, self.shape)
        self.logvar = FromFeatures(in_shape, self.shape)
        self.embed = FromFeatures(self.shape, in_shape)

    def forward(self, features: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean(features).float(), self.logvar(features).float())

    def expand(self, z: Tensor) -> Tensor:
        return self.embed(z)
