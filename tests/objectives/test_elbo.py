"""The loss against torch.distributions, and gamma against a hand computation."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.distributions import Bernoulli, Independent, Laplace, Normal, kl_divergence

from genzoo.densities import DiagonalGaussian
from genzoo.objectives.elbo import ELBO
from genzoo.parts import Composition, Pass

SHAPE = (2, 6, 5)


class elbo(ELBO):
    """Called with a function that gives posterior and composition."""

    def __init__(self, **options):
        super().__init__(ELBO.Config(name="elbo", **options), image_shape=SHAPE)

    def forward(self, model, x, step):
        posterior, composition = model(x)
        kl = SimpleNamespace(kl=lambda posterior, z: posterior.kl(z))
        return super().forward(Pass(posterior, posterior.mean, composition), x, step, kl)


def case(seed=0, batch=4, dim=3):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand((2, batch, *SHAPE), generator=generator)
    mean, logvar = torch.randn((2, batch, dim), generator=generator)
    posterior = DiagonalGaussian(mean, logvar)
    return x, y, posterior, lambda _: (posterior, Composition(y))


def step(n=0):
    return torch.tensor(n)


@given(st.integers(0, 10**6), st.floats(0.01, 10), st.floats(0, 10))
def test_mse_with_fixed_gamma(seed, gamma, beta):
    x, y, posterior, model = case(seed)
    terms = elbo(gamma="fixed", gamma_value=gamma, beta=beta)(model, x, step())
    likelihood = Independent(Normal(y, math.sqrt(gamma)), 3)
    at_best = likelihood.log_prob(y)  # the normaliser, which `fixed` leaves out
    rec = (at_best - likelihood.log_prob(x)).mean()
    kl = kl_divergence(Normal(posterior.mean, posterior.variance.sqrt()), Normal(0, 1)).sum(1).mean()
    torch.testing.assert_close(terms["rec"], rec, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(terms["kl"], kl, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(terms["loss"], rec + beta * kl, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(terms["mse"], (x - y).square().mean())


@pytest.mark.parametrize("reconstruction", ["mse", "l1"])
@pytest.mark.parametrize("gamma", ["learned", "optimal"])
def test_exact_likelihoods(reconstruction, gamma):
    x, y, _, model = case()
    objective = elbo(reconstruction=reconstruction, gamma=gamma, beta=0.0)
    terms = objective(model, x, step())
    scale = terms["gamma"]
    law = Normal(y, scale.sqrt()) if reconstruction == "mse" else Laplace(y, scale)
    torch.testing.assert_close(terms["rec"], -Independent(law, 3).log_prob(x).mean(), rtol=1e-5, atol=1e-3)
    if gamma == "optimal":  # no other scale fits better
        for other in (0.9 * scale, 1.1 * scale):
            law = Normal(y, other.sqrt()) if reconstruction == "mse" else Laplace(y, other)
            assert -Independent(law, 3).log_prob(x).mean() > terms["rec"]
    else:
        terms["loss"].backward()
        assert objective.reconstruction.log_gamma.grad != 0


def test_optimal_gradient_is_that_of_the_profile_likelihood():
    x, y, posterior, _ = case()
    y.requires_grad_()
    elbo(gamma="optimal", beta=0.0)(lambda _: (posterior, Composition(y)), x, step())["loss"].backward()
    other = y.detach().clone().requires_grad_()
    (0.5 * math.prod(SHAPE) * (x - other).square().mean().log()).backward()
    torch.testing.assert_close(y.grad, other.grad)


def test_bce():
    x, y, _, model = case()
    terms = elbo(reconstruction="bce", beta=0.0)(model, x, step())
    expected = -Independent(Bernoulli(y, validate_args=False), 3).log_prob(x).mean()
    torch.testing.assert_close(terms["rec"], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("reconstruction", ["mse", "l1"])
def test_balanced_gamma_by_hand(reconstruction):
    """e <- 0.99 e + 0.01 batch error; gamma <- min(gamma, e); both from 1; the loss uses gamma as it was before."""
    objective = elbo(reconstruction=reconstruction, beta=0.0)
    ema = gamma = 1.0
    for seed in range(5):
        x, y, _, model = case(seed)
        y *= 3 if seed == 3 else 1  # an error that grows must not raise gamma
        difference = x - y
        error = float(difference.square().mean() if reconstruction == "mse" else difference.abs().mean())
        terms = objective(model, x, step(seed))
        weight = 0.5 if reconstruction == "mse" else 1.0
        assert float(terms["rec"]) == pytest.approx(weight * math.prod(SHAPE) * error / gamma, rel=1e-4)
        ema = 0.99 * ema + 0.01 * error
        gamma = min(gamma, ema)
        assert float(objective.reconstruction.gamma) == pytest.approx(gamma, rel=1e-6)


def test_gamma_stays_in_eval_mode():
    x, _, _, model = case()
    objective = elbo().eval()
    objective(model, x, step())
    assert objective.reconstruction.gamma == 1 and objective.reconstruction.error_ema == 1
    objective = elbo(gamma="optimal").eval()
    objective(model, x, step())
    assert objective.reconstruction.gamma == 1


def test_beta_warmup_and_free_bits():
    x, _, posterior, model = case()
    objective = elbo(beta=4.0, beta_warmup=10)
    assert [float(objective(model, x, step(n))["beta"]) for n in (0, 5, 10, 99)] == [0, 2, 4, 4]
    terms = elbo(beta=1.0, free_bits=0.7)(model, x, step())
    charged = posterior.kl(posterior.mean).mean(0).clamp(min=0.7).sum()
    torch.testing.assert_close(terms["loss"], terms["rec"] + charged)
    torch.testing.assert_close(terms["kl"], posterior.kl(posterior.mean).sum(1).mean())  # logged as it is


@pytest.mark.parametrize("options", [{"gamma": "learned"}, {"gamma": "balanced"}, {"gamma_value": 2.0}])
def test_bce_refuses_a_scale(options):
    with pytest.raises(ValidationError, match="bce has no scale"):
        elbo(reconstruction="bce", **options)


@pytest.mark.parametrize("reconstruction", ["mse", "bce", "l1"])
def test_finite_and_in_float32_under_autocast(reconstruction):
    x = torch.rand(2, *SHAPE)
    y = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand_as(x).to(torch.bfloat16)
    model = SimpleNamespace(out=(DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 3)), Composition(y)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = elbo(reconstruction=reconstruction)(lambda _: model.out, x, step())
    assert terms["loss"].dtype == torch.float32 and all(torch.isfinite(term) for term in terms.values())


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, 6]))
def test_parts_of_a_batch_move_gamma_as_the_whole_batch(seed, num):
    whole, parts = elbo(), elbo()
    for number in range(4):
        x, y, posterior, model = case(seed + number, batch=6)
        terms = whole(model, x, step(number))
        losses = []
        for i, part in enumerate(x.split(6 // num)):
            rows = slice(i * len(part), (i + 1) * len(part))
            piece = DiagonalGaussian(posterior.mean[rows], posterior.logvar[rows]), Composition(y[rows])
            losses.append(parts(lambda _, piece=piece: piece, part, step(number))["loss"])
        torch.testing.assert_close(torch.stack(losses).mean(), terms["loss"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(parts.reconstruction.gamma, whole.reconstruction.gamma)
        torch.testing.assert_close(parts.reconstruction.error_ema, whole.reconstruction.error_ema)


@pytest.mark.parametrize("options", [{"gamma": "optimal"}, {"gamma": "balanced"}, {"free_bits": 0.7}], ids=str)
def test_two_processes_are_one(monkeypatch, options):
    """The mean of their losses and gradients is that of the whole batch."""
    x, y, posterior, _ = case(batch=6)
    halves = [slice(0, 3), slice(3, 6)]
    sent = {0: [], 1: []}

    def losses(rows, number):
        mean, made = posterior.mean[rows].clone().requires_grad_(), y[rows].clone().requires_grad_()
        own = DiagonalGaussian(mean, posterior.logvar[rows])

        def exchange(tensor, op):
            sent[number].append(tensor.clone())
            if len(sent[1 - number]) >= len(sent[number]):
                tensor += sent[1 - number][len(sent[number]) - 1]

        monkeypatch.setattr(torch.distributed, "all_reduce", exchange)
        loss = elbo(**options)(lambda _: (own, Composition(made)), x[rows], step())["loss"]
        loss.backward()
        return loss.detach(), mean.grad, made.grad

    whole = losses(slice(0, 6), 0)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    losses(halves[0], 0)  # to know what it sends
    two = losses(halves[1], 1)
    sent[0] = []
    one = losses(halves[0], 0)
    torch.testing.assert_close((one[0] + two[0]) / 2, whole[0])
    for i in (1, 2):
        torch.testing.assert_close(torch.cat([one[i], two[i]]) / 2, whole[i])
