"""The Split VAE's residual decoder."""

import itertools

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import FromFeatures, ResBlock, cropped, doublings, normalise_spectra
from genzoo.parts import Shape


class ResNetDecoder(nn.Module):
    """Residual decoder of the Split VAE: a small map, doubled by transposed 3x3 convolutions and residual blocks.

    arXiv 2202.02738. Any image from 8x8 up: a start of 4 to 7 pixels, or the features where they are a map, doubled
    until they enclose it.
    """

    class Config(Config):
        base_dim: int = Field(64, ge=1, le=4096, description="channels at full size; doubled at every halving")
        max_dim: int = Field(1024, ge=1, le=8192, description="upper bound of the channels")
        spectral_norm: bool = Field(
            False, description="weights over their largest singular value, as RAE-SN's (1903.12436)"
        )

    def __init__(self, config: Config, in_shape: Shape, out_shape: Shape):
        super().__init__()
        channels, height, width = out_shape
        self.size = (height, width)
        start_height, start_width, num = doublings(height, width, in_shape)
        dims = [min(config.base_dim * 2**k, config.max_dim) for k in range(num, -1, -1)]
        self.start = FromFeatures(in_shape, (dims[0], start_height, start_width))
        scales: list[nn.Module] = []
        for a, b in itertools.pairwise(dims):
            scales += [nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1), ResBlock(b, b)]
        self.scales = nn.Sequential(*scales)
        self.to_image = nn.Conv2d(dims[-1], channels, 3, padding=1)
        if config.spectral_norm:
            normalise_spectra(self)

    def forward(self, features: Tensor) -> Tensor:
        return cropped(self.to_image(self.scales(self.start(features))), *self.size)
