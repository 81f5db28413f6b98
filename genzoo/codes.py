"""What discrete latents share: posterior, prior, and a codebook that learns by running averages."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genzoo.config import Config
from genzoo.layers import in_float32, mean_of_processes
from genzoo.parts import Shape

BATCH = 1024  # latents that are looked up at once
MAX_SCORES = 2**24  # distances from vectors to codes that are held at once


def straight_through(value: Tensor, through: Tensor) -> Tensor:
    """`value`, whose gradient goes to `through` as if it were that (Bengio et al., arXiv 1308.3432)."""
    return value.detach() + (through - through.detach())


def code_map(in_shape: Shape, dim: int, num_positions: int) -> Shape:
    """The shape of one latent: a vector of `dim` for each pixel of a map, or `num_positions` of them for a vector."""
    return (dim, *in_shape[1:]) if len(in_shape) == 3 else (dim, 1, num_positions)


@dataclass
class Quantised:
    """q(z|x), which is certain of one code at each position."""

    mean: Tensor  # b *latent: the codes' vectors
    through: Tensor  # b *latent: the encoder's, which take the gradient
    num_codes: int
    grid: Shape
    charged: dict[str, Tensor] = field(default_factory=dict)

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.mean)

    def sample(self, generator: Generator | None = None) -> Tensor:
        return straight_through(self.mean, self.through)

    def kl(self, z: Tensor) -> Tensor:
        """log K nats at each position, b *grid: the code is certain, and the prior uniform."""
        return self.mean.new_full((len(self.mean), *self.grid), math.log(self.num_codes))

    def penalties(self) -> dict[str, Tensor]:
        return self.charged


@dataclass(frozen=True)
class UniformCodes:
    """p(z) of independent uniform codes; log_prob is the log mass of any of them."""

    num_codes: int
    grid: Shape
    vectors: Callable[[Tensor], Tensor]

    def sample(self, num: int, generator: Generator) -> Tensor:
        """num *latent; generator: on the CPU."""
        return self.vectors(torch.randint(self.num_codes, (num, *self.grid), generator=generator))

    def log_prob(self, z: Tensor) -> Tensor:
        """b *latent -> b, nats."""
        return z.new_full((len(z),), -prod(self.grid) * math.log(self.num_codes))


class CodebookConfig(Config):
    """Options of latents with a codebook."""

    num_codes: int = Field(512, ge=2, le=2**20, description="vectors in a codebook")
    dim: int = Field(16, ge=1, le=4096, description="length of a code's vector")
    num_positions: int = Field(
        16,
        ge=1,
        le=4096,
        description="codes of an image where the encoder gives a vector; of a map, each pixel has one",
    )
    commitment: float = Field(
        0.25, ge=0, description="weight of the squared distance from the encoder's vectors to their codes, per image"
    )
    decay: float = Field(0.99, ge=0, lt=1, description="of the running averages that the codes are")
    revive_below: float = Field(
        0.1, ge=0, lt=1, description="a code used less than this share of an even use starts anew; 0: never"
    )


class Codebook(nn.Module):
    """K vectors, each the running average of the vectors it is nearest to; n d -> codes n, their vectors n d.

    van den Oord et al. (arXiv 1711.00937, appendix A.1), with three additions. The averages begin short, so that the
    first steps are those of k-means on mini-batches (Sculley 2010) from a start on vectors of the first batch. A code
    that is hardly used starts anew on a vector of the batch (Dhariwal et al., arXiv 2005.00341). Processes that train
    together share all of it.

    The vectors move at the beginning of a training pass, by what the passes before it showed: within a step they stay.
    """

    def __init__(self, config: CodebookConfig):
        super().__init__()
        self.decay, self.revive_below = config.decay, config.revive_below
        self.register_buffer("vectors", torch.randn(config.num_codes, config.dim))
        self.register_buffer("use", torch.zeros(config.num_codes))  # share of the vectors that a code is nearest to
        self.register_buffer("total", torch.zeros(config.num_codes, config.dim))  # use * their mean
        self.register_buffer("num_passes", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            mean = self.total / self.use.clamp(min=1e-12)[:, None]
            self.vectors.copy_(torch.where(self.use[:, None] > 0, mean, self.vectors))
        codes = self.nearest(x)
        if self.training:
            self._learn(x, codes)
        return codes, self.vectors[codes]

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """... d -> ..., int64: the code with the smallest Euclidean distance."""
        with in_float32(x):
            flat, less = x.float().reshape(-1, x.shape[-1]), -0.5 * self.vectors.square().sum(1)
            parts = flat.split(self._rows)  # |x - v|^2 is |x|^2 - 2 (x v - |v|^2 / 2)
            return torch.cat([torch.addmm(less, part, self.vectors.T).argmax(1) for part in parts]).view(x.shape[:-1])

    def _learn(self, x: Tensor, codes: Tensor) -> None:
        """Take a batch into the running averages."""
        num_codes, dim = self.vectors.shape
        with in_float32(x):
            seen = x.new_zeros(num_codes, dim + 1)
            for part, code in zip(F.pad(x, (0, 1), value=1.0).split(self._rows), codes.split(self._rows), strict=True):
                one_hot = x.new_zeros(num_codes, len(part)).scatter_(0, code[None], 1)
                seen += one_hot @ part  # unlike scatter_add, the same each time
        rank, num_processes = _processes()
        fresh = x[torch.randint(len(x), (num_codes,), device=x.device)]
        numbers = torch.arange(num_codes, device=x.device)
        fresh = fresh * (numbers % num_processes == rank)[:, None] * num_processes  # each from one process
        seen, fresh = mean_of_processes(torch.cat([seen / len(x), fresh], 1)).split([dim + 1, dim], 1)
        passes = self.num_passes.to(x.dtype)
        decay = (passes / (passes + 10)).clamp(max=self.decay)
        use, total = self.use.lerp(seen[:, -1], 1 - decay), self.total.lerp(seen[:, :-1], 1 - decay)
        dead = use < self.revive_below / num_codes
        self.use.copy_(torch.where(dead, 1 / num_codes, use))
        self.total.copy_(torch.where(dead[:, None], fresh / num_codes, total))
        self.num_passes += 1

    @property
    def _rows(self) -> int:
        return max(1, MAX_SCORES // len(self.vectors))


def _processes() -> tuple[int, int]:
    """(this process's rank, number of those that train together)."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def code_batches(latent: nn.Module, mean: Tensor) -> Iterator[Tensor]:
    """The codes of latents n *latent, in batches b level position, on the CPU; one level but where it has several."""
    device = next((value.device for value in latent.state_dict().values()), mean.device)
    for some in mean.split(BATCH):
        codes = latent.codes(some.to(device)).cpu()  # b h w, or b level h w
        yield (codes if codes.ndim == 4 else codes.unsqueeze(1)).flatten(2)
