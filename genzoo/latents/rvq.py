"""Residual vector-quantised latent."""

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.codes import Codebook, CodebookConfig, Quantised, UniformCodes, code_map, straight_through
from genzoo.layers import FromFeatures
from genzoo.parts import Shape


class RVQLatent(nn.Module):
    """At each position a sum of vectors, each from a codebook of its own for what those before it left.

    SoundStream (Zeghidour et al., arXiv 2107.03312, algorithm 1); RQ-VAE (Lee et al., arXiv 2203.01941) shares one
    codebook. z holds the vectors of all levels side by side, (num_levels * dim, h, w), so that each keeps its code;
    `expand` adds them up. Codes num_levels h w. Commitment and codebooks as in `vq`, at each level.
    """

    class Config(CodebookConfig):
        num_levels: int = Field(4, ge=1, le=64, description="codebooks, each for what is left over by those before it")

    for_more_codes = "raise model.latent.revive_below, or lower model.latent.dim"

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        self.num_codes, self.commitment = config.num_codes, config.commitment
        dim, *grid = code_map(in_shape, config.dim, config.num_positions)
        self.grid = (config.num_levels, *grid)
        self.shape, self.out_shape = (config.num_levels * dim, *grid), in_shape
        self.code = FromFeatures(in_shape, (dim, *grid))
        self.codebooks = nn.ModuleList(Codebook(config) for _ in range(config.num_levels))
        self.embed = FromFeatures((dim, *grid), in_shape)

    @property
    def prior(self) -> UniformCodes:
        return UniformCodes(self.num_codes, self.grid, self.vectors)

    def forward(self, features: Tensor) -> Quantised:
        x = left = self.code(features).float()  # b d h w
        levels, distance = [], 0
        for codebook in self.codebooks:
            rows = left.detach().movedim(1, -1)
            _, vectors = codebook(rows.reshape(-1, rows.shape[-1]))
            levels.append(vectors.view_as(rows).movedim(-1, 1))
            left = left - levels[-1]
            distance = distance + left.square().flatten(1).sum(1)
        z = torch.cat(levels, 1)
        # Their sum is decoded: the first level alone takes the gradient, so that the encoder has it once.
        through = torch.cat([x, *map(torch.zeros_like, levels[1:])], 1)
        charged = {"commitment": self.commitment * distance} if self.commitment else {}
        return Quantised(z, through, self.num_codes, self.grid, charged)

    def expand(self, z: Tensor) -> Tensor:
        z = straight_through(self.vectors(self.codes(z)), z)
        return self.embed(sum(z.chunk(len(self.codebooks), 1)))

    def codes(self, z: Tensor) -> Tensor:
        """b *shape -> b num_levels h w: the nearest of each level's."""
        levels = z.movedim(1, -1).chunk(len(self.codebooks), -1)
        return torch.stack([codebook.nearest(x) for codebook, x in zip(self.codebooks, levels, strict=True)], 1)

    def vectors(self, codes: Tensor) -> Tensor:
        """b num_levels h w -> b *shape."""
        codes = codes.to(self.codebooks[0].vectors.device)
        levels = [codebook.vectors[code] for codebook, code in zip(self.codebooks, codes.unbind(1), strict=True)]
        return torch.cat(levels, -1).movedim(-1, 1)
