"""Discrete latents against vector-quantize-pytorch used directly and against formulas, and how a codebook learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import multiprocessing

from genzoo.codes import Codebook, CodebookConfig, straight_through
from genzoo.config import build, config_of
from genzoo.registry import LATENTS

DISCRETE = {
    "vq": {"num_codes": 7, "dim": 3},
    "rvq": {"num_codes": 7, "dim": 3, "num_levels": 3},
    "fsq": {"levels": [3, 4, 5]},
    "lfq": {"num_bits": 4},
}


def latent(name: str, in_shape=(6, 4, 2), **options):
    torch.manual_seed(0)
    return build(LATENTS, config_of(LATENTS, name)(name=name, **{**DISCRETE[name], **options}), in_shape=in_shape)


def reference(name: str):
    return getattr(pytest.importorskip("vector_quantize_pytorch"), name)


def encoded(made, num: int = 5):
    """A latent's posterior of random features in training mode, and the encoder's vectors, b d h w."""
    features = 2 * torch.randn(num, *made.out_shape)
    posterior = made(features)
    return posterior, made.code(features).float().detach()


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("in_shape", [(6, 4, 2), (6,)])
def test_kl_to_uniform_codes_is_the_log_of_their_number_at_each_position(name, in_shape):
    made = latent(name, in_shape)
    posterior, _ = encoded(made)
    grid = made.codes(posterior.mean).shape[1:]
    assert math.prod(grid) == (8 if len(in_shape) == 3 else 16) * (3 if name == "rvq" else 1)
    kl = posterior.kl(posterior.sample())
    torch.testing.assert_close(kl, torch.full((5, *grid), math.log(made.num_codes)))
    # all mass on one code against log mass of the prior: the same number
    torch.testing.assert_close(kl.flatten(1).sum(1), -made.prior.log_prob(posterior.mean))


@pytest.mark.parametrize("name", DISCRETE)
def test_the_prior_draws_every_code_as_often(name):
    made = latent(name)
    codes = made.codes(made.prior.sample(2000, torch.Generator().manual_seed(0))).flatten()
    counts = torch.bincount(codes, minlength=made.num_codes).double()
    expected = len(codes) / made.num_codes
    chi = ((counts - expected).square() / expected).sum()
    assert chi < made.num_codes + 6 * (2 * made.num_codes) ** 0.5


@pytest.mark.parametrize("name", DISCRETE)
def test_the_gradient_goes_straight_through(name):
    """Of a draw: to the encoder's vectors as they are (fsq: bounded); of `expand`, to z as if nothing was rounded."""
    made = latent(name).eval()
    posterior, _ = encoded(made)
    z = posterior.sample()
    assert torch.equal(z, posterior.mean) and not posterior.variance.any()
    upstream = torch.randn(z.shape)
    (gradient,) = torch.autograd.grad(z, posterior.through, upstream, retain_graph=True)
    assert torch.equal(gradient, upstream)
    free = (z.detach() + 0.1 * torch.randn(z.shape)).requires_grad_()
    snapped = made.vectors(made.codes(free)).detach().requires_grad_()
    for of in (free, snapped):
        made.expand(of).square().sum().backward()
    torch.testing.assert_close(free.grad, snapped.grad)
    assert free.grad.any()


def test_straight_through_is_exact():
    through = torch.tensor([1e8, 3.0], requires_grad=True)
    made = straight_through(torch.tensor([0.1, 0.2]), through)
    assert made.tolist() == torch.tensor([0.1, 0.2]).tolist()
    made.sum().backward()
    assert through.grad.tolist() == [1, 1]


def test_vq_takes_the_nearest_and_charges_the_distance():
    made = latent("vq", commitment=0.5)
    posterior, x = encoded(made)
    codebook = made.codebook.vectors.numpy()
    rows = x.movedim(1, -1).numpy()
    distances = ((rows[..., None, :] - codebook) ** 2).sum(-1)
    assert np.array_equal(made.codes(posterior.mean).numpy(), distances.argmin(-1))
    assert np.array_equal(made.codes(x).numpy(), distances.argmin(-1))
    np.testing.assert_allclose(
        posterior.penalties()["commitment"].detach(), 0.5 * distances.min(-1).sum((1, 2)), rtol=1e-4
    )


