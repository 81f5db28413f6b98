"""What samplers that train a network share: the options of the training, standardised latents, draws in pieces."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from math import prod
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.parts import Shape

MAX_DRAWN = 2**18  # numbers of latents drawn at once, which bounds the memory
MAX_READ = 2**22  # numbers of posteriors looked at together


class TrainingConfig(Config):
    """How the network is trained: the options of `train` of these names, with what suits latents as defaults.

    The optimizer is AdamW, the rate falls to 0 along a cosine.
    """

    steps: int = Field(3000, ge=1, le=10**8, description="optimizer steps")
    batch_size: int = Field(
        256, ge=1, le=2**20, description="latents a step, over all processes and accumulated parts together"
    )
    grad_accumulation: int = Field(1, ge=1, description="parts a batch is cut into, one after the other: less memory")
    lr: float = Field(1e-3, gt=0, description="learning rate at its highest; falls to 0 along a cosine")
    warmup_steps: int = Field(0, ge=0, description="steps over which the rate first grows to lr")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW; not of biases, norms and other 1-d parameters")
    clip_grad_norm: float | None = Field(1.0, gt=0, description="largest L2 norm of all gradients; null: no clipping")
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of a moving average of the weights, which then is what samples; null: none"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "fp32", description="auto: bf16 where the GPU or CPU computes in it; pays for large networks"
    )
    checkpoint_every: int = Field(1000, ge=0, description="steps between checkpoints; 0: only at the end")

    @property
    def settings(self) -> dict[str, Any]:
        """Options of the recipe's `train`."""
        same = ("steps", "batch_size", "grad_accumulation", "clip_grad_norm", "ema", "precision", "checkpoint_every")
        return {
            **{name: getattr(self, name) for name in same},
            "optimizer": {"name": "adamw", "lr": self.lr, "weight_decay": self.weight_decay},
            "schedule": {"name": "cosine", "warmup_steps": self.warmup_steps},
            "log_every": 100,
            "keep": 1,
        }


class LearnedSampler(nn.Module, ABC):
    """A density on latents, learned by a network from draws z ~ q(z|x) of the training posteriors.

    A subclass gives the network and, on latents standardised to zero mean and unit variance, its loss and its draws.
    Standardised is each number of a flat latent, and each channel of a map.
    """

    needs_fit: ClassVar[bool] = True
    learns: ClassVar[str] = "latents"

    def __init__(self, config: TrainingConfig, latent_shape: Shape):
        super().__init__()
        self.config, self.latent_shape, self.dim = config, latent_shape, prod(latent_shape)
        of_map = len(latent_shape) == 3
        self.register_buffer("location", torch.zeros((*latent_shape[:1], 1, 1) if of_map else latent_shape))
        self.register_buffer("scale", torch.ones_like(self.location))
        self.register_buffer("num_fit", torch.zeros((), dtype=torch.int64))
        with torch.random.fork_rng(devices=[]):  # which the weights that `begin` makes are drawn from
            self.network = self.make_network()

    @abstractmethod
    def make_network(self) -> nn.Module:
        """A new network, its weights drawn from torch's global generator."""

    @abstractmethod
    def loss_of(self, z: Tensor) -> dict[str, Tensor]:
        """What training minimises, as "loss", and what else to log, from standardised latents b *latent_shape."""

    @abstractmethod
    def draw(self, num: int, generator: Generator) -> Tensor:
        """Standardised latents, num *latent_shape."""

    @property
    def settings(self) -> dict[str, Any]:
        return self.config.settings

    @property
    def protocol(self) -> dict:
        """What a score of its samples must state."""
        options = self.config.model_dump(exclude={"name", "checkpoint_every"})
        return {**options, "fitted_on": "draws from the posteriors, anew at every step", "num_fit": int(self.num_fit)}

    def begin(self, mean: Tensor, variance: Tensor) -> None:
        """mean, variance: n *latent_shape. UserError when they are not finite, or no more than what is standardised."""
        place, num = f"samplers/{self.config.name}", self.location.numel()
        if len(mean) <= num:
            raise UserError(
                f"{place}: {len(mean)} posteriors are too few to learn a density in {self.dim} dimensions; "
                "fit on more images, or use samplers/prior"
            )
        total, square = (torch.zeros(self.location.shape, dtype=torch.float64) for _ in range(2))
        for some in _pieces(mean):
            total += _summed(some, self.location.shape)
        self.location.copy_(total / (len(mean) * self.dim / num))
        for some, spread in zip(_pieces(mean), _pieces(variance), strict=True):
            square += _summed((some - self.location).square() + spread, self.location.shape)
        spread = square / (len(mean) * self.dim / num)  # of the aggregate posterior
        if not spread.isfinite().all():
            raise UserError(f"{place}: some posteriors are not finite; has the model's training diverged?")
        self.scale.copy_(spread.sqrt().clamp(min=1e-6))  # a latent that never moves
        self.network = self.make_network()

    def loss(self, rows: Tensor, clock: Tensor) -> dict[str, Tensor]:
        return self.loss_of((rows - self.location) / self.scale)

    @torch.no_grad()
    def sample(self, num: int, generator: Generator) -> Tensor:
        """num *latent_shape, float32 on the CPU. UserError before it was fitted."""
        if not self.num_fit:
            raise UserError(f"samplers/{self.config.name} has not been fitted yet")
        most = max(1, min(4096, MAX_DRAWN // self.dim))
        sizes = [min(most, num - start) for start in range(0, num, most)]
        return torch.cat([(self.location + self.scale * self.draw(size, generator)).cpu() for size in sizes])

    def noise(self, num: int, generator: Generator) -> Tensor:
        """num *latent_shape of N(0, I), the same on every device."""
        return torch.randn(num, *self.latent_shape, generator=generator).to(self.location.device)


def _pieces(rows: Tensor) -> Iterator[Tensor]:
    """Rows that may be memory-mapped, in float64, some at a time."""
    for some in rows.split(max(1, MAX_READ // max(1, rows[0].numel()))):
        yield some.double()


def _summed(rows: Tensor, shape: Shape) -> Tensor:
    """n *latent_shape -> shape, the sum over the rest."""
    return rows.sum(0) if rows.shape[1:] == shape else rows.sum((0, *range(2, rows.ndim))).view(shape)
