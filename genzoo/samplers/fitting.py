"""What samplers that train a network share: standardised latents and one small training loop."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.parts import Shape

log = logging.getLogger(__name__)

CHUNK = 4096  # samples drawn at once, which bounds the memory
CHECK_EVERY = 100  # steps between looks at the loss, each of which makes a GPU wait


class FitConfig(Config):
    """How the network is trained.

    The defaults take about a minute of one CPU core in 32 dimensions, however many posteriors there are.
    """

    steps: int = Field(3000, ge=1, description="optimizer steps")
    batch_size: int = Field(256, ge=1, description="posteriors a step, chosen at random with replacement")
    lr: float = Field(1e-3, gt=0, description="learning rate of AdamW at the first step; falls to 0 along a cosine")


class LearnedSampler(nn.Module, ABC):
    """A density on flat latents, learned by a network from draws z ~ q(z|x) of the training posteriors.

    A subclass gives the network and, on latents standardised to zero mean and unit variance, its loss and its draws.
    """

    needs_fit: ClassVar[bool] = True

    def __init__(self, config: FitConfig, latent_shape: Shape):
        super().__init__()
        if len(latent_shape) != 1:
            raise ValueError(f"it learns a density on flat latents of shape (n,), not on {latent_shape}")
        self.config = config
        self.dim = latent_shape[0]
        self.register_buffer("location", torch.zeros(self.dim))
        self.register_buffer("scale", torch.ones(self.dim))
        self.register_buffer("num_fit", torch.zeros((), dtype=torch.int64))
        with _seeded(0):
            self.network = self.make_network()

    @abstractmethod
    def make_network(self) -> nn.Module:
        """A new network, its weights drawn from torch's global generator (which is seeded around the call)."""

    @abstractmethod
    def loss(self, z: Tensor, generator: Generator) -> Tensor:
        """What training minimises: a 0-d tensor, from standardised latents b d. generator: on the CPU."""

    @abstractmethod
    def draw(self, num: int, generator: Generator) -> Tensor:
        """Standardised latents, num d."""

    @property
    def protocol(self) -> dict:
        """What a score of its samples must state."""
        return {
            **self.config.model_dump(exclude={"name"}),
            "fitted_on": "draws from the posteriors, anew at every step",
            "num_fit": int(self.num_fit),
        }

    def fit(self, mean: Tensor, variance: Tensor, seed: int) -> None:
        """mean, variance: n d. Trains on the GPU where there is one; chance comes from the CPU either way.

        UserError when n <= d, when a posterior is not finite, or when the training diverges.
        """
        place = f"samplers/{self.config.name}"
        if len(mean) <= self.dim:
            raise UserError(
                f"{place}: {len(mean)} posteriors are too few to learn a density in {self.dim} dimensions; "
                "fit on more images, or use samplers/prior"
            )
        if not (mean.isfinite().all() and variance.isfinite().all()):
            raise UserError(f"{place}: some posteriors are not finite; has the model's training diverged?")
        spread = mean.double().var(0) + variance.double().mean(0)  # of the aggregate posterior
        self.location.copy_(mean.double().mean(0))
        self.scale.copy_(spread.sqrt().clamp(min=1e-6))  # a latent that never moves
        self.num_fit.zero_()  # until the training ends well
        with _seeded(seed):
            self.network = self.make_network()
        self.to("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._train(mean, variance.sqrt(), torch.Generator().manual_seed(seed), place)
        finally:
            self.cpu()
        self.num_fit.fill_(len(mean))

    def _train(self, mean: Tensor, std: Tensor, generator: Generator, place: str) -> None:
        config = self.config
        mean, std = mean.to(self.location.device), std.to(self.location.device)
        parameters = list(self.network.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=config.lr, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
        for step in range(1, config.steps + 1):
            rows = torch.randint(len(mean), (config.batch_size,), generator=generator).to(mean.device)
            z = mean[rows] + std[rows] * noise(config.batch_size, self.dim, generator, mean.device)
            loss = self.loss((z - self.location) / self.scale, generator)
            if (step % CHECK_EVERY == 0 or step == config.steps) and not loss.isfinite():
                raise UserError(f"{place} diverged by step {step}; lower its lr ({config.lr:g})")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
        log.info("%s: loss %.4f after %d steps", place, loss.item(), config.steps)

    @torch.no_grad()
    def sample(self, num: int, generator: Generator) -> Tensor:
        """num d, float32 on the CPU. UserError before `fit`."""
        if not self.num_fit:
            raise UserError(f"samplers/{self.config.name} has not been fitted yet")
        sizes = [min(CHUNK, num - start) for start in range(0, num, CHUNK)]
        z = torch.cat([self.draw(size, generator) for size in sizes])
        return self.location + self.scale * z


def noise(num: int, dim: int, generator: Generator, device: torch.device) -> Tensor:
    """num dim of N(0, I), the same on every device."""
    return torch.randn(num, dim, generator=generator).to(device)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The CPU's global generator, which layers draw their first weights from, seeded and afterwards as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
