"""The second stage of the two-stage VAE: a small VAE on latents."""

import itertools
import math

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.samplers.learned import LearnedSampler, TrainingConfig


class TwoStageSampler(LearnedSampler):
    """u ~ N(0, I), z ~ N(f(u), gamma I): a second VAE, trained on draws from the posteriors of the first.

    Dai & Wipf, "Diagnosing and Enhancing VAE Models" (arXiv 1903.05789), section 4: u has as many dimensions as z,
    gamma is learned. Both networks are theirs: dense layers whose input joins the last layer again.
    """

    class Config(TrainingConfig):
        hidden_dim: int = Field(256, ge=1, le=16384, description="width of the encoder's and the decoder's layers")
        num_layers: int = Field(3, ge=1, le=256, description="hidden layers of each")

    def make_network(self) -> nn.Module:
        config, d = self.config, self.dim
        return SecondVAE(
            SkipMLP(d, config.hidden_dim, 2 * d, config.num_layers),
            SkipMLP(d, config.hidden_dim, d, config.num_layers),
        )

    def loss_of(self, z: Tensor) -> dict[str, Tensor]:
        """Negative ELBO in nats per dimension of z, a latent of any shape being flat here."""
        network, z = self.network, z.flatten(1)
        mean, logvar = network.encoder(z).float().chunk(2, dim=1)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar)
        u = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        error = (z - network.decoder(u).float()).square()
        rec = 0.5 * (error / network.log_gamma.exp() + network.log_gamma + math.log(2 * math.pi))
        return {"loss": (kl + rec).mean(), "gamma": network.log_gamma.exp().detach()}

    def draw(self, num: int, generator: Generator) -> Tensor:
        u, rest = (self.noise(num, generator).flatten(1) for _ in range(2))
        z = self.network.decoder(u) + (0.5 * self.network.log_gamma).exp() * rest
        return z.unflatten(1, self.latent_shape)


class SecondVAE(nn.Module):
    """Encoder b d -> b 2d (mean and log-variance of u), decoder b d -> b d (mean of z), and z's variance gamma."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.log_gamma = nn.Parameter(torch.zeros(()))


class SkipMLP(nn.Module):
    """Dense ReLU layers; the last, linear one sees the input beside the hidden features. b in -> b out."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, num_layers: int):
        super().__init__()
        dims = [in_dim] + [hidden_dim] * num_layers
        self.hidden = nn.Sequential(
            *(layer for a, b in itertools.pairwise(dims) for layer in (nn.Linear(a, b), nn.ReLU()))
        )
        self.out = nn.Linear(in_dim + hidden_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([x, self.hidden(x)], dim=1))
