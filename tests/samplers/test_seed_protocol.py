import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from genzoo.config import build
from genzoo.densities import DiagonalGaussian
from genzoo.errors import UserError
from genzoo.evaluation.config import EvaluationConfig
from genzoo.evaluation.evaluate import evaluate
from genzoo.evaluation.work import ON_CPU
from genzoo.parts import Composition
from genzoo.registry import SAMPLERS
from genzoo.stage_two import fit_samplers


class Identity(nn.Module):
    """A latent is the four pixels of a 2 x 2 image."""

    latent_shape = (4,)
    has_standard_normal_prior = True
    latent = None

    def encode(self, x):
        return DiagonalGaussian(x.flatten(1), torch.full_like(x.flatten(1), 1e-4).log())

    def decode(self, z):
        return Composition(z.view(-1, 1, 2, 2).clamp(0, 1))


def make(name, **options):
    return build(SAMPLERS, SAMPLERS.get(name).Config(name=name, **options), latent_shape=(4,))


def test_it_is_fitted_on_the_test_images_and_every_score_says_so(pixels):
    rng = np.random.default_rng(0)
    splits = {
        "train": rng.integers(0, 50, (120, 2, 2, 1), dtype=np.uint8),  # dark, where the test images are bright
        "test": rng.integers(200, 256, (130, 2, 2, 1), dtype=np.uint8),
    }
    samplers = {"seed_protocol": make("seed_protocol"), "gmm": make("gmm", num_components=2)}
    model = Identity()
    assert not fit_samplers(model, samplers, splits, seed=0, work=ON_CPU)
    assert samplers["seed_protocol"].sample(200, torch.Generator()).mean() > 0.8
    config = EvaluationConfig(
        num_samples=100, metrics=[{"name": "fd", "features": "pixels"}, {"name": "kid", "features": "pixels"}]
    )
    scores = evaluate(model, samplers, splits, config, seed=0, work=ON_CPU)["scores"]
    published = [score for score in scores if score["generator"] == "seed_protocol"]
    assert {score["metric"] for score in published} >= {"fd", "kid"}
    for score in published:
        assert score["fit_split"] == score["reference"] == "test"
        assert "fitted on the very images it is scored against" in score["note"]
        assert "fitted on the test images" in score["sampler"]["protocol"]
        assert score["sampler"]["num_components"] == 100 and score["sampler"]["covariance"] == "full"
        assert score["sampler"]["num_fit"] == 130
    assert not any("note" in score for score in scores if score["generator"] != "seed_protocol")


def test_it_is_the_gmm_on_those_images():
    mean = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    published, gmm = make("seed_protocol"), make("gmm", num_components=100, max_fit=None)
    for sampler in (published, gmm):
        sampler.fit(mean, mean, seed=3)
    fresh = make("seed_protocol")
    fresh.load_state_dict(load(save(published.state_dict())))
    a, b, c = (sampler.sample(40, torch.Generator().manual_seed(1)) for sampler in (published, gmm, fresh))
    assert torch.equal(a, b) and torch.equal(a, c)


def test_it_needs_a_test_image_a_component():
    with pytest.raises(UserError, match=r"samplers/seed_protocol: the published 100 components .* 99 test images"):
        make("seed_protocol").fit(torch.zeros(99, 4), torch.zeros(99, 4), seed=0)
