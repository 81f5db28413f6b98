"""A miniature model, objective and run; as a program, a run to kill: conftest.py FOLDER [KEY=JSON].

With --each, one such run after the other, in a process of its own, for every line that comes in.
"""

import json
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from genzoo.config import build
from genzoo.model import Model, ModelConfig
from genzoo.registry import OBJECTIVES, TERMS
from genzoo.training import sharding
from genzoo.training.config import TrainConfig
from genzoo.training.step import Step
from genzoo.training.trainer import train

IMAGES = np.random.default_rng(0).integers(0, 256, (37, 8, 8, 3), dtype=np.uint8)
DECODER = {"name": "conv", "base_dim": 4}
SINGLE, SPLIT = ({"name": name, "decoder": DECODER} for name in ("single", "split"))
CRITIC = {"name": "adversarial", "critic": {"name": "conv", "base_dim": 4}, "r1": 1.0, "lr": 2e-3, "start": 2}
FAMILIES = {  # latent, head, objective, terms, prior
    "adversarial split VQ": ({"name": "vq", "num_codes": 8, "dim": 4}, SPLIT, "ae", [CRITIC], None),
    "ladder": ({"name": "ladder", "dim": 2}, SINGLE, "elbo", [], None),
    "learned prior": ({"name": "gaussian", "dim": 4}, SINGLE, "elbo", [], {"name": "vamp", "num_pseudo_inputs": 3}),
}


class Toy(nn.Module):
    """A convolutional VAE on 8x8 images, with what makes resuming hard: BatchNorm and noise of every library."""

    def __init__(self, dim=8):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, dim, 3, 2, 1, bias=False), nn.BatchNorm2d(dim), nn.SiLU(), nn.Conv2d(dim, dim, 4)
        )
        self.decoder = nn.Sequential(nn.Conv2d(dim // 2, 3 * 64, 1), nn.PixelShuffle(8), nn.Sigmoid())

    def forward(self, x):
        mean, logvar = self.encoder(x).chunk(2, 1)
        noise = torch.randn_like(mean) * (random.random() + np.random.random())
        return mean, logvar, self.decoder(mean + noise * (0.5 * logvar).exp())


class PlainToy(Toy):
    """Neither noise nor BatchNorm in training mode, both of which see each process's and part's images alone."""

    def forward(self, x):
        mean, logvar = self.encoder.eval()(x).chunk(2, 1)
        return mean, logvar, self.decoder(mean)


class ToyObjective(nn.Module):
    """A learned gamma (a parameter) and a running error (a buffer); NaN at step `poison`, or from there on."""

    def __init__(self, poison=None, lasting=False):
        super().__init__()
        self.lasting = lasting
        self.log_gamma = nn.Parameter(torch.zeros(()))
        self.register_buffer("error_ema", torch.ones(()))
        self.poison = poison

    def forward(self, made, x, step, model):
        mean, logvar, y = made
        mse = (x - y.float()).square().mean()
        if self.poison is not None:
            mse = torch.where(step >= self.poison if self.lasting else step == self.poison, torch.nan, mse)
        if self.training:
            self.error_ema.lerp_(mse.detach(), 0.1)
        rec = 0.5 * x[0].numel() * (mse / self.log_gamma.exp() + self.log_gamma)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1).mean()
        beta = (step / 15).clamp(max=1)
        terms = {
            "rec": rec,
            "kl": kl,
            "mse": mse,
            "beta": beta,
            "gamma": self.log_gamma.exp(),
            "ema": self.error_ema.clone(),
        }
        return {"loss": rec + beta * kl, **{name: term.detach().float() for name, term in terms.items()}}


def make_toy(kind=Toy, poison=None, lasting=False, seed=0):
    torch.manual_seed(seed)
    return kind(), ToyObjective(poison, lasting)


def make_family(family, seed, **layout):
    """A step of genzoo's own parts."""
    latent, head, objective, terms, prior = FAMILIES[family]
    tree = {"encoder": {"name": "conv", "base_dim": 4}, "latent": latent, "prior": prior, "head": head}
    shape = (IMAGES.shape[3], *IMAGES.shape[1:3])
    torch.manual_seed(seed)
    return Step(
        Model(ModelConfig.model_validate(tree), shape),
        build(OBJECTIVES, OBJECTIVES.get(objective).Config(name=objective), image_shape=shape),
        {t["name"]: build(TERMS, TERMS.get(t["name"]).Config.model_validate(t), image_shape=shape) for t in terms},
        **layout,
    )


def train_toy(
    folder,
    *,
    family=None,
    plain=False,
    model_seed=0,
    poison=None,
    lasting=False,
    images=IMAGES,
    resume=False,
    panel=None,
    progress=False,
    profile=False,
    metadata=None,
    **settings,
):
    config = TrainConfig(**{"steps": 20, "batch_size": 10, "precision": "fp32", "log_every": 4, "ema": 0.9, **settings})
    layout = {"channels_last": config.channels_last, "activation_checkpointing": config.activation_checkpointing}
    if family:
        step = make_family(family, model_seed, **layout)
    else:
        step = Step(*make_toy(PlainToy if plain else Toy, poison, lasting, model_seed), **layout)
    result = train(
        step, images, config, folder=folder, seed=3, resume=resume, panel=panel, progress=progress,
        profile=profile, metadata=metadata,
    )  # fmt: skip
    return step.model.cpu(), step.objective.cpu(), result


@pytest.fixture
def run():
    return train_toy


@pytest.fixture
def toy():
    return make_toy()


@pytest.fixture
def images():
    return IMAGES


if __name__ == "__main__":
    settings = {key: json.loads(value) for key, value in (word.split("=") for word in sys.argv[1:] if "=" in word)}
    torch.set_num_threads(1)
    sharding.LARGE = 1000  # so that one layer is gathered by itself
    for _ in sys.stdin if sys.argv[1] == "--each" else ():
        if child := os.fork():
            print(child, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        sys.argv.pop(1)
        break
    if sys.argv[1] != "--each":
        train_toy(Path(sys.argv[1]), resume=True, **settings)
