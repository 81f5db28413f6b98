from dataclasses import dataclass

import pytest
import torch
from torch import nn

from genzoo.parts import Composition
from genzoo.registry import FEATURES, Entry


@pytest.fixture
def released(pixels, monkeypatch):
    """The same as a part of genzoo's own, whose statistics may be kept."""
    monkeypatch.setitem(FEATURES._builtin, "pixels", Entry("pixels", pixels, "genzoo"))
    own = FEATURES._by_code.pop("pixels")
    yield pixels
    FEATURES._by_code["pixels"] = own


@dataclass
class _Posterior:
    mean: torch.Tensor
    variance: torch.Tensor

    def sample(self, generator):
        return self.mean + self.variance.sqrt() * torch.randn(self.mean.shape, generator=generator)


class SplitModel(nn.Module):
    """A split without training: latents are the image's four corners, the branches differ, sigma follows latents."""

    def __init__(self, size=8, channels=3):
        super().__init__()
        self.latent, self.latent_shape = None, (4,)  # no codes
        self.size, self.channels = size, channels
        self.num_decoded = 0

    has_standard_normal_prior = True

    def sample_prior(self, num, generator):
        return torch.randn(num, *self.latent_shape, generator=generator)

    def encode(self, x):
        half = self.size // 2
        mean = x.mean(dim=1).unfold(1, half, half).unfold(2, half, half).mean(dim=(3, 4)).flatten(1)
        return _Posterior(8 * mean - 4, torch.full_like(mean, 0.1))

    def decode(self, z):
        self.num_decoded += len(z)
        corners = torch.sigmoid(z).view(-1, 1, 2, 2)
        y1 = nn.functional.interpolate(corners, size=self.size).expand(-1, self.channels, -1, -1)
        y2 = (1 - y1) * 0.9
        sigma = nn.functional.interpolate(corners.flip(3), size=self.size, mode="bilinear")
        return Composition(torch.lerp(y2, y1, sigma), {"y1": y1, "y2": y2}, {"sigma": sigma})


class PlainModel(SplitModel):
    def decode(self, z):
        return Composition(super().decode(z).image)


@pytest.fixture
def split_model():
    return SplitModel().train()


@pytest.fixture
def plain_model():
    return PlainModel()
