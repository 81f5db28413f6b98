"""A transformer that paints patches."""

import math

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import cropped
from genzoo.parts import Shape


class ViTDecoder(nn.Module):
    """Transformer over patches: tokens that know their place read the features, and each makes the pixels of its patch.

    Blocks as in Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv 2010.11929), normalised first; the decoder
    of masked autoencoders (He et al., arXiv 2111.06377) with the features in the place of the visible patches. Any
    image size: patches that reach over its edges are cut; features that are a map give a token for each of its pixels.
    """

    class Config(Config):
        patch: int = Field(4, ge=1, le=64, description="height and width of a patch in pixels")
        dim: int = Field(128, ge=4, le=8192, multiple_of=4, description="width of a token")
        depth: int = Field(4, ge=1, le=128, description="transformer blocks")
        num_heads: int = Field(4, ge=1, le=256, description="attention heads; must divide dim")
        mlp_ratio: float = Field(4.0, gt=0, le=64, description="hidden width of a block's dense layers, over dim")

        @model_validator(mode="after")
        def _heads_divide_dim(self):
            if self.dim % self.num_heads:
                raise ValueError(f"dim {self.dim} is not divisible by num_heads {self.num_heads}")
            return self

    def __init__(self, config: Config, in_shape: Shape, out_shape: Shape):
        super().__init__()
        channels, height, width = out_shape
        self.size = (height, width)
        self.patch = config.patch
        self.grid = (-(-height // config.patch), -(-width // config.patch))
        self.read = nn.Linear(in_shape[0], config.dim)
        places = sinusoids(*self.grid, config.dim)
        self.patches = nn.Parameter(0.02 * torch.randn(places.shape))
        self.register_buffer("places", places, persistent=False)
        # the tokens of a map have places of their own
        own = sinusoids(*in_shape[1:], config.dim) if len(in_shape) == 3 else None
        self.register_buffer("feature_places", own, persistent=False)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.dim,
                config.num_heads,
                int(config.dim * config.mlp_ratio),
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.to_pixels = nn.Linear(config.dim, channels * config.patch**2)

    def forward(self, features: Tensor) -> Tensor:
        """b *in_shape -> b c h w, logits."""
        memory = features.reshape(*features.shape[:2], -1).transpose(1, 2)  # b n c, n = 1 for flat features
        memory = self.read(memory)
        if self.feature_places is not None:
            memory = memory + self.feature_places
        patches = (self.patches + self.places).expand(len(features), -1, -1)  # b (gh gw) dim
        tokens = torch.cat([memory, patches.to(memory.dtype)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        pixels = self.to_pixels(self.norm(tokens[:, memory.shape[1] :]))
        p, (gh, gw) = self.patch, self.grid
        image = rearrange(pixels, "b (gh gw) (c p q) -> b c (gh p) (gw q)", gh=gh, gw=gw, p=p, q=p)
        return cropped(image, *self.size)


def sinusoids(height: int, width: int, dim: int) -> Tensor:
    """Sines and cosines of row and column (Vaswani et al., arXiv 1706.03762, section 3.5, for each axis); hw dim."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(dim // 4) / (dim // 4))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [axis.flatten()[:, None] * frequencies for axis in (rows, columns)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
