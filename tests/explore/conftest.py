"""Toy models to explore, served from a thread."""

import threading
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from genzoo.parts import Composition


@dataclass
class Posterior:
    mean: torch.Tensor
    variance: torch.Tensor


class Prior(nn.Module):
    needs_fit = False

    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def sample(self, num, generator):
        return torch.randn(num, *self.shape, generator=generator)


class Toy(nn.Module):
    """Latents are what the image's quarters show; colours, and branches with weights for each, where told."""

    has_standard_normal_prior = True

    def __init__(self, channels=1, branches=2, latent=(4,)):
        super().__init__()
        self.image_shape, self.latent_shape, self.branches = (channels, 16, 16), latent, branches
        self.latent = SimpleNamespace()
        self.weight = nn.Parameter(torch.zeros(1))

    def encode(self, x):
        quarters = nn.functional.adaptive_avg_pool2d(x.mean(dim=1, keepdim=True), 2).flatten(1) * 4 - 2
        mean = quarters if self.latent_shape == (4,) else quarters.view(-1, 1, 2, 2).expand(-1, *self.latent_shape)
        return Posterior(mean, torch.full_like(mean, 0.1))

    def decode(self, z):
        base = torch.sigmoid(z.reshape(len(z), -1, 2, 2).mean(dim=1, keepdim=True))
        up = nn.functional.interpolate(base, size=16, mode="bilinear")
        images = [(up * (1 - k / 4) + k / 5).expand(-1, self.image_shape[0], -1, -1) for k in range(self.branches)]
        if self.branches < 2:
            return Composition(up.expand(-1, self.image_shape[0], -1, -1))
        weights = torch.softmax(
            torch.cat([up.flip(k + 1 if k < 3 else 2) * 3 * k for k in range(self.branches)], 1), dim=1
        )
        maps = {f"w{k + 1}": weights[:, k : k + 1] for k in range(self.branches)}
        image = sum(w * y for w, y in zip(maps.values(), images, strict=True))
        if self.branches == 2:
            maps = {"sigma": weights[:, :1]}
        return Composition(image, {f"y{k + 1}": y for k, y in enumerate(images)}, maps)


@pytest.fixture
def served():
    """served(model): a server of that model in a thread of its own."""
    from genzoo.explore.session import Session

    pytest.importorskip("uvicorn", reason="the extra explore is not installed")
    from genzoo.explore.server import Server

    running = []

    def serve(model, name="toy <b>&"):
        channels = model.image_shape[0]
        images = np.random.default_rng(0).integers(0, 256, (30, 16, 16, channels), np.uint8)
        server = Server(Session(name, model, {"prior": Prior(model.latent_shape)}, images))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield serve
    for server, thread in running:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def toy():
    return Toy
