"""A discretised mixture of logistics around the image of any other head."""

import dataclasses
import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.config import build, part
from genzoo.heads.likelihood import MAX_STD, Parameters, ScaleConfig, edges, located, log_logistic_mass
from genzoo.parts import Composition, Shape
from genzoo.registry import DECODERS, HEADS


class LogisticHead(nn.Module):
    """p(x|z): the mass of each of the 256 levels under a mixture of k logistics around the inner head's image.

    Salimans et al., "PixelCNN++" (arXiv 1701.05517, eq. 1 and 2), channels independent. The logistics lie around the
    inner image stretched to [-1, 2], of which the image is what lies in [0, 1]: what is black for certain lies below
    0. Their offsets have the weighted mean 0; with one there is no offset.
    """

    class Config(ScaleConfig):
        head: part(HEADS) = {"name": "single"}
        num_components: int = Field(1, ge=1, le=64, description="logistics k of the mixture")
        scale: Literal["image", "channel", "pixel"] = Field(
            "pixel", description="what has weights, offsets and scales of its own"
        )
        decoder: part(DECODERS) | None = Field(
            None, description="scale: pixel: the decoder that makes weights, offsets and scales; null: conv"
        )
        std: float = Field(
            0.5,
            gt=0,
            le=MAX_STD,
            description="scale at the beginning, of grey levels in [0, 1]; wide learns sooner",
        )
        min_std: float = Field(0.001, gt=0, le=1, description="smallest scale")

    def __init__(self, config: Config, in_shape: Shape, image_shape: Shape):
        super().__init__()
        self.config = config
        self.head = build(HEADS, config.head, in_shape=in_shape, image_shape=image_shape)
        decoder = config.decoder or DECODERS.get("conv").Config(name="conv")
        self.num = config.num_components
        num = 1 if self.num == 1 else 3 * self.num  # scales; weights and offsets
        self.parameters_of = Parameters(num, config.scale, decoder, in_shape, image_shape)
        if self.num > 1:  # side by side at first, or all would learn the same
            self.register_buffer("spread", torch.linspace(-1, 1, self.num).view(-1, 1, 1, 1) * config.std)

    def forward(self, features: Tensor) -> Composition:
        config = self.config
        location, composition = located(self.head(features))
        made = self.parameters_of(features)  # b num c h w
        log_scale = made[:, : self.num] + math.log(config.std)
        log_scale = log_scale.clamp(math.log(config.min_std), math.log(MAX_STD))
        mean = location.unsqueeze(1)
        log_weights = torch.zeros((), device=made.device)
        if self.num > 1:
            log_weights = made[:, self.num : 2 * self.num].log_softmax(1)
            offsets = self.spread + config.std * made[:, 2 * self.num :]
            mean = mean + offsets - (log_weights.exp() * offsets).sum(1, keepdim=True)

        def log_prob(x: Tensor) -> Tensor:
            low, high = (edge.unsqueeze(1) for edge in edges(x))
            scale = (-log_scale).exp()
            nats = torch.logsumexp(log_weights + log_logistic_mass((low - mean) * scale, (high - mean) * scale), 1)
            return nats.flatten(1).sum(1)

        return dataclasses.replace(composition, log_prob=log_prob, on_levels=True)
