"""The likelihood against what is known exactly: algebra, numerical integration, and a loop written by hand."""

import math
import threading
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn
from torch.nn import functional as F

from genzoo.config import build
from genzoo.evaluation.generate import encode
from genzoo.evaluation.images import Spread
from genzoo.evaluation.of_model import Trained
from genzoo.evaluation.work import Work
from genzoo.launch import Launch
from genzoo.metrics.nll import NLL
from genzoo.model import Model, ModelConfig
from genzoo.parts import Composition
from genzoo.registry import DECODERS, HEADS, OBJECTIVES


def objective_of(name="elbo", shape=(1, 8, 8), **options):
    config = OBJECTIVES.get(name).Config.model_validate({"name": name, **options})
    return build(OBJECTIVES, config, image_shape=shape).eval()


def model_of(shape=(1, 8, 8), **parts):
    torch.manual_seed(0)
    return Model(ModelConfig.model_validate({"encoder": {"name": "mlp", "hidden_dims": [16]}, **parts}), shape).eval()


def trained(model, objective, images, batch_size=64, processes=None):
    """images: uint8 n h w c."""
    work = Work(batch_size=batch_size, **({"processes": processes} if processes else {}))
    with torch.no_grad():
        return Trained(model, objective, Spread(images, None), *encode(model, images, work), work)


def nll(made, num_draws, seed=0):
    with torch.no_grad():
        return NLL(NLL.Config(num_draws=num_draws)).score(made, seed)


def of_each(made, num_draws, seed=0):
    """The bound of every image by itself, n."""
    sums, made.total = [], lambda x: sums.append(x) or x
    nll(made, num_draws, seed)
    return sums[0][:, -1].numpy()


def noise(num, shape=(1, 8, 8), seed=0):
    return np.random.RandomState(seed).randint(0, 256, (num, *shape[1:], shape[0]), np.uint8)


@pytest.fixture
def head():
    """head(log_prob, on_levels): registers a head `mine`, whose image is the decoder's output as it is, unbounded."""
    made = {}

    class Mine(nn.Module):
        class Config(HEADS.get("single").Config):
            pass

        def __init__(self, config, in_shape, image_shape):
            super().__init__()
            self.decoder = build(DECODERS, config.decoder, in_shape=in_shape, out_shape=image_shape)

        def forward(self, features):
            return made["composed"](self.decoder(features))

    HEADS.register("mine")(Mine)
    yield lambda composed: made.update(composed=composed)
    del HEADS._by_code["mine"]


def linear(layers, weight, bias):
    """Dense, SiLU, dense: exactly weight x + bias, for silu(a) - silu(-a) = a."""
    first, last = layers
    first.weight.data, first.bias.data = torch.cat([weight, -weight]), torch.cat([bias, -bias])
    one = torch.eye(len(weight))
    last.weight.data, last.bias.data = torch.cat([one, -one], 1), torch.zeros(len(weight))


def probabilistic_pca(head, slack):
    """(model, objective, images, log p(x) of each): x = W z + mu + N(0, s^2), and a posterior with `slack` too much."""
    head(Composition)
    dim, num, std = 3, 60, 0.1
    model = model_of(
        encoder={"name": "mlp", "hidden_dims": [2 * dim]}, latent={"name": "gaussian", "dim": dim, "embed_dim": dim},
        head={"name": "mine", "decoder": {"name": "mlp", "hidden_dims": [2 * 64]}},
    )  # fmt: skip
    random = np.random.RandomState(1)
    w, mu = 0.1 * random.randn(64, dim), 0.5 + 0.02 * random.randn(64)
    images = np.clip(255 * (random.randn(num, dim) @ w.T + mu + std * random.randn(num, 64)), 0, 255).round()
    m = w.T @ w + std**2 * np.eye(dim)
    posterior = np.linalg.solve(m, w.T)
    as_tensor = partial(torch.tensor, dtype=torch.float32)
    linear([model.encoder.layers[0], model.latent.mean], as_tensor(posterior), as_tensor(-posterior @ mu))
    variance = std**2 * np.diag(np.linalg.inv(m)) * (1 + slack)
    model.latent.logvar.weight.data.zero_()
    model.latent.logvar.bias.data = as_tensor(np.log(variance))
    model.latent.embed.weight.data, model.latent.embed.bias.data = torch.eye(dim), torch.zeros(dim)
    decoder = [one for one in model.head.decoder.modules() if isinstance(one, nn.Linear)]
    linear(decoder, as_tensor(w), as_tensor(mu))
    exact = multivariate_normal(mu, w @ w.T + std**2 * np.eye(64)).logpdf(images / 255)
    objective = objective_of(gamma="fixed", gamma_value=std**2)
    return model, objective, images.astype(np.uint8).reshape(num, 8, 8, 1), exact


