"""The Split VAE's residual encoder."""

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import ResBlock, ResFcBlock
from genzoo.parts import Shape


class ResNetEncoder(nn.Module):
    """Residual encoder of the Split VAE: strided 3x3 convolutions between residual blocks, global average pool.

    Asperti, Bugo, Filippini, "Enhancing variational generation through self-decomposition" (arXiv 2202.02738).
    Any image size; b c h w -> b embed_dim. As a map: a convolutional block in the place of the pool and the dense one;
    b c h w -> b embed_dim h' w', the image's sides halved num_scales times and rounded up.
    """

    class Config(Config):
        base_dim: int = Field(64, ge=1, le=4096, description="channels after the first convolution; doubled each time")
        num_scales: int = Field(4, ge=1, le=8, description="number of stride-2 convolutions")
        embed_dim: int = Field(512, ge=1, le=16384, description="features handed to the latent, or channels of the map")
        out: Literal["vector", "map"] = Field("vector", description="what the latent is given")

        @model_validator(mode="after")
        def _channels_within_reason(self):
            if (widest := self.base_dim * 2 ** (self.num_scales - 1)) > 16384:
                raise ValueError(f"base_dim doubled num_scales - 1 times is {widest} channels: at most 16384")
            return self

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        channels, height, width = in_shape
        dim = config.base_dim
        self.stem = nn.Conv2d(channels, dim, 3, stride=2, padding=1)
        scales: list[nn.Module] = []
        for _ in range(config.num_scales - 1):
            scales += [ResBlock(dim, dim), nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1)]
            dim *= 2
        self.scales = nn.Sequential(*scales)
        self.pooled = config.out == "vector"
        self.embed = (ResFcBlock if self.pooled else ResBlock)(dim, config.embed_dim)
        sides = (-(-side >> config.num_scales) for side in (height, width))
        self.out_shape = (config.embed_dim,) if self.pooled else (config.embed_dim, *sides)

    def forward(self, x: Tensor) -> Tensor:
        x = self.scales(self.stem(x))  # b dim h/2^n w/2^n
        return self.embed(x.mean((2, 3)) if self.pooled else x)
