"""Decoders whose layers have a largest singular value of 1 (RAE-SN)."""

import copy

import pytest
import torch

import genzoo
from genzoo.config import build, config_of
from genzoo.layers import SpectralNorm
from genzoo.recipe import read
from genzoo.registry import DECODERS
from genzoo.run import run
from genzoo.testing import conformance
from genzoo.training.average import Average

SMALL = {"resnet": {"base_dim": 2}, "conv": {"base_dim": 2}, "mlp": {"hidden_dims": [8, 8]}}


@pytest.mark.parametrize("name", SMALL)
def test_keeps_the_contract(name):
    conformance(f"decoders/{name}", {**SMALL[name], "spectral_norm": True}, backend="eager")


@pytest.mark.parametrize("name", SMALL)
def test_the_largest_singular_value_of_every_layer_is_1(name):
    torch.manual_seed(0)
    options = {"name": name, "spectral_norm": True, **SMALL[name]}
    part = build(DECODERS, config_of(DECODERS, name).model_validate(options), in_shape=(6,), out_shape=(3, 32, 32))
    for _ in range(100):  # the power iteration goes on in training
        part(torch.randn(2, 6))
    part.eval()
    layers = [m for m in part.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    assert len(layers) > 2
    for layer in layers:
        matrix = layer.weight.transpose(0, 1) if isinstance(layer, torch.nn.ConvTranspose2d) else layer.weight
        assert torch.linalg.matrix_norm(matrix.flatten(1), 2).item() == pytest.approx(1, abs=0.01)


def test_gradients_equal_pytorchs():
    torch.manual_seed(0)
    mine, theirs = (torch.nn.Linear(7, 5) for _ in range(2))
    theirs.load_state_dict(mine.state_dict())
    torch.nn.utils.parametrize.register_parametrization(mine, "weight", SpectralNorm(mine.weight, num_iterations=200))
    torch.nn.utils.parametrizations.spectral_norm(theirs, n_power_iterations=200)
    x = torch.randn(3, 7)
    for layer in (mine, theirs):
        layer(x).square().sum().backward()
    torch.testing.assert_close(mine(x), theirs(x))
    grads = [layer.parametrizations.weight.original.grad for layer in (mine, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


def test_a_moving_average_is_normalised_too():
    """Averaged singular vectors are no unit vectors; the averaged weights are nonetheless divided by what is theirs."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 4, bias=False)
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    average = Average(copy.deepcopy(layer), layer, decay=0.9)
    for step in range(20):
        with torch.no_grad():  # far moves: the largest singular vector is another one each time
            layer.parametrizations.weight.original.copy_(torch.randn(4, 4))
        layer(torch.randn(2, 4))
        average.update(step)
    assert average.model.parametrizations.weight[0].u.norm() < 0.9
    # u of whatever length gives the norm of W'u, which is a lower bound of the largest singular value, and near it
    original = average.model.parametrizations.weight.original
    used = (original / average.model.weight).mean()
    largest = torch.linalg.matrix_norm(original, 2)
    assert 0.5 * largest < used <= largest * 1.0001


def test_going_on_is_exact(tmp_path):
    words = ["data.size=16", "model.encoder={name: conv, base_dim: 4}",
             "model.head={name: single, decoder: {name: conv, base_dim: 4, spectral_norm: true}}", "train.batch_size=8",
             "train.checkpoint_every=2", "train.panel_every=4", "evaluation.metrics=[]", "evaluation.num_samples=8",
             "samplers=[prior]", "train.ema=0.9"]  # fmt: skip
    run(read("svae_digits", [*words, "train.steps=4"]), tmp_path / "whole")
    run(read("svae_digits", [*words, "train.steps=2"]), tmp_path / "halves")
    run(read("svae_digits", [*words, "train.steps=4"]), tmp_path / "halves", resume=True)
    whole, halves = (genzoo.load(tmp_path / name).state_dict() for name in ("whole", "halves"))
    assert any(name.endswith("parametrizations.weight.0.u") for name in whole)
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
