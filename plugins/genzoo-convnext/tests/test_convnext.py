from pathlib import Path

import pytest
import torch
from genzoo_convnext.decoder import ConvNeXtDecoder

from genzoo.preparation import build_parts
from genzoo.recipe import read
from genzoo.testing import conformance

RECIPE = Path(__file__).parent.parent / "recipes" / "convnext_digits.yaml"


def test_keeps_the_contract():
    conformance("decoders/convnext", {"base_dim": 4, "max_dim": 32})


def test_recipe_fits_together():
    build_parts(read(RECIPE))


def test_training_and_evaluation_agree():
    decoder = ConvNeXtDecoder(ConvNeXtDecoder.Config(base_dim=4, depth=2), in_shape=(6,), out_shape=(3, 28, 28))
    x = torch.randn(2, 6)
    assert torch.equal(decoder.train()(x), decoder.eval()(x))


def test_each_scale_has_its_blocks():
    decoder = ConvNeXtDecoder(ConvNeXtDecoder.Config(base_dim=4, depth=2), in_shape=(6,), out_shape=(3, 32, 32))
    depthwise = [m for m in decoder.modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
    assert [m.in_channels for m in depthwise] == [32, 32, 16, 16, 8, 8, 4, 4]
    assert {m.kernel_size for m in depthwise} == {(7, 7)}


def test_vectors_keep_their_network_and_maps_begin_where_they_are():
    torch.manual_seed(0)
    config = ConvNeXtDecoder.Config(base_dim=4, max_dim=16)
    decoder = ConvNeXtDecoder(config, in_shape=(6,), out_shape=(3, 32, 32)).eval()
    with torch.no_grad():
        made = decoder(torch.rand(3, 6, generator=torch.Generator().manual_seed(1)))
    assert made.abs().sum().item() == pytest.approx(4295.412, rel=1e-3)  # recorded when maps were not taken yet
    for in_shape, size in (((5, 8, 8), (32, 32)), ((5, 4, 4), (33, 30)), ((5, 2, 3), (19, 40))):
        decoder = ConvNeXtDecoder(config, in_shape=in_shape, out_shape=(2, *size))
        decoder(torch.rand(3, *in_shape)).square().sum().backward()
        assert not [name for name, p in decoder.named_parameters() if p.grad is None]
        assert decoder(torch.rand(3, *in_shape)).shape == (3, 2, *size)
