"""Smoothness of the maps that mix branches."""

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import per_image
from genzoo.parts import Pass, Shape


class TotalVariation(nn.Module):
    """The summed differences |dx| + |dy| of neighbouring pixels of every map, such as the split's sigma.

    Rudin, Osher, Fatemi, "Nonlinear total variation based noise removal algorithms" (1992). A map that pays for every
    contour follows few of them; a negative weight pays it for alternating.
    """

    class Config(Config):
        weight: float = Field(0.1, description="nats for a whole step from 0 to 1 between two pixels; may be negative")

    needs = ("maps",)

    def __init__(self, config: Config, image_shape: Shape):
        super().__init__()
        self.config = config

    def forward(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        maps = made.composition.maps.values()
        return {"loss": self.config.weight * sum(per_image(m.diff(dim=d).abs()) for m in maps for d in (2, 3))}
