"""Flow matching on latents, flat or maps."""

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.parts import Shape
from genzoo.samplers.learned import LearnedSampler, TrainingConfig


class FlowMatchingSampler(LearnedSampler):
    """dx/dt = v(x, t) from noise at t = 0 to latents at t = 1, solved in equal steps of Heun's method.

    Straight paths x_t = (1 - t) x_0 + t z with x_0 ~ N(0, I), and the loss |v(x_t, t) - (z - x_0)|^2: Lipman et al.,
    "Flow Matching for Generative Modeling" (arXiv 2210.02747), eq. 23 with sigma_min = 0, which is Liu et al., "Flow
    Straight and Fast" (arXiv 2209.03003), eq. 1. Networks: genzoo/samplers/velocity. Logit-normal times: Esser et al.
    (arXiv 2403.03206), eq. 19 with m = 0, s = 1.
    """

    class Config(TrainingConfig):
        lr: float = Field(3e-3, gt=0, description=f"{TrainingConfig.model_fields['lr'].description}; dit: 1e-3 or less")
        network: Literal["mlp", "dit", "unet"] = Field(
            "mlp", description="of the velocity: mlp for any latent, dit (a transformer) and unet for maps"
        )
        hidden_dim: int = Field(256, ge=4, le=16384, description="its width; of unet, at full size")
        num_layers: int = Field(3, ge=1, le=256, description="its blocks; of unet, at each size, down and up")
        num_heads: int = Field(4, ge=1, le=256, description="of dit's attention")
        patch_size: int = Field(1, ge=1, le=1024, description="dit: sides of the squares of a map that are its tokens")
        times: Literal["uniform", "logit_normal"] = Field(
            "uniform", description="t in training; logit_normal: more often in the middle of the path"
        )
        num_solver_steps: int = Field(
            32,
            ge=1,
            le=10**5,
            description="steps of Heun's method from t = 0 to 1; the network is called twice in each",
        )

        @property
        def needs(self) -> tuple[str, ...]:
            return () if self.network == "mlp" else ("latent map",)

    def __init__(self, config: Config, latent_shape: Shape):
        if config.needs and len(latent_shape) != 3:
            raise ValueError(f"network: {config.network} is for maps c h w; mlp takes latents of any shape")
        super().__init__(config, latent_shape)

    def make_network(self) -> nn.Module:
        config = self.config
        size = (self.latent_shape, config.hidden_dim, config.num_layers)
        match config.network:  # imported when they are used: a recipe is checked without them
            case "mlp":
                from genzoo.samplers.velocity.mlp import MLPVelocity

                return MLPVelocity(*size)
            case "dit":
                from genzoo.samplers.velocity.dit import DiTVelocity

                return DiTVelocity(*size, config.num_heads, config.patch_size)
            case "unet":
                from genzoo.samplers.velocity.unet import UNetVelocity

                return UNetVelocity(*size)

    def loss_of(self, z: Tensor) -> dict[str, Tensor]:
        """Mean squared error of the velocity."""
        x0 = torch.randn_like(z)
        t = torch.rand(len(z), device=z.device)
        if self.config.times == "logit_normal":
            t = torch.randn(len(z), device=z.device).sigmoid()
        x = torch.lerp(x0, z, t.view(-1, *[1] * (z.ndim - 1)))
        return {"loss": (self.network(x, t).float() - (z - x0)).square().mean()}

    def draw(self, num: int, generator: Generator) -> Tensor:
        x, steps = self.noise(num, generator), self.config.num_solver_steps
        for i in range(steps):
            t, later = (torch.full((num,), (i + end) / steps, device=x.device) for end in (0, 1))
            v = self.network(x, t)
            x = x + (v + self.network(x + v / steps, later)) / (2 * steps)
        return x
