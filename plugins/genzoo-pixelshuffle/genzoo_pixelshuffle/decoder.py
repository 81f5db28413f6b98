"""Sub-pixel convolution."""

import itertools

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import FromFeatures, cropped, doublings
from genzoo.parts import Shape


class PixelShuffleDecoder(nn.Module):
    """Each doubling is a 3x3 convolution to 4 times the channels, rearranged into 2x2 pixels.

    Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network" (arXiv 1609.05158); the weights start as Aitken et al.'s nearest-neighbour enlargement, which leaves no
    checkerboard (ICNR, arXiv 1707.02937). Any image from 8x8 up: a start of 4 to 7 pixels, or the features where they
    are a map, doubled until they enclose it.
    """

    class Config(Config):
        base_dim: int = Field(32, ge=1, le=4096, description="channels at full size; doubled at every halving")
        max_dim: int = Field(256, ge=1, le=8192, description="upper bound of the channels")

    def __init__(self, config: Config, in_shape: Shape, out_shape: Shape):
        super().__init__()
        channels, height, width = out_shape
        self.size = (height, width)
        start_height, start_width, num = doublings(height, width, in_shape)
        dims = [min(config.base_dim * 2**k, config.max_dim) for k in range(num, -1, -1)]
        layers: list[nn.Module] = [FromFeatures(in_shape, (dims[0], start_height, start_width))]
        for a, b in itertools.pairwise(dims):
            enlarge = nn.Conv2d(a, 4 * b, 3, padding=1)
            # four equal sub-pixels at the start: PixelShuffle makes channels 4i..4i+3 the 2x2 pixels of channel i
            enlarge.weight.data.copy_(enlarge.weight.data[::4].repeat_interleave(4, 0))
            enlarge.bias.data.copy_(enlarge.bias.data[::4].repeat_interleave(4, 0))
            layers += [nn.BatchNorm2d(a), nn.SiLU(), enlarge, nn.PixelShuffle(2)]
        layers += [nn.BatchNorm2d(dims[-1]), nn.SiLU(), nn.Conv2d(dims[-1], channels, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """b *in_shape -> b c h w, logits."""
        return cropped(self.layers(features), *self.size)
