"""Latent on a sphere, with a von Mises-Fisher posterior."""

import math
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genzoo.config import Config
from genzoo.parts import Shape

NUM_PROPOSALS = 32  # at a rate of at least 0.66 (Wood 1994), all are refused once in 10^15 draws
NUM_NODES = 100  # of the integral in the gradient of a draw


class VMFLatent(nn.Module):
    """A direction: the hyperspherical VAE, Davidson et al. (arXiv 1804.00891). Against the uniform prior on the sphere.

    z is a unit vector of `dim` numbers; `expand` takes any z to the sphere first. Posterior: `VonMisesFisher`.
    """

    class Config(Config):
        dim: int = Field(
            16, ge=2, le=4096, description="numbers of a latent, a unit vector: one more than the sphere's"
        )
        embed_dim: int | None = Field(
            None,
            ge=1,
            le=65536,
            description="features handed to the head; null: as many as the encoder has (channels of a map)",
        )

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        self.shape, self.out_shape = (config.dim,), (config.embed_dim or in_shape[0],)
        self.prior = UniformSphere(config.dim)
        self.direction = nn.Linear(math.prod(in_shape), config.dim)
        self.concentration = nn.Linear(math.prod(in_shape), 1)
        self.embed = nn.Linear(config.dim, *self.out_shape)

    def forward(self, features: Tensor) -> "VonMisesFisher":
        features = features.flatten(1)
        direction = F.normalize(self.direction(features).float(), dim=1)
        return VonMisesFisher(direction, 1 + F.softplus(self.concentration(features).float()))

    def expand(self, z: Tensor) -> Tensor:
        return self.embed(F.normalize(z, dim=1))


@dataclass
class VonMisesFisher:
    """q(z|x), proportional to exp(kappa mu . z) on the unit sphere; densities with respect to its surface.

    mean and variance are those of z, in all directions of space: the mean lies within the sphere, along mu.
    """

    direction: Tensor  # b d: mu
    concentration: Tensor  # b 1: kappa
    on_sphere = True

    def __post_init__(self):
        dim, kappa = self.direction.shape[1], self.concentration.double()
        log_bessel, self._length = bessel(dim / 2 - 1, kappa)  # the mean's length is I_{d/2} / I_{d/2-1}
        self._log_scale = (dim / 2 - 1) * kappa.log() - (dim / 2) * math.log(2 * math.pi) - log_bessel

    @property
    def mean(self) -> Tensor:
        return (self._length * self.direction).float()

    @property
    def variance(self) -> Tensor:
        across = self._length / self.concentration  # of each number at right angles to mu
        along = 1 - (self.direction.shape[1] - 1) * across - self._length.square()
        return (across + (along - across) * self.direction.square()).float().clamp(min=0)

    def kl(self, z: Tensor) -> Tensor:
        """KL to the uniform density in nats, b, whatever z (appendix B)."""
        log_density = self.concentration * self._length + self._log_scale
        return (log_density - log_uniform(self.direction.shape[1])).squeeze(1).float()

    def log_prob(self, z: Tensor) -> Tensor:
        """... b d, unit vectors -> ... b, nats."""
        cosine = (z * self.direction).sum(-1)
        return (self.concentration.squeeze(1) * cosine + self._log_scale.squeeze(1)).float()

    def sample(self, generator: Generator | None = None) -> Tensor:
        """A draw about the first axis (Ulrich 1984; Wood 1994), which a Householder reflection takes to mu.

        The gradient to kappa is that of the inverse of the distribution function (Figurnov et al., arXiv 1805.08498).
        """
        b, dim = self.direction.shape
        kappa, of = self.concentration.double(), {"device": self.direction.device, "dtype": torch.float64}
        with torch.no_grad():
            normal = torch.randn(NUM_PROPOSALS + 1, b, dim, generator=generator, **of)
            accept = torch.rand(NUM_PROPOSALS, b, generator=generator, **of)
            cosine = self._cosine(kappa.squeeze(1), F.normalize(normal[1:], dim=-1)[..., 0], accept)
            slope = self._slope(kappa, cosine[:, None])
        cosine = cosine[:, None] + slope * (kappa - kappa.detach())
        tangent = F.normalize(normal[0, :, 1:], dim=1)
        drawn = torch.cat([cosine, (1 - cosine.square()).clamp(min=1e-24).sqrt() * tangent], 1)
        first = torch.zeros_like(drawn)
        first[:, 0] = 1
        axis = F.normalize(first - self.direction, dim=1)
        return (drawn - 2 * axis * (axis * drawn).sum(1, keepdim=True)).float()

    def _cosine(self, kappa: Tensor, uniform: Tensor, accept: Tensor) -> Tensor:
        """b: mu . z; uniform: proposals b, the first number of a point that is uniform on the sphere."""
        last = self.direction.shape[1] - 1
        shrink = last / (2 * kappa + (4 * kappa.square() + last**2).sqrt())
        mode, beta = (1 - shrink) / (1 + shrink), (1 + uniform) / 2
        proposed = (1 - (1 + shrink) * beta) / (1 - (1 - shrink) * beta)
        ratio = kappa * (proposed - mode) + last * (torch.log1p(-mode * proposed) - torch.log1p(-mode.square()))
        first = (ratio >= accept.log()).int().argmax(0, keepdim=True)
        return proposed.gather(0, first).squeeze(0).clamp(-1 + 1e-12, 1 - 1e-12)

    def _slope(self, kappa: Tensor, cosine: Tensor) -> Tensor:
        """b 1: d cosine / d kappa at one quantile, which is the integral of (t - E t) p(t) from it to 1, over p there.

        Also minus that from -1 to it: the side away from the mean is taken, over the angle, where p has no poles.
        """
        power, mean = self.direction.shape[1] - 2, self._length
        angle, inward = cosine.acos(), cosine < mean
        width = (kappa * mean + power / (1 - mean.square()).clamp(min=1e-12)).rsqrt()
        end = torch.where(inward, (angle + 12 * width).clamp(max=math.pi), (angle - 12 * width).clamp(min=0))
        nodes = (torch.arange(NUM_NODES, device=kappa.device, dtype=kappa.dtype) + 0.5) / NUM_NODES
        at = angle + (end - angle) * nodes  # b nodes
        density = (kappa * (at.cos() - cosine) + power * (at.sin() / angle.sin()).log()).exp()
        return angle.sin() * ((at.cos() - mean).abs() * density).mean(1, keepdim=True) * (end - angle).abs()


