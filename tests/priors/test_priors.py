"""Learned priors: against torch.distributions, the draws against the density, and BatchNorm left alone."""

from __future__ import annotations

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from genzoo.config import config_of
from genzoo.model import Model, ModelConfig
from genzoo.registry import PRIORS


def model(prior: dict, latent: dict | None = None, encoder: dict | None = None) -> Model:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({
        "encoder": encoder or {"name": "mlp", "hidden_dims": [8]},
        "latent": latent or {"name": "gaussian", "dim": 3},
        "prior": prior,
        "head": {"name": "single", "decoder": {"name": "mlp", "hidden_dims": [8]}},
    })  # fmt: skip
    return Model(config, (1, 8, 8))


def disturbed(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.5 * torch.randn(p.shape))


def reference(prior) -> MixtureSameFamily:
    each = Independent(Normal(prior.mean.flatten(1), (0.5 * prior.logvar.flatten(1)).exp()), 1)
    return MixtureSameFamily(Categorical(logits=prior.logits), each)


def test_a_mixture_is_that_of_torch_distributions():
    for latent in ({"name": "gaussian", "dim": 3}, {"name": "spatial_gaussian", "channels": 2}):
        made = model({"name": "mog", "num_components": 4}, latent)
        disturbed(made.prior)
        z = 2 * torch.randn(7, *made.latent_shape)
        torch.testing.assert_close(
            made.log_prior(z), reference(made.prior).log_prob(z.flatten(1)), rtol=1e-4, atol=1e-4
        )


def test_draws_of_a_mixture_have_its_moments():
    made = model({"name": "mog", "num_components": 4})
    disturbed(made.prior)
    z = made.sample_prior(20000, torch.Generator().manual_seed(0))
    known = reference(made.prior)
    torch.testing.assert_close(z.mean(0), known.mean.detach(), rtol=0, atol=0.1)
    torch.testing.assert_close(z.var(0), known.variance.detach(), rtol=0.1, atol=0)


def test_vamp_is_the_mean_of_the_posteriors_of_its_pseudo_inputs():
    made = model({"name": "vamp", "num_pseudo_inputs": 4})
    disturbed(made)
    posterior = made.encode(torch.sigmoid(made.prior.logits))
    each = Independent(Normal(posterior.mean, posterior.variance.sqrt()), 1)
    known = MixtureSameFamily(Categorical(torch.ones(4)), each)
    z = torch.randn(7, 3)
    torch.testing.assert_close(made.log_prior(z), known.log_prob(z), rtol=1e-4, atol=1e-4)
    drawn = made.sample_prior(20000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), known.mean.detach(), rtol=0, atol=0.1)
    torch.testing.assert_close(drawn.var(0), known.variance.detach(), rtol=0.1, atol=0)


def test_the_kl_is_that_of_the_draw():
    made = model({"name": "mog", "num_components": 4}).eval()
    passed = made(torch.rand(5, 1, 8, 8))
    expected = passed.posterior.log_prob(passed.z) - made.log_prior(passed.z)
    assert torch.equal(made.kl(passed.posterior, passed.z), expected)


def test_pseudo_inputs_leave_batch_norm_alone():
    """Averages are those of the data, and the density is the same in training and in eval mode."""
    made = model({"name": "vamp", "num_pseudo_inputs": 4}, encoder={"name": "conv", "base_dim": 2}).train()
    before = {name: buffer.clone() for name, buffer in made.named_buffers()}
    z = torch.randn(5, 3)
    training = made.log_prior(z)
    assert all(torch.equal(buffer, before[name]) for name, buffer in made.named_buffers())
    assert all(module.training for module in made.modules())
    assert torch.equal(training, made.eval().log_prior(z))
    assert not any(module.training for module in made.modules())


def test_vamp_on_a_sphere_and_a_mixture_that_refuses_it():
    made = model({"name": "vamp", "num_pseudo_inputs": 4}, {"name": "vmf", "dim": 3})
    z = made.sample_prior(9, torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.norm(dim=1), torch.ones(9))
    # one number of a uniform point on the sphere in three dimensions is uniform
    sphere = torch.nn.functional.normalize(torch.randn(20000, 3), dim=1)
    surface = 4 * torch.pi
    assert abs((made.log_prior(sphere).exp() * surface).mean().item() - 1) < 0.05
    assert "free latent" in PRIORS.get("mog").needs and config_of(PRIORS, "mog")
