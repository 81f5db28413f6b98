"""The Split VAE's residual encoder."""

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import ResBlock, ResFcBlock
from genzoo.parts import Shape


class ResNetEncoder(nn.Module):
    """Residual encoder of the Split VAE: strided 3x3 convolutions between residual blocks, global average pool.

    Asperti, Bugo, Filippini, "Enhancing variational generation through self-decomposition" (arXiv 2202.02738).
    Any image size; b c h w -> b embed_dim.
    """

    class Config(Config):
        base_dim: int = Field(64, ge=1, description="channels after the first convolution; doubled at every scale")
        num_scales: int = Field(4, ge=1, le=8, description="number of stride-2 convolutions")
        embed_dim: int = Field(512, ge=1, description="features handed to the latent")

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        channels = in_shape[0]
        dim = config.base_dim
        self.stem = nn.Conv2d(channels, dim, 3, stride=2, padding=1)
        scales: list[nn.Module] = []
        for _ in range(config.num_scales - 1):
            scales += [ResBlock(dim, dim), nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1)]
            dim *= 2
        self.scales = nn.Sequential(*scales)
        self.embed = ResFcBlock(dim, config.embed_dim)
        self.out_shape = (config.embed_dim,)

    def forward(self, x: Tensor) -> Tensor:
        x = self.scales(self.stem(x))  # b dim h/2^n w/2^n
        return self.embed(x.mean((2, 3)))
