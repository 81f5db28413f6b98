"""The embedding of times that networks on maps share."""

import math

import torch
from torch import Tensor, nn

NUM_FREQUENCIES = 128
HIGHEST = 1000.0  # radians over the path


class TimeEmbedding(nn.Module):
    """t in [0, 1] -> sines of geometric frequencies (Vaswani et al., arXiv 1706.03762) -> two layers; b -> b dim."""

    def __init__(self, dim: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * NUM_FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        falling = torch.arange(NUM_FREQUENCIES, device=t.device) * (-math.log(10_000) / NUM_FREQUENCIES)
        angles = HIGHEST * t[:, None] * falling.exp()
        return self.layers(torch.cat([angles.cos(), angles.sin()], 1))
