"""Likeness in the eyes of a frozen network."""

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config, build, part
from genzoo.parts import Pass, Shape
from genzoo.registry import FEATURES


class Perceptual(nn.Module):
    """The squared distance of unit-normalised feature maps, its mean over the pixels of a map, summed over depths.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv 1801.03924, eq. 1
    with weights of 1), on any registered extractor that gives `maps`. Its weights are frozen and in no checkpoint.
    """

    class Config(Config):
        weight: float = Field(100.0, ge=0, description="of the distance (0 to 4 a depth), in nats per image")
        features: part(FEATURES) = {"name": "efficientnet_lite0"}
        size: int | None = Field(
            None, ge=16, le=1024, description="images are resized to so many pixels; null: as many as for the features"
        )

    def __init__(self, config: Config, image_shape: Shape):
        super().__init__()
        self.config = config
        if not hasattr(FEATURES.get(config.features.name), "maps"):
            raise ValueError(f"features/{config.features.name} gives no maps (method `maps`)")
        self._extractor: tuple = ()  # in a tuple it is no submodule; made when it is used, which sampling never does

    @classmethod
    def fetch(cls, config: Config) -> None:
        FEATURES.get(config.features.name).fetch(config.features)

    def forward(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        extractor = self._frozen(x.device)
        with torch.no_grad():
            wanted = extractor.maps(x, self.config.size)
        maps = extractor.maps(made.composition.image, self.config.size)
        distances = [(_unit(a) - _unit(b)).square().sum(1).mean() for a, b in zip(maps, wanted, strict=True)]
        return {"loss": self.config.weight * sum(distances)}

    def _frozen(self, device: torch.device) -> nn.Module:
        if not self._extractor or self._extractor[0] != device:
            # A step draws the same numbers whether or not it is the first; to trace shapes, too, weights are read.
            with torch.random.fork_rng(devices=[]), torch.device("cpu"):
                self._extractor = (device, build(FEATURES, self.config.features).to(device).eval())
        return self._extractor[1]


def _unit(x: Tensor) -> Tensor:
    """b c h w, each pixel's channels of length 1."""
    x = x.float()
    return x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt()
