"""Flow matching on maps, by networks that see them as such."""

import pytest
import torch
from torch import nn

from genzoo.config import build
from genzoo.errors import UserError
from genzoo.preparation import build_parts
from genzoo.recipe import read
from genzoo.registry import SAMPLERS
from genzoo.samplers.velocity.dit import DiTVelocity
from genzoo.samplers.velocity.mlp import MLPVelocity
from genzoo.samplers.velocity.unet import UNetVelocity
from genzoo.stage_two import fit

NETWORKS = {
    "mlp": lambda shape: MLPVelocity(shape, 8, 2),
    "dit": lambda shape: DiTVelocity(shape, 8, 2, 2, 1),
    "unet": lambda shape: UNetVelocity(shape, 8, 1),
}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def make(network, shape, **options):
    config = SAMPLERS.get("flow_matching").Config(name="flow_matching", network=network, **options)
    return build(SAMPLERS, config, latent_shape=shape)


def mixture(num, seed):
    """Three patterns of 8x8 with noise, in unequal shares: num 1 8 8."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij")
    patterns = torch.stack([x, 2 * y, 1.5 * torch.sign(x * y)])
    which = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), num, replacement=True, generator=generator(seed))
    return (patterns[which] + 0.3 * torch.randn(num, 8, 8, generator=generator(seed + 1000)))[:, None]


def sliced_wasserstein(a, b):
    """Root of the mean, over 200 directions, of the squared 2-Wasserstein distance of the projections."""
    directions = nn.functional.normalize(torch.randn(64, 200, generator=generator(9)), dim=0)
    a, b = ((x.flatten(1) @ directions).sort(0).values for x in (a, b))
    return (a - b).square().mean().sqrt().item()


@pytest.mark.parametrize("network", ["dit", pytest.param("unet", marks=pytest.mark.long)])
def test_a_mixture_of_maps_is_learned_to_within_the_sampling_error(network):
    size = {"dit": {"hidden_dim": 32, "patch_size": 2, "steps": 600}, "unet": {"hidden_dim": 16, "steps": 400}}[network]
    layers = {"dit": 2, "unet": 1}[network]
    sampler = make(network, (1, 8, 8), num_layers=layers, batch_size=64, ema=0.99, num_solver_steps=12, **size)
    fit(sampler, mixture(4000, 0)[:, None].numpy(), 0)
    z = sampler.sample(2000, generator(1))
    of_truth = [sliced_wasserstein(mixture(2000, 10 + k), mixture(2000, 50 + k)) for k in range(20)]
    distances = [sliced_wasserstein(z, mixture(2000, 50 + k)) for k in range(20)]
    assert sum(distances) / 20 < max(of_truth)
    truth = mixture(2000, 5).flatten(1)
    noise = torch.randn(2000, 64, generator=generator(2))
    gaussian = truth.mean(0) + noise @ torch.linalg.cholesky(truth.T.cov() + 1e-4 * torch.eye(64)).T
    assert sliced_wasserstein(gaussian, truth) > 2 * max(of_truth)  # of the very same moments


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(4, 8, 8), (3, 7, 5), (2, 1, 3)])
def test_every_weight_of_a_velocity_has_its_part(network, shape):
    torch.manual_seed(0)
    made, x, t = NETWORKS[network](shape), torch.randn(5, *shape), torch.rand(5)
    if network != "mlp":
        assert not made(x, t).any()  # at first; from its first step on it moves
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.3)
    v = made(x, t)
    assert v.shape == x.shape and v.isfinite().all()
    v.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in made.parameters())
    assert not torch.allclose(v, made(x, 1 - t))
    torch.testing.assert_close(made(x[2:3], t[2:3]), v[2:3], rtol=1e-4, atol=1e-4)  # images apart


def test_patches_lie_where_they_were_cut():
    """With zeros in place of the blocks, v is a linear map of each patch alone."""
    made = DiTVelocity((2, 4, 6), 16, 1, 2, 2)
    nn.init.normal_(made.leave.weight)
    x, t = torch.randn(1, 2, 4, 6), torch.rand(1)
    other = x.clone()
    other[:, :, 2:4, 4:6] += 1
    changed = (made(x, t) != made(other, t)).any(1)[0]
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[2:4, 4:6] = True
    assert torch.equal(changed, expected)


def test_times_of_a_logit_normal_crowd_in_the_middle():
    seen = []

    class Zero(nn.Module):
        def forward(self, x, t):
            seen.append(t)
            return torch.zeros_like(x)

    for times, share in (("uniform", 0.5), ("logit_normal", 0.7283)):  # P(|N(0, 1)| < log 3)
        sampler = make("mlp", (3,), times=times)
        sampler.network = Zero()
        sampler.loss_of(torch.zeros(40000, 3))
        assert ((seen[-1] - 0.5).abs() < 0.25).float().mean() == pytest.approx(share, abs=0.01)


def test_networks_of_maps_are_refused_before_any_data():
    for network in ("dit", "unet"):
        with pytest.raises(UserError) as error:
            build_parts(read("vae_digits", [f"samplers=[{{name: flow_matching, network: {network}}}]"]))
        message = str(error.value)
        assert "samplers/flow_matching needs a latent map, of shape (c, h, w); latents/gaussian has none" in message
        assert " spatial_gaussian" in message
    with pytest.raises(UserError, match="patches of 2x2 do not cover a map of 7x8"):
        make("dit", (1, 7, 8), patch_size=2)
    with pytest.raises(UserError, match="hidden_dim 30 must be a multiple of num_heads 4"):
        make("dit", (1, 8, 8), hidden_dim=30)
