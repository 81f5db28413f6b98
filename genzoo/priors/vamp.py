"""VampPrior."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.config import Config
from genzoo.parts import Posterior, Shape


class VampPrior(nn.Module):
    """p(z) = 1/K sum_k q(z|u_k) over learned pseudo-inputs u_k: Tomczak & Welling (arXiv 1705.07120, eq. 9).

    The pseudo-inputs are images in [0, 1] that the model encodes at every step, in eval mode: BatchNorm's averages then
    stay those of the data, and a density is the same while training and after.
    """

    class Config(Config):
        num_pseudo_inputs: int = Field(64, ge=1, le=65536, description="images whose posteriors are mixed")

    needs = ("posterior density",)

    def __init__(self, config: Config, latent_shape: Shape, image_shape: Shape):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(config.num_pseudo_inputs, *image_shape))

    def log_prob(self, z: Tensor, model) -> Tensor:
        """b *latent_shape -> b, nats."""
        each = self._encoded(model, self.logits).log_prob(z.float().unsqueeze(1))  # b k
        return each.logsumexp(1) - math.log(len(self.logits))

    def components(self, model) -> tuple[Tensor, Posterior]:
        """Weights k, and the posteriors of the k pseudo-inputs."""
        return torch.full((len(self.logits),), 1 / len(self.logits)), self._encoded(model, self.logits)

    @torch.no_grad()
    def sample(self, num: int, generator: Generator, model) -> Tensor:
        """num *latent_shape."""
        k = torch.randint(len(self.logits), (num,), generator=generator)
        device = self.logits.device
        chance = torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
        drawn = [self._encoded(model, self.logits[part.to(device)]).sample(chance) for part in k.split(256)]
        return torch.cat(drawn)

    def _encoded(self, model, logits: Tensor) -> Posterior:
        with _eval_mode(model):
            return model.encode(logits.sigmoid())


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    training = [module for part in (model.encoder, model.latent) for module in part.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
