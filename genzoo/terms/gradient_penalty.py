"""A decoder that is smooth in its latent."""

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.parts import Pass, Shape


class GradientPenalty(nn.Module):
    """|d image / d z|^2 at the draws: the squared Frobenius norm of the decoder's Jacobian, estimated by one vector.

    Ghosh et al., "From Variational to Deterministic Autoencoders" (arXiv 1903.12436, section 3.1: RAE-GP). With v of
    random signs, E |v^T J|^2 = |J|^2 (Hutchinson 1990). Summed over the latent, the mean over images.
    """

    class Config(Config):
        weight: float = Field(0.01, ge=0, description="of the squared norm, in nats per image")

    def __init__(self, config: Config, image_shape: Shape):
        super().__init__()
        self.config = config

    def forward(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        z = made.z.detach().requires_grad_()
        image = model.decode(z).image
        signs = torch.randint_like(image, 2) * 2 - 1
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad((signs * image).sum(), z, create_graph=True)
        return {"loss": self.config.weight * gradient.float().square().flatten(1).sum(1).mean()}
