"""Fully connected decoder."""

import itertools
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import FromFeatures, normalise_spectra
from genzoo.parts import Shape


class MLPDecoder(nn.Module):
    """Dense layers with SiLU, as in Kingma & Welling (arXiv 1312.6114). Any image size."""

    class Config(Config):
        hidden_dims: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
            [512, 512], min_length=1, max_length=64, description="width of each dense layer"
        )
        spectral_norm: bool = Field(
            False, description="weights over their largest singular value, as RAE-SN's (1903.12436)"
        )

    def __init__(self, config: Config, in_shape: Shape, out_shape: Shape):
        super().__init__()
        widths = config.hidden_dims
        self.hidden = nn.Sequential(
            FromFeatures(in_shape, (widths[0],)),
            nn.SiLU(),
            *(layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())),
        )
        self.to_image = FromFeatures((widths[-1],), out_shape)
        if config.spectral_norm:
            normalise_spectra(self)

    def forward(self, features: Tensor) -> Tensor:
        return self.to_image(self.hidden(features))
