"""The evidence lower bound, with the ways of weighing its two terms."""

import math
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from genzoo.config import Config
from genzoo.parts import Shape


class ELBO(nn.Module):
    """`loss = mean over the batch of [rec + beta * kl]`, both summed over the image: nats per image.

    mse: rec = 0.5 * |x - y|^2 / gamma (Gaussian of variance gamma); l1: rec = |x - y| / gamma (Laplace of scale gamma);
    bce: rec = binary cross-entropy (no gamma). How gamma is set:

    - balanced: e <- 0.99 e + 0.01 * batch error, gamma <- min(gamma, e) after every step, both from 1; error is the
      mean per pixel, over all the parts of an accumulated batch. Keeps rec and kl in balance as reconstruction improves
      (Asperti & Trentin, arXiv 2002.07514).
    - fixed: gamma_value.
    - learned: a parameter; rec gains the log-normaliser, so it is the exact negative log-likelihood
      (Dai & Wipf, arXiv 1903.05789).
    - optimal: the batch error itself, the maximum-likelihood gamma; rec is again the exact negative log-likelihood
      (Rybkin et al., sigma-VAE, arXiv 2006.13202, eq. 6).
    """

    class Config(Config):
        reconstruction: Literal["mse", "bce", "l1"] = Field("mse", description="reconstruction term")
        gamma: Literal["balanced", "fixed", "learned", "optimal"] | None = Field(
            None, description="how the reconstruction's scale is set; null: balanced (fixed for bce, which has none)"
        )
        gamma_value: PositiveFloat = Field(1.0, description="gamma where it is fixed, its start where it is learned")
        beta: float = Field(
            1.0, ge=0, description="weight of the KL, which is in nats per image (summed, not averaged)"
        )
        beta_warmup: int = Field(0, ge=0, description="optimizer steps over which beta grows linearly from 0")
        free_bits: float = Field(
            0.0, ge=0, description="nats of KL a latent element may hold at no cost (arXiv 1606.04934, eq. 15)"
        )

        @model_validator(mode="before")
        @classmethod
        def _default_gamma(cls, values: dict) -> dict:
            if isinstance(values, dict) and values.get("gamma") is None:
                return {**values, "gamma": "fixed" if values.get("reconstruction") == "bce" else "balanced"}
            return values

        @model_validator(mode="after")
        def _bce_has_no_gamma(self):
            if self.reconstruction == "bce" and (self.gamma != "fixed" or self.gamma_value != 1):
                raise ValueError("reconstruction: bce has no scale; remove `gamma` and `gamma_value`, or use mse or l1")
            return self

    def __init__(self, config: Config, image_shape: Shape):
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

    def forward(self, model, x: Tensor, step: Tensor) -> dict[str, Tensor]:
        """x: b c h w in [0, 1]; step: optimizer steps done, 0-d."""
        posterior, composition = model(x)
        with torch.autocast(x.device.type, enabled=False):  # sums over thousands of pixels need float32
            rec, mse, gamma = self._reconstruction(x, composition.image.float(), step)
            kl = posterior.kl()  # b *latent
            beta = torch.full((), self.config.beta, device=x.device)  # filled on the device: nothing waits
            if self.config.beta_warmup:
                beta = beta * (step / self.config.beta_warmup).clamp(max=1)
            charged = self._beyond_free(kl.mean(0)).sum() if self.config.free_bits else _per_image(kl)
            loss = rec + beta * charged
        terms = {"rec": rec, "kl": _per_image(kl), "mse": mse, "gamma": gamma, "beta": beta}
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}

    def _reconstruction(self, x: Tensor, y: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(nats per image, mean squared error per pixel, gamma)."""
        mse = F.mse_loss(y, x)
        num = x[0].numel()
        if self.config.reconstruction == "bce":
            return F.binary_cross_entropy(y, x) * num, mse, self.gamma
        gaussian = self.config.reconstruction == "mse"
        error, power, weight = (mse, 0.5, 2 * math.pi) if gaussian else (F.l1_loss(y, x), 1.0, 2.0)
        if self.config.gamma in ("balanced", "fixed"):
            gamma = self.gamma.clone()
            if self.config.gamma == "balanced" and self.training:
                gamma = self._balance(self._of_all(error), step)
            return power * num * error / gamma, mse, gamma
        # exact: Gaussian 0.5 * (e / gamma + log(2 pi gamma)), Laplace e / gamma + log(2 gamma), per pixel
        gamma = self.log_gamma.exp() if self.config.gamma == "learned" else self._of_all(error).clamp(min=1e-8)
        if self.config.gamma == "optimal" and self.training:
            # d/dy [e / e.detach()] = d/dy log e: the gradient of the profile likelihood
            self.gamma.copy_(gamma)
        return power * num * (error / gamma + torch.log(weight * gamma)), mse, gamma

    @torch.no_grad()
    def _of_all(self, mean: Tensor) -> Tensor:
        """A mean over this process's images -> over those of all processes that train together."""
        mean = mean.detach().clone()
        if self.training and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean, op=torch.distributed.ReduceOp.SUM)
            mean = mean / torch.distributed.get_world_size()
        return mean

    def _beyond_free(self, kl: Tensor) -> Tensor:
        """What the KL of each latent element, a mean over the batch, costs: no less than its free bits."""
        return torch.where(self._of_all(kl) > self.config.free_bits, kl, self.config.free_bits)

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


def _per_image(kl: Tensor) -> Tensor:
    """Sum over the latent, mean over the batch: nats per image."""
    return kl.flatten(1).sum(1).mean()
