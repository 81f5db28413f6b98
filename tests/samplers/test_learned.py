"""The samplers that train a network, on densities that are known."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import load, save

from genzoo.config import build
from genzoo.errors import UserError
from genzoo.registry import SAMPLERS
from genzoo.stage_two import fit

SMALL = {
    "two_stage": {"steps": 600, "batch_size": 128, "hidden_dim": 64, "lr": 3e-3},
    "flow": {"steps": 300, "batch_size": 128, "hidden_dim": 64, "lr": 5e-3},
    "flow_matching": {"steps": 400, "batch_size": 256, "hidden_dim": 64, "lr": 3e-3, "num_solver_steps": 12},
}
learned = pytest.mark.parametrize("name", SMALL)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def learn(sampler, mean, variance, seed):
    fit(sampler, torch.stack([mean, variance], 1).numpy(), seed, name=f"samplers/{sampler.config.name}")


def make(name, dim=4, **options):
    config = SAMPLERS.get(name).Config(name=name, **{**SMALL[name], **options})
    return build(SAMPLERS, config, latent_shape=(dim,))


def mixture(num, seed):
    """Mean and variance of posteriors in three clusters that lie far from 0, along axes of very unequal scale."""
    g = generator(seed)
    centers = torch.tensor([[2.0, 0.0, -2.0, 1.0], [-2.0, 1.0, 2.0, 0.0], [0.0, -1.0, 2.0, -1.0]])
    cluster = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), num, replacement=True, generator=g)
    mean = centers[cluster] + 0.4 * torch.randn(num, 4, generator=g)
    scale = torch.tensor([1.0, 10.0, 1.0, 0.1])
    return 3 + scale * mean, (0.5 * scale).square().expand_as(mean)


def draws(num, seed):
    mean, variance = mixture(num, seed)
    return mean + variance.sqrt() * torch.randn(mean.shape, generator=generator(seed + 1))


def energy_distance(a, b):
    """Szekely & Rizzo: 2 E|a - b| - E|a - a'| - E|b - b'| without bias, so about 0 for equal distributions."""
    return (2 * torch.cdist(a, b).mean() - torch.pdist(a).mean() - torch.pdist(b).mean()).item()


@pytest.fixture(scope="module")
def fitted():
    made = {}

    def get(name):
        if name not in made:
            made[name] = make(name)
            learn(made[name], *mixture(4000, seed=0), seed=0)
        return made[name]

    return get


@learned
def test_samples_follow_a_known_density(fitted, name):
    z, truth = fitted(name).sample(5000, generator(1)), draws(5000, seed=10)  # more than one chunk
    assert z.shape == (5000, 4) and z.dtype == torch.float32 and not z.requires_grad
    z, truth = (z - truth.mean(0)) / truth.std(0), (truth - truth.mean(0)) / truth.std(0)
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=0.1, rtol=0)
    torch.testing.assert_close(z.T.cov(), truth.T.cov(), atol=0.2, rtol=0)
    gaussian = torch.randn(2000, 4, generator=generator(2)) @ torch.linalg.cholesky(truth.T.cov()).T
    distance = energy_distance(z[:2000], truth[:2000])
    assert distance < 0.5 * energy_distance(gaussian, truth[:2000])  # a Gaussian of the very same moments


@learned
def test_samples_travel_as_safetensors(fitted, name):
    sampler, fresh = fitted(name), make(name)
    fresh.load_state_dict(load(save(sampler.state_dict())))  # no fit
    assert torch.equal(sampler.sample(50, generator()), fresh.sample(50, generator()))
    assert not torch.equal(sampler.sample(50, generator()), fresh.sample(50, generator(1)))
    assert fresh.protocol == sampler.protocol
    assert fresh.protocol["num_fit"] == 4000 and fresh.protocol["steps"] == SMALL[name]["steps"]


@learned
def test_the_seed_alone_governs_the_fit_and_leaves_the_global_generator_alone(name):
    posteriors, made = mixture(100, seed=0), []
    for global_seed, seed in ((1, 5), (2, 5), (2, 6)):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        sampler = make(name, steps=5)
        learn(sampler, *posteriors, seed=seed)
        if seed == 5:
            learn(sampler, *posteriors, seed=seed)  # starts anew
        made.append(sampler.sample(20, generator()))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(made[0], made[1]) and not torch.allclose(made[0], made[2])


@learned
@pytest.mark.parametrize("dim", [1, 5])
def test_latents_that_never_move_and_posteriors_without_width(name, dim):
    mean = torch.cat([torch.randn(50, dim, generator=generator()), torch.full((50, 1), 7.0)], dim=1)[:, -dim:]
    sampler = make(name, dim, steps=20)
    learn(sampler, mean, torch.zeros_like(mean), seed=0)
    z = sampler.sample(30, generator())
    assert z.isfinite().all() and (z[:, -1] - 7).abs().max() < 1e-3


@learned
def test_refuses_in_words(name):
    sampler = make(name, steps=1)
    with pytest.raises(UserError, match=f"samplers/{name} has not been fitted yet"):
        sampler.sample(3, generator())
    with pytest.raises(UserError, match="4 posteriors are too few to learn a density in 4 dimensions"):
        learn(sampler, torch.randn(4, 4), torch.ones(4, 4), seed=0)
    with pytest.raises(UserError, match="not finite"):
        learn(sampler, torch.full((9, 4), torch.nan), torch.ones(9, 4), seed=0)
    diverging = make(name, steps=3, lr=1e38)
    with pytest.raises(
        UserError, match=rf"samplers/{name}: step \d is not finite: loss .* Lower lr, set clip_grad_norm"
    ):
        learn(diverging, torch.randn(9, 4), torch.ones(9, 4), seed=0)
    with pytest.raises(UserError, match="not been fitted"):
        diverging.sample(3, generator())


def test_two_stage_learns_the_width_that_no_code_explains():
    """With posteriors about one point the best decoder is constant and gamma is their variance: the ELBO is exact."""
    mean = torch.full((500, 2), 3.0)
    sampler = make("two_stage", 2, steps=150, hidden_dim=16, lr=2e-2)
    learn(sampler, mean, torch.full_like(mean, 4.0), seed=0)
    assert sampler.network.log_gamma.exp().item() == pytest.approx(1, abs=0.1)  # of the standardised latents
    torch.testing.assert_close(sampler.sample(4000, generator()).std(0), torch.full((2,), 2.0), atol=0.2, rtol=0)


def test_heun_converges_with_its_order():
    """dx/dt = x from t = 0 to 1 multiplies by e; halving the step quarters the error."""
    errors = []
    for num_solver_steps in (10, 20):
        sampler = make("flow_matching", 2, num_solver_steps=num_solver_steps)
        sampler.network = Growth()
        sampler.num_fit.fill_(1)
        exact = torch.randn(8, 2, generator=generator()) * torch.e
        errors.append((sampler.sample(8, generator()) / exact - 1).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)


class Growth(torch.nn.Module):
    def forward(self, x, t):
        return x


def test_flow_density_integrates_to_one():
    """The log-likelihood that it maximises is one of a density."""
    sampler = make("flow", 2)
    axis = torch.linspace(-8, 8, 161)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = sampler.network().log_prob(grid).exp()
    assert density.sum().item() * 0.1**2 == pytest.approx(1, abs=0.01)


def test_a_missing_zuko_is_said_when_the_recipe_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(UserError, match=r"samplers/flow needs the package zuko: pip install 'genzoo\[flow\]'"):
        make("flow")
