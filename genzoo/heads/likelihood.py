"""What heads with a likelihood share: the levels of an image, a location and a scale beside the inner head's image."""

import dataclasses

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from genzoo.config import Config, build
from genzoo.heads.branches import decode
from genzoo.parts import Composition, Shape
from genzoo.registry import DECODERS

FAR = 1e4  # finite: infinity times a gradient of 0 is no number
MAX_STD = 10.0  # of grey levels in [0, 1]: as good as uniform
HALF = 1 / 510  # of the distance between two of the 256 levels in [0, 1]
# How far locations may lie outside [0, 1]. The outermost levels reach to infinity, so that a black pixel gains by any
# location below 0, until that is a few scales away. At 0 it would gain for ever: all pixels' logits run to where the
# sigmoid is flat, and on images that are mostly black nothing but black was ever learned.
REACH = 1.0


class ScaleConfig(Config):
    """Options of a head that learns the scale of its pixels' density: `scale`, and for pixels a `decoder`."""

    @model_validator(mode="after")
    def _decoder_by_pixel(self):
        if self.decoder is not None and self.scale != "pixel":
            raise ValueError(f"scale: {self.scale} is learned as it is; `decoder` needs scale: pixel")
        return self


class Parameters(nn.Module):
    """Numbers of a pixel's density, `num` for each channel: one for the image or channel, or from a decoder, by pixel.

    forward: b *in_shape -> b num c h w (h, w: 1 but for pixels), float32.
    """

    def __init__(self, num: int, by: str, decoder: Config | None, in_shape: Shape, image_shape: Shape):
        super().__init__()
        channels, height, width = image_shape
        self.num, self.decoder = num, None
        if by == "pixel":
            self.out_shape = (num * channels, height, width)
            self.decoder = build(DECODERS, decoder, in_shape=in_shape, out_shape=self.out_shape)
        else:
            self.free = nn.Parameter(torch.zeros(num, channels if by == "channel" else 1, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        if self.decoder is None:
            return self.free.float().unsqueeze(0)
        return decode(self.decoder, features, self.out_shape).unflatten(1, (self.num, -1))


def located(composition: Composition) -> tuple[Tensor, Composition]:
    """Where a density of levels lies, b c h w in [-REACH, 1 + REACH], by the inner head's image in [0, 1].

    And the composition of what can be seen of that, its branches likewise: the image is the location, within [0, 1].
    """

    def stretched(y: Tensor) -> Tensor:
        return y + REACH * (2 * y - 1)

    location = stretched(composition.image)
    branches = {name: stretched(y).clamp(0, 1) for name, y in composition.branches.items()}
    return location, dataclasses.replace(composition, image=location.clamp(0, 1), branches=branches)


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of the level that each pixel in [0, 1] is on; the outermost levels reach as good as to infinity."""
    level = (255 * x).round() / 255
    return (level - HALF).masked_fill(level < HALF, -FAR), (level + HALF).masked_fill(level > 1 - HALF, FAR)


def log_logistic_mass(low: Tensor, high: Tensor) -> Tensor:
    """log of the standard logistic's mass between two points: log [s(high) s(-low) (1 - exp(low - high))]."""
    return F.logsigmoid(high) + F.logsigmoid(-low) + torch.log(-torch.expm1(low - high))


def log_normal_mass(low: Tensor, high: Tensor) -> Tensor:
    """log of the standard normal's mass between two points, in the tail of smaller numbers."""
    upper = low + high > 0
    low, high = torch.where(upper, -high, low), torch.where(upper, -low, high)
    log_high, log_low = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return log_high + torch.log(-torch.expm1((log_low - log_high).clamp(max=-1e-7)))
