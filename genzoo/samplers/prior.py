"""The model's own prior."""

from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from genzoo.config import Config
from genzoo.parts import Shape


class PriorSampler(nn.Module):
    """z ~ N(0, I)."""

    class Config(Config):
        pass

    needs_fit: ClassVar[bool] = False

    def __init__(self, config: Config, latent_shape: Shape):
        super().__init__()
        self.latent_shape = latent_shape

    def fit(self, mean: Tensor, variance: Tensor, seed: int) -> None:
        """Nothing to learn."""

    def sample(self, num: int, generator: Generator) -> Tensor:
        return torch.randn(num, *self.latent_shape, generator=generator)