def test_vq_is_the_packages():
    theirs = reference("VectorQuantize")(dim=3, codebook_size=7, commitment_weight=1.0).eval()
    made = latent("vq").eval()
    theirs._codebook.embed.copy_(made.codebook.vectors[None])
    posterior, x = encoded(made)
    quantised, indices, _ = theirs(x.movedim(1, -1).flatten(1, 2))
    assert torch.equal(made.codes(posterior.mean).flatten(1), indices)
    torch.testing.assert_close(posterior.mean.movedim(1, -1).flatten(1, 2), quantised)


def test_rvq_is_the_packages():
    theirs = reference("ResidualVQ")(dim=3, codebook_size=7, num_quantizers=3).eval()
    made = latent("rvq").eval()
    for layer, codebook in zip(theirs.layers, made.codebooks, strict=True):
        layer._codebook.embed.copy_(codebook.vectors[None])
    posterior, x = encoded(made)
    quantised, indices, _ = theirs(x.movedim(1, -1).flatten(1, 2))
    assert torch.equal(made.codes(posterior.mean).flatten(2).movedim(1, -1), indices)
    total = sum(posterior.mean.chunk(3, 1))
    torch.testing.assert_close(total.movedim(1, -1).flatten(1, 2), quantised)
    # the encoder has the decoder's gradient once, not once a level
    features = torch.randn(2, 6, 4, 2)
    x = made.code(features)
    (gradient,) = torch.autograd.grad(sum(made(features).sample().chunk(3, 1)).sum(), made.code.conv.bias)
    torch.testing.assert_close(gradient, torch.full((3,), x[:, 0].numel() * 1.0))


def test_rvq_levels_leave_less_and_less():
    made = latent("rvq", num_codes=64, num_levels=4)
    for _ in range(30):
        posterior, x = encoded(made, 64)
    left = [(x - sum(posterior.mean.chunk(4, 1)[: n + 1])).square().mean().item() for n in range(4)]
    assert left[0] > 2 * left[1] > 4 * left[2]


