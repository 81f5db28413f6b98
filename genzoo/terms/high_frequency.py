"""What alternates from pixel to pixel in the maps that mix branches."""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from genzoo.config import Config
from genzoo.layers import per_image
from genzoo.parts import Pass, Shape


class HighFrequency(nn.Module):
    """The squared difference of every map from itself under a 3x3 binomial blur, summed over pixels.

    A checkerboard of 0 and 1 has 0.25 a pixel, a constant map nothing. A positive weight keeps the split's sigma from
    alternating between pixels, a negative one makes it.
    """

    class Config(Config):
        weight: float = Field(1.0, description="of the sum over pixels, in nats; may be negative")

    needs = ("maps",)

    def __init__(self, config: Config, image_shape: Shape):
        super().__init__()
        self.config = config
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("blur", line.outer(line).view(1, 1, 3, 3), persistent=False)

    def forward(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        maps = made.composition.maps.values()
        return {"loss": self.config.weight * sum(per_image((m - self._blurred(m)).square()) for m in maps)}

    def _blurred(self, m: Tensor) -> Tensor:
        """b c h w; beyond the border the pixels are mirrored."""
        blur = self.blur.to(m.dtype).expand(m.shape[1], -1, -1, -1)
        return F.conv2d(F.pad(m, (1, 1, 1, 1), mode="reflect"), blur, groups=m.shape[1])
