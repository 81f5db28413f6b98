"""Objectives that bring the aggregate posterior to the prior by a kernel's distance."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.layers import in_float32, per_image
from genzoo.objectives.reconstruction import Reconstruction, ReconstructionConfig, penalties_of
from genzoo.parts import Composition, Observation, Pass, Shape

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the inverse multiquadratics, as in the code of WAE


class MMD(nn.Module):
    """`loss = rec + (1 - alpha) * KL + (alpha + lambda - 1) * MMD^2(q(z), p(z))`: InfoVAE; alpha = 1: the WAE-MMD.

    Zhao et al., "InfoVAE" (arXiv 1706.02262, eq. 6); Tolstikhin et al., "Wasserstein Auto-Encoders" (arXiv 1711.01558,
    algorithm 2). The distance is the unbiased estimate between the batch's draws and as many of the prior, which may be
    below 0. Kernels on d dimensions: imq, sum over scales s of C / (C + |a - b|^2) with C = 2 d s; rbf,
    exp(-|a - b|^2 / (2 d)).
    """

    class Config(ReconstructionConfig):
        kernel: Literal["imq", "rbf"] = Field("imq", description="the kernel of the distance")
        alpha: float = Field(1.0, le=1, description="1 - weight of the KL, in nats per image; 1: no KL at all")
        weight: float = Field(1000.0, ge=0, description="lambda: what the distance weighs, in nats per image")

    needs = ("prior",)

    def __init__(self, config: Config, image_shape: Shape):
        super().__init__()
        self.config = config
        self.reconstruction = Reconstruction(config)
        self.needs = (*MMD.needs, *(("kl",) if config.alpha < 1 else ()), *self.reconstruction.needs)

    def forward(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        """made: the pass over x, b c h w in [0, 1]; step: optimizer steps done, 0-d."""
        config, z = self.config, made.z
        with in_float32(x):
            rec, mse, gamma = self.reconstruction(x, made.composition, step)
            with torch.no_grad():
                drawn = model.sample_prior(len(z), torch.default_generator).to(z.device)
            distance = mmd(z.flatten(1), drawn.flatten(1), config.kernel)
            loss = rec + (config.alpha + config.weight - 1) * distance
            terms = {"rec": rec, "mse": mse, "gamma": gamma, "mmd": distance}
            if hasattr(made.posterior, "kl") or config.alpha < 1:
                terms["kl"] = per_image(model.kl(made.posterior, z))
                loss = loss + (1 - config.alpha) * terms["kl"]
            penalties = {name: value.mean() for name, value in penalties_of(made).items()}
            loss = sum(penalties.values(), loss)
        return {"loss": loss, **{name: term.detach() for name, term in {**terms, **penalties}.items()}}

    def log_prob(self, composition: Composition, x: Tensor) -> Tensor:
        """log p(x|z), b, nats per image."""
        return self.reconstruction.log_prob(composition, x)

    def observation(self, composition: Composition) -> Observation:
        return self.reconstruction.observation(composition)


def mmd(a: Tensor, b: Tensor, kernel: str) -> Tensor:
    """The squared maximum mean discrepancy of two samples n d and m d, unbiased: 0-d."""
    return _within(_kernel(a, a, kernel)) + _within(_kernel(b, b, kernel)) - 2 * _kernel(a, b, kernel).mean()


def _within(k: Tensor) -> Tensor:
    """The mean over pairs of two different ones."""
    return (k.sum() - k.trace()) / (len(k) * max(len(k) - 1, 1))


def _kernel(a: Tensor, b: Tensor, kernel: str) -> Tensor:
    distances = (a.unsqueeze(1) - b).square().sum(2)
    if kernel == "rbf":
        return (-distances / (2 * a.shape[1])).exp()
    return sum(2 * a.shape[1] * s / (2 * a.shape[1] * s + distances) for s in SCALES)
