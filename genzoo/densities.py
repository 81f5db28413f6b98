"""Densities that latents share: the priors they are measured against, and the Gaussian posterior."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from genzoo.parts import Shape


@dataclass(frozen=True)
class StandardNormal:
    """p(z) = N(0, I) on latents of one shape."""

    shape: Shape

    def sample(self, num: int, generator: Generator) -> Tensor:
        """num *shape, on the CPU."""
        return torch.randn(num, *self.shape, generator=generator, device=generator.device)

    def log_prob(self, z: Tensor) -> Tensor:
        """b *shape -> b, nats."""
        return _sum(-0.5 * (z.square() + math.log(2 * math.pi)), len(self.shape))


@dataclass
class DiagonalGaussian:
    """q(z|x) = N(mean, exp(logvar)), against the prior N(0, I). Latents of any shape."""

    mean: Tensor  # b *latent
    logvar: Tensor  # b *latent

    @property
    def variance(self) -> Tensor:
        return self.logvar.exp()

    def sample(self, generator: Generator | None = None) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + (0.5 * self.logvar).exp() * noise

    def kl(self, z: Tensor) -> Tensor:
        """KL in nats of every element, b *latent, whatever z (Kingma & Welling, arXiv 1312.6114, appendix B)."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar)

    def log_prob(self, z: Tensor) -> Tensor:
        """... b *latent -> ... b, nats."""
        error = (z - self.mean).square() * (-self.logvar).exp()
        return _sum(-0.5 * (error + self.logvar + math.log(2 * math.pi)), self.mean.ndim - 1)


def _sum(x: Tensor, num_dims: int) -> Tensor:
    """Over the last `num_dims` dimensions."""
    return x.sum(tuple(range(-num_dims, 0)))
