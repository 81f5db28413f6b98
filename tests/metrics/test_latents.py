"""What latents hold: against closed forms, and against loops over their definitions."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from genzoo.config import parse, part
from genzoo.errors import UserError
from genzoo.evaluation.scorer import make_metric
from genzoo.registry import METRICS

spec = importlib.util.spec_from_file_location("likelihoods", Path(__file__).with_name("test_nll.py"))
likelihoods = importlib.util.module_from_spec(spec)
spec.loader.exec_module(likelihoods)
model_of, noise, objective_of = likelihoods.model_of, likelihoods.noise, likelihoods.objective_of
on_two_processes, trained = likelihoods.on_two_processes, likelihoods.trained


def score(name, made, seed=0):
    with torch.no_grad():
        return make_metric(parse(part(METRICS), {"name": name}, name)).score(made, seed)


def plain(latent, **parts):
    return model_of(latent=latent, head={"name": "single", "decoder": {"name": "mlp", "hidden_dims": [8]}}, **parts)


def posteriors(mean, logvar):
    """A model whose posteriors of n images are these, n d each; and its images, told apart by their first two pixels."""
    model, images = plain({"name": "gaussian", "dim": mean.shape[1]}), noise(len(mean))
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.arange(len(mean)) % 256, np.arange(len(mean)) // 256
    encoded = model.latent.forward

    def encode(x):
        pixels = (255 * x[:, 0, 0, :2]).round().long()
        rows = pixels[:, 0] + 256 * pixels[:, 1]
        made = encoded(model.encoder(x))
        made.mean, made.logvar = mean[rows], logvar[rows]
        return made

    model.encode = encode
    return trained(model, objective_of(), images)


def draws(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_active_units_are_counted_by_the_variance_of_the_mean():
    mean = draws(0, 400, 5) * torch.tensor([1.0, 0.3, 0.05, 0.0, 0.1])  # variances 1, 0.09, 0.0025, 0 and 0.01
    mean[:, 4] *= 0.10001 / mean[:, 4].std()
    made = score("active_units", posteriors(mean, torch.zeros(400, 5)))["active_units"]
    expected = int((np.var(mean.numpy(), axis=0, ddof=1) > 0.01).sum())
    assert made["value"] == expected and made["found"]["num_units"] == 5
    assert made["standard_error"] == pytest.approx(0.5, abs=0.02)  # one of them is just at the threshold
    with pytest.raises(UserError, match="no unit"):
        score("active_units", trained(plain({"name": "vmf", "dim": 4}), objective_of(), noise(8)))


def test_surgery_is_a_loop_over_pairs_and_adds_up_to_the_kl():
    """Many draws of a few posteriors, their mixture in closed form; I + KL(q(z)||p) = mean KL, in closed form, too."""
    mean, logvar = draws(1, 40, 2), 0.5 * draws(2, 40, 2) - 1
    made = posteriors(mean.repeat(15, 1), logvar.repeat(15, 1))  # every posterior is there alike, so q(z) is the same
    information, aggregate = score("mutual_information", made), score("aggregate_kl", made)
    information, aggregate = information["mutual_information"], aggregate["aggregate_kl"]
    m, v = mean.double().numpy(), logvar.double().exp().numpy()
    z = m[:, None] + np.sqrt(v)[:, None] * np.random.RandomState(0).randn(40, 400, 2)  # 40 400 2

    def log_normal(z, mean, variance):
        return (-0.5 * (z - mean) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)).sum(-1)

    own = log_normal(z, m[:, None], v[:, None])
    mixture = np.log(np.mean([np.exp(log_normal(z, *one)) for one in zip(m, v, strict=True)], axis=0))
    for entry, values in ((information, own - mixture), (aggregate, mixture - log_normal(z, 0, np.ones(2)))):
        noise_of_loop = values.std() / values.size**0.5
        assert abs(entry["value"] - values.mean()) < 3 * math.hypot(entry["standard_error"], noise_of_loop)
    kl = 0.5 * (m**2 + v - 1 - np.log(v)).sum(1).mean()
    total = information["value"] + aggregate["value"]
    assert abs(total - kl) < 4 * math.hypot(information["standard_error"], aggregate["standard_error"])
    assert "note" not in information


def test_posteriors_that_are_apart_reach_the_bound_and_equal_ones_tell_nothing():
    apart = 100 * torch.arange(50.0)[:, None]
    made = score("mutual_information", posteriors(apart, torch.zeros(50, 1)))["mutual_information"]
    assert made["value"] == pytest.approx(math.log(50)) and "near log N" in made["note"]
    made = posteriors(torch.zeros(50, 1), torch.zeros(50, 1))
    assert score("mutual_information", made)["mutual_information"]["value"] == pytest.approx(0, abs=1e-5)
    assert score("aggregate_kl", made)["aggregate_kl"]["value"] == pytest.approx(0, abs=1e-5)


CODES = {"name": "vq", "num_codes": 4, "dim": 3, "num_positions": 2}


def test_information_of_codes_is_the_entropy_of_their_grids():
    made = trained(plain(CODES), objective_of("ae"), noise(90))
    grids = made.model.latent.codes(made.mean).flatten(1).numpy()
    _, counts = np.unique(grids, axis=0, return_counts=True)
    entropy = -(counts / 90 * np.log(counts / 90)).sum()
    assert score("mutual_information", made)["mutual_information"]["value"] == pytest.approx(entropy)
    assert score("aggregate_kl", made)["aggregate_kl"]["value"] == pytest.approx(2 * math.log(4) - entropy, rel=1e-5)


@pytest.mark.parametrize("latent", [{**CODES, "num_codes": 40}, {**CODES, "name": "rvq", "num_levels": 3}])
def test_codebooks_by_level_with_a_jackknife(latent):
    made = trained(plain(latent), objective_of("ae"), noise(30))
    codes = made.model.latent.codes(made.mean).reshape(30, -1, 2).numpy()  # n level position
    num_codes = latent["num_codes"]

    def use(codes):
        return np.mean([len(np.unique(level)) / num_codes for level in codes.swapaxes(0, 1)])

    entropies = []
    for level in codes.swapaxes(0, 1):
        shares = np.unique(level, return_counts=True)[1] / level.size
        entropies.append(-(shares * np.log(shares)).sum())
    found = score("codebook", made)
    assert found["codebook_use"]["value"] == pytest.approx(use(codes))
    assert found["codebook_perplexity"]["value"] == pytest.approx(np.exp(entropies).mean())
    left_out = np.array([use(np.delete(codes, k, axis=0)) for k in range(30)])
    error = (29 / 30 * ((left_out - left_out.mean()) ** 2).sum()) ** 0.5
    assert found["codebook_use"]["standard_error"] == pytest.approx(error, rel=1e-5)
    assert found["codebook_perplexity"]["standard_error"] >= 0


def test_rate_and_distortion_are_the_kl_and_the_error_of_a_draw():
    mean, logvar = draws(3, 300, 3), draws(4, 300, 3) - 2
    made = posteriors(mean, logvar)
    found = score("rate_distortion", made)
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1)
    assert found["rate"]["value"] == pytest.approx(float(kl.mean()), rel=1e-5)
    assert found["rate"]["standard_error"] == pytest.approx(float(kl.std()) / 300**0.5, rel=1e-4)
    x = torch.cat([x for _, x, _ in made.batches("", 0)])
    with torch.no_grad():
        z = mean + (logvar / 2).exp() * draws(5, 300, 3)
        error = (made.model.decode(z).image - x).square().flatten(1).mean(1)
    assert found["distortion"]["value"] == pytest.approx(
        float(error.mean()), abs=4 * found["distortion"]["standard_error"]
    )
    codes = score("rate_distortion", trained(plain(CODES), objective_of("ae"), noise(8)))
    assert codes["rate"]["value"] == pytest.approx(2 * math.log(4), rel=1e-5)


@pytest.mark.parametrize("name", ["mutual_information", "aggregate_kl", "codebook", "rate_distortion", "active_units"])
def test_an_autoencoder_has_none_of_them_and_says_why(name):
    with pytest.raises(UserError, match=r"no density|no KL|no codes|no posterior density"):
        score(name, trained(plain({"name": "deterministic", "dim": 3}), objective_of("ae"), noise(8)))


@pytest.mark.parametrize("name", ["mutual_information", "aggregate_kl", "rate_distortion"])
@pytest.mark.parametrize("num", [20, 100])
def test_two_processes_agree_with_one(name, num):
    model, images = plain({"name": "gaussian", "dim": 3}, prior={"name": "mog", "num_components": 3}), noise(num)
    alone = score(name, trained(model, objective_of(), images), 3)
    pair = on_two_processes(lambda two: score(name, trained(model, objective_of(), images, 64, two), 3))
    assert pair[0] == pair[1]
    for key, entry in alone.items():
        assert pair[0][key]["value"] == pytest.approx(entry["value"], rel=1e-5, abs=1e-6)
