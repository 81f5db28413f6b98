"""The ladder: standard coordinates, a KL that Monte Carlo confirms, groups that see those before them alone."""

from __future__ import annotations

import torch

from genzoo.config import build, config_of
from genzoo.registry import LATENTS


def ladder(in_shape=(4, 4, 3), **options):
    torch.manual_seed(0)
    made = build(LATENTS, config_of(LATENTS, "ladder")(name="ladder", dim=2, **options), in_shape=in_shape)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.2 * torch.randn(p.shape))
    return made


def test_groups_go_from_a_pixel_to_the_map():
    made = ladder(groups_per_scale=2)
    assert made.sizes == [(1, 1), (2, 2), (4, 3)]
    assert made.shape == (2 * 2 * (1 + 4 + 12),)
    z = torch.arange(made.shape[0]).float()[None]
    assert torch.equal(torch.cat([part.flatten(1) for part in made.split(z)], 1), z)


def test_the_kl_is_that_of_many_draws():
    """E_q[kl(z)] = E_q[log q(z|x) - log N(z; 0, I)], each estimated from draws of its own."""
    made, num = ladder(), 20000
    x = torch.randn(1, 4, 4, 3).expand(num, -1, -1, -1)
    with torch.no_grad():
        posterior = made(x)
        kl = posterior.kl(posterior.sample()).sum(1).double()
        z = posterior.sample()
        ratio = (posterior.log_prob(z) - made.prior.log_prob(z)).double()
    error = ((kl.var() + ratio.var()) / num).sqrt()
    assert abs(kl.mean() - ratio.mean()) < 5 * error
    assert error < 0.05 * kl.mean()
    assert kl.var() < ratio.var()  # what the closed form within each group is good for
    assert (kl > 0).all()


def test_the_density_integrates_to_one():
    """E_{N(0, I)}[q(z|x) / p(z)] = 1, with a posterior near the prior: z is in the coordinates in which p is N(0, I)."""
    made, num = ladder((4, 2, 1)), 50000
    with torch.no_grad():
        for p in made.posteriors.parameters():
            p.mul_(0.3)
        posterior = made(torch.randn(1, 4, 2, 1))
        z = made.prior.sample(num, torch.Generator().manual_seed(0))
        weight = (posterior.log_prob(z.unsqueeze(1)).squeeze(1) - made.prior.log_prob(z)).double().exp()
    assert abs(weight.mean() - 1) < 5 * weight.std() / num**0.5
    assert 0.01 < weight.std() < 10


def test_physical_coordinates_are_the_standard_ones_moved_by_the_prior():
    """Whatever the learned prior of a group, the state after it depends on z = mu_p + sigma_p u alone."""
    made = ladder()
    z = torch.randn(1, *made.shape)
    before = made.expand(z)
    with torch.no_grad():  # a prior with twice the sigma, for the last group; half the noise is then the same z
        made.priors[-1].bias.zero_()
        made.priors[-1].weight.zero_()
        standard = made.expand(z)
        made.priors[-1].bias[2:] = 2 * torch.tensor(2.0).log()
        half = z.clone()
        half[:, -made.num_variables[-1] :] /= 2
        torch.testing.assert_close(made.expand(half), standard, rtol=1e-2, atol=1e-2)
    assert not torch.allclose(before, standard)


def test_a_group_sees_those_before_it_alone():
    made = ladder()
    posterior = made(torch.randn(1, 4, 4, 3))
    z = posterior.sample().detach()
    start, end = made.num_variables[0], sum(made.num_variables[:2])
    moved = z.clone()
    moved[:, start:end] += 1
    a, b = posterior._at(z), posterior._at(moved)
    assert torch.equal(a.mean[:, :end], b.mean[:, :end])
    assert (a.mean[:, end:] != b.mean[:, end:]).all()


def test_a_pass_is_not_made_again_for_the_last_draw():
    made = ladder()
    posterior = made(torch.randn(2, 4, 4, 3))
    z = posterior.sample()
    kl = posterior.kl(z)
    again = made(torch.zeros(2, 4, 4, 3))
    again.seen = posterior.seen
    torch.testing.assert_close(kl, again.kl(z))
    calls = []
    hook = made.start_hook = made.down[0].register_forward_hook(lambda *_: calls.append(1))
    posterior.kl(z), posterior.log_prob(z)
    hook.remove()
    assert len(calls) == 1  # by log_prob, whose draws may be others'
