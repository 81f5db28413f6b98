"""Latents with Gaussian posteriors, and those without spread, against torch.distributions."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from genzoo.config import build, config_of
from genzoo.densities import DiagonalGaussian
from genzoo.registry import LATENTS


def latent(name: str, in_shape, **options):
    torch.manual_seed(0)
    made = build(LATENTS, config_of(LATENTS, name)(name=name, **options), in_shape=in_shape)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    return made


@pytest.mark.parametrize(("name", "options", "shape"), [
    ("gaussian", {"dim": 5}, (5,)),
    ("spatial_gaussian", {"channels": 3}, (3, 4, 2)),
])  # fmt: skip
def test_kl_and_density_are_those_of_torch_distributions(name, options, shape):
    made = latent(name, (6, 4, 2), **options)
    assert made.shape == shape
    posterior = made(torch.randn(4, 6, 4, 2))
    q = Normal(posterior.mean, posterior.variance.sqrt())
    z = posterior.sample()
    torch.testing.assert_close(posterior.kl(z), kl_divergence(q, Normal(0.0, 1.0)), rtol=1e-4, atol=1e-5)
    joint = Independent(q, len(shape))
    torch.testing.assert_close(posterior.log_prob(z), joint.log_prob(z), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(posterior.log_prob(z.unsqueeze(1)), joint.log_prob(z.unsqueeze(1)), rtol=1e-4, atol=1e-4)
    standard = Independent(Normal(torch.zeros(shape), 1.0), len(shape))
    torch.testing.assert_close(made.prior.log_prob(z), standard.log_prob(z), rtol=1e-4, atol=1e-4)


def test_each_pixel_of_a_map_is_encoded_and_expanded_by_itself():
    made = latent("spatial_gaussian", (6, 4, 2), channels=3)
    x = torch.randn(1, 6, 4, 2)
    other = x.clone()
    other[:, :, 1, 1] += 1
    a, b = made(x), made(other)
    moved = (a.mean != b.mean).any(1)[0]
    assert moved.nonzero().tolist() == [[1, 1]]
    assert (made.expand(a.mean) != made.expand(b.mean)).any(1)[0].nonzero().tolist() == [[1, 1]]


def test_a_vector_is_a_map_of_one_pixel():
    assert latent("spatial_gaussian", (6,), channels=3).shape == (3, 1, 1)


@pytest.mark.parametrize(("out", "shape"), [("vector", (4,)), ("map", (4, 4, 2))])
def test_a_deterministic_latent_is_charged_half_its_squared_norm(out, shape):
    made = latent("deterministic", (6, 4, 2), dim=4, out=out, norm=0.3)
    posterior = made(torch.randn(3, 6, 4, 2))
    assert made.shape == shape and made.prior is None
    assert not hasattr(posterior, "kl") and not hasattr(posterior, "log_prob") and not posterior.variance.any()
    assert posterior.sample() is posterior.mean
    expected = [0.15 * sum(v * v for v in z.flatten().tolist()) for z in posterior.mean]
    torch.testing.assert_close(posterior.penalties()["norm"], torch.tensor(expected))
    assert latent("deterministic", (6,), norm=0.0)(torch.randn(2, 6)).penalties() == {}


def test_a_ladder_of_one_group_is_the_gaussian():
    made = latent("ladder", (6,), dim=3)
    posterior = made(torch.randn(4, 6))
    assert made.shape == (3,)
    (_, q, _), *rest = made.descend(4, lambda group, q: q.mean, posterior.seen)
    assert not rest
    gaussian = DiagonalGaussian(q.mean.flatten(1), q.logvar.flatten(1))
    z = posterior.sample(torch.Generator().manual_seed(1))
    assert torch.equal(z, gaussian.sample(torch.Generator().manual_seed(1)).view_as(z)) or torch.allclose(
        z, gaussian.sample(torch.Generator().manual_seed(1)), atol=1e-6
    )
    for name in ("mean", "variance"):
        assert torch.equal(getattr(posterior, name), getattr(gaussian, name))
    assert torch.equal(posterior.kl(z), gaussian.kl(z))
    assert torch.equal(posterior.log_prob(z), gaussian.log_prob(z))
