import re
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
from genzoo.preparation import build_parts
from genzoo.recipe import read
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


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_gmm_by_position_is_a_mixture_at_each_and_knows_nothing_of_the_others(covariance):
    """Channels that go together, positions that lie apart, and two halves of an image that are one coin."""
    g = generator()
    coin = torch.randint(2, (4000, 1, 1, 1), generator=g).float()
    x = 6 * (coin - 0.5) + torch.tensor([[0.0, 100.0, 200.0]]) + 0.5 * torch.randn(4000, 2, 1, 3, generator=g)
    sampler = gmm((2, 1, 3), num_components=2, covariance=covariance, by_position=True)
    sampler.fit(x, torch.ones_like(x), seed=0)
    z = sampler.sample(4000, generator(1))
    assert z.shape == x.shape
    for place in range(3):  # of each position the mixture is that of a plain gmm on it
        alone = gmm((2,), num_components=2, covariance=covariance)
        alone.fit(x[:, :, 0, place], torch.ones(4000, 2), seed=0)
        for name, learned in alone.named_buffers():
            if name != "num_fit":
                assert torch.equal(sampler.get_buffer(name)[place], learned)
    torch.testing.assert_close(z.mean(0), x.mean(0), atol=0.4, rtol=0)
    torch.testing.assert_close(z.std(0), x.std(0), atol=0.1, rtol=0)
    of_channels, of_places = (
        [torch.corrcoef(a.flatten(1).T)[pair].item() for a in (x, z)] for pair in ((0, 3), (0, 1))
    )
    assert min(of_channels) > 0.9 and of_places[0] > 0.9 and abs(of_places[1]) < 0.1
    fresh = gmm((2, 1, 3), num_components=2, covariance=covariance, by_position=True)
    fresh.load_state_dict(load(save(sampler.state_dict())))
    assert torch.equal(fresh.sample(9, generator()), sampler.sample(9, generator()))
    assert sampler.protocol["by_position"] is True and "by_position" not in alone.protocol


def test_gmm_by_position_is_for_maps_and_says_so_before_any_data():
    with pytest.raises(UserError, match=r"samplers/gmm needs a latent map, .*; latents/gaussian has none"):
        build_parts(read("vae_digits", ["samplers=[{name: gmm, by_position: true}]"]))
    with pytest.raises(ValueError, match="by_position is for maps c h w"):
        gmm((6,), by_position=True)


def test_gmm_says_what_it_fits(clusters, caplog):
    caplog.set_level("INFO")
    gmm(num_components=2, max_fit=500).fit(clusters, torch.ones_like(clusters), seed=0)
    assert "samplers/gmm: 1 mixture of 2 Gaussians in 3 dimensions, 26 numbers; up to 100 rounds of EM" in caplog.text
    assert "on 500 posteriors" in caplog.text
    assert re.search(r"samplers/gmm: about \d+ s at most\n", caplog.text)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("max_iter", [1, 2, 3, 100])
def test_a_fit_that_is_timed_is_the_fit(clusters, max_iter, caplog):
    """Its rounds are taken in pieces; together they are scikit-learn's own."""
    caplog.set_level("INFO")
    points = torch.randn(300, 2, generator=generator()) + clusters[:300, :2]
    sampler = gmm((2,), num_components=4, max_iter=max_iter)
    sampler.fit(points, points, seed=3)
    whole = GaussianMixture(4, max_iter=max_iter, random_state=3).fit(points.double().numpy())
    assert torch.equal(sampler.means, torch.from_numpy(whole.means_).float())
    assert torch.equal(sampler.weights, torch.from_numpy(whole.weights_).float())
    assert whole.n_iter_ == max_iter or (max_iter == 100 and whole.converged_)
    assert f"samplers/gmm: {int(whole.converged_)} of 1 converged before max_iter rounds" in caplog.text


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
