"""The Split VAE's residual decoder."""

import itertools

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import FromFeatures, ResBlock, doublings
from genzoo.parts import Shape


class ResNetDecoder(nn.Module):
    """Residual decoder of the Split VAE: a small map, doubled by transposed 3x3 convolutions and residual blocks.

    arXiv 2202.02738. Sizes: a start of 4 to 7 pixels doubled any number of times (28, 32, 48, 64, 128, ...).
    """

    class Config(Config):
        base_dim: int = Field(64, ge=1, description="channels at full size; doubled at every halving")
        max_dim: int = Field(1024, ge=1, description="upper bound of the channels")

    def __init__(self, config: Config, in_shape: Shape, out_shape: Shape):
        super().__init__()
        channels, height, width = out_shape
        start_height, start_width, num = doublings(height, width)
        dims = [min(config.base_dim * 2**k, config.max_dim) for k in range(num, -1, -1)]
        self.start = FromFeatures(in_shape, (dims[0], start_height, start_width))
        scales: list[nn.Module] = []
        for a, b in itertools.pairwise(dims):
            scales += [nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1), ResBlock(b, b)]
        self.scales = nn.Sequential(*scales)
        self.to_image = nn.Conv2d(dims[-1], channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return self.to_image(self.scales(self.start(features)))
