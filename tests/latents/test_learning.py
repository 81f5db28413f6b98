"""Every latent learns digits: its objective comes down, the error falls well below the data's variance, codes are used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from genzoo.config import build, config_of
from genzoo.model import Model, ModelConfig
from genzoo.registry import LATENTS, OBJECTIVES
from genzoo.training.step import Step

SMALL = {
    "vq": {"num_codes": 64, "dim": 4},
    "rvq": {"num_codes": 16, "dim": 4, "num_levels": 2},
    "fsq": {"levels": [4, 4, 4]},
    "lfq": {"num_bits": 6},
    "ladder": {"dim": 4},
    "vmf": {"dim": 8},
    "gaussian": {"dim": 16},
    "deterministic": {"dim": 16, "norm": 0.1},
}
STEPS = 150


def images() -> torch.Tensor:
    """uint8 n 8 8 1."""
    return torch.from_numpy((load_digits().images * (255 / 16)).round().astype(np.uint8))[..., None]


@pytest.mark.parametrize("name", LATENTS.names())
def test_every_latent_learns_digits(name):
    torch.manual_seed(0)
    data = images()
    tree = {
        "encoder": {"name": "conv", "base_dim": 32},
        "latent": {"name": name, **SMALL.get(name, {})},
        "head": {"name": "single", "decoder": {"name": "conv", "base_dim": 32}},
    }
    model = Model(ModelConfig.model_validate(tree), (1, 8, 8))
    chosen = {"name": "ae"} if name == "deterministic" else {"name": "elbo", "gamma": "optimal"}
    config = config_of(OBJECTIVES, chosen["name"]).model_validate(chosen)
    objective = build(OBJECTIVES, config, image_shape=(1, 8, 8))
    step = Step(model, objective)
    optimizer = torch.optim.Adam(step.parameters(), lr=3e-3)
    charged = []
    for number in range(STEPS):
        scalars = step(data[torch.randint(len(data), (100,))], torch.tensor(number))
        optimizer.zero_grad()
        scalars["loss"].backward()
        optimizer.step()
        charged.append(scalars["mse"].item())
    model.eval()
    x = data.permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        mean = model.encode(x).mean
        error = (model.decode(mean).image - x).square().mean()
    variance = (x - x.mean(0)).square().mean()
    assert np.mean(charged[-10:]) < 0.5 * np.mean(charged[:10])
    assert error < 0.5 * variance, f"{error / variance:.2f} of the variance"
    if hasattr(model.latent, "codes"):  # over the whole set, never a batch
        codes = model.latent.codes(mean)
        for level in codes.unbind(1) if name == "rvq" else [codes]:
            assert len(level.unique()) >= 0.9 * model.latent.num_codes
