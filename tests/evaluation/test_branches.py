import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from genzoo.evaluation.branches import BranchDiagnostics, describe
from genzoo.evaluation.latent import latent_diagnostics
from genzoo.parts import Composition

ROWS, COLUMNS = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
CHECKERBOARD = (ROWS + COLUMNS) % 2


def contours(radii=(4, 8, 12)):
    """Rings two pixels wide, like the outlines in a drawing."""
    distance = torch.hypot(ROWS - 15.3, COLUMNS - 14.1)
    return sum(((distance - radius).abs() < 1).float() for radius in radii)


def compose(sigma, y1=0.2, y2=0.8, batch=3):
    """A batch of equal compositions; branches may be numbers."""
    sigma = sigma.expand(batch, 1, 32, 32)
    y1, y2 = (torch.as_tensor(y).float().expand(batch, 3, 32, 32) for y in (y1, y2))
    return Composition(torch.lerp(y2, y1, sigma), {"y1": y1, "y2": y2}, {"sigma": sigma})


def summary(*compositions):
    diagnostics = BranchDiagnostics()
    for composition in compositions:
        diagnostics.add(composition)
    return diagnostics.summary()


@pytest.mark.parametrize(
    "sigma, kind",
    [
        (CHECKERBOARD, "syntactic"),
        (0.5 + 0.1 * (CHECKERBOARD - 0.5), "syntactic"),
        ((COLUMNS % 2), "syntactic"),
        ((ROWS % 3 == 0).float(), "syntactic"),
        (0.7 * CHECKERBOARD + 0.3 * contours(), "syntactic"),
        (contours(), "semantic"),
        ((torch.hypot(ROWS - 15, COLUMNS - 15) - 9).abs().lt(0.5).float(), "semantic"),
        ((ROWS == COLUMNS).float(), "semantic"),
        ((ROWS > 15).float(), "semantic"),
        (torch.sigmoid((COLUMNS - 16) / 4), "semantic"),
        (0.9 * contours() + 0.1 * CHECKERBOARD, "semantic"),
        (torch.ones(32, 32), "collapsed"),
        (torch.zeros(32, 32) + 0.001 * CHECKERBOARD, "collapsed"),
        (torch.full((32, 32), 0.5), "collapsed"),
    ],
)
def test_kind(sigma, kind):
    assert summary(compose(sigma))["kind"] == kind


@pytest.mark.parametrize("sigma", [CHECKERBOARD, contours()])
def test_equal_branches_are_a_collapse_whatever_the_map(sigma):
    split = summary(compose(sigma, 0.5, 0.502))
    assert split["kind"] == "collapsed"
    assert "same image" in describe(split)


def test_numbers_of_a_checkerboard():
    split = summary(compose(CHECKERBOARD), compose(CHECKERBOARD, batch=1))
    assert split["sigma_mean"] == pytest.approx(0.5)
    assert split["sigma_entropy"] == pytest.approx(0, abs=1e-6)
    assert split["sigma_high_frequency"] == pytest.approx(1)
    assert split["sigma_contrast"] == pytest.approx(0.5)
    assert split["branch_distance"] == pytest.approx(0.6)
    assert split["num_images"] == 4
    assert summary(compose(torch.full((32, 32), 0.5)))["sigma_entropy"] == pytest.approx(1)


def test_high_frequency_share_against_a_direct_fourier_sum():
    sigma = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    high = total = 0.0
    for u in range(6):
        for v in range(5):
            rows, columns = np.meshgrid(np.arange(6), np.arange(5), indexing="ij")
            energy = abs((sigma.numpy() * np.exp(-2j * np.pi * (u * rows / 6 + v * columns / 5))).sum()) ** 2
            f = max(min(u, 6 - u) / 6, min(v, 5 - v) / 5)
            total += energy * (u + v > 0)
            high += energy * (f >= 1 / 3 - 1e-6)
    y = torch.rand(1, 1, 6, 5)
    split = summary(Composition(y, {"y1": y, "y2": 1 - y}, {"sigma": sigma[None, None]}))
    assert split["sigma_high_frequency"] == pytest.approx(high / total, rel=1e-5)


def test_three_branches():
    maps = torch.softmax(torch.stack([contours(), ROWS / 16, COLUMNS / 16]) * 3, dim=0)[:, None, None]
    branches = torch.rand(3, 2, 3, 1, 1).expand(3, 2, 3, 32, 32)
    image = (maps * branches).sum(0)
    split = summary(
        Composition(
            image,
            {f"y{k}": y for k, y in enumerate(branches, 1)},
            {f"w{k}": w.expand(2, 1, 32, 32) for k, w in enumerate(maps, 1)},
        )
    )
    assert sum(split["weights"]) == pytest.approx(1)
    assert split["sigma_mean"] == pytest.approx(split["weights"][0]) == pytest.approx(float(maps[0].mean()))
    assert split["kind"] == "semantic"
    assert "3 branches" in describe(split)


