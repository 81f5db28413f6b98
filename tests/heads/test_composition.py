"""Invariants of the composition, over decoder pairs drawn from the whole registry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import genzoo.heads.split as split
from genzoo.config import build
from genzoo.model import Model, ModelConfig
from genzoo.registry import DECODERS, HEADS, LATENTS

SMALL_ENCODERS = {"mlp": {"hidden_dims": [8]}, "conv": {"base_dim": 2}}
SMALL = {"resnet": {"base_dim": 2}, "conv": {"base_dim": 2}, "mlp": {"hidden_dims": [4]}}
decoders = st.sampled_from(DECODERS.names()).map(lambda name: {"name": name} | SMALL.get(name, {}))
logits = st.floats(-1e4, 1e4) | st.sampled_from([0.0, -0.0, 88.8, -88.8, 1e30, -1e30])


class Given(nn.Module):
    """Stands for the decoders: hands over chosen logits."""

    def __init__(self, *outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, features):
        return tuple(output.float() for output in self.outputs)


def composed(name: str, *outputs, sigma_bias=0.0):
    head = object.__new__(HEADS.get(name))
    nn.Module.__init__(head)
    head.branches, head.sigma_bias = Given(*outputs), sigma_bias
    return head(None)


def tensors(draw, *shapes, dtype):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.1, 3.0, 100.0, 1e4]))
    made = [(torch.randn(shape, generator=generator) * scale).to(dtype) for shape in shapes]
    for tensor in made:
        tensor[0, 0, 0, 0] = draw(logits)
    return made


@st.composite
def split_logits(draw, dtypes=(torch.float32, torch.bfloat16)):
    channels = draw(st.integers(1, 4))
    size = draw(st.sampled_from([(2, channels, 4, 4), (1, channels, 3, 5)]))
    sigma = (size[0], draw(st.sampled_from([1, channels])), *size[2:])
    return tensors(draw, sigma, size, size, dtype=draw(st.sampled_from(dtypes)))


@st.composite
def mixture_logits(draw):
    num = draw(st.integers(2, 5))
    size = (2, draw(st.integers(1, 4)), 4, 4)
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    return tensors(draw, (2, num - 1, 4, 4), *[size] * num, dtype=dtype)


def check_bounds(composition):
    stacked = torch.stack(list(composition.branches.values()))
    assert composition.image.dtype == torch.float32
    assert torch.isfinite(composition.image).all()
    assert (composition.image >= stacked.amin(0)).all() and (composition.image <= stacked.amax(0)).all()
    assert composition.image.min() >= 0 and composition.image.max() <= 1
    for part in composition.parts.values():
        assert torch.isfinite(part).all() and part.min() >= 0 and part.max() <= 1


@given(split_logits())
def test_split_is_bounded_by_its_branches_and_finite(outputs):
    check_bounds(composed("split", *outputs))


@given(split_logits())
def test_split_is_the_formula_and_symmetric(outputs):
    sigma, y1, y2 = outputs
    one = composed("split", sigma, y1, y2)
    s, a, b = (one.parts[name] for name in ("sigma", "y1", "y2"))
    torch.testing.assert_close(one.image, s * a + (1 - s) * b, rtol=0, atol=1e-6)
    torch.testing.assert_close(one.image, composed("split", -sigma, y2, y1).image, rtol=0, atol=1e-6)


@given(split_logits())
def test_equal_branches_are_the_image(outputs):
    sigma, y1, _ = outputs
    composition = composed("split", sigma, y1, y1)
    assert torch.equal(composition.image, composition.branches["y1"])


@given(split_logits(dtypes=(torch.float32,)), st.integers(0, 2**32 - 1))
def test_gradient_to_sigma(outputs, seed):
    """dL/dsigma = (y1 - y2) * upstream, summed over the colours that share a sigma."""
    sigma, y1, y2 = (output.clamp(-8, 8).requires_grad_() for output in outputs)
    composition = composed("split", sigma, y1, y2)
    composition.maps["sigma"].retain_grad()
    upstream = torch.randn(composition.image.shape, generator=torch.Generator().manual_seed(seed))
    composition.image.backward(upstream)
    difference = (composition.branches["y1"] - composition.branches["y2"]).detach()
    expected = difference * upstream
    if sigma.shape[1] == 1:
        expected = expected.sum(1, keepdim=True)
    torch.testing.assert_close(composition.maps["sigma"].grad, expected, rtol=1e-4, atol=1e-6)
    if sigma.shape[1] == y1.shape[1]:
        assert ((sigma.grad != 0) | (difference == 0) | (upstream == 0)).all()


def test_gradient_to_sigma_vanishes_only_where_branches_agree():
    y = torch.tensor([[[[1.0, 2.0, -1.0]]]])
    sigma = torch.zeros_like(y, requires_grad=True)
    composed("split", sigma, y, torch.tensor([[[[1.0, 0.0, 3.0]]]])).image.sum().backward()
    assert (sigma.grad != 0).flatten().tolist() == [False, True, True]


@given(mixture_logits())
def test_mixture_is_bounded_and_its_maps_sum_to_one(outputs):
    composition = composed("mixture", *outputs)
    check_bounds(composition)
    maps = torch.cat(list(composition.maps.values()), dim=1)
    torch.testing.assert_close(maps.sum(1), torch.ones_like(maps[:, 0]), rtol=0, atol=1e-5)
    weighted = sum(composition.maps[f"w{name[1:]}"] * y for name, y in composition.branches.items())
    torch.testing.assert_close(composition.image, weighted, rtol=0, atol=1e-5)


@given(split_logits(dtypes=(torch.float32,)))
def test_mixture_of_two_is_the_split(outputs):
    sigma, y1, y2 = outputs[0][:, :1], *outputs[1:]
    one, two = composed("split", sigma, y1, y2), composed("mixture", sigma, y1, y2)
    torch.testing.assert_close(one.image, two.image, rtol=0, atol=1e-6)
    torch.testing.assert_close(one.maps["sigma"], two.maps["w1"], rtol=0, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.data(), st.lists(decoders, min_size=1, max_size=3), st.integers(1, 4), st.booleans())
def test_registered_decoders_compose(data, kinds, channels, sigma_per_color):
    """Any decoders of the registry, shared or paired, with or without a third for sigma: bounded, finite, trainable."""
    if len(kinds) == 1:
        options = {"decoder": kinds[0]}
    else:
        options = {"trunk": "pair", "decoders": kinds[:2], "sigma_decoder": kinds[2] if len(kinds) == 3 else None}
    config = split.SplitHead.Config(name="split", sigma_per_color=sigma_per_color, **options)
    size = data.draw(st.sampled_from([(channels, 16, 16), (channels, 28, 28), (channels, 8, 12)]))
    head = build(HEADS, config, in_shape=(6,), image_shape=size)
    composition = head(torch.randn(2, 6))
    assert composition.image.shape == (2, *size)
    assert composition.maps["sigma"].shape == (2, channels if sigma_per_color else 1, *size[1:])
    check_bounds(composition)
    composition.image.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("head", ["single", "split", "mixture"])
@pytest.mark.parametrize("latent", LATENTS.names())
@pytest.mark.parametrize("encoder", ["mlp", "conv"])
def test_every_latent_under_every_head(encoder, latent, head):
    """Of vectors and maps: bounded, also where z lies anywhere; sigma and the encoder get a gradient through the draw."""
    torch.manual_seed(0)
    parts = {"encoder": encoder, "latent": latent, "head": {"name": head, "decoder": {"name": "mlp", **SMALL["mlp"]}}}
    model = Model(
        ModelConfig.model_validate({**parts, "encoder": {"name": encoder, **SMALL_ENCODERS[encoder]}}), (3, 16, 16)
    )
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape))
    composition = model(torch.rand(4, 3, 16, 16)).composition
    if composition.branches:
        check_bounds(composition)
    if head == "split":
        composition.maps["sigma"].retain_grad()
    composition.image.square().sum().backward()
    if head == "split":
        assert composition.maps["sigma"].grad.any()
    for part in (model.encoder, model.head):
        reached = [p.grad for p in part.parameters()]
        assert all(grad is not None and torch.isfinite(grad).all() for grad in reached)
        assert any(grad.any() for grad in reached)
    anywhere = model.decode(3 * torch.randn(4, *model.latent_shape))
    assert anywhere.image.min() >= 0 and anywhere.image.max() <= 1
    if anywhere.branches:
        check_bounds(anywhere)


@pytest.mark.parametrize("per_color", [False, True])
def test_shared_trunk_channel_order(per_color):
    """Channel 0 is sigma, then y1, then y2: the published layout."""
    config = split.SplitHead.Config(
        name="split", decoder={"name": "mlp", "hidden_dims": [4]}, sigma_per_color=per_color
    )
    head = build(HEADS, config, in_shape=(4,), image_shape=(3, 8, 8))
    features = torch.randn(2, 4)
    raw = head.branches.decoders[0](features).sigmoid()
    composition = head(features)
    num = 3 if per_color else 1
    assert torch.equal(composition.maps["sigma"], raw[:, :num])
    assert torch.equal(composition.branches["y1"], raw[:, num : num + 3])
    assert torch.equal(composition.branches["y2"], raw[:, num + 3 :])


def test_sigma_starts_at_its_bias():
    zeros = torch.zeros(2, 1, 4, 4)
    made = composed("split", zeros, zeros + 3, zeros - 3, sigma_bias=2.0)
    torch.testing.assert_close(made.maps["sigma"], torch.full_like(zeros, 2.0).sigmoid())
    assert (made.image > 0.8).all()  # mostly y1, which is sigmoid(3)
