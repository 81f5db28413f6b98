from pathlib import Path

import pytest
import torch
from genzoo_pixelshuffle.decoder import PixelShuffleDecoder

from genzoo.preparation import build_parts
from genzoo.recipe import read
from genzoo.testing import conformance

RECIPE = Path(__file__).parent.parent / "recipes" / "pixelshuffle_digits.yaml"


def test_keeps_the_contract():
    conformance("decoders/pixelshuffle", {"base_dim": 4, "max_dim": 32})


def test_recipe_fits_together():
    build_parts(read(RECIPE))


def test_starts_as_nearest_neighbour_enlargement():
    torch.manual_seed(0)
    decoder = PixelShuffleDecoder(PixelShuffleDecoder.Config(base_dim=4), in_shape=(6,), out_shape=(3, 32, 32))
    enlarge, shuffle = decoder.layers[3], decoder.layers[4]
    x = shuffle(enlarge(torch.randn(2, enlarge.in_channels, 5, 7)))
    assert torch.equal(x[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2), x)


def test_vectors_keep_their_network_and_maps_begin_where_they_are():
    torch.manual_seed(0)
    config = PixelShuffleDecoder.Config(base_dim=4, max_dim=16)
    decoder = PixelShuffleDecoder(config, in_shape=(6,), out_shape=(3, 32, 32)).eval()
    with torch.no_grad():
        made = decoder(torch.rand(3, 6, generator=torch.Generator().manual_seed(1)))
    assert made.abs().sum().item() == pytest.approx(354.424, rel=1e-3)  # recorded when maps were not taken yet
    for in_shape, size in (((5, 8, 8), (32, 32)), ((5, 4, 4), (33, 30)), ((5, 2, 3), (19, 40))):
        decoder = PixelShuffleDecoder(config, in_shape=in_shape, out_shape=(2, *size))
        decoder(torch.rand(3, *in_shape)).square().sum().backward()
        assert not [name for name, p in decoder.named_parameters() if p.grad is None]
        assert decoder(torch.rand(3, *in_shape)).shape == (3, 2, *size)
