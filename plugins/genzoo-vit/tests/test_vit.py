from pathlib import Path

import pytest
import torch
from genzoo_vit.decoder import ViTDecoder

from genzoo.preparation import build_parts
from genzoo.recipe import read
from genzoo.testing import conformance
from genzoo.tracing import trace

RECIPE = Path(__file__).parent.parent / "recipes" / "vit_digits.yaml"


def test_keeps_the_contract():
    conformance("decoders/vit", {"dim": 32, "depth": 2})


def test_recipe_fits_together():
    build_parts(read(RECIPE))


def test_two_plugins_share_a_split_head():
    pytest.importorskip("genzoo_stylegan")
    stages = trace(read(RECIPE.with_name("vit_stylegan_digits.yaml")).model, (1, 32, 32)).stages
    assert stages["heads/split y1"] == stages["heads/split y2"] == (1, 32, 32)


def decoder(size: tuple[int, int], **options) -> ViTDecoder:
    return ViTDecoder(ViTDecoder.Config(dim=16, depth=1, **options), in_shape=(6,), out_shape=(2, *size))


def test_any_size():
    for patch, size in ((1, (3, 5)), (4, (12, 20)), (7, (28, 35)), (4, (30, 33)), (16, (8, 8))):
        assert decoder(size, patch=patch)(torch.randn(2, 6)).shape == (2, 2, *size)


def test_patches_over_the_edges_are_cut_on_both_sides():
    vit = decoder((30, 30), patch=8).eval()
    x = torch.randn(2, 6)
    image = vit(x)
    vit.size = (32, 32)
    assert torch.equal(image, vit(x)[:, :, 1:31, 1:31])


def test_a_patch_is_painted_by_its_own_token():
    vit = decoder((12, 20), patch=4).eval()
    with torch.no_grad():
        vit.blocks = torch.nn.ModuleList()  # without attention nothing is mixed
        before = vit(torch.zeros(1, 6))
        vit.patches[7] += torch.randn(16)  # row 1, column 2 of the 3x5 grid
        rows, columns = torch.nonzero((vit(torch.zeros(1, 6)) != before).any(dim=1)[0], as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 7, 8, 11)


def test_vectors_keep_their_network_and_maps_begin_where_they_are():
    torch.manual_seed(0)
    config = ViTDecoder.Config(dim=16, depth=1)
    decoder = ViTDecoder(config, in_shape=(6,), out_shape=(3, 32, 32)).eval()
    with torch.no_grad():
        made = decoder(torch.rand(3, 6, generator=torch.Generator().manual_seed(1)))
    assert made.abs().sum().item() == pytest.approx(4325.573, rel=1e-3)  # recorded when maps were not taken yet
    for in_shape, size in (((5, 8, 8), (32, 32)), ((5, 4, 4), (33, 30)), ((5, 2, 3), (19, 40))):
        decoder = ViTDecoder(config, in_shape=in_shape, out_shape=(2, *size))
        decoder(torch.rand(3, *in_shape)).square().sum().backward()
        assert not [name for name, p in decoder.named_parameters() if p.grad is None]
        assert decoder(torch.rand(3, *in_shape)).shape == (3, 2, *size)
