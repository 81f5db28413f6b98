"""The objectives beside the ELBO against closed forms, numerical integration and plain numpy."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, Normal

from genzoo.densities import DiagonalGaussian, StandardNormal
from genzoo.objectives.ae import AE
from genzoo.objectives.iwae import IWAE
from genzoo.objectives.mmd import MMD, SCALES, mmd
from genzoo.objectives.tc import TC, aggregate
from genzoo.parts import Composition, Pass

STD = 0.3  # of the pixel


class Toy(torch.nn.Module):
    """One pixel of mean sigmoid(slope * z), one latent; the posterior is N(a x + b, s^2)."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(1.5))
        self.encoder = torch.nn.Parameter(torch.tensor([1.0, -0.3, math.log(0.7**2)]))
        self.prior = StandardNormal((1,))

    def encode(self, x):
        a, b, logvar = self.encoder
        return DiagonalGaussian(a * x.flatten(1) + b, logvar.expand(len(x), 1))

    def decode(self, z):
        return Composition(torch.sigmoid(self.slope * z).view(-1, 1, 1, 1))

    def log_prior(self, z):
        return self.prior.log_prob(z)

    def kl(self, posterior, z):
        return posterior.kl(z)

    def sample_prior(self, num, generator):
        return self.prior.sample(num, generator)

    def forward(self, x):
        posterior = self.encode(x)
        z = posterior.sample()
        return Pass(posterior, z, self.decode(z))


def make(kind, **options):
    return kind(kind.Config(name="one", **options), image_shape=(1, 1, 1))


def iwae(num, estimator="plain"):
    return make(IWAE, num_draws=num, estimator=estimator, gamma="fixed", gamma_value=STD**2)


def loss(objective, model, x):
    return objective(model(x), x, torch.tensor(0), model)


def test_the_importance_weighted_bound_rises_to_the_likelihood():
    torch.manual_seed(0)
    model, x = Toy(), torch.tensor([0.9]).view(1, 1, 1, 1)
    z = torch.linspace(-8, 8, 20001)
    joint = Normal(torch.sigmoid(model.slope * z), STD).log_prob(x.flatten()) + Normal(0.0, 1.0).log_prob(z)
    exact = (torch.logsumexp(joint, 0) + math.log(16 / 20000)).item()
    bounds = []
    with torch.no_grad():
        for num in (1, 4, 64):
            draws = torch.stack([-loss(iwae(num), model, x.expand(500, 1, 1, 1))["loss"] for _ in range(8)])
            bounds.append(draws.mean().item())
    assert bounds[0] < bounds[1] < bounds[2] < exact + 0.01
    assert bounds[2] == pytest.approx(exact, abs=0.01)


def test_one_plain_draw_is_the_elbo():
    torch.manual_seed(0)
    model, x = Toy(), torch.rand(4000, 1, 1, 1)
    terms = loss(iwae(1), model, x)
    assert terms["loss"].item() == pytest.approx((terms["rec"] + terms["kl"]).item(), abs=0.05)


def test_the_doubly_reparameterised_gradient_has_the_plain_ones_mean_and_less_noise():
    torch.manual_seed(0)
    x = torch.tensor([0.2, 0.9]).view(2, 1, 1, 1).repeat(200, 1, 1, 1)
    found = {}
    for estimator in ("plain", "dreg"):
        rows = []
        for _ in range(60):
            model = Toy()
            loss(iwae(16, estimator), model, x)["loss"].backward()
            rows.append(torch.cat([model.encoder.grad, model.slope.grad.view(1)]))
        found[estimator] = torch.stack(rows)
    error = sum(rows.var(0) / len(rows) for rows in found.values()).sqrt()
    assert ((found["plain"].mean(0) - found["dreg"].mean(0)).abs() < 4 * error).all()
    assert (found["dreg"].std(0)[:3] < 0.8 * found["plain"].std(0)[:3]).all()  # of the encoder


def test_total_correlation_of_a_gaussian():
    """The aggregate of many narrow posteriors around draws of a correlated Gaussian is nearly that Gaussian."""
    torch.manual_seed(0)
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    means = MultivariateNormal(torch.zeros(2), covariance).sample((3000,))
    variance = torch.full_like(means, 0.05)
    z = means + variance.sqrt() * torch.randn_like(means)
    joint, product = aggregate(z, means, variance)
    wide = covariance + 0.05 * torch.eye(2)
    exact = -0.5 * torch.logdet(wide / 1.05).item()
    assert (joint - product).mean().item() == pytest.approx(exact, abs=0.05)


def test_the_three_parts_are_the_kl():
    torch.manual_seed(0)
    model, x = Toy(), torch.rand(2000, 1, 1, 1)
    terms = loss(make(TC, beta=1.0), model, x)
    parts = terms["mutual_information"] + terms["total_correlation"] + terms["marginal_kl"]
    assert parts.item() == pytest.approx(terms["kl"].item(), abs=0.05)
    assert terms["total_correlation"].item() == pytest.approx(0, abs=1e-5)  # of one variable
    assert terms["loss"].item() == pytest.approx((terms["rec"] + parts).item(), rel=1e-5)


@given(st.integers(0, 10**6), st.sampled_from(["imq", "rbf"]))
def test_mmd_is_the_double_sum(seed, kernel):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(7, 3)), rng.normal(size=(5, 3)) + 1

    def k(u, v):
        square = ((u - v) ** 2).sum()
        return np.exp(-square / 6) if kernel == "rbf" else sum(6 * s / (6 * s + square) for s in SCALES)

    within = [np.mean([k(u, v) for i, u in enumerate(one) for j, v in enumerate(one) if i != j]) for one in (a, b)]
    expected = sum(within) - 2 * np.mean([k(u, v) for u in a for v in b])
    assert float(mmd(torch.tensor(a), torch.tensor(b), kernel)) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_mmd_weighs_kl_and_distance_as_the_paper():
    torch.manual_seed(0)
    model, x = Toy(), torch.rand(50, 1, 1, 1)
    terms = loss(make(MMD, alpha=0.25, weight=7.0), model, x)
    expected = terms["rec"] + 0.75 * terms["kl"] + 6.25 * terms["mmd"]
    torch.testing.assert_close(terms["loss"].detach(), expected)


def test_an_autoencoder_pays_for_its_image_and_what_its_latent_charges():
    x = torch.rand(4, 1, 1, 1)
    posterior = SimpleNamespace(penalties=lambda: {"norm": torch.tensor([1.0, 2.0, 3.0, 6.0])})
    made = Pass(posterior, torch.zeros(4, 1), Composition(torch.zeros(4, 1, 1, 1)))
    terms = make(AE, gamma="fixed")(made, x, torch.tensor(0), None)
    torch.testing.assert_close(terms["loss"], 0.5 * x.square().mean() + 3)
    assert terms["norm"] == 3
