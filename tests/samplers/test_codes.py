"""Samplers of codes: toy joint distributions, the cache of keys and values, the order of the codes."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from genzoo.config import build
from genzoo.errors import UserError
from genzoo.registry import SAMPLERS
from genzoo.samplers.codes import pick
from genzoo.samplers.transformer import rotated
from genzoo.stage_two import fit

NUM_CODES = 4


class Codes:
    """A model whose latent's vectors are the codes themselves."""

    def __init__(self):
        self.latent = self

    def vectors(self, codes):
        return codes.float()


def make(name, grid, num_codes=NUM_CODES, **options):
    config = SAMPLERS.get(name).Config(name=name, **options)
    sampler = build(SAMPLERS, config, latent_shape=grid, num_codes=num_codes, grid=grid)
    sampler.bind(Codes())
    return sampler


def pairs(num, seed=0):
    """Codes of a grid of two, and the probability of each pair: none is as its margins say, some never come."""
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.full(NUM_CODES**2, 0.5))
    drawn = rng.choice(NUM_CODES**2, size=num, p=joint)
    return np.stack([drawn // NUM_CODES, drawn % NUM_CODES], 1)[:, None].astype(np.uint8), joint


SMALL = {"hidden_dim": 32, "num_layers": 2, "num_heads": 2, "dropout": 0.0, "lr": 3e-3, "batch_size": 512}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("autoregressive", {}),
        ("autoregressive", {"positions": "rotary"}),
        ("maskgit", {"num_rounds": 2, "choice_temperature": 1e9}),  # in random order: then the draws are exact
    ],
)
def test_pairs_come_as_often_as_they_should(name, options):
    codes, joint = pairs(20000)
    sampler = make(name, (1, 2), steps=600, **SMALL, **options)
    fit(sampler, codes, 0)
    num = 2000 if name == "autoregressive" else 1000
    drawn = sampler.sample(num, torch.Generator().manual_seed(0)).long()[:, 0]
    seen = np.bincount(drawn[:, 0] * NUM_CODES + drawn[:, 1], minlength=NUM_CODES**2)
    often = joint * num >= 5
    seen = np.append(seen[often], seen[~often].sum())
    expected = np.append(joint[often], joint[~often].sum()) * num
    statistic = ((seen - expected) ** 2 / expected).sum()
    assert statistic < scipy.stats.chi2.ppf(0.9999, len(expected) - 1)
    if name == "autoregressive":
        every = torch.cartesian_prod(torch.arange(NUM_CODES), torch.arange(NUM_CODES))[:, None]
        with torch.no_grad():
            learned = sampler.log_prob(every).exp().numpy()
        assert learned.sum() == pytest.approx(1, abs=1e-5)
        assert 0.5 * np.abs(learned - joint).sum() < 0.03
    alone = joint.reshape(NUM_CODES, NUM_CODES)
    alone = np.outer(alone.sum(1), alone.sum(0)).ravel()  # independent codes would be noticed
    expected = np.append(alone[often], alone[~often].sum()) * num
    assert ((seen - expected) ** 2 / expected).sum() > scipy.stats.chi2.ppf(0.9999, len(expected) - 1)


def anew(network, tokens):
    """b t -> b t num_out: one block after the other over all tokens, as in training; nothing is kept of them.

    Products and attention take one token at a time: those of other shapes are rounded otherwise.
    """
    xs = []
    for t in range(tokens.shape[1]):
        x = network.tokens(tokens[:, t : t + 1])
        if network.place is not None:
            x = x + network.place[t]
        if network.level is not None:
            x = x + network.level[t % len(network.level)]
        xs.append(x)
    for block in network.blocks:
        queries, keys, values = [], [], []
        for t, x in enumerate(xs):
            heads = block.queries_keys_values(block.norm_of_attention(x)).unflatten(2, (3, block.num_heads, -1))
            q, k, v = heads.permute(2, 0, 3, 1, 4)
            if network.angles is not None:
                q, k = (rotated(one, network.angles[t : t + 1]) for one in (q, k))
            for some, one in ((queries, q), (keys, k), (values, v)):
                some.append(one)
        for t, q in enumerate(queries):
            seen = torch.cat(keys[: t + 1], 2), torch.cat(values[: t + 1], 2)
            x = xs[t] + block.join(scaled_dot_product_attention(q, *seen).transpose(1, 2).flatten(2))
            xs[t] = x + block.mlp(block.norm(x))
    return torch.cat([network.out(network.norm(x)) for x in xs], 1)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("grid", [(3, 5), (2, 2, 3)])
