from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from sklearn.mixture import GaussianMixture

from genzoo.densities import StandardNormal
from genzoo.errors import UserError
from genzoo.samplers.gmm import GMMSampler
from genzoo.samplers.prior import PriorSampler


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gmm(shape=(3,), **options):
    return GMMSampler(GMMSampler.Config(name="gmm", **options), latent_shape=shape)


@pytest.fixture
def clusters():
    """Two far, stretched, correlated clusters in three dimensions, 3 to 1."""
    stretch = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.3, 0.0], [0.0, 0.1, 0.5]])
    points = torch.randn(2000, 3, generator=generator()) @ stretch.T
    points[:500] += torch.tensor([20.0, 0.0, -10.0])
    return points


def test_prior_is_standard_normal():
    sampler = PriorSampler(PriorSampler.Config(name="prior"), latent_shape=(2, 3))
    with pytest.raises(UserError, match="bind"):
        sampler.sample(2, generator())
    sampler.bind(SimpleNamespace(sample_prior=StandardNormal((2, 3)).sample))
    z = sampler.sample(20000, generator())
    assert z.shape == (20000, 2, 3) and z.dtype == torch.float32
    np.testing.assert_allclose(z.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(z.flatten(1).T), np.eye(6), atol=0.04)
    assert torch.equal(z, sampler.sample(20000, generator()))


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_gmm_samples_have_the_moments_of_the_fitted_mixture(clusters, covariance):
    sampler = gmm(num_components=2, covariance=covariance, max_fit=None)
    sampler.fit(clusters, torch.ones_like(clusters), seed=0)
    z = sampler.sample(40000, generator()).numpy()
    fitted = GaussianMixture(2, covariance_type=covariance, random_state=0).fit(clusters.double().numpy())
    assert fitted.score(z[:20000]) == pytest.approx(fitted.score(fitted.sample(20000)[0]), abs=0.03)
    near = z[:, 0] > 12  # one of the clusters
    assert near.mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(z[near].mean(0), clusters[:500].mean(0), atol=0.15)
    expected = np.cov(clusters[:500].T)
    expected = expected if covariance == "full" else np.diag(np.diag(expected))
    np.testing.assert_allclose(np.cov(z[near].T), expected, atol=0.15)


def test_gmm_is_seeded_and_travels_as_safetensors(clusters):
    first, second = gmm(num_components=4), gmm(num_components=4)
    first.fit(clusters, clusters, seed=3)
    second.load_state_dict(load(save(first.state_dict())))  # no fit
    assert torch.equal(first.sample(50, generator()), second.sample(50, generator()))
    assert not torch.equal(first.sample(50, generator()), first.sample(50, generator(1)))
    assert second.protocol["num_fit"] == 2000
    second.fit(clusters, clusters, seed=3)
    assert torch.equal(first.means, second.means)


def test_gmm_states_how_many_posteriors_it_was_fitted_on(clusters):
    sampler = gmm(num_components=2, max_fit=300)
    sampler.fit(clusters, clusters, seed=0)
    assert sampler.protocol["num_fit"] == 300
    assert (sampler.sample(4000, generator())[:, 0] > 12).float().mean() == pytest.approx(
        0.25, abs=0.08
    )  # not a prefix


@settings(max_examples=10)
@given(st.integers(1, 5), st.sampled_from([(2,), (3, 2), (1, 2, 2)]), st.sampled_from(["full", "diag"]))
def test_gmm_takes_any_latent_shape(num_components, shape, covariance):
    sampler = gmm(shape, num_components=num_components, covariance=covariance)
    mean = torch.randn(20, *shape, generator=generator())
    sampler.fit(mean, mean, seed=0)
    z = sampler.sample(7, generator())
    assert z.shape == (7, *shape) and z.isfinite().all()


def test_gmm_survives_latents_that_never_move():
    mean = torch.randn(50, 3, generator=generator()) * torch.tensor([1.0, 0.0, 0.0])
    sampler = gmm(num_components=3)
    sampler.fit(mean, mean, seed=0)
    assert sampler.sample(10, generator())[:, 1:].abs().max() < 0.1


def test_gmm_refuses_in_words():
    with pytest.raises(UserError, match="100 components cannot be fitted on 99 images"):
        gmm().fit(torch.zeros(99, 3), torch.zeros(99, 3), seed=0)
    with pytest.raises(UserError, match="not been fitted"):
        gmm().sample(3, generator())
    with pytest.raises(UserError, match="cannot be fitted"):
        gmm(num_components=2).fit(torch.full((9, 3), torch.nan), torch.zeros(9, 3), seed=0)
