"""Likelihoods of heads: they sum to one over the levels, and are what torch.distributions says."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal

from genzoo.config import build
from genzoo.heads.likelihood import edges, located, log_logistic_mass, log_normal_mass
from genzoo.parts import Composition
from genzoo.registry import HEADS

DECODER = {"name": "mlp", "hidden_dims": [8]}
LEVELS = torch.arange(256) / 255


def make(name, image_shape=(1, 8, 8), **options):
    config = HEADS.get(name).Config.model_validate(
        {"name": name, "head": {"name": "split", "decoder": DECODER}, **options}
    )
    torch.manual_seed(0)
    return build(HEADS, config, in_shape=(6,), image_shape=image_shape)


@given(st.floats(-0.5, 1.5), st.floats(0.001, 10), st.sampled_from([log_logistic_mass, log_normal_mass]))
def test_the_levels_share_all_the_mass(mean, std, mass):
    low, high = edges(LEVELS.double())
    total = mass((low - mean) / std, (high - mean) / std).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gaussian", {"discretised": True}),
        ("gaussian", {"discretised": True, "scale": "pixel", "decoder": DECODER}),
        ("logistic", {"decoder": DECODER}),
        ("logistic", {"num_components": 4, "decoder": DECODER}),
        ("logistic", {"num_components": 3, "scale": "channel"}),
    ],
    ids=str,
)
def test_a_pixels_levels_sum_to_one(name, options):
    """All pixels but one stay; over the levels of that one the density of the image sums to the others' own."""
    head = make(name, **options)
    composition = head(torch.randn(1, 6))
    assert composition.on_levels and set(composition.branches) == {"y1", "y2"}
    x = torch.rand(1, 1, 8, 8).mul(255).round().div(255)
    xs = x.repeat(256, 1, 1, 1)
    xs[:, 0, 3, 4] = LEVELS
    with torch.no_grad():
        some = composition.log_prob(xs)
        rest = composition.log_prob(xs.flip(0))
    # the others' mass is unknown; two pixels that move one after the other must share it
    ys = x.repeat(256, 1, 1, 1)
    ys[:, 0, 5, 1] = LEVELS
    with torch.no_grad():
        other = composition.log_prob(ys)
        here = composition.log_prob(x)
    share = (some.logsumexp(0) - here).exp() * (other.logsumexp(0) - here).exp()
    zs = x.repeat(256 * 4, 1, 1, 1)
    zs[:, 0, 3, 4] = LEVELS.repeat(4)
    zs[:, 0, 5, 1] = LEVELS[::64].repeat_interleave(256)
    with torch.no_grad():
        both = composition.log_prob(zs)
    expected = some.logsumexp(0) - here + other[::64].logsumexp(0)
    assert both.logsumexp(0).item() == pytest.approx(expected.item(), abs=1e-2)
    assert rest.flip(0).allclose(some) and share > 1


@pytest.mark.parametrize("scale", ["image", "channel", "pixel"])
def test_the_density_is_the_normals(scale):
    head = make("gaussian", (3, 8, 8), scale=scale, std=0.2, **({"decoder": DECODER} if scale == "pixel" else {}))
    features, x = torch.randn(2, 6), torch.rand(2, 3, 8, 8)
    composition = head(features)
    std = 0.2 * head.scale(features)[:, 0].exp()
    expected = Normal(composition.image, std).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(composition.log_prob(x), expected)
    assert not composition.on_levels
    composition.log_prob(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_wide_logistics_give_eight_bits():
    head = make("logistic", std=10.0, scale="image")
    nats = -head(torch.randn(5, 6)).log_prob(torch.rand(5, 1, 8, 8))
    # the outermost levels have half of the mass each, all others are alike
    middle = -head(torch.randn(5, 6)).log_prob(torch.full((5, 1, 8, 8), 0.5))
    assert (nats > 0).all() and (middle / 64).std() < 0.01


@pytest.mark.parametrize("name", ["gaussian", "logistic"])
def test_a_decoder_of_scales_needs_pixels(name):
    with pytest.raises(ValueError, match="needs scale: pixel"):
        make(name, scale="image", decoder=DECODER)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_locations_reach_beyond_black_and_white_and_the_image_is_what_is_seen_of_them(y1, y2, sigma):
    y1, y2, sigma = (torch.full((1, 1, 2, 2), value) for value in (y1, y2, sigma))
    inner = Composition(torch.lerp(y2, y1, sigma), branches={"y1": y1, "y2": y2}, maps={"sigma": sigma})
    location, seen = located(inner)
    assert torch.equal(seen.image, location.clamp(0, 1)) and seen.maps == inner.maps
    torch.testing.assert_close(location, 3 * inner.image - 1)
    low, high = torch.stack(list(seen.branches.values())).aminmax(dim=0)
    assert (low <= seen.image).all() and (seen.image <= high).all()


def test_black_for_certain_lets_go_of_the_logits():
    """The pull of a black pixel ends while the sigmoid is not flat: so that a stroke can still be learned there."""
    low, high = edges(torch.zeros(1))
    for std in (0.02, 0.1):
        logit = torch.zeros(1, requires_grad=True)
        for _ in range(3000):
            location, seen = located(Composition(logit.sigmoid().view(1, 1, 1, 1)))
            nats = log_logistic_mass((low - location) / std, (high - location) / std).sum()
            (gradient,) = torch.autograd.grad(nats, logit)
            logit = (logit + 0.01 * gradient).detach().requires_grad_()
        assert nats > -0.02 and seen.image == 0
        assert logit.sigmoid() * (1 - logit.sigmoid()) > 0.1


def test_far_means_and_small_scales_stay_finite():
    low, high = edges(LEVELS)
    for mass in (log_logistic_mass, log_normal_mass):
        mean = torch.full_like(LEVELS, 0.5, requires_grad=True)
        nats = mass((low - mean) / 0.001, (high - mean) / 0.001).sum()
        nats.backward()
        assert math.isfinite(nats.item()) and mean.grad.isfinite().all()
