"""DCGAN-style convolutional encoder."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.parts import Shape


class ConvEncoder(nn.Module):
    """Strided 4x4 convolutions with BatchNorm and LeakyReLU, as the discriminator of DCGAN (arXiv 1511.06434).

    Any image of at least 8x8; b c h w -> b dim h' w', a map with a shorter side of 4 to 7, or b dim.
    """

    class Config(Config):
        base_dim: int = Field(64, ge=1, le=4096, description="channels after the first convolution; doubled each time")
        max_dim: int = Field(512, ge=1, le=8192, description="upper bound of the channels")
        num_scales: int | None = Field(
            None, ge=1, le=12, description="number of stride-2 convolutions; null: until the shorter side is below 8"
        )
        out: Literal["vector", "map"] = Field("map", description="the last map, or the vector of its means")

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        channels, height, width = in_shape
        shorter, dim = min(height, width), config.base_dim
        if shorter < 8:
            raise ValueError(f"images of {height}x{width} are too small: at least 8x8")
        num = config.num_scales or shorter.bit_length() - 3  # 8 to 15 pixels: 1; 16 to 31: 2; ...
        if shorter >> num == 0:
            raise ValueError(f"images of {height}x{width} cannot be halved {num} times (num_scales)")
        layers: list[nn.Module] = []
        for _ in range(num):
            dim = min(dim, config.max_dim)
            layers += [
                nn.Conv2d(channels, dim, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(dim),
                nn.LeakyReLU(0.2),
            ]
            channels, height, width, dim = dim, height // 2, width // 2, 2 * dim
        self.layers = nn.Sequential(*layers)
        self.pooled = config.out == "vector"
        self.out_shape = (channels,) if self.pooled else (channels, height, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        return x.mean((2, 3)) if self.pooled else x
