"""An aggregate posterior with the covariance of the prior."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import in_float32
from genzoo.parts import Pass, Shape


class DIP(nn.Module):
    """`sum_{i != j} C_ij^2 + diagonal * sum_i (C_ii - 1)^2`, C the batch's covariance of latents.

    Kumar et al., "Variational Inference of Disentangled Latent Concepts from Unlabeled Observations" (arXiv 1711.00848,
    eq. 6 and 7): of the posterior means (DIP-VAE-I), or of the draws, cov(mean) + E[variance] (DIP-VAE-II).
    """

    class Config(Config):
        weight: float = Field(10.0, ge=0, description="of the sum, in nats per image: lambda_od of the paper")
        diagonal: float = Field(10.0, ge=0, description="weight of the diagonal: lambda_d / lambda_od")
        of: Literal["means", "draws"] = Field("means", description="means: DIP-VAE-I; draws: DIP-VAE-II")

    needs = ("flat latent",)

    def __init__(self, config: Config, image_shape: Shape):
        super().__init__()
        self.config = config

    def forward(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        config, posterior = self.config, made.posterior
        with in_float32(x):
            mean = posterior.mean - posterior.mean.mean(0)
            covariance = mean.T @ mean / max(len(mean), 1)
            if config.of == "draws":
                covariance = covariance + posterior.variance.mean(0).diag()
            diagonal = covariance.diagonal()
            apart = covariance.square().sum() - diagonal.square().sum()
            return {"loss": config.weight * (apart + config.diagonal * (diagonal - 1).square().sum())}
