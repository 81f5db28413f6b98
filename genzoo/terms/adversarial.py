"""A critic that tells reconstructions from images, and a model that learns to pass."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from genzoo.config import Config, build, part
from genzoo.layers import FromFeatures
from genzoo.parts import Pass, Shape
from genzoo.registry import ENCODERS

WON = 0.05  # share of its loss at chance below which a critic is sure of all it sees


class Adversarial(nn.Module):
    """A generative adversarial term: the critic is any encoder with one output, trained in the same backward pass.

    Goodfellow et al. (arXiv 1406.2661; non_saturating), Lim & Ye (arXiv 1705.02894; hinge), on reconstructions as in
    Larsen et al., "Autoencoding beyond pixels" (arXiv 1512.09300) and Esser et al., "Taming Transformers" (arXiv
    2012.09841), whose eq. 7 is `adaptive`. r1: Mescheder et al. (arXiv 1801.04406, eq. 9). The model sees the critic
    with frozen weights, the critic sees detached images: neither moves the other's gradient.
    """

    class Config(Config):
        weight: float = Field(0.1, ge=0, description="of the model's share, in nats per image")
        critic: part(ENCODERS) = {"name": "conv"}
        loss: Literal["hinge", "non_saturating"] = Field("hinge", description="of model and critic")
        start: int = Field(0, ge=0, description="optimizer steps before both begin")
        r1: float = Field(0.0, ge=0, description="weight of the critic's squared gradient on images; 0: none")
        adaptive: bool = Field(False, description="the model's share is scaled to the gradient of the objective")
        lr: float | None = Field(None, gt=0, le=1, description="the critic's learning rate; null: the model's")
        betas: tuple[float, float] | None = Field(None, description="the critic's, of Adam; null: the model's")

    def __init__(self, config: Config, image_shape: Shape):
        super().__init__()
        self.config = config
        encoder = build(ENCODERS, config.critic, in_shape=image_shape)
        self.critic = nn.Sequential(encoder, FromFeatures(encoder.out_shape, (1,)))

    def param_groups(self) -> list[dict]:
        return [{"params": list(self.critic.parameters()), "lr": self.config.lr, "betas": self.config.betas}]

    def forward(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        config, image = self.config, made.composition.image
        begun = (step >= config.start).float()
        frozen = {name: p.detach() for name, p in self.critic.named_parameters()}
        frozen |= {name: b.clone() for name, b in self.critic.named_buffers()}  # BatchNorm's averages are the critic's
        passed = functional_call(self.critic, frozen, (image,)).float()
        share = -passed.mean() if config.loss == "hinge" else F.softplus(-passed).mean()
        scale = self._balance(made.loss, share, image) if config.adaptive else 1.0

        real_x = x.detach().requires_grad_(config.r1 > 0)
        real, fake = self.critic(real_x).float(), self.critic(image.detach()).float()
        if config.loss == "hinge":
            critic = (1 - real).relu().mean() + (1 + fake).relu().mean()
        else:
            critic = F.softplus(-real).mean() + F.softplus(fake).mean()
        loss = begun * (config.weight * scale * share + critic)
        if config.r1 and torch.is_grad_enabled():
            (gradient,) = torch.autograd.grad(real.sum(), real_x, create_graph=True)
            loss = loss + begun * 0.5 * config.r1 * gradient.square().flatten(1).sum(1).mean()
        scalars = {"model": share, "critic": critic, "real": real.mean(), "fake": fake.mean()}
        return {"loss": loss, **{name: value.detach() for name, value in scalars.items()}}

    def diagnosis(self, means: dict[str, float]) -> str:
        chance = 2.0 if self.config.loss == "hinge" else 2 * math.log(2)
        if means["critic"] >= WON * chance:
            return ""
        return (
            f"The critic has won: it tells reconstructions from images nearly always (loss {means['critic']:.3f}; at "
            f"chance {chance:.2f}), so that the model learns little from it; raise the adversarial term's r1, lower "
            "its lr, or give it a smaller critic."
        )

    @staticmethod
    def _balance(loss: Tensor, share: Tensor, image: Tensor) -> Tensor:
        """How many times the model's share would have to grow to pull the image as the objective does."""
        if not image.requires_grad:
            return torch.ones((), device=image.device)
        of_loss, of_share = (torch.autograd.grad(one, image, retain_graph=True)[0].norm() for one in (loss, share))
        return (of_loss / (of_share + 1e-6)).clamp(max=1e4).detach()
