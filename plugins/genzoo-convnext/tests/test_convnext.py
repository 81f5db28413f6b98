from pathlib import Path

import torch
from genzoo_convnext.decoder import ConvNeXtDecoder

from genzoo.recipe import read
from genzoo.run import check
from genzoo.testing import conformance

RECIPE = Path(__file__).parent.parent / "recipes" / "convnext_digits.yaml"


def test_keeps_the_contract():
    conformance("decoders/convnext", {"base_dim": 4, "max_dim": 32})


def test_recipe_fits_together():
    check(read(RECIPE))


def test_training_and_evaluation_agree():
    decoder = ConvNeXtDecoder(ConvNeXtDecoder.Config(base_dim=4, depth=2), in_shape=(6,), out_shape=(3, 28, 28))
    x = torch.randn(2, 6)
    assert torch.equal(decoder.train()(x), decoder.eval()(x))


def test_each_scale_has_its_blocks():
    decoder = ConvNeXtDecoder(ConvNeXtDecoder.Config(base_dim=4, depth=2), in_shape=(6,), out_shape=(3, 32, 32))
    depthwise = [m for m in decoder.modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
    assert [m.in_channels for m in depthwise] == [32, 32, 16, 16, 8, 8, 4, 4]
    assert {m.kernel_size for m in depthwise} == {(7, 7)}
