"""The head of the plain VAE."""

from torch import Tensor, nn

from genzoo.config import Config, build, part
from genzoo.heads.branches import decode
from genzoo.parts import Composition, Shape
from genzoo.registry import DECODERS


class SingleHead(nn.Module):
    """One decoder, one image: the plain VAE."""

    class Config(Config):
        decoder: part(DECODERS) = {"name": "resnet"}

    def __init__(self, config: Config, in_shape: Shape, image_shape: Shape):
        super().__init__()
        self.image_shape = image_shape
        self.decoder = build(DECODERS, config.decoder, in_shape=in_shape, out_shape=image_shape)

    def forward(self, features: Tensor) -> Composition:
        return Composition(decode(self.decoder, features, self.image_shape).sigmoid())