@pytest.mark.parametrize("slack", [0.0, 1.0])
def test_a_linear_gaussian_model_meets_its_exact_likelihood(head, slack):
    model, objective, images, exact = probabilistic_pca(head, slack)
    error = of_each(trained(model, objective, images), 2048) + exact
    assert abs(error.mean()) < 3 * error.std(ddof=1) / len(error) ** 0.5
    assert error.std() < 0.2  # it could fail: a nat is far outside
    score = nll(trained(model, objective, images), 2048)["nll"]
    assert score["value"] == pytest.approx(-exact.mean(), abs=0.1) and "unconverged" not in score
    assert score["standard_error"] == pytest.approx(exact.std(ddof=1) / len(exact) ** 0.5, rel=0.05)


def test_few_draws_are_a_looser_bound_and_are_marked(head):
    model, objective, images, exact = probabilistic_pca(head, slack=15.0)
    score = nll(trained(model, objective, images), 8)["nll"]
    bounds = [*score["found"]["by_draws"].values()]
    assert list(score["found"]["by_draws"]) == ["1", "2", "4", "8"]
    assert sorted(bounds, reverse=True) == bounds and bounds[-1] > -exact.mean()
    assert score["unconverged"] and score["found"]["last_doubling"]["moved"] > 0


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace", "levels"])
def test_one_latent_against_numerical_integration(likelihood):
    """log p(x) by the trapezoid rule over z, with the density of the pixels written out."""
    inner = {"name": "single", "decoder": {"name": "mlp", "hidden_dims": [16]}}
    heads = {"levels": {"name": "logistic", "num_components": 1, "scale": "image", "std": 0.3, "head": inner}}
    model = model_of(latent={"name": "gaussian", "dim": 1}, head=heads.get(likelihood, inner))
    with torch.no_grad():
        model.latent.embed.weight.mul_(8)  # the image turns with z
        model.latent.logvar.bias.fill_(-0.5)
    options = {
        "gaussian": {"gamma": "fixed", "gamma_value": 0.09},
        "laplace": {"reconstruction": "l1", "gamma": "learned", "gamma_value": 0.3},
        "levels": {"reconstruction": "likelihood"},
    }
    images = noise(20)
    z = torch.linspace(-9, 9, 4001)
    with torch.no_grad():
        y = model.decode(z[:, None]).image.double().flatten(1).numpy()
    x = (images / 255).reshape(20, 1, 64)
    if likelihood == "gaussian":
        nats = (-0.5 * (x - y) ** 2 / 0.09 - 0.5 * np.log(2 * np.pi * 0.09)).sum(2)
    elif likelihood == "laplace":
        nats = (-np.abs(x - y) / 0.3 - np.log(0.6)).sum(2)
    else:  # the mass of a level, the outermost to infinity
        low = np.where(x < 1 / 510, -np.inf, x - 1 / 510)
        high = np.where(x > 1 - 1 / 510, np.inf, x + 1 / 510)
        nats = np.log(1 / (1 + np.exp(-(high - y) / 0.3)) - 1 / (1 + np.exp(-(low - y) / 0.3))).sum(2)
    joint = nats + (-0.5 * z.double().numpy() ** 2 - 0.5 * math.log(2 * math.pi))
    top = joint.max(1, keepdims=True)
    exact = top[:, 0] + np.log(np.trapezoid(np.exp(joint - top), z.numpy(), axis=1))
    error = of_each(trained(model, objective_of(**options[likelihood]), images), 4096) + exact
    assert abs(error.mean()) < 3 * error.std(ddof=1) / 20**0.5 + 1e-4
    assert abs(error).max() < 0.5


