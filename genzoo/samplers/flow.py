"""A normalising flow on latents."""

from itertools import pairwise

from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.budget import refuse
from genzoo.errors import UserError
from genzoo.samplers.learned import LearnedSampler, TrainingConfig


class FlowSampler(LearnedSampler):
    """z from a masked autoregressive flow (zuko), trained by maximum likelihood on draws from the posteriors.

    Papamakarios et al., "Masked Autoregressive Flow for Density Estimation" (arXiv 1705.07057); from one transform to
    the next the order of the latents is reversed.
    """

    class Config(TrainingConfig):
        num_transforms: int = Field(5, ge=1, le=256, description="autoregressive transforms")
        hidden_dim: int = Field(128, ge=1, le=16384, description="width of the network that sets each transform")
        num_layers: int = Field(2, ge=1, le=64, description="its hidden layers")

    def make_network(self) -> nn.Module:
        try:
            from zuko.flows import MAF
        except ImportError:
            raise UserError("samplers/flow needs the package zuko: pip install 'genzoo[flow]'") from None
        config = self.config
        hidden_dims = [config.hidden_dim] * config.num_layers
        weights = sum(a * b for a, b in pairwise([self.dim, *hidden_dims, 2 * self.dim])) * config.num_transforms
        what = f"samplers/flow with hidden_dim {config.hidden_dim}, num_layers {config.num_layers} and num_transforms "
        refuse(5 * weights, f"{what}{config.num_transforms}", "lower them")  # with a mask of a byte for each weight
        return MAF(self.dim, transforms=config.num_transforms, hidden_features=hidden_dims)

    def loss_of(self, z: Tensor) -> dict[str, Tensor]:
        """Negative log-likelihood in nats per dimension of z."""
        return {"loss": -self.network().log_prob(z.flatten(1)).mean() / self.dim}

    def draw(self, num: int, generator: Generator) -> Tensor:
        noise = self.noise(num, generator).flatten(1)
        return self.network().transform.inv(noise).unflatten(1, self.latent_shape)
