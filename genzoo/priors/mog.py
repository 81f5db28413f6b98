"""Mixture prior."""

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.config import Config
from genzoo.densities import DiagonalGaussian
from genzoo.parts import Shape


class MixturePrior(nn.Module):
    """p(z) = sum_k w_k N(z; mu_k, diag(sigma_k^2)), all learned: the MoG prior of Tomczak & Welling (arXiv 1705.07120).

    On all of a latent's elements together, vectors or maps.
    """

    class Config(Config):
        num_components: int = Field(32, ge=1, le=65536, description="Gaussians in the mixture")

    needs = ("posterior density", "free latent")

    def __init__(self, config: Config, latent_shape: Shape, image_shape: Shape):
        super().__init__()
        self.mean = nn.Parameter(torch.randn(config.num_components, *latent_shape))
        self.logvar = nn.Parameter(torch.zeros(config.num_components, *latent_shape))
        self.logits = nn.Parameter(torch.zeros(config.num_components))

    def log_prob(self, z: Tensor, model) -> Tensor:
        """b *latent_shape -> b, nats."""
        each = DiagonalGaussian(self.mean, self.logvar).log_prob(z.float().unsqueeze(1))  # b k
        return (each + self.logits.log_softmax(0)).logsumexp(1)

    def components(self, model) -> tuple[Tensor, DiagonalGaussian]:
        """Weights k, and the k Gaussians."""
        return self.logits.softmax(0), DiagonalGaussian(self.mean, self.logvar)

    @torch.no_grad()
    def sample(self, num: int, generator: Generator, model) -> Tensor:
        """num *latent_shape, on the CPU."""
        k = torch.multinomial(self.logits.softmax(0).cpu(), num, replacement=True, generator=generator)
        return DiagonalGaussian(self.mean.cpu()[k], self.logvar.cpu()[k]).sample(generator)
