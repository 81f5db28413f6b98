"""Fully connected encoder."""

import itertools
from math import prod
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.parts import Shape


class MLPEncoder(nn.Module):
    """Dense layers with SiLU on the flattened image, as in Kingma & Welling (arXiv 1312.6114); b c h w -> b dim."""

    class Config(Config):
        hidden_dims: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
            [512, 512], min_length=1, max_length=64, description="width of each dense layer"
        )

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        dims = [prod(in_shape), *config.hidden_dims]
        self.layers = nn.Sequential(
            *(layer for a, b in itertools.pairwise(dims) for layer in (nn.Linear(a, b), nn.SiLU()))
        )
        self.out_shape = (dims[-1],)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1))
