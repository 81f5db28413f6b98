"""The KL in three parts, of which the total correlation is weighed by itself."""

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.layers import in_float32, per_image
from genzoo.objectives.reconstruction import Reconstruction, ReconstructionConfig, penalties_of
from genzoo.parts import Composition, Observation, Pass, Shape


class TC(nn.Module):
    """`loss = rec + alpha * I(x; z) + beta * TC(z) + delta * sum_d KL(q(z_d) || p(z_d))`: nats per image.

    Chen et al., "Isolating Sources of Disentanglement in VAEs" (arXiv 1802.04942, eq. 2 and 4). The aggregate
    posterior is estimated by the batch itself, q(z) = mean_j q(z|x_j) (eq. 5 with the batch for the data set: the
    constants log N of the paper's estimator change no gradient), so I(x; z) can not be more than log of the batch size.
    For posteriors that are diagonal Gaussians.
    """

    class Config(ReconstructionConfig):
        alpha: float = Field(1.0, ge=0, description="weight of the mutual information of image and latent")
        beta: float = Field(6.0, ge=0, description="weight of the total correlation")
        delta: float = Field(1.0, ge=0, description="weight of the divergence of each variable from the prior's")

    needs = ("kl of every element", "posterior density", "prior density")

    def __init__(self, config: Config, image_shape: Shape):
        super().__init__()
        self.config = config
        self.reconstruction = Reconstruction(config)
        self.needs = (*TC.needs, *self.reconstruction.needs)

    def forward(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        """made: the pass over x, b c h w in [0, 1]; step: optimizer steps done, 0-d."""
        config, posterior, z = self.config, made.posterior, made.z
        with in_float32(x):
            rec, mse, gamma = self.reconstruction(x, made.composition, step)
            joint, product = aggregate(z, posterior.mean, posterior.variance)
            information = (posterior.log_prob(z) - joint).mean()
            correlation = (joint - product).mean()
            marginals = (product - model.log_prior(z)).mean()
            charged = config.alpha * information + config.beta * correlation + config.delta * marginals
            penalties = {name: value.mean() for name, value in penalties_of(made).items()}
            loss = sum(penalties.values(), rec + charged)
            kl = per_image(model.kl(posterior, z))
        terms = {"rec": rec, "kl": kl, "mse": mse, "gamma": gamma, "mutual_information": information}
        terms |= {"total_correlation": correlation, "marginal_kl": marginals, **penalties}
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}

    def log_prob(self, composition: Composition, x: Tensor) -> Tensor:
        """log p(x|z), b, nats per image."""
        return self.reconstruction.log_prob(composition, x)

    def observation(self, composition: Composition) -> Observation:
        return self.reconstruction.observation(composition)


def aggregate(z: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """(log q(z), sum_d log q(z_d)), b each, of draws b *latent under the mean of the batch's Gaussian posteriors."""
    z, mean, variance = (one.flatten(1) for one in (z, mean, variance))
    error = (z.unsqueeze(1) - mean).square() / variance
    pairs = -0.5 * (error + variance.log() + math.log(2 * math.pi))  # b b d: draw i under posterior j
    num = math.log(len(z))
    return torch.logsumexp(pairs.sum(2), 1) - num, (torch.logsumexp(pairs, 1) - num).sum(1)