@pytest.mark.parametrize("levels", [[3], [8, 5, 5, 5], [4, 4], [7, 16]])
def test_fsq_is_the_packages(levels):
    theirs = reference("FSQ")(levels)
    made = latent("fsq", levels=levels)
    x = 3 * encoded(made, 50)[1]
    assert made.num_codes == math.prod(levels)
    z = made._levels_to_z(made._nearest(made._bounded(x)))
    quantised, indices = theirs(x)
    torch.testing.assert_close(z, quantised)
    assert torch.equal(made.codes(z), indices.long())
    torch.testing.assert_close(made.vectors(indices), quantised)


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_fsq_reaches_every_level_and_no_other(count):
    """Odd: symmetric. Even: one more below zero (arXiv 2309.15505, appendix A)."""
    made = latent("fsq", levels=[count])
    x = torch.linspace(-9, 9, 2001).view(-1, 1, 1, 1)
    numbers = made._nearest(made._bounded(x)).flatten()
    assert numbers.unique().tolist() == list(range(count))
    assert (numbers.diff() >= 0).all()
    z = made._levels_to_z(numbers)
    assert (z.min(), z.max()) == (-1, (count - 1 - count // 2) / (count // 2))
    assert made._bounded(torch.zeros(1, 1, 1, 1)).item() == pytest.approx(0, abs=1e-6)
    assert made.codes(torch.tensor([[[[-7.0]]], [[[7.0]]]])).flatten().tolist() == [0, count - 1]


@pytest.mark.parametrize("temperature", [0.1, 2.0])
def test_lfq_is_the_packages(temperature):
    theirs = reference("LFQ")(dim=4, codebook_size=16, entropy_loss_weight=1.0, commitment_loss_weight=1.0)
    made = latent("lfq", temperature=temperature, commitment=1.0, diversity=0.7)
    posterior, x = encoded(made, 9)
    (quantised, indices, _), parts = theirs.train()(x, inv_temperature=1 / temperature, return_loss_breakdown=True)
    torch.testing.assert_close(posterior.mean, quantised)
    assert torch.equal(made.codes(posterior.mean), indices.long())
    charged = {name: value.mean().item() for name, value in posterior.penalties().items()}
    assert charged["entropy"] / 8 == pytest.approx(parts.per_sample_entropy.item(), rel=1e-2, abs=1e-2)
    assert -charged["diversity"] / 8 / 0.7 == pytest.approx(parts.batch_entropy.item(), rel=1e-2, abs=1e-2)
    assert charged["commitment"] / x[0].numel() == pytest.approx(parts.commitment.item(), rel=1e-4)


def test_lfq_entropies_are_those_of_the_whole_table():
    """Every code's probability written out, from the softmax of the definition."""
    made = latent("lfq", temperature=0.8)
    _, x = encoded(made, 9)
    table = torch.tensor([[2 * (code >> (3 - bit) & 1) - 1.0 for bit in range(4)] for code in range(16)])
    p = torch.softmax(2 * x.movedim(1, -1).flatten(0, 2).double() @ table.double().T / 0.8, 1)
    own = -(p * p.log()).sum(1).view(9, -1).sum(1)
    mean = p.mean(0)
    charged = made._entropies(x)
    torch.testing.assert_close(charged["entropy"].double(), own, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        charged["diversity"].double(), (8 * (mean * mean.log()).sum()).expand(9), rtol=1e-4, atol=1e-4
    )
    assert set(made.eval()._entropies(x)) == {"entropy"}


def test_lfq_of_many_bits_sums_the_entropies_of_groups():
    made = latent("lfq", num_bits=24)
    assert made.num_codes == 2**24
    charged = made._entropies(torch.zeros(3, 24, 4, 2))
    torch.testing.assert_close(charged["entropy"], torch.full((3,), 8 * 24 * math.log(2)))
    torch.testing.assert_close(charged["diversity"], torch.full((3,), -8 * 24 * math.log(2)))


def clusters(num: int = 4000, dim: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors around 8 centres on a circle, 12 standard deviations apart."""
    generator = torch.Generator().manual_seed(seed)
    angle = torch.arange(8) * math.pi / 4
    centres = 5 + 16 * torch.stack([angle.cos(), angle.sin()], 1)
    which = torch.randint(8, (num,), generator=generator)
    return centres, centres[which] + torch.randn(num, dim, generator=generator)


def codebook(**options) -> Codebook:
    torch.manual_seed(0)
    return Codebook(CodebookConfig(dim=2, **options)).train()


def test_a_codebook_finds_the_clusters():
    """From vectors near 0, far from all of them, in a few batches: every cluster has codes, and every code a cluster."""
    made = codebook(num_codes=24)
    for seed in range(10):
        centres, x = clusters(seed=seed)
        made(x)
    _, vectors = made.eval()(clusters(seed=99)[1])
    error = (vectors - clusters(seed=99)[1]).square().sum(1).mean()
    assert error < 2  # of vectors with variance 1 in each of two directions about their centre
    distances = torch.cdist(made.vectors, centres)
    assert distances.min(1).values.max() < 4 and distances.argmin(1).unique().numel() == 8


def test_a_codebook_is_the_running_average():
    """Two codes, far apart: e_k = sum_t w_t n_kt mean_kt / sum_t w_t n_kt with the decays written out."""
    made = codebook(num_codes=2, decay=0.9, revive_below=0.0)
    made.vectors.copy_(torch.tensor([[-5.0, 0.0], [5.0, 0.0]]))
    numerator, denominator = np.zeros((2, 2)), np.zeros(2)
    for t in range(120):
        x = torch.randn(50, 2) + torch.tensor([5.0, 0.0]) * (2 * (torch.rand(50, 1) < 0.3) - 1)
        codes, vectors = made(x)
        assert torch.equal(codes, (x[:, 0] > 0).long())
        assert torch.equal(vectors, made.vectors[codes])
        decay = min(0.9, t / (t + 10))
        for k in range(2):
            own = x[codes == k].numpy()
            numerator[k] = decay * numerator[k] + (1 - decay) * own.sum(0) / 50
            denominator[k] = decay * denominator[k] + (1 - decay) * len(own) / 50
    made(torch.zeros(1, 2))  # the vectors move at the beginning of a pass
    np.testing.assert_allclose(made.vectors.numpy(), numerator / denominator[:, None], rtol=1e-4)


def test_vectors_stay_within_a_step_and_in_eval_mode():
    made = codebook(num_codes=8)
    made(clusters()[1])
    _, x = clusters(seed=1)
    codes, vectors = made(x)
    assert torch.equal(made.nearest(x), codes) and torch.equal(made.vectors[codes], vectors)
    state = {name: buffer.clone() for name, buffer in made.named_buffers()}
    made.eval()(x)
    assert all(torch.equal(buffer, state[name]) for name, buffer in made.named_buffers())


def test_dead_codes_start_anew_on_vectors_of_the_batch():
    _, x = clusters()
    made = codebook(num_codes=8)
    made.vectors.copy_(torch.full((8, 2), 1e3))  # all but one lie where nothing is
    made.vectors[3] = x.mean(0)
    made(x), made(x)
    apart = torch.cdist(made.vectors, x).min(1).values
    assert ((apart < 1e-4).sum(), apart[3] > 1e-3) == (7, True)
    never = codebook(num_codes=8, revive_below=0.0)
    never.vectors.copy_(torch.full((8, 2), 1e3))
    never.vectors[3] = x.mean(0)
    never(x), never(x)
    assert (never.vectors == 1e3).all(1).sum() == 7


def test_distances_in_parts_are_the_same(monkeypatch):
    a, b = codebook(num_codes=8), codebook(num_codes=8)
    _, x = clusters(400)
    torch.manual_seed(1)
    a(x), a(x)
    monkeypatch.setattr("genzoo.codes.MAX_SCORES", 100)
    torch.manual_seed(1)
    b(x), b(x)
    for name, buffer in a.named_buffers():
        torch.testing.assert_close(buffer, b.get_buffer(name), rtol=1e-5, atol=1e-5)


def _half(rank: int, address: str, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    made, still = codebook(num_codes=8), codebook(num_codes=8, revive_below=0.0)
    torch.manual_seed(rank)  # as in training: each process has chance of its own
    for seed in range(5):
        made(clusters(400, seed=seed)[1][rank::2])
        still(clusters(400, seed=seed)[1][rank::2])
    lfq = latent("lfq")
    x = torch.randn(8, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    x = x[rank::2].clone().requires_grad_()
    charged = lfq._entropies(x)["diversity"]
    charged.mean().backward()
    torch.save(
        {**dict(made.named_buffers()), "still": still.total, "diversity": charged.detach(), "gradient": x.grad},
        f"{folder}/{rank}.pt",
    )
    torch.distributed.destroy_process_group()


def test_processes_share_a_codebook(tmp_path):
    """Two processes with halves of a batch hold one codebook, whose averages are those of the whole batch."""
    address = f"file://{tmp_path}/meet"
    multiprocessing.spawn(_half, (address, str(tmp_path)), nprocs=2)
    a, b = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(a[name], b[name]) for name in ("vectors", "use", "total", "num_passes"))
    still = codebook(num_codes=8, revive_below=0.0)
    for seed in range(5):
        still(clusters(400, seed=seed)[1])
    torch.testing.assert_close(a["still"], still.total)
    lfq = latent("lfq")
    x = torch.randn(8, 4, 2, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    whole = lfq._entropies(x)["diversity"]
    whole.mean().backward()
    torch.testing.assert_close(a["diversity"], whole[:4].detach())
    torch.testing.assert_close(torch.stack([a["gradient"], b["gradient"]], 1).flatten(0, 1) / 2, x.grad)
