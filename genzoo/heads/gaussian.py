"""A Gaussian around the image of any other head."""

import dataclasses
import math
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import build, part
from genzoo.heads.likelihood import MAX_STD, Parameters, ScaleConfig, edges, located, log_normal_mass
from genzoo.parts import Composition, Shape
from genzoo.registry import DECODERS, HEADS


class GaussianHead(nn.Module):
    """p(x|z) = N(y, s^2) by pixel, y the image of the inner head, s learned: one, by channel, or by pixel from z.

    With `discretised` the mass of each of the 256 levels, the outermost reaching to infinity, which gives bits per
    dimension (Salimans et al., arXiv 1701.05517, eq. 2, with a normal); y is then stretched to [-1, 2], of which the
    image is what lies in [0, 1]. Else a density on [0, 1]. The KL's partner is `reconstruction: likelihood` of the
    objective; with a scale for the image it is sigma-VAE's (arXiv 2006.13202).
    """

    class Config(ScaleConfig):
        head: part(HEADS) = {"name": "single"}
        scale: Literal["image", "channel", "pixel"] = Field("image", description="what has a scale of its own")
        decoder: part(DECODERS) | None = Field(
            None, description="scale: pixel: the decoder that makes the scales; null: conv"
        )
        std: float = Field(0.1, gt=0, le=MAX_STD, description="scale at the beginning, of grey levels in [0, 1]")
        min_std: float = Field(0.002, gt=0, le=1, description="smallest scale: pixels that never move need one")
        discretised: bool = Field(False, description="the mass of the 256 levels instead of a density on [0, 1]")

    def __init__(self, config: Config, in_shape: Shape, image_shape: Shape):
        super().__init__()
        self.config = config
        self.head = build(HEADS, config.head, in_shape=in_shape, image_shape=image_shape)
        decoder = config.decoder or DECODERS.get("conv").Config(name="conv")
        self.scale = Parameters(1, config.scale, decoder, in_shape, image_shape)

    def forward(self, features: Tensor) -> Composition:
        config, composition = self.config, self.head(features)
        log_std = self.scale(features)[:, 0] + math.log(config.std)
        log_std = log_std.clamp(math.log(config.min_std), math.log(MAX_STD))
        y = composition.image
        if config.discretised:
            y, composition = located(composition)

        def log_prob(x: Tensor) -> Tensor:
            if config.discretised:
                low, high = edges(x)
                nats = log_normal_mass((low - y) * (-log_std).exp(), (high - y) * (-log_std).exp())
            else:
                nats = -0.5 * (((x - y) * (-log_std).exp()).square() + math.log(2 * math.pi)) - log_std
            return nats.flatten(1).sum(1)

        return dataclasses.replace(composition, log_prob=log_prob, on_levels=config.discretised)
