from pathlib import Path

import torch
from genzoo_pixelshuffle.decoder import PixelShuffleDecoder

from genzoo.recipe import read
from genzoo.run import check
from genzoo.testing import conformance

RECIPE = Path(__file__).parent.parent / "recipes" / "pixelshuffle_digits.yaml"


def test_keeps_the_contract():
    conformance("decoders/pixelshuffle", {"base_dim": 4, "max_dim": 32})


def test_recipe_fits_together():
    check(read(RECIPE))


def test_starts_as_nearest_neighbour_enlargement():
    torch.manual_seed(0)
    decoder = PixelShuffleDecoder(PixelShuffleDecoder.Config(base_dim=4), in_shape=(6,), out_shape=(3, 32, 32))
    enlarge, shuffle = decoder.layers[3], decoder.layers[4]
    x = shuffle(enlarge(torch.randn(2, enlarge.in_channels, 5, 7)))
    assert torch.equal(x[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2), x)
