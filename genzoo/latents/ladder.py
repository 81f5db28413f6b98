"""Hierarchical latent: groups of variables from one pixel up to the encoder's map."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genzoo.config import Config
from genzoo.densities import DiagonalGaussian, StandardNormal
from genzoo.layers import FromFeatures
from genzoo.parts import Shape

Choose = Callable[[int, DiagonalGaussian | None], Tensor]


class LadderLatent(nn.Module):
    """A ladder VAE within the latent (Sonderby et al., arXiv 1602.02282), residual as NVAE (arXiv 2007.03898, eq. 2).

    Top-down, group l has the prior N(mu_p, sigma_p^2), given the groups before it, and the posterior
    N(mu_p + sigma_p * dmu, (sigma_p * dsigma)^2), given the image's features too. z holds every group's noise in
    standard coordinates, u_l = (z_l - mu_p) / sigma_p, side by side, (n,): the prior of it is N(0, I), the posterior
    N(dmu, dsigma^2) given the groups before. Features of a vector make one group, the gaussian latent.
    """

    class Config(Config):
        dim: int = Field(8, ge=1, le=4096, description="latent variables at each pixel of a group")
        width: int | None = Field(None, ge=1, le=8192, description="channels inside; null: as the encoder's features")
        groups_per_scale: int = Field(1, ge=1, le=64, description="groups at each resolution")

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        width = config.width or in_shape[0]
        sizes = [tuple(in_shape[1:] or (1, 1))]
        while max(sizes[0]) > 1:
            sizes.insert(0, tuple(-(-side // 2) for side in sizes[0]))
        self.groups: list[tuple[int, Shape]] = []  # (scale, shape), top-down
        for scale, size in enumerate(sizes):
            self.groups += [(scale, (config.dim, *size))] * config.groups_per_scale
        self.sizes = sizes
        self.num_variables = [config.dim * height * width for _, (_, height, width) in self.groups]
        self.shape, self.out_shape = (sum(self.num_variables),), in_shape
        self.prior = StandardNormal(self.shape)

        self.enter = FromFeatures(in_shape, (width, *sizes[-1]))
        self.up = nn.ModuleList(Block(width) for _ in sizes)
        self.start = nn.Parameter(torch.zeros(width, 1, 1))
        self.posteriors = nn.ModuleList(nn.Conv2d(2 * width, 2 * config.dim, 1) for _ in self.groups)
        self.priors = nn.ModuleList(nn.Conv2d(width, 2 * config.dim, 1) for _ in self.groups[1:])
        self.merges = nn.ModuleList(nn.Conv2d(config.dim, width, 1) for _ in self.groups)
        self.down = nn.ModuleList(Block(width) for _ in self.groups)
        self.leave = FromFeatures((width, *sizes[-1]), in_shape)

    def forward(self, features: Tensor) -> "Ladder":
        x, seen = self.enter(features), []
        for block, size in zip(self.up, reversed(self.sizes), strict=True):
            x = block(F.adaptive_avg_pool2d(x, size))
            seen.insert(0, x)
        return Ladder(self, seen)

    def expand(self, z: Tensor) -> Tensor:
        given = self.split(z)
        *_, (_, _, x) = self.descend(len(z), lambda group, _: given[group])
        return self.leave(x)

    def split(self, z: Tensor) -> list[Tensor]:
        """b n -> b dim h w of each group."""
        parts = z.split(self.num_variables, 1)
        return [part.view(-1, *shape) for part, (_, shape) in zip(parts, self.groups, strict=True)]

    def descend(
        self, num: int, choose: Choose, seen: list[Tensor] | None = None
    ) -> Iterator[tuple[Tensor, DiagonalGaussian | None, Tensor]]:
        """Go through the groups, top-down: (u, its posterior where features are seen, the state after it).

        choose(group, posterior): u of the group, b dim h w.
        """
        x, posterior = self.start.expand(num, *self.start.shape), None
        for group, (scale, shape) in enumerate(self.groups):
            if x.shape[2:] != shape[1:]:
                x = F.interpolate(x, shape[1:])
            if seen is not None:
                mean, logvar = self.posteriors[group](torch.cat([x, seen[scale]], 1)).float().chunk(2, 1)
                posterior = DiagonalGaussian(mean, bounded(logvar))
            u = z = choose(group, posterior)
            if group:
                mean, logvar = self.priors[group - 1](x).float().chunk(2, 1)
                z = mean + (0.5 * bounded(logvar)).exp() * u
            x = self.down[group](x + self.merges[group](z))
            yield u, posterior, x


@dataclass
class Ladder:
    """q(u|x), group by group; the KL is closed form given the groups before, so that it depends on the draw."""

    latent: LadderLatent
    seen: list[Tensor]  # b width h w of each scale, top-down
    kl_is_estimate = True
    _last: tuple = field(default=(None, None), repr=False)  # a draw and its posterior

    @property
    def mean(self) -> Tensor:
        """Each group's mean, given the means before it."""
        return self._pass(lambda group, posterior: posterior.mean)[0]

    @property
    def variance(self) -> Tensor:
        return self._pass(lambda group, posterior: posterior.mean)[1].variance

    def sample(self, generator: Generator | None = None) -> Tensor:
        self._last = self._pass(lambda group, posterior: posterior.sample(generator))
        return self._last[0]

    def kl(self, z: Tensor) -> Tensor:
        """KL of every element in nats, b n, given those of z in the groups before it."""
        return self._at(z).kl(z)

    def log_prob(self, z: Tensor) -> Tensor:
        """... b n -> ... b, nats."""
        lead = torch.broadcast_shapes(z.shape[:-1], self.seen[0].shape[:1])
        rows = z.expand(*lead, *z.shape[-1:]).reshape(-1, z.shape[-1])
        seen = [x.expand(*lead, *x.shape[1:]).reshape(-1, *x.shape[1:]) for x in self.seen]
        return Ladder(self.latent, seen)._at(rows).log_prob(rows).view(lead)

    def _at(self, z: Tensor) -> DiagonalGaussian:
        if z is not self._last[0]:  # a pass over the last draw is not made again
            given = self.latent.split(z)
            self._last = z, self._pass(lambda group, _: given[group])[1]
        return self._last[1]

    def _pass(self, choose: Choose) -> tuple[Tensor, DiagonalGaussian]:
        """(u, its posterior), the groups side by side, b n."""
        made = [(u, q.mean, q.logvar) for u, q, _ in self.latent.descend(len(self.seen[0]), choose, self.seen)]
        u, mean, logvar = (torch.cat([part.flatten(1) for part in parts], 1) for parts in zip(*made, strict=True))
        return u, DiagonalGaussian(mean, logvar)


def bounded(logvar: Tensor) -> Tensor:
    """Near the identity about 0, within +-10: a factor of e^5 for a sigma."""
    return 10 * torch.tanh(logvar / 10)


class Block(nn.Module):
    """x + [SiLU, Conv3x3, SiLU, Conv3x3]: without BatchNorm, since a pass may be made more than once a step."""

    def __init__(self, dim: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.SiLU(), nn.Conv2d(dim, dim, 3, padding=1), nn.SiLU(), nn.Conv2d(dim, dim, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)