@dataclass(frozen=True)
class UniformSphere:
    """p(z), uniform on the unit vectors of `dim` numbers."""

    dim: int

    def sample(self, num: int, generator: Generator) -> Tensor:
        """num dim, on the CPU."""
        return F.normalize(torch.randn(num, self.dim, generator=generator), dim=1)

    def log_prob(self, z: Tensor) -> Tensor:
        """b dim, unit vectors -> b, nats."""
        return z.new_full((len(z),), log_uniform(self.dim))


def log_uniform(dim: int) -> float:
    """Minus the log of the surface of the unit sphere in `dim` dimensions."""
    return math.lgamma(dim / 2) - math.log(2) - dim / 2 * math.log(math.pi)


def bessel(order: float, x: Tensor) -> tuple[Tensor, Tensor]:
    """log I_order(x) and I_{order+1}(x) / I_order(x) for float64 x > 0, with their gradients.

    By the uniform expansion in large orders (NIST DLMF 10.41.3), and from an order of 12 or more downwards by the
    recurrence (10.29.1), which is stable in that direction.
    """
    steps = max(0, math.ceil(12 - order))
    top = order + steps
    log_value = _log_bessel_of_large_order(top, x)
    ratio = (_log_bessel_of_large_order(top + 1, x) - log_value).exp()
    for step in range(steps):
        ratio = 1 / (2 * (top - step) / x + ratio)
        log_value = log_value - ratio.log()
    return log_value, ratio


def _log_bessel_of_large_order(order: float, x: Tensor) -> Tensor:
    z = x / order
    root = (1 + z.square()).sqrt()
    t = 1 / root
    s = t.square()
    terms = (  # DLMF 10.41.10
        t * (3 - 5 * s) / 24,
        s * (81 - 462 * s + 385 * s**2) / 1152,
        t * s * (30375 - 369603 * s + 765765 * s**2 - 425425 * s**3) / 414720,
        s**2 * (4465125 - 94121676 * s + 349922430 * s**2 - 446185740 * s**3 + 185910725 * s**4) / 39813120,
    )
    series = sum(term / order ** (k + 1) for k, term in enumerate(terms))
    exponent = order * (root + (z / (1 + root)).log())
    return exponent - 0.5 * math.log(2 * math.pi * order) + 0.5 * t.log() + torch.log1p(series)
