"""A VQ-VAE generates by a density on its codes: draws of `autoregressive` are far nearer to digits than uniform codes."""

import pytest
import torch

from genzoo.recipe import read
from genzoo.run import run

SMALL = [
    "data.size=16", "model.encoder.base_dim=8", "model.encoder.num_scales=2", "model.encoder.embed_dim=32",
    "model.latent.num_codes=32", "model.head.decoder.base_dim=8", "train.steps=100", "train.schedule.warmup_steps=20",
    "train.batch_size=64", "evaluation.metrics=[{name: fd, features: {name: pixels, side: 4}}]", "report=false",
    "samplers=[prior, {name: autoregressive, hidden_dim: 32, num_layers: 1, steps: 100, batch_size: 128, lr: 0.003}]",
]  # fmt: skip


def fd(folder, *edits):
    """Of each generator, in a run of the recipe."""
    torch.manual_seed(0)
    scores = run(read("vq_digits", edits), folder)["scores"]
    return {score["generator"]: score["value"] for score in scores}


def test_codes_that_are_learned_are_nearer_than_uniform_ones(tmp_path, pixels):
    found = fd(tmp_path / "run", *SMALL)
    assert found["autoregressive"] < found["prior"] / 2
    assert found["reconstruction"] < found["prior"] / 2  # else the codes would say nothing of a digit


@pytest.mark.long
def test_the_recipe_as_it_is_shipped(tmp_path):
    found = fd(tmp_path / "run")
    assert found["autoregressive"] < found["prior"] / 2
