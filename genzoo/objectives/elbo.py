"""The evidence lower bound, with the ways of weighing its two terms."""

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.layers import in_float32, per_image
from genzoo.objectives.reconstruction import Reconstruction, ReconstructionConfig, penalties_of
from genzoo.parts import Composition, Observation, Pass, Shape


class ELBO(nn.Module):
    """`loss = mean over the batch of [rec + beta * kl]`, both summed over the image: nats per image.

    rec: `genzoo.objectives.reconstruction`. Penalties of the latent's own, such as a commitment, are added with weight
    1. beta: Higgins et al., "beta-VAE" (ICLR 2017).
    """

    class Config(ReconstructionConfig):
        beta: float = Field(
            1.0, ge=0, description="weight of the KL, which is in nats per image (summed, not averaged)"
        )
        beta_warmup: int = Field(0, ge=0, description="optimizer steps over which beta grows linearly from 0")
        free_bits: float = Field(
            0.0, ge=0, description="nats of KL a latent element may hold at no cost (arXiv 1606.04934, eq. 15)"
        )

    def __init__(self, config: Config, image_shape: Shape):
        super().__init__()
        self.config = config
        self.reconstruction = Reconstruction(config)
        kl = "kl of every element" if config.free_bits else "kl"
        self.needs = (kl, *self.reconstruction.needs)

    def forward(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        """made: the pass over x, b c h w in [0, 1]; step: optimizer steps done, 0-d."""
        with in_float32(x):
            rec, mse, gamma = self.reconstruction(x, made.composition, step)
            kl = model.kl(made.posterior, made.z)  # b *any
            beta = torch.full((), self.config.beta, device=x.device)  # filled on the device: nothing waits
            if self.config.beta_warmup:
                beta = beta * (step / self.config.beta_warmup).clamp(max=1)
            charged = self._beyond_free(kl.mean(0)).sum() if self.config.free_bits else per_image(kl)
            loss = rec + beta * charged
            penalties = {name: value.mean() for name, value in penalties_of(made).items()}
            loss = sum(penalties.values(), loss)
        terms = {"rec": rec, "kl": per_image(kl), "mse": mse, "gamma": gamma, "beta": beta, **penalties}
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}

    def log_prob(self, composition: Composition, x: Tensor) -> Tensor:
        """log p(x|z), b, nats per image: what `reconstruction` charges, with its normaliser."""
        return self.reconstruction.log_prob(composition, x)

    def observation(self, composition: Composition) -> Observation:
        return self.reconstruction.observation(composition)

    def _beyond_free(self, kl: Tensor) -> Tensor:
        """What the KL of each latent element, a mean over the batch, costs: no less than its free bits."""
        return torch.where(self.reconstruction.of_all(kl) > self.config.free_bits, kl, self.config.free_bits)
