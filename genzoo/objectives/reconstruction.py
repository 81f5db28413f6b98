"""The reconstruction term that objectives share: which likelihood the decoded image stands for, and its scale."""

import math
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from genzoo.config import Config
from genzoo.layers import mean_of_processes
from genzoo.parts import Composition, Observation, Pass


class ReconstructionConfig(Config):
    """Options of an objective with a reconstruction term."""

    reconstruction: Literal["mse", "bce", "l1", "likelihood"] = Field(
        "mse", description="reconstruction term; likelihood: the head's own, such as heads with a scale have"
    )
    gamma: Literal["balanced", "fixed", "learned", "optimal"] | None = Field(
        None,
        description="how the reconstruction's scale is set; null: balanced (fixed where it has none: bce, likelihood)",
    )
    gamma_value: PositiveFloat = Field(1.0, description="gamma where it is fixed, its start where it is learned")

    @model_validator(mode="before")
    @classmethod
    def _default_gamma(cls, values: dict) -> dict:
        if isinstance(values, dict) and values.get("gamma") is None:
            scaled = values.get("reconstruction") not in ("bce", "likelihood")
            return {**values, "gamma": "balanced" if scaled else "fixed"}
        return values

    @model_validator(mode="after")
    def _without_gamma(self):
        if self.reconstruction in ("bce", "likelihood") and (self.gamma != "fixed" or self.gamma_value != 1):
            raise ValueError(
                f"reconstruction: {self.reconstruction} has no scale; remove `gamma` and `gamma_value`, or use mse, l1"
            )
        return self


class Reconstruction(nn.Module):
    """-log p(x|z) in nats per image, up to a constant where gamma is balanced or fixed.

    mse: 0.5 * |x - y|^2 / gamma (Gaussian of variance gamma); l1: |x - y| / gamma (Laplace of scale gamma); bce: binary
    cross-entropy (no gamma); likelihood: what the head says (no gamma). How gamma is set:

    - balanced: e <- 0.99 e + 0.01 * batch error, gamma <- min(gamma, e) after every step, both from 1; error is the
      mean per pixel, over all the parts of an accumulated batch. Keeps rec and kl in balance as reconstruction improves
      (Asperti & Trentin, arXiv 2002.07514).
    - fixed: gamma_value.
    - learned: a parameter; rec gains the log-normaliser, so it is the exact negative log-likelihood
      (Dai & Wipf, arXiv 1903.05789).
    - optimal: the batch error itself, the maximum-likelihood gamma; rec is again the exact negative log-likelihood
      (Rybkin et al., sigma-VAE, arXiv 2006.13202, eq. 6).
    """

    def __init__(self, config: ReconstructionConfig):
        super().__init__()
        self.config = config
        if config.gamma == "learned":
            self.log_gamma = nn.Parameter(torch.tensor(math.log(config.gamma_value)))
        else:
            self.register_buffer("gamma", torch.tensor(config.gamma_value if config.gamma == "fixed" else 1.0))
        if config.gamma == "balanced":
            self.register_buffer("error_ema", torch.tensor(1.0))
            # Of the step in work, whose batch may come in parts: gamma and e before it; the parts' errors and number.
            self.register_buffer("_in_step", torch.tensor([1.0, 1.0, 0.0, 0.0]), persistent=False)
            self.register_buffer("_step", torch.tensor(-1), persistent=False)

    @property
    def needs(self) -> tuple[str, ...]:
        """Of genzoo.parts.CAPABILITIES."""
        return ("likelihood",) if self.config.reconstruction == "likelihood" else ()

    def forward(self, x: Tensor, composition: Composition, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(nats per image, mean squared error per pixel, gamma), 0-d. Call it in float32."""
        y = composition.image.float()
        mse = F.mse_loss(y, x)
        num = x[0].numel()
        if self.config.reconstruction == "likelihood":
            return -composition.log_prob(x).mean(), mse, self.gamma
        if self.config.reconstruction == "bce":
            return F.binary_cross_entropy(y, x) * num, mse, self.gamma
        gaussian = self.config.reconstruction == "mse"
        error, power, weight = (mse, 0.5, 2 * math.pi) if gaussian else (F.l1_loss(y, x), 1.0, 2.0)
        if self.config.gamma in ("balanced", "fixed"):
            gamma = self.gamma.clone()
            if self.config.gamma == "balanced" and self.training:
                gamma = self._balance(self.of_all(error), step)
            return power * num * error / gamma, mse, gamma
        # exact: Gaussian 0.5 * (e / gamma + log(2 pi gamma)), Laplace e / gamma + log(2 gamma), per pixel
        gamma = self.log_gamma.exp() if self.config.gamma == "learned" else self.of_all(error).clamp(min=1e-8)
        if self.config.gamma == "optimal" and self.training:
            # d/dy [e / e.detach()] = d/dy log e: the gradient of the profile likelihood
            self.gamma.copy_(gamma)
        return power * num * (error / gamma + torch.log(weight * gamma)), mse, gamma

    def log_prob(self, composition: Composition, x: Tensor) -> Tensor:
        """log p(x|z), b, nats per image, at the present gamma; x broadcasts against more draws than images.

        A density on [0, 1] but for `likelihood`, whose head says what it is, and bce, which is none on grey levels.
        """
        if self.config.reconstruction == "likelihood":
            return composition.log_prob(x)
        y = composition.image.float()
        if self.config.reconstruction == "bce":
            return -F.binary_cross_entropy(y, x.expand_as(y), reduction="none").flatten(1).sum(1)
        gamma = self.log_gamma.exp() if self.config.gamma == "learned" else self.gamma
        if self.config.reconstruction == "mse":
            nats = 0.5 * ((x - y).square() / gamma + torch.log(2 * math.pi * gamma))
        else:
            nats = (x - y).abs() / gamma + torch.log(2 * gamma)
        return -nats.flatten(1).sum(1)

    def observation(self, composition: Composition) -> Observation:
        """What `log_prob` is. A balanced gamma is the variance of a Gaussian like any other: the running error."""
        kind, mode = self.config.reconstruction, self.config.gamma
        if kind == "likelihood":
            return Observation("the head's own", composition.on_levels)
        if kind == "bce":
            return Observation(kind, undefined="binary cross-entropy is no density of grey levels")
        gamma = float(self.log_gamma.exp() if mode == "learned" else self.gamma)
        law = "Gaussian of variance" if kind == "mse" else "Laplace of scale"
        return Observation(f"{law} {gamma:.4g} (gamma: {mode})")

    @torch.no_grad()
    def of_all(self, mean: Tensor) -> Tensor:
        """A mean over this process's images -> over those of all processes that train together."""
        return mean_of_processes(mean) if self.training else mean.detach().clone()

    @torch.no_grad()
    def _balance(self, error: Tensor, step: Tensor) -> Tensor:
        """Move gamma by the error of the whole batch, whose parts all get the gamma from before it, returned."""
        zero = torch.zeros_like(error)
        begun = torch.stack([self.gamma, self.error_ema, zero, zero])
        gamma, ema, total, num = torch.where(step == self._step, self._in_step, begun)
        total, num = total + error, num + 1
        self._step.copy_(step)
        self._in_step.copy_(torch.stack([gamma, ema, total, num]))
        self.error_ema.copy_(ema.lerp(total / num, 0.01))
        self.gamma.copy_(torch.minimum(gamma, self.error_ema))
        return gamma


def penalties_of(made: Pass) -> dict[str, Tensor]:
    """What the latent charges beside the KL: name -> b."""
    return made.posterior.penalties() if hasattr(made.posterior, "penalties") else {}
