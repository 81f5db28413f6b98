"""DCGAN-style convolutional encoder."""

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.parts import Shape


class ConvEncoder(nn.Module):
    """Strided 4x4 convolutions with BatchNorm and LeakyReLU, as the discriminator of DCGAN (arXiv 1511.06434).

    Any image of at least 8x8; b c h w -> b dim h' w', with a shorter side of 4 to 7.
    """

    class Config(Config):
        base_dim: int = Field(64, ge=1, description="channels after the first convolution; doubled at every scale")
        max_dim: int = Field(512, ge=1, description="upper bound of the channels")

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        channels, height, width = in_shape
        if min(height, width) < 8:
            raise ValueError(f"images of {height}x{width} are too small: at least 8x8")
        dim = config.base_dim
        layers: list[nn.Module] = []
        while min(height, width) >= 8:
            dim = min(dim, config.max_dim)
            layers += [
                nn.Conv2d(channels, dim, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(dim),
                nn.LeakyReLU(0.2),
            ]
            channels, height, width, dim = dim, height // 2, width // 2, 2 * dim
        self.layers = nn.Sequential(*layers)
        self.out_shape = (channels, height, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
