"""Flow matching on latents."""

import math

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.samplers.learned import LearnedSampler, TrainingConfig

NUM_FREQUENCIES = 4  # of the time's embedding: 1, 2, 4 and 8 half-turns over the path


class FlowMatchingSampler(LearnedSampler):
    """dx/dt = v(x, t) from noise at t = 0 to latents at t = 1, solved in equal steps; v is a small residual network.

    Straight paths x_t = (1 - t) x_0 + t z with x_0 ~ N(0, I), t uniform, and the loss |v(x_t, t) - (z - x_0)|^2:
    Lipman et al., "Flow Matching for Generative Modeling" (arXiv 2210.02747), eq. 23 with sigma_min = 0, which is
    Liu et al., "Flow Straight and Fast" (arXiv 2209.03003), eq. 1.
    """

    class Config(TrainingConfig):
        lr: float = Field(3e-3, gt=0, description=TrainingConfig.model_fields["lr"].description)
        hidden_dim: int = Field(256, ge=1, le=16384, description="width of the velocity network")
        num_layers: int = Field(3, ge=1, le=256, description="its residual blocks")
        num_solver_steps: int = Field(
            32,
            ge=1,
            le=10**5,
            description="steps of Heun's method from t = 0 to 1; the network is called twice in each",
        )

    def make_network(self) -> nn.Module:
        return Velocity(self.dim, self.config.hidden_dim, self.config.num_layers)

    def loss_of(self, z: Tensor) -> dict[str, Tensor]:
        """Mean squared error of the velocity; a latent of any shape is flat here."""
        z = z.flatten(1)
        x0, t = torch.randn_like(z), torch.rand(len(z), 1, device=z.device)
        return {"loss": (self.network(torch.lerp(x0, z, t), t).float() - (z - x0)).square().mean()}

    def draw(self, num: int, generator: Generator) -> Tensor:
        x = self.noise(num, generator).flatten(1)
        times = torch.linspace(0, 1, self.config.num_solver_steps + 1, device=x.device).expand(num, -1)
        for t, later in zip(times[:, :-1].split(1, dim=1), times[:, 1:].split(1, dim=1), strict=True):
            v = self.network(x, t)
            v_later = self.network(x + (later - t) * v, later)
            x = x + (later - t) * (v + v_later) / 2
        return x.unflatten(1, self.latent_shape)


class Velocity(nn.Module):
    """v(x, t); b d and b 1 -> b d."""

    def __init__(self, dim: int, hidden_dim: int, num_layers: int):
        super().__init__()
        self.embed_x = nn.Linear(dim, hidden_dim)
        self.embed_t = nn.Linear(2 * NUM_FREQUENCIES, hidden_dim)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden_dim),
                nn.Linear(hidden_dim, hidden_dim),
                nn.SiLU(),
                nn.Linear(hidden_dim, hidden_dim),
            )
            for _ in range(num_layers)
        )
        self.out = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = math.pi * t * 2.0 ** torch.arange(NUM_FREQUENCIES, device=t.device)
        h = self.embed_x(x) + self.embed_t(torch.cat([angles.sin(), angles.cos()], dim=1))
        for block in self.blocks:
            h = h + block(h)
        return self.out(h)
