from pathlib import Path

import pytest
import torch
from genzoo_stylegan.decoder import ModulatedConv, StyleGANDecoder
from torch.nn import functional as F

from genzoo.preparation import build_parts
from genzoo.recipe import read
from genzoo.testing import conformance

RECIPE = Path(__file__).parent.parent / "recipes" / "stylegan_digits.yaml"


def test_keeps_the_contract():
    conformance("decoders/stylegan", {"base_dim": 4, "max_dim": 32, "style_dim": 16})


def test_recipe_fits_together():
    build_parts(read(RECIPE))


def test_modulated_convolution_equals_the_papers():
    """Weights scaled for every image of the batch (arXiv 1912.04958, equations 1 and 3), a convolution for each."""
    torch.manual_seed(0)
    conv = ModulatedConv(5, 4, 3, style_dim=6)
    x, style = torch.randn(3, 5, 8, 8), torch.randn(3, 6)
    expected = []
    for image, scale in zip(x, conv.scale(style), strict=True):
        weight = conv.weight * scale[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected.append(F.conv2d(image[None], weight, padding=1))
    torch.testing.assert_close(conv(x, style), torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_large_styles_do_not_overflow_in_float16():
    torch.manual_seed(0)
    conv = ModulatedConv(5, 4, 3, style_dim=6)
    torch.nn.init.constant_(conv.scale.bias, 1000.0)
    x, style = torch.randn(3, 5, 8, 8), torch.randn(3, 6)
    with torch.autocast("cpu", torch.float16):
        rough = conv(x, style)
    torch.testing.assert_close(rough.float(), conv(x, style), rtol=0.02, atol=0.02)


def test_noise_varies_in_training_alone():
    config = StyleGANDecoder.Config(base_dim=4, style_dim=8)
    decoder = StyleGANDecoder(config, in_shape=(6,), out_shape=(3, 16, 16))
    for name, parameter in decoder.named_parameters():
        if name.endswith("strength"):
            torch.nn.init.ones_(parameter)
    x = torch.randn(2, 6)
    assert not torch.equal(decoder(x), decoder(x))
    decoder.eval()
    assert torch.equal(decoder(x), decoder(x))


def test_style_changes_the_image():
    decoder = StyleGANDecoder(StyleGANDecoder.Config(base_dim=4), in_shape=(6,), out_shape=(1, 16, 16)).eval()
    a, b = decoder(torch.randn(2, 6))
    assert (a - b).abs().max() > 1e-3


def test_vectors_keep_their_network_and_maps_begin_where_they_are():
    torch.manual_seed(0)
    config = StyleGANDecoder.Config(base_dim=4, max_dim=16, style_dim=8)
    decoder = StyleGANDecoder(config, in_shape=(6,), out_shape=(3, 32, 32)).eval()
    with torch.no_grad():
        made = decoder(torch.rand(3, 6, generator=torch.Generator().manual_seed(1)))
    assert made.abs().sum().item() == pytest.approx(7806.188, rel=1e-3)  # recorded when maps were not taken yet
    for in_shape, size in (((5, 8, 8), (32, 32)), ((5, 4, 4), (33, 30)), ((5, 2, 3), (19, 40))):
        decoder = StyleGANDecoder(config, in_shape=in_shape, out_shape=(2, *size))
        decoder(torch.rand(3, *in_shape)).square().sum().backward()
        assert not [name for name, p in decoder.named_parameters() if p.grad is None]
        assert decoder(torch.rand(3, *in_shape)).shape == (3, 2, *size)
