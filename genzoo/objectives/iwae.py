"""The importance-weighted bound."""

import copy
import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from genzoo.layers import in_float32, per_image
from genzoo.objectives.reconstruction import Reconstruction, ReconstructionConfig
from genzoo.parts import Composition, Observation, Pass, Posterior, Shape


class IWAE(nn.Module):
    """`loss = -log mean_k [p(x, z_k) / q(z_k|x)]`, z_k from the posterior: nats per image, tighter with every draw.

    Burda et al., "Importance Weighted Autoencoders" (arXiv 1509.00519, eq. 8). With `estimator: dreg` the encoder's
    gradient is the doubly reparameterised one, whose noise does not drown it at many draws: Tucker et al., "Doubly
    Reparameterized Gradient Estimators for Monte Carlo Objectives" (arXiv 1810.04152, eq. 8). One draw, plain, is the
    ELBO with the KL estimated.
    """

    class Config(ReconstructionConfig):
        gamma: Literal["fixed", "learned"] | None = Field(
            None, description="how the reconstruction's scale is set; null: learned (fixed where it has none)"
        )
        num_draws: int = Field(8, ge=1, le=1024, description="draws K of the posterior an image")
        estimator: Literal["plain", "dreg"] = Field("dreg", description="of the encoder's gradient")

        @model_validator(mode="before")
        @classmethod
        def _default_gamma(cls, values: dict) -> dict:
            if isinstance(values, dict) and values.get("gamma") is None:
                scaled = values.get("reconstruction") not in ("bce", "likelihood")
                return {**values, "gamma": "learned" if scaled else "fixed"}
            return values

    needs = ("kl", "posterior density", "prior density")

    def __init__(self, config: Config, image_shape: Shape):
        super().__init__()
        self.config = config
        self.reconstruction = Reconstruction(config)
        self.needs = (*IWAE.needs, *self.reconstruction.needs)

    def forward(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        """made: the pass over x, b c h w in [0, 1]; step: optimizer steps done, 0-d."""
        num, posterior = self.config.num_draws, made.posterior
        doubly = self.config.estimator == "dreg"
        # Its own draws: what else is charged for the pass must not be weighed with them.
        own = [posterior.sample() for _ in range(num if doubly else num - 1)]
        z = torch.stack(own if doubly else [made.z, *own])  # k b *latent
        compositions = [] if doubly else [made.composition]
        if own:
            compositions.append(model.decode(torch.cat(own) if not doubly else z.flatten(0, 1)))
        with in_float32(x):
            parts = [self.log_prob(one, x.repeat(len(one.image) // len(x), 1, 1, 1)) for one in compositions]
            likelihood = torch.cat(parts).view(num, len(x))
            prior = model.log_prior(z.flatten(0, 1)).view(num, len(x))
            log_weights = likelihood + prior - (_detached(posterior) if doubly else posterior).log_prob(z)  # k b
            loss = -(log_weights.logsumexp(0) - math.log(num)).mean()
            if doubly:
                shares = log_weights.detach().softmax(0)
                weighed = -(shares * log_weights).sum(0).mean()  # has the gradient of the loss
                loss = weighed + (loss - weighed).detach()
                if z.requires_grad:  # and the draws' once more by their shares
                    z.register_hook(lambda gradient: gradient * shares.view(*shares.shape, *(1,) * (z.ndim - 2)))
            kl = per_image(model.kl(posterior, made.z))
            mse = (made.composition.image.float() - x).square().mean()
        terms = {"rec": -likelihood.mean(), "kl": kl, "mse": mse, "gamma": self._gamma()}
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}

    def log_prob(self, composition: Composition, x: Tensor) -> Tensor:
        """log p(x|z), b, nats per image."""
        return self.reconstruction.log_prob(composition, x)

    def observation(self, composition: Composition) -> Observation:
        return self.reconstruction.observation(composition)

    def _gamma(self) -> Tensor:
        rec = self.reconstruction
        return rec.log_gamma.exp() if self.config.gamma == "learned" else rec.gamma.clone()


def _detached(posterior: Posterior) -> Posterior:
    """The same density, whose parameters get no gradient."""
    other = copy.copy(posterior)
    for name, value in vars(posterior).items():
        if isinstance(value, Tensor):
            setattr(other, name, value.detach())
    return other
