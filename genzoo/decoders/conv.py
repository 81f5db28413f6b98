"""DCGAN-style convolutional decoder."""

import itertools

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import FromFeatures, cropped, doublings, normalise_spectra
from genzoo.parts import Shape


class ConvDecoder(nn.Module):
    """Transposed 4x4 convolutions with BatchNorm and ReLU, as the generator of DCGAN (arXiv 1511.06434).

    Any image from 8x8 up: a start of 4 to 7 pixels, or the features where they are a map, doubled until they enclose
    it.
    """

    class Config(Config):
        base_dim: int = Field(64, ge=1, le=4096, description="channels before the last layer; doubled at every halving")
        max_dim: int = Field(512, ge=1, le=8192, description="upper bound of the channels")
        spectral_norm: bool = Field(
            False, description="weights over their largest singular value, as RAE-SN's (1903.12436)"
        )

    def __init__(self, config: Config, in_shape: Shape, out_shape: Shape):
        super().__init__()
        channels, height, width = out_shape
        self.size = (height, width)
        start_height, start_width, num = doublings(height, width, in_shape)
        dims = [min(config.base_dim * 2**k, config.max_dim) for k in range(max(num - 1, 0), -1, -1)]
        layers: list[nn.Module] = [FromFeatures(in_shape, (dims[0], start_height, start_width))]
        for a, b in itertools.pairwise(dims):
            layers += [nn.BatchNorm2d(a), nn.ReLU(), nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(dims[-1]), nn.ReLU()]
        last = nn.ConvTranspose2d(dims[-1], channels, 4, stride=2, padding=1)
        layers += [last if num else nn.Conv2d(dims[-1], channels, 3, padding=1)]
        self.layers = nn.Sequential(*layers)
        if config.spectral_norm:
            normalise_spectra(self)

    def forward(self, features: Tensor) -> Tensor:
        return cropped(self.layers(features), *self.size)
