"""The von Mises-Fisher posterior against scipy: Bessel functions, density, KL, draws and the gradient of a draw."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch.nn import functional as F

from genzoo.latents.vmf import UniformSphere, VonMisesFisher, bessel, log_uniform

DIMS, KAPPAS = (2, 3, 5, 16, 128), (1.0, 3.0, 40.0, 600.0)


def posterior(dim: int, kappa: float, num: int = 1, grad: bool = False) -> VonMisesFisher:
    direction = F.normalize(torch.randn(1, dim, generator=torch.Generator().manual_seed(dim)), dim=1)
    return VonMisesFisher(direction.expand(num, dim), torch.full((num, 1), kappa, requires_grad=grad))


@pytest.mark.parametrize("order", [0.0, 0.5, 1.0, 7.0, 63.0, 511.0])
def test_bessel_functions(order):
    x = torch.tensor([0.1, 1.0, 2.5, 30.0, 700.0, 1e4], dtype=torch.float64, requires_grad=True)
    log_value, ratio = bessel(order, x)
    at = x.detach().numpy()
    scaled = scipy.special.ive(order, at)  # 0 where it is too small for a float
    known = scaled > 1e-280
    np.testing.assert_allclose(
        log_value.detach().numpy()[known], np.log(scaled[known]) + at[known], rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(
        ratio.detach().numpy()[known], scipy.special.ive(order + 1, at[known]) / scaled[known], rtol=1e-6
    )
    (slope,) = torch.autograd.grad(log_value.sum(), x)  # DLMF 10.29.2
    torch.testing.assert_close(slope, ratio.detach() + order / x.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kappa", KAPPAS)
def test_entropy_kl_and_density(dim, kappa):
    q = posterior(dim, kappa)
    mu = q.direction[0].double().numpy()
    known = scipy.stats.vonmises_fisher(mu / np.linalg.norm(mu), kappa)
    kl = -known.entropy() - log_uniform(dim)  # E log q - E log p
    np.testing.assert_allclose(q.kl(q.mean).item(), kl, rtol=1e-5, atol=1e-5)
    points = UniformSphere(dim).sample(4, torch.Generator().manual_seed(0))
    unit = points.double().numpy()
    expected = known.logpdf(unit / np.linalg.norm(unit, axis=1, keepdims=True))
    np.testing.assert_allclose(q.log_prob(points.unsqueeze(1))[:, 0].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_uniform_density_is_one_over_the_surface():
    assert log_uniform(2) == pytest.approx(-math.log(2 * math.pi))
    assert log_uniform(3) == pytest.approx(-math.log(4 * math.pi))
    drawn = UniformSphere(3).sample(4000, torch.Generator().manual_seed(0))
    assert scipy.stats.kstest(drawn[:, 0].numpy(), scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-4  # Archimedes
    assert UniformSphere(3).log_prob(drawn)[7] == pytest.approx(-math.log(4 * math.pi))


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kappa", KAPPAS)
def test_draws_are_distributed_as_scipys(dim, kappa):
    q = posterior(dim, kappa, num=4000)
    drawn = q.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(4000), rtol=0, atol=1e-5)
    mu = q.direction[0].double().numpy()
    theirs = scipy.stats.vonmises_fisher(mu / np.linalg.norm(mu), kappa).rvs(4000, random_state=0)
    along = [z @ mu for z in (drawn.double().numpy(), theirs)]
    assert scipy.stats.ks_2samp(*along).pvalue > 1e-4
    other = np.roll(mu, 1)  # and in a direction that mu has no say in
    across = [z @ other for z in (drawn.double().numpy(), theirs)]
    assert scipy.stats.ks_2samp(*across).pvalue > 1e-4
    torch.testing.assert_close(drawn.var(0), q.variance[0], rtol=0.35, atol=1e-4)
    torch.testing.assert_close(drawn.mean(0), q.mean[0], rtol=0, atol=6 * q.variance.max().item() ** 0.5 / 4000**0.5)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kappa", KAPPAS)
def test_the_gradient_of_a_draw_is_that_of_its_quantile(dim, kappa):
    """d cosine / d kappa at a fixed quantile, of the distribution function by a fine sum over the angle."""
    cosine = posterior(dim, kappa, 50)._cosine(
        torch.full((50,), kappa, dtype=torch.float64),
        F.normalize(torch.randn(32, 50, dim, generator=torch.Generator().manual_seed(1)).double(), dim=-1)[..., 0],
        torch.rand(32, 50, generator=torch.Generator().manual_seed(2)).double(),
    )
    q = posterior(dim, kappa, 50)
    slope = q._slope(q.concentration.double(), cosine[:, None])[:, 0].numpy()

    angle = np.linspace(1e-9, np.pi - 1e-9, 400_001)

    def distribution(k: float) -> np.ndarray:  # P(angle <= a)
        log_density = k * np.cos(angle) + (dim - 2) * np.log(np.sin(angle))
        density = np.exp(log_density - log_density.max())
        summed = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
        return summed / summed[-1]

    step = 1e-3 * kappa
    here = np.interp(np.arccos(cosine.numpy()), angle, distribution(kappa))
    use = (here > 0.01) & (here < 0.99)
    ends = [np.cos(np.interp(here[use], distribution(k), angle)) for k in (kappa - step, kappa + step)]
    np.testing.assert_allclose(slope[use], (ends[1] - ends[0]) / (2 * step), rtol=2e-2, atol=1e-4 / kappa)


def test_gradients_of_an_expectation():
    """E[a . z] = A(kappa) a . mu: its gradients, by draws and in closed form."""
    q = posterior(5, 4.0, 20000, grad=True)
    a = torch.linspace(-1, 1, 5)
    (drawn,) = torch.autograd.grad((q.sample(torch.Generator().manual_seed(0)) @ a).mean(), q.concentration)
    (exact,) = torch.autograd.grad((q.mean @ a).mean(), q.concentration)
    assert drawn.sum().item() == pytest.approx(exact.sum().item(), rel=0.05)


def test_large_and_small_concentrations_are_finite():
    for dim in (2, 16, 1024):
        for kappa in (1.0, 1e5):
            q = posterior(dim, kappa, 8, grad=True)
            z = q.sample(torch.Generator().manual_seed(0))
            (z.sum() + q.kl(z).sum()).backward()
            assert torch.isfinite(z).all() and torch.isfinite(q.concentration.grad).all()
            assert (q.kl(z) > -1e-4).all() and (q.variance >= 0).all()
