"""ConvNeXt turned round."""

import itertools
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import FromFeatures, cropped, doublings
from genzoo.parts import Shape


class ConvNeXtDecoder(nn.Module):
    """ConvNeXt's stages in reverse: timm's blocks, and 2x2 transposed convolutions where it has 2x2 strided ones.

    Liu et al., "A ConvNet for the 2020s" (arXiv 2201.03545): 7x7 depthwise convolution, LayerNorm, inverted bottleneck.
    No BatchNorm, so training and evaluation agree after any number of steps. Any image from 8x8 up: a start of 4 to 7
    pixels, or the features where they are a map, doubled until they enclose it.
    """

    class Config(Config):
        base_dim: int = Field(32, ge=1, le=4096, description="channels at full size; doubled at every halving")
        max_dim: int = Field(256, ge=1, le=8192, description="upper bound of the channels")
        depth: int = Field(1, ge=1, le=64, description="blocks at each scale")
        kernel_size: Literal[3, 5, 7, 9, 11] = Field(7, description="of the depthwise convolutions, in pixels")

    def __init__(self, config: Config, in_shape: Shape, out_shape: Shape):
        super().__init__()
        from timm.layers import LayerNorm2d  # seconds to import: only where it is used
        from timm.models.convnext import ConvNeXtBlock

        def blocks(dim: int) -> list[nn.Module]:
            return [ConvNeXtBlock(dim, kernel_size=config.kernel_size, conv_mlp=True) for _ in range(config.depth)]

        channels, height, width = out_shape
        self.size = (height, width)
        start_height, start_width, num = doublings(height, width, in_shape)
        dims = [min(config.base_dim * 2**k, config.max_dim) for k in range(num, -1, -1)]
        layers = [FromFeatures(in_shape, (dims[0], start_height, start_width)), *blocks(dims[0])]
        for a, b in itertools.pairwise(dims):
            layers += [LayerNorm2d(a), nn.ConvTranspose2d(a, b, 2, stride=2), *blocks(b)]
        layers += [LayerNorm2d(dims[-1]), nn.Conv2d(dims[-1], channels, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """b *in_shape -> b c h w, logits."""
        return cropped(self.layers(features), *self.size)