def test_the_cache_changes_nothing(grid, positions, seed):
    """Logits with the keys and values kept are those without, bit for bit in float32; and so is every draw.

    Against the whole sequence at once, as it is trained, logits are those within rounding, and draws in float64 equal.
    """
    torch.manual_seed(seed)
    sampler = make("autoregressive", grid, num_codes=50, positions=positions)
    with torch.no_grad():
        for parameter in sampler.parameters():  # far from uniform, and no two positions alike
            parameter.mul_(4).add_(torch.randn_like(parameter), alpha=0.05)
    sampler.num_fit.fill_(1)
    sampler.eval()
    kept = []
    hook = sampler.network.register_forward_hook(lambda network, args, logits: kept.append(logits))
    drawn = sampler.in_order(sampler.sample(64, torch.Generator().manual_seed(3)).long())
    hook.remove()
    with torch.no_grad():
        tokens, kept = sampler._tokens(drawn), torch.cat(kept, 1)
        logits = anew(sampler.network, tokens)
        assert torch.equal(kept, logits)
        assert torch.allclose(logits, sampler.network(tokens, causal=True), rtol=1e-4, atol=1e-4 * logits.abs().max())
        generator = torch.Generator().manual_seed(3)
        again = torch.stack([pick(some, generator) for some in logits.unbind(1)], 1)
        assert torch.equal(drawn, again)  # each of these logits is of the codes drawn before it
        sampler.double()
        drawn = sampler.in_order(sampler.sample(64, torch.Generator().manual_seed(3)).long())
        generator, logits = torch.Generator().manual_seed(3), sampler.network(sampler._tokens(drawn), causal=True)
        assert torch.equal(drawn, torch.stack([pick(some.float(), generator) for some in logits.unbind(1)], 1))


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_no_code_sees_those_after_it(positions):
    sampler = make("autoregressive", (2, 2, 2), positions=positions).eval()
    codes = torch.randint(NUM_CODES, (3, 8))
    first = sampler.network(sampler._tokens(codes), causal=True)
    for n in range(8):
        other = codes.clone()
        other[:, n:] = (other[:, n:] + 1) % NUM_CODES
        again = sampler.network(sampler._tokens(other), causal=True)
        assert torch.allclose(first[:, : n + 1], again[:, : n + 1], atol=1e-6)
        assert n == 7 or not torch.allclose(first[:, n + 1], again[:, n + 1], atol=1e-6)


def test_levels_of_one_position_are_neighbours():
    """rvq's codes are levels h w; all levels of a position come before the next position."""
    sampler = make("autoregressive", (3, 2, 2))
    codes = torch.arange(12).view(1, 3, 2, 2)
    assert sampler.in_order(codes).tolist() == [[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]]
    assert torch.equal(sampler.on_grid(sampler.in_order(codes)), codes)


@given(seed=st.integers(0, 999), top_k=st.integers(1, 6), top_p=st.floats(0.01, 1))
@settings(max_examples=50, deadline=None)
def test_what_is_drawn_from_is_the_likeliest(seed, top_k, top_p):
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed))
    of_k = make("autoregressive", (1, 2), num_codes=6, top_k=top_k)._narrowed(logits)
    assert (of_k.isfinite().sum(1) == top_k).all()
    assert (
        of_k.masked_fill(of_k.isinf(), 99).min(1).values >= logits.masked_fill(of_k.isfinite(), -99).max(1).values
    ).all()
    of_p = make("autoregressive", (1, 2), num_codes=6, top_p=top_p)._narrowed(logits)
    for row, kept in zip(logits.softmax(-1), of_p.isfinite(), strict=True):
        ranked, num = row.sort(descending=True).values, int(kept.sum())
        assert row[kept].sum() >= top_p - 1e-5 and ranked[: num - 1].sum() < top_p + 1e-5  # enough, and none too many
        assert torch.equal(row[kept].sort(descending=True).values, ranked[:num])


def test_pick_draws_by_probability():
    p = torch.tensor([0.5, 0.0, 0.3, 0.2])
    drawn = pick(p.log().expand(20000, 4), torch.Generator().manual_seed(0))
    seen = torch.bincount(drawn, minlength=4).numpy()
    assert seen[1] == 0
    assert scipy.stats.chisquare(seen[[0, 2, 3]], 20000 * p[[0, 2, 3]].double().numpy()).pvalue > 1e-4


@pytest.mark.parametrize("name", ["autoregressive", "maskgit"])
def test_refusals(name):
    with pytest.raises(UserError, match="multiple of 2"):
        make(name, (2, 2), hidden_dim=10, num_heads=4)
    with pytest.raises(UserError, match="65,536 at most"):
        make(name, (2, 2), num_codes=2**17)
    with pytest.raises(UserError, match="from 0 to 3"):
        fit(make(name, (2, 2)), np.full((9, 2, 2), 4, np.uint8), 0)
    with pytest.raises(UserError, match="not been fitted"):
        make(name, (2, 2)).sample(1, torch.Generator())


def test_maskgit_keeps_what_it_has_drawn():
    """Each round leaves fewer codes masked, and no code that was kept changes."""
    sampler = make("maskgit", (4, 4), num_rounds=5)
    sampler.num_fit.fill_(1)
    seen = []
    sampler._tokens, tokens = (
        lambda codes, masked: seen.append((codes.clone(), masked.clone())) or tokens(codes, masked),
        sampler._tokens,
    )
    codes = sampler.draw(8, torch.Generator().manual_seed(0))
    nums = [int(masked[0].sum()) for _, masked in seen]
    assert nums[0] == 16 and all(a > b > 0 for a, b in itertools.pairwise(nums)) and len(nums) == 5
    assert all((masked.sum(1) == n).all() for (_, masked), n in zip(seen, nums, strict=True))
    for then, masked in seen[1:]:
        assert torch.equal(then[~masked], codes[~masked])
