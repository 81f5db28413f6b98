"""Finite scalar quantisation."""

from math import prod
from typing import Annotated

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from genzoo.codes import Quantised, UniformCodes, code_map, straight_through
from genzoo.config import Config
from genzoo.layers import FromFeatures
from genzoo.parts import Shape


class FSQLatent(nn.Module):
    """A few bounded numbers at each position, each rounded to its levels: Mentzer et al. (arXiv 2309.15505, section 3).

    z lies in [-1, 1], (len(levels), h, w) of an encoder's map, (len(levels), 1, num_positions) of a vector; codes h w,
    the product of the levels in number. An even number of levels has one more below zero than above. Nothing is charged
    and no codebook is learned.
    """

    class Config(Config):
        levels: list[Annotated[int, Field(ge=3, le=1024)]] = Field(
            [8, 5, 5, 5], min_length=1, max_length=64, description="levels of each number; their product: the codes"
        )
        num_positions: int = Field(
            16, ge=1, le=4096, description="codes of an image where the encoder gives a vector; of a map, one a pixel"
        )

        @field_validator("levels")
        @classmethod
        def _countable(cls, levels: list[int]) -> list[int]:
            if prod(levels) > 2**24:
                raise ValueError(f"{prod(levels):.3g} codes, the product of levels, are more than 2^24")
            return levels

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        self.num_codes = prod(config.levels)
        self.shape, self.out_shape = code_map(in_shape, len(config.levels), config.num_positions), in_shape
        levels = torch.tensor(config.levels)[:, None, None]
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("basis", levels.cumprod(0) // levels, persistent=False)  # 1, L1, L1 L2, ...
        self.code = FromFeatures(in_shape, self.shape)
        self.embed = FromFeatures(self.shape, in_shape)

    @property
    def prior(self) -> UniformCodes:
        return UniformCodes(self.num_codes, self.shape[1:], self.vectors)

    def forward(self, features: Tensor) -> Quantised:
        x = self._bounded(self.code(features).float())
        return Quantised(self._levels_to_z(self._nearest(x)), x, self.num_codes, self.shape[1:])

    def expand(self, z: Tensor) -> Tensor:
        return self.embed(straight_through(self._levels_to_z(self._nearest(z)), z))

    def codes(self, z: Tensor) -> Tensor:
        """b *shape -> b h w."""
        return (self._nearest(z) * self.basis).sum(1)

    def vectors(self, codes: Tensor) -> Tensor:
        """b h w -> b *shape."""
        return self._levels_to_z(codes.to(self.basis.device).unsqueeze(1) // self.basis % self.levels)

    def _bounded(self, x: Tensor) -> Tensor:
        """To where rounding gives all levels, in units of z; 0 stays 0."""
        half = (self.levels - 1) * (1 + 1e-3) / 2
        offset = 0.5 * (self.levels % 2 == 0)
        return ((x + torch.atanh(offset / half)).tanh() * half - offset) / (self.levels // 2)

    def _nearest(self, z: Tensor) -> Tensor:
        """Number of the nearest level, from 0."""
        below = self.levels // 2
        return torch.minimum((z.detach().float() * below).round().long() + below, self.levels - 1).clamp(min=0)

    def _levels_to_z(self, numbers: Tensor) -> Tensor:
        below = self.levels // 2
        return (numbers - below).float() / below
