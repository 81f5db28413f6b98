"""A normalising flow on latents."""

from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.errors import UserError
from genzoo.samplers.learned import LearnedSampler, TrainingConfig


class FlowSampler(LearnedSampler):
    """z from a masked autoregressive flow (zuko), trained by maximum likelihood on draws from the posteriors.

    Papamakarios et al., "Masked Autoregressive Flow for Density Estimation" (arXiv 1705.07057); from one transform to
    the next the order of the latents is reversed.
    """

    class Config(TrainingConfig):
        num_transforms: int = Field(5, ge=1, description="autoregressive transforms")
        hidden_dim: int = Field(128, ge=1, description="width of the network that sets each transform")
        num_layers: int = Field(2, ge=1, description="its hidden layers")

    def make_network(self) -> nn.Module:
        try:
            from zuko.flows import MAF
        except ImportError:
            raise UserError("samplers/flow needs the package zuko: pip install 'genzoo[flow]'") from None
        config = self.config
        hidden_dims = [config.hidden_dim] * config.num_layers
        return MAF(self.dim, transforms=config.num_transforms, hidden_features=hidden_dims)

    def loss_of(self, z: Tensor) -> dict[str, Tensor]:
        """Negative log-likelihood in nats per dimension of z."""
        return {"loss": -self.network().log_prob(z.flatten(1)).mean() / self.dim}

    def draw(self, num: int, generator: Generator) -> Tensor:
        noise = self.noise(num, generator).flatten(1)
        return self.network().transform.inv(noise).unflatten(1, self.latent_shape)
