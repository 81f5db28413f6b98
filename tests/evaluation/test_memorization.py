"""Samplers that give training images back are told from those that do not, through the fit and the evaluation."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from genzoo.config import build
from genzoo.densities import DiagonalGaussian, StandardNormal
from genzoo.evaluation.config import EvaluationConfig
from genzoo.evaluation.evaluate import evaluate
from genzoo.evaluation.work import ON_CPU
from genzoo.parts import Composition
from genzoo.registry import SAMPLERS
from genzoo.stage_two import fit_samplers

IMAGES = (load_digits().images * 15).round().astype(np.uint8)[..., None]  # n 8 8 1
SPLITS = {"train": IMAGES[:400], "test": IMAGES[400:500]}


class Principal(nn.Module):
    """A linear autoencoder without training: principal components of the images, those of N(0, I) by their spread."""

    latent, latent_shape, has_standard_normal_prior = None, (50,), True

    def __init__(self):
        super().__init__()
        x = torch.from_numpy(SPLITS["train"]).flatten(1).float() / 255
        self.mean = x.mean(0)
        _, spread, axes = torch.linalg.svd(x - self.mean, full_matrices=False)
        self.axes = (spread / len(x) ** 0.5)[:50, None] * axes[:50]  # 50 64

    def encode(self, x):
        z = (x.flatten(1) - self.mean) @ torch.linalg.pinv(self.axes)
        return DiagonalGaussian(z, torch.full_like(z, 1e-4).log())

    def decode(self, z):
        return Composition((self.mean + z @ self.axes).view(-1, 1, 8, 8).clamp(0, 1))

    def sample_prior(self, num, generator):
        return StandardNormal(self.latent_shape).sample(num, generator)


class Copies(nn.Module):
    """A sampler that the trainer trains, and that draws the latents which it was trained on."""

    needs_fit, learns, kind_name = True, "latents", "samplers/copies"

    def __init__(self):
        super().__init__()
        self.settings = {"steps": 2, "batch_size": 8}
        self.register_buffer("num_fit", torch.zeros((), dtype=torch.int64))
        self.weight, self.protocol = nn.Parameter(torch.zeros(())), {}

    def begin(self, mean, variance):
        self.latents = mean.clone()

    def loss(self, rows, clock):
        return {"loss": (self.weight - 1).square()}

    def sample(self, num, generator):
        return self.latents[torch.randint(len(self.latents), (num,), generator=generator)]


def learned(name, **options):
    config = SAMPLERS.get(name).Config(name=name, **options)
    return build(SAMPLERS, config, latent_shape=Principal.latent_shape)


def test_copies_are_told_from_draws(pixels):
    samplers = {
        "copies": Copies(),
        "gmm": learned("gmm", num_components=400),  # a Gaussian for each image, of no width to speak of
        "prior": learned("prior"),
        "flow_matching": learned("flow_matching", steps=100, hidden_dim=32, num_layers=1),  # too small to keep 400
    }
    model = Principal()
    assert not fit_samplers(model, samplers, SPLITS, seed=0, work=ON_CPU)
    config = EvaluationConfig(
        metrics=[{"name": "memorization", "features": {"name": "pixels", "side": 8}}],
        num_samples=200,
        num_reference=100,
        allow_few=True,
    )
    scores = evaluate(model, samplers, SPLITS, config, seed=0, work=ON_CPU)["scores"]
    assert all((score["reference"], score["num_reference"]) == ("train", 400) for score in scores)
    found = {(score["generator"], score["metric"]): score["value"] for score in scores}
    for name in ("copies", "gmm"):
        assert found[name, "memorization"] > 0.9 and found[name, "authenticity"] < 0.1
    for name in ("prior", "flow_matching"):
        assert found[name, "memorization"] < 0.02 and found[name, "authenticity"] > 0.5
    assert found["reconstruction", "memorization"] < 0.02  # of test images, which nothing was trained on