def trained_on_digits():
    """A small convolutional model that has seen a few batches of digits, 16x16."""
    from sklearn.datasets import load_digits

    digits = np.kron(load_digits().images[:400] / 16 * 255, np.ones((1, 2, 2))).round().astype(np.uint8)[..., None]
    model = model_of(
        (1, 16, 16), encoder={"name": "conv", "base_dim": 4}, latent={"name": "gaussian", "dim": 3},
        head={"name": "single", "decoder": {"name": "conv", "base_dim": 4}},
    ).train()  # fmt: skip
    objective = objective_of(shape=(1, 16, 16), gamma="learned", gamma_value=0.3).train()
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=3e-3)
    for step in range(100):
        x = torch.from_numpy(digits[step % 6 * 64 : step % 6 * 64 + 64]).permute(0, 3, 1, 2).float() / 255
        optimizer.zero_grad()
        objective(model(x), x, torch.tensor(step), model)["loss"].backward()
        optimizer.step()
    return model.eval(), objective.eval(), digits[-16:]


def by_hand(weights, log_gamma, x, num_draws, random):
    """The bound of one image 16 16, from the weights of encoder, latent and decoder alone."""

    def norm(h, name):
        mean, variance, gain, shift = (weights[f"{name}.{key}"].view(1, -1, 1, 1) for key in (
            "running_mean", "running_var", "weight", "bias"))  # fmt: skip
        return (h - mean) / (variance + 1e-5).sqrt() * gain + shift

    def dense(h, name):
        return h @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    h = x[None, None]
    for k in (0, 3):
        h = F.conv2d(h, weights[f"encoder.layers.{k}.weight"], stride=2, padding=1)
        h = norm(h, f"encoder.layers.{k + 1}")
        h = torch.where(h > 0, h, 0.2 * h)
    mean, logvar = (dense(h.reshape(1, -1), f"latent.{name}")[0] for name in ("mean", "logvar"))
    log_weights = []
    for _ in range(num_draws):
        epsilon = torch.from_numpy(random.randn(len(mean)))
        z = mean + (logvar / 2).exp() * epsilon
        h = dense(z[None], "latent.embed")
        h = dense(h, "head.decoder.layers.0.linear").view(1, -1, 4, 4)
        h = norm(h, "head.decoder.layers.1").clamp(min=0)
        h = F.conv_transpose2d(h, weights["head.decoder.layers.3.weight"], stride=2, padding=1)
        h = norm(h, "head.decoder.layers.4").clamp(min=0)
        last = "head.decoder.layers.6"
        h = F.conv_transpose2d(h, weights[f"{last}.weight"], weights[f"{last}.bias"], stride=2, padding=1)
        y = 1 / (1 + (-h[0, 0]).exp())
        gamma = log_gamma.exp()
        log_p = (-((x - y) ** 2) / (2 * gamma) - 0.5 * (2 * math.pi * gamma).log()).sum()
        log_prior = (-(z**2) / 2).sum()  # the two normalisers of 2 pi cancel
        log_q = (-(epsilon**2) / 2 - logvar / 2).sum()
        log_weights.append(float(log_p + log_prior - log_q))
    top = max(log_weights)
    return top + math.log(sum(math.exp(value - top) for value in log_weights) / num_draws)


def test_a_trained_convolutional_model_against_a_loop_by_hand():
    model, objective, images = trained_on_digits()
    weights = {name: value.double() for name, value in model.state_dict().items()}
    gamma, random = objective.state_dict()["reconstruction.log_gamma"].double(), np.random.RandomState(5)
    x = torch.from_numpy(images[..., 0]).double() / 255
    hand = np.array([by_hand(weights, gamma, one, 128, random) for one in x])
    error = of_each(trained(model, objective, images), 128) + hand
    assert abs(error.mean()) < 3 * error.std(ddof=1) / len(error) ** 0.5
    assert error.std() / len(error) ** 0.5 < 0.3  # nats: what a term left out would be


