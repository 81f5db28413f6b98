"""What samplers that learn the codes of a discrete latent share: the order of the codes, draws, and their vectors."""

from abc import ABC, abstractmethod
from math import prod
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from genzoo.errors import UserError
from genzoo.parts import Shape
from genzoo.samplers.transformer import Transformer, TransformerConfig

MAX_LOGITS = 2**25  # numbers for one step of a draw that are held at once
MAX_CODES = 2**16  # a logit for each of them, at every position


class CodeSampler(nn.Module, ABC):
    """A density on codes, learned by a transformer from those of the training images.

    The grid of an image's codes is read row by row. Where it has three dimensions, the first is the levels of a
    residual quantiser: at each position one after the other, the coarsest first (Lee et al., "Autoregressive Image
    Generation using Residual Quantization", arXiv 2203.01941, whose order this is, here by one transformer).
    """

    needs_fit: ClassVar[bool] = True
    needs = ("codes",)
    learns: ClassVar[str] = "codes"

    def __init__(self, config: TransformerConfig, latent_shape: Shape, num_codes: int, grid: Shape):
        super().__init__()
        if num_codes > MAX_CODES:
            raise ValueError(f"{num_codes:,} codes are too many to give each a probability; {MAX_CODES:,} at most")
        self.config, self.latent_shape, self.num_codes, self.grid = config, latent_shape, num_codes, grid
        self.num_levels, self.length = (grid[0] if len(grid) == 3 else 1), prod(grid)
        self.register_buffer("num_fit", torch.zeros((), dtype=torch.int64))
        self._latent: tuple = ()  # in a tuple it is no submodule
        with torch.random.fork_rng(devices=[]):  # which the weights that `begin` makes are drawn from
            self.network = self.make_network()

    @abstractmethod
    def make_network(self) -> Transformer:
        """A new network, its weights drawn from torch's global generator."""

    @abstractmethod
    def nats_of(self, codes: Tensor) -> dict[str, Tensor]:
        """What training minimises, as "loss", and what else to log, from codes in order, b length."""

    @abstractmethod
    def draw(self, num: int, generator: Generator) -> Tensor:
        """Codes in order, num length."""

    def bind(self, model: nn.Module) -> None:
        self._latent = (model.latent,)

    @property
    def settings(self) -> dict[str, Any]:
        return self.config.settings

    @property
    def protocol(self) -> dict:
        """What a score of its samples must state."""
        return {**self.config.model_dump(exclude={"name", "checkpoint_every"}), "num_fit": int(self.num_fit)}

    def begin(self, codes: Tensor) -> None:
        """codes: n *grid. UserError where they are not codes of this latent."""
        for some in codes.split(2**16):
            if int(some.long().min()) < 0 or int(some.long().max()) >= self.num_codes:
                raise UserError(f"samplers/{self.config.name}: codes must be from 0 to {self.num_codes - 1}")
        self.network = self.make_network()

    def loss(self, rows: Tensor, clock: Tensor) -> dict[str, Tensor]:
        return self.nats_of(self.in_order(rows.long()))

    @torch.no_grad()
    def sample(self, num: int, generator: Generator) -> Tensor:
        """num *latent_shape, float32 on the CPU. UserError before it was fitted, or bound."""
        if not self.num_fit:
            raise UserError(f"samplers/{self.config.name} has not been fitted yet")
        if not self._latent:
            raise UserError(f"samplers/{self.config.name} draws codes, whose vectors are a model's: bind(model) first")
        most = max(1, min(1024, MAX_LOGITS // (self.num_codes * self.at_once)))
        sizes = [min(most, num - start) for start in range(0, num, most)]
        drawn = (self.on_grid(self.draw(size, generator)) for size in sizes)
        return torch.cat([self._latent[0].vectors(codes).float().cpu() for codes in drawn])

    @property
    def at_once(self) -> int:
        """Codes of an image that one step of a draw gives a probability to."""
        return 1

    def in_order(self, codes: Tensor) -> Tensor:
        """b *grid -> b length."""
        return (codes.movedim(1, -1) if self.num_levels > 1 else codes).flatten(1)

    def on_grid(self, codes: Tensor) -> Tensor:
        """b length -> b *grid."""
        if self.num_levels == 1:
            return codes.view(-1, *self.grid)
        return codes.view(-1, *self.grid[1:], self.num_levels).movedim(-1, 1)


def pick(logits: Tensor, generator: Generator) -> Tensor:
    """... k -> ...: an index drawn by each distribution; chance is the CPU's generator's."""
    u = torch.rand(logits.shape[:-1], generator=generator, dtype=torch.float64).to(logits.device)
    total = logits.double().softmax(-1).cumsum(-1)
    drawn = torch.searchsorted(total, (u * total[..., -1]).unsqueeze(-1), right=True).squeeze(-1)
    return drawn.clamp(max=logits.shape[-1] - 1)  # where a product was rounded up