def test_a_stuck_map_is_said_in_words():
    assert "branch 2 alone" in describe(summary(compose(torch.zeros(32, 32))))
    assert "flat" in describe(summary(compose(torch.full((32, 32), 0.5))))
    assert "alternate from pixel to pixel" in describe(summary(compose(CHECKERBOARD)))


def test_one_decoder_has_no_split():
    assert summary(Composition(torch.rand(2, 1, 8, 8))) is None
    assert "no split" in describe(None)


def test_latents_that_carry_nothing_are_counted():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(4000, 3, generator=generator) * torch.tensor([1.0, 0.1, 0.0])
    variance = torch.tensor([0.01, 0.5, 0.99]).expand(4000, 3)
    record = latent_diagnostics(mean, variance)
    assert record["num_latents"] == 3
    assert record["inactive_by_mean_variance"] == 2
    assert record["inactive_by_posterior_variance"] == 1
    assert record["variance_law"]["max"] == pytest.approx(1.01, abs=0.05)
    assert record["variance_law"]["min"] == pytest.approx(0.51, abs=0.01)
    assert "note" not in record


@pytest.mark.parametrize(("num_active", "said"), [(0, "no latent variable knows"), (1, "only 1 of 40"), (2, "")])
def test_a_collapsed_posterior_is_said_with_the_remedy(num_active, said):
    """Active: the mean moves and the posterior is no prior; either alone is not enough."""
    scale = torch.zeros(40)
    scale[:num_active], scale[-1] = 1.0, 1.0
    variance = torch.full((40,), 0.99)
    variance[:num_active], variance[-2] = 0.1, 0.1
    mean = torch.randn(500, 40, generator=torch.Generator().manual_seed(0)) * scale
    record = latent_diagnostics(mean, variance.expand(500, 40))
    assert bool(said) == ("note" in record)
    if said:
        assert said in record["note"] and "objective.beta_warmup" in record["note"]
        assert "note" not in latent_diagnostics(mean, variance.expand(500, 40), standard_normal=False)


@pytest.mark.parametrize(("num", "spread", "said"), [(7, 0.3, True), (7, 2.0, False), (1, 0.9, False)])
def test_a_posterior_that_holds_next_to_nothing_has_collapsed_however_many_variables_move(num, spread, said):
    """Each of `num` variables has KL(N(mu, s^2) || N(0, 1)), which torch says; of a single one a little is enough."""
    generator = torch.Generator().manual_seed(0)
    mean = spread * torch.randn(3000, num, generator=generator)
    std = torch.full((3000, num), 0.9)
    record = latent_diagnostics(mean, std.square())
    kl = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(1).mean().item()
    assert (kl < min(3, 0.1 * num)) == said == ("note" in record)
    if said:
        assert f"its KL is {kl:.2g} nats per image" in record["note"] and "objective.beta_warmup" in record["note"]


@pytest.mark.parametrize(
    "sigma", [CHECKERBOARD, ROWS % 3 == 0, contours(), torch.rand(32, 32), torch.full((32, 32), 0.5)]
)
def test_histogram_and_spectrum_tell_the_same_as_the_summary(sigma):
    split = summary(compose(sigma.float()), compose(sigma.float()))
    assert sum(split["sigma_spectrum"][10:]) == pytest.approx(split["sigma_high_frequency"], abs=1e-4)
    assert sum(split["sigma_histogram"]) == pytest.approx(1, abs=1e-4)
    counts = np.histogram(sigma.float().numpy(), 32, (0, 1))[0] / sigma.numel()
    assert split["sigma_histogram"] == pytest.approx(counts.tolist(), abs=1e-3)


def test_a_wave_lies_in_the_ring_of_its_frequency():
    for period, ring in ((2, 14), (4, 7), (8, 3), (16, 1), (32, 0)):
        wave = 0.5 + 0.4 * torch.cos(2 * torch.pi * COLUMNS / period)
        assert summary(compose(wave))["sigma_spectrum"][ring] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("shape", [(5,), (3, 2, 2)])
def test_variances_of_each_variable_or_channel(shape):
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(200, *shape, generator=generator) * torch.arange(shape[0]).view(-1, *[1] * (len(shape) - 1))
    variance = torch.rand(200, *shape, generator=generator)
    found = latent_diagnostics(mean, variance)["variables"]
    expected = [mean[:, d].reshape(200, -1).numpy().var(axis=0).mean() for d in range(shape[0])]
    assert found["mean_variance"] == pytest.approx(expected, rel=1e-3)
    assert found["posterior_variance"] == pytest.approx(
        [float(variance[:, d].mean()) for d in range(shape[0])], rel=1e-3
    )
