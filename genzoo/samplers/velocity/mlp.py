"""A velocity of latents of any shape, which are flat to it."""

import math
from math import prod

import torch
from torch import Tensor, nn

from genzoo.parts import Shape

NUM_FREQUENCIES = 4  # of the time's embedding: 1, 2, 4 and 8 half-turns over the path


class MLPVelocity(nn.Module):
    """Residual blocks [LayerNorm, Linear, SiLU, Linear] on x and the time's sines; b *shape and b -> b *shape."""

    def __init__(self, shape: Shape, hidden_dim: int, num_layers: int):
        super().__init__()
        self.embed_x = nn.Linear(prod(shape), hidden_dim)
        self.embed_t = nn.Linear(2 * NUM_FREQUENCIES, hidden_dim)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden_dim),
                nn.Linear(hidden_dim, hidden_dim),
                nn.SiLU(),
                nn.Linear(hidden_dim, hidden_dim),
            )
            for _ in range(num_layers)
        )
        self.out = nn.Linear(hidden_dim, prod(shape))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = math.pi * t[:, None] * 2.0 ** torch.arange(NUM_FREQUENCIES, device=t.device)
        h = self.embed_x(x.flatten(1)) + self.embed_t(torch.cat([angles.sin(), angles.cos()], dim=1))
        for block in self.blocks:
            h = h + block(h)
        return self.out(h).view_as(x)