def test_a_uniform_model_of_256_levels_has_8_bits_per_dimension(head):
    def composed(logits):
        uniform = lambda x: x.new_full((len(x),), -64 * math.log(256))  # noqa: E731
        return Composition(logits.sigmoid(), log_prob=uniform, on_levels=True)

    head(composed)
    model = model_of(latent={"name": "gaussian", "dim": 2}, head={"name": "mine", "decoder": {"name": "mlp"}})
    for layer in (model.latent.mean, model.latent.logvar):  # the posterior is the prior
        nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    made = nll(trained(model, objective_of(reconstruction="likelihood"), noise(40)), 16)
    assert made["bits_per_dim"]["value"] == pytest.approx(8, abs=1e-6)
    assert made["bits_per_dim"]["standard_error"] < 1e-6 and "unconverged" not in made["nll"]


def test_a_density_on_the_unit_interval_has_no_bits():
    model = model_of(latent={"name": "gaussian", "dim": 2}, head={"name": "single", "decoder": "mlp"})
    made = nll(trained(model, objective_of(), noise(8)), 2)
    assert made.keys() == {"nll"} and made["nll"]["unit"] == "nats per image, density on [0, 1]"
    assert made["nll"]["found"]["p(x|z)"] == "Gaussian of variance 1 (gamma: balanced)"


@pytest.mark.parametrize("latent", ["vq", "fsq"])
def test_few_codes_are_summed_exactly_and_many_are_bounded(latent):
    """Two positions of a few codes each: all their images, by a loop; the encoder's own codes are one term of it."""
    options = {"vq": {"num_codes": 5, "dim": 3}, "fsq": {"levels": [5]}}[latent]
    model = model_of(latent={"name": latent, "num_positions": 2, **options}, head={"name": "single", "decoder": "mlp"})
    images, objective = noise(6), objective_of("ae", gamma="fixed", gamma_value=0.1)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    terms = torch.zeros(6, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        for a in range(5):
            for b in range(5):
                y = model.decode(model.latent.vectors(torch.tensor([[[a, b]]]))).image.double()
                error = (x - y).square().flatten(1).sum(1)
                terms[:, a, b] = -0.5 * error / 0.1 - 32 * math.log(2 * math.pi * 0.1) - 2 * math.log(5)
        own = model.latent.codes(model.encode(x.float()).mean)[:, 0]
    exact = nll(trained(model, objective, images, batch_size=7), 25)["nll"]
    assert exact["value"] == pytest.approx(-float(terms.flatten(1).logsumexp(1).mean()), rel=1e-5)
    assert exact["estimator"].startswith("exact: the sum over all 25")
    bound = nll(trained(model, objective, images), 24)["nll"]
    assert bound["value"] == pytest.approx(-float(terms[range(6), own[:, 0], own[:, 1]].mean()), rel=1e-5)
    assert bound["value"] > exact["value"] and bound["estimator"].startswith("bound")


class Side(Launch):
    """One of two processes, here threads, that add up what they have."""

    meeting, box = threading.Barrier(2), {}

    def sum(self, x):
        self.box[self.rank] = x
        self.meeting.wait(20)
        total = self.box[0] + self.box[1]
        self.meeting.wait(20)
        return total


def on_two_processes(score):
    """What each of two processes returns; score(processes)."""
    found = {}
    threads = [threading.Thread(target=lambda rank=rank: found.update({rank: score(Side(rank, 2))})) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found[0], found[1]


@pytest.mark.parametrize("num", [20, 100])  # one batch, which one of them has; and several
def test_two_processes_share_the_images_and_agree_with_one(num):
    model = model_of(latent={"name": "vmf", "dim": 4}, head={"name": "single", "decoder": "mlp"})
    objective, images = objective_of(), noise(num)
    alone = nll(trained(model, objective, images, batch_size=10), 6, seed=3)
    pair = on_two_processes(lambda two: nll(trained(model, objective, images, 64, two), 6, seed=3))
    assert pair[0] == pair[1]
    assert pair[0]["nll"]["value"] == pytest.approx(alone["nll"]["value"], rel=1e-6)
